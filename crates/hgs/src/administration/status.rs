//! `hgs status`: what Get-HgsServer shows.

use std::fmt;

use hgs_admin::Administration as _;
use hgs_admin::types::{self, Certificate};
use hgs_terminal::{Exit, Failure, Table, Terminal};
use serde::Serialize;

use super::ServerOption;
use crate::failures::OrFail as _;

/// Show how the guardian is: addresses, certificates, hosts, and what needs attention
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    server: ServerOption,
}

impl Arguments {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<Exit, Failure> {
        let status = self.server.client()?.status().or_fail()?;
        terminal.report(&Status(status))?;
        Ok(Exit::Done)
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Status(types::Status);

impl fmt::Display for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(status) = self;
        let signer = status.attestation_signer.as_ref();
        Table::of_pairs([
            ("Name", status.name.clone()),
            ("Version", status.version.clone()),
            ("Time", status.time.clone()),
            (
                "AttestationOperationMode",
                status.attestation_mode.to_string(),
            ),
            ("AttestationUrl", status.attestation_urls.join(", ")),
            ("KeyProtectionUrl", status.key_protection_urls.join(", ")),
            (
                "Hosts",
                format!(
                    "{} registered, {} revoked",
                    status.registered_hosts, status.revoked_hosts
                ),
            ),
            (
                "PrimarySigningCertificate",
                certificate(status.primary_signing.as_ref()),
            ),
            (
                "PrimaryEncryptionCertificate",
                certificate(status.primary_encryption.as_ref()),
            ),
            (
                "AttestationSigner",
                signer.map_or_else(none, |signer| until(&signer.thumbprint, &signer.not_after)),
            ),
        ])
        .fmt(formatter)?;
        for warning in &status.warnings {
            writeln!(
                formatter,
                "\nwarning: {}\n  remedy: {}",
                warning.message, warning.remedy
            )?;
        }
        Ok(())
    }
}

fn certificate(certificate: Option<&Certificate>) -> String {
    certificate.map_or_else(none, |certificate| {
        until(&certificate.thumbprint, &certificate.not_after)
    })
}

fn until(thumbprint: &str, not_after: &str) -> String {
    format!("{thumbprint}, until {not_after}")
}

fn none() -> String {
    "none".to_owned()
}
