//! Recovery keys of disks at the command line.

use std::fmt;
use std::path::PathBuf;

use hgs_files::{Readers, text};
use hgs_terminal::{AtFault, Failure, PassphraseSource, passphrase};
use hgs_vm::image::RecoveryKey;
use serde::Serialize;
use zeroize::Zeroizing;

/// Where the recovery key of a disk comes from.
#[derive(Debug, clap::Args)]
pub(super) struct RecoveryKeyOption {
    /// Where the recovery key comes from: file:PATH, credential:NAME or env:NAME; otherwise it is asked for
    #[arg(long, value_name = "SOURCE")]
    pub(super) recovery_key_from: Option<PassphraseSource>,
}

impl RecoveryKeyOption {
    pub(super) fn read(&self) -> Result<RecoveryKey, Failure> {
        let typed = passphrase(
            self.recovery_key_from.as_ref(),
            "the recovery key of the disk",
        )?;
        let typed = text(typed.expose().to_vec()).map(Zeroizing::new);
        let typed = typed.map_err(|_| Failure::refused("the recovery key is no text"))?;
        let recovery_key = RecoveryKey::read(&typed);
        recovery_key.map_err(|error| Failure::refused(error).at_fault(AtFault::Operator))
    }
}

/// Where a new recovery key goes.
#[derive(Debug, clap::Args)]
pub(super) struct NewRecoveryKeyOption {
    /// Write the recovery key into this new file (mode 0600) instead of showing it
    #[arg(long, value_name = "FILE")]
    pub(super) recovery_key_file: Option<PathBuf>,
}

/// A recovery key as it is told this once: itself, or the file that has it.
#[derive(Serialize)]
pub(super) struct ToldRecoveryKey {
    #[serde(skip_serializing_if = "Option::is_none")]
    recovery_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recovery_key_file: Option<String>,
}

impl NewRecoveryKeyOption {
    /// Writes the key into its file, or has it shown.
    pub(super) fn tell(self, key: &RecoveryKey) -> Result<ToldRecoveryKey, Failure> {
        let passphrase = key.passphrase().expose();
        Ok(match self.recovery_key_file {
            Some(file) => {
                hgs_files::create(&file, passphrase, Readers::Owner)?;
                ToldRecoveryKey {
                    recovery_key: None,
                    recovery_key_file: Some(file.display().to_string()),
                }
            }
            None => ToldRecoveryKey {
                recovery_key: Some(String::from_utf8_lossy(passphrase).into_owned()),
                recovery_key_file: None,
            },
        })
    }
}

impl fmt::Display for ToldRecoveryKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.recovery_key, &self.recovery_key_file) {
            (Some(key), _) => {
                writeln!(
                    formatter,
                    "Its recovery key, which is shown this once and kept nowhere:"
                )?;
                writeln!(formatter, "  {key}")
            }
            (None, Some(file)) => writeln!(
                formatter,
                "Its recovery key is in {file}; keep that away from the fabric."
            ),
            (None, None) => Ok(()),
        }
    }
}
