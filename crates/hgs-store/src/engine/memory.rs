//! An engine that keeps the state in memory, for tests and models. Its clones are the engines of
//! several writers over one state.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use hgs_pki::Time;
use hgs_pki::health::HostId;

use super::replicated::{LocalCopy, NextBatch};
use super::{
    AuditRow, Batch, BoundaryRow, CommitError, Decide, Engine, Key, NewAuditRow, News, Part,
    PositionChange, PositionRow, Readers, RecordRow, StoredRow, Version, View,
};
use crate::audit_term::{FilterTerm, day};
use crate::model::Digest;
use crate::node::{Stage, StoredNode};
use crate::protectors::Heads;
use crate::record::{Integrity, Keys};
use crate::usage::PairUsage;
use crate::{OpenError, StoreError};

#[derive(Clone)]
pub(crate) struct Memory {
    shared: Arc<Mutex<Shared>>,
    keys: Arc<Keys>,
}

struct Shared {
    kept: Kept,
    news: Vec<News>,
}

/// What it keeps, as a value: a model of several nodes has one for each.
#[derive(Clone)]
pub(crate) struct Kept {
    row: StoredRow,
    integrity: Integrity,
    records: BTreeMap<(String, String), RecordRow>,
    /// With their places: the order in which they came.
    nodes: BTreeMap<Digest, (i64, StoredNode)>,
    next_place: i64,
    evidence: BTreeMap<HostId, Vec<u8>>,
    audit: Vec<(AuditRow, NewAuditRow)>,
    boundary: Option<BoundaryRow>,
    has_mark: bool,
    position: Option<PositionRow>,
}

impl Memory {
    pub(crate) fn new(keys: &Arc<Keys>) -> Self {
        Self::of(Kept::nothing(keys), keys)
    }

    /// With what was kept before.
    pub(crate) fn of(kept: Kept, keys: &Arc<Keys>) -> Self {
        let news = Vec::new();
        Self {
            shared: Arc::new(Mutex::new(Shared { kept, news })),
            keys: Arc::clone(keys),
        }
    }

    pub(crate) fn kept(&self) -> Kept {
        self.lock().kept.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap()
    }
}

impl LocalCopy for Memory {
    fn position(&self) -> Result<Option<PositionRow>, StoreError> {
        self.lock().kept.position()
    }

    fn decide(&mut self, decide: Decide<'_>, newest: &Integrity) -> Result<Batch, CommitError> {
        let kept = self.kept();
        let mut batch = decide(&kept)?;
        batch.follow(newest, &self.keys)?;
        kept.compare(&batch)?;
        Ok(batch)
    }

    fn commit_series(&mut self, next: NextBatch<'_>) -> Result<u64, CommitError> {
        let mut shared = self.lock();
        let (mut kept, mut batches, mut first) = (shared.kept.clone(), Vec::new(), 0);
        while let Some(batch) = next(&kept)? {
            first = kept.write(&batch)?;
            batches.push(batch);
        }
        shared.kept = kept;
        for batch in &batches {
            shared.news.iter().for_each(|news| news(batch));
        }
        Ok(first)
    }
}

impl Engine for Memory {
    fn commit(&mut self, decide: Decide<'_>) -> Result<u64, CommitError> {
        // Others may commit while this decides.
        let seen = self.lock().kept.clone();
        let mut batch = decide(&seen)?;
        let mut shared = self.lock();
        batch.follow(&shared.kept.integrity, &self.keys)?;
        let first = shared.kept.write(&batch)?;
        shared.news.iter().for_each(|news| news(&batch));
        Ok(first)
    }

    fn commit_parts(&mut self, next: &mut dyn FnMut(&dyn View) -> Part) -> Result<(), CommitError> {
        let mut kept = self.lock().kept.clone();
        loop {
            match next(&kept) {
                Part::Write(batch) => drop(kept.write(&batch)?),
                Part::Commit => break,
                Part::Undo => return Ok(()),
            }
        }
        self.lock().kept = kept;
        Ok(())
    }

    fn listen(&mut self, news: News) {
        self.lock().news.push(news);
    }

    fn readers(&self) -> Arc<dyn Readers> {
        Arc::new(self.clone())
    }

    fn checkpoint(&mut self) -> Result<bool, StoreError> {
        Ok(true)
    }

    fn shrink(&mut self) -> Result<bool, StoreError> {
        Ok(true)
    }

