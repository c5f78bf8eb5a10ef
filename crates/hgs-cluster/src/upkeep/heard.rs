//! Who has reported, and when.

use std::collections::BTreeMap;
use std::time::Duration;

use hgs_etcd::Revision;
use tokio::time::Instant;

use super::report::Reported;
use crate::node::NodeName;

/// When each node reported last, by this node's own clock.
#[derive(Debug, Clone, Default)]
pub struct Heard(BTreeMap<NodeName, LastReport>);

#[derive(Debug, Clone, Copy)]
struct LastReport {
    /// The revision at which it was written.
    at: Revision,
    /// When it was seen first.
    seen: Instant,
    /// Whether an earlier one was seen before. The first may be of a node that is away.
    is_another: bool,
}

impl Heard {
    /// Of nobody.
    #[must_use]
    pub const fn nobody() -> Self {
        Self(BTreeMap::new())
    }

    /// Notes who has reported since the last time.
    pub fn hear(&mut self, reports: &[Reported], now: Instant) {
        for Reported { node, at, .. } in reports {
            let before = self.0.get(node);
            if before.is_none_or(|before| before.at != *at) {
                let last = LastReport {
                    at: *at,
                    seen: now,
                    is_another: before.is_some(),
                };
                self.0.insert(node.clone(), last);
            }
        }
    }

    /// Forgets who has no report any more.
    pub fn forget_absent(&mut self, reports: &[Reported]) {
        self.0
            .retain(|node, _| reports.iter().any(|reported| reported.node == *node));
    }

    /// Whether a node has reported within this time. The first report that was seen of it may be an old one, and counts as new.
    #[must_use]
    pub fn was_heard(&self, node: &NodeName, within: Duration, now: Instant) -> bool {
        self.last(node, within, now).is_some()
    }

    /// Whether a node was seen to report within this time: it runs.
    #[must_use]
    pub fn lives(&self, node: &NodeName, within: Duration, now: Instant) -> bool {
        let last = self.last(node, within, now);
        last.is_some_and(|last| last.is_another)
    }

    fn last(&self, node: &NodeName, within: Duration, now: Instant) -> Option<&LastReport> {
        let last = self.0.get(node)?;
        (now.saturating_duration_since(last.seen) <= within).then_some(last)
    }
}
