//! `guarded-host identity`: Get-PlatformIdentifier.

use std::fmt;

use clap::Subcommand;
use hgs_client::tpm::OtherTpm;
use hgs_crypto::hash::sha256;
use hgs_crypto::hex;
use hgs_files::Readers;
use hgs_terminal::{Exit, Failure, Table, Terminal};
use serde::Serialize;

use crate::failure::failure;
use crate::host_options::HostOptions;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Write who this host is by its TPM, for `hgs host add NAME --identity FILE`
    ///
    /// The file has the public part of the endorsement key, the certificate that the TPM's maker has put into the TPM, and
    /// what SMBIOS says about the machine. Nothing in it is secret. The host remembers the TPM: from then on it attests with
    /// this one only.
    #[command(after_help = "Examples:
  guarded-host identity export --out host1.json
  hgs host add host1 --identity host1.json           (on the guardian)")]
    Export {
        /// Accept another TPM than the one this host has attested with
        #[arg(long)]
        other_tpm: bool,
    },
}

impl Verb {
    pub(crate) fn run(self, options: &HostOptions, terminal: &Terminal) -> Result<Exit, Failure> {
        let Self::Export { other_tpm } = self;
        let other = match other_tpm {
            true => OtherTpm::Accept,
            false => OtherTpm::Refuse,
        };
        let host = options.open(terminal)?;
        let identity = host.platform_identity(other).map_err(failure)?;
        let certificate = identity.endorsement_certificate();
        let report = Report {
            endorsement_key: hex::encode(&sha256(identity.endorsement_public())),
            endorsement_certificate: certificate.map(|certificate| Certificate {
                sha256: certificate.thumbprint().to_string(),
                issuer: certificate.issuer().to_owned(),
                manufacturer: certificate.tpm().manufacturer_code(),
            }),
            system_uuid: identity.smbios().system_uuid().map(str::to_owned),
        };
        terminal.document(&identity.to_json(), Readers::Everybody, &report)?;
        if report.endorsement_certificate.is_none() {
            terminal.note(
                "The TPM has no certificate of its maker: the guardian's administrator has to take this file from you in person, \
                 and add the host with --without-ek-certificate.",
            );
        }
        Ok(Exit::Done)
    }
}

#[derive(Serialize)]
struct Report {
    /// SHA-256 of the TPMT_PUBLIC: what the guardian's list of hosts shows.
    endorsement_key: String,
    endorsement_certificate: Option<Certificate>,
    system_uuid: Option<String>,
}

#[derive(Serialize)]
struct Certificate {
    sha256: String,
    issuer: String,
    manufacturer: Option<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let certificate = self.endorsement_certificate.as_ref();
        let issued = certificate.map_or_else(
            || "none".to_owned(),
            |certificate| format!("{} by {}", certificate.sha256, certificate.issuer),
        );
        let mut pairs = vec![
            ("endorsement key", self.endorsement_key.clone()),
            ("EK certificate", issued),
        ];
        pairs.extend(self.system_uuid.clone().map(|uuid| ("system UUID", uuid)));
        Table::of_pairs(pairs).fmt(formatter)
    }
}
