//! One document that measurements are compared with: what it accepts, who uses it, and what is done to it.

use std::collections::BTreeMap;

use hgs_admin::AdminError;
use hgs_admin::types::{DocumentKind, Judgement, PolicyDocumentDetail};
use hgs_attest::policy::{Alternative, Baseline, CiPolicy, ComponentKind, Source, State};
use hgs_pki::Time;
use maud::{Markup, html};
use serde::{Deserialize, Serialize};

use super::{counted, judgement};
use crate::acts::Entered;
use crate::effect::Effect;
use crate::elements::{
    self, Button, Condition, Field, act_link, choice, condition, digest, facts, form, hidden,
    table, text, time,
};
use crate::routes::policies::{
    ADD_DOCUMENT, CHANGE_DOCUMENT, DOCUMENT, POLICIES, REMOVE_DOCUMENT, RETIRE_ALTERNATIVE,
};
use crate::{Page, Path, Viewer};

/// What stands for the component where sets of files are named.
const FILES: &str = "files";
/// Alternatives of one component that are shown.
const MAX_SHOWN: usize = 100;

/// What is retired.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Which {
    /// The component; of a code-integrity policy, `files`.
    pub(crate) component: String,
    /// The alternative, or the set of files.
    pub(crate) alternative: String,
}

/// How many hosts used each alternative of one document at their last boots.
struct Users<'j> {
    counts: BTreeMap<(&'j str, &'j str), usize>,
    /// Hosts of which it is not known what they booted.
    unknown: usize,
}

impl<'j> Users<'j> {
    fn of(document: &str, judged: &'j [Judgement]) -> Self {
        let mut counts = BTreeMap::new();
        let used = judged.iter().flat_map(|judged| &judged.used);
        for used in used.filter(|used| used.document == document && !used.of_host) {
            *counts
                .entry((&*used.component, &*used.alternative))
                .or_default() += 1;
        }
        let unknown = judged.iter().filter(|judged| judged.problem.is_some());
        Self {
            counts,
            unknown: unknown.count(),
        }
    }

    fn cell(&self, component: &str, alternative: &str) -> Markup {
        let count = self.counts.get(&(component, alternative)).copied();
        judgement::users(count.unwrap_or_default(), self.unknown)
    }
}

pub(crate) fn page(
    detail: &PolicyDocumentDetail,
    judged: &[Judgement],
    viewer: &Viewer,
    now: Time,
) -> Page {
    let document = &detail.document;
    let users = Users::of(&document.name, judged);
    let act = |route: &crate::routes::Route, said| {
        act_link(route.path_for(viewer, &document.name).as_ref(), said)
    };
    let body = html! {
        p.acts { (act(&CHANGE_DOCUMENT, "Change")) " " (act(&REMOVE_DOCUMENT, "Remove")) }
        (facts([
            ("Kind", text(document.kind)),
            ("Enabled for", html! { @if document.enabled.is_empty() { span.none { "no group" } } @else { (document.enabled.join(", ")) } }),
            ("Added", time(&document.added, now)),
            ("Changed", html! { @match &document.changed { Some(changed) => (time(changed, now)), None => span.none { "never" } } }),
            ("Octets", text(document.octets)),
            ("SHA-256", digest(&document.digest)),
        ]))
        @match document.kind {
            DocumentKind::Baseline => (baseline(detail, &users, viewer, now)),
            DocumentKind::CiPolicy => (sets(detail, &users, viewer, now)),
            DocumentKind::DumpKey => {},
        }
        p.help { "The whole document: " code { "hgs " (verb(document.kind)) " show " (document.name) } }
    };
    Page::new(format!("{} {}", called(document.kind), document.name), body)
}

/// What documents of a kind are called.
fn called(kind: DocumentKind) -> &'static str {
    match kind {
        DocumentKind::Baseline => "Baseline",
        DocumentKind::CiPolicy => "Code-integrity policy",
        DocumentKind::DumpKey => "Dump key",
    }
}

/// The command that is about documents of a kind.
fn verb(kind: DocumentKind) -> &'static str {
    match kind {
        DocumentKind::Baseline => "baseline",
        DocumentKind::CiPolicy => "ci-policy",
        DocumentKind::DumpKey => "dump-key",
    }
}

