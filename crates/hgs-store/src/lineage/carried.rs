//! The tree of protectors out of one store and into another: by digests, since numbers of nodes are each store's own.

use hgs_pki::{Thumbprint, Time};
use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use super::{Node, NodeId, Opener, Stage, Tree, find};
use crate::model::{Digest, text};
use crate::record::Keys;
use crate::{OpenError, StoreError};

/// A protector of the tree as it stands in a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CarriedProtector {
    digest: Digest,
    parent: Option<Digest>,
    stage: CarriedStage,
    #[serde(with = "text::display")]
    owner: Thumbprint,
    #[serde(with = "text::optional")]
    opened_by: Option<Thumbprint>,
    #[serde(with = "text::optional")]
    opened_by_signing: Option<Thumbprint>,
    host: String,
    #[serde(with = "text::display")]
    first_seen: Time,
    #[serde(with = "text::display")]
    last_seen: Time,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum CarriedStage {
    Issued,
    Head,
    Ancestor,
}

/// Octets of what a protector's host may be called.
const MAX_HOST_LENGTH: usize = 1024;

/// How many protectors there are.
pub(crate) fn count(connection: &Connection) -> Result<u64, StoreError> {
    let count: i64 = connection.query_row("SELECT count(*) FROM lineage", (), |row| row.get(0))?;
    Ok(count.cast_unsigned())
}

/// Hands on every protector, parents before their children.
pub(crate) fn carry_out<E: From<StoreError>>(
    connection: &Connection,
    keys: &Keys,
    mut each: impl FnMut(&CarriedProtector) -> Result<(), E>,
) -> Result<(), E> {
    let mut statement = connection
        .prepare(
            "SELECT node.id, node.digest, node.parent, node.stage, node.owner, node.opened_by, \
             node.opened_by_signing, node.host, node.first_seen, node.last_seen, node.tag, \
             parent.digest FROM lineage AS node LEFT JOIN lineage AS parent \
             ON parent.id = node.parent ORDER BY node.id",
        )
        .map_err(StoreError::from)?;
    let mut rows = statement.query(()).map_err(StoreError::from)?;
    while let Some(row) = rows.next().map_err(StoreError::from)? {
        let (node, _) = Node::read(row, keys).map_err(StoreError::from)?;
        let parent: Option<[u8; 32]> = row.get(11).map_err(StoreError::from)?;
        each(&node.carried(parent.map(Digest::from_bytes)))?;
    }
    Ok(())
}

/// Numbers for nodes that come from elsewhere: below all others, so that no release ever takes one.
#[derive(Debug)]
pub(crate) struct CarriedIds(i64);

impl CarriedIds {
    /// Numbers for `count` nodes.
    pub(crate) fn reserve(connection: &Connection, count: u64) -> Result<Self, OpenError> {
        let least: Option<i64> =
            connection.query_row("SELECT min(id) FROM lineage", (), |row| row.get(0))?;
        let first = least.unwrap_or(0).min(0).checked_sub_unsigned(count);
        let first = first.ok_or_else(|| StoreError::Unavailable {
            reason: "there are no numbers left for protectors".to_owned(),
        })?;
        Ok(Self(first - 1))
    }

    fn next(&mut self) -> NodeId {
        self.0 += 1;
        NodeId(self.0 - 1)
    }
}

impl Tree<'_> {
    /// Takes in a protector; says whether it is new here. Of one that is known, the tree then knows what both knew: a
    /// protector never goes back to an earlier stage.
    pub(crate) fn carry_in(
        &mut self,
        carried: CarriedProtector,
        ids: &mut CarriedIds,
    ) -> Result<bool, StoreError> {
        let parent = match &carried.parent {
            Some(parent) => find(self.connection, self.keys, parent)?,
            None => None,
        };
        let parent = parent.map(|(parent, _)| parent.id);
        match find(self.connection, self.keys, &carried.digest)? {
            Some((ours, tag)) => {
                let both = ours.clone().with(&carried, parent);
                if both != ours {
                    self.delete(&ours, &tag)?;
                    self.insert(&both)?;
                }
                Ok(false)
            }
            None => {
                self.insert(&carried.into_node(ids.next(), parent))?;
                Ok(true)
            }
        }
    }
}

impl Node {
    fn carried(&self, parent: Option<Digest>) -> CarriedProtector {
        CarriedProtector {
            digest: self.digest,
            parent,
            stage: match self.stage {
                Stage::Issued => CarriedStage::Issued,
                Stage::Head => CarriedStage::Head,
                Stage::Ancestor => CarriedStage::Ancestor,
            },
            owner: self.owner,
            opened_by: self.opened_by.map(|opener| opener.encryption),
            opened_by_signing: self.opened_by.and_then(|opener| opener.signing),
            host: self.host.clone(),
            first_seen: self.first_seen,
            last_seen: self.last_seen,
        }
    }

    fn with(self, other: &CarriedProtector, parent: Option<NodeId>) -> Self {
        let newer = other.last_seen > self.last_seen;
        let opened_by = other.opener().filter(|_| newer).or(self.opened_by);
        Self {
            parent: self.parent.or(parent),
            stage: self.stage.max(other.stage()),
            opened_by: opened_by.or_else(|| other.opener()),
            host: if newer { other.host() } else { self.host },
            first_seen: self.first_seen.min(other.first_seen),
            last_seen: self.last_seen.max(other.last_seen),
            ..self
        }
    }
}

impl CarriedProtector {
    fn into_node(self, id: NodeId, parent: Option<NodeId>) -> Node {
        Node {
            id,
            parent,
            stage: self.stage(),
            opened_by: self.opener(),
            host: self.host(),
            digest: self.digest,
            owner: self.owner,
            first_seen: self.first_seen,
            last_seen: self.last_seen,
        }
    }

    fn stage(&self) -> Stage {
        match self.stage {
            CarriedStage::Issued => Stage::Issued,
            CarriedStage::Head => Stage::Head,
            CarriedStage::Ancestor => Stage::Ancestor,
        }
    }

    fn opener(&self) -> Option<Opener> {
        self.opened_by.map(|encryption| Opener {
            encryption,
            signing: self.opened_by_signing,
        })
    }

    fn host(&self) -> String {
        let end = self.host.floor_char_boundary(MAX_HOST_LENGTH);
        self.host.get(..end).unwrap_or_default().to_owned()
    }
}
