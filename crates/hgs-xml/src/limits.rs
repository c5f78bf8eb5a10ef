/// The budget of a document; each limit has an [`Error`](crate::Error) of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Octets of the whole document.
    pub bytes: usize,
    /// Elements open at once, the root included.
    pub depth: usize,
    /// Nodes of the tree: elements and runs of text.
    pub nodes: u32,
    /// Attributes and namespace declarations of one element.
    ///
    /// Each is compared with every other: 50,000 attributes would take seconds.
    pub attributes: usize,
    /// Namespace declarations in scope at once.
    ///
    /// Each prefix of each name is searched among them.
    pub namespaces: usize,
    /// Octets of one canonical form.
    ///
    /// Exclusive canonicalisation repeats a declaration on each sibling that uses it, so a long namespace name
    /// declared once can come out thousands of times.
    pub canonical: usize,
}

impl Limits {
    /// The limits of every document of the published protocols: 256 KiB, 64 levels, 20,000 nodes, 32 attributes to
    /// an element, 24 namespaces in scope, and 1 MiB for a canonical form.
    ///
    /// A key protector of two guardians has about 9 KiB, 50 nodes, 6 levels and 5 namespaces.
    pub const DOCUMENT: Self = Self {
        bytes: 256 * 1024,
        depth: 64,
        nodes: 20_000,
        attributes: 32,
        namespaces: 24,
        canonical: 1024 * 1024,
    };
}
