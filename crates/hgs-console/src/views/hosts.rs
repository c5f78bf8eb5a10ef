//! The hosts: all of them, one of them, and what is done to them.

use hgs_admin::AdminError;
use hgs_admin::types::{AttestationMode, Host, HostDetail, HostEvidence, HostQuery, Status};
use hgs_pki::Time;
use maud::{Markup, html};
use serde::{Deserialize, Serialize};

use super::judgement::differences;
use super::waiting::Group;
use super::{After, log, machines};
use crate::acts::Entered;
use crate::elements::{
    self, Button, Condition, Field, act_link, commands, condition, digest, facts, form, in_short,
    link, or_none, table, text, time, word,
};
use crate::routes::log::LOG;
use crate::routes::machines::MACHINES;
use crate::routes::policies::WAITING;
use crate::routes::{ADD_HOST, APPROVE_HOST, HOST, HOSTS, REVOKE_HOST};
use crate::{Page, Path, Viewer};

/// Other hosts that an approval names.
const MAX_NAMED: usize = 100;
/// Hosts on one page.
pub(crate) const PAGE: usize = 100;

pub(crate) fn list(
    hosts: &[Host],
    query: &HostQuery,
    status: &Status,
    viewer: &Viewer,
    now: Time,
) -> Page {
    let rows: Vec<_> = hosts.iter().map(|host| row(host, now)).collect();
    let headings = ["Host", "State", "Certificate ends", "Group", "Last attempt"];
    let body = html! {
        @if hosts.is_empty() && query.after.is_none() {
            p { "There are no hosts yet." }
        } @else {
            (table("Registered hosts, by name", &headings, &rows))
        }
        @if let Some(last) = hosts.last().filter(|_| hosts.len() == PAGE) {
            @let next = After { after: Some(last.name.clone()) };
            p { (link(Some(&HOSTS.fixed_path().with_query(&next)), "The next hosts")) }
        }
        section aria-labelledby="new" {
            h2 id="new" { "Guard a new host" }
            (new_host(status))
            @if viewer.may(ADD_HOST.operations) {
                p { (act_link(Some(&ADD_HOST.fixed_path()), "Add a host")) }
            } @else {
                p { "Then an administrator or a host manager adds the host." }
            }
        }
    };
    Page::new("Hosts", body).live()
}

fn row(host: &Host, now: Time) -> Vec<Markup> {
    let path = HOST.path_of(&host.name);
    vec![
        link(path.as_ref(), &host.name),
        state(host, now),
        html! { @match &host.certificate_expires { Some(end) => (time(end, now)), None => span.none { "none" } } },
        text(host.group.as_deref().unwrap_or("default")),
        html! {
            @match &host.last_attempt {
                Some(attempt) => {
                    (time(&attempt.time, now))
                    @if let Some(reason) = &attempt.reason { div { (in_short(reason)) } }
                },
                None => span.none { "none" },
            }
        },
    ]
}

/// How a host stands, in words.
fn state(host: &Host, now: Time) -> Markup {
    let is_valid = |end: &String| end.parse::<Time>().is_ok_and(|end| now < end);
    let (how, said) = match host {
        Host {
            revoked: Some(_), ..
        } => (Condition::Bad, "revoked"),
        Host {
            last_attempt: Some(attempt),
            ..
        } if !attempt.healthy => (Condition::Bad, "refused"),
        Host {
            certificate_expires: Some(end),
            ..
        } if is_valid(end) => (Condition::Good, "healthy"),
        Host {
            last_attested: Some(_),
            ..
        } => (Condition::Attention, "certificate expired"),
        Host { .. } => (Condition::Neutral, "never attested"),
    };
    condition(how, said)
}

/// The commands by which a host is guarded: exactly what is typed there.
fn new_host(status: &Status) -> Markup {
    let url = status.attestation_urls.first();
    let url = url.map(|url| url.trim_end_matches("/Attestation"));
    let Some(url) = url else {
        return html! { p { "No listener for hosts is open. Enable one in the configuration." } };
    };
    html! {
        p { "On the host, as root:" }
        (commands("guard", &format!("guarded-host configure {url}")))
        @match status.attestation_mode {
            AttestationMode::Tpm => {
                p { "Its TPM is what it is known by. Write its platform identity to a file:" }
                (commands("credential", "guarded-host identity export --out host1.json"))
            },
            _ => {
                p { "A host key is what it is known by. Make one, and write its public half to a file:" }
                (commands("credential", "guarded-host host-key new\nguarded-host host-key export --out host1.pem"))
            },
        }
        @if url.starts_with("https://") {
            p.help { "If the guardian's certificate is not from an authority that the host trusts, add " code { "--ca FILE" } " to the first command." }
        }
    }
}

