//! The messages of [MS-HGSA] 2.2: JSON in UTF-8, `__type` first, enumerations as numbers, octets in Base64.
//!
//! Every parser here takes octets and has a budget ([`JsonLimits`]); a message that was read is a value of its own
//! type, with its Base64 decoded. What the octets mean is not looked at.

mod beginning;
mod enums;
mod reader;
mod reply;
mod request;

use serde::{Serialize, Serializer};

pub(crate) use beginning::endorsement_key as endorsement_key_of_beginning;
pub use enums::{AttestationOperationMode, AttestationProvidedContentType, AttestationResultType};
pub(crate) use hgs_json::{Json, quoted};
pub use hgs_json::{JsonError, JsonLimits};
pub use reader::MessageError;
pub use reply::{
    ErrorDetail, ErrorReply, EvaluationLog, HealthCertificateReply, OperationModeErrorReply,
    PayloadErrorReply, PolicyEvaluationErrorReply, Reply, RtpmErrorReply, ServiceInfoReply,
    TcgLogValidationErrorReply, TpmReplyContinue, UnauthorizedErrorReply, UnavailableErrorReply,
    VirtualSecureModeErrorReply, VsmReportValidationErrorReply,
};
pub use request::{
    AdRequest, AttestationRequest, Request, SessionId, TpmRequestContinue, TpmRequestInitial,
};
pub(crate) use request::{LazyAttestationRequest, LazyRequest};

/// Provided contents in one request, at most.
pub const MAX_PROVIDED_CONTENTS: usize = 16;

/// The limits of every request and reply: 512 KiB, 16 levels, 1,024 values, 64 members of one object.
///
/// A request in host-key mode has about 2 KiB, 3 levels and 15 values; one in TPM mode has logs in one long string, and more
/// room: [`TPM_REQUEST`].
pub const MESSAGE: JsonLimits = JsonLimits {
    octets: 512 * 1024,
    depth: 16,
    values: 1024,
    members: 64,
};

/// The limits of a request in TPM mode: those of [`MESSAGE`], with room for a context with both logs in Base64.
pub const TPM_REQUEST: JsonLimits = JsonLimits {
    octets: crate::rtpm::MAX_CONTEXT.div_ceil(3) * 4 + 16 * 1024,
    ..MESSAGE
};

/// What follows the name of a type in `__type`.
const TYPE_NAMESPACE: &str = ":#Microsoft.Windows.RemoteAttestation.Core";

/// `TupleOfAttestationProvidedContentTypebase64Binary` ([MS-HGSA] 2.2.2.8).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProvidedContent {
    /// What the octets are.
    #[serde(rename = "m_Item1")]
    pub content_type: AttestationProvidedContentType,
    /// The octets.
    #[serde(rename = "m_Item2", serialize_with = "base64")]
    pub octets: Vec<u8>,
}

/// `TupleOfAttestationResultTypebase64Binary` ([MS-HGSA] 2.2.2.9).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ResultContent {
    /// What the octets are.
    #[serde(rename = "m_Item1")]
    pub result_type: AttestationResultType,
    /// The octets.
    #[serde(rename = "m_Item2", serialize_with = "base64")]
    pub octets: Vec<u8>,
}

fn base64<S: Serializer>(octets: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&hgs_crypto::base64::encode(octets))
}

fn to_json(message: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(message).expect("messages have names for keys and are written to memory")
}
