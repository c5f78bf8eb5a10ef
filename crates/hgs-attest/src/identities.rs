//! Which identity keys a host may use.
//!
//! A request in host-key mode need not carry a nonce, so a captured one could have a stolen identity key certified
//! for ever. Therefore the keys of each host are recorded: a new one supersedes its predecessor for good, and none is
//! certified for longer than [`MAX_IDENTITY_KEY_AGE`].
//!
//! This is the only place where these rules stand. They are applied when a request is evaluated, and again, over the
//! newest records, in the commit that records the attestation.

use std::collections::BTreeMap;

use hgs_crypto::hash::Sha256Digest;
use hgs_fault::{Fault, seeded};
use hgs_pki::health::HealthKind;
use hgs_pki::{Seconds, Time};

/// How long after it was first seen an identity key is still certified.
pub const MAX_IDENTITY_KEY_AGE: Seconds = Seconds::from_days(30);

/// Recorded keys of one kind that one host may have. A host that returns no nonces is refused above it, because a
/// request that was captured would be good again if its key were forgotten; it comes back with a new host key. Of a
/// host that returns nonces the oldest superseded key is forgotten instead: without a nonce of the last minutes nothing
/// of this host is accepted.
pub const MAX_IDENTITY_KEYS: usize = 4096;

/// Recorded keys of one kind from which on an administrator should look at the host.
pub const MANY_IDENTITY_KEYS: usize = MAX_IDENTITY_KEYS / 4;

/// New keys of one kind that one host may have recorded within [`NEW_IDENTITY_KEYS_PERIOD`].
pub const MAX_NEW_IDENTITY_KEYS: usize = 24;

/// See [`MAX_NEW_IDENTITY_KEYS`].
pub const NEW_IDENTITY_KEYS_PERIOD: Seconds = Seconds::from_hours(1);

/// Two superseded keys that were presented again within this time show that two machines have one host key: each takes
/// the other's place in turn.
pub const SHARED_KEY_PERIOD: Seconds = Seconds::from_days(7);

