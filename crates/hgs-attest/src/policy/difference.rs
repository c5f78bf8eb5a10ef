//! Where a boot differs from a baseline.

use std::fmt;

use hgs_crypto::hash::{Sha256, Sha256Digest};
use hgs_pki::Time;

use super::alternative::{Encoding, Parameters, without_parameters};
use super::baseline::ComponentKind;
use super::document::EventDigest;

/// Expected events that a difference names, at most.
pub const MAX_EXPECTED: usize = 8;

/// Expected events in a message, at most.
const TOLD: usize = 3;

/// One difference between a boot and a baseline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The baseline.
    pub baseline: String,
    /// The PCR.
    pub pcr: u8,
    /// The number in the log of the event that differs; `None` if events are missing, or the choices of several PCRs
    /// don't agree.
    pub event: Option<usize>,
    /// The component and the name of its slot, where one owns the place.
    pub slot: Option<SlotName>,
    /// What may stand there, at most [`MAX_EXPECTED`].
    pub expected: Vec<Expected>,
    /// How many more there are.
    pub expected_beside: usize,
    /// What was measured in that place.
    pub found: Vec<FoundEvent>,
    /// In which way it differs.
    pub cause: Cause,
}

/// A slot of a baseline.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SlotName {
    /// The component.
    pub component: String,
    /// The slot of the component.
    pub slot: String,
}

/// An event that would have been accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The digest.
    pub digest: EventDigest,
    /// What it is of, if that is known.
    pub what: Option<String>,
}

/// An event that was measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundEvent {
    /// Its number in the log.
    pub number: usize,
    /// Its digest.
    pub digest: EventDigest,
    /// The text that the digest is taken over, if it is one that is known.
    pub text: Option<(String, Encoding)>,
    /// What the log says that it is; nothing is decided by it.
    pub what: Option<String>,
    /// Whether user space measured it and nothing says what it was made from: then it can be the host's own only.
    pub unexplained: bool,
}

/// In which way a boot differs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// What was measured is no alternative of the component.
    NotApproved,
    /// What was measured was approved, and withdrawn since.
    Retired {
        /// The alternative.
        alternative: String,
    },
    /// What was measured was staged, and expired before a host booted it.
    Expired {
        /// The alternative.
        alternative: String,
        /// Since when.
        at: Time,
    },
    /// No component owns what was measured.
    NotOwned {
        /// The slot before which it stands; `None` at the end of the PCR.
        before: Option<SlotName>,
    },
    /// Nothing was measured where something has to be.
    Missing,
    /// No value of the PCR was proved.
    NotProved,
    /// The parts of a component are of different alternatives.
    NoAgreement {
        /// For each slot that was looked at, its PCR and alternatives that it may be of, at most three.
        choices: Vec<(u8, String, Vec<String>)>,
    },
    /// A separator tells of an error.
    ErrorSeparator,
    /// More events than a slot takes.
    TooMany,
    /// The alternatives name a parameter that the host has no value for.
    NoParameter {
        /// The parameter.
        parameter: String,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PCR {}", self.pcr)?;
        if let Some(event) = self.event {
            write!(formatter, ", event {event}")?;
        }
        if let Some(slot) = &self.slot {
            write!(formatter, ", {slot}")?;
        }
        let first = self
            .found
            .iter()
            .find(|found| Some(found.number) == self.event);
        let found = first.map(FoundEvent::to_string).unwrap_or_default();
        match &self.cause {
            Cause::NotApproved if self.expected.is_empty() => write!(
                formatter,
                ": found {found}, and nothing is approved for this host"
            )?,
            Cause::NotApproved => write!(formatter, ": found {found}, which is not approved")?,
            Cause::Retired { alternative } => {
                write!(formatter, ": found {found}; `{alternative}` was retired")?;
            }
            Cause::Expired { alternative, at } => write!(
                formatter,
                ": `{alternative}` was staged until {at} and expired before a host booted it"
            )?,
            Cause::NotOwned {
                before: Some(before),
            } => write!(
                formatter,
                ": found {found}, which no component owns, before {before}"
            )?,
            Cause::NotOwned { before: None } => {
                write!(formatter, ": found {found}, which no component owns")?;
            }
            Cause::Missing => write!(formatter, ": nothing was measured")?,
            Cause::NotProved => write!(formatter, ": no value of it was proved")?,
            Cause::NoAgreement { choices } => {
                write!(formatter, ": the parts are of different alternatives")?;
                for (pcr, slot, alternatives) in choices {
                    write!(
                        formatter,
                        "; PCR {pcr} ({slot}): {}",
                        alternatives.join(" or ")
                    )?;
                }
            }
            Cause::ErrorSeparator => {
                write!(formatter, ": found the separator of a boot that failed")?;
            }
            Cause::TooMany => write!(formatter, ": more events than are accepted in this place")?,
            Cause::NoParameter { parameter } => write!(
                formatter,
                ": the host has no value for the parameter `{parameter}`"
            )?,
        }
        for (place, expected) in self.expected.iter().take(TOLD).enumerate() {
            let before = if place == 0 { "; expected " } else { " or " };
            write!(formatter, "{before}{expected}")?;
        }
        match self.expected_beside + self.expected.len().saturating_sub(TOLD) {
            0 => Ok(()),
            beside => write!(formatter, " or one of {beside} others"),
        }
    }
}

