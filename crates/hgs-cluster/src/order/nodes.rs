//! Which nodes there are, and how far each has written.

use std::collections::BTreeMap;

use bytes::Bytes;
use hgs_etcd::{Client, Compare, Found, Operation, Range, Repeat, Revision, Txn};
use hgs_store::order::{Last, OrderError, Position};

use super::gather::{number_of, octets_of};
use super::keys::{Floor, Keyspace, Mark};
use super::{not_answered, unreadable};
use crate::node::{Node, NodeName};

/// Which cluster it is: drawn when it is founded.
pub type ClusterId = [u8; 16];

/// The layout of keys that this program writes, and the only one that it reads.
const LAYOUT: u32 = 1;

/// What etcd has of the nodes at one revision.
#[derive(Debug, Clone, Default)]
pub(super) struct Nodes {
    revision: Revision,
    /// With the revision at which each was written.
    marks: BTreeMap<String, (Mark, Revision)>,
}

impl Nodes {
    pub(super) fn read(
        keys: &Keyspace,
        revision: Revision,
        found: &Found,
    ) -> Result<Self, OrderError> {
        let marks = found.records.iter().map(|record| {
            let node = keys.name_in(&record.key);
            let mark = Mark::read(&record.value).map(|mark| (mark, record.revision));
            node.map(|node| node.as_str().to_owned())
                .zip(mark)
                .ok_or_else(|| unreadable("a node of another format"))
        });
        Ok(Self {
            revision,
            marks: marks.collect::<Result<_, _>>()?,
        })
    }

    /// Whether etcd was never asked.
    pub(super) fn is_unknown(&self) -> bool {
        self.marks.is_empty()
    }

    pub(super) const fn revision(&self) -> Revision {
        self.revision
    }

    pub(super) fn lasts(&self) -> impl Iterator<Item = (&str, Last)> {
        self.marks
            .iter()
            .map(|(node, (mark, _))| (&**node, mark.last))
    }

    pub(super) fn is_removed(&self, node: &str) -> bool {
        self.marks.get(node).is_some_and(|(mark, _)| mark.removed)
    }

    /// Those that were not removed.
    pub(super) fn members(&self) -> impl Iterator<Item = &str> {
        let members = self.marks.iter().filter(|(_, (mark, _))| !mark.removed);
        members.map(|(node, _)| &**node)
    }

    /// The place of a node among the members, and their number.
    pub(super) fn share(&self, node: &str) -> (u32, u32) {
        let others = self.members().filter(|member| *member != node);
        let (before, after): (Vec<_>, Vec<_>) = others.partition(|member| *member < node);
        let count = |members: &[&str]| u32::try_from(members.len()).unwrap_or(u32::MAX);
        (count(&before), count(&before) + count(&after) + 1)
    }

    /// What it has of a node, if all of it can come after what that node has seen.
    pub(super) fn follow(&self, seen: &Position, node: &str) -> Result<Last, OrderError> {
        let put_back = |reason: String| OrderError::PutBack { reason };
        if number_of(self.revision) < seen.revision {
            return Err(put_back(format!(
                "it is at revision {}, and this node has seen {}",
                self.revision.0, seen.revision
            )));
        }
        let own = self.marks.get(node).map(|(mark, _)| mark);
        let own = own.filter(|mark| !mark.removed);
        for (other, last) in &seen.nodes {
            let Some((Mark { last: there, .. }, written)) = self.marks.get(other) else {
                return Err(put_back(format!("it does not know node {other}")));
            };
            if there.number < last.number {
                return Err(put_back(format!(
                    "its last entry of node {other} is {}, and this node has seen {}",
                    there.number, last.number
                )));
            }
            let written = number_of(*written);
            if there.number > last.number && written <= seen.revision {
                return Err(put_back(format!(
                    "its entry {} of node {other} is at revision {written}, and this node has seen all up to {}",
                    there.number, seen.revision
                )));
            }
            if other != node && there.number == last.number && there.chain != last.chain {
                return Err(put_back(format!(
                    "its entry {} of node {other} is not the one that this node has seen",
                    last.number
                )));
            }
        }
        let own = own.ok_or_else(|| OrderError::Removed {
            node: node.to_owned(),
        })?;
        Ok(own.last)
    }
}

/// Why nothing is ordered any more, if a node has said so.
pub(super) fn check_floor(found: &Found) -> Result<(), OrderError> {
    let record = found.records.first();
    match record.and_then(|record| Floor::read(&record.value)) {
        Some(Floor::At(_)) => Ok(()),
        Some(Floor::Halted(node)) => Err(halted_by(&node)),
        None => Err(unreadable("no floor")),
    }
}