fn baseline(
    detail: &PolicyDocumentDetail,
    users: &Users<'_>,
    viewer: &Viewer,
    now: Time,
) -> Markup {
    let Ok(baseline) = Baseline::from_json(detail.text.as_bytes()) else {
        return unreadable();
    };
    let rows = baseline.components.iter().flat_map(|component| {
        let alternatives = component.alternatives.iter();
        let is_accepted = |one: &&Alternative| one.state.is_accepted(now);
        let has_another = alternatives.clone().filter(is_accepted).nth(1).is_some();
        let is_alone = !has_another && component.kind != ComponentKind::Host;
        let mut rows: Vec<_> = alternatives
            .take(MAX_SHOWN)
            .map(|one| {
                let which = (&*component.name, &*one.name);
                let how = (&one.state, &one.source, is_alone);
                accepted(detail, which, how, users, viewer, now)
            })
            .collect();
        if rows.is_empty() {
            rows.push(vec![text(without(component.kind))]);
        }
        let beside = component.alternatives.len().saturating_sub(MAX_SHOWN);
        if beside > 0 {
            rows.push(vec![text(format_args!("and {beside} more"))]);
        }
        let of = html! { (component.name) div.help { (kind(component.kind)) } };
        rows.into_iter()
            .map(move |row| std::iter::once(of.clone()).chain(row).collect())
    });
    let rows: Vec<_> = rows.collect();
    let headings = [
        "Component",
        "Alternative",
        "State",
        "From",
        "Used at the last boot by",
        "Change",
    ];
    html! {
        section aria-labelledby="components" {
            h2 id="components" { "Components" }
            (table("What a boot is made of, and what is approved of each", &headings, &rows))
        }
    }
}

/// What stands in the place of the alternatives of a component that has none.
fn without(kind: ComponentKind) -> &'static str {
    match kind {
        ComponentKind::Any => "anything",
        ComponentKind::Host => "none for all hosts",
        ComponentKind::Constant | ComponentKind::Shared | ComponentKind::Parametrised => {
            "none is approved"
        }
    }
}

fn kind(kind: ComponentKind) -> &'static str {
    match kind {
        ComponentKind::Constant => "It never changes.",
        ComponentKind::Shared => "The same on all hosts of the baseline.",
        ComponentKind::Parametrised => {
            "The same on all hosts but for parameters, which each host has in its own record."
        }
        ComponentKind::Host => "Beside these, each host has alternatives of its own.",
        ComponentKind::Any => "Anything is accepted here.",
    }
}

fn sets(detail: &PolicyDocumentDetail, users: &Users<'_>, viewer: &Viewer, now: Time) -> Markup {
    let Ok(policy) = CiPolicy::from_json(detail.text.as_bytes()) else {
        return unreadable();
    };
    let rows: Vec<_> = policy
        .sets
        .iter()
        .take(MAX_SHOWN)
        .map(|set| {
            accepted(
                detail,
                (FILES, &set.name),
                (&set.state, &set.source, false),
                users,
                viewer,
                now,
            )
        })
        .collect();
    html! {
        section aria-labelledby="sets" {
            h2 id="sets" { "Sets of files" }
            (listed(&counted(policy.sets.len(), "set"), &rows, policy.sets.len()))
        }
    }
}

fn listed(caption: &str, rows: &[Vec<Markup>], count: usize) -> Markup {
    let headings = [
        "Name",
        "State",
        "From",
        "Used at the last boot by",
        "Change",
    ];
    html! {
        @if rows.is_empty() { p { "None is approved." } } @else { (table(caption, &headings, rows)) }
        @if count > rows.len() { p { "and " (count - rows.len()) " more" } }
    }
}

/// `is_alone` of a document that can't do without it.
fn accepted(
    detail: &PolicyDocumentDetail,
    (component, name): (&str, &str),
    (state, source, is_alone): (&State, &Source, bool),
    users: &Users<'_>,
    viewer: &Viewer,
    now: Time,
) -> Vec<Markup> {
    let which = Which {
        component: component.to_owned(),
        alternative: name.to_owned(),
    };
    let retire = RETIRE_ALTERNATIVE.path_for(viewer, &detail.document.name);
    let retire = retire
        .filter(|_| state.is_accepted(now))
        .map(|path| path.with_query(&which));
    vec![
        text(name),
        stage(state, now),
        text(&source.of),
        users.cell(component, name),
        match (retire, is_alone) {
            (Some(_), true) => html! { span.none { "the only one: add another before" } },
            (retire, _) => act_link(retire.as_ref(), "Retire"),
        },
    ]
}

fn stage(state: &State, now: Time) -> Markup {
    let at = |at: &Time| time(&at.to_string(), now);
    html! {
        @match state {
            State::Staged { expires } if state.is_accepted(now) => { (condition(Condition::Attention, "staged")) " no host has booted it yet; accepted until " (at(expires)) },
            State::Staged { expires } => { (condition(Condition::Neutral, "expired")) " " (at(expires)) },
            State::Promoted { at: since, by } => {
                (condition(Condition::Good, "promoted"))
                @if let Some(since) = since { " " (at(since)) }
                @if let Some(by) = by { " by " (by) }
            },
            State::Retired { at: since } => { (condition(Condition::Neutral, "retired")) " " (at(since)) },
        }
    }
}

