//! QEMU's monitor protocol (QMP): lines of JSON on a Unix socket. Only the commands that a host needs; none that shows the
//! memory of a guest or runs other commands.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::emulator::{MachineType, Version};

/// Octets of the longest line. Answers to the commands here have some thousands.
const LINE_LIMIT: usize = 256 * 1024;
/// How many events are kept until somebody asks for them; the oldest go first.
const EVENTS_LIMIT: usize = 256;

/// The copy of a disk, and where it goes.
const COPY_JOB: &str = "disk-copy";
const COPY_TARGET: &str = "disk-copy-target";

/// Why QEMU did not do what it was told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QmpError {
    /// Nobody listens at the socket.
    #[error("QEMU does not listen at {}: {error}", socket.display())]
    Absent {
        /// Where it should.
        socket: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The connection broke.
    #[error("the connection to QEMU broke: {0}")]
    Broken(#[from] io::Error),
    /// QEMU has closed the connection: most likely it has ended.
    #[error("QEMU has closed the connection")]
    Closed,
    /// It did not answer in time. The connection is of no use any more.
    #[error("QEMU did not answer within {} s", .0.as_secs_f32())]
    Timeout(Duration),
    /// What it said is not of the protocol.
    #[error("what QEMU said is not its monitor protocol: {0}")]
    Protocol(String),
    /// It refused.
    #[error("QEMU refused `{command}`: {description} ({class})")]
    Refused {
        /// The command.
        command: &'static str,
        /// The class of its error.
        class: String,
        /// Why.
        description: String,
    },
}

/// What a machine does.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RunState {
    /// Its processors run.
    Running,
    /// They were stopped.
    Paused,
    /// They have not run yet.
    Prelaunch,
    /// It waits for a migration to come, or one is coming.
    Incoming,
    /// It has gone to another host.
    Migrated,
    /// It is about to go.
    FinishingMigration,
    /// The guest has powered down.
    Shutdown,
    /// Another state, such as a panic of the guest or an error of its disk.
    Other(String),
}

impl From<&str> for RunState {
    fn from(status: &str) -> Self {
        match status {
            "running" => Self::Running,
            "paused" => Self::Paused,
            "prelaunch" => Self::Prelaunch,
            "inmigrate" => Self::Incoming,
            "postmigrate" => Self::Migrated,
            "finish-migrate" => Self::FinishingMigration,
            "shutdown" => Self::Shutdown,
            other => Self::Other(other.to_owned()),
        }
    }
}

/// Something that happened in QEMU.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its name, such as `SHUTDOWN`, `STOP`, `RESUME`, `MIGRATION`.
    pub name: String,
    /// What belongs to it.
    pub data: Value,
}

/// Where a migration goes, or comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MigrationAddress {
    /// An address of TCP. To listen at port 0 is to let the system choose one.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for MigrationAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(formatter, "tcp:{address}"),
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

/// Which end of TLS a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// The one that listens: the destination.
    Server,
    /// The one that connects: the source.
    Client,
}

/// How a migration proceeds. What is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MigrationParameters<'a> {
    /// The name of TLS credentials that were added.
    pub tls_credentials: Option<&'a str>,
    /// The name that must stand in the destination's certificate.
    pub tls_hostname: Option<&'a str>,
    /// Octets a second.
    pub max_bandwidth: Option<u64>,
    /// How long the machine may stand still at the end.
    pub downtime_limit: Option<Duration>,
}

/// How far a migration is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migration {
    /// Its stage.
    pub status: MigrationStatus,
    /// Octets of memory that were sent, and those that remain.
    pub transferred: u64,
    /// Octets that remain to be sent.
    pub remaining: u64,
    /// Octets of the machine's memory.
    pub total: u64,
    /// How often the memory was gone through. What changed meanwhile goes with the next pass.
    pub passes: u64,
    /// How long the machine stood still, once that is known.
    pub downtime: Option<Duration>,
    /// Why it failed.
    pub error: Option<String>,
    /// Where the destination listens.
    pub listening: Option<SocketAddr>,
}

/// A descriptor that QEMU was given while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GivenDescriptor {
    set: u64,
    number: u64,
}

impl GivenDescriptor {
    /// The name of what it is open on, in QEMU's process: a folder's name is a way past what lies above it.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.number))
    }
}

/// How far the copy of a disk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskCopy {
    /// Octets that were copied.
    pub copied: u64,
    /// Octets to copy, as far as is known: what the guest writes meanwhile is added.
    pub total: u64,
    /// Whether the copy was equal once; since then it follows.
    pub ready: bool,
}

