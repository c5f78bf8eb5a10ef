//! What a host sends.

use std::fmt;

use serde::{Serialize, Serializer};

use super::reader::{
    MessageError, Object, number_in, read_document, result_content, unexpected_type,
};
use super::{
    AttestationProvidedContentType, AttestationResultType, Json, MAX_PROVIDED_CONTENTS,
    ProvidedContent, ResultContent, base64, to_json,
};

/// Any request of the protocol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Request {
    /// [MS-HGSA] 2.2.2.1: the request of v2.0, in TPM and host-key mode. The only one without a required `__type`.
    Attestation(AttestationRequest),
    /// [MS-HGSA] 2.2.2.3.
    TpmInitial(TpmRequestInitial),
    /// [MS-HGSA] 2.2.2.4.
    TpmContinue(TpmRequestContinue),
    /// [MS-HGSA] 2.2.2.5.
    Ad(AdRequest),
}

/// `AttestationRequest` ([MS-HGSA] 2.2.2.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct AttestationRequest {
    /// The session of the host.
    pub session_id: SessionId,
    /// What is asked for.
    pub requested_content: Vec<AttestationResultType>,
    /// What is given, at most [`MAX_PROVIDED_CONTENTS`].
    pub provided_content: Vec<ProvidedContent>,
}

/// `TpmRequestInitial` ([MS-HGSA] 2.2.2.2, 2.2.2.3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(
    tag = "__type",
    rename = "TpmRequestInitial:#Microsoft.Windows.RemoteAttestation.Core",
    rename_all = "PascalCase"
)]
pub struct TpmRequestInitial {
    /// The session of the host.
    pub session_id: SessionId,
    /// What is asked for.
    pub requested_content: Vec<AttestationResultType>,
    /// The public half of the endorsement key.
    #[serde(serialize_with = "base64")]
    pub rtpm_public_endorsement_key: Vec<u8>,
}

/// `TpmRequestContinue` ([MS-HGSA] 2.2.2.2, 2.2.2.4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(
    tag = "__type",
    rename = "TpmRequestContinue:#Microsoft.Windows.RemoteAttestation.Core",
    rename_all = "PascalCase"
)]
pub struct TpmRequestContinue {
    /// The session of the host.
    pub session_id: SessionId,
    /// What is asked for.
    pub requested_content: Vec<AttestationResultType>,
    /// The public half of the endorsement key.
    #[serde(serialize_with = "base64")]
    pub rtpm_public_endorsement_key: Vec<u8>,
    /// The context that the server sent, carried on ([MS-HGSA] 2.2.2.25).
    #[serde(serialize_with = "base64")]
    pub rtpm_new_context: Vec<u8>,
}

/// `ADRequest` ([MS-HGSA] 2.2.2.5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(
    tag = "__type",
    rename = "ADRequest:#Microsoft.Windows.RemoteAttestation.Core",
    rename_all = "PascalCase"
)]
pub struct AdRequest {
    /// The session of the host.
    pub session_id: SessionId,
    /// What is asked for, with the key to be certified.
    pub requested_content: Vec<ResultContent>,
}

/// A GUID that names a host's session ([MS-HGSA] 2.2.2.18); on the wire the Base64 of its 16 octets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub [u8; 16]);

