//! Reading both forms of a log.

use super::{Bank, DeclaredAlgorithm, Entry, EventLog, EventType, Form, PCR_COUNT};
use crate::little_endian::Reader;

const SPECIFICATION_03: &[u8] = b"Spec ID Event03\0";
const STARTUP_LOCALITY: &[u8] = b"StartupLocality\0";

/// No digest that a TPM makes is longer than that of SHA-512.
const LONGEST_DIGEST: u16 = 64;

/// The budget for one log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Octets of the whole log.
    pub octets: usize,
    /// Events, with the header.
    pub events: usize,
    /// Digest algorithms, and so digests of one event.
    pub digests: usize,
    /// Octets of the data of one event.
    pub event_octets: usize,
}

impl Limits {
    /// Several times what the largest servers send.
    pub const LOG: Self = Self {
        octets: 1024 * 1024,
        events: 8192,
        digests: 8,
        event_octets: 256 * 1024,
    };
}

/// Why octets are not a log. The sender is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventLogError {
    /// There is nothing.
    #[error("the event log is empty")]
    Empty,
    /// Over [`Limits::octets`].
    #[error("the event log has {found} octets, more than {limit}")]
    TooLarge {
        /// How many it has.
        found: usize,
        /// How many it may have.
        limit: usize,
    },
    /// Over [`Limits::events`].
    #[error("the event log has more than {limit} events")]
    TooManyEvents {
        /// How many it may have.
        limit: usize,
    },
    /// Over [`Limits::digests`].
    #[error("event {event}: {found} digests, more than {limit}")]
    TooManyDigests {
        /// The number of the event; the header is 0.
        event: usize,
        /// How many it has, or how many algorithms the header declares.
        found: u32,
        /// How many it may have.
        limit: usize,
    },
    /// Over [`Limits::event_octets`].
    #[error("event {event}: {found} octets of data, more than {limit}")]
    EventTooLarge {
        /// The number of the event.
        event: usize,
        /// How many octets it says that it has.
        found: u32,
        /// How many it may have.
        limit: usize,
    },
    /// The log ends within an event.
    #[error("event {event}: the event log ends at octet {position}, within the event's {what}")]
    Truncated {
        /// The number of the event.
        event: usize,
        /// Where reading stopped.
        position: usize,
        /// What was read.
        what: &'static str,
    },
    /// The data of the header are cut short, or don't agree with each other.
    #[error("the header `Spec ID Event03` is malformed: {what}")]
    Header {
        /// What is wrong.
        what: &'static str,
    },
    /// The header declares a size that digests of this algorithm don't have.
    #[error("the header declares {found} octets for digests of algorithm {identifier:#06x}")]
    DigestSize {
        /// The `TPM_ALG_ID`.
        identifier: u16,
        /// The declared size.
        found: u16,
    },
    /// The header declares an algorithm twice.
    #[error("the header declares algorithm {identifier:#06x} twice")]
    DoubledAlgorithm {
        /// The `TPM_ALG_ID`.
        identifier: u16,
    },
    /// A digest of an algorithm that the header does not declare: its size is unknown.
    #[error(
        "event {event}: a digest of algorithm {identifier:#06x}, which the header does not declare"
    )]
    UndeclaredAlgorithm {
        /// The number of the event.
        event: usize,
        /// The `TPM_ALG_ID`.
        identifier: u16,
    },
    /// Two digests of the same algorithm.
    #[error("event {event}: two digests of algorithm {identifier:#06x}")]
    DoubledDigest {
        /// The number of the event.
        event: usize,
        /// The `TPM_ALG_ID`.
        identifier: u16,
    },
    /// A measured event names a PCR that does not exist.
    #[error("event {event}: there is no PCR {pcr}")]
    NoSuchPcr {
        /// The number of the event.
        event: usize,
        /// The PCR it names.
        pcr: u32,
    },
    /// The locality of `TPM2_Startup` is none of 0, 3 and 4, comes a second time, or too late.
    #[error("event {event}: StartupLocality {what}")]
    StartupLocality {
        /// The number of the event.
        event: usize,
        /// What is wrong.
        what: &'static str,
    },
}

impl EventLogError {
    /// Whether the log went over a limit, rather than being no log at all.
    #[must_use]
    pub fn is_over_limit(&self) -> bool {
        matches!(
            self,
            Self::TooLarge { .. }
                | Self::TooManyEvents { .. }
                | Self::TooManyDigests { .. }
                | Self::EventTooLarge { .. }
        )
    }
}

