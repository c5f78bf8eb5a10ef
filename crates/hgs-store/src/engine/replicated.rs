//! An engine of several nodes: a copy of the state in SQLite, and an order that they share.
//!
//! ```text
//!  decide from the copy --> compare with the copy --> propose --Committed--> what others did, then this --> copy, news
//!                                                        '------Conflict---> what others did --> copy, news; decided again
//! ```
//!
//! What was ordered is carried out on every copy in the same order, so all copies are equal: records, lineage, audit log with its
//! numbers and tags, and the tag of the whole. The position in the order is written in the same transaction of SQLite as what
//! it is about; after a crash, the rest is taken in again. What the order has taken counts as done, whether or not this node
//! could write its copy: it takes it in before it does anything else.

mod entry;
#[cfg(test)]
mod tests;

use std::slice;
use std::sync::Arc;
use std::time::Duration;

use hgs_crypto::Random;
use hgs_fault::{Fault, seeded};

use super::{
    Batch, CommitError, Decide, Engine, Key, News, Part, PositionChange, PositionRow, Readers,
    Sqlite, View,
};
use crate::level::Levels;
use crate::order::{
    DependencyKey, Entries, Entry, Order, OrderError, Position, Proposal, Proposed,
};
use crate::record::{Integrity, Keys};
use crate::{OpenError, StoreError};
use entry::{Opened, dependency, position_row, read_position, seal};

/// How often a batch is proposed again when nothing that it was decided from has changed.
const MAX_PROPOSALS: usize = 16;

/// What one job may depend on, at most, in a group: host and settings, three protectors, and two that are forgotten.
const DEPENDENCIES_OF_A_JOB: usize = 8;

/// For how long a commit waits for jobs that are on their way. Each transaction costs a cluster's processors as much as the
/// release of two machines.
const GATHERING: Duration = Duration::from_millis(8);

/// More jobs in one commit gain nothing, and make entries long.
const MAX_GROUP: usize = 64;

/// A copy of the state that a node has for itself.
pub(crate) trait LocalCopy: Engine {
    /// How far the order was taken in with it.
    fn position(&self) -> Result<Option<PositionRow>, StoreError>;

