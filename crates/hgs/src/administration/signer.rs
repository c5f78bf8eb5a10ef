//! `hgs signer`: who may sign health certificates.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Subcommand};
use hgs_admin::Administration as _;
use hgs_admin::types::{AddSigner, SetSigner, Signer};
use hgs_terminal::{Exit, Failure, Table, Terminal};
use serde::Serialize;

use super::{ServerOption, all_signers, given_text, named, or_dash, period, time, yes_or_no};
use crate::completion;
use crate::failures::OrFail as _;

/// The verbs of `hgs signer`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    server: ServerOption,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the signers whose health certificates are accepted
    List,
    Add(Add),
    Set(Set),
    /// Have one of our own signers sign no more: what it signed is accepted until it ends, and another takes over at once
    Retire {
        /// Its SHA-256 thumbprint
        #[arg(add = completion::signers())]
        thumbprint: String,
    },
    /// Forget a signer: what it signed is refused from now on; one of our own is replaced at once
    Remove {
        /// Its SHA-256 thumbprint
        #[arg(add = completion::signers())]
        thumbprint: String,
    },
}

/// Accept the health certificates of another cluster's signer
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  hgs signer add other.pem --label 'second site' --maximum-validity 8h")]
struct Add {
    /// PEM or DER file with the signer's certificate
    file: PathBuf,
    /// A label for people
    #[arg(long)]
    label: Option<String>,
    /// Refuse health certificates that are valid for longer
    #[arg(long, value_name = "DURATION", value_parser = period)]
    maximum_validity: Option<Duration>,
}

/// Change which health certificates of a signer are accepted, or what it is called
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  hgs signer set all --deny-before 2026-11-21T12:00:00Z
  hgs signer set THUMBPRINT --deny 4a:11:07")]
#[command(group = ArgGroup::new("change")
    .required(true)
    .multiple(true)
    .args(["deny_before", "label", "maximum_validity", "deny", "allow"]))]
struct Set {
    /// Its SHA-256 thumbprint, or `all`
    #[arg(add = completion::signers())]
    thumbprint: String,
    /// Refuse what was issued before this time; `none` to refuse nothing
    #[arg(long, value_name = "TIME", value_parser = time_or_none)]
    deny_before: Option<String>,
    /// A label for people; empty removes it
    #[arg(long)]
    label: Option<String>,
    /// Refuse health certificates that are valid for longer; not for our own signers
    #[arg(long, value_name = "DURATION", value_parser = period)]
    maximum_validity: Option<Duration>,
    /// Refuse the certificate with this serial number; may be given several times
    #[arg(long, value_name = "SERIAL")]
    deny: Vec<String>,
    /// Refuse the certificate with this serial number no longer; may be given several times
    #[arg(long, value_name = "SERIAL")]
    allow: Vec<String>,
}

impl Arguments {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<Exit, Failure> {
        let client = self.server.client()?;
        match self.verb {
            Verb::List => terminal.report(&List(all_signers(&client).or_fail()?))?,
            Verb::Add(add) => {
                let signer = client.add_signer(&add.request()?).or_fail()?;
                terminal.report(&List(vec![signer]))?;
            }
            Verb::Set(set) => {
                let signers = client.set_signer(&named(&set.thumbprint)?, &set.request());
                terminal.report(&List(signers.or_fail()?))?;
            }
            Verb::Retire { thumbprint } => {
                let signer = client.retire_signer(&named(&thumbprint)?).or_fail()?;
                terminal.report(&List(vec![signer]))?;
            }
            Verb::Remove { thumbprint } => {
                terminal.confirm(format!(
                    "Forget the signer {thumbprint}? Hosts that it attested get no keys until they attest again."
                ))?;
                let signer = client.remove_signer(&named(&thumbprint)?).or_fail()?;
                terminal.report(&List(vec![signer]))?;
            }
        }
        Ok(Exit::Done)
    }
}

impl Add {
    fn request(&self) -> Result<AddSigner, Failure> {
        Ok(AddSigner {
            certificate: given_text(&self.file, "a certificate file")?,
            label: self.label.clone(),
            maximum_validity_seconds: self.maximum_validity.map(seconds),
        })
    }
}

impl Set {
    fn request(&self) -> SetSigner {
        let deny_before = self.deny_before.clone();
        SetSigner {
            deny_before: deny_before.map(|time| match time.as_str() {
                "none" => String::new(),
                _ => time,
            }),
            label: self.label.clone(),
            maximum_validity_seconds: self.maximum_validity.map(seconds),
            deny: self.deny.clone(),
            allow: self.allow.clone(),
        }
    }
}

fn time_or_none(text: &str) -> Result<String, String> {
    match text {
        "none" => Ok(text.to_owned()),
        _ => time(text),
    }
}

fn seconds(period: Duration) -> u32 {
    u32::try_from(period.as_secs()).unwrap_or(u32::MAX)
}

#[derive(Serialize)]
#[serde(transparent)]
struct List(Vec<Signer>);

impl fmt::Display for List {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headings = [
            "OWN",
            "STAGE",
            "EXPIRES",
            "DENY BEFORE",
            "LABEL",
            "THUMBPRINT",
        ];
        let mut table = Table::new(headings);
        for signer in &self.0 {
            table.row([
                yes_or_no(signer.own),
                signer.stage.to_string(),
                signer.not_after.clone(),
                or_dash(signer.deny_before.as_ref()),
                or_dash(signer.label.as_ref()),
                signer.thumbprint.clone(),
            ]);
        }
        table.fmt(formatter)
    }
}
