//! `hgs state accept`.

use std::fmt;

use hgs_store::{OpenError, RolledBack, Store, master_key_file};
use hgs_terminal::{Exit, Failure, Terminal};
use serde::Serialize;

use super::{act, opening};
use crate::config_option::ConfigOption;
use crate::failures::{IntoFailure as _, OrFail as _};

/// Go on with a state that is older than its high-water mark
///
/// The server refuses such a state: hosts that were revoked after it was copied would be admitted again. Look for the
/// newest copy of the state folder first. The audit log names the user who accepts. The server must not run.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {}

impl Arguments {
    pub(super) fn run(self, config: &ConfigOption, terminal: &Terminal) -> Result<Exit, Failure> {
        let config = config.load()?;
        let directory = config.state_folder();
        let key = master_key_file::read_settled(&config.master_key_file(), &directory).or_fail()?;
        match Store::open(opening(&directory, &key, &config)) {
            Ok(_) => {}
            Err(OpenError::RolledBack(found)) if found.state().is_some() => {
                terminal.confirm(question(&found))?;
            }
            Err(error) => return Err(error.into_failure()),
        }
        let accepted = Store::accept(opening(&directory, &key, &config), act()).or_fail()?;
        terminal.report(&Accepted {
            state_folder: directory.display().to_string(),
            accepted: accepted.is_some(),
            audit_record: accepted.map(|accepted| accepted.sequence),
        })?;
        Ok(Exit::Done)
    }
}

fn question(found: &RolledBack) -> String {
    let lost = match (found.mark(), found.state()) {
        (Some(mark), Some(state)) if mark.sequence > state.sequence => format!(
            "What the {} audit records since then say is forgotten, revocations of hosts included.",
            mark.sequence - state.sequence
        ),
        _ => "What was done since it was copied is forgotten, revocations of hosts included."
            .to_owned(),
    };
    format!("The state is not the newest one: {found}.\n{lost} Go on with it?")
}

#[derive(Serialize)]
struct Accepted {
    state_folder: String,
    accepted: bool,
    audit_record: Option<u64>,
}

impl fmt::Display for Accepted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let folder = &self.state_folder;
        match self.audit_record {
            None => writeln!(
                formatter,
                "The state in {folder} is as new as its high-water mark; nothing was changed."
            ),
            Some(record) => writeln!(
                formatter,
                "The state in {folder} is accepted: audit record {record} says so. Revoke the hosts again that were \
                 revoked since it was copied."
            ),
        }
    }
}
