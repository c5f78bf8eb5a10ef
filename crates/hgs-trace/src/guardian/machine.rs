//! The clock, and the process of the service.

use hgs_pki::{Seconds, Time};

use super::facts::{Facts, Process, State};
use crate::{Check, Group, Judgement};

pub(super) fn checks() -> Vec<Check<Facts>> {
    vec![Check {
        id: "HGS-M001",
        group: Group::Machine,
        title: "the clock is not behind what was recorded",
        fails_when: "it is more than a minute before the newest audit record; where only an older record, certificate or signer lies ahead, the clock was ahead once, which warns",
        remedy: "check the clock with `timedatectl`: if it is wrong, set it and keep it right with NTP; if it is right, it was ahead once, and a restart of the service makes anew what it needs",
        after: &["HGS-D004"],
        judge: clock,
    }]
}

/// About the process of a service that runs.
pub(super) fn process_checks() -> Vec<Check<Facts>> {
    vec![
        Check {
            id: "HGS-M002",
            group: Group::Machine,
            title: "no core dump contains the service's memory",
            fails_when: "RLIMIT_CORE is not 0, or the process can be dumped and read by others of its user",
            remedy: "start it with `hgs serve`, which switches core dumps off; its log says why it could not",
            after: &["HGS-S003", "HGS-S004"],
            judge: core_dumps,
        },
        Check {
            id: "HGS-M003",
            group: Group::Machine,
            title: "the service may open more files",
            fails_when: "nine in ten of the files that its process may open are open; three in four warn",
            remedy: "raise LimitNOFILE of its systemd unit, or lower limits.connections",
            after: &["HGS-S003", "HGS-S004"],
            judge: open_files,
        },
    ]
}

/// How far behind it may be: the clocks of several nodes differ a little.
const TOLERANCE: Seconds = Seconds::from_minutes(1);

fn clock(facts: &Facts) -> Vec<Judgement> {
    let (Some(local), Some(state)) = (&facts.local, facts.state()) else {
        return vec![];
    };
    let now = local.time;
    let Some((latest, what)) = latest(state) else {
        return vec![];
    };
    let latest_allowed = now.checked_add(TOLERANCE).unwrap_or(Time::MAX);
    let seen = format!("it is {now}; {what} is of {latest}");
    vec![if latest <= latest_allowed {
        Judgement::pass("clock", seen)
    } else if state.last_record.is_some_and(|last| last <= latest_allowed) {
        // The newest record was written later, and by a clock that agrees with this one.
        Judgement::warning("clock", format!("{seen}: the clock was ahead once"))
            .remedy(AHEAD_ONCE.to_owned())
    } else {
        Judgement::fail("clock", seen)
    }]
}

const AHEAD_ONCE: &str = "nothing, if HGS-A001 and HGS-C003 pass; add certificates anew that are not valid yet, and keep the clock right with NTP: `timedatectl`";

/// The latest time in the state, and what is of it.
fn latest(state: &State) -> Option<(Time, &'static str)> {
    let record = state.last_record.map(|time| (time, "the newest record"));
    let added = state
        .certificates
        .iter()
        .map(|certificate| (certificate.added, "the newest certificate"));
    let signers = state
        .signers
        .iter()
        .filter(|signer| signer.own)
        .map(|signer| (signer.validity.not_before, "the newest signer"));
    record
        .into_iter()
        .chain(added)
        .chain(signers)
        .max_by_key(|(time, _)| *time)
}

fn process(facts: &Facts) -> Option<&Process> {
    facts.local.as_ref()?.process.as_ref()
}

fn open_files(facts: &Facts) -> Vec<Judgement> {
    let judge = |process: &Process| {
        let (open, limit) = (process.open_files?, process.file_limit?);
        let seen = format!("{open} of {limit} files are open");
        Some(match open {
            _ if open >= limit / 10 * 9 => Judgement::fail("process", seen),
            _ if open >= limit / 4 * 3 => Judgement::warning("process", seen),
            _ => Judgement::pass("process", seen),
        })
    };
    process(facts).and_then(judge).into_iter().collect()
}

fn core_dumps(facts: &Facts) -> Vec<Judgement> {
    let Some(process) = process(facts) else {
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
