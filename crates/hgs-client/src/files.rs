//! The host's files, handled so that neither a symbolic link, nor another user, nor a crash can
//! turn one into something else.
//!
//! * Nothing is opened or replaced through a symbolic link (attacks.md K20).
//! * A secret is read only from a file that belongs to this user and that nobody else may open.
//! * A file appears, or is replaced, whole and synchronised or not at all.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};

use hgs_crypto::SecretBytes;
use rustix::fs::{FlockOperation, OFlags, flock};

/// What went wrong with which file.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct FileError {
    /// The file or folder.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: FileProblem,
}

/// What can be wrong with a file or folder.
#[derive(Debug, thiserror::Error)]
pub enum FileProblem {
    /// It exists, and nothing is overwritten.
    #[error("exists already")]
    AlreadyExists,
    /// Another process is working with it.
    #[error("is in use by another process")]
    InUse,
    /// The operating system says no.
    #[error("{0}")]
    Io(io::Error),
    /// A folder, device or pipe where a file is meant, or a file where a folder is.
    #[error("is not a {expected}")]
    NotA {
        /// `file` or `folder`.
        expected: &'static str,
    },
    /// It does not exist.
    #[error("does not exist")]
    NotFound,
    /// It belongs to somebody else.
    #[error("belongs to user {owner}, not to this user")]
    Owner {
        /// Number of the user it belongs to.
        owner: u32,
    },
    /// Others may open it.
    #[error("has mode {mode:04o}, but is meant for its owner alone")]
    Permissions {
        /// The permission bits.
        mode: u32,
    },
    /// A symbolic link; it is not followed.
    #[error("is a symbolic link, which is not followed")]
    SymbolicLink,
    /// Longer than anything it could rightly hold.
    #[error("has more than {limit} octets")]
    TooLarge {
        /// The limit in octets.
        limit: usize,
    },
}

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

/// Reads a file of at most `limit` octets.
///
/// # Errors
/// When it is not a file, is reached through a link, or is longer.
pub fn read(path: &Path, limit: usize) -> Result<Vec<u8>, FileError> {
    let mut octets = Vec::new();
    read_from(open(path)?, limit, &mut octets).map_err(|problem| at(path, problem))?;
    Ok(octets)
}

/// Reads a secret of at most `limit` octets from a file of the owner's alone.
pub(crate) fn read_secret(path: &Path, limit: usize) -> Result<SecretBytes, FileError> {
    let file = open(path)?;
    let private = file.metadata().map_err(FileProblem::from).and_then(|meta| {
        check_private(&meta)?;
        // Room for all of it, so that no reallocation leaves a part of the secret behind.
        Ok(usize::try_from(meta.len()).unwrap_or(limit).min(limit) + 1)
    });
    let mut octets = Vec::with_capacity(private.map_err(|problem| at(path, problem))?);
    let outcome = read_from(file, limit, &mut octets);
    let secret = SecretBytes::new(octets);
    outcome.map_err(|problem| at(path, problem))?;
    Ok(secret)
}

/// Creates a file whole, or fails if anything has that name already.
///
/// # Errors
/// [`FileProblem::AlreadyExists`], or what the system says.
pub fn create(path: &Path, octets: &[u8], readers: Readers) -> Result<(), FileError> {
    Staged::write(path, octets, readers)?.create()
}

/// Puts a file whole in the place of the one with that name, if there is one.
pub(crate) fn replace(path: &Path, octets: &[u8], readers: Readers) -> Result<(), FileError> {
    Staged::write(path, octets, readers)?.replace()
}

/// Removes a file and makes its absence last.
pub(crate) fn remove(path: &Path) -> Result<(), FileError> {
    fs::remove_file(path).map_err(|error| at(path, error))?;
    synchronise_folder_of(path)
}

/// Whether something has this name, be it a dangling link.
pub(crate) fn exists(path: &Path) -> Result<bool, FileError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(at(path, error)),
    }
}

/// Turns "does not exist" into `None`.
pub(crate) fn optional<T>(outcome: Result<T, FileError>) -> Result<Option<T>, FileError> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.problem, FileProblem::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes sure that `path` is a folder of this user's alone, creating it with mode 0700.
pub(crate) fn private_folder(path: &Path) -> Result<(), FileError> {
    let meta = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)
                .map_err(|error| at(path, error))?;
            fs::symlink_metadata(path)
        }
        outcome => outcome,
    };
    let meta = meta.map_err(|error| at(path, error))?;
    let checked = if meta.is_symlink() {
        Err(FileProblem::SymbolicLink)
    } else if meta.is_dir() {
        check_private(&meta)
    } else {
        Err(FileProblem::NotA { expected: "folder" })
    };
    checked.map_err(|problem| at(path, problem))
}

