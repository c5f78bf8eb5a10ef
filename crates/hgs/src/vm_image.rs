//! `hgs vm-image`: images of shielded VMs, made by their owner away from the fabric.

mod clone;
pub(crate) mod keys;
pub(crate) mod prepare;
mod re_enrol;
mod recovery;

use std::path::Path;

use clap::Subcommand;
use hgs_protector::VerifiedProtector;
use hgs_terminal::{AtFault, Exit, Failure, Terminal};
use hgs_vm::generation::{Generation, PROTECTOR, StateFolder};
use hgs_vm::image::{ImageError, Tools};
use hgs_vm::parts::Parts;

use crate::guardian::HomeOption;
use crate::protector::read_valid;

/// The verbs of `hgs vm-image`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    home: HomeOption,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Prepare(prepare::Arguments),
    Clone(clone::Arguments),
    ReEnrol(re_enrol::Arguments),
}

impl Arguments {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<Exit, Failure> {
        let home = self.home.open()?;
        match self.verb {
            Verb::Prepare(arguments) => arguments.run(&home, terminal),
            Verb::Clone(arguments) => arguments.run(&home, terminal),
            Verb::ReEnrol(arguments) => arguments.run(&home, terminal),
        }
    }
}

/// What was last shown of long work: each step is shown once, and every tenth of those that say how far they are.
#[derive(Default)]
struct Shown(Option<(&'static str, u64)>);

impl Shown {
    fn step(&mut self, what: &'static str, terminal: &Terminal) {
        self.share(what, 0, 1, terminal);
    }

    fn share(&mut self, what: &'static str, done: u64, all: u64, terminal: &Terminal) {
        let tenth = done.saturating_mul(10) / all.max(1);
        if self.0.is_none_or(|last| last != (what, tenth)) {
            self.0 = Some((what, tenth));
            match tenth {
                0 => terminal.note(what),
                tenth => terminal.note(format!("{what}: {} %", tenth * 10)),
            }
        }
    }
}

/// The programs that are needed: those of this machine, and packages that are fetched into the user's cache for the rest.
pub(crate) fn parts(terminal: &Terminal) -> Result<Parts, Failure> {
    Parts::of_user(&mut |what| terminal.note(what))
        .map_err(|error| Failure::of(&error).at_fault(AtFault::Operator))
}

/// The current generation of a VM that does not run, and its protector.
fn current_generation(folder: &Path) -> Result<(Generation, VerifiedProtector), Failure> {
    let state = StateFolder::open(folder);
    let state = state.map_err(|error| Failure::of(&error).at_fault(AtFault::Operator))?;
    let current = state.current();
    let current = current.ok_or_else(|| Failure::failed("the VM has no vTPM"))?;
    let protector = read_valid(&current.path().join(PROTECTOR))?;
    Ok((current, protector))
}

pub(crate) fn tools(parts: &Parts) -> Result<Tools, Failure> {
    Tools::of(parts).map_err(image_failure)
}

pub(crate) fn image_failure(error: ImageError) -> Failure {
    match &error {
        ImageError::PlainDisk(_) | ImageError::Partitions(_) => {
            Failure::refused(&error).at_fault(AtFault::Operator)
        }
        ImageError::NotInstalled { package, .. } => {
            let remedy = format!("install it: apt install {package}");
            Failure::of(&error)
                .at_fault(AtFault::Operator)
                .remedy(remedy)
        }
        _ => Failure::of(&error),
    }
}
