//! Why something about the cluster was not done.

use hgs_cluster::credentials::CredentialsError;
use hgs_cluster::existing::ExistingEtcdError;
use hgs_cluster::folder::FolderError;
use hgs_cluster::join::{JoinError, NotAdmitted};
use hgs_cluster::membership::MembershipError;
use hgs_cluster::node::NodeName;
use hgs_cluster::order::NodesError;
use hgs_cluster::process::EtcdError;
use hgs_crypto::CryptoError;
use hgs_files::FileError;
use hgs_store::order::OrderError;
use hgs_store::{MasterKeyError, OpenError, StoreError};

/// Why something about the cluster was not done.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// What the node keeps about it.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Certificates and keys.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// etcd as a child.
    #[error(transparent)]
    Etcd(#[from] EtcdError),
    /// An etcd that runs already.
    #[error(transparent)]
    ExistingEtcd(#[from] ExistingEtcdError),
    /// The members of etcd.
    #[error(transparent)]
    Membership(#[from] MembershipError),
    /// The nodes whose commits are ordered.
    #[error(transparent)]
    Nodes(#[from] NodesError),
    /// What orders the commits.
    #[error(transparent)]
    Order(#[from] OrderError),
    /// A request to join.
    #[error(transparent)]
    NotAdmitted(#[from] NotAdmitted),
    /// Joining.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The state of this node.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The state of this node is damaged, another program wrote to it, or it is not the newest one; the other nodes have theirs.
    #[error(transparent)]
    Copy(OpenError),
    /// The state of this node, while it is open.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file of the master key.
    #[error(transparent)]
    MasterKey(#[from] MasterKeyError),
    /// The system gives no room to wait for answers.
    #[error("etcd can't be asked: {0}")]
    Runtime(#[source] std::io::Error),
    /// The source of randomness failed.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    /// This machine belongs to a cluster already.
    #[error("this guardian is node {0} of a cluster already")]
    IsNode(NodeName),
    /// This guardian has one node.
    #[error("this guardian is of one node, and of no cluster")]
    NoCluster,
    /// Nodes that must not run.
    #[error("nodes of the cluster run: {}", names(.0))]
    Runs(Vec<NodeName>),
    /// The state is not open yet.
    #[error("this node does not serve yet: it waits for the other nodes of the cluster")]
    NotServing,
    /// A node can't remove itself.
    #[error("node {0} is this one, and no node removes itself")]
    Itself(NodeName),
    /// Others have removed this node.
    #[error("node {0} was removed from the cluster")]
    Removed(NodeName),
    /// Too many ask at once.
    #[error("other nodes fetch copies of the state; try again")]
    Busy,
}

impl ClusterError {
    /// What the operator can do about it, where that is plain.
    #[must_use]
    pub fn remedy(&self) -> Option<String> {
        let remedy = match self {
            Self::Etcd(error) => return error.remedy(),
            Self::ExistingEtcd(error) | Self::Join(JoinError::ExistingEtcd(error)) => {
                return error.remedy();
            }
            Self::Join(JoinError::OwnEtcd) => {
                "leave out `--etcd-ca`, `--etcd-certificate` and `--etcd-key`"
            }
            Self::Open(error) => return error.remedy(),
            Self::Copy(OpenError::Tampered(_)) => {
                "find out who can write to the state folder first. Then replace this node, as the others have theirs: \
                 `hgs cluster remove` and `hgs cluster invite` on another node, `hgs cluster join` here into a new state folder"
            }
            Self::Copy(OpenError::RolledBack(_)) => {
                "what this node has acknowledged is in neither its state nor etcd: both were put back. Stop all nodes, and see \
                 \"Disasters\" in docs/cluster.md: the node with the newest audit record goes on"
            }
            Self::Copy(OpenError::Store(error)) => return error.remedy(),
            Self::Copy(_) => {
                "look at the disk first. Then replace this node, as the others have theirs: `hgs cluster remove` and \
                 `hgs cluster invite` on another node, `hgs cluster join` here into a new state folder"
            }
            Self::MasterKey(error) => return error.remedy(),
            Self::Folder(FolderError::File(error))
            | Self::Credentials(CredentialsError::File(error)) => {
                return error.remedy();
            }
            Self::Membership(MembershipError::NameTaken(_)) => {
                "choose another name with `--node`; a node that is lost is first removed with `hgs cluster remove`"
            }
            Self::Membership(MembershipError::NotReady(_)) => {
                "try it again in some seconds: members must have been connected for a while"
            }
            Self::Membership(MembershipError::NoSuchNode(_)) => {
                "`hgs cluster status` shows the nodes"
            }
            Self::Itself(_) => "ask another node",
            Self::Runs(_) => {
                "stop `hgs serve` on all nodes first. Where the cluster is to go on without this node, ask one of the others: \
                 `hgs cluster remove`"
            }
            Self::Join(JoinError::Calls(_)) => {
                "see that the cluster listener of a node can be reached from here (port 2382), and that the invitation is \
                 not older than 15 minutes; `hgs cluster invite` on any node prints another"
            }
            Self::Join(JoinError::IsNode(_)) | Self::IsNode(_) => {
                "start it with `hgs serve`; a machine that is to join anew needs a new state folder, and `hgs cluster dissolve` \
                 makes it a guardian of one node"
            }
            _ => return None,
        };
        Some(remedy.to_owned())
    }
}

fn names(nodes: &[NodeName]) -> String {
    let names: Vec<_> = nodes.iter().map(NodeName::as_str).collect();
    names.join(", ")
}

impl From<FileError> for ClusterError {
    fn from(error: FileError) -> Self {
        Self::Folder(error.into())
    }
}
