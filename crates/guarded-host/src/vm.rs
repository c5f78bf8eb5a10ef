//! `guarded-host vm`: what the agent of this host is told to do with its shielded VMs.

use std::fmt;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use hgs_agent::{Finding, MachineStatus, Request};
use hgs_pki::Thumbprint;
use hgs_terminal::{AtFault, Exit, Failure, Table, Terminal};
use hgs_vm::description::VmName;
use serde::Serialize;

use crate::agent::{AgentOptions, client_failure};
use crate::host_options::HostOptions;

mod console;
pub(crate) mod migrate;
mod new;

/// The shielded VMs of this host
///
/// Every command asks the agent of this host, which must run: `guarded-host agent`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  guarded-host vm import /srv/delivered/web1
  guarded-host vm start web1
  guarded-host vm list
  guarded-host vm stop web1")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    agent: AgentOptions,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a VM of this host from the folder that its owner delivered; the folder stays as it is
    Import {
        /// The folder: vm.toml, disk, firmware variables, state and protector
        folder: PathBuf,
        /// The name on this host, if not the one in vm.toml
        #[arg(long)]
        name: Option<String>,
    },
    /// Make a VM for trying out, whose guest counts on its serial port
    ///
    /// A VM that is worth anything is made by its owner, away from this host (`hgs vm-image prepare`): whoever makes it could keep
    /// its keys. The owner of this one has keys that are in memory while it is made, and nowhere afterwards. So it has no recovery
    /// key, and nobody can clone it.
    New {
        /// What it is called
        name: VmName,
        /// It is for trying out; there are no others to make here
        #[arg(long, required = true)]
        demo: bool,
        /// SHA-256 thumbprint of the guardian's signing certificate, as its administrator told it
        #[arg(long, value_name = "SHA256")]
        thumbprint: Option<Thumbprint>,
    },
    /// Copy a VM that does not run into a new folder, which another host imports
    ///
    /// Without `--remove` there are two copies then, under the same protector. Once one of them has run and ended, the other is an
    /// older state, which the guardian reports, or refuses (`ancestors = "refuse"` in its configuration).
    Export {
        /// The VM
        name: String,
        /// The folder to make
        folder: PathBuf,
        /// Delete the VM from this host once the folder is complete
        #[arg(long)]
        remove: bool,
    },
    /// Copy a VM that does not run into a new folder, from which its owner makes a clone of it
    ///
    /// A clone has an identifier, a virtual TPM's identity and a key protector of its own. Only the owner can make them, with
    /// `hgs vm-image clone`, away from this host; the result is imported.
    Clone {
        /// The VM
        name: String,
        /// What the clone is to be called
        clone: VmName,
        /// The folder to make
        #[arg(long, value_name = "FOLDER")]
        to: PathBuf,
    },
    /// Have the keys of a VM released, and start it
    ///
    /// The state of its TPM gets a new key at each start. A state that is not the one that the VM stopped with is refused: it
    /// was restored, or somebody has put an older one back.
    Start {
        /// The VM
        name: String,
        /// Start it with another state than the one that it stopped with
        #[arg(long)]
        accept_other_state: bool,
        /// Start it with the state as it was before its last key, if no guardian opens the protector of that key
        #[arg(long)]
        previous_generation: bool,
    },
    /// Tell a VM to shut down, and wait for it
    ///
    /// Then the state of its TPM gets another key, so that a copy that was made while it ran opens no more. If the guardian can't
    /// be reached the VM is stopped all the same, and the state keeps its key.
    Stop {
        /// The VM
        name: String,
        /// Do not ask the guest: end it as if its power were cut
        #[arg(long)]
        force: bool,
    },
    /// Show every VM of this host
    List,
    /// Show one VM
    Show {
        /// The VM
        name: String,
    },
    Migrate(migrate::Arguments),
    /// Have a VM go on here whose migration has no known end, because its destination never answers
    ///
    /// When the connection breaks in the moment in which the other host takes over, this host does not know whether the VM runs
    /// there. It keeps the VM standing still and asks the other host until it knows. Only when that host is gone for good is this
    /// command the way out.
    Reclaim {
        /// The VM
        name: String,
    },
    /// Connect this terminal to the serial port of a VM, where its owner allows that
    Console {
        /// The VM
        name: String,
    },
    /// Say what keeps a VM from starting; nothing is changed, and no key is used
    Trace {
        /// The VM
        name: String,
    },
    /// Delete a VM that does not run, with its disk and the state of its TPM
    Remove {
        /// The VM
        name: String,
    },
}

