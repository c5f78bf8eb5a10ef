//! That other nodes have committed something, as soon as etcd tells it.

use std::time::Duration;

use hgs_etcd::{Client, Revision, Watch, WatchError};

use super::gather::number_of;
use super::keys::Keyspace;

/// How long no member is asked for a watch after one has failed.
const PAUSE: Duration = Duration::from_millis(500);

/// Rings when something was committed. It may ring for nothing, and may be late or silent: who has to know asks the order.
#[derive(Debug)]
pub struct Doorbell {
    client: Client,
    keys: Keyspace,
    /// Up to where everything was told.
    told: Revision,
    watch: Option<Watch>,
}

impl Doorbell {
    /// For the nodes of a cluster.
    #[must_use]
    pub const fn new(client: Client, keys: Keyspace) -> Self {
        Self {
            client,
            keys,
            told: Revision(0),
            watch: None,
        }
    }

    /// Resolves when a node has committed something behind `seen`, and after each interruption of what tells it. It can be
    /// dropped at any time.
    pub async fn rings(&mut self, seen: u64) {
        loop {
            let Some(watch) = &mut self.watch else {
                let seen = Revision(i64::try_from(seen).unwrap_or(i64::MAX));
                self.told = self.told.max(seen);
                let from = Revision(self.told.0.saturating_add(1));
                match self.client.watch(self.keys.nodes(), from).await {
                    Ok(watch) => {
                        self.watch = Some(watch);
                        continue;
                    }
                    Err(error) => {
                        tracing::debug!(%error, "no watch on what other nodes commit");
                        tokio::time::sleep(PAUSE).await;
                        return;
                    }
                }
            };
            match watch.next().await {
                Ok(news) => {
                    self.told = self.told.max(news.revision);
                    if !news.changes.is_empty() && number_of(news.revision) > seen {
                        return;
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "the watch on what other nodes commit has ended");
                    if let WatchError::Compacted(from) = error {
                        self.told = self.told.max(from);
                    }
                    self.watch = None;
                    return;
                }
            }
        }
    }
}
