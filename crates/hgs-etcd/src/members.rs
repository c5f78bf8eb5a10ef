//! The members of a cluster, and how they stand.

use crate::txn::{Revision, revision};
use crate::wire;

/// The number of a member, which is never given out again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub u64);

impl std::fmt::Display for MemberId {
    /// As `etcdctl` writes it.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{:x}", self.0)
    }
}

/// A member as the cluster lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its number.
    pub id: MemberId,
    /// Its name, which it says when it starts first.
    pub name: String,
    /// Where other members reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
    /// Whether it has no vote yet.
    pub learner: bool,
}

/// The members of a cluster.
pub type Members = Vec<Listed>;

/// How a member stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberStatus {
    /// Of this cluster.
    pub cluster: u64,
    /// Its number.
    pub id: MemberId,
    /// Of etcd.
    pub version: String,
    /// Its leader, if it has one.
    pub leader: Option<MemberId>,
    /// The state of the store that it has.
    pub revision: Revision,
    /// Entries of its log, and of these, those that it has applied.
    pub log: (u64, u64),
    /// Octets of its database, and of these, those that are used.
    pub octets: (u64, u64),
    /// Whether it has no vote yet.
    pub learner: bool,
    /// What is wrong with it, in etcd's words.
    pub errors: Vec<String>,
}

/// Something for which etcd refuses writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alarm {
    /// Whose it is.
    pub member: MemberId,
    /// What it is.
    pub kind: AlarmKind,
}

/// What alarms say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlarmKind {
    /// The quota of the database is used up.
    NoSpace,
    /// The database is not that of the others.
    Corrupt,
}

impl From<wire::Member> for Listed {
    fn from(member: wire::Member) -> Self {
        Self {
            id: MemberId(member.id),
            name: member.name,
            peer_urls: member.peer_urls,
            client_urls: member.client_urls,
            learner: member.is_learner,
        }
    }
}

impl From<wire::MembersResponse> for Members {
    fn from(response: wire::MembersResponse) -> Self {
        response.members.into_iter().map(Into::into).collect()
    }
}

impl From<wire::StatusResponse> for MemberStatus {
    fn from(status: wire::StatusResponse) -> Self {
        let octets = |number: i64| u64::try_from(number).unwrap_or(0);
        let header = status.header.as_ref();
        Self {
            cluster: header.map_or(0, |header| header.cluster_id),
            id: MemberId(header.map_or(0, |header| header.member_id)),
            revision: revision(header),
            version: status.version,
            leader: (status.leader != 0).then_some(MemberId(status.leader)),
            log: (status.raft_index, status.raft_applied_index),
            octets: (octets(status.db_size), octets(status.db_size_in_use)),
            learner: status.is_learner,
            errors: status.errors,
        }
    }
}

impl From<wire::AlarmMember> for Alarm {
    fn from(alarm: wire::AlarmMember) -> Self {
        Self {
            member: MemberId(alarm.member_id),
            kind: match alarm.alarm() {
                wire::AlarmType::Corrupt => AlarmKind::Corrupt,
                wire::AlarmType::NoSpace | wire::AlarmType::None => AlarmKind::NoSpace,
            },
        }
    }
}