    /// Decides a batch that follows upon `newest`, and compares all that it depends on; nothing is written.
    fn decide(&mut self, decide: Decide<'_>, newest: &Integrity) -> Result<Batch, CommitError>;

    /// Carries out batches one after the other, as one commit, and then tells the news of each. The number of the first audit
    /// record of the last.
    fn commit_series(&mut self, next: NextBatch<'_>) -> Result<u64, CommitError>;
}

/// What is carried out next, as long as there is something.
pub(crate) type NextBatch<'n> = &'n mut dyn FnMut(&dyn View) -> Result<Option<Batch>, CommitError>;

/// A copy of the state, and the order that several nodes share.
pub(crate) struct Replicated<C = Sqlite> {
    copy: C,
    /// The whole of the copy.
    newest: Integrity,
    node: Node,
}

/// This node in the order.
struct Node {
    /// What this program reads.
    levels: Levels,
    order: Box<dyn Order>,
    keys: Arc<Keys>,
    random: Box<dyn Random>,
    position: Position,
}

impl<C: LocalCopy> Replicated<C> {
    /// Follows an order with a copy that was verified. A state that was one of a single node becomes the first copy of a
    /// cluster that has ordered nothing yet.
    pub(crate) fn open(
        copy: C,
        mut order: Box<dyn Order>,
        keys: Arc<Keys>,
        random: Box<dyn Random>,
        newest: Integrity,
        levels: Levels,
    ) -> Result<Self, OpenError> {
        let known = copy.position()?;
        let is_first = known.is_none();
        let position = match &known {
            Some(row) => read_position(row, &keys.cluster)?,
            None => {
                let ordered = order.since(&Position::default());
                let ordered = ordered.map_err(StoreError::from)?;
                if !ordered.entries.is_empty() {
                    return Err(OpenError::NotOfThisCluster);
                }
                Position {
                    revision: ordered.revision,
                    ..Position::default()
                }
            }
        };
        let node = Node {
            levels,
            order,
            keys,
            random,
            position,
        };
        let mut engine = Self { copy, newest, node };
        if is_first {
            let mut founding = Some(engine.node.positioned(&newest));
            let founded = engine.copy.commit_series(&mut |_| Ok(founding.take()));
            founded.map_err(of_copy)?;
        }
        Ok(engine)
    }

    /// How far the order is taken in.
    #[cfg(test)]
    pub(crate) fn position(&self) -> &Position {
        &self.node.position
    }

    /// Carries out entries on the copy, as one commit. The last one may be this node's `own`, which was just ordered. The number
    /// of the first audit record of the last.
    fn take_in(&mut self, ordered: &Entries, own: Option<Batch>) -> Result<u64, StoreError> {
        let mut series = Series {
            keys: &self.node.keys,
            levels: &self.node.levels,
            position: Position {
                revision: ordered.revision,
                ..self.node.position.clone()
            },
            newest: self.newest,
            coming: &ordered.entries,
            entry: None,
            own,
        };
        if ordered.entries.is_empty() {
            // Nothing to write: a revision that is known after a restart may be an older one.
            self.node.position = series.position;
            return Ok(0);
        }
        let next = &mut |view: &dyn View| Ok(series.next(view)?);
        let first = self.copy.commit_series(next).map_err(of_copy)?;
        (self.node.position, self.newest) = (series.position, series.newest);
        Ok(first)
    }

    /// Commits a batch that was decided from the copy as it is.
    fn order(&mut self, mut batch: Batch) -> Result<u64, CommitError> {
        // What leaves the log for an archive leaves that of this node only. The others learn that there is one.
        let archive = batch.archive.take();
        for _ in 0..MAX_PROPOSALS {
            let expects_all = batch.expects_all;
            match self.node.propose(slice::from_ref(&batch), expects_all)? {
                Proposed::Committed(ordered) => {
                    return Ok(self.take_in(&ordered, Some(Batch { archive, ..batch }))?);
                }
                Proposed::Conflict(ordered) => {
                    self.take_in(&ordered, None)?;
                    if !ordered.entries.is_empty() && !seeded(Fault::StaleBatchProposed) {
                        if ordered.more {
                            self.refresh()?;
                        }
                        return Err(CommitError::Conflict(Key::Row));
                    }
                }
            }
        }
        Err(StoreError::Busy.into())
    }
}

/// How far a copy has taken in what was ordered, if it belongs to a cluster.
pub(crate) fn position_of(view: &dyn View, keys: &Keys) -> Result<Option<Position>, StoreError> {
    let row = view.position()?;
    let position = row.map(|row| read_position(&row, &keys.cluster));
    Ok(position.transpose()?)
}

impl Node {
    /// A batch that says how far the order is taken in, and nothing else.
    fn positioned(&self, whole: &Integrity) -> Batch {
        Batch {
            position: Some(PositionChange::To(position_row(
                &self.position,
                &self.keys.cluster,
            ))),
            ..Batch::of(whole, whole.root(&self.keys))
        }
    }

    /// Has the parts of one commit ordered, which depends on everything: where this node is then.
    fn order_parts(&mut self, batches: &[Batch]) -> Result<Position, NotOrdered> {
        match self.propose(batches, true).map_err(NotOrdered::Failed)? {
            Proposed::Conflict(ordered) => Err(NotOrdered::Overtaken(ordered)),
            Proposed::Committed(ordered) => {
                let mut position = self.position.clone();
                position.revision = ordered.revision;
                for entry in &ordered.entries {
                    let last = position.last(&entry.node);
                    let last = last.next(&entry.node, &entry.octets, &self.keys.cluster);
                    position.nodes.insert(entry.node.clone(), last);
                }
                Ok(position)
            }
        }
    }

    /// Has batches of this node ordered as one, behind all that was taken in.
    fn propose(&mut self, batches: &[Batch], everything: bool) -> Result<Proposed, StoreError> {
        let (node, cluster) = (self.order.node().to_owned(), &self.keys.cluster);
        let before = self.position.last(&node);
        let (octets, last) = seal(batches, &node, &before, cluster, &mut *self.random)?;
        let named = |key| dependency(key, cluster);
        let expected = batches
            .iter()
            .flat_map(|batch| batch.expected.keys().copied());
        let depends: Vec<DependencyKey> = expected.filter_map(named).collect();
        let written = batches.iter().flat_map(Batch::written);
        let writes: Vec<DependencyKey> = written.filter_map(named).collect();
        let everything = everything || depends.len() > self.order.max_dependencies();
        let proposal = Proposal {
            seen: &self.position,
            depends: if everything { &[] } else { &depends },
            writes: match everything || seeded(Fault::WritesNotTold) {
                true => &[],
                false => &writes,
            },
            everything,
            octets: &octets,
            last,
        };
        let proposed = self.order.propose(&proposal)?;
        if let Proposed::Committed(ordered) = &proposed
            && !ordered
                .entries
                .last()
                .is_some_and(|entry| entry.node == node && entry.octets == octets)
        {
            return Err(OrderError::Fenced { node }.into());
        }
        Ok(proposed)
    }
}

impl<C: LocalCopy> Engine for Replicated<C> {
    fn commit(&mut self, decide: Decide<'_>) -> Result<u64, CommitError> {
        let batch = self.copy.decide(decide, &self.newest)?;
        if batch.is_empty() {
            // The answer stands for all that was committed before it was asked for, on any node.
            self.refresh()?;
            return Ok(self.newest.audit.sequence + 1);
        }
        let is_local = Batch {
            archive: None,
            ..batch.clone()
        }
        .is_empty();
        match is_local {
            true => {
                let mut batch = Some(batch);
                let done = self.copy.commit_series(&mut |_| Ok(batch.take()))?;
                Ok(done)
            }
            false => self.order(batch),
        }
    }

    fn commit_parts(&mut self, next: &mut dyn FnMut(&dyn View) -> Part) -> Result<(), CommitError> {
        let Self { copy, node, newest } = self;
        let (mut batches, mut is_positioned) = (Vec::new(), false);
        let mut refused = None;
        copy.commit_parts(&mut |view| {
            if is_positioned {
                return Part::Commit;
            }
            match next(view) {
                Part::Write(batch) => {
                    batches.push(Batch::clone(&batch));
                    Part::Write(batch)
                }
                Part::Undo => Part::Undo,
                Part::Commit => match node.order_parts(&batches) {
                    Ok(position) => {
                        is_positioned = true;
                        let whole = batches
                            .last()
                            .map_or(*newest, |last| last.row.before.after(last));
                        (node.position, *newest) = (position, whole);
                        Part::Write(Box::new(node.positioned(&whole)))
                    }
                    Err(reason) => {
                        refused = Some(reason);
                        Part::Undo
                    }
                },
            }
        })?;
        match refused {
            None => Ok(()),
            Some(NotOrdered::Failed(error)) => Err(error.into()),
            Some(NotOrdered::Overtaken(ordered)) => {
                self.take_in(&ordered, None)?;
                if ordered.more {
                    self.refresh()?;
                }
                Err(CommitError::Conflict(Key::Row))
            }
        }
    }

    fn listen(&mut self, news: News) {
        self.copy.listen(news);
    }

    fn readers(&self) -> Arc<dyn Readers> {
        self.copy.readers()
    }

    fn checkpoint(&mut self) -> Result<bool, StoreError> {
        self.copy.checkpoint()
    }

    fn shrink(&mut self) -> Result<bool, StoreError> {
        self.copy.shrink()
    }

    fn set_has_mark(&mut self) -> Result<(), StoreError> {
        self.copy.set_has_mark()
    }

    fn refresh(&mut self) -> Result<(), StoreError> {
        loop {
            let ordered = self.node.order.since(&self.node.position)?;
            self.take_in(&ordered, None)?;
            if !ordered.more {
                return Ok(());
            }
        }
    }

    fn share(&self) -> (u32, u32) {
        self.node.order.share()
    }

    fn gathering(&self) -> Duration {
        GATHERING
    }

    fn max_group(&self) -> usize {
        (self.node.order.max_dependencies() / DEPENDENCIES_OF_A_JOB).clamp(1, MAX_GROUP)
    }
}

/// Why parts of a commit were not ordered.
enum NotOrdered {
    Failed(StoreError),
    /// Other nodes were first.
    Overtaken(Entries),
}

/// Entries that are being carried out.
struct Series<'s> {
    keys: &'s Keys,
    levels: &'s Levels,
    position: Position,
    newest: Integrity,
    coming: &'s [Entry],
    /// The entry that is being carried out, and which of its parts comes next.
    entry: Option<(Opened, usize)>,
    own: Option<Batch>,
}

impl Series<'_> {
    fn next(&mut self, view: &dyn View) -> Result<Option<Batch>, StoreError> {
        let mut batch = loop {
            if let Some((entry, part)) = &mut self.entry
                && *part < entry.count()
            {
                *part += 1;
                break entry.batch(*part - 1, &self.newest, view, self.keys, self.levels)?;
            }
            let Some((entry, coming)) = self.coming.split_first() else {
                return Ok(None);
            };
            self.coming = coming;
            let opened = self.follow(entry)?;
            match self.own.take_if(|_| coming.is_empty()) {
                None => self.entry = Some((opened, 0)),
                Some(mut own) => {
                    self.entry = None;
                    if !seeded(Fault::OwnNotFollowed) {
                        own.replay(&self.newest, self.keys);
                    }
                    break own;
                }
            }
        };
        let position = PositionChange::To(position_row(&self.position, &self.keys.cluster));
        batch.position = Some(position).filter(|_| !seeded(Fault::PositionNotKept));
        self.newest = self.newest.after(&batch);
        Ok(Some(batch))
    }

    /// Opens an entry, which must follow upon the last one of its node.
    fn follow(&mut self, entry: &Entry) -> Result<Opened, StoreError> {
        let Entry {
            node,
            number,
            octets,
            ..
        } = entry;
        let cluster = &self.keys.cluster;
        let before = self.position.last(node);
        let follows = before.number + 1 == *number;
        let opened = Opened::open(octets, node, &before, cluster).filter(|_| follows);
        let diverged = || OrderError::Diverged {
            node: node.clone(),
            number: *number,
        };
        let opened = opened.ok_or_else(diverged)?;
        opened.check(self.levels)?;
        let last = before.next(node, octets, cluster);
        self.position.nodes.insert(node.clone(), last);
        Ok(opened)
    }
}

/// What was ordered fits every copy that has taken in all before it.
fn of_copy(error: CommitError) -> StoreError {
    match error {
        CommitError::Conflict(key) => key.tampered().into(),
        CommitError::Store(error) => error,
    }
}
