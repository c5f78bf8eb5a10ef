//! The guardian's certificates.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CertificateKind, by_name, certificate_kinds, named};
use crate::text;

/// A certificate of the guardian.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Certificate {
    /// SHA-256 of its DER.
    #[schemars(with = "text::Digest")]
    pub thumbprint: String,
    /// What it is for.
    #[serde(with = "by_name")]
    #[schemars(schema_with = "certificate_kinds")]
    pub kind: CertificateKind,
    /// Its subject, as RFC 4514 writes names.
    pub subject: String,
    /// A label for people.
    pub label: Option<String>,
    /// `fabric`, or `tenant:` and the tenant's label.
    pub lineage: String,
    /// Whether it opens protectors and signs.
    pub enabled: bool,
    /// Whether it is the primary one of its kind, which the metadata names.
    pub primary: bool,
    /// Whether it is the head of its lineage.
    pub head: bool,
    /// Since when its key counts as compromised.
    #[schemars(with = "Option<text::Time>")]
    pub compromised: Option<String>,
    /// Since when it can no longer become a head.
    #[serde(default)]
    #[schemars(with = "Option<text::Time>")]
    pub retired: Option<String>,
    /// Where its private key lives: `sealed`, or a `pkcs11:` URI.
    pub key: String,
    /// Bits of its RSA key.
    pub key_bits: usize,
    /// Whether this node can use the private key.
    pub usable: bool,
    /// In a cluster: the nodes that can use its private key, by their last reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<Vec<String>>,
    /// Its first second.
    #[schemars(with = "text::Time")]
    pub not_before: String,
    /// Its last second.
    #[schemars(with = "text::Time")]
    pub not_after: String,
    /// When it was added.
    #[schemars(with = "text::Time")]
    pub added: String,
}

/// A certificate of the guardian in full.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CertificateDetail {
    /// What listings show.
    #[serde(flatten)]
    pub certificate: Certificate,
    /// Its issuer.
    pub issuer: String,
    /// Its serial number in hexadecimal.
    pub serial_number: String,
    /// SHA-1 of its DER, by which Windows knows certificates.
    #[schemars(with = "text::Sha1Digest")]
    pub sha1_thumbprint: String,
    /// The certificate itself.
    pub pem: String,
}

/// A certificate that was added, and what was noticed about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AddedCertificate {
    /// The certificate, as listings show it from now on.
    #[serde(flatten)]
    pub certificate: Certificate,
    /// What was noticed. None of it kept the certificate out.
    pub findings: Vec<Finding>,
}

/// A rotation: the certificates that took over, and those that were the heads of the lineage before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RotatedCertificates {
    /// The new signing certificate.
    pub signing: AddedCertificate,
    /// The new encryption certificate.
    pub encryption: AddedCertificate,
    /// The thumbprint of the signing certificate that was the head; it stays enabled.
    #[schemars(with = "Option<text::Digest>")]
    pub previous_signing: Option<String>,
    /// The thumbprint of the encryption certificate that was the head; it stays enabled.
    #[schemars(with = "Option<text::Digest>")]
    pub previous_encryption: Option<String>,
}

/// Something about a certificate that people should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// Names the kind, for programs.
    pub code: String,
    /// How serious it is.
    pub severity: Severity,
    /// What was found.
    pub message: String,
}

/// How serious a finding is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Something is not as it should be.
    Warning,
    /// Something to know.
    Note,
}

/// How many protectors one certificate was the last to open. Of each line of protectors only the newest counts. A
/// protector that never comes back counts for ever; the times tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CertificateUsage {
    /// The certificate.
    #[schemars(with = "text::Digest")]
    pub thumbprint: String,
    /// What it is for, or that it was removed.
    pub kind: UsedCertificate,
    /// A label for people.
    pub label: Option<String>,
    /// Its lineage; empty for a removed certificate.
    pub lineage: String,
    /// Whether it is the head of its lineage.
    pub head: bool,
    /// How many protectors need it.
    pub protectors: u64,
    /// When it last opened the protector that has been waiting for longest.
    #[schemars(with = "Option<text::Time>")]
    pub first: Option<String>,
    /// When it last opened any of them.
    #[schemars(with = "Option<text::Time>")]
    pub last: Option<String>,
}

/// What a certificate is for that opened protectors.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum UsedCertificate {
    /// It signs protectors.
    Signing,
    /// Transport keys are encrypted to it.
    Encryption,
    /// It was removed since.
    Removed,
}

/// The public half of a lineage's head, which owners import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GuardianDocument {
    /// `fabric`, or `tenant:` and the tenant's label.
    pub lineage: String,
    /// The thumbprint of the signing certificate. Owners must get it by another way than the document.
    #[schemars(with = "text::Digest")]
    pub signing: String,
    /// The thumbprint of the encryption certificate.
    #[schemars(with = "text::Digest")]
    pub encryption: String,
    /// The document, XML.
    pub document: String,
}

named!(Severity, UsedCertificate);
