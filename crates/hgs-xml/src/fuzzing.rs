//! Bodies for fuzzing: they take any octets, and panic only if this crate is wrong.

use crate::{Document, Element, Limits};

/// Reads a document under both profiles; canonicalises what can be read, whole and without each child of the root.
///
/// # Panics
///
/// If a canonical form can't be read again, or is not its own canonical form.
pub fn fuzz_document(data: &[u8]) {
    if let Ok(document) = Document::dangerous_parse_with_comments(data, &Limits::DOCUMENT) {
        check_canonical_forms(document.root());
    }
    if let Ok(document) = Document::parse(data, &Limits::DOCUMENT) {
        check_canonical_forms(document.root());
        for child in document.root().children() {
            check_readers(child);
        }
    }
}

fn check_canonical_forms(root: Element<'_, '_>) {
    check_fixed_point(root.canonical());
    for child in root.children() {
        check_fixed_point(child.canonical());
        check_fixed_point(root.canonical_without(child));
    }
}

fn check_fixed_point(canonical: Result<Vec<u8>, crate::Error>) {
    // A canonical form beyond the limit is refused, as it should be.
    let Ok(canonical) = canonical else { return };
    // It declares on each element what the source declared further out, and escapes what the source had not.
    let wider = Limits {
        bytes: Limits::DOCUMENT.canonical,
        attributes: 2 * Limits::DOCUMENT.attributes,
        ..Limits::DOCUMENT
    };
    let again = Document::dangerous_parse_with_comments(&canonical, &wider)
        .expect("a canonical form is a document");
    assert_eq!(again.root().canonical().as_ref(), Ok(&canonical));
}

fn check_readers(element: Element<'_, '_>) {
    let namespace = element.namespace().unwrap_or_default();
    // Whatever these answer, they answer.
    let _ = (
        element.text(),
        element.expect_attributes(&[]),
        element.attribute("Id"),
    );
    if let Ok(mut sequence) = element.sequence() {
        let _ = sequence.optional(namespace, element.name());
        let _ = sequence.required(namespace, element.name());
        let _ = sequence.end();
    }
}
