//! `hgs trace`: what Get-HgsTrace does for a guardian.

mod collect;
mod public;

use std::path::PathBuf;
use std::str::FromStr;

use hgs_terminal::{AtFault, Exit, Failure, Terminal};
use hgs_trace::collection::{self, CollectionError};
use hgs_trace::guardian::{self, Facts};
use hgs_trace::{ReportText, Selection};

use crate::administration::ServerOption;
use crate::failures::{IntoFailure, OrFail as _};
use public::Base;

/// Diagnose a guardian: configuration, state, keys, certificates, network, both protocols end to end
///
/// Where something fails, what depends on it is skipped and names it, so that what fails is the cause. docs/trace.md has all
/// checks. The status is 2 if anything failed, 0 if not, and 1 if the diagnosis could not be made.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  hgs trace
  hgs trace --check HGS-K003,HGS-P004 --detailed
  hgs trace --target https://hgs.example
  hgs trace --collect /tmp/trace-1; hgs trace --from /tmp/trace-1")]
pub(crate) struct Arguments {
    /// What to look at: `local` for nothing over the network, or the beginning of another guardian's URLs
    #[arg(long, value_name = "URL|local")]
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
    #[arg(long, value_name = "DIR", conflicts_with_all = ["target", "collect", "ca"])]
    from: Option<PathBuf>,
    /// PEM file with the only certification authorities to trust for https [default: the system's]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    #[command(flatten)]
    server: ServerOption,
}

/// What to look at.
#[derive(Debug, Clone)]
enum Target {
    /// This machine, and nothing over the network.
    Local,
    /// What everybody sees at a URL.
    Url(Base),
}

impl Arguments {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<Exit, Failure> {
        let wanted = Selection::of(&guardian::checks(), &self.check)
            .map_err(|unknown| Failure::usage(unknown).remedy("docs/trace.md has all checks"))?;
        self.server.require_this_machine()?;
        let facts = match &self.from {
            Some(folder) => collection::read(folder, guardian::ROLE).or_fail()?.1,
            None => self.collect_facts(&wanted)?,
        };
        if let Some(folder) = &self.collect {
            let version = env!("CARGO_PKG_VERSION");
            collection::write(folder, guardian::ROLE, version, facts.time, &facts).or_fail()?;
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

    fn collect_facts(&self, wanted: &Selection) -> Result<Facts, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::of(&error).at_fault(AtFault::Ourselves))?;
        let facts = runtime.block_on(collect::facts(self, wanted));
        // A resolver that does not come back is not waited for.
        runtime.shutdown_background();
        Ok(facts)
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "local" => Ok(Self::Local),
            url => url.parse().map(Self::Url),
        }
    }
}

impl IntoFailure for CollectionError {
    fn into_failure(self) -> Failure {
        match self {
            Self::File(error) => error.into(),
            other => Failure::of(&other)
                .at_fault(AtFault::Operator)
                .remedy("collect the facts anew with `--collect DIR`"),
        }
    }
}
