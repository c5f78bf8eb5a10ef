//! Taking a document in: one commit, or none.

use std::collections::BTreeSet;
use std::io::BufRead;
use std::path::PathBuf;

use hgs_crypto::CryptoError;
use serde::Serialize;

use super::{OpenedState, Opening, Store};
use crate::audit::{Action, AuditEntry, Outcome, RecordChange};
use crate::backup::{
    Carried, Configuration, Conflict, Document, DocumentError, Header, Inconsistent, Item, Merged,
    Resolution, merge,
};
use crate::change::{Change, Record};
use crate::engine::{Batch, CommitError, Durability, PAGE, Part, Program};
use crate::level::Format;
use crate::lineage::CarriedProtector;
use crate::model::{Digest, SealedKey};
use crate::planner::{Basis, BatchPlanner};
use crate::record::Integrity;
use crate::state_folder::StateFolder;
use crate::transaction::Act;
use crate::writer::Writer;
use crate::{OpenError, State, StoreError};
use hgs_kps::Label;

/// Records that one audit record names; where there are more, more audit records follow it.
const CHANGES_IN_A_RECORD: usize = 1000;

/// What is to be done with a document.
#[derive(Debug, Clone)]
pub struct Import {
    /// What the guardian is called from now on, if not as before.
    pub name: Option<Label>,
    /// Who prevails where a state and a document differ.
    pub resolution: Resolution,
    /// Nothing is kept: it is only found out what would be done.
    pub dry_run: bool,
    /// SHA-256 of the file, for the audit log.
    pub file: Digest,
    /// Who does it, and when.
    pub act: Act,
}

/// What was done, or would be.
#[derive(Debug, Clone)]
pub struct Imported {
    /// What the document says of itself.
    pub header: Header,
    /// The configuration that it holds, which is not taken over.
    pub configuration: Option<Configuration>,
    /// Where state and document differ, decided as was said.
    pub conflicts: Vec<Conflict>,
    /// Records that were written.
    pub written: usize,
    /// Records that were removed.
    pub removed: usize,
    /// Protectors that were not known.
    pub protectors: u64,
    /// The generation of the state after it.
    pub generation: u64,
}

/// A document was not taken in; nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The state can't be opened or made.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The document is at fault.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// The records of the document, or those of both together, can't be one guardian's.
    #[error("the records can't be one guardian's: {0}")]
    Inconsistent(#[from] Inconsistent),
    /// State and document differ, and the caller did not say which prevails.
    #[error("the state and the document differ in {} places", .0.len())]
    Conflicts(Vec<Conflict>),
    /// The private keys can't be sealed.
    #[error("the private keys can't be sealed: no randomness")]
    NotSealed(#[from] CryptoError),
    /// There is a state already, and a new one was to be made. The fault is the operator's.
    #[error("there is a state in {} already", directory.display())]
    AlreadyInitialised {
        /// The state folder.
        directory: PathBuf,
    },
}

impl From<StoreError> for ImportError {
    fn from(error: StoreError) -> Self {
        Self::Open(error.into())
    }
}

impl From<CommitError> for ImportError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Store(error) => error.into(),
            CommitError::Conflict(key) => StoreError::from(key.tampered()).into(),
        }
    }
}

impl Store {
    /// Makes a new state of a document.
    ///
    /// # Errors
    /// [`ImportError::AlreadyInitialised`] where there is a state; see [`ImportError`] for others. There is no state then.
    pub fn restore<R: BufRead>(
        opening: Opening<'_>,
        document: Document<R>,
        import: &Import,
    ) -> Result<Imported, ImportError> {
        let folder = StateFolder::take(opening.directory)?;
        let found = OpenedState::look(folder, opening, Durability::Full, &Program::this())?;
        if found.is_initialised() {
            let directory = found.directory;
            return Err(ImportError::AlreadyInitialised { directory });
        }
        found.import(document, import)
    }

