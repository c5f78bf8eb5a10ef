use std::path::PathBuf;
use std::sync::Arc;

use cryptoki::object::{Attribute, AttributeType, ObjectHandle};
use cryptoki::slot::Limit;
use hgs_crypto::rsa::PublicKey;
use hgs_custody::{PinSource, Pkcs11Uri};

use crate::key::only;
use crate::profile::Profile;
use crate::search::KeyName;
use crate::session::{TokenSession, lost};
use crate::token::{Report, Token};
use crate::tokens::Modules;
use crate::{Oaep, TokenError};

/// What stands between a URI and work with its key, stage by stage: the first that failed is the
/// cause, and what comes after it was not tried.
#[derive(Debug, Clone)]
pub struct Examination {
    /// The module is configured, loads, starts and lists its slots.
    pub module: Stage<ModuleFinding>,
    /// Exactly one token is the one that the URI names.
    pub token: Stage<TokenFinding>,
    /// The PIN's source is there, and only its owner can read it.
    pub pin: Stage<PinFinding>,
    /// The token took the PIN.
    pub login: Stage<()>,
    /// The token gave sessions.
    pub sessions: Stage<SessionFinding>,
    /// Exactly one key is the one that the URI names, and it may be used.
    pub key: Stage<KeyFinding>,
    /// What the token can do with the key.
    pub mechanisms: Stage<MechanismFinding>,
}

/// How one stage went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage<T> {
    /// It is as it should be, and this is what was seen.
    Passed(T),
    /// This is why the key can't be used.
    Failed(TokenError),
    /// An earlier stage failed.
    Skipped,
}

/// A module that works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleFinding {
    /// The shared object.
    pub path: PathBuf,
    /// What it calls itself.
    pub description: String,
    /// Slots with a token in them.
    pub tokens: usize,
}

/// The token that the URI names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenFinding {
    /// Its label.
    pub label: String,
    /// Its model.
    pub model: String,
    /// Its serial number.
    pub serial: String,
    /// The slot it is in.
    pub slot: u64,
    /// One more wrong PIN locks it, or a few.
    pub pin_count_low: bool,
}

/// Where the PIN came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinFinding {
    /// The source, readable by its owner only.
    pub source: PinSource,
}

/// The sessions of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionFinding {
    /// Sessions of this process.
    pub open: usize,
    /// Of them, those without work at the moment.
    pub idle: usize,
    /// Sessions that the token allows in all, if it says so.
    pub maximum: Option<u64>,
    /// Sessions that all programs have open, if it says so.
    pub in_use: Option<u64>,
}

/// The key that the URI names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFinding {
    /// Its public half.
    pub public: PublicKey,
    /// `CKA_LABEL`.
    pub label: String,
    /// `CKA_ID`.
    pub id: Vec<u8>,
    /// `CKA_SIGN`.
    pub signs: bool,
    /// `CKA_DECRYPT`.
    pub decrypts: bool,
    /// `CKA_SENSITIVE`: its octets are not shown in the clear.
    pub sensitive: bool,
    /// `CKA_EXTRACTABLE`: it can be taken out under another key.
    pub extractable: bool,
}

/// What a token can do with a key, by its own account and by trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MechanismFinding {
    /// Who removes OAEP padding with SHA-256.
    pub oaep_sha256: OaepPlace,
    /// Who removes OAEP padding with SHA-1.
    pub oaep_sha1: OaepPlace,
    /// Raw RSA decryption, `CKM_RSA_X_509`.
    pub raw: bool,
    /// Signatures RSASSA-PKCS1-v1_5 with SHA-256.
    pub pkcs1_sha256: bool,
    /// Signatures RSASSA-PSS with SHA-256.
    pub pss_sha256: bool,
}

/// Who removes the OAEP padding of a ciphertext.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OaepPlace {
    /// The token does it all.
    Token,
    /// The token decrypts raw RSA and this process removes the padding.
    Host,
    /// Neither.
    Nowhere,
}

impl Examination {
    /// Why the key can't be used, or nothing if it can.
    #[must_use]
    pub fn failure(&self) -> Option<&TokenError> {
        let stages = [
            self.module.failure(),
            self.token.failure(),
            self.pin.failure(),
            self.login.failure(),
            self.sessions.failure(),
            self.key.failure(),
            self.mechanisms.failure(),
        ];
        stages.into_iter().flatten().next()
    }
}

impl<T> Stage<T> {
    /// What was seen, if the stage passed.
    pub fn passed(&self) -> Option<&T> {
        match self {
            Self::Passed(finding) => Some(finding),
            Self::Failed(_) | Self::Skipped => None,
        }
    }

    /// Why the stage failed, if it did.
    pub fn failure(&self) -> Option<&TokenError> {
        match self {
            Self::Failed(error) => Some(error),
            Self::Passed(_) | Self::Skipped => None,
        }
    }
}

