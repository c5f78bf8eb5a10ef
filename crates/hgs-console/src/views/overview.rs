//! Whether a VM can start now, and what needs attention.

use std::collections::BTreeSet;

use hgs_admin::AdminError;
use hgs_admin::types::{Certificate, Cluster, Status};
use hgs_pki::Time;
use maud::{Markup, html};

use super::last_hour::{self, LastHour};
use super::{counted, how_hosts_attest};
use crate::elements::{
    self, Button, Condition, act_link, condition, digest, facts, form, link, text, time,
};
use crate::pairs::tenant;
use crate::routes::overview::TRY_RELEASE;
use crate::routes::{ADD_HOST, HOSTS, SETTINGS};
use crate::{Page, Path, Viewer};

/// The warning that nothing can be recorded, and so nothing is released.
const NOT_WRITABLE: &str = "state-not-writable";

/// What stands beside the status, each as far as the viewer may see it.
#[derive(Debug, Default)]
pub(crate) struct Beside {
    /// A guardian that is one of one has none.
    pub(crate) cluster: Option<Cluster>,
    pub(crate) last_hour: Option<LastHour>,
    /// When the newest backup was made that the log has, if it has one.
    pub(crate) backup: Option<Option<String>>,
    pub(crate) certificates: Option<Vec<Certificate>>,
    /// Until when protectors of compromised guardians are accepted.
    pub(crate) rekey_window_until: Option<String>,
}

pub(crate) fn page(status: &Status, beside: &Beside, viewer: &Viewer, now: Time) -> Page {
    let cluster = beside.cluster.as_ref();
    let body = html! {
        (verdict(status, cluster))
        @if viewer.may(TRY_RELEASE.operations) {
            p.acts { (act_link(Some(&TRY_RELEASE.fixed_path()), "Try a release")) }
        }
        @if status.registered_hosts == 0 { (first_host(viewer)) }
        section aria-labelledby="warnings" {
            h2 id="warnings" { "What needs attention" }
            @if status.warnings.is_empty() { p { "Nothing." } }
            @for warning in &status.warnings {
                div.warning {
                    p { strong { (warning.message) "." } }
                    p { "What to do: " (warning.remedy) "." }
                }
            }
        }
        @if let Some(hour) = &beside.last_hour { (last_hour::section(hour)) }
        section aria-labelledby="guardian" {
            h2 id="guardian" { (status.name) }
            (facts(of_guardian(status, beside, now)))
            p { (link(Some(&SETTINGS.fixed_path()), "URLs, modes and listeners")) }
        }
        @if let Some(cluster) = cluster { (nodes(cluster)) }
    };
    Page::new("Overview", body).live()
}

/// Why nothing is released, in the guardian's own words.
fn obstacles(status: &Status, cluster: Option<&Cluster>) -> Vec<String> {
    let mut obstacles = Vec::new();
    let pairs = [
        ("signing", &status.primary_signing),
        ("encryption", &status.primary_encryption),
    ];
    for (kind, certificate) in pairs {
        match certificate {
            None => obstacles.push(format!("there is no primary {kind} certificate")),
            Some(certificate) if !certificate.usable => {
                obstacles.push(format!(
                    "the key of the primary {kind} certificate can't be used"
                ));
            }
            Some(_) => {}
        }
    }
    if status.attestation_signer.is_none() {
        obstacles.push("no attestation signer can sign".to_owned());
    }
    let warnings = status.warnings.iter();
    let stopping = warnings.filter(|warning| warning.code == NOT_WRITABLE);
    obstacles.extend(stopping.map(|warning| warning.message.clone()));
    if cluster.is_some_and(|cluster| !cluster.quorum) {
        obstacles.push("too few nodes of the cluster reach each other".to_owned());
    }
    obstacles
}

fn verdict(status: &Status, cluster: Option<&Cluster>) -> Markup {
    let obstacles = obstacles(status, cluster);
    html! {
        div.verdict.(if obstacles.is_empty() { "is-good" } else { "is-bad" }) {
            @if obstacles.is_empty() {
                p { (condition(Condition::Good, "Yes")) " VMs of healthy hosts can start now." }
            } @else {
                p { (condition(Condition::Bad, "No")) " No VM can start now:" }
                ul { @for obstacle in &obstacles { li { (obstacle) } } }
            }
        }
    }
}

fn first_host(viewer: &Viewer) -> Markup {
    html! {
        div.first-step {
            p { strong { "The first step: " } "a guardian without hosts releases nothing." }
            @if viewer.may(ADD_HOST.operations) {
                p { (link(Some(&ADD_HOST.fixed_path()), "Add the first host")) }
            } @else {
                p { "An administrator or a host manager adds the first host." }
            }
        }
    }
}