/// The stage of a migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MigrationStatus {
    /// There is none.
    None,
    /// It is under way; the text is QEMU's name of the stage.
    Active(String),
    /// All was sent and, with the return path, received. The source is [`RunState::Migrated`] a moment later, and the
    /// destination has to say itself that it runs.
    Completed,
    /// It failed.
    Failed,
    /// It was cancelled.
    Cancelled,
}

/// A connection to the monitor of one QEMU. It serves one connection at a time.
#[derive(Debug)]
pub struct Monitor {
    stream: UnixStream,
    lines: Lines,
    events: VecDeque<Event>,
    next_id: u64,
    patience: Duration,
    /// After an answer that did not come in time, the next one read would be to another question.
    usable: bool,
}

impl Monitor {
    /// Connects, waits for the greeting, and begins. Every answer must come within `patience`.
    pub fn connect(socket: &Path, patience: Duration) -> Result<Self, QmpError> {
        let stream = UnixStream::connect(socket).map_err(|error| QmpError::Absent {
            socket: socket.to_owned(),
            error,
        })?;
        Self::over(stream, patience)
    }

    /// Begins on a connection.
    pub fn over(stream: UnixStream, patience: Duration) -> Result<Self, QmpError> {
        let mut monitor = Self {
            stream,
            lines: Lines::default(),
            events: VecDeque::new(),
            next_id: 0,
            patience,
            usable: true,
        };
        let deadline = Instant::now() + patience;
        while !matches!(monitor.message(deadline)?, Message::Greeting) {}
        monitor.run("qmp_capabilities", Value::Null)?;
        Ok(monitor)
    }

    /// Whether an answer can still be told from another's.
    pub(super) fn is_usable(&self) -> bool {
        self.usable
    }

