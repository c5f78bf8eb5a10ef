//! `guarded-host status`: the words of Get-HgsClientConfiguration.

use hgs_client::status::{Numbered, Status};

use crate::Context;
use crate::failure::Failure;
use crate::output::{pairs, table};

pub(crate) fn run(context: &Context) -> Result<(), Failure> {
    let status = context.host()?.status()?;
    context.output.result(&status, || text(&status))
}

fn text(status: &Status) -> String {
    let mut text = pairs([
        ("IsHostGuarded", Some(status.is_host_guarded.to_string())),
        ("Mode", Some(status.mode.to_owned())),
        ("KeyProtectionServerUrl", status.key_protection_url.clone()),
        ("AttestationServerUrl", status.attestation_url.clone()),
        (
            "AttestationOperationMode",
            status.attestation_operation_mode.clone(),
        ),
        (
            "AttestationStatus",
            Some(numbered(&status.attestation_status)),
        ),
        ("AttestationSubstatus", Some(substatus(status))),
        (
            "FallbackKeyProtectionServerUrl",
            status.fallback_key_protection_url.clone(),
        ),
        (
            "FallbackAttestationServerUrl",
            status.fallback_attestation_url.clone(),
        ),
        (
            "IsFallbackInUse",
            Some(status.is_fallback_in_use.to_string()),
        ),
    ]);
    if let Some(attempt) = &status.last_attempt {
        text.push_str(&format!(
            "\nLast attempt {} at {}\n",
            attempt.time, attempt.url
        ));
        for line in [&attempt.message, &attempt.remedy].into_iter().flatten() {
            text.push_str(&format!("  {line}\n"));
        }
    }
    if !status.health_certificates.is_empty() {
        let rows = status.health_certificates.iter().map(|certificate| {
            [
                certificate.kind.clone(),
                certificate.expires.clone(),
                certificate.renewed_from.clone(),
                certificate.attestation_url.clone(),
            ]
        });
        text.push('\n');
        text.push_str(&table(
            ["HEALTH CERTIFICATE", "EXPIRES", "RENEWED FROM", "ISSUED BY"],
            rows,
        ));
    }
    text
}

fn numbered(value: &Numbered) -> String {
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
