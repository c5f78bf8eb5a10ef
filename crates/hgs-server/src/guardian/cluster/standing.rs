//! How the nodes of a cluster stand.

use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::time::Duration;

use hgs_cluster::existing::ExistingEtcd;
use hgs_cluster::folder::Facts;
use hgs_cluster::membership::{self, MemberNode};
use hgs_cluster::node::{Node, NodeName};
use hgs_cluster::order::{self, Keyspace};
use hgs_cluster::process::Etcd;
use hgs_cluster::upkeep::{Lagging, Report, Reported, divergence, lagging, reports};
use hgs_etcd::{MemberId, MemberStatus};
use hgs_pki::Time;
use hgs_store::order::OrderError;
use hgs_store::{Format, Level};
use tokio::time::Instant;

use super::Cluster;

/// Seconds that a report can be old: two of them may be missing.
const REPORTS_AGE: i64 = 15;

/// For so long a node without a member of etcd counts as there after its last report.
const THERE: Duration = Duration::from_secs(20);

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
    /// The level of the format, and what a newer one waits for.
    pub(crate) level: Level,
    pub(crate) upgrade: Option<Upgrade>,
    /// Why the members can't be asked: those that were known last are shown.
    pub(crate) trouble: Option<String>,
    /// How it was found that etcd was put back: nothing is ordered any more.
    pub(crate) put_back: Option<String>,
    /// Where nodes use an etcd that runs already.
    pub(crate) existing: Option<Existing>,
    /// Two nodes whose audit logs are not the same.
    pub(crate) divergence: Option<String>,
}

/// How an etcd stands that runs already.
#[derive(Debug)]
pub(crate) struct Existing {
    /// Where the keys of the cluster begin.
    pub(crate) prefix: Keyspace,
    /// Whether it answers as it does with a quorum.
    pub(crate) has_quorum: bool,
    /// Its members that are asked.
    pub(crate) members: Vec<EtcdStanding>,
}

/// How one member of it stands.
#[derive(Debug)]
pub(crate) struct EtcdStanding {
    pub(crate) url: String,
    pub(crate) status: Result<MemberStatus, String>,
}

/// A level of the format that some node can read, and not all.
#[derive(Debug)]
pub(crate) struct Upgrade {
    /// What it is, and which version introduced it.
    pub(crate) to: Format,
    /// The nodes that it waits for; none for a moment before it is raised.
    pub(crate) waits_for: Vec<Lagging>,
}

/// How one node stands.
#[derive(Debug)]
pub(crate) struct NodeStanding {
    pub(crate) name: Option<NodeName>,
    pub(crate) address: String,
    pub(crate) learner: bool,
    /// Of its etcd, if it has one that answers.
    pub(crate) etcd: Option<MemberStatus>,
    pub(crate) error: Option<String>,
    /// What it said of itself last.
    pub(crate) report: Option<Report>,
    /// Whether it is there: its etcd answers, or, if it has none, it has reported lately.
    pub(crate) is_there: bool,
}

impl Standing {
    /// The member that leads, if most members have the same one.
    fn leader(&self) -> Option<MemberId> {
        let leaders = || {
            self.nodes
                .iter()
                .filter_map(|node| node.etcd.as_ref()?.leader)
        };
        leaders()
            .find(|leader| leaders().filter(|other| other == leader).count() * 2 > self.voters())
    }

    /// Whether this node leads. In an etcd that runs already no node does.
    pub(crate) fn leads(&self, node: &NodeStanding) -> bool {
        let leader = self.leader();
        leader.is_some() && node.etcd.as_ref().map(|etcd| etcd.id) == leader
    }

    /// The node that leads.
    pub(crate) fn leading_node(&self) -> Option<&NodeName> {
        let node = self.nodes.iter().find(|node| self.leads(node));
        node?.name.as_ref()
    }