/// Whether no node writes any more, as one has found that etcd was put back.
///
/// # Errors
/// [`OrderError::PutBack`] if so; why it can't be told.
pub async fn check_halt(client: &Client, keys: &Keyspace) -> Result<(), OrderError> {
    let found = client
        .range(&Range::of(hgs_etcd::Keys::One(keys.floor())))
        .await;
    check_floor(&found.map_err(|error| not_answered(&error, false))?)
}

pub(crate) fn halted_by(node: &NodeName) -> OrderError {
    OrderError::PutBack {
        reason: format!("node {node} has seen commits that are gone from it"),
    }
}

/// Has no node write any more, as this one has seen commits that are gone. Another cluster is left alone. Can be repeated.
///
/// # Errors
/// Why it could not be said.
pub(super) async fn halt(
    client: &Client,
    keys: &Keyspace,
    cluster: &ClusterId,
    node: &NodeName,
) -> Result<(), OrderError> {
    let txn = Txn {
        compare: vec![
            Compare::Value(keys.cluster(), identity(cluster)),
            // The first who says so is named.
            Compare::Below(keys.floor(), octets_of(Floor::NEVER)),
        ],
        then: vec![Operation::Put(
            keys.floor(),
            Floor::Halted(node.clone()).value(),
        )],
        otherwise: Vec::new(),
    };
    let committed = client.commit(&txn, Repeat::Safe).await;
    committed.map_err(|error| not_answered(&error, false))?;
    Ok(())
}

/// Whether what stands in etcd is this cluster.
pub(super) fn check_cluster(found: &Found, cluster: &ClusterId) -> Result<(), OrderError> {
    let Some(record) = found.records.first() else {
        return Err(OrderError::PutBack {
            reason: "it holds no cluster".to_owned(),
        });
    };
    match read_identity(&record.value) {
        Some((there, LAYOUT)) if there == *cluster => Ok(()),
        Some((there, LAYOUT)) if there != *cluster => Err(OrderError::PutBack {
            reason: "it holds another cluster".to_owned(),
        }),
        _ => Err(OrderError::Unusable {
            reason: "a newer program has changed how it is used".to_owned(),
        }),
    }
}

fn identity(cluster: &ClusterId) -> Bytes {
    [&cluster[..], &LAYOUT.to_be_bytes()].concat().into()
}

fn read_identity(value: &[u8]) -> Option<(ClusterId, u32)> {
    let (cluster, rest) = value.split_first_chunk()?;
    let (layout, _) = rest.split_first_chunk()?;
    Some((*cluster, u32::from_be_bytes(*layout)))
}

/// Why the nodes of a cluster could not be changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NodesError {
    /// etcd does not answer, or what it answers is none.
    #[error(transparent)]
    Order(#[from] OrderError),
    /// Where the keys would be, there is another cluster.
    #[error("etcd holds another cluster there already")]
    Taken,
    /// There is no such node.
    #[error("there is no node {0}")]
    Unknown(String),
    /// It changed meanwhile.
    #[error("node {0} has written meanwhile: try again")]
    Busy(String),
}

/// How a node became a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admitted {
    /// It had never been one.
    New,
    /// It was removed before.
    Back,
    /// It is one.
    Already,
}

/// Founds a cluster with one node. Can be repeated.
///
/// # Errors
/// [`NodesError::Taken`] where another cluster is.
pub async fn found(
    client: &Client,
    keys: &Keyspace,
    cluster: &ClusterId,
    node: &NodeName,
) -> Result<(), NodesError> {
    let node = node.as_str();
    let txn = Txn {
        compare: vec![Compare::Absent(keys.cluster())],
        then: vec![
            Operation::Put(keys.cluster(), identity(cluster)),
            Operation::Put(keys.floor(), Floor::At(0).value()),
            Operation::Put(keys.node(node), Mark::of(Last::NONE).value()),
        ],
        otherwise: vec![
            Operation::Get(keys.cluster()),
            Operation::Get(keys.node(node)),
        ],
    };
    let committed = client.commit(&txn, Repeat::Safe).await;
    let committed = committed.map_err(|error| not_answered(&error, false))?;
    let is_same = || match &committed.found[..] {
        [there, member] => check_cluster(there, cluster).is_ok() && !member.records.is_empty(),
        _ => false,
    };
    match committed.succeeded || is_same() {
        true => Ok(()),
        false => Err(NodesError::Taken),
    }
}

