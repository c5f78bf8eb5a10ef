//! Other people's opinion of our canonical form, and of what is a document: xmllint, and published vectors.

mod generate;

use std::fs;
use std::path::Path;
use std::process::Command;

use generate::{Element as Source, Extras, Node, Random, Scope, mutate};
use hgs_xml::{Document, Element, Limits};

const LIMITS: Limits = Limits::DOCUMENT;

#[test]
fn xmllint_agrees_on_generated_documents() {
    let mut random = Random(1);
    let documents: Vec<_> = (0..3_000)
        .map(|_| Source::random(&mut random, &Scope::new(), 4, Extras::None).source())
        .collect();

    let theirs = xmllint_canonical(&documents);
    for (document, theirs) in documents.iter().zip(theirs) {
        let ours = canonical(document.as_bytes());
        assert_eq!(ours, theirs, "of {document:?}");
    }
}

#[test]
fn xmllint_agrees_on_subtrees() {
    let mut random = Random(2);
    let mut ours = Vec::new();
    let mut standalone = Vec::new();
    for _ in 0..1_000 {
        let root = Source::random(&mut random, &Scope::new(), 4, Extras::None);
        let octets = root.source().into_bytes();
        let document = Document::parse(&octets, &LIMITS).unwrap();
        collect_subtrees(
            document.root(),
            &root,
            &Scope::new(),
            &mut ours,
            &mut standalone,
        );
    }
    assert!(ours.len() > 3_000, "only {} subtrees", ours.len());

    for ((ours, theirs), source) in ours
        .iter()
        .zip(xmllint_canonical(&standalone))
        .zip(&standalone)
    {
        assert_eq!(*ours, theirs, "of {source:?}");
    }
}

/// For each element below `element`: our canonical form of the subtree, and the source of a document of its own that
/// declares what is in scope there. Exclusive canonicalisation promises that both have the same canonical form.
fn collect_subtrees(
    element: Element<'_, '_>,
    source: &Source,
    scope: &Scope,
    ours: &mut Vec<String>,
    standalone: &mut Vec<String>,
) {
    let scope = source.scope_within(scope);
    let sources = source.children.iter().filter_map(|child| match child {
        Node::Element(element) => Some(element),
        _ => None,
    });
    for (child, source) in element.children().zip(sources) {
        ours.push(String::from_utf8(child.canonical().unwrap()).unwrap());
        standalone.push(source.standalone(&scope));
        collect_subtrees(child, source, &scope, ours, standalone);
    }
}

#[test]
fn a_document_without_its_signature_is_the_document_that_never_had_one() {
    const SIGNATURE: &str = "<s:Signature xmlns:s='urn:s'>\r\n<a xmlns=''/> </s:Signature>";
    let mut random = Random(4);
    let mut ours = Vec::new();
    let mut unsigned = Vec::new();
    for _ in 0..500 {
        let mut root = Source::random(&mut random, &Scope::new(), 3, Extras::None);
        unsigned.push(root.source());

        let place = random.below(root.children.len() + 1);
        root.children.insert(place, Node::Source(SIGNATURE.into()));
        let before = &root.children[..place];
        let elements = before
            .iter()
            .filter(|node| matches!(node, Node::Element(_)));
        let signed = root.source();
        let document = Document::parse(signed.as_bytes(), &LIMITS).unwrap();
        let signature = document.root().children().nth(elements.count()).unwrap();
        assert!(signature.is("urn:s", "Signature"));
        let canonical = document.root().canonical_without(signature).unwrap();
        ours.push(String::from_utf8(canonical).unwrap());
    }
    assert_eq!(ours, xmllint_canonical(&unsigned));
}

/// The parser must not be laxer than the rest of the world, or two programs would read two
/// documents in the same octets.
#[test]
fn xmllint_accepts_whatever_we_accept() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = Random(5);
    let mut accepted = Vec::new();
    for i in 0..30_000 {
        let source = Source::random(&mut random, &Scope::new(), 2, Extras::None).source();
        let mutated = mutate(&mut random, source.as_bytes());
        if mutated != source.as_bytes() && Document::parse(&mutated, &LIMITS).is_ok() {
            fs::write(folder.path().join(format!("{i}.xml")), &mutated).unwrap();
            accepted.push((i, mutated));
        }
    }
    assert!(
        accepted.len() > 1_000,
        "only {} mutations accepted",
        accepted.len()
    );

    let files = accepted.iter().map(|(i, _)| format!("{i}.xml"));
    let output = xmllint()
        .arg("--noout")
        .args(files)
        .current_dir(folder.path())
        .output()
        .unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    // That a namespace name should be a URI is a matter of style, not of being well-formed.
    let error = complaints
        .lines()
        .find(|line| line.contains(" error : ") && !line.ends_with("is not a valid URI"));
    assert_eq!(error, None);

    let plain: Vec<_> = accepted
        .iter()
        .filter(|(_, document)| declares_plainly(document))
        .map(|(_, document)| String::from_utf8(document.clone()).unwrap())
        .collect();
    assert!(
        plain.len() > 1_000,
        "only {} mutations compared",
        plain.len()
    );
    for (document, theirs) in plain.iter().zip(xmllint_canonical(&plain)) {
        assert_eq!(canonical(document.as_bytes()), theirs, "of {document:?}");
    }
}

