//! Replay against PCR 10, and the entry that stands for all PCRs before it.

use super::{Entry, ImaLog};
use crate::event_log::{Bank, Digest, PcrValues};

/// The path of the entry that has the digest over the PCRs of the boot.
const BOOT_AGGREGATE: &[u8] = b"boot_aggregate";
/// The PCRs it is taken over, since Linux 5.8.
const BOOT_AGGREGATE_PCRS: std::ops::RangeInclusive<usize> = 0..=9;

/// Entries of an IMA log that gave PCR 10 its value.
///
/// Made by [`ImaLog::replay`] only.
#[derive(Debug, Clone)]
pub struct ReplayedImaLog {
    log: ImaLog,
    proved: usize,
    value: Digest,
}

impl ReplayedImaLog {
    /// The entries that the PCR proves.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = Entry<'_>> {
        self.log.entries(self.proved)
    }

    /// How many entries the log has after these, of which nothing is proved.
    #[must_use]
    pub fn later_entries(&self) -> usize {
        self.log.records.len() - self.proved
    }

    /// The value of PCR 10 that proved them.
    #[must_use]
    pub fn value(&self) -> Digest {
        self.value
    }

    /// Checks that the first entry, and any other of this name, is `boot_aggregate` over the values of PCRs 0 to 9.
    ///
    /// # Errors
    ///
    /// When it is absent or another, or one of the PCRs has no value.
    pub fn check_boot_aggregate(&self, values: &PcrValues) -> Result<(), BootAggregateError> {
        let expected = boot_aggregate(values)?;
        let algorithm: &[u8] = match values.bank() {
            Bank::Sha1 => b"sha1",
            Bank::Sha256 => b"sha256",
            Bank::Sha384 => b"sha384",
        };
        let first = self.entries().next();
        if first.is_none_or(|entry| entry.path() != BOOT_AGGREGATE) {
            return Err(BootAggregateError::Absent);
        }
        for entry in self
            .entries()
            .filter(|entry| entry.path() == BOOT_AGGREGATE)
        {
            let found = entry.file_digest();
            if found.algorithm != algorithm || found.octets != expected.as_bytes() {
                return Err(BootAggregateError::Mismatch {
                    entry: entry.number(),
                    expected,
                    found: hgs_crypto::hex::encode(found.octets),
                });
            }
        }
        Ok(())
    }
}

/// The digest of the values of PCRs 0 to 9, which IMA measures first.
///
/// # Errors
///
/// When one of them has no value.
pub fn boot_aggregate(values: &PcrValues) -> Result<Digest, BootAggregateError> {
    let pcrs: Vec<Digest> = BOOT_AGGREGATE_PCRS
        .map(|pcr| {
            values
                .value(pcr)
                .ok_or(BootAggregateError::PcrAbsent { pcr })
        })
        .collect::<Result<_, _>>()?;
    let parts: Vec<&[u8]> = pcrs.iter().map(Digest::as_bytes).collect();
    Ok(values.bank().hash(&parts))
}

/// Why `boot_aggregate` is not that of the PCRs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BootAggregateError {
    /// A PCR that it is taken over has no value here.
    #[error("boot_aggregate: PCR {pcr} has no value")]
    PcrAbsent {
        /// The PCR.
        pcr: usize,
    },
    /// The log does not begin with it.
    #[error("the first entry of the IMA log is not boot_aggregate")]
    Absent,
    /// It is another: the two are of different boots, or the kernel is older than 5.8.
    #[error("IMA entry {entry}: boot_aggregate is {found}; PCRs 0 to 9 give {expected}")]
    Mismatch {
        /// The number of the entry.
        entry: usize,
        /// What the PCRs give.
        expected: Digest,
        /// What the entry has, in hexadecimal.
        found: String,
    },
}

/// Why an IMA log is not proved. The sender is at fault, or the log and the PCR are of two boots.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImaReplayError {
    /// An entry has another template digest than its data.
    #[error("IMA entry {entry}: the template digest is {found}; its data give {expected}")]
    TemplateDigest {
        /// The number of the entry.
        entry: usize,
        /// The digest of its data.
        expected: Digest,
        /// The digest in the log.
        found: Digest,
    },
    /// No beginning of the log gives the value.
    #[error(
        "PCR 10 has the value {expected}; no beginning of the IMA log gives it, and all {entries} entries give {found}"
    )]
    Mismatch {
        /// The value of the PCR.
        expected: Digest,
        /// What all entries give.
        found: Digest,
        /// How many they are.
        entries: usize,
    },
}

pub(super) fn replay(log: ImaLog, value: Digest) -> Result<ReplayedImaLog, ImaReplayError> {
    let mut found = value.bank().filled(0);
    let mut proved = (found == value).then_some(0);
    for entry in log.unverified().entries() {
        if proved.is_some() {
            break;
        }
        if !entry.is_violation() {
            check_template_digest(&entry)?;
        }
        found = found.extended_with(&entry.extension(value.bank()));
        if found == value {
            proved = Some(entry.number() + 1);
        }
    }
    match proved {
        Some(proved) => Ok(ReplayedImaLog { log, proved, value }),
        None => Err(ImaReplayError::Mismatch {
            expected: value,
            found,
            entries: log.records.len(),
        }),
    }
}

fn check_template_digest(entry: &Entry<'_>) -> Result<(), ImaReplayError> {
    let expected = entry.computed_template_digest(Bank::Sha1);
    let found = Digest::new(Bank::Sha1, &entry.template_digest());
    match found {
        Some(found) if found != expected => Err(ImaReplayError::TemplateDigest {
            entry: entry.number(),
            expected,
            found,
        }),
        _ => Ok(()),
    }
}
