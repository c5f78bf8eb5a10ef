//! Where the state is kept: the seam between what the store decides and the database that holds it.
//!
//! A commit is a value, the [`Batch`]. The planner decides it from the state in memory and a
//! [`View`] of the lineage tree; an [`Engine`] carries it out, whole or not at all, if everything
//! that it was decided from is still the same. If not, it is decided again.
//!
//! ```text
//!  jobs + State + View --BatchPlanner--> Batch --Engine--> durable --> news --> State, answers
//!                            ^                     |
//!                            '----- conflict ------'
//! ```
//!
//! *Versions* are the tags of what is kept: a tag covers value and generation, so equal tags are
//! equal content. *Numbers* of audit records are given by the engine when it commits. *News* tell
//! every listener what was committed, whichever writer committed it.
//!
//! What an engine returns is not believed: the caller verifies every tag. `contract` has the tests
//! that every engine must pass.

#[cfg(test)]
mod contract;
#[cfg(test)]
mod memory;
mod replicated;
mod sqlite;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hgs_custody::seal::Tag;
use hgs_fault::{Fault, seeded};
use hgs_pki::Time;
use hgs_pki::health::HostId;

#[cfg(test)]
pub(crate) use memory::{Kept, Memory};
pub(crate) use replicated::{Replicated, position_of};
pub(crate) use sqlite::{
    Durability, Program, Sqlite, check_copy, close_copy, forget_mark, open_snapshot,
    stored_master_key,
};

use crate::audit_head::Head;
use crate::audit_term::FilterTerm;
use crate::change::{Record, RecordKey};
use crate::level::Level;
use crate::model::Digest;
use crate::node::{Node, StoredNode};
use crate::protectors::Heads;
use crate::record::{Integrity, Keys, RecordKind, Sum};
use crate::usage::PairUsage;
use crate::{Finding, OpenError, StoreError, Tampered};

/// Names one thing that a batch depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Record(RecordKey),
    Protector(Digest),
    /// The row that holds the whole together.
    Row,
}

impl Key {
    /// What is to be said when it was changed behind the engine's back.
    pub(crate) fn tampered(&self) -> Tampered {
        match self {
            Self::Record(key) => Tampered::new(key.kind(), key, Finding::Changed),
            Self::Protector(digest) => Tampered::new("lineage", digest, Finding::Changed),
            Self::Row => Tampered::new("store", 1, Finding::Changed),
        }
    }
}

/// The tag of what an engine has under a key, or that it has nothing.
pub(crate) type Version = Option<Tag>;

/// One commit.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    /// The level of the format at which it was decided.
    pub(crate) level: Level,
    /// What it was decided from. Everything that it writes is in here too.
    pub(crate) expected: BTreeMap<Key, Version>,
    /// Whether it was decided from more than can be named: then nothing at all may have been committed meanwhile.
    pub(crate) expects_all: bool,
    /// Records that are put, or removed.
    pub(crate) records: BTreeMap<RecordKey, Option<PutRecord>>,
    /// Protectors that are put, or forgotten, each once; new ones keep this order.
    pub(crate) lineage: Vec<(Digest, Option<(Node, Tag)>)>,
    /// Compressed evidence of hosts that takes the place of what there is, or that nothing does. The records of their attestations
    /// vouch for it.
    pub(crate) evidence: BTreeMap<HostId, Option<Vec<u8>>>,
    /// What is appended to the audit log.
    pub(crate) audit: Vec<NewAuditRow>,
    /// What it adds to the sums over records and lineage, modulo their size.
    pub(crate) records_difference: Sum,
    pub(crate) lineage_difference: Sum,
    /// The row that holds the whole together.
    pub(crate) row: RowChange,
    /// Set where records leave the audit log only.
    pub(crate) archive: Option<ArchiveChange>,
    /// Set by a rotation of the master key only.
    pub(crate) rotation: Option<Rotation>,
    /// What becomes of how far the order of several nodes is taken in.
    pub(crate) position: Option<PositionChange>,
}

