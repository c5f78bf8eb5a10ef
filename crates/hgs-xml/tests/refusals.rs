//! What bad input gets: each limit and each construct outside the profile has an error of its own, with the place.

use hgs_xml::{Document, Error, Limits, Position};

fn refusal(octets: impl AsRef<[u8]>) -> Error {
    match Document::parse(octets.as_ref(), &Limits::DOCUMENT) {
        Err(error) => error,
        Ok(document) => panic!("accepted as {document:?}"),
    }
}

fn at(line: u32, column: u32) -> Position {
    Position { line, column }
}

#[test]
fn too_many_octets() {
    let mut document = b"<e>".to_vec();
    document.resize(Limits::DOCUMENT.bytes - "</e>".len(), b' ');
    document.extend(b"</e>");
    assert!(Document::parse(&document, &Limits::DOCUMENT).is_ok());
    document.push(b'\n');
    assert_eq!(
        refusal(&document),
        Error::TooManyOctets {
            limit: 262_144,
            found: 262_145
        }
    );
}

#[test]
fn too_deep() {
    let nested = |depth| "<e>".repeat(depth) + &"</e>".repeat(depth);
    let document = nested(64).into_bytes();
    let document = Document::parse(&document, &Limits::DOCUMENT).unwrap();
    assert_eq!(
        document.root().canonical().unwrap(),
        nested(64).into_bytes()
    );
    for depth in [65, 10_000] {
        let error = Error::TooDeep {
            limit: 64,
            at: at(1, 193),
        };
        assert_eq!(refusal(nested(depth)), error);
        assert_eq!(refusal("<e>".repeat(depth)), error);
    }
    // An empty element is as deep as any other.
    let leaf = nested(64).replace("<e></e>", "<e><f/></e>");
    assert!(matches!(refusal(leaf), Error::TooDeep { .. }));
}

#[test]
fn depth_costs_no_stack() {
    let limits = Limits {
        bytes: 10_000_000,
        depth: 1_000_000,
        nodes: 1_000_000,
        canonical: 10_000_000,
        ..Limits::DOCUMENT
    };
    let nested = "<e>".repeat(500_000) + &"</e>".repeat(500_000);
    let document = Document::parse(nested.as_bytes(), &limits).unwrap();
    assert!(document.root().canonical().unwrap() == nested.as_bytes());
}

#[test]
fn too_many_nodes() {
    let document = format!("<e>{}</e>", "<f/>".repeat(20_000));
    assert_eq!(refusal(document), Error::TooManyNodes { limit: 20_000 });
}

#[test]
fn too_many_attributes() {
    let element = |attributes| {
        let attributes: String = (0..attributes).map(|i| format!(" a{i}='1'")).collect();
        format!("<e{attributes}/>").into_bytes()
    };
    assert!(Document::parse(&element(32), &Limits::DOCUMENT).is_ok());
    assert_eq!(
        refusal(element(33)),
        Error::TooManyAttributes {
            limit: 32,
            at: at(1, 250)
        }
    );

    let wide = Limits {
        bytes: 1_000_000,
        ..Limits::DOCUMENT
    };
    let refused = Document::parse(&element(50_000), &wide).err();
    assert!(matches!(refused, Some(Error::TooManyAttributes { .. })));
}

#[test]
fn too_many_namespaces_in_scope() {
    let declarations =
        |from, to| -> String { (from..to).map(|i| format!(" xmlns:p{i}='u:'")).collect() };
    let document = |inner| {
        let (outer, middle) = (declarations(0, 12), declarations(12, 23));
        format!("<e{outer}><e{middle}><e/><e xmlns='u:'/><e{inner}/></e></e>").into_bytes()
    };
    let accepted = document(" xmlns='u:'");
    assert!(Document::parse(&accepted, &Limits::DOCUMENT).is_ok());
    let refused = refusal(document(" xmlns='u:' xmlns:q='u:'"));
    assert!(
        matches!(refused, Error::TooManyNamespaces { limit: 24, .. }),
        "{refused}"
    );
}

/// One long namespace name, which canonicalisation repeats on each element that uses it.
#[test]
fn canonical_form_too_long() {
    let name = format!("u:{}", "u".repeat(100_000));
    let document = |uses| format!("<e xmlns:p='{name}'>{}</e>", "<p:f/>".repeat(uses)).into_bytes();

    let octets = document(10);
    let parsed = Document::parse(&octets, &Limits::DOCUMENT).unwrap();
    assert!(parsed.root().canonical().unwrap().len() > 1_000_000);

    let octets = document(10_000);
    let parsed = Document::parse(&octets, &Limits::DOCUMENT).unwrap();
    let error = Error::CanonicalFormTooLong { limit: 1_048_576 };
    assert_eq!(parsed.root().canonical(), Err(error.clone()));
    let child = parsed.root().children().next().unwrap();
    assert_eq!(parsed.root().canonical_without(child), Err(error));
}

