//! What keeps etcd small: entries leave it when enough nodes hold them, and its members give back what they do not use.
//!
//! ```text
//!  every node            every few seconds    publishes its Report: how far its own disk holds what was ordered
//!  the first that lives  every half minute    Upkeep::round: raises the floor, deletes, compacts, has one member defragmented
//! ```
//!
//! All of it may be done twice, by two nodes at once, or be interrupted anywhere: the floor is raised first, by comparing it,
//! and what is deleted is below it.

mod heard;
mod level;
mod offload;
mod report;
mod space;

use std::time::Duration;

use hgs_etcd::{Client, Revision};
use hgs_store::order::OrderError;
use tokio::time::Instant;

use crate::node::NodeName;
use crate::order::{Keyspace, list};

pub use heard::Heard;
pub use level::{Lagging, LevelWatch, lagging};
pub use offload::Offloaded;
pub use report::{AuditHead, Divergence, Report, Reported, divergence, publish, reports};
pub use space::Tidied;

/// How often what is to be done is looked for.
pub const INTERVAL: Duration = Duration::from_secs(30);
/// A node that has reported within this time lives.
const LIVES: Duration = Duration::from_secs(30);
/// A node that has reported within this time is waited for, unless room is scarce: then it must live. One that was away longer
/// fetches a copy of another node's state.
const WAITED_FOR: Duration = Duration::from_mins(10);

/// The upkeep of etcd by one node.
#[derive(Debug)]
pub struct Upkeep {
    client: Client,
    keys: Keyspace,
    node: NodeName,
    /// Octets that the database of a member may have. None in an etcd that runs already: others look after its space.
    quota: Option<u64>,
    heard: Heard,
    /// Revisions behind what was deleted, and when that was.
    deleted: Vec<(Instant, Revision)>,
}

/// What a round has done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Round {
    /// Whether it is this node's to do.
    pub is_mine: bool,
    /// What has left etcd.
    pub offloaded: Offloaded,
    /// What became of its space.
    pub tidied: Tidied,
    /// Nodes whose audit logs are not the same. That is never right.
    pub divergence: Option<Divergence>,
}

impl Upkeep {
    /// By a node, of a cluster whose members have this quota.
    #[must_use]
    pub const fn new(client: Client, keys: Keyspace, node: NodeName, quota: u64) -> Self {
        Self::with(client, keys, node, Some(quota))
    }

    /// In an etcd that runs already: it deletes keys of the cluster, and does nothing to etcd.
    #[must_use]
    pub const fn in_existing(client: Client, keys: Keyspace, node: NodeName) -> Self {
        Self::with(client, keys, node, None)
    }

    const fn with(client: Client, keys: Keyspace, node: NodeName, quota: Option<u64>) -> Self {
        Self {
            client,
            keys,
            node,
            quota,
            heard: Heard::nobody(),
            deleted: Vec::new(),
        }
    }

    /// Does it, as long as it is not dropped.
    pub async fn run(mut self) {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match self.round(Instant::now()).await {
                Ok(Round {
                    divergence: Some(divergence),
                    ..
                }) => tracing::error!("{divergence}"),
                Ok(round) if round.is_mine => tracing::debug!(?round, "upkeep of etcd"),
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "upkeep of etcd"),
            }
        }
    }

    /// Does once what is to be done at a time.
    ///
    /// # Errors
    /// Why it could not be done to its end. What was not done is done by a later round.
    pub async fn round(&mut self, now: Instant) -> Result<Round, OrderError> {
        let members = list(&self.client, &self.keys).await?;
        let reports = reports(&self.client, &self.keys).await?;
        self.heard.hear(&reports, now);
        self.heard.forget_absent(&reports);
        let is_full = match self.quota {
            Some(_) => space::is_full(&self.client).await?,
            // Only some users may ask for alarms there.
            None => space::is_full(&self.client).await.unwrap_or(false),
        };
        // Without room nobody can report, and so nobody is known to live: then each node helps.
        let first = members
            .iter()
            .find(|node| self.heard.was_heard(node, LIVES, now));
        let mut round = Round {
            is_mine: is_full || first == Some(&self.node),
            divergence: divergence(&reports),
            ..Round::default()
        };
        if !round.is_mine {
            return Ok(round);
        }
        // A node that is away must not have the others run out of room.
        let is_tight = match self.quota {
            _ if is_full => true,
            Some(quota) => space::is_tight(&self.members().await, quota),
            // How much there may be is not known here.
            None => false,
        };
        let patience = if is_tight { LIVES } else { WAITED_FOR };
        let waited_for = |node: &NodeName| self.heard.was_heard(node, patience, now);
        let floor = offload::floor(&members, &reports, waited_for);
        let (offloaded, revision) = self.offload(&members, &reports, floor, is_full).await?;
        round.offloaded = offloaded;
        let Some(quota) = self.quota else {
            return Ok(round);
        };
        if is_full || offloaded.entries + offloaded.dependencies > 0 {
            self.deleted.push((now, revision));
        }
        round.tidied = self.tidy(now, is_full, quota).await?;
        Ok(round)
    }
}
