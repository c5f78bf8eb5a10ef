//! How a change of the store ended.

use std::convert::Infallible;

use crate::StoreError;

/// Why something was not recorded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure<E> {
    /// It may not happen; that was recorded instead. The fault is with the caller.
    #[error(transparent)]
    Refused(E),
    /// It could not be recorded, and did not happen. The fault is ours.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Of what is never refused.
impl From<Failure<Infallible>> for StoreError {
    fn from(failure: Failure<Infallible>) -> Self {
        match failure {
            Failure::Refused(never) => match never {},
            Failure::Store(error) => error,
        }
    }
}

/// A transaction that is on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// The generation of the state that it made.
    pub generation: u64,
    /// The number of its (last) audit record.
    pub sequence: u64,
}