    /// Takes a document into the state that is there, which no other process may hold.
    ///
    /// # Errors
    /// See [`ImportError`]; the state is as it was then.
    pub fn merge<R: BufRead>(
        opening: Opening<'_>,
        document: Document<R>,
        import: &Import,
    ) -> Result<Imported, ImportError> {
        let found = OpenedState::take(opening, Durability::Full, &Program::this())?;
        found.refuse_older()?;
        found.import(document, import)
    }
}

impl OpenedState {
    fn import<R: BufRead>(
        self,
        mut document: Document<R>,
        import: &Import,
    ) -> Result<Imported, ImportError> {
        let writer = self.writer;
        let (carried, configuration, first) = read_records(&mut document, import.name.as_ref())?;
        carried.check()?;
        let (state, integrity) = writer.shared.newest();
        let merged = merge(&state, &carried, import.resolution)?;
        if import.resolution == Resolution::Refuse && !merged.conflicts.is_empty() {
            return Err(ImportError::Conflicts(merged.conflicts));
        }
        let Writer {
            mut engine,
            keys,
            node,
            mut random,
            mut mark,
            ..
        } = writer;
        if state.generation() == 0 && !import.dry_run {
            // The mark of a guardian that was here before says nothing about this one.
            mark.reset(None)?;
        }
        let mut taking = Taking {
            document: &mut document,
            carried: &carried,
            import,
            state: State::clone(&state),
            integrity,
            changes: Vec::new(),
            merged: Some(merged),
            next: first,
            conflicts: Vec::new(),
            protectors: 0,
            imported: None,
        };
        let mut failure = None;
        engine.commit_parts(&mut |view| {
            let basis = Basis {
                view,
                keys: &keys,
                node: &node,
                random: &mut *random,
                spoilt: &BTreeSet::new(),
                share: (0, 1),
            };
            match taking.next_part(basis) {
                Ok(Some(batch)) => Part::Write(Box::new(batch)),
                Ok(None) if import.dry_run => Part::Undo,
                Ok(None) => Part::Commit,
                Err(error) => {
                    failure = Some(error);
                    Part::Undo
                }
            }
        })?;
        match (failure, taking.imported) {
            (Some(failure), _) => Err(failure),
            (None, Some(imported)) => {
                if !import.dry_run {
                    mark.advance(taking.integrity.mark(), true)?;
                }
                Ok(Imported {
                    configuration,
                    ..imported
                })
            }
            (None, None) => Err(StoreError::Closed.into()),
        }
    }
}

/// Reads up to the first protector, which is handed on if there is one.
fn read_records<R: BufRead>(
    document: &mut Document<R>,
    name: Option<&Label>,
) -> Result<(Carried, Option<Configuration>, Option<CarriedProtector>), ImportError> {
    let (mut carried, mut configuration, mut first) = (Carried::default(), None, None);
    while let Some(item) = document.next()? {
        match item {
            Item::Protector(protector) => {
                first = Some(protector);
                break;
            }
            Item::Configuration(found) => configuration = Some(found),
            other => carried.take(other)?,
        }
    }
    if let (Some(name), Some(settings)) = (name, &mut carried.settings) {
        settings.name = name.clone();
    }
    Ok((carried, configuration, first))
}

/// A document that is being taken in: first its records, then its protectors, then the audit
/// record. Each is a part of one commit, so that no more of the document is in memory.
struct Taking<'i, R> {
    document: &'i mut Document<R>,
    carried: &'i Carried,
    import: &'i Import,
    state: State,
    integrity: Integrity,
    /// What becomes of the records, until they are written.
    merged: Option<Merged>,
    conflicts: Vec<Conflict>,
    changes: Vec<RecordChange>,
    /// The protector that was read last.
    next: Option<CarriedProtector>,
    protectors: u64,
    imported: Option<Imported>,
}

