use std::fmt;

use crate::canonical::canonical_form;
use crate::declaration;
use crate::error::{Error, expanded_name};
use crate::limits::Limits;
use crate::nodes::{Content, ElementNode, NodeId, Siblings};
use crate::parse::{Parsed, parse};

/// A document that was read within [`Limits`] and holds to the profile of this crate.
///
/// It borrows the octets that it was read from.
pub struct Document<'t> {
    source: &'t str,
    parsed: Parsed<'t>,
    limits: Limits,
}

impl<'t> Document<'t> {
    /// Reads a whole document.
    ///
    /// # Errors
    ///
    /// One of [`Error`]'s variants above [`Error::UnexpectedElement`], which are about the document; the others are
    /// about what an element holds, and come from its reader.
    pub fn parse(octets: &'t [u8], limits: &Limits) -> Result<Self, Error> {
        let source = decode(octets, limits)?;
        let start = declaration::check(source)?;
        Ok(Self {
            source,
            parsed: parse(source, start, limits)?,
            limits: *limits,
        })
    }

    /// The outermost element.
    pub fn root(&self) -> Element<'_, 't> {
        Element {
            document: self,
            id: self.parsed.root,
        }
    }
}

impl fmt::Debug for Document<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Document")
            .field("root", &self.root())
            .finish_non_exhaustive()
    }
}

fn decode<'t>(octets: &'t [u8], limits: &Limits) -> Result<&'t str, Error> {
    if octets.len() > limits.bytes {
        return Err(Error::TooManyOctets {
            limit: limits.bytes,
            found: octets.len(),
        });
    }
    if let [0xef, 0xbb, 0xbf, ..] | [0xfe, 0xff, ..] | [0xff, 0xfe, ..] = octets {
        return Err(Error::ByteOrderMark);
    }
    std::str::from_utf8(octets).map_err(|error| Error::NotUtf8 {
        offset: error.valid_up_to(),
    })
}

/// An element of a [`Document`]: a cheap handle.
#[derive(Clone, Copy)]
pub struct Element<'d, 't> {
    document: &'d Document<'t>,
    /// The place of a node that is an element.
    id: NodeId,
}

impl<'d, 't> Element<'d, 't> {
    fn node(&self) -> &'d ElementNode<'t> {
        let element = self.document.parsed.nodes.element(self.id);
        element.expect("a handle is made for elements only")
    }

