//! How a certificate over a new key is made.

use hgs_crypto::random::{self, System};
use hgs_crypto::rsa::{PublicKey, SignatureScheme};
use hgs_custody::{KeyError, PrivateKey, SoftwareKey};
use hgs_pki::issue::{self, Issuer, Template};
use hgs_pki::{Certificate, profile};

/// A certificate over a new key could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CertifyError {
    /// No key.
    #[error("no key could be generated: {0}")]
    Key(#[from] hgs_crypto::rsa::PrivateKeyError),
    /// The new key does not sign.
    #[error(transparent)]
    Signature(#[from] KeyError),
    /// No serial number.
    #[error("the source of randomness failed")]
    Randomness,
    /// No certificate.
    #[error(transparent)]
    Issue(#[from] issue::IssueError),
}

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

/// A new key, and a certificate that it signs itself.
pub(crate) fn self_signed(
    template: Template,
    size: KeySize,
) -> Result<(Certificate, SoftwareKey), CertifyError> {
    let key = SoftwareKey::generate(size.bits())?;
    Ok((signed_by(template, &key)?, key))
}

/// A certificate over `key` that it signs itself, wherever it is. A key that may only decrypt can't; its certificate is
/// signed by an authority that is forgotten at once, and is worth as much.
pub(super) fn signed_by(
    template: Template,
    key: &dyn PrivateKey,
) -> Result<Certificate, CertifyError> {
    let validity = template.validity;
    match certified(template.clone(), key.public(), Issuer::SelfSigned, key) {
        Err(CertifyError::Signature(KeyError::Unsupported)) => {
            let once = SoftwareKey::generate(KeySize::Rsa3072.bits())?;
            let authority = profile::one_time_authority(validity);
            let authority = certified(authority, once.public(), Issuer::SelfSigned, &once)?;
            certified(
                template,
                key.public(),
                Issuer::Certificate(&authority),
                &once,
            )
        }
        done => done,
    }
}

/// A certificate over `subject` that `issuer`, whose key is `key`, signs.
pub(super) fn certified(
    template: Template,
    subject: &PublicKey,
    issuer: Issuer<'_>,
    key: &dyn PrivateKey,
) -> Result<Certificate, CertifyError> {
    let serial = random::array(&mut System::new()).map_err(|_| CertifyError::Randomness)?;
    let prepared = issue::prepare(template, subject, issuer, serial)?;
    let signature = key.sign(SignatureScheme::Pkcs1Sha256, prepared.to_be_signed())?;
    Ok(prepared.assemble(&signature)?)
}
