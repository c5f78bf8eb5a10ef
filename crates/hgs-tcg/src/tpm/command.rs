//! The commands of the profile. There is one encoding of each, and a host executes nothing else.

use hgs_crypto::hash::Sha256Digest;

use super::MAX_MESSAGE;
use super::policy::{PcrSelection, SHA256};
use super::public::{KeyTemplate, Public, PublicError, TemplateError};
use super::wire::{Reader, StructureError, sized};

pub(super) const NO_SESSIONS: u16 = 0x8001;
pub(super) const SESSIONS: u16 = 0x8002;

pub(super) const CREATE_PRIMARY: u32 = 0x0000_0131;
pub(super) const CREATE: u32 = 0x0000_0153;
const READ_PUBLIC: u32 = 0x0000_0173;
pub(super) const START_AUTH_SESSION: u32 = 0x0000_0176;
pub(super) const PCR_READ: u32 = 0x0000_017e;

pub(super) const OWNER: u32 = 0x4000_0001;
pub(super) const NULL: u32 = 0x4000_0007;
/// The session that authorises with a password.
pub(super) const PASSWORD: u32 = 0x4000_0009;
pub(super) const ENDORSEMENT: u32 = 0x4000_000b;
pub(super) const PLATFORM: u32 = 0x4000_000c;
pub(super) const ALGORITHM_NULL: u16 = 0x0010;
const HMAC_SESSION: u8 = 0;

/// continueSession and audit: the TPM answers with an HMAC, and the session goes on.
pub(super) const AUDIT_AND_CONTINUE: u8 = 0x81;

/// A TPM_HANDLE. The TPM gives it, so a handle proves nothing: what is authenticated is the name of the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Handle(u32);

impl Handle {
    /// As it stands in a command.
    #[must_use]
    pub fn new(value: u32) -> Self {
        Self(value)
    }

    /// As it stands in a command.
    #[must_use]
    pub fn value(self) -> u32 {
        self.0
    }

    /// Whether it is of an object: transient or persistent.
    #[must_use]
    pub fn is_object(self) -> bool {
        matches!(self.0 >> 24, 0x80 | 0x81)
    }

    /// Whether it is of an HMAC session.
    #[must_use]
    pub fn is_hmac_session(self) -> bool {
        self.0 >> 24 == 0x02
    }

    fn object(reader: &mut Reader<'_>, field: &'static str) -> Result<Self, StructureError> {
        let handle = Self(reader.u32(field)?);
        match handle.is_object() {
            true => Ok(handle),
            false => Err(StructureError::Number {
                field,
                found: handle.0,
            }),
        }
    }

    pub(super) fn hmac_session(
        reader: &mut Reader<'_>,
        field: &'static str,
    ) -> Result<Self, StructureError> {
        let handle = Self(reader.u32(field)?);
        match handle.is_hmac_session() {
            true => Ok(handle),
            false => Err(StructureError::Number {
                field,
                found: handle.0,
            }),
        }
    }
}

/// A primary key of the profile. The TPM derives it from a seed: the same template gives the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Primary {
    /// From TCG's template L-1, in the endorsement hierarchy.
    EndorsementKey,
    /// From TCG's template, in the owner hierarchy.
    StorageRootKey,
}

impl Primary {
    fn hierarchy(self) -> u32 {
        match self {
            Self::EndorsementKey => ENDORSEMENT,
            Self::StorageRootKey => OWNER,
        }
    }

    fn template(self) -> Public {
        match self {
            Self::EndorsementKey => Public::ek_template(),
            Self::StorageRootKey => Public::srk_template(),
        }
    }
}

/// The authorization area of one HMAC session with the attributes audit and continueSession.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Authorization {
    /// The session.
    pub session: Handle,
    /// Drawn for this command.
    pub nonce_caller: [u8; 32],
    /// Over the command's digest and both nonces.
    pub hmac: [u8; 32],
}

