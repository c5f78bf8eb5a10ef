//! The processes of a VM that runs, and the steps before and after.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use hgs_client::{Fault, GuardedHost, Unwrapped};
use hgs_crypto::SecretBytes;
use hgs_kps::ServiceVersion;
use hgs_vm::description::{Description, UnhealthyHost};
use hgs_vm::generation::{Generation, StagedGeneration, StateFolder};
use hgs_vm::program::Program;
use hgs_vm::protection::{Exposure, Protection};
use hgs_vm::qemu::accelerator::Accelerator;
use hgs_vm::qemu::command::{self, Begin, CommandLine, RuntimeFolder, Serial};
use hgs_vm::qemu::process::{self, Lifetime, Process, ProcessError};
use hgs_vm::qemu::qmp::{Monitor, QmpError, RunState};
use hgs_vm::rekey::{self, RekeyError, Successor};
use hgs_vm::swtpm::{self, Channels, Contents, StateKey, Swtpm};
use hgs_vm::synchroniser::Synchroniser;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::sync::watch;

use super::keys::{Keys, keep};
use super::stop_records::RecordPlace;
use super::{Machine, WantedState, held, stop_records};
use crate::failure::blocking;
use crate::migration::proof::ProofKey;
use crate::progress::Progress;
use crate::wire::AgentFailure;

/// How long QEMU may take to answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// How often a guest is asked to shut down, and how long is waited each time.
const ASKED: u32 = 18;
const BETWEEN_ASKING: Duration = Duration::from_secs(5);

/// How long QEMU may live on when its TPM has ended because QEMU ends.
const GRACE: Duration = Duration::from_secs(5);

/// A VM that runs.
pub(crate) struct Running {
    process: Arc<Mutex<Process>>,
    end: watch::Receiver<bool>,
    state: StateFolder,
    /// Until swtpm has ended.
    synchroniser: Synchroniser,
    /// Ends with the VM's swtpm; an adopted VM's is another process's child.
    tpm: Option<JoinHandle<()>>,
    tpm_end: watch::Receiver<bool>,
    unhealthy_host: UnhealthyHost,
    /// To move it to another host. An agent that took it over gets it by a release when it needs it.
    proof_key: Option<ProofKey>,
}

/// The processes of a VM, and what belongs to them.
pub(crate) struct Launched {
    pub(crate) process: Process,
    pub(crate) tpm: JoinHandle<()>,
    /// The process of the TPM.
    pub(crate) tpm_end: OwnedFd,
    pub(crate) synchroniser: Synchroniser,
}

/// The state that a VM's swtpm works with.
pub(crate) struct TpmState<'a> {
    /// Its folder.
    pub(crate) folder: &'a Path,
    /// What is in it.
    pub(crate) contents: Contents,
    /// The key of what is in it.
    pub(crate) key: &'a StateKey,
    /// Under what it leaves for another host, or comes from one.
    pub(crate) migration_key: &'a StateKey,
}

/// What was read before the keys are asked for.
pub(super) struct Prepared {
    pub(super) description: Description,
    pub(super) state: StateFolder,
    pub(super) protector: Vec<u8>,
    pub(super) sealed: Vec<u8>,
}

/// What the owner decided, and the sealed form of it that goes with the next protector.
pub(crate) struct Protected {
    pub(crate) protection: Protection,
    pub(crate) resealed: Vec<u8>,
}

