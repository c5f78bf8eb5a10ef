//! Where a TPM is.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// A place where a TPM takes commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Device {
    /// A character device: `/dev/tpmrm0`, behind the kernel's resource manager, or `/dev/tpm0`.
    Character(PathBuf),
    /// swtpm at a Unix socket: `swtpm:path=/run/swtpm/socket`.
    UnixSocket(PathBuf),
    /// swtpm at a TCP port: `swtpm:host=127.0.0.1,port=2321`.
    Tcp {
        /// Name or address.
        host: String,
        /// The port of its data channel.
        port: u16,
    },
}

/// Why a text names no TPM.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` names no TPM: it is the path of a device such as /dev/tpmrm0, `swtpm:path=SOCKET`, or `swtpm:host=NAME,port=NUMBER`"
)]
pub struct DeviceError(String);

impl Device {
    /// The TPM of a machine, behind the kernel's resource manager.
    #[must_use]
    pub fn of_this_machine() -> Self {
        Self::Character("/dev/tpmrm0".into())
    }

    /// Whether keys and sessions that a process leaves behind are flushed without its doing.
    #[must_use]
    pub fn has_resource_manager(&self) -> bool {
        match self {
            Self::Character(path) => {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                name.starts_with("tpmrm")
            }
            Self::UnixSocket(_) | Self::Tcp { .. } => false,
        }
    }
}

impl FromStr for Device {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let error = || DeviceError(text.to_owned());
        let absolute = |path: &str| {
            let path = PathBuf::from(path);
            path.is_absolute().then_some(path).ok_or_else(error)
        };
        let Some(options) = text.strip_prefix("swtpm:") else {
            return absolute(text).map(Self::Character);
        };
        let options: Vec<_> = options
            .split(',')
            .filter_map(|one| one.split_once('='))
            .collect();
        match options[..] {
            [("path", path)] => absolute(path).map(Self::UnixSocket),
            [("host", host), ("port", port)] if !host.is_empty() => Ok(Self::Tcp {
                host: host.to_owned(),
                port: port.parse().map_err(|_| error())?,
            }),
            _ => Err(error()),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Character(path) => path.display().fmt(formatter),
            Self::UnixSocket(path) => write!(formatter, "swtpm:path={}", path.display()),
            Self::Tcp { host, port } => write!(formatter, "swtpm:host={host},port={port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_read_as_it_is_shown() {
        for (text, managed) in [
            ("/dev/tpmrm0", true),
            ("/dev/tpm0", false),
            ("swtpm:path=/run/swtpm/socket", false),
            ("swtpm:host=localhost,port=2321", false),
        ] {
            let device: Device = text.parse().unwrap();
            assert_eq!(device.to_string(), text);
            assert_eq!(device.has_resource_manager(), managed, "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "tpmrm0",
            "swtpm:",
            "swtpm:path=socket",
            "swtpm:host=,port=1",
            "swtpm:host=a,port=65536",
            "swtpm:host=a",
            "mssim:host=a,port=1",
        ] {
            let refused = text.parse::<Device>().unwrap_err();
            assert!(refused.to_string().contains("/dev/tpmrm0"), "{text}");
        }
    }
}
