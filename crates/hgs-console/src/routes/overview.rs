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

fn of_last_hour(
    asked: &Asked<'_>,
    outcome: Outcome,
    action: Option<NamedAction>,
) -> Option<Newest> {
    let query = AuditQuery {
        outcome: Some(outcome),
        action,
        ..AuditQuery::default()
    };
    let read = |query: &AuditQuery| asked.administration.audit(query).ok();
    Newest::since(asked.now.checked_sub(SPAN)?, query, read)
}

impl Newest {
    /// The page is shown anew whenever something happens, so as few records are read as an hour has. A filter by time would
    /// have all records of the day read.
    fn since(
        since: Time,
        mut query: AuditQuery,
        read: impl Fn(&AuditQuery) -> Option<Vec<AuditRecord>>,
    ) -> Option<Self> {
        let is_older =
            |record: &AuditRecord| record.time.parse().is_ok_and(|time: Time| time < since);
        let mut newest = Self {
            records: Vec::new(),
            is_cut: false,
        };
        query.limit = Some(READ_AT_ONCE);
        while newest.records.len() < MAX_PAGE {
            let page = read(&query)?;
            let is_last = page.len() < READ_AT_ONCE || page.last().is_some_and(is_older);
            query.before = page.last().map(|last| last.sequence);
            newest.records.extend(page);
            if is_last {
                return Some(newest);
            }
        }
        newest.is_cut = true;
        Some(newest)
    }
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use hgs_pki::Seconds;

    use super::*;

    const NOW: Time = Time::from_unix(1_800_000_000);

    /// What is read of a log with `count` records, one in each so many seconds: how many records, whether there are more of
    /// the hour, and how often the log was asked.
    fn read(count: u64, seconds: u64) -> (usize, bool, usize) {
        let asked = Cell::new(0);
        let log = |query: &AuditQuery| {
            asked.set(asked.get() + 1);
            let before = query.before.unwrap_or(count + 1);
            let records = (1..before).rev().take(query.limit?).map(|sequence| {
                let time = NOW.checked_sub(Seconds::new((count - sequence) * seconds))?;
                let record = serde_json::json!({
                    "sequence": sequence, "time": time.to_string(), "node": "n", "actor": "host x", "action": "release",
                    "outcome": "done", "generation": 1, "changes": [],
                });
                Some(serde_json::from_value(record).unwrap())
            });
            records.collect()
        };
        let since = NOW.checked_sub(SPAN).unwrap();
        let found = Newest::since(since, AuditQuery::default(), log).unwrap();
        (found.records.len(), found.is_cut, asked.get())
    }

    #[test]
    fn the_log_is_read_to_an_hour_ago_and_not_further() {
        assert_eq!(read(5000, 60), (100, false, 1));
        assert_eq!(read(5000, 10), (400, false, 4));
        assert_eq!(read(5000, 1), (MAX_PAGE, true, 10));
        assert_eq!(read(30, 1), (30, false, 1));
        assert_eq!(read(0, 1), (0, false, 1));
    }
}
