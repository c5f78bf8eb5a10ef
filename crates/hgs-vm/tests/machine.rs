//! Real machines: QEMU with a TPM, from the command line to the end.

mod common;
#[path = "common/guest.rs"]
mod guest;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use hgs_vm::description::Description;
use hgs_vm::parts::Parts;
use hgs_vm::protection::{Policy, Protection};
use hgs_vm::qemu::Emulator;
use hgs_vm::qemu::accelerator::Accelerator;
use hgs_vm::qemu::command::{Begin, CommandLine, Machine, RuntimeFolder, Serial};
use hgs_vm::qemu::process::{Lifetime, Process, ProcessError, Settings};
use hgs_vm::qemu::qmp::RunState;
use hgs_vm::swtpm::{self, Channels, Contents, Swtpm};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);

const DESCRIPTION: &str = r#"
name = "trial"
id = "6f2d1c3e-8d0a-4a53-9f1c-0b7f6a1e2d3c"
memory = "256MiB"
processors = 1
[firmware]
profile = "direct-kernel"
kernel = "vmlinuz"
initrd = "initrd"
command_line = "console=ttyS0 quiet"
[disk]
file = "disk.img"
format = "raw"
"#;

/// Says whether it sees its TPM, and powers down when it is told to.
const SCRIPT: &str = r#"
mount -t devtmpfs dev /dev; mount -t proc proc /proc; mount -t sysfs sys /sys
insmod /lib/button.ko 2>/dev/null
echo "GUEST-RUNS tpm=$(cat /sys/class/tpm/tpm0/tpm_version_major) pcr7=$(head -c 8 /sys/class/tpm/tpm0/pcr-sha256/7)"
for event in /dev/input/event*; do (cat "$event" | head -c 24 >/dev/null; echo GUEST-ENDS; poweroff -f) & done
wait
"#;

/// A VM that is booted directly, in a folder of its own.
struct Trial {
    root: TempDir,
    emulator: Emulator,
    description: Description,
    runtime: RuntimeFolder,
}

impl Trial {
    fn new(parts: &Parts) -> Self {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("vm");
        fs::create_dir(&folder).unwrap();
        guest::put(parts, &folder, SCRIPT);
        fs::write(folder.join("disk.img"), vec![0; 1 << 20]).unwrap();
        fs::set_permissions(folder.join("disk.img"), fs::Permissions::from_mode(0o600)).unwrap();
        let run = root.path().join("run");
        hgs_files::private_folder(&run).unwrap();
        Self {
            emulator: parts.emulator().unwrap(),
            description: Description::read(DESCRIPTION).unwrap(),
            runtime: RuntimeFolder::at(&run).unwrap(),
            root,
        }
    }

    fn folder(&self) -> PathBuf {
        self.root.path().join("vm")
    }

    fn line(&self, begin: Begin) -> CommandLine {
        let protection = Protection {
            vm: self.description.id,
            policy: Policy::EncryptionSupported,
        };
        let accelerator = Accelerator::Tcg {
            reason: "tests run everywhere".to_owned(),
        };
        CommandLine::new(&Machine {
            description: &self.description,
            protection: &protection,
            folder: &self.folder(),
            runtime: &self.runtime,
            emulator: &self.emulator,
            accelerator: &accelerator,
            serial: Serial::LoggedConsole,
            direct_io: false,
            begin,
        })
        .unwrap()
    }

    fn settings(&self, lifetime: Lifetime) -> Settings<'_> {
        Settings {
            runtime: &self.runtime,
            user: None,
            lifetime,
            patience: PATIENCE,
        }
    }

    /// A new TPM, which the machine will find.
    fn tpm(&self) -> Swtpm {
        let folder = self.root.path().join("tpm");
        hgs_files::private_folder(&folder).unwrap();
        let socket = self.runtime.swtpm_socket();
        let key = common::key(1);
        let contents = match hgs_files::exists(&folder.join(swtpm::PERMANENT_STATE)).unwrap() {
            true => Contents::Kept,
            false => Contents::New,
        };
        let settings = swtpm::Settings {
            channels: Channels::Hypervisor(&socket),
            ..common::settings(&folder, contents, &key)
        };
        let mut tpm = Swtpm::start(&settings).unwrap();
        tpm.hand_over();
        tpm
    }
}

#[test]
fn a_machine_boots_with_its_tpm_stops_goes_on_and_powers_down() {
    let trial = Trial::new(&guest::parts());
    let _tpm = trial.tpm();
    let line = trial.line(Begin::Paused);
    let mut process = Process::start(&line, &trial.settings(Lifetime::Owner)).unwrap();
    assert_eq!(
        process.monitor().query_status().unwrap(),
        RunState::Prelaunch
    );
    for socket in [
        trial.runtime.monitor_socket(),
        trial.runtime.serial_socket(),
    ] {
        assert_eq!(
            fs::metadata(socket).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
    // QEMU itself was told to filter its system calls.
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    assert!(status.contains("Seccomp:\t2"), "{status}");

    // A second machine in its place is refused, and does not disturb it.
    let again = Process::start(&line, &trial.settings(Lifetime::Owner));
    assert!(matches!(again, Err(ProcessError::Runs(_))), "{again:?}");

    process.monitor().cont().unwrap();
    let log = trial.runtime.serial_log();
    let said = guest::wait_for(&log, "GUEST-RUNS");
    assert!(said.contains("GUEST-RUNS tpm=2 pcr7="), "{said}");
    process.monitor().stop().unwrap();
    assert_eq!(process.monitor().query_status().unwrap(), RunState::Paused);
    process.monitor().cont().unwrap();
    assert_eq!(process.monitor().query_status().unwrap(), RunState::Running);

    process.monitor().system_powerdown().unwrap();
    assert!(process.wait(PATIENCE).unwrap(), "{}", process.messages());
    guest::wait_for(&log, "GUEST-ENDS");
    let settings = trial.settings(Lifetime::Owner);
    assert!(Process::adopt(&settings).unwrap().is_none());
}
