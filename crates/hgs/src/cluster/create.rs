//! `hgs cluster create`.

use std::fmt;

use hgs_cluster::folder::Facts;
use hgs_cluster::node::NodeAddress;
use hgs_terminal::{Exit, Failure, Terminal};
use serde::Serialize;

use super::{EtcdOptions, NameOption};
use crate::clock::now;
use crate::config_option::ConfigOption;
use crate::failures::OrFail as _;

/// Make this guardian the first node of a cluster
///
/// The server must not run. Its state stays as it is; `hgs serve` starts etcd beside it from then on, or uses one that runs
/// already.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  hgs cluster create --address 192.0.2.1
  hgs cluster create --address guardian-1.example:2382 --node guardian-1
  hgs cluster create --address 192.0.2.1 --etcd https://etcd-1.example:2379 --etcd https://etcd-2.example:2379 \
    --etcd-ca ca.pem --etcd-certificate client.pem --etcd-key client.key --etcd-prefix openhgs/site-1")]
pub(super) struct Arguments {
    /// Where other nodes reach this one: an IP address or a name, and the port of the cluster listener [port: 2382].
    /// The etcd that it starts listens on the ports 3 and 2 below it.
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    address: NodeAddress,
    #[command(flatten)]
    name: NameOption,
    #[command(flatten)]
    etcd: EtcdOptions,
    #[command(flatten)]
    config: ConfigOption,
}

impl Arguments {
    pub(super) fn run(self, terminal: &Terminal) -> Result<Exit, Failure> {
        let config = self.config.load()?;
        let node = self.name.node(self.address)?;
        let etcd = self.etcd.read()?;
        let facts = hgs_server::found(&config, node, etcd, now()).or_fail()?;
        terminal.report(&Created(facts))?;
        Ok(Exit::Done)
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Created(Facts);

impl fmt::Display for Created {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Facts { node, .. } = &self.0;
        writeln!(
            formatter,
            "Node `{}` at {} is the first of a cluster.\n\nNext: `hgs serve`, then `hgs cluster invite` for each further node.",
            node.name, node.address
        )
    }
}
