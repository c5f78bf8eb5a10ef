//! The public half of a guardian.

use hgs_pki::{Certificate, KeyWork, SignatureCache};

use crate::SealError;
use crate::form::Signature;
use crate::sign::endorse;
use crate::suite::KeyEncryption;

/// What one must know of a guardian to make protectors for it: two certificates, and the signing key's signatures
/// that tie them together.
///
/// Both signatures hold in every value of this type. Whether the guardian is the one that it claims to be is another
/// matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardianCertificates {
    signing: Certificate,
    encryption: Certificate,
    self_signature: Signature,
    encryption_signature: Signature,
    key_encryption: KeyEncryption,
}

/// Why certificates and signatures are not those of a guardian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GuardianError {
    /// The self-signature is not by the signing key over the signing certificate.
    #[error("the self-signature of the guardian's signing certificate does not verify")]
    SelfSignature,
    /// The signature is not by the signing key over the encryption certificate.
    #[error("the guardian's encryption certificate is not signed by its signing certificate")]
    EncryptionCertificateSignature,
}

impl GuardianCertificates {
    /// Puts a guardian together from its parts.
    ///
    /// # Errors
    /// When one of the signatures does not verify under the signing certificate.
    pub fn new(
        signing: Certificate,
        encryption: Certificate,
        self_signature: Signature,
        encryption_signature: Signature,
        key_encryption: KeyEncryption,
        signatures: &SignatureCache,
    ) -> Result<Self, GuardianError> {
        self_signature
            .verify_certificate(&signing, &signing, signatures)
            .map_err(|_| GuardianError::SelfSignature)?;
        encryption_signature
            .verify_certificate(&encryption, &signing, signatures)
            .map_err(|_| GuardianError::EncryptionCertificateSignature)?;
        Ok(Self {
            signing,
            encryption,
            self_signature,
            encryption_signature,
            key_encryption,
        })
    }

    /// Has the private key of `signing` make both signatures.
    ///
    /// # Errors
    /// When that key can't be used, or makes a signature that does not verify.
    pub fn certify(
        signing: Certificate,
        encryption: Certificate,
        key_encryption: KeyEncryption,
        keys: &mut dyn KeyWork,
    ) -> Result<Self, SealError> {
        Ok(Self {
            self_signature: endorse(&signing, &signing, keys)?,
            encryption_signature: endorse(&encryption, &signing, keys)?,
            signing,
            encryption,
            key_encryption,
        })
    }

    /// The signing certificate.
    #[must_use]
    pub fn signing_certificate(&self) -> &Certificate {
        &self.signing
    }

    /// The encryption certificate.
    #[must_use]
    pub fn encryption_certificate(&self) -> &Certificate {
        &self.encryption
    }

    /// `SigningCertificateSelfSignature`: by the signing key over the signing certificate.
    #[must_use]
    pub fn self_signature(&self) -> &Signature {
        &self.self_signature
    }

    /// `EncryptionCertificateSignature`: by the signing key over the encryption certificate.
    #[must_use]
    pub fn encryption_signature(&self) -> &Signature {
        &self.encryption_signature
    }

    /// How transport keys are to be encrypted to this guardian.
    #[must_use]
    pub fn key_encryption(&self) -> KeyEncryption {
        self.key_encryption
    }
}
