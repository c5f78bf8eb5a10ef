//! Exclusive XML Canonicalization 1.0, without comments.

use roxmltree::{Attribute, Node, NodeType};

use crate::error::Error;
use crate::limits::Limits;
use crate::markup::{
    Rendered, leading_name, prefix_of, push_attribute, push_declaration, push_text,
};

/// The canonical form of `apex` and what it holds, but for the subtree of `omitted`.
pub(crate) fn canonical_form<'d, 't>(
    apex: Node<'d, 't>,
    omitted: Option<Node<'d, 't>>,
    limits: &Limits,
) -> Result<Vec<u8>, Error> {
    let source = apex.range();
    let mut canonicaliser = Canonicaliser {
        output: Vec::with_capacity(source.len() + source.len() / 4),
        rendered: Rendered::default(),
        open: Vec::with_capacity(16),
        attributes: Vec::new(),
    };
    let walk = Walk {
        apex,
        omitted,
        next: Some(Step::Enter(apex)),
    };
    for step in walk {
        match step {
            Step::Enter(node) => canonicaliser.enter(node),
            Step::Leave(element) => canonicaliser.leave(element),
        }
        if canonicaliser.output.len() > limits.canonical {
            return Err(Error::CanonicalFormTooLong {
                limit: limits.canonical,
            });
        }
    }
    Ok(canonicaliser.output)
}

struct Canonicaliser<'d, 't> {
    output: Vec<u8>,
    rendered: Rendered<&'d str>,
    /// For each open element, where its declarations begin in `rendered`.
    open: Vec<usize>,
    /// The attributes of the element at hand; kept for its allocation.
    attributes: Vec<Attribute<'d, 't>>,
}

impl<'d, 't> Canonicaliser<'d, 't> {
    fn enter(&mut self, node: Node<'d, 't>) {
        match node.node_type() {
            NodeType::Element => self.start_tag(node),
            NodeType::Text => push_text(&mut self.output, node.text().unwrap_or_default()),
            NodeType::PI => self.processing_instruction(node),
            NodeType::Comment | NodeType::Root => {}
        }
    }

    fn start_tag(&mut self, element: Node<'d, 't>) {
        let name = element_name(element);
        let mark = self.rendered.mark();
        self.open.push(mark);
        self.output.push(b'<');
        self.output.extend_from_slice(name.as_bytes());

        let namespace = element.tag_name().namespace().unwrap_or_default();
        self.rendered.utilise(prefix_of(name), namespace);
        self.attributes.clear();
        self.attributes.extend(element.attributes());
        for attribute in &self.attributes {
            if let Some(namespace) = attribute.namespace() {
                let name = attribute_name(element, attribute);
                self.rendered.utilise(prefix_of(name), namespace);
            }
        }

        for (prefix, namespace) in self.rendered.since(mark) {
            push_declaration(&mut self.output, prefix, namespace);
        }
        self.attributes
            .sort_unstable_by_key(|attribute| (attribute.namespace(), attribute.name()));
        for attribute in &self.attributes {
            let name = attribute_name(element, attribute);
            push_attribute(&mut self.output, name, attribute.value());
        }
        self.output.push(b'>');
    }

    fn leave(&mut self, element: Node<'d, 't>) {
        self.output.extend_from_slice(b"</");
        self.output
            .extend_from_slice(element_name(element).as_bytes());
        self.output.push(b'>');
        if let Some(mark) = self.open.pop() {
            self.rendered.leave(mark);
        }
    }

    fn processing_instruction(&mut self, node: Node<'d, 't>) {
        let Some(instruction) = node.pi() else { return };
        self.output.extend_from_slice(b"<?");
        self.output.extend_from_slice(instruction.target.as_bytes());
        if let Some(value) = instruction.value {
            self.output.push(b' ');
            self.output.extend_from_slice(value.as_bytes());
        }
        self.output.extend_from_slice(b"?>");
    }
}

/// The qualified name of an element, from the source: the tree keeps local names only.
fn element_name<'t>(element: Node<'_, 't>) -> &'t str {
    let start = element.range().start + "<".len();
    qualified_name(element, start)
}

