//! What the documents of policies have in common: `kind` and `version`, strict reading within a budget, digests and times.

use std::fmt;

use hgs_crypto::hash::Sha256Digest;
use hgs_crypto::hex;
use hgs_pki::Time;
use hgs_tcg::event_log::{Bank, Digest};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::wire::quoted;

/// The version of every document that is written, and the only one that is read.
pub const VERSION: u32 = 1;
/// Characters of the longest name of a component, a slot, an alternative or a parameter.
pub(super) const MAX_NAME_CHARACTERS: usize = 200;

/// Why octets are no document. Who made the file is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// Over its budget.
    #[error("the document has {found} octets, more than {limit}")]
    TooLarge {
        /// How many it has.
        found: usize,
        /// How many it may have.
        limit: usize,
    },
    /// A document of another kind, or no JSON.
    #[error("the document is not one of kind `{expected}`: {found}")]
    Kind {
        /// The kind that was asked for.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// Of a version that is not known.
    #[error("the document has version {0}; this program reads version {VERSION}")]
    Version(u32),
    /// Not in the form that its version has.
    #[error("the document is malformed: {0}")]
    Malformed(String),
    /// Too many of something.
    #[error("the document has more than {limit} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many it may have.
        limit: usize,
    },
    /// It contradicts itself.
    #[error("{0}")]
    Inconsistent(String),
}

/// What stands before everything else of a document.
#[derive(Serialize)]
struct Written<'d, D> {
    kind: &'static str,
    version: u32,
    #[serde(flatten)]
    document: &'d D,
}

/// Writes a document, for people to read as well.
pub(super) fn write(kind: &'static str, document: &impl Serialize) -> String {
    let written = Written {
        kind,
        version: VERSION,
        document,
    };
    let mut text = serde_json::to_string_pretty(&written)
        .expect("the document has names for keys and is written to memory");
    text.push('\n');
    text
}

/// Reads a document of that kind. `D` has the members `kind` and `version` too, and refuses those that it does not know.
pub(super) fn read<D: DeserializeOwned>(
    kind: &'static str,
    octets: &[u8],
    limit: usize,
) -> Result<D, DocumentError> {
    #[derive(Deserialize)]
    struct Header {
        kind: String,
        version: u32,
    }
    let found = octets.len();
    if found > limit {
        return Err(DocumentError::TooLarge { found, limit });
    }
    let header: Header = serde_json::from_slice(octets).map_err(|error| {
        if !error.is_data() {
            return DocumentError::Malformed(said(&error));
        }
        DocumentError::Kind {
            expected: kind,
            found: said(&error),
        }
    })?;
    if header.kind != kind {
        return Err(DocumentError::Kind {
            expected: kind,
            found: format!("`kind` is `{}`", quoted(&header.kind)),
        });
    }
    if header.version != VERSION {
        return Err(DocumentError::Version(header.version));
    }
    let document = serde_json::from_slice(octets);
    document.map_err(|error| DocumentError::Malformed(said(&error)))
}

/// The message of the parser, which quotes the document: escaped, and cut short.
fn said(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.chars()
        .take(300)
        .flat_map(char::escape_debug)
        .collect()
}

/// Refuses a name that people could not tell apart, or that could steer a terminal.
pub(super) fn check_name(what: &str, name: &str) -> Result<(), DocumentError> {
    let printable =
        |character: char| !character.is_control() && !hgs_crypto::text::is_invisible(character);
    let right = (1..=MAX_NAME_CHARACTERS).contains(&name.chars().count())
        && name.trim() == name
        && name.chars().all(printable);
    match right {
        true => Ok(()),
        false => Err(DocumentError::Inconsistent(format!(
            "{what} `{}` is no name: it has 1 to {MAX_NAME_CHARACTERS} visible characters, without a space at either end",
            quoted(name)
        ))),
    }
}

pub(super) fn check_count(
    what: &'static str,
    found: usize,
    limit: usize,
) -> Result<(), DocumentError> {
    match found <= limit {
        true => Ok(()),
        false => Err(DocumentError::TooMany { what, limit }),
    }
}

/// The SHA-256 digest of an event or of a file: in documents, 64 hexadecimal digits in lower case.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventDigest(pub Sha256Digest);

impl EventDigest {
    /// The digest of an event; `None` if it is of another bank.
    #[must_use]
    pub fn of(digest: &Digest) -> Option<Self> {
        match digest.bank() {
            Bank::Sha256 => digest.as_bytes().try_into().ok().map(Self),
            _ => None,
        }
    }
}

impl fmt::Display for EventDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex::encode(&self.0))
    }
}

impl fmt::Debug for EventDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl Serialize for EventDigest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EventDigest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'_, str>::deserialize(deserializer)?;
        let is_digit = |octet| matches!(octet, b'0'..=b'9' | b'a'..=b'f');
        let octets = match text.bytes().all(is_digit) {
            true => hex::decode(&text),
            false => None,
        };
        let digest = octets.and_then(|octets| octets.try_into().ok());
        digest.map(Self).ok_or_else(|| {
            D::Error::custom("a SHA-256 digest is 64 hexadecimal digits in lower case")
        })
    }
}

/// A time in a document, as RFC 3339 writes it.
pub(super) mod time {
    use super::*;

    pub(in crate::policy) fn serialize<S: Serializer>(
        time: &Time,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(time)
    }

    pub(in crate::policy) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Time, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// A time that may be absent.
pub(super) mod optional_time {
    use super::*;

    #[expect(clippy::ref_option, reason = "the signature that serde calls")]
    pub(in crate::policy) fn serialize<S: Serializer>(
        time: &Option<Time>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => time::serialize(time, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(in crate::policy) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Time>, D::Error> {
        time::deserialize(deserializer).map(Some)
    }
}
