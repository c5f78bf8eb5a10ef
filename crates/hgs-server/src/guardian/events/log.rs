//! The audit log as streams read it: onward, each record once for all of them.

use std::collections::VecDeque;
use std::sync::Arc;

use hgs_store::{LaterRecords, StoreError};
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use super::recorded::Recorded;
use crate::guardian::open_store::OpenStore;

/// Records that are read at one time.
const PAGE: usize = 256;

/// Events that are kept for streams which are not the first to come to them.
const KEPT: usize = if cfg!(test) { 4 } else { 1024 };

/// Reads the log onward.
pub(super) struct EventLog {
    store: Arc<OpenStore>,
    recent: Mutex<Recent>,
}

/// The events of the records after `after`, up to `to`.
#[derive(Default)]
struct Recent {
    after: u64,
    to: u64,
    events: VecDeque<Arc<Recorded>>,
}

/// What comes after a record.
pub(super) enum Onward {
    /// The events of the records up to `to`.
    Events { events: Vec<Arc<Recorded>>, to: u64 },
    /// Records are missing: `first` is the first that is there.
    Archived { first: u64 },
}

impl EventLog {
    pub(super) fn new(store: Arc<OpenStore>) -> Self {
        Self {
            store,
            recent: Mutex::default(),
        }
    }

    /// The events of the records that follow the one with the number `position`.
    pub(super) async fn after(&self, position: u64) -> Result<Onward, StoreError> {
        let mut recent = self.recent.lock().await;
        if (recent.after..recent.to).contains(&position) {
            return Ok(recent.onward(position));
        }
        if position < recent.to {
            // One that comes back after a while does not keep the others waiting.
            drop(recent);
            return self.read(position).await;
        }
        if position > recent.to {
            *recent = Recent {
                after: position,
                to: position,
                events: VecDeque::new(),
            };
        }
        let read = self.read(position).await?;
        if let Onward::Events { events, to } = &read {
            recent.to = *to;
            recent.events.extend(events.iter().cloned());
            while recent.events.len() > KEPT
                && let Some(oldest) = recent.events.pop_front()
            {
                recent.after = oldest.sequence;
            }
        }
        Ok(read)
    }

    async fn read(&self, position: u64) -> Result<Onward, StoreError> {
        let store = Arc::clone(&self.store);
        let reading = spawn_blocking(move || store.records_after(position, PAGE));
        let records = match reading.await {
            Ok(Ok(LaterRecords::Records(records))) => records,
            Ok(Ok(LaterRecords::Archived { first })) => return Ok(Onward::Archived { first }),
            Ok(Err(failure)) => return Err(failure),
            Err(failure) if failure.is_panic() => std::panic::resume_unwind(failure.into_panic()),
            Err(_) => return Err(StoreError::Closed),
        };
        let to = records.last().map_or(position, |record| record.sequence);
        let events = records.into_iter().filter_map(Recorded::of).map(Arc::new);
        Ok(Onward::Events {
            events: events.collect(),
            to,
        })
    }
}

impl Recent {
    fn onward(&self, position: u64) -> Onward {
        let place = self
            .events
            .partition_point(|event| event.sequence <= position);
        Onward::Events {
            events: self.events.range(place..).cloned().collect(),
            to: self.to,
        }
    }
}

#[cfg(test)]
mod tests {
    use hgs_pki::Time;
    use hgs_store::{Action, AuditEntry, Outcome};

    use super::*;
    use crate::running::tests::opened;

    /// All events after a record, and how they were read: by page.
    async fn read_all(log: &EventLog, mut position: u64, newest: u64) -> Vec<u64> {
        let mut read = Vec::new();
        while position < newest {
            let Onward::Events { events, to } = log.after(position).await.unwrap() else {
                panic!("nothing was archived");
            };
            assert!(to > position);
            read.extend(events.iter().map(|event| event.sequence));
            position = to;
        }
        read
    }

    /// Whoever is far behind reads for itself; whoever is near shares what the first one has read.
    #[test]
    fn every_stream_is_told_the_same_however_far_behind_it_is() {
        let (_folder, parts) = opened();
        let store = parts.admin().store;
        let begun = store.newest_record();
        let note = |action, outcome| {
            let time = Time::from_unix(1_795_287_600);
            let entry = AuditEntry::new(time, "test", action, outcome);
            store.note_waiting(entry).unwrap();
        };
        for _ in 0..10 {
            note(Action::Release, Outcome::Done);
            note(Action::Release, Outcome::Refused);
        }
        let newest = store.newest_record();
        let expected: Vec<_> = (1..=10).map(|number| begun + 2 * number).collect();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let log = EventLog::new(Arc::clone(&store));
            assert_eq!(read_all(&log, begun, newest).await, expected);
            let kept = log.recent.lock().await.events.len();
            assert_eq!(kept, KEPT, "the oldest are not kept");
            assert_eq!(read_all(&log, begun, newest).await, expected);
            for behind in 0..20 {
                let position = newest - behind;
                let later = expected.iter().copied().filter(|number| *number > position);
                let read = read_all(&log, position, newest).await;
                assert_eq!(read, later.collect::<Vec<_>>(), "from {position}");
            }
        });
    }
}
