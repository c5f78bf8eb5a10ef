//! Public keys, parsed and checked once, then ready for both uses.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{Digest, SHA256};
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rsa::{
    OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OaepAlgorithm, OaepPublicEncryptingKey,
    PublicEncryptingKey,
};
use aws_lc_rs::signature::{ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256};

use super::{MAX_MODULUS_BITS, MIN_MODULUS_BITS, OaepHash, SignatureScheme, Weakness, spki, weak};
use crate::hash::{Sha256Digest, sha256};
use crate::{CryptoError, SecretBytes};

/// An RSA public key of 2048 to 8192 bits whose exponent is at least 65537 and whose modulus
/// shows none of the known weaknesses. Cloning shares the prepared key.
#[derive(Clone)]
pub struct PublicKey(Arc<Prepared>);

struct Prepared {
    subject_public_key_info: Vec<u8>,
    digest: Sha256Digest,
    modulus: Vec<u8>,
    exponent: Vec<u8>,
    modulus_bits: usize,
    pkcs1: ParsedPublicKey,
    pss: ParsedPublicKey,
    encrypting: OaepPublicEncryptingKey,
}

/// Why octets are not an acceptable RSA public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublicKeyError {
    /// Not the DER of a SubjectPublicKeyInfo with an RSA key, or a re-encoding would differ.
    #[error("not an RSA SubjectPublicKeyInfo in DER")]
    Malformed,
    /// The modulus is too short or too long.
    #[error("RSA modulus has {0} bits; 2048 to 8192 are accepted")]
    ModulusBits(usize),
    /// The exponent is below 65537, above 32 bits, or even.
    #[error("RSA exponent is not an odd number from 65537 to 4294967295")]
    Exponent,
    /// The modulus can be factored with a known method.
    #[error("weak RSA key: {0}")]
    Weak(Weakness),
}

/// When a key is searched for weaknesses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Examination {
    Now,
    Later,
}

impl PublicKey {
    /// Parses and checks the DER of a `SubjectPublicKeyInfo` (RFC 5280 section 4.1.2.7) with
    /// algorithm rsaEncryption. This is slow by design (a fraction of a millisecond): keep the
    /// result.
    pub fn from_spki_der(der: &[u8]) -> Result<Self, PublicKeyError> {
        Self::read(der, Examination::Now)
    }

    /// As [`Self::from_spki_der`] without the search for weaknesses, which is most of the work: for verifying a signature
    /// that comes with its key. Before anything else is done with the key, [`Self::examine`] it.
    ///
    /// # Errors
    /// All of [`PublicKeyError`] but [`PublicKeyError::Weak`].
    pub fn unexamined_from_spki_der(der: &[u8]) -> Result<Self, PublicKeyError> {
        Self::read(der, Examination::Later)
    }

    /// Searches the modulus for known weaknesses.
    ///
    /// # Errors
    /// [`PublicKeyError::Weak`].
    pub fn examine(&self) -> Result<(), PublicKeyError> {
        weak::check(self.modulus()).map_err(PublicKeyError::Weak)
    }

    fn read(der: &[u8], examination: Examination) -> Result<Self, PublicKeyError> {
        // The numbers come first, so that a short key is refused as short and not as malformed.
        let numbers =
            aws_lc_rs::rsa::PublicKey::from_der(der).map_err(|_| PublicKeyError::Malformed)?;
        let modulus = numbers.modulus().big_endian_without_leading_zero();
        let exponent = numbers.exponent().big_endian_without_leading_zero();
        let modulus_bits = check_numbers(modulus, exponent)?;
        if examination == Examination::Now {
            weak::check(modulus).map_err(PublicKeyError::Weak)?;
        }
        let encrypting =
            PublicEncryptingKey::from_der(der).map_err(|_| PublicKeyError::Malformed)?;
        let canonical = AsDer::<PublicKeyX509Der<'_>>::as_der(&encrypting)
            .map_err(|_| PublicKeyError::Malformed)?;
        // One key, one encoding: thumbprints and registrations compare octets.
        if canonical.as_ref() != der {
            return Err(PublicKeyError::Malformed);
        }
        Self::prepare(der, modulus, exponent, modulus_bits, encrypting)
            .map_err(|_| PublicKeyError::Malformed)
    }

