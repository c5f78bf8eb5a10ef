//! With which pair of certificates protectors were last opened: what an administrator asks before a
//! pair is removed.

use hgs_pki::{Thumbprint, Time};

/// The protectors that one pair was the last to open. Only the newest of each line counts: what it
/// was made from is out of use, and what was made from it has never come back.
///
/// The numbers are read without the tags of the single nodes, which are checked when the store is
/// opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairUsage {
    /// The encryption certificate of the pair.
    pub encryption: Thumbprint,
    /// Its signing certificate; absent for protectors that were last opened before it was recorded.
    pub signing: Option<Thumbprint>,
    /// How many there are.
    pub protectors: u64,
    /// When the one was opened that has not been opened for longest.
    pub first: Time,
    /// When the one was opened that was opened last.
    pub last: Time,
}
