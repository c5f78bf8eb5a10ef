//! A VM that libvirt runs: QEMU is libvirt's, the TPM is the agent's.
//!
//! ```text
//!  libvirt: prepare ── hook ──▶ Machine::hold_tpm   keys, policy of the owner, swtpm at a socket for libvirt's QEMU
//!  libvirt: QEMU starts, connects, runs, ends ────▶ swtpm ends ──▶ another key for the state
//!  libvirt: release ── hook ──▶ Machine::let_tpm_go  ends an swtpm that QEMU never connected to
//! ```

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use hgs_client::Fault;
use hgs_files::{FileError, SOCKET_PATH_LIMIT};
use hgs_vm::description::{Description, UnhealthyHost};
use hgs_vm::generation::{Generation, StagedGeneration, StateFolder};
use hgs_vm::libvirt::{Definition, Domain, HostPrograms};
use hgs_vm::program::Program;
use hgs_vm::protection::Protection;
use hgs_vm::qemu::Emulator;
use hgs_vm::swtpm::{Contents, StateKey};
use hgs_vm::synchroniser::Synchroniser;
use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use rustix::process::{
    Flock, FlockType, PidfdFlags, Signal, fcntl_getlk, pidfd_open, pidfd_send_signal,
};
use tokio::sync::watch;

use super::keys::Keys;
use super::running::{self, Prepared, StartedTpm, TpmState};
use super::{Machine, Surroundings, WantedState, stop_records};
use crate::failure::blocking;
use crate::folders::AgentFolders;
use crate::progress::Progress;
use crate::wire::{AgentFailure, Health, MachineState};

/// How long swtpm may take to notice that QEMU has ended.
const GRACE: Duration = Duration::from_secs(2);

/// The TPM of a VM that libvirt runs.
pub(super) struct Held {
    process: Arc<OwnedFd>,
    end: watch::Receiver<bool>,
    socket: PathBuf,
    state: StateFolder,
    /// Until swtpm has ended.
    synchroniser: Synchroniser,
    unhealthy_host: UnhealthyHost,
}

impl AgentFolders {
    /// Where libvirt's QEMU finds the TPM of a VM.
    pub(crate) fn tpm_socket(&self, id: &str) -> PathBuf {
        self.libvirt().join(id).join("tpm.sock")
    }
}

impl Machine {
    pub(super) fn lock_held(&self) -> MutexGuard<'_, Option<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses what the agent can't do to a VM that libvirt runs.
    pub(super) fn refuse_if_held(&self, instead: &str) -> Result<(), AgentFailure> {
        if self.lock_held().is_none() {
            return Ok(());
        }
        Err(
            AgentFailure::refused(format_args!("libvirt runs {}", self.name))
                .at_fault(Fault::Operator)
                .remedy(format_args!("use `virsh {instead}`")),
        )
    }

    /// The description of the VM, as it is now.
    pub(crate) fn description(&self) -> Result<Description, AgentFailure> {
        Ok(Description::load(&self.folder())?)
    }

    /// Has the keys released for the domain that libvirt is about to start, and starts its TPM for QEMU of this user.
    pub(crate) async fn hold_tpm(
        self: &Arc<Self>,
        domain: Domain,
        user: u32,
        progress: &Progress,
    ) -> Result<(), AgentFailure> {
        if self.is_awaited() {
            return self.hold_arriving(domain, user).await;
        }
        self.check_not_migrating()?;
        // What an earlier start of libvirt's has left, if that came to nothing without a word to the hook.
        let _ = self.let_tpm_go().await;
        let place = self.running.lock().await;
        if place.is_some() {
            return Err(AgentFailure::refused(format_args!(
                "{} runs already, and not by libvirt",
                self.name
            ))
            .at_fault(Fault::Operator)
            .remedy("stop it with `guarded-host vm stop`"));
        }
        self.settle().await;
        self.check_not_migrating()?;
        self.refuse_if_held("destroy, if its QEMU does not answer any more")?;
        self.is(MachineState::Starting);
        match Held::start(self, domain, user, progress).await {
            Ok(held) => {
                self.is(MachineState::Running);
                self.lock_status().libvirt = true;
                self.event("libvirt starts it");
                *self.last_refusal() = None;
                self.follow_held(&held);
                *self.lock_held() = Some(held);
                Ok(())
            }
            Err(failure) => {
                self.did_not_start(&failure);
                Err(failure)
            }
        }
    }

