//! The destination: has a release of its own for a VM that is offered, receives it, and runs it when the source has let go.
//!
//! Until [`Command::Run`] comes, every failure deletes what was received, and the source goes on. A connection that breaks is
//! such a failure.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hgs_client::{Fault, GuardedHost, Unwrapped};
use hgs_crypto::random::{self, System};
use hgs_files::{FileError, Readers};
use hgs_kps::ServiceVersion;
use hgs_vm::description::{self, Description, FileName, VmName};
use hgs_vm::generation::{MIGRATION_KEY, StagedGeneration, StateFolder};
use hgs_vm::protection::SEALED_FILE;
use hgs_vm::qemu::accelerator::Accelerator;
use hgs_vm::qemu::command::{self, Begin, CommandLine};
use hgs_vm::qemu::process::{User, create_disk};
use hgs_vm::qemu::qmp::{
    Endpoint, MigrationAddress, MigrationParameters, MigrationStatus, RunState,
};
use hgs_vm::qemu::{Emulator, MachineType, Version};
use hgs_vm::swtpm::{Contents, StateKey};
use tokio::io::AsyncWriteExt as _;

use super::channel::Channel;
use super::listener::Expected;
use super::message::{
    Answer, Carrier, Command, LIMIT, Octets, Offer, OfferedFile, Outcome, PIECE, Ready,
    RunningMachine, Stage,
};
use super::pairing::{IncomingOffer, Paired, refuse};
use super::proof::{ProofKey, Side};
use super::records::{Identity, Records};
use super::source::processor;
use super::wiring::{CREDENTIALS, DISK, MEMORY, TOKEN, Wiring};
use crate::failure::blocking;
use crate::machine::running::{Protected, Running, TpmState, launch, serial, settings};
use crate::machine::{Machine, Surroundings, stop_records};
use crate::service::Service;
use crate::wire::AgentFailure;

/// Octets of the largest file but a disk: a kernel with a large first file system.
const MAX_FILE: u64 = 1 << 30;
/// Octets of the largest disk.
const MAX_DISK: u64 = 64 << 40;
/// Octets that a host keeps free on its disk, and in its memory.
const SPARE: u64 = 64 << 20;

/// An offer that this host can take.
struct Plan {
    description: Description,
    machine: RunningMachine,
    machine_type: MachineType,
    emulator: Emulator,
    user: Option<User>,
    accelerator: Accelerator,
}

/// Takes a VM that is offered, or tells the source why not.
pub(super) async fn take(
    service: &Arc<Service>,
    expected: &Arc<Expected>,
    incoming: IncomingOffer,
    paired: impl FnOnce(),
) -> Result<(), AgentFailure> {
    let surroundings = service.surroundings();
    let offer = incoming.unverified().clone();
    // Who moves it: with a plan, the agents.
    let checked = {
        let (surroundings, offer) = (Arc::clone(&surroundings), offer.clone());
        blocking(move || {
            let description = Description::read(&offer.description)?;
            Ok(match &offer.carrier {
                Carrier::Agent(machine) => {
                    let plan = plan(&surroundings, description.clone(), machine)?;
                    (description, Some(plan))
                }
                Carrier::Libvirt {} => (description, None),
            })
        })
        .await
    };
    let reserved = checked.and_then(|(description, plan)| {
        let machine = service.reserve(&description)?;
        Ok((machine, description, plan))
    });
    let (machine, description, plan) = match reserved {
        Ok(reserved) => reserved,
        Err(failure) => return Err(incoming.refuse(failure).await),
    };
    let taken = async {
        let released = Released::of(&surroundings.host, &offer, &description).await;
        let (released, key) = match released {
            Ok(released) => released,
            Err(failure) => return Err(incoming.refuse(failure).await),
        };
        let protector = released.unwrapped.ingress().digest();
        let accepted = incoming.accept(&key, protector).await?;
        paired();
        let (vm, host) = (machine.name(), accepted.peer.statement().host_id);
        tracing::info!(%vm, %host, "a VM comes from another host");
        match plan {
            Some(plan) => receive(&machine, expected, accepted, plan, released).await,
            None => {
                let text = offer.description;
                machine.await_libvirt(accepted, text, released).await
            }
        }
    };
    let taken = taken.await;
    if let Err(failure) = &taken {
        tracing::warn!(vm = %machine.name(), %failure, "a VM that was offered is not taken");
        service.unreserve(machine.name());
    }
    taken
}

