//! The audit log: what was decided and changed, and by whom.

use hgs_admin::AdminError;
use hgs_admin::types::{AuditQuery, AuditRecord, NamedAction, Outcome, RequestId, Standing};
use hgs_pki::Time;
use maud::{Markup, html};
use serde::{Deserialize, Serialize};

use crate::elements::{
    Condition, Field, button_link, choice, condition, digest, facts, failure, in_short, link,
    or_none, search, table, text, time, word,
};
use crate::given;
use crate::routes::HOST;
use crate::routes::log::{DOWNLOAD_LOG, LOG, RECORD};
use crate::routes::machines::MACHINE;
use crate::{Page, Path, Viewer};

/// Records on one page.
pub(crate) const PAGE: usize = 100;

/// What is searched for, as it was entered. An empty field lets all pass.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Filters {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) host: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) action: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) outcome: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) since: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) until: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) protector: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) lineage: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) request: String,
    /// The number of the last record of the page before.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) before: String,
}

impl Filters {
    /// What the guardian is asked for.
    pub(crate) fn query(&self) -> Result<AuditQuery, AdminError> {
        let action = given(&self.action).map(|name| match name.parse() {
            Ok(action) => NamedAction::Known(action),
            Err(_) => NamedAction::Other(name),
        });
        let outcome = given(&self.outcome).map(|name| name.parse::<Outcome>());
        let before = given(&self.before).map(|number| number.parse());
        let request = given(&self.request).map(|id| id.parse::<RequestId>());
        Ok(AuditQuery {
            limit: None,
            before: before.transpose().map_err(AdminError::invalid)?,
            since: given(&self.since).map(at_midnight),
            until: given(&self.until).map(at_midnight),
            host: given(&self.host),
            action,
            outcome: outcome.transpose().map_err(AdminError::invalid)?,
            protector: given(&self.protector),
            lineage: given(&self.lineage),
            request: request.transpose().map_err(AdminError::invalid)?,
        })
    }
}

/// A day is the time at which it begins.
fn at_midnight(text: String) -> String {
    match text.contains(['T', 't']) {
        true => text,
        false => format!("{text}T00:00:00Z"),
    }
}

pub(crate) fn list(
    records: &[AuditRecord],
    filters: &Filters,
    error: Option<&AdminError>,
    viewer: &Viewer,
    now: Time,
) -> Page {
    let rows: Vec<_> = records
        .iter()
        .map(|record| row(record, viewer, now))
        .collect();
    let headings = ["Record", "When", "What", "Outcome", "Host", "Who asked"];
    let body = html! {
        (search_form(filters))
        @if let Some(error) = error {
            (failure("Nothing was searched", error))
        } @else if records.is_empty() {
            p { "No record is like this." }
            @if *filters != Filters::default() { p { (link(Some(&LOG.fixed_path()), "All records")) } }
        } @else {
            (table("Records, the newest first", &headings, &rows))
            (onwards(records, filters))
        }
    };
    let page = Page::new("Log", body);
    // Somebody who reads older records is not disturbed by new ones.
    match filters.before.is_empty() {
        true => page.live(),
        false => page,
    }
}

fn onwards(records: &[AuditRecord], filters: &Filters) -> Markup {
    let older = records.last().filter(|_| records.len() == PAGE);
    let older = older.map(|last| {
        let next = Filters {
            before: last.sequence.to_string(),
            ..filters.clone()
        };
        LOG.fixed_path().with_query(&next)
    });
    let all = Filters {
        before: String::new(),
        ..filters.clone()
    };
    html! {
        @if let Some(older) = &older { p { (link(Some(older), "Older records")) } }
        p.buttons { (button_link(&DOWNLOAD_LOG.fixed_path().with_query(&all), "Download what was found")) }
        p.help {
            "One record in JSON on each line, the oldest first, of the newest 10,000 that were found. For more, narrow the times, or use "
            code { "hgs audit list --json" } "."
        }
    }
}

fn search_form(filters: &Filters) -> Markup {
    let field = |name, label, help, value| Field::new(name, label, help).value(value).line();
    let outcomes = [("", "any"), ("done", "done"), ("refused", "refused")];
    let fields = html! {
        div.filters {
            (field("host", "Host", "Its name or id", &filters.host))
            (field("action", "Action", "Such as release, attest or revoke-host", &filters.action))
            (choice("outcome", "Outcome", &filters.outcome, &outcomes))
            (field("since", "From", "Such as 2030-01-31 or 2030-01-31T09:30:00Z", &filters.since))
            (field("until", "To before", "A day or a time, too", &filters.until))
            (field("protector", "Protector", "SHA-256 of it: 64 digits", &filters.protector))
            (field("lineage", "Lineage", "fabric, or tenant: and the tenant's label", &filters.lineage))
            (field("request", "Request", "Its id, as the host shows it: such as 5f0c3a91-1742", &filters.request))
        }
    };
    search(&LOG.fixed_path(), "Search", &fields)
}

fn row(record: &AuditRecord, viewer: &Viewer, now: Time) -> Vec<Markup> {
    let path = RECORD.path_of(&record.sequence.to_string());
    vec![
        link(path.as_ref(), &record.sequence.to_string()),
        time(&record.time, now),
        word(&record.action),
        html! {
            (outcome(record))
            @if let Some(count) = record.count { " " (count) " times" }
            @if let Some(reason) = &record.reason { " " (in_short(reason)) }
        },
        host(record, viewer),
        text(&record.actor),
    ]
}

