//! Cryptographic primitives named after their standards, secrets, and randomness as an argument.
//!
//! This is the only crate of OpenHGS that names a cryptographic library. It decides nothing: which
//! algorithm a document may use is the business of the formats above. What it promises is that a
//! key is checked once, when its type is made ([`rsa::PublicKey`] refuses weak moduli), that a
//! secret lives in [`SecretBytes`] and nowhere else, and that every failure is one plain error
//! without a reason an attacker could learn from.
//!
//! Randomness that ends up in a protocol (keys, nonces, serial numbers) comes from a [`Random`]
//! that the caller passes in. The seeds of RSA-OAEP and RSASSA-PSS and the blinding of private
//! operations are the library's own.

pub mod aes;
pub mod base64;
pub mod chacha20_poly1305;
pub mod ed25519;
pub mod hash;
pub mod hex;
pub mod p256;
pub mod random;
pub mod rsa;
mod secret;
pub mod text;
pub mod x25519;

pub use random::Random;
pub use secret::SecretBytes;

/// A primitive failed: the input is not authentic, or does not fit.
///
/// There is deliberately no detail: which check failed is what a padding oracle asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cryptographic operation failed")]
pub struct CryptoError;
