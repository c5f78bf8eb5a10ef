//! QEMU's command line as a value. It is made of types that hold no secret, so none can be in it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use hgs_files::{FileError, SOCKET_PATH_LIMIT};

use super::accelerator::Accelerator;
use super::emulator::{Emulator, MachineType};
use crate::description::{Description, DirectKernel, Disk, DiskFormat, Firmware, Network};
use crate::program::Program;
use crate::protection::{Exposure, Forbidden, Protection, ProtectionError};

/// What QEMU's system calls are restricted to. No process is started, no rights are gained, no limits are changed.
pub(super) const SANDBOX: &str =
    "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";
/// The first descriptor that is handed to QEMU.
pub(super) const FIRST_DESCRIPTOR: usize = 3;

/// What a machine is made from.
#[derive(Debug, Clone, Copy)]
pub struct Machine<'a> {
    /// What the VM consists of.
    pub description: &'a Description,
    /// What its owner decided.
    pub protection: &'a Protection,
    /// The folder of the VM.
    pub folder: &'a Path,
    /// Where its sockets are while it runs.
    pub runtime: &'a RuntimeFolder,
    /// The QEMU that runs it.
    pub emulator: &'a Emulator,
    /// How its processors run.
    pub accelerator: &'a Accelerator,
    /// Where its serial port leads.
    pub serial: Serial,
    /// Whether its disk is read and written past the host's cache, which a disk that two hosts share needs. Not every file
    /// system can.
    pub direct_io: bool,
    /// How it begins.
    pub begin: Begin,
}

/// Where a serial port leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serial {
    /// There is none.
    None,
    /// To a socket, where a person may look at it.
    Console,
    /// To a socket, and what the guest writes into a file as well.
    LoggedConsole,
}

/// How a machine begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// Its processors run at once.
    Running,
    /// They wait for `cont`.
    Paused,
    /// The machine waits for what another host sends, which runs on this board; then for `cont`.
    Incoming(MachineType),
}

/// A folder of sockets of one VM, which no other user enters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeFolder(PathBuf);

impl RuntimeFolder {
    /// Says where they are, and creates nothing.
    ///
    /// # Errors
    /// [`CommandError::LongPath`] when the sockets' names do not fit behind the folder's.
    pub fn at(path: &Path) -> Result<Self, CommandError> {
        let folder = Self(path.to_owned());
        let longest = folder.swtpm_socket();
        if longest.as_os_str().len() > SOCKET_PATH_LIMIT {
            return Err(CommandError::LongPath(longest));
        }
        Ok(folder)
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Where QEMU listens for the agent.
    #[must_use]
    pub fn monitor_socket(&self) -> PathBuf {
        self.0.join("qmp.sock")
    }

    /// Where swtpm listens for QEMU.
    #[must_use]
    pub fn swtpm_socket(&self) -> PathBuf {
        self.0.join("swtpm.sock")
    }

    /// Where the serial port leads.
    #[must_use]
    pub fn serial_socket(&self) -> PathBuf {
        self.0.join("serial.sock")
    }

    /// What a migration needs while it lasts.
    #[must_use]
    pub fn migration_folder(&self) -> PathBuf {
        self.0.join("migration")
    }

    /// What the guest wrote to its serial port.
    #[must_use]
    pub fn serial_log(&self) -> PathBuf {
        self.0.join("serial.log")
    }
}

/// Why there is no command line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The owner's policy forbids it.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// The protection is of another VM.
    #[error(transparent)]
    Protection(#[from] ProtectionError),
    /// The path of a socket is too long for the system.
    #[error("{}: the path of a socket has at most {} octets; choose a shorter runtime folder", .0.display(), SOCKET_PATH_LIMIT)]
    LongPath(PathBuf),
    /// A file of the VM is not there, or is no file.
    #[error(transparent)]
    File(#[from] FileError),
}

/// The command that runs a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    /// What is run.
    pub program: Program,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// What it gets open, from descriptor 3 on. So it needs no right to open these, and their names can't change what its
    /// options mean.
    pub handed: Vec<Handed>,
    /// The board that was chosen.
    pub machine_type: MachineType,
}

/// Something that QEMU gets open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handed {
    /// A file, for reading and writing.
    File(PathBuf),
    /// A file, for reading.
    Readable(PathBuf),
    /// A disk, for reading and writing. One in QEMU's own format must lead to no other file.
    Disk {
        /// The file.
        path: PathBuf,
        /// How it is laid out.
        format: DiskFormat,
        /// Whether the host's cache is passed by. QEMU takes a descriptor only if it is open as it will be used.
        direct: bool,
    },
    /// A file to write to behind what is in it.
    Log(PathBuf),
    /// A new socket to listen at.
    Listener(PathBuf),
    /// A connection to a socket.
    Connection(PathBuf),
}

