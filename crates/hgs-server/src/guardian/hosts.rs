//! The registry of hosts as attestation asks for it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use hgs_attest::{Credential, CredentialId, RegisteredHost};
use hgs_crypto::rsa::PublicKey;
use hgs_store::{Digest, Host, State};
use tracing::error;

/// The hosts of one state.
pub(crate) struct Registry<'a> {
    pub(crate) state: &'a State,
    pub(crate) keys: &'a HostKeys,
}

/// Host keys that were read, by the digest of their octets, so that none is read twice. What stands for a digest never
/// changes, so nothing here can be out of date.
#[derive(Debug, Default)]
pub(crate) struct HostKeys(Mutex<BTreeMap<Digest, PublicKey>>);

/// Keys that are kept; more than most sites have hosts.
const MOST_KEYS: usize = 16_384;

impl hgs_attest::HostRegistry for Registry<'_> {
    fn host_with(&self, credential: &CredentialId) -> Option<RegisteredHost> {
        let CredentialId::HostKey(digest) = credential else {
            return None;
        };
        let host = self.state.host_by_key(&Digest::from_bytes(*digest))?;
        Some(RegisteredHost {
            host_id: host.id,
            name: host.name.to_string(),
            credential: Credential::HostKey(self.keys.read(host)?),
            revoked: host.revoked.is_some(),
            returns_nonces: host.returns_nonces,
            identities: self.state.identities(&host.id),
        })
    }
}

impl HostKeys {
    fn read(&self, host: &Host) -> Option<PublicKey> {
        let digest = host.host_key_digest();
        if let Some(key) = self.lock().get(&digest) {
            return Some(key.clone());
        }
        let key = PublicKey::from_spki_der(host.host_key())
            .inspect_err(|error| error!(host = %host.id, %error, "a host's key can't be read"))
            .ok()?;
        let mut keys = self.lock();
        if keys.len() >= MOST_KEYS {
            keys.clear();
        }
        keys.insert(digest, key.clone());
        Some(key)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Digest, PublicKey>> {
        // Nothing between lock and unlock can panic half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