async fn receive(
    machine: &Arc<Machine>,
    expected: &Arc<Expected>,
    mut paired: Paired,
    plan: Plan,
    released: Released,
) -> Result<(), AgentFailure> {
    let records = Records::in_state(&machine.surroundings().folders.host.state);
    let identity = Identity::random()?;
    let begun = begin(machine, expected, &mut paired, plan, released, &identity).await;
    let mut arriving = match begun {
        Ok(arriving) => arriving,
        Err(failure) => {
            records.forget_arrived(&identity)?;
            return Err(refuse(&mut paired.channel, failure).await);
        }
    };
    match arriving.follow(&mut paired.channel).await {
        Ok(()) => {
            arriving.keep(machine).await;
            let channel = &mut paired.channel;
            if channel.send(&Answer::Done(Stage::Runs)).await.is_ok()
                && let Ok(Command::Forget) = channel.receive_soon(LIMIT).await
            {
                records.forget_arrived(&identity)?;
            }
            Ok(())
        }
        Err(failure) => {
            arriving.discard().await;
            Err(refuse(&mut paired.channel, failure).await)
        }
    }
}

/// What this host's own release of an offered protector has given.
pub(crate) struct Released {
    pub(crate) unwrapped: Unwrapped,
    pub(crate) protected: Protected,
    /// Under what the state of the TPM comes.
    pub(crate) migration_key: StateKey,
}

impl Released {
    /// Has the protector released, and returns what the source's proof is checked by.
    async fn of(
        host: &GuardedHost,
        offer: &Offer,
        description: &Description,
    ) -> Result<(Self, ProofKey), AgentFailure> {
        let Octets(protector) = &offer.protector;
        let unwrapped = host.unwrap(protector, ServiceVersion::V2).await?;
        let Octets(sealed) = &offer.protection;
        let protected = Protected::open(&unwrapped, sealed, description)?;
        let proof_key = ProofKey::of_transport_key(unwrapped.ingress_key())?;
        let migration_key = match &offer.migration_key {
            None => StateKey::migration_key_of_transport_key(unwrapped.ingress_key().secret())?,
            Some(Octets(sealed)) => {
                let key = unwrapped.open(sealed).map_err(hgs_client::Error::from)?;
                StateKey::new(key).map_err(refused)?
            }
        };
        let released = Self {
            unwrapped,
            protected,
            migration_key,
        };
        Ok((released, proof_key))
    }

    /// Makes a VM folder the place of a state that has not come yet: a first generation under this host's next key.
    pub(crate) fn stage(
        &self,
        folder: &Path,
    ) -> Result<(StateFolder, StagedGeneration), AgentFailure> {
        let state = StateFolder::create(folder)?;
        let staged = state.stage()?;
        let protection = staged.path().join(SEALED_FILE);
        hgs_files::create(&protection, &self.protected.resealed, Readers::Owner)?;
        // Its swtpm sends the state on under the same key, should the VM move again before it is started anew.
        let sealed = self.unwrapped.reseal(self.migration_key.secret());
        let sealed = sealed.map_err(hgs_client::Error::from)?;
        let migration_key = staged.path().join(MIGRATION_KEY);
        hgs_files::create(&migration_key, &sealed, Readers::Owner)?;
        Ok((state, staged))
    }
}