impl Authorization {
    fn octets(&self) -> Vec<u8> {
        let session = self.session.0.to_be_bytes();
        let nonce = sized(&self.nonce_caller);
        [
            &session[..],
            &nonce,
            &[AUDIT_AND_CONTINUE],
            &sized(&self.hmac),
        ]
        .concat()
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, StructureError> {
        let octets = sized_32(reader, "authorizationSize")?;
        let mut area = Reader::new(octets);
        let session = Handle::hmac_session(&mut area, "sessionHandle")?;
        let nonce_caller = area.sized_array("nonceCaller")?;
        area.expect_u8(AUDIT_AND_CONTINUE, "sessionAttributes")?;
        let hmac = area.sized_array("hmac")?;
        area.end("the first session")?;
        Ok(Self {
            session,
            nonce_caller,
            hmac,
        })
    }
}

/// A command of the profile. Sessions are salted to an endorsement key, not bound, and have the audit attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// TPM2_CreatePrimary with an empty password.
    CreatePrimary(Primary),
    /// TPM2_ReadPublic without a session: what it returns proves nothing.
    ReadPublic(Handle),
    /// TPM2_StartAuthSession of an HMAC session with SHA-256.
    StartAuthSession {
        /// The endorsement key, which decrypts the salt.
        key: Handle,
        /// Drawn for this session.
        nonce_caller: [u8; 32],
        /// The salt under RSA-OAEP: 256 octets.
        encrypted_salt: Box<[u8; 256]>,
    },
    /// TPM2_PCR_Read in an audit session, of at most [`PcrSelection::MAX_READ`] PCRs.
    PcrRead {
        /// Which.
        selection: PcrSelection,
        /// The session.
        authorization: Authorization,
    },
    /// TPM2_Create under a storage root key, whose empty password the session proves.
    Create {
        /// The storage root key.
        parent: Handle,
        /// What is made.
        template: KeyTemplate,
        /// What the host confirms by executing the command: the TPM puts it into the creation data.
        outside_info: Option<Sha256Digest>,
        /// The session.
        authorization: Authorization,
    },
}

/// A server sent a command that is not of the profile. The host does not execute it and ends the exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ForeignCommandError {
    /// A command that attestation does not need.
    #[error("the server sent the TPM command {0:#010x}, which is no part of attestation")]
    Code(u32),
    /// A command of attestation in another shape.
    #[error("the server sent {command} in a shape that is no part of attestation: {fault}")]
    Shape {
        /// Which command.
        command: &'static str,
        /// What is foreign.
        fault: StructureError,
    },
    /// A key that is not made from a template of the profile.
    #[error("the server sent {command} for a foreign key: {fault}")]
    Key {
        /// Which command.
        command: &'static str,
        /// What is foreign.
        fault: PublicError,
    },
}

enum Fault {
    Structure(StructureError),
    Public(PublicError),
}

impl From<StructureError> for Fault {
    fn from(fault: StructureError) -> Self {
        Self::Structure(fault)
    }
}

impl From<PublicError> for Fault {
    fn from(fault: PublicError) -> Self {
        Self::Public(fault)
    }
}

impl From<TemplateError> for Fault {
    fn from(fault: TemplateError) -> Self {
        Self::Public(fault.into())
    }
}

