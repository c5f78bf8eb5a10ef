//! X25519 [RFC 7748].
//!
//! [RFC 7748]: https://www.rfc-editor.org/rfc/rfc7748

use aws_lc_rs::agreement::{self, UnparsedPublicKey, X25519};

use crate::{CryptoError, Random, SecretBytes};

/// Octets of a key of either kind, and of a shared secret.
pub const KEY_LENGTH: usize = 32;

/// The public half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(pub [u8; KEY_LENGTH]);

/// The private half: 32 octets, clamped when they are used.
#[derive(Debug, Clone)]
pub struct PrivateKey(SecretBytes);

impl PrivateKey {
    /// Draws a key.
    ///
    /// # Errors
    /// When the source of randomness fails.
    pub fn generate(random: &mut dyn Random) -> Result<Self, CryptoError> {
        SecretBytes::random(KEY_LENGTH, random).map(Self)
    }

    /// Takes a key of exactly 32 octets.
    ///
    /// # Errors
    /// For any other length.
    pub fn from_octets(octets: SecretBytes) -> Result<Self, CryptoError> {
        let fits = octets.len() == KEY_LENGTH;
        fits.then_some(Self(octets)).ok_or(CryptoError)
    }

    /// The public half.
    ///
    /// # Errors
    /// When the library fails.
    pub fn public(&self) -> Result<PublicKey, CryptoError> {
        let public = self
            .prepared()?
            .compute_public_key()
            .map_err(|_| CryptoError)?;
        let octets = public.as_ref().try_into().map_err(|_| CryptoError)?;
        Ok(PublicKey(octets))
    }

    /// The secret shared with the holder of the private key of `other`.
    ///
    /// # Errors
    /// When `other` is a point of small order, with which every key shares the same secret.
    pub fn agree(&self, other: &PublicKey) -> Result<SecretBytes, CryptoError> {
        let other = UnparsedPublicKey::new(&X25519, other.0);
        agreement::agree(&self.prepared()?, other, CryptoError, |shared| {
            Ok(SecretBytes::from(shared))
        })
    }

    fn prepared(&self) -> Result<agreement::PrivateKey, CryptoError> {
        agreement::PrivateKey::from_private_key(&X25519, self.0.expose()).map_err(|_| CryptoError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hex;

    fn octets(digits: &str) -> Vec<u8> {
        hex::decode(digits).unwrap()
    }

    /// RFC 7748 section 6.1: Bob's side of it.
    #[test]
    fn the_example_of_rfc_7748() {
        let private = "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb";
        let public = "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f";
        let alice = "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a";
        let shared = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742";
        let bob = PrivateKey::from_octets(SecretBytes::new(octets(private))).unwrap();
        assert_eq!(bob.public().unwrap().0[..], octets(public));
        let alice = PublicKey(octets(alice).try_into().unwrap());
        assert_eq!(bob.agree(&alice).unwrap().expose(), octets(shared));
    }

    #[test]
    fn two_keys_share_one_secret() {
        let mut random = crate::random::System::new();
        let [one, other] = [(); 2].map(|()| PrivateKey::generate(&mut random).unwrap());
        let secret = one.agree(&other.public().unwrap());
        assert_eq!(secret, other.agree(&one.public().unwrap()));
    }

    #[test]
    fn points_of_small_order_and_other_lengths_are_refused() {
        let key = PrivateKey::generate(&mut crate::random::System::new()).unwrap();
        assert_eq!(key.agree(&PublicKey([0; 32])), Err(CryptoError));
        for length in [0, 31, 33] {
            assert!(PrivateKey::from_octets(SecretBytes::new(vec![1; length])).is_err());
        }
    }
}
