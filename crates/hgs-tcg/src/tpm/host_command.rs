//! Commands that a host runs on its own TPM for itself: what the TPM is, and where it stands.
//!
//! None of them is ever taken from a server; [`Command`](super::Command) has those that are.

use hgs_crypto::hash::Sha256Digest;

use super::command::{Handle, NO_SESSIONS, PASSWORD, SESSIONS, message, sized_32, sized_area};
use super::policy::{PcrSelection, SHA256};
use super::public::Name;
use super::response::{PrivateAndPublic, ResponseError, body};
use super::wire::{Reader, StructureError, sized};

const NV_READ: u32 = 0x0000_014e;
const LOAD: u32 = 0x0000_0157;
const FLUSH_CONTEXT: u32 = 0x0000_0165;
const NV_READ_PUBLIC: u32 = 0x0000_0169;
const GET_CAPABILITY: u32 = 0x0000_017a;
const READ_CLOCK: u32 = 0x0000_0181;
const PCR_EXTEND: u32 = 0x0000_0182;
const PCR_READ: u32 = super::command::PCR_READ;

/// Where a TPM keeps the certificate of its RSA endorsement key (TCG EK Credential Profile 2.x, 2.2.1.4).
pub const EK_CERTIFICATE_INDEX: u32 = 0x01c0_0002;

/// Octets of one read of NV memory: every TPM of the PC Client Platform TPM Profile takes at least these.
pub(super) const NV_PART: u16 = 512;

/// The authorization area of a session with an empty password.
pub(super) fn empty_password() -> Vec<u8> {
    sized_area(&[&PASSWORD.to_be_bytes()[..], &[0; 5]].concat())
}

/// Reads the session that answers a password.
pub(super) fn read_password_session(mut reader: Reader<'_>) -> Result<(), StructureError> {
    reader.expect_empty("nonceTPM")?;
    reader.u8("sessionAttributes")?;
    reader.expect_empty("hmac")?;
    reader.end("the response")
}

/// The parameters of a response whose command had a password.
pub(super) fn parameters(response: &[u8]) -> Result<Reader<'_>, ResponseError> {
    let mut reader = Reader::new(body(response, SESSIONS)?);
    let parameters = sized_32(&mut reader, "parameterSize")?;
    read_password_session(reader)?;
    Ok(Reader::new(parameters))
}

/// TPM2_NV_ReadPublic.
#[must_use]
pub fn nv_read_public(index: u32) -> Vec<u8> {
    message(NO_SESSIONS, NV_READ_PUBLIC, &index.to_be_bytes())
}

/// How many octets the index has that TPM2_NV_ReadPublic was asked about.
///
/// # Errors
/// When the TPM refused: a TPM without the index says that the handle is wrong.
pub fn nv_size(response: &[u8]) -> Result<u16, ResponseError> {
    let mut reader = Reader::new(body(response, NO_SESSIONS)?);
    let mut public = Reader::new(reader.sized("nvPublic")?);
    public.u32("nvIndex")?;
    public.u16("nameAlg")?;
    public.u32("attributes")?;
    public.sized("authPolicy")?;
    let size = public.u16("dataSize")?;
    public.end("nvPublic")?;
    reader.sized("nvName")?;
    reader.end("the response")?;
    Ok(size)
}

/// TPM2_NV_Read of `size` octets in parts, with the empty password of the index.
pub fn nv_reads(index: u32, size: u16) -> impl Iterator<Item = Vec<u8>> {
    (0..size).step_by(NV_PART.into()).map(move |offset| {
        let part = NV_PART.min(size - offset);
        let index = index.to_be_bytes();
        let range = [part.to_be_bytes(), offset.to_be_bytes()].concat();
        let body = [&index[..], &index, &empty_password(), &range].concat();
        message(SESSIONS, NV_READ, &body)
    })
}

/// What TPM2_NV_Read returned.
///
/// # Errors
/// When the TPM refused, or the response is of another shape.
pub fn nv_octets(response: &[u8]) -> Result<&[u8], ResponseError> {
    let mut parameters = parameters(response)?;
    let octets = parameters.sized("data")?;
    parameters.end("the parameters")?;
    Ok(octets)
}

/// TPM2_Load of a key under a storage root key, whose password is empty.
#[must_use]
pub fn load(parent: Handle, key: &PrivateAndPublic) -> Vec<u8> {
    load_object(parent, &key.private, key.public.octets())
}

/// TPM2_Load of any object.
pub(super) fn load_object(parent: Handle, private: &[u8], public: &[u8]) -> Vec<u8> {
    let parent = parent.value().to_be_bytes();
    let (private, public) = (sized(private), sized(public));
    let body = [&parent[..], &empty_password(), &private, &public].concat();
    message(SESSIONS, LOAD, &body)
}

/// The handle of the key that TPM2_Load loaded.
///
/// # Errors
/// When the TPM refused, or loaded another key.
pub fn loaded(response: &[u8], key: &PrivateAndPublic) -> Result<Handle, ResponseError> {
    loaded_object(response, &key.public.name())
}

/// The handle of the object with this name that TPM2_Load loaded.
pub(super) fn loaded_object(response: &[u8], expected: &Name) -> Result<Handle, ResponseError> {
    let mut reader = Reader::new(body(response, SESSIONS)?);
    let handle = Handle::new(reader.u32("objectHandle")?);
    let mut parameters = Reader::new(sized_32(&mut reader, "parameterSize")?);
    read_password_session(reader)?;
    let name = parameters.sized("name")?;
    parameters.end("the parameters")?;
    match name == expected.octets() {
        true => Ok(handle),
        false => Err(ResponseError::Name),
    }
}

