//! `hgs signer`: who may sign health certificates.

use std::fmt;

use clap::Subcommand;
use hgs_server::admin::Administration as _;
use hgs_server::admin::types::Signer;
use hgs_terminal::{Exit, Failure, Table, Terminal};
use serde::Serialize;

use super::{ServerOption, or_dash, yes_or_no};
use crate::failures::OrFail as _;

/// The verbs of `hgs signer`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    server: ServerOption,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the signers whose health certificates are accepted
    List,
}

impl Arguments {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<Exit, Failure> {
        let client = self.server.client()?;
        match self.verb {
            Verb::List => terminal.report(&List(client.signers().or_fail()?))?,
        }
        Ok(Exit::Done)
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct List(Vec<Signer>);

impl fmt::Display for List {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headings = [
            "OWN",
            "STAGE",
            "EXPIRES",
            "DENY BEFORE",
            "LABEL",
            "THUMBPRINT",
        ];
        let mut table = Table::new(headings);
        for signer in &self.0 {
            table.row([
                yes_or_no(signer.own),
                signer.stage.clone(),
                signer.not_after.clone(),
                or_dash(signer.deny_before.as_ref()),
                or_dash(signer.label.as_ref()),
                signer.thumbprint.clone(),
            ]);
        }
        table.fmt(formatter)
    }
}
