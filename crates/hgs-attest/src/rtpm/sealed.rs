//! The sealed state: what the server has to remember between two requests travels with the host, encrypted. Which session and
//! which endorsement key it belongs to is part of what is sealed, so that a context that was altered and one that belongs to
//! another are told apart.

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
pub struct ContextKey(SecretBytes);

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
        Self(secret)
    }

    /// EncStateObject ([MS-HGSA] 2.2.2.26): the key's name, the nonce, four zero octets, the length of what follows,
    /// ciphertext and tag.
    pub(super) fn seal(
        &self,
        exchange: &Exchange,
        now: Time,
        random: &mut dyn Random,
    ) -> Result<Vec<u8>, CryptoError> {
        let (id, key) = self.of_day(now.unix().div_euclid(DAY))?;
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
        let found = keys.find(|(name, _)| name == id);
        found.map(|(_, key)| key).ok_or(SealedStateError::Foreign)
    }

    fn of_day(&self, day: i64) -> Result<([u8; KEY_ID], SecretBytes), CryptoError> {
        let information = [KEY_LABEL, &day.to_be_bytes()].concat();
        let derived = hkdf_sha256(&self.0, b"", &information, KEY_ID + aes::KEY_LENGTH)?;
        let (id, key) = derived
            .expose()
            .split_first_chunk::<KEY_ID>()
            .ok_or(CryptoError)?;
        Ok((*id, SecretBytes::from(key)))
    }
}

fn split<const N: usize>(octets: &[u8]) -> Result<([u8; N], &[u8]), SealedStateError> {
    let (first, rest) = octets
        .split_first_chunk()
        .ok_or(SealedStateError::Altered)?;
    Ok((*first, rest))
}
