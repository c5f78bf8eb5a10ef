//! `hgs host evidence`: what a host sent about its last boot.

use std::fmt;

use hgs_admin::types::HostEvidence;
use hgs_admin::{Administration as _, Client, HostSelector};
use hgs_files::Readers;
use hgs_terminal::{Failure, Table, Terminal};
use serde::Serialize;

use super::or_dash;
use crate::failures::OrFail as _;

/// Shows the evidence, or writes it to a file in JSON.
pub(super) fn show(
    client: &Client,
    host: &HostSelector,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let evidence = client.host_evidence(host).or_fail()?;
    if terminal.out().is_none() {
        return terminal.report(&Shown(evidence));
    }
    let mut json = serde_json::to_vec_pretty(&evidence).map_err(Failure::failed)?;
    json.push(b'\n');
    terminal.document(&json, Readers::Everybody, &Shown(evidence))
}

#[derive(Serialize)]
#[serde(transparent)]
struct Shown(HostEvidence);

impl fmt::Display for Shown {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(evidence) = self;
        let attempt = &evidence.attempt;
        let octets = |base64: &str| format!("{} octets", base64.len() / 4 * 3);
        let ima = match evidence.ima_log_left_out {
            Some(octets) => format!("{octets} octets, too many to be kept"),
            None => octets(&evidence.ima_log),
        };
        Table::of_pairs([
            ("host", evidence.host.clone()),
            ("attested", attempt.time.clone()),
            ("refused", or_dash(attempt.reason.as_ref())),
            ("failed policies", attempt.failed_policies.join(", ")),
            ("event log", octets(&evidence.event_log)),
            ("IMA log", ima),
            ("preimages", evidence.preimages.len().to_string()),
            ("unexplained events", evidence.unexplained.len().to_string()),
        ])
        .fmt(formatter)?;
        let mut table = Table::new(["PCR", "SHA-256"]);
        for value in &evidence.pcr_values {
            table.row([value.pcr.to_string(), value.value.clone()]);
        }
        write!(formatter, "\n{table}")
    }
}
