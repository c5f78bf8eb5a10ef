//! Tenants with keys of their own: what each has, and what is missing.

#[cfg(test)]
pub(super) mod tests;

use hgs_admin::AdminError;
use hgs_admin::types::{Certificate, CertificateKind};
use hgs_pki::{Time, ValidityStatus};
use maud::{Markup, html};
use serde::{Deserialize, Serialize};

use super::certificates::{self, OfTenant, end, key_field, label_field, new_keys, rotate_link};
use super::counted;
use crate::acts::Entered;
use crate::elements::{
    self, Button, Condition, Field, act_link, commands, condition, digest, form, link, table, text,
    time,
};
use crate::pairs::{Known, how_far, is_of};
use crate::routes::certificates::GUARDIAN_DOCUMENT;
use crate::routes::tenants::{ADD_TENANT, TENANTS};
use crate::{Page, Path, Viewer};

/// Tenants on one page.
const PAGE: usize = 50;

/// Which tenants a page shows, or which one.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Wanted {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tenant: Option<String>,
    /// Only what follows: a tenant in the list of tenants, a certificate on the page of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) after: Option<String>,
}

/// One half of a pair in the form that brings it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Half {
    pub(crate) kind: CertificateKind,
    /// The field with the place of its key.
    pub(crate) key: &'static str,
    /// The field with its certificate.
    pub(crate) certificate: &'static str,
    labels: [&'static str; 2],
}

impl Half {
    pub(crate) const BOTH: [Self; 2] = [
        Self {
            kind: CertificateKind::Signing,
            key: "signing_key",
            certificate: "signing_certificate",
            labels: ["Signing key", "Signing certificate"],
        },
        Self {
            kind: CertificateKind::Encryption,
            key: "encryption_key",
            certificate: "encryption_certificate",
            labels: ["Encryption key", "Encryption certificate"],
        },
    ];
}

/// What a tenant needs for a machine to start with its keys, in the order in which it is done.
struct Step {
    is_done: bool,
    what: &'static str,
    /// What there is, or what to do.
    said: Markup,
}

pub(crate) fn list(known: &Known, wanted: &Wanted, viewer: &Viewer, now: Time) -> Page {
    let all = known.tenants();
    let after = wanted.after.as_deref().unwrap_or_default();
    let rest: Vec<_> = all
        .into_iter()
        .filter(|tenant| tenant.as_str() > after)
        .collect();
    let shown = rest.get(..PAGE.min(rest.len())).unwrap_or_default();
    let rows: Vec<_> = shown
        .iter()
        .map(|tenant| row(known, tenant.as_str(), now))
        .collect();
    let headings = ["Tenant", "State", "Pair ends", "Machines", "Next"];
    let add = Some(ADD_TENANT.fixed_path()).filter(|_| viewer.may(ADD_TENANT.operations));
    let body = html! {
        p { "A tenant who does not want to depend on the fabric's keys has a pair of its own here. Only that pair and the tenant's own guardian open its machines, and it is never primary: no other tenant's machine is handed to it." }
        @if shown.is_empty() && wanted.after.is_none() {
            div.first-step {
                p { strong { "The first step: " } "bring a tenant's pair in. The tenant makes it, or has it made here." }
                @if add.is_none() { p { "An administrator does that." } }
            }
        } @else {
            (table("Tenants with a pair of their own, by name", &headings, &rows))
        }
        @if let Some(last) = shown.last().filter(|_| rest.len() > PAGE) {
            @let next = Wanted { after: Some(last.to_string()), ..Wanted::default() };
            p { (link(Some(&TENANTS.fixed_path().with_query(&next)), "The next tenants")) }
        }
        p.acts { (act_link(add.as_ref(), "Add a tenant")) }
    };
    Page::new("Tenants and guardians", body).live()
}

fn path_of(tenant: &str) -> Path {
    OfTenant::new(tenant).page()
}