/// An identity key that a host attested with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdentityRecord {
    /// SHA-256 of its SubjectPublicKeyInfo; of a key in a TPM, SHA-256 of its TPMT_PUBLIC, which is the digest in its Name.
    pub key: Sha256Digest,
    /// What it was certified for.
    pub kind: HealthKind,
    /// When it was first seen.
    pub first_seen: Time,
    /// When a newer one of its kind took its place.
    pub superseded: Option<Time>,
    /// When it was first presented after that.
    pub returned: Option<Time>,
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
        /// The key that is forgotten for it.
        forgets: Option<Sha256Digest>,
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
    /// It was superseded, and so was another that was presented again a short time ago.
    #[error(
        "two machines use this host key: an identity key that was superseded at {at} is presented again, and another \
         was at {other}; give each machine a host key of its own"
    )]
    HostKeyShared {
        /// When the newer one was first seen.
        at: Time,
        /// When the other superseded key was presented again.
        other: Time,
    },
    /// First seen longer ago than [`MAX_IDENTITY_KEY_AGE`].
    #[error("the identity key was first seen at {first_seen}, more than 30 days ago; it is {now}")]
    Expired {
        /// When it was first seen.
        first_seen: Time,
        /// The time of the check.
        now: Time,
    },
    /// [`MAX_NEW_IDENTITY_KEYS`] were recorded within [`NEW_IDENTITY_KEYS_PERIOD`].
    #[error(
        "the host has presented {MAX_NEW_IDENTITY_KEYS} new identity keys within an hour; the next new one is accepted at {next}"
    )]
    TooManyNew {
        /// From when on another new one is accepted.
        next: Time,
    },
    /// [`MAX_IDENTITY_KEYS`] are recorded.
    #[error(
        "the host has {MAX_IDENTITY_KEYS} recorded identity keys of one kind; it needs a new host key"
    )]
    TooMany,
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

    /// What becomes of the keys when a host that proved itself presents `key` for `kind`. `returns_nonces` says whether
    /// the request is shown to have been made now.
    ///
    /// # Errors
    ///
    /// The first rule that the key breaks.
    pub fn present(
        &self,
        kind: HealthKind,
        key: &Sha256Digest,
        returns_nonces: bool,
        now: Time,
    ) -> Result<IdentityTransition, IdentityRefusal> {
        match self.0.get(key) {
            Some(record) => self.present_again(record, kind, now),
            None => self.record(kind, key, returns_nonces, now),
        }
    }

    /// Whether a key that was never presented would be accepted, of a host that returns nonces.
    ///
    /// # Errors
    ///
    /// The bound of new keys that is reached.
    pub fn check_new(&self, kind: HealthKind, now: Time) -> Result<(), IdentityRefusal> {
        self.record(kind, &Sha256Digest::default(), true, now)
            .map(|_| ())
    }

    /// The record that is to be kept of a superseded key that is presented; `None` if that is known, or if it is no
    /// superseded key. It is how [`IdentityRefusal::HostKeyShared`] is found, and is written once for each key.
    #[must_use]
    pub fn returned(&self, key: &Sha256Digest, now: Time) -> Option<IdentityRecord> {
        let record = self.0.get(key)?;
        (record.superseded.is_some() && record.returned.is_none()).then_some(IdentityRecord {
            returned: Some(now),
            ..*record
        })
    }

    /// When two machines were last seen to have this host's key, within [`SHARED_KEY_PERIOD`] before `now`.
    #[must_use]
    pub fn host_key_shared(&self, now: Time) -> Option<Time> {
        let of_kind = |kind| {
            let returned = self.of_kind(kind).filter_map(|record| record.returned);
            let mut lately: Vec<_> = returned
                .filter(|time| is_within(*time, SHARED_KEY_PERIOD, now))
                .collect();
            lately.sort_unstable();
            lately.pop().filter(|_| !lately.is_empty())
        };
        of_kind(HealthKind::Encryption).max(of_kind(HealthKind::Signing))
    }

    /// How many keys of that kind are recorded.
    #[must_use]
    pub fn count(&self, kind: HealthKind) -> usize {
        self.of_kind(kind).count()
    }

    /// The keys after `transition`.
    #[must_use]
    pub fn after(&self, transition: &IdentityTransition) -> Self {
        let mut after = self.clone();
        if let IdentityTransition::Recorded {
            record,
            supersedes,
            forgets,
        } = transition
        {
            if let Some(key) = forgets {
                after.0.remove(key);
            }
            if let Some(old) = supersedes.and_then(|key| after.0.get_mut(&key)) {
                old.superseded = Some(record.first_seen);
            }
            after.0.insert(record.key, *record);
        }
        after
    }

    fn of_kind(&self, kind: HealthKind) -> impl Iterator<Item = &IdentityRecord> {
        self.records().filter(move |record| record.kind == kind)
    }

    fn present_again(
        &self,
        record: &IdentityRecord,
        kind: HealthKind,
        now: Time,
    ) -> Result<IdentityTransition, IdentityRefusal> {
        if record.kind != kind {
            let recorded = record.kind;
            return Err(IdentityRefusal::OtherKind { recorded });
        }
        if let Some(at) = record
            .superseded
            .filter(|_| !seeded(Fault::SupersededIdentityAccepted))
        {
            let others = self
                .of_kind(kind)
                .filter(|other| other.key != record.key)
                .filter_map(|other| other.returned);
            let lately = others.filter(|time| is_within(*time, SHARED_KEY_PERIOD, now));
            return Err(match lately.max() {
                Some(other) => IdentityRefusal::HostKeyShared { at, other },
                None => IdentityRefusal::Superseded { at },
            });
        }
        let first_seen = record.first_seen;
        match now.since(first_seen) {
            Some(age) if age > MAX_IDENTITY_KEY_AGE => {
                Err(IdentityRefusal::Expired { first_seen, now })
            }
            _ => Ok(IdentityTransition::Unchanged),
        }
    }

    fn record(
        &self,
        kind: HealthKind,
        key: &Sha256Digest,
        returns_nonces: bool,
        now: Time,
    ) -> Result<IdentityTransition, IdentityRefusal> {
        let seen = self.of_kind(kind).map(|record| record.first_seen);
        let mut lately: Vec<_> = seen
            .filter(|time| is_within(*time, NEW_IDENTITY_KEYS_PERIOD, now))
            .collect();
        lately.sort_unstable_by(|one, other| other.cmp(one));
        if let Some(oldest) = lately.get(MAX_NEW_IDENTITY_KEYS - 1) {
            let next = (oldest.checked_add(NEW_IDENTITY_KEYS_PERIOD)).unwrap_or(Time::MAX);
            return Err(IdentityRefusal::TooManyNew { next });
        }
        let is_full = self.count(kind) >= MAX_IDENTITY_KEYS;
        if is_full && !returns_nonces {
            return Err(IdentityRefusal::TooMany);
        }
        let superseded = self
            .of_kind(kind)
            .filter(|record| record.superseded.is_some());
        let oldest = superseded.min_by_key(|record| (record.first_seen, record.key));
        Ok(IdentityTransition::Recorded {
            record: IdentityRecord {
                key: *key,
                kind,
                first_seen: now,
                superseded: None,
                returned: None,
            },
            supersedes: self.current(kind).map(|record| record.key),
            forgets: oldest.filter(|_| is_full).map(|record| record.key),
        })
    }
}

