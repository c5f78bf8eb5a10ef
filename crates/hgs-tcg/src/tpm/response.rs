//! Responses of a TPM.

use hgs_crypto::hash::Sha256Digest;

use super::command::{Handle, NO_SESSIONS, SESSIONS, read_message, sized_32};
use super::policy::PcrSelection;
use super::public::{Public, PublicError};
use super::response_code::ResponseCode;
use super::wire::{Reader, StructureError};

/// Why a response says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// The TPM refused the command.
    #[error("the TPM refused the command: {0}")]
    Refused(ResponseCode),
    /// Not a response to that command.
    #[error("malformed response of a TPM: {0}")]
    Structure(#[from] StructureError),
    /// A response without the session that its command had.
    #[error("the response has no session: it was removed, or the command was sent without it")]
    WithoutSession,
    /// The public area in it is not of this profile.
    #[error("in the response of the TPM: {0}")]
    Public(#[from] PublicError),
    /// The name in it is not that of the public area.
    #[error("the name in the response is not that of its public area")]
    Name,
}

/// What a host says of a primary key that its TPM made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicAndHandle {
    /// By which commands name it.
    pub handle: Handle,
    /// A claim of the host.
    pub public: Public,
}

/// Reads the response to TPM2_CreatePrimary. It is a claim: it has no HMAC.
///
/// # Errors
/// When the TPM refused, or the response is of another shape.
pub fn created_primary(response: &[u8]) -> Result<PublicAndHandle, ResponseError> {
    let mut reader = Reader::new(body(response, SESSIONS)?);
    let handle = Handle::new(reader.u32("objectHandle")?);
    if !handle.is_object() {
        return Err(StructureError::Number {
            field: "objectHandle",
            found: handle.value(),
        }
        .into());
    }
    let mut parameters = Reader::new(sized_32(&mut reader, "parameterSize")?);
    // The session of the password.
    reader.expect_empty("nonceTPM")?;
    reader.u8("sessionAttributes")?;
    reader.expect_empty("hmac")?;
    reader.end("the response")?;
    let public = Public::parse(parameters.sized("outPublic")?)?;
    read_creation(&mut parameters)?;
    let name = parameters.sized("name")?;
    parameters.end("the parameters")?;
    check_name(&public, name)?;
    Ok(PublicAndHandle { handle, public })
}

/// Reads the response to TPM2_StartAuthSession: how the TPM calls the session.
///
/// # Errors
/// When the TPM refused, or the response is of another shape.
pub fn started_session(response: &[u8]) -> Result<Handle, ResponseError> {
    Ok(session_and_nonce(response)?.0)
}

/// The handle of a session that was started, and nonceTPM.
pub(super) fn session_and_nonce(response: &[u8]) -> Result<(Handle, [u8; 32]), ResponseError> {
    let mut reader = Reader::new(body(response, NO_SESSIONS)?);
    let handle = Handle::hmac_session(&mut reader, "sessionHandle")?;
    let nonce_tpm = reader.sized_array("nonceTPM")?;
    reader.end("the response")?;
    Ok((handle, nonce_tpm))
}

/// A key as its host keeps it: the TPM loads it under the key that it was made under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrivateAndPublic {
    /// The octets of TPM2B_PRIVATE after its size: encrypted by the TPM, for itself.
    pub private: Vec<u8>,
    /// The public area.
    pub public: Public,
}

/// Reads the response to TPM2_Create, as the host that has the TPM does. The HMAC is for the one who has the session's key.
///
/// # Errors
/// When the TPM refused, or the response is of another shape.
pub fn created_key(response: &[u8]) -> Result<PrivateAndPublic, ResponseError> {
    created_parameters(parameters(response)?)
}

/// The parameters of a response to TPM2_Create.
pub(super) fn created_parameters(parameters: &[u8]) -> Result<PrivateAndPublic, ResponseError> {
    let mut reader = Reader::new(parameters);
    let private = reader.sized("outPrivate")?.to_vec();
    let public = Public::parse(reader.sized("outPublic")?)?;
    read_creation(&mut reader)?;
    reader.end("the parameters")?;
    Ok(PrivateAndPublic { private, public })
}

/// Reads the response to TPM2_PCR_Read, as the host that has the TPM does: the PCRs that the TPM returned, with their
/// values. The HMAC is for the one who has the session's key.
///
/// # Errors
/// When the TPM refused, or the response is of another shape.
pub fn pcrs_read(response: &[u8]) -> Result<Vec<(u8, Sha256Digest)>, ResponseError> {
    let mut reader = Reader::new(parameters(response)?);
    reader.u32("pcrUpdateCounter")?;
    let selection = PcrSelection::read(&mut reader)?;
    reader.u32("pcrValues.count")?;
    let pcrs = selection.pcrs();
    pcrs.map(|pcr| Ok((pcr, reader.sized_array("pcrValues.digests")?)))
        .collect()
}

/// The parameters of a response that has a session.
fn parameters(response: &[u8]) -> Result<&[u8], ResponseError> {
    let mut reader = Reader::new(body(response, SESSIONS)?);
    Ok(sized_32(&mut reader, "parameterSize")?)
}

/// Reads the response to TPM2_ReadPublic. It is a claim: a TPM also returns the public area of a foreign key that was loaded
/// into it, with any attributes.
///
/// # Errors
/// When the TPM refused, or the response is of another shape.
pub fn public_read(response: &[u8]) -> Result<Public, ResponseError> {
    let mut reader = Reader::new(body(response, NO_SESSIONS)?);
    let public = Public::parse(reader.sized("outPublic")?)?;
    let name = reader.sized("name")?;
    reader.sized("qualifiedName")?;
    reader.end("the response")?;
    check_name(&public, name)?;
    Ok(public)
}

fn check_name(public: &Public, name: &[u8]) -> Result<(), ResponseError> {
    match name == public.name().octets() {
        true => Ok(()),
        false => Err(ResponseError::Name),
    }
}

/// creationData, creationHash and creationTicket.
pub(super) fn read_creation(reader: &mut Reader<'_>) -> Result<(), StructureError> {
    reader.sized("creationData")?;
    reader.sized("creationHash")?;
    reader.u16("creationTicket.tag")?;
    reader.u32("creationTicket.hierarchy")?;
    reader.sized("creationTicket.digest")?;
    Ok(())
}

/// What follows the code of a response that reports success and has the expected tag.
pub(super) fn body(response: &[u8], expected: u16) -> Result<&[u8], ResponseError> {
    let (tag, code, body) = read_message(response)?;
    match code {
        0 if tag == expected => Ok(body),
        0 if tag == NO_SESSIONS => Err(ResponseError::WithoutSession),
        0 => Err(StructureError::Number {
            field: "tag",
            found: tag.into(),
        }
        .into()),
        code => Err(ResponseError::Refused(ResponseCode::new(code))),
    }
}
