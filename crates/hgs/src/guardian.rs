//! `hgs guardian`: the guardians that a person keeps, own ones and those of others.

mod export;
mod generate;
mod home;
mod import;
mod name;
mod new;
mod remove;
mod show;

use std::env;
use std::path::PathBuf;

use clap::Subcommand;
use hgs_terminal::{AtFault, Exit, Failure, Terminal};

pub(crate) use generate::{generate, self_signed};
pub(crate) use home::{Home, LocalGuardian, TrustedBy};
pub(crate) use name::GuardianName;
pub(crate) use new::make;
pub(crate) use show::CertificateView;

/// The verbs of `hgs guardian`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    home: HomeOption,
}

#[derive(Debug, Subcommand)]
enum Verb {
    New(new::Arguments),
    List(show::List),
    Show(show::Show),
    Import(import::Arguments),
    Export(export::Arguments),
    Remove(remove::Arguments),
}

/// Where guardians are kept.
#[derive(Debug, clap::Args)]
pub(crate) struct HomeOption {
    /// Folder in which guardians are kept [default: ~/.local/share/openhgs]
    #[arg(long, global = true, value_name = "FOLDER", env = "HGS_HOME")]
    pub(crate) home: Option<PathBuf>,
}

impl Arguments {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<Exit, Failure> {
        let home = self.home.open()?;
        match self.verb {
            Verb::New(arguments) => arguments.run(&home, terminal),
            Verb::List(arguments) => arguments.run(&home, terminal),
            Verb::Show(arguments) => arguments.run(&home, terminal),
            Verb::Import(arguments) => arguments.run(&home, terminal),
            Verb::Export(arguments) => arguments.run(&home, terminal),
            Verb::Remove(arguments) => arguments.run(&home, terminal),
        }
    }
}

impl HomeOption {
    pub(crate) fn open(self) -> Result<Home, Failure> {
        // The XDG base directory specification: a relative path is invalid and ignored.
        let absolute = |name| {
            env::var_os(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        let data =
            || absolute("XDG_DATA_HOME").or_else(|| Some(absolute("HOME")?.join(".local/share")));
        self.home
            .or_else(|| Some(data()?.join("openhgs")))
            .map(Home::new)
            .ok_or_else(|| {
                Failure::failed("there is no home folder to keep guardians in")
                    .at_fault(AtFault::Operator)
                    .remedy("name a folder with `--home FOLDER`")
            })
    }
}
