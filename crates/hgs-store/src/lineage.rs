//! The tree of protectors: which one was made from which, and which of them came back.
//!
//! Every release adds the egress protector as a child of the ingress protector. A child is
//! *committed* when it comes back as ingress; its parent is then an *ancestor*. Children that
//! never came back stay valid beside it: a host crashed before it could keep its egress
//! protector, or a migration failed.
//!
//! ```text
//!   issued --comes back--> head --a child comes back--> ancestor --retention--> forgotten
//! ```
//!
//! **How much is kept.** The heads (one for each line of a VM's life) and their issued children
//! are never forgotten. An ancestor is forgotten [`RETENTION`] after it was last used, with those
//! of its children that never came back. A forgotten protector that comes back all the same is
//! new again: it is released, but no longer known to be old; and if it was signed by a pair that
//! has since been compromised, it is refused until an administrator opens a re-key window.
//!
//! **Whoever can write the database** can't make a node, change one or put an old one back without
//! being found out when the store is next opened: each node has a tag, and the tag of the whole
//! covers their sum, as it does for records (see `record`). Until then the running service reads
//! nodes one by one and believes each that has its tag. So such a writer could, while the service
//! runs, delete a node (its protector is new again, which opens nothing that was closed) or put an
//! older version of it back (an ancestor is not reported). What decides whether a key is released
//! (hosts, certificates, signers) is in memory and out of such a writer's reach.

mod carried;
mod rotated;

use std::fmt;

use hgs_custody::seal::Tag;
use hgs_pki::{Seconds, Thumbprint, Time};
use rusqlite::{Connection, OptionalExtension as _, Row};
use serde::{Deserialize, Serialize};

use crate::model::Digest;
use crate::record::{Keys, Sum};
use crate::{Finding, StoreError, Tampered};

pub(crate) use carried::{CarriedIds, CarriedProtector, carry_out, count};
pub(crate) use rotated::rotate;

/// For how long an ancestor is kept after its last use: longer than a year, so that what is
/// started once a year (a drill, a balance) is still known.
pub const RETENTION: Seconds = Seconds::from_days(400);

/// Where a protector stands among its descendants when its keys are released.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It was never seen here.
    New,
    /// It is the newest of its line that came back.
    Head,
    /// It came back for the first time, after another child of its parent had: there are two
    /// lines now, as after a migration that failed late, or with a copied VM.
    Sibling,
    /// A descendant of it came back before: the VM was rolled back, or copied.
    Ancestor,
}

impl fmt::Display for Standing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(formatter)
    }
}

/// A protector that was seen before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// When it was first seen, or made here.
    pub first: Time,
    /// When its keys were last released, or it was made here.
    pub last: Time,
}

/// What a release says about two protectors.
#[derive(Debug, Clone)]
pub(crate) struct Step<'a> {
    /// The number of its audit record.
    pub(crate) sequence: u64,
    pub(crate) time: Time,
    pub(crate) ingress: Digest,
    pub(crate) egress: Digest,
    pub(crate) owner: Thumbprint,
    pub(crate) opener: Opener,
    pub(crate) host: &'a str,
}

/// The pair of certificates with which a protector was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Opener {
    pub(crate) encryption: Thumbprint,
    /// Absent where version 1 of the schema recorded it.
    pub(crate) signing: Option<Thumbprint>,
}

/// A node of the tree, as it lies in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    id: NodeId,
    pub(crate) digest: Digest,
    parent: Option<NodeId>,
    pub(crate) stage: Stage,
    owner: Thumbprint,
    opened_by: Option<Opener>,
    host: String,
    first_seen: Time,
    pub(crate) last_seen: Time,
}

/// The number of a node: twice that of the release that brought it, and one more for the egress
/// protector. So it is never used again, and nodes of one time lie together on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct NodeId(i64);

/// How far a protector got; the numbers stand in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Issued = 0,
    Head = 1,
    Ancestor = 2,
}

