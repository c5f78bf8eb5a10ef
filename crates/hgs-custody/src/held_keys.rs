//! The private keys of several certificates.

use std::collections::HashMap;
use std::sync::Arc;

use hgs_crypto::SecretBytes;
use hgs_crypto::rsa::{OaepHash, SignatureScheme};
use hgs_pki::{Certificate, KeyError, KeyWork, Thumbprint};

use crate::PrivateKey;

/// Private keys by the thumbprints of their certificates.
#[derive(Debug, Clone, Default)]
pub struct HeldKeys(HashMap<Thumbprint, Arc<dyn PrivateKey>>);

impl HeldKeys {
    /// Holds `key`, whose certificate is `certificate`.
    pub fn hold(&mut self, certificate: &Certificate, key: Arc<dyn PrivateKey>) {
        self.0.insert(certificate.thumbprint(), key);
    }

    /// The private key of a certificate.
    ///
    /// # Errors
    /// [`KeyError::NotHeld`].
    pub fn find(&self, certificate: &Thumbprint) -> Result<&dyn PrivateKey, KeyError> {
        self.0
            .get(certificate)
            .map(|key| &**key)
            .ok_or(KeyError::NotHeld)
    }
}

impl KeyWork for &HeldKeys {
    fn decrypt(
        &mut self,
        certificate: &Thumbprint,
        hash: OaepHash,
        ciphertext: &[u8],
    ) -> Result<SecretBytes, KeyError> {
        self.find(certificate)?.decrypt(hash, ciphertext)
    }

    fn sign(
        &mut self,
        certificate: &Thumbprint,
        scheme: SignatureScheme,
        message: &[u8],
    ) -> Result<Vec<u8>, KeyError> {
        self.find(certificate)?.sign(scheme, message)
    }
}
