//! Names, which are checked when their type is made.

use std::fmt;
use std::str::FromStr;

use hgs_crypto::hex;
use serde::{Deserialize, Serialize};

/// Why a text is not a name of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a host name.
    #[error(
        "a host name has 1 to 253 letters, digits, dots, hyphens and underscores, \
         and starts with a letter or digit"
    )]
    HostName,
    /// Not a digest.
    #[error("a SHA-256 digest has 64 hexadecimal digits")]
    Digest,
}

/// What an administrator calls a host. Two names that differ in case only are the same host's, so
/// that none can pass for another (attacks.md K11).
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(String);

impl HostName {
    /// The name as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The form in which names are compared.
    #[must_use]
    pub fn folded(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

impl FromStr for HostName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let sound = (1..=253).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(allowed);
        sound
            .then(|| Self(text.to_owned()))
            .ok_or(NameError::HostName)
    }
}

impl PartialEq for HostName {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for HostName {}

/// A SHA-256 digest: of a protector, a public key or a policy. Written as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// From the 32 octets.
    #[must_use]
    pub const fn from_bytes(octets: [u8; 32]) -> Self {
        Self(octets)
    }

    /// The 32 octets.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex::encode(&self.0))
    }
}

impl FromStr for Digest {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let octets = hex::decode(text).and_then(|octets| octets.try_into().ok());
        octets.map(Self).ok_or(NameError::Digest)
    }
}

/// Text types show themselves by their text, in messages and in `Debug`, and are kept as it.
macro_rules! as_text {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, concat!(stringify!($name), "({})"), self)
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }
    )*};
}

as_text!(HostName, Digest);

impl fmt::Display for HostName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// attacks.md K11: one host, one name, whatever its case; no white space, slashes, wild cards.
    #[test]
    fn k11_names_have_one_meaning() {
        let name: HostName = "Node-1.example".parse().unwrap();
        assert_eq!(name, "nODE-1.EXAMPLE".parse().unwrap());
        assert_eq!(name.to_string(), "Node-1.example");
        let long = "a".repeat(254);
        for text in [
            "", " a", "a ", "a/b", "*", "..", ".a", "-a", "a\0", "ä", &long,
        ] {
            assert_eq!(
                text.parse::<HostName>(),
                Err(NameError::HostName),
                "{text:?}"
            );
        }
    }
}
