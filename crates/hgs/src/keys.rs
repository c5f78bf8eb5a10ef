//! Private keys at hand, and the work that protocols ask of them.

use std::collections::HashMap;

use hgs_crypto::random::System;
use hgs_custody::{KeyError, PrivateKey as _, SoftwareKey};
use hgs_pki::{Certificate, Thumbprint};
use hgs_protector::{DecryptionRefused, Step};
use hgs_terminal::{AtFault, Failure};

use crate::failures::{IntoFailure, OrFail as _};

/// Software keys by the thumbprints of their certificates.
#[derive(Debug, Default)]
pub(crate) struct HeldKeys(HashMap<Thumbprint, SoftwareKey>);

impl HeldKeys {
    /// Holds `key`, whose certificate is `certificate`.
    pub(crate) fn hold(&mut self, certificate: &Certificate, key: SoftwareKey) {
        self.0.insert(certificate.thumbprint(), key);
    }

    /// Does all the work with private keys that `step` waits for.
    pub(crate) fn drive<T, E: IntoFailure>(&self, mut step: Step<T, E>) -> Result<T, Failure> {
        let mut random = System::new();
        loop {
            step = match step {
                Step::Done(value) => return Ok(value),
                Step::NeedsDecrypt(request) => {
                    let key = self.key(request.key())?;
                    let plaintext = match key.decrypt(request.hash(), request.ciphertext()) {
                        Ok(plaintext) => Ok(plaintext),
                        Err(KeyError::Refused) => Err(DecryptionRefused),
                        Err(error) => return Err(error.into_failure()),
                    };
                    request.resume(plaintext, &mut random).or_fail()?
                }
                Step::NeedsSign(request) => {
                    let key = self.key(request.key())?;
                    let signature = key.sign(request.scheme(), request.message()).or_fail()?;
                    request.resume(signature, &mut random).or_fail()?
                }
            };
        }
    }

    fn key(&self, certificate: &Thumbprint) -> Result<&SoftwareKey, Failure> {
        self.0.get(certificate).ok_or_else(|| {
            Failure::failed(format!("the private key of {certificate} is not at hand"))
                .at_fault(AtFault::KeyStore)
        })
    }
}
