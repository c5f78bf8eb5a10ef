//! A guardian with hosts that can be revoked, and its stores as nodes, each in a process that can be killed.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use hgs_attest::Credential;
use hgs_cluster::order::{Doorbell, EtcdOrder, Keyspace, OrderSettings};
use hgs_cluster::upkeep::{Report, Upkeep, publish};
use hgs_crypto::SecretBytes;
use hgs_crypto::hash::sha256;
use hgs_crypto::random::System;
use hgs_crypto::rsa::SignatureScheme;
use hgs_custody::seal::MasterKey;
use hgs_custody::{KeyReference, PrivateKey as _, SoftwareKey};
use hgs_kps::{CertificateKind, Lineage};
use hgs_pki::health::HostId;
use hgs_pki::issue::{Issuer, Template, prepare};
use hgs_pki::{Certificate, SerialNumber, Time, Validity, profile};
use hgs_store::order::{OrderError, Ordered};
use hgs_store::{
    Act, AttestationSigner, AuditFilter, AuditRecord, CertificateRecord, Digest, Failure, NewHost,
    OpenError, Opening, Platform, Recipient, ReleaseRecord, Settings, Store, StoreError,
    Transaction, high_water_mark,
};
use serde_json::{Value, json};

use crate::common::{CLUSTER, LONG, client_of, named};
use crate::history::{Answer, Request};

/// Tells a process which node it is.
const NODE: &str = "OPENHGS_TEST_NODE";

fn time(second: i64) -> Time {
    Time::from_unix(1_800_000_000 + second)
}

fn act() -> Act {
    Act::new(time(1), "uid 0")
}

pub(crate) fn digest(number: u64) -> Digest {
    Digest::from_bytes(sha256(&number.to_be_bytes()))
}

pub(crate) const fn host(number: u8) -> HostId {
    HostId::from_bytes([number + 1; 16])
}

fn master_key() -> MasterKey {
    MasterKey::to_be_replaced(SecretBytes::new((0..32).collect())).unwrap()
}

fn certificate(key: &SoftwareKey, template: Template) -> Certificate {
    let prepared = prepare(template, key.public(), Issuer::SelfSigned, [7; 16]).unwrap();
    let signature = key.sign(SignatureScheme::Pkcs1Sha256, prepared.to_be_signed());
    prepared.assemble(&signature.unwrap()).unwrap()
}

fn opening<'o>(directory: &'o Path, master_key: &'o MasterKey, node: &'o str) -> Opening<'o> {
    Opening {
        directory,
        master_key,
        node,
        high_water_mark: high_water_mark::default_path(directory),
        random: Box::new(System::new()),
        order: None,
    }
}

/// Makes the state of a guardian of one node, with so many hosts.
pub(crate) fn create(directory: &Path, hosts: u8) {
    let key = Arc::new(SoftwareKey::generate(2048).unwrap());
    let validity = || Validity {
        not_before: time(0),
        not_after: time(100_000_000),
    };
    let record = CertificateRecord {
        kind: CertificateKind::Encryption,
        certificate: certificate(&key, profile::guardian_encryption("test", validity())),
        key: KeyReference::Sealed,
        lineage: Lineage::Fabric,
        enabled: true,
        head: true,
        compromised: None,
        retired: None,
        label: None,
        sha1_only: false,
        added: time(0),
    };
    let signer = AttestationSigner {
        certificate: certificate(&key, profile::attestation_signer(validity())),
        key: Some(KeyReference::Sealed),
        retired: false,
        deny_before: None,
        maximum_validity_seconds: None,
        label: None,
        deny_list: Arc::default(),
        added: time(0),
    };
    let mut transactions = vec![
        Transaction::AddCertificate {
            record,
            key: Some(Arc::clone(&key)),
        },
        Transaction::AddAttestationSigner { signer, key: None },
    ];
    for number in 0..hosts {
        let key = SoftwareKey::generate(2048).unwrap();
        transactions.push(Transaction::AddHost(NewHost {
            id: host(number),
            name: format!("host-{number}").parse().unwrap(),
            credential: Credential::HostKey(key.public().clone()),
            platform: Platform::default(),
            group: None,
        }));
    }
    let settings = Settings::new("hgs".parse().unwrap());
    let master_key = master_key();
    Store::create(
        opening(directory, &master_key, "a"),
        settings,
        transactions,
        act(),
    )
    .unwrap();
}

fn release(store: &Store, to: HostId, at: Time, ingress: Digest, egress: Digest) -> ReleaseRecord {
    let state = store.state();
    let guardian = state
        .certificates()
        .next()
        .unwrap()
        .certificate
        .thumbprint();
    let signer = state.attestation_signers().next().unwrap();
    ReleaseRecord {
        time: at,
        recipient: Recipient::Registered(to),
        signer: signer.certificate.thumbprint(),
        serial: SerialNumber::from_bytes(&[1, 2, 3]).unwrap(),
        issued: at,
        policy: digest(0),
        ingress,
        egress,
        owner: guardian,
        guardian,
        guardian_signing: guardian,
        decided_from: state.generation(),
        offline_use: None,
        offline_unwraps: None,
        request: None,
    }
}

