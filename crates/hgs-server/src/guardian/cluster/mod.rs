//! This guardian as one node of several: its etcd, what other nodes ask of it, and what it does for the cluster.

mod dissolve;
mod error;
mod found;
mod gauges;
mod join;
mod level;
mod listener;
mod standing;
mod timed_order;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, Weak};
use std::thread;
use std::time::{Duration, Instant};

use hgs_clock::Clock;
use hgs_cluster::credentials::{self, Authorities};
use hgs_cluster::existing::{self, EtcdTls};
use hgs_cluster::folder::{ClusterFolder, Facts};
use hgs_cluster::invitation::{Invitation, Invitations};
use hgs_cluster::join as join_protocol;
use hgs_cluster::membership;
use hgs_cluster::node::{Host, Node, NodeAddress, NodeName};
use hgs_cluster::order::{self, Doorbell, EtcdOrder, Keyspace, OrderSettings};
use hgs_cluster::process::{Etcd, MAX_TXN_OPERATIONS, QUOTA};
use hgs_cluster::upkeep::{Heard, Report, Upkeep, publish};
use hgs_crypto::random::{self, System};
use hgs_crypto::x25519;
use hgs_custody::seal::MasterKey;
use hgs_etcd::{Client, Settings};
use hgs_pki::{Seconds, Time};
use hgs_store::order::Ordered;
use hgs_store::{
    Act, Action, AuditEntry, Levels, OpenError, Outcome, Store, StoreError, program_version,
};
use metrics::Histogram;
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracing::{error, info, warn};

use super::open_store::OpenStore;
use super::readiness::TriedKeys;
use crate::health::Readiness;
use crate::http::ClusterListening;
use crate::metrics::{CLUSTER_ETCD_QUOTA, CLUSTER_ORDER_SECONDS, Metrics};
use crate::task::Task;
use gauges::Gauges;

pub use dissolve::{Dissolved, StoppedNode};
pub use error::ClusterError;
pub use found::{check_etcd, default_node_name, found};
pub use join::{Joined, UnusableKey, join, unusable_keys};
use timed_order::TimedOrder;

pub(crate) use standing::{EtcdStanding, NodeStanding, Standing};

/// How long a member of etcd may take to answer, and all together.
const PATIENCE: Duration = Duration::from_millis(1200);
const BUDGET: Duration = Duration::from_secs(5);
/// The same for what hosts wait for: without a quorum they are told so within two seconds.
const ORDER_BUDGET: Duration = Duration::from_millis(1800);
/// How often what a cluster needs is looked after: while it changes, and once it stands.
const SOON: Duration = Duration::from_millis(500);
const LATER: Duration = Duration::from_secs(10);
/// How often this node says how far it is.
const REPORT: Duration = Duration::from_secs(5);
/// How long it is believed that all keys work.
const KEYS_HOLD: Duration = Duration::from_secs(60);
/// For how long the etcd of a node that does not start runs on, where it was put back.
const LINGER: Duration = Duration::from_secs(15);
/// How often the certificates of this node are looked at.
const RENEWAL: Seconds = Seconds::from_hours(12);

/// One node of a guardian of several.
pub(crate) struct Cluster {
    folder: ClusterFolder,
    master_key: MasterKey,
    clock: Arc<dyn Clock>,
    runtime: Handle,
    facts: RwLock<Facts>,
    client: Client,
    invitations: Mutex<Invitations>,
    tls: RwLock<Arc<rustls::ServerConfig>>,
    copies: Arc<tokio::sync::Semaphore>,
    order_seconds: Histogram,
    /// The revision up to which this node was told what the nodes have committed.
    told: Arc<AtomicU64>,
    /// What the files for an etcd that runs already held when they were read last.
    etcd_tls: Mutex<Option<EtcdTls>>,
    /// When nodes have reported.
    heard: Mutex<Heard>,
    /// Once it is open. It must not be kept open by this.
    served: OnceLock<Served>,
    _upkeep: Task,
    // After all that asks it. None where nodes use an etcd that runs already.
    etcd: Option<Etcd>,
}

