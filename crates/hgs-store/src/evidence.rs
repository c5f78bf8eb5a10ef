//! The last evidence of each host: what it sent about its boot, with the PCR values that its TPM proved.
//!
//! It stands in a table of its own and not in the [`State`](crate::State), because logs are large. The record of a host's attestations
//! holds its SHA-256, so that a change of it is found when it is read. Newer evidence takes the place of older, so
//! what one host can make the database grow by has a bound.
//!
//! ```text
//!  octets   what, numbers little-endian
//!  4        a bit for each PCR of which there is a value
//!  32 each  the values, of the SHA-256 bank
//!  4, ...   length of the event log, and the log
//!  4, ...   length of the IMA log, and the log; 0xffffffff, then four octets with the length of a log that was left out
//!  4        how many preimages follow, each: PCR (1), number of the event (4), length (4), octets
//!  4        how many unexplained events follow, each: PCR (1), number of the event (4), digest (32); absent if there are none
//! ```
//!
//! What is kept is this, compressed (RFC 1950).

use hgs_attest::policy::{EventDigest, Preimage, RecordedEvidence, UnexplainedEvent};
use hgs_crypto::hash::sha256;
use hgs_pki::health::HostId;
use hgs_pki::{Seconds, Time};
use hgs_tcg::event_log::{Bank, PCR_COUNT, PcrValues};
use miniz_oxide::deflate::compress_to_vec_zlib;
use miniz_oxide::inflate::decompress_to_vec_zlib_with_limit;
use serde::{Deserialize, Serialize};

use crate::audit::Outcome;
use crate::model::{Digest, text};

/// Octets of the longest IMA log that is kept.
pub const MAX_KEPT_IMA_OCTETS: usize = 1024 * 1024;
/// Octets of the largest evidence before it is compressed: both logs, and as much again for preimages.
const MAX_OCTETS: usize = 4 * 1024 * 1024;
/// How long an attempt stands for those that follow and go as it did.
const ATTEMPT_PERIOD: Seconds = Seconds::from_minutes(1);
/// In the place of the length of an IMA log that was left out.
const LEFT_OUT: u32 = u32::MAX;
/// The fastest level: logs are compressed while hosts wait.
const LEVEL: u8 = 1;

/// Evidence that is to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvidenceToKeep {
    octets: Vec<u8>,
    digest: Digest,
}

/// Evidence that was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptEvidence {
    /// What the host sent, and what its TPM proved.
    pub evidence: RecordedEvidence,
    /// The octets of its IMA log, if that was too long to be kept.
    pub ima_left_out: Option<u32>,
}

/// How the last attempt of a host to attest went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LastAttempt {
    /// When.
    #[serde(with = "text::display")]
    pub time: Time,
    /// Whether it got a health certificate.
    pub outcome: Outcome,
    /// Why not: the code of the refusal, and its reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The policies that failed, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<String>,
    /// SHA-256 of what its measurements were judged by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policies: Option<Digest>,
    /// What hosts share whose measurements differ from what is approved in the same way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub difference: Option<Digest>,
    /// SHA-256 of its evidence, before that is compressed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Digest>,
}

/// What is kept of a host's attempt to attest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempted {
    /// Which host.
    pub host: HostId,
    /// How it went. Which evidence belongs to it follows from that.
    pub attempt: LastAttempt,
    /// The evidence, if it sent any.
    pub evidence: Option<EvidenceToKeep>,
}

impl LastAttempt {
    /// One that went well, of a host that sends no evidence.
    pub(crate) fn healthy(time: Time) -> Self {
        Self {
            time,
            outcome: Outcome::Done,
            reason: None,
            failed: Vec::new(),
            policies: None,
            difference: None,
            evidence: None,
        }
    }

    /// Whether `next` says nothing that this one does not, and comes soon after it.
    pub(crate) fn stands_for(&self, next: &Self) -> bool {
        let is_alike = self.outcome == next.outcome
            && self.reason == next.reason
            && self.difference == next.difference
            && self.policies == next.policies
            && self.evidence.is_some() == next.evidence.is_some();
        let age = next.time.since(self.time);
        is_alike && age.is_some_and(|age| age < ATTEMPT_PERIOD)
    }
}

