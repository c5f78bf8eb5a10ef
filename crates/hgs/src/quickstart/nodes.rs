//! The same main job on three nodes, of which one is killed in the middle.
//!
//! Each node is a process of its own, `hgs serve`, with its etcd; all are on this machine. What makes the cluster is what the
//! commands do: `hgs init --cluster`, `hgs cluster invite` and `hgs cluster join`.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Range;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hgs_admin::types::{AddHost, AuditQuery, Cluster, RevokeHost};
use hgs_admin::{AdminError, Administration as _, Client};
use hgs_client::service::Sides;
use hgs_client::url::{ServiceUrls, Url};
use hgs_clock::{Clock as _, SystemClock};
use hgs_cluster::invitation::Invitation;
use hgs_cluster::node::Node;
use hgs_cluster::process;
use hgs_files::Readers;
use hgs_pki::Thumbprint;
use hgs_pki::health::HealthKind;
use hgs_server::config::Environment;
use hgs_server::{ClusterError, Config, InitOptions, KeySize};
use hgs_terminal::{AtFault, Failure};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use super::failed;
use super::folder::Folder;
use super::participants::{Host, Urls};
use super::progress::Progress;
use super::scenario::{attest, power_on, power_on_again, prepare, revoked_host_gets_no_keys};
use crate::cluster::invite;
use crate::failures::OrFail as _;

/// How many nodes can be run.
pub(super) const MOST: u8 = 5;
/// How long a node may take to serve, and a cluster to stand.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Where nodes listen: below the ports that the kernel gives to connections, any of which may have what was free a moment ago.
const PORTS: Range<u16> = 20_000..32_000;
/// One for hosts, and those of the node's address: its own and three below.
const PORTS_OF_NODE: u16 = 5;

/// Refuses to begin without etcd, and says in which package it is.
pub(super) fn check_installed() -> Result<(), Failure> {
    process::check_installed()
        .map_err(ClusterError::from)
        .or_fail()
}

/// A node: its folder, and its process while it runs.
struct RunningNode {
    name: String,
    folder: PathBuf,
    config: Config,
    node: Node,
    http: SocketAddr,
    process: Option<Child>,
}

impl RunningNode {
    /// One that is not made yet, on ports that are free now.
    fn prepare(number: u8, folder: &Folder) -> Result<Self, Failure> {
        let name = format!("node-{number}");
        let place = folder.work().join(&name);
        hgs_files::private_folder(&place)?;
        let http = free_ports(number)?;
        let address = format!("127.0.0.1:{}", http + PORTS_OF_NODE - 1);
        let http = SocketAddr::from((Ipv4Addr::LOCALHOST, http));
        let text = format!(
            "[server]\nname = \"quickstart\"\nstate = \"{place}/state\"\n[listen.http]\naddress = \"{http}\"\n\
             [listen.metrics]\nenabled = false\n[listen.admin]\nsocket = \"{place}/admin.sock\"\n",
            place = place.display()
        );
        let file = place.join("openhgs.toml");
        hgs_files::create(&file, text.as_bytes(), Readers::Owner)?;
        Ok(Self {
            config: Config::load(Some(&file), &Environment::default()).or_fail()?,
            node: Node {
                name: name.parse().map_err(failed)?,
                address: address.parse().map_err(failed)?,
            },
            name,
            folder: place,
            http,
            process: None,
        })
    }

    fn client(&self) -> Client {
        Client::new(self.config.admin_socket())
    }

