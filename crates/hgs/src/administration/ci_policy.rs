//! `hgs ci-policy`: which files a host may use.

use clap::Subcommand;
use hgs_admin::types::DocumentKind;
use hgs_terminal::{Exit, Failure, Terminal};

use super::{ServerOption, document};
use crate::documents::NewCiPolicy;

/// The verbs of `hgs ci-policy`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    server: ServerOption,
}

#[derive(Debug, Subcommand)]
enum Verb {
    New(NewCiPolicy),
    #[command(flatten)]
    Document(document::Verb),
}

impl Arguments {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<Exit, Failure> {
        match self.verb {
            Verb::New(new) => new.run(terminal),
            Verb::Document(verb) => verb.run(DocumentKind::CiPolicy, self.server, terminal),
        }
    }
}
