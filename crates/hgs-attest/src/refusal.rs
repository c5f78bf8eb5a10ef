//! Refusals, and the error table of section 7 of the protocol profile.
//!
//! A [`Refusal`] is one value. The HTTP status and reply, the audit record, the metric and the trace line are all
//! derived from it, so that they can't tell different stories.

use hgs_crypto::rsa::PublicKeyError;
use hgs_tcg::tpm::{ResponseError, SessionError};

use crate::facts::AttestationFacts;
use crate::freshness::FreshnessError;
use crate::identities::IdentityRefusal;
use crate::policy::{Evaluation, EvidenceError, NextBootError};
use crate::rtpm::{ContextError, ExchangeError, SealedStateError};
use crate::wire::{
    AttestationOperationMode, AttestationProvidedContentType, ErrorDetail, ErrorReply,
    MessageError, OperationModeErrorReply, PayloadErrorReply, PolicyEvaluationErrorReply, Reply,
    RtpmErrorReply, TcgLogValidationErrorReply, UnauthorizedErrorReply, UnavailableErrorReply,
    VirtualSecureModeErrorReply,
};

/// A code of the error table, with what the table says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    /// Not JSON of the type, or a value is not Base64.
    MalformedRequest,
    /// One of the three contents is missing or doubled.
    MissingContent,
    /// Not exactly one result is requested, or an unknown one.
    RequestedContent,
    /// The certificate of an intermediate authority is requested.
    CaIntermediateNotOffered,
    /// The identity key is not an acceptable key, or is the host key itself.
    IdentityKeyInvalid,
    /// The host key is unknown.
    HostNotRegistered,
    /// The host was revoked.
    HostRevoked,
    /// The host key's signature does not verify.
    HostKeySignature,
    /// No nonce was returned, and one is required.
    NonceRequired,
    /// The nonce that was returned is too old.
    NonceExpired,
    /// The nonce is not ours, or the host key has not signed it for this request.
    NonceInvalid,
    /// A newer identity key is recorded.
    IdentityKeySuperseded,
    /// Two machines use the host key.
    HostKeyShared,
    /// The identity key was first seen too long ago.
    IdentityKeyExpired,
    /// The identity key is recorded for the other kind.
    IdentityKeyOfOtherKind,
    /// The host has presented as many new identity keys as it may within an hour.
    TooManyNewIdentityKeys,
    /// The host has as many identity keys as it may have.
    TooManyIdentityKeys,
    /// The context is none.
    RtpmContextMalformed,
    /// The context was not made by this service, or was made days ago.
    RtpmContextForeign,
    /// The context was altered.
    RtpmContextAltered,
    /// The context was made for another endorsement key.
    RtpmContextOtherHost,
    /// The context was made in another session.
    RtpmContextOtherSession,
    /// The context was made for a certificate of another kind.
    RtpmContextOtherKind,
    /// The context is too old.
    RtpmContextExpired,
    /// Not one response for each command.
    TpmResponseMissing,
    /// The TPM refused a command.
    TpmRefused,
    /// A response is none to its command.
    TpmResponseMalformed,
    /// The TPM has another endorsement key.
    TpmOtherEndorsementKey,
    /// A response is not of the session with the endorsement key.
    TpmResponseNotAuthentic,
    /// A response was sent before.
    TpmResponseReplayed,
    /// The TPM has no PCRs of SHA-256.
    TpmPcrBank,
    /// PCRs that should be stable were extended again and again.
    PcrsUnstable,
    /// The host has a TPM, and sent no event log.
    NoEventLog,
    /// The event log is none.
    EventLogMalformed,
    /// The event log is not that of the PCRs.
    EventLogMismatch,
    /// The IMA log is none.
    ImaLogMalformed,
    /// The IMA log is not that of PCR 10.
    ImaLogMismatch,
    /// The host is not as its policies want it.
    PolicyFailed,
    /// The guardian takes no claims of what hosts boot next.
    NextBootClaimsRefused,
    /// The claim of the next boot is not the one that the TPM confirmed.
    NextBootClaimAltered,
    /// The claim of the next boot is none, or about what a host may not say of itself.
    NextBootClaimInvalid,
    /// The path is that of another mode.
    OperationMode,
    /// Overload, or keys or state are away.
    Unavailable,
    /// No such path.
    NotFound,
    /// The path has other methods.
    MethodNotAllowed,
    /// Over a limit.
    TooLarge,
    /// The request was not received in time.
    Timeout,
    /// Anything else; the fault is ours.
    Internal,
}

