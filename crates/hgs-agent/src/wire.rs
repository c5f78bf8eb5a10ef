//! What an agent is asked over its socket, and what it answers: lines of JSON.
//!
//! ```text
//! caller   {"request":"start","name":"web1"}
//! agent    {"progress":"asking the guardian for the keys"}
//! agent    {"done":{...}}        or  {"failed":{"message":"...","at_fault":"guardian","remedy":"...","refused":true}}
//! ```
//!
//! A connection carries one request. Its answer is any number of `progress` lines and one last line. After the last line of
//! `console` the connection is the serial port of the VM, octet for octet in both directions.

use std::fmt;
use std::path::PathBuf;

use hgs_client::{Fault, RequestId};
use serde::{Deserialize, Serialize};

/// Octets of the longest request.
pub(crate) const MAX_REQUEST: usize = 1024 * 1024;
/// Octets of the longest line of an answer.
pub(crate) const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// What an agent can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// How the host and its VMs stand.
    Status {},
    /// Every VM.
    List {},
    /// One VM.
    Show {
        /// The VM.
        name: String,
    },
    /// What keeps a VM from starting.
    Trace {
        /// The VM.
        name: String,
    },
    /// Takes a VM folder over: a copy of it becomes a VM of this host.
    Import {
        /// The folder, absolute.
        folder: PathBuf,
        /// The name here; that of the folder's description unless given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
    /// Copies a VM that does not run into a new folder, which another host imports.
    Export {
        /// The VM.
        name: String,
        /// The folder to make, absolute.
        folder: PathBuf,
        /// Also deletes the VM from this host.
        #[serde(default)]
        remove: bool,
    },
    /// Has the keys of a VM released, and starts it.
    Start {
        /// The VM.
        name: String,
        /// Also if its state is not the one that it stopped with.
        #[serde(default)]
        accept_other_state: bool,
        /// With the state as it was before its last key, whose protector a guardian has opened.
        #[serde(default)]
        previous_generation: bool,
    },
    /// Ends a VM.
    Stop {
        /// The VM.
        name: String,
        /// At once, as if its power were cut.
        #[serde(default)]
        force: bool,
    },
    /// Moves a running VM to another host, which its agent takes it for.
    Migrate {
        /// The VM.
        name: String,
        /// The host: a name or an address, and a port if it is not the usual one.
        to: String,
    },
    /// Has a VM go on here of which it is not known whether it runs at the host that it was migrated to.
    Reclaim {
        /// The VM.
        name: String,
    },
    /// Connects to the serial port of a VM, where its owner allows that.
    Console {
        /// The VM.
        name: String,
    },
    /// Deletes a VM that does not run, with its disk.
    Remove {
        /// The VM.
        name: String,
    },
    /// Has the keys of the VM released that libvirt is about to start, and starts its TPM for libvirt's QEMU. The answer is
    /// [`HeldTpm`].
    HoldTpm {
        /// The XML of the domain.
        domain: String,
        /// The number of the user that QEMU runs as.
        user: u32,
    },
    /// Says that libvirt's QEMU has ended, or did not start. The answer is [`HeldTpm`].
    LetTpmGo {
        /// The XML of the domain.
        domain: String,
    },
    /// The XML of a domain for libvirt that runs a VM.
    LibvirtDomain {
        /// The VM.
        name: String,
        /// The folder of its disk and firmware variables, absolute; that of the VM unless given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        files: Option<PathBuf>,
        /// The network of libvirt's that it is connected to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        network: Option<String>,
        /// With a serial port.
        #[serde(default)]
        console: bool,
    },
    /// Has another host get ready for a VM that libvirt moves there then.
    OfferToLibvirt {
        /// The VM.
        name: String,
        /// The host: a name or an address, and a port if it is not the usual one.
        to: String,
    },
    /// Lets a VM that stopped start with another state than the one that it stopped with.
    AcceptState {
        /// The VM.
        name: String,
    },
}

/// Whether a domain of libvirt is a VM of this host's agent, and which.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldTpm {
    /// The VM; none if the domain is no business of the agent's.
    pub vm: Option<String>,
}

/// One line of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Line<T> {
    /// What is being done now.
    Progress(String),
    /// The answer.
    Done(T),
    /// Why there is none.
    Failed(AgentFailure),
}

