//! SQLite as the embedded engine. SQL stands here and nowhere else.
//!
//! Write-ahead log with `synchronous=FULL`: a commit has reached the disk when it returns.
//! Triggers and views, which an attacker could have planted, are switched off, and the schema
//! must be the one our migrations make. One process holds the database; what it expects is compared
//! all the same, so that no commit builds upon what another program wrote meanwhile.

mod migration;
mod schema;
mod view;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hgs_custody::seal::{MasterKey, Tag};
use hgs_fault::is_next_version;
use hgs_pki::health::HostId;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _};

use schema::AUDIT_PART;
pub(crate) use schema::MIGRATIONS;
use schema::OF_NEXT_VERSION;

use super::replicated::{LocalCopy, NextBatch};
use super::{
    ArchiveChange, Batch, BoundaryRow, CommitError, Decide, Engine, Key, News, Part,
    PositionChange, PositionRow, PutRecord, Readers, Rotation, Version, View,
};
use crate::audit_term::day;
use crate::change::RecordKey;
use crate::level::{self, Levels};
use crate::model::Digest;
use crate::node::Node;
use crate::record::{Integrity, Keys, RecordKind};
use crate::state_folder::{StateFolder, visit};
use crate::{Finding, OpenError, StoreError, Tampered};

/// How commits are made durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// The log is on the disk when a commit returns.
    Full,
    /// Nothing is waited for: the negative control of the durability test.
    #[cfg(test)]
    DangerouslyOff,
}

/// What a version of the program reads and makes.
#[derive(Debug, Clone)]
pub(crate) struct Program<'p> {
    /// What brings a database to its schema.
    pub(crate) migrations: Cow<'p, [&'p str]>,
    /// The levels of the format that it reads.
    pub(crate) levels: Levels,
}

impl Program<'_> {
    /// This one.
    pub(crate) fn this() -> Self {
        let migrations = match is_next_version() {
            true => Cow::Owned([MIGRATIONS, &[OF_NEXT_VERSION]].concat()),
            false => Cow::Borrowed(MIGRATIONS),
        };
        Self {
            migrations,
            levels: Levels::of_this_program(),
        }
    }
}

/// What `PRAGMA auto_vacuum` calls a database that gives pages back when it is told to.
const INCREMENTAL: u32 = 2;

/// Unused pages that are not given back: 1 MiB.
const SPARE_PAGES: u32 = 256;

/// Pages that are given back at one time: 4 MiB.
const SHRUNK_PAGES: u32 = 1024;

/// A database in a folder that this process holds.
pub(crate) struct Sqlite {
    connection: Connection,
    keys: Arc<Keys>,
    /// The whole as this engine left it, once it has committed anything.
    newest: Option<Integrity>,
    news: Option<News>,
    // Dropped last: until then no other process may open the database.
    folder: StateFolder,
}

impl Sqlite {
    /// Opens the database, and brings it to the newest schema where it is empty or older.
    pub(crate) fn open(
        folder: StateFolder,
        durability: Durability,
        program: &Program<'_>,
        master_key: &MasterKey,
        keys: &Arc<Keys>,
    ) -> Result<Self, OpenError> {
        let connection = connect(folder.database())?;
        // Of a new database; this must come before anything is written.
        connection.pragma_update(None, "auto_vacuum", INCREMENTAL)?;
        let mode: String =
            connection.query_row("PRAGMA journal_mode = WAL", (), |row| row.get(0))?;
        if mode != "wal" {
            let reason = format!("the file system does not support a write-ahead log ({mode})");
            return Err(StoreError::Unavailable { reason }.into());
        }
        let synchronous = match durability {
            Durability::Full => "FULL",
            #[cfg(test)]
            Durability::DangerouslyOff => "OFF",
        };
        connection.pragma_update(None, "synchronous", synchronous)?;
        // Pages that change again and again reach the database once for each 16 MiB of log.
        connection.pragma_update(None, "wal_autocheckpoint", 4096)?;
        prepare(&connection, program, master_key, keys)?;
        let vacuum: u32 = connection.query_row("PRAGMA auto_vacuum", (), |row| row.get(0))?;
        if vacuum != INCREMENTAL {
            // An older database is written anew once, so that it can shrink later. Where the disk has no room for that it
            // stays as it is until the next start.
            connection.pragma_update(None, "auto_vacuum", INCREMENTAL)?;
            let _ = connection.execute_batch("VACUUM");
        }
        Ok(Self {
            connection,
            keys: Arc::clone(keys),
            newest: None,
            news: None,
            folder,
        })
    }

