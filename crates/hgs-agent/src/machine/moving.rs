//! A VM that leaves for another host, or comes from one.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use hgs_client::Fault;
use hgs_vm::description::Description;
use hgs_vm::qemu::accelerator;
use hgs_vm::qemu::process::Process;
use hgs_vm::qemu::qmp::RunState;
use tokio::sync::MutexGuard;

use super::held::end_listener;
use super::running::{Running, settings};
use super::{Machine, stop_records};
use crate::failure::blocking;
use crate::migration::message::Outcome;
use crate::migration::records::{Departed, Records};
use crate::migration::source::{self, Destination, Gone, NotMoved};
use crate::progress::Progress;
use crate::wire::{AgentFailure, MachineState};

impl Machine {
    pub(crate) fn records(&self) -> Records {
        Records::in_state(&self.surroundings.folders.host.state)
    }

    /// Whether it is another host's now.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    /// Refuses what would disturb a VM on its way.
    pub(crate) fn check_not_migrating(&self) -> Result<(), AgentFailure> {
        if self.lock_status().state != MachineState::Migrating {
            return Ok(());
        }
        Err(AgentFailure::refused(format_args!(
            "{} is on its way to another host, or from one",
            self.name
        ))
        .at_fault(Fault::Operator)
        .remedy("`guarded-host vm show` says how far it is; wait until it is there"))
    }

    /// Moves the running VM to another host.
    pub(crate) async fn migrate(
        self: &Arc<Self>,
        to: &Destination,
        progress: &Progress,
    ) -> Result<(), AgentFailure> {
        self.check_not_migrating()?;
        let mut place = self.running.lock().await;
        let state = self.lock_status().state;
        let (Some(running), MachineState::Running) = (place.as_mut(), state) else {
            return Err(AgentFailure::refused(format_args!(
                "{} is {state}; only a running VM is migrated",
                self.name
            ))
            .at_fault(Fault::Operator)
            .remedy("`guarded-host vm export` hands out a VM that is stopped"));
        };
        self.is(MachineState::Migrating);
        self.event(&format!("migrates to {to}"));
        match source::send(self, running, to, progress).await {
            Ok(gone) => self.let_go(place, gone).await,
            Err(NotMoved::Stays(failure)) => {
                self.is(MachineState::Running);
                self.event(&format!("was not migrated to {to}: {failure}"));
                Err(failure)
            }
            Err(NotMoved::Unknown(departed, failure)) => {
                self.event(&format!(
                    "stands still: whether it runs on {to} is not known; {failure}"
                ));
                self.settle_migration(departed);
                Err(AgentFailure {
                    message: format!(
                        "the connection broke when {to} was to take over, and it is not known whether the VM runs there; this host asks until it knows ({failure})"
                    ),
                    ..failure
                }
                .remedy("if that host never comes back, have the VM go on here with `guarded-host vm reclaim`"))
            }
        }
    }

    /// It runs elsewhere: nothing of it stays here.
    async fn let_go(
        &self,
        mut place: MutexGuard<'_, Option<Running>>,
        gone: Gone,
    ) -> Result<(), AgentFailure> {
        if let Some(running) = place.take() {
            running.kill().await?;
        }
        self.forget_all(gone).await
    }

    pub(super) async fn forget_all(&self, gone: Gone) -> Result<(), AgentFailure> {
        self.delete_rest().await?;
        let id = self.lock_status().id.clone();
        if let Some(id) = id
            && let Err(error) = self.surroundings.host.forget_key(&id).await
        {
            tracing::warn!(vm = %self.name, %error, "the key that was kept of a VM that has moved stays");
        }
        gone.forget().await;
        self.records().forget_departed(&self.name)?;
        self.event("runs on another host");
        self.gone.store(true, Ordering::Relaxed);
        Ok(())
    }

    pub(super) async fn delete_rest(&self) -> Result<(), AgentFailure> {
        let (folder, record) = (self.folder(), self.stop_record());
        let runtime = self.runtime()?;
        blocking(move || {
            if hgs_files::exists(&folder)? {
                hgs_files::remove_folder(&folder)?;
            }
            let _ = std::fs::remove_dir_all(runtime.path());
            stop_records::forget(&record)
        })
        .await
    }