impl Arguments {
    pub(crate) fn run(self, options: &HostOptions, terminal: &Terminal) -> Result<Exit, Failure> {
        let client = self.agent.client(options)?;
        let told = |request: &Request| -> Result<Exit, Failure> {
            let steps = |what: &str| terminal.note(format_args!("{what} ..."));
            let status: MachineStatus = client.ask(request, steps).map_err(client_failure)?;
            terminal.report(&One(status))?;
            Ok(Exit::Done)
        };
        let export = |name: &str, folder: &Path, remove| -> Result<(), Failure> {
            let request = Request::Export {
                name: name.to_owned(),
                folder: folder.to_owned(),
                remove,
            };
            let steps = |what: &str| terminal.note(format_args!("{what} ..."));
            let asked = client.ask::<MachineStatus>(&request, steps);
            asked.map(drop).map_err(client_failure)
        };
        match self.verb {
            Verb::Import { folder, name } => told(&Request::Import {
                folder: absolute(&folder)?,
                name,
            }),
            Verb::New {
                name,
                demo: _,
                thumbprint,
            } => {
                let (status, line) =
                    new::demonstration(&name, thumbprint, options, &client, terminal)?;
                terminal.report(&Demonstration {
                    name: status.name,
                    line: format!("{}{line}", hgs_vm::image::demo::PREFIX),
                })?;
                Ok(Exit::Done)
            }
            Verb::Export {
                name,
                folder,
                remove,
            } => {
                let folder = absolute(&folder)?;
                export(&name, &folder, remove)?;
                terminal.report(&Exported {
                    name,
                    folder: folder.display().to_string(),
                    removed: remove,
                })?;
                Ok(Exit::Done)
            }
            Verb::Clone { name, clone, to } => {
                let folder = absolute(&to)?;
                export(&name, &folder, false)?;
                terminal.report(&ToClone {
                    owner_runs: format!(
                        "hgs vm-image clone {} {clone} --owner OWNER --guardian GUARDIAN",
                        quoted(&folder)
                    ),
                    folder: folder.display().to_string(),
                    name,
                    clone: clone.to_string(),
                })?;
                Ok(Exit::Done)
            }
            Verb::Start {
                name,
                accept_other_state,
                previous_generation,
            } => told(&Request::Start {
                name,
                accept_other_state,
                previous_generation,
            }),
            Verb::Stop { name, force } => told(&Request::Stop { name, force }),
            Verb::Show { name } => told(&Request::Show { name }),
            Verb::List => {
                terminal.report(&Listed(client.list().map_err(client_failure)?))?;
                Ok(Exit::Done)
            }
            Verb::Migrate(arguments) => arguments.run(&client, terminal),
            Verb::Reclaim { name } => told(&migrate::reclaim(name, &client, terminal)?),
            Verb::Console { name } => console::run(&client, &name, terminal),
            Verb::Trace { name } => {
                let findings = client.trace(&name).map_err(client_failure)?;
                let starts = findings.iter().all(|finding| finding.passed);
                terminal.report(&Traced(findings))?;
                Ok(if starts { Exit::Done } else { Exit::Failed })
            }
            Verb::Remove { name } => {
                terminal.confirm(format_args!(
                    "Delete the VM {name} with its disk and the state of its TPM?"
                ))?;
                let request = Request::Remove { name: name.clone() };
                let () = client.ask(&request, |_| ()).map_err(client_failure)?;
                terminal.report(&Removed { removed: name })?;
                Ok(Exit::Done)
            }
        }
    }
}