    /// After libvirt's QEMU has ended, or did not start.
    pub(crate) async fn let_tpm_go(&self) -> Result<(), AgentFailure> {
        let (process, mut end, socket) = match &*self.lock_held() {
            None => return Ok(()),
            Some(held) => (
                Arc::clone(&held.process),
                held.end.clone(),
                held.socket.clone(),
            ),
        };
        if tokio::time::timeout(GRACE, end.wait_for(|ended| *ended))
            .await
            .is_ok()
        {
            return Ok(());
        }
        blocking(move || {
            if is_connected(&socket)? {
                return Err(AgentFailure::refused(
                    "a QEMU is still connected to the VM's TPM, so it is not ended",
                )
                .at_fault(Fault::Operator));
            }
            kill(&process)
        })
        .await?;
        let _ = end.wait_for(|ended| *ended).await;
        Ok(())
    }

    /// Forgets where the VM stopped, so that it starts with the state that is there.
    pub(crate) async fn accept_state(&self) -> Result<(), AgentFailure> {
        let _place = self.running.lock().await;
        self.refuse_if_held("shutdown first")?;
        let record = self.stop_record();
        tracing::warn!(vm = %self.name, "another state than the one that it stopped with is accepted, as its administrator asked");
        blocking(move || stop_records::forget(&record)).await
    }

    /// The domain for libvirt, and where its files are if not in the VM's folder.
    pub(crate) async fn definition(
        &self,
        files: Option<PathBuf>,
        network: Option<String>,
        console: bool,
    ) -> Result<String, AgentFailure> {
        let surroundings = self.surroundings();
        let folder = self.folder();
        blocking(move || {
            let description = Description::load(&folder)?;
            let (emulator, user) = surroundings.emulator()?;
            let accelerator = surroundings.accelerator(&emulator, user)?;
            let socket = surroundings.folders.tpm_socket(&description.id.to_string());
            Ok(Definition {
                description: &description,
                files: files.as_deref().unwrap_or(&folder),
                tpm: &socket,
                emulator: &path_of(&emulator),
                ovmf: &emulator.ovmf,
                accelerator: &accelerator,
                network: network.as_deref(),
                console,
            }
            .to_xml())
        })
        .await
    }

    /// Takes over the TPM that an earlier agent has started for libvirt's QEMU.
    pub(super) async fn take_over_held(self: &Arc<Self>) {
        match Held::take_over(self).await {
            Ok(None) => {
                let has_come = self.lock_arrival().is_some();
                if has_come {
                    self.is(MachineState::Migrating);
                    self.event("has ended here before its source has said whose it is");
                } else if let Err(failure) = self.take_up_offer() {
                    self.event(&format!(
                        "its offer to another host can't be read: {failure}"
                    ));
                }
            }
            Ok(Some(held)) => {
                self.is(match *self.lock_arrival() {
                    None => MachineState::Running,
                    Some(_) => MachineState::Migrating,
                });
                self.lock_status().libvirt = true;
                self.event("libvirt runs it; its TPM is taken over from an earlier agent");
                self.follow_held(&held);
                *self.lock_held() = Some(held);
            }
            Err(failure) => self.event(&format!("its TPM could not be taken over: {failure}")),
        }
    }

    /// What the agent can't do: QEMU is libvirt's.
    pub(super) fn note_health_of_held(&self, health: &Health) {
        let policy = match &*self.lock_held() {
            Some(held) => held.unhealthy_host,
            None => return,
        };
        if let (Health::Unhealthy { reason, .. }, UnhealthyHost::Pause | UnhealthyHost::ShutDown) =
            (health, policy)
        {
            self.event(&format!(
                "goes on, against its policy, because libvirt runs it: the host is not healthy: {reason}"
            ));
        }
    }

