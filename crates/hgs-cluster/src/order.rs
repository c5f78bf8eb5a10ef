//! The order of commits, kept by etcd.
//!
//! ```text
//!  propose: one transaction of etcd
//!    if    n/ME is what this node wrote last, no other node has less than was seen, the floor is not above what was seen,
//!          and each v/KEY that the proposal depends on was written last at a revision that was seen
//!    then  put v/KEY of what is written, b/ME/NUMBER and n/ME; and tell what other nodes wrote since
//!    else  tell what all nodes wrote since
//! ```
//!
//! * Conditions that do not hold never hold again, and what is put changes n/ME: so a transaction that is sent to several
//!   members, or arrives late, takes effect once at most.
//! * n/ME is compared by value: two processes with the identity of one node, and an etcd that was put back, are found
//!   before anything is written.
//! * Who finds that etcd was put back raises the floor above everything: then no node writes any more.
//! * Nothing rests on a watch: the [`Doorbell`] only tells that it is worth asking.

mod doorbell;
mod gather;
mod keys;
mod nodes;
mod offline;

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use bytes::Bytes;
use hgs_etcd::{
    Client, Code, Committed, Compare, Error, Found, Keys, Operation, Range, Repeat, Revision, Txn,
};
use hgs_store::order::{Entries, Last, Order, OrderError, Position, Proposal, Proposed};
use tokio::runtime::Handle;

pub use doorbell::Doorbell;
use gather::{Gathered, Limits};
pub(crate) use gather::{number_of, octets_of};
pub(crate) use keys::Floor;
#[doc(hidden)]
pub use keys::fuzz_values;
pub use keys::{Keyspace, PrefixError};
use keys::{Mark, Packed, PartsTag};
use nodes::Nodes;
pub use offline::OfflineOrder;

use crate::node::NodeName;
pub use nodes::{
    Admitted, ClusterId, NodesError, admit, announce, announced, check_halt, found, list, remove,
};
pub(crate) use nodes::{ProbeError, halted_by, is_untouched, probe};

/// Octets of a longer entry are put in parts: etcd takes requests of 1.5 MiB.
const MAX_PART: usize = 1024 * 1024;
/// A proposal is refused where another node is so many entries ahead of what was seen: they come in pieces, by
/// [`Order::since`]. Few where they are long; where they are short, so many that a node that is far away keeps up.
const MAX_BEHIND: RangeInclusive<u64> = 64..=1024;
/// And so many octets, by the longest entry that came last.
const MAX_BEHIND_OCTETS: u64 = 64 * 1024 * 1024;
/// Other nodes that a transaction compares and reads. More are read behind it.
const MAX_OTHERS: usize = 16;
/// Comparisons that are not about dependencies: two of each other node, and four more.
const OTHER_OPERATIONS: usize = 2 * MAX_OTHERS + 8;

/// What an order is made of.
#[derive(Debug)]
pub struct OrderSettings {
    /// All members of etcd, the one on this machine first.
    pub client: Client,
    /// What its requests run on. The thread that uses the order must not be one of it.
    pub runtime: Handle,
    /// Where the keys of the cluster are.
    pub keys: Keyspace,
    /// Which cluster it is.
    pub cluster: ClusterId,
    /// What this node is called.
    pub node: NodeName,
    /// What etcd takes in one list of a transaction: `--max-txn-ops`, 128 unless it says otherwise.
    pub max_operations: usize,
}

/// The order of commits, kept by etcd.
#[derive(Debug)]
pub struct EtcdOrder {
    settings: OrderSettings,
    /// What etcd had of the nodes when it was asked last.
    nodes: Nodes,
    /// Proposals that were ordered, or may have been, behind what this node has taken in.
    sent: Vec<Last>,
    /// Octets of the longest of the entries that came last.
    longest: usize,
    /// Whether etcd once had what this node had. Before, it may have entries of this node from before its last end.
    is_current: bool,
}

/// What etcd has of this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Own {
    /// What this node knows, or entries that it has not taken in yet.
    Known,
    /// What was proposed.
    Proposed,
}

impl EtcdOrder {
    /// An order, which asks etcd when it is asked.
    #[must_use]
    pub fn new(settings: OrderSettings) -> Self {
        Self {
            settings,
            nodes: Nodes::default(),
            sent: Vec::new(),
            longest: MAX_PART,
            is_current: false,
        }
    }

