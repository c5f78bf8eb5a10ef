//! Policies: what the measurements of a host are judged by.

use hgs_crypto::hash::Sha256Digest;
use hgs_tcg::event_log::{self, EventLog, EventLogError, PcrValues, ReplayError, ReplayedLog};
use hgs_tcg::ima::{self, IMA_PCR, ImaLog, ImaLogError, ImaReplayError, ReplayedImaLog};

/// What a host sent about its boot, with the PCR values that its TPM proved. It is what is kept of a host's last
/// attestation, and what a simulation reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedEvidence {
    /// The values, of the SHA-256 bank. In an attestation, its session proved them.
    pub values: PcrValues,
    /// The TCG event log; empty if the host has none.
    pub log: Vec<u8>,
    /// The IMA log in the binary form; empty if the host has none.
    pub ima: Vec<u8>,
    /// What events were made from that the log does not hold.
    pub preimages: Vec<Preimage>,
}

/// The octets that an event of the log is the digest of, as the host says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preimage {
    /// The PCR.
    pub pcr: u8,
    /// The number of the event in the log.
    pub event: u32,
    /// The octets.
    pub octets: Vec<u8>,
}

/// What was measured when a host booted: every part of it follows from PCR values.
#[derive(Debug, Clone)]
pub struct Evidence {
    log: ReplayedLog,
    ima: Option<ReplayedImaLog>,
    preimages: Vec<Preimage>,
}

/// Why what a host sent is no evidence. The host is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EvidenceError {
    /// The host has a TPM, and sent no log: its firmware or boot loader measured nothing that could be judged.
    #[error("the host has a TPM and sent no event log")]
    NoLog,
    /// The event log is none.
    #[error(transparent)]
    Log(#[from] EventLogError),
    /// The event log is not that of the PCR values.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// The IMA log is none.
    #[error(transparent)]
    Ima(#[from] ImaLogError),
    /// The IMA log is not that of PCR 10.
    #[error(transparent)]
    ImaReplay(#[from] ImaReplayError),
}

impl RecordedEvidence {
    /// Replays the logs against the PCR values.
    pub fn prove(&self) -> Result<Evidence, EvidenceError> {
        if self.log.is_empty() {
            return Err(EvidenceError::NoLog);
        }
        let log = EventLog::read(self.log.clone(), &event_log::Limits::LOG)?;
        let ima = match self.values.value(IMA_PCR) {
            Some(value) if !self.ima.is_empty() => {
                Some(ImaLog::read(self.ima.clone(), &ima::Limits::LOG)?.replay(value)?)
            }
            _ => None,
        };
        Ok(Evidence {
            log: log.replay(&self.values)?,
            ima,
            preimages: self.preimages.clone(),
        })
    }
}

impl Evidence {
    /// The event log.
    #[must_use]
    pub fn log(&self) -> &ReplayedLog {
        &self.log
    }

    /// The IMA log, if the host has one.
    #[must_use]
    pub fn ima(&self) -> Option<&ReplayedImaLog> {
        self.ima.as_ref()
    }

    /// What events were made from, as the host says.
    #[must_use]
    pub fn preimages(&self) -> &[Preimage] {
        &self.preimages
    }
}

/// What one host is judged by. Without anything to match, it refuses.
#[derive(Debug, Clone, Default)]
pub struct PolicySet {}

/// How evidence was judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evaluation {
    /// Whether the host is healthy.
    healthy: bool,
    /// SHA-256 of the set that it was judged by.
    policies: Sha256Digest,
}

/// Evidence, and how it was judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measured {
    /// What the host sent, and what its TPM proved.
    pub evidence: RecordedEvidence,
    /// How it was judged; why it could not be, if it is no evidence.
    pub evaluation: Result<Evaluation, EvidenceError>,
}

impl PolicySet {
    /// Judges evidence.
    #[must_use]
    pub fn evaluate(&self, evidence: &Evidence) -> Evaluation {
        let _ = evidence;
        Evaluation {
            healthy: false,
            policies: Sha256Digest::default(),
        }
    }
}

impl Evaluation {
    /// Whether every policy held.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.healthy
    }

    /// SHA-256 of the set that the evidence was judged by.
    #[must_use]
    pub fn policies(&self) -> &Sha256Digest {
        &self.policies
    }
}
