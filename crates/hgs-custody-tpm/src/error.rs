//! What can be wrong with a TPM.

use std::io;

use hgs_crypto::CryptoError;
use hgs_files::FileError;
use hgs_pki::endorsement::EndorsementCertificateError;
use hgs_tcg::tpm::{KeyUseError, PublicError, ResponseCode, ResponseError};

use crate::device::Device;

/// Why a TPM did not do what it was asked for. The host is at fault, or who operates it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TpmError {
    /// There is none.
    #[error("there is no TPM at {device}: {error}")]
    Absent {
        /// Where it was looked for.
        device: Device,
        /// What the system says.
        error: io::Error,
    },
    /// This user may not use it.
    #[error("{device}: this user may not use the TPM")]
    Forbidden {
        /// Which TPM.
        device: Device,
    },
    /// Another program uses it.
    #[error("{device}: another program uses the TPM, which serves one at a time")]
    InUse {
        /// Which TPM.
        device: Device,
    },
    /// The way to it broke.
    #[error("{device}: the TPM does not answer: {error}")]
    Broken {
        /// Which TPM.
        device: Device,
        /// What the system says.
        error: io::Error,
    },
    /// It wanted the same command again, until nobody could wait any longer.
    #[error("the TPM stays busy: {0}")]
    StaysBusy(ResponseCode),
    /// It has no slot for another key or session.
    #[error("the TPM has no room: {0}")]
    NoSlots(ResponseCode),
    /// It takes no passwords for some time.
    #[error("the TPM is locked: {0}")]
    LockedOut(ResponseCode),
    /// It refused, or what it said is no response to the command.
    #[error("{command}: {error}")]
    Response {
        /// The command.
        command: &'static str,
        /// What it answered.
        error: ResponseError,
    },
    /// Its endorsement key or storage root key is not of the profile.
    #[error("{key} of the TPM: {error}")]
    Key {
        /// Which key.
        key: &'static str,
        /// What is wrong with it.
        error: PublicError,
    },
    /// Its EK certificate is not acceptable.
    #[error("the EK certificate in the TPM: {0}")]
    Certificate(#[from] EndorsementCertificateError),
    /// It has no bank of SHA-256.
    #[error("the TPM has no PCRs for SHA-256")]
    NoSha256Bank,
    /// It was cleared, or it is another TPM.
    #[error(
        "the TPM has another storage root key than when the identity key was made: it was cleared, or it is another TPM"
    )]
    OtherStorageRootKey,
    /// Its NV memory is full, or it has as many indices as it can.
    #[error("the TPM has no room in its NV memory: {0}")]
    NoNvMemory(ResponseCode),
    /// Another program has made an NV index where a counter of this program belongs.
    #[error(
        "NV index {0:#010x} of the TPM is not the counter of this program: another program has made it"
    )]
    ForeignIndex(u32),
    /// The counter has gone on since something was sealed.
    #[error("the counter in the TPM has gone on: this copy was used, or a newer one was made")]
    CounterChanged,
    /// The key can't be used.
    #[error(transparent)]
    KeyUse(KeyUseError),
    /// The journal of handles can't be read or written.
    #[error(transparent)]
    Journal(#[from] FileError),
    /// A primitive of ours failed.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
}

impl TpmError {
    /// What became of `error`, which came back from `command`.
    pub(crate) fn of_response(command: &'static str, error: ResponseError) -> Self {
        match error {
            ResponseError::Refused(code) if code.is_transient() => Self::StaysBusy(code),
            ResponseError::Refused(code) if code.is_out_of_slots() => Self::NoSlots(code),
            ResponseError::Refused(code) if code.is_lockout() => Self::LockedOut(code),
            error => Self::Response { command, error },
        }
    }

    /// What became of the use of a key.
    pub(crate) fn of_use(command: &'static str, error: KeyUseError) -> Self {
        match error {
            KeyUseError::Response(error) => Self::of_response(command, error),
            error => Self::KeyUse(error),
        }
    }

    /// Whether the key of a host is of no more use, and a new one has to be attested: PCRs have changed, the TPM was
    /// cleared, or the key is of another TPM.
    #[must_use]
    pub fn needs_new_key(&self) -> bool {
        match self {
            Self::KeyUse(KeyUseError::PcrsChanged) | Self::OtherStorageRootKey => true,
            Self::Response {
                command: "TPM2_Load",
                error: ResponseError::Refused(code),
            } => code.is_foreign_object(),
            _ => false,
        }
    }
}
