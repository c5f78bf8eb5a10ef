//! Folders that are their owner's alone, and folders that appear and vanish whole.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use crate::open::check_private;
use crate::staged::write_new;
use crate::synchronise::{synchronise, synchronise_folder_of};
use crate::{FileError, FileProblem, Staged};

/// Makes sure that `path` is a folder that no other user may enter, creating it with mode 0700.
pub fn private_folder(path: &Path) -> Result<(), FileError> {
    let at = |error: io::Error| FileError::at(path, error);
    let meta = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)
                .map_err(at)?;
            fs::symlink_metadata(path)
        }
        outcome => outcome,
    };
    let meta = meta.map_err(at)?;
    let checked = if meta.is_symlink() {
        Err(FileProblem::SymbolicLink)
    } else if meta.is_dir() {
        check_private(&meta)
    } else {
        Err(FileProblem::NotA { expected: "folder" })
    };
    checked.map_err(|problem| FileError::at(path, problem))
}

/// Creates a folder of mode 0700 that holds `files` (name and octets, each of mode 0600), whole or not at all.
///
/// # Errors
/// [`FileProblem::AlreadyExists`] when something has that name; others as [`FileProblem`] says.
pub fn create_folder(path: &Path, files: &[(&str, &[u8])]) -> Result<(), FileError> {
    let staged = Staged::path(path)?;
    clear(&staged)?;
    DirBuilder::new()
        .mode(0o700)
        .create(&staged)
        .map_err(|error| FileError::at(&staged, error))?;
    for (name, octets) in files {
        let file = staged.join(name);
        write_new(&file, octets, 0o600).map_err(|error| FileError::at(&file, error))?;
    }
    synchronise(&staged)?;
    let renamed = fs::rename(&staged, path).map_err(|error| match error.kind() {
        io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotADirectory => {
            FileError::at(path, FileProblem::AlreadyExists)
        }
        _ => FileError::at(path, error),
    });
    match renamed {
        Ok(()) => synchronise_folder_of(path),
        Err(error) => {
            clear(&staged)?;
            Err(error)
        }
    }
}

/// Removes a folder and all that is in it. A crash leaves it as it was, or nameless leftovers.
pub fn remove_folder(path: &Path) -> Result<(), FileError> {
    let leftover = Staged::path(path)?;
    clear(&leftover)?;
    fs::rename(path, &leftover).map_err(|error| FileError::at(path, error))?;
    synchronise_folder_of(path)?;
    clear(&leftover)
}

/// Removes what a crash left under this name: of a link, the link itself.
fn clear(path: &Path) -> Result<(), FileError> {
    match fs::remove_dir_all(path) {
        Ok(()) => Ok(()),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound => Ok(()),
            io::ErrorKind::NotADirectory => {
                fs::remove_file(path).map_err(|error| FileError::at(path, error))
            }
            _ => Err(FileError::at(path, error)),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn a_folder_appears_whole_for_its_owner_alone_and_never_twice() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("ann");
        create_folder(&path, &[("a", b"1"), ("b", b"2")]).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o700);
        let file = path.join("b");
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o600);
        let error = create_folder(&path, &[("b", b"3")]).unwrap_err();
        assert!(matches!(error.problem, FileProblem::AlreadyExists));
        assert_eq!(fs::read(&file).unwrap(), b"2");
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
        remove_folder(&path).unwrap();
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_a_crash_left_is_cleared_without_following_links() {
        let parent = tempfile::tempdir().unwrap();
        let victim = tempfile::tempdir().unwrap();
        fs::write(victim.path().join("precious"), b"x").unwrap();
        let path = parent.path().join("ann");
        symlink(victim.path(), Staged::path(&path).unwrap()).unwrap();
        create_folder(&path, &[]).unwrap();
        assert!(victim.path().join("precious").exists());
        assert!(path.is_dir());
    }

    #[test]
    fn a_folder_that_others_may_enter_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        private_folder(&folder.path().join("new/and/deep")).unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let error = private_folder(folder.path()).unwrap_err();
        assert!(matches!(error.problem, FileProblem::Permissions { .. }));
    }
}
