//! TPM mode, the host's part ([MS-HGSA] 3.2.5.1): what the server says to the TPM, and what the host says about its boot.
//!
//! ```text
//! RtpmExchange::start, body ──▶ POST to endpoint ──▶ receive ──▶ Step::Attested
//!                                    ▲                  │
//!                                    │            Step::Execute: for each of next_command: the TPM executes it; executed
//!                                    │                  ▼        then, if wants_measurements, read the logs
//!                                  answer ◀─────────────┘
//! ```
//!
//! Whatever the end is, the driver flushes [`RtpmExchange::handles`] from the TPM.
//!
//! A host does not trust its server with its TPM. It executes the commands of the profile in the shapes of the profile, on
//! objects and sessions that this exchange has made, each of them once; anything else ends the exchange. It makes no key
//! but one that is bound to PCRs of its own, with the values that they have now.

use std::collections::VecDeque;

use hgs_crypto::rsa::PublicKeyError;
use hgs_pki::health::HealthKind;
use hgs_tcg::event_log::{Bank, PcrValues};
use hgs_tcg::tpm::{
    Command, EndorsementKey, ForeignCommandError, Handle, KeyPurpose, KeyTemplate, Primary, Public,
    ResponseCode, ResponseError, created_key, created_primary, pcrs_read, started_session,
};

use super::{AttestationFailure, Attested, Refused, attested};
use crate::issue::result_type;
use crate::mode::Endpoint;
use crate::policy::{Preimage, UnexplainedEvent, next_boot_confirmation};
use crate::rtpm::{Blob, Context, ContextError, DeviceInfo, IdentityPcrs};
use crate::wire::{
    AttestationProvidedContentType, AttestationRequest, ProvidedContent, Reply, SessionId,
};

/// Sessions that a server may have at once: TPMs have slots for three.
const MAX_SESSIONS: usize = 3;

/// Contexts that a server may send in one exchange.
const MAX_ROUNDS: usize = 32;

/// One attestation by TPM. Without input or output of its own.
#[derive(Debug)]
pub struct RtpmExchange {
    session_id: SessionId,
    kind: HealthKind,
    endorsement_key: EndorsementKey,
    presented: Option<Public>,
    /// What the host says that it will boot next.
    next_boot: Option<Vec<u8>>,
    /// What the exchange has made in the TPM.
    made: Made,
    /// What the last context asks for.
    round: Round,
    rounds: usize,
    /// The values that the TPM has returned to the server.
    values: PcrValues,
    created: Option<CreatedIdentityKey>,
}

/// The handles of what stays in the TPM.
#[derive(Debug, Default)]
struct Made {
    endorsement_key: Option<Handle>,
    storage_root_key: Option<Handle>,
    sessions: Vec<Handle>,
}

/// A context, and how far it is answered.
#[derive(Debug, Default)]
struct Round {
    sealed_state: Vec<u8>,
    commands: VecDeque<Command>,
    responses: Vec<Vec<u8>>,
    wants_measurements: bool,
}

/// What comes after a reply.
#[derive(Debug)]
#[must_use = "the server waits for an answer, or the host has a certificate to keep"]
pub enum Step {
    /// The TPM is to execute [`RtpmExchange::next_command`] until there is none, then the server gets
    /// [`RtpmExchange::answer`].
    Execute,
    /// The exchange has ended with a health certificate.
    Attested(Box<AttestedByTpm>),
}

/// A health certificate, and the key that it is over.
#[derive(Debug, Clone)]
pub struct AttestedByTpm {
    /// The certificate.
    pub attested: Attested,
    /// The new key, to be kept; `None` if the certificate is over the key that was presented.
    pub created: Option<CreatedIdentityKey>,
}

/// An identity key that the TPM has made: it can be loaded under the storage root key, and used while the PCRs that it is
/// bound to have the values that they had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedIdentityKey {
    /// The private part, encrypted by the TPM for itself: the octets of TPM2B_PRIVATE after its size.
    pub private: Vec<u8>,
    /// The public area: to be presented in later exchanges.
    pub public: Public,
    /// The PCRs that the key is bound to.
    pub pcrs: IdentityPcrs,
}

/// What a host says about its boot. It is read after the commands were executed, so that the log of IMA has all that PCR 10
/// has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Measurements {
    /// The event log of the boot; empty if there is none.
    pub event_log: Vec<u8>,
    /// The log of IMA in its binary form; empty if there is none.
    pub ima_log: Vec<u8>,
    /// What events were made from that the log does not hold.
    pub preimages: Vec<Preimage>,
    /// What user space measured of which only the digest is known.
    pub unexplained: Vec<UnexplainedEvent>,
    /// Which TPM it is.
    pub device: Option<DeviceInfo>,
}

