//! Where the audit log ends.

use hgs_custody::seal::{Authenticator, Tag};

/// Where the log ends: the number and tag of its newest record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) sequence: u64,
    pub(crate) tag: Tag,
}

impl Head {
    /// The head of an empty log.
    pub(crate) const EMPTY: Self = Self {
        sequence: 0,
        tag: [0; 32],
    };

    /// The head after `text` was appended.
    pub(crate) fn next(&self, authenticator: &Authenticator, text: &str) -> Self {
        let sequence = self.sequence + 1;
        let number = sequence.to_be_bytes();
        let tag = authenticator.tag([&number, &self.tag, text.as_bytes()]);
        Self { sequence, tag }
    }
}