/// A request of TPM mode, of which no Base64 is decoded but that of the session.
pub(crate) enum LazyRequest<'j> {
    /// [`AttestationRequest`].
    Attestation(LazyAttestationRequest<'j>),
    /// [`TpmRequestInitial`] or [`TpmRequestContinue`].
    Tpm {
        session_id: SessionId,
        requested_content: Vec<AttestationResultType>,
        endorsement_key: &'j str,
        context: Option<&'j str>,
    },
    /// A request of another mode, by its name.
    Other(&'static str),
}

/// [`AttestationRequest`] with its contents in Base64.
pub(crate) struct LazyAttestationRequest<'j> {
    pub(crate) session_id: SessionId,
    pub(crate) requested_content: Vec<AttestationResultType>,
    pub(crate) provided_content: Vec<(AttestationProvidedContentType, &'j str)>,
}

impl<'j> LazyRequest<'j> {
    /// Finds the parts of a request.
    pub(crate) fn of(document: &'j Json<'_>) -> Result<Self, MessageError> {
        let object = Object::of(document)?;
        let kind = object.message_type()?;
        match kind {
            None | Some("AttestationRequest") => {
                let found = object.list_length("ProvidedContent")?;
                if found > MAX_PROVIDED_CONTENTS {
                    return Err(MessageError::TooManyProvidedContents { found });
                }
                Ok(Self::Attestation(LazyAttestationRequest {
                    session_id: session_id(&object)?,
                    requested_content: requested_content(&object)?,
                    provided_content: object.list("ProvidedContent", |json| {
                        let tuple = Object::of(json)?;
                        let content_type = tuple.unsigned_int("m_Item1")?.into();
                        Ok((content_type, tuple.text("m_Item2")?))
                    })?,
                }))
            }
            Some("TpmRequestInitial" | "TpmRequestContinue") => Ok(Self::Tpm {
                session_id: session_id(&object)?,
                requested_content: requested_content(&object)?,
                endorsement_key: object.text("RtpmPublicEndorsementKey")?,
                context: match kind {
                    Some("TpmRequestContinue") => Some(object.text("RtpmNewContext")?),
                    _ => None,
                },
            }),
            Some("ADRequest") => Ok(Self::Other("ADRequest")),
            Some(other) => Err(unexpected_type(other)),
        }
    }
}

impl Request {
    /// Reads a request. One without `__type` is an [`AttestationRequest`].
    pub fn parse(octets: &[u8]) -> Result<Self, MessageError> {
        let document = read_document(octets)?;
        let object = Object::of(&document)?;
        match object.message_type()? {
            None | Some("AttestationRequest") => Ok(Self::Attestation(attestation(&object)?)),
            Some("TpmRequestInitial") => Ok(Self::TpmInitial(TpmRequestInitial {
                session_id: session_id(&object)?,
                requested_content: requested_content(&object)?,
                rtpm_public_endorsement_key: object.octets("RtpmPublicEndorsementKey")?,
            })),
            Some("TpmRequestContinue") => Ok(Self::TpmContinue(TpmRequestContinue {
                session_id: session_id(&object)?,
                requested_content: requested_content(&object)?,
                rtpm_public_endorsement_key: object.octets("RtpmPublicEndorsementKey")?,
                rtpm_new_context: object.octets("RtpmNewContext")?,
            })),
            Some("ADRequest") => Ok(Self::Ad(AdRequest {
                session_id: session_id(&object)?,
                requested_content: object.list("RequestedContent", result_content)?,
            })),
            Some(other) => Err(unexpected_type(other)),
        }
    }

    /// The octets on the wire: compact JSON.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        to_json(self)
    }

    /// The name of its type in the specification.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Attestation(_) => "AttestationRequest",
            Self::TpmInitial(_) => "TpmRequestInitial",
            Self::TpmContinue(_) => "TpmRequestContinue",
            Self::Ad(_) => "ADRequest",
        }
    }
}

impl AttestationRequest {
    /// The octets on the wire: compact JSON.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        to_json(self)
    }
}

impl Serialize for SessionId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        base64(&self.0, serializer)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SessionId({})", hgs_crypto::hex::encode(&self.0))
    }
}

fn attestation(object: &Object<'_, '_>) -> Result<AttestationRequest, MessageError> {
    let found = object.list_length("ProvidedContent")?;
    if found > MAX_PROVIDED_CONTENTS {
        return Err(MessageError::TooManyProvidedContents { found });
    }
    Ok(AttestationRequest {
        session_id: session_id(object)?,
        requested_content: requested_content(object)?,
        provided_content: object.list("ProvidedContent", provided_content)?,
    })
}

fn session_id(object: &Object<'_, '_>) -> Result<SessionId, MessageError> {
    let octets = object.octets("SessionId")?;
    let found = octets.len();
    let octets = octets.try_into();
    octets
        .map(SessionId)
        .map_err(|_| MessageError::SessionId { found })
}

fn requested_content(object: &Object<'_, '_>) -> Result<Vec<AttestationResultType>, MessageError> {
    let numbers = object.list("RequestedContent", number_in("RequestedContent"))?;
    Ok(numbers.into_iter().map(From::from).collect())
}

