//! The folder of a VM while it is made: beside its place, and moved there when it is whole.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hgs_files::Lock;

use super::ImageError;

/// A folder beside its target that is removed unless it is finished.
pub(super) struct WorkFolder {
    path: PathBuf,
    target: PathBuf,
    lock: Option<Lock>,
}

/// The file in a folder that is not finished, held by the process that fills it.
const MAKING: &str = "making.lock";

impl WorkFolder {
    /// Makes the folder, or empties what an attempt left that was interrupted: its recovery key was told to nobody.
    pub(super) fn create(target: &Path) -> Result<Self, ImageError> {
        let exists = |path| ImageError::at(path)(io::ErrorKind::AlreadyExists.into());
        if hgs_files::exists(target)? {
            return Err(exists(target));
        }
        let name = target.file_name().ok_or_else(|| exists(target))?;
        let path = target.with_file_name(format!(".{}.new", name.to_string_lossy()));
        let making = path.join(MAKING);
        let left = hgs_files::exists(&path)?;
        if left && !hgs_files::exists(&making)? {
            return Err(exists(&path));
        }
        hgs_files::private_folder(&path)?;
        let lock = Lock::take_or_create(&making)?;
        if left {
            for entry in fs::read_dir(&path).map_err(ImageError::at(&path))? {
                let entry = entry.map_err(ImageError::at(&path))?;
                let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
                let removed = match is_folder {
                    true => fs::remove_dir_all(entry.path()),
                    false if entry.file_name() == MAKING => Ok(()),
                    false => fs::remove_file(entry.path()),
                };
                removed.map_err(ImageError::at(&entry.path()))?;
            }
        }
        Ok(Self {
            path,
            target: target.to_owned(),
            lock: Some(lock),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn finish(mut self) -> Result<(), ImageError> {
        hgs_files::remove(&self.path.join(MAKING))?;
        self.lock = None;
        fs::rename(&self.path, &self.target).map_err(ImageError::at(&self.target))?;
        hgs_files::synchronise_folder_of(&self.target)?;
        Ok(())
    }
}

impl Drop for WorkFolder {
    fn drop(&mut self) {
        if self.lock.is_some()
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            tracing::warn!(folder = %self.path.display(), %error, "an unfinished VM stays");
        }
    }
}