pub(crate) fn one(detail: &HostDetail, viewer: &Viewer, now: Time) -> Page {
    let host = &detail.host;
    let refused = host
        .last_attempt
        .as_ref()
        .filter(|attempt| !attempt.healthy);
    let is_revoked = host.revoked.is_some();
    let revoke = REVOKE_HOST
        .path_for(viewer, &host.name)
        .filter(|_| !is_revoked);
    let approve = APPROVE_HOST.path_for(viewer, &host.name);
    let approve = approve.filter(|_| !is_revoked && refused.is_some() && detail.tpm.is_some());
    let body = html! {
        p.acts { (act_link(approve.as_ref(), "Approve what it booted")) " " (act_link(revoke.as_ref(), "Revoke")) }
        @if let Some(revoked) = &host.revoked {
            div.warning {
                p { strong { "Revoked " (time(&revoked.time, now)) "." } " " (revoked.reason) }
                p { "By " (revoked.by) ". To let it back in, remove it and readmit it: " code { "hgs host remove" } ", " code { "hgs host readmit" } "." }
            }
        }
        @if let Some(attempt) = refused {
            div.warning {
                p { strong { "Refused " (time(&attempt.time, now)) ". " } @if let Some(reason) = &attempt.reason { (reason) } }
                @if !attempt.failed_policies.is_empty() { p { "Policies that failed: " (attempt.failed_policies.join(", ")) } }
                @if approve.is_some() { p { "If the change was meant, approve it. If not, find out who changed the host." } }
            }
        }
        (facts([
            ("State", state(host, now)),
            ("Certificate ends", html! { @match &host.certificate_expires { Some(end) => (time(end, now)), None => span.none { "none" } } }),
            ("Last attested", html! { @match &host.last_attested { Some(last) => (time(last, now)), None => span.none { "never" } } }),
            ("Attests by", text(match host.attestation_mode {
                AttestationMode::Tpm => "its TPM",
                AttestationMode::HostKey => "its host key",
                AttestationMode::ActiveDirectory => "a group of Active Directory",
            })),
            ("Group", html! { @match &host.group { Some(group) => (group), None => "default" } }),
            ("Added", time(&host.added, now)),
            ("Id", digest(&host.id)),
            ("Policy digest", digest(&detail.policy_digest)),
            ("Proves that requests are fresh", text(if detail.returns_nonces { "yes" } else { "no" })),
        ]))
        (credential(detail))
        (identity_keys(detail, now))
        @if viewer.may(LOG.operations) { p { (link(Some(&log::about_host(&host.name)), "All records about this host")) } }
        @if viewer.may(MACHINES.operations) { p { (link(Some(&machines::of_host(&host.name)), "Machines whose keys it got last")) } }
    };
    Page::new(format!("Host {}", host.name), body).live()
}

fn credential(detail: &HostDetail) -> Markup {
    html! {
        section aria-labelledby="credential" {
            h2 id="credential" { "What it is known by" }
            @if let Some(tpm) = &detail.tpm {
                (facts([
                    ("TPM of", or_none(tpm.manufacturer.as_deref())),
                    ("Model", or_none(tpm.model.as_deref())),
                    ("Firmware", or_none(tpm.firmware.as_deref())),
                    ("EK certificate of", or_none(tpm.issuer.as_deref())),
                    ("Machine", or_none(tpm.system_serial_number.as_deref())),
                ]))
            }
            @if let Some(digest) = &detail.host.host_key_digest {
                (facts([("SHA-256 of its host key", elements::digest(digest))]))
            }
            @if let Some(digest) = &detail.host.endorsement_key_digest {
                (facts([("SHA-256 of its endorsement key", elements::digest(digest))]))
            }
            @if let Some(shared) = &detail.host_key_shared {
                div.warning { p { strong { "Two machines use this host key" } ", last seen at " (shared) ". Find the clone, make a host key of its own there, and register it." } }
            }
        }
    }
}

fn identity_keys(detail: &HostDetail, now: Time) -> Markup {
    let rows: Vec<_> = detail
        .identity_keys
        .iter()
        .map(|key| {
            vec![
                digest(&key.digest),
                word(key.kind),
                time(&key.first_seen, now),
                html! { @match &key.superseded { Some(when) => (time(when, now)), None => "in use" } },
            ]
        })
        .collect();
    let headings = ["SHA-256", "For", "First seen", "Superseded"];
    html! {
        section aria-labelledby="identities" {
            h2 id="identities" { "Identity keys" }
            @if rows.is_empty() {
                @match &detail.host.last_attempt {
                    Some(_) => p { "None: it was never healthy." },
                    None => p { "It has not attested yet. Run " code { "guarded-host attest" } " on it." },
                }
            } @else {
                (table("Keys that it attested with, the newest first", &headings, &rows))
            }
        }
    }
}