    pub(super) fn follow_held(self: &Arc<Self>, held: &Held) {
        let (machine, mut end) = (Arc::clone(self), held.end.clone());
        self.surroundings.tasks.spawn(async move {
            // The sender goes only after it has sent.
            let _ = end.wait_for(|ended| *ended).await;
            let _place = machine.running.lock().await;
            machine.settle().await;
        });
    }

    /// The generation of the VM that libvirt runs, if it runs it.
    pub(super) fn generation_of_held(&self) -> Option<Result<Generation, AgentFailure>> {
        let held = self.lock_held();
        let held = held.as_ref().filter(|held| !*held.end.borrow())?;
        Some(running::current(&held.state))
    }

    /// Ends the TPM of a QEMU that waits in vain. `running` is locked.
    pub(super) async fn end_held(&self) -> Result<(), AgentFailure> {
        let Some(mut held) = self.lock_held().take() else {
            return Ok(());
        };
        kill(&held.process)?;
        let _ = held.end.wait_for(|ended| *ended).await;
        let _ = fs::remove_file(&held.socket);
        Ok(())
    }

    /// Cleans up behind a TPM that has ended. `running` is locked.
    async fn settle(self: &Arc<Self>) {
        let ended = self.lock_held().take_if(|held| *held.end.borrow());
        let Some(held) = ended else {
            return;
        };
        self.is(MachineState::Stopping);
        self.lock_status().libvirt = false;
        self.event("libvirt's QEMU has ended");
        // The socket has gone with swtpm, or leads nowhere.
        let _ = fs::remove_file(&held.socket);
        let arrival = self.lock_arrival().clone();
        if let Some(identity) = arrival {
            let has_state = held.has_state();
            drop(held);
            self.arrival_has_ended(&identity, has_state).await;
            return;
        }
        let held = match self.records().offered(&self.name) {
            Ok(None) => held,
            Ok(Some(departed)) => match self.ask_after_offer(departed, held).await {
                Ok(Some(held)) => held,
                Ok(None) => return,
                Err(failure) => return self.is_stuck(&failure),
            },
            Err(failure) => return self.is_stuck(&failure),
        };
        let warnings = running::another_key(self, held.state, held.synchroniser, None).await;
        let mut status = self.lock_status();
        status.state = MachineState::Stopped;
        status.started_offline = false;
        status.warnings = warnings;
    }

    /// Whose it is can't be found out.
    fn is_stuck(&self, failure: &AgentFailure) {
        self.is(MachineState::Migrating);
        self.event(&format!(
            "its offer to another host can't be settled: {failure}"
        ));
    }
}

impl Held {
    async fn start(
        machine: &Machine,
        domain: Domain,
        user: u32,
        progress: &Progress,
    ) -> Result<Self, AgentFailure> {
        let surroundings = machine.surroundings();
        let socket = (surroundings.folders).tpm_socket(&domain.id().to_string());
        check_tpm(&domain, &socket)?;
        let prepared = {
            let (folder, record) = (machine.folder(), machine.stop_record());
            blocking(move || running::prepare(&folder, &record, WantedState::AsItStopped)).await
        };
        let prepared = prepared.map_err(|failure| {
            let instead = format!("`guarded-host libvirt accept-state {}`", machine.name);
            let remedy = failure.remedy.clone();
            let remedy = remedy.map(|remedy| match remedy.contains("--accept-other-state") {
                true => format!("if the VM was restored from a backup on purpose: {instead}"),
                false => remedy,
            });
            AgentFailure { remedy, ..failure }
        })?;
        let (host, id) = (Arc::clone(&surroundings.host), prepared.description.id);
        let keys = Keys::of(&host, &prepared, &surroundings.refused, progress).await?;
        machine.has_keys(id, &keys);
        let record = machine.stop_record();
        let (held, keys) = blocking(move || {
            check(&surroundings, &domain, &socket, keys.protection())?;
            let Prepared {
                description,
                mut state,
                ..
            } = prepared;
            // From here on nothing speaks against the one generation or the other, should this be interrupted.
            stop_records::forget(&record)?;
            let key = keys.renew(&mut state, &surroundings.swtpm)?;
            let current = running::current(&state)?;
            let tpm = TpmState {
                folder: current.path(),
                contents: Contents::Kept,
                key: &key,
                migration_key: &StateKey::migration_key_of_transport_key(
                    keys.current_key().secret(),
                )?,
            };
            let (process, synchroniser) = launch(&surroundings, &tpm, (&socket, user))?;
            let held = Self::new(process, socket, state, synchroniser, &description);
            Ok((held, keys))
        })
        .await?;
        let not_kept = keys.keep(&host, id).await;
        machine.lock_status().warnings.extend(not_kept);
        Ok(held)
    }

