//! `guarded-host attest`: Test-HgsClientConfiguration.

use std::fmt;

use clap::ValueEnum;
use hgs_client::service::Side;
use hgs_client::status::Status;
use hgs_client::{Attestation, Rehearsal, RequestId};
use hgs_crypto::hex;
use hgs_pki::health::HealthKind;
use hgs_terminal::{Exit, Failure, Table, Terminal};
use serde::Serialize;

use crate::host_options::{HostOptions, SideOption, wait_for};
use crate::status;

/// Ask for a new health certificate now
///
/// Certificates that the host holds are not used for this; a start of a VM uses them, and renews them when two thirds
/// of their validity are over.
///
/// One service is given 10 seconds to resolve its name, 10 to accept a connection and 35 to answer each request; after that
/// the fallback is asked, if there is one.
///
/// The guardian says how it attests: by the host key, or by the TPM of this host. Then it asks the TPM what was booted, and
/// has it make an identity key that works as long as that is booted.
///
/// A dry run asks for no certificate, because the guardian would record the identity key that is in the request. It
/// says what would be sent where, and whether the service answers and how it attests.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  guarded-host attest
  guarded-host attest --dry-run --json
  guarded-host attest --use-fallback")]
pub(crate) struct Arguments {
    /// Say what would be sent where, and ask for nothing
    #[arg(long)]
    dry_run: bool,
    /// Make a new identity key, where the guardian says that two machines use this host's key and the other one has it no more
    #[arg(long, conflicts_with = "dry_run")]
    new_identity_key: bool,
    /// What the certificate is for; both unless given
    #[arg(long, value_enum, value_name = "KIND")]
    kind: Vec<Kind>,
    #[command(flatten)]
    side: SideOption,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// What is released is encrypted to it
    Encryption,
    /// It signs, for instance reports of enclaves
    Signing,
}

impl Arguments {
    pub(crate) fn run(self, options: &HostOptions, terminal: &Terminal) -> Result<Exit, Failure> {
        let host = options.open(terminal)?;
        let (kinds, sides) = (self.kinds(), self.side.sides());
        if self.dry_run {
            let rehearsal = wait_for(host.rehearse_attestation(&kinds, sides))?;
            let ready = rehearsal.is_ready();
            terminal.report(&Rehearsed(rehearsal))?;
            return Ok(if ready { Exit::Done } else { Exit::Failed });
        }
        let issued = wait_for(async {
            let mut issued = Vec::new();
            for kind in kinds {
                let attestation = match self.new_identity_key {
                    true => host.attest_with_new_identity_key(kind, sides).await?,
                    false => host.attest(kind, sides).await?,
                };
                issued.push(Issued::from(attestation));
            }
            Ok(issued)
        });
        let issued = match issued {
            Ok(issued) => issued,
            Err(failure) => {
                // In the words that administrators of the incumbent know.
                if let Ok(status) = host.status() {
                    terminal.note(format_args!("AttestationStatus: {}", shown(&status)));
                }
                return Err(failure);
            }
        };
        terminal.report(&Attested(issued))?;
        Ok(Exit::Done)
    }

    fn kinds(&self) -> Vec<HealthKind> {
        [
            (Kind::Encryption, HealthKind::Encryption),
            (Kind::Signing, HealthKind::Signing),
        ]
        .into_iter()
        .filter(|(kind, _)| self.kind.is_empty() || self.kind.contains(kind))
        .map(|(_, kind)| kind)
        .collect()
    }
}

/// Status and substatus, as `guarded-host status` has them.
fn shown(status: &Status) -> String {
    let substatus = &status.attestation_substatus;
    let names: Vec<_> = substatus.iter().map(|one| one.name).collect();
    let status = status::numbered(&status.attestation_status);
    match names[..] {
        [] => status,
        _ => format!("{status}, AttestationSubstatus: {}", names.join(", ")),
    }
}

#[derive(Serialize)]
struct Attested(Vec<Issued>);

/// A health certificate that was issued.
#[derive(Serialize)]
struct Issued {
    kind: String,
    side: Side,
    attestation_url: String,
    serial_number: String,
    expires: String,
    /// The id that the guardian gave the request.
    request_id: Option<RequestId>,
}

impl From<Attestation> for Issued {
    fn from(attestation: Attestation) -> Self {
        let certificate = &attestation.certificate;
        Self {
            kind: attestation.kind.to_string(),
            side: attestation.side,
            attestation_url: attestation.attestation.to_string(),
            serial_number: hex::encode(certificate.serial_number()),
            expires: certificate.validity().not_after.to_string(),
            request_id: attestation.request_id,
        }
    }
}

impl fmt::Display for Attested {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(["HEALTH CERTIFICATE", "EXPIRES", "SERVICE", "ISSUED BY"]);
        for issued in &self.0 {
            table.row([
                issued.kind.clone(),
                issued.expires.clone(),
                issued.side.to_string(),
                issued.attestation_url.clone(),
            ]);
        }
        table.fmt(formatter)
    }
}

#[derive(Serialize)]
struct Rehearsed(Rehearsal);

impl fmt::Display for Rehearsed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(rehearsal) = self;
        if let Some(key) = &rehearsal.host_key {
            writeln!(formatter, "With the host key {key}")?;
        }
        if let Some(key) = &rehearsal.endorsement_key {
            writeln!(formatter, "With the TPM whose endorsement key is {key}")?;
        }
        for request in &rehearsal.requests {
            write!(
                formatter,
                "would ask for a certificate for {}, ",
                request.kind
            )?;
            match (&request.identity_key, request.octets) {
                (Some(key), Some(octets)) => {
                    writeln!(formatter, "with identity key {key}, {octets} octets,")?;
                }
                (Some(key), None) => writeln!(formatter, "with identity key {key},")?,
                (None, _) => writeln!(formatter, "with a new identity key,")?,
            }
        }
        for service in &rehearsal.services {
            let mode = service.operation_mode.as_deref().unwrap_or("no answer");
            writeln!(
                formatter,
                "at the {}, {}: {mode}",
                service.side, service.url
            )?;
            if let Some(message) = &service.message {
                writeln!(formatter, "  {message}")?;
            }
            if let Some(remedy) = service.remedy {
                writeln!(formatter, "  {remedy}")?;
            }
        }
        writeln!(
            formatter,
            "Nothing was asked for. Only attesting tells whether the guardian knows this host."
        )
    }
}