    /// Lets the database grow by so many pages and no more: a disk that is nearly full.
    #[cfg(test)]
    pub(crate) fn leave_room_for_pages(&self, more: u32) {
        let pages = self
            .connection
            .query_row("PRAGMA page_count", (), |row| row.get::<_, u32>(0));
        let limit = pages.unwrap() + more;
        self.connection
            .pragma_update(None, "max_page_count", limit)
            .unwrap();
    }

    /// Does `work` in a transaction of SQLite, of which nothing is left when it fails.
    fn within<T>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, CommitError>,
    ) -> Result<T, CommitError> {
        execute(&self.connection, "BEGIN IMMEDIATE")?;
        let done = work(&self.connection).and_then(|done| {
            execute(&self.connection, "COMMIT")?;
            Ok(done)
        });
        // SQLite may have rolled back by itself.
        if done.is_err() && !self.connection.is_autocommit() {
            execute(&self.connection, "ROLLBACK")?;
        }
        done
    }
}

impl LocalCopy for Sqlite {
    fn position(&self) -> Result<Option<PositionRow>, StoreError> {
        self.connection.position()
    }

    fn decide(&mut self, decide: Decide<'_>, newest: &Integrity) -> Result<Batch, CommitError> {
        self.within(|connection| {
            let mut batch = decide(connection)?;
            batch.follow(newest, &self.keys)?;
            compare(connection, &batch)?;
            Ok(batch)
        })
    }

    fn commit_series(&mut self, next: NextBatch<'_>) -> Result<u64, CommitError> {
        let (first, batches) = self.within(|connection| {
            let (mut first, mut batches) = (0, Vec::new());
            while let Some(batch) = next(connection)? {
                first = write(connection, &batch)?;
                batches.push(batch);
            }
            Ok((first, batches))
        })?;
        if let Some(last) = batches.last() {
            self.newest = Some(last.row.before.after(last));
        }
        if let Some(news) = &self.news {
            batches.iter().for_each(|batch| news(batch));
        }
        Ok(first)
    }
}

impl Engine for Sqlite {
    fn commit(&mut self, decide: Decide<'_>) -> Result<u64, CommitError> {
        let (first, batch) = self.within(|connection| {
            let mut batch = decide(connection)?;
            if let Some(newest) = &self.newest {
                batch.follow(newest, &self.keys)?;
            }
            Ok((write(connection, &batch)?, batch))
        })?;
        self.newest = Some(batch.row.before.after(&batch));
        if let Some(news) = &self.news {
            news(&batch);
        }
        Ok(first)
    }

