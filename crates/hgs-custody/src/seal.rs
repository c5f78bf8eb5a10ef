//! Secrets at rest: everything hangs from one [`MasterKey`].
//!
//! From the master key come keys for one purpose each (HKDF), used in two ways: a [`Sealer`]
//! encrypts a secret so that only its owner reads it, an [`Authenticator`] marks a record that may
//! be read by anyone, but not changed without the master key. Both bind what they protect to its purpose, its
//! name and its generation, so that a true value in the wrong place is as false as a forged one.

use hgs_crypto::hash::{HmacKey, hkdf_sha256};
use hgs_crypto::{CryptoError, Random, SecretBytes, aes};

/// Octets of a master key.
pub const MASTER_KEY_LENGTH: usize = 32;
/// Octets of an authentication tag.
pub const TAG_LENGTH: usize = 32;

/// An authentication tag: HMAC-SHA-256, full length.
pub type Tag = [u8; TAG_LENGTH];

/// The key under which all others lie.
#[derive(Debug, Clone)]
pub struct MasterKey(SecretBytes);

/// The octets are not a master key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MasterKeyProblem {
    /// Another length.
    #[error("a master key has {MASTER_KEY_LENGTH} octets, found {found}")]
    Length {
        /// How many octets there were.
        found: usize,
    },
    /// Octets that no source of randomness gives, such as 32 equal ones: a file that was filled in by hand, or emptied by
    /// a disk.
    #[error("a master key is random, and this one is not: its octets repeat, or count up")]
    NotRandom,
}

/// The octets were not sealed under this master key for this purpose, name and generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not sealed under this master key for this purpose, name and generation")]
pub struct Unsealable;

impl MasterKey {
    /// Draws a new master key.
    ///
    /// # Errors
    /// When the source of randomness fails.
    pub fn generate(random: &mut dyn Random) -> Result<Self, CryptoError> {
        SecretBytes::random(MASTER_KEY_LENGTH, random).map(Self)
    }

    /// Takes a master key of exactly 32 octets, which look random.
    ///
    /// # Errors
    /// [`MasterKeyProblem`].
    pub fn from_octets(octets: SecretBytes) -> Result<Self, MasterKeyProblem> {
        let key = Self::to_be_replaced(octets)?;
        match key.0.is_degenerate() {
            true => Err(MasterKeyProblem::NotRandom),
            false => Ok(key),
        }
    }

    /// Takes the 32 octets of a master key that is about to be replaced, random or not: what was sealed under a key that
    /// [`Self::from_octets`] refuses has to be opened once more to be sealed under another.
    ///
    /// # Errors
    /// [`MasterKeyProblem::Length`].
    pub fn to_be_replaced(octets: SecretBytes) -> Result<Self, MasterKeyProblem> {
        match octets.len() {
            MASTER_KEY_LENGTH => Ok(Self(octets)),
            found => Err(MasterKeyProblem::Length { found }),
        }
    }

    /// The octets, for the one file in which they are kept.
    #[must_use]
    pub fn octets(&self) -> &SecretBytes {
        &self.0
    }

    /// A key of 32 octets for one purpose.
    #[must_use]
    pub fn derive(&self, purpose: &str) -> SecretBytes {
        let info = format!("OpenHGS {purpose}");
        hkdf_sha256(&self.0, b"", info.as_bytes(), 32)
            .expect("HKDF-SHA-256 yields up to 8160 octets, and 32 are asked for")
    }

    /// A value that tells this master key from others and betrays nothing of it.
    #[must_use]
    pub fn identifier(&self) -> Tag {
        HmacKey::new(&self.derive("master-key identifier")).tag(&[])
    }

    /// Encrypts secrets of one purpose.
    #[must_use]
    pub fn sealer(&self, purpose: &'static str) -> Sealer {
        let key = self.derive(&format!("seal {purpose}"));
        Sealer { purpose, key }
    }

    /// Authenticates records of one purpose.
    #[must_use]
    pub fn authenticator(&self, purpose: &'static str) -> Authenticator {
        Authenticator(HmacKey::new(
            &self.derive(&format!("authenticate {purpose}")),
        ))
    }
}

/// Encrypts secrets of one purpose with AES-256-GCM; purpose, name and generation are the
/// additional data.
#[derive(Debug, Clone)]
pub struct Sealer {
    purpose: &'static str,
    key: SecretBytes,
}

impl Sealer {
    /// Seals `plaintext`: 12 octets of IV, the ciphertext, 16 octets of tag.
    ///
    /// # Errors
    /// When the source of randomness fails.
    pub fn seal(
        &self,
        name: &str,
        generation: u64,
        plaintext: &SecretBytes,
        random: &mut dyn Random,
    ) -> Result<Vec<u8>, CryptoError> {
        let place = self.place(name, generation);
        aes::gcm_seal(&self.key, &place, plaintext.expose(), random)
    }

    /// Opens what [`Self::seal`] made for the same name and generation.
    ///
    /// # Errors
    /// When it was not.
    pub fn open(
        &self,
        name: &str,
        generation: u64,
        sealed: &[u8],
    ) -> Result<SecretBytes, Unsealable> {
        let place = self.place(name, generation);
        aes::gcm_open(&self.key, &place, sealed).map_err(|CryptoError| Unsealable)
    }

