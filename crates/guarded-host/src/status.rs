//! `guarded-host status`: what Get-HgsClientConfiguration shows, in its words.

use std::fmt;

use hgs_client::status::{NamedNumber, Status};
use hgs_terminal::{Exit, Failure, Table, Terminal};
use serde::Serialize;

use crate::failure::failure;
use crate::host_options::HostOptions;

pub(crate) fn run(options: &HostOptions, terminal: &Terminal) -> Result<Exit, Failure> {
    let status = options.open(terminal)?.status().map_err(failure)?;
    terminal.report(&Report(status))?;
    Ok(Exit::Done)
}

#[derive(Serialize)]
struct Report(Status);

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(status) = self;
        pairs(status).fmt(formatter)?;
        if let Some(attempt) = &status.last_attempt {
            writeln!(
                formatter,
                "\nLast attempt {} at {}",
                attempt.time, attempt.url
            )?;
            if let Some(id) = &attempt.request_id {
                writeln!(formatter, "  request {id}")?;
            }
            for line in [&attempt.message, &attempt.remedy].into_iter().flatten() {
                writeln!(formatter, "  {line}")?;
            }
        }
        for warning in &status.warnings {
            writeln!(formatter, "\nwarning: {}", warning.message)?;
            writeln!(formatter, "  remedy: {}", warning.remedy)?;
        }
        if !status.health_certificates.is_empty() {
            writeln!(formatter)?;
            certificates(status).fmt(formatter)?;
        }
        Ok(())
    }
}

fn pairs(status: &Status) -> Table {
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let all = |urls: &[String]| match urls {
        [] => "-".to_owned(),
        urls => urls.join(", "),
    };
    Table::of_pairs([
        ("IsHostGuarded", status.is_host_guarded.to_string()),
        ("Mode", status.mode.to_owned()),
        ("KeyProtectionServerUrl", all(&status.key_protection_urls)),
        ("AttestationServerUrl", all(&status.attestation_urls)),
        (
            "AttestationOperationMode",
            or_none(&status.attestation_operation_mode),
        ),
        ("AttestationStatus", numbered(&status.attestation_status)),
        ("AttestationSubstatus", substatus(status)),
        (
            "FallbackKeyProtectionServerUrl",
            all(&status.fallback_key_protection_urls),
        ),
        (
            "FallbackAttestationServerUrl",
            all(&status.fallback_attestation_urls),
        ),
        ("IsFallbackInUse", status.is_fallback_in_use.to_string()),
    ])
}

fn certificates(status: &Status) -> Table {
    let headings = ["HEALTH CERTIFICATE", "EXPIRES", "RENEWED FROM", "ISSUED BY"];
    let mut table = Table::new(headings);
    for certificate in &status.health_certificates {
        table.row([
            certificate.kind.clone(),
            certificate.expires.clone(),
            certificate.renewed_from.clone(),
            certificate.attestation_url.clone(),
        ]);
    }
    table
}

pub(crate) fn numbered(value: &NamedNumber) -> String {
    match value.number {
        Some(number) => format!("{} ({number})", value.name),
        None => value.name.to_owned(),
    }
}

fn substatus(status: &Status) -> String {
    if status.attestation_substatus.is_empty() {
        return "NoInformation (0)".to_owned();
    }
    let names: Vec<_> = status.attestation_substatus.iter().map(numbered).collect();
    names.join(", ")
}
