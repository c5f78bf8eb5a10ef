//! Numbers at places of a file.

fn array<const N: usize>(octets: &[u8], place: usize) -> Option<[u8; N]> {
    octets.get(place..)?.first_chunk().copied()
}

pub(super) fn u16_at(octets: &[u8], place: usize) -> Option<u16> {
    array(octets, place).map(u16::from_le_bytes)
}

pub(super) fn u32_at(octets: &[u8], place: usize) -> Option<u32> {
    array(octets, place).map(u32::from_le_bytes)
}

/// A 32-bit number that counts or places octets.
pub(super) fn size_at(octets: &[u8], place: usize) -> Option<usize> {
    u32_at(octets, place).and_then(|number| usize::try_from(number).ok())
}

/// A 64-bit number that counts octets.
pub(super) fn long_size_at(octets: &[u8], place: usize) -> Option<usize> {
    array(octets, place)
        .map(u64::from_le_bytes)
        .and_then(|number| usize::try_from(number).ok())
}

/// `length` octets from `start` on.
pub(super) fn slice(octets: &[u8], start: usize, length: usize) -> Option<&[u8]> {
    octets.get(start..start.checked_add(length)?)
}
