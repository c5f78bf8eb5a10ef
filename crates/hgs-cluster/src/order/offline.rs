//! What a node knows without asking.

use hgs_store::order::{Entries, Order, OrderError, Position, Proposal, Proposed};

use crate::node::NodeName;

/// An order that tells nothing new and takes nothing: for who looks at the state of a node that does not run.
#[derive(Debug)]
pub struct OfflineOrder(NodeName);

impl OfflineOrder {
    /// As this node sees it.
    #[must_use]
    pub const fn new(node: NodeName) -> Self {
        Self(node)
    }
}

impl Order for OfflineOrder {
    fn node(&self) -> &str {
        self.0.as_str()
    }

    fn propose(&mut self, _: &Proposal<'_>) -> Result<Proposed, OrderError> {
        Err(OrderError::NoQuorum {
            reason: "no other node is asked".to_owned(),
        })
    }

    fn since(&mut self, seen: &Position) -> Result<Entries, OrderError> {
        Ok(Entries {
            entries: Vec::new(),
            revision: seen.revision,
            more: false,
        })
    }

    fn share(&self) -> (u32, u32) {
        (0, 1)
    }

    fn max_dependencies(&self) -> usize {
        0
    }
}