/// Why an exchange by TPM ended on the host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RtpmFault {
    /// The server sent no context.
    #[error("the server sent something that is no context: {0}")]
    Context(#[from] ContextError),
    /// The server sent a blob that is no command.
    #[error("the server sent a blob that is no TPM command")]
    NoCommand,
    /// The server sent a command that is not of the profile.
    #[error(transparent)]
    Foreign(#[from] ForeignCommandError),
    /// The server sent a command for something that this exchange has not made.
    #[error(
        "the server sent {command} for handle {handle:#010x}, which this exchange has not made"
    )]
    ForeignHandle {
        /// The command.
        command: &'static str,
        /// The handle.
        handle: u32,
    },
    /// The server wants more than an exchange needs.
    #[error("the server wants {0} than an attestation needs")]
    TooMuch(&'static str),
    /// The server wants a key for another purpose than the certificate's.
    #[error("the server wants a key for another purpose than the certificate that was asked for")]
    OtherPurpose,
    /// The server wants a key that is not bound to PCRs of this host.
    #[error(
        "the server wants a key that is not bound to the PCRs of this host as they are now (PCRs 0 to 7, and any of 8, 9 and 11 to 14)"
    )]
    ForeignPolicy,
    /// The server wants the TPM to confirm something that this host has not claimed.
    #[error("the server wants the TPM to confirm something that this host has not claimed")]
    ForeignOutsideInfo,
    /// The server takes no notice of what this host says of its next boot.
    #[error("the server takes no notice of what this host says of its next boot")]
    ClaimIgnored,
    /// The TPM has another endorsement key than the host attests with.
    #[error(
        "the TPM has another endorsement key than this host attests with: it was cleared with a new seed, or is another TPM"
    )]
    OtherEndorsementKey,
    /// The TPM refused a command.
    #[error("the TPM refused {command}: {code}")]
    Refused {
        /// The command.
        command: &'static str,
        /// Why.
        code: ResponseCode,
    },
    /// What the TPM answered is no response to the command.
    #[error("after {command}: {error}")]
    Response {
        /// The command.
        command: &'static str,
        /// What is wrong.
        error: ResponseError,
    },
    /// The key that the TPM made is not acceptable.
    #[error("the key that the TPM made: {0}")]
    Key(#[from] PublicKeyError),
}

impl RtpmFault {
    /// Whether another exchange can succeed without a change to host or server.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            // Another program has taken the slot, or has flushed what this exchange had made.
            Self::Refused { code, .. } => code.is_transient() || code.is_out_of_slots(),
            _ => false,
        }
    }

    /// What the TPM said, where it refused a command.
    #[must_use]
    pub fn response_code(&self) -> Option<ResponseCode> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }
}

impl RtpmExchange {
    /// Begins an exchange for a certificate of `kind`. `session_id` is 16 random octets. `presented` is the identity key
    /// that this host made for the same purpose in an earlier exchange; the server uses it again if it can.
    #[must_use]
    pub fn start(
        session_id: SessionId,
        kind: HealthKind,
        endorsement_key: EndorsementKey,
        presented: Option<Public>,
    ) -> Self {
        Self {
            session_id,
            kind,
            endorsement_key,
            presented,
            next_boot: None,
            made: Made::default(),
            round: Round::default(),
            rounds: 0,
            values: PcrValues::new(Bank::Sha256),
            created: None,
        }
    }

    /// Has the exchange carry what the host says that it will boot next, for a guardian that adds it to the host's record. A
    /// certificate comes only if the TPM has confirmed it, with a key that is made for this.
    #[must_use]
    pub fn with_next_boot(self, claim: Vec<u8>) -> Self {
        Self {
            next_boot: Some(claim),
            ..self
        }
    }