    fn set_has_mark(&mut self) -> Result<(), StoreError> {
        self.lock().kept.has_mark = true;
        Ok(())
    }
}

impl Readers for Memory {
    fn copy_to(&self, _: &Path) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }

    fn newest(&self) -> Result<Box<dyn View>, StoreError> {
        Ok(Box::new(self.clone()))
    }

    fn snapshot(&self) -> Result<Box<dyn View>, StoreError> {
        Ok(Box::new(self.lock().kept.clone()))
    }
}

impl Kept {
    /// Before anything was written.
    pub(crate) fn nothing(keys: &Keys) -> Self {
        Self {
            integrity: Integrity::EMPTY,
            row: StoredRow {
                generation: 0,
                audit_sequence: 0,
                root: Integrity::EMPTY.root(keys).to_vec(),
            },
            records: BTreeMap::new(),
            nodes: BTreeMap::new(),
            next_place: 0,
            evidence: BTreeMap::new(),
            audit: Vec::new(),
            boundary: None,
            has_mark: false,
            position: None,
        }
    }

    /// Compares everything, and then writes everything.
    pub(crate) fn write(&mut self, batch: &Batch) -> Result<u64, CommitError> {
        if self.row.root != batch.row.expected_root {
            return Err(CommitError::Conflict(Key::Row));
        }
        self.compare(batch)?;
        let first = self.row.audit_sequence + 1;
        for (key, put) in &batch.records {
            let name = (key.kind().to_string(), key.to_string());
            match put {
                None => drop(self.records.remove(&name)),
                Some(put) => {
                    let row = RecordRow {
                        kind: name.0.clone(),
                        name: name.1.clone(),
                        generation: put.generation,
                        value: put.value.clone(),
                        tag: put.tag.to_vec(),
                    };
                    self.records.insert(name, row);
                }
            }
        }
        for (digest, put) in &batch.lineage {
            let Some((node, tag)) = put else {
                self.nodes.remove(digest);
                continue;
            };
            let known = self.nodes.get(digest).map(|(place, _)| *place);
            let place = known.unwrap_or(self.next_place);
            self.next_place = self.next_place.max(place + 1);
            let (node, tag) = (node.clone(), *tag);
            self.nodes
                .insert(*digest, (place, StoredNode { node, tag }));
        }
        for (host, evidence) in &batch.evidence {
            match evidence {
                Some(evidence) => self.evidence.insert(*host, evidence.clone()),
                None => self.evidence.remove(host),
            };
        }
        for (sequence, new) in (first..).zip(&batch.audit) {
            let row = AuditRow {
                sequence,
                text: new.text.clone(),
                tag: new.tag.to_vec(),
            };
            self.audit.push((row, new.clone()));
        }
        for (sequence, tag) in batch.rotation.iter().flat_map(|one| &one.audit_tags) {
            let mut rows = self.audit.iter_mut();
            let row = rows.find(|(row, _)| row.sequence == *sequence).unwrap();
            row.0.tag = tag.to_vec();
        }
        let rotated = batch.rotation.iter().find_map(|one| one.boundary.clone());
        self.boundary = rotated.or_else(|| self.boundary.take());
        if let Some(position) = &batch.position {
            self.position = match position {
                PositionChange::To(row) => Some(row.clone()),
                PositionChange::Gone => None,
            };
        }
        if let Some(change) = &batch.archive {
            let left = change.boundary.left;
            self.audit.retain(|(row, _)| row.sequence > left);
            self.boundary = Some(change.boundary.clone());
        }
        self.integrity = batch.row.before.after(batch);
        self.row = StoredRow {
            generation: batch.row.generation,
            audit_sequence: first - 1 + batch.audit.len() as u64,
            root: batch.row.root.to_vec(),
        };
        Ok(first)
    }

    fn compare(&self, batch: &Batch) -> Result<(), CommitError> {
        let mut expected = batch.expected.iter();
        match expected.find(|(key, version)| self.version(key) != **version) {
            Some((key, _)) => Err(CommitError::Conflict(*key)),
            None => Ok(()),
        }
    }

    fn version(&self, key: &Key) -> Version {
        match key {
            Key::Row => None,
            Key::Record(key) => {
                let name = (key.kind().to_string(), key.to_string());
                let row = self.records.get(&name)?;
                row.tag[..].try_into().ok()
            }
            Key::Protector(digest) => self.nodes.get(digest).map(|(_, stored)| stored.tag),
        }
    }

