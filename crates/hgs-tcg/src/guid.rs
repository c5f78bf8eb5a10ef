//! GUIDs, which UEFI writes with their first three fields in little-endian order.

use std::fmt;

/// A GUID in the 16 octets of an EFI_GUID.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Guid([u8; 16]);

impl Guid {
    /// The type of signature lists that hold X.509 certificates (EFI_CERT_X509_GUID).
    pub const CERT_X509: Self = Self::new(
        0xa5c0_59a1,
        0x94e4,
        0x4aa7,
        [0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72],
    );
    /// The type of signature lists that hold SHA-256 digests of images (EFI_CERT_SHA256_GUID).
    pub const CERT_SHA256: Self = Self::new(
        0xc1c4_1626,
        0x504c,
        0x4092,
        [0xac, 0xa9, 0x41, 0xf9, 0x36, 0x93, 0x43, 0x28],
    );
    /// The vendor of SecureBoot, PK, KEK, BootOrder (EFI_GLOBAL_VARIABLE).
    pub const GLOBAL_VARIABLE: Self = Self::new(
        0x8be4_df61,
        0x93ca,
        0x11d2,
        [0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c],
    );
    /// The vendor of `db` and `dbx` (EFI_IMAGE_SECURITY_DATABASE_GUID).
    pub const IMAGE_SECURITY_DATABASE: Self = Self::new(
        0xd719_b2cb,
        0x3d3a,
        0x4596,
        [0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f],
    );
    /// The vendor of shim's variables, such as SbatLevel and MokListRT (SHIM_LOCK_GUID).
    pub const SHIM_LOCK: Self = Self::new(
        0x605d_ab50,
        0xe046,
        0x4300,
        [0xab, 0xb6, 0x3d, 0xd8, 0x10, 0xdd, 0x8b, 0x23],
    );

    /// From the fields in which a GUID is printed.
    #[must_use]
    pub const fn new(first: u32, second: u16, third: u16, rest: [u8; 8]) -> Self {
        let [a, b, c, d] = first.to_le_bytes();
        let [e, f] = second.to_le_bytes();
        let [g, h] = third.to_le_bytes();
        let [i, j, k, l, m, n, o, p] = rest;
        Self([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p])
    }

    /// From the octets of an EFI_GUID.
    #[must_use]
    pub const fn from_octets(octets: [u8; 16]) -> Self {
        Self(octets)
    }

    /// The octets of the EFI_GUID.
    #[must_use]
    pub const fn octets(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = self.0;
        let first = u32::from_le_bytes([a, b, c, d]);
        let (second, third) = (u16::from_le_bytes([e, f]), u16::from_le_bytes([g, h]));
        write!(
            formatter,
            "{first:08x}-{second:04x}-{third:04x}-{i:02x}{j:02x}-"
        )?;
        [k, l, m, n, o, p]
            .iter()
            .try_for_each(|octet| write!(formatter, "{octet:02x}"))
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}
