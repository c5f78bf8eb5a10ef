//! `guarded-host token`: a health token for a program that speaks neither protocol.

use std::fmt;

use hgs_attest::health_token::Audience;
use hgs_client::service::Side;
use hgs_client::{HealthToken, RequestId};
use hgs_files::Readers;
use hgs_terminal::{Exit, Failure, Table, Terminal};
use serde::Serialize;

use crate::host_options::{HostOptions, SideOption, wait_for};

/// Ask for a signed token that tells another program what this host attested
///
/// The guardian issues it for one audience, which its configuration has to allow, and for some minutes. Who holds it is taken for this
/// host until it ends: with `--out`, the file is its owner's alone. The host attests for a certificate for signing first, if it
/// holds none, and signs the request with the identity key that the certificate is over.
///
/// What a token says, and how it is verified: docs/health-token.md.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  guarded-host token --audience kubernetes
  guarded-host token --audience openbao --out /run/openbao.jwt --yes
  guarded-host token --audience openbao --json")]
pub(crate) struct Arguments {
    /// For whom the token is, as the guardian's configuration and the audience itself call it
    #[arg(long, value_name = "NAME")]
    audience: Audience,
    #[command(flatten)]
    side: SideOption,
}

impl Arguments {
    pub(crate) fn run(self, options: &HostOptions, terminal: &Terminal) -> Result<Exit, Failure> {
        let host = options.open(terminal)?;
        let token = wait_for(host.health_token(&self.audience, self.side.sides()))?;
        if terminal.out().is_none() && terminal.json() {
            let mut issued = Issued::from(&token);
            issued.token = Some(token.token().to_owned());
            terminal.report(&issued)?;
        } else {
            let line = format!("{}\n", token.token());
            terminal.document(line.as_bytes(), Readers::Owner, &Issued::from(&token))?;
        }
        Ok(Exit::Done)
    }
}

/// A token that was issued. It is in the report only where it is not in a file.
#[derive(Serialize)]
struct Issued {
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    audience: String,
    issuer: String,
    expires: String,
    side: Side,
    attestation_url: String,
    /// The id that the guardian gave the request.
    request_id: Option<RequestId>,
}

impl From<&HealthToken> for Issued {
    fn from(token: &HealthToken) -> Self {
        Self {
            token: None,
            audience: token.audience.to_string(),
            issuer: token.issuer.to_string(),
            expires: token.expires().to_string(),
            side: token.side,
            attestation_url: token.attestation.to_string(),
            request_id: token.request_id.clone(),
        }
    }
}

impl fmt::Display for Issued {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs = [
            ("audience", self.audience.clone()),
            ("issuer", self.issuer.clone()),
            ("expires", self.expires.clone()),
            (
                "service",
                format!("{}, {}", self.side, self.attestation_url),
            ),
        ];
        Table::of_pairs(pairs).fmt(formatter)
    }
}
