//! The one type in which secrets live.

use std::fmt;

use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroizing;

use crate::{CryptoError, Random};

/// Octets that are wiped when dropped, never shown by `Debug`, and compared in constant time.
///
/// The octets never move after construction: there is no way to make the vector grow, so no copy
/// is left behind by a reallocation.
#[derive(Clone)]
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// Takes ownership of `octets`; the caller must not have left copies of them.
    #[must_use]
    pub fn new(octets: Vec<u8>) -> Self {
        Self(Zeroizing::new(octets))
    }

    /// Draws `length` fresh octets.
    ///
    /// # Errors
    /// When the source of randomness fails.
    pub fn random(length: usize, random: &mut dyn Random) -> Result<Self, CryptoError> {
        let mut octets = Zeroizing::new(vec![0; length]);
        random.fill(&mut octets)?;
        Ok(Self(octets))
    }

    /// The octets themselves. Each call is a place where a secret is looked at.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Number of octets.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether these are octets that no source of randomness gives: equal ones, text, or octets that count up. A key
    /// that comes from outside and is one was typed, emptied by a disk, or made by a program without randomness.
    ///
    /// Of 32 random octets some 30 are different. That at most half are, or that all stand at one distance, has a
    /// probability below 10⁻¹⁴. The time that this takes depends on the length alone.
    #[must_use]
    pub fn is_degenerate(&self) -> bool {
        let octets = self.expose();
        let repeats = octets.iter().enumerate().map(|(place, octet)| {
            let before = octets[..place].iter();
            before.fold(Choice::from(0), |seen, other| seen | other.ct_eq(octet))
        });
        let repeated: usize = repeats.map(|is| usize::from(is.unwrap_u8())).sum();
        let step = |pair: &[u8]| pair[1].wrapping_sub(pair[0]);
        let first = octets.windows(2).next().map_or(0, step);
        let one_distance = octets
            .windows(2)
            .fold(Choice::from(1), |one, pair| one & step(pair).ct_eq(&first));
        let too_few = octets.len() - repeated <= octets.len() / 2;
        too_few | bool::from(one_distance)
    }

    /// Whether there are no octets.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&[u8]> for SecretBytes {
    fn from(octets: &[u8]) -> Self {
        Self::new(octets.to_vec())
    }
}

impl PartialEq for SecretBytes {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for SecretBytes {}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SecretBytes(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing_of_the_secret() {
        let secret = SecretBytes::from(b"hunter2".as_slice());
        assert_eq!(format!("{secret:?}"), "SecretBytes(..)");
    }

    #[test]
    fn octets_that_no_source_of_randomness_gives_are_degenerate() {
        let text = *b"0123456789abcdef0123456789abcdef";
        let counting: [u8; 32] = std::array::from_fn(|place| place as u8);
        let steps: [u8; 32] = std::array::from_fn(|place| (place as u8).wrapping_mul(37));
        let halves: [u8; 32] = std::array::from_fn(|place| (place / 2 * 29) as u8);
        let [zeros, ones, sevens] = [0, 0xff, 7].map(|octet| [octet; 32]);
        for octets in [zeros, ones, sevens, text, counting, steps, halves] {
            let secret = SecretBytes::from(&octets[..]);
            assert!(secret.is_degenerate(), "{octets:?}");
        }
        // One more than half are different, and no key of a published test vector is among the degenerate.
        let mut just_enough = halves;
        just_enough[1] ^= 0x80;
        let digest = crate::hash::sha256(b"");
        for octets in [&just_enough[..], &digest, b"YELLOW SUBMARINE"] {
            assert!(!SecretBytes::from(octets).is_degenerate(), "{octets:?}");
        }
        for _ in 0..100 {
            let drawn = SecretBytes::random(32, &mut crate::random::System::new()).unwrap();
            assert!(!drawn.is_degenerate());
        }
    }

    #[test]
    fn equality_is_of_octets_and_length() {
        let secret = SecretBytes::from([1, 2, 3].as_slice());
        assert_eq!(secret, SecretBytes::from([1, 2, 3].as_slice()));
        assert_ne!(secret, SecretBytes::from([1, 2, 4].as_slice()));
        assert_ne!(secret, SecretBytes::from([1, 2].as_slice()));
    }
}
