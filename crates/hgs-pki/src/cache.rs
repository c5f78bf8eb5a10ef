//! Bounded memories of expensive work, passed as arguments and shared between threads.

mod clock_cache;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hgs_crypto::CryptoError;
use hgs_crypto::hash::{Sha256Digest, sha256, sha256_of};
use hgs_crypto::rsa::{PublicKey, SignatureScheme};

use self::clock_cache::ClockCache;
use crate::{Certificate, CertificateError, MAX_CERTIFICATE_OCTETS, NotIssued};

/// Certificates by the digest of their DER, so that none that is in use is parsed twice.
///
/// Refusals are not remembered: strangers can make any number of them.
///
/// Cloning shares the contents.
#[derive(Debug, Clone)]
pub struct CertificateCache(Arc<Counted<Certificate>>);

/// Octets of memory that a certificate of the usual size takes: 1 KiB of DER, a key of 2048 bits.
const USUAL_MEMORY: usize = 8 * 1024;

/// Signatures that were verified, by a digest of everything that was verified.
///
/// Only successes are remembered, and what is compared are the octets of the signature too, so
/// a signature that was not verified here is never accepted.
#[derive(Debug)]
pub struct SignatureCache(Counted<()>);

impl CertificateCache {
    /// A cache of at most `capacity` certificates of the usual size, each of about 8 KiB of memory; of fewer that are
    /// larger.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self(Arc::new(Counted::new(capacity)))
    }

    /// As [`Certificate::from_der`]; a known certificate is only cloned.
    pub fn parse(&self, der: &[u8]) -> Result<Certificate, CertificateError> {
        if der.len() > MAX_CERTIFICATE_OCTETS {
            return Err(CertificateError::TooLarge(der.len()));
        }
        let digest = sha256(der);
        match self.0.look_up(&digest) {
            Some(certificate) => Ok(certificate),
            None => {
                let certificate = Certificate::from_der(der)?;
                self.insert(digest, certificate.clone());
                Ok(certificate)
            }
        }
    }

    /// As [`Self::parse`], but the key of a certificate that is not known is not searched for weaknesses yet, and nothing
    /// is remembered: for certificates that come with the signatures that speak for them. Once those have verified,
    /// [`Self::examine`] it.
    pub fn parse_unexamined(&self, der: &[u8]) -> Result<Certificate, CertificateError> {
        if der.len() > MAX_CERTIFICATE_OCTETS {
            return Err(CertificateError::TooLarge(der.len()));
        }
        match self.0.look_up(&sha256(der)) {
            Some(certificate) => Ok(certificate),
            None => Certificate::unexamined_from_der(der),
        }
    }

    /// Searches the key of a certificate for weaknesses, unless it is known, and remembers it.
    ///
    /// # Errors
    /// [`CertificateError::Key`].
    pub fn examine(&self, certificate: &Certificate) -> Result<(), CertificateError> {
        let digest = *certificate.thumbprint().as_bytes();
        if self.0.lock().known.get(&digest).is_none() {
            certificate.public_key().examine()?;
            self.insert(digest, certificate.clone());
        }
        Ok(())
    }

    fn insert(&self, digest: Sha256Digest, certificate: Certificate) {
        let weight = certificate.memory().div_ceil(USUAL_MEMORY);
        self.0.lock().known.insert(digest, certificate, weight);
    }

    /// How often a certificate was parsed because it was not known.
    #[must_use]
    pub fn misses(&self) -> u64 {
        self.0.misses()
    }
}

impl SignatureCache {
    /// A cache of at most `capacity` signatures.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self(Counted::new(capacity))
    }

    /// As [`PublicKey::verify`]; a known signature is only looked up.
    ///
    /// # Errors
    /// When the signature is not by this key over this message under this scheme.
    pub fn verify(
        &self,
        key: &PublicKey,
        scheme: SignatureScheme,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), CryptoError> {
        let digest = signature_digest(key, scheme, &sha256(message), signature);
        self.0
            .get_or_try(digest, || key.verify(scheme, message, signature))
    }

    /// As [`Self::verify`] over the DER of `certificate`, whose digest is known: its thumbprint.
    ///
    /// # Errors
    /// When the signature is not by this key over this certificate under this scheme.
    pub fn verify_over_certificate(
        &self,
        key: &PublicKey,
        scheme: SignatureScheme,
        certificate: &Certificate,
        signature: &[u8],
    ) -> Result<(), CryptoError> {
        let message = certificate.thumbprint();
        let digest = signature_digest(key, scheme, message.as_bytes(), signature);
        self.0
            .get_or_try(digest, || key.verify(scheme, certificate.der(), signature))
    }

    /// How often a signature was verified because it was not known.
    #[must_use]
    pub fn misses(&self) -> u64 {
        self.0.misses()
    }
}

impl Certificate {
    /// As [`Self::verify_issued_by`], without repeating an RSA verification that `cache` has seen.
    pub fn verify_issued_by_cached(
        &self,
        issuer: &Self,
        cache: &SignatureCache,
    ) -> Result<(), NotIssued> {
        self.verify_issued_by_with(issuer, |scheme, message, signature| {
            cache.verify(issuer.public_key(), scheme, message, signature)
        })
    }
}

/// All parts but the last have a fixed length, so no two different inputs are hashed as one.
fn signature_digest(
    key: &PublicKey,
    scheme: SignatureScheme,
    message: &Sha256Digest,
    signature: &[u8],
) -> Sha256Digest {
    let scheme: &[u8] = match scheme {
        SignatureScheme::Pkcs1Sha256 => &[1],
        SignatureScheme::PssSha256 => &[2],
    };
    sha256_of(&[key.digest(), scheme, message, signature])
}

/// A cache that counts how often it did not help.
#[derive(Debug)]
struct Counted<V>(Mutex<State<V>>);

#[derive(Debug)]
struct State<V> {
    known: ClockCache<V>,
    misses: u64,
}

impl<V: Clone> Counted<V> {
    fn new(capacity: usize) -> Self {
        Self(Mutex::new(State {
            known: ClockCache::new(capacity),
            misses: 0,
        }))
    }

    /// The work is done without the lock: threads that miss at once do it more than once, rather
    /// than wait for each other.
    fn get_or_try<E>(
        &self,
        key: Sha256Digest,
        work: impl FnOnce() -> Result<V, E>,
    ) -> Result<V, E> {
        if let Some(value) = self.look_up(&key) {
            return Ok(value);
        }
        let value = work()?;
        self.lock().known.insert(key, value.clone(), 1);
        Ok(value)
    }

    fn look_up(&self, key: &Sha256Digest) -> Option<V> {
        let mut state = self.lock();
        let found = state.known.get(key).cloned();
        if found.is_none() {
            state.misses += 1;
        }
        found
    }

    fn misses(&self) -> u64 {
        self.lock().misses
    }

    fn lock(&self) -> MutexGuard<'_, State<V>> {
        // Nothing between lock and unlock can panic half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
