//! A program to run, and what it needs in its environment.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

/// A program, installed or taken from a cache of packages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Where it is.
    pub path: PathBuf,
    /// Where its libraries and modules are, if not where the system looks.
    pub environment: Vec<(OsString, OsString)>,
}

impl Program {
    /// A program that the system finds by its name.
    #[must_use]
    pub fn installed(name: &str) -> Self {
        Self {
            path: name.into(),
            environment: Vec::new(),
        }
    }

    /// A command that runs it.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }
}
