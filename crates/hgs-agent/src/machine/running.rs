//! The processes of a VM that runs, and the steps before and after.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use hgs_client::{Fault, Unwrapped};
use hgs_crypto::SecretBytes;
use hgs_crypto::random::System;
use hgs_kps::ServiceVersion;
use hgs_vm::description::{Description, UnhealthyHost};
use hgs_vm::generation::StateFolder;
use hgs_vm::program::Program;
use hgs_vm::protection::{Exposure, Protection};
use hgs_vm::qemu::accelerator::Accelerator;
use hgs_vm::qemu::command::{self, Begin, CommandLine, RuntimeFolder, Serial};
use hgs_vm::qemu::process::{self, Lifetime, Process, ProcessError};
use hgs_vm::qemu::qmp::RunState;
use hgs_vm::rekey::{self, RekeyError, Successor};
use hgs_vm::swtpm::{self, Channels, Contents, StateKey, Swtpm};
use hgs_vm::synchroniser::Synchroniser;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tokio::sync::watch;

use super::{Machine, stop_records};
use crate::failure::blocking;
use crate::progress::Progress;
use crate::wire::AgentFailure;

/// How long QEMU may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a guest is asked to shut down, and how long is waited each time.
const ASKED: u32 = 18;
const BETWEEN_ASKING: Duration = Duration::from_secs(5);

/// A VM that runs.
pub(super) struct Running {
    process: Arc<Mutex<Process>>,
    end: watch::Receiver<bool>,
    state: StateFolder,
    /// Until swtpm has ended.
    synchroniser: Synchroniser,
    /// Ends with the VM's swtpm; an adopted VM's is another process's child.
    tpm: Option<JoinHandle<()>>,
    unhealthy_host: UnhealthyHost,
}

/// What was read before the keys are asked for.
pub(super) struct Prepared {
    pub(super) description: Description,
    pub(super) state: StateFolder,
    pub(super) protector: Vec<u8>,
    pub(super) sealed: Vec<u8>,
}

/// What the owner decided, and the sealed form of it that goes with the next protector.
pub(super) struct Protected {
    pub(super) protection: Protection,
    pub(super) resealed: Vec<u8>,
}

impl Running {
    /// Has the keys released, gives the state its new key, and starts the processes.
    pub(super) async fn start(
        machine: &Machine,
        accept_other_state: bool,
        progress: &Progress,
    ) -> Result<Self, AgentFailure> {
        let surroundings = Arc::clone(&machine.surroundings);
        let (folder, runtime) = (machine.folder(), machine.runtime()?);
        let prepared = {
            let (folder, record) = (folder.clone(), machine.stop_record());
            blocking(move || prepare(&folder, &record, accept_other_state)).await?
        };
        progress.step("asking the guardian for the keys");
        let host = &surroundings.host;
        let unwrapped = host.unwrap(&prepared.protector, ServiceVersion::V2).await?;
        let protected = Protected::open(&unwrapped, &prepared.sealed, &prepared.description)?;
        {
            let mut status = machine.lock_status();
            status.id = Some(prepared.description.id.to_string());
            status.policy = Some(protected.protection.policy.to_string());
            status.warnings.clear();
        }
        let (progress, record) = (progress.clone(), machine.stop_record());
        let (running, accelerator) = blocking(move || {
            let Prepared {
                description,
                mut state,
                ..
            } = prepared;
            progress.step("giving the TPM's state its new key");
            let key = renew(
                &mut state,
                &unwrapped,
                &protected.resealed,
                &surroundings.swtpm,
            )?;
            progress.step("starting swtpm and QEMU");
            let (emulator, user) = surroundings.emulator()?;
            let note = surroundings.folders.host.state.join("accelerator.json");
            let accelerator =
                Accelerator::probe(&emulator, user, &note).map_err(AgentFailure::failed)?;
            let line = CommandLine::new(&command::Machine {
                description: &description,
                protection: &protected.protection,
                folder: &folder,
                runtime: &runtime,
                emulator: &emulator,
                accelerator: &accelerator,
                serial: serial(&protected.protection),
                direct_io: false,
                begin: Begin::Running,
            })?;
            let synchroniser = synchroniser(&state)?;
            let (process, tpm) = launch(
                &state,
                &key,
                &line,
                &settings(&runtime, user),
                &surroundings.swtpm,
            )?;
            stop_records::forget(&record)?;
            let running = Self::new(process, state, synchroniser, Some(tpm), &description)?;
            Ok((running, accelerator))
        })
        .await?;
        let mut status = machine.lock_status();
        status.accelerator = Some(match &accelerator {
            Accelerator::Kvm => "kvm".to_owned(),
            Accelerator::Tcg { .. } => "tcg".to_owned(),
        });
        if let Accelerator::Tcg { reason } = accelerator {
            status.warnings.push(format!(
                "QEMU translates the guest's instructions, which is ten times as slow and more: {reason}"
            ));
        }
        Ok(running)
    }