    async fn take_over(machine: &Machine) -> Result<Option<Self>, AgentFailure> {
        let (folder, folders) = (machine.folder(), machine.surroundings.folders.clone());
        blocking(move || {
            let description = Description::load(&folder)?;
            let socket = folders.tpm_socket(&description.id.to_string());
            if !hgs_files::exists(&socket)? {
                return Ok(None);
            }
            let state = StateFolder::open(&folder)?;
            let current = running::current(&state)?;
            let Some(process) = holder_of_state(current.path())? else {
                end_unused(&socket)?;
                return Ok(None);
            };
            let synchroniser = running::synchroniser(current.path())?;
            Ok(Some(Self::new(
                process,
                socket,
                state,
                synchroniser,
                &description,
            )))
        })
        .await
    }

    /// Tells when its swtpm has ended.
    pub(super) fn end(&self) -> watch::Receiver<bool> {
        self.end.clone()
    }

    /// Whether its state is here; that of a VM that comes from another host is not at first.
    pub(super) fn has_state(&self) -> bool {
        self.state.current().is_some()
    }

    /// Makes a generation of the state that has come.
    pub(super) fn complete(
        &mut self,
        staged: StagedGeneration,
        protector: &[u8],
    ) -> Result<(), AgentFailure> {
        self.state.settle(staged, protector)?;
        Ok(())
    }

    pub(super) fn new(
        process: OwnedFd,
        socket: PathBuf,
        state: StateFolder,
        synchroniser: Synchroniser,
        description: &Description,
    ) -> Self {
        let process = Arc::new(process);
        Self {
            end: running::end_of(Arc::clone(&process)),
            process,
            socket,
            state,
            synchroniser,
            unhealthy_host: description.unhealthy_host.unwrap_or_default(),
        }
    }
}

/// Starts swtpm for libvirt's QEMU of a user.
pub(super) fn launch(
    surroundings: &Surroundings,
    state: &TpmState<'_>,
    (socket, user): (&Path, u32),
) -> Result<(OwnedFd, Synchroniser), AgentFailure> {
    make_folders(&surroundings.folders, socket)?;
    let tpm = StartedTpm::start(&surroundings.swtpm, state, socket)?;
    chown(socket, Some(user), None).map_err(|error| FileError::at(socket, error))?;
    // It ends with QEMU, and is waited for then.
    drop(tpm.swtpm.leave());
    Ok((tpm.process, tpm.synchroniser))
}

fn check_tpm(domain: &Domain, socket: &Path) -> Result<(), AgentFailure> {
    domain.check_tpm(socket).map_err(|error| {
        AgentFailure::refused(error)
            .at_fault(Fault::Operator)
            .remedy("`guarded-host libvirt domain` prints a definition that has it")
    })
}

