//! The state folder: what a host must keep secret.
//!
//! ```text
//! host-key.pem               the host key, PKCS#8
//! master.key                 32 octets, under which the identity keys are sealed
//! identity-encryption.json   an identity key, sealed, and the health certificates over it
//! identity-signing.json      the same for signing
//! tpm-identity-encryption.json, tpm-identity-signing.json
//!                            the same in TPM mode: the TPM has encrypted the key
//! endorsement-key            TPMT_PUBLIC of the endorsement key that the host attests with
//! tpm-handles                what the process has loaded into a TPM without a resource manager
//! status.json                what the last attempt to attest came to
//! kept-keys/                 keys to start VMs with while no guardian answers, sealed by the TPM
//! kept-keys.lock             held while they change
//! report.lock                held while their uses are reported
//! attest.lock                held while a health certificate is asked for
//! ```

use std::path::{Path, PathBuf};

use hgs_crypto::CryptoError;
use hgs_crypto::random::System;
use hgs_custody::seal::{MASTER_KEY_LENGTH, MasterKey, MasterKeyProblem};
use hgs_files::{FileError, FileProblem, Lock, Readers};
use hgs_pki::health::HealthKind;

use crate::folders::{ENDORSEMENT_KEY, HOST_KEY};

/// A host's state folder, which is its owner's alone.
#[derive(Debug, Clone)]
pub(crate) struct StateFolder(PathBuf);

/// Why there is no master key. The operator is at fault, or the system.
#[derive(Debug, thiserror::Error)]
pub enum MasterKeyError {
    /// The file can't be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file holds something else.
    #[error("{}: {problem}", path.display())]
    Length {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: MasterKeyProblem,
    },
    /// No randomness to draw one.
    #[error("no randomness for a master key")]
    Random(#[from] CryptoError),
}

impl StateFolder {
    /// The folder at `path`, which is created if need be.
    pub(crate) fn open(path: &Path) -> Result<Self, FileError> {
        hgs_files::private_folder(path)?;
        Ok(Self(path.to_owned()))
    }

    /// The folder at `path` if it is there.
    pub(crate) fn existing(path: &Path) -> Result<Option<Self>, FileError> {
        if hgs_files::exists(path)? {
            Self::open(path).map(Some)
        } else {
            Ok(None)
        }
    }

    /// The folder at `path`, which is not there and is not made.
    pub(crate) fn absent(path: &Path) -> Self {
        Self(path.to_owned())
    }

    pub(crate) fn host_key(&self) -> PathBuf {
        self.0.join(HOST_KEY)
    }

    pub(crate) fn identity(&self, kind: HealthKind) -> PathBuf {
        self.0.join(format!("identity-{kind}.json"))
    }

    pub(crate) fn tpm_identity(&self, kind: HealthKind) -> PathBuf {
        self.0.join(format!("tpm-identity-{kind}.json"))
    }

    pub(crate) fn endorsement_key(&self) -> PathBuf {
        self.0.join(ENDORSEMENT_KEY)
    }

    pub(crate) fn tpm_handles(&self) -> PathBuf {
        self.0.join("tpm-handles")
    }

    pub(crate) fn kept_keys(&self) -> PathBuf {
        self.0.join("kept-keys")
    }

    pub(crate) fn report_lock(&self) -> PathBuf {
        self.0.join("report.lock")
    }

    pub(crate) fn kept_keys_lock(&self) -> PathBuf {
        self.0.join("kept-keys.lock")
    }

    pub(crate) fn status(&self) -> PathBuf {
        self.0.join("status.json")
    }

    /// Waits until no other process asks for a health certificate with this folder.
    pub(crate) fn wait_for_attestation_lock(&self) -> Result<Lock, FileError> {
        Lock::wait_or_create(&self.0.join("attest.lock"))
    }

    /// The master key, drawn at first use.
    pub(crate) fn master_key(&self) -> Result<MasterKey, MasterKeyError> {
        let path = self.0.join("master.key");
        if let Some(octets) =
            hgs_files::optional(hgs_files::read_secret(&path, MASTER_KEY_LENGTH + 1))?
        {
            return MasterKey::from_octets(octets)
                .map_err(|problem| MasterKeyError::Length { path, problem });
        }
        let key = MasterKey::generate(&mut System::new())?;
        match hgs_files::create(&path, key.octets().expose(), Readers::Owner) {
            // Another process was first: its key is the one.
            Err(error) if matches!(error.problem, FileProblem::AlreadyExists) => self.master_key(),
            outcome => Ok(outcome.map(|()| key)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn all_that_need_the_master_key_at_once_get_the_one_that_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (path, start) = (folder.path().join("host"), Barrier::new(8));
        let draw = || {
            let state = StateFolder::open(&path).unwrap();
            start.wait();
            state.master_key().unwrap().octets().expose().to_vec()
        };
        let drawn: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(draw)).collect();
            threads.into_iter().map(|one| one.join().unwrap()).collect()
        });
        let kept = std::fs::read(path.join("master.key")).unwrap();
        assert_eq!(drawn, vec![kept; 8]);
    }
}