impl Code {
    /// Every code, in the order of the table.
    pub const ALL: [Self; 48] = [
        Self::MalformedRequest,
        Self::MissingContent,
        Self::RequestedContent,
        Self::CaIntermediateNotOffered,
        Self::IdentityKeyInvalid,
        Self::HostNotRegistered,
        Self::HostRevoked,
        Self::HostKeySignature,
        Self::NonceRequired,
        Self::NonceExpired,
        Self::NonceInvalid,
        Self::IdentityKeySuperseded,
        Self::HostKeyShared,
        Self::IdentityKeyExpired,
        Self::IdentityKeyOfOtherKind,
        Self::TooManyNewIdentityKeys,
        Self::TooManyIdentityKeys,
        Self::RtpmContextMalformed,
        Self::RtpmContextForeign,
        Self::RtpmContextAltered,
        Self::RtpmContextOtherHost,
        Self::RtpmContextOtherSession,
        Self::RtpmContextOtherKind,
        Self::RtpmContextExpired,
        Self::TpmResponseMissing,
        Self::TpmRefused,
        Self::TpmResponseMalformed,
        Self::TpmOtherEndorsementKey,
        Self::TpmResponseNotAuthentic,
        Self::TpmResponseReplayed,
        Self::TpmPcrBank,
        Self::PcrsUnstable,
        Self::NoEventLog,
        Self::EventLogMalformed,
        Self::EventLogMismatch,
        Self::ImaLogMalformed,
        Self::ImaLogMismatch,
        Self::PolicyFailed,
        Self::NextBootClaimsRefused,
        Self::NextBootClaimAltered,
        Self::NextBootClaimInvalid,
        Self::OperationMode,
        Self::Unavailable,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::TooLarge,
        Self::Timeout,
        Self::Internal,
    ];

