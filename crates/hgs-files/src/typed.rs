//! Secrets that people type, such as PINs and passphrases, as files and variables hold them: one line of text.

use hgs_crypto::SecretBytes;
use hgs_crypto::text::{is_invisible, named};

/// The secret cannot be what a person typed. None of it is repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TypedError {
    /// There is nothing.
    #[error("is empty")]
    Empty,
    /// Text in UTF-16, as PowerShell's `>` writes it.
    #[error("is in UTF-16; save it as UTF-8 or ASCII")]
    Utf16,
    /// Neither UTF-8 nor UTF-16.
    #[error("is not UTF-8")]
    NotUtf8,
    /// A character that a person neither types nor sees. A token would count it as a wrong PIN.
    #[error("has {} as its character {place}, which cannot be seen or typed", named(*.character))]
    Character {
        /// Which character, counted from 1.
        place: usize,
        /// The character.
        character: char,
    },
}

/// The one line of `octets`: without the byte-order mark that editors of Windows put before it, and without one line end.
///
/// # Errors
/// [`TypedError`].
pub fn typed_line(octets: &SecretBytes) -> Result<SecretBytes, TypedError> {
    let octets = octets.expose();
    if octets.starts_with(&[0xff, 0xfe]) || octets.starts_with(&[0xfe, 0xff]) {
        return Err(TypedError::Utf16);
    }
    let text = std::str::from_utf8(octets).map_err(|_| TypedError::NotUtf8)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let line = text.strip_suffix('\n').unwrap_or(text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    let unseen =
        |(_, character): &(usize, char)| character.is_control() || is_invisible(*character);
    match (1..).zip(line.chars()).find(unseen) {
        // Every other octet of ASCII in UTF-16 is zero.
        Some((1 | 2, '\0')) => Err(TypedError::Utf16),
        Some((place, character)) => Err(TypedError::Character { place, character }),
        None if line.is_empty() => Err(TypedError::Empty),
        None => Ok(SecretBytes::from(line.as_bytes())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(octets: &[u8]) -> Result<Vec<u8>, TypedError> {
        typed_line(&SecretBytes::from(octets)).map(|line| line.expose().to_vec())
    }

    #[test]
    fn marks_and_line_ends_of_editors_are_no_part_of_it() {
        for octets in [
            &b"1234"[..],
            b"1234\n",
            b"1234\r\n",
            b"\xef\xbb\xbf1234",
            b"\xef\xbb\xbf1234\r\n",
        ] {
            assert_eq!(read(octets).unwrap(), b"1234");
        }
        assert_eq!(
            read(" zwei W\u{f6}rter ".as_bytes()).unwrap(),
            " zwei W\u{f6}rter ".as_bytes()
        );
    }

    #[test]
    fn what_nobody_can_type_is_named_and_the_rest_is_not_shown() {
        let character = |place, character| Err(TypedError::Character { place, character });
        assert_eq!(read(b""), Err(TypedError::Empty));
        assert_eq!(read(b"\r\n"), Err(TypedError::Empty));
        assert_eq!(read(b"12\xff"), Err(TypedError::NotUtf8));
        assert_eq!(read(b"1234\n\n"), character(5, '\n'));
        assert_eq!(read(b"1234\0"), character(5, '\0'));
        assert_eq!(read("1\u{200b}234".as_bytes()), character(2, '\u{200b}'));
        assert_eq!(read("1234\u{feff}".as_bytes()), character(5, '\u{feff}'));
        for order in [u16::to_le_bytes, u16::to_be_bytes] {
            for text in ["1234", "\u{feff}1234"] {
                let octets: Vec<u8> = text.encode_utf16().flat_map(order).collect();
                assert_eq!(read(&octets), Err(TypedError::Utf16));
            }
        }
        let shown = read("1234\u{200b}".as_bytes()).unwrap_err().to_string();
        assert_eq!(
            shown,
            "has U+200B as its character 5, which cannot be seen or typed"
        );
    }
}
