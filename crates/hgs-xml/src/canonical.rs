//! Exclusive XML Canonicalization 1.0, without comments.

use crate::error::Error;
use crate::limits::Limits;
use crate::markup::{Rendered, push_attribute, push_declaration, push_text};
use crate::nodes::{AttributeNode, Content, ElementNode, NO_NAMESPACE, NodeId, Nodes};

/// The canonical form of the element `apex` and what it holds, but for the subtree of `omitted`.
pub(crate) fn canonical_form(
    nodes: &Nodes<'_>,
    apex: NodeId,
    omitted: Option<NodeId>,
    limits: &Limits,
) -> Result<Vec<u8>, Error> {
    let start = nodes.node(apex).start;
    let source = nodes.element(apex).map_or(0, |element| element.end - start);
    let mut canonicaliser = Canonicaliser {
        nodes,
        output: Vec::with_capacity(source + source / 4),
        rendered: Rendered::default(),
        open: Vec::with_capacity(16),
        attributes: Vec::new(),
    };
    let walk = Walk {
        nodes,
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
    nodes: &'d Nodes<'t>,
    output: Vec<u8>,
    rendered: Rendered<&'d str>,
    /// For each open element, where its declarations begin in `rendered`.
    open: Vec<usize>,
    /// The attributes of the current element; kept for its allocation.
    attributes: Vec<&'d AttributeNode<'t>>,
}

impl<'d, 't> Canonicaliser<'d, 't> {
    fn enter(&mut self, node: NodeId) {
        match &self.nodes.node(node).content {
            Content::Element(element) => self.start_tag(element),
            Content::Text(text) => push_text(&mut self.output, text),
        }
    }

    fn start_tag(&mut self, element: &ElementNode<'t>) {
        let nodes = self.nodes;
        let mark = self.rendered.mark();
        self.open.push(mark);
        self.output.push(b'<');
        self.output.extend_from_slice(element.name.whole.as_bytes());

        let namespace = nodes.namespace(element.namespace);
        self.rendered.utilise(element.name.prefix, namespace);
        self.attributes.clear();
        self.attributes.extend(nodes.attributes(element));
        for attribute in &self.attributes {
            if attribute.namespace != NO_NAMESPACE {
                let namespace = nodes.namespace(attribute.namespace);
                self.rendered.utilise(attribute.name.prefix, namespace);
            }
        }

        for (prefix, namespace) in self.rendered.since(mark) {
            push_declaration(&mut self.output, prefix, namespace);
        }
        self.attributes.sort_unstable_by_key(|attribute| {
            let namespace = nodes.namespace(attribute.namespace);
            (namespace, attribute.name.local)
        });
        for attribute in &self.attributes {
            push_attribute(&mut self.output, attribute.name.whole, &attribute.value);
        }
        self.output.push(b'>');
    }

    fn leave(&mut self, element: NodeId) {
        let name = self
            .nodes
            .element(element)
            .map_or("", |element| element.name.whole);
        self.output.extend_from_slice(b"</");
        self.output.extend_from_slice(name.as_bytes());
        self.output.push(b'>');
        if let Some(mark) = self.open.pop() {
            self.rendered.leave(mark);
        }
    }
}

/// A walk through a subtree in document order, without recursion: depth costs no stack.
struct Walk<'d, 't> {
    nodes: &'d Nodes<'t>,
    apex: NodeId,
    omitted: Option<NodeId>,
    next: Option<Step>,
}

#[derive(Clone, Copy)]
enum Step {
    Enter(NodeId),
    /// After the last child of an element.
    Leave(NodeId),
}

impl Iterator for Walk<'_, '_> {
    type Item = Step;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.next?;
        self.next = match step {
            Step::Enter(node) => match self.nodes.element(node) {
                Some(element) => {
                    let child = self.unless_omitted(element.first_child);
                    Some(child.map_or(Step::Leave(node), Step::Enter))
                }
                None => self.after(node),
            },
            Step::Leave(node) => self.after(node),
        };
        Some(step)
    }
}

impl Walk<'_, '_> {
    fn after(&self, node: NodeId) -> Option<Step> {
        if node == self.apex {
            return None;
        }
        let node = self.nodes.node(node);
        match self.unless_omitted(node.next_sibling) {
            Some(sibling) => Some(Step::Enter(sibling)),
            None => node.parent.map(Step::Leave),
        }
    }

    /// `node`, or its next sibling if it is the one to omit.
    fn unless_omitted(&self, node: Option<NodeId>) -> Option<NodeId> {
        match node {
            Some(omitted) if self.omitted == node => self.nodes.node(omitted).next_sibling,
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

    #[test]
    fn names_may_be_long() {
        let name = format!("p:{}", "é".repeat(40_000));
        let document = format!("<{name} xmlns:p=\"urn:p\" {name}=\"\"></{name}>");
        assert!(canonical(&document) == document);
    }
}
