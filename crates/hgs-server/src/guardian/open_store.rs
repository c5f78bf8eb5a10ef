//! The store of a guardian that runs, as asynchronous code sees it: each answer comes when the record is on the disk.

use std::convert::Infallible;
use std::ops::Deref;
use std::thread;
use std::time::{Duration, Instant};

use hgs_cluster::folder::ClusterFolder;
use hgs_cluster::order::{NodesError, OfflineOrder};
use hgs_crypto::random::System;
use hgs_custody::seal::MasterKey;
use hgs_store::order::{OrderError, Ordered};
use hgs_store::{
    Act, Attempted, AuditEntry, Committed, Failure, OpenError, Opening, Refusal, Store, StoreError,
    Transaction, master_key_file,
};
use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use super::GuardianError;
use super::cluster::{Cluster, ClusterError};
use crate::config::Config;

/// How often a cluster that has no quorum yet is asked again, and how often that is told.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
const TELL_AGAIN: Duration = Duration::from_secs(10);

/// An open store, shared by all parts of a guardian.
pub(crate) struct OpenStore {
    store: Store,
    // Dropped after the store: the shutdown waits for it, and then finds the state closed.
    _open: mpsc::Sender<()>,
}

impl OpenStore {
    /// Opens the state that `config` names. It blocks.
    pub(crate) fn open(
        config: &Config,
        master_key: &MasterKey,
        cluster: Option<&Cluster>,
        open: mpsc::Sender<()>,
    ) -> Result<Self, GuardianError> {
        let directory = config.state_folder();
        let node = match cluster {
            Some(cluster) => cluster.node().to_string(),
            None => config.server.name.clone(),
        };
        let mut told = None;
        loop {
            let ordered = cluster.map(Cluster::ordered).transpose();
            let opened = ordered.map_err(GuardianError::from).and_then(|order| {
                let opening = Opening {
                    directory: &directory,
                    master_key,
                    node: &node,
                    high_water_mark: config.high_water_mark_file(),
                    random: Box::new(System::new()),
                    order,
                };
                Ok(Store::open(opening)?)
            });
            match opened {
                Err(error) if is_worth_waiting(&error) => {
                    // The etcd of this node has to run for the others, too: so this one waits, and does not end.
                    if told.is_none_or(|told: Instant| told.elapsed() > TELL_AGAIN) {
                        warn!(%error, "waiting for the other nodes of the cluster");
                        told = Some(Instant::now());
                    }
                    thread::sleep(LOOK_AGAIN);
                }
                Err(GuardianError::Store(OpenError::Store(StoreError::Cluster(
                    OrderError::TooFarBehind { .. },
                )))) if let Some(cluster) = cluster => cluster.replace_state(&directory)?,
                Err(GuardianError::Store(
                    error @ (OpenError::Damaged { .. } | OpenError::Tampered(_)),
                )) if cluster.is_some() => return Err(ClusterError::Copy(error).into()),
                opened => {
                    return Ok(Self {
                        store: opened?,
                        _open: open,
                    });
                }
            }
        }
    }

    /// Opens the state that `config` names to look at it: as far as this node knows it, where it is one of several nodes'. It
    /// blocks.
    pub(crate) fn look(
        config: &Config,
        master_key: &MasterKey,
        open: mpsc::Sender<()>,
    ) -> Result<Self, GuardianError> {
        let directory = config.state_folder();
        let opened = |order: Option<Ordered>, node: &str| {
            Store::open(Opening {
                directory: &directory,
                master_key,
                node,
                high_water_mark: config.high_water_mark_file(),
                random: Box::new(System::new()),
                order,
            })
        };
        let store = match opened(None, &config.server.name) {
            Err(OpenError::InCluster) => {
                let facts = ClusterFolder::of_state(&directory).facts();
                let facts = facts.map_err(ClusterError::from)?;
                let facts = facts.ok_or(OpenError::InCluster)?;
                let node = facts.node.name.to_string();
                let ordered = Ordered {
                    order: Box::new(OfflineOrder::new(facts.node.name)),
                    random: Box::new(System::new()),
                };
                opened(Some(ordered), &node)
            }
            store => store,
        };
        Ok(Self {
            store: store?,
            _open: open,
        })
    }

    /// Reads the master key of the state that `config` names. It blocks.
    pub(crate) fn master_key(config: &Config) -> Result<MasterKey, GuardianError> {
        let directory = config.state_folder();
        // Where there is a master key, its high-water mark tells a state that is gone from one that never was.
        if !Store::is_in(&directory) && !config.master_key_file().exists() {
            return Err(OpenError::NotInitialised { directory }.into());
        }
        // A rotation of the master key may have been interrupted.
        let master_key = master_key_file::read_settled(&config.master_key_file(), &directory);
        master_key.map_err(|error| match error {
            OpenError::MasterKey(error) => GuardianError::MasterKey(error),
            other => GuardianError::Store(other),
        })
    }

    /// Commits what a host has caused, such as that it has attested: all of it or nothing. The answer has the number of the last
    /// record.
    pub(crate) async fn commit(
        &self,
        transactions: Vec<Transaction>,
        act: Act,
    ) -> Result<Committed, Failure<Refusal>> {
        let (sender, receiver) = oneshot::channel();
        self.store.submit(transactions, act, move |result| {
            drop(sender.send(result));
        })?;
        receiver
            .await
            .unwrap_or_else(|_| Err(StoreError::Closed.into()))
    }

    /// Records something that changes no state; the answer is the number of the record.
    pub(crate) async fn record(&self, entry: AuditEntry) -> Result<u64, StoreError> {
        let (sender, receiver) = oneshot::channel();
        self.store
            .note(entry, move |result: Result<u64, Failure<Infallible>>| {
                drop(sender.send(result))
            })?;
        match receiver.await {
            Ok(Ok(sequence)) => Ok(sequence),
            Ok(Err(Failure::Store(error))) => Err(error),
            Ok(Err(Failure::Refused(never))) => match never {},
            Err(_) => Err(StoreError::Closed),
        }
    }

    /// Keeps how an attempt of a host to attest went that no transaction is the record of.
    pub(crate) async fn keep_attempt(&self, attempted: Attempted) -> Result<(), StoreError> {
        let (sender, receiver) = oneshot::channel();
        self.store
            .keep_attempt(attempted, move |result: Result<(), Failure<Infallible>>| {
                drop(sender.send(result))
            })?;
        match receiver.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(Failure::Store(error))) => Err(error),
            Ok(Err(Failure::Refused(never))) => match never {},
            Err(_) => Err(StoreError::Closed),
        }
    }
}

impl Deref for OpenStore {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

/// Whether the other nodes are still to come.
fn is_worth_waiting(error: &GuardianError) -> bool {
    let (GuardianError::Store(OpenError::Store(StoreError::Cluster(error)))
    | GuardianError::Cluster(ClusterError::Nodes(NodesError::Order(error)))) = error
    else {
        return false;
    };
    matches!(
        error,
        OrderError::NoQuorum { .. } | OrderError::Unknown { .. }
    )
}
