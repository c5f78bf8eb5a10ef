//! Base64 of [RFC 4648]: section 4 with the standard alphabet and padding, and section 5, without padding, as JSON Web Signatures
//! have it.
//!
//! [RFC 4648]: https://www.rfc-editor.org/rfc/rfc4648

use std::sync::LazyLock;

use ::base64::Engine;
use ::base64::engine::general_purpose::{PAD, URL_SAFE_NO_PAD};

use crate::CryptoError;

/// A roll decodes and encodes a protector twice, one within the other: with the vector instructions of the machine,
/// where it has them, that costs next to nothing. The general engine takes over what is left of them, and decides
/// what is malformed.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
static STANDARD: LazyLock<::base64::engine::Simd> =
    LazyLock::new(|| ::base64::engine::Simd::standard(PAD));
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
static STANDARD: LazyLock<::base64::engine::GeneralPurpose> =
    LazyLock::new(|| ::base64::engine::GeneralPurpose::new(&::base64::alphabet::STANDARD, PAD));

/// Encodes with padding and without line breaks.
#[must_use]
pub fn encode(octets: &[u8]) -> String {
    STANDARD.encode(octets)
}

/// Encodes with the alphabet for URLs and without padding (RFC 7515 section 2).
#[must_use]
pub fn encode_url(octets: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(octets)
}

/// Decodes what [`encode_url`] writes, and nothing else: no padding, no white space, no stray bits.
///
/// # Errors
/// When `text` is anything else.
pub fn decode_url(text: &str) -> Result<Vec<u8>, CryptoError> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| CryptoError)
}

/// Decodes strictly: no white space, canonical padding, no stray bits.
///
/// # Errors
/// When `text` is anything else.
pub fn decode(text: &str) -> Result<Vec<u8>, CryptoError> {
    STANDARD.decode(text).map_err(|_| CryptoError)
}

/// Decodes the lexical form of `xs:base64Binary`, in which white space may stand anywhere.
///
/// # Errors
/// When what is left without white space is not canonical Base64.
pub fn decode_xml(text: &str) -> Result<Vec<u8>, CryptoError> {
    // Most text has no white space, and then need not be looked at twice.
    decode(text).or_else(|error| match without_white_space(text) {
        Some(compact) => decode(&compact),
        None => Err(error),
    })
}

/// `text` without the white space of XML; `None` if it has none.
#[must_use]
pub fn without_white_space(text: &str) -> Option<String> {
    let white = [' ', '\t', '\r', '\n'];
    text.contains(white).then(|| text.replace(white, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 7515 appendix C.
    #[test]
    fn url_safe_text_has_neither_padding_nor_characters_with_a_meaning_in_urls() {
        assert_eq!(encode_url(&[3, 236, 255, 224, 193]), "A-z_4ME");
        assert_eq!(encode_url(b""), "");
        assert_eq!(decode_url("A-z_4ME"), Ok(vec![3, 236, 255, 224, 193]));
        for lax in [
            "A-z_4ME=",
            "A+z/4ME",
            "A-z_4MF",
            "A-z_4 ME",
            "A-z_4ME\n",
            "A",
        ] {
            assert_eq!(decode_url(lax), Err(CryptoError), "{lax:?}");
        }
    }

    // The vectors of RFC 4648 section 10.
    #[test]
    fn published_vectors() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(encode(plain.as_bytes()), coded);
            assert_eq!(decode(coded), Ok(plain.as_bytes().to_vec()));
        }
    }

    proptest::proptest! {
        /// Whatever instructions are used, the result is that of the general engine, for good text and bad.
        #[test]
        fn the_engines_agree(
            octets in proptest::collection::vec(proptest::arbitrary::any::<u8>(), 0..400),
            place in 0_usize..600,
            octet in proptest::char::range('\0', 'z'),
        ) {
            let general = ::base64::engine::general_purpose::STANDARD;
            let coded = encode(&octets);
            proptest::prop_assert_eq!(&coded, &general.encode(&octets));
            proptest::prop_assert_eq!(decode(&coded), Ok(octets));
            let mut changed: Vec<char> = coded.chars().collect();
            if let Some(c) = changed.get_mut(place) {
                *c = octet;
            }
            let changed: String = changed.into_iter().collect();
            proptest::prop_assert_eq!(decode(&changed).ok(), general.decode(&changed).ok());
        }
    }

    #[test]
    fn lax_forms_are_refused() {
        for lax in ["Zg", "Zg=", "Zh==", "Z g=", "Zg==\n", "Zm9v=", "Zm_v"] {
            assert_eq!(decode(lax), Err(CryptoError), "{lax:?}");
        }
        assert_eq!(decode_xml(" Zm9v\r\n\tYmFy "), Ok(b"foobar".to_vec()));
        assert_eq!(decode_xml("Zm9v\u{a0}"), Err(CryptoError));
    }
}
