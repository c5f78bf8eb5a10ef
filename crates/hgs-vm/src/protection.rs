//! What the owner of a VM decided about its protection. It stands sealed beside the vTPM's state, under the same transport
//! key, because `vm.toml` can be edited by a fabric administrator.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::identifier::VmId;

/// The name of the file in a generation's folder that has the document, sealed under the protector's transport key.
pub const SEALED_FILE: &str = "protection.sealed";
/// Octets of the largest document.
pub const LIMIT: usize = 4096;
/// The version that is written, and the only one that is read.
const VERSION: u32 = 1;

/// What the owner decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protection {
    /// Which VM it is about: the document of another VM protects nothing here.
    pub vm: VmId,
    /// How far the fabric's administrators are kept out.
    pub policy: Policy,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    vm: VmId,
    policy: Policy,
}

/// Why octets are no decision about protection, or not the one that is needed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProtectionError {
    /// It is longer than [`LIMIT`].
    #[error("the VM's protection has more than {LIMIT} octets")]
    TooLong,
    /// It is not the JSON of a protection.
    #[error("the VM's protection can't be read: {0}")]
    Syntax(#[from] serde_json::Error),
    /// It is of a version that this program does not know.
    #[error("the VM's protection has version {0}; this program knows version {VERSION}")]
    Version(u32),
    /// It belongs to another VM.
    #[error("the protection is that of VM {sealed}, but vm.toml describes VM {described}")]
    OtherVm {
        /// Whose it is.
        sealed: VmId,
        /// Which VM was to start.
        described: VmId,
    },
}

impl Protection {
    /// Reads the document.
    pub fn read(octets: &[u8]) -> Result<Self, ProtectionError> {
        if octets.len() > LIMIT {
            return Err(ProtectionError::TooLong);
        }
        // The version first: a later one may have members that this program does not know.
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let Version { version } = serde_json::from_slice(octets)?;
        if version != VERSION {
            return Err(ProtectionError::Version(version));
        }
        let Document { vm, policy, .. } = serde_json::from_slice(octets)?;
        Ok(Self { vm, policy })
    }

    /// Writes the document.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let document = Document {
            version: VERSION,
            vm: self.vm,
            policy: self.policy,
        };
        serde_json::to_vec(&document).expect("it has no keys but texts")
    }

    /// Whether it is about this VM.
    ///
    /// # Errors
    /// [`ProtectionError::OtherVm`].
    pub fn check_vm(&self, described: VmId) -> Result<(), ProtectionError> {
        if self.vm == described {
            Ok(())
        } else {
            Err(ProtectionError::OtherVm {
                sealed: self.vm,
                described,
            })
        }
    }
}

/// How far the administrators of the fabric are kept out of a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// They are not trusted: there is no way into the VM but its network.
    Shielded,
    /// They are trusted, the places where disks and traffic pass are not: state, disk and migration are encrypted.
    EncryptionSupported,
}

/// A way into a VM that a host could offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exposure {
    /// Its serial port as a console.
    Console,
    /// What it writes to its serial port, in a file of the host.
    SerialLog,
    /// Another start than Secure Boot's: a kernel that the host gives it.
    DirectKernel,
    /// Its memory in a file: dumps, snapshots with memory, suspension to disk.
    MemoryDump,
    /// A debugger.
    Debugger,
    /// QEMU's monitor for others than the agent.
    Monitor,
    /// Its screen, or its sound.
    Screen,
    /// A channel to a program in the guest beside its network: a guest agent runs what it is told.
    GuestChannel,
    /// Settings that the guest takes from its board, such as strings of SMBIOS: systemd reads passwords from them.
    Settings,
    /// A device of the host, which may read the guest's memory or be its keyboard.
    Passthrough,
    /// Memory that another process of the host, or another VM, has a part in.
    SharedMemory,
    /// Firmware that is not the host's own with Secure Boot, locked: it measures what it likes.
    OtherFirmware,
    /// A program in QEMU's place that is not the host's own.
    OtherEmulator,
    /// Something of which this program does not know what it offers.
    Unknown,
}

impl fmt::Display for Exposure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Console => "a console",
            Self::SerialLog => "a log of its serial port",
            Self::DirectKernel => "a kernel from outside its disk",
            Self::MemoryDump => "its memory in a file",
            Self::Debugger => "a debugger",
            Self::Monitor => "another monitor than the agent's",
            Self::Screen => "a screen and sound",
            Self::GuestChannel => "a channel into the guest beside its network",
            Self::Settings => "settings from outside its disk",
            Self::Passthrough => "a device of the host",
            Self::SharedMemory => "memory that it shares",
            Self::OtherFirmware => "other firmware than the host's, locked and with Secure Boot",
            Self::OtherEmulator => "another QEMU than the host's",
            Self::Unknown => "what this program does not know",
        })
    }
}