    fn commit_parts(&mut self, next: &mut dyn FnMut(&dyn View) -> Part) -> Result<(), CommitError> {
        self.newest = None;
        let connection = &self.connection;
        connection.pragma_update(None, "secure_delete", true)?;
        execute(connection, "BEGIN IMMEDIATE")?;
        let outcome = loop {
            match next(connection) {
                Part::Write(batch) => {
                    if let Err(error) = write(connection, &batch) {
                        break Err(error);
                    }
                }
                Part::Commit => break execute(connection, "COMMIT").map_err(CommitError::from),
                Part::Undo => break Ok(()),
            }
        };
        if !connection.is_autocommit() {
            execute(connection, "ROLLBACK")?;
        }
        connection.pragma_update(None, "secure_delete", false)?;
        // The log has the old pages. What is new is safe whether or not it can be emptied now.
        let _ = connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)");
        outcome
    }

    fn listen(&mut self, news: News) {
        self.news = Some(news);
    }

    fn readers(&self) -> Arc<dyn Readers> {
        Arc::new(Database(self.folder.database().to_owned()))
    }

    fn checkpoint(&mut self) -> Result<bool, StoreError> {
        let sql = "PRAGMA wal_checkpoint(PASSIVE)";
        let (log, moved): (i64, i64) = self
            .connection
            .query_row(sql, (), |row| Ok((row.get(1)?, row.get(2)?)))?;
        Ok(log == moved)
    }

    fn shrink(&mut self) -> Result<bool, StoreError> {
        let pragma = |sql| {
            self.connection
                .query_row(sql, (), |row| row.get::<_, u32>(0))
        };
        let unused = pragma("PRAGMA freelist_count")?;
        // A few are kept for what comes next. A database that is not incremental keeps all.
        if unused <= SPARE_PAGES || pragma("PRAGMA auto_vacuum")? != INCREMENTAL {
            return Ok(true);
        }
        let pages = (unused - SPARE_PAGES).min(SHRUNK_PAGES);
        // It gives back one page for each row that is asked for.
        let sql = format!("PRAGMA incremental_vacuum({pages})");
        let mut statement = self.connection.prepare(&sql)?;
        let mut rows = statement.query(())?;
        while rows.next()?.is_some() {}
        Ok(unused - pages <= SPARE_PAGES)
    }

    fn set_has_mark(&mut self) -> Result<(), StoreError> {
        Ok(self
            .connection
            .pragma_update(None, "user_version", view::HAS_MARK)?)
    }
}

/// A database that is only read.
struct Database(PathBuf);

impl Readers for Database {
    fn copy_to(&self, file: &Path) -> Result<(), StoreError> {
        // Of one moment, and without what was deleted.
        let file = file.to_string_lossy();
        connect(&self.0)?.execute("VACUUM INTO ?1", [file])?;
        Ok(())
    }

    fn newest(&self) -> Result<Box<dyn View>, StoreError> {
        Ok(Box::new(open_reader(&self.0)?))
    }

    fn snapshot(&self) -> Result<Box<dyn View>, StoreError> {
        let connection = open_reader(&self.0)?;
        execute(&connection, "BEGIN")?;
        Ok(Box::new(connection))
    }
}

/// The state in `directory` at one moment, for a program that only reads it beside a server.
pub(crate) fn open_snapshot(
    directory: &Path,
    master_key: &MasterKey,
) -> Result<Box<dyn View>, OpenError> {
    let connection = open_reader(&visit(directory)?)?;
    execute(&connection, "BEGIN")?;
    let program = Program::this();
    let known = version(&program.migrations);
    match stored_version(&connection, master_key)? {
        None => {
            let directory = directory.to_owned();
            return Err(OpenError::NotInitialised { directory });
        }
        Some(found) if found > known => return Err(OpenError::NewerSchema { found, known }),
        Some(found) if found < known => return Err(OpenError::OlderSchema { found, known }),
        Some(_) => schema::check(&connection, &program.migrations)?,
    }
    Ok(Box::new(connection))
}

/// Leaves all of a database in its one file, so that another may take its place; whether it is the copy of a node in a cluster.
pub(crate) fn close_copy(database: &Path) -> Result<bool, StoreError> {
    let connection = connect(database)?;
    let tables = "SELECT count(*) FROM sqlite_schema WHERE name = 'cluster_position'";
    let has_table = connection.query_row(tables, (), |row| row.get::<_, u32>(0))? > 0;
    if !has_table || connection.position()?.is_none() {
        return Ok(false);
    }
    connection.pragma_update(None, "journal_mode", "DELETE")?;
    Ok(true)
}

