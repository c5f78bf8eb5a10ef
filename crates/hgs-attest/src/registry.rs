//! What an attestation is decided from: the registered hosts, each known by a credential.

use std::sync::Arc;

use hgs_crypto::hash::{Sha256Digest, sha256_of};
use hgs_crypto::rsa::PublicKey;
use hgs_pki::health::HostId;
use hgs_tcg::tpm::EndorsementKey;

use crate::host_key;
use crate::identities::HostIdentities;
use crate::policy::PolicySet;

/// What a host proves that it holds. A mode of attestation looks for one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// The private half of this key ([MS-HGSA] 3.1.5.3).
    HostKey(PublicKey),
    /// The TPM with this endorsement key ([MS-HGSA] 3.1.5.1).
    EndorsementKey(Box<EndorsementKey>),
}

/// The name of a credential, by which a host is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CredentialId {
    /// SHA-256 of the host key's SubjectPublicKeyInfo.
    HostKey(Sha256Digest),
    /// SHA-256 of the endorsement key's TPMT_PUBLIC.
    EndorsementKey(Sha256Digest),
}

impl Credential {
    /// Its name.
    #[must_use]
    pub fn id(&self) -> CredentialId {
        match self {
            Self::HostKey(key) => CredentialId::HostKey(*key.digest()),
            Self::EndorsementKey(key) => CredentialId::EndorsementKey(key.digest()),
        }
    }
}

impl CredentialId {
    /// The SHA-256 that it is.
    #[must_use]
    pub fn digest(&self) -> &Sha256Digest {
        match self {
            Self::HostKey(digest) | Self::EndorsementKey(digest) => digest,
        }
    }

    /// The policy digest of the health certificates of the host with this credential, whichever signer made them: so a revocation
    /// reaches them all.
    #[must_use]
    pub fn policy_digest(&self) -> Sha256Digest {
        match self {
            Self::HostKey(host_key) => host_key::policy_digest(host_key),
            Self::EndorsementKey(endorsement_key) => {
                sha256_of(&[b"OpenHGS TPM 1", endorsement_key])
            }
        }
    }
}

/// A view of the registered hosts, at one moment.
pub trait HostRegistry {
    /// The host with that credential. Revoked hosts are hosts.
    fn host_with(&self, credential: &CredentialId) -> Option<RegisteredHost>;

    /// What the measurements of a host with a TPM are judged by: nothing, which refuses, unless a registry says more.
    fn policies_of(&self, host: &RegisteredHost) -> Arc<PolicySet> {
        let _ = host;
        Arc::new(PolicySet::default())
    }

    /// Whether healthy hosts may add what they will boot next to their own records: not unless a registry says so.
    fn accepts_next_boot_claims(&self) -> bool {
        false
    }
}

/// What the registry knows of a host.
#[derive(Debug, Clone)]
pub struct RegisteredHost {
    /// Its identifier, which stays when it is renamed.
    pub host_id: HostId,
    /// What administrators call it.
    pub name: String,
    /// What it proves that it holds.
    pub credential: Credential,
    /// Whether it is barred.
    pub revoked: bool,
    /// Whether it has returned a nonce before. Then it has to from now on.
    pub returns_nonces: bool,
    /// The identity keys it has attested with.
    pub identities: HostIdentities,
}
