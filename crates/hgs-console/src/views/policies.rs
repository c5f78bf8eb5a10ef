//! What hosts are judged by: the groups of hosts, the policies, and the documents.

use hgs_admin::AdminError;
use hgs_admin::types::{HostGroup, Policy};
use hgs_attest::policy::PolicyName;
use maud::{Markup, html};
use serde::{Deserialize, Serialize};

use super::judgement;
use crate::acts::policies::Change;
use crate::effect::Effect;
use crate::elements::{
    self, Button, Condition, act_link, condition, form, link, table, text, word,
};
use crate::routes::Route;
use crate::routes::policies::{
    ADD_DOCUMENT, DISABLE_POLICY, DOCUMENT, ENABLE_POLICY, POLICIES, RESET_POLICY,
};
use crate::{Page, Path, Viewer};

/// The kind of what decides by itself, and has no document.
const POLICY: &str = "policy";

/// Of which group a page is.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct OfGroup {
    /// The group; absent for the default group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<String>,
}

impl OfGroup {
    pub(crate) fn name(&self) -> &str {
        self.group.as_deref().unwrap_or("default")
    }

    fn is_default(&self) -> bool {
        self.name() == "default"
    }
}

pub(crate) fn page(
    of_group: &OfGroup,
    groups: &[HostGroup],
    policies: &[Policy],
    viewer: &Viewer,
) -> Page {
    let (rules, documents): (Vec<_>, Vec<_>) =
        policies.iter().partition(|policy| policy.kind == POLICY);
    let row = |policy: &&Policy| row(policy, of_group, viewer);
    let has_baseline = documents.iter().any(|document| document.kind == "baseline");
    let rules: Vec<_> = rules.iter().map(row).collect();
    let documents: Vec<_> = documents.iter().map(row).collect();
    let add = viewer
        .may(ADD_DOCUMENT.operations)
        .then(|| ADD_DOCUMENT.fixed_path());
    let headings = ["Name", "What has to hold", "State", "Set by", "Change"];
    let kinds = ["Name", "Kind", "State", "Set by", "Change"];
    let body = html! {
        @if groups.len() > 1 { (choice(of_group, groups)) }
        @for group in groups.iter().filter(|group| group.name == of_group.name()) {
            @if let Some(problem) = &group.problem { div.warning { p { (problem) "." } } }
        }
        section aria-labelledby="documents" {
            h2 id="documents" { "Baselines and other documents" }
            @if !has_baseline {
                p { "There is no baseline yet, so no host with a TPM can be healthy. On a host that you trust, write down what it has booted, and add the file here:" }
                (elements::commands("baseline", "guarded-host baseline export --out model-a.json --host-measurements host1-own.json"))
            }
            @if !documents.is_empty() { (table("Documents that measurements are compared with", &kinds, &documents)) }
            p.acts { (act_link(add.as_ref(), "Add a document")) }
        }
        section aria-labelledby="policies" {
            h2 id="policies" { "Policies" }
            (table("A host is healthy if every enabled policy holds", &headings, &rules))
        }
    };
    let title = match of_group.is_default() {
        true => "Baselines and policies".to_owned(),
        false => format!("Baselines and policies of {}", of_group.name()),
    };
    Page::new(title, body)
}

fn choice(of_group: &OfGroup, groups: &[HostGroup]) -> Markup {
    html! {
        nav.groups aria-label="Groups of hosts" {
            ul {
                @for group in groups {
                    @let other = OfGroup { group: (group.name != "default").then(|| group.name.clone()) };
                    li {
                        (elements::menu_link(&POLICIES.fixed_path().with_query(&other), &group.name, group.name == of_group.name()))
                        " " span.help { (super::counted(group.hosts, "host")) }
                    }
                }
            }
        }
    }
}

