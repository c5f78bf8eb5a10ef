//! UEFI_VARIABLE_DATA (TCG PC Client Platform Firmware Profile 10.2.6): variables as PCR 7 measures them.

use super::{Guid, PredictedEvent, SignatureData};
use crate::variable_data::{Layout, units};

/// The longest name, in UTF-16 code units.
const MAX_NAME: usize = 512;
/// The longest data; the longest dbx so far have some ten thousand octets.
const MAX_DATA: usize = 1 << 20;

/// Why octets are not a UEFI_VARIABLE_DATA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VariableDataError {
    /// A name or data that is longer than any real one.
    #[error("the variable's {0} is too long")]
    TooLong(&'static str),
    /// The lengths do not add up to the length of the whole.
    #[error("the lengths in the variable's data do not add up")]
    Lengths,
    /// The name is not UTF-16.
    #[error("the variable's name is not UTF-16")]
    Name,
}

/// A variable: what is hashed for EV_EFI_VARIABLE_DRIVER_CONFIG and EV_EFI_VARIABLE_AUTHORITY.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VariableData {
    vendor: Guid,
    name: String,
    data: Vec<u8>,
}

impl VariableData {
    /// A variable of this vendor.
    ///
    /// # Errors
    /// When the name or the data are too long.
    pub fn new(vendor: Guid, name: &str, data: &[u8]) -> Result<Self, VariableDataError> {
        if name.encode_utf16().count() > MAX_NAME {
            return Err(VariableDataError::TooLong("name"));
        }
        if data.len() > MAX_DATA {
            return Err(VariableDataError::TooLong("data"));
        }
        Ok(Self {
            vendor,
            name: name.to_owned(),
            data: data.to_vec(),
        })
    }

    /// Reads a UEFI_VARIABLE_DATA that fills `octets`.
    ///
    /// # Errors
    /// When a length is wrong or past its limit, or the name is not UTF-16.
    pub fn parse(octets: &[u8]) -> Result<Self, VariableDataError> {
        let lengths = VariableDataError::Lengths;
        let layout = Layout::read(octets).ok_or(lengths)?;
        if layout.name_units > MAX_NAME {
            return Err(VariableDataError::TooLong("name"));
        }
        if layout.data_octets > MAX_DATA {
            return Err(VariableDataError::TooLong("data"));
        }
        let (name, data) = layout.name_and_data().ok_or(lengths)?;
        let units: Vec<_> = units(name).collect();
        Ok(Self {
            vendor: layout.vendor,
            name: String::from_utf16(&units).map_err(|_| VariableDataError::Name)?,
            data: data.to_vec(),
        })
    }

    /// The UEFI_VARIABLE_DATA.
    #[must_use]
    pub fn octets(&self) -> Vec<u8> {
        let name = utf16(&self.name);
        let long = |length: usize| (length as u64).to_le_bytes();
        [
            self.vendor.octets().as_slice(),
            &long(name.len() / 2),
            &long(self.data.len()),
            &name,
            &self.data,
        ]
        .concat()
    }

    /// VariableName: the GUID of the variable's vendor.
    #[must_use]
    pub fn vendor(&self) -> Guid {
        self.vendor
    }

    /// UnicodeName.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// VariableData.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// The event in PCR 7 that measures this variable as a whole.
    #[must_use]
    pub fn event(&self) -> PredictedEvent {
        PredictedEvent::of(7, &self.name, &self.octets())
    }

    /// The variable by which an entry of a signature database is measured that verified an image
    /// (EV_EFI_VARIABLE_AUTHORITY).
    ///
    /// # Errors
    /// When the name or the entry are too long.
    pub fn authority(
        vendor: Guid,
        name: &str,
        entry: &SignatureData<'_>,
    ) -> Result<Self, VariableDataError> {
        Self::new(vendor, name, &entry.octets())
    }
}

/// UTF-16 in little-endian order, without an end mark.
pub(super) fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}
