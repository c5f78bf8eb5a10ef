//! Several nodes over one state: who orders their commits, and what that is told.
//!
//! Each node holds the whole state on its own disk. A commit is decided from that copy, and *proposed*: what was written
//! under the keys that it depends on must not have changed since the last commit that this node has taken in. The order
//! takes it or refuses it, whole, and every node takes in what was taken, one after the other, as it stands in the order.
//!
//! ```text
//!   node A: State + copy --decides--> Proposal --> Order --Committed--> copy of A, State of A
//!   node B:                                         '-------entries---> copy of B, State of B
//! ```
//!
//! An order learns nothing and forges nothing: entries are sealed and chained for each node, and keys are digests under the
//! master key. It is not believed either: what comes from it is opened, and must follow upon what this node has.

#[cfg(test)]
pub(crate) mod memory;

use std::collections::BTreeMap;
use std::fmt;

use hgs_crypto::Random;

use crate::StoreError;

/// Names what a commit depends on or writes, without telling what it is.
pub type DependencyKey = [u8; 16];

/// The last entry of a node that was taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Last {
    /// Entries of a node are numbered from 1.
    pub number: u64,
    /// A tag over this entry and all of the same node before it.
    pub chain: [u8; 32],
}

impl Last {
    /// Of a node that has written nothing.
    pub const NONE: Self = Self {
        number: 0,
        chain: [0; 32],
    };
}

/// How far a node has taken in what was ordered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Position {
    /// All entries up to this revision of the order, and none after it.
    pub revision: u64,
    /// By node.
    pub nodes: BTreeMap<String, Last>,
}

impl Position {
    /// The last entry of this node.
    #[must_use]
    pub fn last(&self, node: &str) -> Last {
        self.nodes.get(node).copied().unwrap_or(Last::NONE)
    }
}

/// A commit that a node wants to have ordered.
#[derive(Clone, Copy)]
pub struct Proposal<'p> {
    /// From what it was decided.
    pub seen: &'p Position,
    /// What it depends on: no entry after `seen` may have written one of these.
    pub depends: &'p [DependencyKey],
    /// What it writes; a part of `depends`.
    pub writes: &'p [DependencyKey],
    /// Whether it depends on everything: no entry at all may have come after `seen`. Then it counts as having written everything, too.
    pub everything: bool,
    /// The entry, sealed; of any length.
    pub octets: &'p [u8],
    /// The [`Last`] of this node once it is ordered.
    pub last: Last,
}

/// What was ordered.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// Which node has written it.
    pub node: String,
    /// Its number among those of that node.
    pub number: u64,
    /// Its place in the order.
    pub revision: u64,
    /// As they were proposed.
    pub octets: Vec<u8>,
}

/// Entries that follow upon a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entries {
    /// Ordered, without gaps.
    pub entries: Vec<Entry>,
    /// There is no other entry up to this revision.
    pub revision: u64,
    /// Whether there are more after it.
    pub more: bool,
}

/// What became of a proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proposed {
    /// It was ordered: the last of these entries, which come after what was seen.
    Committed(Entries),
    /// Something that it depends on has changed. These entries come after what was seen; there may be none.
    Conflict(Entries),
}