/// Refuses a domain that has another TPM, or that the owner's policy does not let start.
pub(super) fn check(
    surroundings: &Surroundings,
    domain: &Domain,
    socket: &Path,
    protection: &Protection,
) -> Result<(), AgentFailure> {
    check_tpm(domain, socket)?;
    let (emulator, _) = surroundings.emulator()?;
    let host = HostPrograms {
        emulator: &path_of(&emulator),
        secure_firmware: &emulator.ovmf.secure_code,
    };
    let checked = domain.check(protection.policy, host);
    checked.map_err(|breach| {
        AgentFailure::refused(breach)
            .at_fault(Fault::Operator)
            .remedy("change it with `virsh edit`; docs/libvirt.md says what each policy needs")
    })
}

/// The file of a QEMU that may be known by its name alone.
fn path_of(emulator: &Emulator) -> PathBuf {
    let path = &emulator.program.path;
    let found = path.to_str().filter(|_| !path.is_absolute());
    let found = found.and_then(Program::find);
    found.map_or_else(|| path.clone(), |program| program.path)
}

/// Folders that every user may pass and only the agent's write to; the socket itself is its user's alone.
fn make_folders(folders: &AgentFolders, socket: &Path) -> Result<(), AgentFailure> {
    if socket.as_os_str().len() > SOCKET_PATH_LIMIT {
        return Err(AgentFailure::failed(format_args!(
            "{}: the path of a socket has at most {SOCKET_PATH_LIMIT} octets; choose a shorter runtime folder",
            socket.display()
        ))
        .at_fault(Fault::Operator));
    }
    let own = socket.parent().unwrap_or(socket);
    for folder in [folders.libvirt().as_path(), own] {
        let at = |error| FileError::at(folder, error);
        hgs_files::refuse_link(folder)?;
        match fs::create_dir(folder) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(at(error).into());
            }
            _ => {}
        }
        let mode = fs::Permissions::from_mode(0o711);
        fs::set_permissions(folder, mode).map_err(at)?;
    }
    Ok(())
}

/// The swtpm that works with the state in a folder: it holds a lock there from the moment when QEMU has started the TPM.
pub(super) fn holder_of_state(generation: &Path) -> Result<Option<OwnedFd>, AgentFailure> {
    let path = generation.join(".lock");
    let at = |error: std::io::Error| FileError::at(&path, error);
    let lock = match File::options().read(true).write(true).open(&path) {
        Ok(lock) => lock,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(at(error).into()),
    };
    let holder = || {
        let wanted = Flock::from(FlockType::WriteLock);
        let found = fcntl_getlk(&lock, &wanted).map_err(|error| at(error.into()))?;
        Ok::<_, FileError>(found.and_then(|found| found.pid))
    };
    let Some(process) = holder()? else {
        return Ok(None);
    };
    let descriptor = match pidfd_open(process, PidfdFlags::empty()) {
        Err(Errno::SRCH) => return Ok(None),
        opened => opened.map_err(AgentFailure::failed)?,
    };
    // Numbers of processes are used again.
    Ok((holder()? == Some(process)).then_some(descriptor))
}

/// Ends an swtpm that listens at a socket and that no QEMU has connected to; its agent was killed.
pub(super) fn end_unused(socket: &Path) -> Result<(), AgentFailure> {
    match is_connected(socket)? {
        true => Ok(()),
        false => end_listener(socket),
    }
}

/// Ends the swtpm that listens at a socket.
pub(super) fn end_listener(socket: &Path) -> Result<(), AgentFailure> {
    if let Ok(connection) = UnixStream::connect(socket) {
        let swtpm = socket_peercred(&connection).map_err(AgentFailure::failed)?;
        let process = pidfd_open(swtpm.pid, PidfdFlags::empty());
        // While this connection is open, the number is that process's.
        kill(&process.map_err(AgentFailure::failed)?)?;
    }
    Ok(hgs_files::optional(hgs_files::remove(socket)).map(drop)?)
}

fn kill(process: &OwnedFd) -> Result<(), AgentFailure> {
    match pidfd_send_signal(process, Signal::KILL) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(error) => Err(AgentFailure::failed(error).at_fault(Fault::Ourselves)),
    }
}

