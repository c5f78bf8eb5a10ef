//! Hosts that may attest or may not, and the identity keys they have attested with.

use hgs_attest::{CredentialId, IdentityRecord};
use hgs_crypto::hash::sha256;
use hgs_crypto::rsa::PublicKey;
use hgs_pki::Time;
use hgs_pki::health::{HealthKind, HostId};
use hgs_tcg::tpm::EndorsementKey;
use serde::{Deserialize, Serialize};

use super::{Digest, HostName, ShortName, text};
use crate::evidence::LastAttempt;

/// A registered host. *Removed* takes it out of the registry and leaves a [`RemovedHost`]; *revoked* keeps its record,
/// which bars it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "HostForm", into = "HostForm")]
pub struct Host {
    /// Its id, by which the record is named and which its health certificates carry.
    pub id: HostId,
    /// What administrators call it.
    pub name: HostName,
    /// What it proves that it holds.
    pub credential: Credential,
    /// What else is known of a host with a TPM.
    pub platform: Platform,
    /// The group whose policies it is judged by, if not by those of all hosts.
    pub group: Option<ShortName>,
    /// When it was registered.
    pub added: Time,
    /// Since when, and why, it is barred.
    pub revoked: Option<Revocation>,
    /// When it last got a health certificate. It is kept in its `host-attestation` record.
    pub last_attested: Option<Time>,
    /// Whether it has returned a nonce with a request. Then it has to from now on. It is kept in its `host-attestation` record.
    pub returns_nonces: bool,
    /// When the newest of its health certificates ends. It is kept in its `host-attestation` record, and in no document.
    pub certificate_expires: Option<Time>,
    /// How its last attempt to attest went. It is kept in its `host-attestation` record, and in no document.
    pub last_attempt: Option<Box<LastAttempt>>,
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
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "text::optional"
    )]
    pub(crate) certificate_expires: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_attempt: Option<Box<LastAttempt>>,
}

impl HostAttestation {
    /// Which evidence is kept of the host.
    pub(crate) fn evidence(&self) -> Option<&Digest> {
        self.last_attempt.as_ref()?.evidence.as_ref()
    }
}

/// What a host proves that it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// The private half of the key with this DER SubjectPublicKeyInfo.
    HostKey(Vec<u8>),
    /// The TPM whose endorsement key has this TPMT_PUBLIC.
    EndorsementKey(Vec<u8>),
}

/// What is known of a host with a TPM beside its endorsement key. Nothing is decided by it once the host is registered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Platform {
    /// The DER of the EK certificate, which led to a root when the host was registered. Absent where an administrator vouched for the TPM instead.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "text::optional_octets"
    )]
    pub endorsement_certificate: Option<Vec<u8>>,
    /// The machine's UUID as its firmware says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_uuid: Option<String>,
    /// The machine's serial number as its firmware says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_serial_number: Option<String>,
}

/// A host as documents and audit records show it, and as it was kept up to version 5 of the schema: each kind of
/// credential is a member, and exactly one is there.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HostForm {
    #[serde(with = "text::display")]
    id: HostId,
    name: HostName,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "text::optional_octets"
    )]
    host_key: Option<Vec<u8>>,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "text::optional_octets"
    )]
    endorsement_key: Option<Vec<u8>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    group: Option<ShortName>,
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
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "text::optional_octets"
    )]
    host_key: Option<Vec<u8>>,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "text::optional_octets"
    )]
    endorsement_key: Option<Vec<u8>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    group: Option<ShortName>,
    #[serde(with = "text::display")]
    added: Time,
    revoked: Option<Revocation>,
}

/// The record is of no host: it has no credential, or two.
#[derive(Debug, thiserror::Error)]
#[error("a host has one of `host_key` and `endorsement_key`")]
struct NotOneCredential;

impl From<Host> for HostForm {
    fn from(host: Host) -> Self {
        let (host_key, endorsement_key) = host.credential.into_members();
        Self {
            id: host.id,
            name: host.name,
            host_key,
            endorsement_key,
            platform: (host.platform != Platform::default()).then_some(host.platform),
            group: host.group,
            added: host.added,
            revoked: host.revoked,
            last_attested: host.last_attested,
            returns_nonces: host.returns_nonces,
        }
    }
}

impl TryFrom<HostForm> for Host {
    type Error = NotOneCredential;

    fn try_from(form: HostForm) -> Result<Self, NotOneCredential> {
        Ok(Self {
            id: form.id,
            name: form.name,
            credential: Credential::from_members(form.host_key, form.endorsement_key)?,
            platform: form.platform.unwrap_or_default(),
            group: form.group,
            added: form.added,
            revoked: form.revoked,
            last_attested: form.last_attested,
            returns_nonces: form.returns_nonces,
            certificate_expires: None,
            last_attempt: None,
        })
    }
}

impl From<&hgs_attest::Credential> for Credential {
    fn from(credential: &hgs_attest::Credential) -> Self {
        match credential {
            hgs_attest::Credential::HostKey(key) => Self::HostKey(key.spki_der().to_vec()),
            hgs_attest::Credential::EndorsementKey(key) => {
                Self::EndorsementKey(key.public().octets().to_vec())
            }
        }
    }
}

impl Credential {
    /// Its name, by which the host is found.
    #[must_use]
    pub fn id(&self) -> CredentialId {
        match self {
            Self::HostKey(spki) => CredentialId::HostKey(sha256(spki)),
            Self::EndorsementKey(public) => CredentialId::EndorsementKey(sha256(public)),
        }
    }

    /// The digest of the policy by which hosts with this credential are known, wherever they attest.
    #[must_use]
    pub fn policy(&self) -> Digest {
        policy_of(&self.id())
    }