    /// The local name.
    pub fn name(&self) -> &'t str {
        self.node().name.local
    }

    /// The namespace name, or `None` for an element in no namespace.
    pub fn namespace(&self) -> Option<&'d str> {
        let namespace = self.document.parsed.nodes.namespace(self.node().namespace);
        (!namespace.is_empty()).then_some(namespace)
    }

    /// Whether this is the element `name` of `namespace`.
    pub fn is(&self, namespace: &str, name: &str) -> bool {
        self.name() == name && self.namespace() == Some(namespace)
    }

    /// Refuses any other element than `name` of `namespace`.
    ///
    /// # Errors
    ///
    /// [`Error::UnexpectedElement`] if this is another.
    pub fn expect(&self, namespace: &str, name: &str) -> Result<(), Error> {
        if self.is(namespace, name) {
            return Ok(());
        }
        Err(self.unexpected(expanded_name(Some(namespace), name)))
    }

    /// The error for an element that stands where `expected` should.
    #[must_use]
    pub fn unexpected(&self, expected: impl Into<String>) -> Error {
        Error::UnexpectedElement {
            expected: expected.into(),
            found: self.expanded_name(),
        }
    }

    /// The value of the attribute `name` in no namespace.
    pub fn attribute(&self, name: &str) -> Option<&'d str> {
        self.attributes()
            .find(|attribute| attribute.name == name && attribute.namespace.is_none())
            .map(|attribute| attribute.value)
    }

    /// The value of the attribute `name` in no namespace.
    ///
    /// # Errors
    ///
    /// [`Error::MissingAttribute`] if the element has none.
    pub fn required_attribute(&self, name: &str) -> Result<&'d str, Error> {
        self.attribute(name).ok_or_else(|| Error::MissingAttribute {
            element: self.expanded_name(),
            attribute: name.into(),
        })
    }

    /// All attributes in document order; namespace declarations are none.
    pub fn attributes(&self) -> impl Iterator<Item = Attribute<'d>> + use<'d, 't> {
        let nodes = &self.document.parsed.nodes;
        nodes.attributes(self.node()).iter().map(|attribute| {
            let namespace = nodes.namespace(attribute.namespace);
            Attribute {
                namespace: (!namespace.is_empty()).then_some(namespace),
                name: attribute.name.local,
                value: &attribute.value,
            }
        })
    }

    /// Refuses every attribute but those in `allowed`, which are in no namespace.
    ///
    /// # Errors
    ///
    /// [`Error::UnexpectedAttribute`] for the first other attribute.
    pub fn expect_attributes(&self, allowed: &[&str]) -> Result<(), Error> {
        let mut unknown = self.attributes().filter(|attribute| {
            attribute.namespace.is_some() || !allowed.contains(&attribute.name)
        });
        match unknown.next() {
            None => Ok(()),
            Some(attribute) => Err(Error::UnexpectedAttribute {
                element: self.expanded_name(),
                attribute: expanded_name(attribute.namespace, attribute.name),
            }),
        }
    }

    /// The elements directly within this one; text between them is passed over.
    pub fn children(&self) -> Children<'d, 't> {
        Children {
            document: self.document,
            siblings: self.siblings(),
        }
    }

    /// All nodes directly within this element.
    pub(crate) fn siblings(&self) -> Siblings<'d, 't> {
        self.document.parsed.nodes.children(self.node())
    }

    pub(crate) fn content(&self, id: NodeId) -> &'d Content<'t> {
        &self.document.parsed.nodes.node(id).content
    }

    /// The text of an element that holds nothing else, as it stands: white space is kept.
    ///
    /// # Errors
    ///
    /// [`Error::UnexpectedElement`] if the element has a child element.
    pub fn text(&self) -> Result<&'d str, Error> {
        if let Some(child) = self.children().next() {
            return Err(child.unexpected(format!("only text in {}", self.expanded_name())));
        }
        // Text never stands beside text in the tree.
        match self.siblings().next().map(|node| self.content(node)) {
            Some(Content::Text(text)) => Ok(text),
            _ => Ok(""),
        }
    }

    /// The element as it stands in the document.
    ///
    /// Where this equals [`Self::canonical`] the element declares all that it uses, and what its readers give is what
    /// they would give if the canonical form were read by itself.
    pub fn source(&self) -> &'t str {
        let document = self.document;
        let range = document.parsed.nodes.node(self.id).start..self.node().end;
        document.source.get(range).unwrap_or_default()
    }

    /// The canonical form of this element: [Exclusive XML Canonicalization 1.0] without comments and without an
    /// `InclusiveNamespaces` list.
    ///
    /// # Errors
    ///
    /// [`Error::CanonicalFormTooLong`] beyond [`Limits::canonical`].
    ///
    /// [Exclusive XML Canonicalization 1.0]: https://www.w3.org/TR/xml-exc-c14n/
    pub fn canonical(&self) -> Result<Vec<u8>, Error> {
        self.canonical_form(None)
    }

    /// The canonical form of this element as if `omitted`, an element within it, were not there: the
    /// enveloped-signature transform ([XML Signature] 6.6.4), then [`Self::canonical`].
    ///
    /// An `omitted` that is not within this element changes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::CanonicalFormTooLong`] beyond [`Limits::canonical`].
    ///
    /// [XML Signature]: https://www.w3.org/TR/xmldsig-core1/#sec-EnvelopedSignature
    pub fn canonical_without(&self, omitted: Self) -> Result<Vec<u8>, Error> {
        self.canonical_form(Some(omitted.id))
    }

    fn canonical_form(&self, omitted: Option<NodeId>) -> Result<Vec<u8>, Error> {
        let Document { parsed, limits, .. } = self.document;
        canonical_form(&parsed.nodes, self.id, omitted, limits)
    }

    /// The name for errors, as `{namespace}name`.
    pub(crate) fn expanded_name(&self) -> String {
        expanded_name(self.namespace(), self.name())
    }
}

impl PartialEq for Element<'_, '_> {
    /// The same element of the same document.
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.document, other.document) && self.id == other.id
    }
}

impl Eq for Element<'_, '_> {}

impl fmt::Debug for Element<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.expanded_name())
    }
}

/// An attribute of an [`Element`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attribute<'d> {
    /// The namespace name, or `None` for an attribute in no namespace, as most are.
    pub namespace: Option<&'d str>,
    /// The local name.
    pub name: &'d str,
    /// The value, normalised as XML 1.0 says.
    pub value: &'d str,
}

/// The elements directly within an [`Element`], in document order.
#[derive(Clone)]
pub struct Children<'d, 't> {
    document: &'d Document<'t>,
    siblings: Siblings<'d, 't>,
}

