//! Where an exchange stands, and how a TPM's responses carry it on. Without time, policies or hosts.
//!
//! ```text
//! Primaries ──▶ Starting ──▶ Reading ─┬─▶ Reading (the rest, or once more)
//!                                     ├─▶ the values are proved ──▶ Creating ──▶ the key is proved
//!                                     └─▶ refused
//! ```

use hgs_crypto::hash::Sha256Digest;
use hgs_crypto::{CryptoError, Random, SecretBytes};
use hgs_pki::Time;
use hgs_pki::health::HealthKind;
use hgs_tcg::event_log::{Bank, PcrValues};
use hgs_tcg::tpm::{
    AwaitingKey, Command, CreatedKey, EndorsementKey, Handle, KeyTemplate, PcrSelection, Primary,
    PublicError, ResponseError, Session, SessionError, SessionState, StartingSession,
    StorageRootKey, created_primary,
};

use crate::wire::SessionId;

/// Sessions of one exchange: TPMs have slots for three, and three responses hold 24 PCRs.
const SESSIONS: usize = 3;

/// PCRs that change while a host runs: IMA's, and two that any program can reset. They are read, and not awaited to be
/// stable.
const UNSTABLE: [usize; 3] = [10, 16, 23];

/// How often all PCRs are read, at most, until two readings in a row agree.
pub const MAX_READINGS: u8 = 6;

/// What an exchange belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Binding {
    /// SHA-256 of the endorsement key's TPMT_PUBLIC.
    pub(super) endorsement_key: Sha256Digest,
    pub(super) session: SessionId,
}

/// An exchange between two requests.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Exchange {
    /// With whom it is.
    pub(super) binding: Binding,
    /// When it began.
    pub(super) started: Time,
    /// What it is for.
    pub(super) kind: HealthKind,
    pub(super) stage: Stage,
}

/// What the last context has asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The endorsement key and the storage root key.
    Primaries,
    /// Sessions.
    Starting {
        parent: Parent,
        sessions: Vec<StartingSession>,
    },
    /// Values of PCRs.
    Reading(Box<Reading>),
    /// The identity key, bound to these values.
    Creating {
        session: AwaitingKey,
        values: Box<PcrValues>,
        /// What the TPM confirms with the key.
        outside_info: Option<Sha256Digest>,
    },
}

/// The storage root key, as the host says. That it is in the TPM is proved by what the TPM makes under it: a key with
/// fixedTPM and fixedParent has parents with them, up to a seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parent {
    key: StorageRootKey,
    handle: Handle,
}

/// PCRs are being read, all of them again and again until those that should be stable are.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reading {
    parent: Parent,
    sessions: Vec<SessionState>,
    /// What no session has asked for yet in this reading.
    unread: Option<PcrSelection>,
    values: PcrValues,
    /// What the reading before gave.
    last: Option<PcrValues>,
    /// Readings that are complete.
    complete: u8,
}

/// What responses lead to.
pub(super) enum Next {
    /// The TPM is asked for more.
    Ask(Stage, Vec<Command>),
    /// The values are proved.
    Proved(Box<ProvedBoot>),
    /// The key is proved, and so are the values that it is bound to.
    Created(Box<ProvedKey>),
}

/// A key that the TPM has made, and what it was made with.
pub(super) struct ProvedKey {
    pub(super) created: CreatedKey,
    pub(super) values: PcrValues,
    /// What the host had its TPM confirm.
    pub(super) outside_info: Option<Sha256Digest>,
}

/// All PCRs of a TPM, and a session in which a key can be made.
pub(super) struct ProvedBoot {
    pub(super) values: PcrValues,
    parent: Parent,
    session: Session,
}

/// Why responses do not carry the exchange on. The host or its TPM is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeError {
    /// Not one response for each command.
    #[error("the context has {found} responses; the TPM was sent {expected} commands")]
    Responses {
        /// How many commands there were.
        expected: usize,
        /// How many responses there are.
        found: usize,
    },
    /// The TPM has another endorsement key.
    #[error("the TPM has another endorsement key than the one that the host attests with")]
    OtherEndorsementKey,
    /// The TPM did not make a primary key.
    #[error("after {command}: {error}")]
    Primary {
        /// The command.
        command: &'static str,
        /// What is wrong.
        error: ResponseError,
    },
    /// The storage root key is not of the profile.
    #[error("storage root key: {0}")]
    StorageRootKey(PublicError),
    /// A response in a session, or to its start, proves nothing.
    #[error("after {command}: {error}")]
    Session {
        /// The command.
        command: &'static str,
        /// What is wrong.
        error: SessionError,
    },
    /// PCRs that should be stable are not.
    #[error(
        "PCR {pcr} was extended between readings, {MAX_READINGS} times in a row: does the host still boot?"
    )]
    Unstable {
        /// One of them.
        pcr: usize,
    },
    /// A primitive of ours failed.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
}

