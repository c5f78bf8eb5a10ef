//! `hgs state show`.

use std::fmt;
use std::path::PathBuf;

use hgs_files::Readers;
use hgs_store::backup::Header;
use hgs_terminal::{Exit, Failure, Terminal};
use serde::Serialize;

use super::sealed::{Backup, Opener};
use crate::failures::OrFail as _;

/// Read a backup to its end, and say what it is
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The backup
    file: PathBuf,
    #[command(flatten)]
    opener: Opener,
    /// Give the text of the configuration file that is in it
    #[arg(long)]
    configuration: bool,
}

impl Arguments {
    pub(super) fn run(self, terminal: &Terminal) -> Result<Exit, Failure> {
        let backup = Backup::open(&self.file)?;
        let sha256 = backup.digest.to_string();
        let document = backup.unlock(&self.opener)?;
        let header = document.header().clone();
        let configuration = document.configuration().or_fail()?;
        let shown = Shown {
            sha256,
            configuration_file: configuration.as_ref().map(|found| found.file.clone()),
            header,
        };
        if !self.configuration {
            terminal.report(&shown)?;
            return Ok(Exit::Done);
        }
        let configuration = configuration.ok_or_else(|| {
            Failure::failed("there is no configuration in the backup")
                .remedy("none is needed: the guardian had no configuration file, and worked with the defaults")
        })?;
        terminal.document(configuration.text.as_bytes(), Readers::Everybody, &shown)?;
        Ok(Exit::Done)
    }
}

#[derive(Serialize)]
struct Shown {
    sha256: String,
    configuration_file: Option<String>,
    #[serde(flatten)]
    header: Header,
}

impl fmt::Display for Shown {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Header {
            name,
            node,
            exported,
            program,
            ..
        } = &self.header;
        writeln!(
            formatter,
            "The state of `{name}`, whole, as node {node} wrote it at {exported} with version {program}:"
        )?;
        writeln!(
            formatter,
            "{} records, {} protectors, {} audit records, generation {}.",
            self.header.records,
            self.header.protectors,
            self.header.audit_records,
            self.header.generation
        )?;
        if let Some(file) = &self.configuration_file {
            writeln!(formatter, "Configuration: {file}")?;
        }
        writeln!(formatter, "SHA-256: {}", self.sha256)
    }
}
