//! `hgs certificate`: the guardian's own certificates.

use std::fmt;

use clap::Subcommand;
use hgs_server::admin::Administration as _;
use hgs_server::admin::types::{Certificate, CertificateDetail};
use hgs_terminal::{Exit, Failure, Table, Terminal};
use serde::Serialize;

use super::{ServerOption, or_dash, yes_or_no};
use crate::failures::OrFail as _;

/// The verbs of `hgs certificate`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    server: ServerOption,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the certificates
    List,
    /// Show one certificate in full
    Show {
        /// Its SHA-256 thumbprint
        thumbprint: String,
    },
}

impl Arguments {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<Exit, Failure> {
        let client = self.server.client()?;
        match self.verb {
            Verb::List => terminal.report(&List(client.certificates().or_fail()?))?,
            Verb::Show { thumbprint } => {
                terminal.report(&Detail(client.certificate(&thumbprint).or_fail()?))?;
            }
        }
        Ok(Exit::Done)
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct List(Vec<Certificate>);

#[derive(Serialize)]
#[serde(transparent)]
struct Detail(CertificateDetail);

/// What a certificate is, in a few words.
fn standing(certificate: &Certificate) -> String {
    let words = [
        (certificate.primary, "primary"),
        (certificate.head && !certificate.primary, "head"),
        (!certificate.enabled, "disabled"),
        (certificate.compromised.is_some(), "COMPROMISED"),
        (!certificate.usable, "KEY AWAY"),
    ];
    let words: Vec<_> = words
        .iter()
        .filter_map(|(is, word)| is.then_some(*word))
        .collect();
    words.join(", ")
}

impl fmt::Display for List {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headings = [
            "KIND",
            "STANDING",
            "LINEAGE",
            "EXPIRES",
            "KEY",
            "THUMBPRINT",
        ];
        let mut table = Table::new(headings);
        for certificate in &self.0 {
            table.row([
                certificate.kind.clone(),
                standing(certificate),
                certificate.lineage.clone(),
                certificate.not_after.clone(),
                certificate.key.clone(),
                certificate.thumbprint.clone(),
            ]);
        }
        table.fmt(formatter)
    }
}

impl fmt::Display for Detail {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(CertificateDetail {
            certificate,
            issuer,
            serial_number,
            sha1_thumbprint,
            pem,
        }) = self;
        Table::of_pairs([
            ("kind", certificate.kind.clone()),
            ("label", or_dash(certificate.label.as_ref())),
            ("subject", certificate.subject.clone()),
            ("issuer", issuer.clone()),
            ("serial number", serial_number.clone()),
            ("SHA-256 thumbprint", certificate.thumbprint.clone()),
            ("SHA-1 thumbprint", sha1_thumbprint.clone()),
            ("lineage", certificate.lineage.clone()),
            ("enabled", yes_or_no(certificate.enabled)),
            ("primary", yes_or_no(certificate.primary)),
            ("head of its lineage", yes_or_no(certificate.head)),
            (
                "compromised since",
                or_dash(certificate.compromised.as_ref()),
            ),
            (
                "key",
                format!("{}, RSA, {} bits", certificate.key, certificate.key_bits),
            ),
            ("usable here", yes_or_no(certificate.usable)),
            (
                "valid",
                format!("{} to {}", certificate.not_before, certificate.not_after),
            ),
            ("added", certificate.added.clone()),
        ])
        .fmt(formatter)?;
        write!(formatter, "\n{pem}")
    }
}
