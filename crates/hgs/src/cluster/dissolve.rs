//! `hgs cluster dissolve`.

use std::fmt;

use hgs_server::StoppedNode;
use hgs_store::Act;
use hgs_terminal::{AtFault, Exit, Failure, Terminal};
use rustix::process::geteuid;
use serde::Serialize;

use crate::clock::now;
use crate::config_option::ConfigOption;
use crate::failures::OrFail as _;

/// Make this node a guardian of one node again, with its copy of the state
///
/// It is the way out when most nodes are lost for good, and the way to what only a guardian of one node can do. The server
/// must not run here, nor on any other node from then on: two guardians with the same keys would each release keys to hosts
/// that the other one has revoked. Commits that other nodes acknowledged and this one has not taken in are lost: dissolve on
/// the node whose newest audit record has the highest number (`--dry-run` shows it). The other machines join again with
/// empty state folders after `hgs cluster create`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  hgs cluster dissolve --dry-run
  hgs cluster dissolve")]
pub(super) struct Arguments {
    /// Only say how far this node's copy of the state goes
    #[arg(long)]
    dry_run: bool,
    /// Do it although the copy is older than its high-water mark: what was done since is forgotten, revocations included
    #[arg(long)]
    accept_older: bool,
    #[command(flatten)]
    config: ConfigOption,
}

impl Arguments {
    pub(super) fn run(self, terminal: &Terminal) -> Result<Exit, Failure> {
        let config = self.config.load()?;
        let node = StoppedNode::open(&config).or_fail()?;
        let mut shown = Shown::of(&node, config.state_folder().display().to_string());
        if self.dry_run {
            terminal.report(&shown)?;
            return Ok(Exit::Done);
        }
        if let Some(found) = node.rolled_back().filter(|_| !self.accept_older) {
            return Err(Failure::failed(found)
                .at_fault(AtFault::Operator)
                .remedy("dissolve on another node; if there is none, put the newest copy of the state folder back, or go on with this one \
                         with `--accept-older`"));
        }
        let runtime = tokio::runtime::Runtime::new()
            .map_err(|error| Failure::of(&error).at_fault(AtFault::Ourselves))?;
        runtime.block_on(node.refuse_running_cluster()).or_fail()?;
        terminal.confirm(format_args!(
            "{shown}No other node of the cluster may run from now on. Make this one a guardian of one node?"
        ))?;
        let act = Act::new(now(), format!("uid {}", geteuid().as_raw()));
        let dissolved = node.dissolve(act).or_fail()?;
        shown.is_dissolved = true;
        shown.audit_record = dissolved.sequence;
        shown.set_aside = dissolved.set_aside.map(|path| path.display().to_string());
        terminal.report(&shown)?;
        Ok(Exit::Done)
    }
}

#[derive(Serialize)]
struct Shown {
    state_folder: String,
    node: Option<String>,
    other_nodes: Vec<String>,
    /// The number of the newest audit record before, and when it was made.
    newest_audit_record: u64,
    newest_audit_record_time: Option<String>,
    /// What the high-water mark says against it.
    older_than_mark: Option<String>,
    #[serde(rename = "dissolved")]
    is_dissolved: bool,
    audit_record: Option<u64>,
    set_aside: Option<String>,
}

impl Shown {
    fn of(node: &StoppedNode, state_folder: String) -> Self {
        let (facts, extent) = (node.facts(), node.extent());
        Self {
            state_folder,
            node: facts.map(|facts| facts.node.name.to_string()),
            other_nodes: facts.map_or_else(Vec::new, |facts| {
                facts.others().map(|node| node.name.to_string()).collect()
            }),
            newest_audit_record: extent.audit_sequence,
            newest_audit_record_time: extent.newest.map(|time| time.to_string()),
            older_than_mark: node.rolled_back().map(ToString::to_string),
            is_dissolved: false,
            audit_record: None,
            set_aside: None,
        }
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let folder = &self.state_folder;
        if self.is_dissolved {
            writeln!(
                formatter,
                "The state in {folder} is that of a guardian of one node: start it with `hgs serve`, or found a cluster with \
                 `hgs cluster create`. No other node of the old cluster may run."
            )?;
            if let Some(place) = &self.set_aside {
                writeln!(
                    formatter,
                    "What this node had of the cluster is in {place}. Remove it when the old cluster is gone for good."
                )?;
            }
            return Ok(());
        }
        if let Some(node) = &self.node {
            write!(formatter, "This is node `{node}`")?;
            match self.other_nodes.is_empty() {
                true => writeln!(formatter, ", the only one of its cluster.")?,
                false => writeln!(
                    formatter,
                    " of a cluster with {}.",
                    self.other_nodes.join(", ")
                )?,
            }
        }
        write!(
            formatter,
            "Its copy of the state ends with audit record {}",
            self.newest_audit_record
        )?;
        if let Some(time) = &self.newest_audit_record_time {
            write!(formatter, " of {time}")?;
        }
        writeln!(
            formatter,
            ". What other nodes acknowledged after that is not in it."
        )?;
        match &self.older_than_mark {
            Some(found) => writeln!(formatter, "It is not the newest one: {found}."),
            None => Ok(()),
        }
    }
}
