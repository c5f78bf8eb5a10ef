//! Tokens of the last minute, so that a host which asks again and again fills neither the audit log nor a processor.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hgs_attest::health_token::{Audience, IssuedToken, ProvedRequest};
use hgs_pki::{Seconds, Thumbprint, Time};

use super::SignedToken;

/// For how long a request that is alike is answered with the same token.
const PERIOD: Seconds = Seconds::from_minutes(1);

/// Tokens that are kept; beyond that each request is recorded.
const MOST: usize = 16_384;

/// The same health certificate, and so the same host and the same key, for the same audience.
type Key = (Thumbprint, Audience);

#[derive(Debug, Clone)]
struct Recent {
    token: IssuedToken,
    signer: Thumbprint,
    record: u64,
    time: Time,
}

/// The tokens of the last minute.
#[derive(Debug, Default)]
pub(super) struct RecentTokens(Mutex<HashMap<Key, Recent>>);

impl RecentTokens {
    /// The token that answers `request` too, if it is of the signer that signs now, and the number of its record. The host may
    /// have it: that was just decided.
    pub(super) fn find(
        &self,
        request: &ProvedRequest,
        signer: Option<Thumbprint>,
        now: Time,
    ) -> Option<(IssuedToken, u64)> {
        let recent = self.lock().get(&key(request)).cloned()?;
        let answers = is_recent(&recent, now) && signer == Some(recent.signer);
        answers.then_some((recent.token, recent.record))
    }

    /// Keeps a token that was issued now.
    pub(super) fn keep(
        &self,
        request: &ProvedRequest,
        signed: &SignedToken,
        record: u64,
        now: Time,
    ) {
        let mut recent = self.lock();
        if recent.len() >= MOST {
            recent.retain(|_, one| is_recent(one, now));
        }
        if recent.len() < MOST {
            let one = Recent {
                token: signed.token.clone(),
                signer: signed.signer,
                record,
                time: now,
            };
            recent.insert(key(request), one);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Recent>> {
        // Nothing between lock and unlock can panic half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_recent(recent: &Recent, now: Time) -> bool {
    now.since(recent.time).is_some_and(|age| age < PERIOD)
}

fn key(request: &ProvedRequest) -> Key {
    let certificate = request.certificate().certificate();
    (certificate.thumbprint(), request.audience().clone())
}
