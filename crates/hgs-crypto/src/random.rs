//! Randomness as an argument.

use aws_lc_rs::rand::{SecureRandom, SystemRandom};

use crate::CryptoError;

/// A source of random octets.
///
/// The protocol crates never ask the system for randomness: programs pass [`System`], tests a
/// repeatable source.
pub trait Random: Send {
    /// Fills `octets` completely.
    ///
    /// # Errors
    /// When the source can't deliver; `octets` must not be used then.
    fn fill(&mut self, octets: &mut [u8]) -> Result<(), CryptoError>;
}

/// The operating system's generator. Only programs and services construct it.
#[derive(Debug, Default, Clone)]
pub struct System(SystemRandom);

impl System {
    /// A handle on the system's generator; cheap.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Random for System {
    fn fill(&mut self, octets: &mut [u8]) -> Result<(), CryptoError> {
        self.0.fill(octets).map_err(|_| CryptoError)
    }
}

/// Draws an array of `N` octets, for nonces, identifiers and serial numbers that are not secret.
///
/// # Errors
/// When the source fails.
pub fn array<const N: usize>(random: &mut dyn Random) -> Result<[u8; N], CryptoError> {
    let mut octets = [0; N];
    random.fill(&mut octets)?;
    Ok(octets)
}
