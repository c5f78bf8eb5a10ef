//! Questions about protectors, and so about the VMs that they belong to.

use hgs_pki::health::HostId;
use hgs_pki::{Thumbprint, Time};

use crate::StoreError;
use crate::engine::View;
use crate::model::Digest;
use crate::node::{Node, Stage, StoredNode};
use crate::record::Keys;

/// Which of the newest protectors are wanted. An absent filter lets all pass.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heads {
    /// Only those that were last released then or before.
    pub until: Option<Time>,
    /// Of those that were last released exactly then, only the ones whose digest follows this one.
    pub after: Option<Digest>,
    /// Only those that were last released to this host.
    pub host: Option<HostId>,
}

impl Heads {
    #[cfg(test)]
    pub(crate) fn is_passed_by(&self, node: &Node) -> bool {
        let is_before = self.until.is_none_or(|until| {
            let is_after = self.after.is_none_or(|after| node.digest > after);
            node.last_seen < until || (node.last_seen == until && is_after)
        });
        is_before && self.host.is_none_or(|host| node.host == host.to_string())
    }
}

/// A protector that was released here, or was made here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownProtector {
    /// Its digest.
    pub digest: Digest,
    /// The protector that it was made from, which may have been forgotten.
    pub parent: Option<Digest>,
    /// How far it got.
    pub stage: Stage,
    /// The thumbprint of its owner's signing certificate.
    pub owner: Thumbprint,
    /// The encryption certificate that opened it last; absent if it never came back.
    pub opened_by: Option<Thumbprint>,
    /// The id of the host to which it was released last, or for which it was made.
    pub host: String,
    /// When it was first seen, or made.
    pub first: Time,
    /// When its keys were last released, or it was made.
    pub last: Time,
}

/// A protector and its relatives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProtectorLine {
    /// The protector itself.
    pub protector: KnownProtector,
    /// What it was made from, what that was made from, and so on as far as it is known.
    pub ancestors: Vec<KnownProtector>,
    /// What was made from it and never came back.
    pub issued: Vec<KnownProtector>,
}

impl From<Node> for KnownProtector {
    fn from(node: Node) -> Self {
        Self {
            digest: node.digest,
            parent: node.parent,
            stage: node.stage,
            owner: node.owner,
            opened_by: node.opened_by.map(|pair| pair.encryption),
            host: node.host,
            first: node.first_seen,
            last: node.last_seen,
        }
    }
}

/// At most `limit` of the newest protectors of each line that came back, the last released first.
pub(crate) fn heads(
    view: &dyn View,
    keys: &Keys,
    wanted: &Heads,
    limit: usize,
) -> Result<Vec<KnownProtector>, StoreError> {
    let found = view.heads(wanted, limit)?;
    found
        .into_iter()
        .map(|stored| known(stored, keys))
        .collect()
}

/// The line of a protector, with at most `limit` ancestors and as many of what was issued.
pub(crate) fn line(
    view: &dyn View,
    keys: &Keys,
    digest: &Digest,
    limit: usize,
) -> Result<Option<ProtectorLine>, StoreError> {
    let Some(found) = view.node(digest)? else {
        return Ok(None);
    };
    let protector = known(found, keys)?;
    let mut ancestors: Vec<KnownProtector> = Vec::new();
    let mut next = protector.parent;
    while let Some(parent) = next.filter(|_| ancestors.len() < limit) {
        let Some(found) = view.node(&parent)? else {
            break;
        };
        let ancestor = known(found, keys)?;
        next = ancestor.parent;
        ancestors.push(ancestor);
    }
    let issued = view.issued_from(digest)?.into_iter().take(limit);
    Ok(Some(ProtectorLine {
        protector,
        ancestors,
        issued: issued
            .map(|stored| known(stored, keys))
            .collect::<Result<_, _>>()?,
    }))
}

fn known(stored: StoredNode, keys: &Keys) -> Result<KnownProtector, StoreError> {
    let (node, _) = stored.verified(keys)?;
    Ok(node.into())
}