/// A file that is written and synchronised beside the place it is meant for.
///
/// Its name is that of its target with a dot before and `.new` behind, so that what a crash leaves
/// is found and cleared at the next attempt. Dropping it leaves it there, as a crash would.
#[derive(Debug)]
pub(crate) struct Staged {
    target: PathBuf,
    staged: PathBuf,
}

impl Staged {
    /// Writes `octets` beside `target`.
    pub(crate) fn write(target: &Path, octets: &[u8], readers: Readers) -> Result<Self, FileError> {
        let staged = Self::path(target)?;
        match fs::remove_file(&staged) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(at(&staged, error));
            }
            _ => {}
        }
        let mode = match readers {
            Readers::Owner => 0o600,
            Readers::Everybody => 0o644,
            Readers::AsBefore => fs::symlink_metadata(target)
                .ok()
                .filter(fs::Metadata::is_file)
                .map_or(0o600, |meta| meta.mode() & 0o777),
        };
        write_new(&staged, octets, mode).map_err(|error| at(&staged, error))?;
        Ok(Self {
            target: target.to_owned(),
            staged,
        })
    }

    /// Where the file for `target` stands until it takes its place.
    pub(crate) fn path(target: &Path) -> Result<PathBuf, FileError> {
        let name = target
            .file_name()
            .ok_or_else(|| at(target, FileProblem::NotA { expected: "file" }))?;
        let mut staged = OsString::from(".");
        staged.push(name);
        staged.push(".new");
        Ok(target.with_file_name(staged))
    }

    /// Takes up what a crash left for `target`, if anything.
    pub(crate) fn left_for(target: &Path) -> Result<Option<Self>, FileError> {
        let staged = Self::path(target)?;
        Ok(exists(&staged)?.then(|| Self {
            target: target.to_owned(),
            staged,
        }))
    }

    /// Where it stands now.
    pub(crate) fn staged(&self) -> &Path {
        &self.staged
    }

    /// Makes its own name last, so that a crash after this leaves it to be found.
    pub(crate) fn synchronise_folder(&self) -> Result<(), FileError> {
        synchronise_folder_of(&self.staged)
    }

    /// Takes the place of the target, which must not exist.
    pub(crate) fn create(self) -> Result<(), FileError> {
        // A hard link, unlike a rename, never takes a place that is taken.
        let linked = fs::hard_link(&self.staged, &self.target);
        let removed = fs::remove_file(&self.staged);
        linked.map_err(|error| at(&self.target, error))?;
        removed.map_err(|error| at(&self.staged, error))?;
        synchronise_folder_of(&self.target)
    }

    /// Takes the place of the target, be it free or held by a file.
    pub(crate) fn replace(self) -> Result<(), FileError> {
        match fs::symlink_metadata(&self.target) {
            // A rename would replace the link itself; but who put a link there meant another file.
            Ok(meta) if meta.is_symlink() => {
                return Err(at(&self.target, FileProblem::SymbolicLink));
            }
            Ok(meta) if !meta.is_file() => {
                return Err(at(&self.target, FileProblem::NotA { expected: "file" }));
            }
            _ => {}
        }
        fs::rename(&self.staged, &self.target).map_err(|error| at(&self.target, error))?;
        synchronise_folder_of(&self.target)
    }

    /// Gives up.
    pub(crate) fn discard(self) -> Result<(), FileError> {
        remove(&self.staged)
    }
}

/// Exclusive use of a file among processes, until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "holds the lock until it is closed")] File);

impl Lock {
    /// Waits for the lock on a file that exists for nothing else, and is created if need be.
    pub(crate) fn wait_or_create(path: &Path) -> Result<Self, FileError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).mode(0o600);
        let file = open_with(&mut options, path)?;
        flock(&file, FlockOperation::LockExclusive)
            .map_err(|error| at(path, io::Error::from(error)))?;
        Ok(Self(file))
    }

    /// Locks the file that `path` names now; it is never waited for.
    pub(crate) fn take(path: &Path) -> Result<Self, FileError> {
        loop {
            let file = open(path)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Err(rustix::io::Errno::WOULDBLOCK) => return Err(at(path, FileProblem::InUse)),
                outcome => outcome.map_err(|error| at(path, io::Error::from(error)))?,
            }
            // Whoever held the lock before may have replaced the file that was opened here.
            let held = file.metadata().map_err(|error| at(path, error))?;
            let named = fs::symlink_metadata(path).map_err(|error| at(path, error))?;
            if (held.dev(), held.ino()) == (named.dev(), named.ino()) {
                return Ok(Self(file));
            }
        }
    }
}

fn open(path: &Path) -> Result<File, FileError> {
    open_with(OpenOptions::new().read(true), path)
}

fn open_with(options: &mut OpenOptions, path: &Path) -> Result<File, FileError> {
    let file = options
        // Without NONBLOCK, opening a pipe would wait for its writer.
        .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
        .open(path)
        .map_err(|error| at(path, error))?;
    let meta = file.metadata().map_err(|error| at(path, error))?;
    if meta.is_file() {
        Ok(file)
    } else {
        Err(at(path, FileProblem::NotA { expected: "file" }))
    }
}