impl Exchange {
    /// An exchange that begins, and its first commands.
    pub(super) fn begin(binding: Binding, kind: HealthKind, started: Time) -> (Self, Vec<Command>) {
        let exchange = Self {
            binding,
            started,
            kind,
            stage: Stage::Primaries,
        };
        let primaries = [Primary::EndorsementKey, Primary::StorageRootKey];
        (exchange, primaries.map(Command::CreatePrimary).into())
    }

    /// Whether the TPM with the endorsement key has given an authentic response in this exchange.
    pub(super) fn is_proved(&self) -> bool {
        match &self.stage {
            Stage::Primaries | Stage::Starting { .. } => false,
            Stage::Reading(reading) => {
                reading.last.is_some() || reading.values.iter().next().is_some()
            }
            Stage::Creating { .. } => true,
        }
    }

    /// Whether a host says how it was booted with the responses that are awaited.
    pub(super) fn awaits_measurements(&self) -> bool {
        matches!(self.stage, Stage::Reading(_) | Stage::Creating { .. })
    }
}

impl Stage {
    /// What `responses` lead to. `proved` becomes true with the first that is authentic.
    pub(super) fn advance(
        self,
        responses: &[&[u8]],
        endorsement_key: &EndorsementKey,
        random: &mut dyn Random,
        proved: &mut bool,
    ) -> Result<Next, ExchangeError> {
        let expected = self.awaited();
        let found = responses.len();
        if found != expected {
            return Err(ExchangeError::Responses { expected, found });
        }
        match self {
            Self::Primaries => start_sessions(responses, endorsement_key, random),
            Self::Starting { parent, sessions } => {
                let sessions = started(&sessions, responses)?;
                Reading::begin(parent, sessions).ask(random)
            }
            Self::Reading(reading) => reading.take(responses, proved)?.go_on(random),
            Self::Creating {
                session,
                values,
                outside_info,
            } => {
                let (_, created) = (session.verify(responses[0])).map_err(after("TPM2_Create"))?;
                *proved = true;
                Ok(Next::Created(Box::new(ProvedKey {
                    created,
                    values: *values,
                    outside_info,
                })))
            }
        }
    }

    fn awaited(&self) -> usize {
        match self {
            Self::Primaries => 2,
            Self::Starting { sessions, .. } => sessions.len(),
            Self::Reading(reading) => reading.sessions.iter().filter(|one| awaits(one)).count(),
            Self::Creating { .. } => 1,
        }
    }
}

fn awaits(session: &SessionState) -> bool {
    matches!(session, SessionState::AwaitingPcrs(_))
}

fn after(command: &'static str) -> impl Fn(SessionError) -> ExchangeError {
    move |error| match error {
        SessionError::Crypto(error) => error.into(),
        error => ExchangeError::Session { command, error },
    }
}

fn start_sessions(
    responses: &[&[u8]],
    endorsement_key: &EndorsementKey,
    random: &mut dyn Random,
) -> Result<Next, ExchangeError> {
    let primary = |response| {
        created_primary(response).map_err(|error| ExchangeError::Primary {
            command: "TPM2_CreatePrimary",
            error,
        })
    };
    let (created, root) = (primary(responses[0])?, primary(responses[1])?);
    if created.public != *endorsement_key.public() {
        return Err(ExchangeError::OtherEndorsementKey);
    }
    let parent = Parent {
        key: StorageRootKey::parse_shape(root.public.octets())
            .map_err(ExchangeError::StorageRootKey)?,
        handle: root.handle,
    };
    let mut sessions = Vec::with_capacity(SESSIONS);
    let mut commands = Vec::with_capacity(SESSIONS);
    for _ in 0..SESSIONS {
        let (session, command) = StartingSession::start(endorsement_key, created.handle, random)?;
        sessions.push(session);
        commands.push(command);
    }
    Ok(Next::Ask(Stage::Starting { parent, sessions }, commands))
}

