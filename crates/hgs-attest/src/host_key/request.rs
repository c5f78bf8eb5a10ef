//! What a request must hold in host-key mode.

use hgs_pki::health::HealthKind;

use crate::facts::AttestationFacts;
use crate::refusal::Reason;
use crate::wire::{
    AttestationProvidedContentType, AttestationRequest, AttestationResultType, Request,
};

/// The contents of an attestation request, of which nothing is proved.
pub(super) struct HostKeyRequest {
    pub(super) kind: HealthKind,
    pub(super) host_key: Vec<u8>,
    pub(super) identity_key: Vec<u8>,
    pub(super) signature: Vec<u8>,
}

impl HostKeyRequest {
    pub(super) fn read(body: &[u8], facts: &mut AttestationFacts) -> Result<Self, Reason> {
        let request = match Request::parse(body)? {
            Request::Attestation(request) => request,
            other => {
                let found = other.type_name();
                return Err(Reason::OtherRequest { found });
            }
        };
        facts.session = Some(request.session_id);
        let identity_key = AttestationProvidedContentType::VirtualSecureModeIdentityKey;
        let host_key = AttestationProvidedContentType::HostKeyPublicKey;
        let signature = AttestationProvidedContentType::HostKeySignature;
        Ok(Self {
            identity_key: only(&request, identity_key)?,
            host_key: only(&request, host_key)?,
            signature: only(&request, signature)?,
            kind: requested_kind(&request.requested_content)?,
        })
    }
}

/// The octets that a host key signs.
pub(crate) fn signed_octets(host_key: &[u8], identity_key: &[u8]) -> Vec<u8> {
    [host_key, identity_key].concat()
}

fn only(
    request: &AttestationRequest,
    content_type: AttestationProvidedContentType,
) -> Result<Vec<u8>, Reason> {
    let provided = request.provided_content.iter();
    let mut matching = provided.filter(|content| content.content_type == content_type);
    let first = matching
        .next()
        .ok_or(Reason::MissingContent(content_type))?;
    match matching.next() {
        None => Ok(first.octets.clone()),
        Some(_) => Err(Reason::DoubledContent(content_type)),
    }
}

/// The one result that is requested.
pub(crate) fn requested_kind(requested: &[AttestationResultType]) -> Result<HealthKind, Reason> {
    let [result] = requested else {
        return Err(Reason::ResultCount(requested.len()));
    };
    match result {
        AttestationResultType::VsmIdentityEncryptionKeyCertificate => Ok(HealthKind::Encryption),
        AttestationResultType::VsmIdentitySigningKeyCertificate => Ok(HealthKind::Signing),
        AttestationResultType::VsmCaIntermediateCertificate => Err(Reason::CaIntermediate),
        AttestationResultType::Unnamed(number) => Err(Reason::UnknownResult(*number)),
    }
}