/// Makes a node a member. A name that was one before is used again only by who has all that was written under it. Can be repeated.
///
/// # Errors
/// Why it is none.
pub async fn admit(
    client: &Client,
    keys: &Keyspace,
    node: &NodeName,
) -> Result<Admitted, NodesError> {
    let node = node.as_str();
    let fresh = Mark::of(Last::NONE);
    let Some(mark) = mark_of(client, keys, node).await? else {
        change(client, keys, node, None, fresh, Vec::new()).await?;
        return Ok(Admitted::New);
    };
    if !mark.removed {
        return Ok(Admitted::Already);
    }
    change(
        client,
        keys,
        node,
        Some(mark),
        Mark::of(mark.last),
        Vec::new(),
    )
    .await?;
    Ok(Admitted::Back)
}

/// Removes a node: from then on it can write nothing. What it wrote stays until the others have it. Can be repeated.
///
/// # Errors
/// Why it is still there.
pub async fn remove(client: &Client, keys: &Keyspace, node: &NodeName) -> Result<(), NodesError> {
    let node = node.as_str();
    let mark = mark_of(client, keys, node).await?;
    let mark = mark.ok_or_else(|| NodesError::Unknown(node.to_owned()))?;
    let removed = Mark {
        removed: true,
        ..mark
    };
    let said = [keys.report(node), keys.address(node)];
    let said = said.map(|key| Operation::Delete(hgs_etcd::Keys::One(key)));
    change(client, keys, node, Some(mark), removed, said.into()).await
}

/// Says where a node is reached, in an etcd whose members are not the nodes.
///
/// # Errors
/// Why it can't be said.
pub async fn announce(client: &Client, keys: &Keyspace, node: &Node) -> Result<(), OrderError> {
    let address = node.address.to_string().into();
    let txn = Txn {
        then: vec![Operation::Put(keys.address(node.name.as_str()), address)],
        ..Txn::default()
    };
    let committed = client.commit(&txn, Repeat::Safe).await;
    committed.map_err(|error| not_answered(&error, false))?;
    Ok(())
}

/// The members of a cluster, and where each of them has said that it is reached.
///
/// # Errors
/// Why they can't be told.
pub async fn announced(client: &Client, keys: &Keyspace) -> Result<Vec<Node>, OrderError> {
    let members = list(client, keys).await?;
    let found = client.range(&Range::of(keys.addresses())).await;
    let found = found.map_err(|error| not_answered(&error, false))?;
    let nodes = found.records.iter().filter_map(|record| {
        let name = keys.name_in(&record.key)?;
        let address = std::str::from_utf8(&record.value).ok()?.parse().ok()?;
        members.contains(&name).then_some(Node { name, address })
    });
    Ok(nodes.collect())
}

/// Whether a member has never written anything: it was admitted, and has not begun.
pub(crate) async fn is_untouched(
    client: &Client,
    keys: &Keyspace,
    node: &NodeName,
) -> Result<bool, OrderError> {
    let mark = mark_of(client, keys, node.as_str()).await?;
    Ok(mark.is_none_or(|mark| mark.last.number == 0))
}

/// Which cluster has its keys there, and whether this client may write some.
pub(crate) async fn probe(
    client: &Client,
    keys: &Keyspace,
) -> Result<Option<ClusterId>, ProbeError> {
    let mut all = Range::of(keys.all());
    all.limit = 1;
    let txn = Txn {
        then: vec![
            Operation::Get(keys.cluster()),
            Operation::Range(all),
            // It changes nothing, and is refused to who may not write.
            Operation::Delete(hgs_etcd::Keys::One(keys.unused())),
        ],
        ..Txn::default()
    };
    let committed = client.commit(&txn, Repeat::Safe).await?;
    let record = committed
        .found
        .first()
        .and_then(|found| found.records.first());
    let Some(record) = record else {
        return Ok(None);
    };
    match read_identity(&record.value) {
        Some((cluster, LAYOUT)) => Ok(Some(cluster)),
        _ => Err(ProbeError::Layout),
    }
}

/// What keeps a node from using an etcd.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProbeError {
    /// It does not answer, or refuses.
    #[error(transparent)]
    Etcd(#[from] hgs_etcd::Error),
    /// A newer program has written there, or another one.
    #[error("what stands there was not written by this version of hgs")]
    Layout,
}