/// A query for whole nodes, in the order in which [`Node::read`] takes their columns.
macro_rules! select {
    ($condition:literal) => {
        concat!(
            "SELECT id, digest, parent, stage, owner, opened_by, opened_by_signing, host, \
             first_seen, last_seen, tag FROM lineage ",
            $condition
        )
    };
}
use select;

/// The tree within one commit.
pub(crate) struct Tree<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) keys: &'a Keys,
    pub(crate) sum: &'a mut Sum,
}

/// An ingress protector that was looked up, and what will become of its parent.
pub(crate) struct Located {
    node: Option<(Node, Tag)>,
    superseded_parent: Option<(Node, Tag)>,
    pub(crate) standing: Standing,
}

impl Tree<'_> {
    /// Finds out where `ingress` would stand, were it released now. Changes nothing.
    pub(crate) fn locate(&self, ingress: &Digest) -> Result<Located, StoreError> {
        let node = find(self.connection, self.keys, ingress)?;
        let mut superseded_parent = None;
        let standing = match &node {
            None => Standing::New,
            Some((node, _)) if node.stage == Stage::Head => Standing::Head,
            Some((node, _)) if node.stage == Stage::Ancestor => Standing::Ancestor,
            Some((node, _)) => match self.parent_of(node)? {
                Some((parent, _)) if parent.stage == Stage::Ancestor => Standing::Sibling,
                parent => {
                    superseded_parent = parent;
                    Standing::Head
                }
            },
        };
        Ok(Located {
            node,
            superseded_parent,
            standing,
        })
    }

    /// Whether there is such a protector.
    pub(crate) fn contains(&self, digest: &Digest) -> Result<bool, StoreError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT 1 FROM lineage WHERE digest = ?1")?;
        Ok(statement.exists([digest.as_bytes()])?)
    }

    /// Commits the ingress protector, which was located in this commit, and adds the egress
    /// protector as its child, which must not be known.
    pub(crate) fn step(&mut self, located: Located, step: &Step<'_>) -> Result<(), StoreError> {
        if let Some((parent, tag)) = located.superseded_parent {
            let superseded = Node {
                stage: Stage::Ancestor,
                last_seen: step.time,
                ..parent
            };
            self.update(&superseded, &tag)?;
        }
        let parent = match located.node {
            Some((node, tag)) => {
                let id = node.id;
                self.update(&node.opened_again(step), &tag)?;
                id
            }
            None => {
                let node = Node::opened(step);
                self.insert(&node)?;
                node.id
            }
        };
        self.insert(&Node::issued(step, parent))
    }

    /// Forgets at most `limit` ancestors whose time has passed.
    pub(crate) fn prune(&mut self, now: Time, limit: usize) -> Result<(), StoreError> {
        let Some(before) = now.checked_sub(RETENTION) else {
            return Ok(());
        };
        let outdated = select!("WHERE stage = 2 AND last_seen < ?1 ORDER BY last_seen LIMIT ?2");
        let children = select!("WHERE stage = 0 AND parent = ?1");
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        for (ancestor, tag) in self.select(outdated, (before.unix(), limit))? {
            for (child, tag) in self.select(children, [ancestor.id.0])? {
                self.delete(&child, &tag)?;
            }
            self.delete(&ancestor, &tag)?;
        }
        Ok(())
    }

    fn parent_of(&self, node: &Node) -> Result<Option<(Node, Tag)>, StoreError> {
        let Some(parent) = node.parent else {
            return Ok(None);
        };
        let found = self.select(select!("WHERE id = ?1"), [parent.0])?;
        Ok(found.into_iter().next())
    }

    fn select(
        &self,
        sql: &str,
        parameters: impl rusqlite::Params,
    ) -> Result<Vec<(Node, Tag)>, StoreError> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(parameters)?;
        let mut nodes = Vec::new();
        while let Some(row) = rows.next()? {
            nodes.push(Node::read(row, self.keys)?);
        }
        Ok(nodes)
    }

    fn insert(&mut self, node: &Node) -> Result<(), StoreError> {
        let tag = node.tag(self.keys);
        self.connection
            .prepare_cached(
                "INSERT INTO lineage (id, digest, parent, stage, owner, opened_by, \
                 opened_by_signing, host, first_seen, last_seen, tag) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            )?
            .execute((
                node.id.0,
                node.digest.as_bytes(),
                node.parent.map(|parent| parent.0),
                node.stage as u8,
                node.owner.as_bytes(),
                node.opener(),
                node.opener_signing(),
                &node.host,
                node.first_seen.unix(),
                node.last_seen.unix(),
                &tag,
            ))?;
        self.sum.add(&self.keys.term(&tag));
        Ok(())
    }

    fn update(&mut self, node: &Node, before: &Tag) -> Result<(), StoreError> {
        let tag = node.tag(self.keys);
        self.connection
            .prepare_cached(
                "UPDATE lineage SET stage = ?2, opened_by = ?3, opened_by_signing = ?4, \
                 host = ?5, last_seen = ?6, tag = ?7 WHERE id = ?1",
            )?
            .execute((
                node.id.0,
                node.stage as u8,
                node.opener(),
                node.opener_signing(),
                &node.host,
                node.last_seen.unix(),
                &tag,
            ))?;
        self.sum.subtract(&self.keys.term(before));
        self.sum.add(&self.keys.term(&tag));
        Ok(())
    }

    fn delete(&mut self, node: &Node, tag: &Tag) -> Result<(), StoreError> {
        self.connection
            .prepare_cached("DELETE FROM lineage WHERE id = ?1")?
            .execute([node.id.0])?;
        self.sum.subtract(&self.keys.term(tag));
        Ok(())
    }
}