    /// Its name on the wire, in audit records and as a metric's label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::MalformedRequest => "malformed-request",
            Self::MissingContent => "missing-content",
            Self::RequestedContent => "requested-content",
            Self::CaIntermediateNotOffered => "ca-intermediate-not-offered",
            Self::IdentityKeyInvalid => "identity-key-invalid",
            Self::HostNotRegistered => "host-not-registered",
            Self::HostRevoked => "host-revoked",
            Self::HostKeySignature => "host-key-signature",
            Self::NonceRequired => "nonce-required",
            Self::NonceExpired => "nonce-expired",
            Self::NonceInvalid => "nonce-invalid",
            Self::IdentityKeySuperseded => "identity-key-superseded",
            Self::HostKeyShared => "host-key-shared",
            Self::IdentityKeyExpired => "identity-key-expired",
            Self::IdentityKeyOfOtherKind => "identity-key-of-other-kind",
            Self::TooManyNewIdentityKeys => "too-many-new-identity-keys",
            Self::TooManyIdentityKeys => "too-many-identity-keys",
            Self::RtpmContextMalformed => "rtpm-context-malformed",
            Self::RtpmContextForeign => "rtpm-context-foreign",
            Self::RtpmContextAltered => "rtpm-context-altered",
            Self::RtpmContextOtherHost => "rtpm-context-other-host",
            Self::RtpmContextOtherSession => "rtpm-context-other-session",
            Self::RtpmContextOtherKind => "rtpm-context-other-kind",
            Self::RtpmContextExpired => "rtpm-context-expired",
            Self::TpmResponseMissing => "tpm-response-missing",
            Self::TpmRefused => "tpm-refused",
            Self::TpmResponseMalformed => "tpm-response-malformed",
            Self::TpmOtherEndorsementKey => "tpm-other-endorsement-key",
            Self::TpmResponseNotAuthentic => "tpm-response-not-authentic",
            Self::TpmResponseReplayed => "tpm-response-replayed",
            Self::TpmPcrBank => "tpm-pcr-bank",
            Self::PcrsUnstable => "pcrs-unstable",
            Self::NoEventLog => "no-event-log",
            Self::EventLogMalformed => "event-log-malformed",
            Self::EventLogMismatch => "event-log-mismatch",
            Self::ImaLogMalformed => "ima-log-malformed",
            Self::ImaLogMismatch => "ima-log-mismatch",
            Self::PolicyFailed => "policy-failed",
            Self::NextBootClaimsRefused => "next-boot-claims-refused",
            Self::NextBootClaimAltered => "next-boot-claim-altered",
            Self::NextBootClaimInvalid => "next-boot-claim-invalid",
            Self::OperationMode => "operation-mode",
            Self::Unavailable => "unavailable",
            Self::NotFound => "not-found",
            Self::MethodNotAllowed => "method-not-allowed",
            Self::TooLarge => "too-large",
            Self::Timeout => "timeout",
            Self::Internal => "internal",
        }
    }

    /// The code with that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.name() == name)
    }

    /// The HTTP status of the reply.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::MalformedRequest
            | Self::MissingContent
            | Self::RequestedContent
            | Self::CaIntermediateNotOffered
            | Self::IdentityKeyInvalid
            | Self::RtpmContextMalformed
            | Self::TpmResponseMissing
            | Self::TpmResponseMalformed
            | Self::OperationMode => 400,
            Self::HostNotRegistered
            | Self::HostRevoked
            | Self::HostKeySignature
            | Self::NonceRequired
            | Self::NonceExpired
            | Self::NonceInvalid
            | Self::IdentityKeySuperseded
            | Self::HostKeyShared
            | Self::IdentityKeyExpired
            | Self::IdentityKeyOfOtherKind
            | Self::TooManyNewIdentityKeys
            | Self::TooManyIdentityKeys
            | Self::RtpmContextForeign
            | Self::RtpmContextAltered
            | Self::RtpmContextOtherHost
            | Self::RtpmContextOtherSession
            | Self::RtpmContextOtherKind
            | Self::RtpmContextExpired
            | Self::TpmRefused
            | Self::TpmOtherEndorsementKey
            | Self::TpmResponseNotAuthentic
            | Self::TpmResponseReplayed
            | Self::TpmPcrBank
            | Self::PcrsUnstable
            | Self::NoEventLog
            | Self::EventLogMalformed
            | Self::EventLogMismatch
            | Self::ImaLogMalformed
            | Self::ImaLogMismatch
            | Self::PolicyFailed
            | Self::NextBootClaimsRefused
            | Self::NextBootClaimAltered
            | Self::NextBootClaimInvalid => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::Timeout => 408,
            Self::TooLarge => 413,
            Self::Internal => 500,
            Self::Unavailable => 503,
        }
    }

    /// Whether it is about what a host says of its next boot, and not about the host: it was healthy when it said so.
    #[must_use]
    pub fn is_of_next_boot(self) -> bool {
        matches!(
            self,
            Self::NextBootClaimsRefused | Self::NextBootClaimAltered | Self::NextBootClaimInvalid
        )
    }

    /// Whether the same host can meaningfully try again.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        matches!(
            self,
            Self::NonceRequired
                | Self::NonceExpired
                | Self::TooManyNewIdentityKeys
                | Self::RtpmContextForeign
                | Self::RtpmContextExpired
                | Self::TpmRefused
                | Self::PcrsUnstable
                | Self::OperationMode
                | Self::Unavailable
                | Self::Timeout
                | Self::Internal
        )
    }
}

