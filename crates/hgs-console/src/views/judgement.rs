//! How a boot was judged, and what a change would do to hosts.

use hgs_admin::types::{Difference, EventSummary, Judgement, PolicyOutcome};
use maud::{Markup, html};

use super::counted;
use crate::effect::Effect;
use crate::elements::{Condition, condition, digest, facts, in_short, link, text};
use crate::routes::HOST;

/// Where a boot differs from what is approved, event by event, and which policies failed.
pub(crate) fn differences(judged: &Judgement) -> Markup {
    let policies = judged.policies.iter();
    let failed: Vec<_> = policies
        .filter(|policy| policy.enabled && !policy.held)
        .collect();
    html! {
        @if let Some(problem) = &judged.problem { div.warning { p { (problem) "." } } }
        @if !judged.differences.is_empty() {
            p.subject { strong { "Where it differs" } @if let Some(nearest) = &judged.nearest_baseline { " from the baseline " (nearest) ", which it matches best" } }
            ul.differences { @for difference in &judged.differences { li { (event(difference)) } } }
        }
        @if !failed.is_empty() {
            p.subject { strong { "Policies that fail" } }
            ul { @for policy in failed { li { (policy.policy) @if let Some(reason) = unsaid(policy, judged) { ": " (in_short(reason)) } } } }
        }
    }
}

/// Why a policy fails, unless the differences say it already.
fn unsaid<'j>(policy: &'j PolicyOutcome, judged: &Judgement) -> Option<&'j str> {
    let reason = policy.reason.as_deref()?;
    let mut differences = judged.differences.iter();
    let is_said = differences.any(|difference| reason.contains(&difference.text));
    (!is_said).then_some(reason)
}

fn event(difference: &Difference) -> Markup {
    let place = html! {
        "PCR " (difference.pcr)
        @if let Some(event) = difference.event { ", event " (event) }
    };
    let owner = html! {
        @match (&difference.component, &difference.slot) {
            (Some(component), Some(slot)) => { (component) ", " (slot) },
            (Some(component), None) => (component),
            _ => "none",
        }
    };
    let beside = difference.expected_beside;
    html! {
        details {
            summary { (in_short(&difference.text)) }
            (facts([
                ("Place", place),
                ("Component", owner),
                ("Measured", events(&difference.found, 0)),
                ("Approved", events(&difference.expected, beside)),
            ]))
        }
    }
}

fn events(events: &[EventSummary], beside: u64) -> Markup {
    html! {
        @if events.is_empty() { "nothing" }
        @for event in events {
            div { @if let Some(what) = &event.what { (what) " " } (digest(&event.digest)) }
        }
        @if beside > 0 { div { "and " (beside) " more" } }
    }
}

/// What a change would do.
pub(crate) fn effect(effect: &Effect) -> Markup {
    let (how, said) = match (effect.hosts, effect.newly_refused.len()) {
        (0, _) => (
            Condition::Neutral,
            "No host that it concerns has attested yet.".to_owned(),
        ),
        (_, 0) => (
            Condition::Good,
            "No host that is healthy now would be refused.".to_owned(),
        ),
        (_, count) => (
            Condition::Bad,
            format!(
                "{} that {} healthy now would be refused.",
                counted(count, "host"),
                if count == 1 { "is" } else { "are" }
            ),
        ),
    };
    html! {
        div.effect {
            p { (condition(how, &said)) }
            @if effect.hosts > 0 {
                p { "By their last boots, " (effect.refused) " of " (counted(effect.hosts, "host")) " would be refused." }
            }
            (names("Refused that are healthy now", &effect.newly_refused))
            (names("Healthy that are refused now", &effect.newly_healthy))
            @if effect.unknown > 0 { p { "What " (counted(effect.unknown, "more host")) " booted last is not known." } }
        }
    }
}

fn names(what: &str, hosts: &[String]) -> Markup {
    html! {
        @if !hosts.is_empty() {
            p.subject { strong { (what) } }
            ul { @for host in hosts { li { (link(HOST.path_of(host).as_ref(), host)) } } }
        }
    }
}

/// Hosts that used something, as a cell of a table.
pub(crate) fn users(count: usize, not_known: usize) -> Markup {
    match (count, not_known) {
        (0, 0) => text("none"),
        (0, _) => text("none that is known"),
        (count, _) => text(counted(count, "host")),
    }
}
