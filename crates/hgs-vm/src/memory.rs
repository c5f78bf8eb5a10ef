//! Memory that is never written to swap.

use std::io;

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{Resource, Rlimit, geteuid, getrlimit, setrlimit};

/// Why memory is not locked. The process goes on without, and says so: keys may then be written to swap.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryLockError {
    /// The limit would end the process when it needs more memory.
    #[error(
        "memory is not locked: this process may lock {limit} octets, and needs `LimitMEMLOCK=infinity`; keys may be \
         written to swap"
    )]
    Limit {
        /// RLIMIT_MEMLOCK.
        limit: u64,
    },
    /// The system refuses.
    #[error("memory is not locked: {0}; keys may be written to swap")]
    System(#[from] io::Error),
}

/// Keeps all memory of this process out of swap, what it has and what it will have: keys are copied on their way through
/// TLS, decoders and pipes, so locking some pages would say more than it does. Programs that this process starts lock
/// their own memory or have none locked: their units set `MemorySwapMax=0`.
///
/// # Errors
/// When the process may not. A limit that is not unlimited is an error too, for then a later allocation would fail.
pub fn lock_all() -> Result<(), MemoryLockError> {
    let limit = getrlimit(Resource::Memlock);
    if let Some(limit) = limit.maximum
        && !geteuid().is_root()
    {
        return Err(MemoryLockError::Limit { limit });
    }
    let unlimited = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Memlock, unlimited).map_err(io::Error::from)?;
    let all = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    mlockall(all).map_err(io::Error::from)?;
    Ok(())
}
