//! Events: what changes while somebody looks.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use hgs_audit::Outcome;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{NamedAction, named};
use crate::text;
use crate::{AdminError, Permission};

/// Which events are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EventQuery {
    /// Begin after the audit record with this number. The header `Last-Event-ID` goes before it.
    #[schemars(with = "Option<text::Number>")]
    pub since: Option<u64>,
    /// Begin with so many of the newest audit records, where `since` is absent; with none of them if this is absent too.
    #[schemars(with = "Option<text::Number>")]
    pub recent: Option<u64>,
    /// Only these kinds, separated by commas. Without it, all that the caller is permitted to see.
    #[serde(with = "kinds")]
    #[schemars(schema_with = "kinds::schema")]
    pub kind: Option<EventKinds>,
    /// Whether to wait for further events, which is so if this is absent. Otherwise the answer ends with `caught-up`.
    pub follow: Option<bool>,
}

/// What an event is about. Each kind needs a permission of its own.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// A host was refused a health certificate.
    RefusedAttestation,
    /// A host was refused keys.
    RefusedRelease,
    /// A change by an administrator was refused.
    RefusedChange,
    /// A host lost its access: it was revoked, removed or denied.
    Revocation,
    /// A host, or who is trusted to vouch for hosts, was changed otherwise.
    Host,
    /// What hosts are judged by was changed.
    Policy,
    /// A certificate of the guardian was changed.
    Certificate,
    /// A signer of health certificates was changed.
    Signer,
    /// Settings were changed.
    Settings,
    /// A node was invited to the cluster, came or went.
    Cluster,
    /// The state was exported, imported or archived, or its master key was changed.
    State,
    /// This node became able to do its work, or unable.
    Readiness,
    /// A certificate is about to expire, has expired, or is no longer about to.
    Expiry,
}

named!(EventKind);

impl EventKind {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::RefusedAttestation,
        Self::RefusedRelease,
        Self::RefusedChange,
        Self::Revocation,
        Self::Host,
        Self::Policy,
        Self::Certificate,
        Self::Signer,
        Self::Settings,
        Self::Cluster,
        Self::State,
        Self::Readiness,
        Self::Expiry,
    ];

    /// What a caller must be permitted to see events of this kind.
    #[must_use]
    pub fn permission(self) -> Permission {
        match self {
            Self::RefusedAttestation | Self::Revocation | Self::Host => Permission::ViewHosts,
            Self::RefusedRelease | Self::RefusedChange | Self::State => Permission::ViewAudit,
            Self::Policy => Permission::ViewPolicies,
            Self::Certificate => Permission::ViewCertificates,
            Self::Signer => Permission::ViewSigners,
            Self::Settings | Self::Cluster | Self::Readiness | Self::Expiry => {
                Permission::ViewService
            }
        }
    }
}

/// A set of kinds of events, written with commas between.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventKinds(BTreeSet<EventKind>);

impl EventKinds {
    /// Whether `kind` is in the set.
    #[must_use]
    pub fn contains(&self, kind: EventKind) -> bool {
        self.0.contains(&kind)
    }

    /// The kinds.
    pub fn iter(&self) -> impl Iterator<Item = EventKind> {
        self.0.iter().copied()
    }
}

impl FromIterator<EventKind> for EventKinds {
    fn from_iter<I: IntoIterator<Item = EventKind>>(kinds: I) -> Self {
        Self(kinds.into_iter().collect())
    }
}

impl FromStr for EventKinds {
    type Err = AdminError;

    fn from_str(text: &str) -> Result<Self, AdminError> {
        let kind = |name: &str| name.parse().map_err(AdminError::invalid);
        text.split(',').map(kind).collect()
    }
}

impl fmt::Display for EventKinds {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.iter().map(|kind| kind.to_string()).collect();
        formatter.write_str(&names.join(","))
    }
}

