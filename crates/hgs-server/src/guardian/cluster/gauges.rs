//! What monitoring sees of a cluster.

use std::collections::BTreeMap;

use metrics::Gauge;

use super::standing::Standing;
use crate::metrics::{
    CLUSTER_CLOCK, CLUSTER_ETCD_SIZE, CLUSTER_FORMAT_LEVEL, CLUSTER_LAG, CLUSTER_LEADS,
    CLUSTER_NEWEST_LEVEL, CLUSTER_NODES, CLUSTER_NODES_AWAY, CLUSTER_NOT_UPGRADED, CLUSTER_QUORUM,
    CLUSTER_SURVIVES, Metrics,
};

/// Gauges that show how the cluster stands, as this node sees it.
pub(super) struct Gauges {
    nodes: Gauge,
    away: Gauge,
    quorum: Gauge,
    survives: Gauge,
    leads: Gauge,
    lag: Gauge,
    clock: Gauge,
    etcd_size: Gauge,
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
        let gauge = |metric| metrics.gauge(metric, []);
        Self {
            nodes: gauge(&CLUSTER_NODES),
            away: gauge(&CLUSTER_NODES_AWAY),
            quorum: gauge(&CLUSTER_QUORUM),
            survives: gauge(&CLUSTER_SURVIVES),
            leads: gauge(&CLUSTER_LEADS),
            lag: gauge(&CLUSTER_LAG),
            clock: gauge(&CLUSTER_CLOCK),
            etcd_size: gauge(&CLUSTER_ETCD_SIZE),
            level: gauge(&CLUSTER_FORMAT_LEVEL),
            not_upgraded: gauge(&CLUSTER_NOT_UPGRADED),
            programs: Programs::new(metrics),
        }
    }

    pub(super) fn show(&mut self, standing: &Standing) {
        let nodes = &standing.nodes;
        let most = |values: &mut dyn Iterator<Item = u64>| values.max().unwrap_or_default() as f64;
        self.nodes.set(nodes.len() as f64);
        self.away
            .set(nodes.iter().filter(|node| !node.is_there).count() as f64);
        self.quorum.set(f64::from(u8::from(standing.has_quorum())));
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
        self.etcd_size
            .set(most(&mut standing.etcd_octets().into_iter()));
        self.level.set(f64::from(standing.level.number()));
        self.not_upgraded.set(standing.waits_for().count() as f64);
        self.programs.show(standing);
    }
}

impl Programs {
    fn new(metrics: &Metrics) -> Self {
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
                let labels = [("node", known.0.into()), ("version", known.1.into())];
                metrics.gauge(&CLUSTER_NEWEST_LEVEL, labels)
            });
            gauge.set(f64::from(report.levels.newest.number()));
        }
    }
}