/// The qualified name of an attribute. [`Attribute::range_qname`] would be wrong beyond 65,535 octets.
fn attribute_name<'t>(element: Node<'_, 't>, attribute: &Attribute<'_, 't>) -> &'t str {
    qualified_name(element, attribute.range().start)
}

fn qualified_name<'t>(element: Node<'_, 't>, start: usize) -> &'t str {
    let source = element.document().input_text();
    leading_name(source.get(start..).unwrap_or_default())
}

/// A walk through a subtree in document order, without recursion: depth costs no stack.
struct Walk<'d, 't> {
    apex: Node<'d, 't>,
    omitted: Option<Node<'d, 't>>,
    next: Option<Step<'d, 't>>,
}

#[derive(Clone, Copy)]
enum Step<'d, 't> {
    Enter(Node<'d, 't>),
    /// After the last child of an element.
    Leave(Node<'d, 't>),
}

impl<'d, 't> Iterator for Walk<'d, 't> {
    type Item = Step<'d, 't>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.next?;
        self.next = match step {
            Step::Enter(node) if node.is_element() => {
                let child = self.unless_omitted(node.first_child());
                Some(child.map_or(Step::Leave(node), Step::Enter))
            }
            Step::Enter(node) | Step::Leave(node) => self.after(node),
        };
        Some(step)
    }
}

impl<'d, 't> Walk<'d, 't> {
    fn after(&self, node: Node<'d, 't>) -> Option<Step<'d, 't>> {
        if node == self.apex {
            return None;
        }
        match self.unless_omitted(node.next_sibling()) {
            Some(sibling) => Some(Step::Enter(sibling)),
            None => node.parent().map(Step::Leave),
        }
    }

    /// `node`, or its next sibling if it is the one to omit.
    fn unless_omitted(&self, node: Option<Node<'d, 't>>) -> Option<Node<'d, 't>> {
        match node {
            Some(omitted) if self.omitted == node => omitted.next_sibling(),
            _ => node,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Document, Limits};

    fn canonical(document: &str) -> String {
        let document = Document::parse(document.as_bytes(), &Limits::DOCUMENT).unwrap();
        String::from_utf8(document.root().canonical().unwrap()).unwrap()
    }

    #[test]
    fn tags_are_written_in_one_way() {
        let source = "<?xml version='1.0'?>\n<e  b = 'x' a='\"'\n><f/><g ></g\n></e>\n";
        let expected = "<e a=\"&quot;\" b=\"x\"><f></f><g></g></e>";
        assert_eq!(canonical(source), expected);
    }

    #[test]
    fn attributes_are_sorted_by_namespace_then_name() {
        let source =
            "<e xmlns:z='urn:a' xmlns:a='urn:z' a:a='1' z:b='2' z:a='3' xml:lang='4' b='5'/>";
        let expected = "<e xmlns:a=\"urn:z\" xmlns:z=\"urn:a\" b=\"5\" xml:lang=\"4\" z:a=\"3\" z:b=\"2\" a:a=\"1\"></e>";
        assert_eq!(canonical(source), expected);
    }

    #[test]
    fn declarations_move_to_where_they_are_used() {
        let source = "<e xmlns='urn:d' xmlns:p='urn:p'><p:f><p:g/><h xmlns=''/></p:f><p:f/></e>";
        let expected = "<e xmlns=\"urn:d\"><p:f xmlns:p=\"urn:p\"><p:g></p:g><h xmlns=\"\"></h></p:f>\
                        <p:f xmlns:p=\"urn:p\"></p:f></e>";
        assert_eq!(canonical(source), expected);
    }

    /// The parser counts the octets of a qualified name in 16 bits.
    #[test]
    fn names_may_be_longer_than_the_parser_can_count() {
        let name = format!("p:{}", "é".repeat(40_000));
        let document = format!("<{name} xmlns:p=\"urn:p\" {name}=\"\"></{name}>");
        assert!(canonical(&document) == document);
    }
}
