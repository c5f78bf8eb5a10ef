//! `hgs cluster`: several nodes that are one guardian.

mod create;
mod invite;
mod join;
mod remove;
mod status;

use clap::Subcommand;
use hgs_cluster::node::{Node, NodeAddress, NodeName};
use hgs_server::{ClusterError, default_node_name};
use hgs_terminal::{AtFault, Exit, Failure, Terminal};

use crate::failures::IntoFailure;

pub(crate) use invite::invite;

/// Make a cluster of this guardian, let other machines join it, and see how it stands
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  hgs init --name guardian.example --cluster 192.0.2.1     (the first node; then: hgs serve)
  hgs cluster invite                                       (on a node that serves)
  hgs cluster join hgs-join-1... --address 192.0.2.2       (on a new machine; then: hgs serve)
  hgs cluster status")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Create(create::Arguments),
    Invite(invite::Arguments),
    Join(join::Arguments),
    Status(status::Arguments),
    Remove(remove::Arguments),
}

impl Arguments {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<Exit, Failure> {
        match self.verb {
            Verb::Create(arguments) => arguments.run(terminal),
            Verb::Invite(arguments) => arguments.run(terminal),
            Verb::Join(arguments) => arguments.run(terminal),
            Verb::Status(arguments) => arguments.run(terminal),
            Verb::Remove(arguments) => arguments.run(terminal),
        }
    }
}

/// What a node is called.
#[derive(Debug, clap::Args)]
pub(crate) struct NameOption {
    /// What this node is called [default: the name of this machine]
    #[arg(long = "node", value_name = "NAME")]
    node_name: Option<NodeName>,
}

impl NameOption {
    /// This node, at an address.
    pub(crate) fn node(self, address: NodeAddress) -> Result<Node, Failure> {
        let name = self.node_name.or_else(default_node_name).ok_or_else(|| {
            Failure::usage("the name of this machine can't be that of a node")
                .remedy("give it one with `--node NAME`: small letters, digits, `-` and `.`")
        })?;
        Ok(Node { name, address })
    }
}

impl IntoFailure for ClusterError {
    fn into_failure(self) -> Failure {
        let failure = Failure::of(&self).at_fault(match &self {
            Self::Join(_) | Self::Membership(_) | Self::Nodes(_) => AtFault::Peer,
            _ => AtFault::Operator,
        });
        let failure = match &self {
            Self::IsNode(_) => failure.with_exit(Exit::Refused),
            _ => failure,
        };
        match self.remedy() {
            Some(remedy) => failure.remedy(remedy),
            None => failure,
        }
    }
}