/// Where the process of a node finds what it is.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) name: &'static str,
    pub(crate) folder: PathBuf,
    pub(crate) members: Vec<String>,
    /// Sockets of the other nodes.
    pub(crate) others: Vec<PathBuf>,
}

/// Where a node with this folder is asked.
pub(crate) fn socket_of(folder: &Path) -> PathBuf {
    folder.with_extension("socket")
}

impl Place {
    pub(crate) fn socket(&self) -> PathBuf {
        socket_of(&self.folder)
    }

    /// Opens the state of this node in this process; waits for a quorum.
    pub(crate) fn open(&self, runtime: &tokio::runtime::Handle) -> Store {
        let deadline = Instant::now() + LONG;
        loop {
            let order = EtcdOrder::new(OrderSettings {
                client: client_of(self.members.clone()),
                runtime: runtime.clone(),
                keys: Keyspace::default(),
                cluster: CLUSTER,
                node: named(self.name),
                max_operations: 1024,
            });
            let master_key = master_key();
            let opened = Store::open(Opening {
                order: Some(Ordered {
                    order: Box::new(order),
                    random: Box::new(System::new()),
                }),
                ..opening(&self.folder, &master_key, self.name)
            });
            match opened {
                Ok(store) => return store,
                Err(OpenError::Store(StoreError::Cluster(
                    OrderError::NoQuorum { .. } | OrderError::Unknown { .. },
                ))) => assert!(Instant::now() < deadline, "no quorum"),
                Err(OpenError::Store(StoreError::Cluster(OrderError::TooFarBehind { .. }))) => {
                    self.take_copy();
                }
                Err(error) => panic!("node {}: {error}", self.name),
            }
        }
    }

    /// Takes a copy of the state of another node in the place of its own.
    pub(crate) fn take_copy(&self) {
        let copy = self.folder.join("copy");
        let _ = std::fs::remove_file(&copy);
        let deadline = Instant::now() + LONG;
        let others = self.others.iter().cycle();
        for other in others {
            assert!(Instant::now() < deadline, "no other node has a copy");
            let mut client = Client::at(other.clone());
            if client.say(&json!({"do": "copy", "file": copy})).is_ok() {
                break;
            }
            std::thread::yield_now();
        }
        Store::adopt(&self.folder, &copy).unwrap();
    }

    /// Whether it once took a copy in the place of a state that it had.
    pub(crate) fn has_replaced_state(&self) -> bool {
        self.folder.join("state.db.replaced").exists()
    }

