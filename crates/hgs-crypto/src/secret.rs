//! The one type in which secrets live.

use std::fmt;

use subtle::ConstantTimeEq;
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
    fn equality_is_of_octets_and_length() {
        let secret = SecretBytes::from([1, 2, 3].as_slice());
        assert_eq!(secret, SecretBytes::from([1, 2, 3].as_slice()));
        assert_ne!(secret, SecretBytes::from([1, 2, 4].as_slice()));
        assert_ne!(secret, SecretBytes::from([1, 2].as_slice()));
    }
}