    /// The VM, if an earlier agent has started it and it runs.
    pub(super) async fn take_over(machine: &Machine) -> Result<Option<Self>, AgentFailure> {
        let (folder, runtime) = (machine.folder(), machine.runtime()?);
        let found = blocking(move || {
            let settings = settings(&runtime, None);
            let Some(process) = Process::adopt(&settings)? else {
                return Ok(None);
            };
            let description = Description::load(&folder)?;
            let state = StateFolder::open(&folder)?;
            let synchroniser = synchroniser(&state)?;
            Self::new(process, state, synchroniser, None, &description).map(Some)
        })
        .await?;
        if found.is_some() {
            machine.lock_status().warnings.push(
                "an earlier agent started it: it can't be moved to another host before it is started again".to_owned(),
            );
        }
        Ok(found)
    }

    fn new(
        process: Process,
        state: StateFolder,
        synchroniser: Synchroniser,
        tpm: Option<JoinHandle<()>>,
        description: &Description,
    ) -> Result<Self, AgentFailure> {
        let end = process
            .as_fd()
            .try_clone_to_owned()
            .map_err(AgentFailure::failed)?;
        let (ended, end_seen) = watch::channel(false);
        std::thread::spawn(move || {
            wait_for_end(&end);
            ended.send_replace(true);
        });
        Ok(Self {
            end: end_seen,
            process: Arc::new(Mutex::new(process)),
            state,
            synchroniser,
            tpm,
            unhealthy_host: description.unhealthy_host.unwrap_or_default(),
        })
    }

    /// Resolves when the VM has ended.
    pub(super) fn end(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut end = self.end.clone();
        async move {
            // The sender goes only after it has sent.
            let _ = end.wait_for(|ended| *ended).await;
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        process.wait(Duration::ZERO).unwrap_or(false)
    }

    pub(super) fn unhealthy_host(&self) -> UnhealthyHost {
        self.unhealthy_host
    }

    /// Works with the process where that may block.
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Process) -> Result<T, ProcessError> + Send + 'static,
    ) -> Result<T, AgentFailure> {
        let process = Arc::clone(&self.process);
        blocking(move || {
            let mut process = process.lock().unwrap_or_else(PoisonError::into_inner);
            Ok(work(&mut process)?)
        })
        .await
    }

    /// Whether its processors were stopped.
    pub(super) async fn is_paused(&self) -> bool {
        let status = self.with(|process| Ok(process.monitor().query_status()?));
        matches!(status.await, Ok(RunState::Paused))
    }

    pub(super) async fn pause(&self) -> Result<(), AgentFailure> {
        self.with(|process| Ok(process.monitor().stop()?)).await
    }

    pub(super) async fn resume(&self) -> Result<(), AgentFailure> {
        self.with(|process| Ok(process.monitor().cont()?)).await
    }

    pub(super) async fn ask_to_power_down(&self) -> Result<(), AgentFailure> {
        self.with(|process| Ok(process.monitor().system_powerdown()?))
            .await
    }

    /// Ends the VM and waits for that.
    pub(super) async fn power_down(&self, force: bool) -> Result<(), AgentFailure> {
        if force {
            return self.with(Process::kill).await;
        }
        // A guest that has only begun to start does not hear it yet.
        for _ in 0..ASKED {
            self.ask_to_power_down().await?;
            if tokio::time::timeout(BETWEEN_ASKING, self.end())
                .await
                .is_ok()
            {
                return self.with(|process| process.wait(PATIENCE).map(drop)).await;
            }
        }
        let waited = BETWEEN_ASKING.as_secs() * u64::from(ASKED);
        Err(AgentFailure::failed(format_args!(
            "the guest did not shut down within {waited} seconds; it still runs"
        ))
        .at_fault(Fault::Operator)
        .remedy("wait for it, or end it with `guarded-host vm stop --force`"))
    }

    /// After its end: gives the state another key, so that a copy that was made while the VM ran opens no more, and records where
    /// it stopped. Says what could not be done.
    pub(super) async fn clean_up(self, machine: &Machine, progress: &Progress) -> Vec<String> {
        let Self {
            process,
            state,
            synchroniser,
            tpm,
            ..
        } = self;
        drop(process);
        progress.step("giving the TPM's state another key");
        another_key(machine, state, synchroniser, tpm).await
    }
}

/// Gives the state of a TPM that has ended, or ends now, another key, and records where it stopped. Says what could not be done.
pub(super) async fn another_key(
    machine: &Machine,
    state: StateFolder,
    synchroniser: Synchroniser,
    tpm: Option<JoinHandle<()>>,
) -> Vec<String> {
    match renew_after_stop(machine, state, synchroniser, tpm).await {
        Ok(()) => Vec::new(),
        Err(failure) => vec![format!(
            "the state of its TPM keeps its key, so an older copy of this generation still opens: {failure}"
        )],
    }
}

