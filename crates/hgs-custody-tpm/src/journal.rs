//! The handles that a process has, so that the next one can flush them if it crashes.

use std::path::PathBuf;

use hgs_files::{FileError, Readers};
use hgs_tcg::tpm::Handle;

/// Octets of the longest journal: a line with the boot, and some handles.
const MAX_LENGTH: usize = 4096;

/// A file with the handles that this process has in a TPM without a resource manager. Handles of an earlier boot mean nothing,
/// so it names the boot.
///
/// A host without a journal loses slots if it crashes, until the machine is started anew.
#[derive(Debug, Clone)]
pub struct Journal {
    path: PathBuf,
    boot: String,
}

impl Journal {
    /// The journal at `path`; `boot` is different after each start of the machine, as `/proc/sys/kernel/random/boot_id` is.
    /// If it is empty, nothing that was left behind is flushed.
    #[must_use]
    pub fn new(path: PathBuf, boot: &str) -> Self {
        Self {
            path,
            boot: boot.trim().to_owned(),
        }
    }

    /// The handles that a process of this boot left behind.
    pub(crate) fn left_behind(&self) -> Result<Vec<Handle>, FileError> {
        let octets = hgs_files::optional(hgs_files::read(&self.path, MAX_LENGTH))?;
        let text = String::from_utf8(octets.unwrap_or_default()).unwrap_or_default();
        let mut lines = text.lines();
        if self.boot.is_empty() || lines.next() != Some(&self.boot) {
            return Ok(Vec::new());
        }
        let handles = lines.filter_map(|line| u32::from_str_radix(line, 16).ok());
        Ok(handles.map(Handle::new).collect())
    }

    /// Notes which handles there are now.
    pub(crate) fn note(&self, handles: &[Handle]) -> Result<(), FileError> {
        if handles.is_empty() {
            return hgs_files::optional(hgs_files::remove(&self.path)).map(|_| ());
        }
        let mut text = self.boot.clone();
        for handle in handles {
            text += &format!("\n{:08x}", handle.value());
        }
        hgs_files::replace(&self.path, text.as_bytes(), Readers::Owner)
    }
}
