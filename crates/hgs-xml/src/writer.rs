use std::ops::Range;
use std::sync::Arc;

use crate::markup::{
    Rendered, prefix_of, push_attribute, push_declaration, push_text, representable,
};

/// Writes elements in their own canonical form: what is written is what [`Element::canonical`] gives when it is read.
///
/// Namespaces are declared as in XML, with `xmlns` and `xmlns:prefix` among the attributes of the element where they
/// begin to hold. They are *written* where exclusive canonicalisation has them: on the outermost elements that use
/// them. So it does no harm to declare everything on the root element. No white space is added and no XML declaration.
///
/// Names are the program's own and are not checked, beyond that their prefixes are declared. Text and values may be
/// anyone's: they are escaped, and a character that XML 1.0 can't carry becomes U+FFFD.
///
/// [`Element::canonical`]: crate::Element::canonical
#[derive(Default)]
pub struct Writer {
    output: Vec<u8>,
    open: Vec<Open>,
    /// The declarations in scope, innermost last, written or not.
    declared: Vec<(Arc<str>, Arc<str>)>,
    rendered: Rendered<Arc<str>>,
}

/// An element that was started and is not ended.
struct Open {
    /// Where its name stands in the output.
    name: Range<usize>,
    /// The length of [`Writer::declared`] outside it.
    declared: usize,
    /// The mark of [`Writer::rendered`] outside it.
    rendered: usize,
}

impl Writer {
    /// A writer that has written nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// A writer with room for a number of octets, for those who know how long the result will be.
    pub fn with_capacity(octets: usize) -> Self {
        Self {
            output: Vec::with_capacity(octets),
            ..Self::default()
        }
    }

    /// Starts an element. `attributes` are pairs of a qualified name and a value, in any order, with the namespace
    /// declarations among them.
    ///
    /// # Panics
    ///
    /// If a prefix is not declared, on this element or on one around it.
    pub fn start(&mut self, name: &str, attributes: &[(&str, &str)]) {
        let declared = self.declared.len();
        let rendered = self.rendered.mark();
        for (attribute, value) in attributes {
            if let Some(prefix) = declared_prefix(attribute) {
                self.declared
                    .push((prefix.into(), representable(value).into()));
            }
        }

        self.output.push(b'<');
        let begin = self.output.len();
        self.output.extend_from_slice(name.as_bytes());
        self.open.push(Open {
            name: begin..self.output.len(),
            declared,
            rendered,
        });

        let mut ordered: Vec<_> = attributes
            .iter()
            .filter(|(attribute, _)| declared_prefix(attribute).is_none())
            .map(|(attribute, value)| (self.attribute_key(attribute), *attribute, *value))
            .collect();
        ordered.sort_unstable();
        self.declare_used(name, &ordered);
        for (_, attribute, value) in ordered {
            push_attribute(&mut self.output, attribute, &representable(value));
        }
        self.output.push(b'>');
    }

    /// Writes character data.
    pub fn text(&mut self, text: &str) {
        push_text(&mut self.output, &representable(text));
    }

    /// Writes an element that holds only text, which may be empty.
    ///
    /// # Panics
    ///
    /// As [`Self::start`].
    pub fn element(&mut self, name: &str, attributes: &[(&str, &str)], text: &str) {
        self.start(name, attributes);
        self.text(text);
        self.end();
    }

    /// Ends the element that was started last.
    ///
    /// # Panics
    ///
    /// If none is open.
    pub fn end(&mut self) {
        let open = self.open.pop().expect("each end has its start");
        self.output.extend_from_slice(b"</");
        self.output.extend_from_within(open.name);
        self.output.push(b'>');
        self.declared.truncate(open.declared);
        self.rendered.leave(open.rendered);
    }

    /// Puts in the canonical form of an element as it stands, so that a signature over it still holds.
    ///
    /// The element's own canonical form stays these octets. The element around it is canonical only if it declares
    /// none of the same namespaces, and an element in no namespace must not be put where a default namespace is in scope.
    pub fn raw_canonical(&mut self, canonical: &[u8]) {
        self.output.extend_from_slice(canonical);
    }

    /// The octets written.
    ///
    /// # Panics
    ///
    /// If an element is still open.
    pub fn finish(self) -> Vec<u8> {
        assert!(self.open.is_empty(), "each start has its end");
        self.output
    }

