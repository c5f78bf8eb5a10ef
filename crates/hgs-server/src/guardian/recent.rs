//! Health certificates of the last minute, so that a host which asks again and again is neither certified nor recorded
//! again and again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hgs_attest::issue::IssuedHealthCertificate;
use hgs_attest::{Grant, IdentityTransition};
use hgs_crypto::hash::Sha256Digest;
use hgs_pki::health::{HealthKind, HostId};
use hgs_pki::{Seconds, Thumbprint, Time};

/// For how long an attestation that is the same again is answered with the same certificate.
const PERIOD: Seconds = Seconds::from_minutes(1);

/// Certificates that are kept; more hosts than that in a minute are certified each time.
const MOST: usize = 16_384;

/// The same host with the same identity key for the same use. `SessionId` differs from request to request.
type Key = (HostId, HealthKind, Sha256Digest);

/// What was issued, and with which parameters.
#[derive(Debug, Clone)]
struct Recent {
    issued: IssuedHealthCertificate,
    record: u64,
    time: Time,
    parameters: IssuingParameters,
}

/// What the content of a health certificate depends on beside the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IssuingParameters {
    /// The signer that is in use.
    pub(crate) signer: Thumbprint,
    /// For how long certificates are valid.
    pub(crate) validity: u32,
}

/// The certificates of the last minute.
#[derive(Debug, Default)]
pub(crate) struct RecentCertificates(Mutex<HashMap<Key, Recent>>);

impl RecentCertificates {
    /// The certificate that answers `grant` too, and the number of its record. The grant was decided by a state that is
    /// as new as the request, so the host is still registered and its identity key still the current one.
    pub(crate) fn find(
        &self,
        grant: &Grant,
        parameters: IssuingParameters,
        now: Time,
    ) -> Option<(IssuedHealthCertificate, u64)> {
        if *grant.transition() != IdentityTransition::Unchanged {
            return None;
        }
        let recent = self.lock().get(&key(grant))?.clone();
        let is_recent = now.since(recent.time).is_some_and(|age| age < PERIOD);
        (is_recent && recent.parameters == parameters).then_some((recent.issued, recent.record))
    }

    /// Keeps a certificate that was issued now.
    pub(crate) fn keep(
        &self,
        issued: &IssuedHealthCertificate,
        record: u64,
        parameters: IssuingParameters,
        now: Time,
    ) {
        let mut recent = self.lock();
        if recent.len() >= MOST {
            recent.retain(|_, one| now.since(one.time).is_some_and(|age| age < PERIOD));
        }
        if recent.len() < MOST {
            recent.insert(
                key(issued.grant()),
                Recent {
                    issued: issued.clone(),
                    record,
                    time: now,
                    parameters,
                },
            );
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Recent>> {
        // Nothing between lock and unlock can panic half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(grant: &Grant) -> Key {
    let identity_key = *grant.identity_key().digest();
    (grant.host_id(), grant.kind(), identity_key)
}
