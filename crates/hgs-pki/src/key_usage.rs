//! The purposes that a certificate allows its key, RFC 5280 section 4.2.1.3.

use std::ops::BitOr;

use der::flagset::FlagSet;
use x509_cert::ext::pkix::KeyUsages;

/// A set of purposes; combined with `|`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyUsage(u16);

impl KeyUsage {
    /// Verifying signatures other than those on certificates and revocation lists.
    pub const DIGITAL_SIGNATURE: Self = Self(1);
    /// Verifying signatures that their maker shall not be able to deny.
    pub const NON_REPUDIATION: Self = Self(1 << 1);
    /// Encrypting keys.
    pub const KEY_ENCIPHERMENT: Self = Self(1 << 2);
    /// Encrypting data itself.
    pub const DATA_ENCIPHERMENT: Self = Self(1 << 3);
    /// Agreeing on keys.
    pub const KEY_AGREEMENT: Self = Self(1 << 4);
    /// Verifying signatures on certificates.
    pub const KEY_CERT_SIGN: Self = Self(1 << 5);
    /// Verifying signatures on revocation lists.
    pub const CRL_SIGN: Self = Self(1 << 6);

    /// Whether every purpose of `other` is allowed.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    pub(crate) fn from_flags(flags: FlagSet<KeyUsages>) -> Self {
        Self(flags.bits())
    }

    pub(crate) fn to_flags(self) -> FlagSet<KeyUsages> {
        FlagSet::new_truncated(self.0)
    }
}

impl BitOr for KeyUsage {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}
