//! The ways in which this server can have hosts attest. Which one it uses is part of its state.

use hgs_attest::Mode;
use hgs_attest::host_key::HostKeyMode;
use hgs_attest::rtpm::{ContextKey, IdentityPcrs, TpmMode};
use hgs_crypto::SecretBytes;
use hgs_pki::health::AttestationMode;

/// The modes, each once.
#[derive(Debug)]
pub(crate) struct Modes {
    host_key: Box<dyn Mode>,
    tpm: Box<dyn Mode>,
}

impl Modes {
    /// `contexts` is the secret for what travels with hosts; identity keys in TPMs are bound to `identity_pcrs`.
    pub(crate) fn new(contexts: &SecretBytes, identity_pcrs: IdentityPcrs) -> Self {
        let contexts = ContextKey::new(contexts.clone());
        Self {
            host_key: Box::new(HostKeyMode),
            tpm: Box::new(TpmMode::new(contexts, identity_pcrs)),
        }
    }

    /// The one that the state names.
    pub(crate) fn of(&self, mode: AttestationMode) -> &dyn Mode {
        match mode {
            AttestationMode::Tpm => &*self.tpm,
            // The store keeps no setting with the other one.
            AttestationMode::HostKey | AttestationMode::ActiveDirectory => &*self.host_key,
        }
    }
}