fn row(policy: &Policy, of_group: &OfGroup, viewer: &Viewer) -> Vec<Markup> {
    let is_document = policy.kind != POLICY;
    let name = match is_document {
        true => link(
            DOCUMENT.path_for(viewer, &policy.name).as_ref(),
            &policy.name,
        ),
        false => text(&policy.name),
    };
    let state = match policy.enabled {
        true => condition(Condition::Good, "enabled"),
        false => condition(Condition::Neutral, "disabled"),
    };
    let what = match PolicyName::from_name(&policy.name).filter(|_| !is_document) {
        Some(name) => text(meaning(name)),
        None => word(&policy.kind),
    };
    let set_by = html! {
        @match policy.set_for.as_deref() {
            Some(group) if group == of_group.name() => "this group",
            Some(group) => { "the group " (group) },
            None => span.none { "nobody" },
        }
    };
    vec![name, what, state, set_by, change(policy, of_group, viewer)]
}

/// What a policy asks of a host that runs Linux, in short; `docs/policies.md` has all of it.
fn meaning(name: PolicyName) -> &'static str {
    match name {
        PolicyName::SecureBootEnabled => "Secure Boot is on.",
        PolicyName::SecureBootSettings => "What was booted matches a baseline.",
        PolicyName::UefiDebugDisabled => "No debugger of the firmware or the kernel is attached.",
        PolicyName::CiPolicy => "The files that were run are in a code-integrity policy.",
        PolicyName::HypervisorEnforcedCiPolicy => "The kernel refuses code that is not signed.",
        PolicyName::FullBoot => "The host can't resume from hibernation.",
        PolicyName::VsmIdkPresent => "The identity key is a key of the host's TPM.",
        PolicyName::VsmRunning => "Virtual Secure Mode runs, which is of Windows.",
        PolicyName::PageFileEncryptionEnabled => "No swap is activated.",
        PolicyName::BitLockerEnabled => "BitLocker encrypts the disk, which is of Windows.",
        PolicyName::IommuEnabled => "Devices reach memory through an IOMMU only.",
        PolicyName::NoHibernation => "The host can't hibernate.",
        PolicyName::NoDumps => "No crash dump can be written.",
        PolicyName::DumpEncryption => "No crash dump can be written, or it is encrypted.",
        PolicyName::DumpEncryptionKey => {
            "No crash dump can be written, or it is encrypted to a registered key."
        }
    }
}

fn change(policy: &Policy, of_group: &OfGroup, viewer: &Viewer) -> Markup {
    let act = |route: &Route, said: &str| {
        let path = route.path_for(viewer, &policy.name);
        act_link(path.map(|path| path.with_query(of_group)).as_ref(), said)
    };
    html! {
        @match policy {
            Policy { locked: true, .. } => "always on",
            Policy { undecided: true, enabled: false, .. } => "never: no measurement tells",
            Policy { enabled: true, .. } => (act(&DISABLE_POLICY, "Disable")),
            Policy { .. } => (act(&ENABLE_POLICY, "Enable")),
        }
        @if !of_group.is_default() && policy.set_for.as_deref() == Some(of_group.name()) {
            " " (act(&RESET_POLICY, "Follow the default group"))
        }
    }
}

pub(crate) fn set(
    policy: &Policy,
    change: Change,
    of_group: &OfGroup,
    effect: &Effect,
    error: Option<&AdminError>,
) -> Page {
    let (route, verb, said) = match change {
        Change::Enable => (
            &ENABLE_POLICY,
            "Enable",
            "From the next attestation on, it has to hold.",
        ),
        Change::Disable => (
            &DISABLE_POLICY,
            "Disable",
            "From the next attestation on, it does not count.",
        ),
        Change::Reset => (
            &RESET_POLICY,
            "Take back the setting of",
            "The group follows the default group again.",
        ),
    };
    let back = POLICIES.fixed_path().with_query(of_group);
    let path = Path::or_start(route.path_of(&policy.name)).with_query(of_group);
    let button = Button {
        text: verb,
        is_dangerous: true,
        back: Some(&back),
    };
    let body = html! {
        @if let Some(error) = error { (elements::error(error)) }
        p { (said) @if of_group.is_default() { " Groups with a setting of their own keep it." } }
        (judgement::effect(effect))
        (form(&path, button, &html! {}))
    };
    Page::new(
        format!("{verb} {} for the group {}", policy.name, of_group.name()),
        body,
    )
}
