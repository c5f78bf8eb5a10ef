use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use hgs_custody::PinSource;

/// Which modules may be loaded, and how they are used.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The modules, in the order in which a token is looked for when its URI names none.
    pub modules: Vec<ModuleSettings>,
    /// Where the PIN is for URIs without `pin-source`.
    pub pin_source: Option<PinSource>,
}

/// How one module is used.
#[derive(Debug, Clone)]
pub struct ModuleSettings {
    /// The shared object.
    pub path: PathBuf,
    /// Sessions, and so threads, for each token. At least one is opened.
    pub sessions: usize,
    /// Who removes the OAEP padding.
    pub oaep: Oaep,
    /// How long a caller waits for its turn, and then for the token, before it is told that the
    /// token is unavailable. A call into the module that takes longer means that the token is
    /// lost.
    pub wait: Duration,
}

impl ModuleSettings {
    /// The defaults: eight sessions, OAEP where it works, ten seconds.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            sessions: 8,
            oaep: Oaep::Auto,
            wait: Duration::from_secs(10),
        }
    }
}

/// Who removes the OAEP padding of a ciphertext.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Oaep {
    /// The token if a trial shows that it can, else this process, after raw RSA in the token.
    #[default]
    Auto,
    /// The token only.
    Token,
    /// This process, after raw RSA (`CKM_RSA_X_509`) in the token.
    Host,
    /// The token, and with SHA-1 only: guardians with keys in it ask for SHA-1 in their metadata.
    Sha1,
}

impl Oaep {
    /// How the configuration calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Token => "token",
            Self::Host => "host",
            Self::Sha1 => "sha1",
        }
    }
}

impl fmt::Display for Oaep {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// The text is none of `auto`, `token`, `host` and `sha1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("OAEP is done by auto, token, host or sha1")]
pub struct UnknownOaep;

impl FromStr for Oaep {
    type Err = UnknownOaep;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Auto, Self::Token, Self::Host, Self::Sha1]
            .into_iter()
            .find(|oaep| oaep.name() == text)
            .ok_or(UnknownOaep)
    }
}

/// What a key is generated for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// Signatures only.
    Sign,
    /// Decryption only.
    Decrypt,
}
