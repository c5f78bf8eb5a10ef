//! The folder of the state, which only this service may touch (attacks.md K20).

use std::path::{Path, PathBuf};

use hgs_files::{FileError, FileProblem, Lock};

use crate::OpenError;

/// The file of the database in the folder of the state.
pub(crate) const DATABASE: &str = "state.db";

/// The folder of the state: mode 0700, ours, and held by one process at a time.
#[derive(Debug)]
pub(crate) struct StateFolder {
    database: PathBuf,
    // The lock is on a file of its own: closing any descriptor of the database would drop the
    // locks that SQLite holds on it.
    _lock: Lock,
}

impl StateFolder {
    /// Takes hold of `directory`, in which there must be a database.
    pub(crate) fn take_existing(directory: &Path) -> Result<Self, OpenError> {
        let database = directory.join(DATABASE);
        hgs_files::refuse_link(&database)?;
        if !hgs_files::exists(&database)? {
            let directory = directory.to_owned();
            return Err(OpenError::NotInitialised { directory });
        }
        Self::take(directory)
    }

    /// Takes hold of `directory`, which is created when it is missing.
    pub(crate) fn take(directory: &Path) -> Result<Self, OpenError> {
        hgs_files::private_folder(directory)?;
        let lock = match Lock::take_or_create(&directory.join("lock")) {
            Err(error) if matches!(error.problem, FileProblem::InUse) => {
                let directory = directory.to_owned();
                return Err(OpenError::InUse { directory });
            }
            outcome => outcome?,
        };
        for suffix in ["-wal", "-shm", "-journal"] {
            hgs_files::refuse_link(&directory.join(format!("{DATABASE}{suffix}")))?;
        }
        // SQLite gives its companion files the mode of the database, so the database is made here.
        let database = directory.join(DATABASE);
        hgs_files::private_file(&database)?;
        Ok(Self {
            // The folder itself is no link; those above it are the administrator's own.
            database: database.canonicalize().map_err(|error| FileError {
                path: database,
                problem: error.into(),
            })?,
            _lock: lock,
        })
    }

    /// The database file.
    pub(crate) fn database(&self) -> &Path {
        &self.database
    }
}

/// The database in `directory`, to read only: another process may hold it.
pub(crate) fn visit(directory: &Path) -> Result<PathBuf, OpenError> {
    let database = directory.join(DATABASE);
    hgs_files::refuse_link(&database)?;
    if !hgs_files::exists(&database)? {
        let directory = directory.to_owned();
        return Err(OpenError::NotInitialised { directory });
    }
    // The file itself is not opened: see above.
    hgs_files::private_folder(directory)?;
    let resolved = database.canonicalize();
    Ok(resolved.map_err(|error| FileError {
        path: database,
        problem: error.into(),
    })?)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, DirBuilder};
    use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, symlink};

    use super::*;

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn makes_what_is_missing_private() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("state");
        let place = StateFolder::take(&directory).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(&directory), 0o700);
        assert_eq!(mode(place.database()), 0o600);
    }

    #[test]
    fn is_held_by_one_process_at_a_time() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("state");
        let held = StateFolder::take(&directory).unwrap();
        let error = StateFolder::take(&directory).unwrap_err();
        assert!(matches!(error, OpenError::InUse { .. }), "{error}");
        drop(held);
        assert!(StateFolder::take(&directory).is_ok());
    }

    /// attacks.md K20: folder, database, its companions and lock may each be a link planted by
    /// a process that may write beside them.
    #[test]
    fn k20_symbolic_links_are_refused() {
        let parent = tempfile::tempdir().unwrap();
        let link = parent.path().join("link");
        symlink(parent.path(), &link).unwrap();
        let refused = |directory: &Path| match StateFolder::take(directory).unwrap_err() {
            OpenError::Folder(FileError {
                path,
                problem: FileProblem::SymbolicLink,
            }) => path,
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
        drop(StateFolder::take(&directory).unwrap());
        let remedy = || match StateFolder::take(&directory).unwrap_err() {
            OpenError::Folder(error) => error.remedy().unwrap(),
            other => panic!("{other}"),
        };
        set_mode(&directory.join(DATABASE), 0o640);
        assert!(remedy().ends_with("state.db`"), "{}", remedy());
        set_mode(&directory, 0o750);
        assert!(remedy().starts_with("run `chmod go= "), "{}", remedy());
    }

    #[test]
    fn what_is_missing_is_not_made_by_looking() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("state");
        let error = StateFolder::take_existing(&directory).unwrap_err();
        assert!(matches!(error, OpenError::NotInitialised { .. }), "{error}");
        assert!(!directory.exists());
        drop(StateFolder::take(&directory).unwrap());
        assert!(StateFolder::take_existing(&directory).is_ok());
    }

    #[test]
    fn a_file_in_place_of_the_folder_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let file = parent.path().join("state");
        fs::write(&file, b"").unwrap();
        let error = StateFolder::take(&file).unwrap_err().to_string();
        assert!(error.ends_with("is not a folder"), "{error}");
    }
}
