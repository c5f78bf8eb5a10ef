//! What SQLite shows of what it keeps.

use std::ops::Range;

use hgs_pki::health::HostId;
use hgs_pki::{Thumbprint, Time};
use rusqlite::{Connection, OptionalExtension as _, Row};

use super::super::{AuditRow, BoundaryRow, PositionRow, RecordRow, StoredRow, View};
use super::schema::AUDIT_PART;
use crate::audit_term::FilterTerm;
use crate::model::Digest;
use crate::node::{Node, Opener, Stage, StoredNode};
use crate::protectors::Heads;
use crate::usage::PairUsage;
use crate::{Finding, OpenError, StoreError, Tampered};

/// A query for whole nodes, in the order in which [`node`] takes their columns.
macro_rules! select {
    ($condition:literal) => {
        concat!(
            "SELECT digest, parent, stage, owner, opened_by, opened_by_signing, host, \
             first_seen, last_seen, tag, rowid FROM lineage ",
            $condition
        )
    };
}

const ANCESTORS_BEFORE: &str =
    select!("WHERE stage = 2 AND last_seen < ?1 ORDER BY last_seen LIMIT ?2");
const ISSUED_FROM: &str = select!("WHERE stage = 0 AND parent = ?1");
/// The index leads to heads only, of which a guardian has as many as VMs; the newest of them are sorted out.
const HEADS: &str = select!(
    "INDEXED BY lineage_openers WHERE stage = 1 AND last_seen <= ?1 AND (last_seen < ?1 OR digest > ?2) \
     AND (?3 IS NULL OR host = ?3) ORDER BY last_seen DESC, digest LIMIT ?4"
);
const USAGE: &str = "SELECT opened_by, opened_by_signing, count(*), min(last_seen), max(last_seen) \
     FROM lineage WHERE stage = 1 GROUP BY opened_by, opened_by_signing";
/// The order of a cross join is kept: the index leads.
const AUDIT_FOUND_UNDER: &str = "SELECT audit.sequence, record, tag \
     FROM audit_filter CROSS JOIN audit ON audit.sequence = audit_filter.sequence \
     WHERE part = ?1 AND term = ?2 AND audit_filter.sequence >= ?3 AND audit_filter.sequence < ?4 \
     ORDER BY audit_filter.sequence DESC LIMIT ?5";
/// Asked for part by part, so that only those are looked into that are there.
const NEWEST_PART: &str =
    "SELECT part FROM audit_filter WHERE part <= ?1 ORDER BY part DESC LIMIT 1";

impl View for Connection {
    fn row(&self) -> Result<Option<StoredRow>, StoreError> {
        let sql = "SELECT generation, audit_sequence, root FROM store WHERE id = 1";
        let row = self.query_row(sql, (), |row| {
            Ok(StoredRow {
                generation: row.get::<_, i64>(0)?.cast_unsigned(),
                audit_sequence: row.get::<_, i64>(1)?.cast_unsigned(),
                root: row.get(2)?,
            })
        });
        Ok(row.optional()?)
    }

    fn record(&self, kind: &str, name: &str) -> Result<Option<RecordRow>, StoreError> {
        let mut statement = self.prepare_cached(
            "SELECT kind, name, generation, value, tag FROM record WHERE kind = ?1 AND name = ?2",
        )?;
        Ok(statement.query_row((kind, name), record_row).optional()?)
    }

    fn position(&self) -> Result<Option<PositionRow>, StoreError> {
        let sql = "SELECT position, tag FROM cluster_position WHERE id = 1";
        let row = self.query_row(sql, (), |row| {
            Ok(PositionRow {
                octets: row.get(0)?,
                tag: row.get(1)?,
            })
        });
        Ok(row.optional()?)
    }