    /// Whether commits are ordered.
    pub(crate) fn has_quorum(&self) -> bool {
        match &self.existing {
            Some(existing) => existing.has_quorum,
            None => self.leader().is_some() && self.survives_own().is_some(),
        }
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

    /// Thumbprints of certificates whose keys a node can't use, and another one can.
    pub(crate) fn missing_keys(&self, node: &NodeStanding) -> Option<Vec<String>> {
        let own = &node.report.as_ref()?.usable_keys;
        let reports = self.nodes.iter().filter_map(|node| node.report.as_ref());
        let missing: BTreeSet<_> = reports
            .flat_map(|report| &report.usable_keys)
            .filter(|key| !own.contains(key))
            .cloned()
            .collect();
        Some(missing.into_iter().collect())
    }

    /// The members that are asked of an etcd that runs already.
    pub(crate) fn etcd_members(&self) -> impl Iterator<Item = &EtcdStanding> {
        self.existing.iter().flat_map(|existing| &existing.members)
    }

    /// The nodes that a newer level of the format waits for.
    pub(crate) fn waits_for(&self) -> impl Iterator<Item = &Lagging> {
        self.upgrade.iter().flat_map(|upgrade| &upgrade.waits_for)
    }

    /// Octets of the database of each member of etcd that answers.
    pub(crate) fn etcd_octets(&self) -> Vec<u64> {
        let own = self.nodes.iter().filter_map(|node| node.etcd.as_ref());
        own.chain(
            self.etcd_members()
                .filter_map(|member| member.status.as_ref().ok()),
        )
        .map(|status| status.octets.0)
        .collect()
    }

    fn voters(&self) -> usize {
        self.nodes.iter().filter(|node| !node.learner).count()
    }

    /// How many more nodes can be lost before nothing is released; none, if nothing is now.
    pub(crate) fn survives(&self) -> Option<usize> {
        let there = || self.nodes.iter().filter(|node| node.is_there).count();
        match self.existing {
            _ if !self.has_quorum() => None,
            // One node goes on alone. What etcd survives is for those who run it to say.
            Some(_) => Some(there().saturating_sub(1)),
            None => self.survives_own(),
        }
    }

    /// The same where each node has a member of etcd.
    fn survives_own(&self) -> Option<usize> {
        let quorum = self.voters() / 2 + 1;
        let has_leader = |node: &&NodeStanding| {
            !node.learner && node.etcd.as_ref().is_some_and(|etcd| etcd.leader.is_some())
        };
        let present = self.nodes.iter().filter(has_leader).count();
        present.checked_sub(quorum)
    }
}

impl Cluster {
    /// Asks every member.
    pub(crate) async fn standing(&self) -> Standing {
        let facts = self.facts();
        let (mut nodes, existing, trouble) = match &facts.etcd {
            None => {
                let (nodes, trouble) = self.members_standing(&facts).await;
                (nodes, None, trouble)
            }
            Some(etcd) => {
                let (existing, trouble) = self.existing_standing(etcd).await;
                let nodes = facts.nodes.iter().map(NodeStanding::of).collect();
                (nodes, Some(existing), trouble)
            }
        };
        nodes.sort_by(|one, other| one.name.cmp(&other.name));
        // Without a quorum there are none, which is told already.
        let reports = reports(&self.client, &facts.keyspace()).await;
        let reports = reports.unwrap_or_default();
        let halt = order::check_halt(&self.client, &facts.keyspace()).await;
        let put_back = halt
            .err()
            .filter(|error| matches!(error, OrderError::PutBack { .. }));
        let now = Instant::now();
        let heard = {
            let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
            heard.hear(&reports, now);
            heard.forget_absent(&reports);
            heard.clone()
        };
        let divergence = divergence(&reports).map(|divergence| divergence.to_string());
        for Reported { node, report, .. } in reports {
            let of = nodes
                .iter_mut()
                .find(|standing| standing.name.as_ref() == Some(&node));
            if let Some(standing) = of {
                standing.is_there |= existing.is_some() && heard.was_heard(&node, THERE, now);
                standing.report = Some(report);
            }
        }
        let level = self.store().map(|store| store.state().level());
        let level = level.unwrap_or_default();
        Standing {
            level,
            upgrade: upgrade(level, &nodes),
            now: self.clock.now(),
            cluster: facts.cluster,
            node: facts.node.name,
            nodes,
            trouble,
            put_back: put_back.map(|error| error.to_string()),
            existing,
            divergence,
        }
    }

    /// Asks the members of an etcd that runs already.
    async fn existing_standing(&self, etcd: &ExistingEtcd) -> (Existing, Option<String>) {
        let asked = etcd
            .place
            .urls
            .iter()
            .enumerate()
            .map(|(place, url)| async move {
                let status = self.client.status(place).await;
                EtcdStanding {
                    url: url.to_string(),
                    status: status.map_err(|error| error.to_string()),
                }
            });
        let members = futures_util::future::join_all(asked).await;
        let listed = order::list(&self.client, &etcd.place.prefix).await;
        let existing = Existing {
            prefix: etcd.place.prefix.clone(),
            has_quorum: listed.is_ok(),
            members,
        };
        (existing, listed.err().map(|error| error.to_string()))
    }

    /// Asks the member of etcd of each node.
    async fn members_standing(&self, facts: &Facts) -> (Vec<NodeStanding>, Option<String>) {
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
                    is_there: etcd.is_some(),
                    etcd,
                    error,
                }
            }
        });
        let mut nodes = futures_util::future::join_all(asked).await;
        let own = self.etcd.as_ref().filter(|etcd| etcd.process().is_none());
        if let Some(own) = own.and_then(Etcd::last_words)
            && let Some(node) = nodes
                .iter_mut()
                .find(|node| node.name.as_ref() == Some(&facts.node.name))
        {
            node.error = Some(format!("etcd has ended: {own}"));
        }
        (nodes, trouble)
    }
}

impl NodeStanding {
    /// Of a node that has no member of etcd.
    fn of(node: &Node) -> Self {
        Self {
            name: Some(node.name.clone()),
            address: node.address.to_string(),
            learner: false,
            etcd: None,
            error: None,
            report: None,
            is_there: false,
        }
    }
}

/// What stands between `level` and the newest one that any of the nodes can read.
fn upgrade(level: Level, nodes: &[NodeStanding]) -> Option<Upgrade> {
    let reports = nodes.iter().filter_map(|node| node.report.as_ref());
    let newest = reports.max_by_key(|report| report.levels.newest)?;
    let newest_level = newest.levels.newest;
    if newest_level <= level {
        return None;
    }
    let named = nodes
        .iter()
        .filter_map(|node| Some((node.name.as_ref()?, node.report.as_ref())));
    let to = Format {
        level: newest_level,
        version: newest.version.clone(),
    };
    Some(Upgrade {
        waits_for: lagging(named, &to),
        to,
    })
}