/// What this node serves.
struct Served {
    store: Weak<OpenStore>,
    /// Has the keys of this node work.
    try_keys: Box<dyn Fn() -> TriedKeys + Send + Sync>,
    /// What came of it last, and when.
    tried: Mutex<Option<(Instant, TriedKeys)>>,
}

/// What an administrator's program needs for an invitation, beside its own key.
pub(crate) struct Invited {
    pub(crate) invitation: Invitation,
    pub(crate) public_key: x25519::PublicKey,
    pub(crate) until: Time,
}

impl Cluster {
    /// Starts the etcd of this node, if the state in this folder is one of several. It must be called in the context of a
    /// runtime.
    pub(crate) fn start(
        folder: ClusterFolder,
        master_key: MasterKey,
        clock: Arc<dyn Clock>,
        metrics: &Metrics,
    ) -> Result<Option<Arc<Self>>, ClusterError> {
        let Some(facts) = folder.facts()? else {
            return Ok(None);
        };
        if credentials::renew(&folder, &master_key, &facts.node, clock.now())? {
            info!("the certificates of this node were renewed");
        }
        listener::remove_old_copies(&folder);
        let (tls, etcd_tls) = match &facts.etcd {
            None => (Some(credentials::client_config(&folder, b"h2")?), None),
            Some(existing) => {
                let tls = existing.tls()?;
                (tls.as_ref().map(|tls| Arc::clone(&tls.config)), tls)
            }
        };
        let client = Client::new(Settings {
            members: facts.etcd_endpoints(),
            tls,
            patience: PATIENCE,
            budget: BUDGET,
        });
        let (node, keys) = (facts.node.name.clone(), facts.keyspace());
        let upkeep = match facts.etcd {
            None => Upkeep::new(client.clone(), keys, node, QUOTA),
            Some(_) => Upkeep::in_existing(client.clone(), keys, node),
        };
        let upkeep = Task::spawn(upkeep.run());
        let cluster = Arc::new(Self {
            tls: RwLock::new(credentials::server_config(&folder)?),
            etcd: match facts.etcd {
                None => Some(Etcd::start(&folder, &facts)?),
                Some(_) => None,
            },
            etcd_tls: Mutex::new(etcd_tls),
            heard: Mutex::default(),
            facts: RwLock::new(facts),
            client,
            folder,
            master_key,
            clock,
            runtime: Handle::current(),
            invitations: Mutex::default(),
            copies: Arc::new(tokio::sync::Semaphore::new(listener::MAX_COPIES)),
            order_seconds: metrics.histogram(&CLUSTER_ORDER_SECONDS, []),
            told: Arc::default(),
            served: OnceLock::new(),
            _upkeep: upkeep,
        });
        tokio::spawn(tend(Arc::downgrade(&cluster)));
        tokio::spawn(show(Arc::downgrade(&cluster), Gauges::new(metrics)));
        tokio::spawn(listen(Arc::downgrade(&cluster)));
        tokio::spawn(report(Arc::downgrade(&cluster)));
        Ok(Some(cluster))
    }

    /// What orders the commits of the nodes, for a state that is about to be opened. The first node of a cluster founds it.
    pub(crate) fn ordered(&self) -> Result<Ordered, ClusterError> {
        let facts = self.facts();
        let cluster = facts.id();
        let keys = facts.keyspace();
        if facts.founder {
            let node = &facts.node.name;
            self.runtime
                .block_on(order::found(&self.client, &keys, &cluster, node))?;
        }
        if facts.etcd.is_some() {
            let announced = order::announce(&self.client, &keys, &facts.node);
            self.runtime
                .block_on(announced)
                .map_err(order::NodesError::Order)?;
        }
        let order = EtcdOrder::new(OrderSettings {
            client: self.client.within(ORDER_BUDGET),
            runtime: self.runtime.clone(),
            keys,
            cluster,
            node: facts.node.name,
            max_operations: match facts.etcd {
                None => MAX_TXN_OPERATIONS,
                Some(_) => existing::MAX_TXN_OPERATIONS,
            },
        });
        Ok(Ordered {
            order: Box::new(TimedOrder::new(
                order,
                self.order_seconds.clone(),
                Arc::clone(&self.told),
            )),
            random: Box::new(System::new()),
        })
    }