impl EvidenceToKeep {
    /// Nothing is kept of evidence that is larger than any that could be accepted.
    #[must_use]
    pub fn of(evidence: &RecordedEvidence) -> Option<Self> {
        let octets = encode(evidence)?;
        Some(Self {
            digest: Digest::from_bytes(sha256(&octets)),
            octets,
        })
    }

    /// Its SHA-256.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    pub(crate) fn compressed(&self) -> Vec<u8> {
        compress_to_vec_zlib(&self.octets, LEVEL)
    }
}

impl KeptEvidence {
    /// Reads what was kept, if it has this digest.
    pub(crate) fn read(compressed: &[u8], digest: &Digest) -> Option<Self> {
        let octets = decompress_to_vec_zlib_with_limit(compressed, MAX_OCTETS).ok()?;
        let is_the_one = sha256(&octets) == *digest.as_bytes();
        is_the_one.then(|| decode(&octets)).flatten()
    }
}

fn encode(evidence: &RecordedEvidence) -> Option<Vec<u8>> {
    if evidence.values.bank() != Bank::Sha256 {
        return None;
    }
    let mut octets = Vec::with_capacity(evidence.log.len() + 2048);
    let values = evidence.values.iter();
    let present = values.fold(0u32, |bits, (pcr, _)| bits | 1 << pcr);
    octets.extend(present.to_le_bytes());
    for (_, value) in evidence.values.iter() {
        octets.extend(value.as_bytes());
    }
    put(&mut octets, &evidence.log)?;
    match evidence.ima.len() > MAX_KEPT_IMA_OCTETS {
        true => {
            octets.extend(LEFT_OUT.to_le_bytes());
            octets.extend(u32::try_from(evidence.ima.len()).ok()?.to_le_bytes());
        }
        false => put(&mut octets, &evidence.ima)?,
    }
    octets.extend(u32::try_from(evidence.preimages.len()).ok()?.to_le_bytes());
    for preimage in &evidence.preimages {
        octets.push(preimage.pcr);
        octets.extend(preimage.event.to_le_bytes());
        put(&mut octets, &preimage.octets)?;
    }
    if !evidence.unexplained.is_empty() {
        octets.extend(
            u32::try_from(evidence.unexplained.len())
                .ok()?
                .to_le_bytes(),
        );
    }
    for event in &evidence.unexplained {
        octets.push(event.pcr);
        octets.extend(event.event.to_le_bytes());
        octets.extend(event.digest.0);
    }
    (octets.len() <= MAX_OCTETS).then_some(octets)
}

fn put(octets: &mut Vec<u8>, part: &[u8]) -> Option<()> {
    octets.extend(u32::try_from(part.len()).ok()?.to_le_bytes());
    octets.extend_from_slice(part);
    Some(())
}

fn decode(octets: &[u8]) -> Option<KeptEvidence> {
    let mut rest = octets;
    let present = number(&mut rest)?;
    let mut values = PcrValues::new(Bank::Sha256);
    for pcr in (0..PCR_COUNT).filter(|pcr| present & (1 << pcr) != 0) {
        let (value, after) = rest.split_at_checked(32)?;
        values.insert(pcr, value).ok()?;
        rest = after;
    }
    let log = part(&mut rest)?;
    let ima_length = number(&mut rest)?;
    let (ima, ima_left_out) = match ima_length {
        LEFT_OUT => (Vec::new(), Some(number(&mut rest)?)),
        length => (take(&mut rest, length)?, None),
    };
    let count = number(&mut rest)?;
    let mut preimages = Vec::new();
    for _ in 0..count {
        let (pcr, after) = rest.split_first()?;
        rest = after;
        preimages.push(Preimage {
            pcr: *pcr,
            event: number(&mut rest)?,
            octets: part(&mut rest)?,
        });
    }
    let count = match rest {
        [] => 0,
        _ => number(&mut rest)?,
    };
    let mut unexplained = Vec::new();
    for _ in 0..count {
        let (pcr, after) = rest.split_first()?;
        rest = after;
        let event = number(&mut rest)?;
        let (digest, after) = rest.split_first_chunk()?;
        rest = after;
        unexplained.push(UnexplainedEvent {
            pcr: *pcr,
            event,
            digest: EventDigest(*digest),
        });
    }
    let evidence = RecordedEvidence {
        values,
        log,
        ima,
        preimages,
        unexplained,
    };
    rest.is_empty().then_some(KeptEvidence {
        evidence,
        ima_left_out,
    })
}

