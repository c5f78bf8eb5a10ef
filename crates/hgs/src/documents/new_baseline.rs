//! `hgs baseline new`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use hgs_attest::policy::{
    Baseline, ComponentKind, HostMeasurements, Parameters, proposed_parameters,
};
use hgs_files::Readers;
use hgs_terminal::{Exit, Failure, Terminal};
use serde::Serialize;

use super::named_value;
use crate::evidence_files::EvidenceFiles;

/// Write a baseline from what one host measured when it booted
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  hgs baseline new --log eventlog.bin --pcrs pcrs.txt --out model-a.json
  hgs baseline new --log eventlog.bin --pcrs pcrs.txt --host-measurements host7-own.json --out model-a.json

On a host, `guarded-host baseline export` does the same with its own TPM. Values such as the UUID of the root file system \
become parameters, so that other hosts match with their own.")]
pub(crate) struct NewBaseline {
    #[command(flatten)]
    evidence: EvidenceFiles,
    /// A value that differs from host to host, beside those that are found
    #[arg(long = "parameter", value_name = "NAME=VALUE", value_parser = named_value::<String>)]
    parameters: Vec<(String, String)>,
    /// What the log is called in the baseline [default: its file]
    #[arg(long, value_name = "TEXT")]
    source: Option<String>,
    /// Where to write what only this host has: parameters, partition table, boot order, initrd. The baseline then has none of it
    #[arg(long, value_name = "FILE")]
    host_measurements: Option<PathBuf>,
}

impl NewBaseline {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<Exit, Failure> {
        let evidence = self.evidence.prove()?;
        let mut parameters = proposed_parameters(&evidence);
        parameters.extend(self.parameters);
        let log = self.evidence.log.display().to_string();
        let source = self.source.unwrap_or(log);
        let baseline = Baseline::of_evidence(&evidence, &source, &parameters);
        let mut baseline = baseline.map_err(Failure::refused)?;
        let mut summary = Written::of(&baseline, &parameters);
        if let Some(file) = &self.host_measurements {
            let own: HostMeasurements;
            (baseline, own) = baseline.without_host_alternatives(&parameters);
            hgs_files::create(file, own.to_json().as_bytes(), Readers::Everybody)?;
            summary.host_measurements = Some(file.display().to_string());
        }
        let document = baseline.to_json();
        terminal.document(document.as_bytes(), Readers::Everybody, &summary)?;
        Ok(Exit::Done)
    }
}

#[derive(Serialize)]
struct Written {
    components: BTreeMap<String, ComponentKind>,
    parameters: Parameters,
    #[serde(skip_serializing_if = "Option::is_none")]
    host_measurements: Option<String>,
}

impl Written {
    fn of(baseline: &Baseline, parameters: &Parameters) -> Self {
        let components = baseline.components.iter();
        Self {
            components: components
                .map(|component| (component.name.clone(), component.kind))
                .collect(),
            parameters: parameters.clone(),
            host_measurements: None,
        }
    }
}

impl fmt::Display for Written {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.components.keys().map(String::as_str).collect();
        writeln!(formatter, "Components: {}", names.join(", "))?;
        for (name, value) in &self.parameters {
            writeln!(formatter, "Parameter `{name}`: {value}")?;
        }
        if let Some(file) = &self.host_measurements {
            writeln!(formatter, "What only this host has is in {file}")?;
        }
        Ok(())
    }
}
