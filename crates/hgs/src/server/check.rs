//! `hgs server check`.

use std::fmt;

use hgs_server::config::{Finding, Severity};
use hgs_terminal::{Exit, Failure, Terminal};
use serde::Serialize;

use crate::config_option::ConfigOption;

/// Check the configuration, and whether it can work on this machine for this user
///
/// Files are read; nothing is changed and no port is opened. The status is 2 if the server would not start or not do its
/// work.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

impl Arguments {
    pub(super) fn run(self, config: &ConfigOption, terminal: &Terminal) -> Result<Exit, Failure> {
        let findings = config.load()?.check();
        let works = findings
            .iter()
            .all(|finding| finding.severity < Severity::Error || finding.about_process);
        terminal.report(&Checked { works, findings })?;
        Ok(if works { Exit::Done } else { Exit::Refused })
    }
}

#[derive(Serialize)]
struct Checked {
    works: bool,
    findings: Vec<Finding>,
}

impl fmt::Display for Checked {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            let severity = match finding.severity {
                Severity::Warning => "warning",
                Severity::Error => "error",
            };
            writeln!(
                formatter,
                "{severity}: {}: {}",
                finding.check, finding.cause
            )?;
            writeln!(formatter, "  remedy: {}", finding.remedy)?;
        }
        let works_here = (self.findings.iter()).all(|finding| finding.severity < Severity::Error);
        writeln!(
            formatter,
            "{}",
            match (self.works, self.findings.is_empty()) {
                (true, _) if !works_here => {
                    "The configuration works for the service that the systemd unit starts, but not for a server \
                     that this user starts here."
                }
                (true, true) => "The configuration works.",
                (true, false) => "The configuration works, but see the warnings.",
                (false, _) => "The configuration does not work.",
            }
        )
    }
}
