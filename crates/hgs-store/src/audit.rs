//! The audit log: what was done, by whom, to what, and what was refused.
//!
//! Records are numbered from 1 without gaps, and each record's tag is over the tag before it, so
//! none can be changed, left out, moved or inserted. The tag of the newest is part of the tag of
//! the whole (table `store`), which every commit renews: cutting off the end is found too. As
//! everywhere in the store, only putting back the whole database as it was at an earlier commit is
//! not; the high-water mark finds that.
//!
//! Old records can leave the database for an [`archive`]. What is left begins after a sealed boundary.
//!
//! The engine numbers a record when it commits it, so the number is not in the record's text.

pub(crate) mod archive;
mod query;

use std::fmt;

use hgs_audit::Standing;
pub use hgs_audit::{Action, Outcome, RequestId};
use hgs_custody::seal::Authenticator;
use hgs_pki::{Thumbprint, Time};
use hgs_protector::transport_key_blob::CachingPolicy;
use serde::{Deserialize, Serialize};

pub(crate) use archive::Boundary;
pub use archive::{Archive, ArchiveError, MAX_ARCHIVE_LENGTH, fuzz_audit_archive};
pub use query::{AuditFilter, LaterRecords};
pub(crate) use query::{after, list, show, terms};

use crate::audit_head::Head;
use crate::engine::{AuditRow, NewAuditRow, View};
use crate::model::{Digest, HostName, text};
use crate::record::RecordKind;
use crate::{Finding, StoreError, Tampered};
use hgs_kps::Lineage;
use hgs_pki::SerialNumber;
use hgs_pki::health::HostId;

/// One entry of the audit log. It never holds a secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// Its number, from 1.
    #[serde(default, skip_serializing_if = "is_not_numbered")]
    pub sequence: u64,
    /// Of which node of the service.
    pub node: String,
    /// The generation of the state after it.
    pub generation: u64,
    /// The entry itself.
    #[serde(flatten)]
    pub entry: AuditEntry,
    /// The records that were written or removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<RecordChange>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference to the field"
)]
fn is_not_numbered(sequence: &u64) -> bool {
    *sequence == 0
}

/// What is said in an audit record; what does not apply is left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// When.
    #[serde(with = "text::display")]
    pub time: Time,
    /// Who asked for it.
    pub actor: String,
    /// What was asked for.
    pub action: Action,
    /// Whether it was done.
    pub outcome: Outcome,
    /// The request that led to it. Programs that don't know it yet leave it where it is: it changes no format level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestId>,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The host it is about: the id of a registered one, or what another cluster's health
    /// certificate calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The name of a registered host at that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_name: Option<String>,
    /// The serial number of its health certificate.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "text::optional"
    )]
    pub serial: Option<SerialNumber>,
    /// The digest of the policy its health was judged by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Digest>,
    /// The digest of the protector that was opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protector: Option<Digest>,
    /// The digest of the protector that was given back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress_protector: Option<Digest>,
    /// Where the opened protector stood among its descendants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standing: Option<Standing>,
    /// The owner of the protector.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "text::optional"
    )]
    pub owner: Option<Thumbprint>,
    /// The encryption certificate that opened it.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "text::optional"
    )]
    pub guardian: Option<Thumbprint>,
    /// The lineage of that certificate.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "text::optional"
    )]
    pub lineage: Option<Lineage>,
    /// What the host may do with the released keys while the service is away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offline_use: Option<OfflineUse>,
    /// How many alike events an aggregate stands for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// The record that is meant, as it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<serde_json::Value>,
    /// The record that is meant, as it is from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<serde_json::Value>,
}

/// How a host may use released keys without asking again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfflineUse {
    /// How often.
    pub unwraps: u32,
    /// Until when.
    #[serde(with = "text::display")]
    pub until: Time,
}

impl OfflineUse {
    /// What the policy of a release allows.
    #[must_use]
    pub fn of(policy: CachingPolicy) -> Self {
        let until = i64::try_from(policy.expiry).unwrap_or(i64::MAX);
        Self {
            unwraps: policy.max_offline_unwraps,
            until: Time::from_unix(until),
        }
    }
}

/// A record that a transaction wrote or removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordChange {
    /// Its kind.
    pub kind: RecordKind,
    /// Its name.
    pub name: String,
    /// Whether it is gone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub removed: bool,
}