fn number(rest: &mut &[u8]) -> Option<u32> {
    let (number, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(u32::from_le_bytes(*number))
}

fn take(rest: &mut &[u8], length: u32) -> Option<Vec<u8>> {
    let (part, after) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    *rest = after;
    Some(part.to_vec())
}

fn part(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let length = number(rest)?;
    take(rest, length)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn evidence()(
            values in prop::collection::btree_map(0..PCR_COUNT, any::<[u8; 32]>(), 0..PCR_COUNT),
            (log, ima) in any::<(Vec<u8>, Vec<u8>)>(),
            preimages: Vec<(u8, u32, Vec<u8>)>,
            unexplained: Vec<(u8, u32, [u8; 32])>,
        ) -> RecordedEvidence {
            let mut proved = PcrValues::new(Bank::Sha256);
            for (pcr, value) in values {
                proved.insert(pcr, &value).unwrap();
            }
            let preimages = preimages.into_iter();
            let preimages = preimages.map(|(pcr, event, octets)| Preimage { pcr, event, octets });
            let unexplained = unexplained.into_iter();
            let unexplained = unexplained.map(|(pcr, event, digest)| UnexplainedEvent {
                pcr,
                event,
                digest: EventDigest(digest),
            });
            RecordedEvidence {
                values: proved,
                log,
                ima,
                preimages: preimages.collect(),
                unexplained: unexplained.collect(),
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_kept_is_read(evidence in evidence()) {
            let kept = EvidenceToKeep::of(&evidence).unwrap();
            let read = KeptEvidence::read(&kept.compressed(), &kept.digest()).unwrap();
            prop_assert_eq!(read.evidence, evidence);
            prop_assert_eq!(read.ima_left_out, None);
        }

        #[test]
        fn other_octets_are_refused(evidence in evidence(), place: prop::sample::Index, octet in 1u8..) {
            let kept = EvidenceToKeep::of(&evidence).unwrap();
            let mut spoilt = kept.octets.clone();
            let place = place.index(spoilt.len());
            spoilt[place] ^= octet;
            let _ = decode(&spoilt);
            let spoilt = compress_to_vec_zlib(&spoilt, LEVEL);
            prop_assert_eq!(KeptEvidence::read(&spoilt, &kept.digest()), None);
        }
    }

    #[test]
    fn a_long_ima_log_is_left_out_and_said_to_be() {
        let mut evidence = RecordedEvidence {
            values: PcrValues::new(Bank::Sha256),
            log: vec![1; 100],
            ima: vec![2; MAX_KEPT_IMA_OCTETS],
            preimages: Vec::new(),
            unexplained: Vec::new(),
        };
        let kept = EvidenceToKeep::of(&evidence).unwrap();
        let read = KeptEvidence::read(&kept.compressed(), &kept.digest()).unwrap();
        assert_eq!(read.evidence, evidence);
        evidence.ima.push(2);
        let kept = EvidenceToKeep::of(&evidence).unwrap();
        let read = KeptEvidence::read(&kept.compressed(), &kept.digest()).unwrap();
        let left_out = u32::try_from(MAX_KEPT_IMA_OCTETS + 1).unwrap();
        assert_eq!(read.ima_left_out, Some(left_out));
        assert!(read.evidence.ima.is_empty());
        assert_eq!(read.evidence.log, evidence.log);
    }

    /// A bomb is not unpacked.
    #[test]
    fn what_unpacks_to_more_is_refused() {
        let octets = vec![0; MAX_OCTETS + 1];
        let digest = Digest::from_bytes(sha256(&octets));
        let bomb = compress_to_vec_zlib(&octets, 9);
        assert_eq!(KeptEvidence::read(&bomb, &digest), None);
        let evidence = RecordedEvidence {
            values: PcrValues::new(Bank::Sha256),
            log: octets,
            ima: Vec::new(),
            preimages: Vec::new(),
            unexplained: Vec::new(),
        };
        assert_eq!(EvidenceToKeep::of(&evidence), None);
    }
}
