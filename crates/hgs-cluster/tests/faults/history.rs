//! What clients saw, and what the nodes recorded, put side by side: whatever went wrong meanwhile, the promises hold.
//!
//! Both are documented JSON lines (docs/model.md), so that another program can check them, too.

use std::collections::{BTreeMap, BTreeSet};

use hgs_store::{Action, AuditRecord, Outcome};
use serde::{Deserialize, Serialize};

/// What a client asked for, and what it was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Event {
    /// The node that was asked.
    pub(crate) node: String,
    /// Microseconds from the beginning of the test.
    pub(crate) begun: u64,
    pub(crate) ended: u64,
    pub(crate) request: Request,
    pub(crate) answer: Answer,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Request {
    Release {
        host: String,
        protector: String,
        egress_protector: String,
    },
    Revoke {
        host: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Answer {
    /// It is recorded under this number.
    Done(u64),
    /// It was decided that it may not be.
    Refused(String),
    /// Nobody can say: the node died, or had no quorum.
    Unknown(String),
}

/// What is checked of an audit record, named as `hgs audit list --json` names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) sequence: u64,
    pub(crate) time: String,
    pub(crate) node: String,
    pub(crate) action: Action,
    pub(crate) outcome: Outcome,
    pub(crate) host: Option<String>,
    pub(crate) protector: Option<String>,
    pub(crate) egress_protector: Option<String>,
}

impl From<&AuditRecord> for Record {
    fn from(record: &AuditRecord) -> Self {
        let entry = &record.entry;
        Self {
            sequence: record.sequence,
            time: entry.time.to_string(),
            node: record.node.clone(),
            action: entry.action,
            outcome: entry.outcome,
            host: entry.host.clone(),
            protector: entry.protector.map(|digest| digest.to_string()),
            egress_protector: entry.egress_protector.map(|digest| digest.to_string()),
        }
    }
}

impl Record {
    fn is_done(&self, action: Action) -> bool {
        self.action == action && self.outcome == Outcome::Done
    }
}

/// Breaks of promises, each in words.
pub(crate) fn faults(events: &[Event], logs: &[Vec<Record>]) -> Vec<String> {
    let [log, others @ ..] = logs else {
        return vec!["there is no log".to_owned()];
    };
    let mut faults: Vec<String> = others
        .iter()
        .enumerate()
        .filter_map(|(place, other)| difference(log, other, place + 2))
        .collect();
    faults.extend(not_counted(log));
    let revoked = revocations(log);
    faults.extend(released_after(log, &revoked));
    faults.extend(not_a_tree(log));
    faults.extend(not_asked_for(events, log));
    for event in events {
        faults.extend(broken_promise(event, events, log, &revoked));
    }
    faults
}

/// All nodes end equal.
fn difference(log: &[Record], other: &[Record], place: usize) -> Option<String> {
    let count = log.len().max(other.len());
    let first = (0..count).find(|place| log.get(*place) != other.get(*place))?;
    Some(format!(
        "log {place} has another record {} than log 1: {:?}, {:?}",
        first + 1,
        other.get(first),
        log.get(first)
    ))
}

fn not_counted(log: &[Record]) -> impl Iterator<Item = String> + '_ {
    let places = log.iter().zip(1u64..);
    places
        .filter(|(record, place)| record.sequence != *place)
        .map(|(record, place)| format!("record {} stands at place {place}", record.sequence))
}

/// The first record that revokes each host.
fn revocations(log: &[Record]) -> BTreeMap<&str, u64> {
    let mut revoked = BTreeMap::new();
    for record in log
        .iter()
        .filter(|record| record.is_done(Action::RevokeHost))
    {
        if let Some(host) = &record.host {
            revoked.entry(&**host).or_insert(record.sequence);
        }
    }
    revoked
}

fn releases(log: &[Record]) -> impl Iterator<Item = &Record> {
    log.iter().filter(|record| record.is_done(Action::Release))
}

