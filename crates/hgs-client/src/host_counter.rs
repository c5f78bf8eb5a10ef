//! A counter in the TPM of this host, to which its agent binds what must not be put back.

use hgs_tcg::tpm::Counter;

use crate::error::Error;
use crate::host::GuardedHost;
use crate::tpm::{HostTpm, HostTpmError};

/// Where the counter of stop records is in the NV memory of the TPM, among the indices of its owner.
pub const STOP_COUNTER_INDEX: u32 = 0x0180_4802;

/// A counter that only rises. Its calls block.
#[derive(Debug, Clone)]
pub struct HostCounter {
    tpm: HostTpm,
    counter: Counter,
}

impl GuardedHost {
    /// The counter for records of where VMs stopped. `None` on a host that is not known by its TPM: nothing is written into a TPM
    /// that this host does not use.
    ///
    /// # Errors
    /// When the state folder can't be read.
    pub fn stop_counter(&self) -> Result<Option<HostCounter>, Error> {
        let tpm = self.tpm()?;
        let is_known = hgs_files::exists(&tpm.endorsement_key)?;
        Ok(is_known.then_some(HostCounter {
            tpm,
            counter: Counter::at(STOP_COUNTER_INDEX),
        }))
    }
}

impl HostCounter {
    /// Its value. `None` if the TPM does not have it: nothing was counted yet, or the TPM was cleared.
    ///
    /// # Errors
    /// When the TPM does not answer.
    pub fn value(&self) -> Result<Option<u64>, Error> {
        let mut tpm = self.tpm.open().map_err(HostTpmError::from)?;
        Ok(tpm.counter(self.counter).map_err(HostTpmError::from)?)
    }

    /// Increments it and returns its value.
    ///
    /// # Errors
    /// When the TPM does not answer, or has no such counter.
    pub fn increment(&self) -> Result<u64, Error> {
        let mut tpm = self.tpm.open().map_err(HostTpmError::from)?;
        Ok(tpm.increment(self.counter).map_err(HostTpmError::from)?)
    }

    /// Makes it in the TPM, and returns its first value.
    ///
    /// # Errors
    /// When the TPM has no room for it.
    pub fn make(&self) -> Result<u64, Error> {
        let mut tpm = self.tpm.open().map_err(HostTpmError::from)?;
        let made = tpm.define_counter(self.counter);
        Ok(made.map_err(HostTpmError::from)?)
    }
}
