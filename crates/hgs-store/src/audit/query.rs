//! Reading the audit log; every record is checked again when it is read.

use hgs_custody::seal::{Authenticator, TAG_LENGTH};
use hgs_pki::Time;
use rusqlite::{Connection, Row};

use super::{Action, AuditRecord, Head, Outcome, tampered};
use crate::model::{Digest, Lineage};
use crate::{Finding, StoreError};

/// Which records are wanted; what is `None` does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Not older than this.
    pub since: Option<Time>,
    /// Older than this.
    pub until: Option<Time>,
    /// Only numbers below this, to page backwards.
    pub before_sequence: Option<u64>,
    /// About the host with this id or this name.
    pub host: Option<String>,
    /// Of this action.
    pub action: Option<Action>,
    /// Of this outcome.
    pub outcome: Option<Outcome>,
    /// About this protector, opened or given back.
    pub protector: Option<Digest>,
    /// Opened by a pair of this lineage.
    pub lineage: Option<Lineage>,
}

impl AuditFilter {
    fn matches(&self, record: &AuditRecord) -> bool {
        fn agrees<T: PartialEq>(wanted: Option<&T>, found: Option<&T>) -> bool {
            wanted.is_none_or(|wanted| found == Some(wanted))
        }
        let entry = &record.entry;
        self.since.is_none_or(|since| entry.time >= since)
            && self.until.is_none_or(|until| entry.time < until)
            && agrees(self.action.as_ref(), Some(&entry.action))
            && agrees(self.outcome.as_ref(), Some(&entry.outcome))
            && agrees(self.lineage.as_ref(), entry.lineage.as_ref())
            && (agrees(self.protector.as_ref(), entry.protector.as_ref())
                || agrees(self.protector.as_ref(), entry.egress_protector.as_ref()))
            && self.matches_host(record)
    }

    fn matches_host(&self, record: &AuditRecord) -> bool {
        self.host.as_ref().is_none_or(|wanted| {
            let called = [&record.entry.host, &record.entry.host_name];
            let mut called = called.into_iter().flatten();
            called.any(|name| name.eq_ignore_ascii_case(wanted))
        })
    }
}

/// The newest `limit` records that match, newest first.
pub(crate) fn list(
    connection: &Connection,
    authenticator: &Authenticator,
    filter: &AuditFilter,
    limit: usize,
) -> Result<Vec<AuditRecord>, StoreError> {
    let below = filter.before_sequence.unwrap_or(u64::MAX >> 1);
    let mut statement = connection.prepare_cached(
        "SELECT sequence, record, tag FROM audit WHERE sequence < ?1 ORDER BY sequence DESC",
    )?;
    let mut rows = statement.query([below.cast_signed()])?;
    let mut found = Vec::new();
    // A record is checked against the one before it, which is the next row.
    let mut newer: Option<Kept> = None;
    while found.len() < limit {
        let older = rows.next()?.map(Kept::read).transpose()?;
        let done = older.is_none();
        if let Some(kept) = std::mem::replace(&mut newer, older) {
            let record = kept.check(authenticator, newer.as_ref())?;
            if filter.matches(&record) {
                found.push(record);
            }
        }
        if done {
            break;
        }
    }
    Ok(found)
}

/// The record with this number.
pub(crate) fn show(
    connection: &Connection,
    authenticator: &Authenticator,
    sequence: u64,
) -> Result<Option<AuditRecord>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT sequence, record, tag FROM audit WHERE sequence IN (?1, ?1 - 1) \
         ORDER BY sequence DESC",
    )?;
    let mut rows = statement.query([sequence.cast_signed()])?;
    let Some(kept) = rows.next()?.map(Kept::read).transpose()? else {
        return Ok(None);
    };
    if kept.sequence != sequence {
        return Ok(None);
    }
    let older = rows.next()?.map(Kept::read).transpose()?;
    kept.check(authenticator, older.as_ref()).map(Some)
}

/// A row of the log that has not been checked yet.
struct Kept {
    sequence: u64,
    text: String,
    tag: Vec<u8>,
}

impl Kept {
    fn read(row: &Row<'_>) -> Result<Self, rusqlite::Error> {
        Ok(Self {
            sequence: row.get::<_, i64>(0)?.cast_unsigned(),
            text: row.get(1)?,
            tag: row.get(2)?,
        })
    }

    fn check(
        self,
        authenticator: &Authenticator,
        older: Option<&Self>,
    ) -> Result<AuditRecord, StoreError> {
        let head = match older {
            None => Head::EMPTY,
            Some(older) => Head {
                sequence: older.sequence,
                tag: <[u8; TAG_LENGTH]>::try_from(&older.tag[..])
                    .map_err(|_| tampered(older.sequence, Finding::Changed))?,
            },
        };
        if head.sequence + 1 != self.sequence {
            return Err(tampered(self.sequence.saturating_sub(1), Finding::Missing).into());
        }
        let changed = || tampered(self.sequence, Finding::Changed);
        head.verified_next(authenticator, &self.text, &self.tag)
            .ok_or_else(changed)?;
        Ok(serde_json::from_str(&self.text).map_err(|_| changed())?)
    }
}