/// An event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Event {
    /// A host was refused a health certificate.
    RefusedAttestation(RecordedEvent),
    /// A host was refused keys.
    RefusedRelease(RecordedEvent),
    /// A change by an administrator was refused.
    RefusedChange(RecordedEvent),
    /// A host lost its access: it was revoked, removed or denied.
    Revocation(RecordedEvent),
    /// A host, or who is trusted to vouch for hosts, was changed otherwise.
    Host(RecordedEvent),
    /// What hosts are judged by was changed.
    Policy(RecordedEvent),
    /// A certificate of the guardian was changed.
    Certificate(RecordedEvent),
    /// A signer of health certificates was changed.
    Signer(RecordedEvent),
    /// Settings were changed.
    Settings(RecordedEvent),
    /// A node was invited to the cluster, came or went.
    Cluster(RecordedEvent),
    /// The state was exported, imported or archived, or its master key was changed.
    State(RecordedEvent),
    /// Whether this node can do its work. It is told at the beginning of each stream, and when it changes.
    Readiness(Readiness),
    /// How long a certificate is valid. Those that need attention are told at the beginning of each stream, and each when that
    /// changes.
    Expiry(Expiry),
    /// Events are missing here: what a client knows is to be read anew.
    Gap(Gap),
    /// Everything up to this record was told.
    CaughtUp(CaughtUp),
    /// An event of a later version.
    #[serde(untagged)]
    #[schemars(skip)]
    Other(serde_json::Value),
}

/// An event that is an audit record, in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RecordedEvent {
    /// The number of the audit record, which is the same on all nodes.
    pub sequence: u64,
    /// When.
    #[schemars(with = "text::Time")]
    pub time: String,
    /// The node that made the record.
    pub node: String,
    /// Who asked.
    pub actor: String,
    /// What was asked for.
    pub action: NamedAction,
    /// How it went.
    pub outcome: Outcome,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The id of the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The name that the host had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_name: Option<String>,
    /// How many equal events this one stands for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// The records of the state that were written or removed, as `kind/name`; 32 at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<String>,
}

/// Whether a node can do its work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Readiness {
    /// The node that this stream comes from.
    pub node: String,
    /// When it was looked at.
    #[schemars(with = "text::Time")]
    pub time: String,
    /// Whether it can.
    pub ready: bool,
    /// Why it can't.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// How long a certificate is valid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Expiry {
    /// What it is the certificate of.
    pub usage: CertificateRole,
    /// Its thumbprint; for `tls` the name of the listener, for `client` its name, for `cluster` the name of the file.
    pub name: String,
    /// Its last second.
    #[schemars(with = "text::Time")]
    pub not_after: String,
    /// Where it stands.
    pub stage: ExpiryStage,
}

/// What a certificate is for that has to be renewed.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum CertificateRole {
    /// A signing certificate of the guardian.
    Signing,
    /// An encryption certificate of the guardian.
    Encryption,
    /// The certificate that signs the metadata.
    Communications,
    /// The newest of the guardian's own signers of health certificates, which is renewed by itself.
    AttestationSigner,
    /// The signer of another cluster.
    TrustedSigner,
    /// The next of the valid authorities that vouch for TPMs to expire.
    EndorsementRoot,
    /// The TLS certificate of the HTTPS listener, or of `[listen.api]`.
    Tls,
    /// The certificate of a client of `[listen.api]` or `[listen.console.client_certificates]`, by the client's name.
    Client,
    /// A certificate of this node or of its cluster's authorities. Those of nodes are renewed by themselves.
    Cluster,
}

named!(CertificateRole);

/// How near the end of a certificate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ExpiryStage {
    /// It ends within 30 days.
    ExpiresSoon,
    /// It has ended.
    Expired,
    /// It needs no attention any more: it was renewed, or is no longer used.
    Over,
}

named!(ExpiryStage);

/// Events are missing. What follows begins after a later record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Gap {
    /// The stream was to begin after this record.
    pub after: u64,
    /// The number of the record after which it does.
    pub sequence: u64,
    /// Why.
    pub reason: GapReason,
}

/// Why events are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GapReason {
    /// The records have left the database of this node for an archive.
    Archived,
    /// The guardian has no record with this number: it is another one, or its state was put back.
    Unknown,
}

named!(GapReason);

/// How far a stream has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CaughtUp {
    /// The number of the newest record.
    pub sequence: u64,
}

impl Event {
    /// The event of this kind that is an audit record; none for the kinds that are no records.
    #[must_use]
    pub fn recorded(kind: EventKind, record: RecordedEvent) -> Option<Self> {
        Some(match kind {
            EventKind::RefusedAttestation => Self::RefusedAttestation(record),
            EventKind::RefusedRelease => Self::RefusedRelease(record),
            EventKind::RefusedChange => Self::RefusedChange(record),
            EventKind::Revocation => Self::Revocation(record),
            EventKind::Host => Self::Host(record),
            EventKind::Policy => Self::Policy(record),
            EventKind::Certificate => Self::Certificate(record),
            EventKind::Signer => Self::Signer(record),
            EventKind::Settings => Self::Settings(record),
            EventKind::Cluster => Self::Cluster(record),
            EventKind::State => Self::State(record),
            EventKind::Readiness | EventKind::Expiry => return None,
        })
    }

