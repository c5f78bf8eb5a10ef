//! Entries of several nodes, put in the order in which etcd has taken them.

use std::collections::BTreeMap;

use bytes::Bytes;
use hgs_etcd::{Found, Range, Record, Revision};
use hgs_store::order::{Entries, Entry, OrderError, Position};

use super::keys::{Keyspace, Packed, PartsTag};
use super::nodes::Nodes;
use super::{OrderSettings, not_answered, unreadable};

/// Entries or parts in one answer: each has 1 MiB at most, and an answer 16 MiB.
const PAGE: usize = 12;
/// With so many octets, those who asked take in what there is, and ask again. So many are asked for at once, as far as that can be known.
const ENOUGH: u64 = 8 * 1024 * 1024;
/// Entries are not thought to be shorter.
const SHORT: usize = 32 * 1024;
/// Octets that an entry is thought to have as long as none was seen.
const EXPECTED: u64 = 256 * 1024;
/// Pages that are asked for at once: how fast a node that is far away can follow, whatever the round trip is.
const MAX_PAGES: u64 = 32;

/// How many entries a transaction reads of each of so many other nodes, where the longest of those that came last had so many
/// octets. It is one round trip less for a node that is far away, if all are among them.
pub(super) fn in_transaction(others: usize, longest: usize) -> usize {
    let fit = ENOUGH as usize / longest.max(SHORT);
    (fit / (others + 1)).max(PAGE / (others + 1)).max(1)
}

/// What is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limits {
    /// The first entries, and the others later.
    Pieces,
    /// All up to what this node proposed, which is the first of its own.
    UpToOwn,
}

/// Entries that follow upon a position.
pub(super) struct Gathered {
    /// The state of etcd in which they are read.
    at: Revision,
    nodes: BTreeMap<String, Track>,
    octets: u64,
    /// Octets of the longest one so far.
    longest: u64,
}

/// Those of one node.
struct Track {
    /// The number of the last one that is there.
    end: u64,
    /// The number before the first one that is missing here.
    read: u64,
    entries: Vec<Packing>,
}

struct Packing {
    number: u64,
    revision: u64,
    packed: Packed,
}

impl Track {
    fn is_complete(&self) -> bool {
        self.read >= self.end
    }

    /// All entries of this node up to this revision are here.
    fn known_until(&self, at: u64) -> u64 {
        match self.is_complete() {
            true => at,
            false => self.entries.last().map_or(0, |entry| entry.revision),
        }
    }
}

impl Gathered {
    /// Nothing yet, of what the nodes have behind a position.
    pub(super) fn new(seen: &Position, nodes: &Nodes) -> Self {
        let tracks = nodes.lasts().map(|(node, last)| {
            let track = Track {
                end: last.number,
                read: seen.last(node).number,
                entries: Vec::new(),
            };
            (node.to_owned(), track)
        });
        Self {
            at: nodes.revision(),
            nodes: tracks.collect(),
            octets: 0,
            longest: 0,
        }
    }

    /// What this node has just written.
    pub(super) fn add_own(&mut self, node: &str, number: u64, revision: Revision, packed: Packed) {
        if let Some(track) = self.nodes.get_mut(node) {
            track.read = number;
            track.entries.push(Packing {
                number,
                revision: number_of(revision),
                packed,
            });
        }
    }

    /// What was read of a node.
    pub(super) fn add(&mut self, node: &str, found: Found) -> Result<(), OrderError> {
        let track = self.nodes.get_mut(node);
        let track = track.ok_or_else(|| unreadable("entries of a node that is none"))?;
        for Record {
            key,
            value,
            revision,
            ..
        } in found.records
        {
            let number = Keyspace::number_in(&key);
            let number = number.ok_or_else(|| unreadable("an entry without a number"))?;
            if number != track.read + 1 {
                break;
            }
            let packed = Packed::read(&value);
            let packed = packed.ok_or_else(|| unreadable("an entry of another format"))?;
            self.octets += packed.octets();
            self.longest = self.longest.max(packed.octets());
            track.read = number;
            track.entries.push(Packing {
                number,
                revision: number_of(revision),
                packed,
            });
        }
        Ok(())
    }