#[test]
fn other_encodings() {
    assert_eq!(refusal(b"<e>\xff</e>"), Error::NotUtf8 { offset: 3 });
    assert_eq!(refusal(b"<e>\xc0\xbc</e>"), Error::NotUtf8 { offset: 3 });
    assert_eq!(refusal("\u{feff}<e/>"), Error::ByteOrderMark);
    assert_eq!(refusal(b"\xfe\xff\0<\0e\0/\0>"), Error::ByteOrderMark);
    assert_eq!(refusal(b"\xff\xfe<\0e\0/\0>\0"), Error::ByteOrderMark);
    assert!(matches!(refusal(b"<\0e\0/\0>\0"), Error::Malformed { .. }));
    assert!(matches!(
        refusal("<?xml version='1.0'?>\u{feff}<e/>"),
        Error::Malformed { .. }
    ));
    assert_eq!(
        refusal("<?xml version='1.0' encoding='UTF-16'?><e/>"),
        Error::Encoding {
            declared: "UTF-16".into()
        }
    );
    assert_eq!(
        refusal("<?xml version='1.1'?><e/>"),
        Error::Version {
            declared: "1.1".into()
        }
    );
}

#[test]
fn document_type_declaration() {
    for document in [
        "<!DOCTYPE e><e/>",
        "<!DOCTYPE e []><e/>",
        "<!DOCTYPE e [<!ENTITY x 'y'>]><e>&x;</e>",
        "<!DOCTYPE e SYSTEM 'file:///etc/passwd'><e/>",
    ] {
        assert_eq!(
            refusal(document),
            Error::DocumentTypeDeclaration { at: at(1, 1) }
        );
    }
    let within = refusal("<e>\n<!DOCTYPE e></e>");
    assert_eq!(within, Error::DocumentTypeDeclaration { at: at(2, 1) });
}

#[test]
fn entities() {
    assert_eq!(
        refusal("<e>é &x;</e>"),
        Error::UndeclaredEntity {
            name: "x".into(),
            at: at(1, 6)
        }
    );
    assert!(matches!(
        refusal("<e a='&x;'/>"),
        Error::UndeclaredEntity { .. }
    ));
}

#[test]
fn character_references_beyond_xml() {
    for reference in [
        "&#xD800;",
        "&#x110000;",
        "&#99999999999;",
        "&#0;",
        "&#x1F;",
        "&#xFFFE;",
        "&#;",
        "&#x;",
        "&#X41;",
        "&#65",
        "&#-1;",
        "&#+65;",
        "&",
    ] {
        for document in [
            format!("<e>{reference}</e>"),
            format!("<e a='{reference}'/>"),
        ] {
            let refused = refusal(&document);
            assert!(
                matches!(refused, Error::Malformed { .. }),
                "{document}: {refused}"
            );
        }
    }
}

#[test]
fn comments_and_processing_instructions() {
    for (document, at) in [
        ("<!----><e/>", at(1, 1)),
        ("<e>a<!-- -->b</e>", at(1, 5)),
        ("<e/>\n<!---->", at(2, 1)),
    ] {
        assert_eq!(refusal(document), Error::Comment { at });
    }
    for (document, at) in [
        ("<?p?><e/>", at(1, 1)),
        ("<e>a<?p?>b</e>", at(1, 5)),
        ("<e/><?p ?>", at(1, 5)),
        (" <?xml version='1.0'?><e/>", at(1, 2)),
        ("<?xml\tversion='1.0'?><e/>", at(1, 1)),
        ("<?xml version='1.0'?><?xml version='1.0'?><e/>", at(1, 22)),
        ("<?xml-stylesheet href='x'?><e/>", at(1, 1)),
    ] {
        assert_eq!(refusal(document), Error::ProcessingInstruction { at });
    }
}

#[test]
fn lone_carriage_returns() {
    for document in [
        "<e>\r</e>",
        "<e>&amp;\r</e>",
        "<e a='\r'/>",
        "<e\r/>",
        "<e/>\r",
        "<e>\r\r\n</e>",
    ] {
        let refused = refusal(document);
        assert!(
            matches!(refused, Error::LoneCarriageReturn { .. }),
            "{document:?}: {refused}"
        );
    }
    let octets = b"<e\r\n>\r\n</e\r\n>\r\n";
    let document = Document::parse(octets, &Limits::DOCUMENT).unwrap();
    assert_eq!(document.root().text(), Ok("\n"));
}

#[test]
fn namespaces() {
    assert_eq!(
        refusal("<e><p:f/></e>"),
        Error::UndeclaredPrefix {
            prefix: "p".into(),
            at: at(1, 5)
        }
    );
    assert!(matches!(
        refusal("<e p:a=''/>"),
        Error::UndeclaredPrefix { .. }
    ));
    assert_eq!(
        refusal("<e xmlns:p='u:'><f xmlns:p=''/></e>"),
        Error::EmptyNamespace {
            prefix: "p".into(),
            at: at(1, 20)
        }
    );
    for document in [
        "<e xmlns:xmlns='u:'/>",
        "<xmlns:e/>",
        "<e xmlns:xml='u:'/>",
        "<e xmlns:p='http://www.w3.org/XML/1998/namespace'/>",
        "<e xmlns:p='http://www.w3.org/2000/xmlns/'/>",
        "<e xmlns='http://www.w3.org/2000/xmlns/'/>",
        "<e xmlns:p='u:' p:xmlns='v:'/>",
        "<:e/>",
        "<e></:e>",
        "<e :a=''/>",
        "<p:e:f xmlns:p='u:'/>",
    ] {
        let refused = refusal(document);
        assert!(
            matches!(
                refused,
                Error::Malformed { .. } | Error::UndeclaredPrefix { .. }
            ),
            "{document}: {refused}"
        );
    }
}

