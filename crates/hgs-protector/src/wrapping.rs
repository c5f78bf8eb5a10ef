//! One guardian's part of a key protector.

use std::sync::Arc;

use hgs_crypto::SecretBytes;
use hgs_pki::{Certificate, CertificateCache, SignatureCache};

use crate::form::{Encoded, Signature};
use crate::suite::KeyEncryption;
use crate::{FormError, GuardianCertificates, ProtectorError, SealError, WrappingId};

/// A wrapping ([MS-KPS] 2.2.2.4): the certificates of a guardian, who vouches for them, and the transport key
/// encrypted to that guardian.
///
/// Cloning shares the certificates and their signatures, which a roll leaves as they are.
#[derive(Debug, Clone)]
pub struct Wrapping {
    pub(crate) id: WrappingId,
    pub(crate) parent: WrappingId,
    pub(crate) certified: Arc<Certified>,
    pub(crate) transport_key: EncryptedTransportKey,
}

/// The part of a wrapping that never changes.
#[derive(Debug)]
pub(crate) struct Certified {
    pub(crate) signing: Encoded<Certificate>,
    pub(crate) signing_signature: Encoded<Signature>,
    pub(crate) encryption: Encoded<Certificate>,
    pub(crate) encryption_signature: Encoded<Signature>,
}

/// A transport key encrypted to a guardian: `EncryptedData` of `TransportKey` ([MS-KPS] 2.2.2.11, 2.2.2.14).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncryptedTransportKey {
    /// How it is encrypted.
    pub encryption: KeyEncryption,
    /// The ciphertext, as many octets as the guardian's modulus has.
    pub ciphertext: Vec<u8>,
}

impl Wrapping {
    /// The wrapping's number.
    #[must_use]
    pub fn id(&self) -> WrappingId {
        self.id
    }

    /// The wrapping whose signing key vouches for this one; the owner's is its own.
    #[must_use]
    pub fn parent(&self) -> WrappingId {
        self.parent
    }

    /// Whether this is its own parent.
    #[must_use]
    pub fn is_owner(&self) -> bool {
        self.id == self.parent
    }

    /// The guardian's signing certificate.
    #[must_use]
    pub fn signing_certificate(&self) -> &Certificate {
        &self.certified.signing.value
    }

    /// The signature over the signing certificate, by the parent's signing key.
    #[must_use]
    pub fn signing_certificate_signature(&self) -> &Signature {
        &self.certified.signing_signature.value
    }

    /// The guardian's encryption certificate.
    #[must_use]
    pub fn encryption_certificate(&self) -> &Certificate {
        &self.certified.encryption.value
    }

    /// The transport key encrypted to the guardian.
    #[must_use]
    pub fn transport_key(&self) -> &EncryptedTransportKey {
        &self.transport_key
    }

    /// Whether this is for exactly these two certificates.
    #[must_use]
    pub fn is_for(&self, signing: &Certificate, encryption: &Certificate) -> bool {
        self.signing_certificate() == signing && self.encryption_certificate() == encryption
    }

    /// A wrapping of `secret` for `guardian`, for whom the parent vouches with `signing_signature`.
    pub(crate) fn for_guardian(
        id: WrappingId,
        parent: WrappingId,
        guardian: &GuardianCertificates,
        signing_signature: Signature,
        secret: &SecretBytes,
    ) -> Result<Self, SealError> {
        let certified = Certified {
            signing: Encoded::certificate(guardian.signing_certificate().clone()),
            signing_signature: Encoded::signature(signing_signature),
            encryption: Encoded::certificate(guardian.encryption_certificate().clone()),
            encryption_signature: Encoded::signature(guardian.encryption_signature().clone()),
        };
        Ok(Self {
            id,
            parent,
            transport_key: EncryptedTransportKey::new(
                &certified.encryption.value,
                guardian.key_encryption(),
                secret,
            )?,
            certified: Arc::new(certified),
        })
    }

    /// This wrapping with another secret in it, encrypted as it was.
    pub(crate) fn renewed(&self, secret: &SecretBytes) -> Result<Self, SealError> {
        Ok(Self {
            transport_key: EncryptedTransportKey::new(
                self.encryption_certificate(),
                self.transport_key.encryption,
                secret,
            )?,
            ..self.clone()
        })
    }

    /// Searches the keys of both certificates for weaknesses, unless they are known.
    pub(crate) fn examine_keys(&self, certificates: &CertificateCache) -> Result<(), FormError> {
        for (element, certificate) in [
            ("SigningCertificate", self.signing_certificate()),
            ("EncryptionCertificate", self.encryption_certificate()),
        ] {
            certificates
                .examine(certificate)
                .map_err(|error| FormError::Certificate { element, error })?;
        }
        Ok(())
    }

    /// Checks the signature over the signing certificate, which the parent has made.
    pub(crate) fn verify_signing_certificate(
        &self,
        parent: &Self,
        signatures: &SignatureCache,
    ) -> Result<(), ProtectorError> {
        let signature = &self.certified.signing_signature.value;
        signature
            .verify_certificate(
                self.signing_certificate(),
                parent.signing_certificate(),
                signatures,
            )
            .map_err(|_| ProtectorError::SigningCertificateSignature {
                id: self.id,
                parent: parent.id,
            })
    }

    /// Checks the signature over the encryption certificate, which the guardian itself has made.
    pub(crate) fn verify_encryption_certificate(
        &self,
        signatures: &SignatureCache,
    ) -> Result<(), ProtectorError> {
        let signature = &self.certified.encryption_signature.value;
        signature
            .verify_certificate(
                self.encryption_certificate(),
                self.signing_certificate(),
                signatures,
            )
            .map_err(|_| ProtectorError::EncryptionCertificateSignature { id: self.id })
    }
}

impl EncryptedTransportKey {
    fn new(
        recipient: &Certificate,
        encryption: KeyEncryption,
        secret: &SecretBytes,
    ) -> Result<Self, SealError> {
        Ok(Self {
            encryption,
            ciphertext: recipient
                .public_key()
                .encrypt_oaep(encryption.hash(), secret)?,
        })
    }
}