/// The sessions that the TPM had slots for, the first at least.
fn started(
    starting: &[StartingSession],
    responses: &[&[u8]],
) -> Result<Vec<Session>, ExchangeError> {
    let mut sessions = Vec::with_capacity(starting.len());
    for (session, response) in starting.iter().zip(responses) {
        match session.started(response) {
            Ok(session) => sessions.push(session),
            Err(SessionError::Response(ResponseError::Refused(code)))
                if code.is_out_of_slots() && !sessions.is_empty() => {}
            Err(error) => return Err(after("TPM2_StartAuthSession")(error)),
        }
    }
    Ok(sessions)
}

impl Reading {
    fn begin(parent: Parent, sessions: Vec<Session>) -> Self {
        Self {
            parent,
            sessions: sessions.into_iter().map(SessionState::Open).collect(),
            unread: all_pcrs(),
            values: PcrValues::new(Bank::Sha256),
            last: None,
            complete: 0,
        }
    }

    /// Has each session ask for some of what is unread.
    fn ask(mut self, random: &mut dyn Random) -> Result<Next, ExchangeError> {
        let mut reads = self.unread.map(PcrSelection::reads).unwrap_or_default();
        let rest = reads.split_off(reads.len().min(self.sessions.len()));
        self.unread = PcrSelection::new(rest.into_iter().flat_map(PcrSelection::pcrs)).ok();
        let mut commands = Vec::with_capacity(reads.len());
        let mut reads = reads.into_iter();
        let mut sessions = Vec::with_capacity(self.sessions.len());
        for session in self.sessions {
            sessions.push(match (session, reads.next()) {
                (SessionState::Open(session), Some(selection)) => {
                    let (awaiting, command) = session.read_pcrs(selection, random)?;
                    commands.push(command);
                    SessionState::AwaitingPcrs(awaiting)
                }
                (session, _) => session,
            });
        }
        self.sessions = sessions;
        Ok(Next::Ask(Stage::Reading(Box::new(self)), commands))
    }

    /// Verifies what the sessions got.
    fn take(mut self, responses: &[&[u8]], proved: &mut bool) -> Result<Self, ExchangeError> {
        let mut responses = responses.iter();
        let mut sessions = Vec::with_capacity(self.sessions.len());
        for session in self.sessions {
            let SessionState::AwaitingPcrs(awaiting) = session else {
                sessions.push(session);
                continue;
            };
            // There is one for each session that awaits one.
            let response = responses.next().copied().unwrap_or_default();
            let (session, values) = (awaiting.verify(response)).map_err(after("TPM2_PCR_Read"))?;
            *proved = true;
            values.set_in(&mut self.values);
            sessions.push(SessionState::Open(session));
        }
        self.sessions = sessions;
        Ok(self)
    }

    /// Asks for what is unread; compares a reading that is complete with the one before.
    fn go_on(mut self, random: &mut dyn Random) -> Result<Next, ExchangeError> {
        if self.unread.is_some() {
            return self.ask(random);
        }
        self.complete += 1;
        let values = std::mem::replace(&mut self.values, PcrValues::new(Bank::Sha256));
        if let Some(last) = &self.last {
            match changed(last, &values) {
                None => return self.proved(values),
                Some(pcr) if self.complete >= MAX_READINGS => {
                    return Err(ExchangeError::Unstable { pcr });
                }
                Some(_) => {}
            }
        }
        self.last = Some(values);
        self.unread = all_pcrs();
        self.ask(random)
    }

    fn proved(self, values: PcrValues) -> Result<Next, ExchangeError> {
        let session = self.sessions.into_iter().find_map(|session| match session {
            SessionState::Open(session) => Some(session),
            _ => None,
        });
        Ok(Next::Proved(Box::new(ProvedBoot {
            values,
            parent: self.parent,
            session: session.ok_or(CryptoError)?,
        })))
    }
}

impl ProvedBoot {
    /// Asks for a key, and for the confirmation of `outside_info` with it.
    pub(super) fn create(
        self,
        template: KeyTemplate,
        outside_info: Option<Sha256Digest>,
        random: &mut dyn Random,
    ) -> Result<(Stage, Command), CryptoError> {
        let Self {
            values,
            parent,
            session,
        } = self;
        let parent = (&parent.key, parent.handle);
        let (session, command) = session.create(parent, template, outside_info, random)?;
        let stage = Stage::Creating {
            session,
            values: Box::new(values),
            outside_info,
        };
        Ok((stage, command))
    }
}

