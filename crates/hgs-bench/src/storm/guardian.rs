//! The guardian of a storm: the program `hgs`, on one node or on several.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::iter::Sum;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use hgs_admin::{Administration as _, Client};
use hgs_testkit::softhsm::{SoftHsm, TOKEN};
use rustix::process::{Pid, Signal, kill_process};

use crate::http::Target;
use crate::measure::Outcome;

/// Until a program that was started serves.
const START: Duration = Duration::from_secs(60);
/// What Linux counts processor time in for programs, whatever it does itself.
const TICK: Duration = Duration::from_millis(10);
/// How often it is looked whether it does.
const LOOK: Duration = Duration::from_millis(5);

/// A guardian of one node or of several, in folders below one.
pub(super) struct Site {
    program: PathBuf,
    folder: PathBuf,
    nodes: Vec<Node>,
}

/// A node, and its process while it runs.
struct Node {
    name: String,
    folder: PathBuf,
    address: SocketAddr,
    /// Where it tells its metrics.
    metrics: SocketAddr,
    /// Its token, if the keys are in tokens.
    token: Option<SoftHsm>,
    process: Option<Child>,
    /// What processes of it had used that were killed.
    lost: Spent,
}

/// Processor time of nodes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Spent {
    /// Of the threads of `hgs` that decide.
    pub(super) workers: Duration,
    /// Of those that write the state.
    pub(super) writers: Duration,
    /// Of all others of `hgs`: connections, and what is asked of etcd.
    pub(super) connections: Duration,
    /// Of the members of etcd.
    pub(super) etcd: Duration,
}

impl Spent {
    fn each(self, other: Self, of: impl Fn(Duration, Duration) -> Duration) -> Self {
        Self {
            workers: of(self.workers, other.workers),
            writers: of(self.writers, other.writers),
            connections: of(self.connections, other.connections),
            etcd: of(self.etcd, other.etcd),
        }
    }

    pub(super) fn since(self, before: Self) -> Self {
        self.each(before, Duration::saturating_sub)
    }

    pub(super) fn all(self) -> Duration {
        self.workers + self.writers + self.connections + self.etcd
    }
}

impl Sum for Spent {
    fn sum<I: Iterator<Item = Self>>(spent: I) -> Self {
        spent.fold(Self::default(), |all, one| {
            all.each(one, |all, one| all + one)
        })
    }
}

impl Site {
    /// Makes a guardian of so many nodes, which serves. Keys in tokens are in one token of each node. A single node has
    /// its commits ordered by an etcd of its own, if it is to.
    pub(super) fn new(
        folder: &Path,
        nodes: usize,
        has_tokens: bool,
        has_etcd: bool,
    ) -> Outcome<Self> {
        let program = std::env::current_exe()?.with_file_name("hgs");
        if !program.exists() {
            let reason = format!(
                "{} is not there: build it with the same profile, `cargo build -p hgs`",
                program.display()
            );
            return Err(reason.into());
        }
        let mut site = Self {
            program,
            folder: folder.to_owned(),
            nodes: Vec::new(),
        };
        for number in 1..=nodes {
            let first_token = site.nodes.first().and_then(|first| first.token.as_ref());
            let token = has_tokens.then(|| token(first_token)).transpose()?;
            let node = Node::new(folder, number, token)?;
            let listener = free_ports()?;
            let name = ["--node", &node.name];
            if let Some(first) = site.nodes.first() {
                let invitation = done(&mut site.command(first, &["cluster", "invite"]), &[])?;
                let mut join = site.command(&node, &["cluster", "join", "-"]);
                done(join.args(name).args(["--address", &listener]), &invitation)?;
            } else {
                let mut init = site.command(&node, &["init", "--name", "guardian.example"]);
                init.args(["--bits", "2048"]);
                if has_tokens {
                    let uri = |object| format!("pkcs11:token={TOKEN};object={object}");
                    init.args(["--signing-key", &uri("signing"), "--new-keys"]);
                    init.args(["--encryption-key", &uri("encryption")]);
                }
                if nodes > 1 || has_etcd {
                    init.args(name).args(["--cluster", &listener]);
                }
                done(&mut init, &[])?;
            }
            site.nodes.push(node);
            site.start()?;
        }
        Ok(site)
    }

    fn command(&self, node: &Node, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(words)
            .arg("--config")
            .arg(node.folder.join("hgs.toml"))
            .envs(node.token.as_ref().map(SoftHsm::environ));
        command
    }

    /// Where hosts and administrators reach the first node.
    pub(super) fn target(&self) -> Target {
        let first = &self.nodes[0];
        Target {
            address: first.address,
            socket: first.folder.join("run/admin.sock"),
        }
    }

