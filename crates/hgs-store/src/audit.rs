//! The audit log: what was done, by whom, to what, and what was refused.
//!
//! Records are numbered from 1 without gaps, and each record's tag is over the tag before it, so
//! none can be changed, left out, moved or inserted. The tag of the newest is part of the tag of
//! the whole (table `store`), which every commit renews: cutting off the end is found too. As
//! everywhere in the store, only putting back the whole database as it was at an earlier commit is
//! not; the high-water mark finds that.

mod query;

use std::fmt;

use hgs_custody::seal::{Authenticator, Tag};
use hgs_pki::{Thumbprint, Time};
use rusqlite::Connection;
use serde::{Deserialize, Serialize};

pub use query::AuditFilter;
pub(crate) use query::{list, show};

use crate::lineage::Standing;
use crate::model::{Digest, HostId, HostName, Lineage, SerialNumber, text};
use crate::record::RecordKind;
use crate::{Finding, OpenError, StoreError, Tampered};

/// One entry of the audit log. It never holds a secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// Its number, from 1.
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lineage: Option<Lineage>,
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

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// The settings of the service were replaced.
    SetSettings,
    /// A certificate was added.
    AddCertificate,
    /// A certificate was enabled.
    EnableCertificate,
    /// A certificate was disabled.
    DisableCertificate,
    /// A certificate became the head of its lineage.
    SetHead,
    /// A certificate is called otherwise.
    SetCertificateLabel,
    /// A certificate's key is known to others.
    SetCompromised,
    /// A certificate is never a head again.
    RetireCertificate,
    /// A certificate was removed.
    RemoveCertificate,
    /// The re-key window was opened or closed.
    SetRekeyWindow,
    /// A signer of health certificates was added.
    AddAttestationSigner,
    /// What is believed of a signer of health certificates was changed.
    SetAttestationSigner,
    /// A signer of health certificates signs no more.
    RetireAttestationSigner,
    /// A signer of health certificates was removed.
    RemoveAttestationSigner,
    /// A host was registered.
    AddHost,
    /// A host was barred.
    RevokeHost,
    /// A host was taken out of the registry.
    RemoveHost,
    /// The host key of a removed host may be registered again.
    ReadmitHostKey,
    /// A host of another cluster gets no keys here.
    DenyHost,
    /// A host that was denied is denied no longer.
    AllowHost,
    /// A host presented an identity key again that had been superseded.
    ReturnIdentityKey,
    /// The state was written to an encrypted file.
    ExportState,
    /// A file of another state was taken in.
    ImportState,
    /// Everything was sealed and tagged anew under another master key.
    RotateMasterKey,
    /// A state that is not the newest one is the state from now on.
    AcceptState,
    /// A host attested.
    Attest,
    /// The keys of a protector were released.
    Release,
    /// A diagnosis was made with a host, an owner and a protector that exist for nothing else.
    Trace,
}

impl fmt::Display for Action {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(formatter)
    }
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was done.
    Done,
    /// It was refused, and nothing else changed.
    Refused,
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(formatter)
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

/// Where the log ends: the number and tag of its newest record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) sequence: u64,
    pub(crate) tag: Tag,
}

impl Head {
    /// The head of an empty log.
    pub(crate) const EMPTY: Self = Self {
        sequence: 0,
        tag: [0; 32],
    };

    /// The head after `text` was appended.
    fn next(&self, authenticator: &Authenticator, text: &str) -> Self {
        let sequence = self.sequence + 1;
        let number = sequence.to_be_bytes();
        let tag = authenticator.tag([&number, &self.tag, text.as_bytes()]);
        Self { sequence, tag }
    }

    /// The head after `text`, if `tag` is that record's tag.
    fn verified_next(&self, authenticator: &Authenticator, text: &str, tag: &[u8]) -> Option<Self> {
        let sequence = self.sequence + 1;
        let number = sequence.to_be_bytes();
        let parts = [&number[..], &self.tag, text.as_bytes()];
        authenticator.verify(parts, tag).ok()?;
        let tag = tag.try_into().ok()?;
        Some(Self { sequence, tag })
    }
}

/// Appends a record, which must carry the number after `head`.
pub(crate) fn append(
    connection: &Connection,
    authenticator: &Authenticator,
    head: &Head,
    record: &AuditRecord,
) -> Result<Head, StoreError> {
    let text = serde_json::to_string(record).map_err(|error| StoreError::Unavailable {
        reason: error.to_string(),
    })?;
    let next = head.next(authenticator, &text);
    debug_assert_eq!(record.sequence, next.sequence);
    connection
        .prepare_cached("INSERT INTO audit (sequence, record, tag) VALUES (?1, ?2, ?3)")?
        .execute((next.sequence.cast_signed(), &text, &next.tag))?;
    Ok(next)
}

/// Walks the whole log, checks every record, hands its text on and returns where the log ends.
pub(crate) fn verify(
    connection: &Connection,
    authenticator: &Authenticator,
    mut each: impl FnMut(&str),
) -> Result<Head, OpenError> {
    let mut head = Head::EMPTY;
    let mut statement =
        connection.prepare("SELECT sequence, record, tag FROM audit ORDER BY sequence")?;
    let mut rows = statement.query(())?;
    while let Some(row) = rows.next()? {
        let expected = head.sequence + 1;
        if row.get::<_, i64>(0)?.cast_unsigned() != expected {
            return Err(tampered(expected, Finding::Missing).into());
        }
        let text = row.get_ref(1)?.as_str().unwrap_or_default();
        let tag = row.get_ref(2)?.as_blob().unwrap_or_default();
        head = head
            .verified_next(authenticator, text, tag)
            .ok_or_else(|| tampered(expected, Finding::Changed))?;
        each(text);
    }
    Ok(head)
}

/// Tags every record anew, at most `batch` at a time; where the log ends then.
pub(crate) fn rotate(
    connection: &Connection,
    old: &Authenticator,
    new: &Authenticator,
    batch: u32,
) -> Result<Head, StoreError> {
    let (mut before, mut after) = (Head::EMPTY, Head::EMPTY);
    let mut select = connection
        .prepare("SELECT record, tag FROM audit WHERE sequence > ?1 ORDER BY sequence LIMIT ?2")?;
    let mut update = connection.prepare("UPDATE audit SET tag = ?2 WHERE sequence = ?1")?;
    loop {
        let from = before.sequence.cast_signed();
        let rows = select.query_map((from, batch), |row| Ok((row.get(0)?, row.get(1)?)))?;
        let rows: Vec<(String, Vec<u8>)> = rows.collect::<Result<_, _>>()?;
        if rows.is_empty() {
            return Ok(after);
        }
        for (text, tag) in rows {
            let expected = before.sequence + 1;
            before = before
                .verified_next(old, &text, &tag)
                .ok_or_else(|| tampered(expected, Finding::Changed))?;
            after = after.next(new, &text);
            update.execute((after.sequence.cast_signed(), &after.tag))?;
        }
    }
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

    proptest! {
        #[test]
        fn what_is_written_is_read(
            (sequence, generation) in any::<(u64, u64)>(),
            (node, actor) in any::<(String, String)>(),
            texts: [Option<String>; 3],
            digests: [Option<[u8; 32]>; 5],
            serial: Option<[u8; 16]>,
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
