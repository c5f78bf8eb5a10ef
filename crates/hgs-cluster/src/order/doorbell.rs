//! That other nodes have committed something, as soon as etcd tells it.

use std::time::Duration;

use hgs_etcd::{Change, Client, Revision, Watch, WatchError};

use super::gather::number_of;
use super::keys::{Keyspace, Mark};
use crate::node::NodeName;

/// How long no member is asked for a watch after one has failed.
const PAUSE: Duration = Duration::from_millis(500);

/// Rings when another node has committed something. It may ring for nothing, and may be late or silent: who has to know asks the order.
#[derive(Debug)]
pub struct Doorbell {
    client: Client,
    keys: Keyspace,
    /// Whose own commits are no news: to ask for them would hold up the next one for two round trips.
    node: NodeName,
    /// Up to where everything was told.
    told: Revision,
    watch: Option<Watch>,
}

impl Doorbell {
    /// For a node of a cluster.
    #[must_use]
    pub const fn new(client: Client, keys: Keyspace, node: NodeName) -> Self {
        Self {
            client,
            keys,
            node,
            told: Revision(0),
            watch: None,
        }
    }

    /// Resolves when another node has committed something behind `seen`, and after each interruption of what tells it. It can be
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
                    let own = self.keys.node(self.node.as_str());
                    let mut changes = news.changes.iter();
                    if changes.any(|change| is_news(change, &own))
                        && number_of(news.revision) > seen
                    {
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

/// Whether it is more than a commit of the node that stands under `own`.
fn is_news(change: &Change, own: &[u8]) -> bool {
    match change {
        Change::Put(record) => {
            record.key != own || Mark::read(&record.value).is_none_or(|mark| mark.removed)
        }
        Change::Delete(..) => true,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use hgs_etcd::Record;
    use hgs_store::order::Last;

    use super::*;

    #[test]
    fn a_node_is_told_of_others_and_of_its_removal_and_not_of_its_own_commits() {
        let keys = Keyspace::default();
        let put = |node: &str, removed| {
            let mark = Mark {
                removed,
                ..Mark::of(Last::NONE)
            };
            Change::Put(Record {
                key: keys.node(node),
                value: mark.value(),
                revision: Revision(7),
                made: Revision(1),
            })
        };
        let own: Bytes = keys.node("a");
        assert!(!is_news(&put("a", false), &own));
        assert!(is_news(&put("a", true), &own));
        assert!(is_news(&put("b", false), &own));
        assert!(is_news(&Change::Delete(own.clone(), Revision(7)), &own));
    }
}