/// What a batch does to how far the order of several nodes is taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PositionChange {
    /// It is taken in so far with this batch. Made by the engine that follows an order, only.
    To(PositionRow),
    /// This copy follows no order any more.
    Gone,
}

/// How far this copy of the state has taken in what several nodes have ordered, as an engine has it. Nothing of it is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PositionRow {
    pub(crate) octets: Vec<u8>,
    pub(crate) tag: Vec<u8>,
}

/// The row that holds the whole together, from one commit to the next. What it says of the whole is no part of what a batch
/// depends on: see [`Batch::follow`].
#[derive(Debug, Clone)]
pub(crate) struct RowChange {
    /// The whole that was there before, and its tag.
    pub(crate) before: Integrity,
    pub(crate) expected_root: Tag,
    pub(crate) generation: u64,
    /// The number and tag of the newest audit record.
    pub(crate) audit: Head,
    /// The tag of the whole from now on.
    pub(crate) root: Tag,
}

/// What changes where audit records leave the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ArchiveChange {
    pub(crate) boundary: BoundaryRow,
    /// The records that leave, and under what each was found.
    pub(crate) removed: Vec<(u64, Vec<FilterTerm>)>,
}

/// Where the audit log begins, as an engine has it. Nothing of it is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BoundaryRow {
    /// The newest record that has left, and its tag.
    pub(crate) left: u64,
    pub(crate) tag: Vec<u8>,
    /// The last record of the newest archive, and the archive's digest.
    pub(crate) archived: u64,
    pub(crate) digest: Vec<u8>,
    pub(crate) seal: Vec<u8>,
}

/// What else changes under another master key.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rotation {
    /// New tags of audit records.
    pub(crate) audit_tags: Vec<(u64, Tag)>,
    /// The boundary of the audit log under the new key.
    pub(crate) boundary: Option<BoundaryRow>,
    /// The identifier of the new master key.
    pub(crate) master_key: Option<Tag>,
}

impl Batch {
    /// A batch that changes nothing yet.
    pub(crate) fn of(integrity: &Integrity, root: Tag) -> Self {
        Self {
            level: Level::FIRST,
            expected: BTreeMap::new(),
            expects_all: false,
            records: BTreeMap::new(),
            lineage: Vec::new(),
            evidence: BTreeMap::new(),
            audit: Vec::new(),
            records_difference: Sum::EMPTY,
            lineage_difference: Sum::EMPTY,
            row: RowChange {
                before: *integrity,
                expected_root: root,
                generation: integrity.generation,
                audit: integrity.audit,
                root,
            },
            archive: None,
            rotation: None,
            position: None,
        }
    }

    /// Whether it changes nothing at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
            && self.lineage.is_empty()
            && self.evidence.is_empty()
            && self.audit.is_empty()
            && self.archive.is_none()
            && self.rotation.is_none()
            && !self.makes_generation()
    }

    /// What stands elsewhere, or nowhere, afterwards.
    pub(crate) fn written(&self) -> impl Iterator<Item = Key> {
        let records = self.records.keys().copied().map(Key::Record);
        let lineage = self
            .lineage
            .iter()
            .map(|(digest, _)| Key::Protector(*digest));
        records.chain(lineage)
    }

    /// Whether the state is of another generation afterwards.
    pub(crate) fn makes_generation(&self) -> bool {
        self.row.generation != self.row.before.generation
    }

    /// Has the batch follow upon `newest`, though it was decided when the whole was another one. Sums are differences and
    /// numbers come from the engine, so that only the chain of audit tags and the tag of the whole are made anew. So
    /// releases and what else is recorded do not wait for each other: they conflict in their keys or not at all. What
    /// makes a new generation conflicts with what has made another.
    pub(crate) fn follow(&mut self, newest: &Integrity, keys: &Keys) -> Result<(), CommitError> {
        if self.row.before == *newest {
            return Ok(());
        }
        let is_other_generation = self.row.before.generation != newest.generation;
        let is_of_one_whole = self.archive.is_some() || self.expects_all;
        if (self.makes_generation() && is_other_generation) || is_of_one_whole {
            return Err(CommitError::Conflict(Key::Row));
        }
        self.replay(newest, keys);
        Ok(())
    }

    /// The same for a batch of which it was decided elsewhere that it follows. Two that make a generation may have been decided
    /// at once, on two nodes: the tags that they put are of the same generation then, and so is the state.
    pub(crate) fn replay(&mut self, newest: &Integrity, keys: &Keys) {
        let mut audit = newest.audit;
        for row in &mut self.audit {
            audit = audit.next(&keys.audit, &row.text);
            if !seeded(Fault::AuditTagsNotFollowed) {
                row.tag = audit.tag;
            }
        }
        self.row = RowChange {
            before: *newest,
            expected_root: newest.root(keys),
            generation: match self.makes_generation() {
                true => newest.generation.max(self.row.generation),
                false if seeded(Fault::GenerationNotFollowed) => self.row.generation,
                false => newest.generation,
            },
            audit,
            root: self.row.root,
        };
        self.row.root = newest.after(self).root(keys);
    }
}

