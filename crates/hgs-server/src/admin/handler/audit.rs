//! Questions about the audit log.

use std::str::FromStr;

use hgs_admin::AdminError;
use hgs_admin::types::{Action, AuditQuery, AuditRecord, NamedAction};
use hgs_kps::Lineage;
use hgs_store::{Archive, AuditFilter, Digest};

use super::super::views;
use super::given;

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
    let wanted = newest_first
        .filter(|record| filter.matches(record))
        .take(query.limit.unwrap_or(100));
    Ok(wanted.cloned().map(views::audit_record).collect())
}

/// What the store is asked for.
pub(super) fn filter(query: &AuditQuery) -> Result<AuditFilter, AdminError> {
    Ok(AuditFilter {
        since: query.since.as_deref().map(given::time).transpose()?,
        until: query.until.as_deref().map(given::time).transpose()?,
        before_sequence: query.before,
        host: query.host.clone(),
        action: query.action.as_ref().map(known).transpose()?,
        outcome: query.outcome,
        protector: parsed::<Digest>(query.protector.as_deref())?,
        lineage: parsed::<Lineage>(query.lineage.as_deref())?,
        request: query.request,
    })
}

fn parsed<T: FromStr<Err: ToString>>(text: Option<&str>) -> Result<Option<T>, AdminError> {
    text.map(str::parse)
        .transpose()
        .map_err(AdminError::invalid)
}

fn known(action: &NamedAction) -> Result<Action, AdminError> {
    match action {
        NamedAction::Known(action) => Ok(*action),
        NamedAction::Other(name) => Err(AdminError::invalid(format_args!(
            "there is no action {name}"
        ))),
    }
}
