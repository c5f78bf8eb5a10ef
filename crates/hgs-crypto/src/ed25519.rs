//! Ed25519 [RFC 8032].
//!
//! [RFC 8032]: https://www.rfc-editor.org/rfc/rfc8032

use std::fmt;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};

use crate::{CryptoError, Random, SecretBytes};

/// Octets of a private and of a public key.
pub const KEY_LENGTH: usize = 32;
/// Octets of a signature.
pub const SIGNATURE_LENGTH: usize = 64;

/// The public half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(pub [u8; KEY_LENGTH]);

/// The private half.
pub struct PrivateKey {
    key: Ed25519KeyPair,
    public: PublicKey,
}

impl PrivateKey {
    /// Draws a key.
    ///
    /// # Errors
    /// When the source of randomness fails.
    pub fn generate(random: &mut dyn Random) -> Result<Self, CryptoError> {
        Self::from_seed(&SecretBytes::random(KEY_LENGTH, random)?)
    }

    /// The key of a seed, the private key of RFC 8032 section 5.1.5.
    ///
    /// # Errors
    /// When the seed does not have 32 octets.
    pub fn from_seed(seed: &SecretBytes) -> Result<Self, CryptoError> {
        let key = Ed25519KeyPair::from_seed_unchecked(seed.expose()).map_err(|_| CryptoError)?;
        let public = key.public_key().as_ref().try_into();
        Ok(Self {
            public: PublicKey(public.map_err(|_| CryptoError)?),
            key,
        })
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs `message`.
    ///
    /// # Errors
    /// When the library fails.
    pub fn sign(&self, message: &[u8]) -> Result<[u8; SIGNATURE_LENGTH], CryptoError> {
        let signature = self.key.try_sign(message).map_err(|_| CryptoError)?;
        signature.as_ref().try_into().map_err(|_| CryptoError)
    }
}

impl PublicKey {
    /// Checks the signature of `message`.
    ///
    /// # Errors
    /// When it is not by this key.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        UnparsedPublicKey::new(&ED25519, self.0)
            .verify(message, signature)
            .map_err(|_| CryptoError)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PrivateKey({:?})", self.public)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{base64, hex};

    /// RFC 8032 section 7.1: tests 1 and 3.
    #[test]
    fn the_examples_of_rfc_8032() {
        for (seed, public, message, signature) in [
            (
                "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
                "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
                "",
                "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
            ),
            (
                "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
                "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
                "af82",
                "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
            ),
        ] {
            let seed = SecretBytes::new(hex::decode(seed).unwrap());
            let key = PrivateKey::from_seed(&seed).unwrap();
            let message = hex::decode(message).unwrap();
            assert_eq!(hex::encode(&key.public().0), public);
            assert_eq!(hex::encode(&key.sign(&message).unwrap()), signature);
        }
    }

    /// RFC 9421 section B.2.6: a signature of HTTP fields, by the key of section B.1.4.
    #[test]
    fn the_example_of_rfc_9421() {
        let seed = base64::decode("n4Ni+HpISpVObnQMW0wOhCKROaIKqKtW/2ZYb2p9KcU=").unwrap();
        let key = PrivateKey::from_seed(&SecretBytes::new(seed)).unwrap();
        let public = base64::encode(&key.public().0);
        assert_eq!(public, "JrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs=");
        let base = "\"date\": Tue, 20 Apr 2021 02:07:55 GMT\n\
            \"@method\": POST\n\
            \"@path\": /foo\n\
            \"@authority\": example.com\n\
            \"content-type\": application/json\n\
            \"content-length\": 18\n\
            \"@signature-params\": (\"date\" \"@method\" \"@path\" \"@authority\" \
            \"content-type\" \"content-length\");created=1618884473;keyid=\"test-key-ed25519\"";
        let signature = base64::encode(&key.sign(base.as_bytes()).unwrap());
        let published = "wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==";
        assert_eq!(signature, published);
    }

    #[test]
    fn anything_else_is_refused() {
        let key = PrivateKey::generate(&mut crate::random::System::new()).unwrap();
        let signature = key.sign(b"message").unwrap();
        assert_eq!(key.public().verify(b"message", &signature), Ok(()));
        assert!(key.public().verify(b"massage", &signature).is_err());
        assert!(key.public().verify(b"message", &signature[..63]).is_err());
        for place in [0, 31, 32, 63] {
            let mut changed = signature;
            changed[place] ^= 1;
            assert!(key.public().verify(b"message", &changed).is_err());
        }
        for length in [0, 31, 33] {
            assert!(PrivateKey::from_seed(&SecretBytes::new(vec![1; length])).is_err());
        }
    }
}