    /// Closes the connection, so that QEMU serves the next one.
    pub(super) fn disconnect(&self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// What the machine does.
    pub fn query_status(&mut self) -> Result<RunState, QmpError> {
        let answer = self.run("query-status", Value::Null)?;
        text(&answer, "status").map(RunState::from)
    }

    /// Has the processors run.
    pub fn cont(&mut self) -> Result<(), QmpError> {
        self.run("cont", Value::Null).map(drop)
    }

    /// Stops the processors.
    pub fn stop(&mut self) -> Result<(), QmpError> {
        self.run("stop", Value::Null).map(drop)
    }

    /// Tells the guest to power down. It may take its time, or not listen.
    pub fn system_powerdown(&mut self) -> Result<(), QmpError> {
        self.run("system_powerdown", Value::Null).map(drop)
    }

    /// Ends QEMU, as pulling the plug ends a machine.
    pub fn quit(&mut self) -> Result<(), QmpError> {
        match self.run("quit", Value::Null) {
            // It may end before its answer is read.
            Err(QmpError::Closed | QmpError::Broken(_)) => Ok(()),
            outcome => outcome.map(drop),
        }
    }

    /// Sets what every migration needs, on both sides: events, and the return path, without which a source takes a migration
    /// for complete whose destination has died.
    pub fn prepare_migration(&mut self) -> Result<(), QmpError> {
        self.set_capabilities(&["events", "return-path"])
    }

    /// As [`Self::prepare_migration`] for a source: it stands still before the last of its state goes, until
    /// [`Self::migrate_continue`]; and a guest that changes its memory faster than it can be sent is slowed down.
    pub fn prepare_outgoing(&mut self) -> Result<(), QmpError> {
        self.prepare_migration()?;
        self.set_capabilities(&["pause-before-switchover", "auto-converge"])
    }

    /// As [`Self::prepare_migration`] for a destination: its disk is not its own before it is told to run.
    pub fn prepare_incoming(&mut self) -> Result<(), QmpError> {
        self.prepare_migration()?;
        self.set_capabilities(&["late-block-activate"])
    }

    fn set_capabilities(&mut self, names: &[&str]) -> Result<(), QmpError> {
        let on = |name: &&str| json!({"capability": name, "state": true});
        let capabilities: Vec<_> = names.iter().map(on).collect();
        let arguments = json!({"capabilities": capabilities});
        self.run("migrate-set-capabilities", arguments).map(drop)
    }

    /// The board that the machine has.
    pub fn machine_type(&mut self) -> Result<MachineType, QmpError> {
        let property = json!({"path": "/machine", "property": "type"});
        let answer = self.run("qom-get", property)?;
        let machine = answer
            .as_str()
            .and_then(|text| text.strip_suffix("-machine"));
        machine
            .and_then(|machine| machine.parse().ok())
            .ok_or_else(|| QmpError::Protocol(format!("{answer} is no machine that is known")))
    }

    /// The version of this QEMU.
    pub fn version(&mut self) -> Result<Version, QmpError> {
        let answer = self.run("query-version", Value::Null)?;
        let number = |name: &str| {
            let number = answer.get("qemu")?.get(name)?.as_u64()?;
            u32::try_from(number).ok()
        };
        let version = number("major").zip(number("minor")).zip(number("micro"));
        let ((major, minor), micro) =
            version.ok_or_else(|| QmpError::Protocol(format!("{answer} is no version of QEMU")))?;
        Ok(Version {
            major,
            minor,
            micro,
        })
    }

    /// Whether the guest runs on the host's processors.
    pub fn is_accelerated(&mut self) -> Result<bool, QmpError> {
        let answer = self.run("query-kvm", Value::Null)?;
        let enabled = answer.get("enabled").and_then(Value::as_bool);
        enabled.ok_or_else(|| QmpError::Protocol(format!("{answer} does not say")))
    }

    /// Gives QEMU an open descriptor.
    pub fn add_descriptor(
        &mut self,
        descriptor: BorrowedFd<'_>,
    ) -> Result<GivenDescriptor, QmpError> {
        let answer = self.run_with("add-fd", Value::Null, Some(descriptor))?;
        let number = |name: &str| answer.get(name).and_then(Value::as_u64);
        match (number("fdset-id"), number("fd")) {
            (Some(set), Some(number)) => Ok(GivenDescriptor { set, number }),
            _ => Err(QmpError::Protocol(format!("{answer} is no descriptor"))),
        }
    }

    /// Closes a descriptor again.
    pub fn remove_descriptor(&mut self, given: GivenDescriptor) -> Result<(), QmpError> {
        let arguments = json!({"fdset-id": given.set});
        self.run("remove-fd", arguments).map(drop)
    }

    /// Octets that the guest sees of its disk, if it has one.
    pub fn disk_size(&mut self) -> Result<Option<u64>, QmpError> {
        let answer = self.run("query-named-block-nodes", json!({"flat": true}))?;
        let nodes = answer.as_array().into_iter().flatten();
        let is_disk = |node: &&Value| node.get("node-name").and_then(Value::as_str) == Some("disk");
        let Some(disk) = nodes.into_iter().find(is_disk) else {
            return Ok(None);
        };
        let size = disk
            .get("image")
            .and_then(|image| image.get("virtual-size"));
        let size = size.and_then(Value::as_u64);
        size.map(Some)
            .ok_or_else(|| QmpError::Protocol("the disk has no size".to_owned()))
    }

    /// Lets another QEMU write the disk of a machine that does not run yet, at a Unix socket and under TLS.
    pub fn export_disk(&mut self, socket: &Path, credentials: &str) -> Result<(), QmpError> {
        let address = json!({"type": "unix", "data": {"path": text_of(socket)?}});
        let server = json!({"addr": address, "tls-creds": credentials, "max-connections": 1});
        self.run("nbd-server-start", server)?;
        let export = json!({
            "type": "nbd", "id": "disk-export", "node-name": "disk", "name": "disk", "writable": true,
        });
        self.run("block-export-add", export).map(drop)
    }

    /// Ends what [`Self::export_disk`] began.
    pub fn end_export(&mut self) -> Result<(), QmpError> {
        self.run("nbd-server-stop", Value::Null).map(drop)
    }

    /// Begins to copy the disk to where another QEMU exports it. Once the copy is ready, what the guest writes follows soon.
    pub fn copy_disk(
        &mut self,
        socket: &Path,
        credentials: &str,
        hostname: &str,
    ) -> Result<(), QmpError> {
        let target = json!({
            "driver": "nbd",
            "node-name": COPY_TARGET,
            "server": {"type": "unix", "path": text_of(socket)?},
            "export": "disk",
            "tls-creds": credentials,
            "tls-hostname": hostname,
        });
        self.run("blockdev-add", target)?;
        let job = json!({
            "job-id": COPY_JOB,
            "device": "disk",
            "target": COPY_TARGET,
            "sync": "full",
            // With copy-mode write-blocking, QEMU 7.2 damages its memory when the connection breaks.
            "copy-mode": "background",
            "on-target-error": "report",
        });
        self.run("blockdev-mirror", job).map(drop)
    }

    /// How far the copy of the disk is; `None` when it has ended, one way or the other.
    pub fn disk_copy(&mut self) -> Result<Option<DiskCopy>, QmpError> {
        let answer = self.run("query-block-jobs", Value::Null)?;
        let jobs = answer.as_array().into_iter().flatten();
        let is_copy = |job: &&Value| job.get("device").and_then(Value::as_str) == Some(COPY_JOB);
        let Some(job) = jobs.into_iter().find(is_copy) else {
            return Ok(None);
        };
        let number = |name: &str| job.get(name).and_then(Value::as_u64).unwrap_or(0);
        Ok(Some(DiskCopy {
            copied: number("offset"),
            total: number("len"),
            ready: job.get("ready").and_then(Value::as_bool).unwrap_or(false),
        }))
    }

    /// Ends the copy of the disk: what is equal then stays, and the guest keeps the disk that it has. With `force` it ends as it is.
    pub fn end_disk_copy(&mut self, force: bool) -> Result<(), QmpError> {
        let arguments = json!({"device": COPY_JOB, "force": force});
        self.run("block-job-cancel", arguments).map(drop)
    }

    /// Lets go of where the disk was copied to.
    pub fn remove_copy_target(&mut self) -> Result<(), QmpError> {
        let arguments = json!({"node-name": COPY_TARGET});
        self.run("blockdev-del", arguments).map(drop)
    }

    /// Has a source that stands still send the last of its state.
    pub fn migrate_continue(&mut self) -> Result<(), QmpError> {
        let arguments = json!({"state": "pre-switchover"});
        self.run("migrate-continue", arguments).map(drop)
    }

    /// Sets how a migration proceeds.
    pub fn set_migration_parameters(
        &mut self,
        parameters: &MigrationParameters<'_>,
    ) -> Result<(), QmpError> {
        let mut arguments = Map::new();
        if let Some(credentials) = parameters.tls_credentials {
            arguments.insert("tls-creds".to_owned(), credentials.into());
        }
        if let Some(hostname) = parameters.tls_hostname {
            arguments.insert("tls-hostname".to_owned(), hostname.into());
        }
        if let Some(bandwidth) = parameters.max_bandwidth {
            arguments.insert("max-bandwidth".to_owned(), bandwidth.into());
        }
        if let Some(limit) = parameters.downtime_limit {
            let milliseconds = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
            arguments.insert("downtime-limit".to_owned(), milliseconds.into());
        }
        let arguments = Value::Object(arguments);
        self.run("migrate-set-parameters", arguments).map(drop)
    }

    /// Adds X.509 credentials for TLS from a folder with `ca-cert.pem`, and certificate and key of this end
    /// (`server-cert.pem`, `server-key.pem`, or `client-`). The other end must have a certificate of that CA.
    pub fn add_tls_credentials(
        &mut self,
        id: &str,
        folder: &Path,
        endpoint: Endpoint,
    ) -> Result<(), QmpError> {
        let endpoint = match endpoint {
            Endpoint::Server => "server",
            Endpoint::Client => "client",
        };
        let arguments = json!({
            "qom-type": "tls-creds-x509",
            "id": id,
            "dir": text_of(folder)?,
            "endpoint": endpoint,
            "verify-peer": true,
        });
        self.run("object-add", arguments).map(drop)
    }

    /// Removes credentials, so that others can have their name.
    pub fn remove_tls_credentials(&mut self, id: &str) -> Result<(), QmpError> {
        self.run("object-del", json!({"id": id})).map(drop)
    }

    /// Listens for a migration, in a QEMU that was started to wait for one. [`Self::query_migrate`] tells where.
    pub fn migrate_incoming(&mut self, address: &MigrationAddress) -> Result<(), QmpError> {
        let uri = json!({"uri": address.to_string()});
        self.run("migrate-incoming", uri).map(drop)
    }

    /// Begins to send the machine.
    pub fn migrate(&mut self, address: &MigrationAddress) -> Result<(), QmpError> {
        let uri = json!({"uri": address.to_string()});
        self.run("migrate", uri).map(drop)
    }

    /// How far a migration is.
    pub fn query_migrate(&mut self) -> Result<Migration, QmpError> {
        let answer = self.run("query-migrate", Value::Null)?;
        Migration::read(&answer)
    }

    /// Cancels a migration: the machine goes on here.
    pub fn migrate_cancel(&mut self) -> Result<(), QmpError> {
        self.run("migrate_cancel", Value::Null).map(drop)
    }

    /// The next event, if one comes in time.
    pub fn next_event(&mut self, within: Duration) -> Result<Option<Event>, QmpError> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            // What has come of a line stays, so this time-out harms nothing.
            match self.message_unless_late(deadline)? {
                Some(message) => self.expect_event(message)?,
                None => return Ok(None),
            }
        }
    }

    fn expect_event(&mut self, message: Message) -> Result<(), QmpError> {
        match message {
            Message::Event(event) => {
                if self.events.len() == EVENTS_LIMIT {
                    self.events.pop_front();
                }
                self.events.push_back(event);
                Ok(())
            }
            _ => Err(self.broken("an answer to no question")),
        }
    }

    fn broken(&mut self, why: &str) -> QmpError {
        self.usable = false;
        QmpError::Protocol(why.to_owned())
    }

    fn failed(&mut self, error: io::Error) -> QmpError {
        self.usable = false;
        match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => QmpError::Closed,
            _ => error.into(),
        }
    }

    fn run(&mut self, command: &'static str, arguments: Value) -> Result<Value, QmpError> {
        self.run_with(command, arguments, None)
    }

    fn run_with(
        &mut self,
        command: &'static str,
        arguments: Value,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<Value, QmpError> {
        if !self.usable {
            return Err(QmpError::Closed);
        }
        let deadline = Instant::now() + self.patience;
        self.next_id += 1;
        let mut request = json!({"execute": command, "id": self.next_id});
        if !arguments.is_null() {
            request["arguments"] = arguments;
        }
        let mut line = request.to_string().into_bytes();
        line.push(b'\n');
        self.stream.set_write_timeout(Some(self.patience))?;
        let mut rest = &line[..];
        if let Some(descriptor) = descriptor {
            let sent = send_with(&self.stream, rest, descriptor);
            rest = &rest[sent.map_err(|error| self.failed(error))?..];
        }
        let written = self.stream.write_all(rest);
        written.map_err(|error| self.failed(error))?;
        loop {
            let message = self.message(deadline)?;
            match message {
                Message::Return { id, value } if id == Some(self.next_id) => return Ok(value),
                Message::Error { id, refusal } if id == Some(self.next_id) => {
                    return Err(QmpError::Refused {
                        command,
                        class: refusal.class,
                        description: refusal.desc,
                    });
                }
                other => self.expect_event(other)?,
            }
        }
    }

    fn message(&mut self, deadline: Instant) -> Result<Message, QmpError> {
        let message = self.message_unless_late(deadline)?;
        message.ok_or_else(|| {
            self.usable = false;
            QmpError::Timeout(self.patience)
        })
    }

    fn message_unless_late(&mut self, deadline: Instant) -> Result<Option<Message>, QmpError> {
        loop {
            let line = self.lines.take().inspect_err(|_| self.usable = false)?;
            if let Some(line) = line {
                let message = Message::read(&line).inspect_err(|_| self.usable = false)?;
                return Ok(Some(message));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.stream.set_read_timeout(Some(left))?;
            let mut octets = [0; 4096];
            match self.stream.read(&mut octets) {
                Ok(0) => {
                    self.usable = false;
                    return Err(QmpError::Closed);
                }
                Ok(count) => self.lines.add(&octets[..count]),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock
                    | io::ErrorKind::TimedOut
                    | io::ErrorKind::Interrupted => {}
                    _ => return Err(self.failed(error)),
                },
            }
        }
    }
}

