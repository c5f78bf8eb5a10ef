//! A program to run, and what it needs in its environment.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where a system keeps its programs, below its root.
pub(crate) const FOLDERS: [&str; 4] = ["usr/bin", "usr/sbin", "bin", "sbin"];

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

    /// The program of this machine in the folders of PATH, and in those of the system that only root has there.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        let path = env::var_os("PATH").unwrap_or_default();
        let folders = env::split_paths(&path).filter(|folder| folder.is_absolute());
        let mut places = folders
            .chain(FOLDERS.map(|folder| Path::new("/").join(folder)))
            .map(|folder| folder.join(name));
        Some(Self {
            path: places.find(|place| place.is_file())?,
            environment: Vec::new(),
        })
    }

    /// A command that runs it.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }
}