fn read_from(file: File, limit: usize, octets: &mut Vec<u8>) -> Result<(), FileProblem> {
    file.take(limit as u64 + 1).read_to_end(octets)?;
    if octets.len() > limit {
        Err(FileProblem::TooLarge { limit })
    } else {
        Ok(())
    }
}

fn write_new(path: &Path, octets: &[u8], mode: u32) -> io::Result<()> {
    // `create_new` is O_EXCL, which does not follow links either.
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(octets)?;
    file.sync_all()
}

fn check_private(meta: &fs::Metadata) -> Result<(), FileProblem> {
    let mode = meta.mode() & 0o7777;
    if meta.uid() != rustix::process::geteuid().as_raw() {
        Err(FileProblem::Owner { owner: meta.uid() })
    } else if mode & 0o077 != 0 {
        Err(FileProblem::Permissions { mode })
    } else {
        Ok(())
    }
}

fn synchronise_folder_of(path: &Path) -> Result<(), FileError> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| at(folder, error))
}

fn at(path: &Path, problem: impl Into<FileProblem>) -> FileError {
    FileError {
        path: path.to_owned(),
        problem: problem.into(),
    }
}

impl From<io::Error> for FileProblem {
    fn from(error: io::Error) -> Self {
        // What O_NOFOLLOW answers when it meets a link.
        let link = rustix::io::Errno::LOOP.raw_os_error();
        match error.kind() {
            io::ErrorKind::AlreadyExists => Self::AlreadyExists,
            io::ErrorKind::NotFound => Self::NotFound,
            _ if error.raw_os_error() == Some(link) => Self::SymbolicLink,
            _ => Self::Io(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a folder for the test")
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn secrets_are_created_for_their_owner_alone_and_never_overwritten() {
        let folder = folder();
        let path = folder.path().join("secret");
        create(&path, b"first", Readers::Owner).unwrap();
        assert_eq!(mode(&path), 0o600);
        let error = create(&path, b"second", Readers::Owner).unwrap_err();
        assert!(matches!(error.problem, FileProblem::AlreadyExists));
        assert_eq!(read_secret(&path, 16).unwrap().expose(), b"first");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_secret_that_others_may_read_is_refused() {
        let folder = folder();
        let path = folder.path().join("secret");
        for shared in [0o640, 0o604, 0o660] {
            fs::write(&path, b"x").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(shared)).unwrap();
            let error = read_secret(&path, 16).unwrap_err();
            assert!(matches!(error.problem, FileProblem::Permissions { mode } if mode == shared));
        }
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let error = private_folder(folder.path()).unwrap_err();
        assert!(matches!(error.problem, FileProblem::Permissions { .. }));
    }

    #[test]
    fn k20_links_are_not_followed() {
        let folder = folder();
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
    fn k20_a_link_in_the_place_of_the_staged_file_is_removed_not_followed() {
        let folder = folder();
        let victim = folder.path().join("victim");
        let path = folder.path().join("state");
        fs::write(&victim, b"precious").unwrap();
        symlink(&victim, Staged::path(&path).unwrap()).unwrap();
        replace(&path, b"new", Readers::Owner).unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
        assert_eq!(read(&path, 16).unwrap(), b"new");
    }

    #[test]
    fn the_limit_is_in_octets_and_exact() {
        let folder = folder();
        let path = folder.path().join("file");
        create(&path, b"12345", Readers::Owner).unwrap();
        assert_eq!(read(&path, 5).unwrap(), b"12345");
        let error = read(&path, 4).unwrap_err();
        assert!(matches!(error.problem, FileProblem::TooLarge { limit: 4 }));
        assert!(read_secret(&path, 4).is_err());
    }

    #[test]
    fn folders_and_pipes_are_not_files() {
        let folder = folder();
        let error = read(folder.path(), 16).unwrap_err();
        assert!(matches!(
            error.problem,
            FileProblem::NotA { expected: "file" }
        ));
        let pipe = folder.path().join("pipe");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let error = read(&pipe, 16).unwrap_err();
        assert!(matches!(
            error.problem,
            FileProblem::NotA { expected: "file" }
        ));
    }

    #[test]
    fn a_lock_excludes_and_follows_the_file_that_has_the_name() {
        let folder = folder();
        let path = folder.path().join("file");
        create(&path, b"1", Readers::Owner).unwrap();
        let lock = Lock::take(&path).unwrap();
        let error = Lock::take(&path).unwrap_err();
        assert!(matches!(error.problem, FileProblem::InUse));
        replace(&path, b"2", Readers::Owner).unwrap();
        drop(lock);
        Lock::take(&path).unwrap();
    }
}