/// What has come, cut into lines.
#[derive(Debug, Default)]
struct Lines {
    pending: VecDeque<u8>,
    /// Octets in which no end of a line was found.
    searched: usize,
}

impl Lines {
    fn add(&mut self, octets: &[u8]) {
        self.pending.extend(octets);
    }

    /// The next whole line without its end.
    fn take(&mut self) -> Result<Option<Vec<u8>>, QmpError> {
        let end = self
            .pending
            .iter()
            .skip(self.searched)
            .position(|octet| *octet == b'\n');
        match end.map(|end| end + self.searched) {
            Some(end) if end <= LINE_LIMIT => {
                self.searched = 0;
                let mut line: Vec<u8> = self.pending.drain(..=end).collect();
                line.pop();
                Ok(Some(line))
            }
            None if self.pending.len() <= LINE_LIMIT => {
                self.searched = self.pending.len();
                Ok(None)
            }
            _ => Err(QmpError::Protocol(format!(
                "a line of more than {LINE_LIMIT} octets"
            ))),
        }
    }
}

/// A message of QEMU.
#[derive(Debug, PartialEq)]
enum Message {
    Greeting,
    Return { id: Option<u64>, value: Value },
    Error { id: Option<u64>, refusal: Refusal },
    Event(Event),
}

