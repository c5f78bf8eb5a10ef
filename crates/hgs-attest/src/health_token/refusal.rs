//! Why there is no token, and the table of section 14 of the protocol profile.

use hgs_pki::health::HealthCertificateError;
use hgs_pki::{CertificateError, Time};
use serde_json::json;

use super::Audience;
use super::request::TokenRequestError;
use crate::freshness::Nonce;

/// A code of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    /// This guardian issues no tokens.
    TokensNotEnabled,
    /// The body is no request.
    MalformedRequest,
    /// The nonce was not made by this guardian.
    NonceForeign,
    /// The nonce is too old.
    NonceExpired,
    /// The nonce was used before.
    NonceUsed,
    /// The health certificate fails a check.
    HealthCertificate,
    /// The signature is not by the identity key.
    RequestSignature,
    /// The host was revoked.
    HostRevoked,
    /// The host is not registered.
    HostNotRegistered,
    /// No tokens are issued for this audience.
    AudienceNotAllowed,
    /// What the host last attested says no longer that it is healthy.
    AttestationOutdated,
    /// The host asks too often.
    TooManyRequests,
    /// Something that is needed is away.
    Unavailable,
    /// Anything else.
    Internal,
}

impl Code {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 14] = [
        Self::TokensNotEnabled,
        Self::MalformedRequest,
        Self::NonceForeign,
        Self::NonceExpired,
        Self::NonceUsed,
        Self::HealthCertificate,
        Self::RequestSignature,
        Self::HostRevoked,
        Self::HostNotRegistered,
        Self::AudienceNotAllowed,
        Self::AttestationOutdated,
        Self::TooManyRequests,
        Self::Unavailable,
        Self::Internal,
    ];

    /// Its name in replies.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().0
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(self) -> u16 {
        self.row().1
    }

    /// Whether another request, made anew, can succeed.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        self.row().2
    }

    /// Its name in audit records and metrics, where attestation has names of its own.
    #[must_use]
    pub fn record_name(self) -> &'static str {
        self.row().3
    }

    /// Whether a new nonce is what is needed.
    #[must_use]
    pub fn needs_new_nonce(self) -> bool {
        matches!(
            self,
            Self::NonceForeign | Self::NonceExpired | Self::NonceUsed
        )
    }

    /// Whether a new attestation is what is needed.
    #[must_use]
    pub fn needs_new_attestation(self) -> bool {
        matches!(self, Self::HealthCertificate | Self::AttestationOutdated)
    }

    fn row(self) -> (&'static str, u16, bool, &'static str) {
        macro_rules! row {
            ($name:literal, $status:literal, $retryable:literal) => {
                ($name, $status, $retryable, concat!("health-token-", $name))
            };
        }
        match self {
            Self::TokensNotEnabled => row!("tokens-not-enabled", 404, false),
            Self::MalformedRequest => row!("malformed-request", 400, false),
            Self::NonceForeign => row!("nonce-foreign", 403, true),
            Self::NonceExpired => row!("nonce-expired", 403, true),
            Self::NonceUsed => row!("nonce-used", 403, true),
            Self::HealthCertificate => row!("health-certificate", 403, true),
            Self::RequestSignature => row!("request-signature", 403, false),
            Self::HostRevoked => row!("host-revoked", 403, false),
            Self::HostNotRegistered => row!("host-not-registered", 403, false),
            Self::AudienceNotAllowed => row!("audience-not-allowed", 403, false),
            Self::AttestationOutdated => row!("attestation-outdated", 403, true),
            Self::TooManyRequests => row!("too-many-requests", 429, true),
            Self::Unavailable => row!("unavailable", 503, true),
            Self::Internal => row!("internal", 500, false),
        }
    }
}

/// Why there is no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefusal {
    /// The operator has not enabled them.
    #[error(
        "this guardian issues no health tokens: `[health_token]` in its configuration has no issuer"
    )]
    NotEnabled,
    /// The body is no request.
    #[error("the request is malformed: {0}")]
    Malformed(#[from] TokenRequestError),
    /// The nonce is of another service.
    #[error("the nonce was not made by this guardian")]
    NonceForeign,
    /// The nonce is too old, or was made in the future.
    #[error("the nonce was made at {made}; it is {now} here")]
    NonceExpired {
        /// When it was made, by the clock of the node that made it.
        made: Time,
        /// The time of the check.
        now: Time,
    },
    /// The nonce was used before.
    #[error("the nonce was used before")]
    NonceUsed,
    /// The health certificate is none.
    #[error("the health certificate is malformed: {0}")]
    Certificate(#[from] CertificateError),
    /// The health certificate fails a check.
    #[error("the health certificate does not hold: {0}")]
    HealthCertificate(#[from] HealthCertificateError),
    /// The health certificate is by a signer of another cluster.
    #[error(
        "the health certificate was issued by another cluster, which issues the tokens of its hosts"
    )]
    OtherCluster,
    /// The signature is not by the identity key over this request.
    #[error(
        "the signature of the health certificate's key over issuer, audience, nonce and certificate does not verify"
    )]
    Signature,
    /// The host was revoked.
    #[error("the host was revoked")]
    HostRevoked,
    /// The host is not registered.
    #[error("the host is not registered")]
    HostNotRegistered,
    /// The audience is not in the configuration.
    #[error(
        "tokens for the audience `{0}` are not issued here: `audiences` in `[health_token]` does not have it"
    )]
    AudienceNotAllowed(Audience),
    /// The host was refused since the certificate was issued.
    #[error("the last attestation of the host was refused at {0}")]
    RefusedSince(Time),
    /// What hosts are judged by has changed since.
    #[error("what the host is judged by has changed since it attested at {0}")]
    PoliciesChanged(Time),
    /// The certificate ends before the token could begin.
    #[error("the health certificate ends at {0}")]
    CertificateEnds(Time),
    /// The host has used many nonces within a minute.
    #[error("the host has asked for too many tokens within a minute")]
    TooManyRequests,
    /// Something that is needed is away.
    #[error("the service can't issue tokens at the moment")]
    Unavailable,
    /// Anything else.
    #[error("an internal error")]
    Internal,
}

impl TokenRefusal {
    /// Its code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::NotEnabled => Code::TokensNotEnabled,
            Self::Malformed(_) => Code::MalformedRequest,
            Self::NonceForeign => Code::NonceForeign,
            Self::NonceExpired { .. } => Code::NonceExpired,
            Self::NonceUsed => Code::NonceUsed,
            Self::Certificate(_)
            | Self::HealthCertificate(_)
            | Self::OtherCluster
            | Self::CertificateEnds(_) => Code::HealthCertificate,
            Self::Signature => Code::RequestSignature,
            Self::HostRevoked => Code::HostRevoked,
            Self::HostNotRegistered => Code::HostNotRegistered,
            Self::AudienceNotAllowed(_) => Code::AudienceNotAllowed,
            Self::RefusedSince(_) | Self::PoliciesChanged(_) => Code::AttestationOutdated,
            Self::TooManyRequests => Code::TooManyRequests,
            Self::Unavailable => Code::Unavailable,
            Self::Internal => Code::Internal,
        }
    }

    /// The body of the reply. `nonce` is one for the next request, where another request can succeed.
    #[must_use]
    pub fn reply(&self, nonce: Option<&Nonce>) -> Vec<u8> {
        let code = self.code();
        let mut body = json!({
            "Retryable": code.is_retryable(),
            "OpenHgs": {"Code": code.name(), "Message": self.to_string()},
        });
        if let Some(nonce) = nonce {
            body["Nonce"] = nonce.to_header().into();
        }
        body.to_string().into_bytes()
    }
}
