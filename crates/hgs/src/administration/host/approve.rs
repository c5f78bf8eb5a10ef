//! `hgs host approve`: what hosts have booted, made an approved alternative.

use std::fmt;

use hgs_admin::types::{ApproveHosts, ApprovedHost};
use hgs_admin::{Administration as _, Client};
use hgs_terminal::{Exit, Failure, Terminal};
use serde::Serialize;

use crate::completion;
use crate::failures::OrFail as _;

/// Approve what hosts booted last, so that they attest with it from then on
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  hgs host approve canary --label firmware-2.1
  hgs host approve --like host17

What all hosts share goes into the baseline and counts for all of them; what is a host's own counts for that host. The audit \
log keeps each difference. See first what it is: `hgs policy simulate --against-evidence`.")]
#[command(group(clap::ArgGroup::new("which").required(true)))]
pub(super) struct Approve {
    /// The hosts: what each of them booted last
    #[arg(value_name = "NAME", group = "which", add = completion::hosts())]
    hosts: Vec<String>,
    /// A host: what it booted last, and every host whose boot differs in the same way
    #[arg(long, value_name = "NAME", group = "which", add = completion::hosts())]
    like: Option<String>,
    /// What the new alternatives are called in the baseline [default: the name of the host]
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,
}

impl Approve {
    pub(super) fn run(self, client: &Client, terminal: &Terminal) -> Result<Exit, Failure> {
        let whose = match &self.like {
            Some(like) => format!("what {like} booted last, for all hosts that differ like it"),
            None => format!("what {} booted last", self.hosts.join(", ")),
        };
        terminal.confirm(format!(
            "Approve {whose}? Hosts that boot it get health certificates from then on."
        ))?;
        let request = ApproveHosts {
            hosts: self.hosts,
            like: self.like,
            label: self.label,
        };
        let approved = Approved(client.approve_hosts(&request).or_fail()?);
        terminal.report(&approved)?;
        Ok(match approved.0.iter().all(|host| host.healthy) {
            true => Exit::Done,
            false => Exit::Refused,
        })
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Approved(Vec<ApprovedHost>);

impl fmt::Display for Approved {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ApprovedHost {
            host,
            baseline,
            components,
            differences,
            healthy,
        } in &self.0
        {
            match components.is_empty() {
                true => writeln!(formatter, "{host}: nothing is left to approve")?,
                false => writeln!(
                    formatter,
                    "{host}: {} in the baseline `{baseline}`",
                    components.join(", ")
                )?,
            }
            for difference in differences {
                writeln!(formatter, "  {}", difference.text)?;
            }
            if !healthy {
                writeln!(
                    formatter,
                    "  its last boot would still be refused: see `hgs policy simulate --against-evidence`"
                )?;
            }
        }
        Ok(())
    }
}
