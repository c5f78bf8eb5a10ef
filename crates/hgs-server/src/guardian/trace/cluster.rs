//! The cluster that a guardian is a node of.

use hgs_cluster::credentials;
use hgs_cluster::folder::ClusterFolder;
use hgs_cluster::process::{self, QUOTA};
use hgs_trace::guardian::{Cluster, ClusterCertificate, ClusterNode, ClusterStanding, LaggingNode};
use hgs_trace::{Observed, Problem};

use super::super::cluster::{Cluster as Running, EtcdStanding, NodeStanding, Standing};

/// What the folder of a node tells; `None` where the guardian is one node.
pub(super) fn of_folder(folder: &ClusterFolder) -> Option<Cluster> {
    let facts = match folder.facts() {
        Ok(None) => return None,
        Ok(Some(facts)) => facts,
        Err(error) => {
            return Some(Cluster {
                node: "this node".to_owned(),
                usable: Err(Problem::of(&error)),
                certificates: Vec::new(),
                standing: None,
                put_back: None,
            });
        }
    };
    let usable: Observed<()> = match &facts.etcd {
        None => process::check_node(folder)
            .map_err(|error| Problem::of(&error).with_remedy(error.remedy())),
        Some(existing) => existing
            .tls()
            .map(drop)
            .map_err(|error| Problem::of(&error).with_remedy(error.remedy())),
    };
    let found = credentials::validities(folder);
    let (certificates, usable) = match found {
        Ok(found) => (found, usable),
        Err(error) => (Vec::new(), usable.and_then(|()| Err(Problem::of(&error)))),
    };
    let certificates = certificates.into_iter();
    Some(Cluster {
        node: facts.node.name.to_string(),
        usable,
        certificates: certificates
            .map(|(name, validity)| ClusterCertificate {
                name,
                validity: validity.into(),
            })
            .collect(),
        standing: None,
        // What is wrong with the note is wrong with the folder, which is told already.
        put_back: folder.put_back().unwrap_or_default(),
    })
}

impl Running {
    /// How the cluster stands, for a diagnosis.
    pub(crate) async fn diagnosed(&self) -> ClusterStanding {
        let standing = self.standing().await;
        let mut nodes: Vec<_> = standing
            .nodes
            .iter()
            .map(|one| node(&standing, one))
            .collect();
        nodes.extend(standing.etcd_members().map(member));
        ClusterStanding {
            quorum: standing.has_quorum(),
            leader: standing.leading_node().map(ToString::to_string),
            survives: standing.survives(),
            divergence: standing.divergence.clone(),
            trouble: standing.trouble.clone(),
            put_back: standing.put_back.clone(),
            lagging: lagging(&standing),
            nodes,
        }
    }
}

fn node(standing: &Standing, node: &NodeStanding) -> ClusterNode {
    let name = node.name.as_ref().map(ToString::to_string);
    let etcd = node.etcd.as_ref();
    let report = node.report.as_ref();
    ClusterNode {
        name: name.unwrap_or_else(|| node.address.clone()),
        there: node.is_there,
        // One that uses an etcd that runs already has none.
        votes: standing.existing.is_none() && !node.learner,
        error: node.error.clone(),
        version: report.map(|report| report.version.clone()),
        lag: standing.lag(node),
        clock_apart: standing.clock_difference(node).map(i64::unsigned_abs),
        missing_keys: standing.missing_keys(node),
        etcd_version: etcd.map(|etcd| etcd.version.clone()),
        etcd_octets: etcd.map(|etcd| etcd.octets.1),
        etcd_quota: etcd.map(|_| QUOTA),
        alarms: etcd.map(|etcd| etcd.errors.clone()).unwrap_or_default(),
    }
}

/// The nodes that a newer level of the format waits for.
fn lagging(standing: &Standing) -> Vec<LaggingNode> {
    standing
        .waits_for()
        .map(|lagging| LaggingNode {
            name: lagging.node.to_string(),
            problem: Problem::new(lagging.to_string()).with_remedy(Some(lagging.remedy())),
        })
        .collect()
}

/// A member of an etcd that runs already, which is no node.
fn member(member: &EtcdStanding) -> ClusterNode {
    let etcd = member.status.as_ref().ok();
    ClusterNode {
        name: member.url.clone(),
        there: etcd.is_some(),
        votes: false,
        error: member.status.as_ref().err().cloned(),
        version: None,
        lag: None,
        clock_apart: None,
        missing_keys: None,
        etcd_version: etcd.map(|etcd| etcd.version.clone()),
        etcd_octets: etcd.map(|etcd| etcd.octets.1),
        etcd_quota: None,
        alarms: etcd.map(|etcd| etcd.errors.clone()).unwrap_or_default(),
    }
}
