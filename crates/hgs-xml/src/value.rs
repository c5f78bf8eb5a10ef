use crate::declaration::is_white_space;

/// Reads an `xs:unsignedInt`: white space around it is dropped, a plus sign and leading zeros are allowed.
///
/// Returns `None` for anything else, a value above 4,294,967,295 included.
pub fn parse_unsigned_int(text: &str) -> Option<u32> {
    let text = text.trim_matches(is_white_space);
    let digits = text.strip_prefix('+').unwrap_or(text);
    // The standard library would allow a second sign.
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_lexical_form_of_an_unsigned_int() {
        for (text, value) in [
            ("0", 0),
            ("+7", 7),
            (" \t\r\n12 \n", 12),
            ("00000000000000000000001", 1),
            ("4294967295", u32::MAX),
        ] {
            assert_eq!(parse_unsigned_int(text), Some(value), "{text:?}");
        }
    }

    #[test]
    fn refuses_what_is_not_an_unsigned_int() {
        for text in [
            "",
            " ",
            "+",
            "-1",
            "++1",
            "1 2",
            "0x10",
            "1.0",
            "4294967296",
            "١",
            "\u{a0}1",
        ] {
            assert_eq!(parse_unsigned_int(text), None, "{text:?}");
        }
    }
}
