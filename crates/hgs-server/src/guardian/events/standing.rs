//! What is told and is in no record: whether this node is ready, and which certificates end.

use std::collections::BTreeMap;
use std::sync::Arc;

use hgs_admin::types::{self, CertificateRole, Event, Expiry, ExpiryStage};
use hgs_pki::{Seconds, Time, ValidityStatus};
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use crate::guardian::expiry::CertificateInUse;
use crate::guardian::inspection::Inspection;
use crate::health::Readiness;

/// How often it is looked whether the node is ready, while somebody follows.
pub(super) const LOOK: Seconds = Seconds::new(5);

/// How often certificates are looked at. Files are read for that.
const LOOK_AT_CERTIFICATES: Seconds = Seconds::from_minutes(1);

/// What was found at one time.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    time: Time,
    generation: u64,
    readiness: types::Readiness,
    certificates_seen: Time,
    expiries: Arc<BTreeMap<(CertificateRole, String), Expiry>>,
}

/// Looks for all streams together.
pub(super) struct Standings {
    inspection: Arc<Inspection>,
    readiness: Readiness,
    node: String,
    last: Mutex<Option<Arc<Standing>>>,
}

impl Standings {
    pub(super) fn new(inspection: Arc<Inspection>, readiness: Readiness, node: String) -> Self {
        Self {
            inspection,
            readiness,
            node,
            last: Mutex::default(),
        }
    }

    /// What is found now, or was found a moment ago; `after_change` if the state may have changed since.
    pub(super) async fn now(&self, after_change: bool) -> Arc<Standing> {
        let mut last = self.last.lock().await;
        let now = self.inspection.clock.now();
        let generation = self.inspection.store.state().generation();
        let is_new = |standing: &&Arc<Standing>| {
            let is_recent = is_within(standing.time, now, LOOK);
            is_recent && !(after_change && standing.generation != generation)
        };
        if let Some(standing) = last.as_ref().filter(is_new) {
            return Arc::clone(standing);
        }
        let found = Arc::new(self.look(last.as_deref(), now).await);
        *last = Some(Arc::clone(&found));
        found
    }

    async fn look(&self, last: Option<&Standing>, now: Time) -> Standing {
        let checked = self.readiness.check().await;
        let state = self.inspection.store.state();
        let generation = state.generation();
        let known = last.filter(|last| {
            let is_recent = is_within(last.certificates_seen, now, LOOK_AT_CERTIFICATES);
            is_recent && last.generation == generation
        });
        let (certificates_seen, expiries) = match known {
            Some(known) => (known.certificates_seen, Arc::clone(&known.expiries)),
            None => {
                let inspection = Arc::clone(&self.inspection);
                let reading = spawn_blocking(move || inspection.certificates_in_use(&state, now));
                let found = reading.await.unwrap_or_default();
                let ending = found.iter().filter_map(|found| {
                    Some(((found.role, found.name.clone()), ending(found, now)?))
                });
                (now, Arc::new(ending.collect()))
            }
        };
        Standing {
            time: now,
            generation,
            readiness: types::Readiness {
                node: self.node.clone(),
                time: now.to_string(),
                ready: checked.is_ok(),
                reason: checked.err(),
            },
            certificates_seen,
            expiries,
        }
    }
}

/// Whether `then` is less than `period` ago. A clock that was put back makes everything old.
fn is_within(then: Time, now: Time, period: Seconds) -> bool {
    now.since(then).is_some_and(|age| age < period)
}

fn ending(certificate: &CertificateInUse, now: Time) -> Option<Expiry> {
    let stage = match certificate.validity.status(now) {
        ValidityStatus::Expired => ExpiryStage::Expired,
        ValidityStatus::ExpiresSoon => ExpiryStage::ExpiresSoon,
        ValidityStatus::Valid | ValidityStatus::NotYetValid => return None,
    };
    Some(Expiry {
        usage: certificate.role,
        name: certificate.name.clone(),
        not_after: certificate.validity.not_after.to_string(),
        stage,
    })
}

impl Standing {
    /// What is to be told to a client that knows `before`.
    pub(super) fn events_since(&self, before: Option<&Self>) -> Vec<Event> {
        let none = BTreeMap::new();
        let known = before.map_or(&none, |before| &before.expiries);
        let is_known = before.is_some_and(|before| {
            (before.readiness.ready, &before.readiness.reason)
                == (self.readiness.ready, &self.readiness.reason)
        });
        let readiness = (!is_known).then(|| Event::Readiness(self.readiness.clone()));
        let over = known
            .iter()
            .filter(|(name, _)| !self.expiries.contains_key(*name));
        let over = over.map(|(_, expiry)| Expiry {
            stage: ExpiryStage::Over,
            ..expiry.clone()
        });
        let new = self
            .expiries
            .iter()
            .filter(|(name, expiry)| known.get(*name) != Some(*expiry));
        let new = new.map(|(_, expiry)| expiry.clone());
        let expiries = over.chain(new).map(Event::Expiry);
        readiness.into_iter().chain(expiries).collect()
    }
}

#[cfg(test)]
mod tests {
    use hgs_pki::Validity;

    use super::*;

    const DAY: i64 = 86_400;

    fn standing(ready: bool, ends: &[(&str, i64)]) -> Standing {
        let now = Time::from_unix(0);
        let found = ends.iter().map(|(name, days)| {
            let validity = Validity {
                not_before: Time::from_unix(-400 * DAY),
                not_after: Time::from_unix(days * DAY),
            };
            CertificateInUse::new(CertificateRole::Tls, (*name).to_owned(), validity)
        });
        let expiries = found
            .filter_map(|found| Some(((found.role, found.name.clone()), ending(&found, now)?)));
        Standing {
            time: now,
            generation: 1,
            readiness: types::Readiness {
                node: "node-1".to_owned(),
                time: now.to_string(),
                ready,
                reason: (!ready).then(|| "the disk is full".to_owned()),
            },
            certificates_seen: now,
            expiries: Arc::new(expiries.collect()),
        }
    }

    fn told(standing: &Standing, before: Option<&Standing>) -> Vec<String> {
        let events = standing.events_since(before).into_iter();
        events
            .map(|event| match event {
                Event::Readiness(readiness) => format!("ready: {}", readiness.ready),
                Event::Expiry(expiry) => format!("{} {}", expiry.name, expiry.stage),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn all_is_told_first_and_then_what_has_changed() {
        let first = standing(true, &[("a", 400), ("b", 29), ("c", -1)]);
        assert_eq!(
            told(&first, None),
            ["ready: true", "b expires-soon", "c expired"]
        );
        assert!(told(&first, Some(&first)).is_empty());
        // One was renewed, one has ended, one is not used any more.
        let then = standing(false, &[("a", 20), ("b", -1)]);
        assert_eq!(
            told(&then, Some(&first)),
            ["ready: false", "c over", "a expires-soon", "b expired"]
        );
    }
}
