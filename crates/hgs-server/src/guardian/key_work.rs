//! The work with private keys that requests need, done where each key lives.

use hgs_crypto::SecretBytes;
use hgs_crypto::rsa::{OaepHash, SignatureScheme};
use hgs_custody::{KeyError, KeyWork, PrivateKey};
use hgs_pki::Thumbprint;
use tracing::error;

use super::keys::KeyTable;
use super::workers::ProcessorPermit;
use crate::telemetry;

/// The keys of one snapshot. Software keys work on this thread's `processor`; while a token works, the thread gives it back.
pub(crate) struct SnapshotKeys<'a> {
    pub(crate) keys: &'a KeyTable,
    pub(crate) processor: &'a mut ProcessorPermit,
}

impl KeyWork for SnapshotKeys<'_> {
    fn decrypt(
        &mut self,
        certificate: &Thumbprint,
        hash: OaepHash,
        ciphertext: &[u8],
    ) -> Result<SecretBytes, KeyError> {
        self.work("decrypt", certificate, |key| key.decrypt(hash, ciphertext))
    }

    fn sign(
        &mut self,
        certificate: &Thumbprint,
        scheme: SignatureScheme,
        message: &[u8],
    ) -> Result<Vec<u8>, KeyError> {
        self.work("sign", certificate, |key| key.sign(scheme, message))
    }
}

impl SnapshotKeys<'_> {
    /// Has a key do something, on this thread's processor or, for a token, without it. Why a key can't be used is logged here, and is
    /// not told outside.
    fn work<T>(
        &mut self,
        operation: &'static str,
        certificate: &Thumbprint,
        work: impl FnOnce(&dyn PrivateKey) -> Result<T, KeyError>,
    ) -> Result<T, KeyError> {
        let done = self.keys.find(certificate).and_then(|key| {
            let _span = telemetry::key(operation, certificate, key.is_blocking()).entered();
            if key.is_blocking() {
                self.processor.without_processor(|| work(key))
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