/// Whether `time` is at most `period` before `now`. A time of the future, from a clock that was ahead, is not.
fn is_within(time: Time, period: Seconds, now: Time) -> bool {
    now.since(time).is_some_and(|age| age < period)
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
                let presented = identities.present(kind, &[key; 32], false, now);
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
                if let Ok(transition) = identities.present(kind, &[key; 32], false, now) {
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

    fn record(identities: &mut HostIdentities, key: u8, now: Time) {
        let transition = identities.present(HealthKind::Encryption, &[key; 32], false, now);
        *identities = identities.after(&transition.unwrap());
    }

    /// What one host can make the registry grow by in an hour is bounded, and a retry is not what uses it up.
    #[test]
    fn new_keys_are_accepted_only_so_fast_and_the_current_one_always() {
        let start = Time::from_unix(1_795_287_600);
        let at = |seconds| start.checked_add(Seconds::new(seconds)).unwrap();
        let mut identities = HostIdentities::default();
        for key in 0..24 {
            record(&mut identities, key, at(key.into()));
        }
        let present = |key, seconds| {
            identities.present(HealthKind::Encryption, &[key; 32], false, at(seconds))
        };
        let next = at(3600);
        let refused = Err(IdentityRefusal::TooManyNew { next });
        for seconds in [24, 1000, 3599] {
            assert_eq!(present(24, seconds), refused);
            assert_eq!(present(23, seconds), Ok(IdentityTransition::Unchanged));
        }
        assert!(present(24, 3600).is_ok());
        // The other kind has a bound of its own, and a clock that was ahead once bars no host.
        let signing = identities.present(HealthKind::Signing, &[99; 32], false, at(24));
        assert!(signing.is_ok());
        let earlier = start.checked_sub(Seconds::from_hours(1)).unwrap();
        assert!(
            identities
                .present(HealthKind::Encryption, &[24; 32], false, earlier)
                .is_ok()
        );
    }

    /// Two machines with one host key supersede each other's identity keys in turn.
    #[test]
    fn two_superseded_keys_that_come_back_show_a_shared_host_key() {
        let start = Time::from_unix(1_795_287_600);
        let at = |hours| start.checked_add(Seconds::from_hours(hours)).unwrap();
        let mut identities = HostIdentities::default();
        let present_again = |identities: &mut HostIdentities, key: u8, now| {
            let refusal = identities
                .present(HealthKind::Encryption, &[key; 32], false, now)
                .unwrap_err();
            if let Some(record) = identities.returned(&[key; 32], now) {
                identities.0.insert(record.key, record);
            }
            refusal
        };
        record(&mut identities, 1, at(0)); // the one machine
        record(&mut identities, 2, at(1)); // the other
        let refusal = present_again(&mut identities, 1, at(2));
        assert_eq!(refusal, IdentityRefusal::Superseded { at: at(1) });
        // The same key again tells nothing new: a host may have been restored from a backup.
        let refusal = present_again(&mut identities, 1, at(3));
        assert_eq!(refusal, IdentityRefusal::Superseded { at: at(1) });
        assert_eq!(identities.host_key_shared(at(3)), None);
        record(&mut identities, 3, at(3));
        let refusal = present_again(&mut identities, 2, at(4));
        let expected = IdentityRefusal::HostKeyShared {
            at: at(3),
            other: at(2),
        };
        assert_eq!(refusal, expected);
        assert_eq!(identities.host_key_shared(at(4)), Some(at(4)));
        // A week after the first of the two, one is left.
        let week = 7 * 24;
        assert_eq!(identities.host_key_shared(at(week + 1)), Some(at(4)));
        assert_eq!(identities.host_key_shared(at(week + 2)), None);
        let refusal = present_again(&mut identities, 2, at(week + 4));
        assert_eq!(refusal, IdentityRefusal::Superseded { at: at(3) });
    }
}