/// Why an order has not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OrderError {
    /// Too few members can be reached: nothing is ordered before they are.
    #[error("the cluster has no quorum: {reason}")]
    NoQuorum {
        /// In the order's own words.
        reason: String,
    },
    /// It is not known whether a proposal was ordered. It may still be, as long as this node proposes nothing else.
    #[error("the cluster has not said whether it committed: {reason}")]
    Unknown {
        /// In the order's own words.
        reason: String,
    },
    /// No room is left where entries are kept.
    #[error("the cluster has no room left: {reason}")]
    NoRoom {
        /// In the order's own words.
        reason: String,
    },
    /// What orders commits refuses what it is asked, or holds what no node has written.
    #[error("the cluster's etcd can't be used: {reason}")]
    Unusable {
        /// In the order's own words.
        reason: String,
    },
    /// Entries after the position of this node are gone: it needs a copy of another node's state.
    #[error(
        "entries of node {node} after number {number} have left the cluster: this node needs a copy of the state of another one"
    )]
    TooFarBehind {
        /// Whose entries.
        node: String,
        /// The last one that this node has.
        number: u64,
    },
    /// The order has less than this node has taken in, or something else: an old copy was put in its place.
    #[error("the cluster was put back to an older state: {reason}")]
    PutBack {
        /// What shows it.
        reason: String,
    },
    /// What was ordered does not follow upon what this node has.
    #[error(
        "entry {number} of node {node} can't be opened here, or does not follow upon what this node has of it"
    )]
    Diverged {
        /// Whose entry.
        node: String,
        /// Its number.
        number: u64,
    },
    /// Another process has written in the name of this node.
    #[error("another process writes as node {node}")]
    Fenced {
        /// This node.
        node: String,
    },
    /// It was removed from the cluster.
    #[error("node {node} was removed from the cluster")]
    Removed {
        /// This node.
        node: String,
    },
}

impl OrderError {
    /// What the operator can do about it.
    #[must_use]
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::NoQuorum { .. } | Self::Unknown { .. } => {
                "see `hgs cluster status`: more than half of the nodes must run and reach each other"
            }
            Self::NoRoom { .. } => {
                "see `hgs cluster status`: nodes that are away for good are removed with `hgs cluster remove`"
            }
            Self::Unusable { .. } => {
                "see etcd's own log, and whether something else than this guardian writes there"
            }
            Self::TooFarBehind { .. } => {
                "start the server again: it fetches a copy from another node"
            }
            Self::PutBack { .. } => {
                "etcd has lost what a node has recorded: stop all nodes, and see \"Disasters\" in docs/cluster.md"
            }
            Self::Diverged { .. } => {
                "this node has another master key, or its state is of another cluster: have it join again; if etcd was put back, see \"Disasters\" in docs/cluster.md first"
            }
            Self::Fenced { .. } => {
                "stop the other machine that runs as this node, and start this one again"
            }
            Self::Removed { .. } => {
                "have it join again: `hgs cluster invite` on another node, `hgs cluster join` here"
            }
        }
    }
}

/// What a state is opened with that is one of several nodes'.
pub struct Ordered {
    /// What orders their commits.
    pub order: Box<dyn Order>,
    /// For sealing what is handed to it.
    pub random: Box<dyn Random>,
}

/// Orders the commits of several nodes. One node uses it from one thread.
pub trait Order: Send {
    /// What this node is called.
    fn node(&self) -> &str;

    /// Has a commit ordered, if nothing that it depends on has changed. The same proposal can be made again after
    /// [`OrderError::Unknown`]: it takes effect once at most.
    ///
    /// # Errors
    /// Why it was not ordered, or is not known to be.
    fn propose(&mut self, proposal: &Proposal<'_>) -> Result<Proposed, OrderError>;

    /// What was ordered after `seen`, as a majority knows it now.
    ///
    /// # Errors
    /// Why that can't be said.
    fn since(&mut self, seen: &Position) -> Result<Entries, OrderError>;

    /// The share of this node in work that any node may do, and the number of shares.
    fn share(&self) -> (u32, u32);

    /// The most keys that one proposal may depend on, unless it depends on everything.
    fn max_dependencies(&self) -> usize;
}

impl From<OrderError> for StoreError {
    fn from(error: OrderError) -> Self {
        Self::Cluster(error)
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            node,
            number,
            revision,
            octets,
        } = self;
        write!(
            formatter,
            "entry {number} of {node} at {revision}, {} octets",
            octets.len()
        )
    }
}

impl fmt::Debug for Proposal<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            last,
            depends,
            octets,
            ..
        } = self;
        write!(
            formatter,
            "proposal {} with {} dependencies, {} octets",
            last.number,
            depends.len(),
            octets.len()
        )
    }
}
