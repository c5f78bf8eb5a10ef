//! How a machine's processors run. That `/dev/kvm` is there proves nothing: a guest has to be seen to run.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt as _, FdMapping};
use hgs_files::Readers;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use serde::{Deserialize, Serialize};

use super::Emulator;
use super::command::SANDBOX;
use super::process::{User, ended_within, process_descriptor};
use crate::messages::Messages;

/// The first sector of the disk that is booted: `guest.s`, assembled.
const GUEST: &[u8; 512] = include_bytes!("accelerator/guest.bin");
/// What it writes to the debug port.
const WRITTEN: &[u8] = b"long mode\0";
/// With what QEMU exits when the guest tells it to.
const EXIT_STATUS: i32 = 33;
/// Octets of its disk. Firmware boots no disk of one sector.
const DISK: u64 = 1 << 20;
/// How long it may take where it is translated. On an idle machine a third of a second is enough.
const LIMIT: Duration = Duration::from_secs(30);
/// How many times as long it may take on the host's processors: they can be busy for a moment. Where the host's processors
/// are virtual ones that emulate others, this guest ends, tens of times as slow as translated, and no kernel comes far.
const SLOWER: u32 = 6;
/// How long it may take there at any rate.
const AT_LEAST: Duration = Duration::from_millis(1500);
/// Octets of the largest note about an earlier result.
const NOTE_LIMIT: usize = 4096;

/// How a machine's processors run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accelerator {
    /// On the host's processors. A guest was seen to run so.
    Kvm,
    /// Translated by QEMU, ten times as slow and more, because no guest runs on the host's processors here.
    Tcg {
        /// Why not.
        reason: String,
    },
}

/// Where a result holds.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    /// This boot of the host.
    boot: String,
    kernel: String,
    program: String,
    version: String,
    user: Option<u32>,
    group: Option<u32>,
}

/// What was found there.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    place: Place,
    /// Why guests do not run on the host's processors, if they do not.
    reason: Option<String>,
}

/// The name of an accelerator, by whether it is the host's processors.
#[must_use]
pub const fn name(accelerated: bool) -> &'static str {
    match accelerated {
        true => "kvm",
        false => "tcg",
    }
}

impl Accelerator {
    /// Its [`name`].
    #[must_use]
    pub const fn name(&self) -> &'static str {
        name(matches!(self, Self::Kvm))
    }

    /// The value of QEMU's option `-accel`.
    #[must_use]
    pub const fn option(&self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg { .. } => "tcg,thread=multi",
        }
    }

    /// Finds out by running a guest on the host's processors, as the user that VMs run as. The result is kept in the file
    /// `note` for as long as the host is not booted and QEMU is the same.
    ///
    /// # Errors
    /// When QEMU can't be run or the note not be kept. That no guest runs is a result.
    pub fn probe(emulator: &Emulator, user: Option<User>, note: &Path) -> io::Result<Self> {
        let place = Place::here(emulator, user)?;
        let reason = match Note::read(note, &place)? {
            Some(Note { reason, .. }) => reason,
            None => {
                let reason = why_not_kvm(emulator, user)?;
                let found = serde_json::to_vec(&Note {
                    place,
                    reason: reason.clone(),
                })?;
                hgs_files::replace(note, &found, Readers::Owner).map_err(io::Error::other)?;
                reason
            }
        };
        Ok(match reason {
            None => Self::Kvm,
            Some(reason) => {
                tracing::warn!(%reason, "VMs run translated (TCG), ten times as slow and more");
                Self::Tcg { reason }
            }
        })
    }
}

impl Note {
    /// The note about this place, if there is one.
    fn read(path: &Path, place: &Place) -> io::Result<Option<Self>> {
        let kept = hgs_files::optional(hgs_files::read(path, NOTE_LIMIT));
        let kept = kept.map_err(io::Error::other)?;
        let kept = kept.and_then(|octets| serde_json::from_slice::<Self>(&octets).ok());
        Ok(kept.filter(|note| note.place == *place))
    }
}

impl Place {
    fn here(emulator: &Emulator, user: Option<User>) -> io::Result<Self> {
        let line = |path: &str| fs::read_to_string(path).map(|text| text.trim().to_owned());
        Ok(Self {
            boot: line("/proc/sys/kernel/random/boot_id")?,
            kernel: line("/proc/version")?,
            program: emulator.program.path.display().to_string(),
            version: emulator.version.to_string(),
            user: user.map(|user| user.uid),
            group: user.map(|user| user.gid),
        })
    }
}

/// Why guests are not run on the host's processors, if they are not.
fn why_not_kvm(emulator: &Emulator, user: Option<User>) -> io::Result<Option<String>> {
    if !fs::exists("/dev/kvm")? {
        return Ok(Some("there is no /dev/kvm".to_owned()));
    }
    let begun = Instant::now();
    if let Some(reason) = why_not(emulator, user, "tcg", LIMIT)? {
        return Ok(Some(reason));
    }
    let limit = (begun.elapsed() * SLOWER).max(AT_LEAST);
    why_not(emulator, user, "kvm", limit)
}

