//! A node of a cluster becomes a guardian of one node.

use std::path::PathBuf;

use futures_util::future::join_all;
use hgs_cluster::credentials;
use hgs_cluster::folder::{ClusterFolder, Facts};
use hgs_cluster::node::{NodeAddress, NodeName};
use hgs_crypto::random::System;
use hgs_etcd::{Client, Settings};
use hgs_store::{Act, CopyExtent, Opening, RolledBack, StoppedCopy, master_key_file};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::error::ClusterError;
use super::{BUDGET, PATIENCE};
use crate::config::Config;

/// A node whose server does not run. As long as this lives, it can't be started.
pub struct StoppedNode {
    folder: ClusterFolder,
    facts: Option<Facts>,
    copy: StoppedCopy,
}

/// What has become of it.
#[derive(Debug)]
pub struct Dissolved {
    /// The number of the audit record that says so; `None` where an attempt before has written it, or none was needed.
    pub sequence: Option<u64>,
    /// Where what it had of the cluster is now.
    pub set_aside: Option<PathBuf>,
}

impl StoppedNode {
    /// Opens the state that `config` names, and checks all of it.
    ///
    /// # Errors
    /// Where there is none, it is in use, not as it was left, or of no cluster.
    pub fn open(config: &Config) -> Result<Self, ClusterError> {
        let directory = config.state_folder();
        let master_key = master_key_file::read_settled(&config.master_key_file(), &directory)?;
        let folder = ClusterFolder::of_state(&directory);
        let facts = folder.facts()?;
        let node = facts.as_ref().map(|facts| facts.node.name.to_string());
        let copy = StoppedCopy::open(Opening {
            directory: &directory,
            master_key: &master_key,
            node: node.as_deref().unwrap_or(&config.server.name),
            high_water_mark: config.high_water_mark_file(),
            random: Box::new(System::new()),
            order: None,
        })?;
        if facts.is_none() && copy.extent().progress.is_none() {
            return Err(ClusterError::NoCluster);
        }
        Ok(Self {
            folder,
            facts,
            copy,
        })
    }

    /// What it knew of its cluster last.
    #[must_use]
    pub const fn facts(&self) -> Option<&Facts> {
        self.facts.as_ref()
    }

    /// How far its copy of the state goes.
    #[must_use]
    pub const fn extent(&self) -> &CopyExtent {
        self.copy.extent()
    }

    /// What its high-water mark says against the copy.
    #[must_use]
    pub const fn rolled_back(&self) -> Option<&RolledBack> {
        self.copy.rolled_back()
    }

    /// Refuses where another node answers, or the etcd of any, this one's included.
    ///
    /// # Errors
    /// [`ClusterError::Runs`] names them.
    pub async fn refuse_running_cluster(&self) -> Result<(), ClusterError> {
        let Some(facts) = &self.facts else {
            return Ok(());
        };
        // Without certificates no etcd can be asked; one that runs already says nothing about nodes.
        let tls = credentials::client_config(&self.folder, b"h2").ok();
        let client = tls.filter(|_| facts.etcd.is_none()).map(|tls| {
            Client::new(Settings {
                members: facts.etcd_endpoints(),
                tls: Some(tls),
                patience: PATIENCE,
                budget: BUDGET,
            })
        });
        // In the order of the endpoints.
        let nodes = std::iter::once(&facts.node).chain(facts.others());
        let asked = nodes.enumerate().map(async |(place, node)| {
            let has_etcd = match &client {
                Some(client) => client.status(place).await.is_ok(),
                None => false,
            };
            let runs = has_etcd || (place > 0 && listens(&node.address).await);
            runs.then(|| node.name.clone())
        });
        let running: Vec<NodeName> = join_all(asked).await.into_iter().flatten().collect();
        match running.is_empty() {
            true => Ok(()),
            false => Err(ClusterError::Runs(running)),
        }
    }

    /// Makes its copy the state of a guardian of one node, and sets aside what it has of the cluster. After a crash it is done
    /// again.
    ///
    /// # Errors
    /// Why it is not done to its end.
    pub fn dissolve(self, act: Act) -> Result<Dissolved, ClusterError> {
        let Self {
            folder,
            facts,
            copy,
        } = self;
        let about = match &facts {
            Some(facts) => json!({
                "cluster": facts.cluster,
                "node": facts.node.name,
                "nodes": facts.nodes.iter().map(|node| &node.name).collect::<Vec<_>>(),
            }),
            None => json!({}),
        };
        // First the state: with the folder alone, a server would find a state of no cluster, and refuse it.
        let sequence = copy.dissolve(about, act)?;
        Ok(Dissolved {
            sequence,
            set_aside: folder.set_aside()?,
        })
    }
}

/// Whether the cluster listener of a node takes connections.
async fn listens(address: &NodeAddress) -> bool {
    let connecting = TcpStream::connect(address.to_string());
    matches!(timeout(PATIENCE, connecting).await, Ok(Ok(_)))
}
