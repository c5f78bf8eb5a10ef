//! The order that the nodes share, as a value: what etcd's transactions compare and write.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use hgs_fault::{Fault, seeded};

use super::copy::{Copy, Name, name};
use super::history::History;
use super::job::{Job, Kind, Outcome, Task};
use super::machine;
use super::service::TENANT;
use crate::audit;
use crate::engine::View as _;
use crate::order::{DependencyKey, Entry, Last, OrderError, Position};
use crate::record::Keys;
use hgs_testkit::fixtures::Guardian;

/// A proposal, and what it is of.
pub(super) struct Message {
    pub(super) node: &'static str,
    pub(super) seen: Position,
    pub(super) last: Last,
    pub(super) depends: Vec<DependencyKey>,
    pub(super) writes: Vec<DependencyKey>,
    pub(super) everything: bool,
    pub(super) octets: Vec<u8>,
    pub(super) jobs: Vec<Arc<Job>>,
    /// How the node decided each job.
    pub(super) outcomes: Vec<Outcome>,
    pub(super) name: Name,
}

/// By what a proposal is told from others.
pub(super) fn name_of(copy: &Copy, node: &str, jobs: &[Arc<Job>]) -> Name {
    let jobs: Vec<_> = jobs.iter().flat_map(|job| job.name).collect();
    name(&[node.as_bytes(), &copy.name, &jobs])
}

/// What was ordered, and where.
pub(super) struct Ordered {
    pub(super) message: Arc<Message>,
    pub(super) revision: u64,
    /// What a copy has in it that has taken in all up to here.
    pub(super) content: Name,
}

impl Ordered {
    pub(super) fn entry(&self) -> Entry {
        Entry {
            node: self.message.node.to_owned(),
            number: self.message.last.number,
            revision: self.revision,
            octets: self.message.octets.clone(),
        }
    }
}

#[derive(Clone)]
pub(super) struct Log {
    pub(super) entries: Vec<Arc<Ordered>>,
    written: BTreeMap<DependencyKey, u64>,
    everything: u64,
    /// The last entry of each node, and its revision.
    nodes: BTreeMap<&'static str, (Last, u64)>,
    /// A copy that takes in all at once, which no node has.
    pub(super) truth: Arc<Copy>,
    pub(super) history: History,
    pub(super) wrong: Option<&'static str>,
    /// A node has found that it was put back.
    pub(super) is_halted: bool,
    pub(super) name: Name,
}

impl fmt::Debug for Log {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Log(of {})", self.entries.len())
    }
}

impl Log {
    /// Nothing was ordered: all nodes have the same copy.
    pub(super) fn new(first: &Arc<Copy>) -> Self {
        let mut history = History::default();
        Self {
            entries: Vec::new(),
            written: BTreeMap::new(),
            everything: 0,
            nodes: BTreeMap::new(),
            wrong: history.take_state(&first.state),
            truth: Arc::clone(first),
            history,
            is_halted: false,
            name: Name::default(),
        }
    }

    /// The same, in which nothing is ordered any more.
    pub(super) fn halted(&self) -> Self {
        Self {
            is_halted: true,
            name: name(&[&self.name, b"halted"]),
            ..self.clone()
        }
    }

    pub(super) fn revision(&self) -> u64 {
        self.entries.len() as u64
    }

    /// Whether nothing that a proposal depends on has changed since it was decided. An order that was put back was started again,
    /// and a node asks it for what it has on every new connection, before it proposes anything.
    pub(super) fn takes(&self, message: &Message) -> bool {
        if self.since(&message.seen).is_err() {
            return false;
        }
        let seen = message.seen.revision;
        let is_later = |revision: u64| match seeded(Fault::OrderComparesTooLate) {
            true => revision > seen + 1,
            false => revision > seen,
        };
        let last = self.nodes.get(message.node);
        let last = last.map_or(Last::NONE, |(last, _)| *last);
        if last != message.seen.last(message.node) && !seeded(Fault::OrderIgnoresItsNode) {
            return false;
        }
        let changed = |key| {
            self.written
                .get(key)
                .is_some_and(|written| is_later(*written))
        };
        let overtaken = is_later(self.everything) || message.depends.iter().any(changed);
        if message.everything {
            let mut others = self.nodes.values();
            return !overtaken && !others.any(|(_, revision)| is_later(*revision));
        }
        !overtaken
    }

    /// Where a proposal stands in the order, if it was taken and is its node's last.
    pub(super) fn place(&self, message: &Message) -> Option<u64> {
        let (last, revision) = self.nodes.get(message.node)?;
        (*last == message.last).then_some(*revision)
    }

