//! Which identity keys a host may use.
//!
//! A request in host-key mode carries no nonce, so whoever captured one could have a stolen identity key certified for
//! ever. Therefore the keys of each host are recorded: a new one supersedes its predecessor for good, and none is
//! certified for longer than [`MAX_IDENTITY_KEY_AGE`].

use std::collections::BTreeMap;

use hgs_crypto::hash::Sha256Digest;
use hgs_pki::health::HealthKind;
use hgs_pki::{Seconds, Time};

use crate::refusal::Code;

/// How long after it was first seen an identity key is still certified.
pub const MAX_IDENTITY_KEY_AGE: Seconds = Seconds::from_days(30);

/// Recorded keys of one kind that one host may have. None is ever forgotten, or a captured request would be good
/// again; a host that makes a key a day reaches this after eleven years, and is registered anew then.
pub const MAX_IDENTITY_KEYS: usize = 4096;

/// An identity key that a host attested with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdentityRecord {
    /// SHA-256 of its SubjectPublicKeyInfo.
    pub key: Sha256Digest,
    /// What it was certified for.
    pub kind: HealthKind,
    /// When it was first seen.
    pub first_seen: Time,
    /// When a newer one of its kind took its place.
    pub superseded: Option<Time>,
}

/// All identity keys of one host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostIdentities(BTreeMap<Sha256Digest, IdentityRecord>);

/// What becomes of a host's identity keys when one is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a certificate is issued only after this is recorded"]
pub enum IdentityTransition {
    /// The key is the current one of its kind, and stays it.
    Unchanged,
    /// The key is new.
    Recorded {
        /// Its record.
        record: IdentityRecord,
        /// The key that it supersedes from now on.
        supersedes: Option<Sha256Digest>,
    },
}

/// Why an identity key is not accepted now. The fault is with the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdentityRefusal {
    /// It is recorded for the other kind.
    #[error("the identity key is recorded for {recorded}")]
    OtherKind {
        /// The kind it is recorded for.
        recorded: HealthKind,
    },
    /// A newer one is recorded.
    #[error("the identity key was superseded by a newer one at {at}")]
    Superseded {
        /// When the newer one was first seen.
        at: Time,
    },
    /// First seen longer ago than [`MAX_IDENTITY_KEY_AGE`].
    #[error("the identity key was first seen at {first_seen}, more than 30 days ago")]
    Expired {
        /// When it was first seen.
        first_seen: Time,
    },
    /// [`MAX_IDENTITY_KEYS`] are recorded.
    #[error("the host has {MAX_IDENTITY_KEYS} recorded identity keys and must be registered anew")]
    TooMany,
}

impl IdentityRefusal {
    pub(crate) fn code(self) -> Code {
        match self {
            Self::OtherKind { .. } => Code::IdentityKeyOfOtherKind,
            Self::Superseded { .. } => Code::IdentityKeySuperseded,
            Self::Expired { .. } => Code::IdentityKeyExpired,
            Self::TooMany => Code::TooManyIdentityKeys,
        }
    }
}

impl HostIdentities {
    /// The keys that are recorded for a host.
    #[must_use]
    pub fn new(records: impl IntoIterator<Item = IdentityRecord>) -> Self {
        let by_key = records.into_iter().map(|record| (record.key, record));
        Self(by_key.collect())
    }

    /// The records, in no particular order.
    pub fn records(&self) -> impl Iterator<Item = &IdentityRecord> {
        self.0.values()
    }

    /// The key of a kind that no newer one has superseded.
    #[must_use]
    pub fn current(&self, kind: HealthKind) -> Option<&IdentityRecord> {
        let mut records = self.records();
        records.find(|record| record.kind == kind && record.superseded.is_none())
    }

    /// What becomes of the keys when a host that proved itself presents `key` for `kind`.
    ///
    /// # Errors
    ///
    /// See [`IdentityRefusal`].
    pub fn present(
        &self,
        kind: HealthKind,
        key: &Sha256Digest,
        now: Time,
    ) -> Result<IdentityTransition, IdentityRefusal> {
        match self.0.get(key) {
            Some(record) => check_known(record, kind, now),
            None => self.record(kind, key, now),
        }
    }

