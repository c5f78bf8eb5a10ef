//! Private keys as places where work is done: software keys, PFX and PEM files, sealing at rest.
//!
//! A [`PrivateKey`] decrypts and signs; it does not give its octets away. Protocols suspend when
//! they need one ("decrypt this under that key") and whoever drives them asks a place: a
//! [`SoftwareKey`] here, a token or a TPM elsewhere. Only [`SoftwareKey`] can be exported, and
//! only because its owner asked for a file.
//!
//! What this crate does *not* do: it opens no files and keeps no state. Files and the database
//! belong to `hgs-store`; [`seal`] only turns a secret into octets that may lie there.

pub mod age;
pub mod key_reference;
pub mod pem;
pub mod pfx;
pub mod pkcs11_uri;
pub mod seal;
mod software;

use std::fmt::Debug;

use hgs_crypto::SecretBytes;
use hgs_crypto::rsa::{OaepHash, PublicKey, SignatureScheme};

pub use key_reference::{KeyReference, Pkcs11Uris};
pub use pkcs11_uri::{PinSource, Pkcs11Uri};
pub use software::{SoftwareKey, UnsealError};

/// A place where work with one RSA private key is done.
///
/// Calls may block (see [`PrivateKey::is_blocking`]) and come from several threads at once.
pub trait PrivateKey: Send + Sync + Debug {
    /// The public half.
    fn public(&self) -> &PublicKey;

    /// Decrypts RSA-OAEP with an empty label.
    ///
    /// # Errors
    /// [`KeyError::Refused`] when the ciphertext was not made for this key with this hash.
    fn decrypt(&self, hash: OaepHash, ciphertext: &[u8]) -> Result<SecretBytes, KeyError>;

    /// Signs `message`, which is hashed here.
    ///
    /// # Errors
    /// See [`KeyError`].
    fn sign(&self, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, KeyError>;

    /// What this place can do. A device is asked when nobody has asked it before.
    ///
    /// # Errors
    /// [`KeyError::Unavailable`] when a device has to be asked and is away.
    fn capabilities(&self) -> Result<Capabilities, KeyError>;

    /// Whether the work waits for a device and belongs on a thread that may block.
    fn is_blocking(&self) -> bool;
}

/// What a place can do with its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Decrypts OAEP with SHA-256.
    pub oaep_sha256: bool,
    /// Decrypts OAEP with SHA-1.
    pub oaep_sha1: bool,
    /// Signs RSASSA-PKCS1-v1_5 with SHA-256.
    pub pkcs1_sha256: bool,
    /// Signs RSASSA-PSS with SHA-256.
    pub pss_sha256: bool,
}

/// Why a private key did no work, by the party at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The request is at fault: the ciphertext was not made for this key. There is no detail,
    /// because which check failed is what a padding oracle asks.
    #[error("the ciphertext was not made for this key")]
    Refused,
    /// The place where the key lives is away or broken; the same request may succeed later.
    #[error("the key store is unavailable: {reason}")]
    Unavailable {
        /// What the key store says.
        reason: String,
    },
    /// The place can't do this operation with this key ([`Capabilities`] says so beforehand).
    #[error("the key store can't do this operation with this key")]
    Unsupported,
}
