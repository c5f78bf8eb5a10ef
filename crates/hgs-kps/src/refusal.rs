//! Refusals: one value, from which the answer, the audit record and the metric are derived.

use std::fmt;

use hgs_pki::Thumbprint;
use hgs_pki::health::{HealthCertificateError, VerifiedHealthCertificate};
use hgs_protector::{
    Fault, OpenError, ProtectorDigest, ProtectorError, ProtectorErrorKind, SealError,
};

use crate::offline_report::OfflineReportError;
use crate::signed_response::SignatureRequestError;
use crate::wire::{self, RequestError};

/// Seconds after which a client is told to try again, when that may help.
pub const RETRY_AFTER: u32 = 5;

/// The answer to a refused request, and what is known about its sender.
#[derive(Debug, Clone)]
#[must_use = "a refusal is answered, counted and, if the host is known, recorded"]
pub struct Refusal(Box<Contents>);

#[derive(Debug, Clone)]
struct Contents {
    reason: Reason,
    facts: RollFacts,
}

/// What was known of a request when it was refused.
#[derive(Debug, Clone, Default)]
pub struct RollFacts {
    /// The health certificate, once it passed all checks of its own. Refusals of such hosts are recorded.
    pub host: Option<VerifiedHealthCertificate>,
    /// The ingress protector, once it was verified.
    pub ingress: Option<ProtectorDigest>,
    /// The thumbprint of its owner's signing certificate.
    pub owner: Option<Thumbprint>,
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The request is not one.
    #[error("{0}")]
    Request(#[from] RequestError),
    /// The request asks for a signature in another form than is made.
    #[error("{0}")]
    SignatureRequest(#[from] SignatureRequestError),
    /// What the request reports about keys used offline has another form, or is not the host's.
    #[error("{0}")]
    OfflineReport(#[from] OfflineReportError),
    /// The health certificate fails a check.
    #[error("{0}")]
    HealthCertificate(#[from] HealthCertificateError),
    /// The host was revoked.
    #[error("the host was revoked")]
    HostRevoked,
    /// The host was removed from the registry.
    #[error("the host is no longer registered")]
    HostNotRegistered,
    /// The protector does not hold.
    #[error("{0}")]
    Protector(#[from] ProtectorError),
    /// No wrapping is ours, or none of them opens.
    #[error("{0}")]
    Open(#[from] OpenError),
    /// Signed by someone who is compromised, and not seen before that.
    #[error(
        "the protector is signed by the compromised guardian {guardian} and was not seen before"
    )]
    CompromisedGuardian {
        /// The thumbprint of the guardian's signing certificate.
        guardian: Thumbprint,
    },
    /// A later protector of the same virtual machine is in use.
    #[error("a later protector of this virtual machine is in use already")]
    ProtectorSuperseded,
    /// No egress protector could be made.
    #[error("{0}")]
    Seal(#[from] SealError),
    /// The request is longer than any may be.
    #[error("the request has more than {limit} octets")]
    BodyTooLarge {
        /// Octets that are accepted.
        limit: usize,
    },
    /// The request did not arrive in time.
    #[error("the request was not received in time")]
    RequestTimeout,
    /// No such path or version.
    #[error("there is no such service or version")]
    NotFound,
    /// The path has other methods.
    #[error("this method is not allowed here")]
    MethodNotAllowed,
    /// Too much to do.
    #[error("the service is busy")]
    ServerBusy,
    /// The place where a key lives is away.
    #[error("the key store is unavailable")]
    KeyStoreUnavailable,
    /// The release can't be recorded.
    #[error("the state of the service is unavailable")]
    StateUnavailable,
    /// The fabric has no primary encryption certificate.
    #[error("Primary Encryption Certificate not found")]
    NoPrimaryEncryptionCertificate,
    /// The fabric has no primary signing certificate.
    #[error("Primary Signing Certificate not found")]
    NoPrimarySigningCertificate,
    /// Any other failure, which is not described to the peer.
    #[error("internal error")]
    Internal,
}

/// The codes of [MS-KPS] 2.2.2.5 and those that the protocol profile adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(
    missing_docs,
    reason = "section 6 of the protocol profile describes each"
)]
pub enum Code {
    InvalidRequest,
    UnsupportedAlgorithm,
    HealthCertificate,
    HostRevoked,
    InvalidProtector,
    InvalidWrapping,
    WrappingNotFound,
    CompromisedGuardian,
    ProtectorSuperseded,
    LimitExceeded,
    RequestTimeout,
    NotFound,
    MethodNotAllowed,
    ServerBusy,
    KeyStoreUnavailable,
    StateUnavailable,
    Metadata,
    Internal,
}

impl Code {
    /// Every code.
    pub const ALL: [Self; 18] = [
        Self::InvalidRequest,
        Self::UnsupportedAlgorithm,
        Self::HealthCertificate,
        Self::HostRevoked,
        Self::InvalidProtector,
        Self::InvalidWrapping,
        Self::WrappingNotFound,
        Self::CompromisedGuardian,
        Self::ProtectorSuperseded,
        Self::LimitExceeded,
        Self::RequestTimeout,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::ServerBusy,
        Self::KeyStoreUnavailable,
        Self::StateUnavailable,
        Self::Metadata,
        Self::Internal,
    ];

    /// The text of `Code` in the answer.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().0
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(self) -> u16 {
        self.row().1
    }

    /// Who is at fault.
    #[must_use]
    pub fn fault(self) -> Fault {
        self.row().2
    }

    /// Section 6 of the protocol profile.
    fn row(self) -> (&'static str, u16, Fault) {
        match self {
            Self::InvalidRequest => ("InvalidRequestException", 400, Fault::Peer),
            Self::UnsupportedAlgorithm => ("UnsupportedAlgorithmException", 400, Fault::Peer),
            Self::HealthCertificate => ("HealthCertificateException", 403, Fault::Host),
            Self::HostRevoked => ("HostRevokedException", 403, Fault::Host),
            Self::InvalidProtector => ("InvalidProtectorException", 400, Fault::Protector),
            Self::InvalidWrapping => ("InvalidWrappingException", 400, Fault::Protector),
            Self::WrappingNotFound => ("WrappingNotFoundException", 403, Fault::Protector),
            Self::CompromisedGuardian => ("CompromisedGuardianException", 403, Fault::Protector),
            Self::ProtectorSuperseded => ("ProtectorSupersededException", 403, Fault::Host),
            Self::LimitExceeded => ("LimitExceededException", 413, Fault::Peer),
            Self::RequestTimeout => ("RequestTimeoutException", 408, Fault::Peer),
            Self::NotFound => ("NotFoundException", 404, Fault::Peer),
            Self::MethodNotAllowed => ("MethodNotAllowedException", 405, Fault::Peer),
            Self::ServerBusy => ("ServerBusyException", 503, Fault::Ourselves),
            Self::KeyStoreUnavailable => ("KeyStoreUnavailableException", 503, Fault::KeyStore),
            Self::StateUnavailable => ("StateUnavailableException", 503, Fault::Ourselves),
            Self::Metadata => ("MetadataException", 500, Fault::Operator),
            Self::Internal => ("InternalException", 500, Fault::Ourselves),
        }
    }
}

impl Reason {
    /// The one place where reasons become codes.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Request(error) if error.is_limit() => Code::LimitExceeded,
            Self::Request(RequestError::UnknownAlgorithm { .. }) => Code::UnsupportedAlgorithm,
            Self::Request(_) | Self::SignatureRequest(_) | Self::OfflineReport(_) => {
                Code::InvalidRequest
            }
            Self::HealthCertificate(_) => Code::HealthCertificate,
            Self::HostRevoked | Self::HostNotRegistered => Code::HostRevoked,
            Self::Protector(error) => match error.kind() {
                ProtectorErrorKind::InvalidProtector => Code::InvalidProtector,
                ProtectorErrorKind::InvalidWrapping => Code::InvalidWrapping,
                ProtectorErrorKind::LimitExceeded => Code::LimitExceeded,
            },
            Self::Open(OpenError::NoWrapping) => Code::WrappingNotFound,
            Self::Open(OpenError::CannotOpen(_) | OpenError::TransportKey(_)) => {
                Code::InvalidProtector
            }
            Self::Open(OpenError::Key { .. }) => Code::KeyStoreUnavailable,
            Self::CompromisedGuardian { .. } => Code::CompromisedGuardian,
            Self::ProtectorSuperseded => Code::ProtectorSuperseded,
            Self::Seal(
                SealError::TooManyWrappings { .. }
                | SealError::TooManyKeyBits { .. }
                | SealError::TooLong { .. }
                | SealError::NoFreeId,
            )
            | Self::BodyTooLarge { .. } => Code::LimitExceeded,
            Self::Seal(SealError::Key { .. } | SealError::Signature { .. })
            | Self::KeyStoreUnavailable => Code::KeyStoreUnavailable,
            Self::RequestTimeout => Code::RequestTimeout,
            Self::NotFound => Code::NotFound,
            Self::MethodNotAllowed => Code::MethodNotAllowed,
            Self::ServerBusy => Code::ServerBusy,
            Self::StateUnavailable => Code::StateUnavailable,
            Self::NoPrimaryEncryptionCertificate | Self::NoPrimarySigningCertificate => {
                Code::Metadata
            }
            Self::Seal(_) | Self::Internal => Code::Internal,
        }
    }
}

/// The records that a decision needs can't be read now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the state of the service is unavailable")]
pub struct StateUnavailable;

impl From<StateUnavailable> for Reason {
    fn from(_: StateUnavailable) -> Self {
        Self::StateUnavailable
    }
}

impl Refusal {
    /// A refusal for this reason, with what is known so far.
    pub fn new(reason: impl Into<Reason>, facts: RollFacts) -> Self {
        Self(Box::new(Contents {
            reason: reason.into(),
            facts,
        }))
    }

