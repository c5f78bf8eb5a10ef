//! What monitoring sees of a cluster.

use std::collections::BTreeMap;

use metrics::Gauge;

use super::standing::Standing;
use crate::metrics::Metrics;

/// Gauges that show how the cluster stands, as this node sees it.
pub(super) struct Gauges {
    nodes: Gauge,
    away: Gauge,
    survives: Gauge,
    leads: Gauge,
    lag: Gauge,
    clock: Gauge,
    etcd_octets: Gauge,
    level: Gauge,
    not_upgraded: Gauge,
    programs: Programs,
}

/// Which program each node runs. One that runs another one now is shown as 0 with the version of before.
struct Programs {
    metrics: Metrics,
    shown: BTreeMap<(String, String), Gauge>,
}

impl Gauges {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let gauge = |name, description| {
            metrics.describe_gauge(name, description);
            metrics.gauge(name, &[])
        };
        Self {
            nodes: gauge("hgs_cluster_nodes", "Nodes of the cluster."),
            away: gauge(
                "hgs_cluster_nodes_away",
                "Nodes whose etcd does not answer this one, or, in an etcd that runs already, that report nothing.",
            ),
            survives: gauge(
                "hgs_cluster_survives",
                "How many more nodes can be lost; -1 without a quorum.",
            ),
            leads: gauge("hgs_cluster_leads", "1 if this node leads."),
            lag: gauge(
                "hgs_cluster_lag_commits",
                "Commits that the node furthest behind has yet to take in.",
            ),
            clock: gauge(
                "hgs_cluster_clock_difference_seconds",
                "How far the clock of a node is from this one's, at most.",
            ),
            etcd_octets: gauge(
                "hgs_cluster_etcd_octets",
                "Octets of the largest database of etcd.",
            ),
            level: gauge(
                "hgs_cluster_format_level",
                "The level of the format of what nodes share.",
            ),
            not_upgraded: gauge(
                "hgs_cluster_nodes_not_upgraded",
                "Nodes for which a newer level of the format waits.",
            ),
            programs: Programs::new(metrics),
        }
    }

    pub(super) fn show(&mut self, standing: &Standing) {
        let nodes = &standing.nodes;
        let most = |values: &mut dyn Iterator<Item = u64>| values.max().unwrap_or_default() as f64;
        self.nodes.set(nodes.len() as f64);
        self.away
            .set(nodes.iter().filter(|node| !node.is_there).count() as f64);
        let survives = standing.survives();
        self.survives.set(survives.map_or(-1.0, |more| more as f64));
        let leads = standing.leading_node() == Some(&standing.node);
        self.leads.set(f64::from(u8::from(leads)));
        self.lag.set(most(
            &mut nodes.iter().filter_map(|node| standing.lag(node)),
        ));
        let differences = nodes
            .iter()
            .filter_map(|node| standing.clock_difference(node));
        self.clock
            .set(most(&mut differences.map(i64::unsigned_abs)));
        self.etcd_octets
            .set(most(&mut standing.etcd_octets().into_iter()));
        self.level.set(f64::from(standing.level.number()));
        self.not_upgraded.set(standing.waits_for().count() as f64);
        self.programs.show(standing);
    }
}

const PROGRAM: &str = "hgs_cluster_node_newest_level";

impl Programs {
    fn new(metrics: &Metrics) -> Self {
        metrics.describe_gauge(
            PROGRAM,
            "The newest level of the format that a node reads, by its version.",
        );
        Self {
            metrics: metrics.clone(),
            shown: BTreeMap::new(),
        }
    }

    fn show(&mut self, standing: &Standing) {
        self.shown.values().for_each(|gauge| gauge.set(0.0));
        for node in &standing.nodes {
            let (Some(name), Some(report)) = (&node.name, &node.report) else {
                continue;
            };
            // Nodes are few, and their versions are what their own administrators install.
            let version: String = report.version.chars().take(32).collect();
            let labels = (name.to_string(), version);
            let (metrics, known) = (&self.metrics, labels.clone());
            let gauge = self.shown.entry(labels).or_insert_with(|| {
                metrics.gauge_of(PROGRAM, [("node", known.0), ("version", known.1)])
            });
            gauge.set(f64::from(report.levels.newest.number()));
        }
    }
}
