//! `hgs certificate export`: what others may know. Private keys never leave through the admin API.

use std::fmt;

use hgs_admin::{Administration as _, Client};
use hgs_files::Readers;
use hgs_terminal::{Failure, Terminal};
use serde::Serialize;

use super::super::named;
use crate::completion;
use crate::failures::OrFail as _;

/// Print a certificate in PEM, or the guardian that it belongs to as a document for owners
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  hgs certificate export THUMBPRINT --out signing.pem
  hgs certificate export THUMBPRINT --guardian --out contoso.xml")]
pub(super) struct Export {
    /// Its SHA-256 thumbprint
    #[arg(add = completion::certificates())]
    thumbprint: String,
    /// The head of the certificate's lineage as a guardian, for `hgs guardian import`
    #[arg(long)]
    guardian: bool,
}

impl Export {
    pub(super) fn run(self, client: &Client, terminal: &Terminal) -> Result<(), Failure> {
        let thumbprint = named(&self.thumbprint)?;
        if self.guardian {
            let guardian = client.guardian_document(&thumbprint).or_fail()?;
            let exported = Exported {
                what: "guardian",
                lineage: guardian.lineage,
                thumbprint: guardian.signing,
            };
            return terminal.document(guardian.document.as_bytes(), Readers::Everybody, &exported);
        }
        let detail = client.certificate(&thumbprint).or_fail()?;
        let exported = Exported {
            what: "certificate",
            lineage: detail.certificate.lineage,
            thumbprint: detail.certificate.thumbprint,
        };
        terminal.document(detail.pem.as_bytes(), Readers::Everybody, &exported)
    }
}

/// What went to a file.
#[derive(Serialize)]
struct Exported {
    #[serde(skip)]
    what: &'static str,
    lineage: String,
    thumbprint: String,
}

impl fmt::Display for Exported {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            what,
            lineage,
            thumbprint,
        } = self;
        writeln!(
            formatter,
            "The {what} of {lineage}, SHA-256 thumbprint {thumbprint}"
        )
    }
}