    /// The log with `message` behind all that is there.
    pub(super) fn with(&self, message: &Arc<Message>, keys: &Arc<Keys>) -> Self {
        let mut log = self.clone();
        let revision = self.revision() + 1;
        for key in &message.writes {
            log.written.insert(*key, revision);
        }
        if message.everything {
            log.everything = revision;
        }
        log.nodes.insert(message.node, (message.last, revision));
        log.name = name(&[&self.name, &message.name]);
        log.entries.push(Arc::new(Ordered {
            message: Arc::clone(message),
            revision,
            content: Name::default(),
        }));
        if self.is_halted {
            log.wrong = Some(super::ORDERED_AFTER_HALT);
            return log;
        }
        match machine::refresh(&self.truth, keys, "observer", &Arc::new(log.clone())) {
            Ok(truth) => log.truth = Arc::new(truth),
            Err(_) => log.wrong = Some(super::NOT_CARRIED_OUT),
        }
        if let Some(ordered) = log.entries.pop() {
            log.entries.push(Arc::new(Ordered {
                message: Arc::clone(message),
                revision: ordered.revision,
                content: log.truth.content,
            }));
        }
        log.wrong = log.wrong.or_else(|| log.judge(message, &self.truth, keys));
        log
    }

    /// What is wrong with the log now that `message` is in it, which came after `before`.
    fn judge(&mut self, message: &Message, before: &Copy, keys: &Keys) -> Option<&'static str> {
        if !self.truth.is_sound(keys) {
            return Some(super::NOT_SOUND);
        }
        let mut compromised = self.history.compromised().clone();
        let first = Guardian::named(TENANT[0]).signing.thumbprint();
        for (job, outcome) in message.jobs.iter().zip(&message.outcomes) {
            if *outcome != Outcome::Done {
                continue;
            }
            match &job.kind {
                Kind::Task(Task::Compromise, _) => drop(compromised.insert(first)),
                Kind::Task(..) => {}
                Kind::Attest { key } => {
                    if let Some(wrong) = self.history.take_identity(*key) {
                        return Some(wrong);
                    }
                }
                Kind::Release { roll, .. } => {
                    let mut missed = compromised.iter();
                    if missed.any(|one| !roll.compromised.contains(one)) {
                        return Some(super::DECIDED_BEFORE_COMPROMISE);
                    }
                    let opener = before.state.certificate(&roll.record.guardian);
                    if opener.is_some_and(|opener| !opener.enabled) {
                        return Some(super::DISABLED_PAIR_OPENED);
                    }
                }
            }
        }
        let is_task = |job: &Arc<Job>| matches!(job.kind, Kind::Task(..));
        let is_refused = |outcome: &Outcome| *outcome != Outcome::Done;
        let is_in_vain =
            message.jobs.iter().all(is_task) && message.outcomes.iter().all(is_refused);
        if is_in_vain && self.truth.state.written() != before.state.written() {
            return Some(super::REFUSED_AND_DONE);
        }
        let is_strict = before.state.settings().refuse_superseded_protectors;
        let new = self
            .truth
            .kept
            .audit_after(before.integrity.audit.sequence, usize::MAX);
        for row in new.ok()? {
            let record = audit::read(&row).ok()?;
            if let Some(wrong) = self.history.take(&record, is_strict) {
                return Some(wrong);
            }
        }
        let nodes = self.truth.nodes();
        let tree = self
            .history
            .check_tree(nodes.iter().map(|stored| &stored.node));
        tree.or_else(|| self.history.take_state(&self.truth.state))
    }

    /// What was ordered after `seen`.
    /// A node that has more than the order, or something else, is told so: with etcd, by what each node wrote last.
    pub(super) fn since(&self, seen: &Position) -> Result<&[Arc<Ordered>], OrderError> {
        if self.is_halted && !seeded(Fault::OrderIgnoresHalt) {
            return Err(OrderError::PutBack {
                reason: "a node says so".to_owned(),
            });
        }
        for (node, known) in &seen.nodes {
            let (last, _) = self
                .nodes
                .get(node.as_str())
                .copied()
                .unwrap_or((Last::NONE, 0));
            let is_other = last.number == known.number && last.chain != known.chain;
            if last.number < known.number || is_other {
                return Err(OrderError::PutBack {
                    reason: format!("node {node}"),
                });
            }
        }
        let seen = usize::try_from(seen.revision).unwrap_or(usize::MAX);
        Ok(self.entries.get(seen..).unwrap_or_default())
    }
}