    /// Asks the destination until it is known whether the VM runs there.
    pub(crate) fn settle_migration(self: &Arc<Self>, departed: Departed) {
        let machine = Arc::clone(self);
        self.surroundings.tasks.spawn(async move {
            let (outcome, gone) = source::ask_until_known(&departed).await;
            let place = machine.running.lock().await;
            // Somebody has decided otherwise meanwhile.
            if !matches!(machine.records().where_to(&machine.name), Ok(Some(_))) {
                return;
            }
            let settled = match outcome {
                Outcome::Taken => machine.let_go(place, gone).await,
                _ => {
                    machine
                        .go_on_here(place, "the other host will not run it")
                        .await
                }
            };
            if let Err(failure) = settled {
                machine.event(&format!(
                    "its migration can't be brought to an end: {failure}"
                ));
            }
        });
    }

    /// Has it go on here because its operator says that it does not run at its destination.
    pub(crate) async fn reclaim(&self) -> Result<(), AgentFailure> {
        let place = self.running.lock().await;
        if self.take_arrival()? {
            return Ok(());
        }
        if self.records().where_to(&self.name)?.is_none() {
            return Err(AgentFailure::refused(format_args!(
                "{} is not waiting for the end of a migration",
                self.name
            ))
            .at_fault(Fault::Operator));
        }
        self.go_on_here(place, "reclaimed by its operator").await
    }

    async fn go_on_here(
        &self,
        place: MutexGuard<'_, Option<Running>>,
        why: &str,
    ) -> Result<(), AgentFailure> {
        match &*place {
            Some(running) => {
                running.resume().await?;
                self.is(MachineState::Running);
            }
            None => self.is(MachineState::Stopped),
        }
        self.records().forget_departed(&self.name)?;
        self.event(&format!("is this host's: {why}"));
        Ok(())
    }

    /// It is on its way here.
    pub(crate) fn is_arriving(&self, description: &Description) {
        self.is(MachineState::Migrating);
        self.lock_status().id = Some(description.id.to_string());
        self.event("comes from another host");
    }

    /// It runs here now.
    pub(crate) async fn has_arrived(self: &Arc<Self>, running: Running, policy: String) {
        let mut place = self.running.lock().await;
        let accelerated = running.monitor(|monitor| monitor.is_accelerated()).await;
        {
            let mut status = self.lock_status();
            status.state = MachineState::Running;
            status.policy = Some(policy);
            status.accelerator = accelerated
                .ok()
                .map(|accelerated| accelerator::name(accelerated).to_owned());
        }
        self.event("came from another host");
        self.follow(&running);
        *place = Some(running);
    }

    /// After a start of the agent: whether its end is open, or it belongs to this host and stands still.
    pub(super) async fn take_up_migration(self: &Arc<Self>, running: Option<&Running>) {
        let records = self.records();
        match records.where_to(&self.name) {
            Ok(Some(departed)) => {
                self.is(MachineState::Migrating);
                self.event(&format!(
                    "stands still: whether it runs on {} is not known",
                    departed.destination
                ));
                self.settle_migration(departed);
                return;
            }
            Ok(None) => {}
            Err(failure) => self.event(&format!("{failure}")),
        }
        let Some(running) = running else { return };
        let taken = records.all_arrived().unwrap_or_default().into_iter();
        let mut taken = taken.filter(|record| record.outcome == Outcome::Taken);
        let is_ours = taken.any(|record| record.name == self.name);
        let state = running.monitor(|monitor| monitor.query_status()).await;
        let stands_still = match state {
            // The agent was killed when it was to run it.
            Ok(RunState::Paused) => is_ours,
            // The agent was killed before it let go of it, so the destination has given up.
            Ok(RunState::Migrated) => true,
            _ => false,
        };
        if stands_still && running.resume().await.is_ok() {
            self.is(MachineState::Running);
            self.event("goes on: a migration was not brought to its end");
        }
    }

    /// Deletes what an agent that was killed had received of a VM.
    pub(crate) async fn discard_arrival(&self) -> Result<(), AgentFailure> {
        let (runtime, folder) = (self.runtime()?, self.folder());
        let folders = self.surroundings.folders.clone();
        blocking(move || {
            if let Ok(description) = Description::load(&folder) {
                end_listener(&folders.tpm_socket(&description.id.to_string()))?;
            }
            if let Some(mut process) = Process::adopt(&settings(&runtime, None))? {
                process.kill()?;
            }
            Ok(())
        })
        .await?;
        self.delete_rest().await
    }
}
