//! What clients saw, and what the nodes recorded, put side by side: whatever went wrong meanwhile, the promises hold.

use std::collections::BTreeMap;
use std::time::Instant;

use hgs_store::{Action, AuditRecord, Digest, Outcome};

/// What a client asked for, and what it was told.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) begun: Instant,
    pub(crate) ended: Instant,
    pub(crate) request: Request,
    pub(crate) answer: Answer,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    Release {
        host: String,
        ingress: Digest,
        egress: Digest,
    },
    Revoke {
        host: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It is recorded under this number.
    Done(u64),
    /// It was decided that it may not be.
    Refused(String),
    /// Nobody can say: the node died, or had no quorum.
    Unknown(String),
}

/// Breaks of promises, each in words.
pub(crate) fn faults(events: &[Event], log: &[AuditRecord]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut releases: BTreeMap<Digest, &AuditRecord> = BTreeMap::new();
    let mut revoked: BTreeMap<&str, u64> = BTreeMap::new();
    for (place, record) in log.iter().enumerate() {
        if record.sequence != place as u64 + 1 {
            faults.push(format!(
                "record {} stands at place {}",
                record.sequence,
                place + 1
            ));
        }
        let entry = &record.entry;
        if entry.outcome != Outcome::Done {
            continue;
        }
        match (entry.action, &entry.host) {
            (Action::RevokeHost, Some(host)) => {
                revoked.entry(host).or_insert(record.sequence);
            }
            (Action::Release, Some(host)) => {
                if let Some(revocation) = revoked.get(&**host) {
                    faults.push(format!(
                        "record {} releases to {host}, which record {revocation} revokes",
                        record.sequence
                    ));
                }
                let (Some(ingress), Some(egress)) = (entry.protector, entry.egress_protector)
                else {
                    faults.push(format!("release {} names no protectors", record.sequence));
                    continue;
                };
                if releases.insert(egress, record).is_some() || ingress == egress {
                    faults.push(format!("protector {egress} was made twice"));
                }
            }
            _ => {}
        }
    }
    faults.extend(not_a_tree(&releases));
    for event in events {
        faults.extend(broken_promise(event, events, log, &revoked));
    }
    faults
}

/// What is made from a protector is made after it.
fn not_a_tree(releases: &BTreeMap<Digest, &AuditRecord>) -> Vec<String> {
    let mut faults = Vec::new();
    for record in releases.values() {
        let parent = record
            .entry
            .protector
            .and_then(|ingress| releases.get(&ingress));
        if let Some(parent) = parent
            && parent.sequence >= record.sequence
        {
            faults.push(format!(
                "record {} makes a protector from one that record {} makes",
                record.sequence, parent.sequence
            ));
        }
    }
    faults
}

fn broken_promise(
    event: &Event,
    events: &[Event],
    log: &[AuditRecord],
    revoked: &BTreeMap<&str, u64>,
) -> Option<String> {
    let Answer::Done(sequence) = event.answer else {
        return None;
    };
    let entry = usize::try_from(sequence)
        .ok()
        .and_then(|sequence| log.get(sequence.checked_sub(1)?))
        .map(|record| &record.entry);
    let is_done =
        |action| entry.filter(|entry| entry.action == action && entry.outcome == Outcome::Done);
    match &event.request {
        Request::Release {
            host,
            ingress,
            egress,
        } => {
            let is_recorded = is_done(Action::Release).is_some_and(|entry| {
                entry.host.as_ref() == Some(host)
                    && entry.protector == Some(*ingress)
                    && entry.egress_protector == Some(*egress)
            });
            if !is_recorded {
                return Some(format!(
                    "an answered release is not record {sequence}: {event:?}"
                ));
            }
            let forbids = events.iter().find(|other| {
                let is_revocation =
                    matches!(&other.request, Request::Revoke { host: revoked } if revoked == host);
                is_revocation
                    && matches!(other.answer, Answer::Done(_))
                    && other.ended < event.begun
            });
            forbids.map(|_| format!("a release follows the revocation of its host: {event:?}"))
        }
        Request::Revoke { host } => {
            let is_recorded = is_done(Action::RevokeHost)
                .is_some_and(|entry| entry.host.as_ref() == Some(host))
                && revoked.get(&**host) == Some(&sequence);
            (!is_recorded)
                .then(|| format!("an answered revocation is not record {sequence}: {event:?}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use hgs_store::AuditEntry;

    use super::*;
    use crate::guardian::digest;

    fn record(sequence: u64, entry: AuditEntry) -> AuditRecord {
        AuditRecord {
            sequence,
            node: "a".to_owned(),
            generation: 1,
            entry,
            changes: Vec::new(),
        }
    }

    fn entry(action: Action, host: &str) -> AuditEntry {
        let time = hgs_pki::Time::from_unix(0);
        AuditEntry {
            host: Some(host.to_owned()),
            ..AuditEntry::new(time, "test", action, Outcome::Done)
        }
    }

    fn release(sequence: u64, host: &str, ingress: u64, egress: u64) -> AuditRecord {
        let entry = AuditEntry {
            protector: Some(digest(ingress)),
            egress_protector: Some(digest(egress)),
            ..entry(Action::Release, host)
        };
        record(sequence, entry)
    }

    fn released(second: u64, host: &str, egress: u64, sequence: u64) -> Event {
        let begun = Instant::now() + std::time::Duration::from_secs(second);
        Event {
            begun,
            ended: begun,
            request: Request::Release {
                host: host.to_owned(),
                ingress: digest(1),
                egress: digest(egress),
            },
            answer: Answer::Done(sequence),
        }
    }

    fn revoked(second: u64, host: &str, sequence: u64) -> Event {
        Event {
            request: Request::Revoke {
                host: host.to_owned(),
            },
            ..released(second, host, 0, sequence)
        }
    }

    #[test]
    fn each_broken_promise_is_found() {
        let revocation = |sequence| record(sequence, entry(Action::RevokeHost, "x"));
        let log = [release(1, "x", 1, 2), revocation(2), release(3, "y", 2, 3)];
        let events = [released(0, "x", 2, 1), revoked(1, "x", 2)];
        assert_eq!(faults(&events, &log), Vec::<String>::new());

        let found = |events: &[Event], log: &[AuditRecord], what: &str| {
            let found = faults(events, log);
            assert!(
                found.iter().any(|fault| fault.contains(what)),
                "{what}: {found:?}"
            );
        };
        found(&[], &[release(2, "x", 1, 2)], "stands at place 1");
        found(
            &[],
            &[revocation(1), release(2, "x", 1, 2)],
            "which record 1 revokes",
        );
        found(
            &[],
            &[release(1, "x", 1, 2), release(2, "x", 3, 2)],
            "made twice",
        );
        found(
            &[],
            &[release(1, "x", 2, 3), release(2, "x", 1, 2)],
            "from one that record 2 makes",
        );
        // Answered, and not recorded: under another number, or for another host, or not at all.
        found(&[released(0, "x", 2, 3)], &log, "is not record 3");
        found(&[released(0, "y", 2, 1)], &log, "is not record 1");
        found(&[released(0, "x", 2, 9)], &log, "is not record 9");
        found(&[revoked(0, "x", 1)], &log, "is not record 1");
        // In the log before the revocation, and asked for after it was acknowledged.
        let late = [revoked(0, "x", 2), released(1, "x", 2, 1)];
        found(&late, &log, "follows the revocation");
    }
}
