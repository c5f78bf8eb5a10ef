//! How the nodes of a cluster stand.

use hgs_cluster::membership::{self, MemberNode};
use hgs_cluster::node::NodeName;
use hgs_etcd::{MemberId, MemberStatus};

use super::Cluster;

/// How a cluster stands, as one of its nodes sees it.
#[derive(Debug)]
pub(crate) struct Standing {
    /// Its name.
    pub(crate) cluster: String,
    /// This node.
    pub(crate) node: NodeName,
    /// The nodes, by name.
    pub(crate) nodes: Vec<NodeStanding>,
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
        Standing {
            cluster: facts.cluster,
            node: facts.node.name,
            nodes,
            trouble,
        }
    }
}