impl<'d, 't> Iterator for Children<'d, 't> {
    type Item = Element<'d, 't>;

    fn next(&mut self) -> Option<Self::Item> {
        let document = self.document;
        let id = self
            .siblings
            .find(|id| document.parsed.nodes.element(*id).is_some())?;
        Some(Element { document, id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMESPACE: &str = "urn:a";

    fn read(text: &str) -> Document<'_> {
        Document::parse(text.as_bytes(), &Limits::DOCUMENT).unwrap()
    }

    #[test]
    fn names_are_resolved_and_prefixes_do_not_matter() {
        let document = read("<p:e xmlns:p='urn:a' xmlns='urn:b'><f/><f xmlns=''/></p:e>");
        let root = document.root();
        assert!(root.is(NAMESPACE, "e") && !root.is("urn:b", "e") && !root.is(NAMESPACE, "p:e"));
        let namespaces: Vec<_> = root.children().map(|child| child.namespace()).collect();
        assert_eq!(namespaces, [Some("urn:b"), None]);
        let unqualified = root.children().last().unwrap();
        assert!(!unqualified.is("", "f"), "no namespace is not a namespace");
    }

    #[test]
    fn the_source_of_an_element_is_from_tag_to_tag() {
        let document = read("<?xml version='1.0'?> <e><f a='>'>x</f ><g/></e>\n");
        let sources: Vec<_> = document
            .root()
            .children()
            .map(|child| child.source())
            .collect();
        assert_eq!(sources, ["<f a='>'>x</f >", "<g/>"]);
        assert_eq!(document.root().source(), "<e><f a='>'>x</f ><g/></e>");
    }

    #[test]
    fn an_attribute_is_found_in_no_namespace_only() {
        let document = read("<e xmlns='urn:a' xmlns:p='urn:a' p:Id='1' Name='&lt;\n&#10;'/>");
        let root = document.root();
        assert_eq!(root.attribute("Id"), None);
        assert_eq!(root.attribute("Name"), Some("< \n"));
        assert_eq!(root.required_attribute("Name"), Ok("< \n"));
        assert_eq!(
            root.required_attribute("Id"),
            Err(Error::MissingAttribute {
                element: "{urn:a}e".into(),
                attribute: "Id".into()
            })
        );
        let all: Vec<_> = root.attributes().map(|a| (a.namespace, a.name)).collect();
        assert_eq!(all, [(Some("urn:a"), "Id"), (None, "Name")]);
    }

    #[test]
    fn unknown_attributes_are_refused_by_name() {
        let document = read("<e xmlns:p='urn:a' Id='1' p:Id='2'/>");
        let unexpected = |attribute: &str| {
            Err(Error::UnexpectedAttribute {
                element: "e".into(),
                attribute: attribute.into(),
            })
        };
        assert_eq!(document.root().expect_attributes(&[]), unexpected("Id"));
        assert_eq!(
            document.root().expect_attributes(&["Id"]),
            unexpected("{urn:a}Id")
        );
        assert_eq!(
            read("<e xmlns='urn:a'/>").root().expect_attributes(&[]),
            Ok(())
        );
    }

    #[test]
    fn text_is_all_of_it_or_refused() {
        assert_eq!(read("<e/>").root().text(), Ok(""));
        assert_eq!(
            read("<e> a&amp;<![CDATA[<b>]]>\r\n</e>").root().text(),
            Ok(" a&<b>\n")
        );
        assert_eq!(
            read("<e>a<f/></e>").root().text(),
            Err(Error::UnexpectedElement {
                expected: "only text in e".into(),
                found: "f".into()
            })
        );
        // What hid the end of a user's name from SAML libraries.
        let octets = b"<e>admin<!-- -->.evil.com</e>";
        let refused = Document::parse(octets, &Limits::DOCUMENT).err();
        assert!(matches!(refused, Some(Error::Comment { .. })));
    }

    #[test]
    fn a_sequence_has_only_white_space_between_elements() {
        assert!(read("<e>\r\n\t <f>text</f> </e>").root().sequence().is_ok());
        for text in [
            "<e>x<f/></e>",
            "<e><f/>&#160;</e>",
            "<e><f/><![CDATA[x]]></e>",
        ] {
            let document = read(text);
            let refused = document.root().sequence().err();
            let expected = Error::UnexpectedText {
                element: "e".into(),
            };
            assert_eq!(refused, Some(expected), "{text}");
        }
    }
}
