//! Hosts that may attest or may not, and the identity keys they have attested with.

use hgs_attest::{CredentialId, IdentityRecord, host_key};
use hgs_crypto::hash::sha256;
use hgs_pki::Time;
use hgs_pki::health::{HealthKind, HostId};
use serde::{Deserialize, Serialize};

use super::{Digest, HostName, text};

/// A registered host. *Removed* takes it out of the registry and leaves a [`RemovedHost`]; *revoked* keeps its record,
/// which bars it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "HostForm", into = "HostForm")]
pub struct Host {
    /// Its id, by which the record is named and which its health certificates carry.
    pub id: HostId,
    /// What administrators call it.
    pub name: HostName,
    /// What it proves that it holds.
    pub credential: Credential,
    /// When it was registered.
    pub added: Time,
    /// Since when, and why, it is barred.
    pub revoked: Option<Revocation>,
    /// When it last got a health certificate. It is kept in its `host-attestation` record.
    pub last_attested: Option<Time>,
    /// Whether it has returned a nonce with a request. Then it has to from now on. It is kept in its `host-attestation` record.
    pub returns_nonces: bool,
}

/// What attesting changes about a host. It is a record of its own, so that an attestation does not change what releases
/// to the same host depend on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HostAttestation {
    /// Whose it is, by which the record is named.
    #[serde(with = "text::display")]
    pub(crate) host: HostId,
    #[serde(with = "text::optional")]
    pub(crate) last_attested: Option<Time>,
    pub(crate) returns_nonces: bool,
}

/// What a host proves that it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// The private half of the key with this DER SubjectPublicKeyInfo.
    HostKey(Vec<u8>),
}

/// A host as documents and audit records show it, and as it was kept up to version 5 of the schema: each kind of
/// credential is a member, and exactly one is there.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HostForm {
    #[serde(with = "text::display")]
    id: HostId,
    name: HostName,
    #[serde(with = "text::octets")]
    host_key: Vec<u8>,
    #[serde(with = "text::display")]
    added: Time,
    revoked: Option<Revocation>,
    #[serde(with = "text::optional")]
    last_attested: Option<Time>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    returns_nonces: bool,
}

/// A host as it is kept.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HostRecordForm {
    #[serde(with = "text::display")]
    id: HostId,
    name: HostName,
    #[serde(with = "text::octets")]
    host_key: Vec<u8>,
    #[serde(with = "text::display")]
    added: Time,
    revoked: Option<Revocation>,
}

impl From<Host> for HostForm {
    fn from(host: Host) -> Self {
        let Credential::HostKey(host_key) = host.credential;
        Self {
            id: host.id,
            name: host.name,
            host_key,
            added: host.added,
            revoked: host.revoked,
            last_attested: host.last_attested,
            returns_nonces: host.returns_nonces,
        }
    }
}

impl From<HostForm> for Host {
    fn from(form: HostForm) -> Self {
        Self {
            id: form.id,
            name: form.name,
            credential: Credential::HostKey(form.host_key),
            added: form.added,
            revoked: form.revoked,
            last_attested: form.last_attested,
            returns_nonces: form.returns_nonces,
        }
    }
}

impl Credential {
    /// Its name, by which the host is found.
    #[must_use]
    pub fn id(&self) -> CredentialId {
        match self {
            Self::HostKey(spki) => CredentialId::HostKey(sha256(spki)),
        }
    }

    /// The digest of the policy by which hosts with this credential are judged, wherever they attest.
    #[must_use]
    pub fn policy(&self) -> Digest {
        match self {
            Self::HostKey(spki) => policy_of_key(&Digest::from_bytes(sha256(spki))),
        }
    }
}

/// The digest of the policy of the host whose host key has this SHA-256.
#[must_use]
pub(crate) fn policy_of_key(host_key: &Digest) -> Digest {
    Digest::from_bytes(host_key::policy_digest(host_key.as_bytes()))
}

impl Host {
    /// The value of its record, which says nothing of its attestations.
    pub(crate) fn to_record_text(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(&HostRecordForm {
            id: self.id,
            name: self.name.clone(),
            host_key: self.host_key().to_vec(),
            added: self.added,
            revoked: self.revoked.clone(),
        })
    }

