//! What an examination found out, stage by stage.

use std::path::PathBuf;

use hgs_crypto::rsa::PublicKey;
use hgs_custody::PinSource;

use crate::TokenError;

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
