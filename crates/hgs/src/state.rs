//! `hgs state`: the guardian's state as a whole.
//!
//! These commands read and write the state's own folder, as the user that the service runs as: a person who can do that has
//! every key of the guardian already. So an administrator at the socket, who has none of them, gets none by a backup.

mod accept;
mod export;
mod import;
mod rotate;
mod sealed;
mod show;

use std::path::Path;

use clap::Subcommand;
use hgs_crypto::random::System;
use hgs_custody::seal::MasterKey;
use hgs_server::Config;
use hgs_store::backup::{DocumentError, ExportError};
use hgs_store::{Act, ImportError, MasterKeyError, OpenError, Opening, StoreError};
use hgs_terminal::{AtFault, Exit, Failure, Terminal};
use rustix::process::geteuid;

use crate::administration::ServerOption;
use crate::clock::now;
use crate::failures::IntoFailure;

/// The verbs of `hgs state`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    server: ServerOption,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Accept(accept::Arguments),
    Export(export::Arguments),
    Import(import::Arguments),
    Show(show::Arguments),
    RotateMasterKey(rotate::Arguments),
}

impl Arguments {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<Exit, Failure> {
        self.server.require_this_machine()?;
        match self.verb {
            Verb::Accept(arguments) => arguments.run(&self.server.config, terminal),
            Verb::Export(arguments) => arguments.run(self.server, terminal),
            Verb::Import(arguments) => arguments.run(&self.server.config, terminal),
            Verb::Show(arguments) => arguments.run(terminal),
            Verb::RotateMasterKey(arguments) => arguments.run(&self.server.config, terminal),
        }
    }
}

/// The state in `directory`, as the configuration has it.
fn opening<'a>(directory: &'a Path, master_key: &'a MasterKey, config: &'a Config) -> Opening<'a> {
    Opening {
        directory,
        master_key,
        node: &config.server.name,
        high_water_mark: config.high_water_mark_file(),
        random: Box::new(System::new()),
        order: None,
    }
}

/// The person who runs this, and the time.
fn act() -> Act {
    Act::new(now(), format!("uid {}", geteuid().as_raw()))
}

impl IntoFailure for OpenError {
    fn into_failure(self) -> Failure {
        let failure = Failure::of(&self).at_fault(AtFault::Operator);
        match self.remedy() {
            Some(remedy) => failure.remedy(remedy),
            None => failure,
        }
    }
}

impl IntoFailure for MasterKeyError {
    fn into_failure(self) -> Failure {
        let failure = Failure::of(&self).at_fault(AtFault::Operator);
        match self.remedy() {
            Some(remedy) => failure.remedy(remedy),
            None => failure,
        }
    }
}

impl IntoFailure for StoreError {
    fn into_failure(self) -> Failure {
        let failure = Failure::of(&self);
        match self.remedy() {
            Some(remedy) => failure.at_fault(AtFault::Operator).remedy(remedy),
            None => failure.at_fault(AtFault::Ourselves),
        }
    }
}

impl IntoFailure for ExportError {
    fn into_failure(self) -> Failure {
        Failure::of(&self).at_fault(AtFault::Ourselves)
    }
}

impl IntoFailure for DocumentError {
    fn into_failure(self) -> Failure {
        let failure = Failure::refused(&self).at_fault(AtFault::Peer);
        match self {
            Self::Newer(_) => failure.remedy("use a newer version of hgs"),
            _ => failure.remedy("take another backup"),
        }
    }
}

impl IntoFailure for ImportError {
    fn into_failure(self) -> Failure {
        match self {
            Self::Open(error) => error.into_failure(),
            Self::Document(error) => error.into_failure(),
            Self::Inconsistent(_) => Failure::refused(&self).at_fault(AtFault::Peer),
            Self::Conflicts(conflicts) => {
                let count = conflicts.len();
                let lines = conflicts.iter().map(|conflict| format!("\n  {conflict}"));
                let lines: String = lines.collect();
                Failure::refused(format!("the state and the backup differ in {count} places:{lines}"))
                    .at_fault(AtFault::Operator)
                    .remedy("decide for all of them with `--keep-ours` or `--take-theirs`; `--dry-run` shows what that does")
            }
            Self::NotSealed(_) => Failure::of(&self).at_fault(AtFault::Ourselves),
            Self::AlreadyInitialised { .. } => Failure::refused(&self)
                .at_fault(AtFault::Operator)
                .remedy("leave `--initialise` out to take the backup into that state, or name another folder"),
        }
    }
}
