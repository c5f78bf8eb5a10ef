//! Files and local sockets, handled so that neither a symbolic link, nor another user, nor a crash can turn one into something else.
//!
//! * Nothing is opened or replaced through a symbolic link (attacks.md K20), but for secrets that the operator names, where
//!   no other user can have put the link.
//! * A secret is read only from a file that no other user may open.
//! * A file or folder appears, or is replaced, whole and synchronised or not at all.
//!
//! ```
//! use hgs_files::Readers;
//!
//! # let folder = tempfile::tempdir()?;
//! let path = folder.path().join("secret");
//! hgs_files::create(&path, b"seven", Readers::Owner)?;
//! assert_eq!(hgs_files::read_secret(&path, 16)?.expose(), b"seven");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! It does NOT know what is in a file, or where files belong. Only the last part of a path is guarded: the folders
//! above are the administrator's own.

mod copy;
mod error;
mod folder;
mod lock;
mod open;
mod socket;
mod staged;
mod synchronise;
mod typed;

use std::fs;
use std::io;
use std::path::Path;

pub use copy::copy;
pub use error::{FileError, FileProblem};
pub use folder::{create_folder, private_folder, remove_folder};
pub use lock::Lock;
pub use open::{
    open_private_file, open_to_others, private_file, read, read_named_secret, read_secret, text,
};
pub use socket::{LocalSocket, SOCKET_PATH_LIMIT, SocketError};
pub use staged::{Readers, Staged};
pub use synchronise::synchronise_folder_of;
pub use typed::{TypedError, typed_line};

/// Creates a file whole, or fails if anything has that name already.
pub fn create(path: &Path, octets: &[u8], readers: Readers) -> Result<(), FileError> {
    Staged::write(path, octets, readers)?.create()
}

/// Puts a file whole in the place of the one with that name, if there is one.
pub fn replace(path: &Path, octets: &[u8], readers: Readers) -> Result<(), FileError> {
    Staged::write(path, octets, readers)?.replace()
}

/// Removes a file and makes its absence last.
pub fn remove(path: &Path) -> Result<(), FileError> {
    fs::remove_file(path).map_err(|error| FileError::at(path, error))?;
    synchronise_folder_of(path)
}

/// Whether something has this name, be it a dangling link.
///
/// # Errors
/// When the operating system does not tell.
pub fn exists(path: &Path) -> Result<bool, FileError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(FileError::at(path, error)),
    }
}

/// Refuses a symbolic link; anything else may have this name, or nothing.
///
/// # Errors
/// [`FileProblem::SymbolicLink`].
pub fn refuse_link(path: &Path) -> Result<(), FileError> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_symlink() => Err(FileError::at(path, FileProblem::SymbolicLink)),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FileError::at(path, error)),
        _ => Ok(()),
    }
}

/// Turns "does not exist" into `None`.
///
/// # Errors
/// Every other one of `outcome`.
pub fn optional<T>(outcome: Result<T, FileError>) -> Result<Option<T>, FileError> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.problem, FileProblem::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}
