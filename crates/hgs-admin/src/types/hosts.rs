//! The registry of hosts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{HealthKind, by_name, health_kinds};

/// A registered host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// Its id, which its health certificates carry.
    pub id: String,
    /// SHA-256 of its host key's SubjectPublicKeyInfo.
    pub host_key_digest: String,
    /// When it was registered.
    pub added: String,
    /// When it last got a health certificate.
    pub last_attested: Option<String>,
    /// When and why it was revoked; absent if it was not.
    pub revoked: Option<Revocation>,
}

/// The revocation of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Revocation {
    /// When.
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
    /// Its host key: SubjectPublicKeyInfo in PEM.
    pub host_key: String,
    /// The policy digest of its health certificates, the same under every signer.
    pub policy_digest: String,
    /// Whether it returns nonces, and so has to.
    pub returns_nonces: bool,
    /// When two machines were last seen to use its host key, within a week.
    pub host_key_shared: Option<String>,
    /// The identity keys that it attested with, newest first.
    pub identity_keys: Vec<IdentityKey>,
}

/// An identity key of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IdentityKey {
    /// SHA-256 of its SubjectPublicKeyInfo.
    pub digest: String,
    /// What it is for.
    #[serde(with = "by_name")]
    #[schemars(schema_with = "health_kinds")]
    pub kind: HealthKind,
    /// When it was first seen.
    pub first_seen: String,
    /// When a newer one took its place.
    pub superseded: Option<String>,
    /// When it was first presented after that.
    pub returned: Option<String>,
}

/// A host that was removed. Its host key can't be registered again before it is readmitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RemovedHost {
    /// Its name.
    pub name: String,
    /// The id that it had.
    pub id: String,
    /// SHA-256 of its host key's SubjectPublicKeyInfo.
    pub host_key_digest: String,
    /// When it was removed.
    pub removed: String,
    /// Who removed it.
    pub by: String,
    /// When and why it was revoked before that; absent if it was not.
    pub revoked: Option<Revocation>,
    /// When its host key was readmitted.
    pub readmitted: Option<String>,
}

/// A host of another cluster that gets no keys here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeniedHost {
    /// The policy digest of its health certificates.
    pub policy_digest: String,
    /// When and why it was denied.
    pub denied: Revocation,
}

/// The denial of a host: by its host key, or by the policy digest that audit records name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DenyHost {
    /// Its public host key, as for a registration.
    pub host_key: Option<String>,
    /// The policy digest of its health certificates: 64 hexadecimal digits.
    pub policy_digest: Option<String>,
    /// Why, for people: at most 1024 octets.
    pub reason: String,
}

/// A host to be registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AddHost {
    /// Its name.
    pub name: String,
    /// Its public host key: a SubjectPublicKeyInfo or a certificate, in PEM or in the Base64 of its DER.
    pub host_key: String,
}

/// The revocation of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeHost {
    /// Why, for people: at most 1024 octets.
    pub reason: String,
}
