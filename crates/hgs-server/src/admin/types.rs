//! What travels over the admin socket, version 1. Times are RFC 3339 in UTC, digests and thumbprints lower-case
//! hexadecimal SHA-256. No field of these types can hold a secret; a test goes through them.

use serde::{Deserialize, Serialize};

/// How the guardian is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// What it is called.
    pub name: String,
    /// The version of the program that serves.
    pub version: String,
    /// The time by its clock.
    pub time: String,
    /// How hosts attest: `host-key`.
    pub attestation_mode: String,
    /// Where hosts attest.
    pub attestation_urls: Vec<String>,
    /// Where hosts have keys released.
    pub key_protection_urls: Vec<String>,
    /// Hosts that may attest.
    pub registered_hosts: usize,
    /// Hosts that are barred.
    pub revoked_hosts: usize,
    /// The primary signing certificate.
    pub primary_signing: Option<Certificate>,
    /// The primary encryption certificate.
    pub primary_encryption: Option<Certificate>,
    /// The attestation signer that signs now.
    pub attestation_signer: Option<Signer>,
    /// How many transactions have changed the state.
    pub generation: u64,
    /// What needs attention.
    pub warnings: Vec<Warning>,
}

/// Something that an administrator should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// Names the kind, for programs.
    pub code: String,
    /// What was found.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

/// The settings in effect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServerSettings {
    /// What the guardian is called.
    pub name: String,
    /// What this node of it is called in audit records.
    pub node: String,
    /// The folder of the state.
    pub state_folder: String,
    /// The file of the master key.
    pub master_key_file: String,
    /// Where it listens.
    pub listeners: Vec<Listener>,
    /// For how many seconds health certificates are valid.
    pub health_certificate_seconds: u64,
    /// How many seconds the clocks of signers may be ahead.
    pub clock_skew_seconds: u64,
    /// Whether hosts may keep key material.
    pub key_material_caching: bool,
    /// After how many seconds key material that was kept is void.
    pub key_material_caching_seconds: u64,
    /// How often it may be used until then.
    pub key_material_caching_unwraps: u64,
    /// Whether a protector is refused when one made from it is in use.
    pub refuse_superseded_protectors: bool,
    /// Settings that weaken verification.
    pub dangerous_settings: Vec<String>,
    /// The certificate that signs the metadata.
    pub communications_certificate: Option<Certificate>,
    /// Until when protectors that a compromised guardian signed are accepted unseen.
    #[serde(default)]
    pub rekey_window_until: Option<String>,
}

/// A listener that is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// `http`, `https`, `metrics` or `admin`.
    pub name: String,
    /// Address and port, or the path of the socket.
    pub address: String,
}

/// A certificate of the guardian.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// SHA-256 of its DER.
    pub thumbprint: String,
    /// `signing`, `encryption` or `communications`.
    pub kind: String,
    /// Its subject, as RFC 4514 writes names.
    pub subject: String,
    /// What people call it.
    pub label: Option<String>,
    /// `fabric`, or `tenant:` and the tenant's label.
    pub lineage: String,
    /// Whether it is used.
    pub enabled: bool,
    /// Whether it is the one of its kind that the metadata names.
    pub primary: bool,
    /// Whether it is the head of its lineage.
    pub head: bool,
    /// Since when its key counts as known to others.
    pub compromised: Option<String>,
    /// Since when it is never a head again.
    #[serde(default)]
    pub retired: Option<String>,
    /// Where its private key lives: `sealed`, or a `pkcs11:` URI.
    pub key: String,
    /// Bits of its RSA key.
    pub key_bits: usize,
    /// Whether this node can use the private key.
    pub usable: bool,
    /// Its first second.
    pub not_before: String,
    /// Its last second.
    pub not_after: String,
    /// When it was added.
    pub added: String,
}

/// A certificate of the guardian in full.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateDetail {
    /// What listings show.
    #[serde(flatten)]
    pub certificate: Certificate,
    /// Its issuer.
    pub issuer: String,
    /// Its serial number in hexadecimal.
    pub serial_number: String,
    /// SHA-1 of its DER, by which Windows knows certificates.
    pub sha1_thumbprint: String,
    /// The certificate itself.
    pub pem: String,
}

/// A certificate that was added or made, and what was noticed about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddedCertificate {
    /// The certificate as it is listed from now on.
    #[serde(flatten)]
    pub certificate: Certificate,
    /// What was noticed, which kept it from nothing.
    pub findings: Vec<Finding>,
}

/// Something about a certificate that is not as it should be, or that people have to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Names the kind, for programs.
    pub code: String,
    /// `warning` or `note`.
    pub severity: String,
    /// What was found.
    pub message: String,
}

/// How many protectors one certificate was the last to open. Only the newest of each line counts, and one that never
/// comes back counts for ever: the times tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateUsage {
    /// The certificate.
    pub thumbprint: String,
    /// `signing` or `encryption`; `removed` where it is known no more.
    pub kind: String,
    /// What people call it.
    pub label: Option<String>,
    /// Its lineage; empty where it is known no more.
    pub lineage: String,
    /// Whether it is the head of its lineage.
    pub head: bool,
    /// How many protectors need it.
    pub protectors: u64,
    /// When the one was opened that has not been opened for longest.
    pub first: Option<String>,
    /// When the one was opened that was opened last.
    pub last: Option<String>,
}