/// As administrators see it: `kind/name`, with a minus sign where it is gone.
impl fmt::Display for RecordChange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.removed { "-" } else { "" };
        write!(formatter, "{sign}{}/{}", self.kind, self.name)
    }
}

/// Octets that a text from outside may take in a record, so that refusals don't fill the disk.
const MAX_TEXT_LENGTH: usize = 1024;

impl AuditEntry {
    /// An entry about nothing in particular yet.
    #[must_use]
    pub fn new(time: Time, actor: impl Into<String>, action: Action, outcome: Outcome) -> Self {
        Self {
            time,
            actor: actor.into(),
            action,
            outcome,
            request: None,
            reason: None,
            host: None,
            host_name: None,
            serial: None,
            policy: None,
            protector: None,
            egress_protector: None,
            standing: None,
            owner: None,
            guardian: None,
            lineage: None,
            offline_use: None,
            count: None,
            before: None,
            after: None,
        }
    }

    /// The entry about a host of the registry.
    #[must_use]
    pub fn about_host(mut self, id: HostId, name: Option<&HostName>) -> Self {
        self.host = Some(id.to_string());
        self.host_name = name.map(HostName::to_string);
        self
    }

    /// Cuts texts that come from outside.
    pub(crate) fn bounded(mut self) -> Self {
        cut(&mut self.actor);
        let texts = [&mut self.reason, &mut self.host, &mut self.host_name];
        texts.into_iter().flatten().for_each(cut);
        self
    }
}

fn cut(text: &mut String) {
    if text.len() > MAX_TEXT_LENGTH {
        text.truncate(text.floor_char_boundary(MAX_TEXT_LENGTH));
        text.push('…');
    }
}

impl Head {
    /// The head after `row`, if it is the next and its tag is right.
    pub(crate) fn verified_next(
        &self,
        authenticator: &Authenticator,
        row: &AuditRow,
    ) -> Result<Self, Tampered> {
        let sequence = self.sequence + 1;
        if row.sequence != sequence {
            return Err(tampered(sequence, Finding::Missing));
        }
        let number = sequence.to_be_bytes();
        let parts = [&number[..], &self.tag, row.text.as_bytes()];
        let changed = || tampered(sequence, Finding::Changed);
        authenticator
            .verify(parts, &row.tag)
            .map_err(|_| changed())?;
        let tag = row.tag[..].try_into().map_err(|_| changed())?;
        Ok(Self { sequence, tag })
    }
}

/// Appends a record to the log that ends at `head`: the row for it, and where the log ends then.
pub(crate) fn append(
    authenticator: &Authenticator,
    head: &Head,
    record: &AuditRecord,
) -> Result<(NewAuditRow, Head), StoreError> {
    let text = serde_json::to_string(record).map_err(|error| StoreError::Unavailable {
        reason: error.to_string(),
    })?;
    let next = head.next(authenticator, &text);
    let row = NewAuditRow {
        text,
        tag: next.tag,
        time: record.entry.time,
        terms: terms(&record.entry),
    };
    Ok((row, next))
}

/// Walks all of the log that is in the database, checks every record, hands it on and returns where the log ends.
pub(crate) fn verify<E: From<StoreError>>(
    view: &dyn View,
    authenticator: &Authenticator,
    each: impl FnMut(AuditRow) -> Result<(), E>,
) -> Result<Head, E> {
    let boundary = Boundary::of(view, authenticator)?;
    verify_after(boundary.left, view, authenticator, each)
}

/// The same for a log that begins after `head`.
pub(crate) fn verify_after<E: From<StoreError>>(
    mut head: Head,
    view: &dyn View,
    authenticator: &Authenticator,
    mut each: impl FnMut(AuditRow) -> Result<(), E>,
) -> Result<Head, E> {
    view.each_audit_row(|row| {
        let next = head.verified_next(authenticator, &row);
        head = next.map_err(StoreError::from)?;
        each(row)
    })?;
    Ok(head)
}

/// Reads a record whose tag was verified.
pub(crate) fn read(row: &AuditRow) -> Result<AuditRecord, Tampered> {
    let record = serde_json::from_str::<AuditRecord>(&row.text)
        .map_err(|_| tampered(row.sequence, Finding::Changed))?;
    Ok(AuditRecord {
        sequence: row.sequence,
        ..record
    })
}