/// When a protector was seen, if it was.
pub(crate) fn seen(
    connection: &Connection,
    keys: &Keys,
    digest: &Digest,
) -> Result<Option<Seen>, StoreError> {
    let found = find(connection, keys, digest)?;
    Ok(found.map(|(node, _)| Seen {
        first: node.first_seen,
        last: node.last_seen,
    }))
}

/// Checks every node, hands it on, and returns their sum.
pub(crate) fn verify(
    connection: &Connection,
    keys: &Keys,
    mut each: impl FnMut(Node),
) -> Result<Sum, StoreError> {
    let mut statement = connection.prepare(select!(""))?;
    let mut rows = statement.query(())?;
    let mut sum = Sum::EMPTY;
    while let Some(row) = rows.next()? {
        let (node, tag) = Node::read(row, keys)?;
        sum.add(&keys.term(&tag));
        each(node);
    }
    Ok(sum)
}

fn find(
    connection: &Connection,
    keys: &Keys,
    digest: &Digest,
) -> Result<Option<(Node, Tag)>, StoreError> {
    let mut statement = connection.prepare_cached(select!("WHERE digest = ?1"))?;
    let found = statement
        .query_row([digest.as_bytes()], |row| Ok(Node::read(row, keys)))
        .optional()?;
    Ok(found.transpose()?)
}

impl Node {
    /// The ingress protector of `step`, which was never seen before.
    fn opened(step: &Step<'_>) -> Self {
        Self {
            id: NodeId::ingress_of(step),
            digest: step.ingress,
            parent: None,
            stage: Stage::Head,
            owner: step.owner,
            opened_by: Some(step.opener),
            host: step.host.to_owned(),
            first_seen: step.time,
            last_seen: step.time,
        }
    }

    /// The egress protector of `step`.
    fn issued(step: &Step<'_>, parent: NodeId) -> Self {
        Self {
            id: NodeId::egress_of(step),
            digest: step.egress,
            parent: Some(parent),
            stage: Stage::Issued,
            opened_by: None,
            ..Self::opened(step)
        }
    }

