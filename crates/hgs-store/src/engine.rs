//! SQLite as the embedded engine: how it is opened, its schema, and what lies in it.
//!
//! Write-ahead log with `synchronous=FULL`: a commit has reached the disk when it returns.
//! Triggers and views, which somebody else could have planted, are switched off, and the schema
//! must be the one our migrations make.

mod schema;

use std::path::Path;
use std::time::Duration;

use hgs_custody::seal::{MasterKey, Tag};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _};

pub(crate) use schema::{MIGRATIONS, check_schema, migrate};

use crate::change::{Change, Record};
use crate::high_water_mark::Mark;
use crate::record::{Keys, RecordKind, Sum};
use crate::{Finding, OpenError, State, StoreError, Tampered, audit};

/// How commits are made durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// The log is on the disk when a commit returns.
    Full,
    /// Nothing is waited for: the negative control of the durability test.
    #[cfg(test)]
    DangerouslyOff,
}

/// Opens a connection that may write.
pub(crate) fn open(database: &Path, durability: Durability) -> Result<Connection, StoreError> {
    let connection = connect(database)?;
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", (), |row| row.get(0))?;
    if mode != "wal" {
        let reason = format!("the file system does not support a write-ahead log ({mode})");
        return Err(StoreError::Unavailable { reason });
    }
    let synchronous = match durability {
        Durability::Full => "FULL",
        #[cfg(test)]
        Durability::DangerouslyOff => "OFF",
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    // Pages that change again and again reach the database once for each 16 MiB of log.
    connection.pragma_update(None, "wal_autocheckpoint", 4096)?;
    Ok(connection)
}

/// Opens a connection that only reads, beside the one that writes.
pub(crate) fn open_reader(database: &Path) -> Result<Connection, StoreError> {
    let connection = connect(database)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

fn connect(database: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW
        | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let connection = Connection::open_with_flags(database, flags)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    // An administrator may look into the database with other tools while the service runs.
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(64);
    // Digests are random, so the lineage tree is read and written everywhere: 64 MiB of it are
    // kept in memory (the unit is KiB, negative).
    connection.pragma_update(None, "cache_size", -65_536)?;
    Ok(connection)
}

/// The one row of table `store`: what the whole of the database is held together by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Whole {
    pub(crate) generation: u64,
    pub(crate) records: Sum,
    pub(crate) lineage: Sum,
    pub(crate) audit: audit::Head,
}

impl Whole {
    /// The whole of a database with nothing in it.
    pub(crate) const EMPTY: Self = Self {
        generation: 0,
        records: Sum::EMPTY,
        lineage: Sum::EMPTY,
        audit: audit::Head::EMPTY,
    };

    /// How far the state has come.
    pub(crate) fn mark(&self) -> Mark {
        Mark {
            generation: self.generation,
            audit: self.audit,
        }
    }

    /// The tag of the whole.
    pub(crate) fn root(&self, keys: &Keys) -> Tag {
        keys.root.tag([
            &self.generation.to_be_bytes(),
            &self.records.octets(),
            &self.lineage.octets(),
            &self.audit.sequence.to_be_bytes(),
            &self.audit.tag,
        ])
    }

    /// Checks within a commit that the row is the one that was written last.
    pub(crate) fn check_row(&self, connection: &Connection, keys: &Keys) -> Result<(), StoreError> {
        let root: Option<Vec<u8>> = connection
            .prepare_cached("SELECT root FROM store WHERE id = 1")?
            .query_row((), |row| row.get(0))
            .optional()?;
        let finding = match root {
            Some(root) if root == self.root(keys) => return Ok(()),
            Some(_) => Finding::Changed,
            None => Finding::Missing,
        };
        Err(Tampered::new("store", 1, finding).into())
    }

    /// Writes the row again, within a commit.
    pub(crate) fn update(&self, connection: &Connection, keys: &Keys) -> Result<(), StoreError> {
        connection
            .prepare_cached(
                "UPDATE store SET generation = ?1, audit_sequence = ?2, root = ?3 WHERE id = 1",
            )?
            .execute((
                self.generation.cast_signed(),
                self.audit.sequence.cast_signed(),
                &self.root(keys),
            ))?;
        Ok(())
    }
}

/// The row of table `store` as it was found, not yet believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredRow {
    pub(crate) schema_version: u32,
    pub(crate) generation: u64,
    pub(crate) audit_sequence: u64,
    root: Vec<u8>,
}

impl StoredRow {
    /// Reads the row; `None` where nothing was ever initialised.
    pub(crate) fn read(
        connection: &Connection,
        master_key: &MasterKey,
    ) -> Result<Option<Self>, OpenError> {
        if !schema::has_tables(connection)? {
            return Ok(None);
        }
        let row = connection
            .query_row(
                "SELECT schema_version, master_key, generation, audit_sequence, root \
                 FROM store WHERE id = 1",
                (),
                |row| {
                    let stored = Self {
                        schema_version: row.get(0)?,
                        generation: row.get::<_, i64>(2)?.cast_unsigned(),
                        audit_sequence: row.get::<_, i64>(3)?.cast_unsigned(),
                        root: row.get(4)?,
                    };
                    Ok((stored, row.get::<_, Vec<u8>>(1)?))
                },
            )
            .optional()?;
        let missing = || Tampered::new("store", 1, Finding::Missing);
        let (stored, identifier) = row.ok_or_else(missing)?;
        if identifier != master_key.identifier() {
            return Err(OpenError::WrongMasterKey);
        }
        Ok(Some(stored))
    }

    /// Whether this row belongs to `whole`.
    pub(crate) fn is_of(&self, whole: &Whole, keys: &Keys) -> bool {
        self.has_root_of(whole, keys) && self.audit_sequence == whole.audit.sequence
    }

