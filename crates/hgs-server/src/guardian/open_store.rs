//! The store of a guardian that runs, as asynchronous code sees it: each answer comes when the record is on the disk.

use std::convert::Infallible;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hgs_cluster::folder::ClusterFolder;
use hgs_cluster::order::{NodesError, OfflineOrder};
use hgs_crypto::random::System;
use hgs_custody::seal::MasterKey;
use hgs_store::order::{OrderError, Ordered};
use hgs_store::{
    Act, Attempted, AuditEntry, Committed, Failure, OpenError, Opening, Refusal, RolledBack, State,
    Store, StoreError, Transaction, master_key_file,
};
use tokio::sync::{Mutex, mpsc, oneshot};
use tracing::{Span, warn};

use super::GuardianError;
use super::cluster::{Cluster, ClusterError};
use crate::config::Config;
use crate::metrics::{COMMIT_JOBS, COMMIT_SECONDS, COMMITS, Metrics};
use crate::telemetry::{self, CommitSpan};

/// How often a cluster that has no quorum yet is asked again, and how often that is told.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
const TELL_AGAIN: Duration = Duration::from_secs(10);

/// An open store, shared by all parts of a guardian.
pub(crate) struct OpenStore {
    store: Store,
    /// None where the guardian is one node.
    freshness: Option<Freshness>,
    // Dropped after the store: the shutdown waits for it, and then finds the state closed.
    _open: mpsc::Sender<()>,
}

/// How those who need the newest state take turns to ask for it.
#[derive(Default)]
struct Freshness {
    /// How many turns have begun.
    begun: AtomicU64,
    last: Mutex<Turn>,
}

/// What came of the last turn that was finished.
struct Turn {
    turn: u64,
    outcome: Result<(), StoreError>,
}

impl Default for Turn {
    fn default() -> Self {
        Self {
            turn: 0,
            outcome: Ok(()),
        }
    }
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
                Err(GuardianError::Store(error))
                    if let Some(cluster) = cluster
                        && is_of_older_etcd(&error) =>
                {
                    cluster.note_put_back(&error.to_string());
                    cluster.linger(&error);
                    return Err(ClusterError::Copy(error).into());
                }
                opened => {
                    let store = opened?;
                    if let Some(cluster) = cluster {
                        cluster.forget_put_back();
                    }
                    return Ok(Self {
                        store,
                        freshness: cluster.map(|_| Freshness::default()),
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
            freshness: None,
            _open: open,
        })
    }

    /// Has `metrics` count its commits.
    pub(crate) fn show_in(&self, metrics: &Metrics) {
        let outcome = |name: &'static str| metrics.counter(&COMMITS, [("outcome", name.into())]);
        let (done, failed) = (outcome("done"), outcome("failed"));
        let seconds = metrics.histogram(&COMMIT_SECONDS, []);
        let jobs = metrics.histogram(&COMMIT_JOBS, []);
        self.store.watch_commits(move |commit| {
            telemetry::note_commit(commit);
            let counter = if commit.done { &done } else { &failed };
            counter.increment(1);
            seconds.record(commit.ended.saturating_duration_since(commit.begun));
            jobs.record(commit.jobs as f64);
        });
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
        let commit = CommitSpan::within(&Span::current());
        self.store.submit(transactions, act, move |result| {
            commit.end();
            drop(sender.send(result));
        })?;
        receiver
            .await
            .unwrap_or_else(|_| Err(StoreError::Closed.into()))
    }

    /// Records something that changes no state; the answer is the number of the record.
    pub(crate) async fn record(&self, entry: AuditEntry) -> Result<u64, StoreError> {
        let (sender, receiver) = oneshot::channel();
        let commit = CommitSpan::within(&Span::current());
        self.store
            .note(entry, move |result: Result<u64, Failure<Infallible>>| {
                commit.end();
                drop(sender.send(result))
            })?;
        Ok(receiver.await.map_err(|_| StoreError::Closed)??)
    }

    /// Takes in what other nodes had committed when this was called; nothing where there are none. Whoever waits meanwhile
    /// shares the next turn, so that many refused requests ask the order once at a time.
    pub(super) async fn catch_up(&self) -> Result<(), StoreError> {
        let Some(freshness) = &self.freshness else {
            return Ok(());
        };
        let begun_before = freshness.begun.load(Ordering::SeqCst);
        let mut last = freshness.last.lock().await;
        if last.turn <= begun_before {
            let turn = freshness.begun.fetch_add(1, Ordering::SeqCst) + 1;
            let outcome = self.ask_order().await;
            // Not reached where who asked has gone away: then the next one asks.
            *last = Turn { turn, outcome };
        }
        last.outcome.clone()
    }

    /// Whether the state is another one than what was decided from, once all is taken in that other nodes had committed. A host
    /// is refused only by a state that is as new as its request: another node may have recorded a moment ago what is missing here.
    pub(crate) async fn has_changed_since(
        &self,
        decided_from: &Arc<State>,
    ) -> Result<bool, StoreError> {
        self.catch_up().await?;
        Ok(!Arc::ptr_eq(decided_from, &self.state()))
    }

