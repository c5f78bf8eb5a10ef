use std::io;
use std::path::PathBuf;

use super::control::{ControlError, TpmResult};

/// Why a TPM does not run, or did not do what was asked of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SwtpmError {
    /// The program is missing.
    #[error("the program `swtpm` is not installed (Debian package swtpm)")]
    NotInstalled,
    /// The process can't be started.
    #[error("swtpm can't be started: {0}")]
    Start(io::Error),
    /// A path that swtpm's options can't hold.
    #[error("the path {} has a comma, which swtpm takes for the end of an option", .0.display())]
    Comma(PathBuf),
    /// Starting without a state would make a new TPM in the VM's place.
    #[error("{} has no TPM state (tpm2-00.permall); it is not started, for swtpm would make a new TPM there", .0.display())]
    NoState(PathBuf),
    /// A state where none may be.
    #[error("{} has a TPM state already, which would be lost", .0.display())]
    StateExists(PathBuf),
    /// A state was refused by this process before.
    #[error("swtpm has refused a state; started now, it would make an empty TPM")]
    StateRefused,
    /// The process was not given both keys as it should, or does not say so.
    #[error(
        "swtpm does not have the keys that it was given: {missing} is missing; nothing was written"
    )]
    KeyMissing {
        /// Which key.
        missing: &'static str,
    },
    /// A state under another key, or an altered one. swtpm can't tell which.
    #[error("the TPM state in {} can't be opened with this key: it is under another key, or was altered{}", folder.display(), told(said))]
    WrongKey {
        /// The folder of the state.
        folder: PathBuf,
        /// What swtpm said.
        said: String,
    },
    /// Another process uses the state.
    #[error("the TPM state in {} is in use by another swtpm, or its folder can't be written{}", folder.display(), told(said))]
    InUse {
        /// The folder of the state.
        folder: PathBuf,
        /// What swtpm said.
        said: String,
    },
    /// swtpm refused or went away.
    #[error("{error}{}", told(said))]
    Control {
        /// What went wrong on the control channel.
        error: ControlError,
        /// What swtpm said.
        said: String,
    },
    /// It does not listen.
    #[error("swtpm does not start{}", told(said))]
    DoesNotListen {
        /// What swtpm said.
        said: String,
    },
    /// It does not end.
    #[error("swtpm was told to end and goes on; it was killed")]
    DoesNotEnd,
    /// A file that a crash left, or swtpm's own, can't be handled.
    #[error(transparent)]
    File(#[from] hgs_files::FileError),
}

fn told(said: &str) -> String {
    match said {
        "" => String::new(),
        said => format!(" (swtpm: {said})"),
    }
}

impl SwtpmError {
    /// What became of starting a TPM on the state in `folder`.
    pub(super) fn of_start(error: ControlError, folder: PathBuf, said: String) -> Self {
        match error.result() {
            Some(TpmResult::FAILURE) => Self::WrongKey { folder, said },
            Some(TpmResult::FAIL) => Self::InUse { folder, said },
            _ => Self::Control { error, said },
        }
    }
}
