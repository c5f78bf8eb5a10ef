//! One VM: from its keys to its end.

mod carried;
mod held;
mod keys;
mod moving;
pub(crate) mod running;
pub(crate) mod stop_records;

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hgs_client::{Fault, GuardedHost};
use hgs_vm::description::{Description, UnhealthyHost, VmId, VmName};
use hgs_vm::generation::{StateError, StateFolder};
use hgs_vm::parts::Parts;
use hgs_vm::program::Program;
use hgs_vm::qemu::accelerator::Accelerator;
use hgs_vm::qemu::command::RuntimeFolder;
use hgs_vm::qemu::process::User;
use hgs_vm::qemu::{Emulator, OvmfFiles};
use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use self::carried::Awaited;
use self::held::Held;
use self::keys::Keys;
use self::running::Running;
use crate::failure::blocking;
use crate::folders::AgentFolders;
use crate::migration::records::Identity;
use crate::progress::Progress;
use crate::wire::{AgentFailure, Health, MachineState, MachineStatus};

/// What every VM of a host needs.
#[derive(Debug)]
pub(crate) struct Surroundings {
    pub(crate) host: Arc<GuardedHost>,
    pub(crate) folders: AgentFolders,
    /// The QEMU that runs VMs; the installed one unless given.
    pub(crate) given_emulator: Option<Emulator>,
    pub(crate) swtpm: Program,
    /// The user that QEMU runs as, if not that of the agent.
    pub(crate) user: Option<User>,
    /// Told when a guardian has refused this host, and when none could be reached: it is asked again before the certificate ends.
    pub(crate) refused: Arc<Notify>,
    /// What goes on beside the requests of callers.
    pub(crate) tasks: Tasks,
}

/// Tasks that end with the agent.
#[derive(Debug, Default)]
pub(crate) struct Tasks(Mutex<JoinSet<()>>);

impl Tasks {
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    /// What they hold is let go of soon after this.
    pub(crate) fn abort(&self) {
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.abort_all();
    }
}

impl Surroundings {
    /// The QEMU that runs VMs, and the user that it runs as: the installed one, or the one among the parts that were fetched
    /// for this user, which nobody else can run.
    pub(crate) fn emulator(&self) -> Result<(Emulator, Option<User>), AgentFailure> {
        if let Some(emulator) = &self.given_emulator {
            return Ok((emulator.clone(), self.user));
        }
        let firmware = |file: &str| PathBuf::from("/usr/share/OVMF").join(file);
        let ovmf = OvmfFiles {
            secure_code: firmware("OVMF_CODE_4M.secboot.fd"),
            code: firmware("OVMF_CODE_4M.fd"),
            empty_variables: firmware("OVMF_VARS_4M.fd"),
        };
        let program = Program::installed("qemu-system-x86_64");
        let missing = match Emulator::of(program, Vec::new(), ovmf) {
            Ok(emulator) => return Ok((emulator, self.user)),
            Err(error) => error,
        };
        if let Ok(cache) = Parts::cache_folder(|name| std::env::var_os(name))
            && let Ok(Some(parts)) = Parts::open(&cache)
            && let Ok(emulator) = parts.emulator()
        {
            if self.user.is_some() {
                tracing::warn!(
                    "QEMU is not installed; one that was fetched for trials runs as the user of the agent"
                );
            }
            return Ok((emulator, None));
        }
        Err(AgentFailure::failed(missing)
            .at_fault(Fault::Operator)
            .remedy("install QEMU and its firmware: Debian packages qemu-system-x86 and ovmf"))
    }

    /// How processors of VMs run on this host.
    pub(crate) fn accelerator(
        &self,
        emulator: &Emulator,
        user: Option<User>,
    ) -> Result<Accelerator, AgentFailure> {
        let note = self.folders.host.state.join("accelerator.json");
        Accelerator::probe(emulator, user, &note).map_err(AgentFailure::failed)
    }
}

/// With which state a VM starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WantedState {
    /// The one that it stopped with, if that is known.
    AsItStopped,
    /// The one that is there.
    Any,
    /// The one before its last key.
    PreviousGeneration,
}