    /// What this node is called.
    pub(crate) fn node(&self) -> NodeName {
        self.facts().node.name
    }

    pub(crate) fn facts(&self) -> Facts {
        self.facts
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Tells it which state it copies to other nodes, and which keys this node can use.
    pub(crate) fn serve(
        &self,
        store: &Arc<OpenStore>,
        try_keys: impl Fn() -> TriedKeys + Send + Sync + 'static,
    ) {
        // A cluster serves one state.
        let _ = self.served.set(Served {
            store: Arc::downgrade(store),
            try_keys: Box::new(try_keys),
            tried: Mutex::default(),
        });
    }

    /// Which keys work on this node. It blocks, as it has them work from time to time.
    fn keys(&self) -> TriedKeys {
        let Some(served) = self.served.get() else {
            return TriedKeys::default();
        };
        let mut tried = served.tried.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((when, keys)) = &*tried {
            let holds_for = if keys.unusable.is_empty() {
                KEYS_HOLD
            } else {
                REPORT
            };
            if when.elapsed() < holds_for {
                return keys.clone();
            }
        }
        let keys = (served.try_keys)();
        *tried = Some((Instant::now(), keys.clone()));
        keys
    }

    fn store(&self) -> Result<Arc<OpenStore>, ClusterError> {
        let served = self.served.get();
        let store = served.and_then(|served| served.store.upgrade());
        store.ok_or(ClusterError::NotServing)
    }

    /// Has `metrics` show what does not change by the second.
    pub(crate) fn show_in(&self, metrics: &Metrics) {
        if self.etcd.is_some() {
            metrics.gauge(&CLUSTER_ETCD_QUOTA, []).set(QUOTA as f64);
        }
    }

    /// Whether the cluster takes commits of this node.
    pub(crate) fn readiness(self: &Arc<Self>) -> Readiness {
        let cluster = Arc::downgrade(self);
        Readiness::new(move || {
            let cluster = cluster.upgrade().ok_or("shutting down")?;
            let keys = cluster.keys_in_etcd();
            let asked = order::list(&cluster.client, &keys);
            let nodes = cluster
                .runtime
                .block_on(asked)
                .map_err(|error| error.to_string())?;
            if !nodes.contains(&cluster.node()) {
                return Err(ClusterError::Removed(cluster.node()).to_string());
            }
            match cluster.keys().unusable.first() {
                Some((certificate, reason)) => Err(format!(
                    "this node can't use the private key of certificate {certificate}: {reason}"
                )),
                None => Ok(()),
            }
        })
    }

    /// Takes a copy of another node's state in the place of that in `directory`, which is too far behind. It blocks.
    pub(crate) fn replace_state(&self, directory: &Path) -> Result<(), ClusterError> {
        let facts = self.facts();
        let target = self.folder.file("copy");
        let mut failure: Option<ClusterError> = None;
        for node in facts.others() {
            info!(from = %node.name, "this node was away for long: it fetches a copy of the state");
            let mut silent = |_, _| ();
            let fetching =
                join_protocol::fetch_state(&self.folder, &node.address, &target, &mut silent);
            match self.runtime.block_on(fetching) {
                Ok(copy) => match Store::adopt(directory, copy.staged()) {
                    // While nodes are upgraded, another one may still have what this program can read.
                    Err(error @ (OpenError::Level(_) | OpenError::NewerSchema { .. })) => {
                        failure = Some(error.into());
                    }
                    adopted => return Ok(adopted?),
                },
                Err(error) => failure = Some(error.into()),
            }
        }
        Err(failure.unwrap_or(ClusterError::NotServing))
    }

    /// Tells the other nodes how far this one is.
    async fn publish(self: &Arc<Self>) -> Result<(), ClusterError> {
        let store = self.store()?;
        let cluster = Arc::clone(self);
        let looking = spawn_blocking(move || (store.progress(), cluster.keys()));
        let (progress, keys) = looking
            .await
            .unwrap_or_else(|_| (Err(StoreError::Closed), TriedKeys::default()));
        let progress = progress?;
        let Some(progress) = progress else {
            return Ok(());
        };
        let report = Report {
            clock: self.clock.now().unix() * 1000,
            version: program_version().to_owned(),
            levels: Levels::of_this_program(),
            level: self.store()?.state().level(),
            usable_keys: keys.usable,
            ..Report::of(&progress)
        };
        publish(&self.client, &self.keys_in_etcd(), &self.node(), &report).await?;
        Ok(())
    }

    /// Notes how this node has found that etcd was put back, for those who ask while it does not serve.
    pub(crate) fn note_put_back(&self, how: &str) {
        if let Err(error) = self.folder.note_put_back(how) {
            warn!(%error, "that etcd was put back can't be noted");
        }
    }

    /// Forgets that, as the state is open.
    pub(crate) fn forget_put_back(&self) {
        if let Err(error) = self.folder.forget_put_back() {
            warn!(%error, "a note that etcd was put back stays");
        }
    }

    /// Keeps the etcd of this node running for a while, though the node does not start: others that were started at the same moment
    /// find by it what this one has found, and do not wait for a quorum. It blocks.
    pub(crate) fn linger(&self, error: &OpenError) {
        if self.etcd.is_some() {
            error!(%error, "this node does not start; its etcd runs on for {} s, so that other nodes find it, too", LINGER.as_secs());
            thread::sleep(LINGER);
        }
    }

    /// What it listens with for other nodes.
    pub(crate) fn listening(self: &Arc<Self>) -> ClusterListening {
        let NodeAddress { host, port } = self.facts().node.address;
        let address = match host {
            Host::Address(address) => address,
            Host::Name(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        };
        let current = Arc::clone(self);
        ClusterListening {
            address: SocketAddr::new(address, port),
            tls: Arc::new(move || {
                let tls = current.tls.read().unwrap_or_else(PoisonError::into_inner);
                Arc::clone(&tls)
            }),
            service: Arc::new(listener::ClusterService(Arc::clone(self))),
        }
    }

    /// Opens an invitation with a secret that this node and the holder of the other key agree upon.
    pub(crate) fn invite(&self, theirs: &x25519::PublicKey) -> Result<Invited, ClusterError> {
        let authorities = Authorities::read(&self.folder, &self.master_key)?;
        let ours = x25519::PrivateKey::generate(&mut System::new())?;
        let facts = self.facts();
        let first = facts.node.address.clone();
        let others = facts.others().map(|node| node.address.clone());
        let invitation = Invitation::agreed(
            &ours,
            theirs,
            random::array(&mut System::new())?,
            authorities.fingerprint(),
            std::iter::once(first).chain(others).collect(),
        )?;
        let until = self
            .invitations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .open(invitation.clone(), self.clock.now());
        Ok(Invited {
            public_key: ours.public()?,
            invitation,
            until,
        })
    }

    /// Removes another node from the cluster.
    pub(crate) async fn remove(&self, name: &NodeName) -> Result<(), ClusterError> {
        if *name == self.node() {
            return Err(ClusterError::Itself(name.clone()));
        }
        // First it can write nothing any more.
        match order::remove(&self.client, &self.keys_in_etcd(), name).await {
            // One that has joined halfway.
            Ok(()) | Err(order::NodesError::Unknown(_)) => {}
            Err(error) => return Err(error.into()),
        }
        if self.etcd.is_some() {
            membership::remove(&self.client, name).await?;
        }
        self.learn_nodes().await
    }

    /// Where the keys of the cluster are.
    fn keys_in_etcd(&self) -> Keyspace {
        self.facts().keyspace()
    }

    /// All nodes that have begun.
    async fn known_nodes(&self) -> Result<Vec<Node>, ClusterError> {
        match self.etcd {
            Some(_) => Ok(membership::nodes(&membership::members(&self.client).await?)),
            None => {
                let nodes = order::announced(&self.client, &self.keys_in_etcd()).await;
                Ok(nodes.map_err(order::NodesError::Order)?)
            }
        }
    }

    /// Whether a node can be added, under its name and address.
    async fn check_free(&self, node: &Node) -> Result<(), ClusterError> {
        match self.etcd {
            Some(_) => {
                let members = membership::members(&self.client).await?;
                membership::check_free(&members, node)?;
            }
            None => existing::check_free(&self.client, &self.keys_in_etcd(), node).await?,
        }
        Ok(())
    }

    /// Adds a node to those whose commits are ordered, and to etcd, where that has a member on each node.
    async fn add(&self, node: &Node) -> Result<Vec<Node>, ClusterError> {
        let keys = self.keys_in_etcd();
        if self.etcd.is_none() {
            return Ok(existing::add(&self.client, &keys, node).await?);
        }
        let nodes = membership::add(&self.client, node).await?;
        order::admit(&self.client, &keys, &node.name).await?;
        Ok(nodes)
    }

    /// Records what was done to the cluster.
    pub(crate) fn record(
        &self,
        act: &Act,
        action: Action,
        about: serde_json::Value,
    ) -> Result<(), ClusterError> {
        let entry = AuditEntry {
            after: Some(about),
            ..act.entry(action, Outcome::Done)
        };
        self.store()?.note_waiting(entry)?;
        Ok(())
    }

    /// Takes over who belongs to the cluster, as etcd says.
    async fn learn_nodes(&self) -> Result<(), ClusterError> {
        let nodes = self.known_nodes().await?;
        let mut facts = self.facts();
        if facts.nodes == nodes || !nodes.contains(&facts.node) {
            return Ok(());
        }
        let names: Vec<_> = nodes.iter().map(|node| node.name.as_str()).collect();
        info!(
            nodes = names.join(", "),
            "the nodes of the cluster have changed"
        );
        facts.nodes = nodes;
        self.folder.keep_facts(&facts)?;
        if facts.etcd.is_none() {
            self.client.set_members(
                facts.etcd_endpoints(),
                Some(&credentials::client_config(&self.folder, b"h2")?),
            );
        }
        *self.facts.write().unwrap_or_else(PoisonError::into_inner) = facts;
        Ok(())
    }

    /// Renews what is said about this node, when it is due.
    fn renew(&self) -> Result<(), ClusterError> {
        let node = self.facts().node;
        if credentials::renew(&self.folder, &self.master_key, &node, self.clock.now())? {
            info!("the certificates of this node were renewed");
            if self.etcd.is_some() {
                let tls = credentials::client_config(&self.folder, b"h2")?;
                self.client
                    .set_members(self.facts().etcd_endpoints(), Some(&tls));
            }
            *self.tls.write().unwrap_or_else(PoisonError::into_inner) =
                credentials::server_config(&self.folder)?;
        }
        Ok(())
    }

    /// Reads the files for an etcd that runs already again, and uses what they hold if that is something else.
    fn follow_files(&self) -> Result<(), ClusterError> {
        let facts = self.facts();
        let Some(existing) = &facts.etcd else {
            return Ok(());
        };
        let tls = existing.tls()?;
        let mut current = self.etcd_tls.lock().unwrap_or_else(PoisonError::into_inner);
        if *current != tls {
            info!("the certificates for etcd have changed: the new ones are used");
            let config = tls.as_ref().map(|tls| &tls.config);
            self.client.set_members(facts.etcd_endpoints(), config);
            *current = tls;
        }
        Ok(())
    }

    /// One look: whether all stands as it should.
    async fn look(&self) -> Result<bool, ClusterError> {
        if self.etcd.is_none() {
            self.follow_files()?;
            let nodes = order::list(&self.client, &self.keys_in_etcd()).await;
            let Ok(nodes) = nodes else {
                return Ok(false);
            };
            if !nodes.contains(&self.node()) {
                return Err(ClusterError::Removed(self.node()));
            }
            self.learn_nodes().await?;
            return Ok(true);
        }
        let Ok(status) = self.client.status(0).await else {
            return Ok(false);
        };
        if status.leader.is_none() {
            return Ok(false);
        }
        self.folder.note_etcd_started()?;
        if status.learner {
            match membership::promote(&self.client, &self.node()).await {
                Ok(true) => info!("this node has its vote in the cluster"),
                Ok(false) => return Err(ClusterError::Removed(self.node())),
                Err(error) => {
                    tracing::debug!(%error, "this node has no vote yet");
                    return Ok(false);
                }
            }
        }
        self.learn_nodes().await?;
        Ok(true)
    }
}

/// Looks after the cluster as long as this node is part of it.
async fn tend(cluster: Weak<Cluster>) {
    let mut renewed: Option<Time> = None;
    loop {
        let Some(cluster) = cluster.upgrade() else {
            return;
        };
        let stands = match cluster.look().await {
            Ok(stands) => stands,
            Err(error) => {
                warn!(%error, "the cluster was not looked after");
                false
            }
        };
        let now = cluster.clock.now();
        let is_due = |last: Time| now.since(last).is_none_or(|since| since >= RENEWAL);
        if renewed.is_none_or(is_due) {
            renewed = Some(now);
            if let Err(error) = cluster.renew() {
                error!(%error, "the certificates of this node were not renewed");
            }
        }
        drop(cluster);
        sleep(if stands { LATER } else { SOON }).await;
    }
}

/// Has the state take in what other nodes commit, as soon as etcd tells of it.
async fn listen(cluster: Weak<Cluster>) {
    let of = |cluster: Arc<Cluster>| {
        let keys = cluster.keys_in_etcd();
        let told = Arc::clone(&cluster.told);
        (cluster.client.clone(), keys, cluster.node(), told)
    };
    let Some((client, keys, node, told)) = cluster.upgrade().map(of) else {
        return;
    };
    let mut doorbell = Doorbell::new(client, keys, node);
    loop {
        let seen = || told.load(Ordering::Relaxed);
        let rung = tokio::time::timeout(LATER, doorbell.rings(seen)).await;
        let Some(cluster) = cluster.upgrade() else {
            return;
        };
        if rung.is_ok()
            && let Ok(store) = cluster.store()
        {
            store.refresh();
        }
    }
}

/// Says again and again how far this node is.
async fn report(cluster: Weak<Cluster>) {
    let mut level = level::Raising::default();
    loop {
        sleep(REPORT).await;
        let Some(cluster) = cluster.upgrade() else {
            return;
        };
        if let Err(error) = cluster.publish().await {
            tracing::debug!(%error, "this node can't report how far it is");
        }
        if let Err(error) = level.look(&cluster).await {
            tracing::debug!(%error, "whether all nodes read a newer level of the format is not known");
        }
    }
}

/// Shows monitoring how the cluster stands.
async fn show(cluster: Weak<Cluster>, mut gauges: Gauges) {
    loop {
        let Some(cluster) = cluster.upgrade() else {
            return;
        };
        let standing = cluster.standing().await;
        if let Some(put_back) = &standing.put_back {
            cluster.note_put_back(put_back);
        }
        gauges.show(&standing);
        drop(cluster);
        sleep(LATER).await;
    }
}
