//! `guarded-host attest`.

use hgs_client::service::{Side, Sides};
use hgs_client::{Attestation, Rehearsal};
use hgs_crypto::hex;
use hgs_pki::health::HealthKind;
use serde::Serialize;

use crate::args::{Attest, Kind};
use crate::failure::Failure;
use crate::output::{pairs, table};
use crate::{Context, wait_for};

/// A health certificate that was issued.
#[derive(Debug, Serialize)]
struct Document {
    kind: String,
    side: Side,
    attestation_url: String,
    serial_number: String,
    expires: String,
}

impl From<Attestation> for Document {
    fn from(attestation: Attestation) -> Self {
        let certificate = &attestation.certificate;
        Self {
            kind: attestation.kind.to_string(),
            side: attestation.side,
            attestation_url: attestation.attestation.to_string(),
            serial_number: hex::encode(certificate.serial_number()),
            expires: certificate.validity().not_after.to_string(),
        }
    }
}

pub(crate) fn run(context: &Context, arguments: &Attest) -> Result<(), Failure> {
    let kinds = kinds(arguments);
    let sides = sides(arguments);
    if arguments.dry_run {
        rehearse(context, &kinds, sides)
    } else {
        attest(context, &kinds, sides)
    }
}

fn attest(context: &Context, kinds: &[HealthKind], sides: Sides) -> Result<(), Failure> {
    let host = context.host()?;
    let documents: Vec<Document> = wait_for(async {
        let mut documents = Vec::new();
        for kind in kinds {
            documents.push(host.attest(*kind, sides).await?.into());
        }
        Ok(documents)
    })?;
    context.output.result(&documents, || {
        let rows = documents.iter().map(|document| {
            [
                document.kind.clone(),
                document.expires.clone(),
                document.side.to_string(),
                document.attestation_url.clone(),
            ]
        });
        table(
            ["HEALTH CERTIFICATE", "EXPIRES", "SERVICE", "ISSUED BY"],
            rows,
        )
    })
}

fn rehearse(context: &Context, kinds: &[HealthKind], sides: Sides) -> Result<(), Failure> {
    let host = context.host()?;
    let rehearsal = wait_for(host.rehearse_attestation(kinds, sides))?;
    context.output.result(&rehearsal, || text(&rehearsal))?;
    if rehearsal.is_ready() {
        Ok(())
    } else {
        Err(Failure::NotReady)
    }
}

fn text(rehearsal: &Rehearsal) -> String {
    let mut text = pairs([("HostKey", Some(rehearsal.host_key.clone()))]);
    for request in &rehearsal.requests {
        let what = match (&request.identity_key, request.octets) {
            (Some(key), Some(octets)) => format!("{octets} octets, identity key {key}"),
            _ => "with a new identity key".to_owned(),
        };
        text.push_str(&format!("\nWould ask for {}: {what}", request.kind));
    }
    text.push('\n');
    for service in &rehearsal.services {
        let mode = service.operation_mode.as_deref().unwrap_or("no answer");
        text.push_str(&format!("\n{} {}: {mode}\n", service.side, service.url));
        let help = service.remedy.map(str::to_owned);
        for line in [&service.message, &help].into_iter().flatten() {
            text.push_str(&format!("  {line}\n"));
        }
    }
    text.push_str(
        "\nNothing was asked for. Only attesting tells whether the guardian knows this host.\n",
    );
    text
}

fn kinds(arguments: &Attest) -> Vec<HealthKind> {
    let all = [
        (Kind::Encryption, HealthKind::Encryption),
        (Kind::Signing, HealthKind::Signing),
    ];
    all.into_iter()
        .filter(|(kind, _)| arguments.kind.is_empty() || arguments.kind.contains(kind))
        .map(|(_, kind)| kind)
        .collect()
}

fn sides(arguments: &Attest) -> Sides {
    if arguments.use_primary {
        Sides::Only(Side::Primary)
    } else if arguments.use_fallback {
        Sides::Only(Side::Fallback)
    } else {
        Sides::Both
    }
}
