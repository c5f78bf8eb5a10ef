//! The log of measured events (TCG PC Client Platform Firmware Profile 10).
//!
//! A log is what a sender claims: [`EventLog`] gives its contents out as [`Unverified`] only. [`ReplayedLog`] is the
//! proof that its digests, in their order, give the values that PCRs have; it is made by [`EventLog::replay`] alone.
//! Even then only the digests and their order *within one PCR* are proved: that is a [`Lane`]. Types of events, data that
//! are no preimage of the digest, and the order among PCRs are the sender's choice.

mod digest;
mod event_type;
mod facts;
mod read;
mod replay;
mod variable;
mod windows;

use std::ops::Range;

pub use crate::guid::Guid;
pub use digest::{Bank, Digest, PCR_COUNT, PcrValues, PcrValuesError};
pub use event_type::EventType;
pub use facts::{
    Action, CommandLineMeasurement, Fact, Meaning, Place, Preimage, Section, SecureBoot,
    SecureBootError,
};
pub use read::{EventLogError, Limits};
pub use replay::{Divergence, Lane, MeasuredEvent, PcrMismatch, ReplayError, ReplayedLog};
pub use variable::LoggedVariable;
pub use windows::{WindowsFact, WindowsFactsError, WindowsParameter};

/// The form of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `TCG_PCR_EVENT`: a SHA-1 digest for each event.
    Sha1,
    /// `TCG_PCR_EVENT2` after a header `Spec ID Event03`: a digest of each event for each bank.
    CryptoAgile,
}

/// A digest algorithm that the header declares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeclaredAlgorithm {
    /// The `TPM_ALG_ID`.
    pub identifier: u16,
    /// How many octets its digests have.
    pub digest_size: u16,
}

/// A log as it was read. Nothing in it is proved.
#[derive(Debug, Clone)]
pub struct EventLog {
    octets: Vec<u8>,
    form: Form,
    algorithms: Vec<DeclaredAlgorithm>,
    entries: Vec<Entry>,
    startup_locality: Option<u8>,
    padding: usize,
}

/// Where an event stands in the octets.
#[derive(Debug, Clone)]
struct Entry {
    pcr: u32,
    event_type: EventType,
    /// Where its digest of each of [`Bank::ALL`] begins.
    digests: [Option<usize>; Bank::ALL.len()],
    data: Range<usize>,
}

impl EventLog {
    /// Reads a log of either form.
    ///
    /// # Errors
    ///
    /// When the octets are no log, or over one of the `limits`.
    pub fn read(octets: Vec<u8>, limits: &Limits) -> Result<Self, EventLogError> {
        read::read(octets, limits)
    }

    /// What the log says.
    #[must_use]
    pub fn unverified(&self) -> Unverified<'_> {
        Unverified(self)
    }

    /// Proves the log by the values of PCRs: each PCR in `values` must have the value that its events give.
    ///
    /// PCRs that are not in `values` get no lane. PCR 11 may be followed by what systemd extends it with after the
    /// kernel has closed the log.
    ///
    /// # Errors
    ///
    /// When the log has no digests for the bank, or a value is another: with all PCRs that differ.
    pub fn replay(self, values: &PcrValues) -> Result<ReplayedLog, ReplayError> {
        replay::replay(self, values)
    }

    fn event(&self, number: usize) -> Event<'_> {
        let entry = &self.entries[number];
        Event {
            log: self,
            entry,
            number,
        }
    }
}

/// What a log says, as long as no PCR has proved it.
#[derive(Debug, Clone, Copy)]
pub struct Unverified<'l>(&'l EventLog);

impl<'l> Unverified<'l> {
    /// The form it has.
    #[must_use]
    pub fn form(self) -> Form {
        self.0.form
    }

    /// The digest algorithms that the header declares; SHA-1 in the older form.
    #[must_use]
    pub fn algorithms(self) -> &'l [DeclaredAlgorithm] {
        &self.0.algorithms
    }

    /// All events in the order of the log, with the header as number 0.
    pub fn events(self) -> impl ExactSizeIterator<Item = Event<'l>> {
        (0..self.0.entries.len()).map(move |number| self.0.event(number))
    }

    /// The locality of `TPM2_Startup` that the log tells.
    #[must_use]
    pub fn startup_locality(self) -> Option<u8> {
        self.0.startup_locality
    }

    /// How many zero octets follow the last event.
    #[must_use]
    pub fn padding(self) -> usize {
        self.0.padding
    }

    /// The octets that were read.
    #[must_use]
    pub fn octets(self) -> &'l [u8] {
        &self.0.octets
    }

    /// The values that the events would give the PCRs that they extend.
    ///
    /// # Errors
    ///
    /// When the log has no digests for the bank.
    pub fn replayed_values(self, bank: Bank) -> Result<PcrValues, ReplayError> {
        replay::values(self.0, bank)
    }
}

/// An event as the log tells it.
#[derive(Debug, Clone, Copy)]
pub struct Event<'l> {
    log: &'l EventLog,
    entry: &'l Entry,
    number: usize,
}

impl<'l> Event<'l> {
    /// Its number in the log, from 0; the header counts.
    #[must_use]
    pub fn number(&self) -> usize {
        self.number
    }

    /// The PCR that it names. An event of type `EV_NO_ACTION` extends none.
    #[must_use]
    pub fn pcr(&self) -> u32 {
        self.entry.pcr
    }

    /// Its type.
    #[must_use]
    pub fn event_type(&self) -> EventType {
        self.entry.event_type
    }

    /// Its digest for `bank`, if it has one.
    #[must_use]
    pub fn digest(&self, bank: Bank) -> Option<Digest> {
        let start = self.entry.digests[bank as usize]?;
        Digest::new(bank, &self.log.octets[start..start + bank.digest_size()])
    }

    /// Its data.
    #[must_use]
    pub fn data(&self) -> &'l [u8] {
        &self.log.octets[self.entry.data.clone()]
    }

    fn is_measured(&self) -> bool {
        self.event_type() != EventType::NO_ACTION
    }
}
