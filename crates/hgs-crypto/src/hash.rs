//! SHA-256, SHA-384 and SHA-1 [FIPS 180-4], HMAC-SHA-256 [RFC 2104], HKDF-SHA-256 [RFC 5869] and KDFa [TPM 2.0 Library, part
//! 1, 11.4.10.2].

use std::fmt;

use aws_lc_rs::{digest, hkdf, hmac, kdf};
use subtle::ConstantTimeEq;

use crate::{CryptoError, SecretBytes};

/// A SHA-256 digest.
pub type Sha256Digest = [u8; 32];

/// SHA-256 of `octets`.
#[must_use]
pub fn sha256(octets: &[u8]) -> Sha256Digest {
    to_array(&digest::digest(&digest::SHA256, octets))
}

/// SHA-256 of the concatenation of `parts`.
#[must_use]
pub fn sha256_of(parts: &[&[u8]]) -> Sha256Digest {
    let mut context = digest::Context::new(&digest::SHA256);
    parts.iter().for_each(|part| context.update(part));
    to_array(&context.finish())
}

/// SHA-256 of a message in pieces.
#[derive(Clone)]
pub struct Sha256(digest::Context);

impl Sha256 {
    /// Of nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }

    /// Adds `octets` to the message.
    pub fn update(&mut self, octets: &[u8]) {
        self.0.update(octets);
    }

    /// The digest of all that came.
    #[must_use]
    pub fn finish(self) -> Sha256Digest {
        to_array(&self.0.finish())
    }
}

impl Default for Sha256 {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Sha256(..)")
    }
}

/// SHA-1 of `octets`: for thumbprints that Windows tools show, never for a decision.
#[must_use]
pub fn sha1_thumbprint(octets: &[u8]) -> [u8; 20] {
    let mut thumbprint = [0; 20];
    let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, octets);
    thumbprint.copy_from_slice(digest.as_ref());
    thumbprint
}

/// SHA-1 of the concatenation of `parts`: for the SHA-1 values of event logs and of IMA logs, never for a decision.
#[must_use]
pub fn sha1_of(parts: &[&[u8]]) -> [u8; 20] {
    digest_of(&digest::SHA1_FOR_LEGACY_USE_ONLY, parts)
}

/// SHA-384 of the concatenation of `parts`.
#[must_use]
pub fn sha384_of(parts: &[&[u8]]) -> [u8; 48] {
    digest_of(&digest::SHA384, parts)
}

fn digest_of<const N: usize>(algorithm: &'static digest::Algorithm, parts: &[&[u8]]) -> [u8; N] {
    let mut context = digest::Context::new(algorithm);
    parts.iter().for_each(|part| context.update(part));
    let mut octets = [0; N];
    octets.copy_from_slice(context.finish().as_ref());
    octets
}

/// HMAC-SHA-256 of the concatenation of `parts`.
#[must_use]
pub fn hmac_sha256(key: &SecretBytes, parts: &[&[u8]]) -> [u8; 32] {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose());
    let mut context = hmac::Context::with_key(&key);
    parts.iter().for_each(|part| context.update(part));
    let mut tag = [0; 32];
    tag.copy_from_slice(context.sign().as_ref());
    tag
}

/// Checks an HMAC-SHA-256 of full length in constant time.
///
/// # Errors
/// When the tag is not the full 32 octets, or does not match.
pub fn verify_hmac_sha256(
    key: &SecretBytes,
    message: &[u8],
    tag: &[u8],
) -> Result<(), CryptoError> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose());
    // The library compares lengths first, so a truncated tag can't match.
    hmac::verify(&key, message, tag).map_err(|_| CryptoError)
}

/// An HMAC-SHA-256 key made ready once, for many messages.
#[derive(Clone)]
pub struct HmacKey(hmac::Key);

impl HmacKey {
    /// Prepares `key`.
    #[must_use]
    pub fn new(key: &SecretBytes) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key.expose()))
    }

    /// HMAC-SHA-256 of the concatenation of `parts`.
    #[must_use]
    pub fn tag(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut tag = [0; 32];
        tag.copy_from_slice(self.sign(parts).as_ref());
        tag
    }

    /// Checks the full tag of the concatenation of `parts` in constant time.
    ///
    /// # Errors
    /// When the tag is not the full 32 octets, or does not match.
    pub fn verify(&self, parts: &[&[u8]], tag: &[u8]) -> Result<(), CryptoError> {
        let matches: bool = self.sign(parts).as_ref().ct_eq(tag).into();
        matches.then_some(()).ok_or(CryptoError)
    }

    fn sign(&self, parts: &[&[u8]]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.0);
        parts.iter().for_each(|part| context.update(part));
        context.sign()
    }
}

impl fmt::Debug for HmacKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("HmacKey(..)")
    }
}

/// HKDF with SHA-256: extract with `salt` (empty means the zero salt), expand with `info` to
/// `length` octets, at most 8160.
///
/// # Errors
/// When `length` is out of range.
pub fn hkdf_sha256(
    secret: &SecretBytes,
    salt: &[u8],
    info: &[u8],
    length: usize,
) -> Result<SecretBytes, CryptoError> {
    let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(secret.expose());
    let mut derived = zeroize::Zeroizing::new(vec![0; length]);
    extracted
        .expand(&[info], OutputLength(length))
        .and_then(|material| material.fill(&mut derived))
        .map_err(|_| CryptoError)?;
    Ok(SecretBytes::from(derived.as_slice()))
}