    async fn propose_now(&mut self, proposal: &Proposal<'_>) -> Result<Proposed, OrderError> {
        if proposal.depends.len() > self.max_dependencies() {
            return Err(OrderError::Unusable {
                reason: format!(
                    "a proposal with {} dependencies, where {} are taken",
                    proposal.depends.len(),
                    self.max_dependencies()
                ),
            });
        }
        self.forget_until(proposal.seen);
        if self.nodes.is_unknown() {
            self.look(proposal.seen, &[]).await?;
        }
        let was_sent = self.sent.contains(&proposal.last);
        let packed = self.put_parts(proposal, was_sent).await?;
        let others = self.others(proposal.seen);
        let txn = self.transaction(proposal, &packed, &others);
        let committed = match self.settings.client.commit(&txn, Repeat::Safe).await {
            Ok(committed) => committed,
            Err(error) => {
                // The answer may have been too long.
                self.longest = MAX_PART;
                let is_unknown = was_sent || error.may_be_done();
                if is_unknown {
                    self.remember(proposal.last);
                }
                return Err(not_answered(&error, is_unknown));
            }
        };
        let own = committed
            .succeeded
            .then(|| Packed::Whole(Bytes::copy_from_slice(proposal.octets)));
        let found = self.found_by(committed, &others)?;
        let known = self.take_note(
            found.revision,
            &found.nodes,
            proposal.seen,
            Some(proposal.last),
        )?;
        let limits = match known {
            Own::Proposed => {
                self.remember(proposal.last);
                Limits::UpToOwn
            }
            Own::Known => {
                found.floor.as_ref().map_or(Ok(()), nodes::check_floor)?;
                Limits::Pieces
            }
        };
        let mut gathered = Gathered::new(proposal.seen, &self.nodes);
        if let Some(own) = own {
            gathered.add_own(self.node(), proposal.last.number, found.revision, own);
        }
        for (node, found) in found.entries {
            gathered.add(&node, found)?;
        }
        let entries = gathered.complete(&self.settings, limits).await;
        let entries = entries.map_err(|failed| match failed {
            // What is known now is known again when it is asked again.
            OrderError::NoQuorum { reason } => OrderError::Unknown { reason },
            other => other,
        })?;
        self.note_length(&entries);
        Ok(match known {
            Own::Proposed => Proposed::Committed(entries),
            Own::Known => Proposed::Conflict(entries),
        })
    }

    /// Puts what is too long for one request, where nothing leads to it yet.
    async fn put_parts(
        &self,
        proposal: &Proposal<'_>,
        was_sent: bool,
    ) -> Result<Packed, OrderError> {
        if proposal.octets.len() <= MAX_PART {
            return Ok(Packed::Whole(Bytes::copy_from_slice(proposal.octets)));
        }
        let OrderSettings { client, keys, .. } = &self.settings;
        let node = self.node();
        let tag = parts_tag(&proposal.last);
        let own = Mark::of(proposal.seen.last(node));
        let mut count = 0;
        for part in proposal.octets.chunks(MAX_PART) {
            let key = keys.part(node, proposal.last.number, &tag, count);
            let txn = Txn {
                compare: vec![Compare::Value(keys.node(node), own.value())],
                then: vec![Operation::Put(key, Bytes::copy_from_slice(part))],
                ..Txn::default()
            };
            // Where it is not what this node wrote last, the transaction behind it says so.
            let put = client.commit(&txn, Repeat::Safe).await;
            put.map_err(|error| not_answered(&error, was_sent))?;
            count += 1;
        }
        Ok(Packed::Parts {
            tag,
            count,
            octets: proposal.octets.len() as u64,
        })
    }

    /// Other nodes that may write, and what was seen of them.
    fn others(&self, seen: &Position) -> Vec<(String, u64)> {
        let known = self.nodes.members();
        let seen_only = seen.nodes.keys().map(|node| &**node);
        let names: BTreeSet<&str> = known.chain(seen_only).collect();
        names
            .into_iter()
            .filter(|node| *node != self.node() && !self.nodes.is_removed(node))
            .map(|node| (node.to_owned(), seen.last(node).number))
            .take(MAX_OTHERS)
            .collect()
    }