/// The VM's policy does not let the host do this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the VM's policy is `{policy}`, which forbids {exposure}")]
pub struct Forbidden {
    /// The policy that its owner chose.
    pub policy: Policy,
    /// What it forbids.
    pub exposure: Exposure,
}

impl fmt::Display for Policy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Shielded => "shielded",
            Self::EncryptionSupported => "encryption-supported",
        })
    }
}

impl Policy {
    /// Whether the host may offer this way into the VM. Memory in a file, debuggers and other monitors are for no VM: each
    /// of them shows the keys of the encrypted disk.
    ///
    /// # Errors
    /// [`Forbidden`].
    pub const fn check(self, exposure: Exposure) -> Result<(), Forbidden> {
        let permitted = match exposure {
            Exposure::Console
            | Exposure::SerialLog
            | Exposure::DirectKernel
            | Exposure::Screen
            | Exposure::GuestChannel
            | Exposure::Settings
            | Exposure::Passthrough
            | Exposure::SharedMemory
            | Exposure::OtherFirmware
            | Exposure::OtherEmulator
            | Exposure::Unknown => matches!(self, Self::EncryptionSupported),
            Exposure::MemoryDump | Exposure::Debugger | Exposure::Monitor => false,
        };
        if permitted {
            Ok(())
        } else {
            Err(Forbidden {
                policy: self,
                exposure,
            })
        }
    }
}

/// The body of a fuzz target: with a migration the document comes from another host.
///
/// # Panics
///
/// If a protection is not read again as it was written.
#[doc(hidden)]
pub fn fuzz_protection(data: &[u8]) {
    if let Ok(protection) = Protection::read(data) {
        let again = Protection::read(&protection.to_json());
        assert!(again.is_ok_and(|read| read == protection));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "6f2d1c3e-8d0a-4a53-9f1c-0b7f6a1e2d3c";

    #[test]
    fn a_document_is_strict_and_versioned() {
        let text = format!(r#"{{"version":1,"vm":"{ID}","policy":"shielded"}}"#);
        let protection = Protection::read(text.as_bytes()).unwrap();
        assert_eq!(protection.policy, Policy::Shielded);
        assert_eq!(protection.to_json(), text.as_bytes());
        protection.check_vm(ID.parse().unwrap()).unwrap();
        let other = "6f2d1c3e-8d0a-4a53-9f1c-0b7f6a1e2d3d".parse().unwrap();
        let error = protection.check_vm(other).unwrap_err();
        assert!(error.to_string().contains(ID), "{error}");

        let later = format!(r#"{{"version":2,"vm":"{ID}","policy":"shielded","more":1}}"#);
        let error = Protection::read(later.as_bytes()).unwrap_err();
        assert!(matches!(error, ProtectionError::Version(2)), "{error}");
        for bad in [
            format!(r#"{{"vm":"{ID}","policy":"shielded"}}"#),
            format!(r#"{{"version":1,"vm":"{ID}"}}"#),
            format!(r#"{{"version":1,"vm":"{ID}","policy":"open"}}"#),
            format!(r#"{{"version":1,"vm":"{ID}","policy":"Shielded"}}"#),
            format!(r#"{{"version":1,"vm":"{ID}","policy":"shielded","console":true}}"#),
            format!(r#"{{"version":1,"version":1,"vm":"{ID}","policy":"shielded"}}"#),
            format!(
                r#"{{"version":1,"vm":"{ID}","policy":"encryption-supported","policy":"shielded"}}"#
            ),
            format!("{text} {text}"),
            "[]".to_owned(),
        ] {
            let error = Protection::read(bad.as_bytes()).unwrap_err();
            assert!(
                matches!(error, ProtectionError::Syntax(_)),
                "{bad}: {error}"
            );
        }
        let long = format!("{text}{}", " ".repeat(LIMIT));
        let error = Protection::read(long.as_bytes()).unwrap_err();
        assert!(matches!(error, ProtectionError::TooLong), "{error}");
    }

    #[test]
    fn what_each_policy_forbids() {
        use Exposure::{
            Console, Debugger, DirectKernel, GuestChannel, MemoryDump, Monitor, OtherEmulator,
            OtherFirmware, Passthrough, Screen, SerialLog, Settings, SharedMemory, Unknown,
        };
        let all = [
            Console,
            SerialLog,
            DirectKernel,
            MemoryDump,
            Debugger,
            Monitor,
            Screen,
            GuestChannel,
            Settings,
            Passthrough,
            SharedMemory,
            OtherFirmware,
            OtherEmulator,
            Unknown,
        ];
        let permitted = |policy: Policy| all.map(|exposure| policy.check(exposure).is_ok());
        assert_eq!(permitted(Policy::Shielded), [false; 14]);
        assert_eq!(
            permitted(Policy::EncryptionSupported),
            [
                true, true, true, false, false, false, true, true, true, true, true, true, true,
                true
            ]
        );
        assert_eq!(
            Policy::Shielded.check(Console).unwrap_err().to_string(),
            "the VM's policy is `shielded`, which forbids a console"
        );
    }
}