    /// Reads what is missing, as far as it is wanted.
    pub(super) async fn complete(
        mut self,
        settings: &OrderSettings,
        limits: Limits,
    ) -> Result<Entries, OrderError> {
        let at = number_of(self.at);
        let mut end = at;
        loop {
            if limits == Limits::UpToOwn
                && let Some(own) = self.nodes[settings.node.as_str()].entries.first()
            {
                end = own.revision;
            }
            let wants_more = limits == Limits::UpToOwn || self.octets < ENOUGH;
            let wanted: Vec<String> = self
                .nodes
                .iter()
                .filter(|(_, track)| {
                    track.known_until(at) < end && (wants_more || track.entries.is_empty())
                })
                .map(|(node, _)| node.clone())
                .collect();
            if wanted.is_empty() {
                break;
            }
            self.read_on(settings, &wanted).await?;
        }
        let known = self.nodes.values().map(|track| track.known_until(at));
        let revision = known.min().unwrap_or(at).min(end);
        let mut entries = Vec::new();
        for (node, track) in &self.nodes {
            let wanted = track.entries.iter();
            for packing in wanted.filter(|packing| packing.revision <= revision) {
                entries.push(Entry {
                    node: node.clone(),
                    number: packing.number,
                    revision: packing.revision,
                    octets: self.unpack(settings, node, packing).await?,
                });
            }
        }
        entries.sort_by_key(|entry| entry.revision);
        Ok(Entries {
            entries,
            revision,
            more: revision < at,
        })
    }

    /// Reads the next entries of some nodes, as many pages of each at once as seem to be enough.
    async fn read_on(
        &mut self,
        settings: &OrderSettings,
        nodes: &[String],
    ) -> Result<(), OrderError> {
        let octets = match self.longest {
            0 => EXPECTED,
            longest => longest,
        };
        let pages = ENOUGH / (octets * PAGE as u64) / nodes.len() as u64;
        let pages = pages.clamp(1, MAX_PAGES);
        let mut asked = Vec::new();
        for node in nodes {
            let Track { read, end, .. } = self.nodes[node.as_str()];
            let firsts = (read + 1..=end).step_by(PAGE);
            asked.extend(firsts.take(pages as usize).map(|first| (node, first)));
        }
        let answers = asked.iter().map(|(node, first)| {
            let keys = settings.keys.entries_from(node, *first);
            self.page(settings, keys)
        });
        let answers = futures_util::future::join_all(answers).await;
        for ((node, first), found) in asked.into_iter().zip(answers) {
            self.add(node, found?)?;
            let Track { read, .. } = self.nodes[node.as_str()];
            if read < first {
                return Err(OrderError::TooFarBehind {
                    node: node.clone(),
                    number: read,
                });
            }
        }
        Ok(())
    }

    async fn page(
        &self,
        settings: &OrderSettings,
        keys: hgs_etcd::Keys,
    ) -> Result<Found, OrderError> {
        let mut range = Range::of(keys);
        range.limit = PAGE;
        range.at = Some(self.at);
        // The member that has told of this revision has it: there the leader need not be asked once more.
        range.stale = true;
        let mut found = settings.client.range(&range).await;
        if found.is_err() {
            range.stale = false;
            found = settings.client.range(&range).await;
        }
        found.map_err(|error| match not_answered(&error, false) {
            // The history that this is read from has left etcd meanwhile: what there is now is read next time.
            OrderError::Unusable { reason } if super::is_compacted(&error) => {
                OrderError::NoQuorum { reason }
            }
            other => other,
        })
    }

    async fn unpack(
        &self,
        settings: &OrderSettings,
        node: &str,
        packing: &Packing,
    ) -> Result<Vec<u8>, OrderError> {
        match &packing.packed {
            Packed::Whole(octets) => Ok(octets.to_vec()),
            Packed::Parts { tag, count, octets } => {
                let parts = self.parts(settings, node, packing.number, tag, *count);
                let entry = parts.await?;
                match entry.len() as u64 == *octets {
                    true => Ok(entry),
                    false => Err(unreadable("parts that are not the whole entry")),
                }
            }
        }
    }

    async fn parts(
        &self,
        settings: &OrderSettings,
        node: &str,
        number: u64,
        tag: &PartsTag,
        count: u32,
    ) -> Result<Vec<u8>, OrderError> {
        let mut entry = Vec::new();
        let mut next = 0;
        while next < count {
            let keys = settings.keys.parts_from(node, number, tag, next);
            let found = self.page(settings, keys).await?;
            if found.records.is_empty() {
                return Err(unreadable("an entry without all its parts"));
            }
            for Record { key, value, .. } in found.records {
                if key != settings.keys.part(node, number, tag, next) {
                    return Err(unreadable("an entry without all its parts"));
                }
                entry.extend_from_slice(&value);
                next += 1;
            }
        }
        Ok(entry)
    }
}

/// Revisions count from 1.
pub(crate) fn number_of(revision: Revision) -> u64 {
    u64::try_from(revision.0).unwrap_or(0)
}

/// As octets in the order of numbers.
pub(crate) fn octets_of(number: u64) -> Bytes {
    Bytes::copy_from_slice(&number.to_be_bytes())
}
