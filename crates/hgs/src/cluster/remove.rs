//! `hgs cluster remove`.

use hgs_admin::Administration as _;
use hgs_cluster::node::NodeName;
use hgs_terminal::{Exit, Failure, Terminal};

use super::status::Shown;
use crate::administration::{ServerOption, named};
use crate::failures::OrFail as _;

/// Remove another node from the cluster
///
/// It can write nothing from then on, and releases no key. One that is lost is removed before another takes its place.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  hgs cluster remove guardian-3")]
pub(super) struct Arguments {
    /// The node
    node: NodeName,
    #[command(flatten)]
    server: ServerOption,
}

impl Arguments {
    pub(super) fn run(self, terminal: &Terminal) -> Result<Exit, Failure> {
        let client = self.server.client()?;
        terminal.confirm(format_args!(
            "Remove node {} from the cluster? It has to join anew to come back.",
            self.node
        ))?;
        let remaining = client.remove_node(&named(self.node.as_str())?).or_fail()?;
        terminal.report(&Shown(remaining))?;
        Ok(Exit::Done)
    }
}