/// TPM2_PCR_Read without a session, of at most [`PcrSelection::MAX_READ`] PCRs: what it returns proves nothing.
#[must_use]
pub fn read_pcrs_without_session(selection: PcrSelection) -> Vec<u8> {
    message(NO_SESSIONS, PCR_READ, &selection.octets())
}

/// The values that [`read_pcrs_without_session`] asked for, in rising order of their PCRs. `None` if the TPM has no bank of SHA-256.
///
/// # Errors
/// When the TPM refused, or the response is of another shape.
pub fn pcrs_read_without_session(
    response: &[u8],
    selection: PcrSelection,
) -> Result<Option<Vec<Sha256Digest>>, ResponseError> {
    let mut reader = Reader::new(body(response, NO_SESSIONS)?);
    reader.u32("pcrUpdateCounter")?;
    if PcrSelection::read(&mut reader).ok() != Some(selection) {
        return Ok(None);
    }
    let count = u32::try_from(selection.count()).unwrap_or(u32::MAX);
    reader.expect_u32(count, "pcrValues.count")?;
    let values = (0..count).map(|_| reader.sized_array("pcrValues.digests"));
    let values = values.collect::<Result<_, _>>()?;
    reader.end("pcrValues")?;
    Ok(Some(values))
}

/// TPM2_PCR_Extend of the bank of SHA-256: what a boot does, and a replay of one.
#[must_use]
pub fn extend_pcr(pcr: u8, digest: &Sha256Digest) -> Vec<u8> {
    let pcr = u32::from(pcr).to_be_bytes();
    let digests = [&1u32.to_be_bytes()[..], &SHA256.to_be_bytes(), digest].concat();
    let body = [&pcr[..], &empty_password(), &digests].concat();
    message(SESSIONS, PCR_EXTEND, &body)
}

/// TPM_CAP_TPM_PROPERTIES, and TPM_PT_PERMANENT among them: TPMA_PERMANENT.
const PROPERTIES: u32 = 6;
const PERMANENT: u32 = 0x200;
/// inLockout in TPMA_PERMANENT (part 2, 8.6).
const IN_LOCKOUT: u32 = 1 << 9;

/// TPM2_GetCapability of one property, such as TPM_PT_MANUFACTURER.
#[must_use]
pub fn get_property(property: u32) -> Vec<u8> {
    let body = [PROPERTIES, property, 1].map(u32::to_be_bytes).concat();
    message(NO_SESSIONS, GET_CAPABILITY, &body)
}

/// The value of a property, as the response to [`get_property`] says.
///
/// # Errors
/// When the TPM refused, or the response is of another shape.
pub fn property(response: &[u8], property: u32) -> Result<u32, ResponseError> {
    let mut reader = Reader::new(body(response, NO_SESSIONS)?);
    reader.u8("moreData")?;
    reader.expect_u32(PROPERTIES, "capability")?;
    reader.expect_u32(1, "tpmProperty.count")?;
    reader.expect_u32(property, "tpmProperty.property")?;
    let value = reader.u32("tpmProperty.value")?;
    reader.end("the response")?;
    Ok(value)
}

/// TPM2_GetCapability of TPMA_PERMANENT.
#[must_use]
pub fn get_permanent_attributes() -> Vec<u8> {
    get_property(PERMANENT)
}

/// Whether the TPM is locked after too many wrong passwords, as the response to [`get_permanent_attributes`] says.
///
/// # Errors
/// When the TPM refused, or the response is of another shape.
pub fn is_in_lockout(response: &[u8]) -> Result<bool, ResponseError> {
    Ok(property(response, PERMANENT)? & IN_LOCKOUT != 0)
}

/// TPM2_ReadClock, which every TPM that has been started up answers at once.
#[must_use]
pub fn read_clock() -> Vec<u8> {
    message(NO_SESSIONS, READ_CLOCK, &[])
}

/// The milliseconds for which the TPM has had power since it was cleared last, as the response to [`read_clock`] says. A TPM that
/// loses power without warning may go back by some minutes.
///
/// # Errors
/// When the TPM refused, or the response is of another shape.
pub fn clock(response: &[u8]) -> Result<u64, ResponseError> {
    let mut reader = Reader::new(body(response, NO_SESSIONS)?);
    reader.array::<8>("currentTime.time")?;
    let clock = reader.array("currentTime.clockInfo.clock")?;
    reader.array::<9>("resetCount, restartCount, safe")?;
    reader.end("the response")?;
    Ok(u64::from_be_bytes(clock))
}

/// TPM2_FlushContext, with which a host frees a slot of its TPM: a server that could send it could end other programs'
/// sessions.
#[must_use]
pub fn flush_context(handle: Handle) -> Vec<u8> {
    message(NO_SESSIONS, FLUSH_CONTEXT, &handle.value().to_be_bytes())
}

/// What the response to a command without parameters says.
///
/// # Errors
/// When the TPM refused.
pub fn done(response: &[u8]) -> Result<(), ResponseError> {
    match body(response, NO_SESSIONS) {
        Ok(rest) => Ok(Reader::new(rest).end("the response")?),
        Err(ResponseError::Structure(_)) => parameters(response).map(|_| ()),
        Err(error) => Err(error),
    }
}
