//! Which nonces were used. Only requests of hosts in good standing are counted, so strangers fill nothing.
//!
//! Each node knows its own only. A request that is sent to another node too yields the token that the first one has issued, with the
//! same identifier and the same end.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use hgs_attest::freshness::{NONCE_SKEW, Nonce};
use hgs_attest::health_token::{NONCE_LIFETIME, TokenRefusal};
use hgs_crypto::hash::{Sha256Digest, sha256};
use hgs_pki::Time;
use hgs_pki::health::HostId;

/// Nonces that one host may have used and that still hold.
const MOST_OF_HOST: usize = 64;

/// The nonces that hosts have used and that still hold.
#[derive(Debug, Default)]
pub(super) struct UsedNonces(Mutex<Used>);

#[derive(Debug, Default)]
struct Used {
    /// Until when each nonce of each host holds.
    hosts: BTreeMap<HostId, BTreeMap<Sha256Digest, Time>>,
    /// When all hosts were last looked through for nonces that hold no more.
    swept: Option<Time>,
}

impl UsedNonces {
    /// Uses a nonce that holds at `now`.
    ///
    /// # Errors
    /// [`TokenRefusal::NonceUsed`], or [`TokenRefusal::TooManyRequests`].
    pub(super) fn take(&self, host: HostId, nonce: &Nonce, now: Time) -> Result<(), TokenRefusal> {
        // Nothing between lock and unlock can panic half-way through a change.
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.sweep(now);
        let used = all.hosts.entry(host).or_default();
        used.retain(|_, until| now <= *until);
        let nonce = sha256(nonce.to_header().as_bytes());
        if used.contains_key(&nonce) {
            return Err(TokenRefusal::NonceUsed);
        }
        if used.len() >= MOST_OF_HOST {
            return Err(TokenRefusal::TooManyRequests);
        }
        // It may have been made by a clock that is ahead.
        let until = now
            .checked_add(NONCE_LIFETIME)
            .and_then(|until| until.checked_add(NONCE_SKEW));
        used.insert(nonce, until.unwrap_or(Time::MAX));
        Ok(())
    }
}

impl Used {
    /// Forgets what holds no more. Once within the time that a nonce holds is enough to bound the memory.
    fn sweep(&mut self, now: Time) {
        let age = self.swept.and_then(|swept| now.since(swept));
        if age.is_some_and(|age| age < NONCE_LIFETIME) {
            return;
        }
        self.hosts.retain(|_, used| {
            used.retain(|_, until| now <= *until);
            !used.is_empty()
        });
        self.swept = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use hgs_attest::health_token::TokenNonceKey;
    use hgs_crypto::SecretBytes;
    use hgs_crypto::random::System;

    use super::*;

    #[test]
    fn a_nonce_is_used_once_and_one_host_fills_no_memory() {
        let at = |second: i64| Time::from_unix(1_795_287_600 + second);
        let key = TokenNonceKey::new(&SecretBytes::new((0..32).collect()));
        let nonce = || key.nonce(&mut System::new(), at(0)).unwrap();
        let (host, other) = (HostId::from_bytes([1; 16]), HostId::from_bytes([2; 16]));
        let used = UsedNonces::default();
        let first = nonce();
        assert_eq!(used.take(host, &first, at(0)), Ok(()));
        for second in [0, 60, 120] {
            let again = used.take(host, &first, at(second));
            assert_eq!(again, Err(TokenRefusal::NonceUsed), "{second}");
        }
        for _ in 1..MOST_OF_HOST {
            assert_eq!(used.take(host, &nonce(), at(1)), Ok(()));
        }
        let full = used.take(host, &nonce(), at(60));
        assert_eq!(full, Err(TokenRefusal::TooManyRequests));
        assert_eq!(used.take(other, &nonce(), at(60)), Ok(()));
        // None of those holds any more, so none has to be remembered.
        assert_eq!(used.take(other, &nonce(), at(1000)), Ok(()));
        assert_eq!(used.0.lock().unwrap().hosts.len(), 1);
    }
}