pub(crate) fn tampered(sequence: u64, finding: Finding) -> Tampered {
    Tampered::new("audit", sequence, finding)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry() -> AuditEntry {
        let time = Time::from_unix(1_800_000_000);
        AuditEntry::new(time, "uid 0", Action::Release, Outcome::Done)
    }

    #[test]
    fn texts_from_outside_are_cut_between_characters() {
        let mut entry = entry();
        entry.reason = Some("ä".repeat(MAX_TEXT_LENGTH));
        entry.host = Some("x".repeat(MAX_TEXT_LENGTH));
        let entry = entry.bounded();
        let reason = entry.reason.unwrap();
        assert_eq!(reason.chars().filter(|c| *c == 'ä').count(), 512);
        assert!(reason.ends_with("ä…"));
        assert_eq!(entry.host.unwrap().len(), MAX_TEXT_LENGTH);
    }

    #[test]
    fn what_does_not_apply_is_left_out() {
        let record = AuditRecord {
            sequence: 7,
            node: "node-1".to_owned(),
            generation: 3,
            entry: entry(),
            changes: Vec::new(),
        };
        let expected = r#"{"sequence":7,"node":"node-1","generation":3,"time":"2027-01-15T08:00:00Z","actor":"uid 0","action":"release","outcome":"done"}"#;
        assert_eq!(serde_json::to_string(&record).unwrap(), expected);
    }

    /// Two neighbouring versions read each other's records, and the texts stay as they were written.
    #[test]
    fn records_of_versions_that_know_less_or_more_are_read() {
        let earlier = r#"{"node":"node-1","generation":3,"time":"2027-01-15T08:00:00Z","actor":"uid 0","action":"release","outcome":"done"}"#;
        let read: AuditRecord = serde_json::from_str(earlier).unwrap();
        assert_eq!(read.entry, entry());
        let later = earlier.replace(
            r#""outcome":"done""#,
            r#""outcome":"done","request":"0a1b2c3d-17","of_a_later_version":{"a":[1]}"#,
        );
        let read: AuditRecord = serde_json::from_str(&later).unwrap();
        assert_eq!(read.entry.request, "0a1b2c3d-17".parse().ok());
        assert!(serde_json::from_str::<AuditRecord>(&later.replace("-17", "-0")).is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            (sequence, generation) in any::<(u64, u64)>(),
            (node, actor) in any::<(String, String)>(),
            texts: [Option<String>; 3],
            digests: [Option<[u8; 32]>; 5],
            serial: Option<[u8; 16]>,
            request in proptest::option::of((any::<u32>(), 1..1_u64 << 63)),
            count: Option<u64>,
            standing in proptest::option::of(Just(Standing::Sibling)),
            tenant in proptest::option::of("[a-z]{1,9}"),
            removed: bool,
        ) {
            let [reason, host, host_name] = texts;
            let [policy, protector, egress_protector, owner, guardian] = digests;
            let value = serde_json::json!({"name": actor, "number": 1});
            let record = AuditRecord {
                sequence,
                node,
                generation,
                entry: AuditEntry {
                    actor,
                    request: request.map(|(run, sequence)| RequestId { run, sequence }),
                    reason,
                    host,
                    host_name,
                    serial: serial.map(|serial| SerialNumber::from_bytes(&serial).unwrap()),
                    policy: policy.map(Digest::from_bytes),
                    protector: protector.map(Digest::from_bytes),
                    egress_protector: egress_protector.map(Digest::from_bytes),
                    standing,
                    owner: owner.map(Thumbprint::from_bytes),
                    guardian: guardian.map(Thumbprint::from_bytes),
                    lineage: tenant.map(|tenant| Lineage::Tenant(tenant.parse().unwrap())),
                    count,
                    before: removed.then(|| value.clone()),
                    after: (!removed).then_some(value),
                    ..entry()
                },
                changes: vec![RecordChange { kind: RecordKind::Host, name: "x".to_owned(), removed }],
            };
            let text = serde_json::to_string(&record).unwrap();
            prop_assert_eq!(serde_json::from_str::<AuditRecord>(&text).unwrap(), record);
        }
    }
}