    fn transaction(
        &self,
        proposal: &Proposal<'_>,
        packed: &Packed,
        others: &[(String, u64)],
    ) -> Txn {
        let (keys, node) = (&self.settings.keys, self.node());
        let before = keys.node(node);
        let own = proposal.seen.last(node);
        let after = proposal.seen.revision.saturating_add(1);
        let until = Revision(i64::try_from(after).unwrap_or(i64::MAX));

        let mut compare = vec![
            Compare::Value(before.clone(), Mark::of(own).value()),
            Compare::Below(keys.floor(), octets_of(after)),
        ];
        let max_behind = self.max_behind();
        for (other, number) in others {
            let key = keys.node(other);
            let limit = number.saturating_add(max_behind);
            compare.push(Compare::Above(key.clone(), octets_of(*number)));
            compare.push(Compare::Below(key, octets_of(limit)));
        }
        let unchanged = |key| Compare::Before(Keys::One(key), until);
        if proposal.everything {
            compare.push(Compare::Before(keys.nodes(), until));
        }
        compare.push(unchanged(keys.everything()));
        let depends = proposal.depends.iter();
        compare.extend(depends.map(|key| unchanged(keys.dependency(key))));

        let mut written: BTreeSet<Bytes> = proposal
            .writes
            .iter()
            .map(|key| keys.dependency(key))
            .collect();
        if proposal.everything {
            written.insert(keys.everything());
        }
        let put = |key| Operation::Put(key, Bytes::new());
        let mut then: Vec<Operation> = written.into_iter().map(put).collect();
        then.push(Operation::Put(
            keys.entry(node, proposal.last.number),
            packed.value(),
        ));
        then.push(Operation::Put(before, Mark::of(proposal.last).value()));
        then.push(Operation::Range(Range::of(keys.nodes())));

        then.extend(self.read_since(others));
        let mut otherwise = vec![
            Operation::Get(keys.floor()),
            Operation::Range(Range::of(keys.nodes())),
        ];
        let own_too = (node.to_owned(), own.number);
        otherwise.extend(self.read_since(&[others, &[own_too]].concat()));
        Txn {
            compare,
            then,
            otherwise,
        }
    }

    /// Reads the first entries of nodes behind what was seen of each.
    fn read_since(&self, nodes: &[(String, u64)]) -> Vec<Operation> {
        let limit = gather::in_transaction(nodes.len(), self.longest);
        let since = |(node, number): &(String, u64)| {
            let keys = &self.settings.keys;
            let mut range = Range::of(keys.entries_from(node, number.saturating_add(1)));
            range.limit = limit;
            Operation::Range(range)
        };
        nodes.iter().map(since).collect()
    }

    /// What a transaction found, behind what it put.
    fn found_by(
        &self,
        committed: Committed,
        others: &[(String, u64)],
    ) -> Result<FoundSince, OrderError> {
        let Committed {
            succeeded,
            revision,
            mut found,
        } = committed;
        let mut names: Vec<String> = others.iter().map(|(node, _)| node.clone()).collect();
        if !succeeded {
            names.push(self.node().to_owned());
        }
        let wanted = names.len() + if succeeded { 1 } else { 2 };
        let begin = found.len().checked_sub(wanted);
        let begin = begin.ok_or_else(|| unreadable("an answer that is too short"))?;
        let mut found = found.drain(begin..);
        let floor = match succeeded {
            true => None,
            false => found.next(),
        };
        let nodes = found.next().unwrap_or_default();
        Ok(FoundSince {
            revision,
            floor,
            nodes,
            entries: names.into_iter().zip(found).collect(),
        })
    }

    /// Takes note of what etcd has of the nodes, if it can follow upon what was seen.
    fn take_note(
        &mut self,
        revision: Revision,
        found: &Found,
        seen: &Position,
        proposed: Option<Last>,
    ) -> Result<Own, OrderError> {
        let node = self.node();
        let nodes = Nodes::read(&self.settings.keys, revision, found)?;
        let own = nodes.follow(seen, node)?;
        let before = seen.last(node);
        let is_proposed = proposed == Some(own);
        // A proposal of this process, or what this node did before its last end.
        let is_ahead = own.number > before.number && (!self.is_current || self.sent.contains(&own));
        if !(is_proposed || is_ahead || own == before) {
            return Err(OrderError::Fenced {
                node: node.to_owned(),
            });
        }
        self.is_current |= is_proposed || own == before;
        self.nodes = nodes;
        Ok(if is_proposed {
            Own::Proposed
        } else {
            Own::Known
        })
    }

    fn remember(&mut self, last: Last) {
        if !self.sent.contains(&last) {
            self.sent.push(last);
        }
    }

    /// What was taken in is known.
    fn forget_until(&mut self, seen: &Position) {
        let before = seen.last(self.node());
        self.sent.retain(|last| last.number > before.number);
    }

    async fn since_now(&mut self, seen: &Position) -> Result<Entries, OrderError> {
        self.forget_until(seen);
        let mut nodes = self.others(seen);
        nodes.push((self.node().to_owned(), seen.last(self.node()).number));
        let found = self.look(seen, &nodes).await?;
        let mut gathered = Gathered::new(seen, &self.nodes);
        for ((node, _), found) in nodes.into_iter().zip(found) {
            gathered.add(&node, found)?;
        }
        let entries = gathered.complete(&self.settings, Limits::Pieces).await?;
        self.note_length(&entries);
        Ok(entries)
    }

