//! QEMU's process, from its start to its end, also beyond the life of the agent that started it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt as _, FdMapping};
use hgs_files::{FileError, FileProblem};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{
    FlockOperation, MemfdFlags, OFlags, fcntl_getfl, fcntl_setfl, flock, memfd_create,
};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::command::{CommandLine, FIRST_DESCRIPTOR, Handed, RuntimeFolder};
use super::qcow2;
pub use super::qcow2::Qcow2Error;
use super::qmp::{Monitor, QmpError};
use crate::description::DiskFormat;
use crate::messages::Messages;

/// The file that a running QEMU holds locked.
const LOCK: &str = "machine.lock";
/// How long a killed process may take to be gone.
const KILLED: Duration = Duration::from_secs(10);

/// How a process is started.
#[derive(Debug, Clone, Copy)]
pub struct Settings<'a> {
    /// Where the sockets are. swtpm listens there already.
    pub runtime: &'a RuntimeFolder,
    /// The user that QEMU runs as; without, this process's own.
    pub user: Option<User>,
    /// When it ends.
    pub lifetime: Lifetime,
    /// How long it may take to answer.
    pub patience: Duration,
}

/// A user without rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// Number of the user.
    pub uid: u32,
    /// Number of its only group. To run guests on the host's processors, it must be the group of `/dev/kvm`.
    pub gid: u32,
}

/// When a process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// Not when the agent does, which adopts it at its next start.
    Own,
    /// When the value that stands for it is dropped.
    Owner,
}