impl Integrity {
    /// The whole after `batch`.
    pub(crate) fn after(&self, batch: &Batch) -> Self {
        Self {
            generation: batch.row.generation,
            records: self.records.plus(&batch.records_difference),
            lineage: match seeded(Fault::LineageNotInWhole) {
                true => self.lineage,
                false => self.lineage.plus(&batch.lineage_difference),
            },
            audit: batch.row.audit,
        }
    }

    /// Whether `row` belongs to this whole.
    pub(crate) fn is_of(&self, row: &StoredRow, keys: &Keys) -> bool {
        row.root == self.root(keys) && row.audit_sequence == self.audit.sequence
    }
}

/// A record that is put.
#[derive(Debug, Clone)]
pub(crate) struct PutRecord {
    pub(crate) record: Record,
    pub(crate) generation: u64,
    pub(crate) value: String,
    pub(crate) tag: Tag,
}

/// An audit record that is appended.
#[derive(Debug, Clone)]
pub(crate) struct NewAuditRow {
    pub(crate) text: String,
    pub(crate) tag: Tag,
    pub(crate) time: Time,
    /// Under what it is found.
    pub(crate) terms: Vec<FilterTerm>,
}

/// A record as an engine has it. Nothing of it is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RecordRow {
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) generation: u64,
    pub(crate) value: String,
    pub(crate) tag: Vec<u8>,
}

impl RecordRow {
    /// The kind and the tag, if the tag is this record's own.
    pub(crate) fn verified(&self, keys: &Keys) -> Result<(RecordKind, Tag), Tampered> {
        let changed = || Tampered::new(&self.kind, &self.name, Finding::Changed);
        let kind = RecordKind::from_name(&self.kind).ok_or_else(changed)?;
        keys.verify(kind, &self.name, self.generation, &self.value, &self.tag)
            .map_err(|_| changed())?;
        let tag = self.tag[..].try_into().map_err(|_| changed())?;
        Ok((kind, tag))
    }
}

/// An audit record as an engine has it. Nothing of it is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AuditRow {
    pub(crate) sequence: u64,
    pub(crate) text: String,
    pub(crate) tag: Vec<u8>,
}

/// The row that holds the whole together as an engine has it. Nothing of it is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredRow {
    pub(crate) generation: u64,
    pub(crate) audit_sequence: u64,
    pub(crate) root: Vec<u8>,
}

/// What was committed. Each listener gets it once for each commit, in their order.
pub(crate) type News = Arc<dyn Fn(&Batch) + Send + Sync>;

/// Why a batch was not carried out. Nothing of it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CommitError {
    /// Something is not as the batch expects it.
    Conflict(Key),
    /// The engine failed.
    Store(StoreError),
}

impl From<StoreError> for CommitError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Decides what is committed.
pub(crate) type Decide<'d> = &'d mut dyn FnMut(&dyn View) -> Result<Batch, StoreError>;

