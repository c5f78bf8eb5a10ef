//! Members of etcd as children of this program: added, promoted, killed, removed, and judged by etcdctl.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use hgs_clock::{Clock as _, SystemClock};
use hgs_cluster::credentials::{self, Authorities, node_key};
use hgs_cluster::folder::{ClusterFolder, Facts, Format};
use hgs_cluster::membership::{self, MembershipError};
use hgs_cluster::node::Node;
use hgs_cluster::process::{Etcd, EtcdError};
use hgs_crypto::random::System;
use hgs_custody::PrivateKey as _;
use hgs_custody::seal::MasterKey;
use hgs_etcd::{Client, Settings};
use hgs_testkit::{free_ports, tool};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};

const CLUSTER: &str = "0123456789abcdef0123456789abcdef";
/// How long a cluster may take to do what it is asked.
const PATIENCE: Duration = Duration::from_secs(60);

/// A node in a folder of its own.
struct TestNode {
    folder: ClusterFolder,
    facts: Facts,
}

impl TestNode {
    fn new(root: &Path, name: &str, authorities: &Authorities, master_key: &MasterKey) -> Self {
        let folder = ClusterFolder::of_state(&root.join(name));
        folder.make().unwrap();
        authorities.keep(&folder, master_key).unwrap();
        let node = Node {
            name: name.parse().unwrap(),
            address: format!("127.0.0.1:{}", free_ports(4) + 3).parse().unwrap(),
        };
        let key = node_key(&folder).unwrap();
        let issued = authorities.issue(&node, key.public(), SystemClock.now());
        issued
            .unwrap()
            .keep(&folder, authorities.clients.certificate())
            .unwrap();
        let facts = Facts {
            format: Format,
            cluster: CLUSTER.to_owned(),
            nodes: vec![node.clone()],
            node,
            founder: true,
            etcd: None,
        };
        Self { folder, facts }
    }

    fn client(&self) -> Client {
        Client::new(Settings {
            members: self.facts.etcd_endpoints(),
            tls: Some(credentials::client_config(&self.folder, b"h2").unwrap()),
            patience: Duration::from_millis(1500),
            budget: Duration::from_secs(5),
        })
    }

    fn start(&self) -> Etcd {
        Etcd::start(&self.folder, &self.facts).unwrap()
    }

    fn etcdctl(&self, with_certificate: bool, arguments: &[&str]) -> (bool, String) {
        let mut command = Command::new(tool("etcdctl", "etcd-client"));
        command
            .env("ETCDCTL_API", "3")
            .arg(format!(
                "--endpoints={}",
                self.facts.node.address.etcd_client_url()
            ))
            .arg("--cacert")
            .arg(self.folder.file("clients-ca.pem"))
            .args(["--dial-timeout=2s", "--command-timeout=5s"]);
        if with_certificate {
            command.arg("--cert").arg(self.folder.file("node.pem"));
            command.arg("--key").arg(self.folder.file("node.key"));
        }
        let output = command.args(arguments).output().unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    }
}

/// Asks until it is so.
async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}");
        sleep(Duration::from_millis(50)).await;
    }
}

async fn has_leader(client: &Client) {
    until("the member has a leader", || async {
        client.status(0).await.ok()?.leader
    })
    .await;
}

fn is_running(process: u32) -> bool {
    Path::new(&format!("/proc/{process}")).exists()
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_are_added_promoted_killed_and_removed() {
    let root = tempfile::tempdir().unwrap();
    let master_key = MasterKey::generate(&mut System::new()).unwrap();
    let authorities = Authorities::new(CLUSTER, SystemClock.now()).unwrap();
    let first = TestNode::new(root.path(), "first", &authorities, &master_key);
    let etcd = first.start();
    let client = first.client();
    has_leader(&client).await;
    first.folder.note_etcd_started().unwrap();

    // Only who has a certificate is answered.
    assert!(first.etcdctl(true, &["put", "key", "value"]).0);
    assert!(!first.etcdctl(false, &["get", "key"]).0);

    let mut second = TestNode::new(root.path(), "second", &authorities, &master_key);
    let node = second.facts.node.clone();
    let add = |node: Node| {
        let client = &client;
        async move { membership::add(client, &node).await }
    };
    let nodes = add(node.clone()).await.unwrap();
    assert_eq!(nodes, [first.facts.node.clone(), node.clone()]);
    assert_eq!(
        add(node.clone()).await.unwrap(),
        nodes,
        "again, before it has started"
    );
    let taken = Node {
        name: first.facts.node.name.clone(),
        ..node.clone()
    };
    assert!(matches!(
        add(taken).await,
        Err(MembershipError::NameTaken(_))
    ));

    second.facts.founder = false;
    second.facts.nodes = nodes;
    let other_etcd = second.start();
    until("the second member has its vote", || async {
        match membership::promote(&client, &node.name).await {
            Ok(true) => Some(()),
            Ok(false) | Err(_) => None,
        }
    })
    .await;
    let (_, list) = first.etcdctl(true, &["member", "list"]);
    assert_eq!(
        list.lines()
            .filter(|line| line.contains("started") && line.ends_with("false"))
            .count(),
        2,
        "{list}"
    );
    assert!(second.etcdctl(true, &["get", "key"]).1.contains("value"));
    assert!(matches!(
        add(node.clone()).await,
        Err(MembershipError::NameTaken(_))
    ));

    // One that is killed is started again, and takes part again.
    let process = other_etcd.process().unwrap();
    kill_process(
        Pid::from_raw(process.try_into().unwrap()).unwrap(),
        Signal::KILL,
    )
    .unwrap();
    until("etcd is started again", || async {
        (other_etcd.starts() == 2 && second.etcdctl(true, &["get", "key"]).0).then_some(())
    })
    .await;

    // Not at once: etcd refuses while its members have not been connected for some seconds.
    until("the second member is removed", || async {
        membership::remove(&client, &node.name).await.ok()
    })
    .await;
    let error = membership::remove(&client, &node.name).await.unwrap_err();
    assert!(matches!(error, MembershipError::NoSuchNode(_)), "{error}");
    drop(other_etcd);
    has_leader(&client).await;
    assert!(first.etcdctl(true, &["put", "key", "other"]).0);

    let process = etcd.process().unwrap();
    drop(etcd);
    assert!(!is_running(process), "it ends with what holds it");
}

#[test]
fn an_etcd_that_has_lost_its_folder_is_not_started() {
    let root = tempfile::tempdir().unwrap();
    let master_key = MasterKey::generate(&mut System::new()).unwrap();
    let authorities = Authorities::new(CLUSTER, SystemClock.now()).unwrap();
    let node = TestNode::new(root.path(), "first", &authorities, &master_key);
    node.folder.note_etcd_started().unwrap();
    let error = Etcd::start(&node.folder, &node.facts).unwrap_err();
    assert!(matches!(error, EtcdError::DataLost(_)), "{error}");
}
