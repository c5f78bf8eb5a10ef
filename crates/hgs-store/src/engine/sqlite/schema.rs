//! The tables, version by version.

use rusqlite::Connection;

use super::migration;
use crate::record::Keys;
use crate::{Finding, OpenError, Tampered};

/// What takes a database from each version to the next; a new one starts from version 0.
pub(crate) const MIGRATIONS: &[&str] = &[
    VERSION_1, VERSION_2, VERSION_3, VERSION_4, VERSION_5, VERSION_6, VERSION_7, VERSION_8,
    VERSION_9,
];

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

/// Nodes are named by digests, and audit records are found by what can be asked for. `migration`
/// moves what is there, which takes new tags, and `VERSION_4_MOVED` follows.
const VERSION_4: &str = "
DROP INDEX lineage_issued;
DROP INDEX lineage_ancestors;
DROP INDEX lineage_openers;
ALTER TABLE lineage RENAME TO lineage_of_version_3;
CREATE TABLE lineage (
    digest BLOB NOT NULL UNIQUE,
    parent BLOB,
    stage INTEGER NOT NULL,
    owner BLOB NOT NULL,
    opened_by BLOB,
    opened_by_signing BLOB,
    host TEXT NOT NULL,
    first_seen INTEGER NOT NULL,
    last_seen INTEGER NOT NULL,
    tag BLOB NOT NULL
) STRICT;
CREATE INDEX lineage_issued ON lineage (parent) WHERE stage = 0;
CREATE INDEX lineage_ancestors ON lineage (last_seen) WHERE stage = 2;
CREATE INDEX lineage_openers ON lineage (opened_by, opened_by_signing, last_seen) WHERE stage = 1;
CREATE TABLE audit_filter (
    term INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    PRIMARY KEY (term, sequence)
) STRICT, WITHOUT ROWID;
CREATE TABLE audit_day (
    day INTEGER PRIMARY KEY,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL
) STRICT;
";

const VERSION_4_MOVED: &str = "DROP TABLE lineage_of_version_3;";

/// Where the audit log begins, once older records were archived.
const VERSION_5: &str = "
CREATE TABLE audit_boundary (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    last_left INTEGER NOT NULL,
    tag BLOB NOT NULL,
    archived INTEGER NOT NULL,
    digest BLOB NOT NULL,
    seal BLOB NOT NULL
) STRICT;
";

/// What attesting changes about a host is a record of its own. The tables are the same; `migration` moves what is there.
const VERSION_6: &str = "";

/// The index of the audit log in parts of [`AUDIT_PART`] records. Terms are random, so in one index over all of the log each
/// new record changes pages of its own everywhere; in the newest part they are few and the same ones.
const VERSION_7: &str = "
ALTER TABLE audit_filter RENAME TO audit_filter_of_version_6;
CREATE TABLE audit_filter (
    part INTEGER NOT NULL,
    term INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    PRIMARY KEY (part, term, sequence)
) STRICT, WITHOUT ROWID;
INSERT INTO audit_filter (part, term, sequence)
    SELECT sequence / 2048, term, sequence FROM audit_filter_of_version_6;
DROP TABLE audit_filter_of_version_6;
";

/// Records of hosts with TPMs and of what TPMs are judged by, which a program of version 7 can't read, and the last evidence of each host. The
/// records that are there stay as they are.
const VERSION_8: &str = "
CREATE TABLE host_evidence (
    host TEXT PRIMARY KEY,
    evidence BLOB NOT NULL
) STRICT;
";

/// How far this copy of the state has taken in what several nodes have ordered. A state of one node has no such row.
const VERSION_9: &str = "
CREATE TABLE cluster_position (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    position BLOB NOT NULL,
    tag BLOB NOT NULL
) STRICT;
";

/// What the next version has beside, where a test plays it: something that changes no tag.
pub(super) const OF_NEXT_VERSION: &str = "ALTER TABLE audit_day ADD COLUMN note TEXT;";

/// Audit records whose index is one part. More of them make a commit larger, fewer make a question longer: it looks into
/// each part.
pub(super) const AUDIT_PART: i64 = 2048;

/// Runs the migrations that a database of `version` lacks. What has tags of its own is moved where
/// there are `keys`.
pub(super) fn migrate(
    connection: &Connection,
    version: u32,
    migrations: &[&str],
    keys: Option<&Keys>,
) -> Result<(), OpenError> {
    for (number, sql) in (1..).zip(migrations).skip(version as usize) {
        connection.execute_batch(sql)?;
        let moved = keys.filter(|_| version > 0);
        if number == 4 {
            if let Some(keys) = moved {
                migration::to_version_4(connection, keys)?;
            }
            connection.execute_batch(VERSION_4_MOVED)?;
        }
        if let (6, Some(keys)) = (number, moved) {
            migration::to_version_6(connection, keys)?;
        }
    }
    Ok(())
}

/// Whether there is any table; if so, ours must be among them.
pub(super) fn has_tables(connection: &Connection) -> Result<bool, OpenError> {
    let sql = "SELECT count(*), count(*) FILTER (WHERE name = 'store') FROM sqlite_schema";
    match connection.query_row(sql, (), |row| Ok((row.get(0)?, row.get(1)?)))? {
        (0_u32, _) => Ok(false),
        (_, 0_u32) => Err(Tampered::new("schema", "store", Finding::Missing).into()),
        _ => Ok(true),
    }
}

/// Refuses a schema other than the one that `migrations` make: a planted trigger or index could
/// make the engine lie.
pub(super) fn check(connection: &Connection, migrations: &[&str]) -> Result<(), OpenError> {
    let reference = Connection::open_in_memory()?;
    migrate(&reference, 0, migrations, None)?;
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
