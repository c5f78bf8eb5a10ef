//! A reader of the little-endian structures in logs.

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

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }
}
