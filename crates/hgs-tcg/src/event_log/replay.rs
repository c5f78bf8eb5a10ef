//! Replay of a log against PCR values, and where the two part.

use std::fmt;

use super::facts::{self, Fact};
use super::{Bank, Digest, Event, EventLog, EventType, PCR_COUNT, PcrValues};

/// The PCR that systemd-stub and systemd measure into.
const BOOT_PHASE_PCR: usize = 11;

/// What systemd extends PCR 11 with after the kernel has closed the log, on hosts with and without an initrd: the
/// beginning of one of these, depending on when the PCR is read (systemd-pcrphase.service).
const BOOT_PHASES: [&[&str]; 2] = [
    &["enter-initrd", "leave-initrd", "sysinit", "ready"],
    &["sysinit", "ready"],
];

/// Looking for one event too many, or two that were exchanged, takes the square of the events of a PCR. It is done for
/// the first PCR that differs, if it has at most so many: some 4,000 digests, well under a millisecond.
const COMPARED_EVENTS: usize = 64;

/// A log whose digests give the values of PCRs.
///
/// Made by [`EventLog::replay`] only.
#[derive(Debug, Clone)]
pub struct ReplayedLog {
    log: EventLog,
    values: PcrValues,
    lanes: [Vec<usize>; PCR_COUNT],
    boot_phases: &'static [&'static str],
}

impl ReplayedLog {
    /// The bank that was replayed.
    #[must_use]
    pub fn bank(&self) -> Bank {
        self.values.bank()
    }

    /// The values that proved the log.
    #[must_use]
    pub fn values(&self) -> &PcrValues {
        &self.values
    }

    /// The events of one PCR; `None` if no value of the PCR was given, so that nothing about it is proved.
    #[must_use]
    pub fn lane(&self, pcr: usize) -> Option<Lane<'_>> {
        let log = self;
        self.values.value(pcr).map(|_| Lane { log, pcr })
    }

    /// The lanes of all PCRs whose values were given.
    pub fn lanes(&self) -> impl Iterator<Item = Lane<'_>> {
        let log = self;
        self.values.iter().map(move |(pcr, _)| Lane { log, pcr })
    }

    /// What systemd extended PCR 11 with after the events of the log.
    #[must_use]
    pub fn boot_phases(&self) -> &'static [&'static str] {
        self.boot_phases
    }
}

/// The events of one PCR in the order that is proved.
#[derive(Debug, Clone, Copy)]
pub struct Lane<'l> {
    log: &'l ReplayedLog,
    pcr: usize,
}

impl<'l> Lane<'l> {
    /// The PCR.
    #[must_use]
    pub fn pcr(&self) -> usize {
        self.pcr
    }

    /// The bank of the digests.
    #[must_use]
    pub fn bank(&self) -> Bank {
        self.log.bank()
    }

    /// What was measured, first to last.
    pub fn events(&self) -> impl ExactSizeIterator<Item = MeasuredEvent<'l>> + use<'l> {
        let (log, bank) = (&self.log.log, self.log.bank());
        let numbers = self.log.lanes[self.pcr].iter().enumerate();
        numbers.map(move |(place, number)| {
            let event = log.event(*number);
            let digest = event.digest(bank);
            MeasuredEvent {
                event,
                place,
                digest: digest.expect("a replayed event has a digest of the bank"),
            }
        })
    }

    /// What the events say that follows from their digests.
    #[must_use]
    pub fn facts(&self) -> Vec<Fact<'l>> {
        facts::of_lane(self)
    }
}

/// An event whose digest a PCR proves.
#[derive(Debug, Clone, Copy)]
pub struct MeasuredEvent<'l> {
    event: Event<'l>,
    place: usize,
    digest: Digest,
}

impl<'l> MeasuredEvent<'l> {
    /// Its number in the log, to find it there again. The order among PCRs is not proved.
    #[must_use]
    pub fn number(&self) -> usize {
        self.event.number()
    }

    /// Its place among the events of its PCR, from 0.
    #[must_use]
    pub fn place(&self) -> usize {
        self.place
    }

