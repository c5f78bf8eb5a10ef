//! `guarded-host libvirt`: shielded VMs that libvirt runs, with the TPM that the agent of this host has.

use std::fmt;
use std::path::PathBuf;

use clap::Subcommand;
use hgs_agent::{MachineStatus, Request};
use hgs_files::Readers;
use hgs_terminal::{AtFault, Exit, Failure, Terminal};
use serde::Serialize;

use crate::agent::{AgentOptions, client_failure};
use crate::host_options::HostOptions;

mod hook;
mod install;

/// Shielded VMs that libvirt runs
///
/// libvirt starts and stops the VM as every other, and the agent of this host has its TPM: before libvirt starts the VM, a hook
/// asks the agent, which has the keys released and starts the TPM, or refuses. A domain of libvirt is a VM of the agent if it
/// has the VM's UUID and the agent's TPM; other domains are not touched.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  guarded-host libvirt install
  guarded-host vm import /srv/delivered/web1
  guarded-host libvirt domain web1 --out web1.xml
  virsh define web1.xml
  virsh start web1")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    agent: AgentOptions,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Have libvirt ask the agent before it starts a VM
    ///
    /// A hook is written into the folder /etc/libvirt/hooks/qemu.d, beside those that are there; libvirt runs them all. It has to
    /// be restarted then if it had no hook before. VMs go on meanwhile.
    Install(install::Install),
    /// Remove the hook again; VMs of the agent do not start by libvirt then
    Uninstall(install::Place),
    /// Show whether libvirt asks the agent
    Status(install::Place),
    /// Print the definition of a domain that runs a VM, for `virsh define`
    ///
    /// It has nothing that the policy `shielded` forbids.
    Domain {
        /// The VM
        name: String,
        /// Where its disk and firmware variables are, if libvirt's QEMU can't enter the VM's folder
        #[arg(long, value_name = "FOLDER")]
        files: Option<PathBuf>,
        /// The network of libvirt's that it is connected to, if not as its description says
        #[arg(long, value_name = "NAME")]
        network: Option<String>,
        /// With a serial port, which the policy `encryption-supported` allows
        #[arg(long)]
        console: bool,
    },
    /// Have another host get ready for a VM that libvirt runs here; then `virsh migrate` moves it there
    ///
    /// The agents of the two hosts become sure of each other, and the other one has a release of its own. Without that its libvirt
    /// refuses the VM. The offer lasts 15 minutes; an offer to another host is possible only after the VM has ended here.
    Offer {
        /// The VM
        name: String,
        /// The other host, whose agent listens (`guarded-host agent --listen`)
        #[arg(long, value_name = "HOST")]
        to: String,
    },
    /// Let a VM start with another state than the one that it stopped with, as after it was restored from a backup
    AcceptState {
        /// The VM
        name: String,
    },
    /// What libvirt runs: NAME OPERATION SUB-OPERATION EXTRA, and the domain's XML on standard input
    Hook(hook::Arguments),
}

impl Arguments {
    pub(crate) fn run(self, options: &HostOptions, terminal: &Terminal) -> Result<Exit, Failure> {
        let folders = || self.agent.folders(options);
        match self.verb {
            Verb::Install(arguments) => arguments.run(&folders()?, terminal),
            Verb::Uninstall(place) => place.uninstall(terminal),
            Verb::Status(place) => place.status(&folders()?, terminal),
            Verb::Hook(arguments) => arguments.run(&folders()?, terminal),
            Verb::Domain {
                name,
                files,
                network,
                console,
            } => {
                let files = files.map(|files| {
                    std::path::absolute(&files).map_err(|error| {
                        Failure::of(&error)
                            .at_fault(AtFault::Operator)
                            .while_doing(files.display())
                    })
                });
                let request = Request::LibvirtDomain {
                    name: name.clone(),
                    files: files.transpose()?,
                    network,
                    console,
                };
                let client = self.agent.client(options)?;
                let xml: String = client.ask(&request, |_| ()).map_err(client_failure)?;
                let printed = Printed { vm: name };
                terminal.document(xml.as_bytes(), Readers::Everybody, &printed)?;
                Ok(Exit::Done)
            }
            Verb::Offer { name, to } => {
                let client = self.agent.client(options)?;
                let request = Request::OfferToLibvirt {
                    name,
                    to: to.clone(),
                };
                let status: MachineStatus = client.ask(&request, |_| ()).map_err(client_failure)?;
                terminal.report(&Offered {
                    vm: status.name,
                    to,
                })?;
                Ok(Exit::Done)
            }
            Verb::AcceptState { name } => {
                terminal.confirm(format_args!(
                    "Start the VM {name} next time with another state than the one that it stopped with?"
                ))?;
                let client = self.agent.client(options)?;
                let request = Request::AcceptState { name };
                let status: MachineStatus = client.ask(&request, |_| ()).map_err(client_failure)?;
                terminal.report(&Accepted { vm: status.name })?;
                Ok(Exit::Done)
            }
        }
    }
}

#[derive(Serialize)]
struct Printed {
    vm: String,
}

impl fmt::Display for Printed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "A domain of libvirt that runs the VM {}. `virsh define` takes it.",
            self.vm
        )
    }
}

#[derive(Serialize)]
struct Offered {
    vm: String,
    to: String,
}

impl fmt::Display for Offered {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { vm, to } = self;
        // libvirt has another port than the agent.
        let to = match to.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, _)) => format!("[{address}]"),
            None if to.matches(':').count() > 1 => format!("[{to}]"),
            None => to.split(':').next().unwrap_or_default().to_owned(),
        };
        writeln!(
            formatter,
            "{to} is ready for {vm}. Within 15 minutes:\n  \
             virsh migrate --live --p2p --tls --persistent --undefinesource {vm} qemu+tls://{to}/system"
        )
    }
}

#[derive(Serialize)]
struct Accepted {
    vm: String,
}

impl fmt::Display for Accepted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "The VM {} starts next time with the state that is there.",
            self.vm
        )
    }
}