    /// Where hosts reach each node.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| node.address).collect()
    }

    /// A folder for folders of hosts.
    pub(super) fn folder_of_hosts(&self) -> Outcome<PathBuf> {
        let folder = self.folder.join("hosts");
        fs::create_dir(&folder)?;
        Ok(folder)
    }

    /// Starts the nodes that do not run, and waits until they serve.
    pub(super) fn start(&mut self) -> Outcome<()> {
        let waiting = self.nodes.iter().enumerate();
        let waiting: Vec<_> = waiting
            .filter(|(_, node)| node.process.is_none())
            .map(|(place, node)| (place, self.command(node, &["serve"])))
            .collect();
        for (place, mut command) in waiting {
            let node = &mut self.nodes[place];
            let log = File::create(node.folder.join("log"))?;
            node.process = Some(command.stderr(log).spawn()?);
        }
        let deadline = Instant::now() + START;
        for node in &mut self.nodes {
            node.wait_until(deadline)?;
        }
        Ok(())
    }

    /// Has all nodes end, and waits for that.
    pub(super) fn stop(&mut self) -> Outcome<()> {
        for process in self.nodes.iter().filter_map(|node| node.process.as_ref()) {
            kill_process(Pid::from_child(process), Signal::TERM)?;
        }
        for node in &mut self.nodes {
            if let Some(mut process) = node.process.take() {
                let status = process.wait()?;
                if !status.success() {
                    return Err(format!("{} ended with {status}", node.name).into());
                }
            }
        }
        Ok(())
    }

    /// Takes away the token of the first node that runs.
    pub(super) fn take_token(&self) -> Outcome<()> {
        let first = self.nodes.iter().find(|node| node.process.is_some());
        let token = first.and_then(|node| node.token.as_ref());
        token.ok_or("the keys are in no tokens")?.hide();
        Ok(())
    }

    /// Kills the node that leads, or one that does not, with its etcd.
    pub(super) fn kill(&mut self, victim: Victim) -> Outcome<()> {
        let client = Client::new(&self.target().socket);
        let leader = client.cluster()?.leader.ok_or("no node leads")?;
        let found = self
            .nodes
            .iter_mut()
            .rfind(|node| (node.name == leader) == (victim == Victim::Leader));
        found.ok_or("there is no such node")?.kill()
    }

    /// What the nodes, and the processes that they have started, have used of the processors.
    pub(super) fn spent(&self) -> Outcome<Spent> {
        let processes = processes()?;
        Ok(self.nodes.iter().map(|node| node.spent(&processes)).sum())
    }

    /// How many commits of their own the nodes that run have made since they were started.
    pub(super) fn commits(&self) -> Outcome<u64> {
        let running = self.nodes.iter().filter(|node| node.process.is_some());
        running.map(Node::commits).sum()
    }
}

/// Which node is killed in the storm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Victim {
    Follower,
    Leader,
}

impl Node {
    fn new(folder: &Path, number: usize, token: Option<SoftHsm>) -> Outcome<Self> {
        let name = format!("node-{number}");
        let folder = folder.join(&name);
        fs::create_dir(&folder)?;
        // The same after the blackout, where hosts look for it.
        let listeners = [
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?,
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?,
        ];
        let [address, metrics] = [listeners[0].local_addr()?, listeners[1].local_addr()?];
        let shown = folder.display();
        let mut configuration = format!(
            "[server]\nname = \"{name}\"\nstate = \"{shown}/guardian\"\n\
             [listen.http]\naddress = \"{address}\"\n\
             [listen.metrics]\naddress = \"{metrics}\"\n\
             [listen.admin]\nsocket = \"{shown}/run/admin.sock\"\n"
        );
        if let Some(token) = &token {
            configuration += &format!(
                "[pkcs11]\npin_source = \"file:{}\"\n[[pkcs11.module]]\npath = \"{}\"\n",
                token.pin_file().display(),
                SoftHsm::module().display(),
            );
        }
        fs::write(folder.join("hgs.toml"), configuration)?;
        Ok(Self {
            name,
            folder,
            address,
            metrics,
            token,
            process: None,
            lost: Spent::default(),
        })
    }

    fn wait_until(&mut self, deadline: Instant) -> Outcome<()> {
        let process = self.process.as_mut().ok_or("it was not started")?;
        while TcpStream::connect(self.address).is_err() {
            if let Some(status) = process.try_wait()? {
                let log = fs::read_to_string(self.folder.join("log"))?;
                return Err(format!("{} ended with {status}: {log}", self.name).into());
            }
            if Instant::now() > deadline {
                return Err(format!("{} does not serve", self.name).into());
            }
            thread::sleep(LOOK);
        }
        Ok(())
    }

