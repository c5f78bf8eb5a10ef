//! The ways in which this server can have hosts attest. Which one it uses is part of its state.

use hgs_attest::host_key::HostKeyMode;
use hgs_attest::wire::AttestationOperationMode;
use hgs_attest::{Attempt, HostRegistry, Mode, Reason, Verdict};
use hgs_crypto::random::Random;
use hgs_pki::health::AttestationMode;

/// The modes, each once.
#[derive(Debug)]
pub(crate) struct Modes {
    host_key: Box<dyn Mode>,
    tpm: Box<dyn Mode>,
}

impl Default for Modes {
    fn default() -> Self {
        Self {
            host_key: Box::new(HostKeyMode),
            tpm: Box::new(TpmMode),
        }
    }
}

impl Modes {
    /// The one that the state names.
    pub(crate) fn of(&self, mode: AttestationMode) -> &dyn Mode {
        match mode {
            AttestationMode::Tpm => &*self.tpm,
            // The store keeps no setting with the other one.
            AttestationMode::HostKey | AttestationMode::ActiveDirectory => &*self.host_key,
        }
    }
}

/// Says what mode the server is in, and attests nobody.
#[derive(Debug)]
struct TpmMode;

impl Mode for TpmMode {
    fn operation_mode(&self) -> AttestationOperationMode {
        AttestationOperationMode::Tpm
    }

    fn evaluate(&self, _: &Attempt<'_>, _: &dyn HostRegistry, _: &mut dyn Random) -> Verdict {
        Verdict::Refused(Reason::Unavailable.into())
    }
}