impl CommandLine {
    /// Writes the command line of a machine.
    ///
    /// # Errors
    /// When the policy forbids what is asked for, or a file of the VM is missing.
    pub fn new(machine: &Machine<'_>) -> Result<Self, CommandError> {
        let Machine {
            description,
            protection,
            ..
        } = *machine;
        protection.check_vm(description.id)?;
        let check = |exposure| protection.policy.check(exposure);
        match machine.serial {
            Serial::None => {}
            Serial::Console => check(Exposure::Console)?,
            Serial::LoggedConsole => {
                check(Exposure::Console)?;
                check(Exposure::SerialLog)?;
            }
        }
        if let Firmware::DirectKernel(_) = description.firmware {
            check(Exposure::DirectKernel)?;
        }
        let mut writer = Writer {
            machine,
            arguments: Vec::new(),
            handed: Vec::new(),
        };
        let machine_type = writer.board()?;
        writer.channels();
        if let Some(disk) = &description.disk {
            writer.disk(disk)?;
        }
        // The last that is opened: swtpm takes one connection, and everything else may still be refused before it.
        writer.vtpm();
        writer.devices();
        Ok(Self {
            program: machine.emulator.program.clone(),
            arguments: writer.arguments,
            handed: writer.handed,
            machine_type,
        })
    }
}

struct Writer<'a> {
    machine: &'a Machine<'a>,
    arguments: Vec<OsString>,
    handed: Vec<Handed>,
}

