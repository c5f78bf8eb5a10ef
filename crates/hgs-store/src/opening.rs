//! Opening a database and believing nothing in it before it is checked.

use std::path::Path;

use hgs_custody::seal::MasterKey;
use rusqlite::Connection;

use crate::engine::{self, StoredRow, Whole, check_schema};
use crate::high_water_mark::{HighWaterMark, RolledBack};
use crate::record::Keys;
use crate::{Finding, OpenError, State, Tampered, audit, diagnosis, lineage};

/// Brings the database to the newest schema, where it is empty or older, and reads the row that
/// holds it together.
pub(crate) fn prepare(
    connection: &Connection,
    master_key: &MasterKey,
    keys: &Keys,
    migrations: &[&str],
) -> Result<StoredRow, OpenError> {
    let known = u32::try_from(migrations.len()).unwrap_or(u32::MAX);
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let found = StoredRow::read(connection, master_key)?;
    let version = found.as_ref().map_or(0, |row| row.schema_version);
    if version > known {
        let found = version;
        return Err(OpenError::NewerSchema { found, known });
    }
    engine::migrate(connection, version, migrations)?;
    match &found {
        None => engine::insert_row(connection, master_key, keys, known)?,
        Some(_) => engine::set_schema_version(connection, known)?,
    }
    let row = StoredRow::read(connection, master_key)?;
    connection.execute_batch("COMMIT")?;
    check_schema(connection, migrations)?;
    row.ok_or_else(|| Tampered::new("store", 1, Finding::Missing).into())
}

/// Reads the whole database and checks that it is as this service left it.
///
/// A state of generation 0 is one that was never initialised.
pub(crate) fn verify(
    connection: &Connection,
    keys: &Keys,
    row: &StoredRow,
) -> Result<(State, Whole), OpenError> {
    check_integrity(connection)?;
    let (state, records) = engine::load(connection, keys, row.generation)?;
    let whole = Whole {
        generation: row.generation,
        records,
        lineage: lineage::verify(connection, keys, |_| ())?,
        audit: audit::verify(connection, &keys.audit, |_| ())?,
    };
    if row.is_of(&whole, keys) {
        return Ok((state, whole));
    }
    // Every single record is authentic, and yet they are not the ones that belong together. The
    // audit log knows which those are.
    Err(diagnosis::find(connection, keys, row, &state, &whole)?.into())
}

/// SQLite's quick check: whether the pages hang together.
pub(crate) fn check_integrity(connection: &Connection) -> Result<(), OpenError> {
    let mut statement = connection.prepare("PRAGMA quick_check(1)")?;
    let verdict: String = statement.query_row((), |row| row.get(0))?;
    if verdict == "ok" {
        return Ok(());
    }
    Err(OpenError::Damaged { detail: verdict })
}

/// Compares the state with its high-water mark. A state that never had one gets its first.
pub(crate) fn compare(
    connection: &Connection,
    whole: &Whole,
    file: &mut HighWaterMark,
    directory: &Path,
) -> Result<Option<RolledBack>, OpenError> {
    let had_one = engine::has_mark(connection)?;
    let state = whole.mark().position();
    let (directory, path) = (directory.to_owned(), file.path().to_owned());
    let found = match file.newest() {
        // Nothing was ever acknowledged: what makes the state sets the mark too.
        _ if whole.generation == 0 => None,
        None if had_one => Some(RolledBack::NoMark {
            directory,
            file: path,
            state,
        }),
        None => None,
        Some(newest) => {
            let mark = newest.position();
            if mark.sequence > state.sequence || mark.generation > state.generation {
                Some(RolledBack::Older {
                    directory,
                    file: path,
                    state,
                    mark,
                })
            } else if mark.sequence > 0
                && engine::audit_tag(connection, mark.sequence)?.as_deref()
                    != Some(&newest.audit.tag[..])
            {
                Some(RolledBack::OtherHistory {
                    directory,
                    file: path,
                    state,
                    mark,
                })
            } else {
                None
            }
        }
    };
    if !had_one && found.is_none() {
        // In this order: a mark that is expected must be there.
        if file.newest().is_none() {
            file.reset(None)?;
        }
        engine::set_has_mark(connection)?;
        engine::checkpoint(connection)?;
    }
    Ok(found)
}
