//! Refusals of hosts that proved who they are: the first is recorded with all that is known of it, those that follow
//! within an hour are counted, and become one record. So what one host can make the audit log grow by is two records an
//! hour for each code, however often it asks. Refusals of unauthenticated callers are only counted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hgs_pki::{Seconds, Time};
use hgs_store::{Action, AuditEntry, Outcome, StoreError};
use tracing::{info, warn};

use super::open_store::OpenStore;
use super::unauthenticated_refusals::UnauthenticatedRefusals;

/// For how long refusals that are alike are counted.
const PERIOD: Seconds = Seconds::from_hours(1);

/// Kinds of refusals that are counted at once: of hosts, times codes. Hosts beyond it, which another cluster may have
/// any number of, are counted together.
const MOST: usize = 16_384;

/// What is on record of a refusal.
#[derive(Debug, Clone, Copy)]
pub(crate) enum RefusalRecord {
    /// A record of its own.
    Own(u64),
    /// It is one of so many that become one record.
    Counted(u64),
    /// Nothing: the refusal of an unauthenticated caller is counted by itself.
    None,
}

impl RefusalRecord {
    /// The number of the record of its own.
    pub(crate) fn sequence(self) -> Option<u64> {
        match self {
            Self::Own(sequence) => Some(sequence),
            Self::Counted(_) | Self::None => None,
        }
    }

    /// How many were counted so far.
    pub(crate) fn further(self) -> Option<u64> {
        match self {
            Self::Counted(further) => Some(further),
            Self::Own(_) | Self::None => None,
        }
    }
}

/// What is recorded and counted of refusals, by all parts that refuse.
pub(crate) struct RefusalLog {
    store: Arc<OpenStore>,
    unauthenticated: UnauthenticatedRefusals,
    hosts: HostRefusals,
}

impl RefusalLog {
    pub(crate) fn new(store: Arc<OpenStore>) -> Self {
        Self {
            store,
            unauthenticated: UnauthenticatedRefusals::default(),
            hosts: HostRefusals::default(),
        }
    }

    /// Has the refusal of a host with this code on record: as `entry`, or counted.
    ///
    /// # Errors
    /// When it can't be recorded. It is not counted then.
    pub(crate) async fn record(
        &self,
        code: &'static str,
        entry: AuditEntry,
    ) -> Result<RefusalRecord, StoreError> {
        if let Some(further) = self.hosts.count(code, &entry) {
            return Ok(RefusalRecord::Counted(further));
        }
        let recorded = self
            .store
            .record(entry.clone())
            .await
            .inspect_err(|_| self.hosts.forget(code, &entry));
        recorded.map(RefusalRecord::Own)
    }

    /// Counts the refusal of an unauthenticated caller; returns how many of its kind there are now.
    pub(crate) fn count_unauthenticated(&self, action: Action, code: &'static str) -> u64 {
        self.unauthenticated.count(action, code)
    }

    /// Turns what was counted of unauthenticated callers, and what was counted of hosts for an hour, into records.
    pub(crate) async fn record_due(&self, now: Time) {
        self.record_counted(now, false).await;
    }

    /// Turns all that was counted into records.
    pub(crate) async fn record_all(&self, now: Time) {
        self.record_counted(now, true).await;
    }

    async fn record_counted(&self, now: Time, all: bool) {
        let entries = self.unauthenticated.take(now).into_iter();
        for entry in entries.chain(self.hosts.take(now, all)) {
            let (action, count) = (entry.action, entry.count);
            let code = entry.reason.clone();
            let host = entry.host.clone();
            info!(%action, code, count, host, "refusals were counted");
            if let Err(failure) = self.store.record(entry).await {
                warn!(%failure, "refusals were not recorded");
            }
        }
    }
}