/// Why a host gets no health certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// The body is no request, or over a limit.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// The body is a request of another mode.
    #[error("a {found} was sent where an AttestationRequest is expected")]
    OtherRequest {
        /// The type of the request.
        found: &'static str,
    },
    /// A content that is needed is not there.
    #[error("ProvidedContent has no {0}")]
    MissingContent(AttestationProvidedContentType),
    /// A content that is needed is there more than once.
    #[error("ProvidedContent has more than one {0}")]
    DoubledContent(AttestationProvidedContentType),
    /// Not exactly one result is requested.
    #[error("RequestedContent asks for {0} results; one is possible")]
    ResultCount(usize),
    /// A result is requested that the specification does not name.
    #[error("RequestedContent asks for result {0}, which is unknown")]
    UnknownResult(u32),
    /// The certificate of an intermediate authority is requested.
    #[error("certificates of intermediate authorities are not offered")]
    CaIntermediate,
    /// The host key is not registered.
    #[error("the host key is not registered")]
    HostNotRegistered,
    /// The signature is not by the host key.
    #[error("the signature over host key and identity key does not verify")]
    HostKeySignature,
    /// The host was revoked.
    #[error("the host was revoked")]
    HostRevoked,
    /// The request is not shown to have been made now.
    #[error(transparent)]
    Freshness(#[from] FreshnessError),
    /// The identity key is not an acceptable key.
    #[error("identity key: {0}")]
    IdentityKey(PublicKeyError),
    /// The identity key is the host key.
    #[error("the identity key is the host key itself")]
    IdentityKeyIsHostKey,
    /// The identity key is one that may not be used now.
    #[error(transparent)]
    IdentityRefused(#[from] IdentityRefusal),
    /// The endorsement key is not registered.
    #[error("the endorsement key is not registered")]
    EndorsementKeyNotRegistered,
    /// The context is none, or over a limit.
    #[error(transparent)]
    RtpmContext(#[from] ContextError),
    /// The context's state was not opened.
    #[error(transparent)]
    SealedState(#[from] SealedStateError),
    /// The host sent a command where the TPM's responses are expected.
    #[error("the context has a TPM command; a host sends responses")]
    CommandFromHost,
    /// The TPM's responses do not carry the exchange on.
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    /// What the host sent about its boot is not what its TPM proved.
    #[error(transparent)]
    Evidence(EvidenceError),
    /// The host is not as its policies want it.
    #[error("{0}")]
    Unhealthy(Box<Evaluation>),
    /// This guardian takes no claims of what hosts boot next.
    #[error(
        "the guardian takes no claims of what hosts boot next; its administrator can add what the host has staged"
    )]
    NextBootClaimsRefused,
    /// What the TPM confirmed is another claim, or none.
    #[error("the claim of the next boot is not the one that the TPM confirmed")]
    NextBootClaimAltered,
    /// The claim is none, or about what a host may not say of itself.
    #[error("claim of the next boot: {0}")]
    NextBootClaim(#[from] NextBootError),
    /// The path is that of another mode.
    #[error("the server attests in mode {expected}")]
    OperationMode {
        /// The mode of the server.
        expected: AttestationOperationMode,
    },
    /// Overload, or keys or state are away.
    #[error("the service is not available now")]
    Unavailable,
    /// No such path.
    #[error("no such path")]
    NotFound,
    /// The path has other methods.
    #[error("the path has other methods")]
    MethodNotAllowed,
    /// The body has more octets than a request may have.
    #[error("the request is too large")]
    TooLarge,
    /// The request was not received in time.
    #[error("the request was not received in time")]
    Timeout,
    /// Anything else.
    #[error("the server failed")]
    Internal,
}

impl Reason {
    /// The code of the error table.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Message(error) if error.is_over_limit() => Code::TooLarge,
            Self::Message(_) | Self::OtherRequest { .. } => Code::MalformedRequest,
            Self::MissingContent(_) | Self::DoubledContent(_) => Code::MissingContent,
            Self::ResultCount(_) | Self::UnknownResult(_) => Code::RequestedContent,
            Self::CaIntermediate => Code::CaIntermediateNotOffered,
            Self::HostNotRegistered => Code::HostNotRegistered,
            Self::HostKeySignature => Code::HostKeySignature,
            Self::HostRevoked => Code::HostRevoked,
            Self::IdentityKey(_) | Self::IdentityKeyIsHostKey => Code::IdentityKeyInvalid,
            Self::Freshness(error) => match error {
                FreshnessError::Missing => Code::NonceRequired,
                FreshnessError::Expired { .. } => Code::NonceExpired,
                FreshnessError::Malformed { .. }
                | FreshnessError::Foreign
                | FreshnessError::Signature => Code::NonceInvalid,
            },
            Self::IdentityRefused(refusal) => match refusal {
                IdentityRefusal::OtherKind { .. } => Code::IdentityKeyOfOtherKind,
                IdentityRefusal::Superseded { .. } => Code::IdentityKeySuperseded,
                IdentityRefusal::HostKeyShared { .. } => Code::HostKeyShared,
                IdentityRefusal::Expired { .. } => Code::IdentityKeyExpired,
                IdentityRefusal::TooManyNew { .. } => Code::TooManyNewIdentityKeys,
                IdentityRefusal::TooMany => Code::TooManyIdentityKeys,
            },
            Self::EndorsementKeyNotRegistered => Code::HostNotRegistered,
            Self::RtpmContext(error) if error.is_over_limit() => Code::TooLarge,
            Self::RtpmContext(_) | Self::CommandFromHost => Code::RtpmContextMalformed,
            Self::SealedState(error) => match error {
                SealedStateError::Foreign => Code::RtpmContextForeign,
                SealedStateError::Altered => Code::RtpmContextAltered,
                SealedStateError::OtherHost => Code::RtpmContextOtherHost,
                SealedStateError::OtherSession => Code::RtpmContextOtherSession,
                SealedStateError::OtherKind => Code::RtpmContextOtherKind,
                SealedStateError::Expired { .. } => Code::RtpmContextExpired,
            },
            Self::Exchange(error) => of_exchange(error),
            Self::Evidence(error) => match error {
                EvidenceError::NoLog => Code::NoEventLog,
                EvidenceError::Log(_) => Code::EventLogMalformed,
                EvidenceError::Replay(_) | EvidenceError::Bank(_) => Code::EventLogMismatch,
                EvidenceError::Ima(_) => Code::ImaLogMalformed,
                EvidenceError::ImaReplay(_) => Code::ImaLogMismatch,
            },
            Self::Unhealthy(_) => Code::PolicyFailed,
            Self::NextBootClaimsRefused => Code::NextBootClaimsRefused,
            Self::NextBootClaimAltered => Code::NextBootClaimAltered,
            Self::NextBootClaim(_) => Code::NextBootClaimInvalid,
            Self::OperationMode { .. } => Code::OperationMode,
            Self::Unavailable => Code::Unavailable,
            Self::NotFound => Code::NotFound,
            Self::MethodNotAllowed => Code::MethodNotAllowed,
            Self::TooLarge => Code::TooLarge,
            Self::Timeout => Code::Timeout,
            Self::Internal => Code::Internal,
        }
    }
}

