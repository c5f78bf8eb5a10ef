//! Fields of TPM 2.0: numbers are big-endian, buffers have their size in front.

/// Why octets are not the structure that they should be. The fields have the names of the TPM 2.0 Library.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StructureError {
    /// The octets end within a field.
    #[error("the octets end within {0}")]
    Truncated(&'static str),
    /// There is more than the structure.
    #[error("octets follow {0}")]
    Trailing(&'static str),
    /// A number that the profile does not have in this field.
    #[error("{field} is {found:#x}")]
    Number {
        /// The field.
        field: &'static str,
        /// What it holds.
        found: u32,
    },
    /// A buffer of a size that the profile does not have in this field.
    #[error("{field} has {found} octets")]
    Size {
        /// The field.
        field: &'static str,
        /// How many it has.
        found: usize,
    },
    /// Larger than the largest message of a TPM.
    #[error("{0} octets are more than a TPM takes or sends")]
    TooLong(usize),
}

/// Reads fields from the front.
pub(super) struct Reader<'o> {
    rest: &'o [u8],
}

impl<'o> Reader<'o> {
    pub(super) fn new(octets: &'o [u8]) -> Self {
        Self { rest: octets }
    }

    pub(super) fn array<const N: usize>(
        &mut self,
        field: &'static str,
    ) -> Result<[u8; N], StructureError> {
        let (array, rest) = self
            .rest
            .split_first_chunk()
            .ok_or(StructureError::Truncated(field))?;
        self.rest = rest;
        Ok(*array)
    }

    pub(super) fn u8(&mut self, field: &'static str) -> Result<u8, StructureError> {
        self.array(field).map(u8::from_be_bytes)
    }

    pub(super) fn u16(&mut self, field: &'static str) -> Result<u16, StructureError> {
        self.array(field).map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self, field: &'static str) -> Result<u32, StructureError> {
        self.array(field).map(u32::from_be_bytes)
    }

    pub(super) fn take(
        &mut self,
        octets: usize,
        field: &'static str,
    ) -> Result<&'o [u8], StructureError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(octets)
            .ok_or(StructureError::Truncated(field))?;
        self.rest = rest;
        Ok(taken)
    }

    /// A buffer with its size in front (TPM2B).
    pub(super) fn sized(&mut self, field: &'static str) -> Result<&'o [u8], StructureError> {
        let size = self.u16(field)?;
        self.take(size.into(), field)
    }

    /// A buffer of `N` octets with its size in front.
    pub(super) fn sized_array<const N: usize>(
        &mut self,
        field: &'static str,
    ) -> Result<[u8; N], StructureError> {
        let octets = self.sized(field)?;
        let found = octets.len();
        octets
            .try_into()
            .map_err(|_| StructureError::Size { field, found })
    }

    pub(super) fn expect_u8(
        &mut self,
        expected: u8,
        field: &'static str,
    ) -> Result<(), StructureError> {
        let found = self.u8(field)?;
        expect(expected.into(), found.into(), field)
    }

    pub(super) fn expect_u16(
        &mut self,
        expected: u16,
        field: &'static str,
    ) -> Result<(), StructureError> {
        let found = self.u16(field)?;
        expect(expected.into(), found.into(), field)
    }

    pub(super) fn expect_u32(
        &mut self,
        expected: u32,
        field: &'static str,
    ) -> Result<(), StructureError> {
        let found = self.u32(field)?;
        expect(expected, found, field)
    }

    /// An empty buffer with its size in front.
    pub(super) fn expect_empty(&mut self, field: &'static str) -> Result<(), StructureError> {
        self.sized_array::<0>(field).map(|[]| ())
    }

    /// All octets that are left.
    pub(super) fn rest(self) -> &'o [u8] {
        self.rest
    }

    pub(super) fn end(self, structure: &'static str) -> Result<(), StructureError> {
        match self.rest {
            [] => Ok(()),
            _ => Err(StructureError::Trailing(structure)),
        }
    }
}

fn expect(expected: u32, found: u32, field: &'static str) -> Result<(), StructureError> {
    match found == expected {
        true => Ok(()),
        false => Err(StructureError::Number { field, found }),
    }
}

/// A buffer with its size in front (TPM2B).
///
/// # Panics
///
/// If it has more than 65535 octets, which nothing here has.
pub(super) fn sized(octets: &[u8]) -> Vec<u8> {
    let size = u16::try_from(octets.len()).expect("what is built here fits into a message");
    [&size.to_be_bytes(), octets].concat()
}