fn heads<'k>(known: &'k Known, tenant: &str) -> [Option<&'k Certificate>; 2] {
    Half::BOTH.map(|half| known.head(Some(tenant), half.kind))
}

fn row(known: &Known, tenant: &str, now: Time) -> Vec<Markup> {
    let heads = heads(known, tenant);
    let steps = steps(known, tenant, None, now);
    let next = steps.iter().find(|step| !step.is_done);
    let first_end = heads.iter().flatten().map(|head| &head.not_after).min();
    vec![
        link(Some(&path_of(tenant)), tenant),
        match next {
            None => condition(Condition::Good, "complete"),
            Some(_) => condition(Condition::Attention, "something is missing"),
        },
        html! { @if let Some(first) = first_end { (end(first, now)) } },
        text(counted(machines(known, tenant), "protector")),
        html! { @if let Some(step) = next { (step.what) } },
    ]
}

/// Protectors that were last opened by the tenant's pairs.
fn machines(known: &Known, tenant: &str) -> u64 {
    let opened = known
        .certificates
        .iter()
        .filter(|one| is_of(&one.lineage, Some(tenant)) && one.kind == CertificateKind::Encryption);
    opened
        .filter_map(|one| known.usage_of(&one.thumbprint))
        .map(|usage| usage.protectors)
        .sum()
}

fn steps(known: &Known, tenant: &str, viewer: Option<&Viewer>, now: Time) -> Vec<Step> {
    let heads = heads(known, tenant);
    let [signing, encryption] = heads;
    let both: Vec<_> = heads.into_iter().flatten().collect();
    let is_complete = both.len() == Half::BOTH.len();
    let has = |head: Option<&Certificate>| match head {
        Some(head) => html! { (certificates::key(head)) " " (digest(&head.thumbprint)) },
        None => text("it is missing, or none of them is the head: add one, or make one the head"),
    };
    let document = match (is_complete, signing, viewer) {
        (true, Some(signing), Some(viewer)) => {
            GUARDIAN_DOCUMENT.path_for(viewer, &signing.thumbprint)
        }
        _ => None,
    };
    let count = machines(known, tenant);
    vec![
        Step {
            is_done: signing.is_some(),
            what: "A signing certificate",
            said: has(signing),
        },
        Step {
            is_done: encryption.is_some(),
            what: "An encryption certificate",
            said: has(encryption),
        },
        Step {
            is_done: is_complete && both.iter().all(|head| head.usable),
            what: "Keys that this guardian can use",
            said: text("if one can't be used, hgs trace on the guardian's machine says why"),
        },
        Step {
            is_done: is_complete
                && both
                    .iter()
                    .all(|head| how_far(&head.not_after, now) == ValidityStatus::Valid),
            what: "Certificates that do not end soon",
            said: html! { @for head in &both { div { (head.kind.name()) " ends " (time(&head.not_after, now)) } } },
        },
        Step {
            is_done: count > 0,
            what: "A machine that has started with it",
            said: html! {
                @match count > 0 {
                    true => { (counted(count, "protector")) " last opened by this tenant's pairs" },
                    false => { "the tenant imports " (link(document.as_ref(), "the document for owners")) ", makes a protector, and a test machine is started with it" },
                }
            },
        },
    ]
}