impl Command {
    /// The standard's name of the command.
    #[must_use]
    pub fn name(&self) -> &'static str {
        name(self.code()).unwrap_or_default()
    }

    fn code(&self) -> u32 {
        match self {
            Self::CreatePrimary(_) => CREATE_PRIMARY,
            Self::ReadPublic(_) => READ_PUBLIC,
            Self::StartAuthSession { .. } => START_AUTH_SESSION,
            Self::PcrRead { .. } => PCR_READ,
            Self::Create { .. } => CREATE,
        }
    }

    /// The object that the command uses: a host checks that it is of this exchange.
    #[must_use]
    pub fn object(&self) -> Option<Handle> {
        match self {
            Self::ReadPublic(handle)
            | Self::StartAuthSession { key: handle, .. }
            | Self::Create { parent: handle, .. } => Some(*handle),
            Self::CreatePrimary(_) | Self::PcrRead { .. } => None,
        }
    }

    /// The session that the command uses: a host checks that it is of this exchange.
    #[must_use]
    pub fn session(&self) -> Option<Handle> {
        match self {
            Self::PcrRead { authorization, .. } | Self::Create { authorization, .. } => {
                Some(authorization.session)
            }
            _ => None,
        }
    }

    /// What is sent to the TPM.
    #[must_use]
    pub fn octets(&self) -> Vec<u8> {
        let body = match self {
            Self::CreatePrimary(primary) => {
                let password = [&PASSWORD.to_be_bytes()[..], &[0; 5]].concat();
                let hierarchy = primary.hierarchy().to_be_bytes();
                [
                    &hierarchy[..],
                    &sized_area(&password),
                    &creation_parameters(&primary.template(), None),
                ]
                .concat()
            }
            Self::ReadPublic(object) => object.0.to_be_bytes().to_vec(),
            Self::StartAuthSession {
                key,
                nonce_caller,
                encrypted_salt,
            } => [
                &key.0.to_be_bytes()[..],
                &NULL.to_be_bytes(),
                &sized(nonce_caller),
                &sized(&encrypted_salt[..]),
                &[HMAC_SESSION],
                &ALGORITHM_NULL.to_be_bytes(),
                &SHA256.to_be_bytes(),
            ]
            .concat(),
            Self::PcrRead {
                selection,
                authorization,
            } => [sized_area(&authorization.octets()), selection.octets()].concat(),
            Self::Create {
                parent,
                template,
                outside_info,
                authorization,
            } => [
                &parent.0.to_be_bytes()[..],
                &sized_area(&authorization.octets()),
                &creation_parameters(&template.public(), outside_info.as_ref()),
            ]
            .concat(),
        };
        let tag = match self {
            Self::ReadPublic(_) | Self::StartAuthSession { .. } => NO_SESSIONS,
            _ => SESSIONS,
        };
        message(tag, self.code(), &body)
    }

    /// Reads a command that a server sent.
    ///
    /// # Errors
    /// When it is another command, or one of these in another shape.
    pub fn parse(octets: &[u8]) -> Result<Self, ForeignCommandError> {
        let shape = |fault| ForeignCommandError::Shape {
            command: "a command",
            fault,
        };
        let (tag, code, body) = read_message(octets).map_err(shape)?;
        let command = name(code).ok_or(ForeignCommandError::Code(code))?;
        Self::read(tag, code, body).map_err(|fault| match fault {
            Fault::Structure(fault) => ForeignCommandError::Shape { command, fault },
            Fault::Public(fault) => ForeignCommandError::Key { command, fault },
        })
    }

    fn read(tag: u16, code: u32, body: &[u8]) -> Result<Self, Fault> {
        let expected = match code {
            READ_PUBLIC | START_AUTH_SESSION => NO_SESSIONS,
            _ => SESSIONS,
        };
        if tag != expected {
            return Err(number("tag", tag.into()).into());
        }
        let mut reader = Reader::new(body);
        let command = match code {
            CREATE_PRIMARY => Self::CreatePrimary(read_create_primary(&mut reader)?),
            READ_PUBLIC => Self::ReadPublic(Handle::object(&mut reader, "objectHandle")?),
            START_AUTH_SESSION => read_start_auth_session(&mut reader)?,
            PCR_READ => {
                let authorization = Authorization::read(&mut reader)?;
                let selection = PcrSelection::read(&mut reader)?;
                if selection.count() > PcrSelection::MAX_READ {
                    let found = selection.count() as u32;
                    return Err(number("the number of selected PCRs", found).into());
                }
                Self::PcrRead {
                    selection,
                    authorization,
                }
            }
            _ => {
                let parent = Handle::object(&mut reader, "parentHandle")?;
                let authorization = Authorization::read(&mut reader)?;
                let (public, outside_info) = read_creation_parameters(&mut reader)?;
                let template = KeyTemplate::read(&public)?;
                let outside_info = match outside_info {
                    [] => None,
                    octets => Some(
                        octets
                            .try_into()
                            .map_err(|_| number("outsideInfo.size", octets.len() as u32))?,
                    ),
                };
                Self::Create {
                    parent,
                    template,
                    outside_info,
                    authorization,
                }
            }
        };
        reader.end("the command")?;
        Ok(command)
    }
}

