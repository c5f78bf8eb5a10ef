//! What a request holds in TPM mode. The endorsement key is read first: of a host that is not registered, nothing else is
//! decoded.

use hgs_crypto::base64;
use hgs_crypto::hash::sha256;
use hgs_pki::health::HealthKind;

use crate::facts::AttestationFacts;
use crate::host_key::requested_kind;
use crate::refusal::Reason;
use crate::registry::CredentialId;
use crate::wire::{
    AttestationProvidedContentType, Json, LazyAttestationRequest, LazyRequest, MessageError,
    SessionId, TPM_REQUEST, endorsement_key_of_beginning,
};

/// Octets of a request in TPM mode, at most.
pub const MAX_REQUEST: usize = TPM_REQUEST.octets;

/// The name of the endorsement key that a request names whose beginning this is. A server that knows no host with it need
/// not read on.
#[must_use]
pub fn credential_of_beginning(beginning: &[u8]) -> Option<CredentialId> {
    let key = endorsement_key_of_beginning(beginning)?;
    Some(CredentialId::EndorsementKey(sha256(&key)))
}

/// A request, of which nothing is proved and only the endorsement key is decoded.
pub(super) struct TpmRequest<'j> {
    pub(super) session_id: SessionId,
    pub(super) kind: HealthKind,
    /// A TPMT_PUBLIC.
    pub(super) endorsement_key: Vec<u8>,
    context: Option<&'j str>,
    identity_key: Option<&'j str>,
}

impl<'j> TpmRequest<'j> {
    pub(super) fn read(
        document: &'j Json<'_>,
        facts: &mut AttestationFacts,
    ) -> Result<Self, Reason> {
        use AttestationProvidedContentType as Content;
        let request = match LazyRequest::of(document)? {
            LazyRequest::Attestation(request) => {
                let endorsement_key = Content::EndorsementKeyCertificate;
                let found = only(&request, endorsement_key)?;
                Self {
                    session_id: request.session_id,
                    kind: requested_kind(&request.requested_content)?,
                    endorsement_key: decode(
                        found.ok_or(Reason::MissingContent(endorsement_key))?,
                        "m_Item2",
                    )?,
                    context: only(&request, Content::RtpmContext)?,
                    identity_key: only(&request, Content::VirtualSecureModeIdentityKey)?,
                }
            }
            LazyRequest::Tpm {
                session_id,
                requested_content,
                endorsement_key,
                context,
            } => Self {
                session_id,
                kind: requested_kind(&requested_content)?,
                endorsement_key: decode(endorsement_key, "RtpmPublicEndorsementKey")?,
                context,
                identity_key: None,
            },
            LazyRequest::Other(found) => return Err(Reason::OtherRequest { found }),
        };
        facts.session = Some(request.session_id);
        facts.kind = Some(request.kind);
        // An empty context is none.
        let context = request.context.filter(|context| !context.is_empty());
        Ok(Self { context, ..request })
    }

    /// The context, if there is one.
    pub(super) fn context(&self) -> Result<Option<Vec<u8>>, Reason> {
        let context = self.context.map(|text| decode(text, "m_Item2"));
        context.transpose()
    }

    /// The TPMT_PUBLIC of the identity key that the host wants to use again.
    pub(super) fn identity_key(&self) -> Result<Option<Vec<u8>>, Reason> {
        let key = self.identity_key.map(|text| decode(text, "m_Item2"));
        key.transpose()
    }
}

fn decode(text: &str, member: &'static str) -> Result<Vec<u8>, Reason> {
    base64::decode(text).map_err(|_| MessageError::NotBase64 { member }.into())
}

fn only<'j>(
    request: &LazyAttestationRequest<'j>,
    content_type: AttestationProvidedContentType,
) -> Result<Option<&'j str>, Reason> {
    let provided = request.provided_content.iter();
    let mut matching = provided.filter(|(found, _)| *found == content_type);
    match (matching.next(), matching.next()) {
        (_, Some(_)) => Err(Reason::DoubledContent(content_type)),
        (first, None) => Ok(first.map(|(_, text)| *text)),
    }
}
