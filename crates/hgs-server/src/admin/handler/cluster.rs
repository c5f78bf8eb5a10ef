//! The cluster that this guardian is a node of.

use std::sync::Arc;

use hgs_admin::types::{
    self, Certificate, ClusterNode, ClusterUpgrade, ExistingEtcdMember, InviteNode, NodeInvitation,
    Warning,
};
use hgs_admin::{AdminError, ErrorCode, NodeSelector};
use hgs_cluster::membership::MembershipError;
use hgs_cluster::order::NodesError;
use hgs_cluster::process::QUOTA;
use hgs_crypto::{hex, x25519};
use hgs_etcd::MemberStatus;
use hgs_store::Action;
use serde_json::json;
use tokio::runtime::Handle;

use super::AdminHandler;
use crate::guardian::{Cluster, ClusterError, EtcdStanding, NodeStanding, Standing};

/// Seconds by which clocks may differ.
const MAX_CLOCK_DIFFERENCE: i64 = 30;

impl AdminHandler<'_> {
    pub(super) fn of_cluster(&self) -> Result<types::Cluster, AdminError> {
        let cluster = self.cluster_node()?;
        Ok(shown(&Handle::current().block_on(cluster.standing())))
    }

    pub(super) fn invite(&self, request: &InviteNode) -> Result<NodeInvitation, AdminError> {
        let cluster = self.cluster_node()?;
        let key = hex::decode(&request.public_key)
            .and_then(|octets| octets.try_into().ok())
            .ok_or_else(|| AdminError::invalid("public_key: 32 octets in hexadecimal digits"))?;
        let invited = cluster.invite(&x25519::PublicKey(key)).map_err(error)?;
        let about =
            json!({"invitation": invited.invitation.id(), "until": invited.until.to_string()});
        cluster
            .record(&self.act(), Action::InviteNode, about)
            .map_err(error)?;
        let addresses = invited.invitation.addresses().iter();
        Ok(NodeInvitation {
            id: invited.invitation.id(),
            public_key: hex::encode(&invited.public_key.0),
            fingerprint: invited.invitation.fingerprint().to_string(),
            addresses: addresses.map(ToString::to_string).collect(),
            until: invited.until.to_string(),
        })
    }

    pub(super) fn remove(&self, node: &NodeSelector) -> Result<types::Cluster, AdminError> {
        let cluster = self.cluster_node()?;
        let name = node.as_str().parse().map_err(AdminError::invalid)?;
        Handle::current()
            .block_on(cluster.remove(&name))
            .map_err(error)?;
        cluster
            .record(&self.act(), Action::RemoveNode, json!({"node": name}))
            .map_err(error)?;
        self.of_cluster()
    }

    /// Tells of each certificate which nodes can use its key, if there are several.
    pub(super) fn tell_nodes(&self, certificates: &mut [Certificate]) {
        let Some(cluster) = &self.parts.cluster else {
            return;
        };
        let standing = Handle::current().block_on(cluster.standing());
        for certificate in certificates {
            let able = standing.nodes.iter().filter(|node| {
                let report = node.report.as_ref();
                report.is_some_and(|report| report.usable_keys.contains(&certificate.thumbprint))
            });
            certificate.nodes = Some(
                able.filter_map(|node| Some(node.name.as_ref()?.to_string()))
                    .collect(),
            );
        }
    }

    /// What needs attention about the cluster, if there is one.
    pub(super) fn cluster_warnings(&self) -> Vec<Warning> {
        let Some(cluster) = &self.parts.cluster else {
            return Vec::new();
        };
        warnings(&Handle::current().block_on(cluster.standing()))
    }

    /// What an administrator can do so that a level of the format is reached.
    pub(super) fn level_remedy(&self) -> Option<String> {
        let cluster = self.parts.cluster.as_ref()?;
        let standing = Handle::current().block_on(cluster.standing());
        standing.upgrade.as_ref()?;
        let lagging = standing
            .waits_for()
            .map(|lagging| format!("{lagging}; {}", lagging.remedy()));
        let lagging = Vec::from_iter(lagging).join("; ");
        Some(match lagging.is_empty() {
            true => "all nodes read it: try it again in a minute".to_owned(),
            false => lagging,
        })
    }

    fn cluster_node(&self) -> Result<&Arc<Cluster>, AdminError> {
        self.parts.cluster.as_ref().ok_or_else(|| {
            AdminError::new(ErrorCode::Conflict, "this guardian is one node, and no cluster")
                .with_remedy("make it the first node of one with `hgs cluster create`, while the server is stopped")
        })
    }
}