/// Why QEMU does not run, or not end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessError {
    /// The VM runs already.
    #[error("the VM runs already: {} is held by another process", .0.display())]
    Runs(PathBuf),
    /// A file can't be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The disk refers to something that is not its own.
    #[error("{}: {error}", path.display())]
    Disk {
        /// The disk.
        path: PathBuf,
        /// What is wrong with it.
        error: Qcow2Error,
    },
    /// swtpm does not listen.
    #[error("the VM's TPM does not listen at {}: {error}", socket.display())]
    NoTpm {
        /// Where it should.
        socket: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The program can't be started.
    #[error("{} can't be started: {error}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// It ended or did not answer when it was started.
    #[error("QEMU did not start: {error}{}", if said.is_empty() { String::new() } else { format!("; it said: {said}") })]
    DidNotStart {
        /// What was seen of it.
        error: QmpError,
        /// What it wrote.
        said: String,
    },
    /// It runs and does not answer.
    #[error(transparent)]
    Monitor(#[from] QmpError),
    /// It holds the lock, but which process it is can't be seen.
    #[error("{} is held by a process that this user can't see", .0.display())]
    Unseen(PathBuf),
    /// It is not gone after it was killed.
    #[error("QEMU (process {0}) does not end, even when killed")]
    DoesNotEnd(u32),
    /// The system refuses.
    #[error("{0}")]
    System(#[from] io::Error),
}

/// A process of QEMU.
#[derive(Debug)]
pub struct Process {
    id: u32,
    descriptor: OwnedFd,
    /// None if another process started it.
    child: Option<Child>,
    monitor: Monitor,
    socket: PathBuf,
    patience: Duration,
    lifetime: Lifetime,
    messages: Option<Messages>,
}

impl Process {
    /// Starts QEMU and connects to its monitor.
    pub fn start(line: &CommandLine, settings: &Settings<'_>) -> Result<Self, ProcessError> {
        hgs_files::private_folder(settings.runtime.path())?;
        let (lock, path) = open_lock(settings.runtime)?;
        if !take(&lock)? {
            return Err(ProcessError::Runs(path));
        }
        let mut descriptors = Vec::new();
        for handed in &line.handed {
            descriptors.push(open(handed, settings.user.is_some())?);
        }
        // The lock goes with the process: it is free again when the process has ended, and not before.
        descriptors.push(lock.into());
        let socket = settings.runtime.monitor_socket();
        let connection =
            UnixStream::connect(&socket).map_err(|error| FileError::at(&socket, error))?;

        let messages = Messages::new()?;
        let mut command = line.program.command();
        command
            .args(&line.arguments)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(messages.for_child()?)
            .stderr(messages.for_child()?)
            // Not the terminal's: what is typed there is for the agent.
            .process_group(0);
        if let Some(user) = settings.user {
            command.uid(user.uid).gid(user.gid);
        }
        let mappings = (FIRST_DESCRIPTOR as i32..)
            .zip(descriptors)
            .map(|(child_fd, parent_fd)| FdMapping {
                parent_fd,
                child_fd,
            });
        let mapped = command.fd_mappings(mappings.collect());
        mapped.map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let spawned = command.spawn();
        // It holds the descriptors that the child has now.
        drop(command);
        let child = spawned.map_err(|error| ProcessError::Start {
            program: line.program.path.clone(),
            error,
        })?;
        let mut unborn = Unborn(Some(child));
        let id = unborn.id();
        let descriptor = process_descriptor(id)?;
        let monitor = Monitor::over(connection, settings.patience);
        let monitor = monitor.map_err(|error| ProcessError::DidNotStart {
            error,
            said: messages.text("qemu-system-x86_64: "),
        })?;
        Ok(Self {
            id,
            descriptor,
            child: unborn.0.take(),
            monitor,
            socket,
            patience: settings.patience,
            lifetime: settings.lifetime,
            messages: Some(messages),
        })
    }

    /// Finds the process that an agent before this one has started, if it still runs. Which one it is, its open lock tells:
    /// numbers of processes are used again.
    pub fn adopt(settings: &Settings<'_>) -> Result<Option<Self>, ProcessError> {
        if !hgs_files::exists(&settings.runtime.path().join(LOCK))? {
            return Ok(None);
        }
        let (lock, path) = open_lock(settings.runtime)?;
        if take(&lock)? {
            return Ok(None);
        }
        let Some((id, descriptor)) = holder(&lock)? else {
            // It may have ended just now.
            return match take(&lock)? {
                true => Ok(None),
                false => Err(ProcessError::Unseen(path)),
            };
        };
        let socket = settings.runtime.monitor_socket();
        Ok(Some(Self {
            id,
            descriptor,
            child: None,
            monitor: Monitor::connect(&socket, settings.patience)?,
            socket,
            patience: settings.patience,
            lifetime: settings.lifetime,
            messages: None,
        }))
    }

    /// The number of the process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Its monitor, over a new connection if the former is of no use any more: after an answer that did not come in time.
    pub fn monitor(&mut self) -> Result<&mut Monitor, ProcessError> {
        if !self.monitor.is_usable() && !self.wait(Duration::ZERO)? {
            self.monitor.disconnect();
            self.monitor = Monitor::connect(&self.socket, self.patience)?;
        }
        Ok(&mut self.monitor)
    }

    /// What it wrote, if this process started it.
    #[must_use]
    pub fn messages(&self) -> String {
        let messages = self.messages.as_ref();
        messages.map_or_else(String::new, |messages| {
            messages.text("qemu-system-x86_64: ")
        })
    }

    /// Waits for its end; whether it has come.
    pub fn wait(&mut self, within: Duration) -> Result<bool, ProcessError> {
        if !ended_within(&self.descriptor, within)? {
            return Ok(false);
        }
        if let Some(child) = &mut self.child {
            child.wait()?;
        }
        Ok(true)
    }

    /// Ends it as pulling the plug ends a machine: by its monitor, or else by killing it.
    pub fn end(&mut self, within: Duration) -> Result<(), ProcessError> {
        if self.monitor.quit().is_ok() && self.wait(within)? {
            return Ok(());
        }
        self.kill()
    }

    /// Kills it and waits for its end.
    pub fn kill(&mut self) -> Result<(), ProcessError> {
        match pidfd_send_signal(&self.descriptor, Signal::KILL) {
            // It has ended, and was waited for.
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => return Err(io::Error::from(error).into()),
        }
        match self.wait(KILLED)? {
            true => Ok(()),
            false => Err(ProcessError::DoesNotEnd(self.id)),
        }
    }
}

impl AsFd for Process {
    /// A descriptor that can be read when the process has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.lifetime == Lifetime::Owner {
            let _ = self.kill();
        }
    }
}

/// A child that ends if its start is not finished.
struct Unborn(Option<Child>);

impl Unborn {
    fn id(&self) -> u32 {
        self.0.as_ref().map_or(0, Child::id)
    }
}

impl Drop for Unborn {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Whether a process ends in time.
pub(super) fn ended_within(process: &OwnedFd, within: Duration) -> io::Result<bool> {
    let deadline = Instant::now() + within;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&timeout)) {
            Err(Errno::INTR) => {}
            outcome => return Ok(outcome? > 0),
        }
    }
}

pub(super) fn process_descriptor(id: u32) -> io::Result<OwnedFd> {
    let number = i32::try_from(id).ok().and_then(Pid::from_raw);
    let number = number.ok_or(io::ErrorKind::NotFound)?;
    Ok(pidfd_open(number, PidfdFlags::empty())?)
}

fn open_lock(runtime: &RuntimeFolder) -> Result<(File, PathBuf), FileError> {
    let path = runtime.path().join(LOCK);
    Ok((hgs_files::open_private_file(&path)?, path))
}

