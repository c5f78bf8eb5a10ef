//! Whose request it is: what is decided without knowing the hosts.

use hgs_crypto::hash::Sha256Digest;
use hgs_pki::health::{HealthCertificate, HealthKind, TrustedSigners, VerifiedHealthCertificate};
use hgs_pki::{Seconds, Time};

use super::nonce::TokenNonceKey;
use super::refusal::TokenRefusal;
use super::request::TokenRequest;
use super::{Audience, Issuer};
use crate::freshness::Nonce;

/// A request, and what it is decided by.
#[derive(Debug, Clone, Copy)]
pub struct TokenAttempt<'a> {
    /// The body.
    pub body: &'a [u8],
    /// Who would issue the token.
    pub issuer: &'a Issuer,
    /// The key of the nonces.
    pub nonces: &'a TokenNonceKey,
    /// Whose health certificates are believed.
    pub signers: &'a TrustedSigners,
    /// The time.
    pub now: Time,
    /// How far the clocks of signers may be ahead.
    pub skew: Seconds,
}

/// A request that was made by the host with the identity key of this health certificate, for this issuer and this audience, in the last
/// minute. It does not say that the host may have a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvedRequest {
    certificate: VerifiedHealthCertificate,
    audience: Audience,
    nonce: Nonce,
    made: Time,
    signed: Sha256Digest,
}

/// Whose request this is. The cheap checks come first; whether the nonce was used before is for the caller to know.
///
/// # Errors
/// The first check that fails. Nobody has proved to be a host then.
pub fn prove(attempt: &TokenAttempt<'_>) -> Result<ProvedRequest, TokenRefusal> {
    let request = TokenRequest::parse(attempt.body)?;
    let made = attempt.nonces.check(&request.nonce, attempt.now)?;
    let certificate = HealthCertificate::from_der(&request.certificate)?;
    let certificate = certificate.verify(
        attempt.signers,
        HealthKind::Signing,
        attempt.now,
        attempt.skew,
    )?;
    if !certificate.is_from_own_signer() {
        return Err(TokenRefusal::OtherCluster);
    }
    let key = certificate.certificate().public_key();
    let signed = request.verify(attempt.issuer, key);
    let signed = signed.ok_or(TokenRefusal::Signature)?;
    Ok(ProvedRequest {
        signed,
        made,
        certificate,
        audience: request.audience,
        nonce: request.nonce,
    })
}

impl ProvedRequest {
    /// The health certificate.
    #[must_use]
    pub fn certificate(&self) -> &VerifiedHealthCertificate {
        &self.certificate
    }

    /// For whom the token is to be.
    #[must_use]
    pub fn audience(&self) -> &Audience {
        &self.audience
    }

    /// The nonce, which is to be used once.
    #[must_use]
    pub fn nonce(&self) -> &Nonce {
        &self.nonce
    }

    /// When the nonce was made: the time from which the token counts.
    #[must_use]
    pub fn made(&self) -> Time {
        self.made
    }

    /// The identifier of the token: 128 bits of the digest of what was signed.
    #[must_use]
    pub fn token_id(&self) -> String {
        let (beginning, _) = self.signed.split_at(16);
        hgs_crypto::hex::encode(beginning)
    }
}