    fn place(&self, name: &str, generation: u64) -> Vec<u8> {
        let mut place = Vec::new();
        for part in [
            self.purpose.as_bytes(),
            name.as_bytes(),
            &generation.to_be_bytes(),
        ] {
            place.extend_from_slice(&length_prefix(part));
            place.extend_from_slice(part);
        }
        place
    }
}

/// Authenticates records of one purpose with HMAC-SHA-256. Every part enters with its length, so
/// that no octet can move from one part to the next.
#[derive(Debug, Clone)]
pub struct Authenticator(HmacKey);

impl Authenticator {
    /// The tag of `parts`.
    #[must_use]
    pub fn tag<const N: usize>(&self, parts: [&[u8]; N]) -> Tag {
        framed(parts, |framed| self.0.tag(framed))
    }

    /// Checks `tag` in constant time.
    ///
    /// # Errors
    /// When it is not the tag of `parts`.
    pub fn verify<const N: usize>(&self, parts: [&[u8]; N], tag: &[u8]) -> Result<(), CryptoError> {
        framed(parts, |framed| self.0.verify(framed, tag))
    }
}

fn framed<const N: usize, T>(parts: [&[u8]; N], then: impl FnOnce(&[&[u8]]) -> T) -> T {
    let lengths = parts.map(length_prefix);
    let pairs: [[&[u8]; 2]; N] = std::array::from_fn(|i| [&lengths[i][..], parts[i]]);
    then(pairs.as_flattened())
}

fn length_prefix(part: &[u8]) -> [u8; 8] {
    (part.len() as u64).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use hgs_crypto::random::System;
    use proptest::prelude::*;

    use super::*;

    /// SHA-256 of nothing.
    fn master_key() -> MasterKey {
        let octets = SecretBytes::from(&hgs_crypto::hash::sha256(b"")[..]);
        MasterKey::from_octets(octets).unwrap()
    }

    /// HKDF by `openssl kdf -keylen 32 -kdfopt digest:SHA256 -kdfopt hexkey:SHA-256 of nothing
    /// -kdfopt info:"OpenHGS test" HKDF`: what lies in a store must be readable by the next
    /// version, so the derivation must never change.
    #[test]
    fn derivation_is_the_one_that_openssl_computes() {
        let derived = master_key().derive("test");
        let expected = "317da906b0b0a15ec85e91b6308acd39622b3f8257a45c209bedb8bcc4ca0beb";
        assert_eq!(hgs_crypto::hex::encode(derived.expose()), expected);
    }

    #[test]
    fn other_lengths_are_refused() {
        let error = MasterKey::from_octets(SecretBytes::new(vec![0; 31])).unwrap_err();
        assert_eq!(error, MasterKeyProblem::Length { found: 31 });
    }

    #[test]
    fn keys_that_no_source_of_randomness_gives_are_refused() {
        let text = *b"0123456789abcdef0123456789abcdef";
        let counting: [u8; 32] = std::array::from_fn(|place| place as u8);
        let steps: [u8; 32] = std::array::from_fn(|place| (place as u8).wrapping_mul(37));
        for octets in [
            [0; 32],
            [7; 32],
            [0xff; 32],
            text,
            counting,
            steps,
            *b"changeme changeme changeme chang",
        ] {
            let error = MasterKey::from_octets(SecretBytes::from(&octets[..])).unwrap_err();
            assert_eq!(error, MasterKeyProblem::NotRandom, "{octets:?}");
        }
        for _ in 0..1000 {
            MasterKey::from_octets(SecretBytes::random(32, &mut System::new()).unwrap()).unwrap();
        }
    }

    /// attacks.md K9.
    #[test]
    fn k9_debug_shows_no_key() {
        let master = master_key();
        assert_eq!(format!("{master:?}"), "MasterKey(SecretBytes(..))");
        let shown = format!("{:?}", master.sealer("x"));
        assert_eq!(shown, r#"Sealer { purpose: "x", key: SecretBytes(..) }"#);
        let shown = format!("{:?}", master.authenticator("x"));
        assert_eq!(shown, "Authenticator(HmacKey(..))");
    }

    #[test]
    fn a_tag_binds_the_borders_between_its_parts() {
        let authenticator = master_key().authenticator("test");
        let tag = authenticator.tag([b"ab", b"c"]);
        assert!(authenticator.verify([b"ab", b"c"], &tag).is_ok());
        assert!(authenticator.verify([b"a", b"bc"], &tag).is_err());
        assert!(authenticator.verify([b"abc"], &tag).is_err());
        let other = master_key().authenticator("toast");
        assert!(other.verify([b"ab", b"c"], &tag).is_err());
    }

    proptest! {
        #[test]
        fn sealed_secrets_open_in_their_own_place_only(
            secret: Vec<u8>, name: String, other: String, generation: u64,
        ) {
            let secret = SecretBytes::new(secret);
            let sealer = master_key().sealer("test");
            let sealed = sealer.seal(&name, generation, &secret, &mut System::new()).unwrap();
            prop_assert_eq!(sealer.open(&name, generation, &sealed), Ok(secret));
            let next = generation.wrapping_add(1);
            prop_assert_eq!(sealer.open(&name, next, &sealed), Err(Unsealable));
            if other != name {
                prop_assert_eq!(sealer.open(&other, generation, &sealed), Err(Unsealable));
            }
            let toast = master_key().sealer("toast");
            prop_assert_eq!(toast.open(&name, generation, &sealed), Err(Unsealable));
        }
    }
}
