//! `hgs guardian remove`.

use std::fmt;

use hgs_terminal::{Exit, Failure, Terminal};
use serde::Serialize;

use super::home::Home;
use super::name::GuardianName;
use crate::completion;

/// Remove a guardian and its private keys, which can't be undone
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The guardian
    #[arg(add = completion::guardians())]
    name: GuardianName,
}

impl Arguments {
    pub(super) fn run(self, home: &Home, terminal: &Terminal) -> Result<Exit, Failure> {
        let name = &self.name;
        let guardian = home.guardian(name)?;
        terminal.confirm(match guardian.has_private_halves {
            true => format!(
                "Remove the guardian `{name}` with its private keys? Protectors that it owns can't be changed any more, \
                 and what only it can open is lost."
            ),
            false => format!("Remove the guardian `{name}`?"),
        })?;
        home.remove(name)?;
        terminal.report(&Removed {
            removed: name.to_string(),
        })?;
        Ok(Exit::Done)
    }
}

#[derive(Serialize)]
struct Removed {
    removed: String,
}

impl fmt::Display for Removed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "Guardian `{}` is removed.", self.removed)
    }
}