/// What was refused, by which code, to which host; the host is absent for those that are counted together.
type Key = (Action, &'static str, Option<String>);

#[derive(Debug)]
struct Counted {
    since: Time,
    host_name: Option<String>,
    /// Those after the first.
    further: u64,
}

/// Refusals of the last hour.
#[derive(Debug, Default)]
struct HostRefusals(Mutex<BTreeMap<Key, Counted>>);

impl HostRefusals {
    /// Counts a refusal with this code, of which `entry` would be the record. `None`: it is the first, and is to be
    /// recorded; else how many there have been since.
    fn count(&self, code: &'static str, entry: &AuditEntry) -> Option<u64> {
        let mut refusals = self.lock();
        let key = (entry.action, code, entry.host.clone());
        if let Some(known) = refusals.get_mut(&key) {
            known.further += 1;
            return Some(known.further);
        }
        let first = |further| Counted {
            since: entry.time,
            host_name: entry.host_name.clone(),
            further,
        };
        if refusals.len() < MOST {
            refusals.insert(key, first(0));
            return None;
        }
        let others = refusals
            .entry((entry.action, code, None))
            .or_insert_with(|| Counted {
                host_name: None,
                ..first(0)
            });
        others.further += 1;
        Some(others.further)
    }

    /// The first one could not be recorded, so it does not count.
    fn forget(&self, code: &'static str, entry: &AuditEntry) {
        let key = (entry.action, code, entry.host.clone());
        self.lock().remove(&key);
    }

    /// What was counted for an hour, or all of it, as entries of the audit log; counting begins anew.
    fn take(&self, now: Time, all: bool) -> Vec<AuditEntry> {
        let mut refusals = self.lock();
        // A clock that was put back must not stretch the hour.
        let is_due = |counted: &Counted| now.since(counted.since).is_none_or(|age| age >= PERIOD);
        let due = refusals.extract_if(.., |_, counted| all || is_due(counted));
        let further = due.filter(|(_, counted)| counted.further > 0);
        further
            .map(|((action, code, host), counted)| {
                let actor = host
                    .as_ref()
                    .map_or_else(|| "hosts".to_owned(), |host| format!("host {host}"));
                AuditEntry {
                    reason: Some(code.to_owned()),
                    count: Some(counted.further),
                    host_name: counted.host_name,
                    host,
                    ..AuditEntry::new(now, actor, action, Outcome::Refused)
                }
            })
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Counted>> {
        // Nothing between lock and unlock can panic half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(host: &str, second: i64) -> AuditEntry {
        let time = Time::from_unix(second);
        AuditEntry {
            host: Some(host.to_owned()),
            ..AuditEntry::new(time, "host", Action::Attest, Outcome::Refused)
        }
    }

    fn counts(entries: &[AuditEntry]) -> Vec<(Option<&str>, Option<u64>)> {
        let shown = entries.iter();
        shown
            .map(|entry| (entry.host.as_deref(), entry.count))
            .collect()
    }

    #[test]
    fn the_first_refusal_of_an_hour_is_recorded_and_the_others_are_one_record() {
        let refusals = HostRefusals::default();
        let mut recorded = 0;
        for second in 0..3600 {
            for code in ["host-revoked", "host-key-shared"] {
                recorded += u64::from(refusals.count(code, &entry("a", second)).is_none());
            }
            assert!(refusals.take(Time::from_unix(second), false).is_empty());
        }
        assert_eq!(recorded, 2);
        assert_eq!(refusals.count("host-revoked", &entry("b", 3599)), None);
        let taken = refusals.take(Time::from_unix(3600), false);
        assert_eq!(counts(&taken), [(Some("a"), Some(3599)); 2]);
        // Of one that was refused once there is nothing more to tell.
        assert!(refusals.take(Time::from_unix(9999), false).is_empty());
        assert_eq!(refusals.count("host-revoked", &entry("a", 9999)), None);
        assert_eq!(refusals.count("host-revoked", &entry("a", 9999)), Some(1));
        let taken = refusals.take(Time::from_unix(9999), true);
        assert_eq!(counts(&taken), [(Some("a"), Some(1))]);
    }

    #[test]
    fn a_clock_that_is_put_back_and_a_record_that_fails_keep_nothing_back() {
        let refusals = HostRefusals::default();
        let first = entry("a", 100_000);
        assert_eq!(refusals.count("host-revoked", &first), None);
        refusals.forget("host-revoked", &first);
        assert_eq!(refusals.count("host-revoked", &first), None);
        assert_eq!(refusals.count("host-revoked", &first), Some(1));
        let taken = refusals.take(Time::from_unix(10), false);
        assert_eq!(counts(&taken), [(Some("a"), Some(1))]);
    }

    #[test]
    fn any_number_of_hosts_of_another_cluster_fill_no_memory() {
        let refusals = HostRefusals::default();
        for number in 0..MOST {
            assert_eq!(refusals.count("x", &entry(&number.to_string(), 0)), None);
        }
        assert_eq!(refusals.count("x", &entry("one more", 0)), Some(1));
        assert_eq!(refusals.count("x", &entry("and another", 0)), Some(2));
        assert_eq!(refusals.lock().len(), MOST + 1);
        let taken = refusals.take(Time::from_unix(0), true);
        assert_eq!(counts(&taken), [(None, Some(2))]);
    }
}
