//! Host-key mode, the server's part ([MS-HGSA] 3.1.5.3): a host proves that it holds a registered key, and names the
//! identity key that is to be certified.
//!
//! [`evaluate`] is a pure function from a request, the registry and the time to a [`Verdict`]. It changes nothing:
//! what it would change in the registry is in the [`Grant`], and a health certificate can be issued only after the
//! caller says that this was recorded.

mod identities;
mod request;

use hgs_crypto::hash::{Sha256Digest, sha256, sha256_of};
use hgs_crypto::rsa::{PublicKey, SignatureScheme};
use hgs_pki::Time;
use hgs_pki::health::{AttestationMode, HealthKind, HealthStatement, HostId};

pub use identities::{
    HostIdentities, IdentityRecord, IdentityRefusal, IdentityTransition, MAX_IDENTITY_KEY_AGE,
    MAX_IDENTITY_KEYS,
};
pub(crate) use request::signed_octets;

use self::request::HostKeyRequest;
use crate::facts::{Facts, KnownHost};
use crate::refusal::{Reason, Refusal};

/// A view of the registered hosts, at one moment.
pub trait HostRegistry {
    /// The host whose key has that digest: SHA-256 of the SubjectPublicKeyInfo. Revoked hosts are hosts.
    fn host_with_key(&self, digest: &Sha256Digest) -> Option<RegisteredHost>;
}

/// What the registry knows of a host.
#[derive(Debug, Clone)]
pub struct RegisteredHost {
    /// Its identifier, which stays when it is renamed.
    pub host_id: HostId,
    /// What administrators call it.
    pub name: String,
    /// Its key.
    pub host_key: PublicKey,
    /// Whether it is barred.
    pub revoked: bool,
    /// The identity keys it has attested with.
    pub identities: HostIdentities,
}

/// The outcome of an attestation.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a verdict is recorded, counted and answered"]
pub enum Verdict {
    /// The host gets a health certificate, once the grant is recorded.
    Healthy(Grant),
    /// The host gets none.
    Refused(Refusal),
}

impl Verdict {
    /// What is known of the host.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        match self {
            Self::Healthy(grant) => grant.facts(),
            Self::Refused(refusal) => refusal.facts(),
        }
    }

    /// `healthy`, or the code of the refusal: for audit records and as a metric's label.
    #[must_use]
    pub fn outcome(&self) -> &'static str {
        match self {
            Self::Healthy(_) => "healthy",
            Self::Refused(refusal) => refusal.code().name(),
        }
    }
}

/// The right to one health certificate, which is to be recorded before it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a grant does nothing until it is recorded"]
pub struct Grant {
    kind: HealthKind,
    identity_key: PublicKey,
    statement: HealthStatement,
    transition: IdentityTransition,
    facts: Facts,
}

/// A grant of which the caller says that it is recorded durably.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedGrant(Grant);

impl Grant {
    /// What becomes of the host's identity keys. The host is that of [`Self::host_id`].
    pub fn transition(&self) -> &IdentityTransition {
        &self.transition
    }

    /// The host.
    #[must_use]
    pub fn host_id(&self) -> HostId {
        self.statement.host_id
    }

    /// What the health certificate is for.
    #[must_use]
    pub fn kind(&self) -> HealthKind {
        self.kind
    }

    /// What the health certificate will say.
    #[must_use]
    pub fn statement(&self) -> &HealthStatement {
        &self.statement
    }

    /// What is known of the host.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// To be called when the transition and the audit record are durable, and not before: if the transition were lost
    /// after the certificate left, the key that it supersedes would be good again.
    ///
    /// The registry may have changed since it was looked at. Whoever records the transition checks in the same
    /// transaction that the host is still registered and not revoked, and that [`HostIdentities::present`] still gives
    /// this transition.
    #[must_use]
    pub fn recorded(self) -> RecordedGrant {
        RecordedGrant(self)
    }
}

impl RecordedGrant {
    /// The grant.
    pub fn grant(&self) -> &Grant {
        &self.0
    }

    pub(crate) fn identity_key(&self) -> &PublicKey {
        &self.0.identity_key
    }
}

/// Decides what a host gets that sent `body` to `/hostkeyattest` of a server in host-key mode.
///
/// The checks have the order of section 7 of the protocol profile. Before the host key's signature has verified,
/// nothing is told but whether the key is registered, and nothing expensive is done but that one verification.
pub fn evaluate(body: &[u8], registry: &dyn HostRegistry, now: Time) -> Verdict {
    let mut facts = Facts::default();
    match decide(body, registry, now, &mut facts) {
        Ok(decision) => Verdict::Healthy(Grant {
            kind: decision.kind,
            identity_key: decision.identity_key,
            statement: decision.statement,
            transition: decision.transition,
            facts,
        }),
        Err(reason) => Verdict::Refused(Refusal::with_facts(reason, facts)),
    }
}

struct Decision {
    kind: HealthKind,
    identity_key: PublicKey,
    statement: HealthStatement,
    transition: IdentityTransition,
}

fn decide(
    body: &[u8],
    registry: &dyn HostRegistry,
    now: Time,
    facts: &mut Facts,
) -> Result<Decision, Reason> {
    let request = HostKeyRequest::read(body, facts)?;
    facts.kind = Some(request.kind);
    facts.identity_key = Some(sha256(&request.identity_key));
    let host = proved_host(&request, registry, facts)?;
    if host.revoked {
        return Err(Reason::HostRevoked);
    }
    let identity_key =
        PublicKey::from_spki_der(&request.identity_key).map_err(Reason::IdentityKey)?;
    if identity_key == host.host_key {
        return Err(Reason::IdentityKeyIsHostKey);
    }
    let identities = &host.identities;
    let transition = identities.present(request.kind, identity_key.digest(), now)?;
    Ok(Decision {
        kind: request.kind,
        identity_key,
        statement: HealthStatement {
            mode: AttestationMode::HostKey,
            host_id: host.host_id,
            issued_at: now,
            policy_digest: policy_digest(&host.host_key),
        },
        transition,
    })
}

/// The host that holds the key it claims.
fn proved_host(
    request: &HostKeyRequest,
    registry: &dyn HostRegistry,
    facts: &mut Facts,
) -> Result<RegisteredHost, Reason> {
    // A host key is known by its octets, so nothing of what a stranger sends is parsed as a key.
    let digest = sha256(&request.host_key);
    facts.host_key = Some(digest);
    let host = registry
        .host_with_key(&digest)
        .ok_or(Reason::HostNotRegistered)?;
    facts.host = Some(KnownHost {
        host_id: host.host_id,
        name: host.name.clone(),
    });
    let message = signed_octets(&request.host_key, &request.identity_key);
    let scheme = SignatureScheme::Pkcs1Sha256;
    host.host_key
        .verify(scheme, &message, &request.signature)
        .map_err(|_| Reason::HostKeySignature)?;
    facts.proved = true;
    Ok(host)
}

/// What a host in host-key mode is measured against: that it holds this key.
#[must_use]
pub fn policy_digest(host_key: &PublicKey) -> Sha256Digest {
    sha256_of(&[b"OpenHGS HostKey 1", host_key.digest()])
}
