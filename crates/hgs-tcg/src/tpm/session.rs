//! The verifier's side of an HMAC session that is salted to an endorsement key (part 1, 19).
//!
//! ```text
//! StartingSession ── started ──▶ Session ── read_pcrs ──▶ AwaitingPcrs ── verify ──▶ Session, ProvedPcrValues
//!                                   │                          └── into_session ──▶ Session (the TPM refused)
//!                                   └── create ──▶ AwaitingKey ── verify ──▶ Session, CreatedKey
//! ```
//!
//! Only a verified response rolls the nonces: after a refusal the session is where it was, as in the TPM.

use hgs_crypto::hash::{Sha256Digest, hmac_sha256, kdfa_sha256, sha256_of, verify_hmac_sha256};
use hgs_crypto::rsa::OaepHash;
use hgs_crypto::{CryptoError, Random, SecretBytes, random};

use super::command::{
    AUDIT_AND_CONTINUE, Authorization, CREATE, Command, Handle, PCR_READ, SESSIONS,
    creation_parameters, sized_32,
};
use super::policy::PcrSelection;
use super::public::{EndorsementKey, KeyTemplate, Public, StorageRootKey, TemplateError};
use super::response::{ResponseError, body, created_parameters, session_and_nonce};
use super::response_code::ResponseCode;
use super::wire::{Reader, StructureError};
use crate::event_log::PcrValues;

/// Labels of part 1, B.10.2 and C.6.3, and of KDFa for session keys; OAEP's ends with a zero octet.
pub(super) const OAEP_LABEL: &[u8] = b"SECRET\0";
pub(super) const SESSION_KEY_LABEL: &str = "ATH";

const AUDIT: u8 = 0x80;
const CONTINUE: u8 = 0x01;

/// Why a response proves nothing. The session stands where it stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// The TPM that started the session can't decrypt the salt.
    #[error(
        "the TPM does not have the endorsement key that the host sent: it could not decrypt the salt of the session"
    )]
    OtherTpm,
    /// The TPM found the command's HMAC wrong.
    #[error(
        "the TPM refused the command's HMAC ({0}): the command was altered, or the session is not salted to the endorsement key"
    )]
    CommandAltered(ResponseCode),
    /// The response is that before.
    #[error("the response was sent before: its nonce is that of the last verified response")]
    Replayed,
    /// The HMAC does not fit.
    #[error(
        "the response has a wrong HMAC: it was altered, answers another command, or is not of the TPM with the endorsement key"
    )]
    NotAuthentic,
    /// The session has lost its audit attribute.
    #[error("the response is not of an audit session (attributes {0:#04x})")]
    NotAudited(u8),
    /// The session has ended.
    #[error("the TPM has closed the session (attributes {0:#04x})")]
    Closed(u8),
    /// Authentic, but not what was asked for.
    #[error("the TPM returned other PCRs than it was asked for; is its bank of SHA-256 active?")]
    OtherPcrs,
    /// Authentic, but another key than was asked for.
    #[error(transparent)]
    OtherKey(#[from] TemplateError),
    /// The TPM refused, or the octets are no response.
    #[error(transparent)]
    Response(#[from] ResponseError),
    /// A primitive of ours failed.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
}

impl From<StructureError> for SessionError {
    fn from(error: StructureError) -> Self {
        Self::Response(error.into())
    }
}

/// A session whose TPM2_StartAuthSession has been sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartingSession {
    salt: SecretBytes,
    nonce_caller: [u8; 32],
}

