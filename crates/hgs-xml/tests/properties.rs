//! What holds for all documents: what the writer writes is canonical, and nothing that is read makes this crate panic.

mod generate;

use std::collections::BTreeMap;

use generate::{Element as Source, Extras, Random, Scope, mutate};
use hgs_xml::{Document, Limits, Writer};
use proptest::prelude::*;

const NAMES: [&str; 5] = ["Wrapping", "Id", "ds:KeyInfo", "ds:Id", "x-1:é"];
// No local name twice: two prefixes may come to mean the same namespace.
const ATTRIBUTES: [&str; 5] = ["Id", "Algorithm", "ds:Id", "x-1:a", "xml:lang"];
const NAMESPACES: [&str; 3] = ["urn:a", "urn:b", "urn:<&\"\t>'é"];

/// What a program might write: declarations anywhere, and any text.
#[derive(Debug, Clone)]
struct Node {
    name: &'static str,
    attributes: BTreeMap<&'static str, String>,
    content: Vec<Content>,
}

#[derive(Debug, Clone)]
enum Content {
    Text(String),
    Element(Node),
}

fn documents() -> impl Strategy<Value = Node> {
    let leaf = elements(Just(Vec::new()));
    let nested = leaf.prop_recursive(5, 40, 4, |inner| {
        let content = prop_oneof![
            any::<String>().prop_map(Content::Text),
            inner.prop_map(Content::Element),
        ];
        elements(prop::collection::vec(content, 0..4))
    });
    nested.prop_map(|mut root| {
        for prefix in ["xmlns:ds", "xmlns:x-1"] {
            root.attributes
                .entry(prefix)
                .or_insert_with(|| "urn:root".into());
        }
        root
    })
}

fn elements(content: impl Strategy<Value = Vec<Content>>) -> impl Strategy<Value = Node> {
    let namespace = prop::sample::select(&NAMESPACES[..]).prop_map(String::from);
    let default = prop_oneof![namespace.clone(), Just(String::new())];
    let attribute = prop_oneof![
        (prop::sample::select(&ATTRIBUTES[..]), any::<String>()),
        (Just("xmlns"), default),
        (Just("xmlns:ds"), namespace.clone()),
        (Just("xmlns:x-1"), namespace),
    ];
    let attributes = prop::collection::vec(attribute, 0..6);
    (prop::sample::select(&NAMES[..]), attributes, content).prop_map(
        |(name, attributes, content)| Node {
            name,
            attributes: attributes.into_iter().collect(),
            content,
        },
    )
}

impl Node {
    fn write(&self, writer: &mut Writer) {
        let attributes: Vec<_> = self
            .attributes
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        writer.start(self.name, &attributes);
        for content in &self.content {
            match content {
                Content::Text(text) => writer.text(text),
                Content::Element(element) => element.write(writer),
            }
        }
        writer.end();
    }

    /// The text directly within it, as it comes back.
    fn text(&self) -> String {
        let texts = self.content.iter().map(|content| match content {
            Content::Text(text) => text.as_str(),
            Content::Element(_) => "",
        });
        texts.flat_map(str::chars).map(carried).collect()
    }
}

/// `c`, if XML can carry it.
fn carried(c: char) -> char {
    match c {
        '\t' | '\n' | '\r' => c,
        '\0'..' ' | '\u{fffe}' | '\u{ffff}' => char::REPLACEMENT_CHARACTER,
        _ => c,
    }
}

proptest! {
    #[test]
    fn what_is_written_is_its_own_canonical_form(root in documents()) {
        let mut writer = Writer::new();
        root.write(&mut writer);
        let written = writer.finish();
        let document = Document::parse(&written, &Limits::DOCUMENT).unwrap();
        let canonical = document.root().canonical().unwrap();
        prop_assert_eq!(String::from_utf8(canonical), String::from_utf8(written.clone()));
    }

    #[test]
    fn what_is_written_is_read_again(root in documents()) {
        let mut writer = Writer::new();
        root.write(&mut writer);
        let written = writer.finish();
        let document = Document::parse(&written, &Limits::DOCUMENT).unwrap();
        let element = document.root();
        prop_assert_eq!(element.name(), root.name.rsplit(':').next().unwrap());
        for name in ["Id", "Algorithm"] {
            let value = root.attributes.get(name).map(|value| value.chars().map(carried).collect::<String>());
            prop_assert_eq!(element.attribute(name), value.as_deref());
        }
        if element.children().next().is_none() {
            prop_assert_eq!(element.text().unwrap(), root.text());
        }
    }

    #[test]
    fn no_octets_make_it_panic(octets: Vec<u8>) {
        hgs_xml::fuzzing::fuzz_document(&octets);
    }
}

#[test]
fn no_mutation_makes_it_panic() {
    let mut random = Random(6);
    for _ in 0..10_000 {
        let source = Source::random(
            &mut random,
            &Scope::new(),
            2,
            Extras::CommentsAndInstructions,
        )
        .source();
        hgs_xml::fuzzing::fuzz_document(source.as_bytes());
        hgs_xml::fuzzing::fuzz_document(&mutate(&mut random, source.as_bytes()));
    }
}
