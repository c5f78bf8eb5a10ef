//! What hosts with TPMs are judged by.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::text;

/// A group of hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostGroup {
    /// Its name. `default` has the hosts that are in no other group.
    #[schemars(with = "text::ShortName")]
    pub name: String,
    /// How many hosts are in it.
    pub hosts: usize,
    /// Policies and documents that are set for it, and not as in the default group.
    pub settings: usize,
    /// Why its hosts can't be healthy; absent if they can.
    pub problem: Option<String>,
    /// When it was made; absent for the default group, which is always there.
    #[schemars(with = "Option<text::Time>")]
    pub added: Option<String>,
}

/// A group of hosts to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewHostGroup {
    /// Its name.
    #[schemars(with = "text::ShortName")]
    pub name: String,
}

/// Kinds of documents that measurements are compared with.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum DocumentKind {
    /// What may be measured when a host boots.
    Baseline,
    /// Which files a host may use.
    CiPolicy,
    /// What may write crash dumps.
    DumpKey,
}

super::named!(DocumentKind);

/// A document that measurements are compared with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyDocument {
    /// Its name.
    #[schemars(with = "text::ShortName")]
    pub name: String,
    /// Its kind.
    pub kind: DocumentKind,
    /// The groups that have it enabled.
    #[schemars(with = "Vec<text::ShortName>")]
    pub enabled: Vec<String>,
    /// The octets of the document.
    pub octets: usize,
    /// SHA-256 of the document.
    #[schemars(with = "text::Digest")]
    pub digest: String,
    /// When it was added.
    #[schemars(with = "text::Time")]
    pub added: String,
    /// When it was last changed.
    #[schemars(with = "Option<text::Time>")]
    pub changed: Option<String>,
}

/// A document in full.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyDocumentDetail {
    /// What listings show.
    #[serde(flatten)]
    pub document: PolicyDocument,
    /// The document, as text.
    pub text: String,
}

/// A document to be added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AddPolicyDocument {
    /// Its name.
    #[schemars(with = "text::ShortName")]
    pub name: String,
    /// Its kind.
    pub kind: DocumentKind,
    /// The document, as text.
    pub text: String,
    /// The group that it is enabled for; absent for the default group, which the others follow.
    #[serde(default)]
    #[schemars(with = "Option<text::ShortName>")]
    pub group: Option<String>,
}

/// What takes the place of a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangePolicyDocument {
    /// The document from now on, as text.
    pub text: String,
    /// SHA-256 of the document that it was made from; nothing is done if that was changed meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<text::Digest>")]
    pub expected: Option<String>,
}

/// What only one host measures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostMeasurements {
    /// The name of the host.
    #[schemars(with = "text::HostName")]
    pub host: String,
    /// The document, as text; absent if it measures nothing of its own.
    pub text: Option<String>,
    /// SHA-256 of the document, in hexadecimal.
    #[serde(default)]
    #[schemars(with = "Option<text::Digest>")]
    pub digest: Option<String>,
    /// When it was last changed.
    #[schemars(with = "Option<text::Time>")]
    pub changed: Option<String>,
}

/// What only one host measures from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetHostMeasurements {
    /// The document, as text; absent if it measures nothing of its own.
    pub text: Option<String>,
    /// SHA-256 of the document that it was made from, or `none` if there was none; nothing is done if that was changed meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<text::DigestOrNone>")]
    pub expected: Option<String>,
}

/// A policy or a document, as it is set for a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// `policy`, or the kind of a document.
    pub kind: String,
    /// The GUID by which replies name a policy.
    pub guid: Option<String>,
    /// Whether it is enabled.
    pub enabled: bool,
    /// Whether it can't be disabled.
    pub locked: bool,
    /// Whether nothing that is measured decides it, so that it can't be enabled.
    pub undecided: bool,
    /// Which group it is set for: the one that was asked for, or `default`. Absent if it is as it is by itself.
    #[schemars(with = "Option<text::ShortName>")]
    pub set_for: Option<String>,
}

/// Of which group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyQuery {
    /// The group; absent for the default group.
    #[schemars(with = "Option<text::ShortName>")]
    pub group: Option<String>,
}

/// The group that a policy is set for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SetPolicy {
    /// The group; absent for the default group, which the others follow.
    #[schemars(with = "Option<text::ShortName>")]
    pub group: Option<String>,
}

/// How the last attempt of a host to attest went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LastAttempt {
    /// When.
    #[schemars(with = "text::Time")]
    pub time: String,
    /// Whether it got a health certificate.
    pub healthy: bool,
    /// Why not.
    pub reason: Option<String>,
    /// The policies that failed.
    pub failed_policies: Vec<String>,
    /// SHA-256 of what its measurements were judged by.
    #[schemars(with = "Option<text::Digest>")]
    pub policies_digest: Option<String>,
    /// What hosts share whose measurements differ from what is approved in the same way.
    #[schemars(with = "Option<text::Digest>")]
    pub difference_digest: Option<String>,
    /// SHA-256 of its evidence.
    #[schemars(with = "Option<text::Digest>")]
    pub evidence_digest: Option<String>,
}

/// The last evidence of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostEvidence {
    /// The name of the host.
    #[schemars(with = "text::HostName")]
    pub host: String,
    /// How the attempt went to which it belongs.
    pub attempt: LastAttempt,
    /// The values of PCRs that its TPM proved, of the SHA-256 bank.
    pub pcr_values: Vec<PcrValue>,
    /// The event log, in Base64.
    #[schemars(with = "text::Base64")]
    pub event_log: String,
    /// The IMA log, in Base64.
    #[schemars(with = "text::Base64")]
    pub ima_log: String,
    /// The octets of the IMA log, if it was too long to be kept.
    pub ima_log_left_out: Option<u32>,
    /// What events were made from, as the host says.
    pub preimages: Vec<EventPreimage>,
    /// What user space measured of which only the digest is known.
    #[serde(default)]
    pub unexplained: Vec<UnexplainedEvent>,
}

/// The value of a PCR.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PcrValue {
    /// The number of the PCR.
    pub pcr: usize,
    /// The value, in hexadecimal.
    #[schemars(with = "text::Digest")]
    pub value: String,
}

/// What an event was made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventPreimage {
    /// The number of the PCR.
    pub pcr: u8,
    /// The number of the event in the log.
    pub event: u32,
    /// The octets, in Base64.
    #[schemars(with = "text::Base64")]
    pub octets: String,
}

/// An event of user space that nothing says the origin of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UnexplainedEvent {
    /// The number of the PCR.
    pub pcr: u8,
    /// Its number, from that of the log's events on.
    pub event: u32,
    /// What the PCR was extended with, in hexadecimal.
    pub digest: String,
}

/// Changes of a host. What is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SetHost {
    /// The group it is in from now on; `default` takes it out of any other.
    #[schemars(with = "Option<text::ShortName>")]
    pub group: Option<String>,
}