    /// Does what an administrator does at this node.
    async fn administer<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Client) -> Result<T, AdminError> + Send + 'static,
    ) -> Result<T, Failure> {
        let client = self.client();
        spawn_blocking(move || act(&client))
            .await
            .map_err(failed)?
            .map_err(failed)
    }

    /// Starts `hgs serve`, and waits until it serves.
    async fn start(&mut self) -> Result<(), Failure> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.join("log"))
            .map_err(failed)?;
        let program = std::env::current_exe().map_err(failed)?;
        let process = Command::new(program)
            .arg("serve")
            .arg("--config")
            .arg(self.folder.join("openhgs.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.process = Some(process.map_err(failed)?);
        self.until("does not serve", |cluster| cluster.quorum)
            .await
            .map(drop)
    }

    /// Asks this node until the cluster is so.
    async fn until(
        &mut self,
        otherwise: &str,
        is_so: impl Fn(&Cluster) -> bool,
    ) -> Result<Cluster, Failure> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let client = self.client();
            let asked = spawn_blocking(move || client.cluster())
                .await
                .map_err(failed)?;
            match asked {
                Ok(cluster) if is_so(&cluster) => return Ok(cluster),
                _ if self.has_ended() || Instant::now() > deadline => {
                    return Err(self.failure(otherwise));
                }
                _ => sleep(LOOK).await,
            }
        }
    }

    fn has_ended(&mut self) -> bool {
        let process = self.process.as_mut();
        process.is_none_or(|process| !matches!(process.try_wait(), Ok(None)))
    }

    /// What it said last.
    fn failure(&self, otherwise: &str) -> Failure {
        let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        let last: Vec<_> = log.lines().rev().take(3).collect();
        let last: Vec<_> = last.into_iter().rev().collect();
        Failure::failed(format_args!(
            "{} {otherwise}: {}",
            self.name,
            last.join("; ")
        ))
        .at_fault(AtFault::Ourselves)
    }

    /// Kills it, as a machine fails. Its etcd goes with it.
    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // It may have ended by itself.
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Has it end in order.
    fn stop(&mut self) -> Result<(), Failure> {
        let Some(mut process) = self.process.take() else {
            return Ok(());
        };
        let number = rustix::process::Pid::from_child(&process);
        rustix::process::kill_process(number, rustix::process::Signal::TERM).map_err(failed)?;
        match process.wait().map_err(failed)?.success() {
            true => Ok(()),
            false => Err(self.failure("did not end in order")),
        }
    }
}

