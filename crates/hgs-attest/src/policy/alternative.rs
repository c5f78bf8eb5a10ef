//! Alternatives: what was approved for a component, where it came from, and for how long it stands.

use std::collections::BTreeMap;

use hgs_crypto::hash::sha256;
use hgs_pki::Time;
use serde::{Deserialize, Serialize};

use super::document::{self, DocumentError, EventDigest, check_count, check_name};
use crate::wire::quoted;

/// Alternatives of one component, at most.
pub const MAX_ALTERNATIVES: usize = 20_000;
/// Events of one alternative in one slot, at most.
pub const MAX_EVENTS: usize = 512;
/// Octets of the longest text of an event.
pub const MAX_TEXT_OCTETS: usize = 16 * 1024;
/// Characters of the longest value of a parameter.
pub(super) const MAX_PARAMETER_CHARACTERS: usize = 256;

/// What one component may be: for each of its slots the events in their order. A slot that is not named has none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alternative {
    /// What people call it; no other alternative of the component has the same name.
    pub name: String,
    /// Where it came from.
    pub source: Source,
    /// Whether it is accepted.
    pub state: State,
    /// What is measured, by slot.
    pub events: Vec<SlotEvents>,
}

/// What an alternative measures in one slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlotEvents {
    /// The name of the slot.
    pub slot: String,
    /// The events, first to last.
    pub events: Vec<ExpectedEvent>,
}

/// Where an alternative came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The kind of source.
    pub kind: SourceKind,
    /// Which one: a file, a package with its version, a host, an administrator.
    pub of: String,
}

/// Kinds of sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceKind {
    /// The log of a host that booted it.
    Log,
    /// A file, from which it was predicted.
    File,
    /// A package, from whose files it was predicted.
    Package,
    /// A component file of systemd-pcrlock.
    Pcrlock,
    /// What a vendor published.
    Vendor,
    /// An administrator, who approved a difference.
    Administrator,
    /// A host, which measured its own files before it booted them.
    Host,
}

/// How far an alternative has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum State {
    /// It was predicted, and no host has booted it yet. It is accepted until it expires.
    Staged {
        /// The first second at which it is not accepted any more.
        #[serde(with = "document::time")]
        expires: Time,
    },
    /// A host booted it, or it is from a log, or an administrator approved it. It is accepted.
    Promoted {
        /// When, if that is known.
        #[serde(
            with = "document::optional_time",
            default,
            skip_serializing_if = "Option::is_none"
        )]
        at: Option<Time>,
        /// The host that booted it first.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
    /// It was withdrawn. It is kept, so that a refusal can name it, and is not accepted.
    Retired {
        /// Since when.
        #[serde(with = "document::time")]
        at: Time,
    },
}

impl State {
    /// An alternative from a log or from an administrator.
    #[must_use]
    pub fn promoted() -> Self {
        Self::Promoted { at: None, by: None }
    }

    /// Whether it is accepted at a time.
    #[must_use]
    pub fn is_accepted(&self, now: Time) -> bool {
        match self {
            Self::Staged { expires } => now < *expires,
            Self::Promoted { .. } => true,
            Self::Retired { .. } => false,
        }
    }

    /// Whether it waits for a host that boots it.
    #[must_use]
    pub fn is_staged(&self) -> bool {
        matches!(self, Self::Staged { .. })
    }

    /// Whether it was staged, and no host booted it in time.
    pub(super) fn is_expired(&self, now: Time) -> bool {
        self.is_staged() && !self.is_accepted(now)
    }

    /// Records that a host booted it, if it is staged.
    pub(super) fn promote(&mut self, host: &str, now: Time) -> bool {
        let staged = self.is_staged();
        if staged {
            *self = Self::Promoted {
                at: Some(now),
                by: Some(host.to_owned()),
            };
        }
        staged
    }

    /// Withdraws it, if it is not withdrawn already.
    pub(super) fn retire(&mut self, now: Time) -> bool {
        let stood = !self.is_retired();
        if stood {
            *self = Self::Retired { at: now };
        }
        stood
    }