pub(crate) fn add(status: &Status, entered: &Entered, error: Option<&AdminError>) -> Page {
    let (label, help) = match status.attestation_mode {
        AttestationMode::Tpm => (
            "Platform identity",
            "The text of the file that guarded-host identity export has written on the host.",
        ),
        _ => (
            "Public host key",
            "The text of the file that guarded-host host-key export has written on the host: it begins with -----BEGIN.",
        ),
    };
    let back = HOSTS.fixed_path();
    let button = Button {
        text: "Add the host",
        is_dangerous: false,
        back: Some(&back),
    };
    let name = Field::name(entered);
    let credential = Field::new("credential", label, help)
        .entered(entered)
        .required();
    let group = Field::new("group", "Group", "Whose policies it is judged by. Empty for the default group; others need an administrator.").entered(entered);
    let body = html! {
        @if let Some(error) = error { (elements::error(error)) }
        p { "The host can attest from then on. Compare the file with its owner first: whoever has the private half of this key is this host." }
        (form(&ADD_HOST.fixed_path(), button, &html! {
            (name.line())
            (credential.lines())
            @if status.attestation_mode == AttestationMode::Tpm { (group.line()) }
        }))
    };
    Page::new("Add a host", body)
}

pub(crate) fn revoke(
    detail: &HostDetail,
    entered: &Entered,
    error: Option<&AdminError>,
    now: Time,
) -> Page {
    let host = &detail.host;
    let back = Path::or_start(HOST.path_of(&host.name));
    let path = Path::or_start(REVOKE_HOST.path_of(&host.name));
    let button = Button {
        text: "Revoke the host",
        is_dangerous: true,
        back: Some(&back),
    };
    let reason = Field::new(
        "reason",
        "Why",
        "It stands in the log and on the page of the host.",
    )
    .entered(entered)
    .required();
    let body = html! {
        @if let Some(error) = error { (elements::error(error)) }
        p { "From its next request on, the host gets no health certificate and no key. VMs that run there keep running, and can't be started again." }
        p { "To undo it, an administrator removes the host, readmits its key, and adds it again." }
        (facts([
            ("Host", text(&host.name)),
            ("State now", state(host, now)),
            ("Last attested", html! { @match &host.last_attested { Some(last) => (time(last, now)), None => "never" } }),
        ]))
        (form(&path, button, &reason.line()))
    };
    Page::new(format!("Revoke {}", host.name), body)
}

/// Whether all hosts are meant that differ in the same way.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Alike {
    pub(crate) alike: bool,
}

/// `refusal` has all hosts that differ in the same way. `entered` is with whether all of them are meant.
pub(crate) fn approve(
    evidence: &HostEvidence,
    refusal: &Group,
    (entered, of_all): (&Entered, bool),
    error: Option<&AdminError>,
    now: Time,
) -> Page {
    let (host, judged) = (&evidence.host, &refusal.judged);
    let back = match of_all {
        true => WAITING.fixed_path(),
        false => Path::or_start(HOST.path_of(host)),
    };
    let path = Path::or_start(APPROVE_HOST.path_of(host));
    let button = Button {
        text: "Approve",
        is_dangerous: true,
        back: Some(&back),
    };
    let label = Field::new(
        "label",
        "Name of the new alternative",
        "Empty for the name of the host.",
    )
    .entered(entered);
    let alike = Field::new(
        "alike",
        "All hosts that differ in the same way",
        "Otherwise this host alone.",
    )
    .value(if of_all { "yes" } else { "" });
    let others: Vec<_> = refusal
        .hosts
        .iter()
        .filter(|other| other.name != *host)
        .collect();
    let body = html! {
        @if let Some(error) = error { (elements::error(error)) }
        p { "What the host booted " (time(&evidence.attempt.time, now)) " becomes one more thing that its baseline accepts, or that is accepted of this host." }
        @if judged.healthy { p { "By what is approved now, the host would be healthy: there is nothing to approve." } }
        (differences(judged))
        @if !others.is_empty() {
            p.subject { strong { "Hosts that differ in the same way" } }
            ul { @for other in others.iter().take(MAX_NAMED) { li { (other.name) } } @if others.len() > MAX_NAMED { li { "and " (others.len() - MAX_NAMED) " more" } } }
        }
        // A form that is sent has something in it, whatever is chosen.
        (form(&path, button, &html! { (elements::hidden("host", host)) (label.line()) @if !others.is_empty() || of_all { (alike.check_box()) } }))
    };
    Page::new(format!("Approve what {host} booted"), body)
}
