//! Base64 of [RFC 4648] section 4: standard alphabet, padding required.
//!
//! [RFC 4648]: https://www.rfc-editor.org/rfc/rfc4648

use ::base64::Engine;
use ::base64::engine::general_purpose::STANDARD;

use crate::CryptoError;

/// Encodes with padding and without line breaks.
#[must_use]
pub fn encode(octets: &[u8]) -> String {
    STANDARD.encode(octets)
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
    let white = |octet: u8| matches!(octet, b' ' | b'\t' | b'\r' | b'\n');
    if !text.bytes().any(white) {
        return decode(text);
    }
    let compact: String = text
        .chars()
        .filter(|c| !c.is_ascii() || !white(*c as u8))
        .collect();
    decode(&compact)
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn lax_forms_are_refused() {
        for lax in ["Zg", "Zg=", "Zh==", "Z g=", "Zg==\n", "Zm9v=", "Zm_v"] {
            assert_eq!(decode(lax), Err(CryptoError), "{lax:?}");
        }
        assert_eq!(decode_xml(" Zm9v\r\n\tYmFy "), Ok(b"foobar".to_vec()));
        assert_eq!(decode_xml("Zm9v\u{a0}"), Err(CryptoError));
    }
}