    pub(super) fn is_retired(&self) -> bool {
        matches!(self, Self::Retired { .. })
    }
}

/// An event that is expected: by its digest, or by the text that is hashed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "EventMembers", into = "EventMembers")]
pub enum ExpectedEvent {
    /// The digest, and what it is of, for people.
    Digest {
        /// The digest.
        digest: EventDigest,
        /// What is measured.
        what: Option<String>,
    },
    /// A text that is hashed. It may name parameters, as in `root=UUID={root}`; `{{` and `}}` are braces.
    Text {
        /// The text.
        text: String,
        /// How its characters become octets.
        encoding: Encoding,
    },
}

/// How a text is hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encoding {
    /// UTF-8 without an end mark: GRUB's commands and command lines, and a section `.cmdline`.
    Utf8,
    /// UTF-8 with a NUL: a section `.cmdline` that has one.
    Utf8Nul,
    /// UTF-16 in little-endian order with a NUL: what EFI stubs measure.
    Utf16Nul,
}

impl Encoding {
    /// The octets that are hashed.
    #[must_use]
    pub fn octets(self, text: &str) -> Vec<u8> {
        match self {
            Self::Utf8 => text.as_bytes().to_vec(),
            Self::Utf8Nul => [text.as_bytes(), &[0]].concat(),
            Self::Utf16Nul => {
                let units = text.encode_utf16().chain([0]);
                units.flat_map(u16::to_le_bytes).collect()
            }
        }
    }

    /// The text that these octets are, if they are one.
    #[must_use]
    pub fn text(self, octets: &[u8]) -> Option<String> {
        match self {
            Self::Utf8 => String::from_utf8(octets.to_vec()).ok(),
            Self::Utf8Nul => {
                let text = octets.strip_suffix(&[0])?;
                (!text.contains(&0))
                    .then(|| Self::Utf8.text(text))
                    .flatten()
            }
            Self::Utf16Nul => {
                let (units, rest) = octets.as_chunks::<2>();
                let units: Vec<u16> = units.iter().map(|unit| u16::from_le_bytes(*unit)).collect();
                let text = units.strip_suffix(&[0])?;
                (rest.is_empty() && !text.contains(&0))
                    .then(|| String::from_utf16(text).ok())
                    .flatten()
            }
        }
    }
}

/// The members that an event has in a document.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EventMembers {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<EventDigest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    what: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    encoding: Option<Encoding>,
}

impl TryFrom<EventMembers> for ExpectedEvent {
    type Error = &'static str;

    fn try_from(members: EventMembers) -> Result<Self, Self::Error> {
        let EventMembers {
            digest,
            what,
            text,
            encoding,
        } = members;
        match (digest, what, text, encoding) {
            (Some(digest), what, None, None) => Ok(Self::Digest { digest, what }),
            (None, None, Some(text), Some(encoding)) => Ok(Self::Text { text, encoding }),
            _ => Err("an event has `digest` and perhaps `what`, or `text` and `encoding`"),
        }
    }
}

impl From<ExpectedEvent> for EventMembers {
    fn from(event: ExpectedEvent) -> Self {
        let (digest, what, text, encoding) = match event {
            ExpectedEvent::Digest { digest, what } => (Some(digest), what, None, None),
            ExpectedEvent::Text { text, encoding } => (None, None, Some(text), Some(encoding)),
        };
        Self {
            digest,
            what,
            text,
            encoding,
        }
    }
}

/// Values of parameters, one for each name.
pub type Parameters = BTreeMap<String, String>;

/// Why a text gives no digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// A brace that neither names a parameter nor is doubled.
    #[error("`{0}` has a brace that names no parameter; a brace that is measured is written twice")]
    Brace(String),
    /// The host has no value for it.
    #[error("the host has no value for the parameter `{0}`")]
    NoValue(String),
}