fn all_pcrs() -> Option<PcrSelection> {
    PcrSelection::new(0..24).ok()
}

/// The first PCR that should have had one value and had two.
fn changed(one: &PcrValues, other: &PcrValues) -> Option<usize> {
    let pcrs = (0..24).filter(|pcr| !UNSTABLE.contains(pcr));
    let mut changed = pcrs.filter(|pcr| one.value(*pcr) != other.value(*pcr));
    changed.next()
}

/// Octets of the longest state: three sessions, two readings, and a storage root key.
const MAX_STATE: usize = 4096;

/// The layout of the state. It changes with every change of what is written here.
const VERSION: u8 = 3;

/// Octets that are no state of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StateError;

impl Exchange {
    /// The exchange in octets that hold the secrets of its sessions, for a context that is made at `made`. Numbers are
    /// big-endian.
    pub(super) fn to_octets(&self, made: Time) -> SecretBytes {
        // With room for all, so that no copy of a secret is left behind by a reallocation.
        let mut writer = Writer(Vec::with_capacity(MAX_STATE));
        writer.octets(&[VERSION]);
        writer.octets(&self.binding.endorsement_key);
        writer.octets(&self.binding.session.0);
        writer.octets(&made.unix().to_be_bytes());
        writer.octets(&self.started.unix().to_be_bytes());
        writer.octets(&[match self.kind {
            HealthKind::Encryption => 1,
            HealthKind::Signing => 2,
        }]);
        match &self.stage {
            Stage::Primaries => writer.octets(&[1]),
            Stage::Starting { parent, sessions } => {
                writer.octets(&[2]);
                writer.parent(parent);
                let states = sessions.iter().cloned().map(SessionState::Starting);
                writer.sessions(&states.collect::<Vec<_>>());
            }
            Stage::Reading(reading) => {
                writer.octets(&[3]);
                writer.parent(&reading.parent);
                writer.sessions(&reading.sessions);
                let unread = reading.unread.map(PcrSelection::pcrs);
                writer.octets(&mask(unread.into_iter().flatten().map(usize::from)));
                writer.values(&reading.values);
                let empty = PcrValues::new(Bank::Sha256);
                writer.values(reading.last.as_ref().unwrap_or(&empty));
                writer.octets(&[reading.complete]);
            }
            Stage::Creating {
                session,
                values,
                outside_info,
            } => {
                writer.octets(&[4]);
                writer.sessions(&[SessionState::AwaitingKey(session.clone())]);
                writer.values(values);
                writer.octets(&[u8::from(outside_info.is_some())]);
                writer.octets(outside_info.as_ref().map_or(&[][..], |digest| digest));
            }
        }
        SecretBytes::new(writer.0)
    }

    /// Reads an exchange, and when its context was made.
    pub(super) fn from_octets(octets: &SecretBytes) -> Result<(Self, Time), StateError> {
        let mut reader = Reader(octets.expose());
        if reader.u8()? != VERSION {
            return Err(StateError);
        }
        let binding = Binding {
            endorsement_key: reader.array()?,
            session: SessionId(reader.array()?),
        };
        let made = reader.time()?;
        let started = reader.time()?;
        let kind = match reader.u8()? {
            1 => HealthKind::Encryption,
            2 => HealthKind::Signing,
            _ => return Err(StateError),
        };
        let stage = match reader.u8()? {
            1 => Stage::Primaries,
            2 => {
                let parent = reader.parent()?;
                let sessions = reader.sessions()?.into_iter();
                let sessions = sessions.map(|session| match session {
                    SessionState::Starting(session) => Ok(session),
                    _ => Err(StateError),
                });
                Stage::Starting {
                    parent,
                    sessions: sessions.collect::<Result<_, _>>()?,
                }
            }
            3 => Stage::Reading(Box::new(Reading {
                parent: reader.parent()?,
                sessions: reader.sessions()?,
                unread: PcrSelection::new(reader.mask()?).ok(),
                values: reader.values()?,
                last: Some(reader.values()?).filter(|last| last.iter().next().is_some()),
                complete: reader.u8()?,
            })),
            4 => {
                let mut sessions = reader.sessions()?.into_iter();
                let Some(SessionState::AwaitingKey(session)) = sessions.next() else {
                    return Err(StateError);
                };
                Stage::Creating {
                    session,
                    values: Box::new(reader.values()?),
                    outside_info: match reader.u8()? {
                        0 => None,
                        1 => Some(reader.array()?),
                        _ => return Err(StateError),
                    },
                }
            }
            _ => return Err(StateError),
        };
        let exchange = Self {
            binding,
            started,
            kind,
            stage,
        };
        match reader.0 {
            [] => Ok((exchange, made)),
            _ => Err(StateError),
        }
    }
}

