//! `guarded-host baseline`: what `Get-HgsAttestationBaselinePolicy` does for the incumbent.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use hgs_attest::policy::{
    Baseline, EventDigest, Evidence, HostMeasurements, Parameters, RecordedEvidence,
    claim_of_next_boot, proposed_parameters,
};
use hgs_client::service::Sides;
use hgs_crypto::hash::Sha256;
use hgs_files::Readers;
use hgs_terminal::{AtFault, Exit, Failure, Table, Terminal};
use serde::Serialize;

use crate::failure::failure;
use crate::host_options::{HostOptions, wait_for};

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
    /// Write what this host will boot next in the place of what only it has: its initrd, its grub.cfg, their commands
    ///
    /// What has changed is told file by file, as the boot loader names it. It is for the record that the guardian has of this
    /// host: its administrator adds the file there, or the host sends it with an attestation by its TPM, where the guardian is set
    /// to take that (`hgs server set --next-boot-claims accept`). It is accepted for 30 days then, and stays if the host boots it.
    #[command(after_help = "Examples:
  guarded-host baseline stage --file /initrd.img-6.1.0-57-amd64=/boot/initrd.img-6.1.0-57-amd64 \\
      --release 6.1.0-56-amd64=6.1.0-57-amd64 --name kernel-57 --out next.json
  guarded-host baseline stage --file /grub/grub.cfg=/boot/grub/grub.cfg --name grub --send")]
    Stage {
        /// A file that will be measured, after the end of the path by which the boot loader names it, with `=` between
        #[arg(long = "file", value_name = "END=FILE", value_parser = file, required_unless_present = "release")]
        files: Vec<(String, PathBuf)>,
        /// The release of the kernel that is booted now, and the next one, with `=` between
        #[arg(long, value_name = "OLD=NEW", value_parser = release)]
        release: Option<(String, String)>,
        /// What the guardian calls it
        #[arg(long, value_name = "NAME")]
        name: String,
        /// Send it to the guardian, with an attestation by the TPM of this host; with --out it is written to the file first
        #[arg(long)]
        send: bool,
    },
}

fn file(text: &str) -> Result<(String, PathBuf), &'static str> {
    let (end, file) = release(text)?;
    Ok((end, file.into()))
}

fn release(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once('=') {
        Some((left, right)) if !left.is_empty() && !right.is_empty() => {
            Ok((left.to_owned(), right.to_owned()))
        }
        _ => Err("there are two parts, with `=` between"),
    }
}

impl Verb {
    pub(crate) fn run(self, options: &HostOptions, terminal: &Terminal) -> Result<Exit, Failure> {
        match self {
            Self::Export {
                host_measurements,
                evidence,
            } => Export {
                host_measurements,
                folder: evidence,
            }
            .run(options, terminal),
            Self::Stage {
                files,
                release,
                name,
                send,
            } => Stage {
                files,
                release,
                name,
                send,
            }
            .run(options, terminal),
        }
    }
}

/// What this host has booted, proved by the values of its PCRs as the TPM says them now.
fn booted(
    options: &HostOptions,
    terminal: &Terminal,
) -> Result<(RecordedEvidence, Result<Evidence, Failure>), Failure> {
    let recorded = options.open(terminal)?.evidence().map_err(failure)?;
    let evidence = recorded.prove().map_err(|error| unproved(&error));
    Ok((recorded, evidence))
}

struct Stage {
    files: Vec<(String, PathBuf)>,
    release: Option<(String, String)>,
    name: String,
    send: bool,
}

impl Stage {
    fn run(self, options: &HostOptions, terminal: &Terminal) -> Result<Exit, Failure> {
        let mut digests = Vec::new();
        for (end, file) in &self.files {
            digests.push((end.as_str(), digest_of(file)?));
        }
        let releases = self.release.as_ref();
        let releases = releases.map(|(old, new)| (old.as_str(), new.as_str()));
        let (_, evidence) = booted(options, terminal)?;
        let claim = claim_of_next_boot(&evidence?, &digests, releases, &self.name)
            .map_err(|error| Failure::failed(&error).at_fault(AtFault::Host))?;
        if claim.components.is_empty() {
            return Err(Failure::refused(
                "nothing that only this host has changes with it: it was booted already, or nothing of that name was measured at the last boot",
            )
            .at_fault(AtFault::Operator)
            .remedy("`guarded-host baseline export` writes what was measured, by the names that the boot loader uses"));
        }
        let components = claim.components.iter();
        let mut report = Staged {
            components: components.map(|component| component.name.clone()).collect(),
            guardian: None,
        };
        let octets = claim.to_json().into_bytes();
        if !self.send {
            terminal.document(&octets, Readers::Everybody, &report)?;
            return Ok(Exit::Done);
        }
        // Before it is sent: where the guardian does not take it, its administrator can.
        if let Some(file) = terminal.out() {
            terminal.write_file(file, &octets, Readers::Everybody)?;
        }
        let host = options.open(terminal)?;
        let attestation = wait_for(host.claim_next_boot(octets, Sides::Both))?;
        report.guardian = Some(attestation.attestation.to_string());
        terminal.step(&report)?;
        Ok(Exit::Done)
    }
}

/// SHA-256 of a file, which may be large.
fn digest_of(file: &Path) -> Result<EventDigest, Failure> {
    let failed = |error: std::io::Error| {
        Failure::of(&error)
            .while_doing(file.display())
            .at_fault(AtFault::Operator)
    };
    let mut reader = File::open(file).map_err(failed)?;
    let (mut hash, mut part) = (Sha256::new(), vec![0; 64 * 1024]);
    loop {
        match reader.read(&mut part).map_err(failed)? {
            0 => return Ok(EventDigest(hash.finish())),
            octets => hash.update(&part[..octets]),
        }
    }
}

#[derive(Serialize)]
struct Staged {
    components: Vec<String>,
    /// The service that added it to the record of this host.
    guardian: Option<String>,
}

impl fmt::Display for Staged {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let components = self.components.join(", ");
        match &self.guardian {
            None => writeln!(formatter, "{components} changed"),
            Some(url) => writeln!(
                formatter,
                "{components} changed; {url} accepts it for 30 days"
            ),
        }
    }
}

struct Export {
    host_measurements: Option<PathBuf>,
    folder: Option<PathBuf>,
}

impl Export {
    fn run(self, options: &HostOptions, terminal: &Terminal) -> Result<Exit, Failure> {
        let (recorded, evidence) = booted(options, terminal)?;
        if let Some(folder) = &self.folder {
            write_evidence(&recorded, folder)?;
        }
        let evidence = evidence?;
        let machine = rustix::system::uname();
        let source = format!("the log of {}", machine.nodename().to_string_lossy());
        let (baseline, host_measurements) = match self.host_measurements {
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
