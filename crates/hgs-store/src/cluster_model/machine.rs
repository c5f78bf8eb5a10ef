//! One node at work: the shipped engine over a copy in memory and an order that the model plays.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use hgs_testkit::fixtures::Repeatable;

use super::copy::Copy;
use super::job::{Job, Outcome};
use super::log::{Log, Message, name_of};
use crate::engine::{CommitError, Engine, Memory, Part, Replicated};
use crate::level::Levels;
use crate::order::{Entries, Order, OrderError, Position, Proposal, Proposed};
use crate::planner::{Basis, BatchPlanner};
use crate::record::{Integrity, Keys};
use crate::transaction::{Act, Transaction};
use crate::writer::Shared;
use crate::{State, StoreError, opening};

/// What the order does with the next proposal of a node.
enum Reply {
    /// It is on its way, and the node hears nothing.
    Underway,
    /// The answer to it comes back: whether it was ordered, and as which entry.
    Heard(Option<u64>),
    /// It is ordered, or not, at once.
    Live,
}

/// An order, as one node reaches it.
struct Wire {
    node: &'static str,
    log: Arc<Log>,
    keys: Arc<Keys>,
    reply: Reply,
    /// What the node has proposed last.
    sent: Option<Message>,
    jobs: Vec<Arc<Job>>,
}

/// As the engine of a node holds it.
struct Reached(Arc<Mutex<Wire>>);

impl Wire {
    /// Entries after `seen`, up to one or to the end.
    fn after(&self, seen: &Position, last: Option<u64>) -> Result<Entries, OrderError> {
        let last = last.unwrap_or_else(|| self.log.revision());
        let ordered = self.log.since(seen)?.iter();
        let ordered = ordered.filter(|ordered| ordered.revision <= last);
        Ok(Entries {
            entries: ordered.map(|ordered| ordered.entry()).collect(),
            revision: last,
            more: false,
        })
    }
}

impl Order for Reached {
    fn node(&self) -> &str {
        self.0.lock().unwrap().node
    }

    fn propose(&mut self, proposal: &Proposal<'_>) -> Result<Proposed, OrderError> {
        let mut wire = self.0.lock().unwrap();
        let message = Message {
            node: wire.node,
            seen: proposal.seen.clone(),
            last: proposal.last,
            depends: proposal.depends.to_vec(),
            writes: proposal.writes.to_vec(),
            everything: proposal.everything,
            octets: proposal.octets.to_vec(),
            jobs: wire.jobs.clone(),
            outcomes: Vec::new(),
            name: super::copy::name(&[proposal.octets]),
        };
        match std::mem::replace(&mut wire.reply, Reply::Live) {
            Reply::Underway => {
                wire.sent = Some(message);
                let reason = "it is under way".to_owned();
                Err(OrderError::Unknown { reason })
            }
            Reply::Heard(Some(revision)) => Ok(Proposed::Committed(
                wire.after(proposal.seen, Some(revision))?,
            )),
            Reply::Heard(None) => Ok(Proposed::Conflict(wire.after(proposal.seen, None)?)),
            Reply::Live if wire.log.takes(&message) => {
                wire.log = Arc::new(wire.log.with(&Arc::new(message), &wire.keys));
                Ok(Proposed::Committed(wire.after(proposal.seen, None)?))
            }
            Reply::Live => Ok(Proposed::Conflict(wire.after(proposal.seen, None)?)),
        }
    }

    fn since(&mut self, seen: &Position) -> Result<Entries, OrderError> {
        self.0.lock().unwrap().after(seen, None)
    }

    fn share(&self) -> (u32, u32) {
        (0, 1)
    }

    fn max_dependencies(&self) -> usize {
        1024
    }
}

/// A node that was started with a copy.
struct Machine {
    memory: Memory,
    shared: Arc<Shared>,
    engine: Replicated<Memory>,
    wire: Arc<Mutex<Wire>>,
    keys: Arc<Keys>,
}

/// What a commit came to.
pub(super) struct Committed {
    pub(super) copy: Copy,
    pub(super) log: Arc<Log>,
    /// How each job went, or that all are to be decided again.
    pub(super) outcomes: Result<Vec<Outcome>, NotCommitted>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NotCommitted {
    /// What it was decided from has changed.
    Changed,
    /// The node can't go on.
    Failed(StoreError),
}

impl Machine {
    fn start(
        copy: &Copy,
        keys: &Arc<Keys>,
        node: &'static str,
        log: &Arc<Log>,
        reply: Reply,
        jobs: &[Arc<Job>],
    ) -> Result<Self, String> {
        let wire = Arc::new(Mutex::new(Wire {
            node,
            log: Arc::clone(log),
            keys: Arc::clone(keys),
            reply,
            sent: None,
            jobs: jobs.to_vec(),
        }));
        let memory = Memory::of(copy.kept.clone(), keys);
        let [a, b, c, d, e, f, g, h, ..] = name_of(copy, node, jobs);
        let random = Repeatable::seeded(u64::from_be_bytes([a, b, c, d, e, f, g, h]));
        let mut engine = Replicated::open(
            memory.clone(),
            Box::new(Reached(Arc::clone(&wire))),
            Arc::clone(keys),
            Box::new(random),
            copy.integrity,
            Levels::default(),
        )
        .map_err(|error| error.to_string())?;
        let shared = Arc::new(Shared::new(copy.state.clone(), copy.integrity));
        let news = Arc::clone(&shared);
        engine.listen(Arc::new(move |batch| news.committed(batch)));
        Ok(Self {
            memory,
            shared,
            engine,
            wire,
            keys: Arc::clone(keys),
        })
    }