/// The public half of a lineage's head, for owners to import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardianDocument {
    /// `fabric`, or `tenant:` and the tenant's label.
    pub lineage: String,
    /// The signing certificate, which owners need to know by another way than the document.
    pub signing: String,
    /// The encryption certificate.
    pub encryption: String,
    /// The document, XML.
    pub document: String,
}

/// A signer of health certificates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signer {
    /// SHA-256 of its certificate's DER.
    pub thumbprint: String,
    /// Its subject.
    pub subject: String,
    /// What people call it.
    pub label: Option<String>,
    /// Whether it is this guardian's own.
    pub own: bool,
    /// Of our own: `pending`, `active` or `retired`. Of another cluster: `trusted`.
    pub stage: String,
    /// Health certificates that it issued before this are refused.
    pub deny_before: Option<String>,
    /// How many health certificates are refused one by one.
    pub denied_serial_numbers: usize,
    /// Health certificates valid for longer than so many seconds are refused.
    #[serde(default)]
    pub maximum_validity_seconds: Option<u64>,
    /// Its first second.
    pub not_before: String,
    /// Its last second.
    pub not_after: String,
    /// When it was added.
    pub added: String,
    /// The certificate itself.
    pub pem: String,
}

/// A host that is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// What it is called.
    pub name: String,
    /// Its id, which its health certificates carry.
    pub id: String,
    /// SHA-256 of its host key's SubjectPublicKeyInfo.
    pub host_key_digest: String,
    /// When it was registered.
    pub added: String,
    /// When it last got a health certificate.
    pub last_attested: Option<String>,
    /// Since when and why it is barred.
    pub revoked: Option<Revocation>,
}

/// Why a host is barred.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// Since when.
    pub time: String,
    /// Why.
    pub reason: String,
    /// Who did it.
    pub by: String,
}

/// A host in full.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostDetail {
    /// What listings show.
    #[serde(flatten)]
    pub host: Host,
    /// Its host key: SubjectPublicKeyInfo in PEM.
    pub host_key: String,
    /// The identity keys that it attested with, newest first.
    pub identity_keys: Vec<IdentityKey>,
}

/// An identity key of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityKey {
    /// SHA-256 of its SubjectPublicKeyInfo.
    pub digest: String,
    /// `encryption` or `signing`.
    pub kind: String,
    /// When it was first seen.
    pub first_seen: String,
    /// When a newer one took its place.
    pub superseded: Option<String>,
}

/// A host to be registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddHost {
    /// What it shall be called.
    pub name: String,
    /// Its public host key: a SubjectPublicKeyInfo or a certificate, in PEM or in the Base64 of its DER.
    pub host_key: String,
}

/// A host to be barred.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokeHost {
    /// Why, for people: at most 1024 octets.
    pub reason: String,
}

/// Which audit records are wanted; what is absent does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuditQuery {
    /// At most so many: 100 if absent, 1000 at most.
    pub limit: Option<usize>,
    /// Only numbers below this one, to page backwards.
    pub before: Option<u64>,
    /// Not older than this.
    pub since: Option<String>,
    /// Older than this.
    pub until: Option<String>,
    /// About the host of this name or id.
    pub host: Option<String>,
    /// Of this action, such as `release`.
    pub action: Option<String>,
    /// `done` or `refused`.
    pub outcome: Option<String>,
    /// About the protector with this digest.
    pub protector: Option<String>,
    /// About this lineage: `fabric`, or `tenant:` and the tenant's label.
    pub lineage: Option<String>,
}

/// An audit record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// Its number, from 1.
    pub sequence: u64,
    /// When.
    pub time: String,
    /// Of which node of the guardian.
    pub node: String,
    /// Who asked for it.
    pub actor: String,
    /// What was asked for.
    pub action: String,
    /// `done` or `refused`.
    pub outcome: String,
    /// Why it was refused.
    pub reason: Option<String>,
    /// The id of the host that it is about.
    pub host: Option<String>,
    /// What that host was called.
    pub host_name: Option<String>,
    /// The serial number of its health certificate.
    pub serial: Option<String>,
    /// The digest of the policy its health was judged by.
    pub policy: Option<String>,
    /// The digest of the protector that came in.
    pub protector: Option<String>,
    /// The digest of the protector that was given back.
    pub egress_protector: Option<String>,
    /// Where the protector stood among its descendants: `new`, `head`, `sibling` or `ancestor`.
    pub standing: Option<String>,
    /// The thumbprint of its owner's signing certificate.
    pub owner: Option<String>,
    /// The thumbprint of the encryption certificate that opened it.
    pub guardian: Option<String>,
    /// The lineage of that certificate.
    pub lineage: Option<String>,
    /// How many alike events this record stands for.
    pub count: Option<u64>,
    /// The generation of the state after it.
    pub generation: u64,
    /// The record of the state that it is about, as it was.
    pub before: Option<serde_json::Value>,
    /// The record of the state that it is about, as it is since.
    pub after: Option<serde_json::Value>,
    /// The records of the state that were written or removed, as `kind/name`.
    pub changes: Vec<String>,
}

/// That the state was written to an encrypted file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordExport {
    /// SHA-256 of the file.
    pub file: String,
    /// Its length.
    pub octets: u64,
    /// The generation of the state in it.
    pub generation: u64,
    /// What opens it: recipients, or nothing where that is a passphrase.
    pub recipients: Vec<String>,
}
