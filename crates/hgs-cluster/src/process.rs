//! etcd as a child of this program.
//!
//! One thread starts it, reads what it says, waits for its end, and starts it again: soon at first, then ever later. The
//! child dies with this program, however that ends.

use std::collections::VecDeque;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hgs_files::FileError;
use rustix::process::{Pid, Signal, kill_process};
use tracing::{debug, error, info, warn};

use crate::folder::{ClusterFolder, Facts};

/// etcd's database is at most so large; beyond, it takes nothing more.
pub const QUOTA: u64 = 2 * 1024 * 1024 * 1024;
/// Operations in one list of a transaction.
pub const MAX_TXN_OPERATIONS: usize = 1024;
/// The first pause before it is started again, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// After so long, an end is not the last one's fault.
const SETTLED: Duration = Duration::from_secs(60);
/// It ends within this time after SIGTERM, or is killed: without a quorum it would try to hand on its leadership.
const END: Duration = Duration::from_secs(3);
/// How often its end is looked for.
const LOOK: Duration = Duration::from_millis(50);
/// Lines of its last words that are told.
const LAST_WORDS: usize = 3;
/// Octets of the longest line that is read.
const MAX_LINE: u64 = 16 * 1024;

/// etcd can't be started.
#[derive(Debug, thiserror::Error)]
pub enum EtcdError {
    /// A program is not installed.
    #[error("the program `{program}` is not installed")]
    NotInstalled {
        /// Which.
        program: &'static str,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// Its folder is gone or empty, although it has run before.
    #[error(
        "{} is gone or empty, although etcd has run on this node before: under its old identity it must not start without what it has promised",
        .0.display()
    )]
    DataLost(PathBuf),
    /// A file or folder.
    #[error(transparent)]
    File(#[from] FileError),
    /// The system starts nothing.
    #[error("etcd can't be started: {0}")]
    Start(#[source] io::Error),
}

impl EtcdError {
    /// What the operator can do about it.
    #[must_use]
    pub fn remedy(&self) -> Option<String> {
        match self {
            Self::NotInstalled { package, .. } => {
                Some(format!("install its package: `apt install {package}`"))
            }
            Self::DataLost(_) => Some(
                "replace this node: `hgs cluster remove` and `hgs cluster invite` on another node, then `hgs cluster join` here into a new state folder"
                    .to_owned(),
            ),
            Self::File(error) => error.remedy(),
            Self::Start(_) => None,
        }
    }
}

/// etcd, which runs as long as this lives.
#[derive(Debug)]
pub struct Etcd {
    shared: Arc<Shared>,
    stop: Sender<()>,
    supervisor: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    process: Option<u32>,
    starts: u32,
    last_words: VecDeque<String>,
}

impl Etcd {
    /// Starts etcd as the facts of this node say.
    ///
    /// # Errors
    /// When it is not installed, or has lost its folder.
    pub fn start(folder: &ClusterFolder, facts: &Facts) -> Result<Self, EtcdError> {
        let program = installed("etcd", "etcd-server")?;
        // From util-linux, which every Debian has: nothing in Rust's library asks the kernel to end a child with its parent.
        let setpriv = installed("setpriv", "util-linux")?;
        refuse_lost_data(folder)?;
        hgs_files::private_folder(&folder.etcd())?;
        let shared = Arc::new(Shared::default());
        let (stop, stopped) = mpsc::channel();
        let supervisor = Supervisor {
            shared: Arc::clone(&shared),
            setpriv,
            program,
            arguments: arguments(folder, facts),
            stopped,
        };
        // The kernel ends the child when the thread that has started it ends: so this one lives as long.
        let supervisor = thread::Builder::new()
            .name("etcd".to_owned())
            .spawn(move || supervisor.run())
            .map_err(EtcdError::Start)?;
        Ok(Self {
            shared,
            stop,
            supervisor: Some(supervisor),
        })
    }

    /// The number of its process, while there is one.
    #[must_use]
    pub fn process(&self) -> Option<u32> {
        self.shared.state().process
    }

    /// How often it was started.
    #[must_use]
    pub fn starts(&self) -> u32 {
        self.shared.state().starts
    }

    /// What it said last, where that was an error.
    #[must_use]
    pub fn last_words(&self) -> Option<String> {
        let state = self.shared.state();
        let lines: Vec<_> = state.last_words.iter().map(String::as_str).collect();
        (!lines.is_empty()).then(|| lines.join("; "))
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        // The supervisor may have ended by itself.
        let _ = self.stop.send(());
        if let Some(supervisor) = self.supervisor.take()
            && supervisor.join().is_err()
        {
            error!("the thread that looks after etcd has failed");
        }
    }
}

impl Shared {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Refuses an etcd that would start anew under the identity of one that has run: it would panic, or break what it promised.
fn refuse_lost_data(folder: &ClusterFolder) -> Result<(), EtcdError> {
    let has_data = match fs::read_dir(folder.etcd().join("member")) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(FileError::at(&folder.etcd(), error).into()),
    };
    match has_data || !folder.etcd_has_started()? {
        true => Ok(()),
        false => Err(EtcdError::DataLost(folder.etcd())),
    }
}

/// Refuses, by its package, a machine without etcd.
///
/// # Errors
/// [`EtcdError::NotInstalled`].
pub fn check_installed() -> Result<(), EtcdError> {
    installed("etcd", "etcd-server").map(drop)
}

/// Whether etcd can be started on a node as it was before.
///
/// # Errors
/// When it is not installed, or has lost its folder.
pub fn check_node(folder: &ClusterFolder) -> Result<(), EtcdError> {
    check_installed()?;
    refuse_lost_data(folder)
}

fn installed(program: &'static str, package: &'static str) -> Result<PathBuf, EtcdError> {
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/bin", "/usr/bin", "/bin"].map(PathBuf::from);
    env::split_paths(&path)
        .chain(system)
        .map(|folder| folder.join(program))
        .find(|path| path.is_absolute() && path.is_file())
        .ok_or(EtcdError::NotInstalled { program, package })
}

/// What etcd is told.
fn arguments(folder: &ClusterFolder, facts: &Facts) -> Vec<OsString> {
    let address = &facts.node.address;
    let [listen_clients, listen_peers] = address.etcd_listens();
    let members: Vec<_> = facts
        .nodes
        .iter()
        .map(|node| format!("{}={}", node.name, node.address.etcd_peer_url()))
        .collect();
    let state = if facts.founder { "new" } else { "existing" };
    let texts = [
        ("--name", facts.node.name.to_string()),
        ("--listen-client-urls", listen_clients),
        ("--advertise-client-urls", address.etcd_client_url()),
        ("--listen-peer-urls", listen_peers),
        ("--initial-advertise-peer-urls", address.etcd_peer_url()),
        ("--initial-cluster", members.join(",")),
        ("--initial-cluster-state", state.to_owned()),
        ("--initial-cluster-token", facts.cluster.clone()),
        ("--logger", "zap".to_owned()),
        ("--log-outputs", "stderr".to_owned()),
        ("--quota-backend-bytes", QUOTA.to_string()),
        // What has left the log of commits is compacted by the nodes.
        ("--auto-compaction-retention", "0".to_owned()),
        ("--max-txn-ops", MAX_TXN_OPERATIONS.to_string()),
        ("--snapshot-count", "5000".to_owned()),
    ];
    let files = [
        ("--data-dir", folder.etcd()),
        ("--trusted-ca-file", folder.file("clients-ca.pem")),
        ("--cert-file", folder.file("node.pem")),
        ("--key-file", folder.file("node.key")),
        ("--peer-trusted-ca-file", folder.file("peers-ca.pem")),
        ("--peer-cert-file", folder.file("peer.pem")),
        ("--peer-key-file", folder.file("node.key")),
    ];
    let switches = [
        "--client-cert-auth",
        "--peer-client-cert-auth",
        "--pre-vote",
        "--strict-reconfig-check",
        "--enable-grpc-gateway=false",
    ];
    let mut arguments: Vec<OsString> = switches.map(OsString::from).into();
    for (name, value) in texts {
        arguments.extend([name.into(), value.into()]);
    }
    for (name, path) in files {
        arguments.extend([name.into(), path.into_os_string()]);
    }
    arguments
}

/// What the thread of etcd does.
struct Supervisor {
    shared: Arc<Shared>,
    setpriv: PathBuf,
    program: PathBuf,
    arguments: Vec<OsString>,
    stopped: Receiver<()>,
}

impl Supervisor {
    fn run(self) {
        let mut pause = PAUSE.0;
        loop {
            let begun = Instant::now();
            match self.spawn() {
                Ok(child) => match self.attend(child) {
                    Attended::Stopped => return,
                    Attended::Ended(status) => {
                        let words = self
                            .shared
                            .state()
                            .last_words
                            .iter()
                            .cloned()
                            .collect::<Vec<_>>();
                        warn!(%status, last_words = words.join("; "), "etcd has ended and is started again");
                    }
                },
                Err(error) => error!(%error, "etcd can't be started; it is tried again"),
            }
            if begun.elapsed() > SETTLED {
                pause = PAUSE.0;
            }
            if self.is_told_to_stop(pause) {
                return;
            }
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    fn is_told_to_stop(&self, within: Duration) -> bool {
        !matches!(
            self.stopped.recv_timeout(within),
            Err(RecvTimeoutError::Timeout)
        )
    }

    fn spawn(&self) -> io::Result<Child> {
        let mut command = Command::new(&self.setpriv);
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(&self.program)
            .args(&self.arguments)
            .env_clear()
            // Half the memory for a tenth more of the processor.
            .env("GOGC", "50")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        // A group of its own: what is typed at a terminal is for this program, which ends it in order.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = command.spawn()?;
        let mut state = self.shared.state();
        state.process = Some(child.id());
        state.starts += 1;
        info!(process = child.id(), "etcd is started");
        Ok(child)
    }

    /// Waits until it ends, or has to.
    fn attend(&self, mut child: Child) -> Attended {
        let reader = child.stderr.take().map(|stderr| {
            let shared = Arc::clone(&self.shared);
            thread::spawn(move || read_log(stderr, &shared))
        });
        let attended = loop {
            match child.try_wait() {
                Ok(Some(status)) => break Attended::Ended(status),
                Ok(None) if self.is_told_to_stop(LOOK) => {
                    end(&mut child);
                    break Attended::Stopped;
                }
                Ok(None) => {}
                Err(error) => {
                    error!(%error, "etcd can't be waited for");
                    end(&mut child);
                    break Attended::Stopped;
                }
            }
        };
        self.shared.state().process = None;
        if let Some(reader) = reader {
            // It ends with what it reads.
            let _ = reader.join();
        }
        attended
    }
}

/// How waiting for etcd has ended.
enum Attended {
    /// It was told to.
    Stopped,
    /// By itself.
    Ended(ExitStatus),
}

/// SIGTERM, and SIGKILL when that does not help.
fn end(child: &mut Child) {
    // It may have ended by itself.
    let _ = kill_process(Pid::from_child(child), Signal::TERM);
    let deadline = Instant::now() + END;
    while Instant::now() < deadline {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        thread::park_timeout(LOOK);
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// Takes what etcd says into this program's log.
fn read_log(stderr: ChildStderr, shared: &Shared) {
    let mut lines = BufReader::new(stderr);
    loop {
        let mut line = Vec::new();
        match lines.by_ref().take(MAX_LINE).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => log_line(&String::from_utf8_lossy(&line), shared),
        }
    }
}

/// A line in the form of etcd's log, as far as it is of interest.
#[derive(serde::Deserialize)]
struct Line {
    level: String,
    msg: String,
    #[serde(default)]
    error: Option<String>,
}

fn log_line(text: &str, shared: &Shared) {
    let text = text.trim();
    // What it says without that form, such as how it is used, it says at its end.
    let line = serde_json::from_str(text).unwrap_or_else(|_| Line {
        level: "fatal".to_owned(),
        msg: text.to_owned(),
        error: None,
    });
    if line.msg.is_empty() {
        return;
    }
    let message = match &line.error {
        Some(error) => format!("{}: {error}", line.msg),
        None => line.msg,
    };
    match &*line.level {
        // etcd warns of much that is in order, such as members that are away.
        "debug" | "info" | "warn" => debug!(target: "etcd", "{message}"),
        _ => {
            warn!(target: "etcd", "{message}");
            let mut state = shared.state();
            state.last_words.push_back(message);
            while state.last_words.len() > LAST_WORDS {
                state.last_words.pop_front();
            }
        }
    }
}