pub(super) fn read(octets: Vec<u8>, limits: &Limits) -> Result<EventLog, EventLogError> {
    let (found, limit) = (octets.len(), limits.octets);
    if found > limit {
        return Err(EventLogError::TooLarge { found, limit });
    }
    let last = octets.iter().rposition(|octet| *octet != 0);
    let mut events = Events {
        end: last.map_or(0, |last| last + 1),
        reader: Reader::new(&octets),
        limits,
        entries: Vec::new(),
    };
    if events.only_padding_is_left() {
        return Err(EventLogError::Empty);
    }
    let first = events.sha1_event()?;
    let header = &octets[first.data.clone()];
    let is_header =
        first.event_type == EventType::NO_ACTION && header.starts_with(SPECIFICATION_03);
    events.entries.push(first);
    let (form, algorithms) = if is_header {
        (Form::CryptoAgile, declared_algorithms(header, limits)?)
    } else {
        let sha1 = DeclaredAlgorithm {
            identifier: Bank::Sha1.algorithm(),
            digest_size: 20,
        };
        (Form::Sha1, vec![sha1])
    };
    while !events.only_padding_is_left() {
        if events.entries.len() == limits.events {
            let limit = limits.events;
            return Err(EventLogError::TooManyEvents { limit });
        }
        let entry = match form {
            Form::Sha1 => events.sha1_event()?,
            Form::CryptoAgile => events.crypto_agile_event(&algorithms)?,
        };
        events.entries.push(entry);
    }
    let padding = events.reader.rest().len();
    let entries = events.entries;
    Ok(EventLog {
        startup_locality: startup_locality(&octets, &entries)?,
        octets,
        form,
        algorithms,
        entries,
        padding,
    })
}

struct Events<'o> {
    reader: Reader<'o>,
    /// Where nothing but zero octets follow.
    end: usize,
    limits: &'o Limits,
    entries: Vec<Entry>,
}

impl Events<'_> {
    /// Firmware hands over a whole buffer; what it did not use is zero.
    fn only_padding_is_left(&self) -> bool {
        self.reader.position() >= self.end
    }

    fn truncated(&self, what: &'static str) -> EventLogError {
        EventLogError::Truncated {
            event: self.entries.len(),
            position: self.reader.position(),
            what,
        }
    }

    fn sha1_event(&mut self) -> Result<Entry, EventLogError> {
        let (pcr, event_type) = self.pcr_and_type()?;
        let digest = self.reader.position();
        let taken = self.reader.take(Bank::Sha1.digest_size());
        taken.ok_or_else(|| self.truncated("digest"))?;
        let data = self.data()?;
        Ok(Entry {
            pcr,
            event_type,
            digests: [Some(digest), None, None],
            data,
        })
    }

    fn crypto_agile_event(
        &mut self,
        algorithms: &[DeclaredAlgorithm],
    ) -> Result<Entry, EventLogError> {
        let (pcr, event_type) = self.pcr_and_type()?;
        let digests = self.digests(algorithms)?;
        let data = self.data()?;
        Ok(Entry {
            pcr,
            event_type,
            digests,
            data,
        })
    }

    fn pcr_and_type(&mut self) -> Result<(u32, EventType), EventLogError> {
        let pcr = self.reader.u32().ok_or_else(|| self.truncated("PCR"))?;
        let event_type = self.reader.u32().ok_or_else(|| self.truncated("type"))?;
        let event_type = EventType(event_type);
        // What extends nothing may name no PCR: Windows writes 0xFFFFFFFF there.
        if event_type != EventType::NO_ACTION && pcr >= PCR_COUNT as u32 {
            let event = self.entries.len();
            return Err(EventLogError::NoSuchPcr { event, pcr });
        }
        Ok((pcr, event_type))
    }

    fn digests(
        &mut self,
        algorithms: &[DeclaredAlgorithm],
    ) -> Result<[Option<usize>; Bank::ALL.len()], EventLogError> {
        let event = self.entries.len();
        let count = self.reader.u32();
        let found = count.ok_or_else(|| self.truncated("number of digests"))?;
        let limit = self.limits.digests;
        if found as usize > limit {
            return Err(EventLogError::TooManyDigests {
                event,
                found,
                limit,
            });
        }
        let mut seen = Vec::with_capacity(found as usize);
        let mut digests = [None; Bank::ALL.len()];
        for _ in 0..found {
            let identifier = self.reader.u16();
            let identifier = identifier.ok_or_else(|| self.truncated("digest"))?;
            if seen.contains(&identifier) {
                return Err(EventLogError::DoubledDigest { event, identifier });
            }
            seen.push(identifier);
            let declared = algorithms
                .iter()
                .find(|declared| declared.identifier == identifier)
                .ok_or(EventLogError::UndeclaredAlgorithm { event, identifier })?;
            let start = self.reader.position();
            let taken = self.reader.take(usize::from(declared.digest_size));
            taken.ok_or_else(|| self.truncated("digest"))?;
            if let Some(bank) = Bank::of_algorithm(identifier) {
                digests[bank as usize] = Some(start);
            }
        }
        Ok(digests)
    }

    fn data(&mut self) -> Result<std::ops::Range<usize>, EventLogError> {
        let size = self.reader.u32();
        let found = size.ok_or_else(|| self.truncated("size"))?;
        let limit = self.limits.event_octets;
        if found as usize > limit {
            let event = self.entries.len();
            return Err(EventLogError::EventTooLarge {
                event,
                found,
                limit,
            });
        }
        let start = self.reader.position();
        let taken = self.reader.take(found as usize);
        taken.ok_or_else(|| self.truncated("data"))?;
        Ok(start..self.reader.position())
    }
}

