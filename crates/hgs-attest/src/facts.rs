//! What an attestation is recorded under.

use hgs_crypto::hash::Sha256Digest;
use hgs_pki::health::{HealthKind, HostId};

use crate::wire::SessionId;

/// What is known of an attestation so far; nothing in it is secret.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AttestationFacts {
    /// The session that the host names, unverified.
    pub session: Option<SessionId>,
    /// What the certificate is asked for.
    pub kind: Option<HealthKind>,
    /// SHA-256 of HostKeyPublicKey.
    pub host_key: Option<Sha256Digest>,
    /// SHA-256 of VirtualSecureModeIdentityKey.
    pub identity_key: Option<Sha256Digest>,
    /// The registered host whose key it is.
    pub host: Option<KnownHost>,
    /// Whether the host key's signature verified. Until then anybody can have named the host, so the refusal is
    /// counted and not recorded one by one.
    pub proved: bool,
}

/// A registered host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownHost {
    /// Its identifier, which stays.
    pub host_id: HostId,
    /// What administrators call it.
    pub name: String,
}
