//! Variables in an event log.

use crate::guid::Guid;
use crate::variable_data::{Layout, units};

/// A variable as a log says that it was measured: a `UEFI_VARIABLE_DATA`, whose name may be no UTF-16.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoggedVariable<'l> {
    vendor: Guid,
    name: &'l [u8],
    data: &'l [u8],
}

impl<'l> LoggedVariable<'l> {
    /// Reads the structure; `None` if its lengths don't give exactly these octets.
    #[must_use]
    pub fn read(octets: &'l [u8]) -> Option<Self> {
        let layout = Layout::read(octets)?;
        let (name, data) = layout.name_and_data()?;
        let vendor = layout.vendor;
        Some(Self { vendor, name, data })
    }

    /// The GUID that the name belongs to.
    #[must_use]
    pub fn vendor(&self) -> Guid {
        self.vendor
    }

    /// The name, with replacement characters for what is no UTF-16.
    #[must_use]
    pub fn name(&self) -> String {
        char::decode_utf16(units(self.name))
            .map(|character| character.unwrap_or(char::REPLACEMENT_CHARACTER))
            .collect()
    }

    /// Whether it is the variable `name` of `vendor`.
    #[must_use]
    pub fn is(&self, vendor: Guid, name: &str) -> bool {
        let units = name.encode_utf16().flat_map(u16::to_le_bytes);
        self.vendor == vendor && units.eq(self.name.iter().copied())
    }

    /// The data.
    #[must_use]
    pub fn data(&self) -> &'l [u8] {
        self.data
    }
}