/// A piece of a text: as it is, or the name of a parameter.
enum Piece<'t> {
    Literal(&'t str),
    Parameter(&'t str),
}

fn pieces(text: &str) -> Result<Vec<Piece<'_>>, TemplateError> {
    let refused = || TemplateError::Brace(quoted(text));
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(brace) = rest.find(['{', '}']) {
        pieces.push(Piece::Literal(&rest[..brace]));
        let from_brace = &rest[brace..];
        rest = if from_brace.starts_with("{{") || from_brace.starts_with("}}") {
            pieces.push(Piece::Literal(&from_brace[..1]));
            &from_brace[2..]
        } else {
            let inner = from_brace.strip_prefix('{').ok_or_else(refused)?;
            let (name, after) = inner.split_once('}').ok_or_else(refused)?;
            if !is_parameter_name(name) {
                return Err(refused());
            }
            pieces.push(Piece::Parameter(name));
            after
        };
    }
    pieces.push(Piece::Literal(rest));
    Ok(pieces)
}

/// Writes a text so that it names no parameter.
#[must_use]
pub fn literal(text: &str) -> String {
    text.replace('{', "{{").replace('}', "}}")
}

/// Writes a text with the values of parameters taken out: each place where a value stands names the parameter instead. Of values
/// that contain each other the longer wins.
#[must_use]
pub fn without_parameters(text: &str, parameters: &Parameters) -> String {
    let mut by_length: Vec<_> = parameters
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .collect();
    by_length.sort_by_key(|(name, value)| (std::cmp::Reverse(value.len()), name.as_str()));
    let mut written = String::new();
    let mut rest = text;
    let mut start = 0;
    while start < rest.len() {
        let here = &rest[start..];
        let found = by_length
            .iter()
            .find(|(_, value)| here.starts_with(value.as_str()));
        match found {
            Some((name, value)) => {
                written.push_str(&literal(&rest[..start]));
                written.push_str(&format!("{{{name}}}"));
                rest = &here[value.len()..];
                start = 0;
            }
            None => start += here.chars().next().map_or(1, char::len_utf8),
        }
    }
    written.push_str(&literal(rest));
    written
}

/// Whether a name can stand between the braces of a text.
pub(super) fn is_parameter_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|octet| matches!(octet, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
}

/// Refuses parameters that are no single words: a value can't add arguments to a command line.
pub(super) fn check_parameters(parameters: &Parameters) -> Result<(), DocumentError> {
    check_count("parameters", parameters.len(), 64)?;
    for (name, value) in parameters {
        let one_word = (1..=MAX_PARAMETER_CHARACTERS).contains(&value.len())
            && value
                .bytes()
                .all(|octet| matches!(octet, b'!'..=b'~') && !b"\"'\\{}".contains(&octet));
        if !is_parameter_name(name) || !one_word {
            return Err(DocumentError::Inconsistent(format!(
                "the parameter `{}` has no name of small letters, digits, `-` and `_`, or its value is not one word of ASCII without quotes, `\\` and braces",
                quoted(name)
            )));
        }
    }
    Ok(())
}

impl ExpectedEvent {
    /// An event of this digest.
    #[must_use]
    pub fn digest(digest: EventDigest, what: &str) -> Self {
        Self::Digest {
            digest,
            what: (!what.is_empty()).then(|| what.to_owned()),
        }
    }

    /// Whether it names a parameter.
    #[must_use]
    pub fn has_parameters(&self) -> bool {
        match self {
            Self::Digest { .. } => false,
            Self::Text { text, .. } => pieces(text).is_ok_and(|pieces| {
                pieces
                    .iter()
                    .any(|piece| matches!(piece, Piece::Parameter(_)))
            }),
        }
    }

    /// The text that is hashed on a host with these parameters; `None` if only the digest is known.
    pub fn text_with(&self, parameters: &Parameters) -> Result<Option<String>, TemplateError> {
        let Self::Text { text, .. } = self else {
            return Ok(None);
        };
        let value = |name: &str| {
            let value = parameters.get(name);
            value.ok_or_else(|| TemplateError::NoValue(name.to_owned()))
        };
        let mut written = String::new();
        for piece in pieces(text)? {
            written.push_str(match piece {
                Piece::Literal(text) => text,
                Piece::Parameter(name) => value(name)?,
            });
        }
        Ok(Some(written))
    }

