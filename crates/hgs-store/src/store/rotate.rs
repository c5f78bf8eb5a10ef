//! Another master key: everything sealed and tagged anew, in one commit.
//!
//! ```text
//!  old key valid:  the new key's file is written beside the old one
//!  ------ commit: from here on the new key opens the state, and nothing else does ------
//!  new key valid:  the file takes the place of the old one
//! ```
//!
//! A crash leaves the state under exactly one of the two keys, and both files. Whoever reads the key next
//! ([`master_key_file::read_settled`](crate::master_key_file::read_settled)) finds out which one it is, and the other goes.

use std::collections::BTreeSet;

use hgs_custody::seal::{MasterKey, Tag};

use super::{OpenedState, Opening, Store};
use crate::audit::{self, Action, Outcome};
use crate::audit_head::Head;
use crate::change::Record;
use crate::engine::{
    Batch, CommitError, Durability, FIRST_PLACE, Key, PAGE, Part, Program, PutRecord, RecordRow,
    Rotation, View,
};
use crate::model::SealedKey;
use crate::planner::{Basis, BatchPlanner};
use crate::record::{Integrity, Keys, RecordKind};
use crate::transaction::Act;
use crate::writer::Writer;
use crate::{Finding, OpenError, State, StoreError, Tampered};

impl Store {
    /// Seals and tags everything under `new` in one commit with its audit record. No other process may hold the state.
    ///
    /// # Errors
    /// See [`OpenError`]; the old master key is still the one then.
    pub fn rotate_master_key(
        opening: Opening<'_>,
        new: &MasterKey,
        act: &Act,
    ) -> Result<(), OpenError> {
        let found = OpenedState::take(opening, Durability::Full, &Program::this())?;
        found.refuse_older()?;
        found.rotate(new, act)
    }
}

impl OpenedState {
    fn rotate(self, new: &MasterKey, act: &Act) -> Result<(), OpenError> {
        let Writer {
            mut engine,
            keys: old,
            node,
            mut random,
            shared,
            mut mark,
            ..
        } = self.writer;
        let (state, integrity) = shared.newest();
        let keys = Keys::derive(new);
        let boundary = audit::Boundary::of(&*engine.readers().snapshot()?, &old.audit)?;
        let mut rotating = Rotating {
            old: &old,
            new: &keys,
            root: integrity.root(&old),
            integrity: Integrity {
                generation: integrity.generation,
                ..Integrity::EMPTY
            },
            step: Step::Records(String::new(), String::new()),
            old_log: boundary.left,
            boundary,
        };
        rotating.integrity.audit = boundary.left;
        let mut failure = None;
        let committed = engine.commit_parts(&mut |view| {
            let basis = Basis {
                view,
                keys: &keys,
                node: &node,
                random: &mut *random,
                spoilt: &BTreeSet::new(),
                share: (0, 1),
            };
            let part = rotating.next_part(basis, &state, new, act);
            let staged = part.and_then(|part| match part {
                Some(batch) => Ok(Part::Write(Box::new(batch))),
                // The mark under the new key is there before the state is under it.
                None => mark
                    .stage(new, rotating.integrity.mark())
                    .map(|()| Part::Commit),
            });
            match staged {
                Ok(part) => part,
                Err(error) => {
                    failure = Some(error);
                    Part::Undo
                }
            }
        });
        match (failure, committed) {
            (Some(failure), _) | (None, Err(CommitError::Store(failure))) => Err(failure.into()),
            (None, Err(CommitError::Conflict(key))) => Err(key.tampered().into()),
            (None, Ok(())) => {
                // What the old key has made of the mark must not vouch for copies of the old state.
                Ok(mark.take_key(new, rotating.integrity.mark())?)
            }
        }
    }
}

/// A state of which every record, node and audit record is tagged anew, a page of them in each part of one commit.
struct Rotating<'r> {
    old: &'r Keys,
    new: &'r Keys,
    /// The tag of the whole under the old key.
    root: Tag,
    /// What was tagged so far.
    integrity: Integrity,
    step: Step,
    old_log: Head,
    /// Where the log begins. The new tags are chained to the same one as the old ones.
    boundary: audit::Boundary,
}

/// What is tagged next, after which record, node or audit record.
enum Step {
    Records(String, String),
    Lineage(i64),
    Audit,
    End,
}

