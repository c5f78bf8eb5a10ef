//! `guarded-host baseline`: what `Get-HgsAttestationBaselinePolicy` does for the incumbent.

use std::fmt;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use hgs_attest::policy::{
    Baseline, Evidence, HostMeasurements, Parameters, RecordedEvidence, proposed_parameters,
};
use hgs_files::Readers;
use hgs_terminal::{AtFault, Exit, Failure, Table, Terminal};
use serde::Serialize;

use crate::failure::failure;
use crate::host_options::HostOptions;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Write what this host has booted as a baseline, for `hgs baseline add NAME FILE`
    ///
    /// The event log of this boot has to give the values that the PCRs have. Look at what it says before you add it: every
    /// host that boots the same is accepted.
    #[command(after_help = "Examples:
  guarded-host baseline export --out reference.json
  guarded-host baseline export --out reference.json --host-measurements host1.json
  guarded-host baseline export --out reference.json --evidence ./evidence")]
    Export {
        /// Write what only this host has (partition table, boot order, initrd, parameters such as the UUID of its root) to
        /// this file instead of into the baseline
        #[arg(long, value_name = "FILE")]
        host_measurements: Option<PathBuf>,
        /// Write the logs and the values of the PCRs to files in this folder, for `hgs policy simulate`
        #[arg(long, value_name = "FOLDER")]
        evidence: Option<PathBuf>,
    },
}

impl Verb {
    pub(crate) fn run(self, options: &HostOptions, terminal: &Terminal) -> Result<Exit, Failure> {
        let Self::Export {
            host_measurements,
            evidence: folder,
        } = self;
        let host = options.open(terminal)?;
        let recorded = host.evidence().map_err(failure)?;
        if let Some(folder) = &folder {
            write_evidence(&recorded, folder)?;
        }
        let evidence = recorded.prove().map_err(|error| unproved(&error))?;
        let machine = rustix::system::uname();
        let source = format!("the log of {}", machine.nodename().to_string_lossy());
        let (baseline, host_measurements) = match host_measurements {
            None => (of(&evidence, &source, &Parameters::new())?, None),
            Some(file) => {
                let parameters = proposed_parameters(&evidence);
                let baseline = of(&evidence, &source, &parameters)?;
                let (baseline, own) = baseline.without_host_alternatives(&parameters);
                (baseline, Some((file, own)))
            }
        };
        let report = Report::new(&baseline, &recorded);
        terminal.document(baseline.to_json().as_bytes(), Readers::Everybody, &report)?;
        if let Some((file, own)) = host_measurements {
            write_host_measurements(&own, &file)?;
        }
        Ok(Exit::Done)
    }
}

fn of(evidence: &Evidence, source: &str, parameters: &Parameters) -> Result<Baseline, Failure> {
    Baseline::of_evidence(evidence, source, parameters)
        .map_err(|error| Failure::failed(&error).at_fault(AtFault::Host))
}

fn write_host_measurements(own: &HostMeasurements, file: &Path) -> Result<(), Failure> {
    Ok(hgs_files::create(
        file,
        own.to_json().as_bytes(),
        Readers::Everybody,
    )?)
}

/// `eventlog.bin`, `pcrs-sha256.bin` (24 values of 32 octets), and `ima.bin` if there is one.
fn write_evidence(recorded: &RecordedEvidence, folder: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(folder).map_err(|error| {
        Failure::of(&error)
            .while_doing(folder.display())
            .at_fault(AtFault::Operator)
    })?;
    let values: Vec<u8> = recorded
        .values
        .iter()
        .flat_map(|(_, value)| value.as_bytes().to_vec())
        .collect();
    let files: [(&str, &[u8]); 3] = [
        ("eventlog.bin", &recorded.log),
        ("pcrs-sha256.bin", &values),
        ("ima.bin", &recorded.ima),
    ];
    for (name, octets) in files.into_iter().filter(|(_, octets)| !octets.is_empty()) {
        hgs_files::create(&folder.join(name), octets, Readers::Everybody)?;
    }
    Ok(())
}

fn unproved(error: &dyn std::error::Error) -> Failure {
    Failure::refused(error)
        .at_fault(AtFault::Host)
        .remedy("`guarded-host trace` looks at the TPM and its logs")
}

#[derive(Serialize)]
struct Report {
    pcrs: usize,
    components: Vec<String>,
    octets_of_log: usize,
    octets_of_ima_log: usize,
}

impl Report {
    fn new(baseline: &Baseline, recorded: &RecordedEvidence) -> Self {
        let components = baseline.components.iter();
        Self {
            pcrs: baseline.lanes.len(),
            components: components.map(|component| component.name.clone()).collect(),
            octets_of_log: recorded.log.len(),
            octets_of_ima_log: recorded.ima.len(),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        Table::of_pairs([
            ("PCRs", self.pcrs.to_string()),
            ("components", self.components.join(", ")),
            ("event log", format!("{} octets", self.octets_of_log)),
            ("IMA log", format!("{} octets", self.octets_of_ima_log)),
        ])
        .fmt(formatter)
    }
}
