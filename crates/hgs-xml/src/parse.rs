//! The parser: XML 1.0 with namespaces, without DTD, in one pass, within budgets.
//!
//! Content is refused where it stands, so no limit is passed before it is checked.

use std::borrow::Cow;

use crate::characters::{
    Fault, FaultKind, attribute_value, cdata, character_data, name_length, plain_length,
    qualified_name,
};
use crate::declaration::is_white_space;
use crate::error::{Error, Position, printable};
use crate::limits::Limits;
use crate::markup::any;
use crate::namespace_name::is_absolute;
use crate::nodes::{
    AttributeNode, Content, ElementNode, NO_NAMESPACE, NamespaceId, Node, NodeId, Nodes,
    QualifiedName,
};

const XML_NAMESPACE: &str = "http://www.w3.org/XML/1998/namespace";
const XMLNS_NAMESPACE: &str = "http://www.w3.org/2000/xmlns/";

/// Parses `text` from octet `start`, where its XML declaration has ended.
pub(crate) fn parse<'t>(text: &'t str, start: usize, limits: &Limits) -> Result<Parsed<'t>, Error> {
    refuse_lone_carriage_returns(text)?;
    let mut parser = Parser {
        text,
        at: start,
        limits,
        nodes: Nodes {
            nodes: Vec::with_capacity(USUAL_NODES),
            attributes: Vec::with_capacity(USUAL_NODES),
            namespaces: vec![Cow::Borrowed(""), Cow::Borrowed(XML_NAMESPACE)],
        },
        declared: vec![("xml", XML)],
        open: Vec::with_capacity(16),
        root: None,
        pending: None,
    };
    while parser.at < text.len() {
        parser.character_data()?;
        parser.markup()?;
    }
    match parser.root {
        None => Err(Error::NoRootElement),
        Some(_) if !parser.open.is_empty() => Err(Error::Truncated),
        Some(root) => Ok(Parsed {
            nodes: parser.nodes,
            root,
        }),
    }
}

/// A document that was read.
pub(crate) struct Parsed<'t> {
    pub(crate) nodes: Nodes<'t>,
    pub(crate) root: NodeId,
}

/// Parsers disagree about them, and nothing writes line ends without a line feed any more.
fn refuse_lone_carriage_returns(text: &str) -> Result<(), Error> {
    if !any(text, |octet| octet == b'\r') {
        return Ok(());
    }
    for (offset, _) in text.match_indices('\r') {
        if text.as_bytes().get(offset + 1) != Some(&b'\n') {
            return Err(Error::LoneCarriageReturn {
                at: Position::of(text, offset),
            });
        }
    }
    Ok(())
}

/// Room for the nodes of a usual document: a key protector of two guardians has about 80.
const USUAL_NODES: usize = 96;

/// The place of the namespace of the prefix `xml`, which is always in scope.
const XML: NamespaceId = 1;

