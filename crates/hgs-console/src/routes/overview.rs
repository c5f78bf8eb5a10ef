//! The first screen, and the act that tries a release.

use hgs_admin::types::{Action, AuditQuery, DigestPageQuery, MAX_PAGE, NamedAction, Outcome};
use hgs_admin::{Administration as _, OPERATIONS};

use super::{Asked, Route, Serves};
use crate::acts::overview as acts;
use crate::views::last_hour::{self, Bars, LastHour, SPAN};
use crate::views::overview::{self, Beside};

pub(crate) static OVERVIEW: Route = Route {
    name: "overview",
    path: "/",
    menu: Some("Overview"),
    operations: &[&OPERATIONS.status],
    serves: Serves::Screen(|asked| {
        let status = asked.administration.status()?;
        Ok(overview::page(
            &status,
            &beside(asked),
            asked.viewer,
            asked.now,
        ))
    }),
};

pub(crate) static TRY_RELEASE: Route = Route {
    name: "try-release",
    path: "/trace/roll",
    menu: None,
    operations: &[&OPERATIONS.synthetic_roll],
    serves: Serves::Act(acts::TRY_RELEASE),
};

/// What there is, and what the viewer may see.
fn beside(asked: &Asked<'_>) -> Beside {
    let settings = asked.administration.server().ok();
    let everything = DigestPageQuery::default();
    Beside {
        cluster: asked.administration.cluster().ok(),
        last_hour: last_hour(asked),
        backup: newest_backup(asked),
        certificates: asked.administration.certificates(&everything).ok(),
        rekey_window_until: settings.and_then(|settings| settings.rekey_window_until),
    }
}

fn last_hour(asked: &Asked<'_>) -> Option<LastHour> {
    let since = asked.now.checked_sub(SPAN)?;
    let of_hour = |outcome, action| {
        let query = AuditQuery {
            limit: Some(MAX_PAGE),
            since: Some(since.to_string()),
            outcome: Some(outcome),
            action,
            ..AuditQuery::default()
        };
        asked.administration.audit(&query).ok()
    };
    let released = of_hour(Outcome::Done, Some(NamedAction::Known(Action::Release)))?;
    let mut refused = of_hour(Outcome::Refused, None)?;
    let is_cut = refused.len() == MAX_PAGE;
    refused.retain(last_hour::is_of_host);
    Some(LastHour {
        released: Bars::of(&released, released.len() == MAX_PAGE, asked.now),
        refused: Bars::of(&refused, is_cut, asked.now),
    })
}

fn newest_backup(asked: &Asked<'_>) -> Option<Option<String>> {
    let query = AuditQuery {
        limit: Some(1),
        action: Some(NamedAction::Known(Action::ExportState)),
        ..AuditQuery::default()
    };
    let found = asked.administration.audit(&query).ok()?;
    Some(found.into_iter().next().map(|record| record.time))
}
