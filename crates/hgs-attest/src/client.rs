//! Host-key mode, the host's part ([MS-HGSA] 3.2.5.3): make a request, have the host key sign it, read the reply.
//!
//! ```text
//! prepare ---> PreparedRequest::to_be_signed ---> whoever holds the host key signs
//!              PreparedRequest::assemble <------- signature
//! SignedRequest::body ---> POST to SignedRequest::endpoint ---> SignedRequest::receive ---> Attested
//! ```
//!
//! What is received is checked to be what was asked for: a health certificate of the right kind over this host's
//! identity key. Whether anybody believes its signer is the business of those it is shown to.

use std::collections::BTreeSet;

use hgs_crypto::rsa::{PublicKey, SignatureScheme};
use hgs_pki::health::{HealthKind, HealthStatement, StatementError};
use hgs_pki::profile::HEALTH_STATEMENT;
use hgs_pki::{Certificate, CertificateError, Time};

use crate::host_key::signed_octets;
use crate::issue::result_type;
use crate::mode::Endpoint;
use crate::refusal::Code;
use crate::wire::{
    AttestationOperationMode, AttestationProvidedContentType, AttestationRequest,
    AttestationResultType, ErrorDetail, HealthCertificateReply, MessageError, ProvidedContent,
    Reply, ServiceInfoReply, SessionId,
};

/// A request that only lacks the host key's signature.
#[derive(Debug)]
#[must_use = "nothing is asked for until the request is signed and sent"]
pub struct PreparedRequest {
    session_id: SessionId,
    kind: HealthKind,
    host_key: PublicKey,
    identity_key: PublicKey,
    to_be_signed: Vec<u8>,
}

/// A request that can be sent, again and again: it carries no nonce.
#[derive(Debug, Clone)]
pub struct SignedRequest {
    kind: HealthKind,
    identity_key: PublicKey,
    body: Vec<u8>,
}

/// The signature is not the host key's over this request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature over the attestation request was not made by the host key")]
pub struct HostKeySignatureError;

/// Writes down a request for a health certificate over `identity_key`.
///
/// `session_id` is 16 random octets; it names the attempt in the logs of both sides and proves nothing.
pub fn prepare(
    session_id: SessionId,
    kind: HealthKind,
    host_key: &PublicKey,
    identity_key: &PublicKey,
) -> PreparedRequest {
    PreparedRequest {
        session_id,
        kind,
        to_be_signed: signed_octets(host_key.spki_der(), identity_key.spki_der()),
        host_key: host_key.clone(),
        identity_key: identity_key.clone(),
    }
}

impl PreparedRequest {
    /// How the host key is to sign.
    #[must_use]
    pub fn scheme(&self) -> SignatureScheme {
        SignatureScheme::Pkcs1Sha256
    }

    /// What the host key is to sign.
    #[must_use]
    pub fn to_be_signed(&self) -> &[u8] {
        &self.to_be_signed
    }

    /// Puts the request together.
    ///
    /// # Errors
    ///
    /// When the signature does not verify: the server would refuse it, and not say more.
    pub fn assemble(self, signature: Vec<u8>) -> Result<SignedRequest, HostKeySignatureError> {
        self.host_key
            .verify(self.scheme(), &self.to_be_signed, &signature)
            .map_err(|_| HostKeySignatureError)?;
        let content = |content_type, octets| ProvidedContent {
            content_type,
            octets,
        };
        let request = AttestationRequest {
            session_id: self.session_id,
            requested_content: vec![result_type(self.kind)],
            provided_content: vec![
                content(
                    AttestationProvidedContentType::VirtualSecureModeIdentityKey,
                    self.identity_key.spki_der().to_vec(),
                ),
                content(
                    AttestationProvidedContentType::HostKeyPublicKey,
                    self.host_key.spki_der().to_vec(),
                ),
                content(AttestationProvidedContentType::HostKeySignature, signature),
            ],
        };
        Ok(SignedRequest {
            kind: self.kind,
            identity_key: self.identity_key,
            body: request.to_json(),
        })
    }
}

