//! Entries: commits as nodes hand them to each other, and how far a node has taken them in.
//!
//! ```text
//!   entry    = IV (12) || AES-256-GCM of an EntryMessage || tag (16)
//!              additional data: purpose, node, number;  key: of the master key
//!   chain    = HMAC-SHA-256 of chain before, node, number, entry;  key: of the master key
//!   position = PositionMessage, with an HMAC-SHA-256 beside it
//! ```
//!
//! Messages are Protocol Buffers: a later version may add fields, and what it adds must not change what an earlier one does
//! with the rest (`format` says otherwise).

use std::collections::BTreeMap;

use hgs_crypto::{Random, SecretBytes};
use hgs_custody::seal::Tag;
use hgs_pki::health::HostId;
use hgs_pki::{Thumbprint, Time};
use prost::Message;

use crate::audit::{AuditRecord, terms};
use crate::change::{Record, RecordKey};
use crate::engine::{Batch, Key, NewAuditRow, PositionRow, PutRecord, View};
use crate::level::{Format, Level, Levels, UnreadableLevel};
use crate::model::Digest;
use crate::node::{Node, Opener, Stage};
use crate::order::{DependencyKey, Last, Position};
use crate::record::{ClusterKeys, Integrity, Keys, RecordKind, Sum};
use crate::{Finding, StoreError, Tampered};

/// One commit, in parts that each follow upon the one before.
#[derive(Clone, PartialEq, Message)]
pub(super) struct EntryMessage {
    /// The level at which it was decided.
    #[prost(uint32, tag = "1")]
    pub(super) format: u32,
    /// The chain tag of the entry before, of the same node.
    #[prost(bytes = "vec", tag = "2")]
    pub(super) previous: Vec<u8>,
    #[prost(message, repeated, tag = "3")]
    pub(super) parts: Vec<PartMessage>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PartMessage {
    /// The generation that it makes, if it makes one.
    #[prost(uint64, optional, tag = "1")]
    generation: Option<u64>,
    #[prost(message, repeated, tag = "2")]
    records: Vec<RecordMessage>,
    #[prost(message, repeated, tag = "3")]
    lineage: Vec<NodeMessage>,
    #[prost(message, repeated, tag = "4")]
    evidence: Vec<EvidenceMessage>,
    /// Texts of audit records.
    #[prost(string, repeated, tag = "5")]
    audit: Vec<String>,
}

/// A record that is put, or removed.
#[derive(Clone, PartialEq, Message)]
struct RecordMessage {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(string, tag = "2")]
    name: String,
    /// The tag of what was there.
    #[prost(bytes = "vec", optional, tag = "3")]
    before: Option<Vec<u8>>,
    /// Absent where it is removed.
    #[prost(message, optional, tag = "4")]
    put: Option<ValueMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct ValueMessage {
    #[prost(uint64, tag = "1")]
    generation: u64,
    #[prost(string, tag = "2")]
    value: String,
    #[prost(bytes = "vec", tag = "3")]
    tag: Vec<u8>,
}

/// A protector that is put, or forgotten.
#[derive(Clone, PartialEq, Message)]
struct NodeMessage {
    #[prost(bytes = "vec", tag = "1")]
    digest: Vec<u8>,
    #[prost(bytes = "vec", optional, tag = "2")]
    before: Option<Vec<u8>>,
    #[prost(message, optional, tag = "3")]
    put: Option<PlaceMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct PlaceMessage {
    #[prost(bytes = "vec", optional, tag = "1")]
    parent: Option<Vec<u8>>,
    #[prost(uint32, tag = "2")]
    stage: u32,
    #[prost(bytes = "vec", tag = "3")]
    owner: Vec<u8>,
    #[prost(bytes = "vec", optional, tag = "4")]
    opened_by: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "5")]
    opened_by_signing: Option<Vec<u8>>,
    #[prost(string, tag = "6")]
    host: String,
    #[prost(int64, tag = "7")]
    first_seen: i64,
    #[prost(int64, tag = "8")]
    last_seen: i64,
}