/// `TCG_EfiSpecIDEvent`. What follows the vendor's information is not looked at: it is not measured.
fn declared_algorithms(
    header: &[u8],
    limits: &Limits,
) -> Result<Vec<DeclaredAlgorithm>, EventLogError> {
    let cut_short = || EventLogError::Header {
        what: "it is cut short",
    };
    let mut reader = Reader::new(header);
    // The signature, the platform class, the version, and the size of UINTN.
    let skipped = reader.take(SPECIFICATION_03.len() + 4 + 4);
    let count = skipped.and_then(|_| reader.u32());
    let found = count.ok_or_else(cut_short)?;
    if found == 0 {
        return Err(EventLogError::Header {
            what: "it declares no digest algorithm",
        });
    }
    let limit = limits.digests;
    if found as usize > limit {
        return Err(EventLogError::TooManyDigests {
            event: 0,
            found,
            limit,
        });
    }
    let mut algorithms: Vec<DeclaredAlgorithm> = Vec::with_capacity(found as usize);
    for _ in 0..found {
        let pair = reader.u16().zip(reader.u16());
        let (identifier, digest_size) = pair.ok_or_else(cut_short)?;
        let right = match Bank::of_algorithm(identifier) {
            Some(bank) => usize::from(digest_size) == bank.digest_size(),
            None => (1..=LONGEST_DIGEST).contains(&digest_size),
        };
        if !right {
            let found = digest_size;
            return Err(EventLogError::DigestSize { identifier, found });
        }
        if algorithms
            .iter()
            .any(|known| known.identifier == identifier)
        {
            return Err(EventLogError::DoubledAlgorithm { identifier });
        }
        algorithms.push(DeclaredAlgorithm {
            identifier,
            digest_size,
        });
    }
    let vendor_octets = reader.u8().ok_or_else(cut_short)?;
    let vendor = reader.take(usize::from(vendor_octets));
    vendor.ok_or_else(cut_short)?;
    Ok(algorithms)
}

fn startup_locality(octets: &[u8], entries: &[Entry]) -> Result<Option<u8>, EventLogError> {
    let mut found = None;
    let mut pcr_0_is_extended = false;
    for (event, entry) in entries.iter().enumerate() {
        let refusal = |what| Err(EventLogError::StartupLocality { event, what });
        if entry.event_type != EventType::NO_ACTION {
            pcr_0_is_extended |= entry.pcr == 0;
            continue;
        }
        let data = &octets[entry.data.clone()];
        let Some(value) = data.strip_prefix(STARTUP_LOCALITY) else {
            continue;
        };
        let &[locality @ (0 | 3 | 4)] = value else {
            return refusal("is none of 0, 3 and 4");
        };
        if found.replace(locality).is_some() {
            return refusal("comes a second time");
        }
        if pcr_0_is_extended {
            return refusal("comes after PCR 0 was extended");
        }
    }
    Ok(found)
}
