//! From earlier versions of the schema: what is there is verified as that version had it, and written anew.

use hgs_custody::seal::Tag;
use hgs_pki::{Thumbprint, Time};
use rusqlite::{Connection, Row};

use super::super::{View, sum_of_lineage};
use crate::audit::{self, terms};
use crate::audit_head::Head;
use crate::audit_term::day;
use crate::change::Record;
use crate::model::{Digest, Host};
use crate::node::{Node, Opener, Stage};
use crate::record::{Integrity, Keys, RecordKind, Sum};
use crate::{Finding, OpenError, StoreError, Tampered};

/// Moves the tree, and makes the indexes of the audit log. A state that is not as that version left it
/// is not moved.
pub(super) fn to_version_4(connection: &Connection, keys: &Keys) -> Result<(), OpenError> {
    let view: &dyn View = connection;
    let changed = || Tampered::new("store", 1, Finding::Changed);
    let row = view.row()?.ok_or_else(changed)?;
    let (old_lineage, lineage) = move_lineage(connection, keys)?;
    let old = Integrity {
        generation: row.generation,
        records: sum_of_records(view, keys)?,
        lineage: old_lineage,
        audit: index_audit(connection, keys)?,
    };
    if !old.is_of(&row, keys) {
        return Err(changed().into());
    }
    let root = Integrity { lineage, ..old }.root(keys);
    connection.execute("UPDATE store SET root = ?1 WHERE id = 1", [&root])?;
    Ok(())
}

/// Gives each host's attestations a record of their own, of the generation in which the host's was written. A state that is
/// not as that version left it is not moved.
pub(super) fn to_version_6(connection: &Connection, keys: &Keys) -> Result<(), OpenError> {
    let view: &dyn View = connection;
    let changed = || Tampered::new("store", 1, Finding::Changed);
    let row = view.row()?.ok_or_else(changed)?;
    let old = Integrity {
        generation: row.generation,
        lineage: sum_of_lineage(view, keys)?,
        records: sum_of_records(view, keys)?,
        audit: audit::verify(view, &keys.audit, |_| Ok::<_, OpenError>(()))?,
    };
    if !old.is_of(&row, keys) {
        return Err(changed().into());
    }
    let mut records = old.records;
    let mut hosts = Vec::new();
    view.each_record(|row| -> Result<(), OpenError> {
        if row.kind == RecordKind::Host.as_str() {
            hosts.push(row);
        }
        Ok(())
    })?;
    for row in hosts {
        let (_, tag) = row.verified(keys)?;
        records.subtract(&keys.term(&tag));
        let host: Host = serde_json::from_str(&row.value)
            .map_err(|_| Tampered::new(&row.kind, &row.name, Finding::Changed))?;
        let attestation = host.attestation().map(Record::HostAttestation);
        for record in [Record::Host(host)].into_iter().chain(attestation) {
            let tag = put_record(connection, keys, &record, row.generation)?;
            records.add(&keys.term(&tag));
        }
    }
    let root = Integrity { records, ..old }.root(keys);
    connection.execute("UPDATE store SET root = ?1 WHERE id = 1", [&root])?;
    Ok(())
}

fn put_record(
    connection: &Connection,
    keys: &Keys,
    record: &Record,
    generation: u64,
) -> Result<Tag, OpenError> {
    let key = record.key();
    let name = key.to_string();
    let value = record.to_text().map_err(|error| StoreError::Unavailable {
        reason: error.to_string(),
    })?;
    let tag = keys.tag(key.kind(), &name, generation, &value);
    connection.execute(
        "INSERT OR REPLACE INTO record (kind, name, generation, value, tag) VALUES (?1, ?2, ?3, ?4, ?5)",
        (
            key.kind().as_str(),
            &name,
            generation.cast_signed(),
            &value,
            &tag,
        ),
    )?;
    Ok(tag)
}

fn sum_of_records(view: &dyn View, keys: &Keys) -> Result<Sum, OpenError> {
    let mut sum = Sum::EMPTY;
    view.each_record(|row| -> Result<(), OpenError> {
        let (_, tag) = row.verified(keys)?;
        sum.add(&keys.term(&tag));
        Ok(())
    })?;
    Ok(sum)
}

