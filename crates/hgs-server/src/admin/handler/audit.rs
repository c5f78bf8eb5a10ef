//! Questions about the audit log.

use std::str::FromStr;

use hgs_admin::AdminError;
use hgs_admin::types::AuditQuery;
use hgs_kps::Lineage;
use hgs_store::{Action, AuditFilter, Digest, Outcome};
use serde::Serialize;
use serde::de::DeserializeOwned;

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
