//! Machines: the shielded VMs, each known by the line of its key protectors.

use hgs_admin::types::{AuditRecord, Protector, ProtectorLineage, ProtectorStage};
use hgs_pki::Time;
use maud::{Markup, html};
use serde::{Deserialize, Serialize};

use super::counted;
use super::log::{self, standing};
use crate::elements::{
    Condition, beginning, commands, condition, digest, facts, link, or_none, table, text, time,
};
use crate::routes::HOST;
use crate::routes::log::RECORD;
use crate::routes::machines::{MACHINE, MACHINES};
use crate::{Page, Path, Viewer};

/// Machines on one page.
pub(crate) const PAGE: usize = 100;
/// Of so many protectors of a line the records are shown, from the newest on.
pub(crate) const RECORDED: usize = 20;

/// Which machines a page shows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Wanted {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) host: String,
    /// Where the page before has ended.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) until: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) after: String,
}

/// The machines whose keys were last released to a host.
pub(crate) fn of_host(host: &str) -> Path {
    let wanted = Wanted {
        host: host.to_owned(),
        ..Wanted::default()
    };
    MACHINES.fixed_path().with_query(&wanted)
}

pub(crate) fn list(
    machines: &[Protector],
    wanted: &Wanted,
    unusual: &[AuditRecord],
    viewer: &Viewer,
    now: Time,
) -> Page {
    let rows: Vec<_> = machines.iter().map(|one| row(one, viewer, now)).collect();
    let headings = [
        "Newest protector",
        "Last release",
        "Host",
        "Lineage",
        "Owner",
    ];
    let body = html! {
        p {
            "The guardian knows a VM by its key protector, which is replaced at each start and each move, and does not know its name. "
            "This prints the digest of a protector:"
        }
        (commands("verify", "hgs protector verify vm.xml"))
        @if !unusual.is_empty() { (rolled_back(unusual, viewer, now)) }
        section aria-labelledby="machines" {
            h2 id="machines" { "All machines" }
            @if !wanted.host.is_empty() {
                p { "Those whose keys were last released to " strong { (wanted.host) } ". " (link(Some(&MACHINES.fixed_path()), "All machines")) }
            }
            @if machines.is_empty() {
                p { "No keys were released" @if !wanted.host.is_empty() { " to this host" } " yet. A VM is here once a host has started it: " code { "guarded-host protector unwrap" } ", or the agent." }
            } @else {
                (table("Machines, the last released first", &headings, &rows))
            }
            @if let Some(last) = machines.last().filter(|_| machines.len() == PAGE) {
                @let next = Wanted { until: last.last.clone(), after: last.protector.clone(), ..wanted.clone() };
                p { (link(Some(&MACHINES.fixed_path().with_query(&next)), "The next machines")) }
            }
        }
    };
    Page::new("Machines", body)
}

fn row(machine: &Protector, viewer: &Viewer, now: Time) -> Vec<Markup> {
    vec![
        short(&machine.protector, viewer),
        time(&machine.last, now),
        host(machine, viewer),
        or_none(machine.lineage.as_deref()),
        html! { code.word { (beginning(&machine.owner)) } },
    ]
}

/// A protector by the beginning of its digest.
fn short(digest: &str, viewer: &Viewer) -> Markup {
    let path = MACHINE.path_for(viewer, digest);
    html! { code.word { (link(path.as_ref(), beginning(digest))) } }
}

fn host(protector: &Protector, viewer: &Viewer) -> Markup {
    let name = protector.host_name.as_deref();
    let path = name.and_then(|name| HOST.path_for(viewer, name));
    link(path.as_ref(), name.unwrap_or(&protector.host))
}

/// Releases of protectors that were not the newest of their lines.
fn rolled_back(records: &[AuditRecord], viewer: &Viewer, now: Time) -> Markup {
    html! {
        section aria-labelledby="unusual" {
            h2 id="unusual" { "Rolled back or copied of late" }
            p { "Among the newest 1000 releases. If nobody restored or copied these VMs, find out who did: their state is of an earlier time, or runs twice." }
            (releases("Releases of older protectors", records, viewer, now))
        }
    }
}