/// The checklist of one tenant.
pub(crate) fn one(
    known: &Known,
    tenant: &str,
    wanted: &Wanted,
    viewer: &Viewer,
    now: Time,
) -> Page {
    let steps = steps(known, tenant, Some(viewer), now);
    let rows: Vec<_> = steps.into_iter().map(checked).collect();
    let heads = heads(known, tenant);
    let of_tenant = OfTenant::new(tenant);
    let add = ADD_TENANT.fixed_path().with_query(&of_tenant);
    let is_missing = heads.iter().any(Option::is_none);
    let add = Some(add).filter(|_| is_missing && viewer.may(ADD_TENANT.operations));
    let signing = heads[0].filter(|_| !is_missing);
    let document = signing.and_then(|head| GUARDIAN_DOCUMENT.path_for(viewer, &head.thumbprint));
    let body = html! {
        p.acts { (act_link(add.as_ref(), "Add what is missing")) " " (rotate_link(Some(tenant), known, viewer)) }
        (table("What is needed for a machine to start with this tenant's keys", &["Step", "State", "What there is"], &rows))
        p { "The pair is never primary, and no roll hands a machine from one tenant to another or to the fabric." }
        @if document.is_some() { p { (link(document.as_ref(), "The document that the tenant imports")) } }
        section aria-labelledby="pairs" {
            h2 id="pairs" { "Pairs" }
            (certificates::pairs(known, Some(tenant), wanted.after.as_deref(), now))
        }
        section aria-labelledby="leaving" {
            h2 id="leaving" { "When the tenant leaves" }
            p { "Disable both certificates, so that no machine of the tenant starts here. When it has taken its machines away, remove them: each has both acts on its own page." }
        }
    };
    Page::new(format!("Tenant {tenant}"), body).live()
}

fn checked(step: Step) -> Vec<Markup> {
    vec![
        text(step.what),
        match step.is_done {
            true => condition(Condition::Good, "done"),
            false => condition(Condition::Attention, "missing"),
        },
        step.said,
    ]
}

pub(crate) fn add(
    known: &Known,
    of_tenant: &OfTenant,
    entered: &Entered,
    error: Option<&AdminError>,
) -> Page {
    let tenant = match entered.field("tenant") {
        "" => of_tenant.tenant.as_deref().unwrap_or_default(),
        tenant => tenant,
    };
    let is_known = known.tenants().iter().any(|one| one.as_str() == tenant);
    let back = match is_known {
        true => path_of(tenant),
        false => TENANTS.fixed_path(),
    };
    let missing: Vec<_> = Half::BOTH
        .into_iter()
        .filter(|half| known.head(Some(tenant), half.kind).is_none())
        .collect();
    // One half may have been added before the other was refused.
    let failed = match missing.len() {
        1 => "This half was not added",
        _ => "Nothing was changed",
    };
    let button = Button {
        text: "Bring the pair in",
        is_dangerous: false,
        back: Some(&back),
    };
    let name = Field::new("tenant", "Tenant", "What the tenant is called, in lists, in the log and in metrics. It can't be changed later.").value(tenant).required();
    let fields = html! {
        (name.line())
        @for half in missing { (half_fields(half, entered)) }
        (new_keys(entered))
        (label_field(entered, "Of the certificates, such as the year."))
    };
    let body = html! {
        @if let Some(error) = error { (elements::failure(failed, error)) }
        p { "The pair lies here in a lineage of its own, and is never primary. Leave the keys empty to have software keys made; name places in a token, which may be the tenant's own, to have keys made or found there. If the tenant has made the certificates, paste them, and name the places of their keys." }
        p { "A software key that the tenant has made is not sent through a browser. On the guardian's machine, with a file under a passphrase, run for each half" }
        (commands("bring", "hgs certificate add --type signing --pfx s.pfx --tenant NAME\nhgs certificate add --type encryption --pfx e.pfx --tenant NAME"))
        (form(&ADD_TENANT.fixed_path(), button, &fields))
    };
    let title = match is_known {
        true => format!("Add what is missing of {tenant}"),
        false => "Add a tenant".to_owned(),
    };
    Page::new(title, body)
}

fn half_fields(half: Half, entered: &Entered) -> Markup {
    let [key, certificate] = half.labels;
    let value = entered.field(half.certificate);
    // A private key that was pasted here by mistake is not shown again.
    let shown = if value.contains("PRIVATE KEY") {
        ""
    } else {
        value
    };
    let help = "In PEM, if there is one already. Empty to have one made.";
    let certificate = Field::new(half.certificate, certificate, help).value(shown);
    html! { (key_field(half.key, key, entered, false)) (certificate.lines()) }
}
