//! The certificates of the key protection service, and their sealed keys.

use hgs_custody::KeyReference;
use hgs_kps::{CertificateKind, HeldCertificate, Label, Lineage};
use hgs_pki::{Certificate, Thumbprint, Time};
use hgs_protector::suite::KeyEncryption;
use serde::{Deserialize, Serialize};

use super::{Digest, text};

/// A certificate whose private key this service can use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateRecord {
    /// What it is for.
    #[serde(with = "text::display")]
    pub kind: CertificateKind,
    /// The certificate.
    #[serde(with = "text::certificate")]
    pub certificate: Certificate,
    /// Where its private key lives.
    #[serde(with = "text::display")]
    pub key: KeyReference,
    /// Whether its key can decrypt RSA-OAEP with SHA-1 only, as some tokens; owners are asked to wrap to it so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sha1_only: bool,
    /// Whose succession it belongs to.
    #[serde(with = "text::display")]
    pub lineage: Lineage,
    /// Disabled certificates open and sign nothing.
    pub enabled: bool,
    /// Whether it is the head of its lineage: the one certificate of its kind that new wrappings
    /// and signatures are made with.
    pub head: bool,
    /// Since when its private key counts as known to others.
    #[serde(with = "text::optional")]
    pub compromised: Option<Time>,
    /// Since when it waits for its end: it opens and signs as before, but is never a head again.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "text::optional"
    )]
    pub retired: Option<Time>,
    /// What people call it.
    #[serde(with = "text::optional")]
    pub label: Option<Label>,
    /// When it was added.
    #[serde(with = "text::display")]
    pub added: Time,
}

impl CertificateRecord {
    /// The certificate's thumbprint, by which the record is named.
    #[must_use]
    pub fn thumbprint(&self) -> Thumbprint {
        self.certificate.thumbprint()
    }

    /// It as a key ring takes it.
    #[must_use]
    pub fn held(&self) -> HeldCertificate {
        HeldCertificate {
            certificate: self.certificate.clone(),
            kind: self.kind,
            key_encryption: match self.sha1_only {
                true => KeyEncryption::RsaOaepMgf1p,
                false => KeyEncryption::RsaOaep,
            },
            lineage: self.lineage.clone(),
            enabled: self.enabled,
            head: self.head,
            compromised: self.compromised,
        }
    }

    /// Whether it may become the head of its lineage.
    #[must_use]
    pub fn may_be_head(&self) -> bool {
        self.enabled && self.compromised.is_none() && self.retired.is_none()
    }

    /// Whether its private key is that of `other`.
    #[must_use]
    pub fn has_key_of(&self, other: &Self) -> bool {
        self.certificate.public_key() == other.certificate.public_key()
    }

    /// Whether it is the primary certificate of its kind: the head of the fabric's lineage. A
    /// tenant's certificate never is.
    #[must_use]
    pub fn is_primary(&self) -> bool {
        self.head && self.lineage == Lineage::Fabric
    }
}

/// A software key as it lies in the store. Only
/// [`Store::private_key`](crate::Store::private_key) opens it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedKey {
    /// SHA-256 of the public half's SubjectPublicKeyInfo, by which the record is named.
    pub(crate) public_key: Digest,
    #[serde(with = "text::octets")]
    pub(crate) sealed: Vec<u8>,
}
