//! How the nodes of a cluster stand.

use hgs_cluster::membership::{self, MemberNode};
use hgs_cluster::node::NodeName;
use hgs_cluster::order::Keyspace;
use hgs_cluster::upkeep::{Report, Reported, reports};
use hgs_etcd::{MemberId, MemberStatus};
use hgs_pki::Time;

use super::Cluster;

/// Seconds that a report can be old: two of them may be missing.
const REPORTS_AGE: i64 = 15;

/// How a cluster stands, as one of its nodes sees it.
#[derive(Debug)]
pub(crate) struct Standing {
    /// Its name.
    pub(crate) cluster: String,
    /// This node.
    pub(crate) node: NodeName,
    /// The nodes, by name.
    pub(crate) nodes: Vec<NodeStanding>,
    /// The time by the clock of this node.
    pub(crate) now: Time,
    /// Why the members can't be asked: those that were known last are shown.
    pub(crate) trouble: Option<String>,
}

/// How one node stands.
#[derive(Debug)]
pub(crate) struct NodeStanding {
    pub(crate) name: Option<NodeName>,
    pub(crate) address: String,
    pub(crate) learner: bool,
    /// Of its etcd, if it answers.
    pub(crate) etcd: Option<MemberStatus>,
    pub(crate) error: Option<String>,
    /// What it said of itself last.
    pub(crate) report: Option<Report>,
}

impl Standing {
    /// The member that leads, if most members have the same one.
    pub(crate) fn leader(&self) -> Option<MemberId> {
        let leaders = || {
            self.nodes
                .iter()
                .filter_map(|node| node.etcd.as_ref()?.leader)
        };
        leaders()
            .find(|leader| leaders().filter(|other| other == leader).count() * 2 > self.voters())
    }

    /// The node that leads.
    pub(crate) fn leading_node(&self) -> Option<&NodeName> {
        let leader = self.leader()?;
        let node = self
            .nodes
            .iter()
            .find(|node| node.etcd.as_ref().is_some_and(|etcd| etcd.id == leader));
        node?.name.as_ref()
    }

    /// How many entries a node has yet to take in, by its last report.
    pub(crate) fn lag(&self, node: &NodeStanding) -> Option<u64> {
        let entries = |node: &NodeStanding| Some(node.report.as_ref()?.entries.values().sum());
        let most: u64 = self.nodes.iter().filter_map(entries).max()?;
        Some(most.saturating_sub(entries(node)?))
    }

    /// By how many seconds the clock of a node was ahead of this one's, when it reported last. Reports are some seconds old,
    /// so less than that counts as nothing.
    pub(crate) fn clock_difference(&self, node: &NodeStanding) -> Option<i64> {
        let ahead = node.report.as_ref()?.clock / 1000 - self.now.unix();
        Some(if (-REPORTS_AGE..=1).contains(&ahead) {
            0
        } else {
            ahead
        })
    }

    fn voters(&self) -> usize {
        self.nodes.iter().filter(|node| !node.learner).count()
    }

    /// How many more nodes can be lost before nothing is released; none, if nothing is now.
    pub(crate) fn survives(&self) -> Option<usize> {
        let quorum = self.voters() / 2 + 1;
        let present = self
            .nodes
            .iter()
            .filter(|node| {
                !node.learner && node.etcd.as_ref().is_some_and(|etcd| etcd.leader.is_some())
            })
            .count();
        present.checked_sub(quorum)
    }
}

impl Cluster {
    /// Asks every member.
    pub(crate) async fn standing(&self) -> Standing {
        let facts = self.facts();
        let (members, trouble) = match membership::members(&self.client).await {
            Ok(members) => (members, None),
            Err(error) => {
                let known = facts.nodes.iter().map(|node| MemberNode {
                    id: MemberId(0),
                    name: Some(node.name.clone()),
                    address: node.address.clone(),
                    learner: false,
                });
                (known.collect(), Some(error.to_string()))
            }
        };
        let places = facts.etcd_endpoints();
        let asked = members.into_iter().map(|member| {
            let place = places
                .iter()
                .position(|place| *place == member.address.etcd_clients());
            async move {
                let status = match place {
                    Some(place) => self
                        .client
                        .status(place)
                        .await
                        .map_err(|error| error.to_string()),
                    None => Err("it has not started yet".to_owned()),
                };
                let (etcd, error) = match status {
                    Ok(status) => (Some(status), None),
                    Err(error) => (None, Some(error)),
                };
                NodeStanding {
                    report: None,
                    name: member.name,
                    address: member.address.to_string(),
                    learner: member.learner,
                    etcd,
                    error,
                }
            }
        });
        let mut nodes = futures_util::future::join_all(asked).await;
        nodes.sort_by(|one, other| one.name.cmp(&other.name));
        // Without a quorum there are none, which is told already.
        let reports = reports(&self.client, &Keyspace::default()).await;
        for Reported { node, report, .. } in reports.unwrap_or_default() {
            let of = nodes
                .iter_mut()
                .find(|standing| standing.name.as_ref() == Some(&node));
            if let Some(standing) = of {
                standing.report = Some(report);
            }
        }
        let own_error = self
            .etcd
            .process()
            .is_none()
            .then(|| self.etcd.last_words())
            .flatten();
        if let Some(own) = nodes
            .iter_mut()
            .find(|node| node.name.as_ref() == Some(&facts.node.name))
            && let Some(words) = own_error
        {
            own.error = Some(format!("etcd has ended: {words}"));
        }
        Standing {
            now: self.clock.now(),
            cluster: facts.cluster,
            node: facts.node.name,
            nodes,
            trouble,
        }
    }
}