    /// Whether everything but this row is as it should be.
    pub(crate) fn has_root_of(&self, whole: &Whole, keys: &Keys) -> bool {
        self.root == whole.root(keys)
    }
}

/// Writes the row of a database that has nothing in it yet.
pub(crate) fn insert_row(
    connection: &Connection,
    master_key: &MasterKey,
    keys: &Keys,
    schema_version: u32,
) -> Result<(), StoreError> {
    connection.execute(
        "INSERT INTO store (id, schema_version, master_key, generation, audit_sequence, root) \
         VALUES (1, ?1, ?2, 0, 0, ?3)",
        (
            schema_version,
            &master_key.identifier(),
            &Whole::EMPTY.root(keys),
        ),
    )?;
    Ok(())
}

/// Whether there is a high-water mark of the state in this database.
pub(crate) fn has_mark(connection: &Connection) -> Result<bool, StoreError> {
    let version: i64 = connection.query_row("PRAGMA user_version", (), |row| row.get(0))?;
    Ok(version >= HAS_MARK)
}

/// Notes that there is a high-water mark from now on.
pub(crate) fn set_has_mark(connection: &Connection) -> Result<(), StoreError> {
    Ok(connection.pragma_update(None, "user_version", HAS_MARK)?)
}

/// What the header of the database says where there is a high-water mark.
const HAS_MARK: i64 = 1;

/// Brings what was committed from the log into the database itself, as far as no reader is in the
/// way; whether all of it is there.
pub(crate) fn checkpoint(connection: &Connection) -> Result<bool, StoreError> {
    let sql = "PRAGMA wal_checkpoint(PASSIVE)";
    let (log, moved): (i64, i64) =
        connection.query_row(sql, (), |row| Ok((row.get(1)?, row.get(2)?)))?;
    Ok(log == moved)
}

/// The tag of the audit record with this number.
pub(crate) fn audit_tag(
    connection: &Connection,
    sequence: u64,
) -> Result<Option<Vec<u8>>, StoreError> {
    let sql = "SELECT tag FROM audit WHERE sequence = ?1";
    let tag = connection.query_row(sql, [sequence.cast_signed()], |row| row.get(0));
    Ok(tag.optional()?)
}

/// Notes which master key everything hangs from.
pub(crate) fn set_master_key(
    connection: &Connection,
    master_key: &MasterKey,
) -> Result<(), StoreError> {
    let sql = "UPDATE store SET master_key = ?1 WHERE id = 1";
    connection.execute(sql, [&master_key.identifier()])?;
    Ok(())
}

/// What tells the master key of the state in this database from others.
pub(crate) fn master_key_identifier(connection: &Connection) -> Result<Vec<u8>, StoreError> {
    let sql = "SELECT master_key FROM store WHERE id = 1";
    Ok(connection.query_row(sql, (), |row| row.get(0))?)
}

/// Notes that the migrations up to `version` were run.
pub(crate) fn set_schema_version(connection: &Connection, version: u32) -> Result<(), StoreError> {
    let sql = "UPDATE store SET schema_version = ?1 WHERE schema_version <> ?1";
    connection.execute(sql, [version])?;
    Ok(())
}

/// Puts or removes one record within a commit, in the database, the state and the sum.
pub(crate) fn write(
    connection: &Connection,
    keys: &Keys,
    state: &mut State,
    sum: &mut Sum,
    change: Change,
) -> Result<(), StoreError> {
    let key = change.key();
    let (kind, name, generation) = (key.kind(), key.to_string(), state.generation());
    let before = match change {
        Change::Put(record) => {
            let value = record.to_text().map_err(|error| StoreError::Unavailable {
                reason: error.to_string(),
            })?;
            let tag = keys.tag(kind, &name, generation, &value);
            connection
                .prepare_cached(
                    "INSERT OR REPLACE INTO record (kind, name, generation, value, tag) \
                     VALUES (?1, ?2, ?3, ?4, ?5)",
                )?
                .execute((kind.as_str(), &name, generation.cast_signed(), &value, &tag))?;
            let term = keys.term(&tag);
            sum.add(&term);
            state.put(record, generation, term)
        }
        Change::Remove(key) => {
            connection
                .prepare_cached("DELETE FROM record WHERE kind = ?1 AND name = ?2")?
                .execute((kind.as_str(), &name))?;
            state.remove(&key)
        }
    };
    before.iter().for_each(|term| sum.subtract(term));
    Ok(())
}

/// Reads and checks every record.
pub(crate) fn load(
    connection: &Connection,
    keys: &Keys,
    generation: u64,
) -> Result<(State, Sum), OpenError> {
    let mut state = State::default();
    let mut sum = Sum::EMPTY;
    let mut statement =
        connection.prepare("SELECT kind, name, generation, value, tag FROM record")?;
    let mut rows = statement.query(())?;
    while let Some(row) = rows.next()? {
        let (kind, name): (String, String) = (row.get(0)?, row.get(1)?);
        let changed = || Tampered::new(&kind, &name, Finding::Changed);
        let known = RecordKind::from_name(&kind).ok_or_else(changed)?;
        let written = row.get::<_, i64>(2)?.cast_unsigned();
        let value = row.get_ref(3)?.as_str().unwrap_or_default();
        let stored = row.get_ref(4)?.as_blob().unwrap_or_default();
        keys.verify(known, &name, written, value, stored)
            .map_err(|_| changed())?;
        let record = Record::from_text(known, value).map_err(|_| changed())?;
        let tag = <Tag>::try_from(stored).map_err(|_| changed())?;
        let term = keys.term(&tag);
        sum.add(&term);
        state.put(record, written, term);
    }
    state.set_generation(generation);
    Ok((state, sum))
}
