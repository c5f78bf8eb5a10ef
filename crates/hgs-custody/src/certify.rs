//! Certificates that keys in their places sign.

use hgs_crypto::random::{self, System};
use hgs_crypto::rsa::{PrivateKeyError, PublicKey, SignatureScheme};
use hgs_pki::Certificate;
use hgs_pki::issue::{self, IssueError, Issuer, Template};

use crate::{KeyError, PrivateKey, SoftwareKey};

/// A certificate, or a certificate over a new key, could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CertifyError {
    /// No key.
    #[error("no key could be generated: {0}")]
    Key(#[from] PrivateKeyError),
    /// The key does not sign.
    #[error(transparent)]
    Signature(#[from] KeyError),
    /// No serial number.
    #[error("the source of randomness failed")]
    Randomness,
    /// No certificate.
    #[error(transparent)]
    Issue(#[from] IssueError),
}

/// A certificate over `subject` that `issuer`, whose key is `key`, signs (RSASSA-PKCS1-v1_5 with SHA-256).
///
/// # Errors
/// When the template can't be issued, or the key does not sign.
pub fn certify(
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

/// A new key of so many bits, and a certificate over it that it signs itself.
///
/// # Errors
/// As of [`SoftwareKey::generate`] and [`certify`].
pub fn self_signed(
    template: Template,
    bits: usize,
) -> Result<(Certificate, SoftwareKey), CertifyError> {
    let key = SoftwareKey::generate(bits)?;
    let certificate = certify(template, key.public(), Issuer::SelfSigned, &key)?;
    Ok((certificate, key))
}