/// Whether the namespace names of a document are those that xmllint canonicalises as the standard says.
fn declares_plainly(document: &[u8]) -> bool {
    let document = std::str::from_utf8(document).unwrap();
    document.split("xmlns").skip(1).all(|declaration| {
        let Some(quote) = declaration.find(['"', '\'']) else {
            return true;
        };
        let (quote, value) = declaration[quote..].split_at(1);
        let namespace = value.split(quote).next().unwrap_or_default();
        namespace.is_empty() || generate::NAMESPACES.contains(&namespace)
    })
}

#[test]
fn published_vectors_of_exclusive_canonicalisation() {
    let Some(shared) = hgs_testkit::shared() else {
        return;
    };
    let folder = shared.join("vectors/exc-c14n");
    for (input, apex, expected) in [
        (
            "example2_2_1.xml",
            "elem2",
            "example2_2_c14nized_exclusive.xml",
        ),
        (
            "example2_2_2.xml",
            "elem2",
            "example2_2_c14nized_exclusive.xml",
        ),
        (
            "example2_2_3.xml",
            "p",
            "example2_2_3_c14nized_exclusive.xml",
        ),
        ("example2_4.xml", "elem2", "example2_4_c14nized.xml"),
        ("plain-soap-1.1.xml", "Body", "plain-soap-c14nized.xml"),
    ] {
        // A processing instruction, which is refused here, stands outside the element whose form is compared.
        let text = String::from_utf8(read(&folder, input)).unwrap();
        let octets = text.replace("<?testpi 123?>", "").into_bytes();
        let document = Document::parse(&octets, &LIMITS).unwrap();
        let canonical = find(document.root(), apex)
            .expect(apex)
            .canonical()
            .unwrap();
        assert!(
            canonical == read(&folder, expected),
            "{input} is not {expected}"
        );
    }
}

#[test]
fn documents_that_fooled_signature_libraries() {
    let Some(shared) = hgs_testkit::shared() else {
        return;
    };
    let folder = shared.join("vectors/xmldsig-attacks");
    let mut documents = Vec::new();
    for entry in fs::read_dir(&folder).unwrap() {
        let octets = fs::read(entry.unwrap().path()).unwrap();
        hgs_xml::fuzzing::fuzz_document(&octets);
        if Document::parse(&octets, &LIMITS).is_ok() {
            documents.push(String::from_utf8(octets).unwrap());
        }
    }
    for (document, theirs) in documents.iter().zip(xmllint_canonical(&documents)) {
        assert_eq!(canonical(document.as_bytes()), theirs);
    }
    // The comment within a digest is what fooled them.
    let octets = read(&folder, "valid_saml_with_digest_comment.xml");
    let refusal = Document::parse(&octets, &LIMITS).unwrap_err();
    assert!(
        matches!(refusal, hgs_xml::Error::Comment { .. }),
        "{refusal}"
    );
}

fn read(folder: &Path, file: &str) -> Vec<u8> {
    fs::read(folder.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn find<'d, 't>(element: Element<'d, 't>, name: &str) -> Option<Element<'d, 't>> {
    if element.name() == name {
        return Some(element);
    }
    element.children().find_map(|child| find(child, name))
}

fn canonical(document: &[u8]) -> String {
    let document = Document::parse(document, &LIMITS).unwrap();
    String::from_utf8(document.root().canonical().unwrap()).unwrap()
}

fn xmllint() -> Command {
    Command::new(hgs_testkit::tool("xmllint", "libxml2-utils"))
}

/// The canonical form of each document by xmllint, started once: the documents are put side by side in one that
/// declares nothing, so that the canonical form of each is the same as alone.
fn xmllint_canonical(documents: &[String]) -> Vec<String> {
    const SEPARATOR: &str = "<separator></separator>";

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("documents.xml");
    let all = documents
        .iter()
        .map(|document| without_declaration(document))
        .collect::<Vec<_>>()
        .join(SEPARATOR);
    fs::write(&file, format!("<documents>{all}</documents>")).unwrap();

    let output = xmllint().arg("--exc-c14n").arg(file).output().unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "xmllint: {complaints}");
    let canonical = String::from_utf8(output.stdout).unwrap();
    let canonical: Vec<_> = canonical
        .strip_prefix("<documents>")
        .and_then(|rest| rest.strip_suffix("</documents>"))
        .unwrap()
        .split(SEPARATOR)
        .map(String::from)
        .collect();
    assert_eq!(canonical.len(), documents.len());
    canonical
}

fn without_declaration(document: &str) -> &str {
    match document.strip_prefix("<?xml ") {
        Some(rest) => rest.split_once("?>").unwrap().1.trim(),
        None => document.trim(),
    }
}
