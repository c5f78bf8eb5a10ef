//! What an attestation is recorded under.

use std::sync::Arc;

use hgs_crypto::hash::Sha256Digest;
use hgs_pki::health::{HealthKind, HostId};

use crate::policy::Measured;
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
    /// SHA-256 of the TPMT_PUBLIC of the endorsement key.
    pub endorsement_key: Option<Sha256Digest>,
    /// SHA-256 of VirtualSecureModeIdentityKey.
    pub identity_key: Option<Sha256Digest>,
    /// The registered host whose key it is.
    pub host: Option<KnownHost>,
    /// What its TPM proved about the boot, and how that was judged.
    pub measured: Option<Arc<Measured>>,
    /// Whether the host key's signature verified, or the TPM with the endorsement key answered. Until then anybody can have named the host, so the refusal is
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
