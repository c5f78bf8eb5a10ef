//! The grammar of the command line, and who does what it asks for.

use clap::{CommandFactory as _, Parser, Subcommand};
use hgs_server::process;
use hgs_terminal::{Common, Completions, Exit, Failure, Man, Program, Terminal};

use crate::administration;
use crate::{guardian, init, protector, quickstart, serve, server, state, trace};

/// OpenHGS: a Host Guardian Service, and the tools of those who own virtual machines
#[derive(Debug, Parser)]
#[command(
    name = "hgs",
    version,
    propagate_version = true,
    after_help = "Exit status: 0 done, 1 failed, 2 invalid or refused, 64 wrong usage."
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    noun: Noun,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Subcommand)]
enum Noun {
    Quickstart(quickstart::Arguments),
    Init(init::Arguments),
    Serve(serve::Arguments),
    Status(administration::Status),
    Trace(trace::Arguments),
    /// The server's configuration
    Server(server::Arguments),
    /// The guardian's own certificates
    Certificate(administration::Certificate),
    /// Hosts that may attest
    Host(administration::Host),
    /// Signers of health certificates
    Signer(administration::Signer),
    /// Who released which key to whom, and who changed what
    Audit(administration::Audit),
    /// The guardian's state as a whole: backups, and its master key
    State(state::Arguments),
    /// Guardians: own ones with their keys, and those of others
    Guardian(guardian::Arguments),
    /// Key protectors: the secret of a virtual machine, wrapped for all who may open it
    Protector(protector::Arguments),
    Completions(Completions),
    Man(Man),
}

impl Program for Arguments {
    fn common(&self) -> &Common {
        &self.common
    }

    fn run(self, terminal: &Terminal) -> Result<Exit, Failure> {
        if self.noun.handles_keys()
            && let Err(error) = process::harden()
        {
            terminal.note(format!("warning: this process can't be hardened: {error}"));
        }
        match self.noun {
            Noun::Quickstart(arguments) => arguments.run(terminal),
            Noun::Init(arguments) => arguments.run(terminal),
            Noun::Serve(arguments) => arguments.run(),
            Noun::Status(arguments) => arguments.run(terminal),
            Noun::Trace(arguments) => arguments.run(terminal),
            Noun::Server(arguments) => arguments.run(terminal),
            Noun::Certificate(arguments) => arguments.run(terminal),
            Noun::Host(arguments) => arguments.run(terminal),
            Noun::Signer(arguments) => arguments.run(terminal),
            Noun::Audit(arguments) => arguments.run(terminal),
            Noun::State(arguments) => arguments.run(terminal),
            Noun::Guardian(arguments) => arguments.run(terminal),
            Noun::Protector(arguments) => arguments.run(terminal),
            Noun::Completions(completions) => completions.run(Self::command(), terminal),
            Noun::Man(man) => man.run(Self::command(), terminal),
        }
    }
}

impl Noun {
    fn handles_keys(&self) -> bool {
        !matches!(self, Self::Completions(_) | Self::Man(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_is_sound() {
        Arguments::command().debug_assert();
    }
}
