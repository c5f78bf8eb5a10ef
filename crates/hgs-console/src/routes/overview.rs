//! The first screen, and the act that tries a release.

use hgs_admin::types::{
    Action, AuditQuery, AuditRecord, DigestPageQuery, MAX_PAGE, NamedAction, Outcome,
};
use hgs_admin::{Administration as _, OPERATIONS};
use hgs_pki::Time;

use super::{Asked, Route, Serves};
use crate::acts::overview as acts;
use crate::views::last_hour::{self, Bars, LastHour, SPAN};
use crate::views::overview::{self, Beside};

/// Records that are read at one time for a plot.
const READ_AT_ONCE: usize = 100;

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
    let release = NamedAction::Known(Action::Release);
    let released = of_last_hour(asked, Outcome::Done, Some(release))?;
    let mut refused = of_last_hour(asked, Outcome::Refused, None)?;
    refused.records.retain(last_hour::is_of_host);
    let bars = |found: &Newest| Bars::of(&found.records, found.is_cut, asked.now);
    Some(LastHour {
        released: bars(&released),
        refused: bars(&refused),
    })
}

/// The newest records of a kind, as many as it takes to get to those of an hour ago.
struct Newest {
    records: Vec<AuditRecord>,
    /// Whether there are more of this hour.
    is_cut: bool,
}

/// The page is shown anew whenever something happens, so as few records are read as an hour has. A filter by time would have
/// all records of the day read.
fn of_last_hour(
    asked: &Asked<'_>,
    outcome: Outcome,
    action: Option<NamedAction>,
) -> Option<Newest> {
    let since = asked.now.checked_sub(SPAN)?;
    let is_older = |record: &AuditRecord| record.time.parse().is_ok_and(|time: Time| time < since);
    let mut query = AuditQuery {
        limit: Some(READ_AT_ONCE),
        outcome: Some(outcome),
        action,
        ..AuditQuery::default()
    };
    let mut records = Vec::new();
    while records.len() < MAX_PAGE {
        let page = asked.administration.audit(&query).ok()?;
        let is_last = page.len() < READ_AT_ONCE || page.last().is_some_and(is_older);
        query.before = page.last().map(|last| last.sequence);
        records.extend(page);
        if is_last {
            return Some(Newest {
                records,
                is_cut: false,
            });
        }
    }
    Some(Newest {
        records,
        is_cut: true,
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
