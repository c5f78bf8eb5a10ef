//! `hgs baseline`: what may be measured when a host boots.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;
use hgs_admin::types::{DocumentKind, Trial};
use hgs_admin::{Client, NameSelector};
use hgs_attest::policy::{Baseline, MAX_BASELINE_OCTETS, UsedAlternative};
use hgs_files::Readers;
use hgs_pki::{Seconds, Time};
use hgs_terminal::{Exit, Failure, Terminal, read_input};
use serde::Serialize;

use super::{ServerOption, all_judgements, document};
use crate::clock;
use crate::completion;
use crate::documents::{NewBaseline, Predictions, Staged};
use crate::failures::OrFail as _;

/// The verbs of `hgs baseline`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    server: ServerOption,
}

#[derive(Debug, Subcommand)]
enum Verb {
    New(NewBaseline),
    Predict(Predict),
    Retire(Retire),
    #[command(flatten)]
    Document(document::Verb),
}

/// Approve what an update will bring, before any host boots it
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  hgs baseline predict model-a linux-image-6.1.0-57-amd64.deb shim-signed.deb grub-efi-amd64-signed.deb
  hgs baseline predict model-a --variable dbx=dbx.bin
  hgs baseline predict model-a --pcrlock /var/lib/pcrlock.d/630-boot-loader.pcrlock
  hgs baseline predict --in model-a.json debian-6.1.efi --out next.json

What is predicted is accepted until it expires. The first host that boots it makes it stay. Firmware can't be predicted from \
its file: have one host boot it, then run `hgs host approve HOST`.")]
struct Predict {
    /// The baseline
    #[arg(required_unless_present = "file", conflicts_with = "file", add = completion::baselines())]
    name: Option<NameSelector>,
    /// A file with a baseline, in the place of one that the guardian has; `--out` says where the new one goes
    #[arg(long = "in", value_name = "FILE", id = "file")]
    file: Option<PathBuf>,
    #[command(flatten)]
    predictions: Predictions,
    /// For how long what no host has booted is accepted
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = period)]
    expires: Duration,
}

/// Accept an alternative no longer: what an update took the place of, when no host boots it any more
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  hgs baseline retire model-a --unused
  hgs baseline retire model-a kernel 'linux-image-6.1.0-56-amd64 6.1.192-2, vmlinuz-6.1.0-56-amd64'

`hgs baseline show NAME` has the names; `hgs baseline set` with the former document takes it back.")]
struct Retire {
    /// The baseline
    #[arg(add = completion::baselines())]
    name: NameSelector,
    /// The component
    #[arg(required_unless_present = "unused", requires = "alternative")]
    component: Option<String>,
    /// The alternative
    alternative: Option<String>,
    /// All that no host used at its last boot
    #[arg(long, conflicts_with = "component")]
    unused: bool,
}

impl Arguments {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<Exit, Failure> {
        match self.verb {
            Verb::New(new) => new.run(terminal),
            Verb::Predict(predict) => predict.run(self.server, terminal),
            Verb::Retire(retire) => retire.run(self.server, terminal),
            Verb::Document(verb) => verb.run(DocumentKind::Baseline, self.server, terminal),
        }
    }
}

impl Predict {
    fn run(self, server: ServerOption, terminal: &Terminal) -> Result<Exit, Failure> {
        let period = Seconds::new(self.expires.as_secs());
        let expires = clock::now().checked_add(period).unwrap_or(Time::MAX);
        if let Some(file) = &self.file {
            let octets = read_input(file, MAX_BASELINE_OCTETS)?.complete(file, "a baseline")?;
            let mut baseline = parsed(&octets)?;
            let staged =
                AllStaged::new(self.predictions.stage_in(&mut baseline, expires)?, expires);
            let document = baseline.to_json();
            terminal.document(document.as_bytes(), Readers::Everybody, &staged)?;
            return Ok(Exit::Done);
        }
        let Some(name) = &self.name else {
            return Err(Failure::usage("name a baseline"));
        };
        let client = server.client()?;
        let detail = document::find(&client, name, DocumentKind::Baseline)?;
        let mut baseline = parsed(detail.text.as_bytes())?;
        let staged = AllStaged::new(self.predictions.stage_in(&mut baseline, expires)?, expires);
        if !staged.staged.is_empty() {
            document::change(&client, name, &detail, baseline.to_json())?;
        }
        terminal.report(&staged)?;
        Ok(Exit::Done)
    }
}

