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
//! **An attacker who can write the database** can't make a node, change one or put an old one back without
//! being found out when the store is next opened: each node has a tag, and the tag of the whole
//! covers their sum, as it does for records (see `record`). Until then the running service reads
//! nodes one by one and believes each that has its tag. So such a writer could, while the service
//! runs, delete a node (its protector is new again, which opens nothing that was closed) or put an
//! older version of it back (an ancestor is not reported). What decides whether a key is released
//! (hosts, certificates, signers) is in memory and out of such a writer's reach.
//!
//! A node is named by the digest of its protector, and so is its parent. So nodes mean the same in
//! every engine, on every node of the service and in every backup.

mod carried;

use std::collections::{BTreeMap, BTreeSet};

pub use hgs_audit::Standing;
use hgs_fault::{Fault, seeded};
use hgs_pki::{Seconds, Thumbprint, Time};

use crate::StoreError;
use crate::engine::{Batch, Key, Version, View};
use crate::model::Digest;
use crate::node::{Node, Opener, Stage, StoredNode};
use crate::record::Keys;

pub(crate) use carried::CarriedProtector;

/// For how long an ancestor is kept after its last use: longer than a year, so that what is
/// started once a year (a drill, a balance) is still known.
pub const RETENTION: Seconds = Seconds::from_days(400);

/// A protector that was seen before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// When it was first seen, or made here.
    pub first: Time,
    /// When its keys were last released, or it was made here.
    pub last: Time,
}

/// What a release says about two protectors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step<'a> {
    pub(crate) time: Time,
    pub(crate) ingress: Digest,
    pub(crate) egress: Digest,
    pub(crate) owner: Thumbprint,
    pub(crate) opener: Opener,
    pub(crate) host: &'a str,
}

/// The tree within one commit: what was read of it, and what is to be written.
pub(crate) struct Tree<'a> {
    view: &'a dyn View,
    keys: &'a Keys,
    spoilt: &'a BTreeSet<Key>,
    nodes: BTreeMap<Digest, TreeNode>,
    /// What is to be written, in the order in which it came up: parents before their children.
    changed: Vec<Digest>,
}

/// A protector in the tree, or its absence.
struct TreeNode {
    stored: Version,
    node: Option<Node>,
    changed: bool,
}

impl<'a> Tree<'a> {
    pub(crate) fn new(view: &'a dyn View, keys: &'a Keys, spoilt: &'a BTreeSet<Key>) -> Self {
        Self {
            view,
            keys,
            spoilt,
            nodes: BTreeMap::new(),
            changed: Vec::new(),
        }
    }

    /// The protector with this digest, as it is after what was done before in this commit.
    pub(crate) fn get(&mut self, digest: &Digest) -> Result<Option<&Node>, StoreError> {
        if !self.nodes.contains_key(digest) {
            let key = Key::Protector(*digest);
            if self.spoilt.contains(&key) {
                return Err(key.tampered().into());
            }
            let found = self.view.node(digest)?;
            let found = found.map(|found| found.verified(self.keys)).transpose()?;
            let (node, found) = found.unzip();
            self.nodes.insert(
                *digest,
                TreeNode {
                    stored: found,
                    node,
                    changed: false,
                },
            );
        }
        Ok(self
            .nodes
            .get(digest)
            .and_then(|tree_node| tree_node.node.as_ref()))
    }

    /// Finds out where `ingress` would stand, were it released now. Changes nothing.
    pub(crate) fn locate(&mut self, ingress: &Digest) -> Result<Standing, StoreError> {
        let parent = match self.get(ingress)? {
            None => return Ok(Standing::New),
            Some(node) => match node.stage {
                Stage::Head => return Ok(Standing::Head),
                Stage::Ancestor => return Ok(Standing::Ancestor),
                Stage::Issued => node.parent,
            },
        };
        let parent = match &parent {
            Some(parent) => self.get(parent)?,
            None => None,
        };
        Ok(match parent {
            Some(parent)
                if parent.stage == Stage::Ancestor && !seeded(Fault::SiblingCalledHead) =>
            {
                Standing::Sibling
            }
            _ => Standing::Head,
        })
    }

