//! `vm.toml`: what a VM consists of. It holds nothing secret and nothing that protection depends on, because a fabric
//! administrator can edit it; what the owner decided is in [`crate::protection`].

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use hgs_files::{FileError, FileProblem};
use serde::{Deserialize, Serialize};

pub use crate::identifier::{VmId, VmName};

/// The name of the file in a VM's folder.
pub const FILE: &str = "vm.toml";
/// Octets of the largest description.
pub const LIMIT: usize = 16 * 1024;

/// What a VM consists of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Table", into = "Table")]
pub struct Description {
    /// What it is called on its host.
    pub name: VmName,
    /// What it is, wherever it runs.
    pub id: VmId,
    /// Its main memory.
    pub memory: Memory,
    /// How many processors it has.
    pub processors: Processors,
    /// Which processor it sees; without, the best that the accelerator offers.
    pub processor_model: Option<ProcessorModel>,
    /// What starts in it.
    pub firmware: Firmware,
    /// Its disk. Only a kernel that is booted directly can do without.
    pub disk: Option<Disk>,
    /// What it is connected to.
    pub network: Network,
    /// The address of its network card; without, the one that QEMU gives every VM.
    pub mac_address: Option<MacAddress>,
    /// What happens to it when its host is no longer healthy; without, what the agent's settings say.
    pub unhealthy_host: Option<UnhealthyHost>,
}

/// Why a file is no description.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DescriptionError {
    /// It can't be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is longer than [`LIMIT`].
    #[error("a description of a VM has at most {LIMIT} octets")]
    TooLong,
    /// It is no TOML, or says something else than a description does.
    #[error("{0}")]
    Syntax(#[from] Box<toml::de::Error>),
}

impl Description {
    /// Reads the text of `vm.toml`.
    pub fn read(text: &str) -> Result<Self, DescriptionError> {
        if text.len() > LIMIT {
            return Err(DescriptionError::TooLong);
        }
        toml::from_str(text).map_err(|error| Box::new(error).into())
    }

    /// Reads `vm.toml` in the folder of a VM.
    pub fn load(folder: &Path) -> Result<Self, DescriptionError> {
        let path = folder.join(FILE);
        let text = hgs_files::text(hgs_files::read(&path, LIMIT)?);
        Self::read(&text.map_err(|problem| FileError::at(&path, problem))?)
    }

    /// The text of `vm.toml`.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("every description is a table of TOML")
    }
}

/// The file as it is written.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    name: VmName,
    id: VmId,
    memory: Memory,
    processors: Processors,
    #[serde(skip_serializing_if = "Option::is_none")]
    processor_model: Option<ProcessorModel>,
    #[serde(default)]
    network: Network,
    #[serde(skip_serializing_if = "Option::is_none")]
    mac_address: Option<MacAddress>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unhealthy_host: Option<UnhealthyHost>,
    firmware: FirmwareTable,
    #[serde(skip_serializing_if = "Option::is_none")]
    disk: Option<Disk>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FirmwareTable {
    #[serde(default)]
    profile: Profile,
    #[serde(skip_serializing_if = "Option::is_none")]
    variables: Option<FileName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel: Option<FileName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    initrd: Option<FileName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    command_line: Option<KernelCommandLine>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Profile {
    #[default]
    SecureBoot,
    DirectKernel,
}

impl TryFrom<Table> for Description {
    type Error = String;

    fn try_from(table: Table) -> Result<Self, String> {
        let firmware = Firmware::try_from(table.firmware)?;
        if table.disk.is_none() && matches!(firmware, Firmware::SecureBoot { .. }) {
            return Err("there is no [disk], which the profile secure-boot starts from".to_owned());
        }
        let description = Self {
            name: table.name,
            id: table.id,
            memory: table.memory,
            processors: table.processors,
            processor_model: table.processor_model,
            firmware,
            disk: table.disk,
            network: table.network,
            mac_address: table.mac_address,
            unhealthy_host: table.unhealthy_host,
        };
        let mut files = description.files();
        files.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        match files.array_windows().find(|[a, b]| a == b) {
            Some([FileName(name), _]) => Err(format!("`{name}` is named twice")),
            None => Ok(description),
        }
    }
}

impl From<Description> for Table {
    fn from(description: Description) -> Self {
        Self {
            name: description.name,
            id: description.id,
            memory: description.memory,
            processors: description.processors,
            processor_model: description.processor_model,
            network: description.network,
            mac_address: description.mac_address,
            unhealthy_host: description.unhealthy_host,
            firmware: description.firmware.into(),
            disk: description.disk,
        }
    }
}

impl Description {
    /// The files that it names.
    #[must_use]
    pub fn files(&self) -> Vec<&FileName> {
        let mut files: Vec<_> = self.disk.iter().map(|disk| &disk.file).collect();
        match &self.firmware {
            Firmware::SecureBoot { variables } => files.push(variables),
            Firmware::DirectKernel(boot) => {
                files.push(&boot.kernel);
                files.extend(&boot.initrd);
                files.extend(&boot.variables);
            }
        }
        files
    }
}

/// What starts in a VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Firmware {
    /// UEFI firmware with Secure Boot, which starts what is on the disk.
    SecureBoot {
        /// The firmware's variables: keys of Secure Boot, boot order.
        variables: FileName,
    },
    /// A kernel given by the host, for tests: nothing about it is claimed.
    DirectKernel(DirectKernel),
}

