//! Protectors that were released, and so the shielded VMs that they belong to.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{MAX_PAGE, named};
use crate::text;

/// Which protectors are wanted. An absent filter lets all pass. Pages are continued by the time and the digest of their last
/// entry; what is released meanwhile moves to the first page.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ProtectorQuery {
    /// How many protectors at most: 1 to 1000, 100 if absent.
    #[schemars(range(min = 1, max = MAX_PAGE))]
    pub limit: Option<usize>,
    /// Only protectors that were last released then or before.
    #[schemars(with = "Option<text::Time>")]
    pub until: Option<String>,
    /// Of those that were last released exactly at `until`, only protectors whose digests follow this one.
    #[schemars(with = "Option<text::Digest>")]
    pub after: Option<String>,
    /// Only protectors that were last released to the host with this name or id.
    #[schemars(with = "Option<text::HostName>")]
    pub host: Option<String>,
}

/// A protector that was released here, or was made here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Protector {
    /// Its digest.
    #[schemars(with = "text::Digest")]
    pub protector: String,
    /// The digest of the protector that it was made from; absent where that is not known.
    #[schemars(with = "Option<text::Digest>")]
    pub parent: Option<String>,
    /// How far it got.
    pub stage: ProtectorStage,
    /// The thumbprint of its owner's signing certificate.
    #[schemars(with = "text::Digest")]
    pub owner: String,
    /// The thumbprint of the encryption certificate that opened it last; absent if it never came back.
    #[schemars(with = "Option<text::Digest>")]
    pub guardian: Option<String>,
    /// The lineage of that certificate, if the guardian still has it.
    pub lineage: Option<String>,
    /// The id of the host to which it was released last, or for which it was made.
    pub host: String,
    /// The name of that host, if it is registered.
    pub host_name: Option<String>,
    /// When it was first seen, or made.
    #[schemars(with = "text::Time")]
    pub first: String,
    /// When its keys were last released, or it was made.
    #[schemars(with = "text::Time")]
    pub last: String,
}

/// How far a protector got.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum ProtectorStage {
    /// It was made here and never came back.
    Issued,
    /// It came back, and nothing that was made from it did.
    Head,
    /// Something that was made from it came back.
    Ancestor,
}

named!(ProtectorStage);

/// A protector and its relatives, as far as the guardian remembers them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProtectorLineage {
    /// The protector itself.
    pub protector: Protector,
    /// What it was made from, what that was made from, and so on: 100 at most.
    pub ancestors: Vec<Protector>,
    /// What was made from it and never came back: 100 at most.
    pub issued: Vec<Protector>,
}
