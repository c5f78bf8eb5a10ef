//! `hgs cluster join`.

use std::fmt;
use std::io::{self, Read as _};
use std::time::{Duration, Instant};

use hgs_cluster::invitation::Invitation;
use hgs_cluster::node::NodeAddress;
use hgs_server::UnusableKey;
use hgs_terminal::{AtFault, Exit, Failure, Terminal, printable};
use serde::Serialize;
use zeroize::Zeroizing;

use super::{EtcdFilesOptions, NameOption};
use crate::config_option::ConfigOption;
use crate::failures::OrFail as _;

/// Octets of the longest invitation, and more.
const LONGEST: u64 = 4096;
/// How often progress is told.
const PROGRESS: Duration = Duration::from_secs(1);

/// Make this machine a node of the cluster that has invited it
///
/// It gets the cluster's certificates, its master key and a copy of its state; the guardian's configuration is the
/// administrator's to write, as on the other nodes. Where the nodes use an etcd that runs already, the invitation leads to it,
/// and this machine needs a certificate of its own there. It can be done again as long as the invitation holds.
///
/// At its end this machine tries every private key in use. The status is 3 where it has joined and can't use all of them: it
/// names those, and is not ready before it can.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  hgs cluster join hgs-join-1... --address 192.0.2.2
  ssh guardian-1 hgs cluster invite | hgs cluster join - --address 192.0.2.2
  hgs cluster join - --address 192.0.2.2 --etcd-ca ca.pem --etcd-certificate client.pem --etcd-key client.key")]
pub(super) struct Arguments {
    /// The invitation that `hgs cluster invite` printed on another node; `-` reads it from standard input, so that no other
    /// user of this machine sees it
    invitation: String,
    /// Where other nodes reach this one: an IP address or a name, and the port of the cluster listener [port: 2382].
    /// The etcd that it starts listens on the ports 3 and 2 below it.
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    address: NodeAddress,
    #[command(flatten)]
    name: NameOption,
    #[command(flatten)]
    etcd: EtcdFilesOptions,
    #[command(flatten)]
    config: ConfigOption,
}

impl Arguments {
    pub(super) fn run(self, terminal: &Terminal) -> Result<Exit, Failure> {
        let config = self.config.load()?;
        let text = Zeroizing::new(match &*self.invitation {
            "-" => from_standard_input()?,
            _ => self.invitation,
        });
        let invitation: Invitation = text.parse().map_err(|error| {
            Failure::of(&error)
                .with_exit(Exit::Refused)
                .at_fault(AtFault::Operator)
                .remedy("copy all of what `hgs cluster invite` prints on a node that serves")
        })?;
        let node = self.name.node(self.address)?;
        let etcd_files = self.etcd.read()?;
        let runtime = tokio::runtime::Runtime::new()
            .map_err(|error| Failure::of(&error).at_fault(AtFault::Ourselves))?;
        let mut told = Instant::now();
        let mut progress = |come: u64, all: u64| {
            if told.elapsed() >= PROGRESS {
                told = Instant::now();
                terminal.note(format_args!(
                    "the state: {} of {} MiB",
                    come >> 20,
                    all >> 20
                ));
            }
        };
        let joined = runtime
            .block_on(hgs_server::join(
                &config,
                node,
                &invitation,
                etcd_files,
                &mut progress,
            ))
            .or_fail()?;
        let unusable = hgs_server::unusable_keys(&config).map_err(|error| {
            Failure::of(&error)
                .while_doing("this machine has joined, and its keys could not be tried")
                .with_exit(Exit::Unfinished)
                .at_fault(AtFault::Ourselves)
                .remedy("`hgs trace` tries them again")
        })?;
        let exit = match unusable.is_empty() {
            true => Exit::Done,
            false => Exit::Unfinished,
        };
        terminal.report(&Joined {
            node: joined.facts.node.name.to_string(),
            address: joined.facts.node.address.to_string(),
            nodes: joined
                .facts
                .nodes
                .iter()
                .map(|node| node.name.to_string())
                .collect(),
            state_octets: joined.octets,
            unusable_keys: unusable,
        })?;
        Ok(exit)
    }
}

fn from_standard_input() -> Result<String, Failure> {
    let mut text = String::new();
    let read = io::stdin().take(LONGEST).read_to_string(&mut text);
    read.map_err(|error| {
        Failure::of(&error)
            .while_doing("standard input")
            .at_fault(AtFault::Operator)
    })?;
    Ok(text)
}

#[derive(Serialize)]
struct Joined {
    node: String,
    address: String,
    nodes: Vec<String>,
    state_octets: u64,
    /// Private keys that this machine can't use.
    unusable_keys: Vec<UnusableKey>,
}

impl fmt::Display for Joined {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "Node `{}` at {} belongs to the cluster of {}.",
            self.node,
            self.address,
            self.nodes.join(", ")
        )?;
        for key in &self.unusable_keys {
            writeln!(
                formatter,
                "\nThis machine can't use the private key of {} certificate {}\n  at {}: {}",
                key.kind,
                key.certificate,
                printable(&key.place),
                printable(&key.reason)
            )?;
        }
        if !self.unusable_keys.is_empty() {
            writeln!(
                formatter,
                "\nA node that can't use a key is not ready. Give its token the key, or say in a section [[pkcs11.key]] of the \
                 configuration where it is on this machine; `hgs trace` tries all keys again."
            )?;
        }
        writeln!(
            formatter,
            "\nNext: `hgs serve`, with a configuration as on the other nodes."
        )
    }
}