fn refused(why: impl std::fmt::Display) -> AgentFailure {
    AgentFailure::refused(why).at_fault(Fault::Operator)
}

/// What costs nothing to check, before a guardian is asked.
fn plan(
    surroundings: &Surroundings,
    description: Description,
    machine: &RunningMachine,
) -> Result<Plan, AgentFailure> {
    check_files(&description, machine)?;
    let (emulator, user) = surroundings.emulator()?;
    let theirs: Version = machine.emulator.parse().map_err(refused)?;
    let machine_type: MachineType = machine.machine_type.parse().map_err(refused)?;
    let ours = MachineType::of(emulator.version);
    if description.processor_model.is_none() && MachineType::of(theirs) != ours {
        return Err(refused(format_args!(
            "the VM sees all that QEMU {theirs} offers, and this host has QEMU {}",
            emulator.version
        ))
        .remedy("name a `processor_model` in vm.toml that both have, and start the VM with it"));
    }
    if machine_type > ours {
        return Err(refused(format_args!(
            "the VM has the board {machine_type}, and this host's QEMU {} has no newer one than {ours}",
            emulator.version
        ))
        .remedy("bring QEMU of this host up to date"));
    }
    let accelerator = surroundings.accelerator(&emulator, user)?;
    let here = accelerator.name();
    if machine.accelerator != here {
        return Err(refused(format_args!(
            "the VM runs on {} there, and would on {here} here",
            machine.accelerator
        ))
        .remedy("stop it, export it and import it here"));
    }
    if description.processor_model.is_none()
        && let Some(theirs) = &machine.processor
        && *theirs != processor()
    {
        return Err(refused(
            "the VM sees all of its host's processor, and this host has another one",
        )
        .remedy(
            "name a `processor_model` in vm.toml that both hosts offer, and start the VM with it",
        ));
    }
    check_room(surroundings, &description, machine)?;
    Ok(Plan {
        description,
        machine: machine.clone(),
        machine_type,
        emulator,
        user,
        accelerator,
    })
}

fn check_files(description: &Description, machine: &RunningMachine) -> Result<(), AgentFailure> {
    let disk = description.disk.as_ref();
    let named = description.files().into_iter();
    let named = named.filter(|file| Some(*file) != disk.map(|disk| &disk.file));
    let offered = machine.files.iter().map(|file| file.name.as_str());
    let large = |file: &OfferedFile| file.octets > MAX_FILE;
    let right = named.map(FileName::as_str).eq(offered)
        && disk.is_some() == machine.disk.is_some()
        && !machine.files.iter().any(large)
        && machine.disk.is_none_or(|octets| octets <= MAX_DISK);
    match right {
        true => Ok(()),
        false => Err(refused(
            "the files that are offered are not those of vm.toml, or too large",
        )),
    }
}

fn check_room(
    surroundings: &Surroundings,
    description: &Description,
    machine: &RunningMachine,
) -> Result<(), AgentFailure> {
    let folder = surroundings.folders.machines();
    let system = rustix::fs::statvfs(&folder)
        .map_err(|error| FileError::at(&folder, std::io::Error::from(error)))?;
    let free = system.f_bavail.saturating_mul(system.f_frsize);
    let files = machine.files.iter().map(|file| file.octets).sum::<u64>();
    let needed = files + machine.disk.unwrap_or(0) + SPARE;
    if free < needed {
        return Err(refused(format_args!(
            "the VM needs {} MiB of disk, and this host has {} MiB free",
            needed >> 20,
            free >> 20
        )));
    }
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = memory.lines().find_map(|line| {
        let line = line.strip_prefix("MemAvailable:")?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    });
    let needed = u64::from(description.memory.mib()) + (SPARE >> 20);
    if let Some(available) = available
        && available >> 10 < needed
    {
        return Err(refused(format_args!(
            "the VM needs {needed} MiB of memory, and this host has {} MiB available",
            available >> 10
        )));
    }
    Ok(())
}

