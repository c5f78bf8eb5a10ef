//! What a host sent about its boot, and what of it its TPM proves.

use std::collections::HashMap;
use std::sync::Arc;

use hgs_crypto::hash::sha256;
use hgs_tcg::event_log::{
    self, Bank, Digest, EventLog, EventLogError, Fact, Lane, Meaning, MeasuredEvent, PcrValues,
    ReplayError, ReplayedLog,
};
use hgs_tcg::ima::{self, IMA_PCR, ImaLog, ImaLogError, ImaReplayError, ReplayedImaLog};

use super::alternative::Encoding;
use super::difference::FoundEvent;
use super::document::EventDigest;
use super::walk::LaneEvents;

/// PCRs that no rule looks at: a debugger and an application may reset 16 and 23 at any time. PCR 10 has a log of its own.
pub(super) const IGNORED_PCRS: [usize; 3] = [IMA_PCR, 16, 23];
/// Those that every boot is judged by; a dynamic launch may use more.
pub(super) const JUDGED_PCRS: [u8; 15] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15];
/// What systemd extends PCR 11 with as the boot goes on (systemd-pcrphase.service). The replay knows these words.
const BOOT_PHASES: [&[u8]; 4] = [b"enter-initrd", b"leave-initrd", b"sysinit", b"ready"];
/// PCRs that systemd extends after the kernel has closed the log.
pub(crate) const PCRS_OF_USER_SPACE: std::ops::RangeInclusive<u8> = 11..=15;

/// What a host sent about its boot, with the PCR values that its TPM proved. It is what is kept of a host's last
/// attestation, and what a simulation reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedEvidence {
    /// The values, of the SHA-256 bank. In an attestation, its session proved them.
    pub values: PcrValues,
    /// The TCG event log; empty if the host has none.
    pub log: Vec<u8>,
    /// The IMA log in the binary form; empty if the host has none.
    pub ima: Vec<u8>,
    /// What events were made from that the log does not hold.
    pub preimages: Vec<Preimage>,
    /// What user space measured after the log was closed, where nothing says what it was made from.
    pub unexplained: Vec<UnexplainedEvent>,
}

/// The octets that an event is the digest of, as the host says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preimage {
    /// The PCR.
    pub pcr: u8,
    /// The number of the event in the log; from the number of the log's events on, an event that user space measured
    /// after the log was closed (PCRs 11 to 15), in the order of these numbers.
    pub event: u32,
    /// The octets.
    pub octets: Vec<u8>,
}

/// An event that user space measured after the log was closed, of which only the digest is known: one over a secret, such as the key of a
/// volume. It is matched as the host's own or not at all, and no fact follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnexplainedEvent {
    /// The PCR, one of those that user space extends.
    pub pcr: u8,
    /// Its number, counted as that of a [`Preimage`] is.
    pub event: u32,
    /// What the PCR was extended with.
    pub digest: EventDigest,
}

/// What was measured when a host booted: every part of it follows from PCR values.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// The values, also of PCRs that the log does not tell of.
    values: PcrValues,
    log: ReplayedLog,
    ima: Option<ReplayedImaLog>,
    preimages: Vec<Preimage>,
    /// The places of the preimages, by PCR and SHA-256.
    preimages_by_digest: HashMap<(u8, EventDigest), usize>,
    /// What user space measured after the log was closed.
    later: Vec<LaterEvent>,
}

#[derive(Debug, Clone)]
struct LaterEvent {
    pcr: u8,
    number: usize,
    digest: EventDigest,
    /// Whether the host said what it is the digest of.
    explained: bool,
}

