//! `guarded-host trace`: what Get-HgsTrace does for a host.

mod collect;

use std::path::PathBuf;

use hgs_client::configuration::Endpoints;
use hgs_client::url::UrlError;
use hgs_terminal::{AtFault, Exit, Failure, Terminal};
use hgs_trace::collection::{self, CollectionError};
use hgs_trace::host::{self, Facts};
use hgs_trace::{ReportText, Selection};

use crate::host_options::{HostOptions, wait_for};

/// Diagnose this host: configuration, host key, the services that guard it, its health certificate
///
/// Where something fails, what depends on it is skipped and names it, so that what fails is the cause. docs/trace.md has all
/// checks. Nothing is changed, and no certificate is asked for. The status is 2 if anything failed, 0 if not, and 1 if the
/// diagnosis could not be made.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  guarded-host trace
  guarded-host trace --target local --detailed
  guarded-host trace --target https://hgs2.example
  guarded-host trace --collect /tmp/trace-1")]
pub(crate) struct Arguments {
    /// What to look at: `local` for nothing over the network, or the beginning of the URLs of another guardian than the one
    /// that is configured
    #[arg(long, value_name = "URL|local", value_parser = target)]
    target: Option<Target>,
    /// Only these checks, and what they depend on
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    check: Vec<String>,
    /// Show what passes too
    #[arg(long)]
    detailed: bool,
    /// Keep the facts in a new folder, to be diagnosed elsewhere; nothing in it is secret
    #[arg(long, value_name = "DIR")]
    collect: Option<PathBuf>,
    /// Diagnose what was collected in a folder, and look at nothing else
    #[arg(long, value_name = "DIR", conflicts_with_all = ["target", "collect"])]
    from: Option<PathBuf>,
}

impl Arguments {
    pub(crate) fn run(self, options: &HostOptions, terminal: &Terminal) -> Result<Exit, Failure> {
        let wanted = Selection::of(&host::checks(), &self.check)
            .map_err(|unknown| Failure::usage(unknown).remedy("docs/trace.md has all checks"))?;
        let facts: Facts = match &self.from {
            Some(folder) => collection::read(folder, host::ROLE).map_err(failed)?.1,
            None => {
                let folders = options.folders()?;
                let target = self.target.as_ref();
                wait_for(async { Ok(collect::facts(&folders, target).await) })?
            }
        };
        if let Some(folder) = &self.collect {
            let version = env!("CARGO_PKG_VERSION");
            collection::write(folder, host::ROLE, version, facts.time, &facts).map_err(failed)?;
            terminal.note(format_args!("The facts are in {}.", folder.display()));
        }
        let report = facts.diagnose(&wanted);
        terminal.report(&ReportText {
            report: &report,
            detailed: self.detailed,
        })?;
        Ok(if report.works() {
            Exit::Done
        } else {
            Exit::Refused
        })
    }
}

/// What to look at beside this machine.
#[derive(Debug, Clone)]
enum Target {
    /// Nothing.
    Local,
    /// The services of another guardian.
    Url(Endpoints),
}

fn target(text: &str) -> Result<Target, UrlError> {
    match text {
        "local" => Ok(Target::Local),
        url => Endpoints::below(url).map(Target::Url),
    }
}

fn failed(error: CollectionError) -> Failure {
    match error {
        CollectionError::File(error) => error.into(),
        other => Failure::of(&other)
            .at_fault(AtFault::Operator)
            .remedy("collect the facts anew with `--collect DIR`"),
    }
}