/// Examines the way to a key in the module that has its token, or that came nearest.
pub(crate) fn examine(modules: &Modules, uri: &Pkcs11Uri) -> Examination {
    let candidates = match modules.candidates(uri) {
        Ok(candidates) => candidates,
        Err(error) => return Examination::failed(Report::default(), error),
    };
    let mut nearest: Option<Examination> = None;
    for (token, oaep) in candidates {
        let examination = examine_at(&token, oaep, KeyName::of(uri));
        let stage = examination.failure().map_or(usize::MAX, TokenError::stage);
        let known = nearest.as_ref().and_then(Examination::failure);
        if nearest.is_none() || known.is_some_and(|known| stage > known.stage()) {
            nearest = Some(examination);
        }
        if stage > 1 {
            break;
        }
    }
    nearest.unwrap_or_else(|| Examination::failed(Report::default(), TokenError::NoModule))
}

fn examine_at(token: &Arc<Token>, oaep: Oaep, name: KeyName) -> Examination {
    token.look_again();
    let seen = token.run(move |token_session| {
        // What is wrong with the key is not the token's fault: its sessions are shown with it.
        Ok((
            session_limits(token_session),
            key_at(token_session, oaep, &name),
        ))
    });
    let report = token.report();
    let (limits, found) = match seen {
        Ok(seen) => seen,
        Err(error) => return Examination::failed(report, error),
    };
    let (maximum, in_use) = limits;
    let sessions = SessionFinding {
        maximum,
        in_use,
        ..token.sessions()
    };
    let mut examination = match found {
        Ok((key, mechanisms)) => Examination {
            key: Stage::Passed(key),
            mechanisms: Stage::Passed(mechanisms),
            ..Examination::reported(report)
        },
        Err(error) => Examination::failed(report, error),
    };
    examination.sessions = Stage::Passed(sessions);
    examination
}

fn key_at(
    token_session: &mut TokenSession,
    oaep: Oaep,
    name: &KeyName,
) -> Result<(KeyFinding, MechanismFinding), TokenError> {
    let handle = only(token_session, name)?;
    let key = key_finding(token_session, handle, name)?;
    let (profile, _) = Profile::of(token_session, handle, &key.public, oaep)?;
    Ok((key, profile.finding()))
}

/// How many sessions the token allows, and how many are open.
fn session_limits(token_session: &TokenSession) -> (Option<u64>, Option<u64>) {
    let Ok(info) = token_session.context.get_token_info(token_session.slot) else {
        return (None, None);
    };
    let maximum = match info.max_session_count() {
        Limit::Max(maximum) => Some(maximum),
        _ => None,
    };
    (maximum, info.session_count())
}

fn key_finding(
    token_session: &TokenSession,
    handle: ObjectHandle,
    name: &KeyName,
) -> Result<KeyFinding, TokenError> {
    let public = token_session.public_half(handle, name)?;
    let mut key = KeyFinding {
        public: public.ok_or(TokenError::PublicHalfHidden)?,
        label: String::new(),
        id: Vec::new(),
        signs: false,
        decrypts: false,
        sensitive: false,
        extractable: false,
    };
    let types = [
        AttributeType::Label,
        AttributeType::Id,
        AttributeType::Sign,
        AttributeType::Decrypt,
        AttributeType::Sensitive,
        AttributeType::Extractable,
    ];
    let attributes = token_session.attributes(handle, &types);
    for attribute in attributes.map_err(|error| lost(&error))? {
        match attribute {
            Attribute::Label(label) => key.label = String::from_utf8_lossy(&label).into_owned(),
            Attribute::Id(id) => key.id = id,
            Attribute::Sign(signs) => key.signs = signs,
            Attribute::Decrypt(decrypts) => key.decrypts = decrypts,
            Attribute::Sensitive(sensitive) => key.sensitive = sensitive,
            Attribute::Extractable(extractable) => key.extractable = extractable,
            _ => {}
        }
    }
    Ok(key)
}

impl Examination {
    /// What the keeper saw before there were sessions.
    fn reported(report: Report) -> Self {
        let login = report.logged_in.then_some(());
        Self {
            module: Stage::seen(report.module),
            token: Stage::seen(report.token),
            pin: Stage::seen(report.pin),
            login: Stage::seen(login),
            sessions: Stage::Skipped,
            key: Stage::Skipped,
            mechanisms: Stage::Skipped,
        }
    }

    /// `error` at its stage, what the keeper saw before it, and nothing after it.
    fn failed(report: Report, error: TokenError) -> Self {
        let mut examination = Self::reported(report);
        let stage = error.stage();
        examination.module.end_at(0, stage, &error);
        examination.token.end_at(1, stage, &error);
        examination.pin.end_at(2, stage, &error);
        examination.login.end_at(3, stage, &error);
        examination.sessions.end_at(4, stage, &error);
        examination.key.end_at(5, stage, &error);
        examination.mechanisms.end_at(6, stage, &error);
        examination
    }
}

impl<T> Stage<T> {
    fn seen(finding: Option<T>) -> Self {
        finding.map_or(Self::Skipped, Self::Passed)
    }

    fn end_at(&mut self, own: usize, failed: usize, error: &TokenError) {
        if own == failed {
            *self = Self::Failed(error.clone());
        } else if own > failed {
            *self = Self::Skipped;
        }
    }
}