fn outcome(record: &AuditRecord) -> Markup {
    let how = match record.outcome {
        Outcome::Done => Condition::Good,
        Outcome::Refused => Condition::Bad,
    };
    html! { (condition(how, &record.outcome.to_string())) }
}

pub(crate) fn host(record: &AuditRecord, viewer: &Viewer) -> Markup {
    let name = record.host_name.as_deref();
    match name.or(record.host.as_deref()) {
        Some(shown) => link(
            name.and_then(|name| HOST.path_for(viewer, name)).as_ref(),
            shown,
        ),
        None => html! {},
    }
}

/// Whether a protector came back that was not the newest of its line.
pub(crate) fn is_of_older(record: &AuditRecord) -> bool {
    matches!(
        record.standing,
        Some(Standing::Sibling | Standing::Ancestor)
    )
}

/// Where a protector stood, in words.
pub(crate) fn standing(standing: Standing) -> Markup {
    let (how, said) = match standing {
        Standing::New => (Condition::Neutral, "first seen then"),
        Standing::Head => (Condition::Good, "the newest of its line"),
        Standing::Sibling => (
            Condition::Attention,
            "a second child: the VM may have been copied",
        ),
        Standing::Ancestor => (
            Condition::Attention,
            "an older one came back: the VM was rolled back, or copied",
        ),
    };
    condition(how, said)
}

pub(crate) fn one(record: &AuditRecord, viewer: &Viewer, now: Time) -> Page {
    let body = html! {
        (facts([
            ("When", time(&record.time, now)),
            ("What", text(&record.action)),
            ("Outcome", html! { (outcome(record)) @if let Some(reason) = &record.reason { " " (reason) } }),
            ("Who asked", text(&record.actor)),
            ("By request", by_request(record)),
            ("Node", text(&record.node)),
            ("Generation of the state after it", text(record.generation)),
        ]))
        @if record.count.is_some() || record.host.is_some() || record.policy.is_some() {
            section aria-labelledby="host" {
                h2 id="host" { "Host" }
                (facts([
                    ("Host", host(record, viewer)),
                    ("Id", or_none(record.host.as_deref())),
                    ("Serial number of its health certificate", or_none(record.serial.as_deref())),
                    ("Policy digest", digests(record.policy.as_deref())),
                    ("Equal events in this record", text(record.count.unwrap_or(1))),
                ]))
                @if let Some(host) = record.host_name.as_deref().or(record.host.as_deref()) {
                    p { (link(Some(&about_host(host)), "All records about this host")) }
                }
            }
        }
        @if let Some(protector) = &record.protector { (keys(record, protector, viewer, now)) }
        @if !record.changes.is_empty() || record.before.is_some() || record.after.is_some() { (change(record)) }
    };
    Page::new(format!("Record {}", record.sequence), body)
}

/// The id of the request, which leads to all that it led to.
fn by_request(record: &AuditRecord) -> Markup {
    let Some(request) = record.request else {
        return or_none(None);
    };
    let filters = Filters {
        request: request.to_string(),
        ..Filters::default()
    };
    let about = LOG.fixed_path().with_query(&filters);
    link(Some(&about), &request.to_string())
}

/// The records about a host.
pub(crate) fn about_host(host: &str) -> Path {
    let filters = Filters {
        host: host.to_owned(),
        ..Filters::default()
    };
    LOG.fixed_path().with_query(&filters)
}

fn keys(record: &AuditRecord, protector: &str, viewer: &Viewer, now: Time) -> Markup {
    let filters = Filters {
        protector: protector.to_owned(),
        ..Filters::default()
    };
    let about = LOG.fixed_path().with_query(&filters);
    let machine = MACHINE.path_for(viewer, protector);
    html! {
        section aria-labelledby="protector" {
            h2 id="protector" { "Protector" }
            (facts([
                ("Came in", digest(protector)),
                ("Went out", digests(record.egress_protector.as_deref())),
                ("Standing", html! { @match record.standing { Some(found) => (standing(found)), None => span.none { "none" } } }),
                ("Owner", digests(record.owner.as_deref())),
                ("Opened by", digests(record.guardian.as_deref())),
                ("Lineage", or_none(record.lineage.as_deref())),
                ("While the guardian is away", html! {
                    @match &record.offline_use {
                        Some(offline) => { (offline.unwraps) " times, until " (time(&offline.until, now)) }
                        None => span.none { "nothing" },
                    }
                }),
            ]))
            p {
                (link(Some(&about), "All records about this protector"))
                @if let Some(machine) = &machine { ", " (link(Some(machine), "The machine that it belongs to")) }
            }
        }
    }
}

fn change(record: &AuditRecord) -> Markup {
    let shown = |value: &serde_json::Value| serde_json::to_string_pretty(value).unwrap_or_default();
    html! {
        section aria-labelledby="change" {
            h2 id="change" { "What was changed" }
            @if !record.changes.is_empty() { ul { @for name in &record.changes { li { code { (name) } } } } }
            @if let Some(before) = &record.before { h3 { "Before" } pre tabindex="0" { (shown(before)) } }
            @if let Some(after) = &record.after { h3 { "After" } pre tabindex="0" { (shown(after)) } }
        }
    }
}

fn digests(text: Option<&str>) -> Markup {
    match text {
        Some(text) => digest(text),
        None => or_none(None),
    }
}