    /// Reads the value of its record.
    pub(crate) fn from_record_text(text: &str) -> Result<Self, serde_json::Error> {
        let form: HostRecordForm = serde_json::from_str(text)?;
        Ok(Self {
            id: form.id,
            name: form.name,
            credential: Credential::HostKey(form.host_key),
            added: form.added,
            revoked: form.revoked,
            last_attested: None,
            returns_nonces: false,
        })
    }

    /// The record of its attestations, if it needs one.
    pub(crate) fn attestation(&self) -> Option<HostAttestation> {
        let is_needed = self.last_attested.is_some() || self.returns_nonces;
        is_needed.then_some(HostAttestation {
            host: self.id,
            last_attested: self.last_attested,
            returns_nonces: self.returns_nonces,
        })
    }

    /// SHA-256 of the host key's SubjectPublicKeyInfo.
    #[must_use]
    pub fn host_key_digest(&self) -> Digest {
        Digest::from_bytes(sha256(self.host_key()))
    }

    /// The DER SubjectPublicKeyInfo of its host key.
    #[must_use]
    pub fn host_key(&self) -> &[u8] {
        let Credential::HostKey(spki) = &self.credential;
        spki
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

/// What is left of a host that was removed, by its host key. The key can't be registered again before an administrator
/// readmits it, and its identity keys are kept: a request that was captured before the removal stays worthless.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemovedHost {
    /// SHA-256 of its host key's SubjectPublicKeyInfo, by which the record is named.
    pub host_key: Digest,
    /// The id that it had, under which its identity keys are kept.
    #[serde(with = "text::display")]
    pub id: HostId,
    /// What it was called.
    pub name: HostName,
    /// When it was removed.
    #[serde(with = "text::display")]
    pub removed: Time,
    /// Who removed it.
    pub by: String,
    /// Whether it was barred then. It is still, until the key is readmitted.
    pub revoked: Option<Revocation>,
    /// Whether it has returned a nonce with a request.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub returns_nonces: bool,
    /// Since when the key may be registered again.
    #[serde(with = "text::optional")]
    pub readmitted: Option<Time>,
}

impl RemovedHost {
    /// Whether health certificates of this host are refused, by any signer.
    #[must_use]
    pub fn is_barred(&self) -> bool {
        self.revoked.is_some() && self.readmitted.is_none()
    }
}

/// A host that gets no keys here though another cluster attests it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeniedHost {
    /// The policy digest of its health certificates, by which the record is named.
    pub policy: Digest,
    /// Since when, why and by whom.
    pub denied: Revocation,
}

/// An identity key that a host attested with. What may become of it is for [`hgs_attest::HostIdentities`] to say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostIdentity {
    /// Whose it is.
    #[serde(with = "text::display")]
    pub host: HostId,
    /// What it is for; a key of one kind is refused for the other.
    #[serde(with = "text::display")]
    pub kind: HealthKind,
    /// SHA-256 of its SubjectPublicKeyInfo.
    pub public_key: Digest,
    /// When it was first seen.
    #[serde(with = "text::display")]
    pub first_seen: Time,
    /// When a newer key of its kind took its place.
    #[serde(with = "text::optional")]
    pub superseded: Option<Time>,
    /// When it was first presented after that.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "text::optional"
    )]
    pub returned: Option<Time>,
}

impl HostIdentity {
    /// The record of one host's key.
    #[must_use]
    pub(crate) fn of(host: HostId, record: &IdentityRecord) -> Self {
        Self {
            host,
            kind: record.kind,
            public_key: Digest::from_bytes(record.key),
            first_seen: record.first_seen,
            superseded: record.superseded,
            returned: record.returned,
        }
    }

    /// What the rules for identity keys look at.
    #[must_use]
    pub fn record(&self) -> IdentityRecord {
        IdentityRecord {
            key: *self.public_key.as_bytes(),
            kind: self.kind,
            first_seen: self.first_seen,
            superseded: self.superseded,
            returned: self.returned,
        }
    }
}