fn provided_content(json: &Json<'_>) -> Result<ProvidedContent, MessageError> {
    let tuple = Object::of(json)?;
    Ok(ProvidedContent {
        content_type: AttestationProvidedContentType::from(tuple.unsigned_int("m_Item1")?),
        octets: tuple.octets("m_Item2")?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::wire::JsonError;

    fn octets() -> impl Strategy<Value = Vec<u8>> {
        vec(any::<u8>(), 0..300)
    }

    fn request() -> impl Strategy<Value = Request> {
        let session_id = any::<[u8; 16]>().prop_map(SessionId);
        let requested = vec(any::<u32>().prop_map(AttestationResultType::from), 0..4);
        let provided = (any::<u32>(), octets()).prop_map(|(number, octets)| ProvidedContent {
            content_type: number.into(),
            octets,
        });
        let asked = (any::<u32>(), octets()).prop_map(|(number, octets)| ResultContent {
            result_type: number.into(),
            octets,
        });
        let provided = vec(provided, 0..=MAX_PROVIDED_CONTENTS);
        let parts = (session_id, requested, provided, vec(asked, 0..4));
        (0..4, parts, octets(), octets()).prop_map(|(which, parts, key, context)| {
            let (session_id, requested_content, provided_content, asked) = parts;
            match which {
                0 => Request::Attestation(AttestationRequest {
                    session_id,
                    requested_content,
                    provided_content,
                }),
                1 => Request::TpmInitial(TpmRequestInitial {
                    session_id,
                    requested_content,
                    rtpm_public_endorsement_key: key,
                }),
                2 => Request::TpmContinue(TpmRequestContinue {
                    session_id,
                    requested_content,
                    rtpm_public_endorsement_key: key,
                    rtpm_new_context: context,
                }),
                _ => Request::Ad(AdRequest {
                    session_id,
                    requested_content: asked,
                }),
            }
        })
    }

    proptest! {
        #[test]
        fn every_request_is_read_as_it_was_written(request in request()) {
            prop_assert_eq!(Request::parse(&request.to_json()), Ok(request));
        }
    }

    const ATTESTATION: &str = concat!(
        r#"{"SessionId":"AAECAwQFBgcICQoLDA0ODw==","RequestedContent":[1],"#,
        r#""ProvidedContent":[{"m_Item1":8,"m_Item2":"Zm9v"},{"m_Item1":77,"m_Item2":""}]}"#
    );

    fn attestation_example() -> AttestationRequest {
        let content = |number: u32, octets: &[u8]| ProvidedContent {
            content_type: number.into(),
            octets: octets.to_vec(),
        };
        AttestationRequest {
            session_id: SessionId(std::array::from_fn(|n| n as u8)),
            requested_content: vec![AttestationResultType::VsmIdentityEncryptionKeyCertificate],
            provided_content: vec![content(8, b"foo"), content(77, b"")],
        }
    }

    /// The octets are written here by hand from the schema of [MS-HGSA] 2.2.2.1.
    #[test]
    fn an_attestation_request_has_the_members_of_its_schema() {
        let request = Request::Attestation(attestation_example());
        assert_eq!(String::from_utf8(request.to_json()).unwrap(), ATTESTATION);
    }

    #[test]
    fn a_type_may_be_absent_or_right_and_unknown_members_are_ignored() {
        let expected = Ok(Request::Attestation(attestation_example()));
        for member in [
            r#""__type":"AttestationRequest:#Microsoft.Windows.RemoteAttestation.Core","#,
            r#""Later":{"deep":[1,2,{"x":null}]},"sessionid":7,"#,
        ] {
            let text = ATTESTATION.replacen('{', &format!("{{{member}"), 1);
            assert_eq!(Request::parse(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn each_way_to_be_no_request_has_its_own_error() {
        let member = |member, expected| MessageError::Member { member, expected };
        let number = "an array of integers from 0 to 4294967295";
        let single = "an integer from 0 to 4294967295";
        for (from, to, error) in [
            (
                "\"SessionId\"",
                "\"Session\"",
                member("SessionId", "a string"),
            ),
            (
                "AAECAwQFBgcICQoLDA0ODw==",
                "Zm9v",
                MessageError::SessionId { found: 3 },
            ),
            ("Zm9v", "Zm9", MessageError::NotBase64 { member: "m_Item2" }),
            (
                "Zm9v",
                "Zm 9v",
                MessageError::NotBase64 { member: "m_Item2" },
            ),
            ("\"Zm9v\"", "[102]", member("m_Item2", "a string")),
            (
                "\"m_Item1\":8",
                "\"m_Item1\":8.0",
                member("m_Item1", single),
            ),
            (
                "\"m_Item1\":8",
                "\"m_Item1\":\"8\"",
                member("m_Item1", single),
            ),
            (
                "\"m_Item1\":8",
                "\"m_Item1\":4294967296",
                member("m_Item1", single),
            ),
            ("[1]", "[-1]", member("RequestedContent", number)),
            ("[1]", "1", member("RequestedContent", "an array")),
            ("[1]", "null", member("RequestedContent", "an array")),
            (
                "{\"m_Item1\":8,\"m_Item2\":\"Zm9v\"}",
                "8",
                MessageError::NotAnObject,
            ),
        ] {
            let text = ATTESTATION.replacen(from, to, 1);
            assert_ne!(text, ATTESTATION);
            assert_eq!(Request::parse(text.as_bytes()), Err(error), "{text}");
        }
        assert_eq!(Request::parse(b"[]"), Err(MessageError::NotAnObject));
        let doubled = ATTESTATION.replacen('{', r#"{"SessionId":"","#, 1);
        let name = "SessionId".to_owned();
        assert_eq!(
            Request::parse(doubled.as_bytes()),
            Err(JsonError::DoubledMember { name }.into())
        );
    }

    #[test]
    fn another_type_is_refused_by_name() {
        for found in [
            "HealthCertificateReply:#Microsoft.Windows.RemoteAttestation.Core",
            "ADRequest:#Elsewhere",
            "ADRequest",
        ] {
            let text = format!(r#"{{"__type":"{found}"}}"#);
            let error = Request::parse(text.as_bytes()).unwrap_err();
            assert!(
                matches!(error, MessageError::UnexpectedType { .. }),
                "{error}"
            );
        }
    }

    #[test]
    fn k13_more_contents_than_the_limit_are_refused_before_they_are_decoded() {
        let mut request = attestation_example();
        let content = request.provided_content[0].clone();
        request.provided_content = vec![content; MAX_PROVIDED_CONTENTS + 1];
        let text = String::from_utf8(request.to_json()).unwrap();
        let error = Request::parse(text.replace("Zm9v", "!").as_bytes()).unwrap_err();
        assert_eq!(error, MessageError::TooManyProvidedContents { found: 17 });
        assert!(error.is_over_limit());
    }
}
