//! Files that take their place whole.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::synchronise::synchronise_folder_of;
use crate::{FileError, FileProblem, exists, remove};

/// Who may read a file that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readers {
    /// The owner alone: mode 0600.
    Owner,
    /// Everybody: mode 0644.
    Everybody,
    /// Those of the file that is replaced; the owner alone if there is none.
    AsBefore,
}

/// A file that is written and synchronised beside the place it is meant for.
///
/// Its name is that of its target with a dot before and `.new` behind, so that what a crash leaves is found and cleared
/// at the next attempt. Dropping it leaves it there, as a crash would.
#[derive(Debug)]
pub struct Staged {
    target: PathBuf,
    staged: PathBuf,
}

impl Staged {
    /// Writes `octets` beside `target`.
    pub fn write(target: &Path, octets: &[u8], readers: Readers) -> Result<Self, FileError> {
        let written = Self::filled(target, readers, |file| file.write_all(octets));
        let (staged, ()) = written.map_err(|(place, error)| FileError::at(&place, error))?;
        Ok(staged)
    }

    /// Has `fill` write the file beside `target`, piece by piece. What it leaves when it fails is removed.
    ///
    /// # Errors
    /// What `fill` says, or the system, with the place of the file.
    pub fn filled<T, E: From<io::Error>>(
        target: &Path,
        readers: Readers,
        fill: impl FnOnce(&mut File) -> Result<T, E>,
    ) -> Result<(Self, T), (PathBuf, E)> {
        let staged = Self::path(target).map_err(|_| {
            (
                target.to_owned(),
                io::Error::from(io::ErrorKind::InvalidFilename).into(),
            )
        })?;
        let mode = match readers {
            Readers::Owner => 0o600,
            Readers::Everybody => 0o644,
            Readers::AsBefore => fs::symlink_metadata(target)
                .ok()
                .filter(fs::Metadata::is_file)
                .map_or(0o600, |meta| meta.mode() & 0o777),
        };
        let filled = clear(&staged)
            .and_then(|()| open_new(&staged, mode))
            .map_err(E::from)
            .and_then(|mut file| {
                let value = fill(&mut file)?;
                file.sync_all()?;
                Ok(value)
            });
        match filled {
            Ok(value) => {
                let target = target.to_owned();
                Ok((Self { target, staged }, value))
            }
            Err(error) => {
                // The first error is the one that tells.
                let _ = fs::remove_file(&staged);
                Err((staged, error))
            }
        }
    }

    /// Where the file for `target` stands until it takes its place.
    ///
    /// # Errors
    /// When `target` can't be a file's name.
    pub fn path(target: &Path) -> Result<PathBuf, FileError> {
        let name = target
            .file_name()
            .ok_or_else(|| FileError::at(target, FileProblem::NotA { expected: "file" }))?;
        let mut staged = OsString::from(".");
        staged.push(name);
        staged.push(".new");
        Ok(target.with_file_name(staged))
    }

    /// Takes up what a crash left for `target`, if anything.
    pub fn left_for(target: &Path) -> Result<Option<Self>, FileError> {
        let staged = Self::path(target)?;
        Ok(exists(&staged)?.then(|| Self {
            target: target.to_owned(),
            staged,
        }))
    }

    /// Where it stands now.
    #[must_use]
    pub fn staged(&self) -> &Path {
        &self.staged
    }

    /// Makes its own name last, so that a crash after this leaves it to be found.
    pub fn synchronise_folder(&self) -> Result<(), FileError> {
        synchronise_folder_of(&self.staged)
    }

    /// Takes the place of the target, which must not exist.
    pub fn create(self) -> Result<(), FileError> {
        // A hard link, unlike a rename, never takes a place that is taken.
        let linked = fs::hard_link(&self.staged, &self.target);
        let removed = fs::remove_file(&self.staged);
        linked.map_err(|error| FileError::at(&self.target, error))?;
        removed.map_err(|error| FileError::at(&self.staged, error))?;
        synchronise_folder_of(&self.target)
    }

    /// Takes the place of the target, be it free or held by a file.
    pub fn replace(self) -> Result<(), FileError> {
        let problem = match fs::symlink_metadata(&self.target) {
            // A rename would replace the link itself; but who put a link there meant another file.
            Ok(meta) if meta.is_symlink() => Some(FileProblem::SymbolicLink),
            Ok(meta) if !meta.is_file() => Some(FileProblem::NotA { expected: "file" }),
            _ => None,
        };
        if let Some(problem) = problem {
            return Err(FileError::at(&self.target, problem));
        }
        fs::rename(&self.staged, &self.target)
            .map_err(|error| FileError::at(&self.target, error))?;
        synchronise_folder_of(&self.target)
    }

    /// Gives up.
    pub fn discard(self) -> Result<(), FileError> {
        remove(&self.staged)
    }
}

pub(crate) fn write_new(path: &Path, octets: &[u8], mode: u32) -> io::Result<()> {
    let mut file = open_new(path, mode)?;
    file.write_all(octets)?;
    file.sync_all()
}

fn open_new(path: &Path, mode: u32) -> io::Result<File> {
    // `create_new` is O_EXCL, which does not follow links either.
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    Ok(file)
}

/// Removes what a crash left: of a link, the link itself.
fn clear(staged: &Path) -> io::Result<()> {
    match fs::remove_file(staged) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::{Lock, create, private_folder, read, read_secret, replace};

    #[test]
    fn secrets_are_created_for_their_owner_alone_and_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        create(&path, b"first", Readers::Owner).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        let error = create(&path, b"second", Readers::Owner).unwrap_err();
        assert!(matches!(error.problem, FileProblem::AlreadyExists));
        assert_eq!(read_secret(&path, 16).unwrap().expose(), b"first");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn k20_links_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let victim = folder.path().join("victim");
        let link = folder.path().join("link");
        fs::write(&victim, b"precious").unwrap();
        symlink(&victim, &link).unwrap();
        let linked = |outcome: Result<(), FileError>| {
            matches!(outcome.unwrap_err().problem, FileProblem::SymbolicLink)
        };
        assert!(linked(read(&link, 16).map(drop)));
        assert!(linked(read_secret(&link, 16).map(drop)));
        assert!(linked(replace(&link, b"x", Readers::Owner)));
        assert!(linked(Lock::wait_or_create(&link).map(drop)));
        assert!(linked(private_folder(&link)));
        assert!(create(&link, b"x", Readers::Owner).is_err());
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
    }

    #[test]
    fn a_file_that_is_not_finished_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("backup");
        let failed = Staged::filled(&path, Readers::Owner, |file| {
            file.write_all(b"half")?;
            Err::<(), _>(io::Error::other("the source failed"))
        });
        assert_eq!(failed.unwrap_err().1.to_string(), "the source failed");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let (staged, ()) =
            Staged::filled(&path, Readers::Owner, |file| file.write_all(b"whole")).unwrap();
        staged.create().unwrap();
        assert_eq!(read_secret(&path, 16).unwrap().expose(), b"whole");
    }

    #[test]
    fn k20_a_link_in_the_place_of_the_staged_file_is_removed_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let victim = folder.path().join("victim");
        let path = folder.path().join("state");
        fs::write(&victim, b"precious").unwrap();
        symlink(&victim, Staged::path(&path).unwrap()).unwrap();
        replace(&path, b"new", Readers::Owner).unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
        assert_eq!(read(&path, 16).unwrap(), b"new");
    }
}
