//! What monitoring sees of a cluster.

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
        }
    }

    pub(super) fn show(&self, standing: &Standing) {
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
    }
}
