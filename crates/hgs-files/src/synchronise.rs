//! Making the entries of folders last.

use std::fs::File;
use std::path::Path;

use crate::FileError;

/// Makes the entry of `path` in its folder last: of a file that is new, renamed or removed.
///
/// # Errors
/// When the folder can't be opened or synchronised.
pub fn synchronise_folder_of(path: &Path) -> Result<(), FileError> {
    match path.parent() {
        Some(folder) if folder != Path::new("") => synchronise(folder),
        _ => synchronise(Path::new(".")),
    }
}

pub(crate) fn synchronise(folder: &Path) -> Result<(), FileError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| FileError::at(folder, error))
}