/// Canonical XML 1.0, section 1.3: there is no canonical form to verify anything over.
#[test]
fn relative_namespace_names() {
    assert_eq!(
        refusal("<e>\n<f xmlns:p='../&#117;'/></e>"),
        Error::RelativeNamespace {
            name: "../u".into(),
            at: at(2, 4)
        }
    );
    for document in ["<e xmlns='u'/>", "<e xmlns:p=' u:'/>", "<e xmlns=':'/>"] {
        let refused = refusal(document);
        assert!(
            matches!(refused, Error::RelativeNamespace { .. }),
            "{document}: {refused}"
        );
    }
    let absolute = b"<e xmlns:p='&#117;rn&#x3a;a'><f xmlns='u:'><g xmlns=''/></f></e>";
    assert!(Document::parse(absolute, &Limits::DOCUMENT).is_ok());
}

#[test]
fn duplicate_attributes() {
    for (document, name) in [
        ("<e a='1' a='2'/>", "a"),
        ("<e xmlns='u:' xmlns='v:'/>", "xmlns"),
        ("<e xmlns:p='u:' xmlns:p='u:'/>", "p"),
        ("<e xmlns:p='u:' xmlns:q='u:' p:a='' q:a=''/>", "a"),
    ] {
        let refused = refusal(document);
        assert!(
            matches!(&refused, Error::DuplicateAttribute { name: found, .. } if found == name),
            "{document}: {refused}"
        );
    }
}

#[test]
fn every_truncation_is_refused() {
    let document =
        "<?xml version='1.0'?>\n<p:e xmlns:p=\"u:\" a='1'>\r\n<f>é&amp;<![CDATA[x]]></f><g/></p:e>";
    assert!(Document::parse(document.as_bytes(), &Limits::DOCUMENT).is_ok());
    for length in 0..document.len() {
        refusal(&document.as_bytes()[..length]);
    }
    for (octets, error) in [
        ("", Error::NoRootElement),
        (" \n", Error::NoRootElement),
        ("<?xml version='1.0'?>", Error::NoRootElement),
        ("<e", Error::Truncated),
        ("<e a", Error::Truncated),
        ("<e a='", Error::Truncated),
        ("<e>", Error::Truncated),
        ("<e>text", Error::Truncated),
        ("<e><f/></e", Error::Truncated),
        ("<e><![CDATA[", Error::Truncated),
    ] {
        assert_eq!(refusal(octets), error, "{octets}");
    }
}

#[test]
fn trailing_content() {
    for (document, at) in [
        ("<e/><f/>", at(1, 5)),
        ("<e></e>\ntext", at(2, 1)),
        ("<e/>\0", at(1, 5)),
        ("<e/> &#32;", at(1, 6)),
    ] {
        assert_eq!(refusal(document), Error::TrailingContent { at });
    }
    assert!(Document::parse(b"<e/> \t\r\n", &Limits::DOCUMENT).is_ok());
}

#[test]
fn malformed() {
    for document in [
        "text",
        "<e></f>",
        "</e>",
        "<e></e></e>",
        "<e a/>",
        "<e a=1/>",
        "<e a='1'b='2'/>",
        "<e a='<'/>",
        "<e 'a'/>",
        "<1/>",
        "< e/>",
        "<e>]]></e>",
        "<e>\u{1}</e>",
        "<e>\u{ffff}</e>",
        "<e / >",
        "<e><!ELEMENT e ANY></e>",
        "<![CDATA[x]]><e/>",
        "<e/><![CDATA[x]]>",
    ] {
        let refused = refusal(document);
        assert!(
            matches!(
                refused,
                Error::Malformed { .. } | Error::TrailingContent { .. }
            ),
            "{document:?}: {refused}"
        );
    }
}

#[test]
fn errors_quote_no_more_than_a_line_can_take() {
    let document = format!("<e><f xmlns='u:&#10;\"{}'/></e>", "u".repeat(10_000));
    let document = Document::parse(document.as_bytes(), &Limits::DOCUMENT).unwrap();
    let mut sequence = document.root().sequence().unwrap();
    let message = sequence.required("urn:a", "g").unwrap_err().to_string();
    assert!(
        message.starts_with("expected {urn:a}g, found element {u:\\n\\\"uuu"),
        "{message}"
    );
    assert!(
        message.ends_with("u…}f") && message.len() < 200,
        "{message}"
    );
}
