use std::fmt;

use thiserror::Error;

/// Why a document was refused, or how an element differs from what its reader expects.
///
/// The party at fault is always the author of the document. What is quoted from it is escaped and cut short.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Error {
    /// More octets than [`Limits::bytes`](crate::Limits::bytes).
    #[error("the document has {found} octets, more than {limit}")]
    TooManyOctets {
        /// The limit.
        limit: usize,
        /// The size of the document.
        found: usize,
    },
    /// Elements nest deeper than [`Limits::depth`](crate::Limits::depth).
    #[error("elements nest deeper than {limit} levels at {at}")]
    TooDeep {
        /// The limit.
        limit: usize,
        /// The first element too deep.
        at: Position,
    },
    /// More nodes than [`Limits::nodes`](crate::Limits::nodes).
    #[error("the document has more than {limit} nodes")]
    TooManyNodes {
        /// The limit.
        limit: u32,
    },
    /// More attributes on one element than [`Limits::attributes`](crate::Limits::attributes).
    #[error("an element has more than {limit} attributes at {at}")]
    TooManyAttributes {
        /// The limit.
        limit: usize,
        /// The first attribute too many.
        at: Position,
    },
    /// More namespace declarations in scope than [`Limits::namespaces`](crate::Limits::namespaces).
    #[error("more than {limit} namespace declarations are in scope at {at}")]
    TooManyNamespaces {
        /// The limit.
        limit: usize,
        /// The first declaration too many.
        at: Position,
    },
    /// A canonical form longer than [`Limits::canonical`](crate::Limits::canonical).
    #[error("the canonical form of an element has more than {limit} octets")]
    CanonicalFormTooLong {
        /// The limit.
        limit: usize,
    },

    /// The octets are not UTF-8.
    #[error("the document is not UTF-8 from octet {offset} on")]
    NotUtf8 {
        /// Octets before the first that is not UTF-8.
        offset: usize,
    },
    /// The document begins with a byte order mark, of UTF-8 or of UTF-16.
    #[error("the document begins with a byte order mark")]
    ByteOrderMark,
    /// The XML declaration names an encoding other than UTF-8.
    #[error("the document declares the encoding `{declared}`, not UTF-8")]
    Encoding {
        /// The encoding that is declared.
        declared: String,
    },
    /// The XML declaration names a version other than 1.0.
    #[error("the document declares XML version `{declared}`, not 1.0")]
    Version {
        /// The version that is declared.
        declared: String,
    },
    /// The document has a document type declaration.
    #[error("document type declaration at {at}")]
    DocumentTypeDeclaration {
        /// Where it begins.
        at: Position,
    },
    /// The document has a processing instruction, or an XML declaration that is not its very beginning.
    #[error("processing instruction at {at}")]
    ProcessingInstruction {
        /// Where it begins.
        at: Position,
    },
    /// The document has a comment.
    #[error("comment at {at}")]
    Comment {
        /// Where it begins.
        at: Position,
    },
    /// A carriage return that no line feed follows, which parsers are known to disagree about.
    #[error("carriage return without line feed at {at}")]
    LoneCarriageReturn {
        /// Where it is.
        at: Position,
    },
    /// The document has a reference to an entity other than the five of XML itself.
    #[error("undeclared entity `{name}` at {at}")]
    UndeclaredEntity {
        /// The name of the entity.
        name: String,
        /// Where the reference is.
        at: Position,
    },
    /// An element or attribute has a prefix that no declaration in scope binds.
    #[error("undeclared namespace prefix `{prefix}` at {at}")]
    UndeclaredPrefix {
        /// The prefix.
        prefix: String,
        /// Where the name is.
        at: Position,
    },
    /// A declaration binds a prefix to no namespace, which Namespaces in XML 1.0 forbids.
    #[error("namespace prefix `{prefix}` is bound to nothing at {at}")]
    EmptyNamespace {
        /// The prefix.
        prefix: String,
        /// Where the declaration is.
        at: Position,
    },
    /// A declaration has a namespace name that is a relative reference, for which Canonical XML has no form.
    #[error("relative namespace name `{name}` at {at}")]
    RelativeNamespace {
        /// The namespace name.
        name: String,
        /// Where the declaration is.
        at: Position,
    },
    /// An element has the same attribute, or declares the same prefix, twice.
    #[error("duplicate attribute `{name}` at {at}")]
    DuplicateAttribute {
        /// The attribute's name without its prefix.
        name: String,
        /// Where the second is.
        at: Position,
    },
    /// The document ends within an element, or within a tag.
    #[error("the document is truncated")]
    Truncated,
    /// The document has no element at all.
    #[error("the document has no root element")]
    NoRootElement,
    /// Something other than white space follows the root element.
    #[error("the document goes on after its root element at {at}")]
    TrailingContent {
        /// Where the trailing content begins.
        at: Position,
    },
    /// The document is not well-formed in another way.
    #[error("malformed XML, {fault}, at {at}")]
    Malformed {
        /// The reason.
        fault: &'static str,
        /// Where.
        at: Position,
    },

    /// An element stands where the reader expects another, or none.
    #[error("expected {expected}, found element {found}")]
    UnexpectedElement {
        /// What was expected.
        expected: String,
        /// The name of the element, as `{namespace}name`.
        found: String,
    },
    /// An element ends before a required child.
    #[error("element {parent} lacks element {expected}")]
    MissingElement {
        /// The name of the element that ends, as `{namespace}name`.
        parent: String,
        /// The name of the child, as `{namespace}name`.
        expected: String,
    },
    /// An element has an attribute that its reader does not know.
    #[error("element {element} has the unknown attribute {attribute}")]
    UnexpectedAttribute {
        /// The name of the element, as `{namespace}name`.
        element: String,
        /// The name of the attribute, as `{namespace}name`.
        attribute: String,
    },
    /// An element lacks an attribute that its reader requires.
    #[error("element {element} lacks attribute {attribute}")]
    MissingAttribute {
        /// The name of the element, as `{namespace}name`.
        element: String,
        /// The name of the attribute.
        attribute: String,
    },
    /// An element that holds elements only has text between them.
    #[error("element {element} has text between its elements")]
    UnexpectedText {
        /// The name of the element, as `{namespace}name`.
        element: String,
    },
}

impl Error {
    /// Whether the document passed a limit, rather than broke a rule.
    #[must_use]
    pub fn is_limit(&self) -> bool {
        matches!(
            self,
            Self::TooManyOctets { .. }
                | Self::TooDeep { .. }
                | Self::TooManyNodes { .. }
                | Self::TooManyAttributes { .. }
                | Self::TooManyNamespaces { .. }
                | Self::CanonicalFormTooLong { .. }
        )
    }
}

/// A place in a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
}

impl Position {
    /// The place that is `offset` octets into `text`.
    pub(crate) fn of(text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        Self {
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: u32::try_from(column).unwrap_or(u32::MAX),
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// A name for people, as `{namespace}name`.
pub(crate) fn expanded_name(namespace: Option<&str>, name: &str) -> String {
    match namespace {
        Some(namespace) => format!("{{{}}}{}", printable(namespace), printable(name)),
        None => printable(name),
    }
}

/// A peer's text made fit for a log line: escaped, and no longer than a line is.
#[must_use]
pub fn printable(text: &str) -> String {
    const LONGEST: usize = 100;

    let mut printable: String = text
        .chars()
        .take(LONGEST)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().nth(LONGEST).is_some() {
        printable.push('…');
    }
    printable
}
