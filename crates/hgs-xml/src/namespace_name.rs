//! Whether a namespace name is absolute: Canonical XML 1.0, section 1.3, has no form for documents with others.

/// Whether the attribute value `text`, in which references still stand, begins with the scheme of a URI
/// (RFC 3986 section 3.1).
pub(crate) fn is_absolute(text: &str) -> bool {
    let mut rest = text;
    let mut first = true;
    while let Some((c, after)) = first_character(rest) {
        match c {
            ':' => return !first,
            c if c.is_ascii_alphabetic() => {}
            '0'..='9' | '+' | '-' | '.' if !first => {}
            _ => return false,
        }
        first = false;
        rest = after;
    }
    false
}

/// The first character of an attribute value and what follows it. References to entities stay what they are: none of
/// XML's own five could stand in a scheme.
fn first_character(text: &str) -> Option<(char, &str)> {
    if let Some((reference, after)) = text
        .strip_prefix("&#")
        .and_then(|rest| rest.split_once(';'))
    {
        let code_point = match reference.strip_prefix('x') {
            Some(digits) => u32::from_str_radix(digits, 16),
            None => reference.parse(),
        };
        return Some((char::from_u32(code_point.ok()?)?, after));
    }
    let mut characters = text.chars();
    Some((characters.next()?, characters.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheme_makes_a_name_absolute() {
        for absolute in [
            "urn:example",
            "http://example.org/",
            "A+-.1:",
            "&#117;rn&#x3a;x",
            "u&#x0072;n:&amp;",
        ] {
            assert!(is_absolute(absolute), "{absolute}");
        }
        for relative in [
            "relative", "", ":", "1a:b", " urn:x", "#a:b", "/a:b", "ü:b", "&amp;:b", "a&lt;:b",
            "&#:b", "&#58;b",
        ] {
            assert!(!is_absolute(relative), "{relative}");
        }
    }
}