/// The folder of a VM that is not here yet. Dropped, it is removed.
struct NewFolder {
    path: PathBuf,
    kept: bool,
}

impl Drop for NewFolder {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// A VM that is being received.
struct Arriving {
    /// Goes before the folder does.
    running: Option<Running>,
    staged: Option<StagedGeneration>,
    wiring: Option<Wiring>,
    folder: NewFolder,
    runtime: PathBuf,
    protector: Vec<u8>,
    identity: Identity,
    records: Records,
    name: VmName,
    has_disk: bool,
    policy: String,
    expected: Arc<Expected>,
    tokens: Vec<Vec<u8>>,
}

async fn begin(
    machine: &Arc<Machine>,
    expected: &Arc<Expected>,
    paired: &mut Paired,
    plan: Plan,
    released: Released,
    identity: &Identity,
) -> Result<Arriving, AgentFailure> {
    let surroundings = machine.surroundings();
    let folder = NewFolder {
        path: machine.folder(),
        kept: false,
    };
    hgs_files::private_folder(&folder.path)?;
    // A killed agent must not take it for a VM of its own.
    let records = Records::in_state(&surroundings.folders.host.state);
    records.prune()?;
    records.arrived(identity, machine.name(), Outcome::Pending)?;
    let text = plan.description.to_toml();
    let file = folder.path.join(description::FILE);
    hgs_files::create(&file, text.as_bytes(), Readers::Owner)?;
    for file in &plan.machine.files {
        receive_file(&folder.path, file, &mut paired.channel).await?;
    }
    let runtime = machine.runtime()?;
    let arriving = {
        let runtime = runtime.clone();
        let (authority, peer) = (paired.authority.clone(), paired.peer_authority.clone());
        let (name, expected) = (machine.name().clone(), Arc::clone(expected));
        let identity = identity.clone();
        blocking(move || {
            let Plan {
                description,
                machine,
                machine_type,
                emulator,
                user,
                accelerator,
            } = plan;
            if let (Some(disk), Some(octets)) = (&description.disk, machine.disk) {
                create_disk(&folder.path.join(disk.file.as_str()), disk.format, octets)?;
            }
            let (state, staged) = released.stage(&folder.path)?;
            let Released {
                unwrapped,
                protected,
                migration_key,
            } = released;
            let line = CommandLine::new(&command::Machine {
                description: &description,
                protection: &protected.protection,
                folder: &folder.path,
                runtime: &runtime,
                emulator: &emulator,
                accelerator: &accelerator,
                serial: serial(&protected.protection),
                direct_io: false,
                begin: Begin::Incoming(machine_type),
            })?;
            let key = StateKey::of_transport_key(unwrapped.egress_key().secret())?;
            // To be moved on, it is the next protector's key that counts.
            let proof_key = ProofKey::of_transport_key(unwrapped.egress_key())?;
            let tpm = TpmState {
                folder: staged.path(),
                contents: Contents::Incoming,
                key: &key,
                migration_key: &migration_key,
            };
            let launched = launch(tpm, &line, &settings(&runtime, user), &surroundings.swtpm)?;
            let running = Running::of(launched, state, &description, proof_key)?;
            let arriving = Arriving {
                running: Some(running),
                staged: Some(staged),
                wiring: None,
                folder,
                runtime: runtime.path().to_owned(),
                protector: unwrapped.egress().octets().to_vec(),
                identity,
                records,
                name,
                has_disk: machine.disk.is_some(),
                policy: protected.protection.policy.to_string(),
                expected,
                tokens: Vec::new(),
            };
            let wiring = Wiring::new(&runtime, user, Side::Destination, &authority, &peer);
            Ok((arriving, wiring))
        })
        .await?
    };
    let (mut arriving, wiring) = arriving;
    let set_up = match wiring {
        Ok(wiring) => arriving.set_up(wiring).await,
        Err(failure) => Err(failure),
    };
    match set_up {
        Ok(ready) => match paired.channel.send(&Answer::Done(ready)).await {
            Ok(()) => Ok(arriving),
            Err(error) => {
                arriving.discard().await;
                Err(error.into())
            }
        },
        Err(failure) => {
            arriving.discard().await;
            Err(failure)
        }
    }
}

async fn receive_file(
    folder: &Path,
    file: &OfferedFile,
    channel: &mut Channel,
) -> Result<(), AgentFailure> {
    let path = folder.join(&file.name);
    let failed = |error| AgentFailure::from(FileError::at(&path, error));
    let mut options = tokio::fs::OpenOptions::new();
    let options = options.write(true).create_new(true).mode(0o600);
    let mut target = options.open(&path).await.map_err(failed)?;
    let mut left = file.octets;
    while left > 0 {
        let piece = channel.receive_octets(PIECE).await?;
        let length = piece.len() as u64;
        if length == 0 || length > left {
            return Err(refused(
                "the source sends more of a file than it has announced",
            ));
        }
        target.write_all(&piece).await.map_err(failed)?;
        left -= length;
    }
    target.sync_all().await.map_err(failed)
}

impl Arriving {
    fn running(&self) -> Result<&Running, AgentFailure> {
        let running = self.running.as_ref();
        running.ok_or_else(|| AgentFailure::failed("the VM is not here any more"))
    }

