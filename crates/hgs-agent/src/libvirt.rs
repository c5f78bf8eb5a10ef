//! Which domains of libvirt are VMs of this host.
//!
//! A domain is a VM of the agent's if it has the VM's UUID. Nothing in `vm.toml` says who runs a VM: the lock of its state lets
//! one of them do it at a time.

use std::fs;
use std::sync::Arc;

use hgs_client::Fault;
use hgs_vm::description::{Description, VmId};
use hgs_vm::libvirt::Domain;

use crate::failure::blocking;
use crate::folders::AgentFolders;
use crate::machine::Machine;
use crate::progress::Progress;
use crate::service::Service;
use crate::wire::AgentFailure;

/// Whether the XML of a domain names a VM of this host, or a place where only the agent has TPMs. It needs no agent, and what
/// it overlooks gets no TPM.
#[must_use]
pub fn concerns_shielded_vm(folders: &AgentFolders, domain: &str) -> bool {
    let sockets = format!("{}/", folders.libvirt().display());
    if domain.contains(&sockets) {
        return true;
    }
    let entries = fs::read_dir(folders.machines()).into_iter().flatten();
    entries.flatten().any(|entry| {
        Description::load(&entry.path())
            .is_ok_and(|description| domain.contains(&description.id.to_string()))
    })
}

impl Service {
    /// Starts the TPM of the VM that libvirt is about to start. Returns its name; none if the domain is no business of the agent's.
    pub(crate) async fn hold_tpm(
        &self,
        domain: &str,
        user: u32,
        progress: &Progress,
    ) -> Result<Option<String>, AgentFailure> {
        let domain = read(domain)?;
        let Some(machine) = self.vm_of(&domain).await? else {
            if domain.has_tpm_below(&self.surroundings.folders.libvirt()) {
                return Err(AgentFailure::refused(format_args!(
                    "this host has no VM with id {}, and the domain wants the TPM of one",
                    domain.id()
                ))
                .at_fault(Fault::Operator)
                .remedy("bring it with `guarded-host vm import`, or correct the domain's uuid"));
            }
            return Ok(None);
        };
        machine.hold_tpm(domain, user, progress).await?;
        Ok(Some(machine.name().to_string()))
    }

    /// After libvirt's QEMU has ended.
    pub(crate) async fn let_tpm_go(&self, domain: &str) -> Result<Option<String>, AgentFailure> {
        let Some(machine) = self.vm_of(&read(domain)?).await? else {
            return Ok(None);
        };
        machine.let_tpm_go().await?;
        Ok(Some(machine.name().to_string()))
    }

    /// The VM that a domain is. Of several copies of one VM, it is the one with the domain's name.
    async fn vm_of(&self, domain: &Domain) -> Result<Option<Arc<Machine>>, AgentFailure> {
        let (machines, id) = (self.machines(), domain.id());
        let mut found = blocking(move || Ok(with_id(machines, id))).await?;
        if found.len() > 1 {
            let all: Vec<_> = found.iter().map(|vm| vm.name().to_string()).collect();
            found.retain(|vm| vm.name().as_str() == domain.name());
            if found.is_empty() {
                return Err(AgentFailure::refused(format_args!(
                    "these VMs have the domain's uuid {id}: {}",
                    all.join(", ")
                ))
                .at_fault(Fault::Operator)
                .remedy("give the domain the name of one of them"));
            }
        }
        Ok(found.pop())
    }
}

fn with_id(machines: Vec<Arc<Machine>>, id: VmId) -> Vec<Arc<Machine>> {
    let is_it = |machine: &Arc<Machine>| {
        machine
            .description()
            .is_ok_and(|description| description.id == id)
    };
    machines.into_iter().filter(is_it).collect()
}

fn read(domain: &str) -> Result<Domain, AgentFailure> {
    Domain::read(domain.as_bytes())
        .map_err(|error| AgentFailure::refused(error).at_fault(Fault::Operator))
}
