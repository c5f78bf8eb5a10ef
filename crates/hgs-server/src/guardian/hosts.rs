//! The registry of hosts as attestation asks for it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use hgs_attest::policy::PolicySet;
use hgs_attest::{Credential, CredentialId, RegisteredHost};
use hgs_store::{Host, State};
use tracing::error;

/// The hosts of one state.
pub(crate) struct Registry<'a> {
    pub(crate) state: &'a State,
    pub(crate) credentials: &'a Credentials,
}

/// Credentials of hosts that were read, by their names, so that none is read twice. What stands for a name never
/// changes, so nothing here can be out of date.
#[derive(Debug, Default)]
pub(crate) struct Credentials(Mutex<BTreeMap<CredentialId, Credential>>);

/// Credentials that are kept; more than most sites have hosts.
const MOST_CREDENTIALS: usize = 16_384;

impl hgs_attest::HostRegistry for Registry<'_> {
    fn host_with(&self, credential: &CredentialId) -> Option<RegisteredHost> {
        let host = self.state.host_by_credential(credential)?;
        Some(RegisteredHost {
            host_id: host.id,
            name: host.name.to_string(),
            credential: self.credentials.read(credential, host)?,
            revoked: host.revoked.is_some(),
            returns_nonces: host.returns_nonces,
            identities: self.state.identities(&host.id),
        })
    }

    fn policies_of(&self, host: &RegisteredHost) -> Arc<PolicySet> {
        let Some(host) = self.state.host(&host.host_id) else {
            return Arc::default();
        };
        // A set that can't be made refuses.
        self.state.policy_set_of(host).unwrap_or_else(|error| {
            error!(host = %host.name, %error, "a host can't be judged, and is refused");
            Arc::default()
        })
    }

    fn accepts_next_boot_claims(&self) -> bool {
        self.state.settings().accept_next_boot_claims
    }
}

impl Credentials {
    /// The credential of `host`, whose name is `id`.
    fn read(&self, id: &CredentialId, host: &Host) -> Option<Credential> {
        if let Some(known) = self.lock().get(id) {
            return Some(known.clone());
        }
        let Some(credential) = host.credential.read() else {
            error!(host = %host.id, "a host's key can't be read");
            return None;
        };
        let mut known = self.lock();
        if known.len() >= MOST_CREDENTIALS {
            known.clear();
        }
        known.insert(*id, credential.clone());
        Some(credential)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<CredentialId, Credential>> {
        // Nothing between lock and unlock can panic half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
