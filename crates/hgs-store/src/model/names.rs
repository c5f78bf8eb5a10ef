//! Names, which are checked when their type is made.

use std::fmt;
use std::str::FromStr;

use hgs_crypto::hex;
use hgs_fault::is_next_version;
use serde::{Deserialize, Serialize};

use crate::level::Level;

/// Why a text is not a name of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a host name.
    #[error(
        "a host name has 1 to 253 letters, digits, dots, hyphens and underscores, \
         and starts with a letter or digit"
    )]
    HostName,
    /// Not a name of a group or of a document.
    #[error(
        "a name has 1 to 64 letters, digits, dots, hyphens and underscores, and starts with a letter or digit"
    )]
    ShortName,
    /// Not a kind of document.
    #[error("a document is a `baseline`, a `ci-policy` or a `dump-key`")]
    DocumentKind,
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
        let sound = text.len() <= 253 && is_plain_name(text);
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

/// What an administrator calls a group of hosts, or a document that hosts are judged by. It is kept in lower case, so that none
/// can pass for another (attacks.md K11).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ShortName([u8; Self::MAX_LENGTH]);

/// What names of the next version may have in them.
const OF_NEXT_VERSION: char = '+';

impl ShortName {
    const MAX_LENGTH: usize = 64;

    /// The first level at which all programs can read it. The next version, where a test plays it, has names that this one refuses.
    pub(crate) fn level(&self) -> Level {
        match self.as_str().contains(OF_NEXT_VERSION) {
            true => Level::FIRST.next(),
            false => Level::FIRST,
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let end = self.0.iter().position(|octet| *octet == 0);
        let octets = &self.0[..end.unwrap_or(Self::MAX_LENGTH)];
        std::str::from_utf8(octets).expect("a name is ASCII")
    }
}

impl FromStr for ShortName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::read(text, is_next_version())
    }
}

impl ShortName {
    fn read(text: &str, is_next_version: bool) -> Result<Self, NameError> {
        let is_sound = text.len() <= Self::MAX_LENGTH
            && match is_next_version {
                true => is_plain_name(&text.replace(OF_NEXT_VERSION, "-")),
                false => is_plain_name(text),
            };
        if !is_sound {
            return Err(NameError::ShortName);
        }
        let mut octets = [0; Self::MAX_LENGTH];
        for (place, octet) in octets.iter_mut().zip(text.bytes()) {
            *place = octet.to_ascii_lowercase();
        }
        Ok(Self(octets))
    }
}

impl fmt::Display for ShortName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

fn is_plain_name(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(allowed)
}

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

as_text!(HostName, ShortName, Digest);

impl fmt::Display for HostName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// attacks.md K11: of groups and documents too.
    #[test]
    fn k11_short_names_have_one_meaning() {
        let name: ShortName = "Dell-R650_2.19".parse().unwrap();
        assert_eq!(name.as_str(), "dell-r650_2.19");
        assert_eq!(name, "DELL-r650_2.19".parse().unwrap());
        let longest = "a".repeat(64);
        assert_eq!(longest.parse::<ShortName>().unwrap().as_str(), longest);
        let long = "a".repeat(65);
        for text in [
            "", " a", "a/b", "*", "..", ".a", "-a", "a\0", "\0", "ä", &long,
        ] {
            let refused = text.parse::<ShortName>();
            assert_eq!(refused, Err(NameError::ShortName), "{text:?}");
        }
    }

    proptest::proptest! {
        /// What the next version may write at the first level, this version reads, and nothing else.
        #[test]
        fn names_of_the_first_level_are_those_that_this_version_reads(text in "[a-z0-9._+ -]{0,5}") {
            let read = ShortName::read(&text, false);
            match ShortName::read(&text, true) {
                Ok(name) if name.level() == Level::FIRST => assert_eq!(read, Ok(name)),
                Ok(_) | Err(_) => assert_eq!(read, Err(NameError::ShortName)),
            }
        }
    }

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
