//! Taking a document in: one commit, or none.

use std::io::BufRead;
use std::path::PathBuf;

use hgs_crypto::CryptoError;
use serde::Serialize;

use super::{Found, Opening, Store};
use crate::audit::{self, Action, AuditEntry, AuditRecord, Outcome, RecordChange};
use crate::backup::{
    Carried, Configuration, Conflict, Document, DocumentError, Header, Inconsistent, Item, Merged,
    Resolution, merge,
};
use crate::change::{Change, Record};
use crate::engine::{self, Durability, MIGRATIONS, Whole};
use crate::lineage::{CarriedIds, CarriedProtector, Tree};
use crate::model::{Digest, Label, SealedKey};
use crate::place::Place;
use crate::transaction::Act;
use crate::writer::Writer;
use crate::{OpenError, State, StoreError};

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
    /// State and document differ, and nobody was told to prevail.
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

impl From<rusqlite::Error> for ImportError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Open(error.into())
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
        let place = Place::take(opening.directory)?;
        let found = Found::look(place, opening, Durability::Full, MIGRATIONS)?;
        if found.is_initialised() {
            let directory = found.directory();
            return Err(ImportError::AlreadyInitialised { directory });
        }
        found.import(document, import)
    }

    /// Takes a document into the state that is there, which nobody else may hold.
    ///
    /// # Errors
    /// See [`ImportError`]; the state is as it was then.
    pub fn merge<R: BufRead>(
        opening: Opening<'_>,
        document: Document<R>,
        import: &Import,
    ) -> Result<Imported, ImportError> {
        let found = Found::take(opening, Durability::Full, MIGRATIONS)?;
        found.refuse_older()?;
        found.import(document, import)
    }
}

impl Found {
    fn import<R: BufRead>(
        self,
        mut document: Document<R>,
        import: &Import,
    ) -> Result<Imported, ImportError> {
        let mut writer = self.writer;
        let (carried, configuration, first) = read_records(&mut document, import.name.as_ref())?;
        carried.check()?;
        let state = State::clone(&writer.shared.state());
        let is_new = state.generation() == 0;
        let merged = merge(&state, &carried, import.resolution)?;
        if import.resolution == Resolution::Refuse && !merged.conflicts.is_empty() {
            return Err(ImportError::Conflicts(merged.conflicts));
        }
        if is_new && !import.dry_run {
            // The mark of a guardian that was here before says nothing about this one.
            writer.mark.reset(None)?;
        }
        writer.connection.execute_batch("BEGIN IMMEDIATE")?;
        let taken = Taking {
            whole: writer.whole,
            state,
            writer: &mut writer,
        }
        .take_in(&mut document, &carried, merged, first, import);
        let end = match taken {
            Ok(_) if !import.dry_run => "COMMIT",
            _ => "ROLLBACK",
        };
        let ended = writer.connection.execute_batch(end);
        let (imported, whole) = taken?;
        ended?;
        if !import.dry_run {
            writer.mark.advance(whole.mark(), true)?;
        }
        Ok(Imported {
            configuration,
            ..imported
        })
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

/// The commit under way.
struct Taking<'w> {
    writer: &'w mut Writer,
    state: State,
    whole: Whole,
}

impl Taking<'_> {
    fn take_in<R: BufRead>(
        mut self,
        document: &mut Document<R>,
        carried: &Carried,
        merged: Merged,
        first: Option<CarriedProtector>,
        import: &Import,
    ) -> Result<(Imported, Whole), ImportError> {
        let header = document.header().clone();
        let generation = self.state.generation() + 1;
        self.state.set_generation(generation);
        self.whole.generation = generation;
        let sealed = self.seal(carried, &merged.keys)?;
        let mut changes = Vec::new();
        for change in sealed.into_iter().chain(merged.changes) {
            changes.push(RecordChange::of(&change));
            self.write(change)?;
        }
        let protectors = self.take_protectors(document, header.protectors, first)?;
        let removed = changes.iter().filter(|change| change.removed).count();
        let imported = Imported {
            configuration: None,
            conflicts: merged.conflicts,
            written: changes.len() - removed,
            removed,
            protectors,
            generation,
            header,
        };
        self.note(&imported, changes, import)?;
        let writer = &self.writer;
        self.whole.update(&writer.connection, &writer.keys)?;
        Ok((imported, self.whole))
    }

    fn seal(&mut self, carried: &Carried, wanted: &[Digest]) -> Result<Vec<Change>, CryptoError> {
        let (sealer, generation) = (&self.writer.keys.private_keys, self.whole.generation);
        let random = &mut *self.writer.random;
        let keys = carried
            .keys
            .iter()
            .filter(|(name, _)| wanted.contains(name));
        let sealed = keys.map(|(public_key, key)| {
            let sealed = key.seal(sealer, &public_key.to_string(), generation, random)?;
            let public_key = *public_key;
            Ok(Change::Put(Record::PrivateKey(SealedKey {
                public_key,
                sealed,
            })))
        });
        sealed.collect()
    }

    fn write(&mut self, change: Change) -> Result<(), StoreError> {
        let Writer {
            connection, keys, ..
        } = &*self.writer;
        engine::write(
            connection,
            keys,
            &mut self.state,
            &mut self.whole.records,
            change,
        )
    }

    /// Takes in protectors as they are read, and reads the document to its end.
    fn take_protectors<R: BufRead>(
        &mut self,
        document: &mut Document<R>,
        announced: u64,
        first: Option<CarriedProtector>,
    ) -> Result<u64, ImportError> {
        let Writer {
            connection, keys, ..
        } = &*self.writer;
        let mut ids = CarriedIds::reserve(connection, announced)?;
        let sum = &mut self.whole.lineage;
        let mut tree = Tree {
            connection,
            keys,
            sum,
        };
        let mut new = 0;
        let mut next = first;
        loop {
            if let Some(protector) = next.take() {
                new += u64::from(tree.carry_in(protector, &mut ids)?);
            }
            match document.next()? {
                Some(Item::Protector(protector)) => next = Some(protector),
                Some(_) => {}
                None => return Ok(new),
            }
        }
    }

    fn note(
        &mut self,
        imported: &Imported,
        changes: Vec<RecordChange>,
        import: &Import,
    ) -> Result<(), StoreError> {
        let mut entry = AuditEntry {
            after: Some(shown(imported, import)),
            ..AuditEntry::new(
                import.act.time,
                import.act.actor.clone(),
                Action::ImportState,
                Outcome::Done,
            )
        };
        let mut parts: Vec<Vec<_>> = changes
            .chunks(CHANGES_IN_A_RECORD)
            .map(<[_]>::to_vec)
            .collect();
        if parts.is_empty() {
            parts.push(Vec::new());
        }
        for changes in parts {
            let writer = &*self.writer;
            let record = AuditRecord {
                sequence: self.whole.audit.sequence + 1,
                node: writer.node.clone(),
                generation: self.whole.generation,
                entry: entry.clone().bounded(),
                changes,
            };
            let authenticator = &writer.keys.audit;
            self.whole.audit = audit::append(
                &writer.connection,
                authenticator,
                &self.whole.audit,
                &record,
            )?;
            entry.after = None;
        }
        Ok(())
    }
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