fn released_after(log: &[Record], revoked: &BTreeMap<&str, u64>) -> Vec<String> {
    releases(log)
        .filter_map(|record| {
            let host = record.host.as_deref()?;
            let revocation = revoked.get(host)?;
            (record.sequence > *revocation).then(|| {
                format!(
                    "record {} releases to {host}, which record {revocation} revokes",
                    record.sequence
                )
            })
        })
        .collect()
}

/// Each protector is made once, from another one, and after it.
fn not_a_tree(log: &[Record]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut made: BTreeMap<&str, u64> = BTreeMap::new();
    for record in releases(log) {
        let (Some(ingress), Some(egress)) = (&record.protector, &record.egress_protector) else {
            faults.push(format!("release {} names no protectors", record.sequence));
            continue;
        };
        if made.insert(egress, record.sequence).is_some() || ingress == egress {
            faults.push(format!("protector {egress} was made twice"));
        }
    }
    for record in releases(log) {
        let parent = record
            .protector
            .as_deref()
            .and_then(|ingress| made.get(ingress));
        if let Some(parent) = parent
            && *parent >= record.sequence
        {
            faults.push(format!(
                "record {} makes a protector from one that record {parent} makes",
                record.sequence
            ));
        }
    }
    faults
}

/// What is recorded was asked for once in these words: nothing is recorded again with another protector.
fn not_asked_for(events: &[Event], log: &[Record]) -> Vec<String> {
    let asked: BTreeSet<(&str, &str, &str)> = events
        .iter()
        .filter_map(|event| match &event.request {
            Request::Release {
                host,
                protector,
                egress_protector,
            } => Some((&**host, &**protector, &**egress_protector)),
            Request::Revoke { .. } => None,
        })
        .collect();
    releases(log)
        .filter_map(|record| {
            let release = (
                record.host.as_deref()?,
                record.protector.as_deref()?,
                record.egress_protector.as_deref()?,
            );
            let unasked = !asked.contains(&release);
            unasked.then(|| format!("nobody asked for release {}: {record:?}", record.sequence))
        })
        .collect()
}