    /// Why.
    #[must_use]
    pub fn reason(&self) -> &Reason {
        &self.0.reason
    }

    /// The code in the answer, which knows status and fault.
    #[must_use]
    pub fn code(&self) -> Code {
        self.reason().code()
    }

    /// The facts that were known.
    #[must_use]
    pub fn facts(&self) -> &RollFacts {
        &self.0.facts
    }

    /// The answer: status and document.
    #[must_use]
    pub fn to_response(&self) -> ErrorResponse {
        let code = self.code();
        let message = match code {
            // An internal failure is not described to peers.
            Code::Internal => Reason::Internal.to_string(),
            Code::KeyStoreUnavailable => Reason::KeyStoreUnavailable.to_string(),
            _ => self.reason().to_string(),
        };
        let error = wire::Error {
            code: code.name().to_owned(),
            message,
        };
        ErrorResponse {
            status: code.status(),
            body: error.to_xml(),
            retry_after: (code.status() == 503).then_some(RETRY_AFTER),
        }
    }
}

impl<R: Into<Reason>> From<R> for Refusal {
    /// A refusal without further facts.
    fn from(reason: R) -> Self {
        Self::new(reason, RollFacts::default())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.code().name(), self.reason())
    }
}

impl std::error::Error for Refusal {}

/// The HTTP response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorResponse {
    /// The status.
    pub status: u16,
    /// The document, of type [`wire::CONTENT_TYPE`].
    pub body: Vec<u8>,
    /// The seconds of `Retry-After`, when it is to be set.
    pub retry_after: Option<u32>,
}
