//! The characters that XML allows at each place, and the values of references.

use std::borrow::Cow;

use crate::nodes::QualifiedName;

/// Why data is not well-formed, and where in it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault<'t> {
    pub(crate) kind: FaultKind<'t>,
    pub(crate) offset: usize,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FaultKind<'t> {
    Malformed(&'static str),
    UndeclaredEntity(&'t str),
}

impl Fault<'_> {
    fn malformed(fault: &'static str, offset: usize) -> Self {
        Self {
            kind: FaultKind::Malformed(fault),
            offset,
        }
    }
}

/// How many octets `source` begins with that need no closer look, as in Base64 and identifiers.
///
/// Looks at many octets at once, which the compiler does if it need not stop within them.
pub(crate) fn plain_length(source: &str) -> usize {
    const MANY: usize = 64;
    let octets = source.as_bytes();
    let plain = |chunk: &&[u8; MANY]| !chunk.iter().fold(false, |any, o| any | is_special(*o));
    let (chunks, _) = octets.as_chunks::<MANY>();
    let length = chunks.iter().take_while(plain).count() * MANY;
    let rest = octets.get(length..).unwrap_or_default();
    length + rest.iter().take_while(|octet| !is_special(**octet)).count()
}

/// Whether an octet of text or of a value means anything but itself, or may not stand there.
fn is_special(octet: u8) -> bool {
    !matches!(octet, b' '..0x80) || matches!(octet, b'&' | b'<' | b'>' | b'"' | b'\'')
}

/// Character data as a reader sees it: references replaced, line ends normalised.
pub(crate) fn character_data(source: &str) -> Result<Cow<'_, str>, Fault<'_>> {
    only_characters(source)?;
    if let Some(offset) = source.find("]]>") {
        return Err(Fault::malformed("`]]>` in text", offset));
    }
    replace_references(source, line_ends)
}

/// The content of a CDATA section as a reader sees it.
pub(crate) fn cdata(source: &str) -> Result<Cow<'_, str>, Fault<'_>> {
    only_characters(source)?;
    Ok(line_ends(source))
}

/// An attribute's value as a reader sees it: references replaced, white space normalised.
pub(crate) fn attribute_value(source: &str) -> Result<Cow<'_, str>, Fault<'_>> {
    only_characters(source)?;
    if let Some(offset) = source.find('<') {
        return Err(Fault::malformed("an attribute value with `<`", offset));
    }
    replace_references(source, spaces)
}

/// Refuses a character that is no `Char` of XML 1.0, production 2.
fn only_characters(source: &str) -> Result<(), Fault<'_>> {
    match source.char_indices().find(|(_, c)| !is_char(*c)) {
        None => Ok(()),
        Some((offset, _)) => Err(Fault::malformed(
            "a character that XML does not allow",
            offset,
        )),
    }
}

/// A line end is a line feed. There is no carriage return without one: that was refused before.
fn line_ends(source: &str) -> Cow<'_, str> {
    if source.contains('\r') {
        Cow::Owned(source.replace("\r\n", "\n"))
    } else {
        Cow::Borrowed(source)
    }
}

/// White space in an attribute's value becomes spaces, a line end one of them.
fn spaces(source: &str) -> Cow<'_, str> {
    if source.contains(['\t', '\r', '\n']) {
        Cow::Owned(source.replace("\r\n", "\n").replace(['\t', '\n'], " "))
    } else {
        Cow::Borrowed(source)
    }
}

/// `source` with its references replaced; what stands between them is normalised by `between`, and what they stand for
/// is not.
fn replace_references<'t>(
    source: &'t str,
    between: impl Fn(&'t str) -> Cow<'t, str>,
) -> Result<Cow<'t, str>, Fault<'t>> {
    if !source.contains('&') {
        return Ok(between(source));
    }
    let mut replaced = String::with_capacity(source.len());
    let mut rest = source;
    while let Some((before, reference)) = rest.split_once('&') {
        let fault = |kind| Fault {
            kind,
            offset: source.len() - reference.len() - "&".len(),
        };
        replaced.push_str(&between(before));
        let (name, after) = reference
            .split_once(';')
            .ok_or_else(|| fault(FaultKind::Malformed("a malformed reference")))?;
        replaced.push(referent(name).map_err(fault)?);
        rest = after;
    }
    replaced.push_str(&between(rest));
    Ok(Cow::Owned(replaced))
}

/// The character that a reference stands for.
fn referent(name: &str) -> Result<char, FaultKind<'_>> {
    if let Some(number) = name.strip_prefix('#') {
        return numbered(number).ok_or(FaultKind::Malformed("an invalid character reference"));
    }
    match name {
        "amp" => Ok('&'),
        "lt" => Ok('<'),
        "gt" => Ok('>'),
        "quot" => Ok('"'),
        "apos" => Ok('\''),
        _ if name_length(name) == name.len() && !name.is_empty() => {
            Err(FaultKind::UndeclaredEntity(name))
        }
        _ => Err(FaultKind::Malformed("a malformed reference")),
    }
}

