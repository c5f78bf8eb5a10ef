//! The work with private keys that requests need, done where each key lives.

use hgs_crypto::SecretBytes;
use hgs_crypto::rsa::{OaepHash, SignatureScheme};
use hgs_custody::{KeyError, KeyWork, PrivateKey};
use hgs_pki::Thumbprint;
use tracing::error;

use super::keys::KeyTable;
use super::workers::Turn;

/// The keys of one snapshot. Software keys work in this thread's `turn`; for others it waits without one.
pub(crate) struct SnapshotKeys<'a> {
    pub(crate) keys: &'a KeyTable,
    pub(crate) turn: &'a mut Turn,
}

impl KeyWork for SnapshotKeys<'_> {
    fn decrypt(
        &mut self,
        certificate: &Thumbprint,
        hash: OaepHash,
        ciphertext: &[u8],
    ) -> Result<SecretBytes, KeyError> {
        self.work(certificate, |key| key.decrypt(hash, ciphertext))
    }

    fn sign(
        &mut self,
        certificate: &Thumbprint,
        scheme: SignatureScheme,
        message: &[u8],
    ) -> Result<Vec<u8>, KeyError> {
        self.work(certificate, |key| key.sign(scheme, message))
    }
}

impl SnapshotKeys<'_> {
    /// Has a key do something, in this thread's turn or without it. Why a key can't be used is logged here, and is
    /// not told outside.
    fn work<T>(
        &mut self,
        certificate: &Thumbprint,
        work: impl FnOnce(&dyn PrivateKey) -> Result<T, KeyError>,
    ) -> Result<T, KeyError> {
        let done = self.keys.find(certificate).and_then(|key| {
            if key.is_blocking() {
                self.turn.without_processor(|| work(key))
            } else {
                work(key)
            }
        });
        match &done {
            Ok(_) | Err(KeyError::Refused) => {}
            Err(failure) => error!(%certificate, %failure, "a private key can't be used"),
        }
        done
    }
}
