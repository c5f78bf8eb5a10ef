//! Screens about the audit log.

use hgs_admin::types::{AuditRecord, MAX_PAGE};
use hgs_admin::{AdminError, Administration as _, ErrorCode, OPERATIONS};

use super::{Asked, Download, Route, Serves};
use crate::views::log::{self, Filters, PAGE};

/// Records in one download at most.
const MAX_DOWNLOADED: usize = 10 * MAX_PAGE;

pub(crate) static LOG: Route = Route {
    name: "log",
    path: "/audit",
    menu: Some("Log"),
    operations: &[&OPERATIONS.audit],
    serves: Serves::Screen(|asked| {
        let filters: Filters = asked.query()?;
        // What was typed wrongly is shown again, to be corrected.
        let (found, error) = match records(asked, &filters, PAGE) {
            Err(error) if error.code == ErrorCode::InvalidRequest => (Vec::new(), Some(error)),
            found => (found?, None),
        };
        let page = log::list(&found, &filters, error.as_ref(), asked.viewer, asked.now);
        Ok(page)
    }),
};

pub(crate) static RECORD: Route = Route {
    name: "record",
    path: "/audit/{sequence}",
    menu: None,
    operations: &[&OPERATIONS.audit_record],
    serves: Serves::Screen(|asked| {
        let sequence = asked.segment.parse().map_err(AdminError::invalid)?;
        let record = asked.administration.audit_record(&sequence)?;
        Ok(log::one(&record, asked.viewer, asked.now))
    }),
};

pub(crate) static DOWNLOAD_LOG: Route = Route {
    name: "download-log",
    path: "/audit-records",
    menu: None,
    operations: &[&OPERATIONS.audit],
    serves: Serves::Download(|asked| {
        let found = records(asked, &asked.query()?, MAX_DOWNLOADED)?;
        let mut lines = String::new();
        // As in archives, the oldest is the first.
        for record in found.iter().rev() {
            let line = serde_json::to_string(record);
            lines.push_str(&line.map_err(|error| AdminError::new(ErrorCode::Internal, error))?);
            lines.push('\n');
        }
        Ok(Download {
            name: "audit-records.jsonl",
            content_type: "application/jsonl",
            contents: lines,
        })
    }),
};

/// The newest records that the filters let pass, newest first.
fn records(
    asked: &Asked<'_>,
    filters: &Filters,
    limit: usize,
) -> Result<Vec<AuditRecord>, AdminError> {
    let mut query = filters.query()?;
    let mut found: Vec<AuditRecord> = Vec::new();
    while found.len() < limit {
        let wanted = MAX_PAGE.min(limit - found.len());
        query.limit = Some(wanted);
        let page = asked.administration.audit(&query)?;
        query.before = page.last().map(|last| last.sequence);
        let was_full = page.len() == wanted;
        found.extend(page);
        if !was_full {
            break;
        }
    }
    Ok(found)
}