fn read_create_primary(reader: &mut Reader<'_>) -> Result<Primary, Fault> {
    let primary = match reader.u32("primaryHandle")? {
        ENDORSEMENT => Primary::EndorsementKey,
        OWNER => Primary::StorageRootKey,
        other => return Err(number("primaryHandle", other).into()),
    };
    let area = sized_32(reader, "authorizationSize")?;
    let mut area = Reader::new(area);
    area.expect_u32(PASSWORD, "sessionHandle")?;
    area.expect_empty("nonceCaller")?;
    area.expect_u8(0, "sessionAttributes")?;
    area.expect_empty("password")?;
    area.end("the first session")?;
    let (public, outside_info) = read_creation_parameters(reader)?;
    if !outside_info.is_empty() {
        return Err(number("outsideInfo.size", outside_info.len() as u32).into());
    }
    public.check_is(&primary.template(), "the primary key of this hierarchy")?;
    Ok(primary)
}

fn read_start_auth_session(reader: &mut Reader<'_>) -> Result<Command, Fault> {
    let key = Handle::object(reader, "tpmKey")?;
    reader.expect_u32(NULL, "bind")?;
    let nonce_caller = reader.sized_array("nonceCaller")?;
    let encrypted_salt = Box::new(reader.sized_array("encryptedSalt")?);
    reader.expect_u8(HMAC_SESSION, "sessionType")?;
    reader.expect_u16(ALGORITHM_NULL, "symmetric")?;
    reader.expect_u16(SHA256, "authHash")?;
    Ok(Command::StartAuthSession {
        key,
        nonce_caller,
        encrypted_salt,
    })
}

fn name(code: u32) -> Option<&'static str> {
    Some(match code {
        CREATE_PRIMARY => "TPM2_CreatePrimary",
        CREATE => "TPM2_Create",
        READ_PUBLIC => "TPM2_ReadPublic",
        START_AUTH_SESSION => "TPM2_StartAuthSession",
        PCR_READ => "TPM2_PCR_Read",
        _ => return None,
    })
}

/// The parameters of TPM2_Create and TPM2_CreatePrimary: no password, no data, no PCRs.
pub(super) fn creation_parameters(public: &Public, outside_info: Option<&Sha256Digest>) -> Vec<u8> {
    let sensitive = sized(&[0; 4]);
    [sensitive, public_parameters(public.octets(), outside_info)].concat()
}

/// What follows the sensitive parameter.
pub(super) fn public_parameters(public: &[u8], outside_info: Option<&Sha256Digest>) -> Vec<u8> {
    let outside_info = sized(outside_info.map_or(&[][..], |digest| digest));
    [&sized(public)[..], &outside_info, &[0; 4]].concat()
}

fn read_creation_parameters<'o>(reader: &mut Reader<'o>) -> Result<(Public, &'o [u8]), Fault> {
    reader.expect_u16(4, "inSensitive")?;
    reader.expect_empty("inSensitive.userAuth")?;
    reader.expect_empty("inSensitive.data")?;
    let public = Public::parse(reader.sized("inPublic")?)?;
    let outside_info = reader.sized("outsideInfo")?;
    reader.expect_u32(0, "creationPCR")?;
    Ok((public, outside_info))
}

/// A command or response: tag, size, code, and what follows.
pub(super) fn message(tag: u16, code: u32, body: &[u8]) -> Vec<u8> {
    let size = (10 + body.len()) as u32;
    [
        &tag.to_be_bytes()[..],
        &size.to_be_bytes(),
        &code.to_be_bytes(),
        body,
    ]
    .concat()
}

pub(super) fn read_message(octets: &[u8]) -> Result<(u16, u32, &[u8]), StructureError> {
    if octets.len() > MAX_MESSAGE {
        return Err(StructureError::TooLong(octets.len()));
    }
    let mut reader = Reader::new(octets);
    let tag = reader.u16("tag")?;
    let size = reader.u32("size")?;
    if size as usize != octets.len() {
        return Err(number("size", size));
    }
    let code = reader.u32("code")?;
    Ok((tag, code, reader.rest()))
}

/// An area with a size of 32 bits in front.
pub(super) fn sized_area(octets: &[u8]) -> Vec<u8> {
    [&(octets.len() as u32).to_be_bytes()[..], octets].concat()
}

pub(super) fn sized_32<'o>(
    reader: &mut Reader<'o>,
    field: &'static str,
) -> Result<&'o [u8], StructureError> {
    let size = reader.u32(field)?;
    reader.take(size as usize, field)
}

fn number(field: &'static str, found: u32) -> StructureError {
    StructureError::Number { field, found }
}