/// Reads a state that could have been sealed; for the body of a fuzz target.
///
/// # Panics
///
/// If it is not read again as it was written.
pub(crate) fn fuzz_state(octets: &SecretBytes) {
    if let Ok((exchange, made)) = Exchange::from_octets(octets) {
        let again = Exchange::from_octets(&exchange.to_octets(made));
        assert_eq!(again, Ok((exchange, made)));
    }
}

fn mask(pcrs: impl Iterator<Item = usize>) -> [u8; 4] {
    pcrs.fold(0u32, |mask, pcr| mask | 1 << pcr).to_be_bytes()
}

struct Writer(Vec<u8>);

impl Writer {
    fn octets(&mut self, octets: &[u8]) {
        self.0.extend_from_slice(octets);
    }

    fn sized(&mut self, octets: &[u8]) {
        // What is written here has some hundred octets.
        let size = u16::try_from(octets.len()).unwrap_or(u16::MAX);
        self.octets(&size.to_be_bytes());
        self.octets(octets);
    }

    fn parent(&mut self, parent: &Parent) {
        self.octets(&parent.handle.value().to_be_bytes());
        self.sized(parent.key.public().octets());
    }

    fn sessions(&mut self, sessions: &[SessionState]) {
        self.octets(&[u8::try_from(sessions.len()).unwrap_or(u8::MAX)]);
        for session in sessions {
            self.sized(session.to_octets().expose());
        }
    }

    fn values(&mut self, values: &PcrValues) {
        self.octets(&mask(values.iter().map(|(pcr, _)| pcr)));
        for (_, value) in values.iter() {
            self.octets(value.as_bytes());
        }
    }
}

struct Reader<'o>(&'o [u8]);

impl<'o> Reader<'o> {
    fn take(&mut self, count: usize) -> Result<&'o [u8], StateError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(StateError)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], StateError> {
        self.take(N)?.try_into().map_err(|_| StateError)
    }

    fn u8(&mut self) -> Result<u8, StateError> {
        self.array().map(u8::from_be_bytes)
    }

    fn time(&mut self) -> Result<Time, StateError> {
        self.array()
            .map(|octets| Time::from_unix(i64::from_be_bytes(octets)))
    }

    fn sized(&mut self) -> Result<&'o [u8], StateError> {
        let size = self.array().map(u16::from_be_bytes)?;
        self.take(size.into())
    }

    fn parent(&mut self) -> Result<Parent, StateError> {
        Ok(Parent {
            handle: Handle::new(self.array().map(u32::from_be_bytes)?),
            key: StorageRootKey::parse_shape(self.sized()?).map_err(|_| StateError)?,
        })
    }

    fn sessions(&mut self) -> Result<Vec<SessionState>, StateError> {
        let count = self.u8()?;
        let state = |octets: &[u8]| {
            SessionState::from_octets(&SecretBytes::from(octets)).map_err(|_| StateError)
        };
        (0..count).map(|_| state(self.sized()?)).collect()
    }

    fn mask(&mut self) -> Result<impl Iterator<Item = u8> + use<>, StateError> {
        let mask = self.array().map(u32::from_be_bytes)?;
        match mask >> 24 {
            0 => Ok((0..24).filter(move |pcr| mask & (1 << pcr) != 0)),
            _ => Err(StateError),
        }
    }

    fn values(&mut self) -> Result<PcrValues, StateError> {
        let mut values = PcrValues::new(Bank::Sha256);
        for pcr in self.mask()? {
            let value = self.take(32)?;
            values.insert(pcr.into(), value).map_err(|_| StateError)?;
        }
        Ok(values)
    }
}