    /// QEMU listens for disk and memory.
    async fn set_up(&mut self, mut wiring: Wiring) -> Result<Ready, AgentFailure> {
        let folder = wiring.folder().try_clone_to_owned();
        let folder = folder.map_err(AgentFailure::failed)?;
        let has_disk = self.has_disk;
        self.running()?
            .monitor(move |monitor| {
                let given = monitor.add_descriptor(std::os::fd::AsFd::as_fd(&folder))?;
                monitor.add_tls_credentials(CREDENTIALS, &given.path(), Endpoint::Server)?;
                if has_disk {
                    monitor.export_disk(&given.path().join(DISK), CREDENTIALS)?;
                }
                monitor.prepare_incoming()?;
                monitor.set_migration_parameters(&MigrationParameters {
                    tls_credentials: Some(CREDENTIALS),
                    ..MigrationParameters::default()
                })?;
                let address = MigrationAddress::Unix(given.path().join(MEMORY));
                monitor.migrate_incoming(&address)
            })
            .await?;
        let mut token = |socket| -> Result<Vec<u8>, AgentFailure> {
            let token: [u8; TOKEN] = random::array(&mut System::new())?;
            wiring.receive(socket, self.expected.expect(&token));
            self.tokens.push(token.to_vec());
            Ok(token.to_vec())
        };
        let memory = token(MEMORY)?;
        let disk = match has_disk {
            true => Some(Octets(token(DISK)?)),
            false => None,
        };
        self.wiring = Some(wiring);
        Ok(Ready {
            migration: Octets(self.identity.migration.clone()),
            secret: Octets(self.identity.secret.expose().to_vec()),
            memory: Octets(memory),
            disk,
        })
    }

    /// Answers the source until it says that the VM is to run here, and it does.
    async fn follow(&mut self, channel: &mut Channel) -> Result<(), AgentFailure> {
        let mut stage = Stage::Waits;
        loop {
            // A source that says nothing for long is gone.
            let command = channel.receive_soon::<serde_json::Value>(LIMIT).await?;
            match serde_json::from_value(command.clone()) {
                Ok(Command::Stage) => {
                    if stage == Stage::Waits && self.is_whole().await? {
                        self.settle_state().await?;
                        stage = Stage::Loaded;
                    }
                    channel.send(&Answer::Done(stage)).await?;
                }
                Ok(Command::Run) if stage == Stage::Loaded => return self.run().await,
                _ => {
                    let failed = serde_json::from_value::<Answer<()>>(command);
                    return Err(match failed {
                        Ok(Answer::Failed(failure)) => AgentFailure::failed(format_args!(
                            "the source has broken off: {failure}"
                        )),
                        _ => AgentFailure::failed("the source does not say what is expected"),
                    });
                }
            }
        }
    }

