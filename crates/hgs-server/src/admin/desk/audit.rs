//! Questions about the audit log.

use std::str::FromStr;

use hgs_store::{Action, AuditFilter, Digest, Lineage, Outcome};
use serde::de::DeserializeOwned;

use super::super::AdminError;
use super::super::types::AuditQuery;

/// What the store is asked for.
pub(super) fn filter(query: &AuditQuery) -> Result<AuditFilter, AdminError> {
    Ok(AuditFilter {
        since: parsed(query.since.as_deref())?,
        until: parsed(query.until.as_deref())?,
        before_sequence: query.before,
        host: query.host.clone(),
        action: named::<Action>("action", query.action.as_deref())?,
        outcome: named::<Outcome>("outcome", query.outcome.as_deref())?,
        protector: parsed::<Digest>(query.protector.as_deref())?,
        lineage: parsed::<Lineage>(query.lineage.as_deref())?,
    })
}

fn parsed<T: FromStr<Err: ToString>>(text: Option<&str>) -> Result<Option<T>, AdminError> {
    text.map(str::parse)
        .transpose()
        .map_err(AdminError::invalid)
}

/// A value of an enumeration by its name in audit records.
fn named<T: DeserializeOwned>(key: &str, name: Option<&str>) -> Result<Option<T>, AdminError> {
    let value = name
        .map(|name| serde_json::from_value(name.into()))
        .transpose();
    value.map_err(|_| AdminError::invalid(format_args!("there is no {key} of this name")))
}
