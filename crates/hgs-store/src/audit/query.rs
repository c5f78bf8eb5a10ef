//! Reading the audit log; every record is checked again when it is read.
//!
//! Each filter that is offered has an index: a record is found under the [`FilterTerm`]s of its
//! request, host, protectors, lineage, action and outcome, and the engine knows between which numbers the
//! records of each day lie. Records that an index leads to are checked as all others. That an index
//! leads to all of them is only as sure as the database; reading without a filter finds out
//! whether a record is missing.

use std::ops::Range;

use hgs_custody::seal::Authenticator;
use hgs_pki::Time;

use super::{Action, AuditEntry, AuditRecord, Boundary, Outcome, RequestId, read, tampered};
use crate::audit_head::Head;
use crate::audit_term::{FilterTerm, day};
use crate::engine::{AuditRow, View};
use crate::model::Digest;
use crate::{Finding, StoreError};
use hgs_kps::Lineage;

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
    /// What this request led to.
    pub request: Option<RequestId>,
}

/// Under what a record is found.
pub(crate) fn terms(entry: &AuditEntry) -> Vec<FilterTerm> {
    let protectors = [&entry.protector, &entry.egress_protector];
    let hosts = [&entry.host, &entry.host_name];
    let mut terms = vec![
        FilterTerm::of("action", &entry.action),
        FilterTerm::of("outcome", &entry.outcome),
    ];
    let protectors = protectors.into_iter().flatten();
    terms.extend(protectors.map(|digest| FilterTerm::of("protector", digest)));
    let hosts = hosts.into_iter().flatten();
    terms.extend(hosts.map(|name| FilterTerm::of_host(name)));
    let lineage = entry.lineage.iter();
    terms.extend(lineage.map(|lineage| FilterTerm::of("lineage", lineage)));
    let request = entry.request.iter();
    terms.extend(request.map(|request| FilterTerm::of("request", request)));
    terms.sort_unstable();
    terms.dedup();
    terms
}

impl AuditFilter {
    /// What the wanted records are found under; of several the one that fewest others share.
    fn term(&self) -> Option<FilterTerm> {
        let request = self.request.as_ref();
        let request = request.map(|request| FilterTerm::of("request", request));
        let protector = self.protector.as_ref();
        let protector = protector.map(|digest| FilterTerm::of("protector", digest));
        let host = self.host.as_ref().map(|name| FilterTerm::of_host(name));
        let lineage = self.lineage.as_ref();
        let lineage = lineage.map(|lineage| FilterTerm::of("lineage", lineage));
        let action = self.action.map(|action| FilterTerm::of("action", &action));
        let outcome = self
            .outcome
            .map(|outcome| FilterTerm::of("outcome", &outcome));
        // Refusals and administrative acts are few among releases and attestations.
        let rare_first = match self.outcome {
            Some(Outcome::Refused) => [request, protector, host, outcome, action, lineage],
            _ => [request, protector, host, action, lineage, outcome],
        };
        rare_first.into_iter().flatten().next()
    }

    /// Between which numbers the wanted records lie.
    fn within(&self, view: &dyn View) -> Result<Range<u64>, StoreError> {
        let end = self.before_sequence.unwrap_or(u64::MAX >> 1);
        if self.since.is_none() && self.until.is_none() {
            return Ok(0..end);
        }
        let days = view.audit_within_days(self.since.map(day), self.until.map(day))?;
        Ok(days.start..days.end.min(end))
    }

    /// Whether a record is wanted.
    #[must_use]
    pub fn matches(&self, record: &AuditRecord) -> bool {
        fn agrees<T: PartialEq>(wanted: Option<&T>, found: Option<&T>) -> bool {
            wanted.is_none_or(|wanted| found == Some(wanted))
        }
        let entry = &record.entry;
        self.before_sequence
            .is_none_or(|before| record.sequence < before)
            && self.since.is_none_or(|since| entry.time >= since)
            && self.until.is_none_or(|until| entry.time < until)
            && agrees(self.action.as_ref(), Some(&entry.action))
            && agrees(self.outcome.as_ref(), Some(&entry.outcome))
            && agrees(self.lineage.as_ref(), entry.lineage.as_ref())
            && agrees(self.request.as_ref(), entry.request.as_ref())
            && (agrees(self.protector.as_ref(), entry.protector.as_ref())
                || agrees(self.protector.as_ref(), entry.egress_protector.as_ref()))
            && self.matches_host(record)
    }