fn of_exchange(error: &ExchangeError) -> Code {
    match error {
        ExchangeError::Responses { .. } => Code::TpmResponseMissing,
        ExchangeError::OtherEndorsementKey => Code::TpmOtherEndorsementKey,
        ExchangeError::Primary { error, .. } => of_response(error),
        ExchangeError::StorageRootKey(_) => Code::TpmResponseMalformed,
        ExchangeError::Session { error, .. } => match error {
            SessionError::OtherTpm => Code::TpmOtherEndorsementKey,
            SessionError::CommandAltered(_)
            | SessionError::NotAuthentic
            | SessionError::NotAudited(_)
            | SessionError::Closed(_) => Code::TpmResponseNotAuthentic,
            SessionError::Replayed => Code::TpmResponseReplayed,
            SessionError::OtherPcrs => Code::TpmPcrBank,
            SessionError::OtherKey(_) => Code::IdentityKeyInvalid,
            SessionError::Response(error) => of_response(error),
            SessionError::Crypto(_) => Code::Internal,
        },
        ExchangeError::Unstable { .. } => Code::PcrsUnstable,
        ExchangeError::Crypto(_) => Code::Internal,
    }
}

fn of_response(error: &ResponseError) -> Code {
    match error {
        ResponseError::Refused(_) => Code::TpmRefused,
        ResponseError::WithoutSession => Code::TpmResponseNotAuthentic,
        ResponseError::Structure(_) | ResponseError::Public(_) | ResponseError::Name => {
            Code::TpmResponseMalformed
        }
    }
}