    /// Commits the ingress protector, and adds the egress protector as its child, which must not
    /// be known.
    pub(crate) fn step(&mut self, step: &Step<'_>) -> Result<(), StoreError> {
        let ingress = match self.get(&step.ingress)?.cloned() {
            None => Node::opened(step),
            Some(known) => {
                if known.stage == Stage::Issued
                    && let Some(parent) = &known.parent
                    && let Some(parent) = self.get(parent)?
                    && parent.stage != Stage::Ancestor
                    && !seeded(Fault::ParentNotSuperseded)
                {
                    let superseded = Node {
                        stage: Stage::Ancestor,
                        last_seen: step.time,
                        ..parent.clone()
                    };
                    self.put(superseded)?;
                }
                known.opened_again(step)
            }
        };
        self.put(ingress)?;
        self.put(Node::issued(step))
    }

    /// Forgets at most `limit` ancestors whose time has passed, of one `share` of so many.
    pub(crate) fn prune(
        &mut self,
        now: Time,
        limit: usize,
        (share, shares): (u32, u32),
    ) -> Result<(), StoreError> {
        let Some(before) = now.checked_sub(RETENTION) else {
            return Ok(());
        };
        for ancestor in self
            .view
            .ancestors_before(before, limit * shares as usize)?
        {
            let digest = ancestor.node.digest;
            let [a, b, c, d, ..] = *digest.as_bytes();
            let is_others = u32::from_be_bytes([a, b, c, d]) % shares != share;
            if is_others || self.is_changed(&digest) {
                // It was used again just now, or another node forgets it.
                continue;
            }
            for child in self.view.issued_from(&digest)? {
                if !self.is_changed(&child.node.digest) {
                    self.forget(child)?;
                }
            }
            self.forget(ancestor)?;
        }
        Ok(())
    }

    /// Puts what was written into `batch`, and what it was decided from.
    pub(crate) fn finish(mut self, batch: &mut Batch) {
        for (digest, tree_node) in &self.nodes {
            if seeded(Fault::ProtectorsNotExpected) {
                continue;
            }
            batch
                .expected
                .insert(Key::Protector(*digest), tree_node.stored);
        }
        for digest in self.changed {
            let Some(TreeNode { stored, node, .. }) = self.nodes.remove(&digest) else {
                continue;
            };
            if let Some(tag) = &stored {
                batch.lineage_difference.subtract(&self.keys.term(tag));
            }
            let node = node.map(|node| {
                let tag = node.tag(self.keys);
                batch.lineage_difference.add(&self.keys.term(&tag));
                (node, tag)
            });
            batch.lineage.push((digest, node));
        }
    }

    fn put(&mut self, node: Node) -> Result<(), StoreError> {
        let digest = node.digest;
        self.get(&digest)?;
        self.set(digest, Some(node));
        Ok(())
    }

    fn forget(&mut self, stored: StoredNode) -> Result<(), StoreError> {
        let (node, tag) = stored.verified(self.keys)?;
        let tree_node = TreeNode {
            stored: Some(tag),
            node: None,
            changed: false,
        };
        self.nodes.entry(node.digest).or_insert(tree_node);
        self.set(node.digest, None);
        Ok(())
    }

    fn set(&mut self, digest: Digest, node: Option<Node>) {
        if let Some(tree_node) = self.nodes.get_mut(&digest) {
            tree_node.node = node;
            if !std::mem::replace(&mut tree_node.changed, true) {
                self.changed.push(digest);
            }
        }
    }

    fn is_changed(&self, digest: &Digest) -> bool {
        self.nodes
            .get(digest)
            .is_some_and(|tree_node| tree_node.changed)
    }
}

/// When a protector was seen, if it was.
pub(crate) fn seen(
    view: &dyn View,
    keys: &Keys,
    digest: &Digest,
) -> Result<Option<Seen>, StoreError> {
    let found = view.node(digest)?;
    let found = found.map(|found| found.verified(keys)).transpose()?;
    Ok(found.map(|(node, _)| Seen {
        first: node.first_seen,
        last: node.last_seen,
    }))
}

impl Node {
    /// The ingress protector of `step`, which was never seen before.
    fn opened(step: &Step<'_>) -> Self {
        Self {
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
    fn issued(step: &Step<'_>) -> Self {
        Self {
            digest: step.egress,
            parent: Some(step.ingress).filter(|_| !seeded(Fault::EgressWithoutParent)),
            stage: Stage::Issued,
            opened_by: None,
            ..Self::opened(step)
        }
    }

    /// This node, opened once more.
    fn opened_again(self, step: &Step<'_>) -> Self {
        Self {
            stage: match seeded(Fault::StageNotRaised) {
                true => self.stage,
                false => self.stage.max(Stage::Head),
            },
            opened_by: Some(step.opener),
            host: step.host.to_owned(),
            last_seen: step.time,
            ..self
        }
    }
}