    fn matches_host(&self, record: &AuditRecord) -> bool {
        self.host.as_ref().is_none_or(|wanted| {
            let mut called = [&record.entry.host, &record.entry.host_name]
                .into_iter()
                .flatten();
            called.any(|name| name.eq_ignore_ascii_case(wanted))
        })
    }
}

/// The newest `limit` records that match, newest first.
pub(crate) fn list(
    view: &dyn View,
    authenticator: &Authenticator,
    filter: &AuditFilter,
    limit: usize,
) -> Result<Vec<AuditRecord>, StoreError> {
    let (term, mut within) = (filter.term(), filter.within(view)?);
    let mut found = Vec::new();
    loop {
        let rows = view.audit_newest(term, within.clone(), PAGE)?;
        let Some(last) = rows.last() else {
            return Ok(found);
        };
        within.end = last.sequence;
        for (place, row) in rows.iter().enumerate() {
            if found.len() == limit {
                return Ok(found);
            }
            let record = check(view, authenticator, row, rows.get(place + 1))?;
            if filter.matches(&record) {
                found.push(record);
            }
        }
    }
}

/// What comes after a record of the log.
#[derive(Debug, Clone, PartialEq)]
pub enum LaterRecords {
    /// The records that follow, in their order; none where it is the newest, or where the log ends before it.
    Records(Vec<AuditRecord>),
    /// Some of them have left the database for an archive; this is the first that is there.
    Archived {
        /// Its number.
        first: u64,
    },
}

/// At most `limit` records after the one with the number `sequence`, in their order.
pub(crate) fn after(
    view: &dyn View,
    authenticator: &Authenticator,
    sequence: u64,
    limit: usize,
) -> Result<LaterRecords, StoreError> {
    let left = Boundary::of(view, authenticator)?.left.sequence;
    if sequence < left {
        return Ok(LaterRecords::Archived { first: left + 1 });
    }
    let rows = view.audit_after(sequence, limit)?;
    let mut older = None;
    let mut records = Vec::with_capacity(rows.len());
    for row in &rows {
        let expected = older.map_or(sequence, |older: &AuditRow| older.sequence) + 1;
        if row.sequence != expected {
            return Err(tampered(expected, Finding::Missing).into());
        }
        records.push(check(view, authenticator, row, older)?);
        older = Some(row);
    }
    Ok(LaterRecords::Records(records))
}

/// Records that are read at one time.
const PAGE: usize = 256;

/// The record with this number.
pub(crate) fn show(
    view: &dyn View,
    authenticator: &Authenticator,
    sequence: u64,
) -> Result<Option<AuditRecord>, StoreError> {
    let row = view.audit_row(sequence)?;
    row.map(|row| check(view, authenticator, &row, None))
        .transpose()
}

/// Checks `row` against the record before it, which may be `older`.
fn check(
    view: &dyn View,
    authenticator: &Authenticator,
    row: &AuditRow,
    older: Option<&AuditRow>,
) -> Result<AuditRecord, StoreError> {
    let before = row.sequence.saturating_sub(1);
    let fetched;
    let older = match older.filter(|older| older.sequence == before) {
        Some(older) => Some(older),
        None => {
            fetched = view.audit_row(before)?;
            fetched.as_ref()
        }
    };
    let head = match older {
        None => {
            let boundary = Boundary::of(view, authenticator)?.left;
            if boundary.sequence != before {
                return Err(tampered(before, Finding::Missing).into());
            }
            boundary
        }
        Some(older) => Head {
            sequence: before,
            tag: older.tag[..]
                .try_into()
                .map_err(|_| tampered(before, Finding::Changed))?,
        },
    };
    head.verified_next(authenticator, row)?;
    Ok(read(row)?)
}