fn numbered(number: &str) -> Option<char> {
    let (digits, radix) = match number.strip_prefix('x') {
        Some(digits) => (digits, 16),
        None => (number, 10),
    };
    // The standard library would allow a sign.
    if !digits.chars().all(|digit| digit.is_digit(radix)) {
        return None;
    }
    let code_point = u32::from_str_radix(digits, radix).ok()?;
    char::from_u32(code_point).filter(|c| is_char(*c))
}

/// A `Char` of XML 1.0, production 2.
pub(crate) fn is_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{fffd}' | '\u{10000}'..)
}

/// The octets of the name that `source` begins with, colons included (XML 1.0, production 5); 0 if there is none.
pub(crate) fn name_length(source: &str) -> usize {
    if !source.starts_with(|c| c == ':' || is_name_start(c)) {
        return 0;
    }
    let octets = source.as_bytes().iter();
    let ascii = octets
        .take_while(|octet| is_ascii_name_character(**octet))
        .count();
    match source.as_bytes().get(ascii) {
        Some(0x80..) => source
            .find(|c| c != ':' && !is_name_character(c))
            .unwrap_or(source.len()),
        _ => ascii,
    }
}

/// Takes a name apart: one part, or two with a colon between (Namespaces in XML 1.0, production 7).
pub(crate) fn qualified_name(whole: &str) -> Option<QualifiedName<'_>> {
    let Some(colon) = whole.bytes().position(|octet| octet == b':') else {
        return (!whole.is_empty()).then_some(QualifiedName {
            whole,
            prefix: "",
            local: whole,
        });
    };
    let (prefix, local) = (whole.get(..colon)?, whole.get(colon + 1..)?);
    let qualified = !prefix.is_empty() && local.starts_with(is_name_start) && !local.contains(':');
    qualified.then_some(QualifiedName {
        whole,
        prefix,
        local,
    })
}

fn is_ascii_name_character(octet: u8) -> bool {
    matches!(octet, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | b'.' | b':')
}

/// A `NameStartChar`, production 4, but for the colon.
fn is_name_start(c: char) -> bool {
    matches!(c, 'A'..='Z' | 'a'..='z' | '_'
        | '\u{c0}'..='\u{d6}' | '\u{d8}'..='\u{f6}' | '\u{f8}'..='\u{2ff}'
        | '\u{370}'..='\u{37d}' | '\u{37f}'..='\u{1fff}' | '\u{200c}'..='\u{200d}'
        | '\u{2070}'..='\u{218f}' | '\u{2c00}'..='\u{2fef}' | '\u{3001}'..='\u{d7ff}'
        | '\u{f900}'..='\u{fdcf}' | '\u{fdf0}'..='\u{fffd}' | '\u{10000}'..='\u{effff}')
}

/// A `NameChar`, production 4a, but for the colon.
fn is_name_character(c: char) -> bool {
    is_name_start(c)
        || matches!(c, '0'..='9' | '-' | '.' | '\u{b7}' | '\u{300}'..='\u{36f}' | '\u{203f}'..='\u{2040}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_without_references_is_not_copied() {
        for data in ["", "TWFu", "é\u{10ffff}", " \t\n"] {
            assert!(matches!(character_data(data), Ok(Cow::Borrowed(read)) if read == data));
        }
    }

    #[test]
    fn line_ends_become_line_feeds_but_not_what_references_stand_for() {
        assert_eq!(
            character_data("a\r\nb&#13;&#xA;\r\n").unwrap(),
            "a\nb\r\n\n"
        );
        assert_eq!(attribute_value("a\r\nb\t&#13;&#9;c").unwrap(), "a b \r\tc");
        assert_eq!(cdata("&amp;\r\n").unwrap(), "&amp;\n");
    }

    #[test]
    fn names_end_where_names_end() {
        for (source, length) in [
            ("", 0),
            ("a", 1),
            ("a b", 1),
            ("a:b=", 3),
            ("é-1.x>", 6),
            ("1a", 0),
            ("-a", 0),
            (".", 0),
            ("a\u{d7}", 1),
            ("a\u{b7}/", 3),
            ("\u{b7}", 0),
            (":a", 2),
        ] {
            assert_eq!(name_length(source), length, "{source}");
        }
        for (name, qualified) in [
            ("a", true),
            ("a:b", true),
            (":a", false),
            ("a:", false),
            ("a:b:c", false),
            ("a:1", false),
            ("a:é", true),
        ] {
            assert_eq!(qualified_name(name).is_some(), qualified, "{name}");
        }
    }
}
