//! The log of the Integrity Measurement Architecture of the Linux kernel, in the binary form
//! (`binary_runtime_measurements`).
//!
//! The log grows while the PCR is read, so a beginning of it must give the value: [`ImaLog::replay`] finds which, and
//! what follows is not proved. The order of entries is that in which files were opened and means nothing.

mod entry;
mod read;
mod replay;

pub use entry::{DigestKind, Entry, FileDigest, Template};
pub use read::{ImaLogError, Limits};
pub use replay::{BootAggregateError, ImaReplayError, ReplayedImaLog, boot_aggregate};

use crate::event_log::{Bank, Digest};

/// The PCR that IMA extends.
pub const IMA_PCR: usize = 10;

/// A log as it was read. Nothing in it is proved.
#[derive(Debug, Clone)]
pub struct ImaLog {
    octets: Vec<u8>,
    records: Vec<entry::Record>,
}

impl ImaLog {
    /// Reads a log with little-endian numbers.
    ///
    /// # Errors
    ///
    /// When the octets are no log, or over one of the `limits`.
    pub fn read(octets: Vec<u8>, limits: &Limits) -> Result<Self, ImaLogError> {
        read::read(octets, limits)
    }

    /// What the log says.
    #[must_use]
    pub fn unverified(&self) -> Unverified<'_> {
        Unverified(self)
    }

    /// Proves a beginning of the log by the value of PCR 10: the shortest that gives it.
    ///
    /// # Errors
    ///
    /// When no beginning gives the value, or an entry in it has another template digest than its data.
    pub fn replay(self, value: Digest) -> Result<ReplayedImaLog, ImaReplayError> {
        replay::replay(self, value)
    }

    fn entries(&self, count: usize) -> impl ExactSizeIterator<Item = Entry<'_>> {
        let records = self.records[..count].iter().enumerate();
        records.map(|(number, record)| Entry::of(&self.octets, record, number))
    }
}

/// What a log says, as long as no PCR has proved it.
#[derive(Debug, Clone, Copy)]
pub struct Unverified<'l>(&'l ImaLog);

impl<'l> Unverified<'l> {
    /// All entries in the order of the log.
    pub fn entries(self) -> impl ExactSizeIterator<Item = Entry<'l>> {
        self.0.entries(self.0.records.len())
    }

    /// The value that all entries together would give PCR 10.
    #[must_use]
    pub fn replayed_value(self, bank: Bank) -> Digest {
        self.entries().fold(bank.filled(0), |value, entry| {
            value.extended_with(&entry.extension(bank))
        })
    }
}