    /// The keys after `transition`.
    #[must_use]
    pub fn after(&self, transition: &IdentityTransition) -> Self {
        let mut after = self.clone();
        if let IdentityTransition::Recorded { record, supersedes } = transition {
            if let Some(old) = supersedes.and_then(|key| after.0.get_mut(&key)) {
                old.superseded = Some(record.first_seen);
            }
            after.0.insert(record.key, *record);
        }
        after
    }

    fn record(
        &self,
        kind: HealthKind,
        key: &Sha256Digest,
        now: Time,
    ) -> Result<IdentityTransition, IdentityRefusal> {
        let of_kind = self.records().filter(|record| record.kind == kind);
        if of_kind.count() >= MAX_IDENTITY_KEYS {
            return Err(IdentityRefusal::TooMany);
        }
        Ok(IdentityTransition::Recorded {
            record: IdentityRecord {
                key: *key,
                kind,
                first_seen: now,
                superseded: None,
            },
            supersedes: self.current(kind).map(|record| record.key),
        })
    }
}

fn check_known(
    record: &IdentityRecord,
    kind: HealthKind,
    now: Time,
) -> Result<IdentityTransition, IdentityRefusal> {
    if record.kind != kind {
        let recorded = record.kind;
        return Err(IdentityRefusal::OtherKind { recorded });
    }
    if let Some(at) = record.superseded {
        return Err(IdentityRefusal::Superseded { at });
    }
    let first_seen = record.first_seen;
    match now.since(first_seen) {
        Some(age) if age > MAX_IDENTITY_KEY_AGE => Err(IdentityRefusal::Expired { first_seen }),
        _ => Ok(IdentityTransition::Unchanged),
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// The history of one host: which key it presents, for what, and how many seconds after the last time.
    fn history() -> impl Strategy<Value = Vec<(u8, HealthKind, u64)>> {
        let kind = prop_oneof![Just(HealthKind::Encryption), Just(HealthKind::Signing)];
        vec((0..6u8, kind, 0..2_000_000u64), 0..40)
    }

    proptest! {
        /// Told without the records: a key is good if it was never presented, or if it was first presented for the
        /// same kind, at most 30 days ago, and no other key of the kind was accepted since.
        #[test]
        fn a_key_is_accepted_exactly_when_the_profile_says(history in history()) {
            let mut identities = HostIdentities::default();
            let mut accepted: Vec<(u8, HealthKind, Time)> = Vec::new();
            let mut now = Time::from_unix(1_795_287_600);
            for (key, kind, pause) in history {
                now = now.checked_add(Seconds::new(pause)).unwrap();
                let first = accepted.iter().find(|(known, _, _)| *known == key);
                let newest = accepted.iter().rfind(|(_, known, _)| *known == kind);
                let expected = match first {
                    None => true,
                    Some((_, of, at)) => {
                        *of == kind
                            && newest.is_some_and(|(known, _, _)| *known == key)
                            && now.since(*at).unwrap() <= MAX_IDENTITY_KEY_AGE
                    }
                };
                let presented = identities.present(kind, &[key; 32], now);
                prop_assert_eq!(presented.is_ok(), expected);
                if let Ok(transition) = presented {
                    identities = identities.after(&transition);
                    accepted.push((key, kind, now));
                }
            }
        }

        #[test]
        fn at_most_one_key_of_each_kind_is_current_and_none_is_forgotten(history in history()) {
            let mut identities = HostIdentities::default();
            let mut now = Time::from_unix(0);
            for (key, kind, pause) in history {
                now = now.checked_add(Seconds::new(pause)).unwrap();
                let before: Vec<_> = identities.records().map(|record| record.key).collect();
                if let Ok(transition) = identities.present(kind, &[key; 32], now) {
                    identities = identities.after(&transition);
                }
                for key in before {
                    prop_assert!(identities.records().any(|record| record.key == key));
                }
                for kind in [HealthKind::Encryption, HealthKind::Signing] {
                    let current = identities
                        .records()
                        .filter(|record| record.kind == kind && record.superseded.is_none());
                    prop_assert!(current.count() <= 1);
                }
                prop_assert_eq!(&HostIdentities::new(identities.records().copied()), &identities);
            }
        }
    }
}
