//! Where a VM's TPM stopped, so that another state in its place is noticed at the next start.
//!
//! A state that was saved while the VM ran and put back after it stopped is under the same key and belongs to the same
//! protector: neither swtpm nor a guardian sees it. This record does. It stops mistakes and other users, not root of the
//! host, who can put the record back as well; the counter of the host's own TPM, where there is one, makes that harder.

use hgs_crypto::hash::{Sha256Digest, sha256};
use hgs_files::FileError;

use crate::generation::Generation;
use crate::swtpm::PERMANENT_STATE;
use crate::swtpm::control::MAX_STATE;

/// What is kept about a VM that has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopRecord {
    /// The number of the generation that was current.
    pub generation: u64,
    /// SHA-256 of the file of its permanent state.
    pub digest: Sha256Digest,
    /// A counter of the host's TPM that only rises; without a TPM there is none.
    pub counter: Option<u64>,
}

/// What a record says about the state at the next start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// The state is as it stopped.
    Same,
    /// There is no record: the VM has never run here, or the host crashed while it ran. Nothing follows from it.
    NoRecord,
    /// Another generation is current.
    OtherGeneration {
        /// The one that was current at the stop.
        recorded: u64,
    },
    /// The state has changed since the VM stopped.
    Altered,
    /// The record has a counter of the host's TPM, which gives none now: it is another TPM, or was cleared.
    NoCounter,
    /// The record itself is older than the host's TPM says.
    OldRecord {
        /// The counter in the record.
        recorded: u64,
        /// The counter of the TPM.
        counter: u64,
    },
}

impl StopRecord {
    /// Records a generation whose TPM has ended.
    ///
    /// # Errors
    /// When its state can't be read.
    pub fn of(generation: &Generation, counter: Option<u64>) -> Result<Self, FileError> {
        let state = hgs_files::read(&generation.path().join(PERMANENT_STATE), MAX_STATE)?;
        Ok(Self {
            generation: generation.number(),
            digest: sha256(&state),
            counter,
        })
    }

    /// What `recorded` says about `self`, which was taken right before the start.
    #[must_use]
    pub fn compare(&self, recorded: Option<&Self>) -> Comparison {
        let Some(recorded) = recorded else {
            return Comparison::NoRecord;
        };
        match (recorded.counter, self.counter) {
            (Some(before), Some(now)) if before != now => Comparison::OldRecord {
                recorded: before,
                counter: now,
            },
            (Some(_), None) => Comparison::NoCounter,
            _ if recorded.generation != self.generation => Comparison::OtherGeneration {
                recorded: recorded.generation,
            },
            _ if recorded.digest != self.digest => Comparison::Altered,
            _ => Comparison::Same,
        }
    }
}