/// Whether the lock was free; then it is taken.
fn take(lock: &File) -> io::Result<bool> {
    match flock(lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The process, of another program than this one, that has a file open.
fn holder(file: &File) -> io::Result<Option<(u32, OwnedFd)>> {
    let wanted = file.metadata()?;
    let own = fs::read_link("/proc/self/exe")?;
    let has_open = |id: u32| {
        let entries = fs::read_dir(format!("/proc/{id}/fd")).into_iter().flatten();
        let mut files = entries
            .flatten()
            .filter_map(|entry| fs::metadata(entry.path()).ok());
        files.any(|meta| (meta.dev(), meta.ino()) == (wanted.dev(), wanted.ino()))
    };
    for entry in fs::read_dir("/proc")?.flatten() {
        let name = entry.file_name();
        let Some(id) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // A child of this process has all its files open until it runs its own program.
        if fs::read_link(format!("/proc/{id}/exe")).is_ok_and(|program| program == own) {
            continue;
        }
        if !has_open(id) {
            continue;
        }
        // Between the two looks another process could have come to have this number.
        match process_descriptor(id) {
            Ok(descriptor) if has_open(id) => return Ok(Some((id, descriptor))),
            _ => {}
        }
    }
    Ok(None)
}

/// Opens what a process is handed, which may be another user's.
fn open(handed: &Handed, to_other_user: bool) -> Result<OwnedFd, ProcessError> {
    match handed {
        Handed::File(path) => Ok(open_file(path, true)?.into()),
        Handed::Readable(path) => {
            let mut file = open_file(path, false)?;
            if !to_other_user {
                return Ok(file.into());
            }
            // QEMU opens it again by its name among the descriptors, for which that user needs rights to the file itself.
            let copy = memfd_create("readable", MemfdFlags::CLOEXEC);
            let mut copy = File::from(copy.map_err(io::Error::from)?);
            io::copy(&mut file, &mut copy).map_err(|error| FileError::at(path, error))?;
            Ok(copy.into())
        }
        Handed::Disk {
            path,
            format,
            direct,
        } => {
            let file = open_file(path, true)?;
            let at = |error| FileError::at(path, error);
            if *format == DiskFormat::Qcow2 {
                let mut header = [0; qcow2::HEADER];
                let read = file.read_at(&mut header, 0).map_err(at)?;
                qcow2::check(&header[..read]).map_err(|error| ProcessError::Disk {
                    path: path.clone(),
                    error,
                })?;
            }
            if *direct {
                // Not before the header was read, for which there are rules then.
                let flags = fcntl_getfl(&file).map_err(|error| at(error.into()))?;
                fcntl_setfl(&file, flags | OFlags::DIRECT).map_err(|error| at(error.into()))?;
            }
            Ok(file.into())
        }
        Handed::Log(path) => {
            let mut options = OpenOptions::new();
            options.append(true).create(true).mode(0o600);
            let options = options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
            Ok(options
                .open(path)
                .map_err(|error| FileError::at(path, error))?
                .into())
        }
        Handed::Listener(path) => {
            let at = |error| FileError::at(path, error);
            hgs_files::optional(fs::remove_file(path).map_err(at))?;
            let listener = UnixListener::bind(path).map_err(at)?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(at)?;
            Ok(listener.into())
        }
        Handed::Connection(path) => match UnixStream::connect(path) {
            Ok(connection) => Ok(connection.into()),
            Err(error) => Err(ProcessError::NoTpm {
                socket: path.clone(),
                error,
            }),
        },
    }
}

/// Makes an empty disk of so many octets, which must not exist.
///
/// # Errors
/// When the disk refuses.
pub fn create_disk(path: &Path, format: DiskFormat, octets: u64) -> Result<(), FileError> {
    let at = |error| FileError::at(path, error);
    let mut options = OpenOptions::new();
    let disk = options.write(true).create_new(true).mode(0o600).open(path);
    let disk = disk.map_err(at)?;
    match format {
        DiskFormat::Raw => disk.set_len(octets),
        DiskFormat::Qcow2 => disk.write_all_at(&qcow2::empty(octets), 0),
    }
    .map_err(at)
}

/// Whether a disk can be read and written past the host's cache where it lies.
#[must_use]
pub fn takes_direct_io(path: &Path) -> bool {
    let mut options = OpenOptions::new();
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::DIRECT).bits();
    let options = options.read(true).custom_flags(flags.cast_signed());
    options.open(path).is_ok()
}

fn open_file(path: &Path, writable: bool) -> Result<File, FileError> {
    let at = |error: io::Error| FileError::at(path, error);
    let mut options = OpenOptions::new();
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = options.read(true).write(writable).custom_flags(flags);
    let file = file.open(path).map_err(at)?;
    match file.metadata().map_err(at)?.is_file() {
        true => Ok(file),
        false => Err(FileError::at(path, FileProblem::NotA { expected: "file" })),
    }
}
