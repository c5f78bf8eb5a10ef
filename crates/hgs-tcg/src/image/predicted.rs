//! What a measured boot is expected to extend.

use std::fmt;

use hgs_crypto::hash::{Sha256Digest, sha256};
use hgs_crypto::hex;

/// One extension of a PCR in the SHA-256 bank. Only the order of the events of one PCR is authenticated, so the order
/// of events of different PCRs in a prediction means nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct PredictedEvent {
    /// The PCR.
    pub pcr: u8,
    /// What is measured, for people.
    pub subject: String,
    /// The digest that extends the PCR.
    pub digest: Sha256Digest,
}

impl PredictedEvent {
    /// The event that hashes `preimage`.
    #[must_use]
    pub fn of(pcr: u8, subject: &str, preimage: &[u8]) -> Self {
        Self {
            pcr,
            subject: subject.to_owned(),
            digest: sha256(preimage),
        }
    }
}

impl fmt::Debug for PredictedEvent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            pcr,
            subject,
            digest,
        } = self;
        write!(formatter, "PCR {pcr}, {subject}: {}", hex::encode(digest))
    }
}
