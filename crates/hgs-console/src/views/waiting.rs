//! Refusals that wait for somebody to decide.

use std::collections::BTreeMap;

use hgs_admin::types::{Host, Judgement};
use hgs_pki::Time;
use maud::{Markup, html};

use super::counted;
use super::hosts::Alike;
use super::judgement::differences;
use crate::elements::{Condition, act_link, condition, in_short, link, or_none, table, time};
use crate::routes::policies::POLICIES;
use crate::routes::{APPROVE_HOST, HOST};
use crate::{Page, Viewer};

/// Differences that are shown on one page.
pub(crate) const MAX_GROUPS: usize = 50;
/// Hosts of one difference that are shown.
const MAX_HOSTS: usize = 100;

/// Hosts that differ in the same way.
pub(crate) struct Group {
    pub(crate) hosts: Vec<Host>,
    /// How the last boot of the first of them is judged by what is approved now.
    pub(crate) judged: Judgement,
}

/// The hosts whose last boot was refused, those together that differ in the same way: most hosts first.
pub(crate) fn alike(hosts: Vec<Host>) -> Vec<Vec<Host>> {
    let mut groups: BTreeMap<String, Vec<Host>> = BTreeMap::new();
    for host in hosts {
        let Some(attempt) = host
            .last_attempt
            .as_ref()
            .filter(|attempt| !attempt.healthy)
        else {
            continue;
        };
        if host.revoked.is_some() || attempt.evidence_digest.is_none() {
            continue;
        }
        let difference = attempt
            .difference_digest
            .as_ref()
            .unwrap_or(&host.id)
            .clone();
        groups.entry(difference).or_default().push(host);
    }
    let mut groups: Vec<_> = groups.into_values().collect();
    groups.sort_by_key(|hosts| {
        (
            usize::MAX - hosts.len(),
            hosts.first().map(|host| host.name.clone()),
        )
    });
    groups
}

/// `beside` is how many differences there are that are not shown.
pub(crate) fn page(groups: &[Group], beside: usize, viewer: &Viewer, now: Time) -> Page {
    let body = html! {
        @if groups.is_empty() {
            p { "Nothing waits for a decision." }
            p { "When a host boots something that no baseline approves, or fails a policy, it is refused, and what differs is shown here, for all hosts that differ in the same way together." }
            p { (link(Some(&POLICIES.fixed_path()), "What hosts may boot")) }
        } @else {
            p { "These hosts were refused. If a change was meant, such as an update, approve it. If not, find out who changed the host." }
        }
        @for (index, group) in groups.iter().enumerate() { (refusal(index, group, viewer, now)) }
        @if beside > 0 { p { (counted(beside, "more difference")) ": decide on these first." } }
    };
    Page::new("Waiting for a decision", body).live()
}

fn refusal(index: usize, group: &Group, viewer: &Viewer, now: Time) -> Markup {
    let Some(first) = group.hosts.first() else {
        return html! {};
    };
    let id = format!("refusal-{index}");
    let title = match group.hosts.len() {
        1 => first.name.clone(),
        count => format!("{} and {}", first.name, counted(count - 1, "other host")),
    };
    let approve = APPROVE_HOST.path_for(viewer, &first.name);
    let approve = approve.map(|path| {
        path.with_query(&Alike {
            alike: group.hosts.len() > 1,
        })
    });
    let rows: Vec<_> = group
        .hosts
        .iter()
        .take(MAX_HOSTS)
        .map(|host| row(host, now))
        .collect();
    html! {
        section.refusal aria-labelledby=(id) {
            h2 id=(id) { (title) }
            @if group.judged.healthy {
                p { (condition(Condition::Good, "Approved")) " By what is approved now it would be healthy. It waits for its next attempt: run " code { "guarded-host attest" } " on it." }
            } @else {
                (differences(&group.judged))
                @match approve {
                    Some(path) => p.acts { (act_link(Some(&path), "Approve")) },
                    None => p { "Somebody who may approve evidence decides." },
                }
            }
            (table(&counted(group.hosts.len(), "host"), &["Host", "Refused", "Policies that failed"], &rows))
            @if group.hosts.len() > MAX_HOSTS { p { "and " (group.hosts.len() - MAX_HOSTS) " more" } }
        }
    }
}

fn row(host: &Host, now: Time) -> Vec<Markup> {
    let attempt = host.last_attempt.as_ref();
    vec![
        link(HOST.path_of(&host.name).as_ref(), &host.name),
        html! { @if let Some(attempt) = attempt { (time(&attempt.time, now)) } },
        html! {
            @if let Some(attempt) = attempt {
                @match attempt.failed_policies.is_empty() {
                    true => (or_none(attempt.reason.as_deref().map(in_short).as_deref())),
                    false => (attempt.failed_policies.join(", ")),
                }
            }
        },
    ]
}
