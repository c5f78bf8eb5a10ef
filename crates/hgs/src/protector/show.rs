//! `hgs protector show`.

use std::path::PathBuf;

use hgs_terminal::{Exit, Failure, Terminal};

use super::read_valid;
use super::view::ProtectorView;
use crate::guardian::Home;

/// Show who can open a valid protector, and who let them in
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  hgs protector show vm.xml")]
pub(crate) struct Arguments {
    /// The protector; `-` is standard input
    file: PathBuf,
}

impl Arguments {
    pub(super) fn run(self, home: &Home, terminal: &Terminal) -> Result<Exit, Failure> {
        let protector = read_valid(&self.file)?;
        terminal.report(&ProtectorView::new(&protector, home)?)?;
        Ok(Exit::Done)
    }
}
