//! The host's part. In host-key mode ([MS-HGSA] 3.2.5.3): make a request, have the host key sign it, read the reply. TPM
//! mode is [`rtpm`].
//!
//! ```text
//! prepare ---> PreparedRequest::to_be_signed ---> the holder of the host key signs
//!              PreparedRequest::assemble <------- signature
//! SignedRequest::body ---> POST to SignedRequest::endpoint ---> SignedRequest::receive ---> Attested
//! ```
//!
//! A server that hands out nonces ([`crate::freshness`]) gets one returned with each request:
//!
//! ```text
//! SignedRequest::prove ---> PreparedProof::to_be_signed ---> the holder of the host key signs
//!                           PreparedProof::assemble <------- signature
//! the header freshness::PROOF_HEADER, beside the body
//! ```
//!
//! What is received is checked to be what was asked for: a health certificate of the right kind over this host's
//! identity key. Whether anybody believes its signer is the business of those it is shown to.

mod failure;
pub mod rtpm;

use hgs_crypto::rsa::{PublicKey, SignatureScheme};
use hgs_pki::health::{HealthKind, HealthStatement};
use hgs_pki::profile::HEALTH_STATEMENT;
use hgs_pki::{Certificate, Time};

pub use failure::{Attempts, AttestationFailure, NotAsked, Refused, RefusedKind};

use crate::freshness::{FreshnessProof, Nonce};
use crate::host_key::signed_octets;
use crate::issue::result_type;
use crate::mode::Endpoint;
use crate::wire::{
    AttestationProvidedContentType, AttestationRequest, HealthCertificateReply, ProvidedContent,
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

/// A request that can be sent, again and again; each time with another nonce beside it.
#[derive(Debug, Clone)]
pub struct SignedRequest {
    kind: HealthKind,
    host_key: PublicKey,
    identity_key: PublicKey,
    body: Vec<u8>,
}

/// A nonce that is to be returned with a request, and lacks the host key's signature.
#[derive(Debug)]
#[must_use = "nothing is proved until the signature is assembled and sent"]
pub struct PreparedProof {
    nonce: Nonce,
    host_key: PublicKey,
    to_be_signed: Vec<u8>,
}

impl PreparedProof {
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

    /// The proof, for the header [`PROOF_HEADER`](crate::freshness::PROOF_HEADER) of the request.
    ///
    /// # Errors
    ///
    /// When the signature does not verify.
    pub fn assemble(self, signature: Vec<u8>) -> Result<FreshnessProof, HostKeySignatureError> {
        self.host_key
            .verify(self.scheme(), &self.to_be_signed, &signature)
            .map_err(|_| HostKeySignatureError)?;
        Ok(FreshnessProof::new(self.nonce, signature))
    }
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
            host_key: self.host_key,
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

    /// Begins to return `nonce` with this request.
    pub fn prove(&self, nonce: Nonce) -> PreparedProof {
        PreparedProof {
            to_be_signed: nonce.signed_octets(&self.body),
            host_key: self.host_key.clone(),
            nonce,
        }
    }

    /// Reads the reply, which had HTTP status `status`.
    pub fn receive(&self, status: u16, body: &[u8]) -> Result<Attested, AttestationFailure> {
        let reply = Reply::parse(body)
            .map_err(|error| AttestationFailure::Unintelligible { status, error })?;
        match reply {
            Reply::HealthCertificate(reply) => Ok(attested(self.kind, &self.identity_key, &reply)?),
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
}

/// What a host that asked for a certificate of `kind` over `identity_key` got.
fn attested(
    kind: HealthKind,
    identity_key: &PublicKey,
    reply: &HealthCertificateReply,
) -> Result<Attested, NotAsked> {
    let [content] = &reply.content[..] else {
        return Err(NotAsked::Count(reply.content.len()));
    };
    if content.result_type != result_type(kind) {
        return Err(NotAsked::Result(content.result_type));
    }
    let certificate = Certificate::from_der(&content.octets)?;
    if certificate.public_key() != identity_key {
        return Err(NotAsked::OtherKey);
    }
    if certificate.extended_key_usage() != Some(&[kind.purpose()]) {
        return Err(NotAsked::Purpose(kind));
    }
    let extension = certificate.extension(&HEALTH_STATEMENT);
    let (_, statement) = extension.ok_or(NotAsked::NoStatement)?;
    Ok(Attested {
        kind,
        statement: HealthStatement::from_der(statement)?,
        certificate,
    })
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
