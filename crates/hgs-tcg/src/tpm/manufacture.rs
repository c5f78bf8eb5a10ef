//! Commands with which the maker of a TPM prepares it: banks of PCRs, endorsement keys, and their certificates in NV memory.
//!
//! Here the TPM is a VM's, in software, and its maker is the owner of the VM. The platform hierarchy has an empty password
//! until the firmware of the VM runs.

use hgs_crypto::hash::sha384_of;

use super::command::{
    ALGORITHM_NULL, CREATE_PRIMARY, ENDORSEMENT, Handle, NO_SESSIONS, OWNER, PLATFORM, SESSIONS,
    message, sized_32,
};
use super::host_command::{NV_PART, empty_password, parameters, read_password_session};
use super::policy::SHA256;
use super::public::{AES, CFB, ECC};
use super::response::{ResponseError, body, read_creation};
use super::wire::{Reader, StructureError, sized};

const EVICT_CONTROL: u32 = 0x0000_0120;
const NV_UNDEFINE_SPACE: u32 = 0x0000_0122;
const CHANGE_EPS: u32 = 0x0000_0124;
const NV_DEFINE_SPACE: u32 = 0x0000_012a;
const PCR_ALLOCATE: u32 = 0x0000_012b;
const NV_WRITE: u32 = 0x0000_0137;
const NV_WRITE_LOCK: u32 = 0x0000_0138;
const STARTUP: u32 = 0x0000_0144;
const SHUTDOWN: u32 = 0x0000_0145;

const SHA1: u16 = 0x0004;
const SHA384: u16 = 0x000c;
const SHA512: u16 = 0x000d;
const NIST_P384: u16 = 0x0004;

/// Where the RSA endorsement key is kept (TCG EK Credential Profile 2.x, 2.2.1.4; TPM v2.0 Provisioning Guidance, 7.8).
pub const EK_HANDLE: u32 = 0x8101_0001;
/// Where the endorsement key on P-384 is kept, by the convention of swtpm's tools.
pub const ECC_EK_HANDLE: u32 = 0x8101_0016;
/// Where the certificate of the endorsement key on P-384 is (TCG EK Credential Profile 2.x, 2.2.1.5.2).
pub const ECC_EK_CERTIFICATE_INDEX: u32 = 0x01c0_0016;

/// Of the NV index of an EK certificate: ppwrite, writedefine, ppread, ownerread, authread, no_da, platformcreate. Once
/// written and locked, it stays as it is as long as the platform's maker does not remove the index.
const CERTIFICATE_ATTRIBUTES: u32 = 0x4207_2001;

/// fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, adminWithPolicy, restricted, decrypt.
const ECC_EK_ATTRIBUTES: u32 = 0x0003_00f2;
/// PolicyB with SHA-384: the policy of TCG's templates with the high handles.
const ECC_EK_POLICY: [u8; 48] = [
    0xb2, 0x6e, 0x7d, 0x28, 0xd1, 0x1a, 0x50, 0xbc, 0x53, 0xd8, 0x82, 0xbc, 0xf5, 0xfd, 0x3a, 0x1a,
    0x07, 0x41, 0x48, 0xbb, 0x35, 0xd3, 0xb4, 0xe4, 0xcb, 0x1c, 0x0a, 0xd9, 0xbd, 0xe4, 0x19, 0xca,
    0xcb, 0x47, 0xba, 0x09, 0x69, 0x96, 0x46, 0x15, 0x0f, 0x9f, 0xc0, 0x00, 0xf3, 0xf8, 0x0e, 0x12,
];

/// TPM2_Startup(TPM_SU_CLEAR).
#[must_use]
pub fn start_up() -> Vec<u8> {
    message(NO_SESSIONS, STARTUP, &[0, 0])
}

/// TPM2_Shutdown(TPM_SU_CLEAR).
#[must_use]
pub fn shut_down() -> Vec<u8> {
    message(NO_SESSIONS, SHUTDOWN, &[0, 0])
}

/// TPM2_PCR_Allocate: from the next start on, PCRs have the bank of SHA-256 and no other. Firmware measures into every bank
/// there is, and what is measured into one that no policy looks at is time lost.
#[must_use]
pub fn allocate_sha256_bank() -> Vec<u8> {
    const ALL: [u8; 4] = [3, 0xff, 0xff, 0xff];
    const NONE: [u8; 4] = [3, 0, 0, 0];
    let banks = [(SHA1, NONE), (SHA256, ALL), (SHA384, NONE), (SHA512, NONE)];
    let mut selection = 4u32.to_be_bytes().to_vec();
    for (bank, pcrs) in banks {
        selection.extend(bank.to_be_bytes());
        selection.extend(pcrs);
    }
    with_platform(PCR_ALLOCATE, &[], &selection)
}

/// Whether the TPM will do what [`allocate_sha256_bank`] asks.
///
/// # Errors
/// When the TPM refused, or the response is of another shape.
pub fn bank_is_allocated(response: &[u8]) -> Result<bool, ResponseError> {
    let mut parameters = parameters(response)?;
    let success = parameters.u8("allocationSuccess")?;
    parameters.u32("maxPCR")?;
    parameters.u32("sizeNeeded")?;
    parameters.u32("sizeAvailable")?;
    parameters.end("the parameters")?;
    Ok(success == 1)
}

/// What a TPM says about itself, for its certificate: TPM_PT_MANUFACTURER, four characters as a number.
pub const MANUFACTURER: u32 = 0x105;
/// TPM_PT_FIRMWARE_VERSION_1.
pub const FIRMWARE_VERSION: u32 = 0x10b;

/// TPM2_ChangeEPS: a new seed for endorsement keys. The old ones are gone, whatever the owner's hierarchy holds stays.
#[must_use]
pub fn change_endorsement_seed() -> Vec<u8> {
    with_platform(CHANGE_EPS, &[], &[])
}