    /// This node, opened once more.
    fn opened_again(self, step: &Step<'_>) -> Self {
        let stage = match self.stage {
            Stage::Issued => Stage::Head,
            stage => stage,
        };
        Self {
            stage,
            opened_by: Some(step.opener),
            host: step.host.to_owned(),
            last_seen: step.time,
            ..self
        }
    }

    fn opener(&self) -> Option<&[u8; 32]> {
        self.opened_by
            .as_ref()
            .map(|opener| opener.encryption.as_bytes())
    }

    fn opener_signing(&self) -> Option<&[u8; 32]> {
        let signing = self.opened_by.as_ref()?.signing.as_ref();
        signing.map(Thumbprint::as_bytes)
    }

    fn tag(&self, keys: &Keys) -> Tag {
        self.with_parts(|parts| keys.lineage.tag(parts))
    }

    fn with_parts<T>(&self, then: impl FnOnce([&[u8]; 9]) -> T) -> T {
        // No node is number 0: audit records are counted from 1.
        let parent = self.parent.unwrap_or(NodeId(0));
        // One part for the pair, so that the tags of version 1 hold.
        let pair = [self.opener(), self.opener_signing()];
        let pair = pair.map(|half| half.map_or(&[][..], |octets| &octets[..]));
        then([
            &self.id.0.to_be_bytes(),
            self.digest.as_bytes(),
            &parent.0.to_be_bytes(),
            &[self.stage as u8],
            self.owner.as_bytes(),
            &pair.concat(),
            self.host.as_bytes(),
            &self.first_seen.unix().to_be_bytes(),
            &self.last_seen.unix().to_be_bytes(),
        ])
    }

    /// Reads a row of a `select!` and checks its tag.
    fn read(row: &Row<'_>, keys: &Keys) -> Result<(Self, Tag), Tampered> {
        let changed = || {
            let digest = row.get_ref(1).ok().and_then(|value| value.as_blob().ok());
            let name = hgs_crypto::hex::encode(digest.unwrap_or_default());
            Tampered::new("lineage", name, Finding::Changed)
        };
        let (node, tag) = Self::read_unchecked(row)
            .ok()
            .flatten()
            .ok_or_else(changed)?;
        let authentic = node.with_parts(|parts| keys.lineage.verify(parts, &tag));
        authentic.map_err(|_| changed())?;
        Ok((node, tag))
    }

    fn read_unchecked(row: &Row<'_>) -> Result<Option<(Self, Tag)>, rusqlite::Error> {
        let stage = match row.get(3)? {
            0 => Stage::Issued,
            1 => Stage::Head,
            2 => Stage::Ancestor,
            _ => return Ok(None),
        };
        let node = Self {
            id: NodeId(row.get(0)?),
            digest: Digest::from_bytes(row.get(1)?),
            parent: row.get::<_, Option<_>>(2)?.map(NodeId),
            stage,
            owner: Thumbprint::from_bytes(row.get(4)?),
            opened_by: Opener::read(row.get(5)?, row.get(6)?),
            host: row.get(7)?,
            first_seen: Time::from_unix(row.get(8)?),
            last_seen: Time::from_unix(row.get(9)?),
        };
        Ok(Some((node, row.get(10)?)))
    }
}

impl Opener {
    fn read(encryption: Option<[u8; 32]>, signing: Option<[u8; 32]>) -> Option<Self> {
        encryption.map(|encryption| Self {
            encryption: Thumbprint::from_bytes(encryption),
            signing: signing.map(Thumbprint::from_bytes),
        })
    }
}

impl NodeId {
    fn ingress_of(step: &Step<'_>) -> Self {
        Self(step.sequence.cast_signed() * 2)
    }

    fn egress_of(step: &Step<'_>) -> Self {
        Self(step.sequence.cast_signed() * 2 + 1)
    }
}