struct Parser<'t, 'l> {
    text: &'t str,
    /// Octets read.
    at: usize,
    limits: &'l Limits,
    nodes: Nodes<'t>,
    /// The declarations in scope, innermost last: prefix, empty for the default, and namespace.
    declared: Vec<(&'t str, NamespaceId)>,
    open: Vec<Open>,
    root: Option<NodeId>,
    /// Text that may continue, and where it began.
    pending: Option<(Cow<'t, str>, usize)>,
}

/// An element that was started and is not ended.
struct Open {
    id: NodeId,
    last_child: Option<NodeId>,
    /// How many declarations are in scope outside it.
    declared: usize,
}

impl<'t> Parser<'t, '_> {
    /// Text up to the next `<`.
    fn character_data(&mut self) -> Result<(), Error> {
        let start = self.at;
        let rest = self.rest();
        let plain = plain_length(rest);
        let data = match rest.as_bytes().get(plain) {
            None | Some(b'<') => self.take(plain),
            Some(_) => self.take(rest.find('<').unwrap_or(rest.len())),
        };
        if data.is_empty() {
            return Ok(());
        }
        if !self.open.is_empty() {
            let data = if data.len() == plain {
                Cow::Borrowed(data)
            } else {
                character_data(data).map_err(|fault| self.fault(fault, start))?
            };
            self.text(data, start);
            return Ok(());
        }
        let Some(outside) = data.find(|c| !is_white_space(c)) else {
            return Ok(());
        };
        Err(match self.root {
            Some(_) => Error::TrailingContent {
                at: self.position(start + outside),
            },
            None => self.malformed("text before the root element", start + outside),
        })
    }

    /// Adds to the text that may continue.
    fn text(&mut self, data: Cow<'t, str>, start: usize) {
        match &mut self.pending {
            Some((text, _)) => text.to_mut().push_str(&data),
            None => self.pending = Some((data, start)),
        }
    }

    /// One tag, comment, CDATA section or processing instruction.
    fn markup(&mut self) -> Result<(), Error> {
        let start = self.at;
        match self.rest().as_bytes() {
            [] => Ok(()),
            [b'<', b'/', ..] => self.end_tag(),
            [b'<', b'?', ..] => Err(Error::ProcessingInstruction {
                at: self.position(start),
            }),
            [b'<', b'!', ..] => self.declaration(),
            _ if self.root.is_some() && self.open.is_empty() => Err(Error::TrailingContent {
                at: self.position(start),
            }),
            _ => self.start_tag(),
        }
    }

    /// Reads markup that begins with `<!`.
    fn declaration(&mut self) -> Result<(), Error> {
        let start = self.at;
        let at = |parser: &Self| parser.position(start);
        if self.rest().starts_with("<!--") {
            return Err(Error::Comment { at: at(self) });
        }
        if self.rest().starts_with("<!DOCTYPE") {
            return Err(Error::DocumentTypeDeclaration { at: at(self) });
        }
        if !self.rest().starts_with("<![CDATA[") {
            return Err(self.malformed("an unexpected character", start));
        }
        if self.open.is_empty() {
            return Err(self.malformed("text outside the root element", start));
        }
        let data = self.between("<![CDATA[", "]]>")?;
        let inner = self.at - "]]>".len() - data.len();
        let data = cdata(data).map_err(|fault| self.fault(fault, inner))?;
        self.text(data, start);
        Ok(())
    }

    fn start_tag(&mut self) -> Result<(), Error> {
        let start = self.at;
        if self.open.len() >= self.limits.depth {
            return Err(Error::TooDeep {
                limit: self.limits.depth,
                at: self.position(start),
            });
        }
        self.flush()?;
        self.take("<".len());
        let name_at = self.at;
        let name = self.qualified_name()?;
        let outside = self.declared.len();
        let attributes = self.attributes()?;
        let element = ElementNode {
            name,
            namespace: self.namespace_of(name, name_at)?,
            attributes,
            first_child: None,
            end: self.at,
        };
        let empty = self.take_if("/");
        self.expect('>', "an unexpected character")?;
        let id = self.add(Content::Element(element), start)?;
        self.root.get_or_insert(id);
        self.open.push(Open {
            id,
            last_child: None,
            declared: outside,
        });
        if empty {
            self.close();
        }
        Ok(())
    }

    fn end_tag(&mut self) -> Result<(), Error> {
        const MISMATCH: &str = "an end tag that does not match its start tag";
        let start = self.at;
        self.flush()?;
        self.take("</".len());
        let name = self.qualified_name()?;
        self.white_space();
        self.expect('>', "an unexpected character")?;
        let open = self.open.last();
        let element = open.and_then(|open| self.nodes.element(open.id));
        match element {
            None => Err(self.malformed("an end tag without a start tag", start)),
            Some(element) if element.name != name => Err(self.malformed(MISMATCH, start)),
            Some(_) => {
                self.close();
                Ok(())
            }
        }
    }

    /// Ends the element that was started last, here.
    fn close(&mut self) {
        let Some(open) = self.open.pop() else { return };
        self.declared.truncate(open.declared);
        if let Content::Element(element) = &mut self.nodes.nodes[open.id as usize].content {
            element.end = self.at;
        }
    }

    /// The attributes of a start tag, up to its `>` or `/>`; declarations come into scope.
    fn attributes(&mut self) -> Result<std::ops::Range<usize>, Error> {
        let outside = self.declared.len();
        let first = self.nodes.attributes.len();
        let mut count = 0;
        loop {
            let separated = self.white_space();
            let start = self.at;
            match self.rest().as_bytes() {
                [] => return Err(Error::Truncated),
                [b'>' | b'/', ..] => break,
                _ if !separated => return Err(self.malformed("an unexpected character", start)),
                _ => {}
            }
            count += 1;
            if count > self.limits.attributes {
                return Err(Error::TooManyAttributes {
                    limit: self.limits.attributes,
                    at: self.position(start),
                });
            }
            let (name, value) = self.attribute()?;
            if let Some(prefix) = declared_prefix(name) {
                self.declare(prefix, value, outside, start)?;
            } else if name.local == "xmlns" {
                // Not against the rules, but parsers are known to take it for a declaration.
                return Err(self.malformed("an attribute with the local name `xmlns`", start));
            } else {
                self.nodes.attributes.push(AttributeNode {
                    name,
                    namespace: NO_NAMESPACE,
                    value,
                    start,
                });
            }
        }
        // Only now is it known what their prefixes mean.
        for index in first..self.nodes.attributes.len() {
            self.resolve(first, index)?;
        }
        Ok(first..self.nodes.attributes.len())
    }

    /// `name="value"`.
    fn attribute(&mut self) -> Result<(QualifiedName<'t>, Cow<'t, str>), Error> {
        let name = self.qualified_name()?;
        self.white_space();
        self.expect('=', "an attribute without a value")?;
        self.white_space();
        let quote = if self.rest().starts_with('\'') {
            '\''
        } else {
            '"'
        };
        self.expect(quote, "an attribute value without quotes")?;
        let start = self.at;
        let rest = self.rest();
        let plain = plain_length(rest);
        let value = if rest.as_bytes().get(plain) == Some(&(quote as u8)) {
            Cow::Borrowed(self.take(plain))
        } else {
            let value = self.take(rest.find(quote).ok_or(Error::Truncated)?);
            attribute_value(value).map_err(|fault| self.fault(fault, start))?
        };
        self.take(quote.len_utf8());
        Ok((name, value))
    }

    /// Brings a declaration into scope, if Namespaces in XML 1.0 allows it (sections 2.2 and 3). `outside` of them were
    /// in scope before this element.
    fn declare(
        &mut self,
        prefix: &'t str,
        name: Cow<'t, str>,
        outside: usize,
        start: usize,
    ) -> Result<(), Error> {
        if prefix == "xmlns"
            || name == XMLNS_NAMESPACE
            || (prefix == "xml") != (name == XML_NAMESPACE)
        {
            return Err(self.malformed("misuse of the prefix `xml` or `xmlns`", start));
        }
        if name.is_empty() && !prefix.is_empty() {
            return Err(Error::EmptyNamespace {
                prefix: printable(prefix),
                at: self.position(start),
            });
        }
        if !name.is_empty() && !is_absolute(&name) {
            return Err(Error::RelativeNamespace {
                name: printable(&name),
                at: self.position(start),
            });
        }
        let here = self.declared.get(outside..).unwrap_or_default();
        if here.iter().any(|(declared, _)| *declared == prefix) {
            let name = if prefix.is_empty() { "xmlns" } else { prefix };
            return Err(self.duplicate(name, start));
        }
        // The declaration of `xml` is implicit and belongs to no element.
        if self.declared.len() > self.limits.namespaces {
            return Err(Error::TooManyNamespaces {
                limit: self.limits.namespaces,
                at: self.position(start),
            });
        }
        let id = if name.is_empty() {
            NO_NAMESPACE
        } else {
            self.nodes.namespaces.push(name);
            // Fewer than there are octets.
            (self.nodes.namespaces.len() - 1) as NamespaceId
        };
        self.declared.push((prefix, id));
        Ok(())
    }

    /// Finds the namespace of the attribute at `index`, and refuses it if one from `first` on has the same name.
    fn resolve(&mut self, first: usize, index: usize) -> Result<(), Error> {
        let AttributeNode { name, start, .. } = self.nodes.attributes[index];
        // An attribute without a prefix is in no namespace, even where there is a default one.
        let namespace = match name.prefix {
            "" => NO_NAMESPACE,
            _ => self.namespace_of(name, start)?,
        };
        let same = |other: &AttributeNode<'_>| {
            other.name.local == name.local
                && self.nodes.namespace(other.namespace) == self.nodes.namespace(namespace)
        };
        if self.nodes.attributes[first..index].iter().any(same) {
            return Err(self.duplicate(name.local, start));
        }
        self.nodes.attributes[index].namespace = namespace;
        Ok(())
    }

