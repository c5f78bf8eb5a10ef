//! How measurements of hosts are judged.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{read, text};

/// Evidence to be judged without a host that attests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SimulatePolicies {
    /// The event log of a boot: Base64.
    #[schemars(with = "text::Base64")]
    pub log: String,
    /// The IMA log: Base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<text::Base64>")]
    pub ima: Option<String>,
    /// Values of PCRs of the SHA-256 bank, in hexadecimal, by number.
    #[schemars(with = "BTreeMap<text::PcrNumber, text::Digest>")]
    pub pcrs: BTreeMap<u8, String>,
    /// The host, by name or id, whose group and own measurements count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<text::HostName>")]
    pub host: Option<String>,
    /// The group whose policies count, if no host is named; without one, the default group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<text::ShortName>")]
    pub group: Option<String>,
    /// What is tried.
    #[serde(default, deserialize_with = "read::object")]
    pub trial: Trial,
}

/// Changes that are tried and not made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Trial {
    /// Policies and documents that count as enabled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<text::ShortName>")]
    pub enable: Vec<String>,
    /// Policies and documents that count as disabled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<text::ShortName>")]
    pub disable: Vec<String>,
    /// Baselines, as text, by name: they count as enabled, in the place of those with the same names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<text::ShortName, String>")]
    pub baselines: BTreeMap<String, String>,
    /// Code-integrity policies, as text, by name: they count as enabled, in the place of those with the same names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<text::ShortName, String>")]
    pub ci_policies: BTreeMap<String, String>,
}

/// How the measurements of one boot are judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Judgement {
    /// The host, by name; absent for evidence of no host.
    #[serde(default)]
    #[schemars(with = "Option<text::HostName>")]
    pub host: Option<String>,
    /// When the host sent the evidence; absent for evidence of no host.
    #[serde(default)]
    #[schemars(with = "Option<text::Time>")]
    pub time: Option<String>,
    /// Whether the host would get a health certificate.
    pub healthy: bool,
    /// Why nothing could be judged: there is no evidence, it does not hold, or the group of the host has no baseline.
    #[serde(default)]
    pub problem: Option<String>,
    /// The baseline that the boot matches.
    #[serde(default)]
    pub baseline: Option<String>,
    /// The baseline that it matches best, if it matches none.
    #[serde(default)]
    pub nearest_baseline: Option<String>,
    /// Each policy, and how it was decided.
    pub policies: Vec<PolicyOutcome>,
    /// Where the boot differs from the nearest baseline.
    pub differences: Vec<Difference>,
    /// What refusals for the same reason have in common.
    #[serde(default)]
    pub difference_group: Option<String>,
    /// What is approved and was booted: also of a boot that differs elsewhere.
    #[serde(default)]
    pub used: Vec<UsedAlternative>,
}

/// An alternative of a component, or a set of files, that a boot used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UsedAlternative {
    /// The baseline, or the code-integrity policy.
    pub document: String,
    /// The component of the baseline; `files` for a code-integrity policy.
    pub component: String,
    /// The alternative, or the set of files.
    pub alternative: String,
    /// Whether no host had booted it before.
    pub staged: bool,
    /// Whether it is approved for this host only.
    pub of_host: bool,
}

/// How a policy was decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyOutcome {
    /// The name of the policy.
    pub policy: String,
    /// Whether it is on.
    pub enabled: bool,
    /// Whether it held.
    pub held: bool,
    /// Why it did not.
    #[serde(default)]
    pub reason: Option<String>,
}

/// One difference between a boot and a baseline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Difference {
    /// The PCR.
    pub pcr: u8,
    /// The number of the event in the log; absent if events are missing.
    #[serde(default)]
    pub event: Option<u64>,
    /// The component of the baseline that owns the place.
    #[serde(default)]
    pub component: Option<String>,
    /// The slot of that component.
    #[serde(default)]
    pub slot: Option<String>,
    /// Digests that would have been accepted, and what they are of.
    pub expected: Vec<EventSummary>,
    /// How many more there are.
    pub expected_beside: u64,
    /// What was measured.
    pub found: Vec<EventSummary>,
    /// All of it, for people.
    pub text: String,
}

/// An event that was measured, or could have been.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventSummary {
    /// Its digest.
    pub digest: String,
    /// What the digest is of, as far as that is known.
    #[serde(default)]
    pub what: Option<String>,
}

/// Which differences are approved.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApproveHosts {
    /// Hosts, by name or id: what each of them booted last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<text::HostName>")]
    pub hosts: Vec<String>,
    /// A host, by name or id: what it booted last, and what all hosts did that differ in the same way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<text::HostName>")]
    pub like: Option<String>,
    /// What the new alternatives are called; without it, the name of the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

/// What an approval changed, for one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ApprovedHost {
    /// The host.
    #[schemars(with = "text::HostName")]
    pub host: String,
    /// The baseline that its boot was compared with.
    pub baseline: String,
    /// The components that have a new alternative.
    pub components: Vec<String>,
    /// What was approved.
    pub differences: Vec<Difference>,
    /// Whether its last boot would be accepted now.
    pub healthy: bool,
}