    async fn ask_order(&self) -> Result<(), StoreError> {
        let (sender, receiver) = oneshot::channel();
        self.store.submit_check(move |result| {
            drop(sender.send(result));
        })?;
        Ok(receiver.await.map_err(|_| StoreError::Closed)??)
    }

    /// Keeps how an attempt of a host to attest went that no transaction is the record of.
    pub(crate) async fn keep_attempt(&self, attempted: Attempted) -> Result<(), StoreError> {
        let (sender, receiver) = oneshot::channel();
        self.store
            .keep_attempt(attempted, move |result: Result<(), Failure<Infallible>>| {
                drop(sender.send(result))
            })?;
        Ok(receiver.await.map_err(|_| StoreError::Closed)??)
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

/// Whether it shows that etcd was put back: this node has seen more than it holds, or acknowledged more than is left once all that it
/// holds was taken in.
fn is_of_older_etcd(error: &OpenError) -> bool {
    matches!(
        error,
        OpenError::Store(StoreError::Cluster(OrderError::PutBack { .. }))
            | OpenError::RolledBack(RolledBack::Older { .. } | RolledBack::OtherHistory { .. })
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use hgs_cluster::order::{EtcdOrder, Keyspace, OrderSettings, admit, found};
    use hgs_etcd::{Client, Settings};
    use hgs_store::Settings as GuardianSettings;
    use hgs_testkit::etcd::Etcd;
    use hgs_testkit::fixtures::now;
    use tokio::runtime::Handle;

    use super::*;

    const CLUSTER: [u8; 16] = [7; 16];

    fn act() -> Act {
        Act::new(now(), "test")
    }

    fn client(etcd: &Etcd) -> Client {
        Client::new(Settings {
            members: etcd.addresses(0),
            tls: None,
            patience: Duration::from_millis(1500),
            budget: Duration::from_secs(3),
        })
    }

    fn opening<'a>(directory: &'a Path, key: &'a MasterKey, order: Option<Ordered>) -> Opening<'a> {
        Opening {
            directory,
            master_key: key,
            node: "test",
            high_water_mark: directory.with_extension("mark"),
            random: Box::new(System::new()),
            order,
        }
    }

    fn ordered(etcd: &Etcd, node: &str, runtime: &Handle) -> Option<Ordered> {
        Some(Ordered {
            order: Box::new(EtcdOrder::new(OrderSettings {
                client: client(etcd),
                runtime: runtime.clone(),
                keys: Keyspace::default(),
                cluster: CLUSTER,
                node: node.parse().unwrap(),
                max_operations: 1024,
            })),
            random: Box::new(System::new()),
        })
    }

    /// A node that nobody tells of commits finds them when it is asked to, once for all who wait.
    #[test]
    fn a_node_takes_in_what_others_have_committed_before_it_refuses() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let mut etcd = Etcd::new(1);
        let (client, keys) = (client(&etcd), Keyspace::default());
        let [a, b] = ["a", "b"].map(|name| name.parse().unwrap());
        runtime
            .block_on(found(&client, &keys, &CLUSTER, &a))
            .unwrap();
        runtime.block_on(admit(&client, &keys, &b)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let [of_a, of_b, copy] = ["a", "b", "copy"].map(|name| folder.path().join(name));
        let key = MasterKey::generate(&mut System::new()).unwrap();
        let settings = GuardianSettings::new("test".parse().unwrap());
        drop(Store::create(opening(&of_a, &key, None), settings.clone(), vec![], act()).unwrap());
        let handle = runtime.handle();
        let first = Store::open(opening(&of_a, &key, ordered(&etcd, "a", handle))).unwrap();
        first.copy_to(&copy).unwrap();
        Store::adopt(&of_b, &copy).unwrap();
        let (open, _) = mpsc::channel(1);
        let second = OpenStore {
            store: Store::open(opening(&of_b, &key, ordered(&etcd, "b", handle))).unwrap(),
            freshness: Some(Freshness::default()),
            _open: open,
        };
        let changed = GuardianSettings {
            accept_next_boot_claims: true,
            ..settings
        };
        first
            .transact(vec![Transaction::SetSettings(changed)], act())
            .unwrap();
        assert!(!second.state().settings().accept_next_boot_claims);
        let waiting = futures_util::future::join_all((0..100).map(|_| second.catch_up()));
        let caught_up = runtime.block_on(waiting);
        assert!(caught_up.iter().all(Result::is_ok), "{caught_up:?}");
        assert!(second.state().settings().accept_next_boot_claims);
        // Those who came while a turn was under way share the next one.
        let turns = second.freshness.as_ref().unwrap();
        assert!(turns.begun.load(Ordering::SeqCst) <= 2);
        etcd.kill(0);
        assert!(runtime.block_on(second.catch_up()).is_err());
    }
}
