//! Members of etcd, each in a folder and a process of its own, on ports of loopback that nobody else uses, or in networks of
//! their own.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;
use tempfile::TempDir;

use crate::{free_ports, tool};

/// How long members may take to have a leader. Each look takes time of its own.
const PATIENCE: Duration = Duration::from_secs(60);

/// A cluster of etcd; its members are killed when it is dropped.
pub struct Etcd {
    root: TempDir,
    members: Vec<Member>,
    /// What makes the cluster's identity, and that of its members.
    token: String,
    arguments: Vec<String>,
    /// Counts the folders that members had.
    lives: usize,
}

struct Member {
    process: Option<Child>,
    /// Where it listens, for clients and for other members.
    host: String,
    client: u16,
    peer: u16,
    folder: PathBuf,
    network: Option<Network>,
    /// Whether other members reach it by what the test carries.
    has_relays: bool,
}

/// A network of its own, which lasts as long as a process does.
struct Network(Child);

/// The wire from one member to another, which the test carries: it listens at one address in the network of the first member,
/// and connects to another one there.
#[derive(Debug)]
pub struct Relay {
    network: File,
    /// Whose connections come in.
    pub from: usize,
    /// To which member they lead.
    pub to: usize,
    /// Where they come in.
    pub listen: String,
    /// Where that member listens.
    pub connect: String,
}

impl Relay {
    /// Moves the calling thread into the network of the first member.
    pub fn enter(&self) {
        enter(&self.network);
    }
}

impl Etcd {
    /// A cluster of so many members, which has a leader. A lost leader is replaced after one to two seconds: with shorter
    /// times, busy machines lose leaders that are there.
    pub fn new(members: usize) -> Self {
        Self::with(members, &[])
    }

    /// The same, with arguments of etcd.
    pub fn with(members: usize, arguments: &[&str]) -> Self {
        let mut cluster = Self::prepare(members, arguments);
        let all = cluster.initial(members);
        for member in 0..members {
            cluster.begin(member, &all, "new");
        }
        assert!(cluster.comes_up(), "etcd did not start");
        cluster
    }

    /// The same, each member in a network of its own, so that the wire between any two can be cut. The calling thread, and
    /// all that it starts from now on, moves into a network from which all members are reached. Root only.
    pub fn in_networks(members: usize) -> Self {
        Self::connected(members, None)
    }

    /// The same, with each wire from one member to another carried by the test, which can slow it: the kernel of test
    /// machines can't.
    pub fn over_relays(members: usize, mut carry: impl FnMut(Relay)) -> Self {
        Self::connected(members, Some(&mut carry))
    }

    fn connected(members: usize, carry: Option<&mut dyn FnMut(Relay)>) -> Self {
        let mut cluster = Self::prepare(0, &[]);
        let hub = Network::new();
        hub.enter();
        ip(None, "link set lo up");
        ip(None, "link add hub type bridge");
        ip(None, "addr add 10.79.0.254/24 dev hub");
        ip(None, "link set hub up");
        for member in 0..members {
            let network = Network::new();
            let wire = format!("wire{member}");
            let keeper = network.0.id();
            ip(
                None,
                &format!("link add {wire} type veth peer name wire netns {keeper}"),
            );
            ip(None, &format!("link set {wire} master hub up"));
            let host = format!("10.79.0.{}", member + 1);
            ip(Some(&network), &format!("addr add {host}/24 dev wire"));
            ip(Some(&network), "link set wire up");
            ip(Some(&network), "link set lo up");
            let folder = cluster.new_folder();
            cluster.members.push(Member {
                process: None,
                host,
                client: 12379,
                peer: 12380,
                folder,
                network: Some(network),
                has_relays: carry.is_some(),
            });
        }
        if let Some(carry) = carry {
            cluster.relays().for_each(carry);
        }
        let all = cluster.initial(members);
        for member in 0..members {
            cluster.begin(member, &all, "new");
        }
        cluster.ready();
        cluster
    }