/// The members of a cluster, by their names.
///
/// # Errors
/// Why they can't be told.
pub async fn list(client: &Client, keys: &Keyspace) -> Result<Vec<NodeName>, OrderError> {
    let found = client.range(&Range::of(keys.nodes())).await;
    let found = found.map_err(|error| not_answered(&error, false))?;
    let nodes = Nodes::read(keys, found.revision, &found)?;
    Ok(nodes
        .members()
        .filter_map(|node| node.parse().ok())
        .collect())
}

async fn mark_of(client: &Client, keys: &Keyspace, node: &str) -> Result<Option<Mark>, OrderError> {
    let range = Range::of(hgs_etcd::Keys::One(keys.node(node)));
    let found = client.range(&range).await;
    let found = found.map_err(|error| not_answered(&error, false))?;
    let Some(record) = found.records.first() else {
        return Ok(None);
    };
    let mark = Mark::read(&record.value);
    mark.map(Some)
        .ok_or_else(|| unreadable("a node of another format"))
}

async fn change(
    client: &Client,
    keys: &Keyspace,
    node: &str,
    before: Option<Mark>,
    after: Mark,
    more: Vec<Operation>,
) -> Result<(), NodesError> {
    let key = keys.node(node);
    let compare = match before {
        Some(mark) => Compare::Value(key.clone(), mark.value()),
        None => Compare::Absent(key.clone()),
    };
    let mut then = vec![Operation::Put(key.clone(), after.value())];
    then.extend(more);
    let txn = Txn {
        compare: vec![compare],
        then,
        otherwise: vec![Operation::Get(key)],
    };
    let committed = client.commit(&txn, Repeat::Safe).await;
    let committed = committed.map_err(|error| not_answered(&error, false))?;
    let there = committed
        .found
        .first()
        .and_then(|found| found.records.first());
    let is_done = there.is_some_and(|record| record.value == after.value());
    match committed.succeeded || is_done {
        true => Ok(()),
        false => Err(NodesError::Busy(node.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All written at `revision`.
    fn nodes(revision: i64, marks: &[(&str, u64, u8, bool)]) -> Nodes {
        let marks = marks.iter().map(|(node, number, chain, removed)| {
            let last = Last {
                number: *number,
                chain: [*chain; 32],
            };
            let mark = Mark {
                last,
                removed: *removed,
            };
            ((*node).to_owned(), (mark, Revision(revision)))
        });
        Nodes {
            revision: Revision(revision),
            marks: marks.collect(),
        }
    }

    #[test]
    fn a_share_is_one_of_those_who_are_members() {
        let nodes = nodes(
            1,
            &[("a", 0, 0, false), ("b", 1, 0, true), ("c", 0, 0, false)],
        );
        assert_eq!(nodes.share("a"), (0, 2));
        assert_eq!(nodes.share("c"), (1, 2));
        assert_eq!(Nodes::default().share("a"), (0, 1));
    }

    #[test]
    fn what_has_less_than_was_seen_was_put_back() {
        let seen = Position {
            revision: 9,
            nodes: nodes(9, &[("a", 3, 3, false), ("b", 2, 2, false)])
                .lasts()
                .map(|(node, last)| (node.to_owned(), last))
                .collect(),
        };
        let follow =
            |revision, marks: &[(&str, u64, u8, bool)]| nodes(revision, marks).follow(&seen, "a");
        let as_seen = [("a", 3, 3, false), ("b", 2, 2, false)];
        assert_eq!(follow(9, &as_seen).unwrap().number, 3);
        // Its own entry may be one of another process: that is told apart by who asks.
        assert_eq!(
            follow(10, &[("a", 3, 7, false), ("b", 5, 2, true)])
                .unwrap()
                .chain,
            [7; 32]
        );
        for (revision, marks) in [
            (8, as_seen),
            (9, [("a", 2, 3, false), as_seen[1]]),
            (9, [as_seen[0], ("b", 1, 2, false)]),
            (9, [as_seen[0], ("b", 2, 7, false)]),
            (9, [as_seen[0], ("c", 2, 2, false)]),
            // More than was seen, written before that: the revisions were used again.
            (9, [as_seen[0], ("b", 3, 4, false)]),
            (9, [("a", 4, 3, false), as_seen[1]]),
        ] {
            let error = follow(revision, &marks).unwrap_err();
            assert!(matches!(error, OrderError::PutBack { .. }), "{error}");
        }
        let removed = follow(9, &[("a", 3, 3, true), as_seen[1]]).unwrap_err();
        assert!(matches!(removed, OrderError::Removed { .. }), "{removed}");
    }
}