fn absolute(folder: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(folder).map_err(|error| {
        Failure::of(&error)
            .at_fault(AtFault::Operator)
            .while_doing(folder.display())
    })
}

#[derive(Serialize)]
struct Exported {
    name: String,
    folder: String,
    removed: bool,
}

impl fmt::Display for Exported {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            folder,
            removed,
        } = self;
        writeln!(formatter, "The VM {name} is in {folder}.")?;
        match removed {
            true => writeln!(formatter, "This host does not have it any more."),
            false => writeln!(
                formatter,
                "This host has it too. Start one of the two only: once it has run and ended, the other is an older state."
            ),
        }
    }
}

#[derive(Serialize)]
struct Demonstration {
    name: String,
    /// What the guest says once its disk has opened.
    line: String,
}

impl fmt::Display for Demonstration {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, line } = self;
        writeln!(
            formatter,
            "The VM {name} is for trying out: this host made it, and a host is not supposed to be a VM's owner. Start it with\n  \
             guarded-host vm start {name}\n\
             On its console (`guarded-host vm console {name}`) it says, once its disk is opened: {line}"
        )
    }
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    match text.chars().all(plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[derive(Serialize)]
struct ToClone {
    name: String,
    clone: String,
    folder: String,
    owner_runs: String,
}

impl fmt::Display for ToClone {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            clone,
            folder,
            owner_runs,
        } = self;
        writeln!(
            formatter,
            "A copy of {name} is in {folder}. Its owner makes the clone, away from this host:"
        )?;
        writeln!(formatter, "  {owner_runs}")?;
        writeln!(
            formatter,
            "OWNER and GUARDIAN are names of guardians as the owner has them. Then `guarded-host vm import` of the folder {clone}, and \
             remove the copy."
        )
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct One(MachineStatus);

impl fmt::Display for One {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(vm) = self;
        let known = [
            ("id", &vm.id),
            ("policy", &vm.policy),
            ("accelerator", &vm.accelerator),
            ("last event", &vm.last_event),
        ];
        let known = known
            .into_iter()
            .filter_map(|(name, value)| Some((name, value.clone()?)));
        let always = [("name", vm.name.clone()), ("state", state(vm))];
        Table::of_pairs(always.into_iter().chain(known)).fmt(formatter)?;
        for warning in &vm.warnings {
            writeln!(formatter, "\nwarning: {warning}")?;
        }
        Ok(())
    }
}

/// What a VM is doing, and how it came to that.
fn state(vm: &MachineStatus) -> String {
    let by = if vm.libvirt { ", by libvirt" } else { "" };
    let started = match vm.started_offline {
        true => ", started without a guardian",
        false => "",
    };
    format!("{}{by}{started}", vm.state)
}

#[derive(Serialize)]
#[serde(transparent)]
struct Listed(Vec<MachineStatus>);

impl fmt::Display for Listed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(machines) = self;
        if machines.is_empty() {
            return writeln!(
                formatter,
                "This host has no VM. `guarded-host vm import FOLDER` brings one."
            );
        }
        let mut table = Table::new(["NAME", "STATE", "LAST EVENT"]);
        for vm in machines {
            let event = vm.last_event.clone().unwrap_or_default();
            table.row([vm.name.clone(), state(vm), event]);
        }
        table.fmt(formatter)
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Traced(Vec<Finding>);

impl fmt::Display for Traced {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(findings) = self;
        for finding in findings {
            let outcome = if finding.passed { "ok  " } else { "FAIL" };
            writeln!(formatter, "{outcome} {}: {}", finding.check, finding.found)?;
            if let Some(remedy) = &finding.remedy {
                writeln!(formatter, "     remedy: {remedy}")?;
            }
        }
        Ok(())
    }
}

#[derive(Serialize)]
struct Removed {
    removed: String,
}

impl fmt::Display for Removed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "The VM {} is deleted.", self.removed)
    }
}
