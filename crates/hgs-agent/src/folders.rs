use std::path::{Path, PathBuf};

use hgs_client::Folders;

/// Where the agent of one host has what it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentFolders {
    /// Configuration and state of the host.
    pub host: Folders,
    /// What is gone after a restart of the machine: the agent's socket, and those of running VMs.
    pub runtime: PathBuf,
}

impl AgentFolders {
    /// With the runtime folder of this machine: `/run/guarded-host` for root, a folder below `$XDG_RUNTIME_DIR` for
    /// everybody else. `None` if that is not set.
    #[must_use]
    pub fn of_this_machine(host: Folders) -> Option<Self> {
        let runtime = if rustix::process::geteuid().is_root() {
            PathBuf::from("/run/guarded-host")
        } else {
            let folder = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from)?;
            folder
                .is_absolute()
                .then(|| folder.join("openhgs/guarded-host"))?
        };
        Some(Self { host, runtime })
    }

    /// Where the agent listens.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.runtime.join("agent.sock")
    }

    /// Where libvirt's QEMU finds the TPMs of the VMs that libvirt runs: beside the runtime folder, which it can't enter.
    #[must_use]
    pub fn libvirt(&self) -> PathBuf {
        let mut folder = self.runtime.clone().into_os_string();
        folder.push("-libvirt");
        folder.into()
    }

    /// The folders of the VMs.
    pub(crate) fn machines(&self) -> PathBuf {
        self.host.state.join("vms")
    }

    /// The sockets of a running VM.
    pub(crate) fn machine_runtime(&self, name: &str) -> PathBuf {
        Path::new(&self.runtime).join("vms").join(name)
    }
}
