//! The opinion of another parser: what we accept it accepts, and sees the same tree in it.

mod generate;

use generate::{Element as Source, Extras, Random, Scope, mutate};
use hgs_xml::{Document, Element, Error, Limits};

fn theirs(source: &[u8]) -> Option<roxmltree::Document<'_>> {
    let text = std::str::from_utf8(source).ok()?;
    roxmltree::Document::parse(text).ok()
}

#[track_caller]
fn assert_same(ours: Element<'_, '_>, theirs: roxmltree::Node<'_, '_>, source: &str) {
    assert_eq!(ours.name(), theirs.tag_name().name(), "in {source:?}");
    let namespace = theirs
        .tag_name()
        .namespace()
        .filter(|name| !name.is_empty());
    assert_eq!(ours.namespace(), namespace, "in {source:?}");
    let attributes: Vec<_> = ours
        .attributes()
        .map(|attribute| (attribute.namespace, attribute.name, attribute.value))
        .collect();
    let expected: Vec<_> = theirs
        .attributes()
        .map(|attribute| (attribute.namespace(), attribute.name(), attribute.value()))
        .collect();
    assert_eq!(attributes, expected, "in {source:?}");
    assert_eq!(ours.source(), &source[theirs.range()], "in {source:?}");

    let children: Vec<_> = theirs
        .children()
        .filter(roxmltree::Node::is_element)
        .collect();
    assert_eq!(ours.children().count(), children.len(), "in {source:?}");
    if children.is_empty() {
        let text: String = theirs.children().filter_map(|node| node.text()).collect();
        assert_eq!(ours.text(), Ok(text.as_str()), "in {source:?}");
    }
    for (ours, theirs) in ours.children().zip(children) {
        assert_same(ours, theirs, source);
    }
}

/// Whether we refuse what the other parser reads, as the profile says or because it is not well-formed after all.
fn is_our_strictness(error: &Error, source: &str) -> bool {
    match error {
        Error::Comment { .. }
        | Error::ProcessingInstruction { .. }
        | Error::LoneCarriageReturn { .. }
        | Error::EmptyNamespace { .. }
        | Error::RelativeNamespace { .. }
        | Error::TooManyAttributes { .. }
        | Error::TooManyNamespaces { .. } => true,
        // Names without a prefix before their colon, declarations of `xmlns`, characters beyond Unicode.
        Error::Malformed { .. } | Error::DuplicateAttribute { .. } => [":", "xmlns", "&#"]
            .iter()
            .any(|token| source.contains(token)),
        _ => false,
    }
}

#[test]
fn both_parsers_see_the_same_trees() {
    let mut random = Random(7);
    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..20_000 {
        let source = Source::random(&mut random, &Scope::new(), 3, Extras::None).source();
        let octets = mutate(&mut random, source.as_bytes());
        match (Document::parse(&octets, &Limits::DOCUMENT), theirs(&octets)) {
            (Ok(ours), Some(theirs)) => {
                accepted += 1;
                let source = std::str::from_utf8(&octets).unwrap();
                assert_same(ours.root(), theirs.root_element(), source);
            }
            (Ok(_), None) => panic!("only we read {:?}", String::from_utf8_lossy(&octets)),
            (Err(error), Some(_)) => {
                let source = String::from_utf8_lossy(&octets);
                assert!(is_our_strictness(&error, &source), "{error} in {source:?}");
            }
            (Err(_), None) => refused += 1,
        }
    }
    assert!(
        accepted > 1_500 && refused > 1_500,
        "{accepted} read, {refused} refused"
    );
}