impl StartingSession {
    /// Starts a session with the TPM that has the private part of `endorsement_key`, which the host calls `handle`.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn start(
        endorsement_key: &EndorsementKey,
        handle: Handle,
        random: &mut dyn Random,
    ) -> Result<(Self, Command), CryptoError> {
        let salt = SecretBytes::random(32, random)?;
        let nonce_caller = random::array(random)?;
        let encrypted =
            endorsement_key
                .key()
                .encrypt_oaep_with_label(OaepHash::Sha256, OAEP_LABEL, &salt)?;
        let command = Command::StartAuthSession {
            key: handle,
            nonce_caller,
            encrypted_salt: encrypted.try_into().map_err(|_| CryptoError)?,
        };
        Ok((Self { salt, nonce_caller }, command))
    }

    /// Takes the response to TPM2_StartAuthSession. It has no HMAC: whether that TPM has the endorsement key, only the
    /// first response in the session proves.
    ///
    /// # Errors
    /// When the TPM refused, or the response is of another shape.
    pub fn started(&self, response: &[u8]) -> Result<Session, SessionError> {
        let (handle, nonce_tpm) = session_and_nonce(response).map_err(|error| match error {
            ResponseError::Refused(code) if code.is_undecryptable_salt() => SessionError::OtherTpm,
            error => error.into(),
        })?;
        let nonces: [&[u8]; 2] = [&nonce_tpm, &self.nonce_caller];
        let key = kdfa_sha256(&self.salt, SESSION_KEY_LABEL, nonces, 32)?;
        Ok(Session {
            key,
            handle,
            nonce_tpm,
        })
    }
}

/// A started session that awaits no response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    key: SecretBytes,
    handle: Handle,
    nonce_tpm: [u8; 32],
}

impl Session {
    /// By which the TPM knows the session.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle
    }

    /// Asks for the values of at most [`PcrSelection::MAX_READ`] PCRs; more are left away by every TPM, and
    /// [`PcrSelection::reads`] parts them.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn read_pcrs(
        self,
        selection: PcrSelection,
        random: &mut dyn Random,
    ) -> Result<(AwaitingPcrs, Command), CryptoError> {
        let (exchange, authorization) =
            self.authorize(PCR_READ, &[], &selection.octets(), random)?;
        let awaiting = AwaitingPcrs {
            exchange,
            selection,
        };
        let command = Command::PcrRead {
            selection,
            authorization,
        };
        Ok((awaiting, command))
    }

    /// Asks for a key of `template` under the storage root key, which the host calls by the handle. With `outside_info` the
    /// response proves more: that the host let its TPM execute a command with these octets.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn create(
        self,
        (parent, handle): (&StorageRootKey, Handle),
        template: KeyTemplate,
        outside_info: Option<Sha256Digest>,
        random: &mut dyn Random,
    ) -> Result<(AwaitingKey, Command), CryptoError> {
        let name = parent.public().name();
        let parameters = creation_parameters(&template.public(), outside_info.as_ref());
        let (exchange, authorization) =
            self.authorize(CREATE, name.octets(), &parameters, random)?;
        let awaiting = AwaitingKey { exchange, template };
        let command = Command::Create {
            parent: handle,
            template,
            outside_info,
            authorization,
        };
        Ok((awaiting, command))
    }

    fn authorize(
        self,
        code: u32,
        names: &[u8],
        parameters: &[u8],
        random: &mut dyn Random,
    ) -> Result<(Exchange, Authorization), CryptoError> {
        let nonce_caller: [u8; 32] = random::array(random)?;
        let command = sha256_of(&[&code.to_be_bytes(), names, parameters]);
        let signed: [&[u8]; 4] = [
            &command,
            &nonce_caller,
            &self.nonce_tpm,
            &[AUDIT_AND_CONTINUE],
        ];
        let authorization = Authorization {
            session: self.handle,
            nonce_caller,
            hmac: hmac_sha256(&self.key, &signed),
        };
        let exchange = Exchange {
            session: self,
            nonce_caller,
        };
        Ok((exchange, authorization))
    }
}

/// A session and the nonce of the command that it has sent.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Exchange {
    session: Session,
    nonce_caller: [u8; 32],
}

