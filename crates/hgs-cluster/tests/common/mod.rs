//! Nodes that follow an order in real etcd, with entries that mean nothing.
#![allow(dead_code, reason = "each test program uses some of it")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hgs_cluster::node::NodeName;
use hgs_cluster::order::{ClusterId, EtcdOrder, Keyspace, OrderSettings, admit, found};
use hgs_crypto::hash::sha256;
use hgs_etcd::{Client, Settings};
use hgs_store::order::{
    DependencyKey, Entries, Entry, Last, Order, OrderError, Position, Proposal, Proposed,
};
use hgs_testkit::etcd::Etcd;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

pub(crate) const CLUSTER: ClusterId = [0xc1; 16];
/// How long one member, and all of them together, may take.
pub(crate) const PATIENCE: Duration = Duration::from_millis(1200);
pub(crate) const BUDGET: Duration = Duration::from_millis(2000);
/// How long anything may take that comes back by itself.
pub(crate) const LONG: Duration = Duration::from_secs(60);
/// The same where a test is not about time: a busy disk keeps etcd waiting for seconds.
const MUCH_PATIENCE: Duration = Duration::from_secs(20);

/// Members, what asks them, and a cluster with a first node `a`.
pub(crate) struct Fabric {
    pub(crate) runtime: Runtime,
    pub(crate) etcd: Etcd,
    /// How long its clients wait for one member, and for all together.
    patience: (Duration, Duration),
}

pub(crate) fn named(name: &str) -> NodeName {
    name.parse().unwrap()
}

pub(crate) fn client_of(members: Vec<String>) -> Client {
    client_with((PATIENCE, BUDGET), members)
}

fn client_with((patience, budget): (Duration, Duration), members: Vec<String>) -> Client {
    Client::new(Settings {
        members,
        tls: None,
        patience,
        budget,
    })
}

impl Fabric {
    pub(crate) fn new(members: usize) -> Self {
        Self::of(Etcd::new(members))
    }

    pub(crate) fn of(etcd: Etcd) -> Self {
        Self::with(etcd, (PATIENCE, BUDGET))
    }

    /// Whose clients wait for members that take long.
    pub(crate) fn patient(etcd: Etcd) -> Self {
        Self::with(etcd, (MUCH_PATIENCE, LONG))
    }

    fn with(etcd: Etcd, patience: (Duration, Duration)) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let fabric = Self {
            runtime,
            etcd,
            patience,
        };
        let client = fabric.client(0);
        let keys = Keyspace::default();
        let founded = fabric
            .runtime
            .block_on(found(&client, &keys, &CLUSTER, &named("a")));
        founded.unwrap();
        fabric
    }

    /// That asks this member first.
    pub(crate) fn client(&self, member: usize) -> Client {
        client_with(self.patience, self.etcd.addresses(member))
    }

    /// A node that has nothing yet, and asks this member first.
    pub(crate) fn node(&self, name: &str, member: usize) -> Node {
        let client = self.client(member);
        let admitted = self
            .runtime
            .block_on(admit(&client, &Keyspace::default(), &named(name)));
        admitted.unwrap();
        self.node_by(name, client, 1024)
    }

    pub(crate) fn node_by(&self, name: &str, client: Client, max_operations: usize) -> Node {
        let order = EtcdOrder::new(OrderSettings {
            client,
            runtime: self.runtime.handle().clone(),
            keys: Keyspace::default(),
            cluster: CLUSTER,
            node: named(name),
            max_operations,
        });
        Node {
            order,
            seen: Position::default(),
            log: Vec::new(),
        }
    }
}

/// The wire to a member, which loses answers or holds requests up.
pub(crate) struct Wire {
    address: String,
    state: Arc<watch::Sender<Flow>>,
    held: Arc<AtomicUsize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Passes,
    LosesAnswers,
    HoldsRequests,
}

impl Fabric {
    pub(crate) fn wire(&self, member: usize) -> Wire {
        let to = self.etcd.address(member);
        let listener = self
            .runtime
            .block_on(TcpListener::bind("127.0.0.1:0"))
            .unwrap();
        let wire = Wire {
            address: listener.local_addr().unwrap().to_string(),
            state: Arc::new(watch::Sender::new(Flow::Passes)),
            held: Arc::default(),
        };
        let (state, held) = (Arc::clone(&wire.state), Arc::clone(&wire.held));
        self.runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let member = TcpStream::connect(&to).await.unwrap();
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_member, mut to_member) = member.into_split();
                let (answers, requests, held) =
                    (state.subscribe(), state.subscribe(), Arc::clone(&held));
                tokio::spawn(async move {
                    let mut buffer = vec![0; 65536];
                    while let Ok(read @ 1..) = from_member.read(&mut buffer).await {
                        let passes = *answers.borrow() != Flow::LosesAnswers;
                        if !passes || to_client.write_all(&buffer[..read]).await.is_err() {
                            break;
                        }
                    }
                });
                tokio::spawn(async move {
                    let mut requests = requests;
                    let mut buffer = vec![0; 65536];
                    while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
                        let holds = *requests.borrow() == Flow::HoldsRequests;
                        if holds {
                            held.fetch_add(read, Ordering::SeqCst);
                            let passes = |flow: &Flow| *flow == Flow::Passes;
                            requests.wait_for(passes).await.unwrap();
                        }
                        let sent = to_member.write_all(&buffer[..read]).await;
                        if holds {
                            held.fetch_sub(read, Ordering::SeqCst);
                        }
                        if sent.is_err() {
                            break;
                        }
                    }
                });
            }
        });
        wire
    }
}

