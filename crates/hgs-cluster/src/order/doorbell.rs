//! That other nodes have committed something, as soon as etcd tells it.

use std::time::Duration;

use hgs_etcd::{Change, Client, Revision, Watch, WatchError};
use tokio::time::Instant;

use super::gather::number_of;
use super::keys::{Keyspace, Mark};
use crate::node::NodeName;

/// How long no member is asked for a watch after one has failed.
const PAUSE: Duration = Duration::from_millis(500);
/// How long it keeps silent after it has rung. Under load, the next commit of this node brings what others have committed, and
/// where this node commits nothing, one look serves many of their commits.
const SILENCE: Duration = Duration::from_millis(100);

/// Rings when another node has committed something: at once after a while without news, and otherwise for all that came within
/// a tenth of a second. It may ring for nothing, and may be late or silent: who has to know asks the order.
#[derive(Debug)]
pub struct Doorbell {
    client: Client,
    keys: Keyspace,
    /// Whose own commits are no news: to ask for them would hold up the next one for two round trips.
    node: NodeName,
    /// Up to where everything was told.
    told: Revision,
    /// The newest news.
    news: Revision,
    /// Up to where it has rung, and when that was, or when there was no need to.
    rung: (Revision, Option<Instant>),
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
            news: Revision(0),
            rung: (Revision(0), None),
            watch: None,
        }
    }

    /// Resolves when another node has committed something behind what is `seen` then, and after each interruption of what
    /// tells it. It can be dropped at any time.
    pub async fn rings(&mut self, seen: impl Fn() -> u64) {
        loop {
            if self.is_news(seen()) {
                let (_, last) = self.rung;
                if let Some(last) = last {
                    tokio::time::sleep_until(last + SILENCE).await;
                }
                // It may have been seen meanwhile.
                let rings = self.is_news(seen());
                self.rung = (self.news, Some(Instant::now()));
                match rings {
                    true => return,
                    false => continue,
                }
            }
            if self.listen(seen()).await.is_none() {
                return;
            }
        }
    }

    fn is_news(&self, seen: u64) -> bool {
        let (rung, _) = self.rung;
        self.news > rung && number_of(self.news) > seen
    }

    /// Takes in what is told next; `None` when that was interrupted.
    async fn listen(&mut self, seen: u64) -> Option<()> {
        let Some(watch) = &mut self.watch else {
            let seen = Revision(i64::try_from(seen).unwrap_or(i64::MAX));
            self.told = self.told.max(seen);
            let from = Revision(self.told.0.saturating_add(1));
            match self.client.watch(self.keys.nodes(), from).await {
                Ok(watch) => {
                    self.watch = Some(watch);
                    return Some(());
                }
                Err(error) => {
                    tracing::debug!(%error, "no watch on what other nodes commit");
                    tokio::time::sleep(PAUSE).await;
                    return None;
                }
            }
        };
        match watch.next().await {
            Ok(news) => {
                self.told = self.told.max(news.revision);
                let own = self.keys.node(self.node.as_str());
                let mut changes = news.changes.iter();
                if changes.any(|change| is_news(change, &own)) {
                    self.news = self.news.max(news.revision);
                }
                Some(())
            }
            Err(error) => {
                tracing::debug!(%error, "the watch on what other nodes commit has ended");
                if let WatchError::Compacted(from) = error {
                    self.told = self.told.max(from);
                }
                self.watch = None;
                None
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

    #[test]
    fn what_has_been_seen_or_told_is_no_news() {
        let client = Client::new(hgs_etcd::Settings {
            members: Vec::new(),
            tls: None,
            patience: PAUSE,
            budget: PAUSE,
        });
        let mut bell = Doorbell::new(client, Keyspace::default(), "a".parse().unwrap());
        assert!(!bell.is_news(0));
        bell.news = Revision(7);
        assert!(bell.is_news(6) && !bell.is_news(7) && !bell.is_news(8));
        bell.rung = (Revision(7), None);
        assert!(!bell.is_news(6));
    }
}
