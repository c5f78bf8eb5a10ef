//! Why there is no health certificate, and what may be tried next.

use std::collections::BTreeSet;
use std::fmt;

use hgs_pki::CertificateError;
use hgs_pki::health::{HealthKind, StatementError};

use super::rtpm::RtpmFault;
use crate::mode::Endpoint;
use crate::refusal::Code;
use crate::wire::{
    AttestationOperationMode, AttestationResultType, ErrorDetail, EvaluationLog, MessageError,
    Reply,
};

/// Why there is no health certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AttestationFailure {
    /// The server refused.
    #[error("attestation was refused: {0}")]
    Refused(Refused),
    /// The server attests in another mode.
    #[error("the server attests in mode {expected}")]
    OtherMode {
        /// The mode of the server.
        expected: AttestationOperationMode,
        /// Whether another try, in that mode, can succeed.
        retryable: bool,
    },
    /// The reply is not of this protocol: perhaps that of a proxy, or of another service.
    #[error("reply with HTTP status {status} is not one of an attestation server: {error}")]
    Unintelligible {
        /// The HTTP status.
        status: u16,
        /// What is wrong with the body.
        error: MessageError,
    },
    /// The reply is of this protocol, but none to this request.
    #[error("reply with HTTP status {status} does not belong to the request")]
    UnexpectedReply {
        /// The HTTP status.
        status: u16,
    },
    /// The certificate is not what was asked for.
    #[error("server sent something else than was asked for: {0}")]
    NotAsked(#[from] NotAsked),
    /// The host ended the exchange with its TPM.
    #[error(transparent)]
    Rtpm(#[from] RtpmFault),
}

impl AttestationFailure {
    /// Whether the same request can meaningfully be sent again.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Refused(refused) => refused.retryable,
            // A proxy in between, or a server that is starting.
            Self::Unintelligible { status, .. } => *status >= 500,
            Self::Rtpm(fault) => fault.is_retryable(),
            Self::OtherMode { .. } | Self::UnexpectedReply { .. } | Self::NotAsked(_) => false,
        }
    }

    /// Whether the same request can succeed with the nonce that came with this refusal.
    #[must_use]
    pub fn needs_new_nonce(&self) -> bool {
        matches!(self.code(), Some(Code::NonceRequired | Code::NonceExpired))
    }

    /// The code of the error table, where this is a refusal by a server that gives one.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Refused(refused) => refused.code(),
            _ => None,
        }
    }

    /// Whether a request for a new identity key can succeed where this one can't. Where two machines share a host key it
    /// could, but would take the place of the other machine's key, and so on in turn: that is for people to end.
    #[must_use]
    pub fn needs_new_identity_key(&self) -> bool {
        matches!(
            self.code(),
            Some(
                Code::IdentityKeyInvalid
                    | Code::IdentityKeySuperseded
                    | Code::IdentityKeyExpired
                    | Code::IdentityKeyOfOtherKind
            )
        )
    }
}

/// An error reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Which reply.
    pub kind: RefusedKind,
    /// Whether the server says that another try can succeed.
    pub retryable: bool,
    /// Which policies held and which did not, where the server evaluated some.
    pub policies: Vec<EvaluationLog>,
    /// What an OpenHGS server adds.
    pub detail: Option<ErrorDetail>,
}

/// The error replies of [MS-HGSA] 2.2.2 that have no meaning beyond their type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefusedKind {
    /// ErrorReply.
    Error,
    /// PayloadErrorReply.
    Payload,
    /// PolicyEvaluationErrorReply.
    PolicyEvaluation,
    /// RtpmErrorReply.
    Rtpm,
    /// TcgLogValidationErrorReply.
    TcgLogValidation,
    /// UnauthorizedErrorReply.
    Unauthorized,
    /// UnavailableErrorReply.
    Unavailable,
    /// VirtualSecureModeErrorReply.
    VirtualSecureMode,
    /// VsmReportValidationErrorReply.
    VsmReportValidation,
}

