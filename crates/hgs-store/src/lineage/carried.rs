//! The tree of protectors out of one store and into another.

use hgs_pki::{Thumbprint, Time};
use serde::{Deserialize, Serialize};

use super::{Node, Opener, Stage, Tree};
use crate::StoreError;
use crate::model::{Digest, text};

/// A protector of the tree as it stands in a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CarriedProtector {
    digest: Digest,
    parent: Option<Digest>,
    stage: Stage,
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

/// Octets of what a protector's host may be called.
const MAX_HOST_LENGTH: usize = 1024;

impl Tree<'_> {
    /// Takes in a protector; says whether it is new here. Of one that is known, the tree then knows what both knew: a
    /// protector never goes back to an earlier stage.
    pub(crate) fn carry_in(&mut self, carried: CarriedProtector) -> Result<bool, StoreError> {
        let theirs = Node::from(carried);
        let Some(ours) = self.get(&theirs.digest)? else {
            self.put(theirs)?;
            return Ok(true);
        };
        let both = ours.clone().with(theirs);
        if both != *ours {
            self.put(both)?;
        }
        Ok(false)
    }
}

impl Node {
    fn with(self, other: Self) -> Self {
        let newer = other.last_seen > self.last_seen;
        let opened_by = other.opened_by.filter(|_| newer).or(self.opened_by);
        Self {
            parent: self.parent.or(other.parent),
            stage: self.stage.max(other.stage),
            opened_by: opened_by.or(other.opened_by),
            host: if newer { other.host } else { self.host },
            first_seen: self.first_seen.min(other.first_seen),
            last_seen: self.last_seen.max(other.last_seen),
            ..self
        }
    }
}

impl From<Node> for CarriedProtector {
    fn from(node: Node) -> Self {
        Self {
            digest: node.digest,
            parent: node.parent,
            stage: node.stage,
            owner: node.owner,
            opened_by: node.opened_by.map(|opener| opener.encryption),
            opened_by_signing: node.opened_by.and_then(|opener| opener.signing),
            host: node.host,
            first_seen: node.first_seen,
            last_seen: node.last_seen,
        }
    }
}

impl From<CarriedProtector> for Node {
    fn from(carried: CarriedProtector) -> Self {
        let end = carried.host.floor_char_boundary(MAX_HOST_LENGTH);
        let mut host = carried.host;
        host.truncate(end);
        Self {
            digest: carried.digest,
            parent: carried.parent,
            stage: carried.stage,
            owner: carried.owner,
            opened_by: carried.opened_by.map(|encryption| Opener {
                encryption,
                signing: carried.opened_by_signing,
            }),
            host,
            first_seen: carried.first_seen,
            last_seen: carried.last_seen,
        }
    }
}