impl fmt::Display for SlotName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({})", self.component, self.slot)
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_event(formatter, &self.digest, self.what.as_deref())
    }
}

impl fmt::Display for FoundEvent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.text.as_ref().map(|(text, _)| text.as_str());
        write_event(formatter, &self.digest, text.or(self.what.as_deref()))
    }
}

/// Texts are of the host, so they are escaped and cut short.
fn write_event(
    formatter: &mut fmt::Formatter<'_>,
    digest: &EventDigest,
    what: Option<&str>,
) -> fmt::Result {
    match what {
        Some(what) => {
            let what: String = what
                .chars()
                .take(120)
                .flat_map(char::escape_debug)
                .collect();
            write!(formatter, "{digest} ({what})")
        }
        None => write!(formatter, "{digest}"),
    }
}

/// What refusals for the same reason have in common: which places differ, and what was found there. What is the host's own
/// is left away: of a component of the host the digests, of texts the values of parameters.
pub(super) fn group_key(
    differences: &[Difference],
    parameters: &Parameters,
    kind_of: impl Fn(&str) -> Option<ComponentKind>,
) -> Sha256Digest {
    let mut parts: Vec<Vec<u8>> = differences
        .iter()
        .map(|difference| {
            let mut octets = vec![difference.pcr];
            let mut put = |part: &[u8]| {
                octets.extend((part.len() as u64).to_be_bytes());
                octets.extend(part);
            };
            put(difference.baseline.as_bytes());
            let slot = difference.slot.as_ref();
            put(slot.map_or(b"", |slot| slot.component.as_bytes()));
            put(slot.map_or(b"", |slot| slot.slot.as_bytes()));
            let (cause, detail): (&[u8], String) = match &difference.cause {
                Cause::NotApproved => (b"not-approved", String::new()),
                Cause::Retired { alternative } => (b"retired", alternative.clone()),
                Cause::Expired { alternative, .. } => (b"expired", alternative.clone()),
                Cause::NotOwned { before } => (
                    b"not-owned",
                    before.as_ref().map(SlotName::to_string).unwrap_or_default(),
                ),
                Cause::Missing => (b"missing", String::new()),
                Cause::NotProved => (b"not-proved", String::new()),
                Cause::NoAgreement { choices } => (b"no-agreement", format!("{choices:?}")),
                Cause::ErrorSeparator => (b"error-separator", String::new()),
                Cause::TooMany => (b"too-many", String::new()),
                Cause::NoParameter { parameter } => (b"no-parameter", parameter.clone()),
            };
            put(cause);
            put(detail.as_bytes());
            let of_host =
                slot.and_then(|slot| kind_of(&slot.component)) == Some(ComponentKind::Host);
            if !of_host {
                for found in &difference.found {
                    match &found.text {
                        Some((text, _)) => put(without_parameters(text, parameters).as_bytes()),
                        None => put(&found.digest.0),
                    }
                }
            }
            octets
        })
        .collect();
    parts.sort_unstable();
    parts.dedup();
    let mut hash = Sha256::new();
    hash.update(b"OpenHGS group of refusals 1");
    for part in parts {
        hash.update(&(part.len() as u64).to_be_bytes());
        hash.update(&part);
    }
    hash.finish()
}
