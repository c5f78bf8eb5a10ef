//! The transport key: the secret inside a key protector.

use hgs_crypto::hash::{hkdf_sha256, hmac_sha256, verify_hmac_sha256};
use hgs_crypto::{CryptoError, Random, SecretBytes};

use crate::suite;

/// A transport key ([MS-KPS] 2.2.2.14): 32 secret octets, from which the state of a virtual machine is sealed.
///
/// Compared in constant time, wiped when dropped, never shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransportKey(SecretBytes);

/// The MAC of `TransportKeySignature`, always in full length.
pub(crate) type Mac = [u8; 32];

impl TransportKey {
    /// Octets of a transport key.
    pub const LENGTH: usize = 32;

    /// Draws a fresh key.
    ///
    /// # Errors
    /// When the source of randomness fails.
    pub fn random(random: &mut dyn Random) -> Result<Self, CryptoError> {
        SecretBytes::random(Self::LENGTH, random).map(Self)
    }

    /// The key with these octets; `None` unless there are 32.
    #[must_use]
    pub fn from_secret(octets: SecretBytes) -> Option<Self> {
        (octets.len() == Self::LENGTH).then_some(Self(octets))
    }

    /// A key of zeros, to do work with where there is no key.
    pub(crate) fn zero() -> Self {
        Self(SecretBytes::new(vec![0; Self::LENGTH]))
    }

    /// The octets.
    #[must_use]
    pub fn secret(&self) -> &SecretBytes {
        &self.0
    }

    /// The MAC over `signed`, the canonical form of `Wrappings`.
    pub(crate) fn mac(&self, signed: &[u8]) -> Result<Mac, CryptoError> {
        Ok(hmac_sha256(&self.mac_key()?, &[signed]))
    }

    /// Checks the MAC over `signed` in constant time.
    pub(crate) fn verify_mac(&self, signed: &[u8], mac: &Mac) -> Result<(), CryptoError> {
        verify_hmac_sha256(&self.mac_key()?, signed, mac)
    }

    fn mac_key(&self) -> Result<SecretBytes, CryptoError> {
        hkdf_sha256(&self.0, b"", suite::HKDF_INFO, Self::LENGTH)
    }
}