/// TPM2_EvictControl: a loaded key stays in the TPM at `persistent`.
#[must_use]
pub fn persist(object: Handle, persistent: u32) -> Vec<u8> {
    let owner = OWNER.to_be_bytes();
    let object = object.value().to_be_bytes();
    let place = persistent.to_be_bytes();
    let body = [&owner[..], &object, &empty_password(), &place].concat();
    message(SESSIONS, EVICT_CONTROL, &body)
}

/// The template of an endorsement key on P-384 (TCG EK Credential Profile 2.x, template H-3) up to `unique`.
fn ecc_ek_template() -> Vec<u8> {
    let kinds = [ECC, SHA384].map(u16::to_be_bytes).concat();
    let parameters = [
        AES,
        256,
        CFB,
        ALGORITHM_NULL,
        NIST_P384,
        // The key derivation function.
        ALGORITHM_NULL,
    ];
    [
        &kinds[..],
        &ECC_EK_ATTRIBUTES.to_be_bytes(),
        &sized(&ECC_EK_POLICY),
        &parameters.map(u16::to_be_bytes).concat(),
    ]
    .concat()
}

/// TPM2_CreatePrimary of the endorsement key on P-384.
#[must_use]
pub fn create_ecc_endorsement_key() -> Vec<u8> {
    // Two empty coordinates.
    let public = [&ecc_ek_template()[..], &[0; 4]].concat();
    let sensitive = sized(&[0; 4]);
    let end = [0; 2 + 4];
    let body = [
        &ENDORSEMENT.to_be_bytes()[..],
        &empty_password(),
        &sensitive,
        &sized(&public),
        &end,
    ]
    .concat();
    message(SESSIONS, CREATE_PRIMARY, &body)
}

/// An endorsement key on P-384, as its maker has it from the TPM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EccEndorsementKey {
    /// By which commands name it.
    pub handle: Handle,
    /// The first coordinate.
    pub x: [u8; 48],
    /// The second coordinate.
    pub y: [u8; 48],
}

/// What TPM2_CreatePrimary answered to [`create_ecc_endorsement_key`].
///
/// # Errors
/// When the TPM refused, or made another key.
pub fn created_ecc_endorsement_key(response: &[u8]) -> Result<EccEndorsementKey, ResponseError> {
    let mut reader = Reader::new(body(response, SESSIONS)?);
    let handle = Handle::new(reader.u32("objectHandle")?);
    let mut parameters = Reader::new(sized_32(&mut reader, "parameterSize")?);
    read_password_session(reader)?;
    let public = parameters.sized("outPublic")?;
    read_creation(&mut parameters)?;
    let name = parameters.sized("name")?;
    parameters.end("the parameters")?;
    let expected = [&SHA384.to_be_bytes()[..], &sha384_of(&[public])].concat();
    if name != expected {
        return Err(ResponseError::Name);
    }
    let template = ecc_ek_template();
    let unique = public.strip_prefix(&template[..]);
    let mut unique = Reader::new(unique.ok_or(StructureError::Size {
        field: "the public area before unique",
        found: public.len(),
    })?);
    let (x, y) = (coordinate(&mut unique, "x")?, coordinate(&mut unique, "y")?);
    unique.end("unique")?;
    Ok(EccEndorsementKey { handle, x, y })
}

/// A coordinate; a TPM may leave leading zeros out.
fn coordinate(reader: &mut Reader<'_>, field: &'static str) -> Result<[u8; 48], StructureError> {
    let octets = reader.sized(field)?;
    let mut whole = [0; 48];
    let found = octets.len();
    let place = whole.len().checked_sub(found);
    let place = place.ok_or(StructureError::Size { field, found })?;
    whole[place..].copy_from_slice(octets);
    Ok(whole)
}

/// The commands that write a certificate into an NV index that does not exist: definition, parts, lock.
///
/// # Panics
///
/// If it has more than 65535 octets, which no index takes.
#[must_use]
pub fn write_certificate(index: u32, certificate: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let size = u16::try_from(certificate.len()).expect("no NV index takes more");
    let place = index.to_be_bytes();
    let public = [
        &place[..],
        &SHA256.to_be_bytes(),
        &CERTIFICATE_ATTRIBUTES.to_be_bytes(),
        // No policy.
        &[0; 2],
        &size.to_be_bytes(),
    ]
    .concat();
    let definition = [&[0; 2][..], &sized(&public)].concat();
    let mut commands = vec![(
        "TPM2_NV_DefineSpace",
        with_platform(NV_DEFINE_SPACE, &[], &definition),
    )];
    let offsets = (0..size).step_by(NV_PART.into());
    for (offset, part) in offsets.zip(certificate.chunks(NV_PART.into())) {
        let write = [sized(part), offset.to_be_bytes().to_vec()].concat();
        commands.push(("TPM2_NV_Write", with_platform(NV_WRITE, &place, &write)));
    }
    commands.push((
        "TPM2_NV_WriteLock",
        with_platform(NV_WRITE_LOCK, &place, &[]),
    ));
    commands
}

/// TPM2_NV_UndefineSpace of an index that the platform's maker defined.
#[must_use]
pub fn remove_index(index: u32) -> Vec<u8> {
    with_platform(NV_UNDEFINE_SPACE, &index.to_be_bytes(), &[])
}

/// A command that the platform hierarchy authorises with its empty password.
fn with_platform(code: u32, handles: &[u8], parameters: &[u8]) -> Vec<u8> {
    let platform = PLATFORM.to_be_bytes();
    let body = [&platform[..], handles, &empty_password(), parameters].concat();
    message(SESSIONS, code, &body)
}
