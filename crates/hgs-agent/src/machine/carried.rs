//! A VM that libvirt moves: the agents become sure of each other, and hand over the TPM.
//!
//! ```text
//!  source                                             destination
//!  libvirt offer ── pairing ─────────────────────────▶ a release of its own, a place for the TPM's state
//!  virsh migrate ──────────────────── hook: prepare ─▶ swtpm waits for the state
//!     QEMU ── memory, and the TPM's state under a key that both agents have ──▶ QEMU
//!  QEMU ends ── whose is the VM? ────────────────────▶ its QEMU is there, and the state: Taken. Else: Discarded
//! ```
//!
//! The source asks only when its own QEMU has ended. So the question decides: before it, the VM is the source's, and after the
//! answer `Taken` the destination's. What the source has is deleted then. If the destination's QEMU has ended as well before it
//! was asked, neither agent can know, and an operator decides.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use hgs_client::Fault;
use hgs_files::Readers;
use hgs_kps::ServiceVersion;
use hgs_vm::description::{self, Description};
use hgs_vm::generation::{StagedGeneration, StateFolder};
use hgs_vm::libvirt::Domain;
use hgs_vm::swtpm::{Contents, PERMANENT_STATE, StateKey};
use tokio::time::sleep;

use super::held::Held;
use super::running::{self, Protected};
use super::{Machine, stop_records};
use crate::failure::blocking;
use crate::migration::destination::Released;
use crate::migration::message::{Answer, Carrier, LIMIT, Octets, Outcome, Ready};
use crate::migration::pairing::{self, Credentials, OfferedVm, Paired, answered};
use crate::migration::proof::ProofKey;
use crate::migration::records::{Departed, Identity};
use crate::migration::source::{self, Destination};
use crate::wire::{AgentFailure, MachineState};

/// How long a destination waits for libvirt after an offer.
const OFFER: Duration = Duration::from_secs(15 * 60);
/// How often it is looked whether the state of a TPM has come.
const BETWEEN: Duration = Duration::from_millis(100);

/// A VM that libvirt is expected to bring.
pub(super) struct Awaited {
    pub(super) identity: Identity,
    description: Description,
    protected: Protected,
    arriving: Arriving,
    key: StateKey,
    migration_key: StateKey,
}

/// The place of a state that has not come yet.
pub(super) struct Arriving {
    /// Goes before the folder does.
    staged: StagedGeneration,
    state: StateFolder,
    protector: Vec<u8>,
}

impl Machine {
    /// Has another host get ready for this VM, which libvirt moves there then.
    pub(crate) async fn offer_to_libvirt(&self, to: &Destination) -> Result<(), AgentFailure> {
        self.check_not_migrating()?;
        // Until the offer is written down, the VM does not end here.
        let _place = self.running.lock().await;
        let not_run = || {
            AgentFailure::refused(format_args!("libvirt does not run {}", self.name))
                .at_fault(Fault::Operator)
                .remedy("a VM that the agent runs is moved with `guarded-host vm migrate`")
        };
        let generation = self.generation_of_held().ok_or_else(not_run)??;
        let records = self.records();
        let (stream, address) = to.connect().await?;
        if let Some(earlier) = records.offered(&self.name)?
            && earlier.destination != address.to_string()
        {
            return Err(AgentFailure::refused(format_args!(
                "{} was offered to {} already, which may have it",
                self.name, earlier.destination
            ))
            .at_fault(Fault::Operator)
            .remedy("migrate it there, or stop it here; then the offer ends"));
        }
        let folder = self.folder();
        let description = blocking(move || Ok(Description::load(&folder)?)).await?;
        let vm = OfferedVm::of(&description, &generation, Carrier::Libvirt {})?;
        let host = &self.surroundings.host;
        let unwrapped = host.unwrap(&vm.protector, ServiceVersion::V2).await?;
        let key = ProofKey::of_transport_key(unwrapped.ingress_key())?;
        let credentials = Credentials::of(host).await?;
        let mut paired = pairing::offer(stream, &credentials, &vm, &key).await?;
        let ready: Ready = answered(paired.channel.receive(LIMIT).await?)?;
        let identity = Identity::of(&ready)?;
        records.offer(&self.name, &Departed::new(address.to_string(), &identity))?;
        self.event(&format!("is offered to {to}, where libvirt may bring it"));
        Ok(())
    }

