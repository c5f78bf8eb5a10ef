//! Where the quickstart works, and what it leaves.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use hgs_files::Readers;
use hgs_terminal::{AtFault, Failure, Terminal};
use tempfile::TempDir;

/// A folder of the quickstart's own, removed at its end, and the one in which documents are kept.
#[derive(Debug)]
pub(super) struct Folder {
    work: TempDir,
    keep: Option<PathBuf>,
}

/// Octets that fit into the path of a Unix socket (unix(7)), less those of the file's name.
const SOCKET_FOLDER_LENGTH: usize = 80;

impl Folder {
    /// Makes the folders. That for keeping must be new or empty; it is for its owner alone.
    pub(super) fn prepare(keep: Option<&Path>) -> Result<Self, Failure> {
        let keep = keep.map(prepare_keep).transpose()?;
        let work = new_work_folder().map_err(|error| {
            Failure::of(&error)
                .while_doing("can't make a folder to work in")
                .at_fault(AtFault::Operator)
                .remedy("set TMPDIR to a folder that can be written")
        })?;
        Ok(Self { work, keep })
    }

    /// The folder to work in; its path is short enough for sockets.
    pub(super) fn work(&self) -> &Path {
        self.work.path()
    }

    /// Keeps a document, if anything is kept.
    pub(super) fn keep(&self, name: &str, octets: &[u8]) -> Result<(), Failure> {
        match &self.keep {
            Some(folder) => Ok(hgs_files::create(
                &folder.join(name),
                octets,
                Readers::Owner,
            )?),
            None => Ok(()),
        }
    }

    /// Says what can be done next on this machine.
    pub(super) fn say_what_is_kept(&self, terminal: &Terminal) {
        match &self.keep {
            Some(folder) => {
                terminal.note(format_args!("\nThe documents are in {}.", folder.display()))
            }
            None => terminal
                .note("\nNothing was left behind; `--keep DIR` leaves the documents to look at."),
        }
        let judges = [
            ("xmllint", "the documents against the schemas"),
            ("xmlsec1", "the signature of metadata.xml"),
            ("openssl", "health.der against attestation-signers.pem"),
        ];
        let found: Vec<String> = judges
            .iter()
            .filter(|(program, _)| is_installed(program))
            .map(|(program, what)| format!("{program} ({what})"))
            .collect();
        if !found.is_empty() {
            terminal.note(format_args!(
                "Other people's tools on this machine that can judge them: {}.",
                found.join(", ")
            ));
        }
        terminal.note(
            "For a guardian that stays: `hgs init`, then `hgs serve`. Real virtual machines: docs/shielded-vms.md.",
        );
    }
}

fn prepare_keep(folder: &Path) -> Result<PathBuf, Failure> {
    let refused = |error: &dyn std::error::Error| {
        Failure::of(error)
            .while_doing(format_args!("can't use {}", folder.display()))
            .at_fault(AtFault::Operator)
    };
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(refused(&error)),
        _ => {}
    }
    let mut entries = fs::read_dir(folder).map_err(|error| refused(&error))?;
    if entries.next().is_some() {
        return Err(
            Failure::usage(format_args!("{} is not empty", folder.display()))
                .remedy("name a folder that is new or empty"),
        );
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
        .map_err(|error| refused(&error))?;
    Ok(folder.to_path_buf())
}

fn new_work_folder() -> io::Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("hgs-");
    let folder = builder.tempdir()?;
    if folder.path().as_os_str().len() <= SOCKET_FOLDER_LENGTH {
        return Ok(folder);
    }
    builder.tempdir_in("/tmp")
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}
