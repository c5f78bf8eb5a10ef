use std::io;
use std::path::{Path, PathBuf};

use hgs_crypto::CryptoError;
use hgs_custody_tpm::TpmError;
use hgs_files::FileError;

use super::gpt::PartitionError;
use super::plain::PlainDiskError;
use super::unified::{SigningError, UnifiedError};
use super::variables::VariableStoreError;
use crate::generation::StateError;
use crate::identity::IdentityError;
use crate::parts::PartsError;
use crate::rekey::RekeyError;
use crate::swtpm::SwtpmError;

/// Why an image is not made, or not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// A program is missing.
    #[error("the program `{program}` is not installed (Debian package {package})")]
    NotInstalled {
        /// The program.
        program: &'static str,
        /// The package of Debian that has it.
        package: &'static str,
    },
    /// A file that the guest's first file system needs is missing.
    #[error("there is no file {name} on this machine (Debian package {package})")]
    NoSuchFile {
        /// The file.
        name: String,
        /// The package of Debian that has it.
        package: &'static str,
    },
    /// A program failed.
    #[error("{program} failed: {message}")]
    Failed {
        /// The program.
        program: String,
        /// What it said.
        message: String,
    },
    /// A kernel module is neither among the modules nor built into the kernel.
    #[error("the kernel in {} has no module `{module}`, which the guest needs to open its disk", folder.display())]
    NoModule {
        /// The module.
        module: String,
        /// The folder of the kernel's modules.
        folder: PathBuf,
    },
    /// A file can't be used.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file can't be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// A part of VMs is missing.
    #[error(transparent)]
    Parts(#[from] PartsError),
    /// The disk's partition table is not used.
    #[error(transparent)]
    Partitions(#[from] PartitionError),
    /// The disk image is not taken.
    #[error(transparent)]
    PlainDisk(#[from] PlainDiskError),
    /// The unified kernel image is not made.
    #[error(transparent)]
    Unified(#[from] UnifiedError),
    /// The unified kernel image is not signed.
    #[error(transparent)]
    Signing(#[from] SigningError),
    /// The firmware's variables are not made.
    #[error(transparent)]
    Variables(#[from] VariableStoreError),
    /// The vTPM does not run.
    #[error(transparent)]
    Swtpm(#[from] SwtpmError),
    /// The vTPM refuses.
    #[error("the virtual TPM: {0}")]
    Tpm(#[from] TpmError),
    /// The vTPM gets no identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The vTPM's state can't be moved to another key.
    #[error(transparent)]
    Rekey(#[from] RekeyError),
    /// The VM's state can't be kept.
    #[error(transparent)]
    State(#[from] StateError),
    /// The text that the kernel would be told is none.
    #[error("{0}")]
    Description(String),
    /// There is no randomness.
    #[error("no randomness to make keys with")]
    Random(#[from] CryptoError),
}

impl ImageError {
    /// What the operating system says about a path.
    pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |error| Self::Io {
            path: path.to_owned(),
            error,
        }
    }
}
