//! Refusals of unauthenticated callers: counted, and recorded as aggregates. If each one had its own record, they could
//! fill the disk.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hgs_pki::Time;
use hgs_store::{Action, AuditEntry, Outcome};

/// Refusals since the last aggregate, by what was asked for and the code of the refusal: a few dozen kinds.
#[derive(Debug, Default)]
pub(crate) struct UnauthenticatedRefusals(Mutex<BTreeMap<(Action, &'static str), u64>>);

impl UnauthenticatedRefusals {
    /// Counts one; returns how many of its kind there are now.
    pub(crate) fn count(&self, action: Action, code: &'static str) -> u64 {
        let mut counts = self.counts();
        let count = counts.entry((action, code)).or_default();
        *count += 1;
        *count
    }

    /// What was counted, as entries of the audit log; counting begins anew.
    pub(crate) fn take(&self, now: Time) -> Vec<AuditEntry> {
        let counts = std::mem::take(&mut *self.counts());
        let entries = counts
            .into_iter()
            .map(|((action, code), count)| AuditEntry {
                reason: Some(code.to_owned()),
                count: Some(count),
                ..AuditEntry::new(now, "strangers", action, Outcome::Refused)
            });
        entries.collect()
    }

    fn counts(&self) -> MutexGuard<'_, BTreeMap<(Action, &'static str), u64>> {
        // Nothing between lock and unlock can panic half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_refusals_is_one_record_of_each_kind() {
        let refusals = UnauthenticatedRefusals::default();
        for _ in 0..1000 {
            refusals.count(Action::Attest, "host-not-registered");
        }
        refusals.count(Action::Release, "HealthCertificateException");
        let entries = refusals.take(Time::from_unix(0));
        let shown: Vec<_> = entries
            .iter()
            .map(|entry| (entry.action, entry.reason.as_deref(), entry.count))
            .collect();
        assert_eq!(
            shown,
            [
                (Action::Attest, Some("host-not-registered"), Some(1000)),
                (Action::Release, Some("HealthCertificateException"), Some(1)),
            ]
        );
        assert!(refusals.take(Time::from_unix(1)).is_empty());
    }
}
