//! The TPM of this host: who the host is by it, and what it says about its boot.

mod examination;
mod machine;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hgs_attest::client::rtpm::Measurements;
use hgs_attest::platform_identity::{PlatformIdentity, PlatformIdentityError};
use hgs_attest::policy::RecordedEvidence;
use hgs_attest::rtpm::DeviceInfo;
use hgs_crypto::rsa::PublicKeyError;
use hgs_custody_tpm::{AttestedKey, Device, Journal, Slow, Tpm, TpmError, TpmKey};
use hgs_files::{FileError, Readers};
use hgs_tcg::tpm::{EndorsementKey, PublicError};

use crate::configuration::TpmSettings;
use crate::error::Error;
use crate::host::GuardedHost;

pub use machine::MeasurementError;

/// Octets of the file with the endorsement key.
const MAX_PUBLIC: usize = 4096;

/// Why this host is not known by its TPM.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostTpmError {
    /// The TPM does not do what it is asked for.
    #[error(transparent)]
    Tpm(#[from] TpmError),
    /// The logs of the boot can't be read.
    #[error(transparent)]
    Measurement(#[from] MeasurementError),
    /// A file of the state folder can't be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file with the endorsement key holds something else.
    #[error("{}: {problem}", path.display())]
    EndorsementKeyFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: PublicError,
    },
    /// The TPM is another than before.
    #[error(
        "{device}: the TPM has another endorsement key than this host has attested with: it is another TPM, or its seed was changed"
    )]
    OtherTpm {
        /// Which TPM.
        device: Device,
    },
    /// The certificate in the TPM is over another key.
    #[error("the EK certificate in the TPM is not over its endorsement key")]
    OtherCertificate,
    /// What the TPM and the firmware say is no identity.
    #[error(transparent)]
    Identity(#[from] PlatformIdentityError),
}

/// Is told what takes the TPM many seconds, before it begins. The default tells nobody.
#[derive(Clone)]
pub struct Progress(Arc<dyn Fn(Slow) + Send + Sync>);

impl Progress {
    /// Has `tell` told.
    #[must_use]
    pub fn new(tell: impl Fn(Slow) + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new(|_| ())
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Progress(..)")
    }
}

/// The TPM of one host. Its calls block.
#[derive(Debug, Clone)]
pub(crate) struct HostTpm {
    pub(crate) settings: TpmSettings,
    /// Where handles are kept, if the host has a state folder.
    pub(crate) journal: Option<Journal>,
    pub(crate) progress: Progress,
    /// Where the endorsement key is kept that the host attests with.
    pub(crate) endorsement_key: PathBuf,
}

impl HostTpm {
    pub(crate) fn open(&self) -> Result<Tpm, TpmError> {
        let tpm = Tpm::open(&self.settings.device, self.journal.clone())?;
        let progress = self.progress.clone();
        Ok(tpm.with_progress(move |slow| (progress.0)(slow)))
    }

    /// The endorsement key that this host attests with. The first one that it sees is the one from then on: only then can
    /// the host tell whether what answers is its TPM.
    pub(crate) fn endorsement_key(&self, tpm: &mut Tpm) -> Result<EndorsementKey, HostTpmError> {
        if let Some(key) = self.kept_endorsement_key()? {
            return Ok(key);
        }
        let key = tpm.endorsement_key()?;
        self.keep(&key)?;
        Ok(key)
    }

    fn kept_endorsement_key(&self) -> Result<Option<EndorsementKey>, HostTpmError> {
        let path = &self.endorsement_key;
        let octets = hgs_files::optional(hgs_files::read(path, MAX_PUBLIC))?;
        let key = octets.map(|octets| EndorsementKey::parse(&octets));
        key.transpose()
            .map_err(|problem| HostTpmError::EndorsementKeyFile {
                path: path.clone(),
                problem,
            })
    }

    fn keep(&self, key: &EndorsementKey) -> Result<(), FileError> {
        let octets = key.public().octets();
        hgs_files::replace(&self.endorsement_key, octets, Readers::Owner)
    }

    /// Who this host is by its TPM.
    pub(crate) fn platform_identity(
        &self,
        accept: OtherTpm,
    ) -> Result<PlatformIdentity, HostTpmError> {
        let mut tpm = self.open()?;
        let key = tpm.endorsement_key()?;
        let certificate = tpm.endorsement_certificate()?;
        if let Some(certificate) = &certificate
            && certificate.public_key() != key.key()
        {
            return Err(HostTpmError::OtherCertificate);
        }
        match self.kept_endorsement_key() {
            Ok(Some(kept)) if kept != key && accept == OtherTpm::Refuse => {
                return Err(HostTpmError::OtherTpm {
                    device: self.settings.device.clone(),
                });
            }
            Err(error) if accept == OtherTpm::Refuse => return Err(error),
            _ => self.keep(&key)?,
        }
        let smbios = machine::smbios(Path::new(machine::DMI));
        let public = key.public().octets().to_vec();
        Ok(PlatformIdentity::new(public, certificate, smbios)?)
    }

    /// An attested key of this TPM, as a place where work is done.
    pub(crate) fn key(&self, key: AttestedKey) -> Result<TpmKey, PublicKeyError> {
        TpmKey::new(key, self.settings.device.clone(), self.journal.clone())
    }

    /// What this host says about its boot, read now.
    pub(crate) fn measurements(&self) -> Result<Measurements, MeasurementError> {
        let log = machine::read_log(&self.settings.event_log, machine::MAX_EVENT_LOG)?;
        let command_line = machine::command_line();
        let mut preimages = machine::preimages(&log, &command_line);
        let user_space = machine::user_space_events(&log);
        preimages.extend(user_space.preimages);
        Ok(Measurements {
            preimages,
            unexplained: user_space.unexplained,
            event_log: log,
            ima_log: machine::read_log(&self.settings.ima_log, machine::MAX_IMA_LOG)?,
            device: Some(match self.settings.device {
                Device::Character(_) => DeviceInfo::HARDWARE,
                Device::UnixSocket(_) | Device::Tcp { .. } => DeviceInfo::EMULATOR,
            }),
        })
    }

    /// The same with the values of the PCRs, as the TPM says now without a proof.
    pub(crate) fn evidence(&self) -> Result<RecordedEvidence, HostTpmError> {
        let values = self.open()?.pcr_values()?;
        let measurements = self.measurements()?;
        Ok(RecordedEvidence {
            values,
            log: measurements.event_log,
            ima: measurements.ima_log,
            preimages: measurements.preimages,
            unexplained: measurements.unexplained,
        })
    }
}

/// What is done about a TPM that is not the one of before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtherTpm {
    /// It is refused.
    Refuse,
    /// It is the one from now on: the administrator has registered it, or is about to.
    Accept,
}

impl GuardedHost {
    /// Who this host is by its TPM: what the guardian's administrator registers. Takes many seconds with some TPMs.
    ///
    /// # Errors
    /// [`Error::Tpm`] when there is none, or it is another than before and that is not accepted.
    pub fn platform_identity(&self, other: OtherTpm) -> Result<PlatformIdentity, Error> {
        Ok(self.tpm()?.platform_identity(other)?)
    }

    /// What the TPM and the logs of this host say about its boot, without a proof: from which baselines are made.
    ///
    /// # Errors
    /// [`Error::Tpm`] when there is none, or the logs can't be read.
    pub fn evidence(&self) -> Result<RecordedEvidence, Error> {
        Ok(self.tpm()?.evidence()?)
    }
}