/// Why the guest does not run with an accelerator of QEMU, if it does not.
fn why_not(
    emulator: &Emulator,
    user: Option<User>,
    accelerator: &str,
    limit: Duration,
) -> io::Result<Option<String>> {
    let disk: OwnedFd = memfd_create("guest", MemfdFlags::CLOEXEC)?;
    ftruncate(&disk, DISK)?;
    let disk = fs::File::from(disk);
    disk.write_all_at(GUEST, 0)?;
    let written: OwnedFd = memfd_create("written", MemfdFlags::CLOEXEC)?;
    let written = fs::File::from(written);
    let messages = Messages::new()?;

    let mut command = emulator.program.command();
    for folder in &emulator.data {
        command.arg("-L").arg(folder);
    }
    command
        .args([
            "-accel",
            accelerator,
            "-machine",
            "q35",
            "-cpu",
            "max",
            "-m",
            "64",
        ])
        .args(["-no-user-config", "-nodefaults", "-no-reboot"])
        .args(["-display", "none", "-sandbox", SANDBOX])
        .args(["-add-fd", "fd=3,set=3"])
        .args([
            "-blockdev",
            "driver=file,node-name=file,filename=/dev/fdset/3,locking=off",
        ])
        .args(["-blockdev", "driver=raw,node-name=disk,file=file"])
        .args(["-device", "virtio-blk-pci,drive=disk,bootindex=0"])
        .args(["-chardev", "stdio,id=debug,signal=off"])
        .args(["-device", "isa-debugcon,iobase=0xe9,chardev=debug"])
        .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=1"])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(written.try_clone()?)
        .stderr(messages.for_child()?);
    if let Some(user) = user {
        command.uid(user.uid).gid(user.gid);
    }
    let mapping = FdMapping {
        parent_fd: disk.into(),
        child_fd: 3,
    };
    let mapped = command.fd_mappings(vec![mapping]);
    mapped.map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut child = command.spawn()?;
    let Some(status) = run(&mut child, limit)? else {
        return Ok(Some(format!(
            "a guest that was tried with the accelerator {accelerator} did not finish within {:.1} s",
            limit.as_secs_f64()
        )));
    };
    let mut read = vec![0; WRITTEN.len()];
    let length = written.read_at(&mut read, 0)?;
    read.truncate(length);
    if status.code() == Some(EXIT_STATUS) && read == WRITTEN {
        return Ok(None);
    }
    let said = messages.text("qemu-system-x86_64: ");
    let ended = match (status.code(), status.signal()) {
        (_, Some(signal)) => format!("QEMU was ended by signal {signal}"),
        (code, None) => format!("QEMU ended with status {}", code.unwrap_or(0)),
    };
    Ok(Some(match said.as_str() {
        "" => format!(
            "a guest that was tried with the accelerator {accelerator} did not run: {ended}"
        ),
        said => format!(
            "a guest that was tried with the accelerator {accelerator} did not run: {ended}: {said}"
        ),
    }))
}

/// How a child ended, if it ended in time; else it is killed.
fn run(child: &mut Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let ended = process_descriptor(child.id()).and_then(|process| ended_within(&process, limit));
    if let Ok(true) = ended {
        return child.wait().map(Some);
    }
    child.kill()?;
    child.wait()?;
    ended.map(|_| None)
}

#[cfg(test)]
mod tests {
    use hgs_testkit::tool;
    use std::process::Command;

    use super::*;
    use crate::parts::Parts;

    #[test]
    fn the_guest_is_its_source_assembled() {
        let folder = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/qemu/accelerator/guest.s");
        let run = |program: &str, arguments: &[&str]| {
            let mut command = Command::new(tool(program, "binutils"));
            let status = command.args(arguments).current_dir(folder.path()).status();
            assert!(status.unwrap().success(), "{program}");
        };
        run("as", &["--64", source.to_str().unwrap(), "-o", "guest.o"]);
        run(
            "objcopy",
            &["-O", "binary", "-j", ".text", "guest.o", "guest.bin"],
        );
        let assembled = fs::read(folder.path().join("guest.bin")).unwrap();
        assert!(assembled == GUEST, "guest.bin is not guest.s");
    }

    /// Translated, it runs everywhere; so where it does not run on the host's processors, they are the reason.
    #[test]
    fn the_guest_runs_where_guests_run_and_the_result_is_kept() {
        let cache = Parts::cache_folder(|name| std::env::var_os(name)).unwrap();
        let emulator = Parts::fetch(&cache, &mut |_| {})
            .unwrap()
            .emulator()
            .unwrap();
        assert_eq!(why_not(&emulator, None, "tcg", LIMIT).unwrap(), None);

        let folder = tempfile::tempdir().unwrap();
        let note = folder.path().join("accelerator.json");
        let found = Accelerator::probe(&emulator, None, &note).unwrap();
        let text = fs::read_to_string(&note).unwrap();
        // A lie shows whether the note is read.
        let lie = text.replace(r#""reason":null"#, r#""reason":"a lie""#);
        let lie = match &found {
            Accelerator::Kvm => lie,
            Accelerator::Tcg { reason } => text.replace(reason, "a lie"),
        };
        fs::write(&note, lie).unwrap();
        let reason = "a lie".to_owned();
        let kept = Accelerator::probe(&emulator, None, &note).unwrap();
        assert_eq!(kept, Accelerator::Tcg { reason });
        // It says nothing about another boot, or another user.
        let place = Place::here(&emulator, None).unwrap();
        assert!(Note::read(&note, &place).unwrap().is_some());
        for change in [
            |place: &mut Place| place.boot = "another".to_owned(),
            |place: &mut Place| place.version = "7.2.0".to_owned(),
            |place: &mut Place| place.user = Some(1000),
        ] {
            let mut other = Place::here(&emulator, None).unwrap();
            change(&mut other);
            assert!(Note::read(&note, &other).unwrap().is_none(), "{other:?}");
        }
    }
}