/// A VM of this host.
pub(crate) struct Machine {
    surroundings: Arc<Surroundings>,
    name: VmName,
    status: Mutex<MachineStatus>,
    /// Why the last start was refused, and when.
    refusal: Mutex<Option<String>>,
    /// Held while something is done to the VM.
    running: tokio::sync::Mutex<Option<Running>>,
    /// Its TPM, while libvirt runs it. It is set and taken while `running` is locked, which has nothing then.
    held: Mutex<Option<Held>>,
    /// Where libvirt is to bring it from another host.
    awaited: Mutex<Option<Awaited>>,
    /// By what the migration is known that libvirt brought it by, until its source has said whose it is.
    arrival: Mutex<Option<Identity>>,
    /// Another host has it.
    gone: AtomicBool,
}

impl Machine {
    pub(crate) fn new(surroundings: Arc<Surroundings>, name: VmName) -> Self {
        let status = MachineStatus {
            name: name.to_string(),
            state: MachineState::Stopped,
            id: None,
            policy: None,
            accelerator: None,
            libvirt: false,
            last_event: None,
            started_offline: false,
            warnings: Vec::new(),
        };
        Self {
            surroundings,
            name,
            status: Mutex::new(status),
            refusal: Mutex::default(),
            running: tokio::sync::Mutex::default(),
            held: Mutex::default(),
            awaited: Mutex::default(),
            arrival: Mutex::default(),
            gone: AtomicBool::default(),
        }
    }

    pub(crate) fn name(&self) -> &VmName {
        &self.name
    }

    /// How it stands.
    pub(crate) fn status(&self) -> MachineStatus {
        self.lock_status().clone()
    }

