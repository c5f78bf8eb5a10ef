//! The sealed state: what the server has to remember between two requests travels with the host, encrypted. Which session and
//! which endorsement key it belongs to is part of what is sealed, so that a context that was altered and one that belongs to
//! another are told apart.

use std::sync::{Mutex, PoisonError};

use hgs_crypto::hash::hkdf_sha256;
use hgs_crypto::{CryptoError, Random, SecretBytes, aes};
use hgs_pki::{Seconds, Time};

use super::exchange::{Binding, Exchange};

/// How long after it was made a context is accepted.
pub const CONTEXT_LIFETIME: Seconds = Seconds::new(120);

/// How far the clock of the node that made a context may be ahead of the one that reads it.
pub const CONTEXT_SKEW: Seconds = Seconds::new(60);

/// The additional data.
const LABEL: &[u8] = b"OpenHGS RTPM 1";

/// What the keys are derived for; the number of a day follows.
const KEY_LABEL: &[u8] = b"OpenHGS RTPM context keys 1\0";

const KEY_ID: usize = 16;
const DAY: i64 = 24 * 60 * 60;

/// The secret under which a service seals its contexts, the same on each of its nodes. Each day has a key of its own, so
/// that no key seals more than random nonces allow.
#[derive(Debug)]
pub struct ContextKey {
    secret: SecretBytes,
    /// The keys of the days that contexts were of lately.
    days: Mutex<Vec<KeyOfDay>>,
}

/// The key of one day (of 86,400 seconds since 1970), and its name.
#[derive(Debug, Clone)]
struct KeyOfDay {
    day: i64,
    id: [u8; KEY_ID],
    key: SecretBytes,
}

/// Keys of days that are kept: a context is of yesterday, today or tomorrow.
const KEPT_DAYS: usize = 3;

/// Why a sealed state was not opened. The sender is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealedStateError {
    /// No key of this service sealed it.
    #[error("the context was not made by this guardian, or was made days ago")]
    Foreign,
    /// The key is ours, and the seal does not hold.
    #[error("the context was altered after this guardian had made it")]
    Altered,
    /// It was made for another TPM.
    #[error("the context was made for another host: its endorsement key is another")]
    OtherHost,
    /// It was made in another exchange.
    #[error("the context was made in another session")]
    OtherSession,
    /// It is for another kind of certificate.
    #[error("the context was made for a certificate of another kind")]
    OtherKind,
    /// It is too old, or was made in the future.
    #[error(
        "the context was made at {made}; it is {now} here, and a context is accepted for 120 seconds"
    )]
    Expired {
        /// When it was made, by the clock of the node that made it.
        made: Time,
        /// The time of the check.
        now: Time,
    },
}

impl ContextKey {
    /// `secret` is used for nothing else.
    #[must_use]
    pub fn new(secret: SecretBytes) -> Self {
        Self {
            secret,
            days: Mutex::default(),
        }
    }

    /// EncStateObject ([MS-HGSA] 2.2.2.26): the key's name, the nonce, four zero octets, the length of what follows,
    /// ciphertext and tag.
    pub(super) fn seal(
        &self,
        exchange: &Exchange,
        now: Time,
        random: &mut dyn Random,
    ) -> Result<Vec<u8>, CryptoError> {
        let KeyOfDay { id, key, .. } = self.of_day(now.unix().div_euclid(DAY))?;
        let state = exchange.to_octets(now);
        let sealed = aes::gcm_seal(&key, LABEL, state.expose(), random)?;
        let (nonce, ciphertext) = sealed.split_at(aes::IV_LENGTH);
        let length = u32::try_from(ciphertext.len()).map_err(|_| CryptoError)?;
        Ok([&id[..], nonce, &[0; 4], &length.to_le_bytes(), ciphertext].concat())
    }

