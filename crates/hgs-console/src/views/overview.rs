//! Whether a VM can start now, and what needs attention.

use hgs_admin::types::{Certificate, Cluster, Status};
use hgs_pki::Time;
use maud::{Markup, html};

use super::counted;
use crate::elements::{Condition, condition, digest, facts, link, text, time};
use crate::routes::{ADD_HOST, HOSTS, SETTINGS};
use crate::{Page, Viewer};

/// The warning that nothing can be recorded, and so nothing is released.
const NOT_WRITABLE: &str = "state-not-writable";

pub(crate) fn page(status: &Status, cluster: Option<&Cluster>, viewer: &Viewer, now: Time) -> Page {
    let body = html! {
        (verdict(status, cluster))
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
        section aria-labelledby="guardian" {
            h2 id="guardian" { (status.name) }
            (facts([
                ("Hosts", html! {
                    (link(Some(&HOSTS.fixed_path()), &counted(status.registered_hosts, "host")))
                    " may attest, " (status.revoked_hosts) " revoked"
                }),
                ("How hosts attest", text(status.attestation_mode)),
                ("Signing certificate", certificate(status.primary_signing.as_ref(), now)),
                ("Encryption certificate", certificate(status.primary_encryption.as_ref(), now)),
                ("Attestation signer", html! {
                    @match &status.attestation_signer {
                        Some(signer) => { "ends " (time(&signer.not_after, now)) }
                        None => (condition(Condition::Bad, "none")),
                    }
                }),
                ("Version", text(&status.version)),
            ]))
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
        div.verdict {
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
            "expires " (time(&certificate.not_after, now)) " " (digest(&certificate.thumbprint))
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
