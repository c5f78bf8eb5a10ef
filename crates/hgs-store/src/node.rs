//! A node of the tree of protectors, as it is kept.

use hgs_custody::seal::Tag;
use hgs_pki::{Thumbprint, Time};
use serde::{Deserialize, Serialize};

use crate::model::Digest;
use crate::record::Keys;
use crate::{Finding, Tampered};

/// The pair of certificates with which a protector was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Opener {
    pub(crate) encryption: Thumbprint,
    /// Absent where version 1 of the schema recorded it.
    pub(crate) signing: Option<Thumbprint>,
}

/// A node of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) digest: Digest,
    /// The protector that it was made from; that one may have been forgotten.
    pub(crate) parent: Option<Digest>,
    pub(crate) stage: Stage,
    pub(crate) owner: Thumbprint,
    pub(crate) opened_by: Option<Opener>,
    pub(crate) host: String,
    pub(crate) first_seen: Time,
    pub(crate) last_seen: Time,
}

/// A node as an engine has it. Its tag is not verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredNode {
    pub(crate) node: Node,
    pub(crate) tag: Tag,
}

/// How far a protector got; the numbers stand in the database, the names in backups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// It was made here and never came back.
    Issued = 0,
    /// It came back, and nothing that was made from it did.
    Head = 1,
    /// Something that was made from it came back.
    Ancestor = 2,
}

impl StoredNode {
    /// The node, if the tag is its own.
    pub(crate) fn verified(self, keys: &Keys) -> Result<(Node, Tag), Tampered> {
        let Self { node, tag } = self;
        let authentic = node.with_parts(|parts| keys.lineage.verify(parts, &tag));
        authentic.map_err(|_| Tampered::new("lineage", node.digest, Finding::Changed))?;
        Ok((node, tag))
    }
}

impl Node {
    pub(crate) fn tag(&self, keys: &Keys) -> Tag {
        self.with_parts(|parts| keys.lineage.tag(parts))
    }

    fn with_parts<T>(&self, then: impl FnOnce([&[u8]; 8]) -> T) -> T {
        let parent = self.parent.as_ref().map(Digest::as_bytes);
        then([
            self.digest.as_bytes(),
            parent.map_or(&[], |parent| &parent[..]),
            &[self.stage as u8],
            self.owner.as_bytes(),
            &Opener::octets(self.opened_by.as_ref()),
            self.host.as_bytes(),
            &self.first_seen.unix().to_be_bytes(),
            &self.last_seen.unix().to_be_bytes(),
        ])
    }
}

impl Stage {
    pub(crate) fn from_number(number: i64) -> Option<Self> {
        let all = [Self::Issued, Self::Head, Self::Ancestor];
        all.into_iter().find(|stage| *stage as i64 == number)
    }
}

impl Opener {
    pub(crate) fn signing_octets(&self) -> Option<[u8; 32]> {
        self.signing.map(|signing| *signing.as_bytes())
    }

    /// The pair as one part of a tag.
    pub(crate) fn octets(pair: Option<&Self>) -> Vec<u8> {
        let Some(pair) = pair else {
            return Vec::new();
        };
        let signing = pair
            .signing
            .as_ref()
            .map(Thumbprint::as_bytes)
            .map_or(&[][..], |octets| &octets[..]);
        [&pair.encryption.as_bytes()[..], signing].concat()
    }
}
