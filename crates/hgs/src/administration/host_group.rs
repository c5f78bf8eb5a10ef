//! `hgs host-group`: groups of hosts with policies of their own.

use std::fmt;

use clap::Subcommand;
use hgs_admin::types::{HostGroup, NewHostGroup};
use hgs_admin::{Administration as _, NameSelector};
use hgs_terminal::{Exit, Failure, Table, Terminal};
use serde::Serialize;

use super::ServerOption;
use crate::completion;
use crate::failures::OrFail as _;

/// The verbs of `hgs host-group`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    server: ServerOption,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a group, which follows the group `default` until a policy is enabled or disabled for it
    #[command(after_help = "Example:
  hgs host-group new rack7
  hgs baseline add rack7-boot rack7.json --group rack7
  hgs host set host1 --group rack7")]
    New {
        /// Its name, in letters, digits, `.`, `-` and `_`; it is kept in lower case
        name: String,
    },
    /// List the groups; hosts that are in no other one are in `default`
    List,
    /// Remove a group that has no hosts
    Remove {
        /// Its name
        #[arg(add = completion::host_groups())]
        name: NameSelector,
    },
}

impl Arguments {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<Exit, Failure> {
        let client = self.server.client()?;
        match self.verb {
            Verb::New { name } => {
                let group = client.new_host_group(&NewHostGroup { name }).or_fail()?;
                terminal.report(&Groups(vec![group]))?;
            }
            Verb::List => terminal.report(&Groups(client.host_groups().or_fail()?))?,
            Verb::Remove { name } => {
                terminal.confirm(format!("Remove the host group {name} with its settings?"))?;
                let group = client.remove_host_group(&name).or_fail()?;
                terminal.report(&Groups(vec![group]))?;
            }
        }
        Ok(Exit::Done)
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Groups(Vec<HostGroup>);

impl fmt::Display for Groups {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(["NAME", "HOSTS", "OWN SETTINGS", "PROBLEM"]);
        for group in &self.0 {
            table.row([
                group.name.clone(),
                group.hosts.to_string(),
                group.settings.to_string(),
                group.problem.clone().unwrap_or_default(),
            ]);
        }
        table.fmt(formatter)
    }
}