fn certificate(certificate: Option<&Certificate>, now: Time) -> Markup {
    match certificate {
        None => condition(Condition::Bad, "none"),
        Some(certificate) => html! {
            "ends " (time(&certificate.not_after, now)) ", " (digest(&certificate.thumbprint))
        },
    }
}

fn nodes(cluster: &Cluster) -> Markup {
    html! {
        section aria-labelledby="cluster" {
            h2 id="cluster" { "Cluster" }
            (facts([
                ("Nodes", text(cluster.nodes.len())),
                ("Quorum", match cluster.quorum {
                    true => condition(Condition::Good, "yes"),
                    false => condition(Condition::Bad, "no"),
                }),
                ("Can lose", html! {
                    @match cluster.survives {
                        Some(1) => "1 more node",
                        Some(count) => { (count) " more nodes" }
                        None => "unknown without a quorum",
                    }
                }),
                ("This node", text(&cluster.node)),
            ]))
            @if let Some(trouble) = &cluster.trouble { div.warning { p { (trouble) "." } } }
        }
    }
}

/// How the guardian stands, as far as the viewer may see it.
fn of_guardian(status: &Status, beside: &Beside, now: Time) -> Vec<(&'static str, Markup)> {
    let mut known = vec![
        (
            "Hosts",
            html! {
                (link(Some(&HOSTS.fixed_path()), &counted(status.registered_hosts, "host")))
                " may attest, " (status.revoked_hosts) " revoked"
            },
        ),
        (
            "Hosts attest by",
            text(how_hosts_attest(status.attestation_mode)),
        ),
        (
            "Signing certificate",
            certificate(status.primary_signing.as_ref(), now),
        ),
        (
            "Encryption certificate",
            certificate(status.primary_encryption.as_ref(), now),
        ),
        (
            "Attestation signer",
            html! {
                @match &status.attestation_signer {
                    Some(signer) => { "ends " (time(&signer.not_after, now)) }
                    None => (condition(Condition::Bad, "none")),
                }
            },
        ),
    ];
    if let Some(certificates) = &beside.certificates {
        known.extend(of_certificates(certificates, now));
    }
    if let Some(until) = &beside.rekey_window_until {
        let open = html! { (condition(Condition::Attention, "open")) " until " (time(until, now)) };
        known.push(("Re-key window", open));
    }
    if let Some(backup) = &beside.backup {
        known.push(("Newest backup", newest_backup(backup.as_deref(), now)));
    }
    known.push(("Version", text(&status.version)));
    known
}

/// Tenants, compromised keys, keys that are away, and which certificate ends next.
fn of_certificates(certificates: &[Certificate], now: Time) -> Vec<(&'static str, Markup)> {
    let tenants: BTreeSet<_> = certificates.iter().filter_map(tenant).collect();
    let count = |is_meant: fn(&Certificate) -> bool| {
        let meant = certificates
            .iter()
            .filter(|certificate| is_meant(certificate));
        meant.count()
    };
    let number = |count: usize, how| match count {
        0 => text(0),
        count => condition(how, &count.to_string()),
    };
    let next = certificates
        .iter()
        .filter(|certificate| certificate.enabled);
    let next = next.min_by(|one, other| one.not_after.cmp(&other.not_after));
    vec![
        (
            "Certificate that ends next",
            html! {
                @match next {
                    Some(next) => { (text(next.kind)) ", " (next.lineage) ": " (time(&next.not_after, now)) }
                    None => span.none { "none" },
                }
            },
        ),
        (
            "Enabled certificates whose key can't be used here",
            number(
                count(|certificate| certificate.enabled && !certificate.usable),
                Condition::Bad,
            ),
        ),
        (
            "Certificates that are marked as compromised",
            number(
                count(|certificate| certificate.compromised.is_some()),
                Condition::Attention,
            ),
        ),
        ("Tenants with keys of their own", text(tenants.len())),
    ]
}

fn newest_backup(made: Option<&str>, now: Time) -> Markup {
    html! {
        @match made {
            Some(made) => (time(made, now)),
            None => {
                (condition(Condition::Attention, "none"))
                " that the log has. Make one: " code { "hgs state export hgs.age" }
            }
        }
    }
}

/// What the act does, and the form that does it.
pub(crate) fn try_release(error: Option<&AdminError>) -> Page {
    let back = Path::start();
    let button = Button {
        text: "Try it",
        is_dangerous: false,
        back: Some(&back),
    };
    let body = html! {
        @if let Some(error) = error { (elements::error(error)) }
        p { "The guardian makes up a host, an owner and a protector. It has the keys released as for a host, and a tampered protector refused. The keys of the primary certificates work for it." }
        p { "It leaves records in the log, and changes nothing. " code { "hgs trace" } " does this too, and looks at everything else." }
        (form(&TRY_RELEASE.fixed_path(), button, &html! {}))
    };
    Page::new("Try whether a VM can start", body)
}