    /// Its digest.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The type that the log gives it.
    #[must_use]
    pub fn unverified_type(&self) -> EventType {
        self.event.event_type()
    }

    /// Its data, which may be the preimage of the digest or not.
    #[must_use]
    pub fn unverified_data(&self) -> &'l [u8] {
        self.event.data()
    }
}

/// Why a log is not proved. The sender is at fault, or the log and the PCRs are of two boots.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The log has no digests for the bank.
    #[error("the event log has no digests for the {bank} bank")]
    BankAbsent {
        /// The bank.
        bank: Bank,
    },
    /// An event that extends a PCR has no digest for the bank.
    #[error("event {event} (PCR {pcr}) has no digest for the {bank} bank")]
    DigestAbsent {
        /// The number of the event.
        event: usize,
        /// The PCR it extends.
        pcr: u32,
        /// The bank.
        bank: Bank,
    },
    /// PCRs have other values than the log gives.
    #[error("{}", Mismatches(.0))]
    Mismatch(Vec<PcrMismatch>),
}

struct Mismatches<'m>(&'m [PcrMismatch]);

impl fmt::Display for Mismatches<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, mismatch) in self.0.iter().enumerate() {
            let separator = if place == 0 { "" } else { "; " };
            write!(formatter, "{separator}{mismatch}")?;
        }
        Ok(())
    }
}

/// A PCR that has another value than the log gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PcrMismatch {
    /// The PCR.
    pub pcr: usize,
    /// The value it has.
    pub expected: Digest,
    /// The value that the log gives.
    pub found: Digest,
    /// Where they part.
    pub divergence: Divergence,
}

impl fmt::Display for PcrMismatch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            pcr,
            expected,
            found,
            divergence,
        } = self;
        write!(
            formatter,
            "PCR {pcr} has the value {expected}, and the event log gives {found}: {divergence}"
        )
    }
}

/// Where a log and a PCR part, as far as can be told. All but the digests is a guess: it helps people and decides nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Divergence {
    /// The log has no event of this PCR.
    NoEvents,
    /// The PCR has the value that it had before this event.
    NotExtended {
        /// The number of the event.
        event: usize,
    },
    /// The first event whose digest should be that of its data, and is not.
    OtherDigest {
        /// The number of the event.
        event: usize,
    },
    /// Without this event the log gives the value.
    Inserted {
        /// The number of the event.
        event: usize,
    },
    /// If this event and the next of its PCR are exchanged, the log gives the value.
    Exchanged {
        /// The number of the event.
        event: usize,
    },
    /// Any digest may have been changed, or an event left out.
    Unknown,
}

impl fmt::Display for Divergence {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoEvents => formatter.write_str("the log has no event of this PCR"),
            Self::NotExtended { event } => {
                write!(
                    formatter,
                    "the PCR was not extended with event {event} and what follows it"
                )
            }
            Self::OtherDigest { event } => {
                write!(
                    formatter,
                    "the digest of event {event} is not that of its data"
                )
            }
            Self::Inserted { event } => write!(formatter, "event {event} was not measured"),
            Self::Exchanged { event } => {
                write!(
                    formatter,
                    "event {event} was measured after the next one of this PCR"
                )
            }
            Self::Unknown => formatter
                .write_str("some digest is not the one that was measured, or an event is absent"),
        }
    }
}

pub(super) fn replay(log: EventLog, values: &PcrValues) -> Result<ReplayedLog, ReplayError> {
    let lanes = lanes(&log, values.bank())?;
    let mut boot_phases: &[&str] = &[];
    let mut mismatches = Vec::new();
    for (pcr, expected) in values.iter() {
        let events = &lanes[pcr];
        let found = value(&log, values.bank(), pcr, events);
        if found == expected {
            continue;
        }
        if pcr == BOOT_PHASE_PCR
            && let Some(phases) = phases_between(found, expected)
        {
            boot_phases = phases;
            continue;
        }
        // Where all differs, the log is of another boot, and there is nothing to look for.
        let compared = if mismatches.is_empty() {
            COMPARED_EVENTS
        } else {
            0
        };
        mismatches.push(PcrMismatch {
            pcr,
            expected,
            found,
            divergence: divergence(&log, pcr, events, expected, compared),
        });
    }
    if !mismatches.is_empty() {
        return Err(ReplayError::Mismatch(mismatches));
    }
    Ok(ReplayedLog {
        log,
        values: values.clone(),
        lanes,
        boot_phases,
    })
}

