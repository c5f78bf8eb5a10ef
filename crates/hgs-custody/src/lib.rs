//! Private keys as places where work is done: software keys, PFX and PEM files, sealing at rest.
//!
//! A [`PrivateKey`] decrypts and signs; it does not give its octets away. Behind it is a [`SoftwareKey`]
//! here, a token or a TPM elsewhere. Only [`SoftwareKey`] can be exported, and only because its owner
//! asked for a file. Protocols take the keys of many certificates as one argument, [`KeyWork`]:
//! [`HeldKeys`] is the plain way to make one.
//!
//! What this crate does *not* do: it opens no files and keeps no state. Files and the database
//! belong to `hgs-store`; [`seal`] only turns a secret into octets that may lie there.

pub mod age;
mod ber;
pub mod bundle;
mod certify;
mod held_keys;
pub mod key_reference;
pub mod pem;
pub mod pfx;
pub mod pkcs11_uri;
mod pkcs12;
pub mod seal;
mod software;

use std::fmt::Debug;

use hgs_crypto::SecretBytes;
use hgs_crypto::rsa::{OaepHash, PublicKey, SignatureScheme};

pub use bundle::{Bundle, BundleError};
pub use certify::{CertifyError, certify, self_signed};
pub use held_keys::HeldKeys;
pub use hgs_pki::{KeyError, KeyWork};
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
    fn sign(&self, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, KeyError>;

    /// What this place can do. A device is asked if it was not asked before.
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
