//! `hgs policy`: which policies and documents hosts with TPMs are judged by.

use std::fmt;

use clap::Subcommand;
use hgs_admin::types::{Policy, PolicyQuery, SetPolicy};
use hgs_admin::{AdminError, Administration as _, ErrorCode, NameSelector};
use hgs_terminal::{Exit, Failure, Table, Terminal};
use serde::Serialize;

use super::simulate::Simulate;
use super::{ServerOption, or_dash, yes_or_no};
use crate::completion;
use crate::failures::OrFail as _;

/// The verbs of `hgs policy`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    server: ServerOption,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the policies and documents as they are set for a group
    List {
        #[command(flatten)]
        group: Group,
    },
    /// Show one policy, or one document
    Show {
        /// Its name
        #[arg(add = completion::policies())]
        name: NameSelector,
        #[command(flatten)]
        group: Group,
    },
    /// Enable a policy or a document: hosts that do not hold it get no new health certificates
    #[command(after_help = "Examples:
  hgs policy enable Hgs_IommuEnabled
  hgs policy enable rack7-boot --group rack7")]
    Enable {
        /// Its name
        #[arg(add = completion::policies())]
        name: NameSelector,
        #[command(flatten)]
        group: Group,
    },
    /// Disable a policy or a document
    Disable {
        /// Its name
        #[arg(add = completion::policies())]
        name: NameSelector,
        #[command(flatten)]
        group: Group,
    },
    Simulate(Box<Simulate>),
    /// Have a policy or a document for a group as it is in the group `default`, or there as it is by itself
    Reset {
        /// Its name
        #[arg(add = completion::policies())]
        name: NameSelector,
        #[command(flatten)]
        group: Group,
    },
}

/// Which group is meant.
#[derive(Debug, clap::Args)]
struct Group {
    /// The group of hosts [default: `default`, which all groups follow in what is not set for them]
    #[arg(long, value_name = "GROUP", add = completion::host_groups())]
    group: Option<String>,
}

impl Arguments {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<Exit, Failure> {
        let client = self.server.client()?;
        let all = |Group { group }| client.policies(&PolicyQuery { group }).or_fail();
        let set_for = |Group { group }| SetPolicy { group };
        let policy = match self.verb {
            Verb::List { group } => {
                terminal.report(&Policies(all(group)?))?;
                return Ok(Exit::Done);
            }
            Verb::Show { name, group } => {
                let bare = |name: &str| name.to_ascii_lowercase().replacen("hgs_", "", 1);
                let mut all = all(group)?.into_iter();
                let found = all.find(|one| bare(&one.name) == bare(name.as_str()));
                found.ok_or_else(|| {
                    let message = format!("there is no policy or document {name}");
                    AdminError::new(ErrorCode::NotFound, message)
                        .with_remedy("`hgs policy list` shows what there is")
                })
            }
            Verb::Simulate(simulate) => return simulate.run(&client, terminal),
            Verb::Enable { name, group } => client.enable_policy(&name, &set_for(group)),
            Verb::Disable { name, group } => {
                terminal.confirm(format!(
                    "Disable {name}? Hosts can get health certificates then that do not hold it."
                ))?;
                client.disable_policy(&name, &set_for(group))
            }
            Verb::Reset { name, group } => {
                terminal.confirm(format!("Have {name} as it is by default?"))?;
                client.reset_policy(&name, &set_for(group))
            }
        };
        terminal.report(&One(policy.or_fail()?))?;
        Ok(Exit::Done)
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Policies(Vec<Policy>);

#[derive(Serialize)]
#[serde(transparent)]
struct One(Policy);

fn state(policy: &Policy) -> String {
    let note = match policy {
        Policy { locked: true, .. } => " (locked)",
        Policy {
            undecided: true, ..
        } => " (nothing measured decides it)",
        _ => "",
    };
    let state = if policy.enabled {
        "enabled"
    } else {
        "disabled"
    };
    format!("{state}{note}")
}

impl fmt::Display for Policies {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(["NAME", "KIND", "STATE", "SET FOR"]);
        for policy in &self.0 {
            table.row([
                policy.name.clone(),
                policy.kind.clone(),
                state(policy),
                or_dash(policy.set_for.as_ref()),
            ]);
        }
        table.fmt(formatter)
    }
}

impl fmt::Display for One {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(policy) = self;
        Table::of_pairs([
            ("name", policy.name.clone()),
            ("kind", policy.kind.clone()),
            ("GUID", or_dash(policy.guid.as_ref())),
            ("state", state(policy)),
            ("locked", yes_or_no(policy.locked)),
            ("set for", or_dash(policy.set_for.as_ref())),
        ])
        .fmt(formatter)
    }
}
