//! `hgs ci-policy`: which files a host may use.

use std::fmt;

use clap::Subcommand;
use hgs_admin::NameSelector;
use hgs_admin::types::DocumentKind;
use hgs_attest::policy::CiPolicy;
use hgs_terminal::{Exit, Failure, Terminal};
use serde::Serialize;

use super::baseline::Seen;
use super::{ServerOption, document};
use crate::clock;
use crate::completion;
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
    Retire(Retire),
    #[command(flatten)]
    Document(document::Verb),
}

/// Accept a set of files no longer
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  hgs ci-policy retire system --unused
  hgs ci-policy retire system debian-12.8")]
struct Retire {
    /// The code-integrity policy
    #[arg(add = completion::ci_policies())]
    name: NameSelector,
    /// The set
    #[arg(required_unless_present = "unused")]
    set: Option<String>,
    /// All sets from which no host had used a file when it last attested
    #[arg(long, conflicts_with = "set")]
    unused: bool,
}

impl Arguments {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<Exit, Failure> {
        match self.verb {
            Verb::New(new) => new.run(terminal),
            Verb::Retire(retire) => retire.run(self.server, terminal),
            Verb::Document(verb) => verb.run(DocumentKind::CiPolicy, self.server, terminal),
        }
    }
}

impl Retire {
    fn run(self, server: ServerOption, terminal: &Terminal) -> Result<Exit, Failure> {
        let client = server.client()?;
        let detail = document::find(&client, &self.name, DocumentKind::CiPolicy)?;
        let policy = CiPolicy::from_json(detail.text.as_bytes());
        let mut policy = policy.map_err(Failure::refused)?;
        let seen = Seen::ask(&client)?;
        let retired = match self.set {
            Some(set) => vec![set],
            None => {
                seen.check_known()?;
                policy.unused(self.name.as_str(), &seen.used)
            }
        };
        for set in &retired {
            if !policy.retire(set, clock::now()) {
                let name = &self.name;
                let message = format!("{name} has no set `{set}` that is accepted");
                return Err(Failure::refused(message));
            }
        }
        let retired = Retired { sets: retired };
        if !retired.sets.is_empty() {
            terminal.note(&retired);
            terminal.confirm(format!(
                "Retire this? Hosts that have used such files are refused from then on.{}",
                seen.unknown()
            ))?;
            document::change(&client, &self.name, &detail, policy.to_json())?;
        }
        terminal.report(&retired)?;
        Ok(Exit::Done)
    }
}

#[derive(Serialize)]
struct Retired {
    sets: Vec<String>,
}

impl fmt::Display for Retired {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.sets.is_empty() {
            true => writeln!(formatter, "Nothing is left to retire."),
            false => writeln!(formatter, "Sets: {}", self.sets.join(", ")),
        }
    }
}