    /// The operation to which each request is posted.
    #[must_use]
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::Attest
    }

    /// The body of the first request.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        self.request(None)
    }

    /// Reads the reply, which had HTTP status `status`.
    pub fn receive(&mut self, status: u16, body: &[u8]) -> Result<Step, AttestationFailure> {
        let reply = Reply::parse(body)
            .map_err(|error| AttestationFailure::Unintelligible { status, error })?;
        match reply {
            Reply::TpmContinue(reply) => {
                self.round = self.read_round(&reply.rtpm_active_context)?;
                Ok(Step::Execute)
            }
            Reply::HealthCertificate(reply) => {
                let key = match (&self.created, &self.presented) {
                    (Some(created), _) => &created.public,
                    // Over a key of an earlier exchange, with which nothing was confirmed.
                    _ if self.next_boot.is_some() => return Err(RtpmFault::ClaimIgnored.into()),
                    (None, Some(presented)) => presented,
                    (None, None) => return Err(AttestationFailure::UnexpectedReply { status }),
                };
                let identity_key = key.rsa_key().map_err(RtpmFault::Key)?;
                Ok(Step::Attested(Box::new(AttestedByTpm {
                    attested: attested(self.kind, &identity_key, &reply)?,
                    created: self.created.take(),
                })))
            }
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

    /// What the TPM is to execute next; `None` if all is executed, and the answer can be sent.
    #[must_use]
    pub fn next_command(&self) -> Option<&Command> {
        self.round.commands.front()
    }

    /// Takes what the TPM answered to [`Self::next_command`].
    ///
    /// # Errors
    ///
    /// When the TPM refused, so that the exchange has ended. Only a second and a third session are not needed.
    pub fn executed(&mut self, response: Vec<u8>) -> Result<(), RtpmFault> {
        let Some(command) = self.round.commands.pop_front() else {
            return Ok(());
        };
        let name = command.name();
        let taken = self.take(&command, &response);
        self.round.responses.push(response);
        taken.map_err(|fault| match fault {
            Fault::Rtpm(fault) => fault,
            Fault::Response(ResponseError::Refused(code)) => RtpmFault::Refused {
                command: name,
                code,
            },
            Fault::Response(error) => RtpmFault::Response {
                command: name,
                error,
            },
        })
    }

    /// Whether the answer has to say how the host was booted.
    #[must_use]
    pub fn wants_measurements(&self) -> bool {
        self.round.wants_measurements
    }

    /// The body of the next request. `measurements` count where [`Self::wants_measurements`] says so.
    #[must_use]
    pub fn answer(&mut self, measurements: &Measurements) -> Vec<u8> {
        let round = std::mem::take(&mut self.round);
        let mut blobs: Vec<Blob<'_>> = round
            .responses
            .iter()
            .map(|response| Blob::Response(response))
            .collect();
        if round.wants_measurements {
            blobs.extend(measurements.blobs());
            blobs.extend(self.next_boot.as_deref().map(Blob::NextBoot));
        }
        let context = Context {
            sealed_state: &round.sealed_state,
            blobs,
        };
        self.request(Some(context.octets()))
    }

    /// What this exchange has left in the TPM: to be flushed, whatever the end was.
    pub fn handles(&self) -> impl Iterator<Item = Handle> {
        let keys = [self.made.endorsement_key, self.made.storage_root_key];
        let sessions = self.made.sessions.iter().copied();
        sessions.chain(keys.into_iter().flatten())
    }

    fn request(&self, context: Option<Vec<u8>>) -> Vec<u8> {
        let content = |content_type, octets| ProvidedContent {
            content_type,
            octets,
        };
        // The endorsement key stands before the context: a server can look it up before it reads on.
        let mut provided_content = vec![content(
            AttestationProvidedContentType::EndorsementKeyCertificate,
            self.endorsement_key.public().octets().to_vec(),
        )];
        if let Some(presented) = &self.presented {
            provided_content.push(content(
                AttestationProvidedContentType::VirtualSecureModeIdentityKey,
                presented.octets().to_vec(),
            ));
        }
        if let Some(context) = context {
            provided_content.push(content(
                AttestationProvidedContentType::RtpmContext,
                context,
            ));
        }
        let request = AttestationRequest {
            session_id: self.session_id,
            requested_content: vec![result_type(self.kind)],
            provided_content,
        };
        request.to_json()
    }

    fn read_round(&mut self, context: &[u8]) -> Result<Round, RtpmFault> {
        self.rounds += 1;
        if self.rounds > MAX_ROUNDS {
            return Err(RtpmFault::TooMuch("more rounds"));
        }
        let context = Context::read(context)?;
        let mut round = Round {
            sealed_state: context.sealed_state.to_vec(),
            ..Round::default()
        };
        for blob in &context.blobs {
            let Blob::Command(octets) = blob else {
                return Err(RtpmFault::NoCommand);
            };
            let command = Command::parse(octets)?;
            self.check(&command, &round)?;
            round.wants_measurements |=
                matches!(command, Command::PcrRead { .. } | Command::Create { .. });
            round.commands.push_back(command);
        }
        Ok(round)
    }

    /// Whether the command is for what this exchange has made, and not one too many.
    fn check(&self, command: &Command, round: &Round) -> Result<(), RtpmFault> {
        let foreign = |handle: Handle| RtpmFault::ForeignHandle {
            command: command.name(),
            handle: handle.value(),
        };
        let keys = [self.made.endorsement_key, self.made.storage_root_key];
        if let Some(handle) = command.object()
            && !keys.contains(&Some(handle))
        {
            return Err(foreign(handle));
        }
        if let Some(handle) = command.session()
            && !self.made.sessions.contains(&handle)
        {
            return Err(foreign(handle));
        }
        let earlier = |is_same: fn(&Command) -> bool| {
            round
                .commands
                .iter()
                .filter(|command| is_same(command))
                .count()
        };
        match command {
            Command::CreatePrimary(primary) => {
                let made = match primary {
                    Primary::EndorsementKey => self.made.endorsement_key,
                    Primary::StorageRootKey => self.made.storage_root_key,
                };
                match made.is_some() || round.commands.contains(command) {
                    true => Err(RtpmFault::TooMuch("more primary keys")),
                    false => Ok(()),
                }
            }
            Command::StartAuthSession { key, .. } => {
                if Some(*key) != self.made.endorsement_key {
                    return Err(foreign(*key));
                }
                let asked = earlier(|command| matches!(command, Command::StartAuthSession { .. }));
                match self.made.sessions.len() + asked >= MAX_SESSIONS {
                    true => Err(RtpmFault::TooMuch("more sessions")),
                    false => Ok(()),
                }
            }
            Command::Create {
                parent,
                template,
                outside_info,
                ..
            } => {
                if Some(*parent) != self.made.storage_root_key {
                    return Err(foreign(*parent));
                }
                let asked = earlier(|command| matches!(command, Command::Create { .. }));
                if self.created.is_some() || asked > 0 {
                    return Err(RtpmFault::TooMuch("more keys"));
                }
                let claimed = self.next_boot.as_deref().map(next_boot_confirmation);
                match (claimed, outside_info) {
                    (Some(_), None) => return Err(RtpmFault::ClaimIgnored),
                    (claimed, asked) if claimed != *asked => {
                        return Err(RtpmFault::ForeignOutsideInfo);
                    }
                    _ => {}
                }
                self.check_template(template)
            }
            Command::PcrRead { .. } | Command::ReadPublic(_) => {
                match round.commands.len() >= MAX_SESSIONS {
                    true => Err(RtpmFault::TooMuch("more readings")),
                    false => Ok(()),
                }
            }
        }
    }

    fn check_template(&self, template: &KeyTemplate) -> Result<(), RtpmFault> {
        let purpose = match self.kind {
            HealthKind::Encryption => KeyPurpose::Encryption,
            HealthKind::Signing => KeyPurpose::Signing,
        };
        if template.purpose != purpose {
            return Err(RtpmFault::OtherPurpose);
        }
        match IdentityPcrs::of_policy(&template.policy, &self.values) {
            Some(_) => Ok(()),
            None => Err(RtpmFault::ForeignPolicy),
        }
    }

    fn take(&mut self, command: &Command, response: &[u8]) -> Result<(), Fault> {
        match command {
            Command::CreatePrimary(primary) => {
                let created = created_primary(response)?;
                match primary {
                    Primary::EndorsementKey => {
                        self.made.endorsement_key = Some(created.handle);
                        if created.public != *self.endorsement_key.public() {
                            return Err(Fault::Rtpm(RtpmFault::OtherEndorsementKey));
                        }
                    }
                    Primary::StorageRootKey => self.made.storage_root_key = Some(created.handle),
                }
            }
            Command::StartAuthSession { .. } => match started_session(response) {
                Ok(session) => self.made.sessions.push(session),
                // One is enough: the server reads the PCRs in more rounds then.
                Err(ResponseError::Refused(code))
                    if code.is_out_of_slots() && !self.made.sessions.is_empty() => {}
                Err(error) => return Err(error.into()),
            },
            Command::PcrRead { .. } => {
                for (pcr, value) in pcrs_read(response)? {
                    // A TPM has no other PCRs, and the values have the size of the bank.
                    let _ = self.values.insert(pcr.into(), &value);
                }
            }
            Command::Create { template, .. } => {
                let key = created_key(response)?;
                let pcrs = IdentityPcrs::of_policy(&template.policy, &self.values);
                self.created = Some(CreatedIdentityKey {
                    private: key.private,
                    public: key.public,
                    pcrs: pcrs.ok_or(Fault::Rtpm(RtpmFault::ForeignPolicy))?,
                });
            }
            Command::ReadPublic(_) => {}
        }
        Ok(())
    }
}

impl Measurements {
    fn blobs(&self) -> Vec<Blob<'_>> {
        let mut blobs = Vec::new();
        if !self.event_log.is_empty() {
            blobs.push(Blob::EventLog(&self.event_log));
        }
        if !self.ima_log.is_empty() {
            blobs.push(Blob::ImaLog(&self.ima_log));
        }
        blobs.extend(self.device.map(Blob::DeviceInfo));
        blobs.extend(self.preimages.iter().cloned().map(Blob::Preimage));
        blobs.extend(self.unexplained.iter().copied().map(Blob::UnexplainedEvent));
        blobs
    }
}

/// Why a response does not carry the exchange on.
enum Fault {
    Rtpm(RtpmFault),
    Response(ResponseError),
}

impl From<ResponseError> for Fault {
    fn from(error: ResponseError) -> Self {
        Self::Response(error)
    }
}