/// What comes next in a commit of many parts.
pub(crate) enum Part {
    /// This is written, and the next part sees it.
    Write(Box<Batch>),
    /// All is written.
    Commit,
    /// Nothing is.
    Undo,
}

/// A database that keeps the state.
pub(crate) trait Engine: Send {
    /// Carries out the batch that is decided from what is kept now, whole or not at all, and tells
    /// the news. What it wrote is durable when this returns the number of its first audit record.
    fn commit(&mut self, decide: Decide<'_>) -> Result<u64, CommitError>;

    /// Carries out many batches as one commit, for what is too large to be one value. Nobody else
    /// uses the engine meanwhile; what is overwritten can't be read from the disk afterwards.
    fn commit_parts(&mut self, next: &mut dyn FnMut(&dyn View) -> Part) -> Result<(), CommitError>;

    /// Tells `news` from now on.
    fn listen(&mut self, news: News);

    /// Where views come from that are used beside this engine.
    fn readers(&self) -> Arc<dyn Readers>;

    /// Brings what was committed to the place where it stays, as far as no view is in the way;
    /// whether all of it is there.
    fn checkpoint(&mut self) -> Result<bool, StoreError>;

    /// Gives room that nothing uses any more back to the disk, a part of it at a time so that commits do not wait; whether
    /// it was the last part.
    fn shrink(&mut self) -> Result<bool, StoreError>;

    /// Notes that there is a high-water mark of this state from now on.
    fn set_has_mark(&mut self) -> Result<(), StoreError>;

    /// Takes in what other nodes have committed, and tells the news. An engine that is alone has nothing to do.
    fn refresh(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    /// The share of this node in work that any node may do, and the number of shares.
    fn share(&self) -> (u32, u32) {
        (0, 1)
    }

    /// For how long a commit waits for jobs that are on their way: not longer than it takes itself, so that nobody notices.
    fn gathering(&self) -> Duration {
        Duration::from_millis(2)
    }

    /// How many jobs one commit takes at most: a bound for how long it takes, and how much a lost one takes along.
    fn max_group(&self) -> usize {
        512
    }
}

/// Views beside the writer.
pub(crate) trait Readers: Send + Sync {
    /// Each question to it is answered from the newest commit.
    fn newest(&self) -> Result<Box<dyn View>, StoreError>;

    /// All questions to it are answered from one commit.
    fn snapshot(&self) -> Result<Box<dyn View>, StoreError>;

    /// Writes a copy of what is kept now into an empty file.
    fn copy_to(&self, file: &Path) -> Result<(), StoreError>;
}

/// What is kept at one moment.
pub(crate) trait View: Send {
    /// The row that holds the whole together.
    fn row(&self) -> Result<Option<StoredRow>, StoreError>;

    /// At most `limit` records after the one of this kind and name, by kind and name.
    fn records_after(&self, last: (&str, &str), limit: usize)
    -> Result<Vec<RecordRow>, StoreError>;

    /// One record.
    fn record(&self, kind: &str, name: &str) -> Result<Option<RecordRow>, StoreError>;

    /// How far this copy has taken in what several nodes have ordered, if it is one of several.
    fn position(&self) -> Result<Option<PositionRow>, StoreError>;

    /// The node of one protector.
    fn node(&self, digest: &Digest) -> Result<Option<StoredNode>, StoreError>;

    /// At most `limit` nodes after this place, in an order that lasts, and the place of the last.
    /// The first place is [`FIRST_PLACE`].
    fn nodes_after(&self, place: i64, limit: usize) -> Result<(Vec<StoredNode>, i64), StoreError>;

    /// At most `limit` ancestors that were last used before `time`, the oldest first.
    fn ancestors_before(&self, time: Time, limit: usize) -> Result<Vec<StoredNode>, StoreError>;

    /// At most `limit` of the newest protectors of each line that came back, the last released first.
    fn heads(&self, wanted: &Heads, limit: usize) -> Result<Vec<StoredNode>, StoreError>;

    /// The children of a protector that never came back.
    fn issued_from(&self, parent: &Digest) -> Result<Vec<StoredNode>, StoreError>;

    /// How many protectors there are.
    fn count_nodes(&self) -> Result<u64, StoreError>;

    /// With which pairs of certificates the newest protectors were opened.
    fn usage(&self) -> Result<Vec<PairUsage>, StoreError>;

    /// At most `limit` audit records after this number, in their order.
    fn audit_after(&self, sequence: u64, limit: usize) -> Result<Vec<AuditRow>, StoreError>;

    /// The newest audit records with numbers in `within`, newest first, at most `limit`; with
    /// `term` only those that are found under it.
    fn audit_newest(
        &self,
        term: Option<FilterTerm>,
        within: Range<u64>,
        limit: usize,
    ) -> Result<Vec<AuditRow>, StoreError>;

    /// Numbers between which all audit records lie whose day (since 1970) is in this range.
    fn audit_within_days(
        &self,
        first: Option<i64>,
        last: Option<i64>,
    ) -> Result<Range<u64>, StoreError>;

    /// The compressed evidence of a host. Nothing of it is verified.
    fn evidence(&self, host: &HostId) -> Result<Option<Vec<u8>>, StoreError>;

    /// Where the audit log begins, if not with its first record.
    fn boundary(&self) -> Result<Option<BoundaryRow>, StoreError>;

    /// Whether there is a high-water mark of this state.
    fn has_mark(&self) -> Result<bool, StoreError>;

    /// Whether the engine's own structures hang together. Reads all of them.
    fn check_structure(&self) -> Result<(), OpenError>;

    /// The audit record with this number.
    fn audit_row(&self, sequence: u64) -> Result<Option<AuditRow>, StoreError> {
        let Some(before) = sequence.checked_sub(1) else {
            return Ok(None);
        };
        let mut rows = self.audit_after(before, 1)?;
        Ok(rows.pop().filter(|row| row.sequence == sequence))
    }
}

/// The sum over all nodes of the lineage tree, each of which is verified.
pub(crate) fn sum_of_lineage(view: &dyn View, keys: &Keys) -> Result<Sum, OpenError> {
    let mut sum = Sum::EMPTY;
    view.each_node(|stored| -> Result<(), OpenError> {
        let (_, tag) = stored.verified(keys)?;
        sum.add(&keys.term(&tag));
        Ok(())
    })?;
    Ok(sum)
}

/// Before all places of nodes.
pub(crate) const FIRST_PLACE: i64 = i64::MIN;

/// Rows that are in memory at one time when all of a table is read.
pub(crate) const PAGE: usize = 1000;

impl dyn View + '_ {
    /// Hands on every record.
    pub(crate) fn each_record<E: From<StoreError>>(
        &self,
        mut each: impl FnMut(RecordRow) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut last = (String::new(), String::new());
        loop {
            let page = self.records_after((&last.0, &last.1), PAGE)?;
            let Some(end) = page.last() else {
                return Ok(());
            };
            last = (end.kind.clone(), end.name.clone());
            page.into_iter().try_for_each(&mut each)?;
        }
    }

    /// Hands on every node.
    pub(crate) fn each_node<E: From<StoreError>>(
        &self,
        mut each: impl FnMut(StoredNode) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut place = FIRST_PLACE;
        loop {
            let (page, last) = self.nodes_after(place, PAGE)?;
            if page.is_empty() {
                return Ok(());
            }
            place = last;
            page.into_iter().try_for_each(&mut each)?;
        }
    }

    /// Hands on every audit record, in their order.
    pub(crate) fn each_audit_row<E: From<StoreError>>(
        &self,
        mut each: impl FnMut(AuditRow) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut last = 0;
        loop {
            let page = self.audit_after(last, PAGE)?;
            let Some(end) = page.last() else {
                return Ok(());
            };
            last = end.sequence;
            page.into_iter().try_for_each(&mut each)?;
        }
    }
}

impl fmt::Debug for dyn View + '_ {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("View")
    }
}