fn warnings(standing: &Standing) -> Vec<Warning> {
    let warning = |code: &str, message: String, remedy: &str| Warning {
        code: code.to_owned(),
        message,
        remedy: remedy.to_owned(),
    };
    let mut warnings = Vec::new();
    if !standing.has_quorum() {
        warnings.push(warning(
            "cluster-without-quorum",
            "nothing is released: too few nodes of the cluster reach each other".to_owned(),
            "see `hgs cluster status`: more than half of the nodes must run",
        ));
    }
    if let Some(put_back) = &standing.put_back {
        warnings.push(warning(
            "cluster-put-back",
            format!("nothing is released: {put_back}"),
            "stop all nodes: see \"Disasters\" in docs/cluster.md",
        ));
    }
    for EtcdStanding { url, status } in standing.etcd_members() {
        let trouble = match status {
            Ok(status) if status.errors.is_empty() => continue,
            Ok(status) => status.errors.join("; "),
            Err(error) => error.clone(),
        };
        warnings.push(warning(
            "cluster-etcd",
            format!("etcd at {url}: {trouble}"),
            "see `hgs cluster status`, and those who run that etcd",
        ));
    }
    for node in &standing.nodes {
        let name = node
            .name
            .as_ref()
            .map_or(&*node.address, |name| name.as_str());
        if !node.is_there {
            warnings.push(warning(
                "cluster-node-away",
                format!("node {name} of the cluster is away"),
                "start it again, or replace it: docs/cluster.md",
            ));
        }
        let ahead = standing.clock_difference(node).unwrap_or_default();
        if ahead.abs() > MAX_CLOCK_DIFFERENCE {
            warnings.push(warning(
                "cluster-clock",
                format!(
                    "the clock of node {name} is {} s from that of this node",
                    ahead.abs()
                ),
                "let both follow a time server",
            ));
        }
        if let Some(alarms) = node.etcd.as_ref().and_then(alarms) {
            warnings.push(warning(
                "cluster-etcd",
                format!("etcd on node {name}: {alarms}"),
                "see `hgs trace`: HGS-Q006 says what helps",
            ));
        }
        let octets = node.etcd.as_ref().map_or(0, |etcd| etcd.octets.1);
        if octets > QUOTA / 2 {
            warnings.push(warning(
                "cluster-space",
                format!("etcd on node {name} uses {octets} of {QUOTA} octets"),
                "see `hgs cluster status`: nodes that are away for good are removed with `hgs cluster remove`",
            ));
        }
        warnings.extend(missing_keys(standing, node, name));
    }
    warnings.extend(standing.waits_for().map(|lagging| {
        let message = format!("an upgrade of the cluster is not complete: {lagging}");
        warning("cluster-upgrade", message, &lagging.remedy())
    }));
    warnings
}

/// A node that can't use keys which another one can.
fn missing_keys(standing: &Standing, node: &NodeStanding, name: &str) -> Option<Warning> {
    let missing = standing.missing_keys(node)?.join(", ");
    (!missing.is_empty()).then(|| Warning {
        code: "cluster-key-missing".to_owned(),
        message: format!("node {name} can't use the private keys of these certificates, which other nodes can: {missing}"),
        remedy: "give its token the keys, or say in a section [[pkcs11.key]] of its configuration where they are; `hgs trace` there names the reason".to_owned(),
    })
}

fn shown(standing: &Standing) -> types::Cluster {
    let nodes = standing.nodes.iter().map(|node| ClusterNode {
        name: node.name.as_ref().map(ToString::to_string),
        address: node.address.clone(),
        reachable: node.is_there,
        leads: standing.leads(node),
        votes: !node.learner,
        etcd_version: node.etcd.as_ref().map(|etcd| etcd.version.clone()),
        etcd_octets: node.etcd.as_ref().map(|etcd| etcd.octets.0),
        etcd_quota: standing.existing.is_none().then_some(QUOTA),
        version: node.report.as_ref().map(|report| report.version.clone()),
        level: node.report.as_ref().map(|report| report.level.number()),
        newest_level: node
            .report
            .as_ref()
            .map(|report| report.levels.newest.number()),
        lag: standing.lag(node),
        clock_difference_seconds: standing.clock_difference(node),
        usable_keys: node
            .report
            .as_ref()
            .map(|report| report.usable_keys.clone()),
        error: node.error.clone().or_else(|| alarms(node.etcd.as_ref()?)),
    });
    types::Cluster {
        cluster: standing.cluster.clone(),
        node: standing.node.to_string(),
        quorum: standing.has_quorum(),
        leader: standing.leading_node().map(ToString::to_string),
        survives: standing.survives(),
        level: standing.level.number(),
        upgrade: standing.upgrade.as_ref().map(|upgrade| ClusterUpgrade {
            level: upgrade.to.level.number(),
            version: upgrade.to.version.clone(),
            waits_for: upgrade
                .waits_for
                .iter()
                .map(|lagging| lagging.node.to_string())
                .collect(),
        }),
        nodes: nodes.collect(),
        trouble: standing.trouble.clone(),
        put_back: standing.put_back.clone(),
        existing_etcd: standing
            .existing
            .as_ref()
            .map(|existing| types::ExistingEtcd {
                prefix: existing.prefix.to_string(),
                members: existing.members.iter().map(shown_member).collect(),
            }),
    }
}

/// What a member of etcd says that is wrong with it.
fn alarms(status: &MemberStatus) -> Option<String> {
    (!status.errors.is_empty()).then(|| status.errors.join("; "))
}

fn shown_member(member: &EtcdStanding) -> ExistingEtcdMember {
    let status = member.status.as_ref().ok();
    ExistingEtcdMember {
        url: member.url.clone(),
        reachable: status.is_some(),
        leads: status.is_some_and(|status| status.leader == Some(status.id)),
        version: status.map(|status| status.version.clone()),
        octets: status.map(|status| status.octets.0),
        error: status
            .and_then(alarms)
            .or_else(|| member.status.as_ref().err().cloned()),
    }
}

fn error(error: ClusterError) -> AdminError {
    let code = match &error {
        ClusterError::Membership(MembershipError::NoSuchNode(_))
        | ClusterError::Nodes(NodesError::Unknown(_)) => ErrorCode::NotFound,
        ClusterError::Itself(_) => ErrorCode::Conflict,
        ClusterError::Membership(_)
        | ClusterError::Nodes(_)
        | ClusterError::Store(_)
        | ClusterError::NotServing => ErrorCode::Unavailable,
        ClusterError::Crypto(_) => ErrorCode::InvalidRequest,
        _ => ErrorCode::Internal,
    };
    let shown = AdminError::new(code, &error);
    match error.remedy() {
        Some(remedy) => shown.with_remedy(remedy),
        None => shown,
    }
}