/// Why an agent did not do what it was asked, whose fault it is, and what helps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentFailure {
    /// What happened.
    pub message: String,
    /// The party at fault, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_fault: Option<Fault>,
    /// What helps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// The id that a guardian gave the request that it answered so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<RequestId>,
    /// Whether it was refused, or what was given is not valid, so that trying again is of no use.
    pub refused: bool,
}

impl AgentFailure {
    /// Something failed.
    pub(crate) fn failed(message: impl fmt::Display) -> Self {
        Self {
            message: message.to_string(),
            at_fault: None,
            remedy: None,
            request_id: None,
            refused: false,
        }
    }

    /// Something is not valid, or is refused.
    pub(crate) fn refused(message: impl fmt::Display) -> Self {
        Self {
            refused: true,
            ..Self::failed(message)
        }
    }

    /// Says who is at fault.
    #[must_use]
    pub(crate) fn at_fault(self, party: Fault) -> Self {
        Self {
            at_fault: Some(party),
            ..self
        }
    }

    /// Says what helps.
    #[must_use]
    pub(crate) fn remedy(self, remedy: impl fmt::Display) -> Self {
        Self {
            remedy: Some(remedy.to_string()),
            ..self
        }
    }
}

impl fmt::Display for AgentFailure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)?;
        match &self.request_id {
            Some(id) => write!(formatter, " (request {id})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for AgentFailure {}

impl From<hgs_client::Error> for AgentFailure {
    fn from(error: hgs_client::Error) -> Self {
        Self {
            message: error.to_string(),
            at_fault: Some(error.fault()),
            remedy: error.remedy().map(|remedy| remedy.to_string()),
            request_id: error.request_id().cloned(),
            refused: error.is_refusal(),
        }
    }
}

impl From<hgs_files::FileError> for AgentFailure {
    fn from(error: hgs_files::FileError) -> Self {
        hgs_client::Error::from(error).into()
    }
}

/// How a host and its agent stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentStatus {
    /// The version of the agent.
    pub version: String,
    /// Its process.
    pub process: u32,
    /// Since when it has run.
    pub since: String,
    /// Whether the host holds a valid health certificate.
    pub health: Health,
    /// The VMs of this host.
    pub machines: Vec<MachineStatus>,
}

/// Whether a host may have keys released.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum Health {
    /// The agent has not asked yet.
    Unknown,
    /// It holds a valid health certificate.
    Healthy {
        /// The last second in which that is valid.
        until: String,
        /// Why a new one was not issued at the last attempt, if one was asked for and was not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        warning: Option<String>,
    },
    /// It holds none.
    Unhealthy {
        /// Since when.
        since: String,
        /// Why.
        reason: String,
    },
}

/// How a VM stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineStatus {
    /// Its name on this host.
    pub name: String,
    /// What it is doing.
    pub state: MachineState,
    /// What it is, wherever it runs: a UUID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What its owner decided, known once its keys were released: `shielded` or `encryption-supported`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// How its processors run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accelerator: Option<String>,
    /// Whether libvirt runs it; the agent has its TPM only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub libvirt: bool,
    /// What the agent did to it last of its own accord, or why it ended, with the time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_event: Option<String>,
    /// Whether no guardian could be reached when it was started, so that a key was used that the host had kept.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub started_offline: bool,
    /// What a person should know about it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// What a VM is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MachineState {
    /// It does not run.
    Stopped,
    /// Its keys are asked for, or its processes are being started.
    Starting,
    /// It runs.
    Running,
    /// It was paused, because the host is not healthy.
    Paused,
    /// It was told to end.
    Stopping,
    /// It is on its way to another host, or from one.
    Migrating,
}

impl fmt::Display for MachineState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Stopped => "stopped",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopping => "stopping",
            Self::Migrating => "migrating",
        })
    }
}

/// A VM runs on another host now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migrated {
    /// The VM.
    pub name: String,
    /// Where it runs.
    pub to: String,
}

/// One thing that a VM needs before it starts, as it was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was looked at.
    pub check: String,
    /// Whether it is as it has to be.
    pub passed: bool,
    /// What was found.
    pub found: String,
    /// What helps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}