    /// As when its machine is lost.
    fn kill(&mut self) -> Outcome<()> {
        let processes = processes()?;
        self.lost = self.spent(&processes);
        if let Some(mut process) = self.process.take() {
            for one in tree(process.id(), &processes) {
                if let Some(number) = one.number.try_into().ok().and_then(Pid::from_raw) {
                    // It may have ended with the one before.
                    let _ = kill_process(number, Signal::KILL);
                }
            }
            process.wait()?;
        }
        Ok(())
    }

    fn spent(&self, processes: &[Process]) -> Spent {
        let Some(process) = &self.process else {
            return self.lost;
        };
        let (server, others): (Vec<&Process>, Vec<&Process>) =
            tree(process.id(), processes).partition(|one| one.number == process.id());
        let time = |some: Vec<&Process>| some.iter().map(|one| one.ticks).sum::<u32>() * TICK;
        let threads = found_in(&format!("/proc/{}/task", process.id())).unwrap_or_default();
        let of = |name: &str| {
            let named = threads.iter().filter(|one| one.name.starts_with(name));
            time(named.collect())
        };
        let (workers, writers) = (of("worker-"), of("store-writer"));
        Spent {
            workers,
            writers,
            connections: time(server).saturating_sub(workers + writers),
            etcd: time(others),
        }
    }

    /// What was ordered by etcd, if that orders its commits, and otherwise what the store has committed.
    fn commits(&self) -> Outcome<u64> {
        let mut stream = TcpStream::connect(self.metrics)?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let number = |name: &str| {
            let mut lines = answer.lines();
            lines.find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
        };
        let ordered = number("hgs_cluster_order_duration_seconds_count");
        let commits = ordered.or_else(|| number("hgs_commits_total{outcome=\"done\"}"));
        commits.ok_or_else(|| format!("{} does not tell its commits: {answer}", self.name).into())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // There is nobody left to tell.
        let _ = self.kill();
    }
}

/// A token, with what is in the first one.
fn token(first: Option<&SoftHsm>) -> Outcome<SoftHsm> {
    let token = SoftHsm::new();
    if let Some(first) = first {
        let [from, to] = [first, &token].map(|token| token.folder().join("tokens"));
        fs::remove_dir_all(&to)?;
        done(Command::new("cp").arg("-r").args([from, to]), &[])?;
    }
    Ok(token)
}

/// Runs a command that must succeed, with `input` on its standard input; what it prints.
fn done(command: &mut Command, input: &[u8]) -> Outcome<Vec<u8>> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut running = command.stderr(Stdio::piped()).spawn()?;
    if let Some(mut stdin) = running.stdin.take() {
        stdin.write_all(input)?;
    }
    let output = running.wait_with_output()?;
    match output.status.success() {
        true => Ok(output.stdout),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned().into()),
    }
}

/// The address of a cluster listener for which, and for the etcd below it, ports are free.
fn free_ports() -> Outcome<String> {
    loop {
        let highest = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let below = [2, 3].map(|less| highest.port().saturating_sub(less));
        let all_free = below
            .into_iter()
            .all(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok());
        if all_free {
            return Ok(highest.to_string());
        }
    }
}

/// A process of this machine, or a thread of one.
struct Process {
    number: u32,
    name: String,
    parent: u32,
    /// Processor time, in clock ticks.
    ticks: u32,
}

/// A process, and those that it has started.
fn tree(root: u32, processes: &[Process]) -> impl Iterator<Item = &Process> {
    let mut waiting = vec![root];
    let mut found = Vec::new();
    while let Some(number) = waiting.pop() {
        for process in processes {
            if process.number == number {
                found.push(process);
            } else if process.parent == number {
                waiting.push(process.number);
            }
        }
    }
    found.into_iter()
}

fn processes() -> Outcome<Vec<Process>> {
    Ok(found_in("/proc")?)
}

/// Those that a folder of proc(5) shows.
fn found_in(folder: &str) -> io::Result<Vec<Process>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let number = path
            .file_name()
            .and_then(|name| name.to_str()?.parse().ok());
        // Others end meanwhile.
        if let Some(number) = number
            && let Ok(text) = fs::read_to_string(path.join("stat"))
            && let Some(process) = process(number, &text)
        {
            found.push(process);
        }
    }
    Ok(found)
}

/// By proc_pid_stat(5). The name of the program, in parentheses, may have spaces.
fn process(number: u32, text: &str) -> Option<Process> {
    let (name, fields) = text.rsplit_once(") ")?;
    let (_, name) = name.split_once('(')?;
    let fields: Vec<&str> = fields.split(' ').collect();
    let ticks = |field: usize| fields.get(field)?.parse::<u32>().ok();
    Some(Process {
        number,
        name: name.to_owned(),
        parent: fields.get(1)?.parse().ok()?,
        ticks: ticks(11)? + ticks(12)?,
    })
}
