//! Raises the level of the format once all nodes of the cluster can read a newer one.

use std::sync::Arc;

use hgs_cluster::order;
use hgs_cluster::upkeep::{LevelWatch, reports};
use hgs_store::{Act, Failure, Level, Levels, Refusal, Transaction};
use tokio::task::spawn_blocking;
use tokio::time::Instant;
use tracing::info;

use super::Cluster;
use super::error::ClusterError;

/// What this node knows on the way to the next level.
#[derive(Default)]
pub(super) struct Raising {
    watch: LevelWatch,
    /// The level that the log has told of.
    told: Option<Level>,
}

impl Raising {
    /// One look: the first of the nodes raises the level when all of them can read a newer one.
    pub(super) async fn look(&mut self, cluster: &Arc<Cluster>) -> Result<(), ClusterError> {
        let store = cluster.store()?;
        let level = store.state().level();
        if self.told.replace(level).is_some_and(|told| told < level) {
            let format = store.state().format();
            info!(
                %level,
                version = format.version,
                "all nodes read a newer level of the format: the cluster is at it from now on, and no earlier version can join"
            );
        }
        if level >= Levels::of_this_program().newest {
            return Ok(());
        }
        let keys = cluster.keys_in_etcd();
        let members = order::list(&cluster.client, &keys).await?;
        let reports = reports(&cluster.client, &keys).await?;
        let readable = self.watch.look(&members, &reports, Instant::now());
        let is_first = members.first() == Some(&cluster.node());
        let Some(to) = readable.filter(|to| is_first && *to > level) else {
            return Ok(());
        };
        let act = Act::new(cluster.clock.now(), "cluster");
        let raising =
            spawn_blocking(move || store.transact(vec![Transaction::RaiseLevel(to)], act));
        match raising.await {
            // Another node was faster.
            Ok(Ok(_) | Err(Failure::Refused(Refusal::LevelNotRaised { .. }))) => Ok(()),
            Ok(Err(Failure::Store(error))) => Err(error.into()),
            Ok(Err(Failure::Refused(refusal))) => Err(hgs_store::OpenError::from(refusal).into()),
            Err(_) => Err(ClusterError::NotServing),
        }
    }
}
