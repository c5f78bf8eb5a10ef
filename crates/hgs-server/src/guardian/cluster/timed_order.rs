//! The order of the nodes' commits, with a watch on how long it takes.

use std::time::Instant;

use hgs_store::order::{Entries, Order, OrderError, Position, Proposal, Proposed};
use metrics::Histogram;

use crate::telemetry;

/// An order whose answers to proposals are timed.
pub(super) struct TimedOrder<O> {
    order: O,
    seconds: Histogram,
}

impl<O: Order> TimedOrder<O> {
    pub(super) fn new(order: O, seconds: Histogram) -> Self {
        Self { order, seconds }
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
        proposed
    }

    fn since(&mut self, seen: &Position) -> Result<Entries, OrderError> {
        self.order.since(seen)
    }

    fn share(&self) -> (u32, u32) {
        self.order.share()
    }

    fn max_dependencies(&self) -> usize {
        self.order.max_dependencies()
    }
}
