//! The tree in memory: nodes in the order of the document, in one vector.

use std::borrow::Cow;

/// All that a document holds.
#[derive(Default)]
pub(crate) struct Nodes<'t> {
    /// The root element is the first.
    pub(crate) nodes: Vec<Node<'t>>,
    /// The attributes of all elements, those of one element together.
    pub(crate) attributes: Vec<AttributeNode<'t>>,
    /// The namespace names that were declared; the first is no namespace.
    pub(crate) namespaces: Vec<Cow<'t, str>>,
}

/// The place of a node in [`Nodes::nodes`].
pub(crate) type NodeId = u32;

/// The place of a namespace name in [`Nodes::namespaces`].
pub(crate) type NamespaceId = u32;

/// The place of no namespace.
pub(crate) const NO_NAMESPACE: NamespaceId = 0;

pub(crate) struct Node<'t> {
    pub(crate) parent: Option<NodeId>,
    pub(crate) next_sibling: Option<NodeId>,
    pub(crate) content: Content<'t>,
    /// Where in the source it begins.
    pub(crate) start: usize,
}

pub(crate) enum Content<'t> {
    Element(ElementNode<'t>),
    /// Character data, references replaced; never two side by side.
    Text(Cow<'t, str>),
}

pub(crate) struct ElementNode<'t> {
    pub(crate) name: QualifiedName<'t>,
    pub(crate) namespace: NamespaceId,
    pub(crate) attributes: std::ops::Range<usize>,
    pub(crate) first_child: Option<NodeId>,
    /// Where in the source it ends.
    pub(crate) end: usize,
}

pub(crate) struct AttributeNode<'t> {
    pub(crate) name: QualifiedName<'t>,
    pub(crate) namespace: NamespaceId,
    pub(crate) value: Cow<'t, str>,
    /// Where in the source it begins.
    pub(crate) start: usize,
}

/// A name as it stands in the source, taken apart once.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct QualifiedName<'t> {
    pub(crate) whole: &'t str,
    /// Empty if there is none.
    pub(crate) prefix: &'t str,
    pub(crate) local: &'t str,
}

impl<'t> Nodes<'t> {
    /// The node at `id`, which comes from this tree.
    pub(crate) fn node(&self, id: NodeId) -> &Node<'t> {
        &self.nodes[id as usize]
    }

    /// The element at `id`, if it is one.
    pub(crate) fn element(&self, id: NodeId) -> Option<&ElementNode<'t>> {
        match &self.node(id).content {
            Content::Element(element) => Some(element),
            _ => None,
        }
    }

    /// The children of an element in their order.
    pub(crate) fn children(&self, element: &ElementNode<'t>) -> Siblings<'_, 't> {
        Siblings {
            nodes: self,
            next: element.first_child,
        }
    }

    pub(crate) fn attributes(&self, element: &ElementNode<'t>) -> &[AttributeNode<'t>] {
        &self.attributes[element.attributes.clone()]
    }

    /// The name of a namespace; empty for none.
    pub(crate) fn namespace(&self, id: NamespaceId) -> &str {
        &self.namespaces[id as usize]
    }
}

/// A node and its following siblings.
#[derive(Clone)]
pub(crate) struct Siblings<'d, 't> {
    nodes: &'d Nodes<'t>,
    next: Option<NodeId>,
}

impl Iterator for Siblings<'_, '_> {
    type Item = NodeId;

    fn next(&mut self) -> Option<NodeId> {
        let id = self.next?;
        self.next = self.nodes.node(id).next_sibling;
        Some(id)
    }
}