impl Wire {
    pub(crate) fn address(&self) -> String {
        self.address.clone()
    }

    pub(crate) fn pass(&self) {
        self.state.send_replace(Flow::Passes);
    }

    /// Requests arrive, and what is answered does not; then the connection ends.
    pub(crate) fn lose_answers(&self) {
        self.state.send_replace(Flow::LosesAnswers);
    }

    /// Requests arrive when [`Self::pass`] is called, also those that nobody waits for any more.
    pub(crate) fn hold_requests(&self) {
        self.state.send_replace(Flow::HoldsRequests);
    }

    /// Octets of requests that wait.
    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::SeqCst)
    }

    /// Returns when nothing waits any more.
    pub(crate) fn delivered(&self) {
        let deadline = Instant::now() + LONG;
        while self.held() > 0 {
            assert!(Instant::now() < deadline);
            std::thread::yield_now();
        }
    }
}

/// A node, as the store is one: it takes in what was ordered, and decides from what it has taken in.
pub(crate) struct Node {
    pub(crate) order: EtcdOrder,
    pub(crate) seen: Position,
    pub(crate) log: Vec<Entry>,
}

pub(crate) fn dependency(name: &str) -> DependencyKey {
    sha256(name.as_bytes())[..16].try_into().unwrap()
}

impl Node {
    /// The chain after an entry of a node.
    pub(crate) fn next(before: &Last, octets: &[u8]) -> Last {
        Last {
            number: before.number + 1,
            chain: sha256(&[&before.chain[..], octets].concat()),
        }
    }

    /// The same node once more, with all that it has, in another process.
    pub(crate) fn again(&self, fabric: &Fabric, member: usize) -> Self {
        Self {
            seen: self.seen.clone(),
            log: self.log.clone(),
            ..fabric.node_by(self.order.node(), fabric.client(member), 1024)
        }
    }

    pub(crate) fn last(&self) -> Last {
        self.seen.last(self.order.node())
    }

    pub(crate) fn take_in(&mut self, entries: &Entries) {
        for entry in &entries.entries {
            let last = self.seen.last(&entry.node);
            assert_eq!(entry.number, last.number + 1, "{entry:?}");
            assert!(entry.revision > self.log.last().map_or(0, |entry| entry.revision));
            assert!(entry.revision > self.seen.revision && entry.revision <= entries.revision);
            let last = Self::next(&last, &entry.octets);
            self.seen.nodes.insert(entry.node.clone(), last);
            self.log.push(entry.clone());
        }
        assert!(entries.revision >= self.seen.revision);
        self.seen.revision = entries.revision;
    }

    /// Proposes once, and takes nothing in.
    pub(crate) fn propose(
        &mut self,
        octets: &[u8],
        depends: &[&str],
        writes: &[&str],
    ) -> Result<Proposed, OrderError> {
        let keys = |names: &[&str]| {
            names
                .iter()
                .map(|name| dependency(name))
                .collect::<Vec<_>>()
        };
        let (depends, writes) = (keys(depends), keys(writes));
        let seen = self.seen.clone();
        self.order.propose(&Proposal {
            seen: &seen,
            depends: &depends,
            writes: &writes,
            everything: false,
            octets,
            last: Self::next(&self.last(), octets),
        })
    }

    pub(crate) fn propose_everything(&mut self, octets: &[u8]) -> Result<Proposed, OrderError> {
        let seen = self.seen.clone();
        self.order.propose(&Proposal {
            seen: &seen,
            depends: &[],
            writes: &[],
            everything: true,
            octets,
            last: Self::next(&self.last(), octets),
        })
    }

    /// Takes in what became of a proposal; whether it was ordered.
    pub(crate) fn take(&mut self, proposed: &Proposed) -> bool {
        match proposed {
            Proposed::Committed(entries) => {
                let own = entries.entries.last().unwrap();
                assert_eq!(
                    (&*own.node, own.number),
                    (self.order.node(), self.last().number + 1)
                );
                self.take_in(entries);
                true
            }
            Proposed::Conflict(entries) => {
                self.take_in(entries);
                false
            }
        }
    }

    /// Proposes until it is ordered, and takes all in: how often it was proposed.
    pub(crate) fn commit(&mut self, octets: &[u8], writes: &[&str]) -> usize {
        for attempt in 1..100 {
            let proposed = self.propose(octets, writes, writes).unwrap();
            if self.take(&proposed) {
                return attempt;
            }
        }
        panic!("not ordered");
    }

    pub(crate) fn catch_up(&mut self) {
        loop {
            let entries = self.order.since(&self.seen).unwrap();
            self.take_in(&entries);
            if !entries.more {
                break;
            }
        }
    }
}