/// A refusal: why, and what is known of who asked.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a refusal is answered, counted and, for a host that proved its key, recorded"]
pub struct Refusal {
    reason: Reason,
    facts: AttestationFacts,
}

impl Refusal {
    pub(crate) fn with_facts(reason: Reason, facts: AttestationFacts) -> Self {
        Self { reason, facts }
    }

    /// Why.
    #[must_use]
    pub fn reason(&self) -> &Reason {
        &self.reason
    }

    /// The code of the error table.
    #[must_use]
    pub fn code(&self) -> Code {
        self.reason.code()
    }

    /// What is known of who asked.
    #[must_use]
    pub fn facts(&self) -> &AttestationFacts {
        &self.facts
    }

    /// The HTTP status of the reply.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.code().status()
    }

    /// The body of the reply.
    #[must_use]
    pub fn reply(&self) -> Reply {
        let code = self.code();
        let retryable = code.is_retryable();
        let open_hgs = Some(ErrorDetail {
            code: code.name().to_owned(),
            message: self.reason.to_string(),
        });
        if let Reason::OperationMode { expected } = self.reason {
            return Reply::OperationModeError(OperationModeErrorReply {
                retryable,
                expected_operation_mode: expected,
                open_hgs,
            });
        }
        if let Reason::Unhealthy(evaluation) = &self.reason {
            return Reply::PolicyEvaluationError(PolicyEvaluationErrorReply {
                retryable,
                reasons: evaluation.log(),
                open_hgs,
            });
        }
        match code {
            Code::MalformedRequest
            | Code::MissingContent
            | Code::RequestedContent
            | Code::CaIntermediateNotOffered
            | Code::NextBootClaimsRefused
            | Code::NextBootClaimAltered
            | Code::NextBootClaimInvalid => Reply::PayloadError(PayloadErrorReply {
                retryable,
                open_hgs,
            }),
            Code::IdentityKeyInvalid => {
                Reply::VirtualSecureModeError(VirtualSecureModeErrorReply {
                    retryable,
                    open_hgs,
                })
            }
            Code::HostNotRegistered
            | Code::HostRevoked
            | Code::HostKeySignature
            | Code::NonceRequired
            | Code::NonceExpired
            | Code::NonceInvalid
            | Code::IdentityKeySuperseded
            | Code::HostKeyShared
            | Code::IdentityKeyExpired
            | Code::IdentityKeyOfOtherKind
            | Code::TooManyNewIdentityKeys
            | Code::TooManyIdentityKeys => Reply::UnauthorizedError(UnauthorizedErrorReply {
                retryable,
                open_hgs,
            }),
            Code::RtpmContextMalformed
            | Code::RtpmContextForeign
            | Code::RtpmContextAltered
            | Code::RtpmContextOtherHost
            | Code::RtpmContextOtherSession
            | Code::RtpmContextOtherKind
            | Code::RtpmContextExpired
            | Code::TpmResponseMissing
            | Code::TpmRefused
            | Code::TpmResponseMalformed
            | Code::TpmOtherEndorsementKey
            | Code::TpmResponseNotAuthentic
            | Code::TpmResponseReplayed
            | Code::TpmPcrBank
            | Code::PcrsUnstable => Reply::RtpmError(RtpmErrorReply {
                retryable,
                open_hgs,
            }),
            Code::NoEventLog
            | Code::EventLogMalformed
            | Code::EventLogMismatch
            | Code::ImaLogMalformed
            | Code::ImaLogMismatch => Reply::TcgLogValidationError(TcgLogValidationErrorReply {
                retryable,
                open_hgs,
            }),
            Code::Unavailable => Reply::UnavailableError(UnavailableErrorReply {
                retryable,
                open_hgs,
            }),
            Code::PolicyFailed
            | Code::OperationMode
            | Code::NotFound
            | Code::MethodNotAllowed
            | Code::TooLarge
            | Code::Timeout
            | Code::Internal => Reply::Error(ErrorReply {
                retryable,
                open_hgs,
            }),
        }
    }
}

impl From<Reason> for Refusal {
    /// A refusal of an unknown sender.
    fn from(reason: Reason) -> Self {
        Self::with_facts(reason, AttestationFacts::default())
    }
}
