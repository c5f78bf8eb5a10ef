//! Little-endian numbers in logs and files.

/// Octets, and how far they were read.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'o> {
    octets: &'o [u8],
    position: usize,
}

impl<'o> Reader<'o> {
    pub(crate) fn new(octets: &'o [u8]) -> Self {
        Self {
            octets,
            position: 0,
        }
    }

    pub(crate) fn position(&self) -> usize {
        self.position
    }

    /// What was not read yet.
    pub(crate) fn rest(&self) -> &'o [u8] {
        &self.octets[self.position..]
    }

    /// The next `length` octets; `None` if there are fewer.
    pub(crate) fn take(&mut self, length: usize) -> Option<&'o [u8]> {
        let taken = self.rest().get(..length)?;
        self.position += length;
        Some(taken)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|octets| octets[0])
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// A 64-bit number that counts.
    pub(crate) fn long_size(&mut self) -> Option<usize> {
        usize::try_from(self.u64()?).ok()
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }
}

pub(crate) fn u16_at(octets: &[u8], place: usize) -> Option<u16> {
    Reader::new(octets.get(place..)?).u16()
}

pub(crate) fn u32_at(octets: &[u8], place: usize) -> Option<u32> {
    Reader::new(octets.get(place..)?).u32()
}

/// A 32-bit number that counts or places octets.
pub(crate) fn size_at(octets: &[u8], place: usize) -> Option<usize> {
    u32_at(octets, place).and_then(|number| usize::try_from(number).ok())
}

/// `length` octets from `start` on.
pub(crate) fn slice(octets: &[u8], start: usize, length: usize) -> Option<&[u8]> {
    octets.get(start..start.checked_add(length)?)
}
