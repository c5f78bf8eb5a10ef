//! Bodies for fuzzing: they take any octets, and panic only if this crate is wrong.

use crate::{Document, Element, Error, Limits};

/// Reads a document and canonicalises it, whole and without each of the first children of the root.
///
/// # Panics
///
/// If the canonical form of a document can't be read again, or is not its own canonical form.
pub fn fuzz_document(data: &[u8]) {
    if let Ok(document) = Document::parse(data, &Limits::DOCUMENT) {
        canonical_forms(document.root()).for_each(check_fixed_point);
        document.root().children().for_each(check_readers);
    }
}

fn canonical_forms(root: Element<'_, '_>) -> impl Iterator<Item = Result<Vec<u8>, Error>> {
    let of_children = root
        .children()
        .take(10)
        .flat_map(move |child| [child.canonical(), root.canonical_without(child)]);
    std::iter::once(root.canonical()).chain(of_children)
}

fn check_fixed_point(canonical: Result<Vec<u8>, Error>) {
    // A canonical form beyond the limit is refused, as it should be.
    let Ok(canonical) = canonical else { return };
    // It declares on each element what the source declared further out, and escapes what the source had not.
    let wider = Limits {
        bytes: Limits::DOCUMENT.canonical,
        attributes: 2 * Limits::DOCUMENT.attributes,
        ..Limits::DOCUMENT
    };
    let again = Document::parse(&canonical, &wider).expect("a canonical form is a document");
    assert_eq!(again.root().canonical().as_ref(), Ok(&canonical));
}

fn check_readers(element: Element<'_, '_>) {
    let namespace = element.namespace().unwrap_or_default();
    // Any answer is right; none may panic.
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