    /// One for each member and each other one.
    fn relays(&self) -> impl Iterator<Item = Relay> + '_ {
        let all = || self.members.iter().enumerate();
        let pairs = all().flat_map(move |from| all().map(move |to| (from, to)));
        pairs.filter(|((from, _), (to, _))| from != to).filter_map(
            |((from, first), (to, second))| {
                Some(Relay {
                    network: File::open(first.network.as_ref()?.path()).ok()?,
                    from,
                    to,
                    listen: second.peer_address(),
                    connect: format!("{}:{}", second.host, second.peer),
                })
            },
        )
    }

    /// Cuts the wire between two members that have networks of their own. Both are still reached by clients.
    pub fn cut(&self, one: usize, other: usize) {
        self.route(one, other, "add");
    }

    /// Mends the wire between two members.
    pub fn mend(&self, one: usize, other: usize) {
        self.route(one, other, "del");
    }

    fn route(&self, one: usize, other: usize, change: &str) {
        for (at, to) in [(one, other), (other, one)] {
            let route = format!("route {change} blackhole {}/32", self.members[to].host);
            ip(self.members[at].network.as_ref(), &route);
        }
    }

    fn prepare(members: usize, arguments: &[&str]) -> Self {
        let root = tempfile::tempdir().unwrap();
        let mut cluster = Self {
            token: root.path().display().to_string(),
            root,
            members: Vec::new(),
            arguments: arguments.iter().map(ToString::to_string).collect(),
            lives: 0,
        };
        for _ in 0..members {
            cluster.prepare_one_more();
        }
        cluster
    }

    /// Room for one more member, which is not started. Its place is returned.
    pub fn prepare_one_more(&mut self) -> usize {
        let client = free_ports(2);
        let folder = self.new_folder();
        self.members.push(Member {
            process: None,
            host: "127.0.0.1".to_owned(),
            client,
            peer: client + 1,
            folder,
            network: None,
            has_relays: false,
        });
        self.members.len() - 1
    }

    fn new_folder(&mut self) -> PathBuf {
        self.lives += 1;
        self.root.path().join(self.lives.to_string())
    }

    /// Starts the member that came last, which the cluster knows already.
    pub fn join(&mut self) {
        let all = self.initial(self.members.len());
        self.begin(self.members.len() - 1, &all, "existing");
    }

    /// Starts a member again that was killed.
    pub fn start(&mut self, member: usize) {
        // With a folder that it has, it takes all this from there.
        let all = self.initial(self.members.len());
        self.begin(member, &all, "existing");
    }

    fn initial(&self, members: usize) -> String {
        let one = |member: usize| format!("n{member}={}", self.peer_url(member));
        (0..members).map(one).collect::<Vec<_>>().join(",")
    }

    /// Where other members reach it.
    pub fn peer_url(&self, member: usize) -> String {
        format!("http://{}", self.members[member].peer_address())
    }

    /// Where clients reach it.
    pub fn address(&self, member: usize) -> String {
        let Member { host, client, .. } = &self.members[member];
        format!("{host}:{client}")
    }

    /// All addresses, that of one member first.
    pub fn addresses(&self, first: usize) -> Vec<String> {
        let count = self.members.len();
        (0..count)
            .map(|place| self.address((first + place) % count))
            .collect()
    }

    /// What it keeps.
    pub fn folder(&self, member: usize) -> &Path {
        &self.members[member].folder
    }

    /// What it has said.
    pub fn log(&self, member: usize) -> String {
        let file = self.members[member].folder.with_extension("log");
        fs::read_to_string(file).unwrap_or_default()
    }

    fn begin(&mut self, member: usize, all: &str, state: &str) {
        let client = format!("http://{}", self.address(member));
        let peer = self.peer_url(member);
        let Member {
            host, peer: port, ..
        } = &self.members[member];
        let listens = format!("http://{host}:{port}");
        let folder = &self.members[member].folder;
        let log = File::options()
            .create(true)
            .append(true)
            .open(folder.with_extension("log"))
            .unwrap();
        let etcd = tool("etcd", "etcd-server");
        let mut command = match &self.members[member].network {
            None => Command::new(etcd),
            Some(network) => network.command(&etcd),
        };
        let process = command
            .args(["--name", &format!("n{member}"), "--data-dir"])
            .arg(folder)
            .args(["--listen-client-urls", &client])
            .args(["--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &listens])
            .args(["--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", all, "--initial-cluster-state", state])
            .args(["--initial-cluster-token", &self.token])
            .args(["--logger", "zap", "--log-outputs", "stderr"])
            .args(["--pre-vote", "--max-txn-ops", "1024"])
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.members[member].process = Some(process);
    }

    /// Waits until every member that runs has a leader.
    ///
    /// # Panics
    /// If one does not within a minute, or ends.
    pub fn ready(&mut self) {
        assert!(self.comes_up(), "a member of etcd has no leader");
    }

    fn comes_up(&mut self) -> bool {
        let until = Instant::now() + PATIENCE;
        for member in 0..self.members.len() {
            while let Some(process) = &mut self.members[member].process {
                if process.try_wait().unwrap().is_some() {
                    return false;
                }
                if self.leader_of(member).is_some() {
                    break;
                }
                if Instant::now() > until {
                    return false;
                }
            }
        }
        true
    }

    /// The member's own number, if it is the leader, and the leader's.
    fn leader_of(&self, member: usize) -> Option<(u64, u64)> {
        let status = self.try_etcdctl(member, &["endpoint", "status"])?;
        let status = &status[0]["Status"];
        let leader = status["leader"].as_u64().filter(|leader| *leader != 0)?;
        Some((status["header"]["member_id"].as_u64()?, leader))
    }

    /// The place of the leader.
    ///
    /// # Panics
    /// If there is none for a minute.
    pub fn leader(&self) -> usize {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            for member in 0..self.members.len() {
                let runs = self.members[member].process.is_some();
                if runs
                    && self
                        .leader_of(member)
                        .is_some_and(|(own, leader)| own == leader)
                {
                    return member;
                }
            }
        }
        panic!("there is no leader");
    }

    /// Sends a signal to a member: `STOP` freezes it, `CONT` has it go on.
    pub fn signal(&self, member: usize, signal: Signal) {
        let process = self.members[member].process.as_ref().unwrap();
        kill_process(Pid::from_child(process), signal).unwrap();
    }

    /// Whether a member has ended by itself, or was killed.
    pub fn has_ended(&mut self, member: usize) -> bool {
        match &mut self.members[member].process {
            Some(process) => process.try_wait().unwrap().is_some(),
            None => true,
        }
    }

    /// Removes a member, and has it join again with nothing but its addresses.
    pub fn replace(&mut self, member: usize) {
        if self.members[member].process.is_some() {
            self.kill(member);
        }
        let other = (member + 1) % self.members.len();
        let name = format!("n{member}");
        let named = |one: &Value| one["name"] == *name;
        let id = self.listed(other).iter().find(|one| named(one)).unwrap()["ID"].as_u64();
        let id = format!("{:x}", id.unwrap());
        let peer = self.peer_url(member);
        let joins = |one: &Value| one["peerURLs"][0] == *peer;
        let remove = ["member", "remove", &id];
        self.until_listed(other, &remove, |all| !all.iter().any(named));
        let url = format!("--peer-urls={peer}");
        let add = ["member", "add", &name, &url];
        self.until_listed(other, &add, |all| all.iter().any(joins));
        self.members[member].folder = self.new_folder();
        self.start(member);
    }

    fn listed(&self, member: usize) -> Vec<Value> {
        let listed = self.try_etcdctl(member, &["member", "list"]);
        let listed = listed.unwrap_or_default()["members"].as_array().cloned();
        listed.unwrap_or_default()
    }

    /// Repeats a step until the list of members shows it: it is refused until all others have been connected for some
    /// seconds, and its answer can be lost.
    fn until_listed(&self, member: usize, step: &[&str], is_done: impl Fn(&[Value]) -> bool) {
        let until = Instant::now() + PATIENCE;
        loop {
            let listed = self.listed(member);
            if !listed.is_empty() && is_done(&listed) {
                return;
            }
            assert!(Instant::now() < until, "{step:?}");
            let _ = self.try_etcdctl(member, step);
        }
    }

    /// The process of a member that runs.
    ///
    /// # Panics
    /// If it does not run.
    pub fn process(&self, member: usize) -> u32 {
        self.members[member].process.as_ref().unwrap().id()
    }

    /// Kills a member.
    pub fn kill(&mut self, member: usize) {
        let mut process = self.members[member].process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// Ends all members, and puts an older snapshot in their place: with the same names, addresses and token, so that nothing
    /// tells the restored cluster from the one before but what it holds.
    pub fn put_back(&mut self, snapshot: &Path) {
        let count = self.members.len();
        let all = self.initial(count);
        for member in 0..count {
            if self.members[member].process.is_some() {
                self.kill(member);
            }
            let folder = self.new_folder();
            let output = Command::new(tool("etcdctl", "etcd-client"))
                .env("ETCDCTL_API", "3")
                .args(["snapshot", "restore"])
                .arg(snapshot)
                .args(["--name", &format!("n{member}"), "--initial-cluster", &all])
                .args(["--initial-cluster-token", &self.token])
                .args(["--initial-advertise-peer-urls", &self.peer_url(member)])
                .arg("--data-dir")
                .arg(&folder)
                .output()
                .unwrap();
            assert!(output.status.success(), "{output:?}");
            self.members[member].folder = folder;
        }
        for member in 0..count {
            self.begin(member, &all, "existing");
        }
        self.ready();
    }

    /// Asks a member by etcd's own tool, and reads its answer.
    ///
    /// # Panics
    /// If it fails.
    pub fn etcdctl(&self, member: usize, arguments: &[&str]) -> Value {
        self.try_etcdctl(member, arguments)
            .unwrap_or_else(|| panic!("etcdctl failed: {arguments:?}"))
    }

    fn try_etcdctl(&self, member: usize, arguments: &[&str]) -> Option<Value> {
        let output = Command::new(tool("etcdctl", "etcd-client"))
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &self.address(member), "-w", "json"])
            .args(["--command-timeout", "2s"])
            .args(arguments)
            .output()
            .unwrap();
        let answered = output.status.success();
        answered.then(|| serde_json::from_slice(&output.stdout).unwrap_or_default())
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for member in &mut self.members {
            if let Some(process) = &mut member.process {
                let _ = process.kill();
                let _ = process.wait();
            }
        }
    }
}

