//! What a process remembers of those that it asks: who answered last, and who failed lately.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

/// How long one that failed is asked last. Another that may only be slow gets as much longer to answer: where all are
/// overloaded, requests must not be multiplied.
pub(super) const FAILED: Duration = Duration::from_secs(5);
/// How long another is asked in the place of the first choice. Then that has its turn again, so that the load is spread
/// again after a node was away.
const REPLACED: Duration = Duration::from_mins(5);

/// Of nodes, or of the addresses of a name.
#[derive(Debug)]
pub(super) struct Health<K> {
    /// By what is asked: who answered last, and since when it has been that one.
    last: HashMap<String, (K, Instant)>,
    /// When it failed.
    failed: HashMap<K, Instant>,
}

impl<K> Default for Health<K> {
    fn default() -> Self {
        Self {
            last: HashMap::new(),
            failed: HashMap::new(),
        }
    }
}

impl<K: Clone + Eq + Hash> Health<K> {
    /// Who is to be asked first.
    pub(super) fn preferred(&self, asked: &str) -> Option<K> {
        let (last, since) = self.last.get(asked)?;
        (since.elapsed() < REPLACED).then(|| last.clone())
    }

    /// Puts those that failed lately last, the latest at the end.
    pub(super) fn sort<C>(&self, candidates: &mut [C], key: impl Fn(&C) -> K) {
        candidates.sort_by_key(|candidate| {
            self.remaining(&key(candidate))
                .map(|remaining| Reverse(FAILED.saturating_sub(remaining)))
        });
    }

    /// For how long it is still one that failed lately.
    pub(super) fn remaining(&self, candidate: &K) -> Option<Duration> {
        let failed = self.failed.get(candidate)?;
        FAILED
            .checked_sub(failed.elapsed())
            .filter(|remaining| !remaining.is_zero())
    }

    pub(super) fn answered(&mut self, asked: &str, candidate: &K) {
        self.failed.remove(candidate);
        if self.preferred(asked).as_ref() != Some(candidate) {
            let last = (candidate.clone(), Instant::now());
            self.last.insert(asked.to_owned(), last);
        }
    }

    pub(super) fn failed(&mut self, asked: &str, candidate: &K) {
        self.failed.retain(|_, failed| failed.elapsed() < FAILED);
        self.failed.insert(candidate.clone(), Instant::now());
        if self.preferred(asked).as_ref() == Some(candidate) {
            self.last.remove(asked);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    /// Time in these tests is tokio's paused clock.
    #[tokio::test(start_paused = true)]
    async fn those_that_failed_come_last_for_some_seconds() {
        let mut health = Health::default();
        health.failed("service", &"a");
        advance(Duration::from_secs(1)).await;
        health.failed("service", &"b");
        let sorted = |health: &Health<&'static str>| {
            let mut all = ["a", "b", "c", "d"];
            health.sort(&mut all, |candidate| candidate);
            all.concat()
        };
        assert_eq!(sorted(&health), "cdab");
        assert_eq!(health.remaining(&"a"), Some(Duration::from_secs(4)));
        health.answered("service", &"b");
        assert_eq!(sorted(&health), "bcda");
        advance(Duration::from_secs(4)).await;
        assert_eq!(sorted(&health), "abcd");
    }

    #[tokio::test(start_paused = true)]
    async fn who_answered_is_preferred_for_some_minutes_and_until_it_fails() {
        let mut health = Health::default();
        health.answered("service", &"a");
        advance(REPLACED - Duration::from_secs(1)).await;
        health.answered("service", &"a");
        assert_eq!(health.preferred("service"), Some("a"));
        assert_eq!(health.preferred("other service"), None);
        advance(Duration::from_secs(1)).await;
        assert_eq!(health.preferred("service"), None);
        health.answered("service", &"b");
        health.failed("service", &"a");
        assert_eq!(health.preferred("service"), Some("b"));
        health.failed("service", &"b");
        assert_eq!(health.preferred("service"), None);
    }
}