pub(super) fn values(log: &EventLog, bank: Bank) -> Result<PcrValues, ReplayError> {
    let mut values = PcrValues::new(bank);
    for (pcr, events) in lanes(log, bank)?.iter().enumerate() {
        if !events.is_empty() {
            let inserted = values.insert(pcr, value(log, bank, pcr, events).as_bytes());
            inserted.expect("a lane has a PCR, and a digest its bank's size");
        }
    }
    Ok(values)
}

/// The numbers of the events that extend each PCR.
fn lanes(log: &EventLog, bank: Bank) -> Result<[Vec<usize>; PCR_COUNT], ReplayError> {
    let declared = log.algorithms.iter();
    let declared = declared.map(|algorithm| algorithm.identifier);
    if !declared
        .into_iter()
        .any(|identifier| identifier == bank.algorithm())
    {
        return Err(ReplayError::BankAbsent { bank });
    }
    let mut lanes = [const { Vec::new() }; PCR_COUNT];
    for event in log.unverified().events().filter(Event::is_measured) {
        let (number, pcr) = (event.number(), event.pcr());
        if event.digest(bank).is_none() {
            let event = number;
            return Err(ReplayError::DigestAbsent { event, pcr, bank });
        }
        lanes[pcr as usize].push(number);
    }
    Ok(lanes)
}

fn value(log: &EventLog, bank: Bank, pcr: usize, events: &[usize]) -> Digest {
    events
        .iter()
        .fold(initial_value(log, bank, pcr, events), |value, number| {
            value.extended_with(&digest(log, bank, *number))
        })
}

fn digest(log: &EventLog, bank: Bank, number: usize) -> Digest {
    let digest = log.event(number).digest(bank);
    digest.expect("events in a lane have a digest of the bank")
}

fn initial_value(log: &EventLog, bank: Bank, pcr: usize, events: &[usize]) -> Digest {
    match pcr {
        0 => Digest::of_startup(bank, log.startup_locality.unwrap_or(0)),
        // All ones, until a dynamic launch resets them to zero.
        17..=22 if events.is_empty() => bank.filled(0xff),
        _ => bank.filled(0),
    }
}

fn phases_between(start: Digest, end: Digest) -> Option<&'static [&'static str]> {
    BOOT_PHASES.into_iter().find_map(|phases| {
        let mut value = start;
        let last = phases.iter().position(|phase| {
            value = value.extended_with(&value.bank().hash(&[phase.as_bytes()]));
            value == end
        });
        last.map(|last| &phases[..=last])
    })
}

fn divergence(
    log: &EventLog,
    pcr: usize,
    events: &[usize],
    expected: Digest,
    compared: usize,
) -> Divergence {
    let bank = expected.bank();
    if events.is_empty() {
        return Divergence::NoEvents;
    }
    let extend = |value: Digest, events: &[usize]| {
        events.iter().fold(value, |value, event| {
            value.extended_with(&digest(log, bank, *event))
        })
    };
    let mut before = initial_value(log, bank, pcr, events);
    for (place, event) in events.iter().enumerate() {
        let event = *event;
        if before == expected {
            return Divergence::NotExtended { event };
        }
        if events.len() <= compared {
            let after = &events[place + 1..];
            if extend(before, after) == expected {
                return Divergence::Inserted { event };
            }
            if let [next, rest @ ..] = after
                && extend(extend(before, &[*next, event]), rest) == expected
            {
                return Divergence::Exchanged { event };
            }
        }
        before = extend(before, &[event]);
    }
    let other = events
        .iter()
        .find(|event| facts::contradicts_its_data(&log.event(**event), bank));
    other.map_or(Divergence::Unknown, |event| Divergence::OtherDigest {
        event: *event,
    })
}