impl Running {
    /// Has the keys released, gives the state its new key, and starts the processes.
    pub(crate) async fn start(
        machine: &Machine,
        wanted: WantedState,
        progress: &Progress,
    ) -> Result<Self, AgentFailure> {
        let surroundings = Arc::clone(&machine.surroundings);
        let (folder, runtime) = (machine.folder(), machine.runtime()?);
        let prepared = {
            let (folder, record) = (folder.clone(), machine.stop_record());
            blocking(move || prepare(&folder, &record, wanted)).await?
        };
        let (host, id) = (Arc::clone(&surroundings.host), prepared.description.id);
        let keys = Keys::of(&host, &prepared, &surroundings.refused, progress).await;
        let keys = keys.map_err(|failure| prepared.refused(failure))?;
        machine.has_keys(id, &keys);
        let (progress, record) = (progress.clone(), machine.stop_record());
        let (running, keys, accelerator) = blocking(move || {
            let Prepared {
                description,
                mut state,
                ..
            } = prepared;
            if !keys.are_kept() {
                progress.step("giving the TPM's state its new key");
            }
            // From here on nothing speaks against the one generation or the other, should this be interrupted.
            stop_records::forget(&record)?;
            let mut start = || -> Result<(Launched, Accelerator), AgentFailure> {
                let key = keys.renew(&mut state, &surroundings.swtpm)?;
                progress.step("starting swtpm and QEMU");
                let (emulator, user) = surroundings.emulator()?;
                let accelerator = surroundings.accelerator(&emulator, user)?;
                let line = CommandLine::new(&command::Machine {
                    description: &description,
                    protection: keys.protection(),
                    folder: &folder,
                    runtime: &runtime,
                    emulator: &emulator,
                    accelerator: &accelerator,
                    serial: serial(keys.protection()),
                    direct_io: false,
                    begin: Begin::Running,
                })?;
                let current = current(&state)?;
                let tpm = TpmState {
                    folder: current.path(),
                    contents: Contents::Kept,
                    key: &key,
                    migration_key: &StateKey::migration_key_of_transport_key(
                        keys.current_key().secret(),
                    )?,
                };
                let settings = settings(&runtime, user);
                let launched = launch(tpm, &line, &settings, &surroundings.swtpm)?;
                Ok((launched, accelerator))
            };
            let started = start();
            if started.is_err() {
                stop_records::note(&state, &record)?;
            }
            let (launched, accelerator) = started?;
            let proof_key = ProofKey::of_transport_key(keys.current_key())?;
            let running = Self::of(launched, state, &description, proof_key)?;
            Ok((running, keys, accelerator))
        })
        .await?;
        let not_kept = keys.keep(&host, id).await;
        let mut status = machine.lock_status();
        status.accelerator = Some(accelerator.name().to_owned());
        status.warnings.extend(not_kept);
        if let Accelerator::Tcg { reason } = accelerator {
            status.warnings.push(format!(
                "QEMU translates the guest's instructions, which is ten times as slow and more: {reason}"
            ));
        }
        Ok(running)
    }

    /// The VM, if an earlier agent has started it and it runs.
    pub(crate) async fn take_over(machine: &Machine) -> Result<Option<Self>, AgentFailure> {
        let (folder, runtime) = (machine.folder(), machine.runtime()?);
        let found = blocking(move || {
            let settings = settings(&runtime, None);
            let Some(process) = Process::adopt(&settings)? else {
                // An agent that was killed before it started QEMU leaves a TPM that waits for it, with its key.
                held::end_unused(&runtime.swtpm_socket())?;
                return Ok(None);
            };
            let description = Description::load(&folder)?;
            let state = StateFolder::open(&folder)?;
            let current = current(&state)?;
            let synchroniser = synchroniser(current.path())?;
            let tpm_end = held::holder_of_state(current.path());
            let running = Self::new(process, state, synchroniser, &description)?;
            Ok(Some(match tpm_end {
                Ok(tpm_end) => running.with_tpm_end(tpm_end),
                Err(error) => {
                    tracing::warn!(%error, "whether a VM's TPM runs can't be seen");
                    running
                }
            }))
        })
        .await?;
        Ok(found)
    }

    /// Of processes that were just started, on the current state.
    pub(crate) fn of(
        launched: Launched,
        state: StateFolder,
        description: &Description,
        proof_key: ProofKey,
    ) -> Result<Self, AgentFailure> {
        let Launched {
            process,
            tpm,
            tpm_end,
            synchroniser,
        } = launched;
        let running = Self {
            tpm: Some(tpm),
            proof_key: Some(proof_key),
            ..Self::new(process, state, synchroniser, description)?
        };
        Ok(running.with_tpm_end(Some(tpm_end)))
    }

    fn new(
        process: Process,
        state: StateFolder,
        synchroniser: Synchroniser,
        description: &Description,
    ) -> Result<Self, AgentFailure> {
        let end = process
            .as_fd()
            .try_clone_to_owned()
            .map_err(AgentFailure::failed)?;
        Ok(Self {
            end: end_of(end),
            process: Arc::new(Mutex::new(process)),
            state,
            synchroniser,
            tpm: None,
            tpm_end: watch::channel(false).1,
            unhealthy_host: description.unhealthy_host.unwrap_or_default(),
            proof_key: None,
        })
    }

    /// With the process of its TPM; without, a TPM that an earlier agent started has ended already.
    fn with_tpm_end(self, tpm: Option<OwnedFd>) -> Self {
        let tpm_end = match tpm {
            Some(tpm) => end_of(tpm),
            None => watch::channel(true).1,
        };
        Self { tpm_end, ..self }
    }

