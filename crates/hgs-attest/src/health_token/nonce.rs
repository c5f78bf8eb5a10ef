//! Nonces of requests for tokens: random, so that each can be used once, and with a time and a MAC, so that a server keeps only
//! those that were used.

use hgs_crypto::hash::HmacKey;
use hgs_crypto::random::{self, Random};
use hgs_crypto::{CryptoError, SecretBytes};
use hgs_pki::{Seconds, Time};

use super::refusal::TokenRefusal;
use crate::freshness::{NONCE_SKEW, Nonce};

/// How long a nonce is accepted. A host asks for one and returns it at once.
pub const NONCE_LIFETIME: Seconds = Seconds::from_minutes(1);

/// What the MAC is over, before the time. Nonces of attestation have a label of their own, so neither stands for the other.
const LABEL: &[u8] = b"OpenHGS health token nonce 1\0";

/// The first octet.
const VERSION: u8 = 2;

/// Random octets of a nonce.
const RANDOM: usize = 15;

/// The key under which a service makes its nonces, the same on each of its nodes.
#[derive(Debug)]
pub struct TokenNonceKey(HmacKey);

impl TokenNonceKey {
    /// `secret` may be that of the nonces of attestation: their labels differ.
    #[must_use]
    pub fn new(secret: &SecretBytes) -> Self {
        Self(HmacKey::new(secret))
    }

    /// A new nonce.
    ///
    /// # Errors
    /// When the source of randomness fails.
    pub fn nonce(&self, random: &mut dyn Random, now: Time) -> Result<Nonce, CryptoError> {
        let drawn: [u8; RANDOM] = random::array(random)?;
        let made = now.unix().to_be_bytes();
        let tag = self.0.tag(&[LABEL, &made, &drawn]);
        Ok(Nonce::of([&[VERSION][..], &made, &drawn, &tag].concat()))
    }

    /// When `nonce` was made, if it was made under this key and is neither old nor of the future.
    ///
    /// # Errors
    /// [`TokenRefusal::NonceForeign`] or [`TokenRefusal::NonceExpired`].
    pub fn check(&self, nonce: &Nonce, now: Time) -> Result<Time, TokenRefusal> {
        let parts = nonce.octets().split_first_chunk::<9>();
        let Some(([VERSION, made @ ..], rest)) = parts else {
            return Err(TokenRefusal::NonceForeign);
        };
        let Some((drawn, tag)) = rest.split_first_chunk::<RANDOM>() else {
            return Err(TokenRefusal::NonceForeign);
        };
        self.0
            .verify(&[LABEL, made, drawn], tag)
            .map_err(|_| TokenRefusal::NonceForeign)?;
        let made = Time::from_unix(i64::from_be_bytes(*made));
        let latest = now.checked_add(NONCE_SKEW).unwrap_or(Time::MAX);
        match now.since(made) {
            Some(age) if age > NONCE_LIFETIME => Err(TokenRefusal::NonceExpired { made, now }),
            None if made > latest => Err(TokenRefusal::NonceExpired { made, now }),
            _ => Ok(made),
        }
    }
}

#[cfg(test)]
mod tests {
    use hgs_crypto::random::System;

    use super::*;
    use crate::freshness::NonceKey;

    fn at(second: i64) -> Time {
        Time::from_unix(1_795_287_600 + second)
    }

    #[test]
    fn a_nonce_holds_for_a_minute_under_its_own_key_and_no_two_are_equal() {
        let secret = SecretBytes::new((0..32).collect());
        let key = TokenNonceKey::new(&secret);
        let nonce = key.nonce(&mut System::new(), at(0)).unwrap();
        assert_ne!(nonce, key.nonce(&mut System::new(), at(0)).unwrap());
        for second in [-60, 0, 60] {
            assert_eq!(key.check(&nonce, at(second)), Ok(at(0)), "{second}");
        }
        for second in [-61, 61] {
            let (made, now) = (at(0), at(second));
            let expired = Err(TokenRefusal::NonceExpired { made, now });
            assert_eq!(key.check(&nonce, now), expired);
        }
        let other = TokenNonceKey::new(&SecretBytes::new((1..33).collect()));
        assert_eq!(other.check(&nonce, at(0)), Err(TokenRefusal::NonceForeign));
        // One of attestation under the same secret is none, and neither is one that was altered anywhere.
        let of_attestation = NonceKey::new(&secret).nonce(at(0));
        let foreign = Err(TokenRefusal::NonceForeign);
        assert_eq!(key.check(&of_attestation, at(0)), foreign);
        for place in 0..nonce.octets().len() {
            let mut altered = nonce.octets().to_vec();
            altered[place] ^= 1;
            assert_eq!(key.check(&Nonce::of(altered), at(0)), foreign, "{place}");
        }
    }
}
