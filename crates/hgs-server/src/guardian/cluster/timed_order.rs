//! The order of the nodes' commits, with a watch on how long it takes and how far it has told this node.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use hgs_store::order::{Entries, Order, OrderError, Position, Proposal, Proposed};
use metrics::Histogram;

use crate::telemetry;

/// An order whose answers to proposals are timed.
pub(super) struct TimedOrder<O> {
    order: O,
    seconds: Histogram,
    told: Arc<AtomicU64>,
}

impl<O: Order> TimedOrder<O> {
    /// In `told` stands the revision up to which this node was told what was ordered.
    pub(super) fn new(order: O, seconds: Histogram, told: Arc<AtomicU64>) -> Self {
        Self {
            order,
            seconds,
            told,
        }
    }

    fn note(&self, entries: &Entries) {
        self.told.store(entries.revision, Ordering::Relaxed);
    }
}

impl<O: Order> Order for TimedOrder<O> {
    fn node(&self) -> &str {
        self.order.node()
    }

    fn propose(&mut self, proposal: &Proposal<'_>) -> Result<Proposed, OrderError> {
        let begun = Instant::now();
        let proposed = self.order.propose(proposal);
        let ended = Instant::now();
        self.seconds.record(ended - begun);
        telemetry::note_order(begun, ended);
        if let Ok(Proposed::Committed(entries) | Proposed::Conflict(entries)) = &proposed {
            self.note(entries);
        }
        proposed
    }

    fn since(&mut self, seen: &Position) -> Result<Entries, OrderError> {
        let entries = self.order.since(seen)?;
        self.note(&entries);
        Ok(entries)
    }

    fn share(&self) -> (u32, u32) {
        self.order.share()
    }

    fn max_dependencies(&self) -> usize {
        self.order.max_dependencies()
    }
}
