//! Files and folders that only this service may touch (attacks.md K20).

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::{OpenError, PlaceError};

/// The file of the database in the folder of the state.
pub(crate) const DATABASE: &str = "state.db";

/// The folder of the state: mode 0700, ours, and held by one process at a time.
#[derive(Debug)]
pub(crate) struct Place {
    database: PathBuf,
    // The lock is on a file of its own: closing any descriptor of the database would drop the
    // locks that SQLite holds on it.
    _lock: File,
}

impl Place {
    /// Takes hold of `directory`, in which there must be a database.
    pub(crate) fn take_existing(directory: &Path) -> Result<Self, OpenError> {
        match refuse_symlink(&directory.join(DATABASE))? {
            Some(_) => Self::take(directory),
            None => Err(OpenError::NotInitialised {
                directory: directory.to_owned(),
            }),
        }
    }

    /// Takes hold of `directory`, which is created when it is missing (its parent is not).
    pub(crate) fn take(directory: &Path) -> Result<Self, OpenError> {
        let directory = private_directory(directory)?;
        let lock = open_private(&directory.join("lock"), true)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::InUse { directory }),
            Err(TryLockError::Error(cause)) => {
                return Err(PlaceError::system(&directory, cause).into());
            }
        }
        // SQLite gives its companion files the mode of the database, so the database is made here.
        let database = directory.join(DATABASE);
        for suffix in ["-wal", "-shm", "-journal"] {
            refuse_symlink(&directory.join(format!("{DATABASE}{suffix}")))?;
        }
        drop(open_private(&database, true)?);
        Ok(Self {
            database,
            _lock: lock,
        })
    }

    /// The database file.
    pub(crate) fn database(&self) -> &Path {
        &self.database
    }
}

fn private_directory(path: &Path) -> Result<PathBuf, PlaceError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {}
        Err(cause) if cause.kind() == ErrorKind::AlreadyExists => {}
        Err(cause) => return Err(PlaceError::system(path, cause)),
    }
    let metadata = refuse_symlink(path)?
        .ok_or_else(|| PlaceError::system(path, std::io::Error::from(ErrorKind::NotFound)))?;
    if !metadata.is_dir() {
        let wanted = "folder";
        let path = path.to_owned();
        return Err(PlaceError::Type { path, wanted });
    }
    check_private(path, &metadata, 0o700)?;
    // The folder itself is no link; those above it are the administrator's own.
    path.canonicalize()
        .map_err(|cause| PlaceError::system(path, cause))
}

/// Opens a file that nobody else may read or write, for reading, and for writing when it may be
/// created.
pub(crate) fn open_private(path: &Path, create: bool) -> Result<File, PlaceError> {
    let mut options = OpenOptions::new();
    options.read(true).mode(0o600).custom_flags(no_follow());
    if create {
        options.write(true).create(true).truncate(false);
    }
    let file = open(path, &options)?;
    let metadata = file
        .metadata()
        .map_err(|cause| PlaceError::system(path, cause))?;
    if !metadata.is_file() {
        let wanted = "file";
        let path = path.to_owned();
        return Err(PlaceError::Type { path, wanted });
    }
    check_private(path, &metadata, 0o600)?;
    Ok(file)
}

/// Creates a file of mode 0600 that must not exist yet.
pub(crate) fn create_private(path: &Path) -> Result<File, PlaceError> {
    let mut options = OpenOptions::new();
    options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(no_follow());
    open(path, &options)
}

fn open(path: &Path, options: &OpenOptions) -> Result<File, PlaceError> {
    options.open(path).map_err(|cause| {
        // O_NOFOLLOW answers ELOOP, which people read as something else.
        match refuse_symlink(path) {
            Err(symlink) => symlink,
            Ok(_) => PlaceError::system(path, cause),
        }
    })
}

/// The metadata of what is at `path`, if anything is; a symbolic link is refused.
fn refuse_symlink(path: &Path) -> Result<Option<Metadata>, PlaceError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_symlink() => Err(PlaceError::Symlink {
            path: path.to_owned(),
        }),
        Ok(metadata) => Ok(Some(metadata)),
        Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(PlaceError::system(path, cause)),
    }
}