#[derive(Debug, PartialEq, Deserialize)]
struct Refusal {
    class: String,
    desc: String,
}

#[derive(Deserialize)]
struct Members {
    #[serde(rename = "QMP")]
    greeting: Option<Map<String, Value>>,
    #[serde(rename = "return", default, deserialize_with = "present")]
    value: Option<Value>,
    error: Option<Refusal>,
    event: Option<String>,
    #[serde(default)]
    data: Value,
    id: Option<u64>,
}

/// A member that is there, be it `null`.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl Message {
    fn read(line: &[u8]) -> Result<Self, QmpError> {
        let members: Members =
            serde_json::from_slice(line).map_err(|error| QmpError::Protocol(error.to_string()))?;
        let id = members.id;
        let message = match (
            members.greeting,
            members.value,
            members.error,
            members.event,
        ) {
            (Some(_), None, None, None) => Self::Greeting,
            (None, Some(value), None, None) => Self::Return { id, value },
            (None, None, Some(refusal), None) => Self::Error { id, refusal },
            (None, None, None, Some(name)) => Self::Event(Event {
                name,
                data: members.data,
            }),
            _ => {
                let why = "a message is one of greeting, return, error and event";
                return Err(QmpError::Protocol(why.to_owned()));
            }
        };
        Ok(message)
    }
}