async fn renew_after_stop(
    machine: &Machine,
    state: StateFolder,
    synchroniser: Synchroniser,
    tpm: Option<JoinHandle<()>>,
) -> Result<(), AgentFailure> {
    let surroundings = Arc::clone(&machine.surroundings);
    let (folder, record) = (machine.folder(), machine.stop_record());
    let (mut state, description, (protector, sealed)) = blocking(move || {
        if let Some(tpm) = tpm {
            // It ends with QEMU.
            let _ = tpm.join();
        }
        drop(synchroniser);
        // Recorded at once, in case that the guardian can't be reached.
        stop_records::note(&state, &record)?;
        let pair = pair(&state)?;
        Ok((state, Description::load(&folder)?, pair))
    })
    .await?;
    let unwrapped = (surroundings.host.unwrap(&protector, ServiceVersion::V2)).await?;
    let protected = Protected::open(&unwrapped, &sealed, &description)?;
    let record = machine.stop_record();
    blocking(move || {
        renew(
            &mut state,
            &unwrapped,
            &protected.resealed,
            &surroundings.swtpm,
        )?;
        stop_records::note(&state, &record)
    })
    .await
}

/// Waits until the process has ended that a descriptor stands for.
pub(super) fn wait_for_end(process: &OwnedFd) {
    let mut waited = [PollFd::new(process, PollFlags::IN)];
    while poll(&mut waited, None) == Err(Errno::INTR) {}
}

/// Reads what is needed before keys are asked for.
pub(super) fn prepare(
    folder: &Path,
    record: &Path,
    accept_other_state: bool,
) -> Result<Prepared, AgentFailure> {
    let description = Description::load(folder)?;
    let state = StateFolder::open(folder)?;
    let (protector, sealed) = pair(&state)?;
    stop_records::check(&state, record, accept_other_state)?;
    Ok(Prepared {
        description,
        state,
        protector,
        sealed,
    })
}

/// The protector and the sealed protection of the current generation.
fn pair(state: &StateFolder) -> Result<(Vec<u8>, Vec<u8>), AgentFailure> {
    let current = state.current().ok_or(RekeyError::NoState)?;
    Ok((current.protector()?, current.protection()?))
}

impl Protected {
    /// Opens what the owner decided with the keys of now, and seals it for the protector to come.
    pub(super) fn open(
        unwrapped: &Unwrapped,
        sealed: &[u8],
        description: &Description,
    ) -> Result<Self, AgentFailure> {
        let document = unwrapped.open(sealed).map_err(hgs_client::Error::from)?;
        let protection = Protection::read(document.expose())?;
        protection.check_vm(description.id)?;
        let resealed = (unwrapped.reseal(&SecretBytes::new(protection.to_json().to_vec())))
            .map_err(hgs_client::Error::from)?;
        Ok(Self {
            protection,
            resealed,
        })
    }
}

/// Moves the state from the key of now to the key to come, and returns that.
pub(super) fn renew(
    state: &mut StateFolder,
    unwrapped: &Unwrapped,
    protection: &[u8],
    swtpm: &Program,
) -> Result<StateKey, AgentFailure> {
    let old = StateKey::of_transport_key(unwrapped.ingress_key().secret())?;
    let new = StateKey::of_transport_key(unwrapped.egress_key().secret())?;
    let successor = Successor {
        key: &new,
        protector: unwrapped.egress().octets(),
        protection,
    };
    match rekey::rekey(swtpm, state, &old, &successor, &mut |_| ()) {
        Err(RekeyError::OldStays(error)) => tracing::warn!(%error, "an old generation stays"),
        outcome => drop(outcome?),
    }
    Ok(new)
}

/// Has what swtpm writes from now on synchronised.
pub(super) fn synchroniser(state: &StateFolder) -> Result<Synchroniser, AgentFailure> {
    let current = state.current().ok_or(RekeyError::NoState)?;
    Synchroniser::watch(current.path()).map_err(|error| {
        AgentFailure::failed(format_args!(
            "the state of the TPM can't be watched: {error}"
        ))
        .at_fault(Fault::Ourselves)
    })
}

/// A console where the owner allows one.
fn serial(protection: &Protection) -> Serial {
    match protection.policy.check(Exposure::Console) {
        Ok(()) => Serial::Console,
        Err(_) => Serial::None,
    }
}

/// Starts swtpm, which gets its keys through pipes, and QEMU, which gets none.
fn launch(
    state: &StateFolder,
    key: &StateKey,
    line: &CommandLine,
    settings: &process::Settings<'_>,
    swtpm: &Program,
) -> Result<(Process, JoinHandle<()>), AgentFailure> {
    hgs_files::private_folder(settings.runtime.path())?;
    let current = state.current().ok_or(RekeyError::NoState)?;
    let migration_key = StateKey::random(&mut System::new())?;
    let socket = settings.runtime.swtpm_socket();
    let mut tpm = Swtpm::start(&swtpm::Settings {
        program: swtpm,
        folder: current.path(),
        contents: Contents::Kept,
        key,
        migration_key: Some(&migration_key),
        channels: Channels::Hypervisor(&socket),
    })?;
    tpm.hand_over();
    // Should QEMU not start, swtpm is killed here.
    let process = Process::start(line, settings)?;
    Ok((process, tpm.leave()))
}

fn settings(runtime: &RuntimeFolder, user: Option<process::User>) -> process::Settings<'_> {
    process::Settings {
        runtime,
        user,
        lifetime: Lifetime::Own,
        patience: PATIENCE,
    }
}