fn unreadable() -> Markup {
    html! { div.warning { p { "This version can't read the document." } } }
}

pub(crate) fn add(entered: &Entered, effect: Option<&Effect>, error: Option<&AdminError>) -> Page {
    let back = POLICIES.fixed_path();
    let name = Field::name(entered);
    let group = Field::new(
        "group",
        "Group",
        "For whose hosts it is enabled. Empty for the default group, which the others follow.",
    )
    .entered(entered);
    let kinds = [
        (
            "baseline",
            "Baseline: what may be measured when a host boots",
        ),
        (
            "ci-policy",
            "Code-integrity policy: which files a host may use",
        ),
        ("dump-key", "Dump key: what may write crash dumps"),
    ];
    let fields = html! {
        (name.line())
        (choice("kind", "Kind", entered.field("kind"), &kinds))
        (group.line())
        (pasted(entered, effect))
    };
    let body = html! {
        @if let Some(error) = error { (elements::error(error)) }
        p { "The document is enabled at once: hosts are judged by it from their next attempt on." }
        (form(&ADD_DOCUMENT.fixed_path(), dangerous("Add the document", &back), &fields))
    };
    Page::new("Add a document", body)
}

pub(crate) fn change(
    detail: &PolicyDocumentDetail,
    entered: &Entered,
    effect: Option<&Effect>,
    error: Option<&AdminError>,
) -> Page {
    let name = &detail.document.name;
    let back = Path::or_start(DOCUMENT.path_of(name));
    let path = Path::or_start(CHANGE_DOCUMENT.path_of(name));
    let body = html! {
        @if let Some(error) = error { (elements::error(error)) }
        p { "Another text takes the place of the document. Get the present one first, change it, and keep a copy of both:" }
        (elements::commands("show", &format!("hgs {} show {name} --out {name}.json", verb(detail.document.kind))))
        (form(&path, dangerous("Change the document", &back), &html! { (hidden("digest", shown_digest(detail, entered))) (pasted(entered, effect)) }))
    };
    Page::new(format!("Change {name}"), body)
}

/// The text of a document, what it would do once that is known, and that this is meant.
fn pasted(entered: &Entered, effect: Option<&Effect>) -> Markup {
    let document = Field::new("text", "Document", "Its JSON, as a file has it.")
        .entered(entered)
        .required();
    let confirmed = Field::new(
        "confirmed",
        "This is meant",
        "Hosts that would be refused are refused from their next attempt on.",
    );
    html! {
        (document.lines())
        @match effect {
            Some(effect) => { (judgement::effect(effect)) (confirmed.check_box()) },
            None => p.help { "What it would do to the hosts is shown next; nothing is changed before you confirm it." },
        }
    }
}

pub(crate) fn retire(
    detail: &PolicyDocumentDetail,
    which: &Which,
    effect: Option<&Effect>,
    error: Option<&AdminError>,
) -> Page {
    let name = &detail.document.name;
    let back = Path::or_start(DOCUMENT.path_of(name));
    let path = Path::or_start(RETIRE_ALTERNATIVE.path_of(name)).with_query(which);
    let body = html! {
        @if let Some(error) = error { (elements::error(error)) }
        p { "It is accepted no longer: hosts that boot it are refused from their next attempt on. It stays in the document, so that refusals can name it." }
        (facts([("Document", text(name)), ("Component", text(&which.component)), ("Alternative", text(&which.alternative))]))
        @if let Some(effect) = effect { (judgement::effect(effect)) }
        (form(&path, dangerous("Retire it", &back), &hidden("digest", &detail.document.digest)))
    };
    Page::new(format!("Retire {}", which.alternative), body)
}

/// The digest of the document that what was entered was made from.
fn shown_digest<'d>(detail: &'d PolicyDocumentDetail, entered: &'d Entered) -> &'d str {
    match entered.field("digest") {
        "" => &detail.document.digest,
        digest => digest,
    }
}

pub(crate) fn remove(
    detail: &PolicyDocumentDetail,
    effect: &Effect,
    error: Option<&AdminError>,
) -> Page {
    let name = &detail.document.name;
    let back = Path::or_start(DOCUMENT.path_of(name));
    let path = Path::or_start(REMOVE_DOCUMENT.path_of(name));
    let body = html! {
        @if let Some(error) = error { (elements::error(error)) }
        p { "The document is gone then. Keep a copy:" }
        (elements::commands("show", &format!("hgs {} show {name} --out {name}.json", verb(detail.document.kind))))
        (judgement::effect(effect))
        (form(&path, dangerous("Remove the document", &back), &html! {}))
    };
    Page::new(format!("Remove {name}"), body)
}

fn dangerous<'b>(text: &'b str, back: &'b Path) -> Button<'b> {
    Button {
        text,
        is_dangerous: true,
        back: Some(back),
    }
}
