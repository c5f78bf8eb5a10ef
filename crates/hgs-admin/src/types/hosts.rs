//! The registry of hosts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    AttestationMode, HealthKind, LastAttempt, MAX_AT_ONCE, attestation_modes, by_name, health_kinds,
};
use crate::{read, text};

/// A registered host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Host {
    /// Its name.
    #[schemars(with = "text::HostName")]
    pub name: String,
    /// Its id, which its health certificates carry.
    #[schemars(with = "text::HostId")]
    pub id: String,
    /// How it attests.
    #[serde(with = "by_name")]
    #[schemars(schema_with = "attestation_modes")]
    pub attestation_mode: AttestationMode,
    /// SHA-256 of its host key's SubjectPublicKeyInfo; absent for a host that is known by its TPM.
    #[schemars(with = "Option<text::Digest>")]
    pub host_key_digest: Option<String>,
    /// SHA-256 of the TPMT_PUBLIC of its TPM's endorsement key; absent for a host that is known by a host key.
    #[serde(default)]
    #[schemars(with = "Option<text::Digest>")]
    pub endorsement_key_digest: Option<String>,
    /// The group whose policies it is judged by, if not by those of all hosts.
    #[serde(default)]
    #[schemars(with = "Option<text::ShortName>")]
    pub group: Option<String>,
    /// When it was registered.
    #[schemars(with = "text::Time")]
    pub added: String,
    /// When it last got a health certificate.
    #[schemars(with = "Option<text::Time>")]
    pub last_attested: Option<String>,
    /// When that health certificate ends.
    #[serde(default)]
    #[schemars(with = "Option<text::Time>")]
    pub certificate_expires: Option<String>,
    /// How its last attempt to attest went.
    #[serde(default)]
    pub last_attempt: Option<LastAttempt>,
    /// When and why it was revoked; absent if it was not.
    pub revoked: Option<Revocation>,
}

/// The revocation of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Revocation {
    /// When.
    #[schemars(with = "text::Time")]
    pub time: String,
    /// Why.
    pub reason: String,
    /// Who did it.
    pub by: String,
}

/// A host in full.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostDetail {
    /// What listings show.
    #[serde(flatten)]
    pub host: Host,
    /// Its host key: SubjectPublicKeyInfo in PEM; absent for a host that is known by its TPM.
    pub host_key: Option<String>,
    /// Its TPM; absent for a host that is known by a host key.
    #[serde(default)]
    pub tpm: Option<Tpm>,
    /// The policy digest of its health certificates, the same under every signer.
    #[schemars(with = "text::Digest")]
    pub policy_digest: String,
    /// Whether it returns nonces, and so has to.
    pub returns_nonces: bool,
    /// When two machines were last seen to use its host key, within a week.
    #[schemars(with = "Option<text::Time>")]
    pub host_key_shared: Option<String>,
    /// The identity keys that it attested with, newest first.
    pub identity_keys: Vec<IdentityKey>,
}

/// The TPM of a host, and the machine that it was in when the host was registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tpm {
    /// The endorsement key: SubjectPublicKeyInfo in PEM.
    pub endorsement_key: String,
    /// The EK certificate in PEM; absent where an administrator vouched for the TPM instead.
    pub endorsement_certificate: Option<String>,
    /// Who issued the EK certificate.
    pub issuer: Option<String>,
    /// The maker of the TPM as the EK certificate names it.
    pub manufacturer: Option<String>,
    /// Its model, by the EK certificate.
    pub model: Option<String>,
    /// The version of its firmware, by the EK certificate.
    pub firmware: Option<String>,
    /// The UUID of the machine.
    pub system_uuid: Option<String>,
    /// The serial number of the machine.
    pub system_serial_number: Option<String>,
}

/// An identity key of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IdentityKey {
    /// SHA-256 of its SubjectPublicKeyInfo.
    #[schemars(with = "text::Digest")]
    pub digest: String,
    /// What it is for.
    #[serde(with = "by_name")]
    #[schemars(schema_with = "health_kinds")]
    pub kind: HealthKind,
    /// When it was first seen.
    #[schemars(with = "text::Time")]
    pub first_seen: String,
    /// When a newer one took its place.
    #[schemars(with = "Option<text::Time>")]
    pub superseded: Option<String>,
    /// When it was first presented after that.
    #[schemars(with = "Option<text::Time>")]
    pub returned: Option<String>,
}