    /// Makes a place for a VM that is offered and that libvirt brings, with a release of this host's own.
    pub(crate) async fn await_libvirt(
        self: &Arc<Self>,
        mut paired: Paired,
        description: String,
        released: Released,
    ) -> Result<(), AgentFailure> {
        let identity = Identity::random()?;
        let prepared = {
            let (machine, identity) = (Arc::clone(self), identity.clone());
            blocking(move || machine.make_place(identity, &description, released)).await
        };
        let awaited = match prepared {
            Ok(awaited) => awaited,
            Err(failure) => {
                self.give_up(&identity).await;
                return Err(pairing::refuse(&mut paired.channel, failure).await);
            }
        };
        *self.lock_awaited() = Some(awaited);
        let ready = Ready {
            migration: Octets(identity.migration.clone()),
            secret: Octets(identity.secret.expose().to_vec()),
            memory: Octets(Vec::new()),
            disk: None,
        };
        if let Err(error) = paired.channel.send(&Answer::Done(ready)).await {
            self.lock_awaited().take();
            self.give_up(&identity).await;
            return Err(error.into());
        }
        self.event("libvirt may bring it now");
        let machine = Arc::clone(self);
        self.surroundings.tasks.spawn(async move {
            sleep(OFFER).await;
            let same = |awaited: &mut Awaited| awaited.identity == identity;
            if machine.lock_awaited().take_if(same).is_some() {
                tracing::warn!(vm = %machine.name, "libvirt did not bring the VM that was offered");
                machine.give_up(&identity).await;
            }
        });
        Ok(())
    }

    fn make_place(
        &self,
        identity: Identity,
        description: &str,
        released: Released,
    ) -> Result<Awaited, AgentFailure> {
        let folder = self.folder();
        hgs_files::private_folder(&folder)?;
        let records = self.records();
        records.prune()?;
        records.awaited(&identity, &self.name)?;
        let file = folder.join(description::FILE);
        hgs_files::create(&file, description.as_bytes(), Readers::Owner)?;
        let (state, staged) = released.stage(&folder)?;
        let Released {
            unwrapped,
            protected,
            migration_key,
        } = released;
        Ok(Awaited {
            identity,
            description: Description::read(description)?,
            protected,
            key: StateKey::of_transport_key(unwrapped.egress_key().secret())?,
            migration_key,
            arriving: Arriving {
                staged,
                state,
                protector: unwrapped.egress().octets().to_vec(),
            },
        })
    }

    /// Nothing of a VM that did not come stays here.
    pub(super) async fn give_up(&self, identity: &Identity) {
        let noted = self
            .records()
            .arrived(identity, &self.name, Outcome::Discarded);
        let deleted = self.delete_rest().await;
        if let Err(failure) = noted.and(deleted) {
            tracing::error!(vm = %self.name, %failure, "what came of a VM could not be deleted");
        }
        self.is_not_here();
    }

    /// Starts the TPM for a VM that libvirt brings now.
    pub(super) async fn hold_arriving(
        self: &Arc<Self>,
        domain: Domain,
        user: u32,
    ) -> Result<(), AgentFailure> {
        let _place = self.running.lock().await;
        let Some(awaited) = self.lock_awaited().take() else {
            return self.check_not_migrating();
        };
        let identity = awaited.identity.clone();
        let surroundings = self.surroundings();
        let socket = (surroundings.folders).tpm_socket(&domain.id().to_string());
        let held = blocking(move || {
            let checked = super::held::check(
                &surroundings,
                &domain,
                &socket,
                &awaited.protected.protection,
            );
            if let Err(failure) = checked {
                return Ok(Err((awaited, failure)));
            }
            let Awaited {
                description,
                arriving,
                key,
                migration_key,
                ..
            } = awaited;
            let tpm = running::TpmState {
                folder: arriving.staged.path(),
                contents: Contents::Incoming,
                key: &key,
                migration_key: &migration_key,
            };
            let (process, synchroniser) =
                super::held::launch(&surroundings, &tpm, (&socket, user))?;
            let Arriving {
                staged,
                state,
                protector,
            } = arriving;
            let held = Held::new(process, socket, state, synchroniser, &description);
            Ok(Ok((held, staged, protector)))
        })
        .await;
        let (held, staged, protector) = match held {
            Ok(Ok(started)) => started,
            // Its definition can be corrected where it comes from.
            Ok(Err((awaited, failure))) => {
                *self.lock_awaited() = Some(awaited);
                return Err(failure);
            }
            Err(failure) => {
                self.give_up(&identity).await;
                return Err(failure);
            }
        };
        self.lock_status().libvirt = true;
        self.event("libvirt brings it");
        *self.lock_arrival() = Some(identity);
        self.follow_held(&held);
        self.follow_state(&held, staged, protector);
        *self.lock_held() = Some(held);
        Ok(())
    }

    /// Makes a generation of the state as soon as it has come.
    fn follow_state(self: &Arc<Self>, held: &Held, staged: StagedGeneration, protector: Vec<u8>) {
        let (machine, end) = (Arc::clone(self), held.end());
        let file: PathBuf = staged.path().join(PERMANENT_STATE);
        self.surroundings.tasks.spawn(async move {
            while !file.exists() {
                if *end.borrow() {
                    // Dropped, the generation goes.
                    return;
                }
                sleep(BETWEEN).await;
            }
            let completed = blocking({
                let machine = Arc::clone(&machine);
                move || match &mut *machine.lock_held() {
                    Some(held) => held.complete(staged, &protector),
                    None => Ok(()),
                }
            });
            match completed.await {
                Ok(()) => machine.event("the state of its TPM is here"),
                Err(failure) => {
                    machine.event(&format!("the state of its TPM can't be kept: {failure}"));
                }
            }
        });
    }

