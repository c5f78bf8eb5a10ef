//! Several nodes that are one guardian.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::text;

/// The cluster that this guardian is a node of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cluster {
    /// Its number.
    pub cluster: String,
    /// The node that answers.
    pub node: String,
    /// Whether enough nodes reach each other to commit anything.
    pub quorum: bool,
    /// The node that leads; absent without a quorum.
    #[serde(default)]
    pub leader: Option<String>,
    /// How many more nodes can be lost before nothing is released; absent without a quorum.
    #[serde(default)]
    pub survives: Option<usize>,
    /// The level of the format of what the nodes share.
    #[serde(default = "first_level")]
    pub level: u32,
    /// A newer level that some of the nodes read, and what it waits for.
    #[serde(default)]
    pub upgrade: Option<ClusterUpgrade>,
    /// The nodes, by name.
    pub nodes: Vec<ClusterNode>,
    /// Why the nodes are shown as they were known last.
    #[serde(default)]
    pub trouble: Option<String>,
    /// How it was found that etcd was put back to an older state: no node records or releases anything any more.
    #[serde(default)]
    pub put_back: Option<String>,
    /// The etcd that the nodes use, where it runs already; absent where each node starts a member of their own.
    #[serde(default)]
    pub existing_etcd: Option<ExistingEtcd>,
}

/// An etcd that the nodes use and have not started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExistingEtcd {
    /// With what the keys of the cluster begin, before a `/`.
    pub prefix: String,
    /// Its members that are asked.
    pub members: Vec<ExistingEtcdMember>,
}

/// A member of an etcd that the nodes use and have not started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExistingEtcdMember {
    /// Where it is asked.
    pub url: String,
    /// Whether it answers.
    pub reachable: bool,
    /// Whether it leads.
    pub leads: bool,
    /// Its version.
    #[serde(default)]
    pub version: Option<String>,
    /// Octets of its database.
    #[serde(default)]
    pub octets: Option<u64>,
    /// Why it does not answer, or what it says is wrong with it.
    #[serde(default)]
    pub error: Option<String>,
}

fn first_level() -> u32 {
    1
}

/// A level of the format that a cluster is on its way to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClusterUpgrade {
    /// The level.
    pub level: u32,
    /// The version of the program that reads it.
    pub version: String,
    /// The nodes that can't read it, or that nothing is known of.
    pub waits_for: Vec<String>,
}

/// A node of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClusterNode {
    /// What it is called; absent while it has been added and has never started.
    #[serde(default)]
    pub name: Option<String>,
    /// Where other nodes reach it: host, and port of its cluster listener.
    pub address: String,
    /// Whether its etcd answers; where it has none, whether it has reported within 20 seconds.
    pub reachable: bool,
    /// Whether it leads.
    pub leads: bool,
    /// Whether it has a vote: one that joins learns first.
    pub votes: bool,
    /// The version of its etcd.
    #[serde(default)]
    pub etcd_version: Option<String>,
    /// Octets of the database of its etcd.
    #[serde(default)]
    pub etcd_octets: Option<u64>,
    /// Octets that this database can have.
    #[serde(default)]
    pub etcd_quota: Option<u64>,
    /// The version of the program, by its last report, as what follows.
    #[serde(default)]
    pub version: Option<String>,
    /// The level of the format of its state.
    #[serde(default)]
    pub level: Option<u32>,
    /// The newest level that its program reads.
    #[serde(default)]
    pub newest_level: Option<u32>,
    /// How many commits of the cluster its disk has yet to take in.
    #[serde(default)]
    pub lag: Option<u64>,
    /// By how many seconds its clock is ahead of that of the node that answers; some are the age of the report.
    #[serde(default)]
    pub clock_difference_seconds: Option<i64>,
    /// Thumbprints of the certificates whose private keys it can use.
    #[serde(default)]
    #[schemars(with = "Option<Vec<text::Digest>>")]
    pub usable_keys: Option<Vec<String>>,
    /// Why its etcd does not answer.
    #[serde(default)]
    pub error: Option<String>,
}

/// A request for an invitation, by which one more node joins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InviteNode {
    /// A fresh X25519 public key of the caller, 32 octets in hexadecimal digits. With its private half the caller computes
    /// the secret of the invitation, which is never sent.
    #[schemars(with = "text::PublicKey")]
    pub public_key: String,
}

/// What an invitation is made of, beside its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeInvitation {
    /// Which invitation: 8 octets in hexadecimal digits.
    pub id: String,
    /// The node's X25519 public key for it.
    #[schemars(with = "text::PublicKey")]
    pub public_key: String,
    /// The thumbprint of the authority of the cluster.
    #[schemars(with = "text::Digest")]
    pub fingerprint: String,
    /// Where nodes of the cluster are reached.
    pub addresses: Vec<String>,
    /// Until when it holds.
    #[schemars(with = "text::Time")]
    pub until: String,
}
