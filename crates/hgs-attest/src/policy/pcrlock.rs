//! Component files of systemd-pcrlock (`*.pcrlock`): their digests are imported, its way of matching is not.
//!
//! pcrlock looks for each variant anywhere in a log and lets several components own one event, which makes a policy on a
//! host that is trusted. A verifier needs to know that nothing else was measured, so here the digests become an
//! alternative of one component, in its slots.

use serde::Deserialize;

use super::alternative::{Alternative, ExpectedEvent, SlotEvents};
use super::baseline::Baseline;
use super::compile::is_error_separator;
use super::document::EventDigest;
use super::predict::{Label, Prediction};
use crate::wire::quoted;

/// Octets of the longest file.
pub const MAX_PCRLOCK_OCTETS: usize = 1024 * 1024;
/// Records of one file, at most.
pub const MAX_PCRLOCK_RECORDS: usize = 4096;

/// Why a file can't be imported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PcrlockError {
    /// Over its budget.
    #[error("the pcrlock file has {found} octets, more than {MAX_PCRLOCK_OCTETS}")]
    TooLarge {
        /// How many it has.
        found: usize,
    },
    /// Too many records.
    #[error("the pcrlock file has more than {MAX_PCRLOCK_RECORDS} records")]
    TooManyRecords,
    /// Not the JSON of such a file.
    #[error("not a pcrlock file, which is an object with `records`: {0}")]
    Malformed(String),
    /// A record of an NV index, which newer versions of systemd have.
    #[error("record {record} is of an NV index, which is not supported")]
    NvIndex {
        /// Its place, from 0.
        record: usize,
    },
    /// A record without a PCR, or of one that does not exist.
    #[error("record {record} names no PCR from 0 to 23")]
    Pcr {
        /// Its place.
        record: usize,
    },
    /// A record without a digest of SHA-256, or with two.
    #[error("record {record} has not one digest of SHA-256; other banks are not accepted")]
    NoSha256 {
        /// Its place.
        record: usize,
    },
    /// The separator of a boot that failed.
    #[error("record {record} is the separator of a boot that failed, which is never approved")]
    ErrorSeparator {
        /// Its place.
        record: usize,
    },
    /// The baseline has no such component.
    #[error("the baseline has no component `{0}`")]
    NoComponent(String),
    /// The component has not one slot in a PCR that the file has records of.
    #[error(
        "the component `{component}` has {slots} slots in PCR {pcr}; to import records there it has to have one"
    )]
    Slots {
        /// The component.
        component: String,
        /// The PCR.
        pcr: u8,
        /// How many slots it has there.
        slots: usize,
    },
}

#[derive(Deserialize)]
struct File {
    records: Vec<Record>,
}

/// `recnum`, `content` and `content_type` are for people, and left out here.
#[derive(Deserialize)]
struct Record {
    pcr: Option<u64>,
    #[serde(alias = "nvIndex")]
    nv_index: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    digests: Vec<RecordDigest>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RecordDigest {
    hash_alg: String,
    digest: String,
}

/// The events of a file: PCRs and digests, in the order of the file.
pub fn read_pcrlock(octets: &[u8]) -> Result<Vec<(u8, EventDigest)>, PcrlockError> {
    let found = octets.len();
    if found > MAX_PCRLOCK_OCTETS {
        return Err(PcrlockError::TooLarge { found });
    }
    let file: File = serde_json::from_slice(octets)
        .map_err(|error| PcrlockError::Malformed(quoted(&error.to_string())))?;
    if file.records.len() > MAX_PCRLOCK_RECORDS {
        return Err(PcrlockError::TooManyRecords);
    }
    let records = file.records.iter().enumerate();
    records
        .map(|(record, contents)| event_of(record, contents))
        .collect()
}

fn event_of(record: usize, contents: &Record) -> Result<(u8, EventDigest), PcrlockError> {
    if contents.nv_index.is_some() {
        return Err(PcrlockError::NvIndex { record });
    }
    let pcr = contents
        .pcr
        .and_then(|pcr| u8::try_from(pcr).ok())
        .filter(|pcr| *pcr < 24);
    let pcr = pcr.ok_or(PcrlockError::Pcr { record })?;
    let digests = contents.digests.iter();
    let mut of_sha256 = digests.filter(|digest| digest.hash_alg == "sha256");
    let (Some(digest), None) = (of_sha256.next(), of_sha256.next()) else {
        return Err(PcrlockError::NoSha256 { record });
    };
    let octets = hgs_crypto::hex::decode(&digest.digest).and_then(|octets| octets.try_into().ok());
    let digest = octets
        .map(EventDigest)
        .ok_or(PcrlockError::NoSha256 { record })?;
    if is_error_separator(&digest) {
        return Err(PcrlockError::ErrorSeparator { record });
    }
    Ok((pcr, digest))
}

/// The component that files of well-known names are about, where it is one that a baseline made of a log has.
#[must_use]
pub fn component_of_pcrlock(file_name: &str) -> Option<&'static str> {
    let name = file_name.trim_start_matches(|digit: char| digit.is_ascii_digit());
    let name = name.trim_start_matches('-');
    let name = name.split('.').next().unwrap_or(name);
    Some(match name {
        "secureboot-policy" => super::SECURE_BOOT,
        "secureboot-authority" => "image-authority",
        "firmware-code-early" => "firmware",
        "gpt" => "partition-table",
        "kernel-cmdline" | "kernel" | "uki" => super::KERNEL,
        "kernel-initrd" => "initrd",
        "boot-loader" | "bootloader" => super::LOADER,
        "shim" => super::SHIM,
        "machine-id" | "file-system" | "root-file-system" => "system-identity",
        _ => return None,
    })
}

impl Baseline {
    /// The records of a file as an alternative of a component. A file without records says that the component may be absent.
    pub fn predict_pcrlock(
        &self,
        label: &Label,
        component: &str,
        records: &[(u8, EventDigest)],
    ) -> Result<Prediction, PcrlockError> {
        if self.component(component).is_none() {
            return Err(PcrlockError::NoComponent(component.to_owned()));
        }
        let mut events: Vec<SlotEvents> = Vec::new();
        for (pcr, digest) in records {
            let slots = self
                .slots()
                .filter(|(of, slot)| of == pcr && slot.component == component);
            let slots: Vec<_> = slots.map(|(_, slot)| &slot.name).collect();
            let [slot] = slots[..] else {
                return Err(PcrlockError::Slots {
                    component: component.to_owned(),
                    pcr: *pcr,
                    slots: slots.len(),
                });
            };
            let place = events.iter().position(|of| of.slot == *slot);
            let place = place.unwrap_or_else(|| {
                events.push(SlotEvents {
                    slot: slot.clone(),
                    events: Vec::new(),
                });
                events.len() - 1
            });
            events[place]
                .events
                .push(ExpectedEvent::digest(*digest, ""));
        }
        let alternative = Alternative {
            name: label.name.clone(),
            source: label.source.clone(),
            state: label.state(),
            events,
        };
        Ok(Prediction {
            alternatives: vec![(component.to_owned(), alternative)],
        })
    }
}