    /// The state of an exchange that was sealed for `binding` at most [`CONTEXT_LIFETIME`] ago.
    pub(super) fn open(
        &self,
        sealed: &[u8],
        binding: Binding,
        now: Time,
    ) -> Result<Exchange, SealedStateError> {
        let (id, rest) = split::<KEY_ID>(sealed)?;
        let (nonce, rest) = split::<{ aes::IV_LENGTH }>(rest)?;
        let (zero, rest) = split::<4>(rest)?;
        // The length, which the reader of the context has checked.
        let (_, ciphertext) = split::<4>(rest)?;
        if zero != [0; 4] {
            return Err(SealedStateError::Altered);
        }
        let key = self.named(&id, now)?;
        let sealed = [&nonce[..], ciphertext].concat();
        let state = aes::gcm_open(&key, LABEL, &sealed).map_err(|_| SealedStateError::Altered)?;
        // What was sealed by a node of another version.
        let (exchange, made) =
            Exchange::from_octets(&state).map_err(|_| SealedStateError::Foreign)?;
        if exchange.binding.endorsement_key != binding.endorsement_key {
            return Err(SealedStateError::OtherHost);
        }
        if exchange.binding.session != binding.session {
            return Err(SealedStateError::OtherSession);
        }
        let latest = now.checked_add(CONTEXT_SKEW).unwrap_or(Time::MAX);
        match now.since(made) {
            Some(age) if age > CONTEXT_LIFETIME => Err(SealedStateError::Expired { made, now }),
            None if made > latest => Err(SealedStateError::Expired { made, now }),
            _ => Ok(exchange),
        }
    }

    /// The key with that name, of today, yesterday or tomorrow.
    fn named(&self, id: &[u8; KEY_ID], now: Time) -> Result<SecretBytes, SealedStateError> {
        let today = now.unix().div_euclid(DAY);
        let keys = [today, today - 1, today + 1].into_iter();
        let mut keys = keys.filter_map(|day| self.of_day(day).ok());
        let found = keys.find(|of_day| of_day.id == *id);
        found
            .map(|of_day| of_day.key)
            .ok_or(SealedStateError::Foreign)
    }

    fn of_day(&self, day: i64) -> Result<KeyOfDay, CryptoError> {
        // Nothing between lock and unlock can panic half-way through a change.
        let mut days = self.days.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = days.iter().find(|known| known.day == day) {
            return Ok(known.clone());
        }
        let derived = self.derived(day)?;
        if days.len() >= KEPT_DAYS {
            days.remove(0);
        }
        days.push(derived.clone());
        Ok(derived)
    }

    fn derived(&self, day: i64) -> Result<KeyOfDay, CryptoError> {
        let information = [KEY_LABEL, &day.to_be_bytes()].concat();
        let derived = hkdf_sha256(&self.secret, b"", &information, KEY_ID + aes::KEY_LENGTH)?;
        let (id, key) = derived
            .expose()
            .split_first_chunk::<KEY_ID>()
            .ok_or(CryptoError)?;
        Ok(KeyOfDay {
            day,
            id: *id,
            key: SecretBytes::from(key),
        })
    }
}

fn split<const N: usize>(octets: &[u8]) -> Result<([u8; N], &[u8]), SealedStateError> {
    let (first, rest) = octets
        .split_first_chunk()
        .ok_or(SealedStateError::Altered)?;
    Ok((*first, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys that are kept are those that would be derived, whatever other days were asked for meanwhile.
    #[test]
    fn a_key_of_a_day_is_the_same_whether_it_was_kept_or_not() {
        let secret = || SecretBytes::new((7..39).collect());
        let lasting = ContextKey::new(secret());
        for day in [5, 6, 5, 4, 5, 100, 6, -1, 4, 5] {
            let (kept, new) = (lasting.of_day(day), ContextKey::new(secret()).of_day(day));
            let (kept, new) = (kept.unwrap(), new.unwrap());
            assert_eq!((kept.day, kept.id), (day, new.id));
            assert_eq!(kept.key, new.key);
        }
        assert_eq!(lasting.days.lock().unwrap().len(), KEPT_DAYS);
    }
}