    /// The key, if it is acceptable.
    #[must_use]
    pub fn read(&self) -> Option<hgs_attest::Credential> {
        Some(match self {
            Self::HostKey(spki) => {
                hgs_attest::Credential::HostKey(PublicKey::from_spki_der(spki).ok()?)
            }
            Self::EndorsementKey(public) => {
                hgs_attest::Credential::EndorsementKey(EndorsementKey::parse(public).ok()?.into())
            }
        })
    }

    fn into_members(self) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
        match self {
            Self::HostKey(spki) => (Some(spki), None),
            Self::EndorsementKey(public) => (None, Some(public)),
        }
    }

    fn from_members(
        host_key: Option<Vec<u8>>,
        endorsement_key: Option<Vec<u8>>,
    ) -> Result<Self, NotOneCredential> {
        match (host_key, endorsement_key) {
            (Some(spki), None) => Ok(Self::HostKey(spki)),
            (None, Some(public)) => Ok(Self::EndorsementKey(public)),
            _ => Err(NotOneCredential),
        }
    }
}

/// The digest of the policy of the host with this credential.
#[must_use]
pub(crate) fn policy_of(credential: &CredentialId) -> Digest {
    Digest::from_bytes(credential.policy_digest())
}

/// The digest that names a credential in records.
#[must_use]
pub(crate) fn digest_of(credential: &CredentialId) -> Digest {
    Digest::from_bytes(*credential.digest())
}

impl Host {
    /// The value of its record, which says nothing of its attestations.
    pub(crate) fn to_record_text(&self) -> Result<String, serde_json::Error> {
        let HostForm {
            id,
            name,
            host_key,
            endorsement_key,
            platform,
            group,
            added,
            revoked,
            ..
        } = self.clone().into();
        serde_json::to_string(&HostRecordForm {
            id,
            name,
            host_key,
            endorsement_key,
            platform,
            group,
            added,
            revoked,
        })
    }

    /// Reads the value of its record.
    pub(crate) fn from_record_text(text: &str) -> Result<Self, serde_json::Error> {
        let form: HostRecordForm = serde_json::from_str(text)?;
        let form = HostForm {
            id: form.id,
            name: form.name,
            host_key: form.host_key,
            endorsement_key: form.endorsement_key,
            platform: form.platform,
            group: form.group,
            added: form.added,
            revoked: form.revoked,
            last_attested: None,
            returns_nonces: false,
        };
        Self::try_from(form).map_err(serde::de::Error::custom)
    }

    /// The record of its attestations, if it needs one.
    pub(crate) fn attestation(&self) -> Option<HostAttestation> {
        let is_needed =
            self.last_attested.is_some() || self.returns_nonces || self.last_attempt.is_some();
        is_needed.then(|| HostAttestation {
            host: self.id,
            last_attested: self.last_attested,
            returns_nonces: self.returns_nonces,
            certificate_expires: self.certificate_expires,
            last_attempt: self.last_attempt.clone(),
        })
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

/// What is left of a host that was removed, by its credential. That can't be registered again before an administrator
/// readmits it, and its identity keys are kept: a request that was captured before the removal stays worthless.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RemovedHostForm", into = "RemovedHostForm")]
pub struct RemovedHost {
    /// Its host key or its TPM, by whose digest the record is named.
    pub credential: CredentialId,
    /// The id that it had, under which its identity keys are kept.
    pub id: HostId,
    /// What it was called.
    pub name: HostName,
    /// When it was removed.
    pub removed: Time,
    /// Who removed it.
    pub by: String,
    /// Whether it was barred then. It is still, until the key is readmitted.
    pub revoked: Option<Revocation>,
    /// Whether it has returned a nonce with a request.
    pub returns_nonces: bool,
    /// Since when the credential may be registered again.
    pub readmitted: Option<Time>,
}

/// A removed host as it is kept: each kind of credential is a member, and exactly one is there.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RemovedHostForm {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host_key: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    endorsement_key: Option<Digest>,
    #[serde(with = "text::display")]
    id: HostId,
    name: HostName,
    #[serde(with = "text::display")]
    removed: Time,
    by: String,
    revoked: Option<Revocation>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    returns_nonces: bool,
    #[serde(with = "text::optional")]
    readmitted: Option<Time>,
}

impl From<RemovedHost> for RemovedHostForm {
    fn from(host: RemovedHost) -> Self {
        let digest = digest_of(&host.credential);
        let is_host_key = matches!(host.credential, CredentialId::HostKey(_));
        Self {
            host_key: is_host_key.then_some(digest),
            endorsement_key: (!is_host_key).then_some(digest),
            id: host.id,
            name: host.name,
            removed: host.removed,
            by: host.by,
            revoked: host.revoked,
            returns_nonces: host.returns_nonces,
            readmitted: host.readmitted,
        }
    }
}

impl TryFrom<RemovedHostForm> for RemovedHost {
    type Error = NotOneCredential;

    fn try_from(form: RemovedHostForm) -> Result<Self, NotOneCredential> {
        let credential = match (form.host_key, form.endorsement_key) {
            (Some(digest), None) => CredentialId::HostKey(*digest.as_bytes()),
            (None, Some(digest)) => CredentialId::EndorsementKey(*digest.as_bytes()),
            _ => return Err(NotOneCredential),
        };
        Ok(Self {
            credential,
            id: form.id,
            name: form.name,
            removed: form.removed,
            by: form.by,
            revoked: form.revoked,
            returns_nonces: form.returns_nonces,
            readmitted: form.readmitted,
        })
    }
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