    fn prepare(
        der: &[u8],
        modulus: &[u8],
        exponent: &[u8],
        modulus_bits: usize,
        encrypting: PublicEncryptingKey,
    ) -> Result<Self, CryptoError> {
        Ok(Self(Arc::new(Prepared {
            subject_public_key_info: der.to_vec(),
            digest: sha256(der),
            modulus: modulus.to_vec(),
            exponent: exponent.to_vec(),
            modulus_bits,
            pkcs1: ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, der)
                .map_err(|_| CryptoError)?,
            pss: ParsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, der).map_err(|_| CryptoError)?,
            encrypting: OaepPublicEncryptingKey::new(encrypting).map_err(|_| CryptoError)?,
        })))
    }

    /// Makes a key of its modulus and exponent, both big-endian, with or without leading zeros.
    pub fn from_numbers(modulus: &[u8], exponent: &[u8]) -> Result<Self, PublicKeyError> {
        let digits = |number: &[u8]| {
            let zeros = number.iter().take_while(|octet| **octet == 0).count();
            number[zeros..].to_vec()
        };
        let (modulus, exponent) = (digits(modulus), digits(exponent));
        // Here too, because the library's parser has no names for what it refuses.
        check_numbers(&modulus, &exponent)?;
        Self::from_spki_der(&spki::encode(&modulus, &exponent))
    }

    /// The DER this key was made from.
    #[must_use]
    pub fn spki_der(&self) -> &[u8] {
        &self.0.subject_public_key_info
    }

    /// SHA-256 of [`Self::spki_der`].
    #[must_use]
    pub fn digest(&self) -> &Sha256Digest {
        &self.0.digest
    }

    /// The modulus, big-endian and without leading zeros.
    #[must_use]
    pub fn modulus(&self) -> &[u8] {
        &self.0.modulus
    }

    /// The public exponent, big-endian and without leading zeros.
    #[must_use]
    pub fn exponent(&self) -> &[u8] {
        &self.0.exponent
    }

    /// Bits of the modulus.
    #[must_use]
    pub fn modulus_bits(&self) -> usize {
        self.0.modulus_bits
    }

    /// Octets of a signature or ciphertext.
    #[must_use]
    pub fn modulus_octets(&self) -> usize {
        self.0.modulus_bits.div_ceil(8)
    }

    /// Verifies a signature over `message`.
    ///
    /// # Errors
    /// When the signature is not by this key over this message under this scheme.
    pub fn verify(
        &self,
        scheme: SignatureScheme,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), CryptoError> {
        self.parsed(scheme)
            .verify_sig(message, signature)
            .map_err(|_| CryptoError)
    }

    /// As [`Self::verify`], over a message of which the SHA-256 digest is known.
    ///
    /// # Errors
    /// When the signature is not by this key over such a message under this scheme.
    pub fn verify_digest(
        &self,
        scheme: SignatureScheme,
        digest: &Sha256Digest,
        signature: &[u8],
    ) -> Result<(), CryptoError> {
        Digest::import_less_safe(digest, &SHA256)
            .and_then(|digest| self.parsed(scheme).verify_digest_sig(&digest, signature))
            .map_err(|_| CryptoError)
    }

    fn parsed(&self, scheme: SignatureScheme) -> &ParsedPublicKey {
        match scheme {
            SignatureScheme::Pkcs1Sha256 => &self.0.pkcs1,
            SignatureScheme::PssSha256 => &self.0.pss,
        }
    }

    /// Encrypts with RSA-OAEP and an empty label.
    ///
    /// # Errors
    /// When the plaintext is longer than the key allows (190 octets for 2048 bits and SHA-256).
    pub fn encrypt_oaep(
        &self,
        hash: OaepHash,
        plaintext: &SecretBytes,
    ) -> Result<Vec<u8>, CryptoError> {
        self.encrypt_oaep_with_label(hash, b"", plaintext)
    }

    /// Encrypts with RSA-OAEP. A label of TPM 2.0 ends with a zero octet, which is part of it.
    ///
    /// # Errors
    /// When the plaintext is longer than the key allows (190 octets for 2048 bits and SHA-256).
    pub fn encrypt_oaep_with_label(
        &self,
        hash: OaepHash,
        label: &[u8],
        plaintext: &SecretBytes,
    ) -> Result<Vec<u8>, CryptoError> {
        let mut ciphertext = vec![0; self.0.encrypting.ciphertext_size()];
        let label = (!label.is_empty()).then_some(label);
        let length = self
            .0
            .encrypting
            .encrypt(oaep(hash), plaintext.expose(), &mut ciphertext, label)
            .map_err(|_| CryptoError)?
            .len();
        ciphertext.truncate(length);
        Ok(ciphertext)
    }
}