/// The sums over the tree as it was and as it is.
fn move_lineage(connection: &Connection, keys: &Keys) -> Result<(Sum, Sum), OpenError> {
    let (mut before, mut after) = (Sum::EMPTY, Sum::EMPTY);
    let mut select = connection.prepare(
        "SELECT node.digest, parent.digest, node.stage, node.owner, node.opened_by, \
         node.opened_by_signing, node.host, node.first_seen, node.last_seen, node.tag, node.id, \
         node.parent FROM lineage_of_version_3 AS node \
         LEFT JOIN lineage_of_version_3 AS parent ON parent.id = node.parent ORDER BY node.id",
    )?;
    let mut insert = connection.prepare(
        "INSERT INTO lineage (digest, parent, stage, owner, opened_by, opened_by_signing, host, \
         first_seen, last_seen, tag) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?;
    let mut rows = select.query(())?;
    while let Some(row) = rows.next()? {
        let (node, tag) = OldNode::read(row, keys)?;
        before.add(&keys.term(&tag));
        let tag = node.tag(keys);
        after.add(&keys.term(&tag));
        insert.execute((
            node.digest.as_bytes(),
            node.parent.as_ref().map(Digest::as_bytes),
            node.stage as u8,
            node.owner.as_bytes(),
            node.opened_by.map(|opener| *opener.encryption.as_bytes()),
            node.opened_by.and_then(|opener| opener.signing_octets()),
            &node.host,
            node.first_seen.unix(),
            node.last_seen.unix(),
            &tag,
        ))?;
    }
    Ok((before, after))
}

/// A node as versions 1 to 3 had it: named by a number, and its tag over that.
struct OldNode {
    id: i64,
    parent: i64,
    node: Node,
}

impl OldNode {
    fn read(row: &Row<'_>, keys: &Keys) -> Result<(Node, Tag), OpenError> {
        let changed = || {
            let digest = row.get::<_, Vec<u8>>(0).unwrap_or_default();
            Tampered::new(
                "lineage",
                hgs_crypto::hex::encode(&digest),
                Finding::Changed,
            )
        };
        let (old, tag) = Self::read_unchecked(row)
            .ok()
            .flatten()
            .ok_or_else(changed)?;
        let node = &old.node;
        let parts: [&[u8]; 9] = [
            &old.id.to_be_bytes(),
            node.digest.as_bytes(),
            &old.parent.to_be_bytes(),
            &[node.stage as u8],
            node.owner.as_bytes(),
            &Opener::octets(node.opened_by.as_ref()),
            node.host.as_bytes(),
            &node.first_seen.unix().to_be_bytes(),
            &node.last_seen.unix().to_be_bytes(),
        ];
        keys.lineage.verify(parts, &tag).map_err(|_| changed())?;
        Ok((old.node, tag))
    }

    fn read_unchecked(row: &Row<'_>) -> Result<Option<(Self, Tag)>, rusqlite::Error> {
        let Some(stage) = Stage::from_number(row.get(2)?) else {
            return Ok(None);
        };
        let signing: Option<[u8; 32]> = row.get(5)?;
        let old = Self {
            id: row.get(10)?,
            parent: row.get::<_, Option<_>>(11)?.unwrap_or(0),
            node: Node {
                digest: Digest::from_bytes(row.get(0)?),
                parent: row.get::<_, Option<_>>(1)?.map(Digest::from_bytes),
                stage,
                owner: Thumbprint::from_bytes(row.get(3)?),
                opened_by: row.get::<_, Option<_>>(4)?.map(|encryption| Opener {
                    encryption: Thumbprint::from_bytes(encryption),
                    signing: signing.map(Thumbprint::from_bytes),
                }),
                host: row.get(6)?,
                first_seen: Time::from_unix(row.get(7)?),
                last_seen: Time::from_unix(row.get(8)?),
            },
        };
        Ok(Some((old, row.get(9)?)))
    }
}

/// Checks the log, and writes down under what each record is found.
fn index_audit(connection: &Connection, keys: &Keys) -> Result<Head, OpenError> {
    let view: &dyn View = connection;
    let mut found_under =
        connection.prepare("INSERT INTO audit_filter (term, sequence) VALUES (?1, ?2)")?;
    let mut on_day = connection.prepare(
        "INSERT INTO audit_day (day, first, last) VALUES (?1, ?2, ?2) \
         ON CONFLICT (day) DO UPDATE SET last = excluded.last",
    )?;
    audit::verify_after(
        Head::EMPTY,
        view,
        &keys.audit,
        |row| -> Result<(), OpenError> {
            let record = audit::read(&row)?;
            let sequence = row.sequence.cast_signed();
            for term in terms(&record.entry) {
                found_under.execute((term.0, sequence))?;
            }
            on_day.execute((day(record.entry.time), sequence))?;
            Ok(())
        },
    )
}
