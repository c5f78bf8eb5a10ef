//! Boots to judge: the two recorded ones, and others made from their events.
#![allow(dead_code, reason = "each test uses a part")]

use std::fs;
use std::path::Path;

use hgs_attest::policy::{
    Baseline, Documents, Evaluation, Evidence, HostMeasurements, Parameters, PolicySelection,
    PolicySet, RecordedEvidence,
};
use hgs_crypto::hash::sha256;
use hgs_pki::Time;
use hgs_tcg::event_log::{Bank, EventLog, EventType, Limits, PcrValues};

/// A time for tests.
pub(crate) const NOW: Time = Time::from_unix(1_795_287_600);

/// A recorded boot: `secure-boot-on` or `secure-boot-off`.
pub(crate) fn recorded(name: &str) -> RecordedEvidence {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/boots");
    let read = |what: &str| fs::read(folder.join(format!("{name}-{what}.bin"))).unwrap();
    RecordedEvidence {
        values: PcrValues::concatenated(Bank::Sha256, &read("pcrs-sha256")).unwrap(),
        log: read("eventlog"),
        ima: read("ima"),
        preimages: Vec::new(),
        unexplained: Vec::new(),
    }
}

/// An event of a log that is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) pcr: u8,
    pub(crate) event_type: u32,
    pub(crate) digest: [u8; 32],
    pub(crate) data: Vec<u8>,
}

impl Event {
    pub(crate) fn new(pcr: u8, digest: [u8; 32]) -> Self {
        Self {
            pcr,
            event_type: EventType::IPL.0,
            digest,
            data: Vec::new(),
        }
    }

    /// An event whose data are its preimage.
    pub(crate) fn of(pcr: u8, data: &[u8]) -> Self {
        Self {
            data: data.to_vec(),
            ..Self::new(pcr, sha256(data))
        }
    }

    pub(crate) fn separator(pcr: u8) -> Self {
        Self::of(pcr, &[0; 4])
    }

    /// A command of GRUB.
    pub(crate) fn command(text: &str) -> Self {
        Self {
            data: format!("grub_cmd: {text}\0").into_bytes(),
            ..Self::new(8, sha256(text.as_bytes()))
        }
    }

    /// A command line of GRUB.
    pub(crate) fn command_line(text: &str) -> Self {
        Self {
            data: format!("kernel_cmdline: {text}\0").into_bytes(),
            ..Self::new(8, sha256(text.as_bytes()))
        }
    }
}

/// A boot that can be changed event by event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Boot {
    pub(crate) events: Vec<Event>,
    pub(crate) ima: Vec<u8>,
}

impl Boot {
    /// A recorded boot. Its events have the numbers of the log less 1: the header is not among them.
    pub(crate) fn recorded(name: &str) -> Self {
        let recorded = recorded(name);
        let log = EventLog::read(recorded.log, &Limits::LOG).unwrap();
        let events = log.unverified().events().skip(1);
        Self {
            events: events
                .map(|event| Event {
                    pcr: event.pcr() as u8,
                    event_type: event.event_type().0,
                    digest: event
                        .digest(Bank::Sha256)
                        .unwrap()
                        .as_bytes()
                        .try_into()
                        .unwrap(),
                    data: event.data().to_vec(),
                })
                .collect(),
            ima: Vec::new(),
        }
    }

    /// The event with this number in the log.
    pub(crate) fn event(&mut self, number: usize) -> &mut Event {
        &mut self.events[number - 1]
    }

    /// With its log, and the PCR values that its events give.
    pub(crate) fn evidence(&self) -> RecordedEvidence {
        let mut values = [[0; 32]; 24];
        // A dynamic launch would reset these.
        for pcr in 17..=22 {
            if self.events.iter().all(|event| event.pcr != pcr) {
                values[usize::from(pcr)] = [0xff; 32];
            }
        }
        let mut log = header();
        for event in &self.events {
            let value = &mut values[usize::from(event.pcr)];
            *value = sha256(&[*value, event.digest].concat());
            log.extend(u32::from(event.pcr).to_le_bytes());
            log.extend(event.event_type.to_le_bytes());
            log.extend(1_u32.to_le_bytes());
            log.extend(Bank::Sha256.algorithm().to_le_bytes());
            log.extend(event.digest);
            log.extend((event.data.len() as u32).to_le_bytes());
            log.extend(&event.data);
        }
        RecordedEvidence {
            values: PcrValues::concatenated(Bank::Sha256, values.as_flattened()).unwrap(),
            log,
            ima: Vec::new(),
            preimages: Vec::new(),
            unexplained: Vec::new(),
        }
    }