    /// Resolves when its TPM has ended and the VM has not. Both end together when the VM ends.
    pub(super) fn loss_of_tpm(&self) -> impl Future<Output = bool> + Send + 'static {
        let (mut tpm_end, end) = (self.tpm_end.clone(), self.end());
        async move {
            // Without a sender, nobody knows.
            let ended = tpm_end.wait_for(|ended| *ended).await.is_ok();
            ended && tokio::time::timeout(GRACE, end).await.is_err()
        }
    }

    /// Resolves when the VM has ended.
    pub(crate) fn end(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut end = self.end.clone();
        async move {
            // The sender goes only after it has sent.
            let _ = end.wait_for(|ended| *ended).await;
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        process.wait(Duration::ZERO).unwrap_or(false)
    }

    pub(crate) fn unhealthy_host(&self) -> UnhealthyHost {
        self.unhealthy_host
    }

    /// The key to move it to another host by; it belongs to the protector of the current generation.
    pub(crate) async fn proof_key(
        &mut self,
        host: &GuardedHost,
    ) -> Result<&ProofKey, AgentFailure> {
        let key = match self.proof_key.take() {
            Some(key) => key,
            None => {
                let (protector, _) = pair(&self.state)?;
                let unwrapped = host.unwrap(&protector, ServiceVersion::V2).await?;
                ProofKey::of_transport_key(unwrapped.ingress_key())?
            }
        };
        Ok(self.proof_key.insert(key))
    }

    /// The current generation of its state.
    pub(crate) fn generation(&self) -> Result<Generation, AgentFailure> {
        current(&self.state)
    }

    /// Makes a generation of what its TPM has written, which another host sent.
    pub(crate) fn settle(
        &mut self,
        staged: StagedGeneration,
        protector: &[u8],
    ) -> Result<(), AgentFailure> {
        self.state.settle(staged, protector)?;
        Ok(())
    }

    /// What QEMU wrote.
    pub(crate) fn messages(&self) -> String {
        let process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        process.messages()
    }

    /// Works with QEMU's monitor.
    pub(crate) async fn monitor<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Monitor) -> Result<T, QmpError> + Send + 'static,
    ) -> Result<T, AgentFailure> {
        self.with(move |process| Ok(work(process.monitor()?)?))
            .await
    }

    /// Ends it without a word to the guest, which runs elsewhere or never did, and waits until nothing of it works with the
    /// VM's folder.
    pub(crate) async fn kill(self) -> Result<(), AgentFailure> {
        self.with(Process::kill).await?;
        blocking(move || {
            if let Some(tpm) = self.tpm {
                let _ = tpm.join();
            }
            Ok(())
        })
        .await
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
    pub(crate) async fn is_paused(&self) -> bool {
        let status = self.with(|process| Ok(process.monitor()?.query_status()?));
        matches!(status.await, Ok(RunState::Paused))
    }

    pub(crate) async fn pause(&self) -> Result<(), AgentFailure> {
        self.with(|process| Ok(process.monitor()?.stop()?)).await
    }

    pub(crate) async fn resume(&self) -> Result<(), AgentFailure> {
        self.with(|process| Ok(process.monitor()?.cont()?)).await
    }

    pub(crate) async fn ask_to_power_down(&self) -> Result<(), AgentFailure> {
        self.with(|process| Ok(process.monitor()?.system_powerdown()?))
            .await
    }

    /// Ends the VM and waits for that.
    pub(crate) async fn power_down(&self, force: bool) -> Result<(), AgentFailure> {
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
    pub(crate) async fn clean_up(self, machine: &Machine, progress: &Progress) -> Vec<String> {
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
    let folder = machine.folder();
    let (mut state, description, (protector, sealed)) = blocking(move || {
        if let Some(tpm) = tpm {
            // It ends with QEMU.
            let _ = tpm.join();
        }
        drop(synchroniser);
        let pair = pair(&state)?;
        Ok((state, Description::load(&folder)?, pair))
    })
    .await?;
    let host = Arc::clone(&surroundings.host);
    let released = match host.unwrap(&protector, ServiceVersion::V2).await {
        Ok(unwrapped) => Protected::open(&unwrapped, &sealed, &description)
            .map(|protected| (unwrapped, protected)),
        Err(error) => Err(error.into()),
    };
    let record = machine.stop_record();
    let unwrapped = blocking(move || {
        let renewed = released.and_then(|(unwrapped, protected)| {
            let (resealed, swtpm) = (&protected.resealed, &surroundings.swtpm);
            renew(&mut state, &unwrapped, resealed, swtpm).map(|_key| unwrapped)
        });
        // Whether or not it has another key. There was no record since the start, so that nothing speaks against a state that was
        // renewed when this was interrupted.
        stop_records::note(&state, &record)?;
        renewed
    })
    .await?;
    keep(&host, description.id, &unwrapped).await;
    Ok(())
}

/// Becomes true when the process has ended that a descriptor stands for.
pub(super) fn end_of(process: impl AsFd + Send + 'static) -> watch::Receiver<bool> {
    let (ended, end) = watch::channel(false);
    std::thread::spawn(move || {
        let mut waited = [PollFd::new(&process, PollFlags::IN)];
        while poll(&mut waited, None) == Err(Errno::INTR) {}
        ended.send_replace(true);
    });
    end
}

/// Reads what is needed before keys are asked for.
pub(super) fn prepare(
    folder: &Path,
    record: &RecordPlace,
    wanted: WantedState,
) -> Result<Prepared, AgentFailure> {
    let description = Description::load(folder)?;
    let state = match wanted {
        WantedState::PreviousGeneration => StateFolder::open_previous(folder)?,
        WantedState::AsItStopped | WantedState::Any => StateFolder::open(folder)?,
    };
    let (protector, sealed) = pair(&state)?;
    stop_records::check(&state, record, wanted != WantedState::AsItStopped)?;
    Ok(Prepared {
        description,
        state,
        protector,
        sealed,
    })
}

impl Prepared {
    /// With what helps against a protector that no guardian opens.
    fn refused(&self, failure: AgentFailure) -> AgentFailure {
        let previous = self.state.previous().ok().flatten();
        match (failure.at_fault, previous) {
            (Some(Fault::Protector), Some(previous)) => failure.remedy(format_args!(
                "the state as it was before its last key is kept, as generation {}: start it with `--previous-generation`",
                previous.number()
            )),
            _ => failure,
        }
    }
}

/// The protector and the sealed protection of the current generation.
fn pair(state: &StateFolder) -> Result<(Vec<u8>, Vec<u8>), AgentFailure> {
    let current = current(state)?;
    Ok((current.protector()?, current.protection()?))
}

impl Protected {
    /// Opens what the owner decided with the keys of now, and seals it for the protector to come.
    pub(crate) fn open(
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

/// The current generation of a VM that has one.
pub(crate) fn current(state: &StateFolder) -> Result<Generation, AgentFailure> {
    Ok(state.current().ok_or(RekeyError::NoState)?)
}

/// Has what swtpm writes into a folder from now on synchronised.
pub(super) fn synchroniser(folder: &Path) -> Result<Synchroniser, AgentFailure> {
    Synchroniser::watch(folder).map_err(|error| {
        AgentFailure::failed(format_args!(
            "the state of the TPM can't be watched: {error}"
        ))
        .at_fault(Fault::Ourselves)
    })
}

/// A console where the owner allows one.
pub(crate) fn serial(protection: &Protection) -> Serial {
    match protection.policy.check(Exposure::Console) {
        Ok(()) => Serial::Console,
        Err(_) => Serial::None,
    }
}

/// Starts swtpm, and QEMU, which gets no key.
pub(crate) fn launch(
    state: TpmState<'_>,
    line: &CommandLine,
    settings: &process::Settings<'_>,
    swtpm: &Program,
) -> Result<Launched, AgentFailure> {
    hgs_files::private_folder(settings.runtime.path())?;
    let tpm = StartedTpm::start(swtpm, &state, &settings.runtime.swtpm_socket())?;
    // Should QEMU not start, swtpm is killed here.
    let process = Process::start(line, settings)?;
    Ok(Launched {
        process,
        tpm: tpm.swtpm.leave(),
        tpm_end: tpm.process,
        synchroniser: tpm.synchroniser,
    })
}

/// An swtpm that waits for QEMU at a socket. Dropped, it is killed.
pub(super) struct StartedTpm {
    pub(super) swtpm: Swtpm,
    pub(super) process: OwnedFd,
    pub(super) synchroniser: Synchroniser,
}

impl StartedTpm {
    /// Starts it. It gets its keys through pipes.
    pub(super) fn start(
        program: &Program,
        state: &TpmState<'_>,
        socket: &Path,
    ) -> Result<Self, AgentFailure> {
        let synchroniser = synchroniser(state.folder)?;
        let mut swtpm = Swtpm::start(&swtpm::Settings {
            program,
            folder: state.folder,
            contents: state.contents,
            key: state.key,
            migration_key: Some(state.migration_key),
            channels: Channels::Hypervisor(socket),
        })?;
        swtpm.hand_over();
        let process = Pid::from_raw(swtpm.id().cast_signed()).ok_or(Errno::SRCH);
        let process = process.and_then(|process| pidfd_open(process, PidfdFlags::empty()));
        Ok(Self {
            process: process.map_err(AgentFailure::failed)?,
            swtpm,
            synchroniser,
        })
    }
}

pub(crate) fn settings(
    runtime: &RuntimeFolder,
    user: Option<process::User>,
) -> process::Settings<'_> {
    process::Settings {
        runtime,
        user,
        lifetime: Lifetime::Own,
        patience: PATIENCE,
    }
}