/// A kernel that QEMU loads itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectKernel {
    /// The kernel.
    pub kernel: FileName,
    /// Its first file system.
    pub initrd: Option<FileName>,
    /// What the kernel is told.
    pub command_line: KernelCommandLine,
    /// Variables of UEFI firmware, which measures the start. Without, a BIOS starts the kernel in half the time.
    pub variables: Option<FileName>,
}

impl TryFrom<FirmwareTable> for Firmware {
    type Error = String;

    fn try_from(table: FirmwareTable) -> Result<Self, String> {
        let missing = |key| format!("[firmware] has no `{key}`");
        match table.profile {
            Profile::SecureBoot => {
                let kernel = table.kernel.is_some() || table.initrd.is_some();
                if kernel || table.command_line.is_some() {
                    return Err("[firmware]: the profile secure-boot takes its kernel from the disk, so `kernel`, `initrd` and `command_line` are not for it".to_owned());
                }
                let variables = table.variables.ok_or_else(|| missing("variables"))?;
                Ok(Self::SecureBoot { variables })
            }
            Profile::DirectKernel => Ok(Self::DirectKernel(DirectKernel {
                kernel: table.kernel.ok_or_else(|| missing("kernel"))?,
                initrd: table.initrd,
                command_line: table.command_line.unwrap_or_default(),
                variables: table.variables,
            })),
        }
    }
}

impl From<Firmware> for FirmwareTable {
    fn from(firmware: Firmware) -> Self {
        match firmware {
            Firmware::SecureBoot { variables } => Self {
                profile: Profile::SecureBoot,
                variables: Some(variables),
                kernel: None,
                initrd: None,
                command_line: None,
            },
            Firmware::DirectKernel(boot) => Self {
                profile: Profile::DirectKernel,
                variables: boot.variables,
                kernel: Some(boot.kernel),
                initrd: boot.initrd,
                command_line: Some(boot.command_line).filter(|line| !line.0.is_empty()),
            },
        }
    }
}

/// The disk of a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// The file.
    pub file: FileName,
    /// How it is laid out. It is never guessed: what is in a raw disk is the guest's to choose.
    pub format: DiskFormat,
}

/// How a disk's file is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskFormat {
    /// The disk, octet by octet.
    Raw,
    /// QEMU's own format.
    Qcow2,
}

impl DiskFormat {
    /// The name that QEMU knows it by.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
        }
    }
}

/// What a VM is connected to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// Nothing.
    #[default]
    None,
    /// What the host reaches, by address translation in QEMU.
    User,
}

/// What happens to a running VM when its host is no longer healthy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnhealthyHost {
    /// It goes on.
    #[default]
    Keep,
    /// Its processors stop until the host is healthy again.
    Pause,
    /// It is told to power down.
    ShutDown,
}

/// Defines a type over text that is checked when it is made.
macro_rules! checked_text {
    ($(#[$meta:meta])* $name:ident, $check:expr) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                let check: fn(&str) -> Result<(), String> = $check;
                check(&text)?;
                Ok(Self(text))
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                text.to_owned().try_into()
            }
        }

        impl From<$name> for String {
            fn from(checked: $name) -> Self {
                checked.0
            }
        }
    };
}

checked_text! {
    /// The name of a file that stands in the VM's folder itself, and is not one of those that make up its vTPM.
    FileName, |text| {
        let refused = |why: &str| Err(format!("{text:?} {why}"));
        if text.is_empty() || text.len() > 255 {
            return refused("is no name of a file: that has 1 to 255 octets");
        }
        if text.contains('/') || text == "." || text == ".." {
            return refused("is a path; files of a VM stand in its own folder and are named alone");
        }
        if text.chars().any(char::is_control) {
            return refused("has a control character");
        }
        if text == FILE || text == "current" || text.starts_with("gen-") {
            return refused("is a file that the agent keeps itself");
        }
        Ok(())
    }
}

