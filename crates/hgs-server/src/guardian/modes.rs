//! The ways in which this server can have hosts attest. Which one it uses is part of its state.

use hgs_attest::Mode;
use hgs_attest::host_key::HostKeyMode;
use hgs_store::AttestationMode;

/// The modes, each once.
#[derive(Debug)]
pub(crate) struct Modes {
    host_key: Box<dyn Mode>,
}

impl Default for Modes {
    fn default() -> Self {
        Self {
            host_key: Box::new(HostKeyMode),
        }
    }
}

impl Modes {
    /// The one that the state names.
    pub(crate) fn of(&self, mode: AttestationMode) -> &dyn Mode {
        match mode {
            AttestationMode::HostKey => &*self.host_key,
        }
    }
}
