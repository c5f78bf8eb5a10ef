//! The layout of UEFI_VARIABLE_DATA (TCG PC Client Platform Firmware Profile 10.2.6), the form in which variables are measured.

use crate::guid::Guid;
use crate::little_endian::Reader;

/// What stands before the name, and all that follows.
pub(crate) struct Layout<'o> {
    pub(crate) vendor: Guid,
    /// UTF-16 code units of the name.
    pub(crate) name_units: usize,
    pub(crate) data_octets: usize,
    rest: &'o [u8],
}

impl<'o> Layout<'o> {
    pub(crate) fn read(octets: &'o [u8]) -> Option<Self> {
        let mut reader = Reader::new(octets);
        Some(Self {
            vendor: Guid::from_octets(reader.take(16)?.try_into().ok()?),
            name_units: reader.long_size()?,
            data_octets: reader.long_size()?,
            rest: reader.rest(),
        })
    }

    /// The octets of the name and the data; `None` if they are not exactly what follows.
    pub(crate) fn name_and_data(&self) -> Option<(&'o [u8], &'o [u8])> {
        let (name, data) = self
            .rest
            .split_at_checked(self.name_units.checked_mul(2)?)?;
        (data.len() == self.data_octets).then_some((name, data))
    }
}

/// The UTF-16 code units of a name.
pub(crate) fn units(name: &[u8]) -> impl Iterator<Item = u16> {
    let (units, _) = name.as_chunks();
    units.iter().map(|unit| u16::from_le_bytes(*unit))
}