    fn note_length(&mut self, entries: &Entries) {
        let octets = entries.entries.iter().map(|entry| entry.octets.len());
        self.longest = octets.max().unwrap_or(self.longest);
    }

    /// How many entries another node may be ahead of what was seen.
    fn max_behind(&self) -> u64 {
        let few = MAX_BEHIND_OCTETS / (self.longest as u64).max(1);
        few.clamp(*MAX_BEHIND.start(), *MAX_BEHIND.end())
    }

    /// Asks which cluster it is, what it has of the nodes, and for the first entries of some behind what was seen.
    async fn look(
        &mut self,
        seen: &Position,
        since: &[(String, u64)],
    ) -> Result<Vec<Found>, OrderError> {
        let OrderSettings {
            client,
            keys,
            cluster,
            ..
        } = &self.settings;
        let mut then = vec![
            Operation::Get(keys.cluster()),
            Operation::Get(keys.floor()),
            Operation::Range(Range::of(keys.nodes())),
        ];
        then.extend(self.read_since(since));
        let txn = Txn {
            then,
            ..Txn::default()
        };
        let committed = match client.commit(&txn, Repeat::Safe).await {
            Ok(committed) => committed,
            Err(error) => {
                // The answer may have been too long.
                self.longest = MAX_PART;
                return Err(not_answered(&error, false));
            }
        };
        let Committed {
            revision,
            mut found,
            ..
        } = committed;
        if found.len() != 3 + since.len() {
            return Err(unreadable("an answer that is too short"));
        }
        let entries = found.split_off(3);
        nodes::check_cluster(&found[0], cluster)?;
        self.take_note(revision, &found[2], seen, None)?;
        nodes::check_floor(&found[1])?;
        Ok(entries)
    }

    /// Has no node write any more, once this one has seen that etcd was put back: also none that was behind all that is gone,
    /// and can't notice it.
    async fn halt_if_put_back<T>(&self, answer: Result<T, OrderError>) -> Result<T, OrderError> {
        if let Err(OrderError::PutBack { reason }) = &answer {
            let OrderSettings {
                client,
                keys,
                cluster,
                node,
                ..
            } = &self.settings;
            if let Err(error) = nodes::halt(client, keys, cluster, node).await {
                tracing::error!(%error, reason, "etcd was put back, and the other nodes could not be told");
            }
        }
        answer
    }
}

/// What nodes have written since, as a transaction found it.
struct FoundSince {
    revision: Revision,
    /// Read where nothing was written.
    floor: Option<Found>,
    nodes: Found,
    entries: Vec<(String, Found)>,
}

impl Order for EtcdOrder {
    fn node(&self) -> &str {
        self.settings.node.as_str()
    }

    fn propose(&mut self, proposal: &Proposal<'_>) -> Result<Proposed, OrderError> {
        let runtime = self.settings.runtime.clone();
        runtime.block_on(async {
            let answer = self.propose_now(proposal).await;
            self.halt_if_put_back(answer).await
        })
    }

    fn since(&mut self, seen: &Position) -> Result<Entries, OrderError> {
        let runtime = self.settings.runtime.clone();
        runtime.block_on(async {
            let answer = self.since_now(seen).await;
            self.halt_if_put_back(answer).await
        })
    }

    fn share(&self) -> (u32, u32) {
        self.nodes.share(self.node())
    }

    fn max_dependencies(&self) -> usize {
        self.settings
            .max_operations
            .saturating_sub(OTHER_OPERATIONS)
    }
}

/// Of the chain tag, which no other proposal has.
fn parts_tag(last: &Last) -> PartsTag {
    let mut tag = [0; 16];
    tag.copy_from_slice(&last.chain[..16]);
    tag
}

pub(crate) fn unreadable(what: &str) -> OrderError {
    OrderError::Unusable {
        reason: format!("it answers with {what}, which no node has written"),
    }
}

/// Why etcd did not answer, as those who use an order are told.
pub(crate) fn not_answered(error: &Error, is_unknown: bool) -> OrderError {
    let reason = error.to_string();
    match error.refusal() {
        _ if is_unknown => OrderError::Unknown { reason },
        Some(status)
            if status.code == Code::ResourceExhausted && status.message.contains("space") =>
        {
            OrderError::NoRoom { reason }
        }
        Some(_) => OrderError::Unusable { reason },
        None => OrderError::NoQuorum { reason },
    }
}

/// Whether the answer is that what is asked for has left the history.
pub(crate) fn is_compacted(error: &Error) -> bool {
    let refusal = error.refusal();
    refusal.is_some_and(|status| status.code == Code::OutOfRange)
}