impl Rotating<'_> {
    fn next_part(
        &mut self,
        basis: Basis<'_>,
        state: &State,
        new: &MasterKey,
        act: &Act,
    ) -> Result<Option<Batch>, StoreError> {
        loop {
            let mut batch = Batch::of(&self.integrity, self.root);
            let next = match &self.step {
                Step::Records(kind, name) => {
                    let page = basis.view.records_after((kind, name), PAGE)?;
                    match page.last() {
                        None => Step::Lineage(FIRST_PLACE),
                        Some(last) => {
                            let next = Step::Records(last.kind.clone(), last.name.clone());
                            for row in page {
                                self.record(&mut batch, row, &mut *basis.random)?;
                            }
                            next
                        }
                    }
                }
                Step::Lineage(place) => {
                    let (page, last) = basis.view.nodes_after(*place, PAGE)?;
                    match page.is_empty() {
                        true => Step::Audit,
                        false => {
                            for stored in page {
                                let (node, tag) = stored.verified(self.old)?;
                                let key = Key::Protector(node.digest);
                                batch.expected.insert(key, Some(tag));
                                let tag = node.tag(self.new);
                                batch.lineage_difference.add(&self.new.term(&tag));
                                batch.lineage.push((node.digest, Some((node, tag))));
                            }
                            Step::Lineage(last)
                        }
                    }
                }
                Step::Audit => match self.audit(&mut batch, basis.view)? {
                    true => Step::Audit,
                    false => {
                        self.step = Step::End;
                        return self.end(basis, state, new, act).map(Some);
                    }
                },
                Step::End => return Ok(None),
            };
            self.step = next;
            let is_empty = batch.expected.is_empty() && batch.rotation.is_none();
            if !is_empty {
                self.integrity = self.integrity.after(&batch);
                return Ok(Some(batch));
            }
        }
    }

    /// A record as it is but for sealed keys. It was verified when the state was opened.
    fn record(
        &self,
        batch: &mut Batch,
        row: RecordRow,
        random: &mut dyn hgs_crypto::Random,
    ) -> Result<(), StoreError> {
        let changed = || Tampered::new(&row.kind, &row.name, Finding::Changed);
        let kind = RecordKind::from_name(&row.kind).ok_or_else(changed)?;
        let mut record = Record::from_text(kind, &row.value).map_err(|_| changed())?;
        let mut value = row.value;
        if let Record::PrivateKey(key) = record {
            record = Record::PrivateKey(self.reseal(key, row.generation, random)?);
            value = record.to_text().map_err(|error| unavailable(&error))?;
        }
        let before = row.tag[..]
            .try_into()
            .map_err(|_| Tampered::new(&row.kind, &row.name, Finding::Changed))?;
        let tag = self.new.tag(kind, &row.name, row.generation, &value);
        batch.records_difference.add(&self.new.term(&tag));
        let key = record.key();
        batch.expected.insert(Key::Record(key), Some(before));
        let put = PutRecord {
            record,
            generation: row.generation,
            value,
            tag,
        };
        batch.records.insert(key, Some(put));
        Ok(())
    }

    fn reseal(
        &self,
        key: SealedKey,
        generation: u64,
        random: &mut dyn hgs_crypto::Random,
    ) -> Result<SealedKey, StoreError> {
        let name = key.public_key.to_string();
        let opened = self
            .old
            .private_keys
            .open(&name, generation, &key.sealed)
            .map_err(|_| Tampered::new("private-key", &name, Finding::Changed))?;
        let sealed = self
            .new
            .private_keys
            .seal(&name, generation, &opened, random)
            .map_err(|error| unavailable(&error))?;
        Ok(SealedKey { sealed, ..key })
    }

    /// Tags a page of the log; whether there was any.
    fn audit(&mut self, batch: &mut Batch, view: &dyn View) -> Result<bool, StoreError> {
        let page = view.audit_after(self.old_log.sequence, PAGE)?;
        let mut rotation = Rotation::default();
        for row in &page {
            self.old_log = self.old_log.verified_next(&self.old.audit, row)?;
            let next = batch.row.audit.next(&self.new.audit, &row.text);
            rotation.audit_tags.push((next.sequence, next.tag));
            batch.row.audit = next;
        }
        batch.rotation = Some(rotation);
        Ok(!page.is_empty())
    }

    /// The audit record, and the row that holds the whole together.
    fn end(
        &mut self,
        basis: Basis<'_>,
        state: &State,
        new: &MasterKey,
        act: &Act,
    ) -> Result<Batch, StoreError> {
        let mut planner = BatchPlanner::new(basis, state.clone(), self.integrity);
        planner.note(
            act.entry(Action::RotateMasterKey, Outcome::Done),
            Vec::new(),
        )?;
        let mut batch = planner.finish()?;
        self.integrity = self.integrity.after(&batch);
        batch.row.expected_root = self.root;
        batch.rotation = Some(Rotation {
            master_key: Some(new.identifier()),
            boundary: (self.boundary != audit::Boundary::NONE)
                .then(|| self.boundary.row(&self.new.audit)),
            audit_tags: Vec::new(),
        });
        Ok(batch)
    }
}

fn unavailable(error: &dyn std::error::Error) -> StoreError {
    let reason = error.to_string();
    StoreError::Unavailable { reason }
}