    /// With an IMA log of these files, after the entry for the boot itself.
    pub(crate) fn with_files(&self, files: &[File]) -> RecordedEvidence {
        let mut evidence = self.evidence();
        let aggregate = hgs_tcg::ima::boot_aggregate(&evidence.values).unwrap();
        let boot = File {
            path: "boot_aggregate".to_owned(),
            digest: aggregate.as_bytes().try_into().unwrap(),
            violation: false,
        };
        let mut value = [0; 32];
        for file in std::iter::once(&boot).chain(files) {
            let (entry, extension) = file.entry();
            evidence.ima.extend(entry);
            value = sha256(&[value, extension].concat());
        }
        evidence.values.insert(10, &value).unwrap();
        evidence
    }

    pub(crate) fn proved(&self) -> Evidence {
        self.evidence().prove().unwrap()
    }
}

/// A file that IMA measured.
#[derive(Debug, Clone)]
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) digest: [u8; 32],
    /// Whether it changed while it was measured.
    pub(crate) violation: bool,
}

impl File {
    pub(crate) fn new(path: &str, contents: &str) -> Self {
        Self {
            path: path.to_owned(),
            digest: sha256(contents.as_bytes()),
            violation: false,
        }
    }

    /// The entry in the template `ima-ng`, and what it extends PCR 10 with.
    fn entry(&self) -> (Vec<u8>, [u8; 32]) {
        let digest = if self.violation { [0; 32] } else { self.digest };
        let fields = [
            [b"sha256:\0".as_slice(), &digest].concat(),
            format!("{}\0", self.path).into_bytes(),
        ];
        let mut data = Vec::new();
        for field in fields {
            data.extend((field.len() as u32).to_le_bytes());
            data.extend(field);
        }
        let (sha1, extension) = match self.violation {
            true => ([0; 20], [0xff; 32]),
            false => (hgs_crypto::hash::sha1_of(&[&data]), sha256(&data)),
        };
        let mut entry = 10_u32.to_le_bytes().to_vec();
        entry.extend(sha1);
        entry.extend(6_u32.to_le_bytes());
        entry.extend(b"ima-ng");
        entry.extend((data.len() as u32).to_le_bytes());
        entry.extend(data);
        (entry, extension)
    }
}

/// `Spec ID Event03` with SHA-256 alone.
fn header() -> Vec<u8> {
    let mut data = b"Spec ID Event03\0\0\0\0\0\0\x02\0\x02".to_vec();
    data.extend(1_u32.to_le_bytes());
    data.extend(Bank::Sha256.algorithm().to_le_bytes());
    data.extend(32_u16.to_le_bytes());
    data.push(0);
    let mut octets = 0_u32.to_le_bytes().to_vec();
    octets.extend(EventType::NO_ACTION.0.to_le_bytes());
    octets.extend([0; 20]);
    octets.extend((data.len() as u32).to_le_bytes());
    octets.extend(data);
    octets
}

/// The baseline of a boot.
pub(crate) fn baseline_of(evidence: &Evidence) -> Baseline {
    Baseline::of_evidence(evidence, "reference", &Parameters::new()).unwrap()
}

/// These baselines, and the policies that are on by default but for Secure Boot, so that baselines decide.
pub(crate) fn compiled(baselines: &[(&str, &Baseline)]) -> PolicySet {
    try_compile(baselines).unwrap()
}

pub(crate) fn try_compile(
    baselines: &[(&str, &Baseline)],
) -> Result<PolicySet, hgs_attest::policy::PolicySetError> {
    let mut selection = PolicySelection::default();
    selection
        .set(hgs_attest::policy::PolicyName::SecureBootEnabled, false)
        .unwrap();
    let baselines = baselines
        .iter()
        .map(|(name, baseline)| ((*name).to_owned(), (*baseline).clone()));
    let documents = Documents {
        baselines: baselines.collect(),
        ..Documents::default()
    };
    PolicySet::compile(&selection, &documents)
}

/// How a boot is judged by one baseline.
pub(crate) fn judged(boot: &Boot, baseline: &Baseline) -> Evaluation {
    compiled(&[("reference", baseline)]).evaluate(&boot.proved(), NOW)
}

pub(crate) fn for_host(set: &PolicySet, host: &HostMeasurements) -> PolicySet {
    set.for_host(host).unwrap()
}

/// The differences as people read them.
pub(crate) fn differences(evaluation: &Evaluation) -> Vec<String> {
    evaluation
        .differences()
        .iter()
        .map(ToString::to_string)
        .collect()
}