    /// Its QEMU has ended before the source has asked. `running` is locked.
    pub(super) async fn arrival_has_ended(&self, identity: &Identity, has_state: bool) {
        if has_state {
            self.is(MachineState::Migrating);
            self.event("has ended here before its source has said whose it is; see `guarded-host vm reclaim`");
        } else {
            self.give_up(identity).await;
        }
    }

    /// The source asks whose the VM is: its own QEMU has ended.
    pub(crate) async fn settle_arrival(
        &self,
        identity: &Identity,
    ) -> Result<Outcome, AgentFailure> {
        let same = |awaited: &mut Awaited| awaited.identity == *identity;
        let awaited = self.lock_awaited().take_if(same);
        let _place = self.running.lock().await;
        if awaited.is_some() {
            drop(awaited);
            self.give_up(identity).await;
            return Ok(Outcome::Discarded);
        }
        if self.lock_arrival().as_ref() != Some(identity) {
            return Ok(Outcome::Discarded);
        }
        let (runs, has_state) = match &*self.lock_held() {
            Some(held) => (!*held.end().borrow(), held.has_state()),
            None => (false, true),
        };
        match (runs, has_state) {
            (true, true) => {
                self.records()
                    .arrived(identity, &self.name, Outcome::Taken)?;
                self.lock_arrival().take();
                stop_records::forget(&self.stop_record())?;
                self.is(MachineState::Running);
                self.event("came from another host, by libvirt");
                Ok(Outcome::Taken)
            }
            // What the source has is whole, so QEMU here can only be one that waits in vain.
            (true, false) => {
                self.end_held().await?;
                self.give_up(identity).await;
                Ok(Outcome::Discarded)
            }
            (false, _) => Ok(Outcome::Pending),
        }
    }

    /// Makes a VM of this host's own that has ended here before its source has said whose it is.
    pub(super) fn take_arrival(&self) -> Result<bool, AgentFailure> {
        if self.lock_held().is_some() {
            return Ok(false);
        }
        let Some(identity) = self.lock_arrival().take() else {
            return Ok(false);
        };
        self.records()
            .arrived(&identity, &self.name, Outcome::Taken)?;
        self.is(MachineState::Stopped);
        self.event("is this host's: reclaimed by its operator");
        Ok(true)
    }

    /// Its QEMU has ended here, and it was offered to another host: asks whose it is. Returns what is left to clean up if it is
    /// this host's. `running` is locked.
    pub(super) async fn ask_after_offer(
        self: &Arc<Self>,
        departed: Departed,
        held: Held,
    ) -> Result<Option<Held>, AgentFailure> {
        let records = self.records();
        records.departed(&self.name, &departed)?;
        records.forget_offer(&self.name)?;
        match source::ask(&departed).await {
            Ok((Outcome::Taken, gone)) => {
                drop(held);
                self.forget_all(gone).await?;
                Ok(None)
            }
            Ok((Outcome::Discarded, gone)) => {
                gone.forget().await;
                records.forget_departed(&self.name)?;
                Ok(Some(held))
            }
            unknown => {
                drop(held);
                self.is(MachineState::Migrating);
                let why = match unknown {
                    Err(failure) => failure.message,
                    Ok(_) => "it has ended there as well".to_owned(),
                };
                self.event(&format!(
                    "has ended here, and whether it is {}'s now is not known: {why}",
                    departed.destination
                ));
                self.settle_migration(departed);
                Ok(None)
            }
        }
    }

    /// After a start of the agent, for a VM that does not run here: an offer becomes a question.
    pub(super) fn take_up_offer(&self) -> Result<(), AgentFailure> {
        let records = self.records();
        if let Some(departed) = records.offered(&self.name)? {
            records.departed(&self.name, &departed)?;
            records.forget_offer(&self.name)?;
        }
        Ok(())
    }

    fn lock_awaited(&self) -> MutexGuard<'_, Option<Awaited>> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// By what the migration is known that brought it, while its source has not said whose it is.
    pub(super) fn lock_arrival(&self) -> MutexGuard<'_, Option<Identity>> {
        self.arrival.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_awaited(&self) -> bool {
        self.lock_awaited().is_some()
    }

    /// An agent before this one has received it, and its source has not asked yet.
    pub(crate) fn has_come_before(&self, identity: Identity) {
        *self.lock_arrival() = Some(identity);
    }

    fn is_not_here(&self) {
        self.lock_arrival().take();
        self.gone.store(true, Ordering::Relaxed);
    }
}