impl<R: BufRead> Taking<'_, R> {
    fn next_part(&mut self, basis: Basis<'_>) -> Result<Option<Batch>, ImportError> {
        if self.imported.is_some() {
            return Ok(None);
        }
        let mut planner = BatchPlanner::new(basis, self.state.clone(), self.integrity);
        match self.merged.take() {
            Some(merged) => self.take_records(&mut planner, merged)?,
            None if self.next.is_some() => self.take_protectors(&mut planner)?,
            None => self.note(&mut planner)?,
        }
        self.state = planner.state.clone();
        let batch = planner.finish()?;
        self.integrity = self.integrity.after(&batch);
        Ok(Some(batch))
    }

    fn take_records(
        &mut self,
        planner: &mut BatchPlanner<'_>,
        merged: Merged,
    ) -> Result<(), ImportError> {
        planner.state.set_generation(self.state.generation() + 1);
        let needed = Change::needed_level(&merged.changes);
        let level = self.document.header().level().max(needed);
        let level = Some(level).filter(|level| *level > self.state.level());
        let level = level.map(|level| Change::Put(Record::Format(Format::of(level))));
        let sealed = seal(planner, self.carried, &merged.keys)?;
        for change in level.into_iter().chain(sealed).chain(merged.changes) {
            self.changes.push(RecordChange::of(&change));
            planner.write(change)?;
        }
        self.conflicts = merged.conflicts;
        Ok(())
    }

    /// Takes in protectors as they are read, and at last reads the document to its end.
    fn take_protectors(&mut self, planner: &mut BatchPlanner<'_>) -> Result<(), ImportError> {
        for _ in 0..PAGE {
            let Some(protector) = self.next.take() else {
                break;
            };
            self.protectors += u64::from(planner.tree.carry_in(protector)?);
            while let Some(item) = self.document.next()? {
                if let Item::Protector(protector) = item {
                    self.next = Some(protector);
                    break;
                }
            }
        }
        Ok(())
    }

    fn note(&mut self, planner: &mut BatchPlanner<'_>) -> Result<(), ImportError> {
        let removed = self.changes.iter().filter(|change| change.removed).count();
        let imported = Imported {
            configuration: None,
            conflicts: std::mem::take(&mut self.conflicts),
            written: self.changes.len() - removed,
            removed,
            protectors: self.protectors,
            generation: self.state.generation(),
            header: self.document.header().clone(),
        };
        let act = &self.import.act;
        let mut entry = AuditEntry {
            after: Some(shown(&imported, self.import)),
            ..act.entry(Action::ImportState, Outcome::Done)
        };
        let mut parts: Vec<Vec<_>> = self
            .changes
            .chunks(CHANGES_IN_A_RECORD)
            .map(<[_]>::to_vec)
            .collect();
        if parts.is_empty() {
            parts.push(Vec::new());
        }
        for changes in parts {
            planner.note(entry.clone(), changes)?;
            entry.after = None;
        }
        self.imported = Some(imported);
        Ok(())
    }
}

/// The private keys that are `wanted`, sealed here.
fn seal(
    planner: &mut BatchPlanner<'_>,
    carried: &Carried,
    wanted: &[Digest],
) -> Result<Vec<Change>, CryptoError> {
    let generation = planner.state.generation();
    let keys = carried
        .keys
        .iter()
        .filter(|(name, _)| wanted.contains(name));
    let sealed = keys.map(|(public_key, key)| {
        let sealer = &planner.basis.keys.private_keys;
        let name = public_key.to_string();
        let sealed = key.seal(sealer, &name, generation, &mut *planner.basis.random)?;
        let public_key = *public_key;
        Ok(Change::Put(Record::PrivateKey(SealedKey {
            public_key,
            sealed,
        })))
    });
    sealed.collect()
}

/// What the audit record says.
fn shown(imported: &Imported, import: &Import) -> serde_json::Value {
    #[derive(Serialize)]
    struct Shown<'i> {
        file: &'i Digest,
        document: &'i Header,
        resolution: Resolution,
        conflicts: Vec<String>,
        written: usize,
        removed: usize,
        protectors: u64,
    }

    let conflicts = imported.conflicts.iter().take(CHANGES_IN_A_RECORD);
    let shown = Shown {
        file: &import.file,
        document: &imported.header,
        resolution: import.resolution,
        conflicts: conflicts.map(ToString::to_string).collect(),
        written: imported.written,
        removed: imported.removed,
        protectors: imported.protectors,
    };
    serde_json::to_value(shown).unwrap_or_default()
}
