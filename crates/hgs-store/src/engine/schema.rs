//! The tables, version by version.

use rusqlite::Connection;

use crate::{Finding, OpenError, StoreError, Tampered};

/// What takes a database from each version to the next; a new one starts from version 0.
pub(crate) const MIGRATIONS: &[&str] = &[VERSION_1, VERSION_2, VERSION_3];

const VERSION_1: &str = "
CREATE TABLE store (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    schema_version INTEGER NOT NULL,
    master_key BLOB NOT NULL,
    generation INTEGER NOT NULL,
    audit_sequence INTEGER NOT NULL,
    root BLOB NOT NULL
) STRICT;
CREATE TABLE record (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    generation INTEGER NOT NULL,
    value TEXT NOT NULL,
    tag BLOB NOT NULL,
    PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE audit (
    sequence INTEGER PRIMARY KEY,
    record TEXT NOT NULL,
    tag BLOB NOT NULL
) STRICT;
CREATE TABLE lineage (
    id INTEGER PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE,
    parent INTEGER,
    stage INTEGER NOT NULL,
    owner BLOB NOT NULL,
    opened_by BLOB,
    host TEXT NOT NULL,
    first_seen INTEGER NOT NULL,
    last_seen INTEGER NOT NULL,
    tag BLOB NOT NULL
) STRICT;
CREATE INDEX lineage_issued ON lineage (parent) WHERE stage = 0;
CREATE INDEX lineage_ancestors ON lineage (last_seen) WHERE stage = 2;
";

/// With which pair the newest protectors were opened, and how many.
const VERSION_2: &str = "
ALTER TABLE lineage ADD COLUMN opened_by_signing BLOB;
CREATE INDEX lineage_openers ON lineage (opened_by, opened_by_signing, last_seen) WHERE stage = 1;
";

/// Records of removed and of denied hosts, which a program of version 2 can't read. The tables are the same.
const VERSION_3: &str = "";

/// Runs the migrations that a database of `version` lacks.
pub(crate) fn migrate(
    connection: &Connection,
    version: u32,
    migrations: &[&str],
) -> Result<(), StoreError> {
    let missing = migrations.iter().skip(version as usize);
    for migration in missing {
        connection.execute_batch(migration)?;
    }
    Ok(())
}

/// Whether there is any table; if so, ours must be among them.
pub(crate) fn has_tables(connection: &Connection) -> Result<bool, StoreError> {
    let sql = "SELECT count(*), count(*) FILTER (WHERE name = 'store') FROM sqlite_schema";
    match connection.query_row(sql, (), |row| Ok((row.get(0)?, row.get(1)?)))? {
        (0_u32, _) => Ok(false),
        (_, 0_u32) => Err(Tampered::new("schema", "store", Finding::Missing).into()),
        _ => Ok(true),
    }
}

/// Refuses a schema other than the one that `migrations` make: a planted trigger or index could
/// make the engine lie.
pub(crate) fn check_schema(connection: &Connection, migrations: &[&str]) -> Result<(), OpenError> {
    let reference = Connection::open_in_memory()?;
    migrate(&reference, 0, migrations)?;
    let (found, expected) = (objects(connection)?, objects(&reference)?);
    let tampered = |object: &Object, finding| Tampered::new("schema", &object.name, finding);
    if let Some(object) = found.iter().find(|object| !expected.contains(object)) {
        return Err(tampered(object, Finding::Unexpected).into());
    }
    if let Some(object) = expected.iter().find(|object| !found.contains(object)) {
        return Err(tampered(object, Finding::Missing).into());
    }
    Ok(())
}

#[derive(PartialEq, Eq)]
struct Object {
    kind: String,
    name: String,
    table: String,
    sql: Option<String>,
}

fn objects(connection: &Connection) -> Result<Vec<Object>, rusqlite::Error> {
    let mut statement =
        connection.prepare("SELECT type, name, tbl_name, sql FROM sqlite_schema")?;
    let objects = statement.query_map((), |row| {
        Ok(Object {
            kind: row.get(0)?,
            name: row.get(1)?,
            table: row.get(2)?,
            sql: row.get(3)?,
        })
    })?;
    objects.collect()
}