pub(super) fn oaep(hash: OaepHash) -> &'static OaepAlgorithm {
    match hash {
        OaepHash::Sha1 => &OAEP_SHA1_MGF1SHA1,
        OaepHash::Sha256 => &OAEP_SHA256_MGF1SHA256,
    }
}

fn check_numbers(modulus: &[u8], exponent: &[u8]) -> Result<usize, PublicKeyError> {
    let unused = modulus
        .first()
        .map_or(0, |octet| octet.leading_zeros() as usize);
    let bits = modulus.len() * 8 - unused;
    if !(MIN_MODULUS_BITS..=MAX_MODULUS_BITS).contains(&bits) {
        return Err(PublicKeyError::ModulusBits(bits));
    }
    let exponent = match exponent {
        [a, b, c, d] => u32::from_be_bytes([*a, *b, *c, *d]),
        [b, c, d] => u32::from_be_bytes([0, *b, *c, *d]),
        _ => return Err(PublicKeyError::Exponent),
    };
    if exponent < 65537 || exponent.is_multiple_of(2) {
        return Err(PublicKeyError::Exponent);
    }
    Ok(bits)
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.digest == other.0.digest
    }
}

impl Eq for PublicKey {}

impl fmt::Debug for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digest = crate::hex::encode(&self.0.digest);
        write!(
            formatter,
            "PublicKey(RSA-{}, {digest})",
            self.0.modulus_bits
        )
    }
}

#[cfg(test)]
mod tests {
    use num_bigint::BigUint;

    use super::*;

    fn refused(modulus: &BigUint) -> PublicKeyError {
        PublicKey::from_spki_der(&spki::encode(&modulus.to_bytes_be(), &[1, 0, 1])).unwrap_err()
    }

    #[test]
    fn sizes_out_of_range_are_refused_with_their_bits() {
        let two = BigUint::from(2u32);
        let error = refused(&(two.pow(2046) + 1u32));
        assert_eq!(error, PublicKeyError::ModulusBits(2047));
        let error = refused(&(two.pow(8192) + 1u32));
        assert_eq!(error, PublicKeyError::ModulusBits(8193));
    }

    /// attacks.md A17: the reason stays visible through all layers.
    #[test]
    fn a17_weak_moduli_are_refused_by_name() {
        let roca = BigUint::from(65537u32).pow(128);
        assert_eq!(refused(&roca), PublicKeyError::Weak(Weakness::Roca));
        let three = BigUint::from(3u32).pow(1300);
        let error = PublicKeyError::Weak(Weakness::SmallFactor(3));
        assert_eq!(refused(&three), error);
        let even = BigUint::from(2u32).pow(2047) + 2u32;
        assert_eq!(refused(&even), PublicKeyError::Malformed);
    }

    /// The other encoder is the library's.
    #[test]
    fn a_key_of_its_numbers_is_the_same_key() {
        let key = crate::rsa::PrivateKey::generate(2048).unwrap();
        let public = key.public();
        let exponent = [1, 0, 1];
        let padded = [&[0, 0], public.modulus()].concat();
        for modulus in [public.modulus(), &padded] {
            let again = PublicKey::from_numbers(modulus, &exponent).unwrap();
            assert_eq!(again.spki_der(), public.spki_der());
        }
        for exponent in [&[][..], &[0], &[3], &[1, 0, 0, 0, 1], &[0; 257]] {
            let error = PublicKey::from_numbers(public.modulus(), exponent).unwrap_err();
            assert_eq!(error, PublicKeyError::Exponent, "{exponent:?}");
        }
        for octets in [0, 1, 255, 1025, 1_000_000] {
            let error = PublicKey::from_numbers(&vec![0xff; octets], &exponent).unwrap_err();
            assert_eq!(error, PublicKeyError::ModulusBits(octets * 8));
        }
    }

    #[test]
    fn only_one_encoding_of_a_key_is_accepted() {
        let key = crate::rsa::PrivateKey::generate(2048).unwrap();
        let der = key.public().spki_der();
        assert!(PublicKey::from_spki_der(der).is_ok());
        let trailing = [der, &[0]].concat();
        assert_eq!(
            PublicKey::from_spki_der(&trailing).unwrap_err(),
            PublicKeyError::Malformed
        );
        // Bare RSAPublicKey, without algorithm: the bit string's content.
        let bare = &der[24..];
        assert_eq!(
            PublicKey::from_spki_der(bare).unwrap_err(),
            PublicKeyError::Malformed
        );
    }
}
