//! Which QEMU there is, and the firmware that goes with it.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::str::FromStr;

use crate::program::Program;

/// A QEMU that runs, with what it reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Emulator {
    /// The program.
    pub program: Program,
    /// Its version.
    pub version: Version,
    /// Folders of its data, where they are not where it looks for them.
    pub data: Vec<PathBuf>,
    /// UEFI firmware.
    pub ovmf: OvmfFiles,
}

/// UEFI firmware for VMs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OvmfFiles {
    /// With Secure Boot, which needs system management mode.
    pub secure_code: PathBuf,
    /// Without.
    pub code: PathBuf,
    /// Variables without any key, from which those of a VM are made.
    pub empty_variables: PathBuf,
}

/// A version of QEMU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The first number.
    pub major: u32,
    /// The second.
    pub minor: u32,
    /// The third.
    pub micro: u32,
}

impl Version {
    /// The oldest version whose options are written here.
    pub const OLDEST: Self = Self {
        major: 7,
        minor: 2,
        micro: 0,
    };

    /// From what `qemu-system-x86_64 --version` says.
    #[must_use]
    pub fn of_banner(banner: &str) -> Option<Self> {
        let (_, rest) = banner.split_once("QEMU emulator version ")?;
        let number = rest.split([' ', '\n', '(']).next()?;
        let mut parts = number.split('.').map(|part| part.parse().ok());
        let mut next = || parts.next().flatten();
        Some(Self {
            major: next()?,
            minor: next()?,
            micro: next()?,
        })
    }
}

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let banner = format!("QEMU emulator version {text}");
        Self::of_banner(&banner)
            .filter(|version| version.to_string() == text)
            .ok_or_else(|| format!("{text:?} is no version of QEMU"))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}.{}", self.major, self.minor, self.micro)
    }
}

/// Why a QEMU can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmulatorError {
    /// It can't be run.
    #[error("{}: {error}", program.display())]
    System {
        /// The program.
        program: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// It failed when it was asked for its version.
    #[error("{} does not run: {message}", program.display())]
    DoesNotRun {
        /// The program.
        program: PathBuf,
        /// What it said.
        message: String,
    },
    /// It is too old.
    #[error("{} is QEMU {version}; version {} or later is needed", program.display(), Version::OLDEST)]
    TooOld {
        /// The program.
        program: PathBuf,
        /// What it is.
        version: Version,
    },
}

impl Emulator {
    /// Asks the program for its version.
    pub fn of(
        program: Program,
        data: Vec<PathBuf>,
        ovmf: OvmfFiles,
    ) -> Result<Self, EmulatorError> {
        let output = program
            .command()
            .arg("--version")
            .stdin(Stdio::null())
            .output()
            .map_err(|error| EmulatorError::System {
                program: program.path.clone(),
                error,
            })?;
        let banner = String::from_utf8_lossy(&output.stdout);
        let Some(version) = Version::of_banner(&banner).filter(|_| output.status.success()) else {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(EmulatorError::DoesNotRun {
                program: program.path,
                message: said.chars().take(500).collect(),
            });
        };
        if version < Version::OLDEST {
            let program = program.path;
            return Err(EmulatorError::TooOld { program, version });
        }
        Ok(Self {
            program,
            version,
            data,
            ovmf,
        })
    }
}

/// A board of a version, such as `pc-q35-7.2`: what a VM is made of, down to the registers. A VM moves only to a QEMU that
/// has the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MachineType {
    major: u32,
    minor: u32,
}

impl MachineType {
    /// The one that this version of QEMU introduced.
    #[must_use]
    pub const fn of(version: Version) -> Self {
        Self {
            major: version.major,
            minor: version.minor,
        }
    }
}

impl fmt::Display for MachineType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "pc-q35-{}.{}", self.major, self.minor)
    }
}

impl FromStr for MachineType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text
            .strip_prefix("pc-q35-")
            .and_then(|rest| rest.split_once('.'));
        let number = |text: &str| match text.as_bytes() {
            [b'1'..=b'9', rest @ ..] | [b'0', rest @ ..] if rest.len() < 4 => text.parse().ok(),
            _ => None,
        };
        numbers
            .and_then(|(major, minor)| {
                Some(Self {
                    major: number(major)?,
                    minor: number(minor)?,
                })
            })
            .filter(|machine| machine.to_string() == text)
            .ok_or_else(|| format!("{text:?} is no machine of the form pc-q35-7.2"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_builds_of_qemu_say() {
        for (banner, version) in [
            (
                "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)\nCopyright",
                "7.2.22",
            ),
            (
                "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2+deb13u1~bpo12+1)\n",
                "10.0.2",
            ),
            ("QEMU emulator version 9.1.0\n", "9.1.0"),
        ] {
            assert_eq!(Version::of_banner(banner).unwrap().to_string(), version);
        }
        assert_eq!(Version::of_banner("QEMU emulator version 9.1"), None);
        assert_eq!(Version::of_banner("swtpm 0.7.1"), None);
    }

    #[test]
    fn machines_have_one_spelling() {
        let machine: MachineType = "pc-q35-7.2".parse().unwrap();
        assert_eq!(machine.to_string(), "pc-q35-7.2");
        for bad in [
            "q35",
            "pc-q35-",
            "pc-q35-7",
            "pc-q35-07.2",
            "pc-q35-7.2,smm=off",
            "pc-q35-+7.2",
            "pc-i440fx-7.2",
        ] {
            bad.parse::<MachineType>().unwrap_err();
        }
    }
}
