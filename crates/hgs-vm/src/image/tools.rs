//! The programs and files that images are made with.

use std::path::PathBuf;

use super::ImageError;
use crate::parts::Parts;
use crate::program::Program;

/// The programs and files that images are made with: those of this machine, or of packages that were fetched.
#[derive(Debug)]
pub struct Tools {
    /// `cryptsetup`.
    pub cryptsetup: Program,
    /// `systemd-cryptenroll`.
    pub cryptenroll: Program,
    /// `swtpm`.
    pub swtpm: Program,
    /// A statically linked busybox.
    pub busybox: PathBuf,
    /// Folders of libraries, beside those of the system.
    pub libraries: Vec<PathBuf>,
    /// systemd's stub of unified kernel images.
    pub stub: PathBuf,
    /// OVMF's store of variables without keys.
    pub empty_variables: PathBuf,
}

impl Tools {
    /// Those among the parts of VMs.
    ///
    /// # Errors
    /// When one is missing.
    pub fn of(parts: &Parts) -> Result<Self, ImageError> {
        Ok(Self {
            cryptsetup: parts.program("cryptsetup")?,
            cryptenroll: parts.program("systemd-cryptenroll")?,
            swtpm: parts.program("swtpm")?,
            busybox: parts.program("busybox")?.path,
            libraries: parts.library_folders(),
            stub: parts.file("usr/lib/systemd/boot/efi/linuxx64.efi.stub")?,
            empty_variables: parts.file("usr/share/OVMF/OVMF_VARS_4M.fd")?,
        })
    }
}