/// A host that was removed. Its host key or TPM can't be registered again before it is readmitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RemovedHost {
    /// Its name.
    #[schemars(with = "text::HostName")]
    pub name: String,
    /// The id that it had.
    #[schemars(with = "text::HostId")]
    pub id: String,
    /// SHA-256 of its host key's SubjectPublicKeyInfo; absent for a host that was known by its TPM.
    #[schemars(with = "Option<text::Digest>")]
    pub host_key_digest: Option<String>,
    /// SHA-256 of the TPMT_PUBLIC of its TPM's endorsement key; absent for a host that was known by a host key.
    #[serde(default)]
    #[schemars(with = "Option<text::Digest>")]
    pub endorsement_key_digest: Option<String>,
    /// When it was removed.
    #[schemars(with = "text::Time")]
    pub removed: String,
    /// Who removed it.
    pub by: String,
    /// When and why it was revoked before that; absent if it was not.
    pub revoked: Option<Revocation>,
    /// When its host key or TPM was readmitted.
    #[schemars(with = "Option<text::Time>")]
    pub readmitted: Option<String>,
}

/// A host of another cluster that gets no keys here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeniedHost {
    /// The policy digest of its health certificates.
    #[schemars(with = "text::Digest")]
    pub policy_digest: String,
    /// When and why it was denied.
    pub denied: Revocation,
}

/// The denial of a host: by its host key, by its platform identity, or by the policy digest that audit records name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DenyHost {
    /// Its public host key, as for a registration.
    #[schemars(with = "Option<text::FileContent>")]
    pub host_key: Option<String>,
    /// The platform identity of a host with a TPM, as for a registration.
    #[serde(default)]
    #[schemars(with = "Option<text::FileContent>")]
    pub identity: Option<String>,
    /// The policy digest of its health certificates: 64 hexadecimal digits.
    #[schemars(with = "Option<text::Digest>")]
    pub policy_digest: Option<String>,
    /// Why, for people: at most 1024 octets.
    #[schemars(with = "text::Reason")]
    pub reason: String,
}

/// A host to be registered: by its host key, or by its TPM.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AddHost {
    /// Its name.
    #[schemars(with = "text::HostName")]
    pub name: String,
    /// Its public host key: a SubjectPublicKeyInfo or a certificate, in PEM or in the Base64 of its DER.
    #[serde(default)]
    #[schemars(with = "Option<text::FileContent>")]
    pub host_key: Option<String>,
    /// The text of its platform identity file.
    #[serde(default)]
    #[schemars(with = "Option<text::FileContent>")]
    pub identity: Option<String>,
    /// The group of a host with a TPM; absent for none. It needs the permission manage-policies.
    #[serde(default)]
    #[schemars(with = "Option<text::ShortName>")]
    pub group: Option<String>,
    /// Whether a TPM is registered that no EK certificate vouches for. An EK certificate in the file is not kept then.
    /// It needs the permission manage-policies.
    #[serde(default)]
    pub without_ek_certificate: bool,
}

/// Hosts to be registered at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AddHosts {
    /// 1 to 100 hosts.
    #[serde(deserialize_with = "read::objects")]
    #[schemars(length(min = 1, max = MAX_AT_ONCE))]
    pub hosts: Vec<AddHost>,
}

/// The certificate of an authority that vouches for TPMs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EkRoot {
    /// The thumbprint of the certificate.
    #[schemars(with = "text::Digest")]
    pub thumbprint: String,
    /// The subject's name.
    pub subject: String,
    /// The issuer's name.
    pub issuer: String,
    /// Whether it is trusted by itself. An intermediate certificate only helps to find the way to one that is.
    pub root: bool,
    /// Why an intermediate certificate leads to no root, and is of no use; absent where it does.
    pub unused: Option<String>,
    /// When it begins to be valid.
    #[schemars(with = "text::Time")]
    pub not_before: String,
    /// When it ends.
    #[schemars(with = "text::Time")]
    pub not_after: String,
    /// When it was added.
    #[schemars(with = "text::Time")]
    pub added: String,
}

/// Certificates of authorities to be trusted. Those that are known already are passed over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AddEkRoots {
    /// Certificates in PEM, one behind the other, or one in the Base64 of its DER; 100 at most.
    #[schemars(with = "text::FileContent")]
    pub certificates: String,
    /// Whether they are trusted by themselves. When absent, those are that name themselves as their issuer.
    #[serde(default)]
    pub root: Option<bool>,
}

/// The revocation of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeHost {
    /// Why, for people: at most 1024 octets.
    #[schemars(with = "text::Reason")]
    pub reason: String,
}