    fn records_after(
        &self,
        last: (&str, &str),
        limit: usize,
    ) -> Result<Vec<RecordRow>, StoreError> {
        let mut statement = self.prepare_cached(
            "SELECT kind, name, generation, value, tag FROM record WHERE (kind, name) > (?1, ?2) \
             ORDER BY kind, name LIMIT ?3",
        )?;
        let rows = statement.query_map((last.0, last.1, count(limit)), record_row)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn node(&self, digest: &Digest) -> Result<Option<StoredNode>, StoreError> {
        let mut statement = self.prepare_cached(select!("WHERE digest = ?1"))?;
        let found = statement
            .query_row([digest.as_bytes()], |row| Ok(node(row)))
            .optional()?;
        Ok(found.transpose()?)
    }

    fn nodes_after(&self, place: i64, limit: usize) -> Result<(Vec<StoredNode>, i64), StoreError> {
        let sql = select!("WHERE rowid > ?1 ORDER BY rowid LIMIT ?2");
        let mut statement = self.prepare_cached(sql)?;
        let mut rows = statement.query((place, count(limit)))?;
        let (mut nodes, mut last) = (Vec::new(), place);
        while let Some(row) = rows.next()? {
            nodes.push(node(row)?);
            last = row.get(10)?;
        }
        Ok((nodes, last))
    }

    fn ancestors_before(&self, time: Time, limit: usize) -> Result<Vec<StoredNode>, StoreError> {
        nodes(self, ANCESTORS_BEFORE, (time.unix(), count(limit)))
    }

    fn issued_from(&self, parent: &Digest) -> Result<Vec<StoredNode>, StoreError> {
        nodes(self, ISSUED_FROM, [parent.as_bytes()])
    }

    fn heads(&self, wanted: &Heads, limit: usize) -> Result<Vec<StoredNode>, StoreError> {
        let until = wanted.until.map_or(i64::MAX, Time::unix);
        let after = wanted.after.as_ref().map(Digest::as_bytes);
        let after = after.map_or(&[][..], |octets| &octets[..]);
        let host = wanted.host.map(|host| host.to_string());
        nodes(self, HEADS, (until, after, host, count(limit)))
    }

    fn count_nodes(&self) -> Result<u64, StoreError> {
        let count: i64 = self.query_row("SELECT count(*) FROM lineage", (), |row| row.get(0))?;
        Ok(count.cast_unsigned())
    }

    fn usage(&self) -> Result<Vec<PairUsage>, StoreError> {
        let mut statement = self.prepare_cached(USAGE)?;
        let pairs = statement.query_map((), |row| {
            Ok(PairUsage {
                encryption: Thumbprint::from_bytes(row.get(0)?),
                signing: row.get::<_, Option<_>>(1)?.map(Thumbprint::from_bytes),
                protectors: row.get::<_, i64>(2)?.cast_unsigned(),
                first: Time::from_unix(row.get(3)?),
                last: Time::from_unix(row.get(4)?),
            })
        })?;
        Ok(pairs.collect::<Result<_, _>>()?)
    }

    fn audit_after(&self, sequence: u64, limit: usize) -> Result<Vec<AuditRow>, StoreError> {
        let mut statement = self.prepare_cached(
            "SELECT sequence, record, tag FROM audit WHERE sequence > ?1 \
             ORDER BY sequence LIMIT ?2",
        )?;
        let rows = statement.query_map((sequence.cast_signed(), count(limit)), audit_row)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn audit_newest(
        &self,
        term: Option<FilterTerm>,
        within: Range<u64>,
        limit: usize,
    ) -> Result<Vec<AuditRow>, StoreError> {
        let (start, end) = (within.start.cast_signed(), within.end.cast_signed());
        let Some(term) = term else {
            let mut statement = self.prepare_cached(
                "SELECT sequence, record, tag FROM audit WHERE sequence >= ?1 AND sequence < ?2 \
                 ORDER BY sequence DESC LIMIT ?3",
            )?;
            let rows = statement.query_map((start, end, count(limit)), audit_row)?;
            return Ok(rows.collect::<Result<_, _>>()?);
        };
        let mut newest_part = self.prepare_cached(NEWEST_PART)?;
        let mut found_under = self.prepare_cached(AUDIT_FOUND_UNDER)?;
        let (first, mut last) = (start / AUDIT_PART, end / AUDIT_PART);
        let mut found = Vec::new();
        while found.len() < limit
            && let Some(part) = newest_part
                .query_row([last], |row| row.get::<_, i64>(0))
                .optional()?
            && part >= first
        {
            let left = count(limit - found.len());
            let rows = found_under.query_map((part, term.0, start, end, left), audit_row)?;
            for row in rows {
                found.push(row?);
            }
            last = part - 1;
        }
        Ok(found)
    }

    fn audit_within_days(
        &self,
        first: Option<i64>,
        last: Option<i64>,
    ) -> Result<Range<u64>, StoreError> {
        let (first, last) = (first.unwrap_or(i64::MIN), last.unwrap_or(i64::MAX));
        let sql = "SELECT min(first), max(last) FROM audit_day WHERE day BETWEEN ?1 AND ?2";
        let mut statement = self.prepare_cached(sql)?;
        let bounds: (Option<i64>, Option<i64>) =
            statement.query_row((first, last), |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(match bounds {
            (Some(first), Some(last)) => first.cast_unsigned()..last.cast_unsigned() + 1,
            _ => 0..0,
        })
    }

    fn evidence(&self, host: &HostId) -> Result<Option<Vec<u8>>, StoreError> {
        let mut statement =
            self.prepare_cached("SELECT evidence FROM host_evidence WHERE host = ?1")?;
        let evidence = statement.query_row([host.to_string()], |row| row.get(0));
        Ok(evidence.optional()?)
    }

    fn boundary(&self) -> Result<Option<BoundaryRow>, StoreError> {
        let sql = "SELECT last_left, tag, archived, digest, seal FROM audit_boundary WHERE id = 1";
        let row = self.query_row(sql, (), |row| {
            Ok(BoundaryRow {
                left: row.get::<_, i64>(0)?.cast_unsigned(),
                tag: row.get(1)?,
                archived: row.get::<_, i64>(2)?.cast_unsigned(),
                digest: row.get(3)?,
                seal: row.get(4)?,
            })
        });
        Ok(row.optional()?)
    }

    fn has_mark(&self) -> Result<bool, StoreError> {
        let version: i64 = self.query_row("PRAGMA user_version", (), |row| row.get(0))?;
        Ok(version >= HAS_MARK)
    }

    /// SQLite's quick check.
    fn check_structure(&self) -> Result<(), OpenError> {
        let mut statement = self.prepare("PRAGMA quick_check(1)")?;
        let verdict: String = statement.query_row((), |row| row.get(0))?;
        if verdict == "ok" {
            return Ok(());
        }
        Err(OpenError::Damaged { detail: verdict })
    }
}

/// What the header of the database says where there is a high-water mark.
pub(super) const HAS_MARK: i64 = 1;

fn count(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

fn record_row(row: &Row<'_>) -> rusqlite::Result<RecordRow> {
    Ok(RecordRow {
        kind: text(row, 0)?,
        name: text(row, 1)?,
        generation: row.get::<_, i64>(2)?.cast_unsigned(),
        value: text(row, 3)?,
        tag: row.get(4)?,
    })
}

/// A text; what is none has no tag that fits.
fn text(row: &Row<'_>, column: usize) -> Result<String, rusqlite::Error> {
    let text = row.get_ref(column)?.as_str();
    Ok(text.unwrap_or_default().to_owned())
}

fn audit_row(row: &Row<'_>) -> Result<AuditRow, rusqlite::Error> {
    Ok(AuditRow {
        sequence: row.get::<_, i64>(0)?.cast_unsigned(),
        text: text(row, 1)?,
        tag: row.get(2)?,
    })
}

fn nodes(
    connection: &Connection,
    sql: &str,
    parameters: impl rusqlite::Params,
) -> Result<Vec<StoredNode>, StoreError> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(parameters)?;
    let mut nodes = Vec::new();
    while let Some(row) = rows.next()? {
        nodes.push(node(row)?);
    }
    Ok(nodes)
}

/// Reads a row of a `select!`; one that is no node was changed.
fn node(row: &Row<'_>) -> Result<StoredNode, Tampered> {
    let read = read_node(row).ok().flatten();
    read.ok_or_else(|| {
        let digest = row.get_ref(0).ok().and_then(|value| value.as_blob().ok());
        let name = hgs_crypto::hex::encode(digest.unwrap_or_default());
        Tampered::new("lineage", name, Finding::Changed)
    })
}

fn read_node(row: &Row<'_>) -> Result<Option<StoredNode>, rusqlite::Error> {
    let Some(stage) = Stage::from_number(row.get(2)?) else {
        return Ok(None);
    };
    let signing: Option<[u8; 32]> = row.get(5)?;
    let opened_by = row.get::<_, Option<_>>(4)?.map(|encryption| Opener {
        encryption: Thumbprint::from_bytes(encryption),
        signing: signing.map(Thumbprint::from_bytes),
    });
    let node = Node {
        digest: Digest::from_bytes(row.get(0)?),
        parent: row.get::<_, Option<_>>(1)?.map(Digest::from_bytes),
        stage,
        owner: Thumbprint::from_bytes(row.get(3)?),
        opened_by,
        host: row.get(6)?,
        first_seen: Time::from_unix(row.get(7)?),
        last_seen: Time::from_unix(row.get(8)?),
    };
    let tag = row.get(9)?;
    Ok(Some(StoredNode { node, tag }))
}

#[cfg(test)]
mod tests {
    use super::super::schema::{MIGRATIONS, migrate};
    use super::*;

    #[test]
    fn what_may_be_asked_often_is_answered_from_an_index() {
        let connection = Connection::open_in_memory().unwrap();
        migrate(&connection, 0, MIGRATIONS, None).unwrap();
        for (sql, index) in [
            (USAGE, "USING COVERING INDEX lineage_openers"),
            (ANCESTORS_BEFORE, "USING INDEX lineage_ancestors"),
            (ISSUED_FROM, "USING INDEX lineage_issued"),
            (
                select!("WHERE digest = ?1"),
                "USING INDEX sqlite_autoindex_lineage_1",
            ),
            (
                AUDIT_FOUND_UNDER,
                "SEARCH audit_filter USING PRIMARY KEY (part=? AND term=? AND sequence>? AND sequence<?)",
            ),
            (
                NEWEST_PART,
                "SEARCH audit_filter USING PRIMARY KEY (part<?)",
            ),
        ] {
            let explain = format!("EXPLAIN QUERY PLAN {sql}");
            let mut statement = connection.prepare(&explain).unwrap();
            let parameters = rusqlite::params_from_iter(vec![1; statement.parameter_count()]);
            let steps: Vec<String> = statement
                .query_map(parameters, |row| row.get(3))
                .unwrap()
                .collect::<Result<_, _>>()
                .unwrap();
            assert!(steps[0].contains(index), "{sql}: {steps:?}");
            let sorts = steps.iter().any(|step| step.contains("TEMP B-TREE"));
            assert!(!sorts, "{sql}: {steps:?}");
        }
    }
}
