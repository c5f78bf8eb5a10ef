//! `hgs cluster status`.

use std::fmt;
use std::path::Path;

use hgs_admin::types::{Cluster, ClusterNode, ClusterUpgrade, ExistingEtcd};
use hgs_admin::{AdminError, Administration as _, ErrorCode};
use hgs_cluster::folder::ClusterFolder;
use hgs_terminal::{AtFault, Exit, Failure, Table, Terminal, printable};
use serde::Serialize;

use crate::administration::ServerOption;
use crate::failures::IntoFailure as _;

/// Show the nodes of the cluster, which of them leads, and how many can be lost
///
/// The status is 0 when enough nodes reach each other and etcd is the one that they know, otherwise 1.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  hgs cluster status
  hgs cluster status --json")]
pub(super) struct Arguments {
    #[command(flatten)]
    server: ServerOption,
}

impl Arguments {
    pub(super) fn run(self, terminal: &Terminal) -> Result<Exit, Failure> {
        let state = self.server.state_folder();
        let cluster = self.server.client()?.cluster();
        let cluster = cluster.map_err(|error| not_asked(error, state.as_deref()))?;
        let is_served = cluster.quorum && cluster.put_back.is_none();
        terminal.report(&Shown(cluster))?;
        Ok(if is_served { Exit::Done } else { Exit::Failed })
    }
}

/// Why there is no answer: a node that does not run as it has found that etcd was put back says so.
fn not_asked(error: AdminError, state: Option<&Path>) -> Failure {
    let state = state.filter(|_| error.code == ErrorCode::NotRunning);
    let noted = state.and_then(|state| ClusterFolder::of_state(state).put_back().ok().flatten());
    match noted {
        None => error.into_failure(),
        Some(how) => Failure::failed(format!("nothing is released: {}", printable(&how)))
            .at_fault(AtFault::Operator)
            .remedy(
                "stop all nodes, and see \"Disasters\" in docs/cluster.md: the node with the newest audit record goes on",
            ),
    }
}

#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct Shown(pub(super) Cluster);

impl fmt::Display for Shown {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(cluster) = self;
        let mut table = Table::new([
            "NODE", "ADDRESS", "STATE", "VERSION", "LEVEL", "LAG", "CLOCK", "KEYS", "SPACE",
        ]);
        for node in &cluster.nodes {
            let space = node.etcd_octets.zip(node.etcd_quota);
            let space =
                space.map(|(octets, quota)| format!("{} of {} MiB", octets >> 20, quota >> 20));
            table.row([
                or_dash(node.name.as_ref()),
                node.address.clone(),
                state(node, cluster.existing_etcd.is_some()).to_owned(),
                or_dash(node.version.as_ref()),
                level(node),
                or_dash(node.lag.as_ref()),
                or_dash(
                    node.clock_difference_seconds
                        .map(|seconds| format!("{seconds:+} s"))
                        .as_ref(),
                ),
                or_dash(node.usable_keys.as_ref().map(Vec::len).as_ref()),
                or_dash(space.as_ref()),
            ]);
        }
        table.fmt(formatter)?;
        writeln!(formatter)?;
        if let Some(etcd) = &cluster.existing_etcd {
            show_etcd(etcd, formatter)?;
        }
        if let Some(put_back) = &cluster.put_back {
            writeln!(
                formatter,
                "Nothing is released: {}. Stop all nodes, and see \"Disasters\" in docs/cluster.md.",
                printable(put_back)
            )?;
        }
        match cluster.survives {
            _ if cluster.put_back.is_some() => {}
            Some(0) if cluster.quorum => {
                writeln!(
                    formatter,
                    "Every node is needed: the loss of one stops all."
                )?;
            }
            Some(1) if cluster.quorum => {
                writeln!(formatter, "The loss of one more node stops nothing.")?
            }
            Some(more) if cluster.quorum => {
                writeln!(formatter, "The loss of {more} more nodes stops nothing.")?;
            }
            _ => writeln!(
                formatter,
                "Nothing is released: more than half of the nodes must run and reach each other."
            )?,
        }
        if let Some(upgrade) = &cluster.upgrade {
            upgrade_line(cluster, upgrade, formatter)?;
        }
        if let Some(trouble) = &cluster.trouble {
            writeln!(
                formatter,
                "The nodes are shown as they were known last: {}",
                printable(trouble)
            )?;
        }
        for node in &cluster.nodes {
            if let (Some(name), Some(error)) = (&node.name, &node.error) {
                writeln!(formatter, "{name}: {}", printable(error))?;
            }
        }
        Ok(())
    }
}

/// The level of its state, and the newest one that it reads if that is another.
fn level(node: &ClusterNode) -> String {
    match (node.level, node.newest_level) {
        (Some(level), Some(newest)) if newest > level => format!("{level} (reads {newest})"),
        (level, _) => or_dash(level.as_ref()),
    }
}

fn upgrade_line(
    cluster: &Cluster,
    upgrade: &ClusterUpgrade,
    formatter: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    let ClusterUpgrade {
        level,
        version,
        waits_for,
    } = upgrade;
    let (version, waits_for) = (
        printable(version),
        printable(&waits_for.join(", ")).to_string(),
    );
    let from = cluster.level;
    match waits_for.is_empty() {
        true => writeln!(
            formatter,
            "Format level {from}: all nodes read level {level}, which is next."
        ),
        false => writeln!(
            formatter,
            "Format level {from}: level {level} waits until hgs {version} runs on {waits_for}."
        ),
    }
}

fn or_dash(value: Option<&impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), ToString::to_string)
}

/// An etcd that runs already, with those of its members that are asked.
fn show_etcd(etcd: &ExistingEtcd, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(
        formatter,
        "Commits are ordered below `{}/` in an etcd that runs already:",
        printable(&etcd.prefix)
    )?;
    let mut table = Table::new(["ETCD", "STATE", "VERSION", "SPACE"]);
    for member in &etcd.members {
        let state = match (member.reachable, member.leads) {
            (false, _) => "away",
            (true, true) => "leads",
            (true, false) => "follows",
        };
        let space = member.octets.map(|octets| format!("{} MiB", octets >> 20));
        table.row([
            member.url.clone(),
            state.to_owned(),
            or_dash(member.version.as_ref()),
            or_dash(space.as_ref()),
        ]);
    }
    write!(formatter, "{table}")?;
    for member in &etcd.members {
        if let Some(error) = &member.error {
            writeln!(formatter, "{}: {}", member.url, printable(error))?;
        }
    }
    writeln!(formatter)
}

fn state(node: &ClusterNode, is_without_member: bool) -> &'static str {
    if is_without_member {
        return if node.reachable { "serves" } else { "away" };
    }
    match (node.reachable, node.leads, node.votes) {
        (false, _, true) => "away",
        (false, _, false) => "joins, and has not started",
        (true, true, _) => "leads",
        (true, false, true) => "follows",
        (true, false, false) => "learns",
    }
}