/// Whether a program can open a copy that another node has made. Nothing of it is verified.
pub(crate) fn check_copy(database: &Path, program: &Program<'_>) -> Result<(), OpenError> {
    let connection = open_reader(database)?;
    let Program { migrations, levels } = program;
    let view: &dyn View = &connection;
    if let Some(row) = view.record(RecordKind::Format.as_str(), level::NAME)? {
        levels
            .check(&level::read(&row.value)?)
            .map_err(OpenError::Level)?;
    }
    let sql = "SELECT schema_version FROM store WHERE id = 1";
    let found = connection.query_row(sql, (), |row| row.get(0)).optional()?;
    let (found, known) = (found.ok_or_else(missing_row)?, version(migrations));
    match found > known {
        true => Err(OpenError::NewerSchema { found, known }),
        false => Ok(()),
    }
}

/// Has a copy that another node has made forget that there is a high-water mark: that is of the other node.
pub(crate) fn forget_mark(database: &Path) -> Result<(), StoreError> {
    Ok(connect(database)?.pragma_update(None, "user_version", 0)?)
}

/// What tells the master key of the state in this folder from others.
pub(crate) fn stored_master_key(folder: &StateFolder) -> Result<Vec<u8>, StoreError> {
    let sql = "SELECT master_key FROM store WHERE id = 1";
    Ok(open_reader(folder.database())?.query_row(sql, (), |row| row.get(0))?)
}

