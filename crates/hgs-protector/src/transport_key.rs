//! The transport key: the secret inside a key protector.

use hgs_crypto::hash::{hkdf_sha256, hmac_sha256, verify_hmac_sha256};
use hgs_crypto::{CryptoError, Random, SecretBytes};

use crate::suite;

/// A transport key ([MS-KPS] 2.2.2.14): 32 secret octets, from which the state of a virtual machine is sealed.
///
/// Compared in constant time, wiped when dropped, never shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransportKey(SecretBytes);

/// The octets are not a transport key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TransportKeyProblem {
    /// Another length.
    #[error("a transport key has {} octets, not {found}", TransportKey::LENGTH)]
    Length {
        /// How many octets there are.
        found: usize,
    },
    /// Octets that no source of randomness gives ([`SecretBytes::is_degenerate`]).
    #[error("the transport key is not random: its octets repeat, or count up")]
    NotRandom,
}

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
        Self::from_secret(SecretBytes::random(Self::LENGTH, random)?).map_err(|_| CryptoError)
    }

    /// The key with these octets, which must be 32 that look random.
    ///
    /// # Errors
    /// [`TransportKeyProblem`].
    pub fn from_secret(octets: SecretBytes) -> Result<Self, TransportKeyProblem> {
        Self::unexamined(octets)?.examined()
    }

    /// A key of the right length. It must not be used before [`Self::examined`].
    pub(crate) fn unexamined(octets: SecretBytes) -> Result<Self, TransportKeyProblem> {
        match octets.len() {
            Self::LENGTH => Ok(Self(octets)),
            found => Err(TransportKeyProblem::Length { found }),
        }
    }

    /// The key, if it looks random.
    pub(crate) fn examined(self) -> Result<Self, TransportKeyProblem> {
        match self.0.is_degenerate() {
            true => Err(TransportKeyProblem::NotRandom),
            false => Ok(self),
        }
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
