//! EME-OAEP decoding [RFC 8017 section 7.1.2 step 3], for tokens that do raw RSA and no more.
//!
//! Until it is known whether the encoding is good as a whole, nothing depends on its octets but
//! arithmetic: no branch, no index, no early end. Which check failed is what Manger's attack asks.

use aws_lc_rs::digest;
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use zeroize::Zeroizing;

use super::OaepHash;
use crate::{CryptoError, SecretBytes};

/// The message in an encoding with an empty label. `encoded` has as many octets as the modulus,
/// leading zeros included, as `CKM_RSA_X_509` gives them.
///
/// # Errors
/// When it is not the encoding of any message. The reason is not told, so that it can't be an oracle.
pub fn decode_oaep(hash: OaepHash, encoded: &SecretBytes) -> Result<SecretBytes, CryptoError> {
    let length = algorithm(hash).output_len();
    // The length is that of the modulus, which is public.
    let (first, masked) = encoded.expose().split_first().ok_or(CryptoError)?;
    if masked.len() < 2 * length + 1 {
        return Err(CryptoError);
    }
    let (seed, block) = masked.split_at(length);
    let mut seed = Zeroizing::new(seed.to_vec());
    let mut block = Zeroizing::new(block.to_vec());
    unmask(hash, &block, &mut seed);
    unmask(hash, &seed, &mut block);

    let (label, padded) = block.split_at(length);
    let (separated, start) = message_start(padded);
    let empty_label = digest::digest(algorithm(hash), b"");
    let labelled = label.ct_eq(empty_label.as_ref());
    if bool::from(first.ct_eq(&0) & labelled & separated) {
        Ok(SecretBytes::from(&padded[start as usize..]))
    } else {
        Err(CryptoError)
    }
}

/// Whether zeros and then a one come first, and where the message begins behind them.
fn message_start(padded: &[u8]) -> (Choice, u64) {
    let mut looking = Choice::from(1);
    let mut separated = Choice::from(0);
    let mut start = 0;
    for (place, octet) in (1..).zip(padded) {
        let one = octet.ct_eq(&1);
        start = u64::conditional_select(&start, &place, looking & one);
        separated |= looking & one;
        looking &= octet.ct_eq(&0);
    }
    (separated, start)
}

/// Takes the mask that MGF1 [RFC 8017 appendix B.2.1] makes of `seed` off `target`.
fn unmask(hash: OaepHash, seed: &[u8], target: &mut [u8]) {
    let algorithm = algorithm(hash);
    for (counter, chunk) in (0_u32..).zip(target.chunks_mut(algorithm.output_len())) {
        let mut context = digest::Context::new(algorithm);
        context.update(seed);
        context.update(&counter.to_be_bytes());
        let mask = context.finish();
        for (octet, mask) in chunk.iter_mut().zip(mask.as_ref()) {
            *octet ^= mask;
        }
    }
}

fn algorithm(hash: OaepHash) -> &'static digest::Algorithm {
    match hash {
        OaepHash::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
        OaepHash::Sha256 => &digest::SHA256,
    }
}

/// Decodes any octets and never panics.
#[doc(hidden)]
pub fn fuzz_oaep_encoding(octets: &[u8]) {
    let encoded = SecretBytes::from(octets);
    let _ = decode_oaep(OaepHash::Sha1, &encoded);
    let _ = decode_oaep(OaepHash::Sha256, &encoded);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HASHES: [OaepHash; 2] = [OaepHash::Sha1, OaepHash::Sha256];

    /// The encoding of section 7.1.1 step 2, with each part as the test wants it.
    fn encode(hash: OaepHash, first: u8, label: &[u8], padded: &[u8]) -> SecretBytes {
        let mut seed = vec![0x5a; algorithm(hash).output_len()];
        let digest = digest::digest(algorithm(hash), label);
        let mut block = [digest.as_ref(), padded].concat();
        unmask(hash, &seed, &mut block);
        unmask(hash, &block, &mut seed);
        SecretBytes::new([&[first], seed.as_slice(), &block].concat())
    }

    /// attacks.md K17: an attacker who could tell these apart could decrypt.
    #[test]
    fn k17_every_defect_of_the_padding_is_the_same_error() {
        for hash in HASHES {
            let decoded = |first, label: &[u8], padded: &[u8]| {
                decode_oaep(hash, &encode(hash, first, label, padded))
            };
            let message = Ok(SecretBytes::from(b"message".as_slice()));
            assert_eq!(decoded(0, b"", b"\0\0\0\x01message"), message);
            assert_eq!(decoded(0, b"", b"\x01message"), message);
            let empty = Ok(SecretBytes::new(Vec::new()));
            assert_eq!(decoded(0, b"", b"\0\0\0\x01"), empty);
            for (first, label, padded) in [
                (1, "", b"\0\0\0\x01message".as_slice()),
                (0x80, "", b"\0\0\0\x01message"),
                (0, "label", b"\0\0\0\x01message"),
                (0, "", b"\0\0\0\x02message"),
                (0, "", b"\x02\0\0\x01message"),
                (0, "", b"\0\0\x81\x01message"),
                (0, "", b"\0\0\0\0\0\0\0"),
                (0xff, "label", b"\0\0\0\0\0\0\0"),
            ] {
                let decoded = decoded(first, label.as_bytes(), padded);
                assert_eq!(decoded, Err(CryptoError), "{first} {label} {padded:?}");
            }
        }
    }

    #[test]
    fn encodings_too_short_for_anything_are_refused() {
        for length in 0..=65 {
            let encoded = SecretBytes::new(vec![0; length]);
            let decoded = decode_oaep(OaepHash::Sha256, &encoded);
            assert_eq!(decoded, Err(CryptoError), "{length}");
        }
    }

    proptest! {
        #[test]
        fn whatever_stands_behind_the_first_one_is_the_message(
            zeros in 0_usize..64, message: Vec<u8>,
        ) {
            for hash in HASHES {
                let padded = [vec![0; zeros].as_slice(), &[1], &message].concat();
                let decoded = decode_oaep(hash, &encode(hash, 0, b"", &padded));
                prop_assert_eq!(decoded, Ok(SecretBytes::from(message.as_slice())));
            }
        }

        #[test]
        fn arbitrary_octets_never_panic(octets: Vec<u8>) {
            fuzz_oaep_encoding(&octets);
        }
    }
}
