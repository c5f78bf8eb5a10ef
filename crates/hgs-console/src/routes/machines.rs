//! Screens about machines: the shielded VMs, as the guardian knows them.

use std::collections::BTreeMap;

use hgs_admin::types::{
    Action, AuditQuery, AuditRecord, MAX_PAGE, NamedAction, Outcome, ProtectorLineage,
    ProtectorQuery,
};
use hgs_admin::{AdminError, Administration as _, OPERATIONS};

use super::{Asked, Route, Serves};
use crate::given;
use crate::views::log;
use crate::views::machines::{self, PAGE, RECORDED, Wanted};

pub(crate) static MACHINES: Route = Route {
    name: "machines",
    path: "/protectors",
    menu: Some("Machines"),
    operations: &[&OPERATIONS.protectors, &OPERATIONS.audit],
    serves: Serves::Screen(|asked| {
        let wanted: Wanted = asked.query()?;
        let query = ProtectorQuery {
            limit: Some(PAGE),
            until: given(&wanted.until),
            after: given(&wanted.after),
            host: given(&wanted.host),
        };
        let found = asked.administration.protectors(&query)?;
        let unusual = match wanted == Wanted::default() {
            true => unusual_of_late(asked)?,
            false => Vec::new(),
        };
        Ok(machines::list(
            &found,
            &wanted,
            &unusual,
            asked.viewer,
            asked.now,
        ))
    }),
};

pub(crate) static MACHINE: Route = Route {
    name: "machine",
    path: "/protectors/{protector}",
    menu: None,
    operations: &[&OPERATIONS.protector, &OPERATIONS.audit],
    serves: Serves::Screen(|asked| {
        let protector = asked.segment.parse()?;
        let line = asked.administration.protector(&protector)?;
        let records = records_of(asked, &line)?;
        Ok(machines::one(&line, &records, asked.viewer, asked.now))
    }),
};

/// Those of the newest releases whose protector was not the newest of its line.
fn unusual_of_late(asked: &Asked<'_>) -> Result<Vec<AuditRecord>, AdminError> {
    let query = AuditQuery {
        limit: Some(MAX_PAGE),
        action: Some(NamedAction::Known(Action::Release)),
        ..AuditQuery::default()
    };
    let newest = asked.administration.audit(&query)?;
    Ok(newest.into_iter().filter(log::is_of_older).collect())
}

/// What is recorded about the newest protectors of a line, the newest first, each record once.
fn records_of(asked: &Asked<'_>, line: &ProtectorLineage) -> Result<Vec<AuditRecord>, AdminError> {
    let mut records = BTreeMap::new();
    let protectors = std::iter::once(&line.protector).chain(&line.ancestors);
    for protector in protectors.take(RECORDED) {
        let query = AuditQuery {
            limit: Some(PAGE),
            protector: Some(protector.protector.clone()),
            outcome: Some(Outcome::Done),
            ..AuditQuery::default()
        };
        let found = asked.administration.audit(&query)?;
        records.extend(found.into_iter().map(|record| (record.sequence, record)));
    }
    Ok(records.into_values().rev().collect())
}
