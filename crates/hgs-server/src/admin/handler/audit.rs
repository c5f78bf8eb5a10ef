//! Questions about the audit log.

use std::str::FromStr;

use hgs_admin::AdminError;
use hgs_admin::types::{AuditQuery, AuditRecord};
use hgs_kps::Lineage;
use hgs_store::{Action, Archive, AuditFilter, Digest, Outcome};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::super::views;

/// The newest records in `archives`, which are in their order, that match; newest first.
///
/// # Errors
/// When `query` asks for something that there is not.
pub fn archived_records(
    archives: &[Archive],
    query: &AuditQuery,
) -> Result<Vec<AuditRecord>, AdminError> {
    let filter = filter(query)?;
    let newest_first = archives.iter().flat_map(Archive::records).rev();
    let wanted = newest_first.filter(|record| filter.matches(record));
    let wanted = wanted.take(query.limit.unwrap_or(100));
    Ok(wanted.cloned().map(views::audit_record).collect())
}

/// What the store is asked for.
pub(super) fn filter(query: &AuditQuery) -> Result<AuditFilter, AdminError> {
    Ok(AuditFilter {
        since: parsed(query.since.as_deref())?,
        until: parsed(query.until.as_deref())?,
        before_sequence: query.before,
        host: query.host.clone(),
        action: named::<Action>("action", query.action.as_ref())?,
        outcome: named::<Outcome>("outcome", query.outcome.as_ref())?,
        protector: parsed::<Digest>(query.protector.as_deref())?,
        lineage: parsed::<Lineage>(query.lineage.as_deref())?,
    })
}

fn parsed<T: FromStr<Err: ToString>>(text: Option<&str>) -> Result<Option<T>, AdminError> {
    text.map(str::parse)
        .transpose()
        .map_err(AdminError::invalid)
}

/// The store's value with the name that the API's value has.
fn named<T: DeserializeOwned>(
    key: &str,
    value: Option<&impl Serialize>,
) -> Result<Option<T>, AdminError> {
    let Some(value) = value else { return Ok(None) };
    let value = serde_json::to_value(value).and_then(serde_json::from_value);
    value
        .map(Some)
        .map_err(|_| AdminError::invalid(format_args!("there is no {key} of this name")))
}
