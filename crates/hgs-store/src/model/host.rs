//! Hosts that may attest, and the identity keys they have attested with.

use hgs_crypto::hash::sha256;
use hgs_pki::Time;
use serde::{Deserialize, Serialize};

use super::{Digest, HostId, HostName, text};

/// A registered host. *Removed* forgets it; *revoked* keeps a record that bars it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// Its id, by which the record is named and which its health certificates carry.
    pub id: HostId,
    /// What administrators call it.
    pub name: HostName,
    /// The DER SubjectPublicKeyInfo of its host key.
    #[serde(with = "text::octets")]
    pub host_key: Vec<u8>,
    /// When it was registered.
    #[serde(with = "text::display")]
    pub added: Time,
    /// Since when, and why, it is barred.
    pub revoked: Option<Revocation>,
    /// When it last got a health certificate.
    #[serde(with = "text::optional")]
    pub last_attested: Option<Time>,
}

impl Host {
    /// SHA-256 of the host key's SubjectPublicKeyInfo.
    #[must_use]
    pub fn host_key_digest(&self) -> Digest {
        Digest::from_bytes(sha256(&self.host_key))
    }
}

/// Why a host is barred.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revocation {
    /// Since when.
    #[serde(with = "text::display")]
    pub time: Time,
    /// What the administrator gave as reason.
    pub reason: String,
    /// Who did it.
    pub by: String,
}

/// What an identity key is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IdentityKind {
    /// Transfer keys are encrypted to it.
    Encryption,
    /// It signs.
    Signing,
}

/// An identity key that a host attested with. Superseded keys are never forgotten while the host
/// is registered: the request that proved one carries no nonce and could be sent again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostIdentity {
    /// Whose it is.
    pub host: HostId,
    /// What it is for; a key of one kind is refused for the other.
    pub kind: IdentityKind,
    /// SHA-256 of its SubjectPublicKeyInfo.
    pub public_key: Digest,
    /// When it was first seen.
    #[serde(with = "text::display")]
    pub first_seen: Time,
    /// When a newer key of its kind took its place.
    #[serde(with = "text::optional")]
    pub superseded: Option<Time>,
}
