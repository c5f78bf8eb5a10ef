//! The clock, and what the kernel may do with the memory.

use hgs_pki::{Seconds, Time};

use super::facts::{Facts, State};
use crate::{Check, Group, Judgement};

pub(super) fn checks() -> Vec<Check<Facts>> {
    vec![
        Check {
            id: "HGS-M001",
            group: Group::Machine,
            title: "the clock is not behind what was recorded",
            fails_when: "it is more than a minute before the newest audit record, certificate or signer",
            remedy: "set the clock right and keep it so with NTP: `timedatectl`",
            after: &["HGS-D004"],
            judge: clock,
        },
        Check {
            id: "HGS-M002",
            group: Group::Machine,
            title: "the service's memory is in no core dump",
            fails_when: "RLIMIT_CORE is not 0, or the process can be dumped and read by others of its user",
            remedy: "start it with `hgs serve`, which sees to it; the log says why it could not",
            after: &["HGS-S003", "HGS-S004"],
            judge: core_dumps,
        },
    ]
}

/// How far behind it may be: the clocks of several nodes differ a little.
const TOLERANCE: Seconds = Seconds::from_minutes(1);

fn clock(facts: &Facts) -> Vec<Judgement> {
    let (Some(inside), Some(state)) = (&facts.inside, facts.state()) else {
        return vec![];
    };
    let now = inside.time;
    let Some((latest, what)) = latest(state) else {
        return vec![];
    };
    let latest_allowed = now.checked_add(TOLERANCE).unwrap_or(Time::MAX);
    let seen = format!("it is {now}; {what} is of {latest}");
    vec![match latest <= latest_allowed {
        true => Judgement::pass("clock", seen),
        false => Judgement::fail("clock", seen),
    }]
}

/// The latest time in the state, and what is of it.
fn latest(state: &State) -> Option<(Time, &'static str)> {
    let record = state.last_record.map(|time| (time, "the newest record"));
    let added = state
        .certificates
        .iter()
        .map(|certificate| certificate.added);
    let added = added.map(|time| (time, "the newest certificate"));
    let signers = state.signers.iter().filter(|signer| signer.own);
    let signers = signers.map(|signer| (signer.validity.not_before, "the newest signer"));
    record
        .into_iter()
        .chain(added)
        .chain(signers)
        .max_by_key(|(time, _)| *time)
}

fn core_dumps(facts: &Facts) -> Vec<Judgement> {
    let process = facts
        .inside
        .as_ref()
        .and_then(|inside| inside.process.as_ref());
    let Some(process) = process else {
        return vec![];
    };
    let limit = match process.core_limit {
        None => "has no limit".to_owned(),
        Some(octets) => format!("is {octets} octets"),
    };
    let dumpable = if process.dumpable { "" } else { "not " };
    let seen = format!("RLIMIT_CORE {limit}; the process is {dumpable}dumpable");
    vec![match (process.core_limit, process.dumpable) {
        (Some(0), false) => Judgement::pass("process", seen),
        _ => Judgement::fail("process", seen),
    }]
}
