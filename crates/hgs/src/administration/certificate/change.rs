//! `hgs certificate set`, `enable`, `disable`, `retire`, `remove`.

use clap::ArgGroup;
use hgs_admin::types::{RemoveCertificate, SetCertificate};
use hgs_admin::{Administration as _, Client};
use hgs_pki::Thumbprint;
use hgs_terminal::{Failure, Terminal};

use super::super::named;
use super::view::Changed;
use crate::completion;
use crate::failures::OrFail as _;

/// Make a certificate primary, call it otherwise, or mark its key as known to others
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  hgs certificate set THUMBPRINT --primary
  hgs certificate set THUMBPRINT --compromised 2026-11-01T00:00:00Z")]
#[command(group = ArgGroup::new("change")
    .required(true)
    .multiple(true)
    .args(["primary", "head", "label", "compromised"]))]
pub(super) struct Set {
    /// Its SHA-256 thumbprint
    #[arg(add = completion::certificates())]
    thumbprint: String,
    /// The one of its kind that the metadata names, and that rolls append; the former one stays enabled
    #[arg(long)]
    primary: bool,
    /// The head of its lineage: what `--primary` is to the fabric, for a tenant
    #[arg(long, conflicts_with = "primary")]
    head: bool,
    /// A label for people; empty removes it
    #[arg(long)]
    label: Option<String>,
    /// Its key is known to others since this time, or since now: every roll removes it from protectors; this can't be undone
    #[arg(long, value_name = "SINCE", num_args = 0..=1, default_missing_value = "now")]
    compromised: Option<String>,
}

impl Set {
    pub(super) fn run(self, client: &Client, terminal: &Terminal) -> Result<(), Failure> {
        let Self {
            thumbprint,
            primary,
            head,
            label,
            compromised,
        } = self;
        let thumbprint: Thumbprint = named(&thumbprint)?;
        if let Some(since) = &compromised {
            terminal.confirm(format!(
                "Mark {thumbprint} as compromised since {since}? It can't be taken back."
            ))?;
        }
        let change = SetCertificate {
            primary,
            head,
            label,
            compromised_since: compromised,
        };
        let certificate = client.set_certificate(&thumbprint, &change).or_fail()?;
        let what = match () {
            () if change.compromised_since.is_some() => {
                "is compromised; the next rolls shut it out"
            }
            () if primary => "is primary",
            () if head => "is the head of its lineage",
            () => "is called otherwise",
        };
        terminal.report(&Changed { what, certificate })
    }
}

pub(super) fn enable(
    client: &Client,
    thumbprint: &Thumbprint,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let certificate = client.enable_certificate(thumbprint).or_fail()?;
    let what = "is enabled";
    terminal.report(&Changed { what, certificate })
}

pub(super) fn disable(
    client: &Client,
    thumbprint: &Thumbprint,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let one = client.certificate(thumbprint).or_fail()?.certificate;
    let usage = client.certificate_usage().or_fail()?;
    let usage = usage
        .iter()
        .find(|usage| usage.thumbprint == one.thumbprint);
    let needing = usage.map_or(0, |usage| usage.protectors);
    terminal.confirm(format!(
        "Disable {thumbprint}? It was the last to open {needing} protectors."
    ))?;
    let certificate = client.disable_certificate(thumbprint).or_fail()?;
    let what = "is disabled";
    terminal.report(&Changed { what, certificate })
}

pub(super) fn retire(
    client: &Client,
    thumbprint: &Thumbprint,
    terminal: &Terminal,
) -> Result<(), Failure> {
    terminal.confirm(format!(
        "Retire {thumbprint}? It will never be primary again."
    ))?;
    let certificate = client.retire_certificate(thumbprint).or_fail()?;
    let what = "is retired; it opens and signs until it is disabled or removed";
    terminal.report(&Changed { what, certificate })
}

/// Forget a certificate, and its private key unless that lives in a token
#[derive(Debug, clap::Args)]
pub(super) struct Remove {
    /// Its SHA-256 thumbprint
    #[arg(add = completion::certificates())]
    thumbprint: String,
    /// Also if protectors were last opened with it, or if it is compromised
    #[arg(long)]
    even_if_needed: bool,
}

impl Remove {
    pub(super) fn run(self, client: &Client, terminal: &Terminal) -> Result<(), Failure> {
        let Self {
            thumbprint,
            even_if_needed,
        } = self;
        let thumbprint: Thumbprint = named(&thumbprint)?;
        terminal.confirm(format!(
            "Forget {thumbprint} and its key? What only it opens is lost, unless there is a backup."
        ))?;
        let certificate = client
            .remove_certificate(&thumbprint, &RemoveCertificate { even_if_needed })
            .or_fail()?;
        let what = "is removed";
        terminal.report(&Changed { what, certificate })
    }
}
