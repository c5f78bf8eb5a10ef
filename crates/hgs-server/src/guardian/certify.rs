//! How a certificate over a new key is made.

use hgs_custody::{CertifyError, KeyError, PrivateKey, certify, self_signed};
use hgs_pki::issue::{Issuer, Template};
use hgs_pki::{Certificate, profile};

/// Sizes of the RSA keys that are generated. A guardian's certificates live for ten years, for which 2048 bits are no
/// longer advised (NIST SP 800-57 part 1, table 4); private-key work with 3072 bits takes about three times as long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum KeySize {
    /// 2048 bits.
    Rsa2048,
    /// 3072 bits.
    #[default]
    Rsa3072,
    /// 4096 bits.
    Rsa4096,
}

impl KeySize {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Rsa2048, Self::Rsa3072, Self::Rsa4096];

    /// The number of bits.
    #[must_use]
    pub const fn bits(self) -> usize {
        match self {
            Self::Rsa2048 => 2048,
            Self::Rsa3072 => 3072,
            Self::Rsa4096 => 4096,
        }
    }

    /// The size with this number of bits.
    #[must_use]
    pub fn of_bits(bits: usize) -> Option<Self> {
        Self::ALL.into_iter().find(|size| size.bits() == bits)
    }

    /// The smallest size with at least so many bits, or the largest there is.
    pub(super) fn at_least(bits: usize) -> Self {
        let mut sizes = Self::ALL.into_iter();
        sizes
            .find(|size| size.bits() >= bits)
            .unwrap_or(Self::Rsa4096)
    }
}

/// A certificate over `key` that it signs itself, wherever it is. A key that may only decrypt can't; its certificate is
/// signed by an authority that is forgotten at once, and is worth as much.
pub(super) fn signed_by(
    template: Template,
    key: &dyn PrivateKey,
) -> Result<Certificate, CertifyError> {
    let validity = template.validity;
    match certify(template.clone(), key.public(), Issuer::SelfSigned, key) {
        Err(CertifyError::Signature(KeyError::Unsupported)) => {
            let authority = profile::one_time_authority(validity);
            let (authority, once) = self_signed(authority, KeySize::Rsa3072.bits())?;
            certify(
                template,
                key.public(),
                Issuer::Certificate(&authority),
                &once,
            )
        }
        done => done,
    }
}