    /// Whether QEMU has all of the machine.
    async fn is_whole(&self) -> Result<bool, AgentFailure> {
        let running = self.running()?;
        let looked =
            running.monitor(|monitor| Ok((monitor.query_migrate()?, monitor.query_status()?)));
        let (migration, state) = match looked.await {
            Ok(looked) => looked,
            Err(failure) => {
                let said = running.messages();
                return Err(AgentFailure::failed(format_args!(
                    "QEMU of this host did not take the machine: {failure}; it said: {said}"
                ))
                .at_fault(Fault::Host));
            }
        };
        match migration.status {
            MigrationStatus::Completed => Ok(state == RunState::Paused),
            MigrationStatus::Failed | MigrationStatus::Cancelled => {
                let why = migration.error.unwrap_or_else(|| running.messages());
                Err(AgentFailure::failed(format_args!(
                    "QEMU of this host did not take the machine: {why}"
                ))
                .at_fault(Fault::Host))
            }
            _ => Ok(false),
        }
    }

    /// The machine is whole: its disk is its own, and the state of its TPM is a generation.
    async fn settle_state(&mut self) -> Result<(), AgentFailure> {
        if self.has_disk {
            self.running()?
                .monitor(|monitor| monitor.end_export())
                .await?;
        }
        let (Some(mut running), Some(staged)) = (self.running.take(), self.staged.take()) else {
            return Err(AgentFailure::failed("the VM is not here any more"));
        };
        let protector = self.protector.clone();
        let (running, settled) = blocking(move || {
            let settled = running.settle(staged, &protector);
            Ok((running, settled))
        })
        .await?;
        self.running = Some(running);
        settled
    }

    /// Runs it. It is written down before, so that an agent that comes after this one knows whose the VM is.
    async fn run(&self) -> Result<(), AgentFailure> {
        self.records
            .arrived(&self.identity, &self.name, Outcome::Taken)?;
        let running = self.running()?;
        let state = running.monitor(|monitor| {
            monitor.cont()?;
            monitor.query_status()
        });
        match state.await {
            Ok(RunState::Running) => Ok(()),
            Ok(other) => Err(AgentFailure::failed(format_args!(
                "the VM does not run on this host: QEMU says {other:?}"
            ))
            .at_fault(Fault::Host)),
            Err(failure) => Err(failure),
        }
    }

    /// It is a VM of this host.
    async fn keep(&mut self, machine: &Arc<Machine>) {
        self.end_wiring();
        self.folder.kept = true;
        if let Some(running) = self.running.take() {
            let _ = running
                .monitor(|monitor| monitor.remove_tls_credentials(CREDENTIALS))
                .await;
            let _ = stop_records::forget(&machine.stop_record());
            machine.has_arrived(running, self.policy.clone()).await;
        }
    }

    /// Nothing of it stays, and nobody will run it.
    async fn discard(&mut self) {
        if let Some(running) = self.running.take()
            && let Err(failure) = running.kill().await
        {
            tracing::error!(vm = %self.name, %failure, "a VM that was not taken could not be ended");
        }
        self.end_wiring();
        self.staged = None;
        let _ = fs::remove_dir_all(&self.folder.path);
        let _ = fs::remove_dir_all(&self.runtime);
        let discarded = Outcome::Discarded;
        if let Err(failure) = self.records.arrived(&self.identity, &self.name, discarded) {
            tracing::error!(vm = %self.name, %failure, "that a VM was not taken could not be noted");
        }
    }

    fn end_wiring(&mut self) {
        self.wiring = None;
        for token in self.tokens.drain(..) {
            self.expected.forget(&token);
        }
    }
}