impl SignedRequest {
    /// The operation to which it is posted.
    #[must_use]
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::HostKeyAttest
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Reads the reply, which had HTTP status `status`.
    ///
    /// # Errors
    ///
    /// See [`AttestationFailure`].
    pub fn receive(&self, status: u16, body: &[u8]) -> Result<Attested, AttestationFailure> {
        let reply = Reply::parse(body)
            .map_err(|error| AttestationFailure::Unintelligible { status, error })?;
        match reply {
            Reply::HealthCertificate(reply) => Ok(self.attested(reply)?),
            Reply::OperationModeError(reply) => Err(AttestationFailure::OtherMode {
                expected: reply.expected_operation_mode,
                retryable: reply.retryable,
            }),
            other => Err(Refused::of(other).map_or(
                AttestationFailure::UnexpectedReply { status },
                AttestationFailure::Refused,
            )),
        }
    }

    fn attested(&self, reply: HealthCertificateReply) -> Result<Attested, NotAsked> {
        let [content] = &reply.content[..] else {
            return Err(NotAsked::Count(reply.content.len()));
        };
        if content.result_type != result_type(self.kind) {
            return Err(NotAsked::Result(content.result_type));
        }
        let certificate = Certificate::from_der(&content.octets)?;
        if *certificate.public_key() != self.identity_key {
            return Err(NotAsked::OtherKey);
        }
        if certificate.extended_key_usage() != Some(&[self.kind.purpose()]) {
            return Err(NotAsked::Purpose(self.kind));
        }
        let extension = certificate.extension(&HEALTH_STATEMENT);
        let (_, statement) = extension.ok_or(NotAsked::NoStatement)?;
        Ok(Attested {
            kind: self.kind,
            statement: HealthStatement::from_der(statement)?,
            certificate,
        })
    }
}

/// A health certificate over this host's own identity key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attested {
    certificate: Certificate,
    kind: HealthKind,
    statement: HealthStatement,
}

impl Attested {
    /// The certificate.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// What its key is for.
    #[must_use]
    pub fn kind(&self) -> HealthKind {
        self.kind
    }

    /// What the server says about this host.
    #[must_use]
    pub fn statement(&self) -> &HealthStatement {
        &self.statement
    }

    /// The last second in which it is valid.
    #[must_use]
    pub fn expires(&self) -> Time {
        self.certificate.validity().not_after
    }
}

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
}

impl AttestationFailure {
    /// Whether the same request can meaningfully be sent again.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Refused(refused) => refused.retryable,
            // A proxy in between, or a server that is starting.
            Self::Unintelligible { status, .. } => *status >= 500,
            Self::OtherMode { .. } | Self::UnexpectedReply { .. } | Self::NotAsked(_) => false,
        }
    }

    /// Whether a request for a new identity key can succeed where this one can't.
    #[must_use]
    pub fn needs_new_identity_key(&self) -> bool {
        let Self::Refused(refused) = self else {
            return false;
        };
        matches!(
            refused.code(),
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

impl Refused {
    /// The code of the error table, where the server gave one that we know.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        self.detail
            .as_ref()
            .and_then(|detail| Code::from_name(&detail.code))
    }

    fn of(reply: Reply) -> Option<Self> {
        macro_rules! refused {
            ($kind:ident, $reply:ident) => {
                Some(Self {
                    kind: RefusedKind::$kind,
                    retryable: $reply.retryable,
                    detail: $reply.open_hgs,
                })
            };
        }
        match reply {
            Reply::Error(reply) => refused!(Error, reply),
            Reply::PayloadError(reply) => refused!(Payload, reply),
            Reply::PolicyEvaluationError(reply) => refused!(PolicyEvaluation, reply),
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

impl std::fmt::Display for Refused {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.detail {
            Some(detail) => write!(formatter, "{} ({})", detail.message, detail.code),
            None => write!(formatter, "{:?}", self.kind),
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

/// Reads the reply to `GET /Attestation/getinfo`.
///
/// # Errors
///
/// [`AttestationFailure::Unintelligible`] or [`AttestationFailure::UnexpectedReply`].
pub fn read_service_info(status: u16, body: &[u8]) -> Result<ServiceInfoReply, AttestationFailure> {
    match Reply::parse(body) {
        Ok(Reply::ServiceInfo(reply)) => Ok(reply),
        Ok(other) => Err(Refused::of(other).map_or(
            AttestationFailure::UnexpectedReply { status },
            AttestationFailure::Refused,
        )),
        Err(error) => Err(AttestationFailure::Unintelligible { status, error }),
    }
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