    /// Carries out `jobs` as the writer does, once. How each was decided is in `outcomes`.
    fn commit(
        &mut self,
        jobs: &[Arc<Job>],
        outcomes: &mut Vec<Outcome>,
    ) -> Result<(), CommitError> {
        let (state, integrity) = self.shared.newest();
        let (keys, node) = (Arc::clone(&self.keys), self.wire.lock().unwrap().node);
        let mut random = Repeatable::seeded(1);
        let mut decide = |view: &dyn crate::engine::View| {
            outcomes.clear();
            let basis = Basis {
                view,
                keys: &keys,
                node,
                random: &mut random,
                spoilt: &BTreeSet::new(),
                share: (0, 1),
            };
            let mut planner = BatchPlanner::new(basis, State::clone(&state), integrity);
            for job in jobs {
                outcomes.push(job.decide(&mut planner)?);
            }
            planner.finish()
        };
        if is_import(jobs) {
            let mut is_written = false;
            let mut failure = None;
            self.engine.commit_parts(&mut |view| {
                if std::mem::replace(&mut is_written, true) {
                    return Part::Commit;
                }
                match decide(view) {
                    Ok(batch) => Part::Write(Box::new(batch)),
                    Err(error) => {
                        failure = Some(error);
                        Part::Undo
                    }
                }
            })?;
            failure.map_or(Ok(()), |error| Err(error.into()))
        } else {
            self.engine.commit(&mut decide).map(|_| ())
        }
    }

    /// What is on its disk now, and in its memory.
    fn stop(self, was_imported: bool) -> Result<(Copy, Arc<Log>), String> {
        let kept = self.memory.kept();
        let (state, integrity) = match was_imported {
            // An import is done while no server runs.
            true => opening::verify(&kept, &self.keys).map_err(|error| error.to_string())?,
            false => {
                let (state, integrity) = self.shared.newest();
                (State::clone(&state), integrity)
            }
        };
        let position = self.engine.position().clone();
        let log = Arc::clone(&self.wire.lock().unwrap().log);
        let copy = Copy::of(kept, state, integrity, position).map_err(|error| error.to_string())?;
        Ok((copy, log))
    }
}

/// An import is one commit of many parts.
fn is_import(jobs: &[Arc<Job>]) -> bool {
    jobs.iter().any(|job| job.is_import())
}

/// The proposal that a node makes of `jobs`, which goes on its way.
pub(super) fn propose(
    copy: &Copy,
    keys: &Arc<Keys>,
    node: &'static str,
    log: &Arc<Log>,
    jobs: &[Arc<Job>],
) -> Result<Message, String> {
    let mut machine = Machine::start(copy, keys, node, log, Reply::Underway, jobs)?;
    let mut outcomes = Vec::new();
    let committed = machine.commit(jobs, &mut outcomes);
    let sent = machine.wire.lock().unwrap().sent.take();
    let name = name_of(copy, node, jobs);
    match sent {
        Some(sent) => Ok(Message {
            outcomes,
            name,
            ..sent
        }),
        None => Err(format!("nothing was proposed: {committed:?}")),
    }
}

/// What becomes of it when the order's answer comes back: `ordered` says where it stands in the order, if it was taken.
pub(super) fn hear(
    copy: &Copy,
    keys: &Arc<Keys>,
    log: &Arc<Log>,
    message: &Message,
    ordered: Option<u64>,
) -> Result<Committed, String> {
    let (node, jobs) = (message.node, &message.jobs);
    let mut machine = Machine::start(copy, keys, node, log, Reply::Heard(ordered), jobs)?;
    let mut outcomes = Vec::new();
    let committed = machine.commit(jobs, &mut outcomes);
    let (copy, log) = machine.stop(is_import(jobs))?;
    let outcomes = match committed {
        Ok(()) => Ok(outcomes),
        Err(CommitError::Conflict(_)) => Err(NotCommitted::Changed),
        Err(CommitError::Store(error)) => Err(NotCommitted::Failed(error)),
    };
    Ok(Committed {
        copy,
        log,
        outcomes,
    })
}

/// A copy that has taken in all that was ordered.
pub(super) fn refresh(
    copy: &Copy,
    keys: &Arc<Keys>,
    node: &'static str,
    log: &Arc<Log>,
) -> Result<Copy, StoreError> {
    let unavailable = |reason| StoreError::Unavailable { reason };
    let machine = Machine::start(copy, keys, node, log, Reply::Live, &[]);
    let mut machine = machine.map_err(unavailable)?;
    machine.engine.refresh()?;
    let (copy, _) = machine.stop(false).map_err(unavailable)?;
    Ok(copy)
}

/// The first copy: `transactions` carried out on nothing, before there is an order.
pub(super) fn found(keys: &Arc<Keys>, transactions: &[Transaction], act: &Act) -> Copy {
    let mut memory = Memory::new(keys);
    let shared = Arc::new(Shared::new(State::default(), Integrity::EMPTY));
    let news = Arc::clone(&shared);
    memory.listen(Arc::new(move |batch| news.committed(batch)));
    let committed = memory.commit(&mut |view| {
        let basis = Basis {
            view,
            keys,
            node: "a",
            random: &mut Repeatable::seeded(1),
            spoilt: &BTreeSet::new(),
            share: (0, 1),
        };
        let mut planner = BatchPlanner::new(basis, State::default(), Integrity::EMPTY);
        planner.transact(transactions, act)?.unwrap();
        planner.finish()
    });
    committed.unwrap();
    let (state, integrity) = shared.newest();
    let state = State::clone(&state);
    let copy = Copy::of(memory.kept(), state, integrity, Position::default()).unwrap();
    refresh(
        &copy,
        keys,
        "a",
        &Arc::new(Log::new(&Arc::new(copy.clone()))),
    )
    .unwrap()
}
