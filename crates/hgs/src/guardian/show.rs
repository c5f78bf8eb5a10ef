//! `hgs guardian list` and `hgs guardian show`.

use std::fmt;

use hgs_pki::Certificate;
use hgs_terminal::{Exit, Failure, Table, Terminal};
use serde::Serialize;

use super::home::{Home, LocalGuardian, TrustedBy};
use super::name::GuardianName;
use crate::completion;

/// List the guardians that are kept here
#[derive(Debug, clap::Args)]
pub(crate) struct List {}

/// Show one guardian
#[derive(Debug, clap::Args)]
pub(crate) struct Show {
    /// The guardian
    #[arg(add = completion::guardians())]
    name: GuardianName,
}

impl List {
    pub(super) fn run(self, home: &Home, terminal: &Terminal) -> Result<Exit, Failure> {
        let guardians = home.list()?;
        terminal.report(&Guardians(
            guardians.iter().map(GuardianView::new).collect(),
        ))?;
        Ok(Exit::Done)
    }
}

impl Show {
    pub(super) fn run(self, home: &Home, terminal: &Terminal) -> Result<Exit, Failure> {
        terminal.report(&GuardianView::new(&home.guardian(&self.name)?))?;
        Ok(Exit::Done)
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Guardians(Vec<GuardianView>);

#[derive(Serialize)]
struct GuardianView {
    name: String,
    has_private_keys: bool,
    trusted_by: TrustedBy,
    since: String,
    signing: CertificateView,
    encryption: CertificateView,
    transport_key_encryption: &'static str,
}

/// What people and programs want to know of a certificate.
#[derive(Serialize)]
pub(crate) struct CertificateView {
    pub(crate) subject: String,
    /// SHA-256 of the DER, in hexadecimal digits.
    pub(crate) thumbprint: String,
    pub(crate) key_bits: usize,
    pub(crate) not_before: String,
    pub(crate) not_after: String,
}

impl GuardianView {
    fn new(guardian: &LocalGuardian) -> Self {
        let certificates = guardian.certificates();
        Self {
            name: guardian.name.to_string(),
            has_private_keys: guardian.has_private_halves,
            trusted_by: guardian.trust.trusted_by,
            since: guardian.trust.since.clone(),
            signing: CertificateView::new(certificates.signing_certificate()),
            encryption: CertificateView::new(certificates.encryption_certificate()),
            transport_key_encryption: certificates.key_encryption().identifier(),
        }
    }
}

impl CertificateView {
    pub(crate) fn new(certificate: &Certificate) -> Self {
        let validity = certificate.validity();
        Self {
            subject: certificate.subject().to_owned(),
            thumbprint: certificate.thumbprint().to_string(),
            key_bits: certificate.public_key().modulus_bits(),
            not_before: validity.not_before.to_string(),
            not_after: validity.not_after.to_string(),
        }
    }
}

impl fmt::Display for TrustedBy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Ourselves => "own keys",
            Self::Thumbprint => "its thumbprint",
            Self::Root => "a configured root",
            Self::Nobody => "NOBODY'S WORD",
        })
    }
}

fn yes_or_no(is: bool) -> String {
    if is { "yes" } else { "no" }.to_owned()
}

impl fmt::Display for Guardians {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new([
            "NAME",
            "PRIVATE KEYS",
            "TRUSTED BY",
            "EXPIRES",
            "THUMBPRINT",
        ]);
        for guardian in &self.0 {
            table.row([
                guardian.name.clone(),
                yes_or_no(guardian.has_private_keys),
                guardian.trusted_by.to_string(),
                guardian
                    .encryption
                    .not_after
                    .clone()
                    .min(guardian.signing.not_after.clone()),
                guardian.signing.thumbprint.clone(),
            ]);
        }
        table.fmt(formatter)
    }
}

impl fmt::Display for GuardianView {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        Table::of_pairs([
            ("name", self.name.clone()),
            ("private keys", yes_or_no(self.has_private_keys)),
            (
                "trusted by",
                format!("{}, since {}", self.trusted_by, self.since),
            ),
            ("wrapped with", self.transport_key_encryption.to_owned()),
        ])
        .fmt(formatter)?;
        for (title, certificate) in [("Signing", &self.signing), ("Encryption", &self.encryption)] {
            writeln!(formatter, "\n{title} certificate\n{certificate}")?;
        }
        Ok(())
    }
}

impl fmt::Display for CertificateView {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = Table::of_pairs([
            ("  subject", self.subject.clone()),
            ("  thumbprint", self.thumbprint.clone()),
            ("  key", format!("RSA, {} bits", self.key_bits)),
            (
                "  valid",
                format!("{} to {}", self.not_before, self.not_after),
            ),
        ]);
        formatter.write_str(table.to_string().trim_end())
    }
}