    pub(crate) fn start(&self) -> Child {
        let text = json!({"name": self.name, "folder": self.folder, "members": self.members, "others": self.others});
        Command::new(std::env::current_exe().unwrap())
            .args(["node", "--exact", "--nocapture"])
            .env(NODE, text.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// Which node this process is, if it is one.
    pub(crate) fn of_this_process() -> Option<Self> {
        let text = std::env::var(NODE).ok()?;
        let place: Value = serde_json::from_str(&text).unwrap();
        let names = ["a", "b", "c"];
        let texts = |name: &str| {
            let texts = place[name].as_array().unwrap().iter();
            texts.map(|text| text.as_str().unwrap().to_owned())
        };
        Some(Self {
            name: names.into_iter().find(|name| place["name"] == **name)?,
            folder: place["folder"].as_str().unwrap().into(),
            members: texts("members").collect(),
            others: texts("others").map(PathBuf::from).collect(),
        })
    }

    /// Serves clients until it is killed.
    pub(crate) fn serve(&self) -> ! {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let store = Arc::new(self.open(runtime.handle()));
        runtime.spawn(listen_to_others(
            self.name,
            Arc::clone(&store),
            client_of(self.members.clone()),
        ));
        runtime.spawn(report(
            self.name,
            Arc::clone(&store),
            client_of(self.members.clone()),
        ));
        let _ = std::fs::remove_file(self.socket());
        let listener = UnixListener::bind(self.socket()).unwrap();
        loop {
            let (client, _) = listener.accept().unwrap();
            let store = Arc::clone(&store);
            std::thread::spawn(move || answer_all(&store, client));
        }
    }
}

async fn listen_to_others(name: &str, store: Arc<Store>, client: hgs_etcd::Client) {
    let mut bell = Doorbell::new(client, Keyspace::default(), named(name));
    loop {
        let seen = || {
            let progress = store.progress().unwrap();
            progress.map_or(0, |progress| progress.position.revision)
        };
        bell.rings(seen).await;
        store.refresh();
    }
}

/// Reports, and looks after etcd more often than a node does.
async fn report(name: &str, store: Arc<Store>, client: hgs_etcd::Client) {
    let mut upkeep = Upkeep::new(client.clone(), Keyspace::default(), named(name), 2 << 30);
    let mut ticks = tokio::time::interval(Duration::from_millis(500));
    loop {
        ticks.tick().await;
        let progress = store.progress().unwrap().unwrap();
        let report = Report::of(&progress);
        let _ = publish(&client, &Keyspace::default(), &named(name), &report).await;
        if let Ok(round) = upkeep.round(tokio::time::Instant::now()).await {
            assert_eq!(round.divergence, None);
        }
    }
}

fn answer_all(store: &Store, client: UnixStream) {
    let mut answers = client.try_clone().unwrap();
    for line in BufReader::new(client).lines().map_while(Result::ok) {
        let request: Value = serde_json::from_str(&line).unwrap();
        let answer = answer(store, &request);
        if writeln!(answers, "{answer}").is_err() {
            return;
        }
    }
}

fn answer(store: &Store, request: &Value) -> Value {
    let id = || request["host"].as_str().unwrap().parse::<HostId>().unwrap();
    let protector = |name: &str| request[name].as_str().unwrap().parse::<Digest>().unwrap();
    match request["do"].as_str().unwrap() {
        "release" => {
            let at = time(request["clock"].as_i64().unwrap());
            let record = release(store, id(), at, protector("ingress"), protector("egress"));
            let (sender, receiver) = sync_channel(1);
            let submitted = store.release(record, move |result| drop(sender.send(result)));
            let result = submitted.map_err(Failure::Store).and_then(|()| {
                receiver
                    .recv()
                    .unwrap_or(Err(Failure::Store(StoreError::Closed)))
            });
            told(result.map(|recorded| recorded.sequence()))
        }
        "revoke" => {
            let reason = "stolen".to_owned();
            let revoke = Transaction::RevokeHost { id: id(), reason };
            let result = store.transact(vec![revoke], act());
            told(result.map(|committed| committed.sequence))
        }
        "copy" => {
            let file = PathBuf::from(request["file"].as_str().unwrap());
            store.copy_to(&file).unwrap();
            json!({"done": 0})
        }
        other => panic!("{other}"),
    }
}

fn told<R: std::fmt::Display>(result: Result<u64, Failure<R>>) -> Value {
    match result {
        Ok(sequence) => json!({"done": sequence}),
        Err(Failure::Refused(reason)) => json!({"refused": reason.to_string()}),
        Err(Failure::Store(error)) => json!({"unknown": error.to_string()}),
    }
}

/// A client of a node, which connects again when the node was killed.
pub(crate) struct Client {
    socket: PathBuf,
    connection: Option<(UnixStream, BufReader<UnixStream>)>,
}

impl Client {
    pub(crate) fn new(place: &Place) -> Self {
        Self::at(place.socket())
    }

    const fn at(socket: PathBuf) -> Self {
        Self {
            socket,
            connection: None,
        }
    }

    /// Asks a node, whose clock is then so many seconds after the beginning.
    pub(crate) fn ask(&mut self, request: &Request, clock: i64) -> Answer {
        let value = match request {
            Request::Release {
                host,
                protector,
                egress_protector,
            } => json!({
                "do": "release", "host": host, "clock": clock,
                "ingress": protector, "egress": egress_protector,
            }),
            Request::Revoke { host } => json!({"do": "revoke", "host": host}),
        };
        let answer = match self.say(&value) {
            Ok(answer) => answer,
            Err(error) => return Answer::Unknown(error.to_string()),
        };
        let text = |name: &str| answer[name].as_str().map(str::to_owned);
        match (answer["done"].as_u64(), text("refused")) {
            (Some(sequence), _) => Answer::Done(sequence),
            (None, Some(reason)) => Answer::Refused(reason),
            (None, None) => Answer::Unknown(text("unknown").unwrap_or_default()),
        }
    }

    fn say(&mut self, request: &Value) -> std::io::Result<Value> {
        let answered = self.try_say(request);
        if answered.is_err() {
            self.connection = None;
        }
        answered
    }

    fn try_say(&mut self, request: &Value) -> std::io::Result<Value> {
        if self.connection.is_none() {
            let stream = UnixStream::connect(&self.socket)?;
            self.connection = Some((stream.try_clone()?, BufReader::new(stream)));
        }
        let (requests, answers) = self.connection.as_mut().unwrap();
        writeln!(requests, "{request}")?;
        let mut line = String::new();
        answers.read_line(&mut line)?;
        Ok(serde_json::from_str(&line)?)
    }
}

/// The whole audit log of a node.
pub(crate) fn log_of(store: &Store) -> Vec<AuditRecord> {
    let mut log = Vec::new();
    loop {
        let before_sequence = log.last().map(|record: &AuditRecord| record.sequence);
        let filter = AuditFilter {
            before_sequence,
            ..AuditFilter::default()
        };
        let page = store.audit(&filter, 500).unwrap();
        if page.is_empty() {
            log.reverse();
            return log;
        }
        log.extend(page);
    }
}