fn open_reader(database: &Path) -> Result<Connection, StoreError> {
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
    // A statement is planned once, and not again for each value of its limit.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
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

fn execute(connection: &Connection, sql: &str) -> Result<(), StoreError> {
    connection.prepare_cached(sql)?.execute(())?;
    Ok(())
}

fn version(migrations: &[&str]) -> u32 {
    u32::try_from(migrations.len()).unwrap_or(u32::MAX)
}

/// The version of the schema, if anything was ever initialised.
fn stored_version(
    connection: &Connection,
    master_key: &MasterKey,
) -> Result<Option<u32>, OpenError> {
    if !schema::has_tables(connection)? {
        return Ok(None);
    }
    let sql = "SELECT schema_version, master_key FROM store WHERE id = 1";
    let row: Option<(u32, Vec<u8>)> = connection
        .query_row(sql, (), |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let (version, identifier) = row.ok_or_else(missing_row)?;
    if identifier != master_key.identifier() {
        return Err(OpenError::WrongMasterKey);
    }
    Ok(Some(version))
}

fn missing_row() -> Tampered {
    Tampered::new("store", 1, Finding::Missing)
}

/// Brings the database to the newest schema; an empty one gets its row.
fn prepare(
    connection: &Connection,
    program: &Program<'_>,
    master_key: &MasterKey,
    keys: &Keys,
) -> Result<(), OpenError> {
    let Program { migrations, levels } = program;
    let known = version(migrations);
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let found = stored_version(connection, master_key)?;
    if found.is_some() {
        level::check_kept(connection, keys, levels)?;
    }
    if let Some(found) = found.filter(|found| *found > known) {
        return Err(OpenError::NewerSchema { found, known });
    }
    schema::migrate(connection, found.unwrap_or(0), migrations, Some(keys))?;
    match found {
        None => {
            let sql = "INSERT INTO store \
                       (id, schema_version, master_key, generation, audit_sequence, root) \
                       VALUES (1, ?1, ?2, 0, 0, ?3)";
            let root = Integrity::EMPTY.root(keys);
            connection.execute(sql, (known, &master_key.identifier(), &root))?;
        }
        Some(_) => {
            let sql = "UPDATE store SET schema_version = ?1 WHERE schema_version <> ?1";
            connection.execute(sql, [known])?;
        }
    }
    connection.execute_batch("COMMIT")?;
    schema::check(connection, migrations)
}

/// Compares all that a batch depends on, and writes nothing.
fn compare(connection: &Connection, batch: &Batch) -> Result<(), CommitError> {
    last_number(connection, batch)?;
    for (name, version) in &batch.expected {
        let found = match name {
            Key::Record(key) => record_version(connection, key)?,
            Key::Protector(digest) => node_version(connection, digest)?,
            Key::Row => continue,
        };
        conflict_unless(found == *version, *name)?;
    }
    Ok(())
}

fn conflict_unless(is_as_expected: bool, key: Key) -> Result<(), CommitError> {
    match is_as_expected {
        true => Ok(()),
        false => Err(CommitError::Conflict(key)),
    }
}

/// Compares and writes; the number of the first audit record.
fn write(connection: &Connection, batch: &Batch) -> Result<u64, CommitError> {
    let first = write_row(connection, batch)?;
    // What is written is compared as it is written.
    let put: BTreeSet<&Digest> = batch.lineage.iter().map(|(digest, _)| digest).collect();
    for (name, version) in &batch.expected {
        let found = match name {
            Key::Record(key) if !batch.records.contains_key(key) => {
                record_version(connection, key)?
            }
            Key::Protector(digest) if !put.contains(digest) => node_version(connection, digest)?,
            _ => continue,
        };
        conflict_unless(found == *version, *name)?;
    }
    let expected = |name| batch.expected.get(&name).copied().flatten();
    for (key, put) in &batch.records {
        let name = Key::Record(*key);
        let written = write_record(connection, key, expected(name), put.as_ref())?;
        conflict_unless(written, name)?;
    }
    for (digest, put) in &batch.lineage {
        let name = Key::Protector(*digest);
        let written = write_node(connection, digest, expected(name), put.as_ref())?;
        conflict_unless(written, name)?;
    }
    for (host, evidence) in &batch.evidence {
        write_evidence(connection, host, evidence.as_deref())?;
    }
    write_audit(connection, batch, first)?;
    if let Some(change) = &batch.archive {
        archive(connection, change)?;
    }
    if let Some(rotation) = &batch.rotation {
        rotate(connection, rotation)?;
    }
    match &batch.position {
        None => {}
        Some(PositionChange::To(position)) => {
            connection
                .prepare_cached(
                    "INSERT OR REPLACE INTO cluster_position (id, position, tag) VALUES (1, ?1, ?2)",
                )?
                .execute((&position.octets, &position.tag))?;
        }
        Some(PositionChange::Gone) => {
            connection.execute("DELETE FROM cluster_position", ())?;
        }
    }
    Ok(first)
}

/// The number of the newest audit record, if the whole is as the batch expects it.
fn last_number(connection: &Connection, batch: &Batch) -> Result<i64, CommitError> {
    // Not by RETURNING, for which SQLite makes a table in memory each time.
    let sql = "SELECT audit_sequence FROM store WHERE id = 1 AND root = ?1";
    connection
        .prepare_cached(sql)?
        .query_row([&batch.row.expected_root], |row| row.get(0))
        .optional()?
        .ok_or(CommitError::Conflict(Key::Row))
}

fn write_row(connection: &Connection, batch: &Batch) -> Result<u64, CommitError> {
    let row = &batch.row;
    let last = last_number(connection, batch)?;
    let count = i64::try_from(batch.audit.len()).unwrap_or(i64::MAX);
    connection
        .prepare_cached(
            "UPDATE store SET generation = ?1, audit_sequence = ?2, root = ?3 WHERE id = 1",
        )?
        .execute((row.generation.cast_signed(), last + count, &row.root))?;
    Ok((last + 1).cast_unsigned())
}

/// Whether the record was as expected.
fn write_record(
    connection: &Connection,
    key: &RecordKey,
    expected: Version,
    put: Option<&PutRecord>,
) -> Result<bool, StoreError> {
    let (kind, name) = (key.kind().as_str(), key.to_string());
    let written = match (expected, put) {
        (None, None) => return Ok(record_version(connection, key)?.is_none()),
        (None, Some(put)) => connection
            .prepare_cached(
                "INSERT INTO record (kind, name, generation, value, tag) \
                 VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING",
            )?
            .execute((
                kind,
                &name,
                put.generation.cast_signed(),
                &put.value,
                &put.tag,
            ))?,
        (Some(tag), Some(put)) => connection
            .prepare_cached(
                "UPDATE record SET generation = ?3, value = ?4, tag = ?5 \
                 WHERE kind = ?1 AND name = ?2 AND tag = ?6",
            )?
            .execute((
                kind,
                &name,
                put.generation.cast_signed(),
                &put.value,
                &put.tag,
                tag,
            ))?,
        (Some(tag), None) => connection
            .prepare_cached("DELETE FROM record WHERE kind = ?1 AND name = ?2 AND tag = ?3")?
            .execute((kind, &name, tag))?,
    };
    Ok(written == 1)
}

fn record_version(connection: &Connection, key: &RecordKey) -> Result<Version, StoreError> {
    let sql = "SELECT tag FROM record WHERE kind = ?1 AND name = ?2";
    let tag = connection
        .prepare_cached(sql)?
        .query_row((key.kind().as_str(), key.to_string()), |row| row.get(0))
        .optional()?;
    Ok(tag.map(tag_or_none))
}

fn node_version(connection: &Connection, digest: &Digest) -> Result<Version, StoreError> {
    let tag = connection
        .prepare_cached("SELECT tag FROM lineage WHERE digest = ?1")?
        .query_row([digest.as_bytes()], |row| row.get(0))
        .optional()?;
    Ok(tag.map(tag_or_none))
}

/// What is no tag equals none.
fn tag_or_none(octets: Vec<u8>) -> Tag {
    octets.try_into().unwrap_or_default()
}

/// Whether the node was as expected.
fn write_node(
    connection: &Connection,
    digest: &Digest,
    expected: Version,
    put: Option<&(Node, Tag)>,
) -> Result<bool, StoreError> {
    let written = match (expected, put) {
        (None, None) => return Ok(node_version(connection, digest)?.is_none()),
        (None, Some((node, tag))) => connection
            .prepare_cached(
                "INSERT INTO lineage (digest, parent, stage, owner, opened_by, \
                 opened_by_signing, host, first_seen, last_seen, tag) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT DO NOTHING",
            )?
            .execute((
                digest.as_bytes(),
                node.parent.as_ref().map(Digest::as_bytes),
                node.stage as u8,
                node.owner.as_bytes(),
                node.opened_by.map(|opener| *opener.encryption.as_bytes()),
                node.opened_by.and_then(|opener| opener.signing_octets()),
                &node.host,
                node.first_seen.unix(),
                node.last_seen.unix(),
                tag,
            ))?,
        (Some(before), Some((node, tag))) => connection
            .prepare_cached(
                "UPDATE lineage SET parent = ?2, stage = ?3, owner = ?4, opened_by = ?5, \
                 opened_by_signing = ?6, host = ?7, first_seen = ?8, last_seen = ?9, tag = ?10 \
                 WHERE digest = ?1 AND tag = ?11",
            )?
            .execute((
                digest.as_bytes(),
                node.parent.as_ref().map(Digest::as_bytes),
                node.stage as u8,
                node.owner.as_bytes(),
                node.opened_by.map(|opener| *opener.encryption.as_bytes()),
                node.opened_by.and_then(|opener| opener.signing_octets()),
                &node.host,
                node.first_seen.unix(),
                node.last_seen.unix(),
                tag,
                before,
            ))?,
        (Some(before), None) => connection
            .prepare_cached("DELETE FROM lineage WHERE digest = ?1 AND tag = ?2")?
            .execute((digest.as_bytes(), before))?,
    };
    Ok(written == 1)
}

fn write_evidence(
    connection: &Connection,
    host: &HostId,
    evidence: Option<&[u8]>,
) -> Result<(), StoreError> {
    let host = host.to_string();
    match evidence {
        Some(evidence) => connection
            .prepare_cached(
                "INSERT OR REPLACE INTO host_evidence (host, evidence) VALUES (?1, ?2)",
            )?
            .execute((host, evidence))?,
        None => connection
            .prepare_cached("DELETE FROM host_evidence WHERE host = ?1")?
            .execute([host])?,
    };
    Ok(())
}

fn write_audit(connection: &Connection, batch: &Batch, first: u64) -> Result<(), StoreError> {
    let mut append = connection
        .prepare_cached("INSERT INTO audit (sequence, record, tag) VALUES (?1, ?2, ?3)")?;
    let mut find_under = connection
        .prepare_cached("INSERT INTO audit_filter (part, term, sequence) VALUES (?1, ?2, ?3)")?;
    let mut days: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
    for (sequence, row) in (first..).zip(&batch.audit) {
        let sequence = sequence.cast_signed();
        append.execute((sequence, &row.text, &row.tag))?;
        for term in &row.terms {
            find_under.execute((sequence / AUDIT_PART, term.0, sequence))?;
        }
        let day = days.entry(day(row.time)).or_insert((sequence, sequence));
        day.1 = sequence;
    }
    for (day, (first, last)) in days {
        connection
            .prepare_cached(
                "INSERT INTO audit_day (day, first, last) VALUES (?1, ?2, ?3) \
                 ON CONFLICT (day) DO UPDATE SET last = max(last, excluded.last)",
            )?
            .execute((day, first, last))?;
    }
    Ok(())
}

fn archive(connection: &Connection, change: &ArchiveChange) -> Result<(), StoreError> {
    for (sequence, terms) in &change.removed {
        let sequence = sequence.cast_signed();
        connection
            .prepare_cached("DELETE FROM audit WHERE sequence = ?1")?
            .execute([sequence])?;
        for term in terms {
            connection
                .prepare_cached(
                    "DELETE FROM audit_filter WHERE part = ?1 AND term = ?2 AND sequence = ?3",
                )?
                .execute((sequence / AUDIT_PART, term.0, sequence))?;
        }
    }
    connection
        .prepare_cached("DELETE FROM audit_day WHERE last <= ?1")?
        .execute([change.boundary.left.cast_signed()])?;
    write_boundary(connection, &change.boundary)
}

fn write_boundary(connection: &Connection, row: &BoundaryRow) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO audit_boundary (id, last_left, tag, archived, digest, seal) \
             VALUES (1, ?1, ?2, ?3, ?4, ?5)",
        )?
        .execute((
            row.left.cast_signed(),
            &row.tag,
            row.archived.cast_signed(),
            &row.digest,
            &row.seal,
        ))?;
    Ok(())
}

fn rotate(connection: &Connection, rotation: &Rotation) -> Result<(), StoreError> {
    for (sequence, tag) in &rotation.audit_tags {
        connection
            .prepare_cached("UPDATE audit SET tag = ?2 WHERE sequence = ?1")?
            .execute((sequence.cast_signed(), tag))?;
    }
    if let Some(boundary) = &rotation.boundary {
        write_boundary(connection, boundary)?;
    }
    if let Some(master_key) = &rotation.master_key {
        let sql = "UPDATE store SET master_key = ?1 WHERE id = 1";
        connection.execute(sql, [master_key])?;
    }
    Ok(())
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        let text = error.to_string();
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::DiskFull,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Damaged { detail: text }
            }
            _ => Self::Unavailable { reason: text },
        }
    }
}

impl From<rusqlite::Error> for OpenError {
    fn from(error: rusqlite::Error) -> Self {
        StoreError::from(error).into()
    }
}

impl From<rusqlite::Error> for CommitError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}
