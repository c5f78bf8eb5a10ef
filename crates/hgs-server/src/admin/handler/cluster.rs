//! The cluster that this guardian is a node of.

use std::sync::Arc;

use hgs_admin::types::{self, ClusterNode, InviteNode, NodeInvitation};
use hgs_admin::{AdminError, ErrorCode, HostSelector};
use hgs_cluster::membership::MembershipError;
use hgs_cluster::order::NodesError;
use hgs_cluster::process::QUOTA;
use hgs_crypto::{hex, x25519};
use hgs_store::Action;
use serde_json::json;
use tokio::runtime::Handle;

use super::AdminHandler;
use crate::guardian::{Cluster, ClusterError, Standing};

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
            .record(&self.actor, Action::InviteNode, about)
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

    pub(super) fn remove(&self, node: &HostSelector) -> Result<types::Cluster, AdminError> {
        let cluster = self.cluster_node()?;
        let name = node.as_str().parse().map_err(AdminError::invalid)?;
        Handle::current()
            .block_on(cluster.remove(&name))
            .map_err(error)?;
        cluster
            .record(&self.actor, Action::RemoveNode, json!({"node": name}))
            .map_err(error)?;
        self.of_cluster()
    }

    fn cluster_node(&self) -> Result<&Arc<Cluster>, AdminError> {
        self.parts.cluster.as_ref().ok_or_else(|| {
            AdminError::new(ErrorCode::Conflict, "this guardian is one node, and no cluster")
                .with_remedy("make it the first node of one with `hgs cluster create`, while the server is stopped")
        })
    }
}

fn shown(standing: &Standing) -> types::Cluster {
    let leader = standing.leader();
    let nodes = standing.nodes.iter().map(|node| ClusterNode {
        name: node.name.as_ref().map(ToString::to_string),
        address: node.address.clone(),
        reachable: node.etcd.is_some(),
        leads: leader.is_some() && node.etcd.as_ref().map(|etcd| etcd.id) == leader,
        votes: !node.learner,
        etcd_version: node.etcd.as_ref().map(|etcd| etcd.version.clone()),
        etcd_octets: node.etcd.as_ref().map(|etcd| etcd.octets.0),
        etcd_quota: QUOTA,
        error: node.error.clone(),
    });
    types::Cluster {
        cluster: standing.cluster.clone(),
        node: standing.node.to_string(),
        quorum: standing.survives().is_some() && leader.is_some(),
        leader: standing.leading_node().map(ToString::to_string),
        survives: standing.survives(),
        nodes: nodes.collect(),
        trouble: standing.trouble.clone(),
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