    fn duplicate(&self, name: &str, start: usize) -> Error {
        Error::DuplicateAttribute {
            name: printable(name),
            at: self.position(start),
        }
    }

    /// The namespace that the prefix of `name` stands for here.
    fn namespace_of(&self, name: QualifiedName<'_>, start: usize) -> Result<NamespaceId, Error> {
        let prefix = name.prefix;
        let mut declared = self.declared.iter().rev();
        match declared.find(|(declared, _)| *declared == prefix) {
            Some((_, namespace)) => Ok(*namespace),
            None if prefix.is_empty() => Ok(NO_NAMESPACE),
            None if prefix == "xmlns" => {
                Err(self.malformed("misuse of the prefix `xml` or `xmlns`", start))
            }
            None => Err(Error::UndeclaredPrefix {
                prefix: printable(prefix),
                at: self.position(start),
            }),
        }
    }

    fn qualified_name(&mut self) -> Result<QualifiedName<'t>, Error> {
        let start = self.at;
        if self.rest().is_empty() {
            return Err(Error::Truncated);
        }
        let name = self.take(name_length(self.rest()));
        qualified_name(name).ok_or_else(|| self.malformed("an invalid name", start))
    }

    /// Adds a node for the text that has ended.
    fn flush(&mut self) -> Result<(), Error> {
        match self.pending.take() {
            None => Ok(()),
            Some((text, _)) if text.is_empty() => Ok(()),
            Some((text, start)) => self.add(Content::Text(text), start).map(|_| ()),
        }
    }

    /// Adds a node as the last child of the innermost open element.
    fn add(&mut self, content: Content<'t>, start: usize) -> Result<NodeId, Error> {
        let id = self.nodes.nodes.len() as NodeId;
        if id >= self.limits.nodes {
            return Err(Error::TooManyNodes {
                limit: self.limits.nodes,
            });
        }
        let parent = self.open.last_mut();
        let parent_id = parent.as_ref().map(|parent| parent.id);
        let before = parent.and_then(|parent| parent.last_child.replace(id));
        match (before, parent_id) {
            (Some(sibling), _) => self.nodes.nodes[sibling as usize].next_sibling = Some(id),
            (None, Some(parent)) => {
                if let Content::Element(element) = &mut self.nodes.nodes[parent as usize].content {
                    element.first_child = Some(id);
                }
            }
            (None, None) => {}
        }
        self.nodes.nodes.push(Node {
            parent: parent_id,
            next_sibling: None,
            content,
            start,
        });
        Ok(id)
    }

    /// Takes white space; whether there was any.
    fn white_space(&mut self) -> bool {
        let rest = self.rest();
        let length = rest
            .bytes()
            .take_while(|octet| is_white_space(char::from(*octet)));
        !self.take(length.count()).is_empty()
    }

    fn expect(&mut self, expected: char, fault: &'static str) -> Result<(), Error> {
        if self.rest().is_empty() {
            return Err(Error::Truncated);
        }
        if !self.rest().starts_with(expected) {
            return Err(self.malformed(fault, self.at));
        }
        self.take(expected.len_utf8());
        Ok(())
    }

    fn take_if(&mut self, expected: &str) -> bool {
        let there = self.rest().starts_with(expected);
        if there {
            self.take(expected.len());
        }
        there
    }

    /// Takes the text between `begin`, which is next, and `end`.
    fn between(&mut self, begin: &str, end: &str) -> Result<&'t str, Error> {
        self.take(begin.len());
        let (inner, _) = self.rest().split_once(end).ok_or(Error::Truncated)?;
        self.take(inner.len() + end.len());
        Ok(inner)
    }

    fn take(&mut self, length: usize) -> &'t str {
        let (taken, _) = self.rest().split_at_checked(length).unwrap_or_default();
        self.at += taken.len();
        taken
    }

    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// The error for a fault in data that begins at `start`.
    fn fault(&self, fault: Fault<'_>, start: usize) -> Error {
        match fault.kind {
            FaultKind::Malformed(what) => self.malformed(what, start + fault.offset),
            FaultKind::UndeclaredEntity(name) => Error::UndeclaredEntity {
                name: printable(name),
                at: self.position(start + fault.offset),
            },
        }
    }

    fn malformed(&self, fault: &'static str, offset: usize) -> Error {
        Error::Malformed {
            fault,
            at: self.position(offset),
        }
    }

    fn position(&self, offset: usize) -> Position {
        Position::of(self.text, offset)
    }
}

/// The prefix that an attribute declares, if it is a namespace declaration; empty for `xmlns` itself.
fn declared_prefix<'t>(attribute: QualifiedName<'t>) -> Option<&'t str> {
    match (attribute.prefix, attribute.local) {
        ("", "xmlns") => Some(""),
        ("xmlns", prefix) => Some(prefix),
        _ => None,
    }
}