impl Writer<'_> {
    fn flag(&mut self, flag: &str) {
        self.arguments.push(flag.into());
    }

    fn option(&mut self, flag: &str, value: impl Into<OsString>) {
        self.arguments.push(flag.into());
        self.arguments.push(value.into());
    }

    /// The board with memory, processors and firmware.
    fn board(&mut self) -> Result<MachineType, CommandError> {
        let Machine {
            description,
            emulator,
            ..
        } = *self.machine;
        self.option("-name", Options::new("guest", description.name.as_str()));
        self.option("-uuid", description.id.to_string());
        // Nothing but what is named here: no configuration file, no default devices.
        for flag in ["-no-user-config", "-nodefaults"] {
            self.flag(flag);
        }
        self.option("-display", "none");
        self.option("-sandbox", SANDBOX);
        for folder in &emulator.data {
            self.option("-L", folder);
        }
        let machine_type = match self.machine.begin {
            Begin::Incoming(machine_type) => machine_type,
            Begin::Running | Begin::Paused => MachineType::of(emulator.version),
        };
        let (firmware, secure) = match &description.firmware {
            Firmware::SecureBoot { variables } => {
                (Some((&emulator.ovmf.secure_code, variables)), true)
            }
            Firmware::DirectKernel(DirectKernel { variables, .. }) => {
                let variables = variables.as_ref();
                (variables.map(|file| (&emulator.ovmf.code, file)), false)
            }
        };
        let on = |yes| if yes { "on" } else { "off" };
        let mut board = Options::new("type", &machine_type.to_string())
            // The variables of Secure Boot are written in system management mode only.
            .with("smm", on(secure))
            .with("vmport", "off")
            // Pages that are equal to another VM's are not shared: how long a write takes would tell.
            .with("mem-merge", "off")
            .with("dump-guest-core", "off");
        if firmware.is_some() {
            board = board
                .with("pflash0", "firmware")
                .with("pflash1", "variables");
        }
        self.option("-machine", board);
        self.option("-accel", self.machine.accelerator.option());
        let model = description.processor_model.as_ref();
        self.option("-cpu", model.map_or("max", |model| model.as_str()));
        self.option("-m", format!("size={}M", description.memory.mib()));
        self.option("-smp", u32::from(description.processors).to_string());
        if let Some((code, variables)) = firmware {
            let code = Options::new("driver", "file")
                .with("node-name", "firmware")
                .with("filename", code)
                .with("read-only", "on");
            self.option("-blockdev", code);
            let variables = variables.within(self.machine.folder)?;
            let variables = self.hand_over_file(Handed::File(variables));
            let variables = Options::new("driver", "file")
                .with("node-name", "variables")
                .with("filename", &variables);
            self.option("-blockdev", variables);
        }
        if secure {
            let flash = "driver=cfi.pflash01,property=secure,value=on";
            self.option("-global", flash);
            // Sleep would let the guest skip the firmware's locks at wake-up.
            self.option("-global", "ICH9-LPC.disable_s3=1");
        }
        if let Firmware::DirectKernel(boot) = &description.firmware {
            let mut files = vec![("-kernel", &boot.kernel)];
            files.extend(boot.initrd.as_ref().map(|initrd| ("-initrd", initrd)));
            for (option, file) in files {
                let path = file.within(self.machine.folder)?;
                let descriptor = self.hand_over(Handed::Readable(path));
                // QEMU opens these by name.
                self.option(option, format!("/proc/self/fd/{descriptor}"));
            }
            self.option("-append", boot.command_line.as_str());
        }
        Ok(machine_type)
    }

    /// Has something open in QEMU; returns the number of the descriptor.
    fn hand_over(&mut self, handed: Handed) -> String {
        self.handed.push(handed);
        (FIRST_DESCRIPTOR - 1 + self.handed.len()).to_string()
    }

    /// Has a file open in QEMU; returns the name that QEMU knows it by.
    fn hand_over_file(&mut self, handed: Handed) -> String {
        let descriptor = self.hand_over(handed);
        let set = Options::new("fd", &descriptor).with("set", &descriptor);
        self.option("-add-fd", set);
        format!("/dev/fdset/{descriptor}")
    }

    fn vtpm(&mut self) {
        let socket = self.machine.runtime.swtpm_socket();
        let descriptor = self.hand_over(Handed::Connection(socket));
        let control = Options::new("socket", "")
            .with("id", "tpm-control")
            .with("fd", &descriptor);
        self.option("-chardev", control);
        self.option("-tpmdev", "emulator,id=tpm,chardev=tpm-control");
        self.option("-device", "tpm-crb,tpmdev=tpm");
    }

    /// The monitor and the serial port.
    fn channels(&mut self) {
        let runtime = self.machine.runtime;
        let monitor = self.listening("monitor", runtime.monitor_socket());
        self.option("-chardev", monitor);
        self.option("-mon", "chardev=monitor,mode=control");
        if self.machine.serial == Serial::None {
            return;
        }
        let mut serial = self.listening("serial", runtime.serial_socket());
        if self.machine.serial == Serial::LoggedConsole {
            let log = self.hand_over_file(Handed::Log(runtime.serial_log()));
            serial = serial.with("logfile", &log).with("logappend", "on");
        }
        self.option("-chardev", serial);
        self.option("-serial", "chardev:serial");
    }

    fn listening(&mut self, id: &str, socket: PathBuf) -> Options {
        let descriptor = self.hand_over(Handed::Listener(socket));
        Options::new("socket", "")
            .with("id", id)
            .with("fd", &descriptor)
            .with("server", "on")
            .with("wait", "off")
    }

    fn disk(&mut self, disk: &Disk) -> Result<(), CommandError> {
        let direct = self.machine.direct_io;
        let path = self.hand_over_file(Handed::Disk {
            path: disk.file.within(self.machine.folder)?,
            format: disk.format,
            direct,
        });
        let file = Options::new("driver", "file")
            .with("node-name", "disk-file")
            .with("filename", &path)
            .with("cache.direct", if direct { "on" } else { "off" })
            .with("aio", "threads")
            // Two QEMUs on one disk would destroy what is on it. A migration hands the lock over.
            .with("locking", "on");
        self.option("-blockdev", file);
        // In JSON, because only it can say that the disk leads to no other file.
        let backing = match disk.format {
            DiskFormat::Raw => "",
            DiskFormat::Qcow2 => r#","backing":null"#,
        };
        let format = disk.format.name();
        self.option(
            "-blockdev",
            format!(
                r#"{{"driver":"{format}","node-name":"disk","file":"disk-file","cache":{{"direct":{direct}}}{backing}}}"#
            ),
        );
        // A kernel that is given has the first place itself.
        let first = match self.machine.description.firmware {
            Firmware::SecureBoot { .. } => ",bootindex=0",
            Firmware::DirectKernel(_) => "",
        };
        self.option("-device", format!("virtio-blk-pci,drive=disk{first}"));
        Ok(())
    }

    /// Randomness, network, and how the machine begins.
    fn devices(&mut self) {
        self.option("-object", "rng-builtin,id=entropy");
        self.option("-device", "virtio-rng-pci,rng=entropy");
        if self.machine.description.network == Network::User {
            self.option("-netdev", "user,id=network");
            // No ROM: nothing is started from the network.
            let mut card = "virtio-net-pci,netdev=network,romfile=".to_owned();
            if let Some(address) = &self.machine.description.mac_address {
                card.push_str(",mac=");
                card.push_str(address.as_str());
            }
            self.option("-device", &card);
        }
        match self.machine.begin {
            Begin::Running => {}
            Begin::Paused => self.flag("-S"),
            // Two must never run: this one does when the source is known to have stopped for good.
            Begin::Incoming(_) => {
                self.flag("-S");
                self.option("-incoming", "defer");
            }
        }
    }
}

/// An argument in QEMU's syntax of options: `key=value,key=value`. A comma in a value is written twice; nothing else has a
/// meaning there.
#[derive(Debug)]
struct Options(Vec<u8>);

impl Options {
    /// Begins with an option, or with the bare word that names a kind (and an empty value).
    fn new(key: &'static str, value: &str) -> Self {
        let mut options = Self(key.as_bytes().to_vec());
        if !value.is_empty() {
            options.0.push(b'=');
            options.value(OsStr::new(value));
        }
        options
    }

    fn with(mut self, key: &'static str, value: impl AsRef<OsStr>) -> Self {
        self.0.push(b',');
        self.0.extend_from_slice(key.as_bytes());
        self.0.push(b'=');
        self.value(value.as_ref());
        self
    }

    fn value(&mut self, value: &OsStr) {
        for octet in value.as_bytes() {
            if *octet == b',' {
                self.0.push(b',');
            }
            self.0.push(*octet);
        }
    }
}

impl From<Options> for OsString {
    fn from(Options(octets): Options) -> Self {
        Self::from_vec(octets)
    }
}

#[cfg(test)]
mod tests;