    fn nodes(&self) -> impl Iterator<Item = &StoredNode> {
        self.nodes.values().map(|(_, stored)| stored)
    }
}

impl View for Kept {
    fn row(&self) -> Result<Option<StoredRow>, StoreError> {
        Ok(Some(self.row.clone()))
    }

    fn records_after(
        &self,
        last: (&str, &str),
        limit: usize,
    ) -> Result<Vec<RecordRow>, StoreError> {
        let last = (last.0.to_owned(), last.1.to_owned());
        let later = self.records.iter().filter(|(name, _)| **name > last);
        Ok(later.map(|(_, row)| row.clone()).take(limit).collect())
    }

    fn record(&self, kind: &str, name: &str) -> Result<Option<RecordRow>, StoreError> {
        let name = (kind.to_owned(), name.to_owned());
        Ok(self.records.get(&name).cloned())
    }

    fn position(&self) -> Result<Option<PositionRow>, StoreError> {
        Ok(self.position.clone())
    }

    fn node(&self, digest: &Digest) -> Result<Option<StoredNode>, StoreError> {
        Ok(self.nodes.get(digest).map(|(_, stored)| stored.clone()))
    }

    fn nodes_after(&self, place: i64, limit: usize) -> Result<(Vec<StoredNode>, i64), StoreError> {
        let mut later: Vec<_> = self
            .nodes
            .values()
            .filter(|(one, _)| *one > place)
            .collect();
        later.sort_by_key(|(place, _)| *place);
        later.truncate(limit);
        let last = later.last().map_or(place, |(place, _)| *place);
        Ok((
            later.into_iter().map(|(_, node)| node.clone()).collect(),
            last,
        ))
    }

    fn ancestors_before(&self, time: Time, limit: usize) -> Result<Vec<StoredNode>, StoreError> {
        let is_old = |stored: &&StoredNode| {
            stored.node.stage == Stage::Ancestor && stored.node.last_seen < time
        };
        let mut old: Vec<_> = self.nodes().filter(is_old).cloned().collect();
        old.sort_by_key(|stored| stored.node.last_seen);
        old.truncate(limit);
        Ok(old)
    }

    fn issued_from(&self, parent: &Digest) -> Result<Vec<StoredNode>, StoreError> {
        let is_child = |stored: &&StoredNode| {
            stored.node.stage == Stage::Issued && stored.node.parent == Some(*parent)
        };
        Ok(self.nodes().filter(is_child).cloned().collect())
    }

    fn heads(&self, wanted: &Heads, limit: usize) -> Result<Vec<StoredNode>, StoreError> {
        let is_wanted = |stored: &&StoredNode| {
            stored.node.stage == Stage::Head && wanted.is_passed_by(&stored.node)
        };
        let mut heads: Vec<_> = self.nodes().filter(is_wanted).cloned().collect();
        heads.sort_by_key(|stored| (Reverse(stored.node.last_seen), stored.node.digest));
        heads.truncate(limit);
        Ok(heads)
    }

    fn count_nodes(&self) -> Result<u64, StoreError> {
        Ok(self.nodes.len() as u64)
    }

    fn usage(&self) -> Result<Vec<PairUsage>, StoreError> {
        let mut pairs: BTreeMap<_, PairUsage> = BTreeMap::new();
        let heads = self
            .nodes()
            .filter(|stored| stored.node.stage == Stage::Head);
        for StoredNode { node, .. } in heads {
            let Some(opener) = node.opened_by else {
                continue;
            };
            let key = (opener.encryption, opener.signing);
            let pair = pairs.entry(key).or_insert(PairUsage {
                encryption: opener.encryption,
                signing: opener.signing,
                protectors: 0,
                first: node.last_seen,
                last: node.last_seen,
            });
            pair.protectors += 1;
            pair.first = pair.first.min(node.last_seen);
            pair.last = pair.last.max(node.last_seen);
        }
        Ok(pairs.into_values().collect())
    }

    fn audit_after(&self, sequence: u64, limit: usize) -> Result<Vec<AuditRow>, StoreError> {
        let later = self
            .audit
            .iter()
            .map(|(row, _)| row)
            .filter(|row| row.sequence > sequence);
        Ok(later.take(limit).cloned().collect())
    }