    /// Writes the declarations that an element and its attributes use and that are not yet written.
    fn declare_used(&mut self, element: &str, attributes: &[(AttributeKey<'_>, &str, &str)]) {
        let mark = self.rendered.mark();
        if let Some((prefix, namespace)) = self.declaration(element) {
            self.rendered.utilise(prefix, namespace);
        }
        for (_, attribute, _) in attributes.iter().filter(|(_, name, _)| name.contains(':')) {
            if let Some((prefix, namespace)) = self.declaration(attribute) {
                self.rendered.utilise(prefix, namespace);
            }
        }
        for (prefix, namespace) in self.rendered.since(mark) {
            push_declaration(&mut self.output, prefix, namespace);
        }
    }

    /// The sort key of an attribute in canonical order: only those with a prefix have a namespace.
    fn attribute_key<'a>(&self, attribute: &'a str) -> AttributeKey<'a> {
        match attribute.split_once(':') {
            None => (None, attribute),
            Some(("xml", local)) => (Some(XML_NAMESPACE.into()), local),
            Some((_, local)) => {
                let declaration = self.declaration(attribute);
                (declaration.map(|(_, namespace)| namespace), local)
            }
        }
    }

    /// The declaration in scope for the prefix of `name`, if it needs one.
    fn declaration(&self, name: &str) -> Option<(Arc<str>, Arc<str>)> {
        let prefix = prefix_of(name);
        let declaration = self
            .declared
            .iter()
            .rev()
            .find(|(declared, _)| **declared == *prefix);
        assert!(
            declaration.is_some() || matches!(prefix, "" | "xml"),
            "the prefix of {name} is not declared"
        );
        declaration.cloned()
    }
}

/// Namespace and local name.
type AttributeKey<'a> = (Option<Arc<str>>, &'a str);

/// The namespace of the prefix `xml`, which needs no declaration.
const XML_NAMESPACE: &str = "http://www.w3.org/XML/1998/namespace";

/// The prefix that an attribute declares, if it is a namespace declaration; empty for `xmlns` itself.
fn declared_prefix(attribute: &str) -> Option<&str> {
    match attribute {
        "xmlns" => Some(""),
        _ => attribute.strip_prefix("xmlns:"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Writer)) -> String {
        let mut writer = Writer::with_capacity(256);
        write(&mut writer);
        String::from_utf8(writer.finish()).unwrap()
    }

    #[test]
    fn declarations_stand_where_they_are_used_first() {
        let document = written(|writer| {
            let declarations = [
                ("xmlns:b", "urn:b"),
                ("Id", "1"),
                ("xmlns", "urn:a"),
                ("xmlns:unused", "urn:u"),
            ];
            writer.start("Outer", &declarations);
            writer.element("b:Inner", &[], "");
            writer.element(
                "b:Inner",
                &[("xmlns:b", "urn:c"), ("xml:lang", "en")],
                "text",
            );
            writer.start("Inner", &[("b:z", "1"), ("y", "2")]);
            writer.element("b:Leaf", &[("xmlns", "")], "");
            writer.element("Leaf", &[("xmlns", "")], "");
            writer.end();
            writer.end();
        });
        assert_eq!(
            document,
            "<Outer xmlns=\"urn:a\" Id=\"1\">\
             <b:Inner xmlns:b=\"urn:b\"></b:Inner>\
             <b:Inner xmlns:b=\"urn:c\" xml:lang=\"en\">text</b:Inner>\
             <Inner xmlns:b=\"urn:b\" y=\"2\" b:z=\"1\"><b:Leaf></b:Leaf><Leaf xmlns=\"\"></Leaf></Inner>\
             </Outer>"
        );
    }

    #[test]
    fn text_and_values_are_escaped() {
        let document = written(|writer| {
            let value = "<>&\"'\t\n\r\u{1}é";
            writer.element("e", &[("a", value)], value);
        });
        assert_eq!(
            document,
            "<e a=\"&lt;>&amp;&quot;'&#x9;&#xA;&#xD;\u{fffd}é\">&lt;&gt;&amp;\"'\t\n&#xD;\u{fffd}é</e>"
        );
    }

    #[test]
    fn canonical_octets_are_spliced_untouched() {
        let document = written(|writer| {
            writer.start("e", &[]);
            writer.raw_canonical(b"<f>\n</f>");
            writer.end();
        });
        assert_eq!(document, "<e><f>\n</f></e>");
    }

    #[test]
    #[should_panic(expected = "the prefix of p:e is not declared")]
    fn undeclared_prefixes_are_the_programs_fault() {
        Writer::new().start("p:e", &[]);
    }

    #[test]
    #[should_panic(expected = "each start has its end")]
    fn open_elements_are_the_programs_fault() {
        let mut writer = Writer::new();
        writer.start("e", &[]);
        writer.finish();
    }
}
