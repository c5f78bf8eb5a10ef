use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt as _, FdMapping};
use hgs_crypto::SecretBytes;
use hgs_custody_tpm::control::{Control, ControlError, StateKind, StoredVolatileState, TpmResult};
use hgs_custody_tpm::{Device, Tpm, TpmError};
use hgs_files::FileError;

use super::error::SwtpmError;
use super::key::StateKey;
use crate::messages::Messages;
use crate::program::Program;

/// The file of a TPM's permanent state in its folder.
pub const PERMANENT_STATE: &str = "tpm2-00.permall";
/// The file of a TPM's volatile state. Where it lies, the next start resumes it, with PCRs of an earlier boot.
pub const VOLATILE_STATE: &str = "tpm2-00.volatilestate";
/// The permanent state while it is written. What a killed process leaves of it is never read.
pub const TEMPORARY_STATE: &str = "TMP2-00.permall";

/// How long swtpm may take to listen at a socket, and to end.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the lock of a state may be held: the swtpm of a process that was killed ends when its channel closes, which is
/// a moment later.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);
const WAIT: Duration = Duration::from_millis(1);

// The file descriptors of the child; 0 to 2 are the standard ones.
const CONTROL: i32 = 3;
const STATE_KEY: i32 = 4;
const MIGRATION_KEY: i32 = 5;
const DATA: i32 = 6;

/// What is in the folder of a TPM that is started. It decides what may follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contents {
    /// A state. Without its file the TPM is not started.
    Kept,
    /// Nothing yet; [`Swtpm::set_permanent_state`], or the hypervisor at the end of a migration, brings a state.
    Incoming,
    /// Nothing, and a new TPM is to be made there.
    New,
}

/// Who speaks to the TPM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channels<'a> {
    /// This process alone, over sockets without a name. swtpm ends when this process does.
    Private,
    /// A hypervisor: at this socket (mode 0600) it finds the control channel, over which it opens the data channel. swtpm
    /// ends when the data channel is closed.
    Hypervisor(&'a Path),
    /// Programs that speak to a TPM: at this socket (mode 0600) they find it, and its control channel at the same path with
    /// `.ctrl`, as the tools of the TPM 2.0 software stack want it. The control channel has to be handed over.
    Programs(&'a Path),
}

/// How swtpm is started.
#[derive(Debug, Clone, Copy)]
pub struct Settings<'a> {
    /// swtpm.
    pub program: &'a Program,
    /// The folder of the state.
    pub folder: &'a Path,
    /// What is in it.
    pub contents: Contents,
    /// The key of the files in it.
    pub key: &'a StateKey,
    /// The key of state that leaves or enters through the control channel.
    pub migration_key: Option<&'a StateKey>,
    /// Who speaks to the TPM.
    pub channels: Channels<'a>,
}

/// A process of swtpm with the state of one TPM. It is killed when this is dropped, unless it was [left](Self::leave).
#[derive(Debug)]
pub struct Swtpm {
    child: Child,
    folder: PathBuf,
    contents: Contents,
    messages: Messages,
    control: Option<Control>,
    data: Option<UnixStream>,
    socket: Option<PathBuf>,
    state: Received,
}

/// Whether a state came over the control channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Received {
    Nothing,
    State,
    Refused,
}