    fn audit_newest(
        &self,
        term: Option<FilterTerm>,
        within: Range<u64>,
        limit: usize,
    ) -> Result<Vec<AuditRow>, StoreError> {
        let wanted = self.audit.iter().rev().filter(|(row, new)| {
            within.contains(&row.sequence) && term.is_none_or(|term| new.terms.contains(&term))
        });
        Ok(wanted.map(|(row, _)| row.clone()).take(limit).collect())
    }

    fn audit_within_days(
        &self,
        first: Option<i64>,
        last: Option<i64>,
    ) -> Result<Range<u64>, StoreError> {
        let days = first.unwrap_or(i64::MIN)..=last.unwrap_or(i64::MAX);
        let on_them = self
            .audit
            .iter()
            .filter(|(_, new)| days.contains(&day(new.time)));
        let mut numbers = on_them.map(|(row, _)| row.sequence);
        let first = numbers.next();
        let last = numbers.next_back().or(first);
        Ok(first.unwrap_or(0)..last.map_or(0, |last| last + 1))
    }

    fn evidence(&self, host: &HostId) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.evidence.get(host).cloned())
    }

    fn boundary(&self) -> Result<Option<BoundaryRow>, StoreError> {
        Ok(self.boundary.clone())
    }

    fn has_mark(&self) -> Result<bool, StoreError> {
        Ok(self.has_mark)
    }

    fn check_structure(&self) -> Result<(), OpenError> {
        Ok(())
    }
}

/// The newest of what is kept.
impl View for Memory {
    fn row(&self) -> Result<Option<StoredRow>, StoreError> {
        self.lock().kept.row()
    }

    fn records_after(
        &self,
        last: (&str, &str),
        limit: usize,
    ) -> Result<Vec<RecordRow>, StoreError> {
        self.lock().kept.records_after(last, limit)
    }

    fn record(&self, kind: &str, name: &str) -> Result<Option<RecordRow>, StoreError> {
        self.lock().kept.record(kind, name)
    }

    fn position(&self) -> Result<Option<PositionRow>, StoreError> {
        self.lock().kept.position()
    }

    fn node(&self, digest: &Digest) -> Result<Option<StoredNode>, StoreError> {
        self.lock().kept.node(digest)
    }

    fn nodes_after(&self, place: i64, limit: usize) -> Result<(Vec<StoredNode>, i64), StoreError> {
        self.lock().kept.nodes_after(place, limit)
    }

    fn ancestors_before(&self, time: Time, limit: usize) -> Result<Vec<StoredNode>, StoreError> {
        self.lock().kept.ancestors_before(time, limit)
    }

    fn heads(&self, wanted: &Heads, limit: usize) -> Result<Vec<StoredNode>, StoreError> {
        self.lock().kept.heads(wanted, limit)
    }

    fn issued_from(&self, parent: &Digest) -> Result<Vec<StoredNode>, StoreError> {
        self.lock().kept.issued_from(parent)
    }

    fn count_nodes(&self) -> Result<u64, StoreError> {
        self.lock().kept.count_nodes()
    }

    fn usage(&self) -> Result<Vec<PairUsage>, StoreError> {
        self.lock().kept.usage()
    }

    fn audit_after(&self, sequence: u64, limit: usize) -> Result<Vec<AuditRow>, StoreError> {
        self.lock().kept.audit_after(sequence, limit)
    }

    fn audit_newest(
        &self,
        term: Option<FilterTerm>,
        within: Range<u64>,
        limit: usize,
    ) -> Result<Vec<AuditRow>, StoreError> {
        self.lock().kept.audit_newest(term, within, limit)
    }

    fn audit_within_days(
        &self,
        first: Option<i64>,
        last: Option<i64>,
    ) -> Result<Range<u64>, StoreError> {
        self.lock().kept.audit_within_days(first, last)
    }

    fn evidence(&self, host: &HostId) -> Result<Option<Vec<u8>>, StoreError> {
        self.lock().kept.evidence(host)
    }

    fn boundary(&self) -> Result<Option<BoundaryRow>, StoreError> {
        self.lock().kept.boundary()
    }

    fn has_mark(&self) -> Result<bool, StoreError> {
        self.lock().kept.has_mark()
    }

    fn check_structure(&self) -> Result<(), OpenError> {
        Ok(())
    }
}
