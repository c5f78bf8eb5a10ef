use std::io::Write as _;
use std::os::fd::OwnedFd;

use hgs_crypto::hash::hkdf_sha256;
use hgs_crypto::{CryptoError, Random, SecretBytes};
use rustix::pipe::{PipeFlags, pipe_with};

/// A key for the state of a TPM: AES-256 in CBC mode with an HMAC, as swtpm does it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateKey(SecretBytes);

/// A key of another length than AES-256 has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key for the state of a TPM has {found} octets, not 32")]
pub struct KeyLengthError {
    /// How many there are.
    pub found: usize,
}

impl StateKey {
    /// Octets of a key.
    pub const LENGTH: usize = 32;

    /// Takes 32 octets as a key.
    ///
    /// # Errors
    /// When there are more or fewer.
    pub fn new(octets: SecretBytes) -> Result<Self, KeyLengthError> {
        match octets.len() {
            Self::LENGTH => Ok(Self(octets)),
            found => Err(KeyLengthError { found }),
        }
    }

    /// The key of the generation that a protector belongs to: HKDF-SHA-256 of its transport key, without salt, with
    /// info = ASCII `OpenHGS vTPM state key`.
    ///
    /// # Errors
    /// When the cryptographic library fails.
    pub fn of_transport_key(transport_key: &SecretBytes) -> Result<Self, CryptoError> {
        hkdf_sha256(transport_key, &[], b"OpenHGS vTPM state key", Self::LENGTH).map(Self)
    }

    /// The key under which the state of a running TPM goes to another host: HKDF-SHA-256 of the transport key of the protector
    /// that both hosts have released, without salt, with info = ASCII `OpenHGS vTPM migration key`.
    ///
    /// # Errors
    /// When the cryptographic library fails.
    pub fn migration_key_of_transport_key(
        transport_key: &SecretBytes,
    ) -> Result<Self, CryptoError> {
        let info = b"OpenHGS vTPM migration key";
        hkdf_sha256(transport_key, &[], info, Self::LENGTH).map(Self)
    }

    /// Draws a key, as for one move of a state.
    ///
    /// # Errors
    /// When the source of randomness fails.
    pub fn random(random: &mut dyn Random) -> Result<Self, CryptoError> {
        SecretBytes::random(Self::LENGTH, random).map(Self)
    }

    /// The octets.
    #[must_use]
    pub fn secret(&self) -> &SecretBytes {
        &self.0
    }

    /// A pipe that holds the key and then ends. Its buffer has room for it, so writing does not wait for a reader.
    pub(super) fn in_pipe(&self) -> std::io::Result<OwnedFd> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        std::fs::File::from(writer).write_all(self.0.expose())?;
        Ok(reader)
    }
}
