//! Opening without being led elsewhere, and reading within a limit.

use std::fs::{File, Metadata, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use hgs_crypto::SecretBytes;
use rustix::fs::OFlags;

use crate::{FileError, FileProblem};

/// Reads a file of at most `limit` octets.
///
/// # Errors
/// See [`FileProblem`].
pub fn read(path: &Path, limit: usize) -> Result<Vec<u8>, FileError> {
    let mut octets = Vec::new();
    read_from(open(path)?, limit, &mut octets).map_err(|problem| FileError::at(path, problem))?;
    Ok(octets)
}

/// Reads a secret of at most `limit` octets from a file that nobody else may open.
///
/// # Errors
/// See [`FileProblem`].
pub fn read_secret(path: &Path, limit: usize) -> Result<SecretBytes, FileError> {
    let at = |problem| FileError::at(path, problem);
    let file = open(path)?;
    let meta = file.metadata().map_err(|error| at(error.into()))?;
    check_private(&meta).map_err(at)?;
    // Room for all of it, so that no reallocation leaves a part of the secret behind.
    let length = usize::try_from(meta.len()).unwrap_or(limit).min(limit);
    let mut octets = Vec::with_capacity(length + 1);
    let outcome = read_from(file, limit, &mut octets);
    let secret = SecretBytes::new(octets);
    outcome.map_err(at)?;
    Ok(secret)
}

/// Makes sure that `path` is a file that nobody else may open, creating an empty one with mode 0600.
///
/// # Errors
/// See [`FileProblem`].
pub fn private_file(path: &Path) -> Result<(), FileError> {
    open_private_file(path).map(drop)
}

/// As [`private_file`]; the file is open for reading and writing.
///
/// # Errors
/// See [`FileProblem`].
pub fn open_private_file(path: &Path) -> Result<File, FileError> {
    let at = |problem| FileError::at(path, problem);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).mode(0o600);
    let file = open_with(&mut options, path)?;
    let meta = file.metadata().map_err(|error| at(error.into()))?;
    check_private(&meta).map_err(at)?;
    Ok(file)
}

/// Opens a file for reading.
pub(crate) fn open(path: &Path) -> Result<File, FileError> {
    open_with(OpenOptions::new().read(true), path)
}

fn open_with(options: &mut OpenOptions, path: &Path) -> Result<File, FileError> {
    let file = options
        // Without NONBLOCK, opening a pipe would wait for its writer.
        .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
        .open(path)
        .map_err(|error| FileError::at(path, error))?;
    let meta = file
        .metadata()
        .map_err(|error| FileError::at(path, error))?;
    if meta.is_file() {
        Ok(file)
    } else {
        Err(FileError::at(path, FileProblem::NotA { expected: "file" }))
    }
}

/// Refuses what belongs to somebody else, or what somebody else may open. What belongs to root is as safe as the
/// system is.
pub(crate) fn check_private(meta: &Metadata) -> Result<(), FileProblem> {
    let (owner, mode) = (meta.uid(), meta.mode() & 0o7777);
    if owner != rustix::process::geteuid().as_raw() && owner != 0 {
        Err(FileProblem::Owner { owner })
    } else if mode & 0o077 != 0 {
        Err(FileProblem::Permissions { mode })
    } else {
        Ok(())
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::{Readers, create};

    #[test]
    fn a_secret_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        for shared in [0o640, 0o604, 0o660] {
            fs::write(&path, b"x").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(shared)).unwrap();
            let error = read_secret(&path, 16).unwrap_err();
            assert!(matches!(error.problem, FileProblem::Permissions { mode } if mode == shared));
            assert!(error.remedy().unwrap().contains("chmod go= "));
        }
    }

    #[test]
    fn the_limit_is_in_octets_and_exact() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        create(&path, b"12345", Readers::Owner).unwrap();
        assert_eq!(read(&path, 5).unwrap(), b"12345");
        let error = read(&path, 4).unwrap_err();
        assert!(matches!(error.problem, FileProblem::TooLarge { limit: 4 }));
        assert!(read_secret(&path, 4).is_err());
    }

    #[test]
    fn folders_and_pipes_are_not_files() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        for path in [folder.path(), &pipe] {
            let error = read(path, 16).unwrap_err();
            assert!(matches!(
                error.problem,
                FileProblem::NotA { expected: "file" }
            ));
        }
    }
}