impl Swtpm {
    /// Starts the process. The TPM itself starts with [`Self::initialise`], or when a hypervisor starts it. What a crash
    /// left is removed first: a volatile state and a permanent one that was not finished.
    ///
    /// # Errors
    /// When swtpm is not installed, or the folder is not as `contents` says.
    pub fn start(settings: &Settings<'_>) -> Result<Self, SwtpmError> {
        let folder = settings.folder;
        check_contents(folder, settings.contents)?;
        for leftover in [VOLATILE_STATE, TEMPORARY_STATE] {
            hgs_files::optional(hgs_files::remove(&folder.join(leftover)))?;
        }
        let messages = Messages::new().map_err(SwtpmError::Start)?;
        let (mut command, ours) = command(settings, &messages)?;
        let child = command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => SwtpmError::NotInstalled,
            _ => SwtpmError::Start(error),
        })?;
        // It holds the descriptors that the child has now: without this, the end of a channel would not be seen.
        drop(command);
        let mut swtpm = Self {
            child,
            folder: folder.to_owned(),
            contents: settings.contents,
            messages,
            control: None,
            data: ours.data,
            socket: ours.socket,
            state: Received::Nothing,
        };
        swtpm.control = match ours.control {
            Some(control) => {
                let control = Control::over(control);
                Some(control.map_err(|error| swtpm.failed(error))?)
            }
            None => Some(swtpm.connect()?),
        };
        swtpm.check_keys(settings.migration_key.is_some())?;
        Ok(swtpm)
    }

    /// The number of the process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What swtpm said so far; no secrets are among it.
    #[must_use]
    pub fn messages(&self) -> String {
        self.messages.text("swtpm: ")
    }

    /// Gives the control channel up, so that a hypervisor can have it: swtpm serves one connection.
    pub fn hand_over(&mut self) {
        self.control = None;
    }

    /// Starts the TPM as at power-on.
    ///
    /// # Errors
    /// When the state is missing, or under another key, or in use.
    pub fn initialise(&mut self) -> Result<(), SwtpmError> {
        match (self.contents, self.state) {
            (_, Received::Refused) => return Err(SwtpmError::StateRefused),
            (Contents::Kept | Contents::Incoming, Received::Nothing) => {
                check_contents(&self.folder, Contents::Kept)?;
            }
            _ => {}
        }
        let begun = Instant::now();
        let started = loop {
            let started = self.channel()?.initialise(StoredVolatileState::Delete);
            let in_use = |error: &ControlError| error.result() == Some(TpmResult::FAIL);
            if !started.as_ref().is_err_and(in_use) || begun.elapsed() > LOCK_PATIENCE {
                break started;
            }
            thread::sleep(WAIT);
        };
        started.map_err(|error| SwtpmError::of_start(error, self.folder.clone(), self.messages()))
    }

    /// The permanent state of a started TPM, under the migration key.
    ///
    /// # Errors
    /// When the TPM is not started.
    pub fn permanent_state(&mut self) -> Result<SecretBytes, SwtpmError> {
        let state = self.channel()?.state(StateKind::Permanent);
        state.map_err(|error| self.failed(error))
    }

    /// Gives a TPM that is not started its permanent state, which [`Self::initialise`] writes. After a refusal the process
    /// is killed: started, it would make an empty TPM.
    ///
    /// # Errors
    /// When the state is not under the migration key, or the folder has a state.
    pub fn set_permanent_state(&mut self, state: &SecretBytes) -> Result<(), SwtpmError> {
        if self.contents != Contents::Incoming {
            return Err(SwtpmError::StateExists(self.folder.clone()));
        }
        match self.channel()?.set_state(StateKind::Permanent, state) {
            Ok(()) => {
                self.state = Received::State;
                Ok(())
            }
            Err(error) => {
                let error = self.failed(error);
                self.state = Received::Refused;
                self.kill();
                Err(error)
            }
        }
    }

    /// Opens the TPM of private channels for commands. It wants TPM2_Startup first.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn open(&self) -> Result<Tpm, TpmError> {
        let device = Device::UnixSocket(self.folder.clone());
        let connection = match &self.data {
            Some(data) => data.try_clone(),
            None => Err(io::Error::from(io::ErrorKind::NotConnected)),
        };
        match connection {
            Ok(connection) => Tpm::over(device, connection),
            Err(error) => Err(TpmError::Absent { device, error }),
        }
    }

    /// Ends the process and waits for its end, after which its files are whole and its lock is free.
    ///
    /// # Errors
    /// When it does not answer, or does not end: then it is killed.
    pub fn shut_down(mut self) -> Result<(), SwtpmError> {
        let told = self.channel()?.shut_down();
        told.map_err(|error| self.failed(error))?;
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            match self.has_ended() {
                true => return Ok(()),
                false => thread::sleep(WAIT),
            }
        }
        Err(SwtpmError::DoesNotEnd)
    }

    /// Leaves the process to the hypervisor, with which it ends, also if this process ends first. What is returned ends when it
    /// has.
    #[must_use]
    pub fn leave(mut self) -> thread::JoinHandle<()> {
        self.hand_over();
        thread::spawn(move || {
            let _ = self.child.wait();
        })
    }

    /// How the process ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    fn has_ended(&mut self) -> bool {
        self.ended().is_some()
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn channel(&mut self) -> Result<&mut Control, SwtpmError> {
        if self.control.is_none() {
            self.control = Some(self.connect()?);
        }
        match &mut self.control {
            Some(control) => Ok(control),
            None => Err(SwtpmError::DoesNotListen {
                said: String::new(),
            }),
        }
    }

    /// Opens the control channel at its socket, which appears some milliseconds after the start.
    fn connect(&mut self) -> Result<Control, SwtpmError> {
        let begun = Instant::now();
        while let Some(socket) = &self.socket {
            if let Ok(control) = Control::connect(socket) {
                return Ok(control);
            }
            if self.has_ended() || begun.elapsed() > PATIENCE {
                break;
            }
            thread::sleep(WAIT);
        }
        let said = self.messages();
        Err(SwtpmError::DoesNotListen { said })
    }

    /// A process without a key would keep the state in clear, and one without a migration key give it away in clear.
    fn check_keys(&mut self, migration: bool) -> Result<(), SwtpmError> {
        let configuration = self.channel()?.configuration();
        let configuration = configuration.map_err(|error| self.failed(error))?;
        let missing = match (configuration.state_key, configuration.migration_key) {
            (false, _) => "the key of the state",
            (true, false) if migration => "the migration key",
            _ => return Ok(()),
        };
        Err(SwtpmError::KeyMissing { missing })
    }

    fn failed(&self, error: ControlError) -> SwtpmError {
        SwtpmError::Control {
            error,
            said: self.messages(),
        }
    }
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        if !self.has_ended() {
            self.kill();
        }
        if let Some(socket) = &self.socket {
            let _ = fs::remove_file(socket);
        }
    }
}

