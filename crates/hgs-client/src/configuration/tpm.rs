//! Where the TPM of a host is, and the logs of what it has measured.

use std::path::{Path, PathBuf};

use hgs_custody_tpm::Device;
use serde::{Deserialize, Serialize};

use super::ConfigurationError;

/// The section `[tpm]`. Without it, everything is where Linux has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TpmSettings {
    /// The TPM.
    pub device: Device,
    /// The event log of the boot. There may be none.
    pub event_log: PathBuf,
    /// The log of IMA in its binary form. There may be none.
    pub ima_log: PathBuf,
}

impl Default for TpmSettings {
    fn default() -> Self {
        Self {
            device: Device::of_this_machine(),
            event_log: "/sys/kernel/security/tpm0/binary_bios_measurements".into(),
            ima_log: "/sys/kernel/security/ima/binary_runtime_measurements".into(),
        }
    }
}

/// The section as it is written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Section {
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_log: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ima_log: Option<PathBuf>,
}

impl Section {
    pub(super) fn read(self) -> Result<TpmSettings, ConfigurationError> {
        let default = TpmSettings::default();
        let absolute = |key, path: Option<PathBuf>, default: PathBuf| match path {
            Some(path) if path.is_relative() => Err(ConfigurationError::RelativePath { key }),
            path => Ok(path.unwrap_or(default)),
        };
        Ok(TpmSettings {
            device: match self.device {
                Some(text) => text.parse()?,
                None => default.device,
            },
            event_log: absolute("tpm.event_log", self.event_log, default.event_log)?,
            ima_log: absolute("tpm.ima_log", self.ima_log, default.ima_log)?,
        })
    }

    /// What differs from the places of Linux.
    pub(super) fn of(settings: &TpmSettings) -> Option<Self> {
        let default = TpmSettings::default();
        let other = |path: &Path, default: &Path| (path != default).then(|| path.to_owned());
        let section = Self {
            device: (settings.device != default.device).then(|| settings.device.to_string()),
            event_log: other(&settings.event_log, &default.event_log),
            ima_log: other(&settings.ima_log, &default.ima_log),
        };
        (section != Self::default()).then_some(section)
    }
}