#[derive(Clone, PartialEq, Message)]
struct EvidenceMessage {
    #[prost(string, tag = "1")]
    host: String,
    #[prost(bytes = "vec", optional, tag = "2")]
    compressed: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct PositionMessage {
    #[prost(uint64, tag = "1")]
    revision: u64,
    #[prost(message, repeated, tag = "2")]
    nodes: Vec<LastMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct LastMessage {
    #[prost(string, tag = "1")]
    node: String,
    #[prost(uint64, tag = "2")]
    number: u64,
    #[prost(bytes = "vec", tag = "3")]
    chain: Vec<u8>,
}

/// An entry that was opened: it is of this cluster, and in its place among those of its node.
pub(super) struct Opened {
    format: u32,
    parts: Vec<PartMessage>,
}

/// Seals batches, which are committed one after the other and at once, as one entry that follows `before`.
pub(super) fn seal(
    batches: &[Batch],
    node: &str,
    before: &Last,
    keys: &ClusterKeys,
    random: &mut dyn Random,
) -> Result<(Vec<u8>, Last), StoreError> {
    let message = EntryMessage::of(batches, before);
    let plaintext = SecretBytes::from(&message.encode_to_vec()[..]);
    let number = before.number + 1;
    let sealed = keys.entries.seal(node, number, &plaintext, random);
    let sealed = sealed.map_err(|error| StoreError::Unavailable {
        reason: error.to_string(),
    })?;
    let last = before.next(node, &sealed, keys);
    Ok((sealed, last))
}

impl EntryMessage {
    pub(super) fn of(batches: &[Batch], before: &Last) -> Self {
        Self {
            // They are decided together, so at one level.
            format: batches
                .first()
                .map_or(Level::FIRST, |batch| batch.level)
                .number(),
            previous: before.chain.to_vec(),
            parts: batches.iter().map(PartMessage::of).collect(),
        }
    }
}

impl From<EntryMessage> for Opened {
    fn from(message: EntryMessage) -> Self {
        Self {
            format: message.format,
            parts: message.parts,
        }
    }
}

impl Opened {
    /// Opens the entry of a node that follows `before`. `None` if it is none, or does not follow.
    pub(super) fn open(
        octets: &[u8],
        node: &str,
        before: &Last,
        keys: &ClusterKeys,
    ) -> Option<Self> {
        let plaintext = keys.entries.open(node, before.number + 1, octets).ok()?;
        let message = EntryMessage::decode(plaintext.expose()).ok()?;
        let follows = message.previous == before.chain;
        follows.then(|| message.into())
    }

    /// Whether this program can read it.
    pub(super) fn check(&self, levels: &Levels) -> Result<(), UnreadableLevel> {
        levels.check(&Format::of(Level::from_number(self.format)))
    }

    pub(super) fn count(&self) -> usize {
        self.parts.len()
    }

    /// The batch of one part, as it follows upon `newest`, of which `view` shows the rest.
    pub(super) fn batch(
        &self,
        part: usize,
        newest: &Integrity,
        view: &dyn View,
        keys: &Keys,
        levels: &Levels,
    ) -> Result<Batch, StoreError> {
        self.parts[part].batch(newest, view, keys, levels)
    }
}

impl Last {
    /// After an entry.
    pub(super) fn next(&self, node: &str, octets: &[u8], keys: &ClusterKeys) -> Self {
        let number = self.number + 1;
        let parts = [
            &self.chain[..],
            node.as_bytes(),
            &number.to_be_bytes(),
            octets,
        ];
        Self {
            number,
            chain: keys.chain.tag(parts),
        }
    }
}

/// Under what other nodes know a record or a protector: they must not learn which one it is.
pub(super) fn dependency(key: Key, keys: &ClusterKeys) -> Option<DependencyKey> {
    let tag = match key {
        Key::Record(key) => {
            let name = key.to_string();
            let parts = [key.kind().as_str().as_bytes(), name.as_bytes()];
            keys.dependency.tag(parts)
        }
        Key::Protector(digest) => keys.dependency.tag([b"protector", digest.as_bytes()]),
        Key::Row => return None,
    };
    tag.first_chunk().copied()
}

/// A position as it is kept.
pub(super) fn position_row(position: &Position, keys: &ClusterKeys) -> PositionRow {
    let nodes = position.nodes.iter().map(|(node, last)| LastMessage {
        node: node.clone(),
        number: last.number,
        chain: last.chain.to_vec(),
    });
    let message = PositionMessage {
        revision: position.revision,
        nodes: nodes.collect(),
    };
    let octets = message.encode_to_vec();
    PositionRow {
        tag: keys.position.tag([&octets]).to_vec(),
        octets,
    }
}

/// Reads a position back.
pub(super) fn read_position(row: &PositionRow, keys: &ClusterKeys) -> Result<Position, Tampered> {
    let changed = || Tampered::new("cluster-position", 1, Finding::Changed);
    keys.position
        .verify([&row.octets], &row.tag)
        .map_err(|_| changed())?;
    let message = PositionMessage::decode(&row.octets[..]).map_err(|_| changed())?;
    let mut nodes = BTreeMap::new();
    for last in message.nodes {
        let chain = last.chain[..].try_into().map_err(|_| changed())?;
        let number = last.number;
        nodes.insert(last.node, Last { number, chain });
    }
    Ok(Position {
        revision: message.revision,
        nodes,
    })
}

impl PartMessage {
    fn of(batch: &Batch) -> Self {
        let before = |key| {
            let version = batch.expected.get(&key).copied().flatten();
            version.map(|tag| tag.to_vec())
        };
        // What was put and removed again within the batch is nowhere before it and after it.
        let stand_somewhere = batch
            .records
            .iter()
            .map(|(key, put)| (key, before(Key::Record(*key)), put))
            .filter(|(_, before, put)| before.is_some() || put.is_some());
        let records = stand_somewhere.map(|(key, before, put)| RecordMessage {
            kind: key.kind().to_string(),
            name: key.to_string(),
            before,
            put: put.as_ref().map(|put| ValueMessage {
                generation: put.generation,
                value: put.value.clone(),
                tag: put.tag.to_vec(),
            }),
        });
        let lineage = batch.lineage.iter().map(|(digest, put)| NodeMessage {
            digest: digest.as_bytes().to_vec(),
            before: before(Key::Protector(*digest)),
            put: put.as_ref().map(|(node, _)| PlaceMessage::of(node)),
        });
        let evidence = batch.evidence.iter().map(|(host, kept)| EvidenceMessage {
            host: host.to_string(),
            compressed: kept.clone(),
        });
        Self {
            generation: batch.makes_generation().then_some(batch.row.generation),
            records: records.collect(),
            lineage: lineage.collect(),
            evidence: evidence.collect(),
            audit: batch.audit.iter().map(|row| row.text.clone()).collect(),
        }
    }

    fn batch(
        &self,
        newest: &Integrity,
        view: &dyn View,
        keys: &Keys,
        levels: &Levels,
    ) -> Result<Batch, StoreError> {
        let mut batch = Batch::of(newest, newest.root(keys));
        for message in &self.records {
            message.take_in(&mut batch, view, keys, levels)?;
        }
        for message in &self.lineage {
            message.take_in(&mut batch, keys)?;
        }
        for message in &self.evidence {
            let host: HostId = message.host.parse().map_err(|_| unreadable("evidence"))?;
            batch.evidence.insert(host, message.compressed.clone());
        }
        for text in &self.audit {
            let record: AuditRecord =
                serde_json::from_str(text).map_err(|_| unreadable("an audit record"))?;
            batch.audit.push(NewAuditRow {
                text: text.clone(),
                tag: Tag::default(),
                time: record.entry.time,
                terms: terms(&record.entry),
            });
        }
        if let Some(generation) = self.generation {
            batch.row.generation = newest.generation.max(generation);
        }
        batch.replay(newest, keys);
        Ok(batch)
    }
}

impl RecordMessage {
    fn take_in(
        &self,
        batch: &mut Batch,
        view: &dyn View,
        keys: &Keys,
        levels: &Levels,
    ) -> Result<(), StoreError> {
        let before = self.before.as_deref().map(tag).transpose()?;
        let (key, put) = match &self.put {
            Some(message) => {
                let (record, put) = message.read(&self.kind, levels)?;
                batch.records_difference.add(&keys.term(&put.tag));
                (record, Some(put))
            }
            None => (self.removed(view)?, None),
        };
        subtract(&mut batch.records_difference, before.as_ref(), keys);
        batch.expected.insert(Key::Record(key), before);
        batch.records.insert(key, put);
        Ok(())
    }

    /// What is removed is there, and says itself what it is.
    fn removed(&self, view: &dyn View) -> Result<RecordKey, StoreError> {
        let missing = || Tampered::new(&self.kind, &self.name, Finding::Missing);
        let row = view.record(&self.kind, &self.name)?.ok_or_else(missing)?;
        let kind = RecordKind::from_name(&row.kind).ok_or_else(missing)?;
        let record = Record::from_text(kind, &row.value);
        let changed = |_| Tampered::new(&self.kind, &self.name, Finding::Changed);
        Ok(record.map_err(changed)?.key())
    }
}

impl ValueMessage {
    fn read(&self, kind: &str, levels: &Levels) -> Result<(RecordKey, PutRecord), StoreError> {
        let kind = RecordKind::from_name(kind).ok_or_else(|| unreadable("a kind of records"))?;
        let record = Record::from_text(kind, &self.value).map_err(|_| unreadable("a record"))?;
        if let Record::Format(format) = &record {
            levels.check(format)?;
        }
        if record.level() > levels.newest {
            return Err(unreadable("a record"));
        }
        let put = PutRecord {
            generation: self.generation,
            value: self.value.clone(),
            tag: tag(&self.tag)?,
            record,
        };
        Ok((put.record.key(), put))
    }
}

impl NodeMessage {
    fn take_in(&self, batch: &mut Batch, keys: &Keys) -> Result<(), StoreError> {
        let digest = Digest::from_bytes(tag(&self.digest)?);
        let before = self.before.as_deref().map(tag).transpose()?;
        let put = self.put.as_ref().map(|place| place.read(digest));
        let put = put.transpose()?.map(|node| {
            let tag = node.tag(keys);
            batch.lineage_difference.add(&keys.term(&tag));
            (node, tag)
        });
        subtract(&mut batch.lineage_difference, before.as_ref(), keys);
        batch.expected.insert(Key::Protector(digest), before);
        batch.lineage.push((digest, put));
        Ok(())
    }
}

impl PlaceMessage {
    fn of(node: &Node) -> Self {
        let opener = node.opened_by.as_ref();
        Self {
            parent: node.parent.map(|parent| parent.as_bytes().to_vec()),
            stage: node.stage as u32,
            owner: node.owner.as_bytes().to_vec(),
            opened_by: opener.map(|opener| opener.encryption.as_bytes().to_vec()),
            opened_by_signing: opener
                .and_then(Opener::signing_octets)
                .map(|octets| octets.to_vec()),
            host: node.host.clone(),
            first_seen: node.first_seen.unix(),
            last_seen: node.last_seen.unix(),
        }
    }

    fn read(&self, digest: Digest) -> Result<Node, StoreError> {
        let thumbprint = |octets: &[u8]| tag(octets).map(Thumbprint::from_bytes);
        let signing = self.opened_by_signing.as_deref();
        let signing = signing.map(thumbprint).transpose()?;
        let encryption = self.opened_by.as_deref().map(thumbprint).transpose()?;
        Ok(Node {
            digest,
            parent: self
                .parent
                .as_deref()
                .map(|octets| tag(octets).map(Digest::from_bytes))
                .transpose()?,
            stage: Stage::from_number(self.stage.into()).ok_or_else(|| unreadable("a stage"))?,
            owner: thumbprint(&self.owner)?,
            opened_by: encryption.map(|encryption| Opener {
                encryption,
                signing,
            }),
            host: self.host.clone(),
            first_seen: Time::from_unix(self.first_seen),
            last_seen: Time::from_unix(self.last_seen),
        })
    }
}

fn subtract(difference: &mut Sum, before: Option<&Tag>, keys: &Keys) {
    if let Some(before) = before {
        difference.subtract(&keys.term(before));
    }
}

/// 32 octets.
fn tag(octets: &[u8]) -> Result<[u8; 32], StoreError> {
    octets.try_into().map_err(|_| unreadable("32 octets"))
}

/// It was sealed under the master key, so a node of a version that this one does not understand has written it.
fn unreadable(what: &str) -> StoreError {
    StoreError::Unavailable {
        reason: format!("an entry of another node has {what} that this version can't read"),
    }
}
