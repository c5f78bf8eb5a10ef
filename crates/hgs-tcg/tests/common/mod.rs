//! A writer of event logs and IMA logs, and a reader of what `tpm2_eventlog` says.
#![allow(dead_code, reason = "each test uses a part")]

use hgs_tcg::event_log::{Bank, Digest, EventLog, EventType, Limits, PcrValues};

/// An event to write.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    pub(crate) pcr: u32,
    pub(crate) event_type: EventType,
    pub(crate) data: Vec<u8>,
    /// What is hashed, if it is not the data.
    pub(crate) preimage: Option<Vec<u8>>,
}

impl Written {
    pub(crate) fn new(pcr: u32, event_type: EventType, data: &[u8]) -> Self {
        Self {
            pcr,
            event_type,
            data: data.to_vec(),
            preimage: None,
        }
    }

    pub(crate) fn of(self, preimage: &[u8]) -> Self {
        Self {
            preimage: Some(preimage.to_vec()),
            ..self
        }
    }

    pub(crate) fn separator(pcr: u32) -> Self {
        Self::new(pcr, EventType::SEPARATOR, &[0; 4])
    }

    pub(crate) fn startup_locality(locality: u8) -> Self {
        let data = [b"StartupLocality\0".as_slice(), &[locality]].concat();
        Self::new(0, EventType::NO_ACTION, &data)
    }

    fn hashed(&self) -> &[u8] {
        self.preimage.as_ref().unwrap_or(&self.data)
    }
}

/// `Spec ID Event03` with these algorithms and sizes.
pub(crate) fn header(algorithms: &[(u16, u16)]) -> Vec<u8> {
    let mut data = b"Spec ID Event03\0\0\0\0\0\0\x02\0\x02".to_vec();
    data.extend((algorithms.len() as u32).to_le_bytes());
    for (identifier, size) in algorithms {
        data.extend(identifier.to_le_bytes());
        data.extend(size.to_le_bytes());
    }
    data.push(0);
    sha1_event(0, EventType::NO_ACTION, &[0; 20], &data)
}

fn sha1_event(pcr: u32, event_type: EventType, digest: &[u8], data: &[u8]) -> Vec<u8> {
    let mut octets = pcr.to_le_bytes().to_vec();
    octets.extend(event_type.0.to_le_bytes());
    octets.extend(digest);
    octets.extend((data.len() as u32).to_le_bytes());
    octets.extend(data);
    octets
}

/// A crypto-agile log with these banks.
pub(crate) fn crypto_agile(banks: &[Bank], events: &[Written]) -> Vec<u8> {
    let algorithms: Vec<_> = banks
        .iter()
        .map(|bank| (bank.algorithm(), bank.digest_size() as u16))
        .collect();
    let mut octets = header(&algorithms);
    events
        .iter()
        .for_each(|event| octets.extend(crypto_agile_event(banks, event)));
    octets
}

pub(crate) fn crypto_agile_event(banks: &[Bank], event: &Written) -> Vec<u8> {
    let mut octets = event.pcr.to_le_bytes().to_vec();
    octets.extend(event.event_type.0.to_le_bytes());
    octets.extend((banks.len() as u32).to_le_bytes());
    for bank in banks {
        octets.extend(bank.algorithm().to_le_bytes());
        octets.extend(bank.hash(&[event.hashed()]).as_bytes());
    }
    octets.extend((event.data.len() as u32).to_le_bytes());
    octets.extend(&event.data);
    octets
}

/// A log of the older form.
pub(crate) fn sha1_form(events: &[Written]) -> Vec<u8> {
    let write = |event: &Written| {
        let digest = Bank::Sha1.hash(&[event.hashed()]);
        sha1_event(event.pcr, event.event_type, digest.as_bytes(), &event.data)
    };
    events.iter().flat_map(write).collect()
}

/// The values that the events give, by the definition of TPM2_PCR_Extend; of all PCRs but those of a dynamic launch.
pub(crate) fn extended(bank: Bank, events: &[Written]) -> PcrValues {
    let mut values = vec![bank.filled(0).as_bytes().to_vec(); 24];
    for event in events {
        if let Some([locality]) = event.data.strip_prefix(b"StartupLocality\0") {
            *values[0].last_mut().unwrap() = *locality;
        }
        if event.event_type != EventType::NO_ACTION {
            let value = &mut values[event.pcr as usize];
            let digest = bank.hash(&[event.hashed()]);
            *value = bank.hash(&[value, digest.as_bytes()]).as_bytes().to_vec();
        }
    }
    let mut all = PcrValues::new(bank);
    for (pcr, value) in values.iter().enumerate() {
        if !(17..=22).contains(&pcr) {
            all.insert(pcr, value).unwrap();
        }
    }
    all
}

pub(crate) fn with_value(values: &PcrValues, pcr: usize, value: Digest) -> PcrValues {
    let mut changed = values.clone();
    changed.insert(pcr, value.as_bytes()).unwrap();
    changed
}

pub(crate) fn read(octets: &[u8]) -> EventLog {
    EventLog::read(octets.to_vec(), &Limits::LOG).unwrap()
}