/// Why what a host sent is no evidence. The host is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EvidenceError {
    /// The host has a TPM, and sent no log: its firmware or boot loader measured nothing that could be judged.
    #[error("the host has a TPM and sent no event log")]
    NoLog,
    /// The values are of another bank than SHA-256.
    #[error("the PCR values are of the {0} bank; only SHA-256 is judged")]
    Bank(Bank),
    /// The event log is none.
    #[error(transparent)]
    Log(#[from] EventLogError),
    /// The event log is not that of the PCR values.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// The IMA log is none.
    #[error(transparent)]
    Ima(#[from] ImaLogError),
    /// The IMA log is not that of PCR 10.
    #[error(transparent)]
    ImaReplay(#[from] ImaReplayError),
}

impl RecordedEvidence {
    /// Replays the logs against the PCR values. PCRs 16 and 23 are not looked at, and PCR 10 by the IMA log only.
    pub fn prove(&self) -> Result<Evidence, EvidenceError> {
        if self.values.bank() != Bank::Sha256 {
            return Err(EvidenceError::Bank(self.values.bank()));
        }
        if self.log.is_empty() {
            return Err(EvidenceError::NoLog);
        }
        let log = EventLog::read(self.log.clone(), &event_log::Limits::LOG)?;
        let ima = match self.values.value(IMA_PCR) {
            Some(value) if !self.ima.is_empty() => {
                Some(ImaLog::read(self.ima.clone(), &ima::Limits::LOG)?.replay(value)?)
            }
            _ => None,
        };
        let later = self.later_events(&log)?;
        // A replay more, for those hosts only that have measured something since.
        let before = match later.is_empty() {
            true => None,
            false => Some(log.unverified().replayed_values(Bank::Sha256)?),
        };
        let mut values = PcrValues::new(Bank::Sha256);
        for (pcr, value) in self
            .values
            .iter()
            .filter(|(pcr, _)| !IGNORED_PCRS.contains(pcr))
        {
            let value = match later.iter().any(|event| usize::from(event.pcr) == pcr) {
                true => before
                    .as_ref()
                    .and_then(|before| before.value(pcr))
                    .unwrap_or_else(|| Bank::Sha256.filled(0)),
                false => value,
            };
            let inserted = values.insert(pcr, value.as_bytes());
            inserted.expect("the value is one of this bank");
        }
        Ok(Evidence {
            log: log.replay(&values)?,
            values: self.values.clone(),
            ima,
            preimages: self.preimages.clone(),
            preimages_by_digest: {
                let preimages = self.preimages.iter().enumerate();
                let key = |one: &Preimage| (one.pcr, EventDigest(sha256(&one.octets)));
                preimages.map(|(place, one)| (key(one), place)).collect()
            },
            later,
        })
    }

    /// What user space measured after the log was closed, of those PCRs whose values it accounts for.
    fn later_events(&self, log: &EventLog) -> Result<Vec<LaterEvent>, EvidenceError> {
        let logged = log.unverified().events().len();
        let claimed = self.claimed_events();
        let claimed: Vec<_> = claimed
            .filter(|event| PCRS_OF_USER_SPACE.contains(&event.pcr) && event.number >= logged)
            .collect();
        if claimed.is_empty() {
            return Ok(Vec::new());
        }
        let is_phase = |event: &LaterEvent| {
            let mut phases = BOOT_PHASES.iter();
            event.explained && phases.any(|phase| event.digest.0 == sha256(phase))
        };
        let before = log.unverified().replayed_values(Bank::Sha256)?;
        let mut later = Vec::new();
        for pcr in PCRS_OF_USER_SPACE {
            let events = claimed.iter().filter(|event| event.pcr == pcr);
            let mut events: Vec<_> = events.cloned().collect();
            events.sort_by_key(|event| event.number);
            // A host that attests during its boot has fewer of these than later, so they are no events of a baseline.
            if pcr == 11 && events.iter().all(is_phase) {
                continue;
            }
            let start = before
                .value(usize::from(pcr))
                .unwrap_or_else(|| Bank::Sha256.filled(0));
            let end = events.iter().fold(start, |value, event| {
                let digest = Digest::new(Bank::Sha256, &event.digest.0);
                value.extended_with(&digest.expect("SHA-256 digests have 32 octets"))
            });
            if Some(end) == self.values.value(usize::from(pcr)) {
                later.extend(events);
            }
        }
        Ok(later)
    }

    /// What the host says that was measured after the log.
    fn claimed_events(&self) -> impl Iterator<Item = LaterEvent> {
        let explained = self.preimages.iter().map(|claim| LaterEvent {
            pcr: claim.pcr,
            number: claim.event as usize,
            digest: EventDigest(sha256(&claim.octets)),
            explained: true,
        });
        let unexplained = self.unexplained.iter().map(|claim| LaterEvent {
            pcr: claim.pcr,
            number: claim.event as usize,
            digest: claim.digest,
            explained: false,
        });
        explained.chain(unexplained)
    }
}

impl Evidence {
    /// The event log.
    #[must_use]
    pub fn log(&self) -> &ReplayedLog {
        &self.log
    }

    /// The PCR values that prove it all.
    #[must_use]
    pub fn values(&self) -> &PcrValues {
        &self.values
    }

    /// The IMA log, if the host has one.
    #[must_use]
    pub fn ima(&self) -> Option<&ReplayedImaLog> {
        self.ima.as_ref()
    }

    /// What events were made from, as the host says.
    #[must_use]
    pub fn preimages(&self) -> &[Preimage] {
        &self.preimages
    }

    /// What was measured into each PCR that rules look at.
    pub(super) fn lanes(&self) -> Vec<LaneEvents> {
        let judged = self
            .log
            .lanes()
            .filter(|lane| !IGNORED_PCRS.contains(&lane.pcr()));
        judged.map(|lane| self.lane_events(&lane)).collect()
    }

    fn lane_events(&self, lane: &Lane<'_>) -> LaneEvents {
        let pcr = u8::try_from(lane.pcr()).expect("there are 24 PCRs");
        let logged = lane.events().map(|event| {
            let digest = EventDigest::of(&event.digest()).expect(OF_SHA256);
            (digest, event.number())
        });
        let later: Vec<_> = self.later.iter().filter(|event| event.pcr == pcr).collect();
        let unexplained = later.iter().enumerate();
        let unexplained = unexplained.filter(|(_, event)| !event.explained);
        let unexplained = unexplained.map(|(place, _)| lane.events().len() + place);
        let unexplained = unexplained.collect();
        let later = later.iter().map(|event| (event.digest, event.number));
        let value = self.values.value(lane.pcr());
        let (digests, numbers) = logged.chain(later).unzip();
        LaneEvents {
            pcr,
            value: value.and_then(|value| EventDigest::of(&value)),
            digests,
            numbers,
            unexplained,
        }
    }

    /// What is known of each event of a PCR.
    pub(super) fn described(&self, pcr: u8) -> Arc<[FoundEvent]> {
        let Some(lane) = self.log.lane(usize::from(pcr)) else {
            return Arc::new([]);
        };
        let of_log = lane.facts().into_iter().zip(lane.events());
        let of_log = of_log.map(|(fact, event)| {
            let digest = EventDigest::of(&fact.digest()).expect(OF_SHA256);
            FoundEvent {
                number: fact.number(),
                digest,
                text: text_of(&fact).or_else(|| self.text_by_preimage(pcr, &digest)),
                what: label(&fact, &event),
                unexplained: false,
            }
        });
        let later = self.later.iter().filter(|event| event.pcr == pcr);
        let later = later.map(|event| FoundEvent {
            number: event.number,
            digest: event.digest,
            text: match event.explained {
                true => self.text_by_preimage(pcr, &event.digest),
                false => None,
            },
            what: (!event.explained).then(|| UNEXPLAINED.to_owned()),
            unexplained: !event.explained,
        });
        of_log.chain(later).collect()
    }

    /// The text that an event of a PCR is the digest of, if the host sent it.
    pub(super) fn text_by_preimage(
        &self,
        pcr: u8,
        digest: &EventDigest,
    ) -> Option<(String, Encoding)> {
        let place = self.preimages_by_digest.get(&(pcr, *digest))?;
        let preimage = &self.preimages[*place];
        [Encoding::Utf16Nul, Encoding::Utf8Nul, Encoding::Utf8]
            .into_iter()
            .find_map(|encoding| Some((encoding.text(&preimage.octets)?, encoding)))
            .filter(|(text, _)| is_line(text))
    }
}

/// What is said of an event of user space of which only the digest is known.
const UNEXPLAINED: &str = "measured by user space, unexplained";

/// What a text is that people can read, and that a document can hold.
fn is_line(text: &str) -> bool {
    text.len() <= super::MAX_TEXT_OCTETS && !text.contains('\0')
}

/// The text that an event is proved to be the digest of.
fn text_of(fact: &Fact<'_>) -> Option<(String, Encoding)> {
    let (octets, encoding) = match fact.meaning() {
        Meaning::LoaderText(text) => (text, Encoding::Utf8),
        Meaning::WideText(octets) => (octets, Encoding::Utf16Nul),
        _ => return None,
    };
    let text = encoding.text(octets).filter(|text| is_line(text))?;
    Some((text, encoding))
}

/// A few words for people. Where the digest does not prove them, they are what the log says.
fn label(fact: &Fact<'_>, event: &MeasuredEvent<'_>) -> Option<String> {
    let label = match fact.meaning() {
        Meaning::Separator => "separator".to_owned(),
        Meaning::ErrorSeparator => "separator of a boot that failed".to_owned(),
        Meaning::Action(action) => action.text().to_owned(),
        Meaning::SecureBootVariable(variable) => format!("variable {}", variable.name()),
        Meaning::Authority(variable) => format!("authority {}", variable.name()),
        Meaning::BootVariable(variable) => format!("boot variable {}", variable.name()),
        Meaning::PartitionTable(_) => "partition table".to_owned(),
        Meaning::SectionName(section) => format!("name of {}", section.name()),
        Meaning::SectionContents(section) => format!("section {}", section.name()),
        Meaning::MokListTrusted => "MokListTrusted".to_owned(),
        Meaning::Image => "image".to_owned(),
        Meaning::Firmware | Meaning::Configuration => return None,
        _ => {
            let text = std::str::from_utf8(event.unverified_data()).ok()?;
            text.trim_end_matches('\0').to_owned()
        }
    };
    super::document::check_name("", &label)
        .is_ok()
        .then_some(label)
}

const OF_SHA256: &str = "the log was replayed with the SHA-256 bank";
