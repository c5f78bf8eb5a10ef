//! The grammar of the command line, and who does what it asks for.

use clap::{CommandFactory as _, Parser, Subcommand};
use hgs_admin::types::DocumentKind;
use hgs_server::process;
use hgs_terminal::{CommonOptions, Completions, Exit, Failure, Man, Manual, Program, Terminal};

use crate::administration;
use crate::{
    cluster, guardian, init, protector, quickstart, serve, server, state, trace, vm_image,
};

/// OpenHGS: a Host Guardian Service, and the tools of those who own virtual machines
#[derive(Debug, Parser)]
#[command(
    name = "hgs",
    version = hgs_terminal::VERSION,
    propagate_version = true,
    after_help = "First steps:
  hgs quickstart                       (everything on this machine, in a folder that is removed again)
  hgs init --name guardian.example     (the state of a guardian; then: hgs serve)
  hgs host add host1 --host-key host1.pem
  hgs status

A guardian on another machine is asked over its [listen.api]:
  hgs status --server https://hgs.example --client-certificate me.pem --client-key me.key

`hgs NOUN VERB --help` has examples; `hgs man NOUN VERB` shows its manual page.

Exit status: 0 done, 1 failed, 2 invalid or refused, 64 wrong usage."
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    noun: Noun,
    #[command(flatten)]
    common: CommonOptions,
}

/// What every manual page says.
const MANUAL: &Manual = &Manual {
    files: &[
        (
            "/etc/openhgs/openhgs.toml",
            "The configuration of the server. `hgs server check` reads it.",
        ),
        (
            "/var/lib/openhgs",
            "The state of the guardian, and its master key unless the configuration names another file.",
        ),
        (
            "/run/openhgs/admin.sock",
            "The socket over which the commands of administrators ask the server.",
        ),
        (
            "~/.local/share/openhgs",
            "The guardians that an owner keeps, with their private keys under a passphrase.",
        ),
        (
            "~/.config/openhgs, ~/.local/state/openhgs",
            "Configuration and state for users other than root.",
        ),
    ],
    environment: &[
        ("HGS_CONFIG", "The configuration file, as `--config`."),
        ("HGS_SOCKET", "The admin socket, as `--socket`."),
        (
            "HGS_SERVER, HGS_CLIENT_CERTIFICATE, HGS_CLIENT_KEY, HGS_CLIENT_PASSPHRASE_FROM, HGS_SERVER_CA",
            "A server on another machine and the certificate to ask it with, as the options of these names.",
        ),
        ("HGS_STATE", "The folder of the state."),
        ("HGS_MASTER_KEY", "The file of the master key."),
        (
            "HGS_TLS_CERTIFICATE, HGS_TLS_KEY, HGS_TLS_PASSPHRASE_FILE",
            "The files of the HTTPS listener.",
        ),
        (
            "HGS_HOME",
            "The folder of an owner's guardians, as `--home`.",
        ),
        (
            "HGS_PASSPHRASE_FROM",
            "Where the passphrase of an owner's keys comes from, as `--passphrase-from`.",
        ),
        (
            "COMPLETE",
            "Set by shells that complete names: `source <(COMPLETE=bash hgs)`.",
        ),
    ],
};

#[derive(Debug, Subcommand)]
enum Noun {
    Quickstart(quickstart::Arguments),
    Init(init::Arguments),
    Serve(serve::Arguments),
    Status(administration::Status),
    Trace(trace::Arguments),
    Cluster(cluster::Arguments),
    /// The server's configuration
    Server(server::Arguments),
    /// The guardian's own certificates
    Certificate(administration::Certificate),
    /// Hosts that may attest
    Host(administration::Host),
    /// Groups of hosts, with policies of their own
    HostGroup(administration::HostGroup),
    /// Which policies and documents hosts with TPMs are judged by
    Policy(administration::Policy),
    /// What may be measured when a host boots
    Baseline(Box<administration::Baseline>),
    /// Which files a host may use
    CiPolicy(administration::CiPolicy),
    /// What may write crash dumps
    DumpKey(administration::Document),
    /// Who is trusted to vouch for TPMs
    EkRoot(administration::EkRoot),
    /// Signers of health certificates
    Signer(administration::Signer),
    /// Who released which key to whom, and who changed what
    Audit(administration::Audit),
    Events(administration::Events),
    Console(administration::Console),
    /// The guardian's state as a whole: backups, and its master key
    State(state::Arguments),
    /// Guardians: own ones with their keys, and those of others
    Guardian(guardian::Arguments),
    /// Key protectors: the secret of a virtual machine, wrapped for all who may open it
    Protector(protector::Arguments),
    /// Images of shielded VMs
    VmImage(Box<vm_image::Arguments>),
    Completions(Completions),
    Man(Man),
}

impl Program for Arguments {
    fn common(&self) -> &CommonOptions {
        &self.common
    }

    fn default_log(&self) -> Option<&'static str> {
        match self.noun {
            Noun::Serve(_) => None,
            _ => Some("off"),
        }
    }

    fn run(self, terminal: &Terminal) -> Result<Exit, Failure> {
        let handles_keys = !matches!(self.noun, Noun::Completions(_) | Noun::Man(_));
        if handles_keys && let Err(error) = process::harden() {
            terminal.note(format!("warning: this process can't be hardened: {error}"));
        }
        match self.noun {
            Noun::Quickstart(arguments) => arguments.run(terminal),
            Noun::Init(arguments) => arguments.run(terminal),
            Noun::Serve(arguments) => arguments.run(),
            Noun::Status(arguments) => arguments.run(terminal),
            Noun::Trace(arguments) => arguments.run(terminal),
            Noun::Cluster(arguments) => arguments.run(terminal),
            Noun::Server(arguments) => arguments.run(terminal),
            Noun::Certificate(arguments) => arguments.run(terminal),
            Noun::Host(arguments) => arguments.run(terminal),
            Noun::HostGroup(arguments) => arguments.run(terminal),
            Noun::Policy(arguments) => arguments.run(terminal),
            Noun::Baseline(arguments) => arguments.run(terminal),
            Noun::CiPolicy(arguments) => arguments.run(terminal),
            Noun::DumpKey(arguments) => arguments.run(DocumentKind::DumpKey, terminal),
            Noun::EkRoot(arguments) => arguments.run(terminal),
            Noun::Signer(arguments) => arguments.run(terminal),
            Noun::Audit(arguments) => arguments.run(terminal),
            Noun::Events(arguments) => arguments.run(terminal),
            Noun::Console(arguments) => arguments.run(terminal),
            Noun::State(arguments) => arguments.run(terminal),
            Noun::Guardian(arguments) => arguments.run(terminal),
            Noun::Protector(arguments) => arguments.run(terminal),
            Noun::VmImage(arguments) => arguments.run(terminal),
            Noun::Completions(completions) => completions.run(Self::command(), terminal),
            Noun::Man(man) => man.run(Self::command(), MANUAL, terminal),
        }
    }
}

impl Noun {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_is_sound() {
        Arguments::command().debug_assert();
    }
}
