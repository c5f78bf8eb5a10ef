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

use hgs_custody::seal::{MasterKey, Tag};
use rusqlite::Connection;

use super::{Found, Opening, Store};
use crate::audit::{self, Action, AuditEntry, AuditRecord, Outcome};
use crate::change::Record;
use crate::engine::{self, Durability, MIGRATIONS, Whole};
use crate::model::SealedKey;
use crate::record::{Keys, RecordKind, Sum};
use crate::transaction::Act;
use crate::{Finding, OpenError, StoreError, Tampered, lineage};

/// Rows that are in memory at one time.
const BATCH: u32 = 1000;

impl Store {
    /// Seals and tags everything under `new` in one commit with its audit record. Nobody else may hold the state.
    ///
    /// # Errors
    /// See [`OpenError`]; the old master key is still the one then.
    pub fn rotate_master_key(
        opening: Opening<'_>,
        new: &MasterKey,
        act: &Act,
    ) -> Result<(), OpenError> {
        let mut found = Found::take(opening, Durability::Full, MIGRATIONS)?;
        found.refuse_older()?;
        // What the old key opens must not lie about in pages that are free.
        let connection = &found.writer.connection;
        connection.pragma_update(None, "secure_delete", true)?;
        connection.execute_batch("BEGIN IMMEDIATE")?;
        // The mark under the new key is there before the state is under it.
        let rotated = found.rotate(new, act).and_then(|whole| {
            let mark = whole.mark();
            found.writer.mark.stage(new, mark)?;
            Ok(mark)
        });
        let connection = &found.writer.connection;
        let mark = match rotated {
            Ok(mark) => mark,
            Err(error) => {
                connection.execute_batch("ROLLBACK")?;
                return Err(error);
            }
        };
        connection.execute_batch("COMMIT")?;
        // What the old key has made of the mark must not vouch for copies of the old state.
        let marked = found.writer.mark.take_key(new, mark);
        // The log has the old pages; the new state is safe whether or not it can be emptied now.
        let _ = connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)");
        Ok(marked?)
    }
}

impl Found {
    fn rotate(&mut self, new: &MasterKey, act: &Act) -> Result<Whole, OpenError> {
        let writer = &mut self.writer;
        let (connection, keys) = (&writer.connection, Keys::derive(new));
        let records = {
            let mut seal = |old: SealedKey, generation| {
                reseal(&writer.keys, &keys, old, generation, &mut *writer.random)
            };
            rotate_records(connection, &keys, &mut seal)?
        };
        let lineage = lineage::rotate(connection, &writer.keys, &keys, BATCH)?;
        let audit = audit::rotate(connection, &writer.keys.audit, &keys.audit, BATCH)?;
        let record = AuditRecord {
            sequence: audit.sequence + 1,
            node: writer.node.clone(),
            generation: writer.whole.generation,
            entry: AuditEntry::new(
                act.time,
                act.actor.clone(),
                Action::RotateMasterKey,
                Outcome::Done,
            )
            .bounded(),
            changes: Vec::new(),
        };
        let whole = Whole {
            generation: writer.whole.generation,
            records,
            lineage,
            audit: audit::append(connection, &keys.audit, &audit, &record)?,
        };
        engine::set_master_key(connection, new)?;
        whole.update(connection, &keys)?;
        Ok(whole)
    }
}

/// Tags every record anew, as it is but for sealed keys; their sum.
fn rotate_records(
    connection: &Connection,
    keys: &Keys,
    reseal: &mut impl FnMut(SealedKey, u64) -> Result<SealedKey, StoreError>,
) -> Result<Sum, StoreError> {
    let mut sum = Sum::EMPTY;
    let mut last = (String::new(), String::new());
    loop {
        let rows = rows_after(connection, &last)?;
        let Some(end) = rows.last() else {
            return Ok(sum);
        };
        last = (end.kind.clone(), end.name.clone());
        for row in rows {
            let tag = row.write(connection, keys, reseal)?;
            sum.add(&keys.term(&tag));
        }
    }
}

/// A record as it lies in the database, which was verified when it was opened.
struct RecordRow {
    kind: String,
    name: String,
    generation: u64,
    value: String,
}

fn rows_after(
    connection: &Connection,
    last: &(String, String),
) -> Result<Vec<RecordRow>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT kind, name, generation, value FROM record WHERE (kind, name) > (?1, ?2) \
         ORDER BY kind, name LIMIT ?3",
    )?;
    let rows = statement.query_map((&last.0, &last.1, BATCH), |row| {
        Ok(RecordRow {
            kind: row.get(0)?,
            name: row.get(1)?,
            generation: row.get::<_, i64>(2)?.cast_unsigned(),
            value: row.get(3)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

impl RecordRow {
    fn write(
        self,
        connection: &Connection,
        keys: &Keys,
        reseal: &mut impl FnMut(SealedKey, u64) -> Result<SealedKey, StoreError>,
    ) -> Result<Tag, StoreError> {
        let changed = || Tampered::new(&self.kind, &self.name, Finding::Changed);
        let kind = RecordKind::from_name(&self.kind).ok_or_else(changed)?;
        let value = match Record::from_text(kind, &self.value).map_err(|_| changed())? {
            Record::PrivateKey(old) => {
                let sealed = reseal(old, self.generation)?;
                let text = Record::PrivateKey(sealed).to_text();
                text.map_err(|error| unavailable(&error))?
            }
            _ => self.value.clone(),
        };
        let tag = keys.tag(kind, &self.name, self.generation, &value);
        connection
            .prepare_cached("UPDATE record SET value = ?3, tag = ?4 WHERE kind = ?1 AND name = ?2")?
            .execute((&self.kind, &self.name, &value, &tag))?;
        Ok(tag)
    }
}

fn reseal(
    old: &Keys,
    new: &Keys,
    key: SealedKey,
    generation: u64,
    random: &mut dyn hgs_crypto::Random,
) -> Result<SealedKey, StoreError> {
    let name = key.public_key.to_string();
    let opened = old.private_keys.open(&name, generation, &key.sealed);
    let opened = opened.map_err(|_| Tampered::new("private-key", &name, Finding::Changed))?;
    let sealed = new
        .private_keys
        .seal(&name, generation, &opened, random)
        .map_err(|error| unavailable(&error))?;
    Ok(SealedKey { sealed, ..key })
}

fn unavailable(error: &dyn std::error::Error) -> StoreError {
    let reason = error.to_string();
    StoreError::Unavailable { reason }
}
