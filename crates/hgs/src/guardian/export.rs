//! `hgs guardian export`.

use std::fmt;

use hgs_files::Readers;
use hgs_terminal::{Exit, Failure, Terminal};
use serde::Serialize;

use super::home::Home;
use super::name::GuardianName;
use crate::completion;

/// Print the public half of a guardian, for others to import
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  hgs guardian export ann --out ann.xml")]
pub(crate) struct Arguments {
    /// The guardian
    #[arg(add = completion::guardians())]
    name: GuardianName,
}

impl Arguments {
    pub(super) fn run(self, home: &Home, terminal: &Terminal) -> Result<Exit, Failure> {
        let guardian = home.guardian(&self.name)?;
        terminal.document(
            &guardian.document,
            Readers::Everybody,
            &Exported {
                name: self.name.to_string(),
                thumbprint: guardian.trust.thumbprint,
            },
        )?;
        Ok(Exit::Done)
    }
}

#[derive(Serialize)]
struct Exported {
    name: String,
    thumbprint: String,
}

impl fmt::Display for Exported {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, thumbprint } = self;
        writeln!(
            formatter,
            "Guardian `{name}`, SHA-256 thumbprint {thumbprint}"
        )
    }
}