fn broken_promise(
    event: &Event,
    events: &[Event],
    log: &[Record],
    revoked: &BTreeMap<&str, u64>,
) -> Option<String> {
    let Answer::Done(sequence) = event.answer else {
        return None;
    };
    let place = usize::try_from(sequence).ok()?.checked_sub(1);
    let record = place.and_then(|place| log.get(place));
    match &event.request {
        Request::Release {
            host,
            protector,
            egress_protector,
        } => {
            let is_recorded = record.is_some_and(|record| {
                record.is_done(Action::Release)
                    && record.host.as_ref() == Some(host)
                    && record.protector.as_ref() == Some(protector)
                    && record.egress_protector.as_ref() == Some(egress_protector)
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
            let is_recorded = record.is_some_and(|record| {
                record.is_done(Action::RevokeHost) && record.host.as_ref() == Some(host)
            }) && revoked.get(&**host) == Some(&sequence);
            (!is_recorded)
                .then(|| format!("an answered revocation is not record {sequence}: {event:?}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(sequence: u64, action: Action, host: &str) -> Record {
        Record {
            sequence,
            time: "2026-01-01T00:00:00Z".to_owned(),
            node: "a".to_owned(),
            action,
            outcome: Outcome::Done,
            host: Some(host.to_owned()),
            protector: None,
            egress_protector: None,
        }
    }

    fn release(sequence: u64, host: &str, ingress: u64, egress: u64) -> Record {
        Record {
            protector: Some(ingress.to_string()),
            egress_protector: Some(egress.to_string()),
            ..record(sequence, Action::Release, host)
        }
    }

    fn asked(second: u64, host: &str, ingress: u64, egress: u64) -> Event {
        Event {
            node: "a".to_owned(),
            begun: second,
            ended: second,
            request: Request::Release {
                host: host.to_owned(),
                protector: ingress.to_string(),
                egress_protector: egress.to_string(),
            },
            answer: Answer::Unknown("no quorum".to_owned()),
        }
    }

    fn released(second: u64, host: &str, egress: u64, sequence: u64) -> Event {
        Event {
            answer: Answer::Done(sequence),
            ..asked(second, host, 1, egress)
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

    fn good() -> (Vec<Event>, Vec<Record>) {
        let revocation = record(2, Action::RevokeHost, "x");
        let log = vec![release(1, "x", 1, 2), revocation, release(3, "y", 2, 3)];
        let events = vec![
            released(0, "x", 2, 1),
            revoked(1, "x", 2),
            asked(2, "y", 2, 3),
        ];
        (events, log)
    }

    #[track_caller]
    fn found(events: &[Event], log: &[Record], what: &str) {
        let found = faults(events, &[log.to_vec(), log.to_vec()]);
        assert!(
            found.iter().any(|fault| fault.contains(what)),
            "{what}: {found:?}"
        );
    }

    #[test]
    fn a_history_without_faults_has_none() {
        let (events, log) = good();
        assert_eq!(faults(&events, &[log.clone(), log]), Vec::<String>::new());
        assert_eq!(faults(&[], &[]).len(), 1);
    }

    #[test]
    fn a_release_after_a_revocation_is_found() {
        let revocation = record(1, Action::RevokeHost, "x");
        let log = [revocation, release(2, "x", 1, 2)];
        found(&[], &log, "which record 1 revokes");
        // In the log before the revocation, and asked for after it was acknowledged.
        let (_, log) = good();
        let late = [revoked(0, "x", 2), released(1, "x", 2, 1)];
        found(&late, &log, "follows the revocation");
    }

    #[test]
    fn what_is_answered_and_not_recorded_is_found() {
        let (_, log) = good();
        // Under another number, for another host, not at all, or refused.
        found(&[released(0, "x", 2, 3)], &log, "is not record 3");
        found(&[released(0, "y", 2, 1)], &log, "is not record 1");
        found(&[released(0, "x", 2, 9)], &log, "is not record 9");
        found(&[released(0, "x", 2, 0)], &log, "is not record 0");
        found(&[revoked(0, "x", 1)], &log, "is not record 1");
        let mut refused = log;
        refused[0].outcome = Outcome::Refused;
        found(&[released(0, "x", 2, 1)], &refused, "is not record 1");
    }

    #[test]
    fn what_is_recorded_twice_or_unasked_is_found() {
        let (events, log) = good();
        let again = |egress| [&log[..], &[release(4, "y", 2, egress)]].concat();
        found(&events, &again(3), "made twice");
        found(&events, &again(4), "nobody asked for release 4");
        found(&events[..2], &log, "nobody asked for release 3");
    }

    #[test]
    fn a_lineage_that_is_no_tree_is_found() {
        let twice = [release(1, "x", 1, 2), release(2, "x", 3, 2)];
        found(&[], &twice, "made twice");
        found(&[], &[release(1, "x", 2, 2)], "made twice");
        let circle = [release(1, "x", 2, 3), release(2, "x", 3, 2)];
        found(&[], &circle, "from one that record 2 makes");
        let mut nameless = release(1, "x", 1, 2);
        nameless.egress_protector = None;
        found(&[], &[nameless], "names no protectors");
    }

    #[test]
    fn logs_that_are_not_equal_are_found() {
        let (events, log) = good();
        found(&[], &[release(2, "x", 1, 2)], "stands at place 1");
        let mut other = log.clone();
        other[2].node = "b".to_owned();
        for wrong in [other, log[..2].to_vec(), [&log[..], &log[..1]].concat()] {
            let found = faults(&events, &[log.clone(), log.clone(), wrong]);
            assert!(found[0].starts_with("log 3 has another"), "{found:?}");
        }
    }

    #[test]
    fn a_history_is_lines_that_others_can_read() {
        let (events, log) = good();
        assert_eq!(
            serde_json::to_string(&events[2]).unwrap(),
            r#"{"node":"a","begun":2,"ended":2,"request":{"release":{"host":"y","protector":"2","egress_protector":"3"}},"answer":{"unknown":"no quorum"}}"#
        );
        let line = serde_json::to_string(&log[0]).unwrap();
        assert!(
            line.contains(r#""action":"release","outcome":"done","host":"x""#),
            "{line}"
        );
        assert_eq!(serde_json::from_str::<Record>(&line).unwrap(), log[0]);
    }
}
