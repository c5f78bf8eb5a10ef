//! What the agent does for its callers.

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Mutex, PoisonError};

use hgs_client::Fault;
use hgs_vm::description::{Description, VmName};
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::sync::watch;

use crate::machine::{Machine, Surroundings, WantedState};
use crate::migration::message::Outcome;
use crate::migration::records::{Arrived, Identity, Records};
use crate::migration::source::Destination;
use crate::progress::Progress;
use crate::wire::{AgentFailure, AgentStatus, Health, HeldTpm, MachineStatus, Migrated, Request};

/// A host and its VMs.
pub(crate) struct Service {
    pub(crate) surroundings: Arc<Surroundings>,
    machines: Mutex<BTreeMap<VmName, Arc<Machine>>>,
    health: watch::Receiver<Health>,
    since: String,
}

impl Service {
    pub(crate) fn new(surroundings: Surroundings, health: watch::Receiver<Health>) -> Self {
        let since = surroundings.host.now().to_string();
        Self {
            surroundings: Arc::new(surroundings),
            machines: Mutex::default(),
            health,
            since,
        }
    }

    /// Finds the VMs of the host, and takes over those that run.
    pub(crate) async fn take_over(&self) -> Result<(), AgentFailure> {
        let mut received = self.discard_arrivals().await?;
        let folder = self.surroundings.folders.machines();
        let failed = |error| AgentFailure::failed(format_args!("{}: {error}", folder.display()));
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            // What begins with a full stop is an import that was not finished.
            let Some(name) = name.to_str().and_then(|name| name.parse::<VmName>().ok()) else {
                continue;
            };
            let machine = self.machine_at(name.clone());
            if let Some(identity) = received.remove(&name) {
                machine.has_come_before(identity);
            }
            machine.take_over().await;
            self.lock().insert(name, machine);
        }
        Ok(())
    }

    /// Deletes what an agent before this one had received of VMs that it did not run. Returns those that libvirt may run: their
    /// state is whole, and their sources have not said whose they are.
    async fn discard_arrivals(&self) -> Result<BTreeMap<VmName, Identity>, AgentFailure> {
        let records = Records::in_state(&self.surroundings.folders.host.state);
        let mut received = BTreeMap::new();
        for record in records.all_arrived()? {
            if let (Outcome::Pending, Some(identity)) = (record.outcome, record.identity()) {
                let machine = self.machine_at(record.name.clone());
                let is_whole = hgs_vm::generation::StateFolder::is_whole(&machine.folder());
                if record.libvirt && is_whole {
                    received.insert(record.name, identity);
                    continue;
                }
                machine.discard_arrival().await?;
                records.arrived(&identity, &record.name, Outcome::Discarded)?;
            }
        }
        Ok(received)
    }

    /// Whose a VM is that libvirt brought: its source asks.
    pub(crate) async fn settle_arrival(
        &self,
        record: &Arrived,
        identity: &Identity,
    ) -> Result<Outcome, AgentFailure> {
        if record.outcome != Outcome::Pending {
            return Ok(record.outcome);
        }
        let machine = self.lock().get(&record.name).cloned();
        let outcome = match machine {
            Some(machine) => machine.settle_arrival(identity).await?,
            None => Outcome::Discarded,
        };
        if outcome == Outcome::Discarded {
            let records = Records::in_state(&self.surroundings.folders.host.state);
            records.arrived(identity, &record.name, outcome)?;
        }
        Ok(outcome)
    }

    pub(crate) fn surroundings(&self) -> Arc<Surroundings> {
        Arc::clone(&self.surroundings)
    }

    /// Keeps the place of a VM that is on its way here.
    pub(crate) fn reserve(&self, description: &Description) -> Result<Arc<Machine>, AgentFailure> {
        let (name, id) = (&description.name, description.id.to_string());
        let machine = self.machine_at(name.clone());
        let refused = |what: String| {
            AgentFailure::refused(format_args!("this host has {what}"))
                .at_fault(Fault::Operator)
                .remedy("remove that VM first, or rename it there by an export and an import")
        };
        let mut machines = self.lock();
        if machines.contains_key(name) || hgs_files::exists(&machine.folder())? {
            return Err(refused(format!("a VM named {name}")));
        }
        let same = |other: &&Arc<Machine>| other.status().id.as_ref() == Some(&id);
        if let Some(other) = machines.values().find(same) {
            return Err(refused(format!("the VM {id}, named {}", other.name())));
        }
        machine.is_arriving(description);
        machines.insert(name.clone(), Arc::clone(&machine));
        Ok(machine)
    }

    /// It has not come.
    pub(crate) fn unreserve(&self, name: &VmName) {
        self.lock().remove(name);
    }

    fn machine_at(&self, name: VmName) -> Arc<Machine> {
        Arc::new(Machine::new(Arc::clone(&self.surroundings), name))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<VmName, Arc<Machine>>> {
        let mut machines = self.machines.lock().unwrap_or_else(PoisonError::into_inner);
        machines.retain(|_, machine| !machine.is_gone());
        machines
    }

    /// Applies the policies of running VMs whenever the host becomes healthy or stops being so.
    pub(crate) async fn follow_health(self: Arc<Self>) {
        let mut health = self.health.clone();
        while health.changed().await.is_ok() {
            let now = health.borrow_and_update().clone();
            let machines: Vec<_> = self.lock().values().cloned().collect();
            for machine in machines {
                // Each by itself: one that is being started or stopped keeps the others waiting for nothing.
                let now = now.clone();
                tokio::spawn(async move { machine.host_became(&now).await });
            }
        }
    }

    /// Does what a caller asks for.
    pub(crate) async fn answer(
        &self,
        request: Request,
        progress: &Progress,
    ) -> Result<Value, AgentFailure> {
        match request {
            Request::Status {} => Ok(document(&AgentStatus {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                process: std::process::id(),
                since: self.since.clone(),
                health: self.health.borrow().clone(),
                machines: self.list(),
            })),
            Request::List {} => Ok(document(&self.list())),
            Request::Show { name } => Ok(document(&self.find(&name)?.status())),
            Request::Trace { name } => {
                let health = self.health.borrow().clone();
                Ok(document(&self.find(&name)?.trace(&health).await))
            }
            Request::Import { folder, name } => {
                let name = self.surroundings.import(folder, name, progress).await?;
                let machine = self.machine_at(name.clone());
                self.lock().insert(name, Arc::clone(&machine));
                Ok(document(&machine.status()))
            }
            Request::Export {
                name,
                folder,
                remove,
            } => {
                let machine = self.find(&name)?;
                machine.export(folder, remove, progress).await?;
                if remove {
                    self.lock().remove(machine.name());
                }
                Ok(document(&machine.status()))
            }
            Request::Start {
                name,
                accept_other_state,
                previous_generation,
            } => {
                let wanted = match (previous_generation, accept_other_state) {
                    (true, _) => WantedState::PreviousGeneration,
                    (false, true) => WantedState::Any,
                    (false, false) => WantedState::AsItStopped,
                };
                let machine = self.find(&name)?;
                machine.start(wanted, progress).await?;
                Ok(document(&machine.status()))
            }
            Request::Stop { name, force } => {
                let machine = self.find(&name)?;
                machine.stop(force, progress).await?;
                Ok(document(&machine.status()))
            }
            Request::Migrate { name, to } => {
                let machine = self.find(&name)?;
                let to: Destination = to.parse()?;
                machine.migrate(&to, progress).await?;
                let to = to.to_string();
                Ok(document(&Migrated { name, to }))
            }
            Request::Reclaim { name } => {
                let machine = self.find(&name)?;
                machine.reclaim().await?;
                Ok(document(&machine.status()))
            }
            Request::Remove { name } => {
                let machine = self.find(&name)?;
                machine.remove().await?;
                self.lock().remove(machine.name());
                Ok(Value::Null)
            }
            Request::HoldTpm { domain, user } => {
                let vm = self.hold_tpm(&domain, user, progress).await?;
                Ok(document(&HeldTpm { vm }))
            }
            Request::LetTpmGo { domain } => {
                let vm = self.let_tpm_go(&domain).await?;
                Ok(document(&HeldTpm { vm }))
            }
            Request::LibvirtDomain {
                name,
                files,
                network,
                console,
            } => {
                let machine = self.find(&name)?;
                Ok(document(
                    &machine.definition(files, network, console).await?,
                ))
            }
            Request::OfferToLibvirt { name, to } => {
                let machine = self.find(&name)?;
                let to: Destination = to.parse()?;
                machine.offer_to_libvirt(&to).await?;
                Ok(document(&machine.status()))
            }
            Request::AcceptState { name } => {
                let machine = self.find(&name)?;
                machine.accept_state().await?;
                Ok(document(&machine.status()))
            }
            Request::Console { .. } => Err(AgentFailure::failed("a console is a connection")),
        }
    }

    /// The serial port of a VM.
    pub(crate) async fn console(&self, name: &str) -> Result<UnixStream, AgentFailure> {
        self.find(name)?.console().await
    }

    fn list(&self) -> Vec<MachineStatus> {
        self.lock()
            .values()
            .map(|machine| machine.status())
            .collect()
    }

    /// Every VM.
    pub(crate) fn machines(&self) -> Vec<Arc<Machine>> {
        self.lock().values().cloned().collect()
    }

    fn find(&self, name: &str) -> Result<Arc<Machine>, AgentFailure> {
        let parsed = name.parse::<VmName>().ok();
        let found = parsed.and_then(|name| self.lock().get(&name).cloned());
        found.ok_or_else(|| {
            AgentFailure::refused(format_args!("this host has no VM named {name}"))
                .at_fault(Fault::Operator)
                .remedy("`guarded-host vm list` shows those that it has")
        })
    }
}

fn document<T: serde::Serialize>(answer: &T) -> Value {
    serde_json::to_value(answer).expect("an answer is written to memory")
}