impl Exchange {
    /// The session after an authentic response to the command `code`, and the response's parameters.
    fn verify<'r>(
        &self,
        code: u32,
        response: &'r [u8],
    ) -> Result<(Session, &'r [u8]), SessionError> {
        let body = body(response, SESSIONS).map_err(|error| match error {
            ResponseError::Refused(code) if code.is_wrong_hmac() => {
                SessionError::CommandAltered(code)
            }
            error => error.into(),
        })?;
        let mut reader = Reader::new(body);
        let parameters = sized_32(&mut reader, "parameterSize")?;
        let nonce_tpm: [u8; 32] = reader.sized_array("nonceTPM")?;
        let attributes = reader.u8("sessionAttributes")?;
        let hmac: [u8; 32] = reader.sized_array("hmac")?;
        reader.end("the response's only session")?;
        if nonce_tpm == self.session.nonce_tpm {
            return Err(SessionError::Replayed);
        }
        // TPM_RC_SUCCESS is part of what is digested.
        let digest = sha256_of(&[&[0; 4], &code.to_be_bytes(), parameters]);
        let signed = [&digest[..], &nonce_tpm, &self.nonce_caller, &[attributes]].concat();
        verify_hmac_sha256(&self.session.key, &signed, &hmac)
            .map_err(|_| SessionError::NotAuthentic)?;
        if attributes & AUDIT == 0 {
            return Err(SessionError::NotAudited(attributes));
        }
        if attributes & CONTINUE == 0 {
            return Err(SessionError::Closed(attributes));
        }
        let session = Session {
            nonce_tpm,
            ..self.session.clone()
        };
        Ok((session, parameters))
    }
}

/// A session that awaits the values of PCRs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwaitingPcrs {
    exchange: Exchange,
    selection: PcrSelection,
}

impl AwaitingPcrs {
    /// The session after `response`, and what the response proves.
    ///
    /// # Errors
    /// When it proves nothing; [`Self::into_session`] goes on from there.
    pub fn verify(&self, response: &[u8]) -> Result<(Session, ProvedPcrValues), SessionError> {
        let (session, parameters) = self.exchange.verify(PCR_READ, response)?;
        let mut reader = Reader::new(parameters);
        let update_counter = reader.u32("pcrUpdateCounter")?;
        // With no bank of SHA-256 the selection that comes back is empty.
        let returned = PcrSelection::read(&mut reader).map_err(|_| SessionError::OtherPcrs)?;
        if returned != self.selection {
            return Err(SessionError::OtherPcrs);
        }
        let count = u32::try_from(self.selection.count()).unwrap_or(u32::MAX);
        reader.expect_u32(count, "pcrValues.count")?;
        let values = (0..count).map(|_| reader.sized_array("pcrValues.digests"));
        let values = values.collect::<Result<_, _>>()?;
        reader.end("pcrValues")?;
        let values = ProvedPcrValues {
            selection: self.selection,
            update_counter,
            values,
        };
        Ok((session, values))
    }

    /// The session before the command: the TPM refused it.
    #[must_use]
    pub fn into_session(self) -> Session {
        self.exchange.session
    }
}

/// Values of PCRs in the bank of SHA-256 that the TPM with the endorsement key had when it answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvedPcrValues {
    selection: PcrSelection,
    update_counter: u32,
    values: Vec<Sha256Digest>,
}

impl ProvedPcrValues {
    /// Which PCRs.
    #[must_use]
    pub fn selection(&self) -> PcrSelection {
        self.selection
    }

    /// How often PCRs had been extended since the TPM's start, as the TPM counts: readings with one number are of one
    /// moment.
    #[must_use]
    pub fn update_counter(&self) -> u32 {
        self.update_counter
    }

    /// Sets these values among those of other readings.
    pub fn set_in(&self, values: &mut PcrValues) {
        for (pcr, value) in self.iter() {
            let set = values.insert(pcr.into(), &value);
            set.expect("a TPM has 24 PCRs, and a digest of the bank its size");
        }
    }

    /// The PCRs in rising order with their values.
    pub fn iter(&self) -> impl Iterator<Item = (u8, Sha256Digest)> {
        self.selection.pcrs().zip(self.values.iter().copied())
    }
}

/// A session that awaits a created key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwaitingKey {
    exchange: Exchange,
    template: KeyTemplate,
}

impl AwaitingKey {
    /// The session after `response`, and what the response proves.
    ///
    /// # Errors
    /// When it proves nothing; [`Self::into_session`] goes on from there.
    pub fn verify(&self, response: &[u8]) -> Result<(Session, CreatedKey), SessionError> {
        let (session, parameters) = self.exchange.verify(CREATE, response)?;
        let public = created_parameters(parameters)?.public;
        self.template.check(&public)?;
        let template = self.template;
        Ok((session, CreatedKey { template, public }))
    }

    /// The session before the command: the TPM refused it.
    #[must_use]
    pub fn into_session(self) -> Session {
        self.exchange.session
    }
}

/// A key that the TPM with the endorsement key has created from the template, and that never leaves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedKey {
    template: KeyTemplate,
    public: Public,
}

