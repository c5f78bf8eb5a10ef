//! A protector and the file that it seals, replaced together so that no crash loses both.
//!
//! After a roll the file is sealed under the egress protector's key, and the two files on disk must
//! change as one. There is no system call for that; there is one for each:
//!
//! ```text
//! 1  write .PROTECTOR.new, synchronise     crash: the old pair stands, leftovers are cleared
//! 2  write .FILE.new, synchronise          crash: the same
//! 3  synchronise the protector's folder    crash: the same
//! 4  rename .FILE.new to FILE              crash: FILE names the protector in .PROTECTOR.new
//! 5  rename .PROTECTOR.new to PROTECTOR    crash: the new pair stands
//! ```
//!
//! The one point of no return is step 4. A sealed file names its protector by digest, so whoever
//! opens the pair next sees which side of it the crash was on, and finishes or clears up. No journal
//! is needed, and there is always a protector on disk that opens the file on disk.

use std::path::{Path, PathBuf};

use hgs_pki::CertificateCache;
use hgs_protector::{Protector, ProtectorDigest, VerifiedProtector};

use crate::files::{self, FileError, Lock, Readers, Staged};
use crate::sealed_file::{self, SealedFile, SealedFileError};

/// Octets of the longest protector (protocol profile, section 2).
pub(crate) const MAX_PROTECTOR: usize = 256 * 1024;

/// A protector file and a sealed file, in use by nobody else until this is dropped.
#[derive(Debug)]
pub struct SealedPair {
    protector_path: PathBuf,
    file_path: PathBuf,
    protector: Vec<u8>,
    file: Vec<u8>,
    recovered: bool,
    _lock: Lock,
}

/// Why a pair can't be opened or replaced.
#[derive(Debug, thiserror::Error)]
pub enum SealedPairError {
    /// One of the files can't be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is not sealed.
    #[error("{}: {problem}", path.display())]
    SealedFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: SealedFileError,
    },
}

/// A step of a replacement that is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    ProtectorStaged,
    FileStaged,
    Synchronised,
    FileReplaced,
    ProtectorReplaced,
}

impl SealedPair {
    /// Opens the pair, after finishing or clearing up what a crash interrupted.
    ///
    /// # Errors
    /// When another process has it, a file can't be read, or the file is not a sealed one.
    pub fn open(protector: &Path, file: &Path) -> Result<Self, SealedPairError> {
        // The protector is replaced last, so its lock holds until everything is done.
        let lock = Lock::take(protector)?;
        let octets = files::read(file, sealed_file::MAX_LENGTH)?;
        let sealed = SealedFile::read(&octets).map_err(|problem| SealedPairError::SealedFile {
            path: file.to_owned(),
            problem,
        })?;
        let recovered = recover(protector, file, &sealed)?;
        let protector_octets = files::read(protector, MAX_PROTECTOR)?;
        Ok(Self {
            protector_path: protector.to_owned(),
            file_path: file.to_owned(),
            protector: protector_octets,
            file: octets,
            recovered,
            // After a recovery, the name is that of another file than the one that was locked.
            _lock: if recovered {
                Lock::take(protector)?
            } else {
                lock
            },
        })
    }

    /// The octets of the protector.
    #[must_use]
    pub fn protector(&self) -> &[u8] {
        &self.protector
    }

    /// The octets of the sealed file.
    #[must_use]
    pub fn file(&self) -> &[u8] {
        &self.file
    }

    /// Whether a replacement that a crash had interrupted was finished.
    #[must_use]
    pub fn was_recovered(&self) -> bool {
        self.recovered
    }

    /// Replaces both: the protector by `egress`, the file by `sealed`, which was sealed under it.
    ///
    /// # Errors
    /// When a file can't be written. Then the pair on disk is the old one or, if only step 5 failed,
    /// the next [`Self::open`] makes it the new one.
    pub fn replace(self, egress: &VerifiedProtector, sealed: &[u8]) -> Result<(), SealedPairError> {
        let nothing = |_| Ok(());
        Ok(self.replace_step_by_step(egress.octets(), sealed, nothing)?)
    }

    fn replace_step_by_step(
        self,
        egress: &[u8],
        sealed: &[u8],
        mut after: impl FnMut(Step) -> Result<(), FileError>,
    ) -> Result<(), FileError> {
        let protector = Staged::write(&self.protector_path, egress, Readers::AsBefore)?;
        after(Step::ProtectorStaged)?;
        let file = Staged::write(&self.file_path, sealed, Readers::AsBefore)?;
        after(Step::FileStaged)?;
        protector.synchronise_folder()?;
        after(Step::Synchronised)?;
        file.replace()?;
        after(Step::FileReplaced)?;
        protector.replace()?;
        after(Step::ProtectorReplaced)
    }
}

/// Finishes or clears up an interrupted replacement, and says whether it finished one.
fn recover(protector: &Path, file: &Path, sealed: &SealedFile<'_>) -> Result<bool, FileError> {
    if let Some(leftover) = Staged::left_for(file)? {
        leftover.discard()?;
    }
    let Some(staged) = Staged::left_for(protector)? else {
        return Ok(false);
    };
    if digest_of(staged.staged())? == Some(sealed.unverified_protector()) {
        staged.replace()?;
        Ok(true)
    } else {
        staged.discard()?;
        Ok(false)
    }
}

/// The digest of a protector file, `None` if it is not one: cut short by the crash, for instance.
fn digest_of(path: &Path) -> Result<Option<ProtectorDigest>, FileError> {
    let octets = files::read(path, MAX_PROTECTOR)?;
    let protector = Protector::read(&octets, &CertificateCache::new(0));
    Ok(protector.ok().map(|protector| protector.digest()))
}
