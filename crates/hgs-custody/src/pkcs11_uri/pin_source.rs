//! Where the PIN of a token is; never the PIN.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Where the PIN of a token is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PinSource {
    /// `file:PATH` (or just an absolute path, as RFC 7512 examples have it): a file that nobody
    /// but its owner can read.
    File(PathBuf),
    /// `credential:NAME`: a file in the folder that systemd names in `CREDENTIALS_DIRECTORY`.
    Credential(String),
    /// `env:NAME`: an environment variable whose name begins with `HGS_`.
    Environment(String),
}

/// The text names no source of a PIN.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PinSourceError {
    /// None of the three forms, or a relative path. The text is not repeated, because somebody
    /// may have written the PIN itself there.
    #[error("a PIN source is file:/PATH, credential:NAME or env:HGS_NAME")]
    Form,
    /// A variable of another program, or not the name of one.
    #[error("the variable of a PIN source is named HGS_ and then A-Z, 0-9 and _")]
    Variable,
    /// Something else than the plain name of a file.
    #[error("a credential is named with letters, digits, `-`, `_` and `.`, and not . or ..")]
    Credential,
}

impl FromStr for PinSource {
    type Err = PinSourceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let path = text.strip_prefix("file:").unwrap_or(text);
        if let Some(name) = text.strip_prefix("credential:") {
            let plain = |octet: u8| octet.is_ascii_alphanumeric() || b"-_.".contains(&octet);
            let named = !name.is_empty() && name != "." && name != ".." && name.bytes().all(plain);
            let source = named.then(|| Self::Credential(name.to_owned()));
            source.ok_or(PinSourceError::Credential)
        } else if let Some(name) = text.strip_prefix("env:") {
            let plain = |o: u8| o.is_ascii_uppercase() || o.is_ascii_digit() || o == b'_';
            let rest = name.strip_prefix("HGS_").unwrap_or_default();
            let named = !rest.is_empty() && rest.bytes().all(plain);
            let source = named.then(|| Self::Environment(name.to_owned()));
            source.ok_or(PinSourceError::Variable)
        } else if path.starts_with('/') && !path.chars().any(char::is_control) {
            Ok(Self::File(PathBuf::from(path)))
        } else {
            Err(PinSourceError::Form)
        }
    }
}

impl fmt::Display for PinSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(formatter, "file:{}", path.display()),
            Self::Credential(name) => write!(formatter, "credential:{name}"),
            Self::Environment(name) => write!(formatter, "env:{name}"),
        }
    }
}
