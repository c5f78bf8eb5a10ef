//! Files that take their place whole.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};

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
/// at the next attempt. Dropping it leaves it there, as a crash would. It is locked until then: of several that are written for one
/// target, each waits for the one before it.
#[derive(Debug)]
pub struct Staged {
    target: PathBuf,
    staged: PathBuf,
    /// Locked. None of a file that a crash has left.
    _file: Option<File>,
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
        let mut file = match open_locked(&staged, mode) {
            Ok(file) => file,
            Err(error) => return Err((staged, error.into())),
        };
        let filled = fill(&mut file).and_then(|value| {
            file.sync_all()?;
            Ok(value)
        });
        match filled {
            Ok(value) => {
                let target = target.to_owned();
                let _file = Some(file);
                Ok((
                    Self {
                        target,
                        staged,
                        _file,
                    },
                    value,
                ))
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
            _file: None,
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

/// Opens a new file, which nobody else writes until it is closed.
fn open_locked(staged: &Path, mode: u32) -> io::Result<File> {
    loop {
        match open_new(staged, mode) {
            Ok(file) => {
                flock(&file, FlockOperation::LockExclusive)?;
                // Before it was locked, another writer may have taken it for what a crash has left.
                if stands_at(&file, staged)? {
                    return Ok(file);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => clear(staged)?,
            Err(error) => return Err(error),
        }
    }
}

/// Waits until nobody writes the file any more. If it is there then, a crash has left it, and it is removed: of a link, the link
/// itself.
fn clear(staged: &Path) -> io::Result<()> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(staged);
    match opened {
        Ok(file) => {
            flock(&file, FlockOperation::LockExclusive)?;
            match stands_at(&file, staged)? {
                true => remove_if_there(staged),
                false => Ok(()),
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // Nobody writes a link, or what can't be opened.
        Err(_) => remove_if_there(staged),
    }
}

fn remove_if_there(staged: &Path) -> io::Result<()> {
    match fs::remove_file(staged) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Whether a path still names an open file.
fn stands_at(file: &File, path: &Path) -> io::Result<bool> {
    let open = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(there) => Ok((open.dev(), open.ino()) == (there.dev(), there.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
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

    /// What each of some writers at once comes to.
    fn at_once<T: Send>(write: impl Fn(u8) -> T + Sync) -> Vec<T> {
        let start = std::sync::Barrier::new(8);
        let (write, start) = (&write, &start);
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..8)
                .map(|number| {
                    scope.spawn(move || {
                        start.wait();
                        write(number)
                    })
                })
                .collect();
            writers
                .into_iter()
                .map(|writer| writer.join().unwrap())
                .collect()
        })
    }

    #[test]
    fn of_several_that_create_a_file_at_once_one_does_and_its_octets_are_there() {
        let folder = tempfile::tempdir().unwrap();
        for round in 0..50 {
            let path = folder.path().join(format!("secret-{round}"));
            let outcomes = at_once(|number| create(&path, &[number; 64], Readers::Owner));
            let created: Vec<_> = (0..8u8)
                .filter(|number| outcomes[usize::from(*number)].is_ok())
                .collect();
            let [winner] = created[..] else {
                panic!("{outcomes:?}");
            };
            assert_eq!(fs::read(&path).unwrap(), [winner; 64]);
            for refused in outcomes.into_iter().filter_map(Result::err) {
                assert!(
                    matches!(refused.problem, FileProblem::AlreadyExists),
                    "{refused}"
                );
            }
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), round + 1);
        }
    }

    #[test]
    fn several_that_replace_a_file_at_once_all_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("note");
        for _ in 0..50 {
            let outcomes = at_once(|number| replace(&path, &[number; 64], Readers::Owner));
            assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
            let octets = fs::read(&path).unwrap();
            assert_eq!(octets, [octets[0]; 64]);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
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