impl Member {
    /// Where other members reach it. What the test carries is at another address of loopback, which is in every network.
    fn peer_address(&self) -> String {
        let host = match self.has_relays {
            true => self.host.replacen("10.79", "127.79", 1),
            false => self.host.clone(),
        };
        format!("{host}:{}", self.peer)
    }
}

impl Network {
    fn new() -> Self {
        let mut keeper = Command::new(tool("unshare", "util-linux"))
            .args(["--net", "sh", "-c", "echo ready; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = keeper.stdout.as_mut().unwrap();
        said.read_exact(&mut [0; 6]).unwrap();
        Self(keeper)
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.0.id())
    }

    /// Moves the calling thread into it.
    fn enter(&self) {
        enter(&File::open(self.path()).unwrap());
    }

    /// A command that runs a program in it.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(tool("nsenter", "util-linux"));
        command.arg(format!("--net={}", self.path())).arg(program);
        command
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn enter(network: &File) {
    let kind = Some(LinkNameSpaceType::Network);
    move_into_link_name_space(network.as_fd(), kind).unwrap();
}

/// Runs `ip` in a network, or in that of the calling thread.
fn ip(network: Option<&Network>, arguments: &str) {
    let ip = tool("ip", "iproute2");
    let mut command = match network {
        None => Command::new(ip),
        Some(network) => network.command(&ip),
    };
    let status = command.args(arguments.split_whitespace()).status();
    assert!(status.unwrap().success(), "ip {arguments}");
}