impl Drop for RunningNode {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The first of [`PORTS_OF_NODE`] ports that are free. No other node of this process looks at the same.
fn free_ports(number: u8) -> Result<u16, Failure> {
    let blocks = PORTS.len() as u32 / u32::from(PORTS_OF_NODE);
    let step = u32::from(MOST);
    // Others that run at the same time begin elsewhere.
    let begin = std::process::id() % (blocks / step) * step + u32::from(number);
    let is_free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    (0..blocks / step)
        .map(|attempt| (begin + attempt * step) % blocks)
        .map(|block| PORTS.start + block as u16 * PORTS_OF_NODE)
        .find(|first| (*first..first + PORTS_OF_NODE).all(is_free))
        .ok_or_else(|| Failure::failed("no free ports were found").at_fault(AtFault::Operator))
}

/// Runs the whole scenario.
pub(super) async fn tell(
    progress: &Progress<'_>,
    folder: &Folder,
    count: u8,
) -> Result<(), Failure> {
    let (mut nodes, thumbprint) = make_cluster(progress, folder, count).await?;
    let urls = urls(&nodes)?;
    let hosts = progress
        .step("hosts-register", register(folder, &nodes[1], &urls))
        .await?;
    let machine = prepare(progress, folder, &hosts[0], thumbprint).await?;
    hosts[0].receive(machine.protector.octets(), &machine.sealed)?;
    progress
        .step("host-attest", attest(folder, &hosts[0]))
        .await?;
    let before = progress
        .step("power-on", power_on(folder, &hosts[0], &machine))
        .await?;

    let first = nodes[0].node.name.to_string();
    let killed = progress
        .step("node-kill", async {
            let cluster = nodes[0]
                .until("does not lead", |cluster| cluster.leader.is_some())
                .await?;
            nodes[0].kill();
            let led = if cluster.leader.as_ref() == Some(&first) {
                ", which led,"
            } else {
                ""
            };
            Ok((
                Instant::now(),
                format!("{first}{led} is killed, and the hosts know it as the first of {count}"),
            ))
        })
        .await?;
    progress
        .step("power-on-again", async {
            let ((), _) = power_on_again(&hosts[0], &machine, &before).await?;
            let seconds = killed.elapsed().as_secs_f64();
            Ok((
                (),
                format!("by another node, {seconds:.1} s after the kill"),
            ))
        })
        .await?;

    progress
        .step("host-attest-elsewhere", async {
            let pair = hosts[0].machine()?;
            hosts[1].receive(pair.protector(), pair.file())?;
            let attested = hosts[1]
                .host
                .attest(HealthKind::Encryption, Sides::Both)
                .await;
            attested.map_err(failed)?;
            Ok(((), "host-2 is healthy, with a node missing".to_owned()))
        })
        .await?;
    let last = nodes.len() - 1;
    let name = nodes[last].name.clone();
    progress
        .step("host-revoke", async {
            let revocation = RevokeHost {
                reason: "the quickstart shows what a revocation does".to_owned(),
            };
            let revoking = nodes[last]
                .administer(move |guardian| guardian.revoke_host(&"host-2".parse()?, &revocation));
            revoking.await?;
            Ok(((), format!("at {name}; the hosts ask another node first")))
        })
        .await?;
    revoked_host_gets_no_keys(progress, &hosts[1]).await?;

    progress
        .step("node-return", async {
            nodes[0].start().await?;
            let records = equal_logs(&nodes).await?;
            Ok(((), format!("{first} has taken in what it missed: all nodes have the same {records} audit records")))
        })
        .await?;
    progress
        .step("nodes-stop", async {
            for node in nodes.iter_mut().rev() {
                node.stop()?;
            }
            Ok(((), "every request that was taken is finished".to_owned()))
        })
        .await
}

async fn make_cluster(
    progress: &Progress<'_>,
    folder: &Folder,
    count: u8,
) -> Result<(Vec<RunningNode>, Thumbprint), Failure> {
    let mut first = RunningNode::prepare(1, folder)?;
    let thumbprint = progress
        .step("cluster-initialise", async {
            let options = InitOptions {
                key_size: KeySize::Rsa2048,
                ..InitOptions::default()
            };
            let now = SystemClock.now();
            let made = hgs_server::initialise(&first.config, options, now).or_fail()?;
            hgs_server::found(&first.config, first.node.clone(), None, now).or_fail()?;
            let thumbprint = made.signing.thumbprint();
            Ok((
                thumbprint,
                format!("software keys, signing certificate {thumbprint}"),
            ))
        })
        .await?;
    progress
        .step("node-start", async {
            first.start().await?;
            Ok((
                (),
                format!("{} with its etcd, at {}", first.name, first.node.address),
            ))
        })
        .await?;
    let mut nodes = vec![first];
    for number in 2..=count {
        let mut node = RunningNode::prepare(number, folder)?;
        let by = nodes.len() - 1;
        progress
            .step("node-join", async {
                let invited = nodes[by].client();
                let invited = spawn_blocking(move || invite(&invited))
                    .await
                    .map_err(failed)??;
                let invitation: Invitation = invited.invitation.parse().map_err(failed)?;
                let mut silent = |_, _| ();
                let joined = hgs_server::join(
                    &node.config,
                    node.node.clone(),
                    &invitation,
                    None,
                    &mut silent,
                );
                let joined = joined.await.or_fail()?;
                node.start().await?;
                let votes = |cluster: &Cluster| {
                    cluster.nodes.len() == usize::from(number)
                        && cluster
                            .nodes
                            .iter()
                            .all(|node| node.votes && node.reachable)
                };
                node.until("has no vote", votes).await?;
                let detail = format!(
                    "{} was invited by {}, and has its copy of the state ({} KiB)",
                    node.name,
                    nodes[by].name,
                    joined.octets >> 10
                );
                Ok(((), detail))
            })
            .await?;
        nodes.push(node);
    }
    Ok((nodes, thumbprint))
}

/// The URLs of all nodes, in this order.
fn urls(nodes: &[RunningNode]) -> Result<Urls, Failure> {
    let of = |path: &str| -> Result<ServiceUrls, Failure> {
        let urls = nodes
            .iter()
            .map(|node| format!("http://{}{path}", node.http).parse::<Url>());
        let urls: Result<Vec<_>, _> = urls.collect();
        ServiceUrls::new(urls.map_err(failed)?).map_err(failed)
    };
    Ok(Urls {
        attestation: of("/Attestation")?,
        key_protection: of("/KeyProtection")?,
    })
}

/// The administrator registers two hosts at one node.
async fn register(
    folder: &Folder,
    node: &RunningNode,
    urls: &Urls,
) -> Result<([Host; 2], String), Failure> {
    let hosts = [
        Host::new("host-1", folder.work(), urls)?,
        Host::new("host-2", folder.work(), urls)?,
    ];
    for host in &hosts {
        let host = AddHost {
            name: host.name.to_owned(),
            host_key: Some(host.host_key()?),
            ..AddHost::default()
        };
        node.administer(move |guardian| guardian.add_host(&host))
            .await?;
    }
    Ok((
        hosts,
        format!("host-1 and host-2 at {}; every node knows them", node.name),
    ))
}

/// That all nodes have the same audit log. The number of its last record.
async fn equal_logs(nodes: &[RunningNode]) -> Result<u64, Failure> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut newest = Vec::new();
        for node in nodes {
            let query = AuditQuery {
                limit: Some(1000),
                ..AuditQuery::default()
            };
            newest.push(
                node.administer(move |guardian| guardian.audit(&query))
                    .await?,
            );
        }
        match newest.iter().all(|log| *log == newest[0]) {
            true => return Ok(newest[0].first().map_or(0, |record| record.sequence)),
            false if Instant::now() > deadline => {
                return Err(Failure::failed("the audit logs of the nodes differ"));
            }
            false => sleep(LOOK).await,
        }
    }
}
