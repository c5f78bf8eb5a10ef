//! The common part of the canonicaliser and the writer: names, escapes, and the declarations that have to be written.

use std::borrow::Cow;

use crate::characters::is_char;

/// The prefix of a qualified name; empty if it has none.
pub(crate) fn prefix_of(name: &str) -> &str {
    name.split_once(':').map_or("", |(prefix, _)| prefix)
}

/// The namespace declarations that were written and are in scope, innermost last.
///
/// `T` is a string: borrowed in the canonicaliser, shared in the writer.
pub(crate) struct Rendered<T> {
    declarations: Vec<(T, T)>,
}

impl<T> Default for Rendered<T> {
    fn default() -> Self {
        Self {
            declarations: Vec::new(),
        }
    }
}

impl<T: AsRef<str> + Ord> Rendered<T> {
    /// Adds the declaration of a visibly utilised prefix, unless the one in scope says the same
    /// ([Exclusive XML Canonicalization] 3, rules 1 and 2 of the algorithm; an empty name is no namespace).
    ///
    /// [Exclusive XML Canonicalization]: https://www.w3.org/TR/xml-exc-c14n/
    pub(crate) fn utilise(&mut self, prefix: T, namespace: T) {
        // `xml` is bound without a declaration, and never written.
        if prefix.as_ref() == "xml" {
            return;
        }
        let in_scope = self
            .declarations
            .iter()
            .rev()
            .find(|(declared, _)| declared.as_ref() == prefix.as_ref())
            .map_or("", |(_, namespace)| namespace.as_ref());
        if in_scope != namespace.as_ref() {
            self.declarations.push((prefix, namespace));
        }
    }

    /// How many declarations are in scope: what [`Self::leave`] takes when the element ends.
    pub(crate) fn mark(&self) -> usize {
        self.declarations.len()
    }

    /// The declarations added since `mark`, in canonical order.
    pub(crate) fn since(&mut self, mark: usize) -> &[(T, T)] {
        let new = self.declarations.get_mut(mark..).unwrap_or_default();
        new.sort_unstable();
        new
    }

    /// Forgets the declarations added since `mark`.
    pub(crate) fn leave(&mut self, mark: usize) {
        self.declarations.truncate(mark);
    }
}

/// Writes ` xmlns:prefix="namespace"`, or ` xmlns="namespace"` for the empty prefix.
pub(crate) fn push_declaration(output: &mut Vec<u8>, prefix: &str, namespace: &str) {
    output.extend_from_slice(b" xmlns");
    if !prefix.is_empty() {
        output.push(b':');
        output.extend_from_slice(prefix.as_bytes());
    }
    push_quoted(output, namespace);
}

/// Writes ` name="value"`.
pub(crate) fn push_attribute(output: &mut Vec<u8>, name: &str, value: &str) {
    output.push(b' ');
    output.extend_from_slice(name.as_bytes());
    push_quoted(output, value);
}

fn push_quoted(output: &mut Vec<u8>, value: &str) {
    output.extend_from_slice(b"=\"");
    push_escaped(output, value, |octet| match octet {
        b'&' => Some(b"&amp;"),
        b'<' => Some(b"&lt;"),
        b'"' => Some(b"&quot;"),
        b'\t' => Some(b"&#x9;"),
        b'\n' => Some(b"&#xA;"),
        b'\r' => Some(b"&#xD;"),
        _ => None,
    });
    output.push(b'"');
}

/// Writes character data.
pub(crate) fn push_text(output: &mut Vec<u8>, text: &str) {
    push_escaped(output, text, |octet| match octet {
        b'&' => Some(b"&amp;"),
        b'<' => Some(b"&lt;"),
        b'>' => Some(b"&gt;"),
        b'\r' => Some(b"&#xD;"),
        _ => None,
    });
}

/// Writes `text` with the escapes of [Canonical XML 1.0] 2.3.
///
/// [Canonical XML 1.0]: https://www.w3.org/TR/xml-c14n
#[inline]
fn push_escaped(output: &mut Vec<u8>, text: &str, escape: impl Fn(u8) -> Option<&'static [u8]>) {
    if !any(text, |octet| escape(octet).is_some()) {
        output.extend_from_slice(text.as_bytes());
        return;
    }
    for octet in text.bytes() {
        match escape(octet) {
            Some(escaped) => output.extend_from_slice(escaped),
            None => output.push(octet),
        }
    }
}

/// `text` with U+FFFD in place of each character that XML 1.0 can't carry, even escaped.
pub(crate) fn representable(text: &str) -> Cow<'_, str> {
    // Control characters, and the octet that U+FFFE and U+FFFF begin with.
    let suspicious = |octet: u8| octet < b' ' || octet == 0xef;
    if !any(text, suspicious) || text.chars().all(is_char) {
        return Cow::Borrowed(text);
    }
    text.chars()
        .map(|c| {
            if is_char(c) {
                c
            } else {
                char::REPLACEMENT_CHARACTER
            }
        })
        .collect()
}

/// Whether any octet of `text` is as asked.
///
/// Not stopping at the first hit lets the compiler look at many octets at once, and most text is base64 without any.
#[inline]
pub(crate) fn any(text: &str, asked: impl Fn(u8) -> bool) -> bool {
    text.bytes().fold(false, |any, octet| any | asked(octet))
}
