//! Who belongs to a cluster: its members, as etcd lists them.

use hgs_etcd::{Client, Code, Error, Listed, MemberId, MemberStatus, Members};

use crate::folder::MAX_NODES;
use crate::node::{Node, NodeName};

/// What etcd calls the scheme and host of a peer.
const SCHEME: &str = "https://";

/// The members of a cluster could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum MembershipError {
    /// etcd does not answer.
    #[error(transparent)]
    Etcd(Error),
    /// etcd is not ready for it: it can be tried again soon.
    #[error("the cluster is not ready to change its members: {0}")]
    NotReady(String),
    /// Another node has that name.
    #[error("there is a node {0} already")]
    NameTaken(NodeName),
    /// Another node is reached there.
    #[error("node {0} is reached at that address already")]
    AddressTaken(String),
    /// No more.
    #[error("the cluster has {MAX_NODES} nodes, and no more can be")]
    Full,
    /// No such node.
    #[error("there is no node {0}")]
    NoSuchNode(NodeName),
    /// etcd lists something that is none of ours.
    #[error("member {0} of etcd is not a node: it was not added by `hgs`")]
    Foreign(String),
}

impl MembershipError {
    fn of(error: Error) -> Self {
        let not_ready = error.refusal().is_some_and(|status| {
            matches!(
                status.code,
                Code::FailedPrecondition | Code::Unavailable | Code::ResourceExhausted
            )
        });
        match error.refusal() {
            Some(status) if not_ready => Self::NotReady(status.message.clone()),
            _ if error.lacks_leader() => Self::NotReady(error.to_string()),
            _ => Self::Etcd(error),
        }
    }
}

/// A member of etcd, and the node that it belongs to.
#[derive(Debug, Clone)]
pub struct MemberNode {
    /// Its number in etcd.
    pub id: MemberId,
    /// The node. One that was added and has not started has no name.
    pub name: Option<NodeName>,
    /// Where it is reached.
    pub address: crate::node::NodeAddress,
    /// Whether it has no vote yet.
    pub learner: bool,
}

impl MemberNode {
    fn of(listed: &Listed) -> Result<Self, MembershipError> {
        let foreign = || MembershipError::Foreign(format!("{} {:?}", listed.id, listed.name));
        let [url] = &*listed.peer_urls else {
            return Err(foreign());
        };
        let (host, port) = url
            .strip_prefix(SCHEME)
            .and_then(|rest| rest.rsplit_once(':'))
            .ok_or_else(foreign)?;
        let port: u16 = port.parse().map_err(|_| foreign())?;
        let port = port.checked_add(2).ok_or_else(foreign)?;
        Ok(Self {
            id: listed.id,
            name: match &*listed.name {
                "" => None,
                name => Some(name.parse().map_err(|_| foreign())?),
            },
            address: format!("{host}:{port}").parse().map_err(|_| foreign())?,
            learner: listed.learner,
        })
    }
}

/// The members of the cluster.
///
/// # Errors
/// When etcd does not answer, or lists what is no node.
pub async fn members(client: &Client) -> Result<Vec<MemberNode>, MembershipError> {
    of_listed(&client.members().await.map_err(MembershipError::Etcd)?)
}

fn of_listed(members: &Members) -> Result<Vec<MemberNode>, MembershipError> {
    members.iter().map(MemberNode::of).collect()
}

/// The nodes among them that have started, by name.
#[must_use]
pub fn nodes(members: &[MemberNode]) -> Vec<Node> {
    let mut nodes: Vec<_> = members
        .iter()
        .filter_map(|member| {
            Some(Node {
                name: member.name.clone()?,
                address: member.address.clone(),
            })
        })
        .collect();
    nodes.sort_by(|one, other| one.name.cmp(&other.name));
    nodes
}

/// Adds a node, without a vote at first. Adding it again before it has started changes nothing. All nodes, with the new one.
///
/// # Errors
/// When its name or address is another node's, or the cluster is not ready.
pub async fn add(client: &Client, node: &Node) -> Result<Vec<Node>, MembershipError> {
    let before = members(client).await?;
    if let Some(taken) = check_free(&before, node)? {
        return with(before, node, taken.id);
    }
    if before.iter().any(|member| member.learner) {
        return Err(MembershipError::NotReady(
            "another node is joining".to_owned(),
        ));
    }
    if before.len() >= MAX_NODES {
        return Err(MembershipError::Full);
    }
    let added = client.add_learner(&node.address.etcd_peer_url()).await;
    let (id, after) = added.map_err(MembershipError::of)?;
    with(of_listed(&after)?, node, id)
}

/// Whether name and address are free; the member, if it was added before and has not started.
pub fn check_free(
    members: &[MemberNode],
    node: &Node,
) -> Result<Option<MemberNode>, MembershipError> {
    if members
        .iter()
        .any(|member| member.name.as_ref() == Some(&node.name))
    {
        return Err(MembershipError::NameTaken(node.name.clone()));
    }
    match members.iter().find(|member| member.address == node.address) {
        Some(MemberNode {
            name: Some(name), ..
        }) => Err(MembershipError::AddressTaken(name.to_string())),
        other => Ok(other.cloned()),
    }
}

fn with(
    mut members: Vec<MemberNode>,
    node: &Node,
    id: MemberId,
) -> Result<Vec<Node>, MembershipError> {
    for member in &mut members {
        if member.id == id {
            member.name = Some(node.name.clone());
        } else if member.name.is_none() {
            return Err(MembershipError::NotReady(format!(
                "the member at {} has not started",
                member.address
            )));
        }
    }
    Ok(nodes(&members))
}

/// Gives a node its vote, if it has none. Whether it has one.
///
/// # Errors
/// When it has not learnt enough yet, or the cluster is not ready: it can be tried again.
pub async fn promote(client: &Client, name: &NodeName) -> Result<bool, MembershipError> {
    let members = members(client).await?;
    let member = members
        .iter()
        .find(|member| member.name.as_ref() == Some(name));
    match member {
        Some(member) if member.learner => {
            client
                .promote(member.id)
                .await
                .map_err(MembershipError::of)?;
            Ok(true)
        }
        Some(_) => Ok(true),
        None => Ok(false),
    }
}

/// Removes a node. etcd refuses that where too few of those that remain can be reached.
///
/// # Errors
/// When there is no such node, or etcd refuses.
pub async fn remove(client: &Client, name: &NodeName) -> Result<(), MembershipError> {
    let members = members(client).await?;
    let member = members
        .iter()
        .find(|member| member.name.as_ref() == Some(name));
    let member = member.ok_or_else(|| MembershipError::NoSuchNode(name.clone()))?;
    client
        .remove(member.id)
        .await
        .map_err(MembershipError::of)?;
    Ok(())
}

/// What is known of one member.
#[derive(Debug)]
pub struct Standing {
    /// Which.
    pub member: MemberNode,
    /// How it stands, if it answers.
    pub status: Option<MemberStatus>,
}