impl FileName {
    /// Where the file is, if it is a file and no link.
    pub fn within(&self, folder: &Path) -> Result<PathBuf, FileError> {
        let path = folder.join(&self.0);
        let meta = fs::symlink_metadata(&path).map_err(|error| FileError::at(&path, error))?;
        let problem = if meta.is_symlink() {
            FileProblem::SymbolicLink
        } else if meta.is_file() {
            return Ok(path);
        } else {
            FileProblem::NotA { expected: "file" }
        };
        Err(FileError::at(&path, problem))
    }
}

checked_text! {
    /// What a kernel is told at its start. Linux for x86 takes 2047 octets.
    #[derive(Default)]
    KernelCommandLine, |text| {
        if text.len() > 2047 {
            return Err("a kernel's command line has at most 2047 octets".to_owned());
        }
        if text.chars().any(char::is_control) {
            return Err("the kernel's command line has a control character".to_owned());
        }
        Ok(())
    }
}

checked_text! {
    /// The address of a network card: six octets in hexadecimal, such as `52:54:00:12:34:56`, and of one card only.
    MacAddress, |text| {
        let octets: Vec<_> = text.split(':').collect();
        let octet = |octet: &str| {
            let digits = octet.len() == 2 && octet.bytes().all(|digit| digit.is_ascii_hexdigit());
            digits.then(|| u8::from_str_radix(octet, 16).ok()).flatten()
        };
        let octets: Option<Vec<u8>> = octets.into_iter().map(octet).collect();
        match octets.as_deref() {
            Some(octets @ [first, _, _, _, _, _]) if first & 1 == 0 && octets.iter().any(|octet| *octet != 0) => Ok(()),
            _ => Err(format!("{text:?} is no address of a network card, such as 52:54:00:12:34:56")),
        }
    }
}

checked_text! {
    /// The name of a processor that QEMU knows, such as `Haswell-noTSX`. Hosts of different processors can move a VM to each
    /// other only if it sees one that both offer.
    ProcessorModel, |text| {
        let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        match text.len() {
            1..=64 if text.chars().all(named) => Ok(()),
            _ => Err(format!("{text:?} is no model of a processor: letters, digits, `-`, `_` and `.`, at most 64")),
        }
    }
}

/// Main memory in MiB: 128 MiB to 4 TiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Memory(u32);

impl Memory {
    /// So many MiB.
    #[must_use]
    pub const fn from_mib(mib: u32) -> Option<Self> {
        match mib {
            128..=4_194_304 => Some(Self(mib)),
            _ => None,
        }
    }

    /// How many MiB it has.
    #[must_use]
    pub const fn mib(self) -> u32 {
        self.0
    }
}

impl TryFrom<String> for Memory {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (number, unit) = match (text.strip_suffix("MiB"), text.strip_suffix("GiB")) {
            (Some(number), _) => (number, 1),
            (_, Some(number)) => (number, 1024),
            _ => ("", 0),
        };
        let digits = !number.is_empty() && number.bytes().all(|octet| octet.is_ascii_digit());
        let mib = digits.then(|| number.parse::<u32>().ok()?.checked_mul(unit));
        let memory = mib.flatten().and_then(Self::from_mib);
        memory.ok_or_else(|| {
            format!(
                "{text:?} is no size of memory: a whole number with MiB or GiB, 128MiB to 4096GiB"
            )
        })
    }
}

impl From<Memory> for String {
    fn from(Memory(mib): Memory) -> Self {
        let mut text = Self::new();
        let (number, unit) = match mib {
            mib if mib % 1024 == 0 => (mib / 1024, "GiB"),
            mib => (mib, "MiB"),
        };
        write!(text, "{number}{unit}").expect("memory takes it");
        text
    }
}

/// How many processors: 1 to 255.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Processors(u8);

impl Processors {
    /// One.
    pub const ONE: Self = Self(1);
}

impl TryFrom<u32> for Processors {
    type Error = String;

    fn try_from(count: u32) -> Result<Self, String> {
        match u8::try_from(count) {
            Ok(count) if count > 0 => Ok(Self(count)),
            _ => Err(format!("{count} is no number of processors: 1 to 255")),
        }
    }
}

impl From<Processors> for u32 {
    fn from(Processors(count): Processors) -> Self {
        count.into()
    }
}

/// The body of a fuzz target: with a migration the text comes from another host.
///
/// # Panics
///
/// If a description is not read again as it was written.
#[doc(hidden)]
pub fn fuzz_description(data: &[u8]) {
    let text = std::str::from_utf8(data).ok();
    if let Some(Ok(description)) = text.map(Description::read) {
        let written = description.to_toml();
        assert!(
            written.len() > LIMIT
                || Description::read(&written).is_ok_and(|read| read == description)
        );
    }
}

#[cfg(test)]
mod tests;