impl fmt::Display for RefusedKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Error => "ErrorReply",
            Self::Payload => "PayloadErrorReply",
            Self::PolicyEvaluation => "PolicyEvaluationErrorReply",
            Self::Rtpm => "RtpmErrorReply",
            Self::TcgLogValidation => "TcgLogValidationErrorReply",
            Self::Unauthorized => "UnauthorizedErrorReply",
            Self::Unavailable => "UnavailableErrorReply",
            Self::VirtualSecureMode => "VirtualSecureModeErrorReply",
            Self::VsmReportValidation => "VsmReportValidationErrorReply",
        })
    }
}

impl Refused {
    /// The code of the error table, where the server gave one that we know.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        self.detail
            .as_ref()
            .and_then(|detail| Code::from_name(&detail.code))
    }

    /// `None` if it is no error reply, or one with a meaning of its own.
    pub(super) fn of(reply: Reply) -> Option<Self> {
        macro_rules! refused {
            ($kind:ident, $reply:ident) => {
                Some(Self {
                    kind: RefusedKind::$kind,
                    retryable: $reply.retryable,
                    policies: Vec::new(),
                    detail: $reply.open_hgs,
                })
            };
        }
        match reply {
            Reply::Error(reply) => refused!(Error, reply),
            Reply::PayloadError(reply) => refused!(Payload, reply),
            Reply::PolicyEvaluationError(reply) => Some(Self {
                kind: RefusedKind::PolicyEvaluation,
                retryable: reply.retryable,
                policies: reply.reasons,
                detail: reply.open_hgs,
            }),
            Reply::RtpmError(reply) => refused!(Rtpm, reply),
            Reply::TcgLogValidationError(reply) => refused!(TcgLogValidation, reply),
            Reply::UnauthorizedError(reply) => refused!(Unauthorized, reply),
            Reply::UnavailableError(reply) => refused!(Unavailable, reply),
            Reply::VirtualSecureModeError(reply) => refused!(VirtualSecureMode, reply),
            Reply::VsmReportValidationError(reply) => refused!(VsmReportValidation, reply),
            Reply::OperationModeError(_)
            | Reply::TpmContinue(_)
            | Reply::HealthCertificate(_)
            | Reply::ServiceInfo(_) => None,
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.detail {
            Some(detail) => write!(formatter, "{} ({})", detail.message, detail.code),
            None => self.kind.fmt(formatter),
        }
    }
}

/// In what a health certificate differs from what was asked for. The fault is with the server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAsked {
    /// Not one certificate.
    #[error("{0} certificates instead of one")]
    Count(usize),
    /// Another result.
    #[error("result {0}")]
    Result(AttestationResultType),
    /// Not an acceptable certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// A certificate over another key.
    #[error("a certificate over another key")]
    OtherKey,
    /// A certificate for another purpose.
    #[error("a certificate that is not for {0} alone")]
    Purpose(HealthKind),
    /// A certificate without a health statement.
    #[error("a certificate without health statement")]
    NoStatement,
    /// A certificate with a malformed health statement.
    #[error(transparent)]
    Statement(#[from] StatementError),
}

/// Which operations were tried, so that no two servers can send a host in circles ([MS-HGSA] 3.2.5.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempts {
    supported: BTreeSet<Endpoint>,
    tried: BTreeSet<Endpoint>,
}

impl Attempts {
    /// A host that is able to attest by `supported`, and begins with `first`.
    #[must_use]
    pub fn new(supported: impl IntoIterator<Item = Endpoint>, first: Endpoint) -> Self {
        Self {
            supported: supported.into_iter().collect(),
            tried: BTreeSet::from([first]),
        }
    }

    /// Where to try after `failure`, if the server named a mode that this host is able to and has not tried.
    pub fn redirect(&mut self, failure: &AttestationFailure) -> Option<Endpoint> {
        let AttestationFailure::OtherMode {
            expected,
            retryable: true,
        } = failure
        else {
            return None;
        };
        let next = Endpoint::of_mode(*expected)?;
        (self.supported.contains(&next) && self.tried.insert(next)).then_some(next)
    }
}