/// Whether a program is connected to a socket that another one listens at.
fn is_connected(socket: &Path) -> Result<bool, AgentFailure> {
    const CONNECTED: &str = "03";
    let table = Path::new("/proc/net/unix");
    let text = fs::read_to_string(table).map_err(|error| FileError::at(table, error))?;
    let socket = format!(" {}", socket.display());
    Ok(text.lines().any(|line| {
        let state = line.split_whitespace().nth(5);
        state == Some(CONNECTED) && line.ends_with(&socket)
    }))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_connection_to_a_socket_is_seen() {
        let folder = tempfile::tempdir_in("/tmp").unwrap();
        let socket = folder.path().join("tpm.sock");
        assert!(!is_connected(&socket).unwrap());
        let listener = UnixListener::bind(&socket).unwrap();
        assert!(!is_connected(&socket).unwrap());
        let connection = UnixStream::connect(&socket).unwrap();
        let accepted = listener.accept().unwrap();
        assert!(is_connected(&socket).unwrap());
        assert!(!is_connected(&folder.path().join("pm.sock")).unwrap());
        drop((connection, accepted));
        assert!(!is_connected(&socket).unwrap());
    }

    /// swtpm without a key, for what it does with its socket.
    fn swtpm(folder: &Path) -> (std::process::Child, PathBuf) {
        let socket = folder.join("tpm.sock");
        let control = format!("type=unixio,path={},mode=0600", socket.display());
        let state = format!("dir={}", folder.display());
        let swtpm = Command::new("swtpm")
            .args(["socket", "--tpm2", "--tpmstate", &state])
            .args(["--ctrl", &control, "--terminate"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("swtpm is installed");
        let begun = std::time::Instant::now();
        // The socket is there a moment before somebody listens.
        while UnixStream::connect(&socket).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(30), "swtpm listens");
            std::thread::yield_now();
        }
        (swtpm, socket)
    }

    #[test]
    fn a_tpm_that_no_qemu_came_for_is_ended() {
        let folder = tempfile::tempdir_in("/tmp").unwrap();
        let (mut swtpm, socket) = swtpm(folder.path());
        assert!(holder_of_state(folder.path()).unwrap().is_none());
        end_unused(&socket).unwrap();
        assert!(!swtpm.wait().unwrap().success());
        assert!(!socket.exists());
        // Again, and where only the file is left.
        end_unused(&socket).unwrap();
        drop(UnixListener::bind(&socket).unwrap());
        end_unused(&socket).unwrap();
        assert!(!socket.exists());
    }

    #[test]
    fn folders_of_sockets_are_passed_by_others_and_written_by_the_agent_alone() {
        let folder = tempfile::tempdir_in("/tmp").unwrap();
        let folders = AgentFolders {
            host: hgs_client::Folders::inside(folder.path()),
            runtime: folder.path().join("run"),
        };
        let socket = folders.tpm_socket("6f2d1c3e-8d0a-4a53-9f1c-0b7f6a1e2d3c");
        assert!(socket.starts_with(folder.path().join("run-libvirt")));
        for _ in 0..2 {
            make_folders(&folders, &socket).unwrap();
            for place in [folders.libvirt().as_path(), socket.parent().unwrap()] {
                let mode = fs::metadata(place).unwrap().permissions().mode();
                assert_eq!(mode & 0o777, 0o711);
            }
        }
        let long = folders.libvirt().join("x".repeat(SOCKET_PATH_LIMIT));
        let refused = make_folders(&folders, &long.join("tpm.sock")).unwrap_err();
        assert!(
            refused.message.contains("shorter runtime folder"),
            "{refused}"
        );
        // A link in the place of the folder would have the agent change another's mode.
        let linked = AgentFolders {
            runtime: folder.path().join("linked"),
            ..folders
        };
        std::os::unix::fs::symlink(folder.path(), linked.libvirt()).unwrap();
        make_folders(&linked, &linked.tpm_socket("x")).unwrap_err();
    }
}