/// `UEFI_VARIABLE_DATA`.
pub(crate) fn variable(vendor: [u8; 16], name: &str, data: &[u8]) -> Vec<u8> {
    let mut octets = vendor.to_vec();
    octets.extend((name.encode_utf16().count() as u64).to_le_bytes());
    octets.extend((data.len() as u64).to_le_bytes());
    octets.extend(name.encode_utf16().flat_map(u16::to_le_bytes));
    octets.extend(data);
    octets
}

/// What `tpm2_eventlog` says of an event.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Judged {
    pub(crate) pcr: String,
    pub(crate) event_type: String,
    /// Names of algorithms and digests in hexadecimal; none for the header.
    pub(crate) digests: Vec<(String, String)>,
    pub(crate) size: String,
}

/// What `tpm2_eventlog` says of a log: its events, and the values of each bank's PCRs.
pub(crate) fn judgement(yaml: &str) -> (Vec<Judged>, Vec<(String, usize, String)>) {
    let (events, pcrs) = yaml.split_once("\npcrs:").unwrap_or((yaml, ""));
    let mut judged: Vec<Judged> = Vec::new();
    let mut algorithm = String::new();
    for line in events.lines() {
        // Members of events have this indentation; members of their data a deeper one.
        let Some((member, value)) = line
            .strip_prefix("  ")
            .filter(|line| !line.starts_with(' '))
            .and_then(|line| line.strip_prefix("- ").or(Some(line)))
            .and_then(|line| line.split_once(": "))
            .or_else(|| line.strip_prefix("    ")?.split_once(": "))
        else {
            continue;
        };
        let value = value.trim_matches('"').to_owned();
        if member == "PCRIndex" {
            judged.push(Judged::default());
        }
        let Some(event) = judged.last_mut() else {
            continue;
        };
        match member {
            "PCRIndex" => event.pcr = value,
            "EventType" => event.event_type = value,
            "AlgorithmId" => algorithm = value,
            "Digest" if line.starts_with("    ") => event.digests.push((algorithm.clone(), value)),
            "EventSize" => event.size = value,
            _ => {}
        }
    }
    let mut values = Vec::new();
    for line in pcrs.lines() {
        match line
            .split_once(':')
            .map(|(name, value)| (name.trim(), value.trim()))
        {
            Some((name, "")) => algorithm = name.to_owned(),
            Some((pcr, value)) => {
                let value = value.trim_start_matches("0x").to_owned();
                values.push((algorithm.clone(), pcr.parse().unwrap(), value));
            }
            None => {}
        }
    }
    (judged, values)
}

/// Asserts that our reading of a log is that of `tpm2_eventlog`.
#[track_caller]
pub(crate) fn assert_agrees(octets: &[u8], yaml: &str) {
    let log = read(octets);
    let (judged, values) = judgement(yaml);
    let events: Vec<_> = log.unverified().events().collect();
    assert_eq!(events.len(), judged.len());
    for (event, judged) in events.iter().zip(&judged) {
        assert_eq!(event.pcr().to_string(), judged.pcr);
        if let Some(name) = event.event_type().name() {
            assert_eq!(name, judged.event_type);
        }
        assert_eq!(event.data().len().to_string(), judged.size);
        for (algorithm, digest) in &judged.digests {
            if let Some(bank) = bank_named(algorithm) {
                assert_eq!(&event.digest(bank).unwrap().to_string(), digest);
            }
        }
    }
    assert!(!values.is_empty());
    for bank in Bank::ALL {
        let of_bank = values
            .iter()
            .filter(|(name, ..)| bank_named(name) == Some(bank));
        let judged: Vec<_> = of_bank
            .map(|(_, pcr, value)| (*pcr, value.clone()))
            .collect();
        let Ok(ours) = log.unverified().replayed_values(bank) else {
            assert_eq!(judged, []);
            continue;
        };
        let ours: Vec<_> = ours
            .iter()
            .map(|(pcr, value)| (pcr, value.to_string()))
            .collect();
        assert_eq!(ours, judged, "{bank}");
    }
}

fn bank_named(name: &str) -> Option<Bank> {
    match name {
        "sha1" => Some(Bank::Sha1),
        "sha256" => Some(Bank::Sha256),
        "sha384" => Some(Bank::Sha384),
        _ => None,
    }
}

/// An entry of an IMA log, with the template digest given or computed.
pub(crate) fn ima_entry(template: &str, data: &[u8], template_digest: Option<[u8; 20]>) -> Vec<u8> {
    let computed = || Bank::Sha1.hash(&[data]).as_bytes().try_into().unwrap();
    let mut octets = 10_u32.to_le_bytes().to_vec();
    octets.extend(template_digest.unwrap_or_else(computed));
    octets.extend((template.len() as u32).to_le_bytes());
    octets.extend(template.as_bytes());
    octets.extend((data.len() as u32).to_le_bytes());
    octets.extend(data);
    octets
}

/// The fields of a template with their lengths.
pub(crate) fn ima_fields(fields: &[&[u8]]) -> Vec<u8> {
    let field = |field: &&[u8]| [&(field.len() as u32).to_le_bytes(), *field].concat();
    fields.iter().flat_map(field).collect()
}

/// A field with a SHA-256 digest.
pub(crate) fn sha256_field(digest: [u8; 32]) -> Vec<u8> {
    [b"sha256:\0".as_slice(), &digest].concat()
}