fn check_private(path: &Path, metadata: &Metadata, wanted: u32) -> Result<(), PlaceError> {
    let path = path.to_owned();
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(PlaceError::Mode { path, mode, wanted });
    }
    let (owner, user) = (metadata.uid(), rustix::process::geteuid().as_raw());
    // What belongs to root is as safe as the system is.
    if owner != user && owner != 0 {
        return Err(PlaceError::Owner { path, owner, user });
    }
    Ok(())
}

/// No symbolic link is followed, and a pipe in place of a file does not keep us waiting.
fn no_follow() -> i32 {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    // The flags are an int in C; the bit pattern is what counts.
    flags.bits().cast_signed()
}

/// Makes the entry of a new file in its folder durable.
pub(crate) fn sync_parent(path: &Path) -> Result<(), PlaceError> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or_else(|| Path::new("."));
    File::open(parent)
        .and_then(|folder| folder.sync_all())
        .map_err(|cause| PlaceError::system(parent, cause))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn makes_what_is_missing_private() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("state");
        let place = Place::take(&directory).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(&directory), 0o700);
        assert_eq!(mode(place.database()), 0o600);
    }

    #[test]
    fn is_held_by_one_process_at_a_time() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("state");
        let held = Place::take(&directory).unwrap();
        let error = Place::take(&directory).unwrap_err();
        assert!(matches!(error, OpenError::InUse { .. }), "{error}");
        drop(held);
        assert!(Place::take(&directory).is_ok());
    }

    /// attacks.md K20: folder, database, its companions and lock may each be a link planted by
    /// somebody who may write beside them.
    #[test]
    fn k20_symbolic_links_are_refused() {
        let parent = tempfile::tempdir().unwrap();
        let link = parent.path().join("link");
        symlink(parent.path(), &link).unwrap();
        let refused = |directory: &Path| match Place::take(directory).unwrap_err() {
            OpenError::Place(PlaceError::Symlink { path }) => path,
            other => panic!("{other}"),
        };
        assert_eq!(refused(&link), link);
        for name in [
            "state.db",
            "state.db-wal",
            "state.db-shm",
            "state.db-journal",
            "lock",
        ] {
            let directory = parent.path().join(format!("with {name}"));
            DirBuilder::new().mode(0o700).create(&directory).unwrap();
            let elsewhere = parent.path().join("elsewhere");
            fs::write(&elsewhere, b"").unwrap();
            set_mode(&elsewhere, 0o600);
            symlink(&elsewhere, directory.join(name)).unwrap();
            assert_eq!(refused(&directory), directory.join(name));
        }
    }

    #[test]
    fn what_others_may_touch_is_refused_with_the_remedy() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("state");
        drop(Place::take(&directory).unwrap());
        set_mode(&directory.join(DATABASE), 0o640);
        let error = Place::take(&directory).unwrap_err().to_string();
        assert!(error.contains("chmod 600 "), "{error}");
        set_mode(&directory, 0o750);
        let error = Place::take(&directory).unwrap_err().to_string();
        assert!(error.contains("has mode 750; run `chmod 700 "), "{error}");
    }

    #[test]
    fn what_is_missing_is_not_made_by_looking() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("state");
        let error = Place::take_existing(&directory).unwrap_err();
        assert!(matches!(error, OpenError::NotInitialised { .. }), "{error}");
        assert!(!directory.exists());
        drop(Place::take(&directory).unwrap());
        assert!(Place::take_existing(&directory).is_ok());
    }

    #[test]
    fn a_pipe_in_place_of_a_file_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let pipe = parent.path().join("master.key");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, kind, mode, 0).unwrap();
        let error = open_private(&pipe, false).unwrap_err();
        assert!(matches!(error, PlaceError::Type { .. }), "{error}");
    }

    #[test]
    fn a_file_in_place_of_the_folder_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let file = parent.path().join("state");
        fs::write(&file, b"").unwrap();
        let error = Place::take(&file).unwrap_err().to_string();
        assert!(error.ends_with("is not a folder"), "{error}");
    }
}