impl CreatedKey {
    /// From which it was made.
    #[must_use]
    pub fn template(&self) -> KeyTemplate {
        self.template
    }

    /// Its public area.
    #[must_use]
    pub fn public(&self) -> &Public {
        &self.public
    }
}

/// Where a session stands, to be written into a sealed context and read from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionState {
    /// TPM2_StartAuthSession has been sent.
    Starting(StartingSession),
    /// No response is awaited.
    Open(Session),
    /// TPM2_PCR_Read has been sent.
    AwaitingPcrs(AwaitingPcrs),
    /// TPM2_Create has been sent.
    AwaitingKey(AwaitingKey),
}

const STARTING: u8 = 1;
const OPEN: u8 = 2;
const AWAITING_PCRS: u8 = 3;
const AWAITING_KEY: u8 = 4;

/// Octets of the longest state: kind, key, handle, two nonces, and the public area of a template.
const MAX_STATE: usize = 1 + 32 + 4 + 32 + 32 + 128;

impl SessionState {
    /// The state in octets, which hold the secrets of the session: they are for a sealed context.
    #[must_use]
    pub fn to_octets(&self) -> SecretBytes {
        // With room for all, so that no copy of a secret is left behind by a reallocation.
        let mut octets = Vec::with_capacity(MAX_STATE);
        match self {
            Self::Starting(starting) => {
                octets.push(STARTING);
                octets.extend(starting.salt.expose());
                octets.extend(starting.nonce_caller);
            }
            Self::Open(session) => {
                octets.push(OPEN);
                session.write(&mut octets);
            }
            Self::AwaitingPcrs(awaiting) => {
                octets.push(AWAITING_PCRS);
                awaiting.exchange.write(&mut octets);
                octets.extend(awaiting.selection.octets());
            }
            Self::AwaitingKey(awaiting) => {
                octets.push(AWAITING_KEY);
                awaiting.exchange.write(&mut octets);
                octets.extend(awaiting.template.public().octets());
            }
        }
        SecretBytes::new(octets)
    }

    /// Reads a state from octets that a sealed context held.
    ///
    /// # Errors
    /// When they are none.
    pub fn from_octets(octets: &SecretBytes) -> Result<Self, SessionStateError> {
        let mut reader = Reader::new(octets.expose());
        let state = match reader.u8("kind")? {
            STARTING => Self::Starting(StartingSession {
                salt: reader.take(32, "salt")?.into(),
                nonce_caller: reader.array("nonceCaller")?,
            }),
            OPEN => Self::Open(Session::read(&mut reader)?),
            AWAITING_PCRS => Self::AwaitingPcrs(AwaitingPcrs {
                exchange: Exchange::read(&mut reader)?,
                selection: PcrSelection::read(&mut reader)?,
            }),
            AWAITING_KEY => {
                let exchange = Exchange::read(&mut reader)?;
                // The rest is the template.
                let public = Public::parse(reader.rest()).map_err(|_| SessionStateError)?;
                let template = KeyTemplate::read(&public).map_err(|_| SessionStateError)?;
                return Ok(Self::AwaitingKey(AwaitingKey { exchange, template }));
            }
            _ => return Err(SessionStateError),
        };
        reader.end("the state")?;
        Ok(state)
    }
}

/// Octets that are no state of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed state of a TPM session")]
pub struct SessionStateError;

impl From<StructureError> for SessionStateError {
    fn from(_: StructureError) -> Self {
        Self
    }
}

impl Session {
    fn write(&self, octets: &mut Vec<u8>) {
        octets.extend(self.key.expose());
        octets.extend(self.handle.value().to_be_bytes());
        octets.extend(self.nonce_tpm);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, StructureError> {
        Ok(Self {
            key: reader.take(32, "key")?.into(),
            handle: Handle::hmac_session(reader, "handle")?,
            nonce_tpm: reader.array("nonceTPM")?,
        })
    }
}

impl Exchange {
    fn write(&self, octets: &mut Vec<u8>) {
        self.session.write(octets);
        octets.extend(self.nonce_caller);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, StructureError> {
        Ok(Self {
            session: Session::read(reader)?,
            nonce_caller: reader.array("nonceCaller")?,
        })
    }
}