fn check_contents(folder: &Path, contents: Contents) -> Result<(), SwtpmError> {
    match (contents, hgs_files::exists(&folder.join(PERMANENT_STATE))?) {
        (Contents::Kept, false) => Err(SwtpmError::NoState(folder.to_owned())),
        (Contents::Incoming | Contents::New, true) => {
            Err(SwtpmError::StateExists(folder.to_owned()))
        }
        _ => Ok(()),
    }
}

/// This process's ends of the channels.
struct Ours {
    control: Option<UnixStream>,
    data: Option<UnixStream>,
    socket: Option<PathBuf>,
}

/// The command of swtpm. Keys go by pipes, which it alone inherits.
fn command(settings: &Settings<'_>, messages: &Messages) -> Result<(Command, Ours), SwtpmError> {
    let mut command = settings.program.command();
    command.args(["socket", "--tpm2", "--tpmstate"]);
    command.arg(format!("dir={},mode=0600", option(settings.folder)?));
    let mut descriptors = Vec::new();
    let mut ours = Ours {
        control: None,
        data: None,
        socket: None,
    };
    match settings.channels {
        Channels::Private => {
            let (control, theirs) = UnixStream::pair().map_err(SwtpmError::Start)?;
            let (data, their_data) = UnixStream::pair().map_err(SwtpmError::Start)?;
            descriptors.extend([(CONTROL, theirs.into()), (DATA, their_data.into())]);
            command.args(["--ctrl", &format!("type=unixio,clientfd={CONTROL}")]);
            // So that it ends when this process does, whichever way.
            command.args(["--fd", &DATA.to_string()]);
            ours.control = Some(control);
            ours.data = Some(data);
        }
        Channels::Hypervisor(socket) => {
            hgs_files::optional(
                fs::remove_file(socket).map_err(|error| FileError::at(socket, error)),
            )?;
            let control = format!("type=unixio,path={},mode=0600", option(socket)?);
            command.args(["--ctrl", &control, "--terminate"]);
            ours.socket = Some(socket.to_owned());
        }
        Channels::Programs(socket) => {
            let socket = option(socket)?;
            let control = format!("{socket}.ctrl");
            command.args(["--server", &format!("type=unixio,path={socket},mode=0600")]);
            command.args(["--ctrl", &format!("type=unixio,path={control},mode=0600")]);
            ours.socket = Some(control.into());
        }
    }
    let keys = [
        ("--key", STATE_KEY, Some(settings.key)),
        ("--migration-key", MIGRATION_KEY, settings.migration_key),
    ];
    for (name, descriptor, key) in keys {
        if let Some(key) = key {
            let value = format!("fd={descriptor},mode=aes-256-cbc,format=binary");
            command.args([name, &value]);
            descriptors.push((descriptor, key.in_pipe().map_err(SwtpmError::Start)?));
        }
    }
    let error = messages.for_child().map_err(SwtpmError::Start)?;
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(error)
        // Not the terminal's: what is typed there is for the agent.
        .process_group(0);
    let mapping = |(child_fd, parent_fd): (i32, OwnedFd)| FdMapping {
        parent_fd,
        child_fd,
    };
    let mapped = command.fd_mappings(descriptors.into_iter().map(mapping).collect());
    mapped.map_err(|_| SwtpmError::Start(io::Error::from(io::ErrorKind::InvalidInput)))?;
    Ok((command, ours))
}

/// A path as it stands in an option.
fn option(path: &Path) -> Result<String, SwtpmError> {
    match path.to_str() {
        Some(text) if !text.contains(',') => Ok(text.to_owned()),
        _ => Err(SwtpmError::Comma(path.to_owned())),
    }
}
