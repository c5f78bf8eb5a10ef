//! An order in memory, for tests and models. Its clones are those of several nodes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use super::{DependencyKey, Entries, Entry, Last, Order, OrderError, Position, Proposal, Proposed};

#[derive(Clone)]
pub(crate) struct MemoryOrder {
    node: String,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    revision: u64,
    log: Vec<Entry>,
    lasts: BTreeMap<String, Last>,
    written: BTreeMap<DependencyKey, u64>,
    everything: u64,
    fault: Option<Fault>,
}

/// What goes wrong with the next proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is ordered, and nobody says so.
    LostAnswer,
    /// It is lost.
    LostProposal,
    /// There is no quorum.
    NoQuorum,
}

impl MemoryOrder {
    pub(crate) fn new() -> Self {
        Self {
            node: "node-1".to_owned(),
            shared: Arc::default(),
        }
    }

    /// The same order as another node sees it.
    pub(crate) fn of(&self, node: &str) -> Self {
        Self {
            node: node.to_owned(),
            ..self.clone()
        }
    }

    pub(crate) fn fail(&self, fault: Fault) {
        self.lock().fault = Some(fault);
    }

    /// Something outside every entry has changed that all proposals depend on.
    pub(crate) fn disturb(&self) {
        let mut shared = self.lock();
        shared.revision += 1;
        shared.everything = shared.revision;
    }

    /// Changes what was ordered.
    pub(crate) fn spoil(&self, change: impl FnOnce(&mut Vec<Entry>)) {
        change(&mut self.lock().log);
    }

    pub(crate) fn octets(&self) -> Vec<u8> {
        let shared = self.lock();
        let entries = shared.log.iter().map(|entry| &entry.octets[..]);
        let keys = shared.written.keys().map(|key| &key[..]);
        entries.chain(keys).collect::<Vec<_>>().concat()
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap()
    }
}

impl Shared {
    fn after(&self, seen: &Position) -> Entries {
        let is_new = |entry: &&Entry| entry.number > seen.last(&entry.node).number;
        Entries {
            entries: self.log.iter().filter(is_new).cloned().collect(),
            revision: self.revision,
            more: false,
        }
    }

    fn order(&mut self, node: &str, proposal: &Proposal<'_>) -> Proposed {
        let is_later = |revision: &u64| *revision > proposal.seen.revision;
        let last = self.lasts.get(node).copied().unwrap_or(Last::NONE);
        let after = self.after(proposal.seen);
        let mut depends = proposal.depends.iter();
        let has_changed = last != proposal.seen.last(node)
            || is_later(&self.everything)
            || (proposal.everything && !after.entries.is_empty())
            || depends.any(|key| self.written.get(key).is_some_and(is_later));
        if has_changed {
            return Proposed::Conflict(after);
        }
        self.revision += 1;
        for key in proposal.writes {
            self.written.insert(*key, self.revision);
        }
        if proposal.everything {
            self.everything = self.revision;
        }
        self.lasts.insert(node.to_owned(), proposal.last);
        self.log.push(Entry {
            node: node.to_owned(),
            number: proposal.last.number,
            revision: self.revision,
            octets: proposal.octets.to_vec(),
        });
        Proposed::Committed(self.after(proposal.seen))
    }
}

impl Order for MemoryOrder {
    fn node(&self) -> &str {
        &self.node
    }

    fn propose(&mut self, proposal: &Proposal<'_>) -> Result<Proposed, OrderError> {
        let mut shared = self.lock();
        let reason = || "as the test says".to_owned();
        match shared.fault.take() {
            None => Ok(shared.order(&self.node, proposal)),
            Some(Fault::NoQuorum) => Err(OrderError::NoQuorum { reason: reason() }),
            Some(Fault::LostProposal) => Err(OrderError::Unknown { reason: reason() }),
            Some(Fault::LostAnswer) => {
                shared.order(&self.node, proposal);
                Err(OrderError::Unknown { reason: reason() })
            }
        }
    }

    fn since(&mut self, seen: &Position) -> Result<Entries, OrderError> {
        Ok(self.lock().after(seen))
    }

    fn share(&self) -> (u32, u32) {
        let shared = self.lock();
        let nodes = shared.lasts.keys().filter(|node| **node != self.node);
        let before = nodes.clone().filter(|node| **node < self.node).count();
        (before as u32, nodes.count() as u32 + 1)
    }

    fn max_dependencies(&self) -> usize {
        1024
    }
}
