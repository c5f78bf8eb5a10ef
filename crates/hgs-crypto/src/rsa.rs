//! RSA of RFC 8017: OAEP, RSASSA-PKCS1-v1_5 and RSASSA-PSS, on keys that were checked once.

pub mod oaep;
mod private;
mod public;
mod spki;
mod weak;

pub use oaep::decode_oaep;
pub use private::{PrivateKey, PrivateKeyError};
pub use public::{PublicKey, PublicKeyError};
pub use weak::Weakness;

/// Bits of the smallest modulus that is accepted.
pub const MIN_MODULUS_BITS: usize = 2048;
/// Bits of the largest modulus that is accepted; above it one operation costs too much.
pub const MAX_MODULUS_BITS: usize = 8192;

/// The hash of RSA-OAEP, used for the label and for MGF1 alike; the label is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OaepHash {
    /// SHA-1 with MGF1-SHA-1, for tokens that can do nothing else.
    Sha1,
    /// SHA-256 with MGF1-SHA-256.
    Sha256,
}

/// A signature scheme, always with SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SignatureScheme {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Pkcs1Sha256,
    /// RSASSA-PSS with SHA-256, MGF1-SHA-256 and a salt of 32 octets.
    PssSha256,
}