/// KDFa of TPM 2.0 with SHA-256: the counter mode of SP 800-108 over HMAC, with a zero octet after `label` and the number of
/// bits after both contexts.
///
/// # Errors
/// When `length` is zero or out of range.
pub fn kdfa_sha256(
    key: &SecretBytes,
    label: &str,
    [context_u, context_v]: [&[u8]; 2],
    length: u16,
) -> Result<SecretBytes, CryptoError> {
    let bits = (u32::from(length) * 8).to_be_bytes();
    let information = [label.as_bytes(), &[0], context_u, context_v, &bits].concat();
    let algorithm = kdf::get_kbkdf_ctr_hmac_algorithm(kdf::KbkdfCtrHmacAlgorithmId::Sha256);
    let mut derived = zeroize::Zeroizing::new(vec![0; usize::from(length)]);
    let algorithm = algorithm.ok_or(CryptoError)?;
    kdf::kbkdf_ctr_hmac(algorithm, key.expose(), &information, &mut derived)
        .map_err(|_| CryptoError)?;
    Ok(SecretBytes::from(derived.as_slice()))
}

struct OutputLength(usize);

impl hkdf::KeyType for OutputLength {
    fn len(&self) -> usize {
        self.0
    }
}

fn to_array(digest: &digest::Digest) -> Sha256Digest {
    let mut octets = [0; 32];
    octets.copy_from_slice(digest.as_ref());
    octets
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hex;

    // FIPS 180-4 example, "abc".
    #[test]
    fn sha256_of_abc() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hex::encode(&sha256(b"abc")), expected);
        assert_eq!(hex::encode(&sha256_of(&[b"a", b"", b"bc"])), expected);
        let mut pieces = Sha256::new();
        pieces.update(b"ab");
        pieces.update(b"c");
        assert_eq!(hex::encode(&pieces.finish()), expected);
    }

    // FIPS 180-4 examples, "abc".
    #[test]
    fn sha1_and_sha384_of_abc() {
        assert_eq!(
            hex::encode(&sha1_of(&[b"a", b"", b"bc"])),
            "a9993e364706816aba3e25717850c26c9cd0d89d"
        );
        assert_eq!(
            hex::encode(&sha384_of(&[b"ab", b"c"])),
            "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed\
             8086072ba1e7cc2358baeca134c825a7"
        );
    }

    // RFC 4231 test case 2.
    #[test]
    fn hmac_of_rfc_4231() {
        let key = SecretBytes::from(b"Jefe".as_slice());
        let tag = hmac_sha256(&key, &[b"what do ya want ", b"for nothing?"]);
        let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(hex::encode(&tag), expected);
        let message = b"what do ya want for nothing?";
        assert!(verify_hmac_sha256(&key, message, &tag).is_ok());
        let prepared = HmacKey::new(&key);
        assert_eq!(prepared.tag(&[b"what do ya want ", b"for nothing?"]), tag);
        assert!(prepared.verify(&[message], &tag).is_ok());
        assert!(prepared.verify(&[message, b"!"], &tag).is_err());
    }

    /// attacks.md X6: a truncated HMAC, down to the empty one, must never be accepted.
    #[test]
    fn x6_truncated_hmac_is_refused_at_every_length() {
        let key = SecretBytes::from([7; 32].as_slice());
        let tag = hmac_sha256(&key, &[b"message"]);
        for length in 0..tag.len() {
            assert_eq!(
                verify_hmac_sha256(&key, b"message", &tag[..length]),
                Err(CryptoError)
            );
            assert_eq!(
                HmacKey::new(&key).verify(&[b"message"], &tag[..length]),
                Err(CryptoError)
            );
        }
    }

    // RFC 5869 test cases 1 and 3 (with and without salt and info).
    #[test]
    fn hkdf_of_rfc_5869() {
        let secret = SecretBytes::new(vec![0x0b; 22]);
        let salt: Vec<u8> = (0x00..=0x0c).collect();
        let info: Vec<u8> = (0xf0..=0xf9).collect();
        let derived = hkdf_sha256(&secret, &salt, &info, 42).unwrap();
        assert_eq!(
            hex::encode(derived.expose()),
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
        );
        let derived = hkdf_sha256(&secret, b"", b"", 42).unwrap();
        assert_eq!(
            hex::encode(derived.expose()),
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"
        );
        assert!(hkdf_sha256(&secret, b"", b"", 8161).is_err());
    }

    // Made with: openssl kdf -keylen 32 -kdfopt mac:HMAC -kdfopt digest:SHA2-256 -kdfopt hexkey:KEY
    //     -kdfopt hexsalt:LABEL -kdfopt hexinfo:CONTEXTS KBKDF
    #[test]
    fn kdfa_agrees_with_openssl() {
        let key = SecretBytes::new((0..32).collect());
        let derived = kdfa_sha256(&key, "ATH", [&[0x11; 32], &[0x22; 32]], 32).unwrap();
        assert_eq!(
            hex::encode(derived.expose()),
            "a8679444f320a6d0a02c03cac153c458f28758eca056594e887fcefdc2d7e95b"
        );
        let name = [&[0, 0x0b][..], &[0xab; 32]].concat();
        let derived = kdfa_sha256(&key, "STORAGE", [&name, b""], 16).unwrap();
        assert_eq!(
            hex::encode(derived.expose()),
            "209ef731cacd39c9489efc1aa1e18696"
        );
        assert!(kdfa_sha256(&key, "ATH", [b"", b""], 0).is_err());
    }
}