    /// The name of its kind, which is also the name of the event in the stream.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::RefusedAttestation(_) => "refused-attestation",
            Self::RefusedRelease(_) => "refused-release",
            Self::RefusedChange(_) => "refused-change",
            Self::Revocation(_) => "revocation",
            Self::Host(_) => "host",
            Self::Policy(_) => "policy",
            Self::Certificate(_) => "certificate",
            Self::Signer(_) => "signer",
            Self::Settings(_) => "settings",
            Self::Cluster(_) => "cluster",
            Self::State(_) => "state",
            Self::Readiness(_) => "readiness",
            Self::Expiry(_) => "expiry",
            Self::Gap(_) => "gap",
            Self::CaughtUp(_) => "caught-up",
            Self::Other(value) => value["kind"].as_str().unwrap_or("other"),
        }
    }

    /// The audit record that it is, if it is one.
    #[must_use]
    pub fn record(&self) -> Option<&RecordedEvent> {
        match self {
            Self::RefusedAttestation(record)
            | Self::RefusedRelease(record)
            | Self::RefusedChange(record)
            | Self::Revocation(record)
            | Self::Host(record)
            | Self::Policy(record)
            | Self::Certificate(record)
            | Self::Signer(record)
            | Self::Settings(record)
            | Self::Cluster(record)
            | Self::State(record) => Some(record),
            Self::Readiness(_)
            | Self::Expiry(_)
            | Self::Gap(_)
            | Self::CaughtUp(_)
            | Self::Other(_) => None,
        }
    }
}

/// The kinds in a query.
mod kinds {
    use schemars::{Schema, SchemaGenerator, json_schema};
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    use super::{EventKind, EventKinds};

    pub(super) fn serialize<S: Serializer>(
        kinds: &Option<EventKinds>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match kinds {
            Some(kinds) => serializer.collect_str(kinds),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<EventKinds>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        let kinds = text.map(|text| text.parse());
        kinds.transpose().map_err(D::Error::custom)
    }

    pub(super) fn schema(_: &mut SchemaGenerator) -> Schema {
        let names: Vec<_> = EventKind::ALL.iter().map(ToString::to_string).collect();
        let one = format!("({})", names.join("|"));
        json_schema!({
            "type": ["string", "null"],
            "pattern": format!("^{one}(,{one})*$"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_kind_is_missing_from_the_list_and_each_has_one_name() {
        let schema = schemars::schema_for!(EventKind).to_value();
        let variants = schema["oneOf"].as_array().map(Vec::len);
        assert_eq!(variants, Some(EventKind::ALL.len()), "{schema}");
        for kind in EventKind::ALL {
            let record = RecordedEvent {
                sequence: 7,
                time: "2026-11-29T12:00:00Z".to_owned(),
                node: "node-1".to_owned(),
                actor: "uid 0 (root)".to_owned(),
                action: "revoke-host".parse().unwrap(),
                outcome: Outcome::Done,
                reason: None,
                host: None,
                host_name: Some("host1".to_owned()),
                count: None,
                changes: Vec::new(),
            };
            let Some(event) = Event::recorded(*kind, record) else {
                assert!([EventKind::Readiness, EventKind::Expiry].contains(kind));
                continue;
            };
            assert_eq!(event.name(), kind.to_string());
            let json = serde_json::to_value(&event).unwrap();
            assert_eq!(json["kind"], kind.to_string());
            assert_eq!(serde_json::from_value::<Event>(json).unwrap(), event);
        }
    }

    #[test]
    fn an_event_of_a_later_version_is_kept_as_it_is() {
        let json = serde_json::json!({"kind": "eclipse", "planet": "moon"});
        let event: Event = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(event, Event::Other(json.clone()));
        assert_eq!(event.name(), "eclipse");
        assert_eq!(serde_json::to_value(event).unwrap(), json);
    }

    #[test]
    fn kinds_are_written_with_commas_between() {
        let kinds: EventKinds = "revocation,host".parse().unwrap();
        assert!(kinds.contains(EventKind::Host) && !kinds.contains(EventKind::State));
        assert_eq!(kinds.to_string(), "revocation,host");
        for text in ["", "host,", "hosts", "host, state", "gap"] {
            assert!(text.parse::<EventKinds>().is_err(), "{text}");
        }
    }
}
