//! `hgs vm-image`: images of shielded VMs, made by their owner away from the fabric.

mod clone;
pub(crate) mod keys;
pub(crate) mod prepare;
mod re_enrol;
mod recovery;

use std::env;

use clap::Subcommand;
use hgs_terminal::{AtFault, Exit, Failure, Terminal};
use hgs_vm::image::{ImageError, Tools};
use hgs_vm::parts::{Parts, PartsError, Plan, Progress};

use crate::guardian::HomeOption;

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
    let fetched = || -> Result<Parts, PartsError> {
        let cache = Parts::cache_folder(|name| env::var_os(name))?;
        if let Some(parts) = Parts::open(&cache)? {
            return Ok(parts);
        }
        terminal.note("reading the lists of the distribution's packages");
        let plan = Plan::make(&cache, &mut |progress| {
            if let Progress::Waiting = progress {
                terminal.note("waiting for another program that fetches packages");
            }
        })?;
        let names: Vec<_> = plan
            .packages()
            .iter()
            .map(|package| &*package.name)
            .collect();
        terminal.note(format!(
            "fetching {} packages ({} MB) of the distribution into {}; nothing is installed: {}",
            names.len(),
            plan.octets() / 1_000_000,
            cache.display(),
            names.join(" ")
        ));
        let mut last = 0;
        plan.carry_out(&mut |progress| {
            if let Progress::Downloading { done, all } = progress
                && done * 10 / all.max(1) > last
            {
                last = done * 10 / all.max(1);
                terminal.note(format!("  {} of {} MB", done / 1_000_000, all / 1_000_000));
            }
        })
    };
    fetched().map_err(|error| Failure::of(&error).at_fault(AtFault::Operator))
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