fn releases(caption: &str, records: &[AuditRecord], viewer: &Viewer, now: Time) -> Markup {
    let headings = ["Record", "When", "Host", "Came in", "Standing", "Went out"];
    let protector = |digest: &Option<String>| match digest {
        Some(digest) => short(digest, viewer),
        None => html! {},
    };
    let rows: Vec<_> = records
        .iter()
        .map(|record| {
            let number = record.sequence.to_string();
            vec![
                link(RECORD.path_for(viewer, &number).as_ref(), &number),
                time(&record.time, now),
                log::host(record, viewer),
                protector(&record.protector),
                html! { @if let Some(found) = record.standing { (standing(found)) } @else { (text(&record.action)) } },
                protector(&record.egress_protector),
            ]
        })
        .collect();
    table(caption, &headings, &rows)
}

pub(crate) fn one(
    line: &ProtectorLineage,
    records: &[AuditRecord],
    viewer: &Viewer,
    now: Time,
) -> Page {
    let machine = &line.protector;
    let body = html! {
        (verdict(machine.stage, records))
        (facts([
            ("Protector", digest(&machine.protector)),
            ("It is", stage(machine.stage)),
            (if machine.stage == ProtectorStage::Issued { "Made" } else { "Last release" }, time(&machine.last, now)),
            ("Host", host(machine, viewer)),
            ("Lineage", or_none(machine.lineage.as_deref())),
            ("Opened by", html! { @match &machine.guardian { Some(guardian) => (digest(guardian)), None => span.none { "none" } } }),
            ("Signing certificate of its owner", digest(&machine.owner)),
            ("Made from", html! { @match &machine.parent { Some(parent) => (short(parent, viewer)), None => span.none { "nothing that is known here" } } }),
        ]))
        section aria-labelledby="releases" {
            h2 id="releases" { "Releases" }
            @if records.is_empty() { p { "The records of its releases were archived." } }
            @else { (releases("What the log has, the newest first", records, viewer, now)) }
            p.help { "Of the newest " (RECORDED) " protectors of its line." }
        }
        (relatives("ancestors", "What it was made from", "Protectors, the newest first", &line.ancestors, viewer, now))
        (relatives("issued", "What was made from it and never came back", "Protectors", &line.issued, viewer, now))
    };
    Page::new(format!("Machine {}", beginning(&machine.protector)), body)
}

/// Whether the line shows that the VM was rolled back or copied, and what to do then.
fn verdict(stage: ProtectorStage, records: &[AuditRecord]) -> Markup {
    let unusual = records
        .iter()
        .filter(|record| log::is_of_older(record))
        .count();
    html! {
        @if unusual > 0 {
            div.warning {
                p { (condition(Condition::Attention, "Rolled back or copied")) " An older protector of this line came back: " (counted(unusual, "time")) "." }
                p { "If the VM was restored from a backup, or a move failed late, this is why. Otherwise somebody has copied it: find the copy, and revoke the host that runs it." }
            }
        } @else {
            p { (condition(Condition::Good, "Nothing unusual")) " No older protector came back, as far as these records go." }
        }
        @if stage == ProtectorStage::Ancestor { p { "This is not the newest protector of its line: one that was made from it came back." } }
    }
}

fn stage(stage: ProtectorStage) -> Markup {
    text(match stage {
        ProtectorStage::Issued => "made at a release, and never came back",
        ProtectorStage::Head => "the newest of its line that came back",
        ProtectorStage::Ancestor => "superseded by one that was made from it",
    })
}

fn relatives(
    id: &'static str,
    title: &str,
    caption: &str,
    protectors: &[Protector],
    viewer: &Viewer,
    now: Time,
) -> Markup {
    let headings = ["Protector", "Last", "Host", "It is"];
    let rows: Vec<_> = protectors
        .iter()
        .map(|one| {
            vec![
                short(&one.protector, viewer),
                time(&one.last, now),
                host(one, viewer),
                stage(one.stage),
            ]
        })
        .collect();
    html! {
        @if !rows.is_empty() {
            section aria-labelledby=(id) {
                h2 id=(id) { (title) }
                (table(caption, &headings, &rows))
            }
        }
    }
}
