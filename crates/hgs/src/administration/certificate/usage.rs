//! `hgs certificate usage`.

use std::fmt;

use hgs_admin::types::CertificateUsage;
use hgs_admin::{Administration as _, Client};
use hgs_terminal::{Failure, Table, Terminal};
use serde::Serialize;

use super::super::or_dash;
use crate::failures::OrFail as _;

pub(super) fn run(client: &Client, terminal: &Terminal) -> Result<(), Failure> {
    terminal.report(&Usage(client.certificate_usage().or_fail()?))
}

#[derive(Serialize)]
#[serde(transparent)]
struct Usage(Vec<CertificateUsage>);

impl fmt::Display for Usage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headings = [
            "LINEAGE",
            "KIND",
            "HEAD",
            "PROTECTORS",
            "LONGEST AGO",
            "LATEST",
            "LABEL",
            "THUMBPRINT",
        ];
        let mut table = Table::new(headings);
        for one in &self.0 {
            table.row([
                one.lineage.clone(),
                one.kind.to_string(),
                if one.head { "head" } else { "" }.to_owned(),
                one.protectors.to_string(),
                or_dash(one.first.as_ref()),
                or_dash(one.last.as_ref()),
                or_dash(one.label.as_ref()),
                one.thumbprint.clone(),
            ]);
        }
        table.fmt(formatter)
    }
}
