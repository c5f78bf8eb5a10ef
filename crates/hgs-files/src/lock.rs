use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use crate::open::{open, open_private_file};
use crate::{FileError, FileProblem};

/// Exclusive use of a file among processes, until it is dropped.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "holds the lock until it is closed")] File);

impl Lock {
    /// Waits for the lock on a private file that exists for nothing else, and is created if need be.
    pub fn wait_or_create(path: &Path) -> Result<Self, FileError> {
        let file = open_private_file(path)?;
        flock(&file, FlockOperation::LockExclusive)
            .map_err(|error| FileError::at(path, io::Error::from(error)))?;
        Ok(Self(file))
    }

    /// As [`Self::wait_or_create`], without waiting.
    ///
    /// # Errors
    /// [`FileProblem::InUse`] when another process holds it; others as [`FileProblem`] says.
    pub fn take_or_create(path: &Path) -> Result<Self, FileError> {
        let file = open_private_file(path)?;
        at_once(&file, path)?;
        Ok(Self(file))
    }

    /// Locks the file that `path` names now; it is never waited for.
    ///
    /// # Errors
    /// [`FileProblem::InUse`] when another process holds it; others as [`FileProblem`] says.
    pub fn take(path: &Path) -> Result<Self, FileError> {
        let at = |error: io::Error| FileError::at(path, error);
        loop {
            let file = open(path)?;
            at_once(&file, path)?;
            // The former holder of the lock may have replaced the file that was opened here.
            let held = file.metadata().map_err(at)?;
            let named = fs::symlink_metadata(path).map_err(at)?;
            if (held.dev(), held.ino()) == (named.dev(), named.ino()) {
                return Ok(Self(file));
            }
        }
    }
}

/// Locks a file that no other process holds.
fn at_once(file: &File, path: &Path) -> Result<(), FileError> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::WOULDBLOCK) => Err(FileError::at(path, FileProblem::InUse)),
        outcome => outcome.map_err(|error| FileError::at(path, io::Error::from(error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Readers, create, replace};

    #[test]
    fn a_lock_excludes_and_follows_the_file_that_has_the_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        create(&path, b"1", Readers::Owner).unwrap();
        let lock = Lock::take(&path).unwrap();
        let error = Lock::take(&path).unwrap_err();
        assert!(matches!(error.problem, FileProblem::InUse));
        replace(&path, b"2", Readers::Owner).unwrap();
        drop(lock);
        Lock::take(&path).unwrap();
    }

    #[test]
    fn a_file_of_its_own_is_created_and_held_by_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let lock = Lock::take_or_create(&path).unwrap();
        let error = Lock::take_or_create(&path).unwrap_err();
        assert!(matches!(error.problem, FileProblem::InUse));
        drop(lock);
        Lock::wait_or_create(&path).unwrap();
    }
}