    /// The digest on a host with these parameters.
    pub fn digest_with(&self, parameters: &Parameters) -> Result<EventDigest, TemplateError> {
        match self {
            Self::Digest { digest, .. } => Ok(*digest),
            Self::Text { encoding, .. } => {
                let text = self.text_with(parameters)?.unwrap_or_default();
                Ok(EventDigest(sha256(&encoding.octets(&text))))
            }
        }
    }

    /// What it is, in a few words.
    #[must_use]
    pub fn what(&self) -> Option<&str> {
        match self {
            Self::Digest { what, .. } => what.as_deref(),
            Self::Text { text, .. } => Some(text),
        }
    }

    fn check(&self) -> Result<(), DocumentError> {
        match self {
            Self::Digest { what, .. } => what
                .as_deref()
                .map_or(Ok(()), |what| check_name("the description", what)),
            Self::Text { text, .. } if text.len() > MAX_TEXT_OCTETS => {
                Err(DocumentError::TooMany {
                    what: "octets in the text of an event",
                    limit: MAX_TEXT_OCTETS,
                })
            }
            Self::Text { text, .. } => pieces(text)
                .map(|_| ())
                .map_err(|error| DocumentError::Inconsistent(error.to_string())),
        }
    }
}

impl Alternative {
    /// What it measures in a slot.
    #[must_use]
    pub fn events_in(&self, slot: &str) -> &[ExpectedEvent] {
        let events = self.events.iter().find(|events| events.slot == slot);
        events.map_or(&[], |events| &events.events)
    }

    /// Whether an event of it names a parameter, so that it differs from host to host.
    #[must_use]
    pub fn has_parameters(&self) -> bool {
        let mut events = self.events.iter().flat_map(|events| &events.events);
        events.any(ExpectedEvent::has_parameters)
    }

    /// The same as a host claims it of its next boot.
    #[must_use]
    pub(super) fn staged_by(&self, host: &str, expires: Time) -> Self {
        Self {
            source: Source {
                kind: SourceKind::Host,
                of: host.to_owned(),
            },
            state: State::Staged { expires },
            ..self.clone()
        }
    }

    /// Whether it measures what another does.
    #[must_use]
    pub fn measures_as(&self, other: &Self) -> bool {
        let nothing = Parameters::new();
        let digests = |events: &[ExpectedEvent]| -> Vec<_> {
            let digest = |event: &ExpectedEvent| match event.digest_with(&nothing) {
                Ok(digest) => Ok(digest),
                Err(_) => Err(event.clone()),
            };
            events.iter().map(digest).collect()
        };
        let mut slots = self.events.iter().chain(&other.events);
        slots.all(|events| {
            digests(self.events_in(&events.slot)) == digests(other.events_in(&events.slot))
        })
    }

    pub(super) fn check(&self) -> Result<(), DocumentError> {
        check_name("the alternative", &self.name)?;
        check_name("the source", &self.source.of)?;
        for (place, events) in self.events.iter().enumerate() {
            check_name("the slot", &events.slot)?;
            check_count(
                "events of an alternative in a slot",
                events.events.len(),
                MAX_EVENTS,
            )?;
            if self.events[..place]
                .iter()
                .any(|before| before.slot == events.slot)
            {
                return Err(DocumentError::Inconsistent(format!(
                    "the alternative `{}` has the slot `{}` twice",
                    self.name, events.slot
                )));
            }
            events.events.iter().try_for_each(ExpectedEvent::check)?;
        }
        Ok(())
    }
}

/// Refuses alternatives of which two have one name.
pub(super) fn check_alternatives(
    component: &str,
    alternatives: &[Alternative],
) -> Result<(), DocumentError> {
    check_count(
        "alternatives of a component",
        alternatives.len(),
        MAX_ALTERNATIVES,
    )?;
    alternatives.iter().try_for_each(Alternative::check)?;
    let mut names: Vec<_> = alternatives
        .iter()
        .map(|alternative| &alternative.name)
        .collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(DocumentError::Inconsistent(format!(
            "the component `{component}` has two alternatives `{}`",
            pair[0]
        ))),
        None => Ok(()),
    }
}
