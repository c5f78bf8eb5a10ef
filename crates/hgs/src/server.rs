//! `hgs server`.

mod check;

use clap::Subcommand;
use hgs_terminal::{Exit, Failure, Terminal};

use crate::administration::{ServerOption, SetServer, Settings};

/// The verbs of `hgs server`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    server: ServerOption,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Check(check::Arguments),
    Show(Settings),
    Set(SetServer),
}

impl Arguments {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<Exit, Failure> {
        match self.verb {
            Verb::Check(arguments) => {
                self.server.require_this_machine()?;
                arguments.run(&self.server.config, terminal)
            }
            Verb::Show(arguments) => arguments.run(self.server, terminal),
            Verb::Set(arguments) => arguments.run(self.server, terminal),
        }
    }
}
