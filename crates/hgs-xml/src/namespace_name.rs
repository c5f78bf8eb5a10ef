//! Whether a namespace name is absolute: Canonical XML 1.0, section 1.3, has no form for documents with others.

/// Whether `name` begins with the scheme of a URI (RFC 3986 section 3.1).
pub(crate) fn is_absolute(name: &str) -> bool {
    name.split_once(':').is_some_and(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme
                .bytes()
                .all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'+' | b'-' | b'.'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheme_makes_a_name_absolute() {
        for absolute in ["urn:example", "http://example.org/", "A+-.1:", "u:&"] {
            assert!(is_absolute(absolute), "{absolute}");
        }
        for relative in [
            "relative", "", ":", "1a:b", " urn:x", "#a:b", "/a:b", "ü:b", "&:b", "a<:b", "../a:b",
        ] {
            assert!(!is_absolute(relative), "{relative}");
        }
    }
}
