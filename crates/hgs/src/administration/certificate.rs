//! `hgs certificate`: the guardian's own certificates.

mod add;
mod change;
mod export;
mod rotate;
mod usage;
mod view;

use clap::Subcommand;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use hgs_admin::Administration as _;
use hgs_admin::types::CertificateKind;
use hgs_terminal::{Exit, Failure, Terminal};

use super::{ServerOption, all_certificates, named};
use crate::completion;
use crate::failures::OrFail as _;
use view::{Detail, List};

/// The verbs of `hgs certificate`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    server: ServerOption,
}

#[derive(Debug, Subcommand)]
enum Verb {
    New(add::New),
    Add(add::Add),
    Rotate(rotate::Rotate),
    /// List the certificates
    List,
    /// Show one certificate in full
    Show {
        /// Its SHA-256 thumbprint
        #[arg(add = completion::certificates())]
        thumbprint: String,
    },
    /// Show how many protectors each certificate was the last to open: one that none needs can go
    Usage,
    Set(change::Set),
    /// Let a certificate open and sign again
    Enable {
        /// Its SHA-256 thumbprint
        #[arg(add = completion::certificates())]
        thumbprint: String,
    },
    /// Keep a certificate from opening and signing anything
    Disable {
        /// Its SHA-256 thumbprint
        #[arg(add = completion::certificates())]
        thumbprint: String,
    },
    /// Keep a certificate from ever being primary again; it opens and signs as before
    Retire {
        /// Its SHA-256 thumbprint
        #[arg(add = completion::certificates())]
        thumbprint: String,
    },
    Remove(change::Remove),
    Export(export::Export),
}

/// Reads what a certificate is for.
fn kinds() -> impl TypedValueParser<Value = CertificateKind> {
    let names = CertificateKind::ALL.map(CertificateKind::name);
    PossibleValuesParser::new(names).try_map(|name| name.parse::<CertificateKind>())
}

impl Arguments {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<Exit, Failure> {
        let client = self.server.client()?;
        match self.verb {
            Verb::New(new) => new.run(&client, terminal)?,
            Verb::Add(add) => add.run(&client, terminal)?,
            Verb::Rotate(rotate) => rotate.run(&client, terminal)?,
            Verb::List => terminal.report(&List(all_certificates(&client).or_fail()?))?,
            Verb::Show { thumbprint } => {
                terminal.report(&Detail(client.certificate(&named(&thumbprint)?).or_fail()?))?;
            }
            Verb::Usage => usage::run(&client, terminal)?,
            Verb::Set(set) => set.run(&client, terminal)?,
            Verb::Enable { thumbprint } => change::enable(&client, &named(&thumbprint)?, terminal)?,
            Verb::Disable { thumbprint } => {
                change::disable(&client, &named(&thumbprint)?, terminal)?
            }
            Verb::Retire { thumbprint } => change::retire(&client, &named(&thumbprint)?, terminal)?,
            Verb::Remove(remove) => remove.run(&client, terminal)?,
            Verb::Export(export) => export.run(&client, terminal)?,
        }
        Ok(Exit::Done)
    }
}
