//! A key that was created in a TPM and attested, as a place where work is done.

use std::sync::atomic::{AtomicBool, Ordering};

use hgs_crypto::SecretBytes;
use hgs_crypto::rsa::{OaepHash, PublicKey, PublicKeyError, SignatureScheme};
use hgs_custody::{Capabilities, KeyError, PrivateKey};
use hgs_tcg::tpm::{KeyUseError, PcrSelection, PrivateAndPublic, StorageRootKey};

use crate::device::Device;
use crate::error::TpmError;
use crate::journal::Journal;
use crate::tpm::Tpm;

/// A key under a storage root key that works while PCRs have the values that they had when it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttestedKey {
    /// The key as its TPM has encrypted it.
    pub blob: PrivateAndPublic,
    /// The PCRs of its policy.
    pub pcrs: PcrSelection,
    /// Its parent as it was when the key was attested: sessions are salted to it.
    pub storage_root_key: StorageRootKey,
}

/// An attested key and where its TPM is.
#[derive(Debug)]
pub struct TpmKey {
    key: AttestedKey,
    public: PublicKey,
    device: Device,
    journal: Option<Journal>,
    /// Whether the TPM has said that it will never use the key again.
    is_void: AtomicBool,
}

impl TpmKey {
    /// The key `key` of the TPM at `device`, which is opened for each use.
    ///
    /// # Errors
    /// When the key is weak.
    pub fn new(
        key: AttestedKey,
        device: Device,
        journal: Option<Journal>,
    ) -> Result<Self, PublicKeyError> {
        Ok(Self {
            public: key.blob.public.rsa_key()?,
            key,
            device,
            journal,
            is_void: AtomicBool::new(false),
        })
    }

    /// The key.
    #[must_use]
    pub fn attested(&self) -> &AttestedKey {
        &self.key
    }

    /// Whether a use of the key has shown that a new one has to be attested: PCRs have changed, or the TPM was cleared.
    #[must_use]
    pub fn is_void(&self) -> bool {
        self.is_void.load(Ordering::Relaxed)
    }

    fn error(&self, error: TpmError) -> KeyError {
        if error.needs_new_key() {
            self.is_void.store(true, Ordering::Relaxed);
        }
        match error {
            TpmError::KeyUse(KeyUseError::Ciphertext) => KeyError::Refused,
            error => KeyError::Unavailable {
                reason: error.to_string(),
            },
        }
    }

    fn open(&self) -> Result<Tpm, TpmError> {
        Tpm::open(&self.device, self.journal.clone())
    }
}

impl PrivateKey for TpmKey {
    fn public(&self) -> &PublicKey {
        &self.public
    }

    fn decrypt(&self, hash: OaepHash, ciphertext: &[u8]) -> Result<SecretBytes, KeyError> {
        if hash != OaepHash::Sha256 {
            return Err(KeyError::Unsupported);
        }
        if ciphertext.len() != self.public.modulus_octets() {
            return Err(KeyError::Refused);
        }
        let plaintext = self
            .open()
            .and_then(|mut tpm| tpm.decrypt(&self.key, ciphertext));
        plaintext.map_err(|error| self.error(error))
    }

    fn sign(&self, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        if scheme != SignatureScheme::Pkcs1Sha256 {
            return Err(KeyError::Unsupported);
        }
        let signature = self.open().and_then(|mut tpm| tpm.sign(&self.key, message));
        signature.map_err(|error| self.error(error))
    }

    fn capabilities(&self) -> Result<Capabilities, KeyError> {
        // TPMA_OBJECT: bit 17 is decrypt, bit 18 sign.
        let has = |bit: u32| self.key.blob.public.attributes() & (1 << bit) != 0;
        Ok(Capabilities {
            oaep_sha256: has(17),
            oaep_sha1: false,
            pkcs1_sha256: has(18),
            pss_sha256: false,
        })
    }

    fn is_blocking(&self) -> bool {
        true
    }
}
