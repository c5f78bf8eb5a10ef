//! The services that guard this host: which is asked, and what counts as an answer.
//!
//! The primary is asked first, always. The fallback is asked when the primary *fails*: it can't be
//! reached, is overloaded or broken, or answers with something that is not of the protocol. When the
//! primary *decides* — the host is unknown or revoked, the protector is not valid or names no
//! guardian there — that is the answer, and asking another would be a way around it. A Host Guardian Service
//! that does not hold the keys of a VM decides, too: with a fallback, both must
//! know the host, and both must be able to open its protectors.

use std::fmt;

use hgs_attest::Code;
use hgs_attest::client::{AttestationFailure, RefusedKind};
use hgs_attest::freshness::FreshnessError;
use hgs_attest::signing_certificates::SigningCertificatesError;
use hgs_attest::wire::AttestationOperationMode;
use hgs_kps::Code as KeyProtectionCode;
use hgs_pki::Time;
use hgs_pki::health::HealthCertificateError;
use serde::{Deserialize, Serialize};

use crate::configuration::{Endpoints, Services};
use crate::health_token::HealthTokenFailure;
use crate::http::{Conversation, TransportError};
use crate::key_protection::failure::KeyProtectionFailure;
use crate::request_id::RequestId;
use crate::url::Url;

/// One of the two Host Guardian Services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// Asked first.
    Primary,
    /// Asked when the primary fails.
    Fallback,
}

/// Which of the two may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sides {
    /// The primary, and the fallback when it fails.
    #[default]
    Both,
    /// Only this one.
    Only(Side),
}

/// What one service answered instead of what was asked for.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{url}: {cause}")]
pub struct ServiceFailure {
    /// Which service.
    pub side: Side,
    /// The URL that was asked.
    pub url: Url,
    /// The id that the service gave the request, for its administrator to find it by.
    pub request_id: Option<RequestId>,
    /// What happened.
    pub cause: Cause,
}

/// What a service answers: what was asked for, or why not. That this host could not ask is another matter, and another error.
pub(crate) type Answer<T> = Result<T, Cause>;

/// What can happen instead of the answer that was asked for.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// No answer at all.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// No health certificate.
    #[error(transparent)]
    Attestation(#[from] AttestationFailure),
    /// No list of those who sign health certificates.
    #[error("HTTP status {status}, {error}")]
    SigningCertificates {
        /// The HTTP status.
        status: u16,
        /// What is wrong with the body.
        error: SigningCertificatesError,
    },
    /// A nonce that can't be returned.
    #[error("the service hands out no usable nonce: {0}")]
    Nonce(#[from] FreshnessError),
    /// A health certificate that is not valid now, because one of the two clocks is wrong.
    #[error(
        "the clocks differ: it is {here} on this host, and {there} on the guardian, which has issued the certificate for that time"
    )]
    Clocks {
        /// The time of this host.
        here: Time,
        /// The time of the guardian, which the certificate states.
        there: Time,
    },
    /// A health certificate that does not hold.
    #[error("the service issued a certificate that does not hold: {0}")]
    HealthCertificate(#[from] HealthCertificateError),
    /// No health token.
    #[error(transparent)]
    HealthToken(#[from] HealthTokenFailure),
    /// No keys.
    #[error(transparent)]
    KeyProtection(#[from] KeyProtectionFailure),
}

impl ServiceFailure {
    /// What came instead of an answer to the last request of `conversation`.
    pub(crate) fn new(
        side: Side,
        url: &Url,
        conversation: &Conversation<'_>,
        cause: Cause,
    ) -> Self {
        Self {
            side,
            url: url.clone(),
            request_id: conversation.request_id(),
            cause,
        }
    }
}

impl Cause {
    /// The service works in a mode that this host can't attest in.
    pub(crate) fn other_mode(expected: AttestationOperationMode) -> Self {
        Self::Attestation(AttestationFailure::OtherMode {
            expected,
            retryable: true,
        })
    }

    /// Whether this is a decision about this host, its next boot or the protector, and not a failure of the service.
    #[must_use]
    pub fn is_decision(&self) -> bool {
        match self {
            Self::Attestation(AttestationFailure::OtherMode { .. }) => true,
            Self::Attestation(AttestationFailure::Refused(refused)) => match refused.kind {
                RefusedKind::Error | RefusedKind::Payload | RefusedKind::Unavailable => {
                    refused.code().is_some_and(Code::is_of_next_boot)
                }
                RefusedKind::PolicyEvaluation
                | RefusedKind::Rtpm
                | RefusedKind::TcgLogValidation
                | RefusedKind::Unauthorized
                | RefusedKind::VirtualSecureMode
                | RefusedKind::VsmReportValidation => true,
            },
            Self::KeyProtection(failure) => failure.is_decision(),
            Self::HealthToken(failure) => failure.is_decision(),
            Self::Transport(_)
            | Self::Attestation(_)
            | Self::SigningCertificates { .. }
            | Self::Nonce(_)
            | Self::Clocks { .. }
            | Self::HealthCertificate(_) => false,
        }
    }
}

/// What a decision is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// This host, whatever it asks for.
    Host,
    /// The protector that it has asked about.
    Protector,
}

impl Cause {
    /// What is refused, if this is a decision about this host or a protector.
    pub(crate) fn refuses(&self) -> Option<Refused> {
        match self {
            cause if !cause.is_decision() => None,
            Self::Attestation(failure) => {
                let is_of_next_boot = failure.code().is_some_and(Code::is_of_next_boot);
                (!is_of_next_boot).then_some(Refused::Host)
            }
            Self::KeyProtection(KeyProtectionFailure::Refused {
                code: Some(KeyProtectionCode::HostRevoked | KeyProtectionCode::HealthCertificate),
                ..
            }) => Some(Refused::Host),
            // Who gets no token for an audience may still get keys.
            Self::HealthToken(failure) => failure.is_about_host().then_some(Refused::Host),
            _ => Some(Refused::Protector),
        }
    }

    /// Whether the service could not be reached, or not decide: what a break of the network or of the service looks like.
    pub(crate) fn is_away(&self) -> bool {
        match self {
            Self::Transport(TransportError::TlsSettings(_)) => false,
            Self::Transport(_) => true,
            Self::KeyProtection(KeyProtectionFailure::Unintelligible { status, .. })
            | Self::Attestation(
                AttestationFailure::Unintelligible { status, .. }
                | AttestationFailure::UnexpectedReply { status },
            )
            | Self::SigningCertificates { status, .. } => *status >= 500,
            Self::KeyProtection(KeyProtectionFailure::Refused { code, .. }) => {
                code.is_some_and(|code| code.status() == 503)
            }
            Self::HealthToken(failure) => failure.is_away(),
            Self::Attestation(AttestationFailure::Refused(refused)) => {
                refused.kind == RefusedKind::Unavailable
            }
            _ => false,
        }
    }
}

impl Services {
    /// The services that `sides` allows, in the order in which they are asked.
    pub(crate) fn in_order(&self, sides: Sides) -> impl Iterator<Item = (Side, &Endpoints)> {
        let fallback = self.fallback.as_ref();
        [
            (Side::Primary, Some(&self.primary)),
            (Side::Fallback, fallback),
        ]
        .into_iter()
        .filter_map(|(side, endpoints)| Some((side, endpoints?)))
        .filter(move |(side, _)| sides == Sides::Both || sides == Sides::Only(*side))
    }
}

impl fmt::Display for Side {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Primary => "primary",
            Self::Fallback => "fallback",
        })
    }
}