    fn lock_status(&self) -> MutexGuard<'_, MachineStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the last start was refused, and when.
    pub(crate) fn last_refusal(&self) -> MutexGuard<'_, Option<String>> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn surroundings(&self) -> Arc<Surroundings> {
        Arc::clone(&self.surroundings)
    }

    pub(crate) fn folder(&self) -> PathBuf {
        let machines = self.surroundings.folders.machines();
        machines.join(self.name.as_str())
    }

    pub(crate) fn runtime(&self) -> Result<RuntimeFolder, AgentFailure> {
        let path = self
            .surroundings
            .folders
            .machine_runtime(self.name.as_str());
        RuntimeFolder::at(&path).map_err(AgentFailure::from)
    }

    fn is(&self, state: MachineState) {
        self.lock_status().state = state;
    }

    /// Notes what happened to the VM without its callers' doing, or why it ended.
    pub(crate) fn event(&self, what: &str) {
        let event = format!("{}: {what}", self.surroundings.host.now());
        tracing::info!(vm = %self.name, what, "VM");
        self.lock_status().last_event = Some(event);
    }

    /// Has the keys released, and starts the VM.
    pub(crate) async fn start(
        self: &Arc<Self>,
        wanted: WantedState,
        progress: &Progress,
    ) -> Result<(), AgentFailure> {
        self.check_not_migrating()?;
        let mut place = self.running.lock().await;
        if place.is_some() {
            return Err(
                AgentFailure::refused(format_args!("{} runs already", self.name))
                    .at_fault(Fault::Operator),
            );
        }
        self.refuse_if_held("console")?;
        self.is(MachineState::Starting);
        match Running::start(self, wanted, progress).await {
            Ok(running) => {
                self.is(MachineState::Running);
                self.event("started");
                *self.last_refusal() = None;
                self.follow(&running);
                *place = Some(running);
                Ok(())
            }
            Err(failure) => {
                self.did_not_start(&failure);
                Err(failure)
            }
        }
    }

    /// Notes what became known with the keys of a VM that starts.
    fn has_keys(&self, id: VmId, keys: &Keys) {
        let mut status = self.lock_status();
        status.id = Some(id.to_string());
        status.policy = Some(keys.protection().policy.to_string());
        status.accelerator = None;
        status.started_offline = keys.are_kept();
        status.warnings = keys.warning().into_iter().collect();
    }

    /// Notes why a start came to nothing.
    fn did_not_start(&self, failure: &AgentFailure) {
        self.is(MachineState::Stopped);
        self.event(&format!("did not start: {failure}"));
        *self.last_refusal() =
            (failure.refused).then(|| format!("{}: {failure}", self.surroundings.host.now()));
        if failure.refused && failure.at_fault == Some(Fault::Host) {
            self.surroundings.refused.notify_one();
        }
    }

    /// Takes over the VM if it runs: an earlier agent started it.
    pub(crate) async fn take_over(self: &Arc<Self>) {
        let folder = self.folder();
        let described = blocking(move || Ok(Description::load(&folder)?)).await;
        if let Ok(description) = described {
            self.lock_status().id = Some(description.id.to_string());
        }
        match Running::take_over(self).await {
            Ok(None) => {
                self.take_over_held().await;
                self.take_up_migration(None).await;
            }
            Ok(Some(running)) => {
                self.is(match running.is_paused().await {
                    true => MachineState::Paused,
                    false => MachineState::Running,
                });
                self.event("taken over from an earlier agent");
                self.take_up_migration(Some(&running)).await;
                self.follow(&running);
                *self.running.lock().await = Some(running);
            }
            Err(failure) => self.event(&format!("could not be taken over: {failure}")),
        }
    }

    /// Waits for the end of the VM, whoever brings it about, and cleans up behind it.
    fn follow(self: &Arc<Self>, running: &Running) {
        let (machine, loss) = (Arc::clone(self), running.loss_of_tpm());
        self.surroundings.tasks.spawn(async move {
            if loss.await {
                machine.event("its TPM has ended");
                machine.lock_status().warnings.push(
                    "its TPM has ended while it runs: the guest has none until the VM is stopped and started again; its state is as swtpm wrote it last".to_owned(),
                );
            }
        });
        let (machine, end) = (Arc::clone(self), running.end());
        self.surroundings.tasks.spawn(async move {
            end.await;
            let mut place = machine.running.lock().await;
            // Whoever stopped it has cleaned up already.
            if place.as_ref().is_some_and(Running::has_ended)
                && let Some(running) = place.take()
            {
                if let Ok(Some(_)) = machine.records().where_to(&machine.name) {
                    // It may run elsewhere.
                    machine.event("its QEMU has ended here");
                    return;
                }
                machine.event(&match running.messages() {
                    said if said.is_empty() => "ended by itself".to_owned(),
                    said => format!("ended by itself; QEMU said: {said}"),
                });
                machine.clean_up(running, &Progress::default()).await;
            }
        });
    }

    /// Ends the VM: asks the guest to power down, or cuts its power.
    pub(crate) async fn stop(&self, force: bool, progress: &Progress) -> Result<(), AgentFailure> {
        self.check_not_migrating()?;
        let mut place = self.running.lock().await;
        let Some(running) = place.as_mut() else {
            self.refuse_if_held(if force { "destroy" } else { "shutdown" })?;
            return Err(
                AgentFailure::refused(format_args!("{} does not run", self.name))
                    .at_fault(Fault::Operator),
            );
        };
        let before = self.lock_status().state;
        self.is(MachineState::Stopping);
        progress.step(match force {
            true => "ending the VM",
            false => "asking the guest to shut down",
        });
        let ended = async {
            // A guest whose processors are stopped hears nothing.
            if !force && before == MachineState::Paused {
                running.resume().await?;
            }
            running.power_down(force).await
        };
        if let Err(failure) = ended.await {
            self.is(before);
            return Err(failure);
        }
        if let Some(running) = place.take() {
            self.event(if force { "ended by force" } else { "shut down" });
            self.clean_up(running, progress).await;
        }
        Ok(())
    }

    /// After the end: another key for the state, and a record of it.
    async fn clean_up(&self, running: Running, progress: &Progress) {
        let warnings = running.clean_up(self, progress).await;
        let mut status = self.lock_status();
        status.state = MachineState::Stopped;
        status.accelerator = None;
        status.started_offline = false;
        status.warnings = warnings;
    }

    /// Applies the VM's policy for a host whose health has changed.
    pub(crate) async fn host_became(&self, health: &Health) {
        let mut place = self.running.lock().await;
        let Some(running) = place.as_mut() else {
            self.note_health_of_held(health);
            return;
        };
        let state = self.lock_status().state;
        let done = match (health, running.unhealthy_host(), state) {
            (Health::Unhealthy { reason, .. }, UnhealthyHost::Pause, MachineState::Running) => {
                let paused = running.pause().await;
                paused.map(|()| {
                    Some((
                        MachineState::Paused,
                        format!("paused: the host is not healthy: {reason}"),
                    ))
                })
            }
            (Health::Unhealthy { reason, .. }, UnhealthyHost::ShutDown, MachineState::Running) => {
                let told = running.ask_to_power_down().await;
                told.map(|()| {
                    Some((
                        MachineState::Stopping,
                        format!("told to shut down: the host is not healthy: {reason}"),
                    ))
                })
            }
            (Health::Healthy { .. }, _, MachineState::Paused) => {
                let resumed = running.resume().await;
                resumed.map(|()| {
                    Some((
                        MachineState::Running,
                        "goes on: the host is healthy again".to_owned(),
                    ))
                })
            }
            _ => Ok(None),
        };
        match done {
            Ok(None) => {}
            Ok(Some((state, what))) => {
                self.is(state);
                self.event(&what);
            }
            Err(failure) => self.event(&format!(
                "its policy for an unhealthy host could not be applied: {failure}"
            )),
        }
    }

    /// Its serial port.
    pub(crate) async fn console(&self) -> Result<UnixStream, AgentFailure> {
        let place = self.running.lock().await;
        if place.is_none() {
            self.refuse_if_held("console")?;
            return Err(
                AgentFailure::refused(format_args!("{} does not run", self.name))
                    .at_fault(Fault::Operator),
            );
        }
        let socket = self.runtime()?.serial_socket();
        UnixStream::connect(&socket)
            .await
            .map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => AgentFailure::refused(format_args!(
                    "{} has no console: its owner's policy forbids one",
                    self.name
                ))
                .at_fault(Fault::Operator),
                _ => AgentFailure::failed(format_args!("{}: {error}", socket.display())),
            })
    }

    /// Keeps the VM from being started until what is returned is dropped.
    pub(crate) async fn not_running(&self) -> Result<impl Sized + '_, AgentFailure> {
        self.check_not_migrating()?;
        let place = self.running.lock().await;
        self.refuse_if_held("shutdown")?;
        match &*place {
            None => Ok(place),
            Some(_) => Err(AgentFailure::refused(format_args!("{} runs", self.name))
                .at_fault(Fault::Operator)
                .remedy("stop it first with `guarded-host vm stop`")),
        }
    }

    /// Deletes the VM, which must not run.
    pub(crate) async fn remove(&self) -> Result<(), AgentFailure> {
        let _place = self.not_running().await?;
        self.delete().await
    }

    /// Deletes the VM while its caller keeps it from being started.
    pub(crate) async fn delete(&self) -> Result<(), AgentFailure> {
        let folder = self.folder();
        let record = self.stop_record();
        let id = blocking({
            let folder = folder.clone();
            move || Ok(Description::load(&folder).ok().map(|it| it.id))
        })
        .await?;
        blocking(move || {
            // While another process works with it, it is not deleted.
            if let Err(error @ StateError::InUse(_)) = StateFolder::open(&folder) {
                return Err(error.into());
            }
            hgs_files::remove_folder(&folder)?;
            stop_records::forget(&record)
        })
        .await?;
        if let Some(id) = id {
            self.surroundings.host.forget_key(&id.to_string()).await?;
        }
        Ok(())
    }

    /// Whether a state is the one that the VM stopped with.
    pub(crate) fn check_stop(&self, state: &StateFolder) -> Result<(), AgentFailure> {
        stop_records::check(state, &self.stop_record(), false)
    }
}