impl Migration {
    fn read(answer: &Value) -> Result<Self, QmpError> {
        let number = |value: &Value, name: &str| value.get(name).and_then(Value::as_u64);
        let status = match answer.get("status") {
            None => MigrationStatus::None,
            Some(_) => match text(answer, "status")? {
                "none" => MigrationStatus::None,
                "completed" => MigrationStatus::Completed,
                "failed" => MigrationStatus::Failed,
                "cancelled" => MigrationStatus::Cancelled,
                other => MigrationStatus::Active(other.to_owned()),
            },
        };
        let memory = answer.get("ram").unwrap_or(&Value::Null);
        let sockets = answer.get("socket-address").and_then(Value::as_array);
        let listening = sockets.into_iter().flatten().find_map(|socket| {
            let part = |name| socket.get(name)?.as_str();
            let port = part("port")?.parse().ok()?;
            Some(SocketAddr::new(part("host")?.parse().ok()?, port))
        });
        Ok(Self {
            status,
            transferred: number(memory, "transferred").unwrap_or(0),
            remaining: number(memory, "remaining").unwrap_or(0),
            total: number(memory, "total").unwrap_or(0),
            passes: number(memory, "dirty-sync-count").unwrap_or(0),
            downtime: number(answer, "downtime").map(Duration::from_millis),
            error: answer
                .get("error-desc")
                .and_then(Value::as_str)
                .map(str::to_owned),
            listening,
        })
    }
}

/// Sends octets, and with the first of them a descriptor; how many were sent.
fn send_with(stream: &UnixStream, octets: &[u8], descriptor: BorrowedFd<'_>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor];
    if !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let parts = [io::IoSlice::new(octets)];
    Ok(sendmsg(
        stream,
        &parts,
        &mut ancillary,
        SendFlags::NOSIGNAL,
    )?)
}

fn text_of(path: &Path) -> Result<&str, QmpError> {
    path.to_str()
        .ok_or_else(|| QmpError::Protocol(format!("{} is not UTF-8", path.display())))
}

fn text<'a>(answer: &'a Value, name: &str) -> Result<&'a str, QmpError> {
    let value = answer.get(name).and_then(Value::as_str);
    value.ok_or_else(|| QmpError::Protocol(format!("the answer has no text `{name}`")))
}

/// The body of a fuzz target: any octets may come from a process that a guest has taken over.
///
/// # Panics
///
/// If what is kept of lines grows beyond its limit.
pub fn fuzz_qmp_message(data: &[u8]) {
    let mut lines = Lines::default();
    for piece in data.chunks(7) {
        lines.add(piece);
        loop {
            match lines.take() {
                Ok(Some(line)) => {
                    if let Ok(Message::Return { value, .. }) = Message::read(&line) {
                        let _ = Migration::read(&value);
                    }
                }
                Ok(None) => break,
                Err(_) => return,
            }
        }
        assert!(lines.pending.len() <= LINE_LIMIT, "a line is bounded");
    }
}

#[cfg(test)]
mod tests;
