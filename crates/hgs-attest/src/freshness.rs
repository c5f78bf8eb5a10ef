//! Proof that an attestation was made now (section 7 of the protocol profile).
//!
//! An `AttestationRequest` in host-key mode has no place for a nonce, so a captured one could be sent again. Therefore a
//! server hands out a *nonce* in a header, and a host returns it in another header with a signature of its host key over
//! the nonce and the body that it sends. The server keeps nothing: a nonce holds the time at which it was made, and a MAC
//! that every node of the service can check.

use hgs_crypto::hash::{HmacKey, sha256};
use hgs_crypto::rsa::{PublicKey, SignatureScheme};
use hgs_crypto::{SecretBytes, base64};
use hgs_pki::{Seconds, Time};

/// The header in which a server hands out a nonce: Base64 of its octets.
pub const NONCE_HEADER: &str = "openhgs-attestation-nonce";

/// The header in which a host returns it: Base64 of the nonce, a full stop, Base64 of the signature.
pub const PROOF_HEADER: &str = "openhgs-attestation-proof";

/// How long a nonce is accepted.
pub const NONCE_LIFETIME: Seconds = Seconds::from_minutes(5);

/// How far the clock of the node that made a nonce may be ahead of the one that checks it.
pub const NONCE_SKEW: Seconds = Seconds::new(60);

/// What the signed octets begin with. What a host key signs in the body begins with an ASN.1 SEQUENCE, so neither
/// signature can stand for the other.
const LABEL: &[u8] = b"OpenHGS attestation freshness 1\0";

/// What the MAC of a nonce is over, before the time.
const NONCE_LABEL: &[u8] = b"OpenHGS attestation nonce 1\0";

/// Octets of a nonce of any server, at most.
const MAX_NONCE: usize = 64;

/// Octets of a signature, at most: that of an RSA key of 8192 bits.
const MAX_SIGNATURE: usize = 1024;

/// The first octet of the nonces that are made here.
const VERSION: u8 = 1;

/// A nonce. A host does not look into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nonce(Vec<u8>);

/// The key under which a service makes its nonces, the same on each of its nodes.
#[derive(Debug)]
pub struct NonceKey(HmacKey);

/// A nonce that was returned with a signature, of which nothing is verified yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreshnessProof {
    nonce: Nonce,
    signature: Vec<u8>,
}

/// Why a request is not shown to have been made now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FreshnessError {
    /// The value of a header is not of its form.
    #[error("the header {header} is malformed")]
    Malformed {
        /// Which header.
        header: &'static str,
    },
    /// There is no proof, and one is needed.
    #[error("the request does not return a nonce, which is required of this host")]
    Missing,
    /// The nonce was not made by this service.
    #[error("the nonce was not made by this guardian")]
    Foreign,
    /// The nonce is too old, or was made in the future.
    #[error("the nonce was made at {made}; it is {now} here")]
    Expired {
        /// When it was made, by the clock of the node that made it.
        made: Time,
        /// The time of the check.
        now: Time,
    },
    /// The signature is not the host key's over this nonce and this body.
    #[error("the host key's signature over the nonce and the request does not verify")]
    Signature,
}

impl Nonce {
    /// A nonce that was just made.
    pub(crate) fn of(octets: Vec<u8>) -> Self {
        Self(octets)
    }

    pub(crate) fn octets(&self) -> &[u8] {
        &self.0
    }

    /// Reads the value of [`NONCE_HEADER`].
    ///
    /// # Errors
    ///
    /// [`FreshnessError::Malformed`].
    pub fn from_header(value: &str) -> Result<Self, FreshnessError> {
        decoded(value, MAX_NONCE)
            .map(Self)
            .ok_or(FreshnessError::Malformed {
                header: NONCE_HEADER,
            })
    }

    /// The value of [`NONCE_HEADER`].
    #[must_use]
    pub fn to_header(&self) -> String {
        base64::encode(&self.0)
    }

    /// What the host key is to sign, for a request with that body.
    #[must_use]
    pub fn signed_octets(&self, body: &[u8]) -> Vec<u8> {
        [LABEL, &sha256(&self.0), &sha256(body)].concat()
    }
}

impl NonceKey {
    /// `secret` serves for nothing else.
    #[must_use]
    pub fn new(secret: &SecretBytes) -> Self {
        Self(HmacKey::new(secret))
    }

    /// The nonce of this second.
    #[must_use]
    pub fn nonce(&self, now: Time) -> Nonce {
        let made = now.unix().to_be_bytes();
        let tag = self.0.tag(&[NONCE_LABEL, &made]);
        Nonce([&[VERSION][..], &made, &tag].concat())
    }

    /// Checks that `nonce` was made under this key, and is neither older than [`NONCE_LIFETIME`] nor of the future.
    ///
    /// # Errors
    ///
    /// [`FreshnessError::Foreign`] or [`FreshnessError::Expired`].
    pub fn check(&self, nonce: &Nonce, now: Time) -> Result<(), FreshnessError> {
        let Some(([VERSION, made @ ..], tag)) = nonce.0.split_first_chunk::<9>() else {
            return Err(FreshnessError::Foreign);
        };
        self.0
            .verify(&[NONCE_LABEL, made], tag)
            .map_err(|_| FreshnessError::Foreign)?;
        let made = Time::from_unix(i64::from_be_bytes(*made));
        let latest = now.checked_add(NONCE_SKEW).unwrap_or(Time::MAX);
        match now.since(made) {
            Some(age) if age > NONCE_LIFETIME => Err(FreshnessError::Expired { made, now }),
            None if made > latest => Err(FreshnessError::Expired { made, now }),
            _ => Ok(()),
        }
    }
}

impl FreshnessProof {
    /// A proof that was just made.
    #[must_use]
    pub fn new(nonce: Nonce, signature: Vec<u8>) -> Self {
        Self { nonce, signature }
    }

    /// Reads the value of [`PROOF_HEADER`].
    ///
    /// # Errors
    ///
    /// [`FreshnessError::Malformed`].
    pub fn from_header(value: &str) -> Result<Self, FreshnessError> {
        let parts = value.split_once('.').and_then(|(nonce, signature)| {
            let signature = decoded(signature, MAX_SIGNATURE)?;
            Some((Nonce(decoded(nonce, MAX_NONCE)?), signature))
        });
        let (nonce, signature) = parts.ok_or(FreshnessError::Malformed {
            header: PROOF_HEADER,
        })?;
        Ok(Self { nonce, signature })
    }

    /// The value of [`PROOF_HEADER`].
    #[must_use]
    pub fn to_header(&self) -> String {
        let signature = base64::encode(&self.signature);
        format!("{}.{signature}", self.nonce.to_header())
    }

    /// Checks the nonce, then the signature, for a request with that body.
    ///
    /// # Errors
    ///
    /// The first that does not hold.
    pub fn verify(
        &self,
        body: &[u8],
        host_key: &PublicKey,
        nonces: &NonceKey,
        now: Time,
    ) -> Result<(), FreshnessError> {
        nonces.check(&self.nonce, now)?;
        let message = self.nonce.signed_octets(body);
        host_key
            .verify(SignatureScheme::Pkcs1Sha256, &message, &self.signature)
            .map_err(|_| FreshnessError::Signature)
    }
}

/// The octets of a Base64 text, if there are any and not too many.
fn decoded(text: &str, limit: usize) -> Option<Vec<u8>> {
    let longest = limit.div_ceil(3) * 4;
    if text.len() > longest {
        return None;
    }
    let octets = base64::decode(text).ok()?;
    (1..=limit).contains(&octets.len()).then_some(octets)
}
