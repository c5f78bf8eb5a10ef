//! Work with private keys, as an argument.

use hgs_crypto::SecretBytes;
use hgs_crypto::rsa::{OaepHash, SignatureScheme};

use crate::Thumbprint;

/// Does the work that needs a private key: in this process, in a token or in a TPM.
///
/// A computation that needs it takes `keys: &mut dyn KeyWork`, in the same way as it takes randomness. It names a key by
/// the thumbprint of its certificate.
pub trait KeyWork {
    /// Decrypts RSA-OAEP with an empty label.
    ///
    /// # Errors
    /// [`KeyError::Refused`] when the ciphertext was not made for this key with this hash.
    fn decrypt(
        &mut self,
        certificate: &Thumbprint,
        hash: OaepHash,
        ciphertext: &[u8],
    ) -> Result<SecretBytes, KeyError>;

    /// Signs `message`, which is hashed on the way. Callers verify the signature.
    ///
    /// # Errors
    /// When the key can't be used.
    fn sign(
        &mut self,
        certificate: &Thumbprint,
        scheme: SignatureScheme,
        message: &[u8],
    ) -> Result<Vec<u8>, KeyError>;
}

/// Why a private key did no work. Each variant names the party at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The request is at fault: the ciphertext was not made for this key. There is no detail,
    /// because which check failed is what a padding oracle asks.
    #[error("the ciphertext was not made for this key")]
    Refused,
    /// The place where the key lives is away or broken; the same request may succeed later.
    #[error("the key store is unavailable: {reason}")]
    Unavailable {
        /// The message of the key store.
        reason: String,
    },
    /// The place where the key lives can't do this operation with this key.
    #[error("the key store can't do this operation with this key")]
    Unsupported,
    /// The operator is at fault: no configured key belongs to this certificate.
    #[error("no private key of this certificate is held here")]
    NotHeld,
}
