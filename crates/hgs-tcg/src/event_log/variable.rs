//! `UEFI_VARIABLE_DATA`, the form in which variables are measured.

use std::fmt;

use crate::little_endian::Reader;

/// A GUID, in the octets that UEFI stores: the first three fields are little-endian.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Guid(pub [u8; 16]);

impl Guid {
    /// `EFI_GLOBAL_VARIABLE`: SecureBoot, PK, KEK, BootOrder.
    pub const GLOBAL_VARIABLE: Self =
        Self(*b"\x61\xdf\xe4\x8b\xca\x93\xd2\x11\xaa\x0d\x00\xe0\x98\x03\x2b\x8c");
    /// `EFI_IMAGE_SECURITY_DATABASE_GUID`: db, dbx.
    pub const IMAGE_SECURITY_DATABASE: Self =
        Self(*b"\xcb\xb2\x19\xd7\x3a\x3d\x96\x45\xa3\xbc\xda\xd0\x0e\x67\x65\x6f");
    /// shim's variables: SbatLevel, MokListRT.
    pub const SHIM_LOCK: Self =
        Self(*b"\x50\xab\x5d\x60\x46\xe0\x00\x43\xab\xb6\x3d\xd8\x10\xdd\x8b\x23");
}

impl fmt::Display for Guid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, place) in [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15]
            .into_iter()
            .enumerate()
        {
            if matches!(at, 4 | 6 | 8 | 10) {
                formatter.write_str("-")?;
            }
            write!(formatter, "{:02x}", self.0[place])?;
        }
        Ok(())
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// A variable with its name and data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VariableData<'l> {
    vendor: Guid,
    name: &'l [u8],
    data: &'l [u8],
}

impl<'l> VariableData<'l> {
    /// Reads the structure; `None` if its lengths don't give exactly these octets.
    #[must_use]
    pub fn read(octets: &'l [u8]) -> Option<Self> {
        let mut reader = Reader::new(octets);
        let vendor = Guid(reader.take(16)?.try_into().ok()?);
        let name_characters = usize::try_from(reader.u64()?).ok()?;
        let data_octets = usize::try_from(reader.u64()?).ok()?;
        let name = reader.take(name_characters.checked_mul(2)?)?;
        let data = reader.take(data_octets)?;
        reader
            .rest()
            .is_empty()
            .then_some(Self { vendor, name, data })
    }

    /// The GUID that the name belongs to.
    #[must_use]
    pub fn vendor(&self) -> Guid {
        self.vendor
    }

    /// The name, with replacement characters for what is no UTF-16.
    #[must_use]
    pub fn name(&self) -> String {
        let (units, _) = self.name.as_chunks::<2>();
        let units = units.iter().map(|unit| u16::from_le_bytes(*unit));
        char::decode_utf16(units)
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