impl Retire {
    fn run(self, server: ServerOption, terminal: &Terminal) -> Result<Exit, Failure> {
        let client = server.client()?;
        let detail = document::find(&client, &self.name, DocumentKind::Baseline)?;
        let mut baseline = parsed(detail.text.as_bytes())?;
        let seen = Seen::ask(&client)?;
        let retired = match (self.component, self.alternative) {
            (Some(component), Some(alternative)) => vec![(component, alternative)],
            _ => {
                seen.check_known()?;
                baseline.unused(self.name.as_str(), &seen.used)
            }
        };
        for (component, alternative) in &retired {
            if !baseline.retire(component, alternative, clock::now()) {
                let name = &self.name;
                return Err(Failure::refused(format!(
                    "the component `{component}` of {name} has no alternative `{alternative}` that is accepted"
                )));
            }
        }
        let retired = AllRetired(retired.into_iter().map(Retired::from).collect());
        if !retired.0.is_empty() {
            terminal.note(&retired);
            terminal.confirm(format!(
                "Retire this? Hosts that boot it are refused from then on.{}",
                seen.unknown()
            ))?;
            document::change(&client, &self.name, &detail, baseline.to_json())?;
        }
        terminal.report(&retired)?;
        Ok(Exit::Done)
    }
}

/// What hosts used at their last boots.
pub(super) struct Seen {
    pub(super) used: Vec<UsedAlternative>,
    hosts: usize,
    /// Hosts of which that is not known.
    unseen: usize,
}

impl Seen {
    pub(super) fn ask(client: &Client) -> Result<Self, Failure> {
        let judged = all_judgements(client, &Trial::default()).or_fail()?;
        let used = judged.iter().flat_map(|judged| &judged.used);
        Ok(Self {
            hosts: judged.len(),
            unseen: judged.iter().filter(|one| one.problem.is_some()).count(),
            used: used
                .map(|used| UsedAlternative {
                    document: used.document.clone(),
                    component: used.component.clone(),
                    alternative: used.alternative.clone(),
                    staged: used.staged,
                    of_host: used.of_host,
                })
                .collect(),
        })
    }

    /// Refuses to call anything unused where it is not known of any host what it boots, as after an import.
    pub(super) fn check_known(&self) -> Result<(), Failure> {
        match self.unseen {
            unseen if unseen == self.hosts && unseen > 0 => Err(Failure::refused(format!(
                "what is unused is not known: none of {unseen} hosts has attested since this state was made or imported"
            ))
            .remedy("wait until they have, or name what is to be retired")),
            _ => Ok(()),
        }
    }

    /// What an administrator is told before something is retired.
    pub(super) fn unknown(&self) -> String {
        match self.unseen {
            0 => String::new(),
            hosts => format!(" What {hosts} of the hosts boot is not known."),
        }
    }
}

fn parsed(octets: &[u8]) -> Result<Baseline, Failure> {
    Baseline::from_json(octets).map_err(Failure::refused)
}

fn period(text: &str) -> Result<Duration, String> {
    let period = super::period(text)?;
    match period.is_zero() {
        true => Err("nothing would be accepted".to_owned()),
        false => Ok(period),
    }
}

#[derive(Serialize)]
struct AllStaged {
    staged: Vec<Staged>,
    expires: String,
}

impl AllStaged {
    fn new(staged: Vec<Staged>, expires: Time) -> Self {
        Self {
            staged,
            expires: expires.to_string(),
        }
    }
}

impl fmt::Display for AllStaged {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.staged.is_empty() {
            return writeln!(formatter, "All of it was approved already.");
        }
        writeln!(
            formatter,
            "Accepted until {} unless a host boots it:",
            self.expires
        )?;
        self.staged.iter().try_for_each(|one| one.fmt(formatter))
    }
}

#[derive(Serialize)]
struct Retired {
    component: String,
    alternative: String,
}

impl From<(String, String)> for Retired {
    fn from((component, alternative): (String, String)) -> Self {
        Self {
            component,
            alternative,
        }
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct AllRetired(Vec<Retired>);

impl fmt::Display for AllRetired {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return writeln!(formatter, "Nothing is left to retire.");
        }
        for Retired {
            component,
            alternative,
        } in &self.0
        {
            writeln!(formatter, "{component}: `{alternative}`")?;
        }
        Ok(())
    }
}
