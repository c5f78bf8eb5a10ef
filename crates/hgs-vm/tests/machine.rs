//! Real machines: QEMU with a TPM, from the command line to the end.

mod common;
#[path = "common/guest.rs"]
mod guest;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use hgs_testkit::{is_privileged, tool};
use hgs_vm::description::Description;
use hgs_vm::parts::Parts;
use hgs_vm::protection::{Policy, Protection};
use hgs_vm::qemu::Emulator;
use hgs_vm::qemu::accelerator::Accelerator;
use hgs_vm::qemu::command::{Begin, CommandLine, Machine, RuntimeFolder, Serial};
use hgs_vm::qemu::process::{Lifetime, Process, ProcessError, Settings, User, takes_direct_io};
use hgs_vm::qemu::qmp::{
    Endpoint, Migration, MigrationAddress, MigrationParameters, MigrationStatus, Monitor, QmpError,
    RunState,
};
use hgs_vm::swtpm::{self, Channels, Contents, Swtpm};
use rustix::process::{Pid, Signal, kill_process};
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

/// Says whether it sees its TPM, and does nothing more.
const SCRIPT: &str = r#"
mount -t devtmpfs dev /dev; mount -t proc proc /proc; mount -t sysfs sys /sys
echo "GUEST-RUNS tpm=$(cat /sys/class/tpm/tpm0/tpm_version_major) pcr7=$(head -c 8 /sys/class/tpm/tpm0/pcr-sha256/7)"
while :; do sleep 60; done
"#;

/// A VM that is booted directly, in a folder of its own.
struct Trial {
    root: PathBuf,
    emulator: Emulator,
    description: Description,
    runtime: RuntimeFolder,
    /// Removed with this value.
    temporary: Option<TempDir>,
}

impl Trial {
    fn new(parts: &Parts) -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path().join("vm");
        fs::create_dir(&folder).unwrap();
        guest::put(parts, &folder, SCRIPT);
        fs::write(folder.join("disk.img"), vec![0; 1 << 20]).unwrap();
        for closed in [folder.join("disk.img"), folder] {
            let mode = if closed.is_dir() { 0o700 } else { 0o600 };
            fs::set_permissions(closed, fs::Permissions::from_mode(mode)).unwrap();
        }
        let mut trial = Self::at(parts, temporary.path());
        trial.temporary = Some(temporary);
        trial
    }

    /// The one in this folder, which stays.
    fn at(parts: &Parts, root: &Path) -> Self {
        let run = root.join("run");
        hgs_files::private_folder(&run).unwrap();
        Self {
            root: root.to_owned(),
            emulator: parts.emulator().unwrap(),
            description: Description::read(DESCRIPTION).unwrap(),
            runtime: RuntimeFolder::at(&run).unwrap(),
            temporary: None,
        }
    }

    fn folder(&self) -> PathBuf {
        self.root.join("vm")
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
            direct_io: takes_direct_io(&self.folder().join("disk.img")),
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
        let folder = self.root.join("tpm");
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
fn a_machine_boots_with_its_tpm_stops_goes_on_and_ends() {
    let trial = Trial::new(&guest::parts());
    let _tpm = trial.tpm();
    let line = trial.line(Begin::Paused);
    let mut process = Process::start(&line, &trial.settings(Lifetime::Owner)).unwrap();
    assert_eq!(
        process.monitor().unwrap().query_status().unwrap(),
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

    process.monitor().unwrap().cont().unwrap();
    let log = trial.runtime.serial_log();
    let said = guest::wait_for(&log, "GUEST-RUNS");
    assert!(said.contains("GUEST-RUNS tpm=2 pcr7="), "{said}");
    process.monitor().unwrap().stop().unwrap();
    assert_eq!(
        process.monitor().unwrap().query_status().unwrap(),
        RunState::Paused
    );
    process.monitor().unwrap().cont().unwrap();
    assert_eq!(
        process.monitor().unwrap().query_status().unwrap(),
        RunState::Running
    );

    process.monitor().unwrap().system_powerdown().unwrap();
    process.end(PATIENCE).unwrap();
    let settings = trial.settings(Lifetime::Owner);
    assert!(Process::adopt(&settings).unwrap().is_none());
}

/// A shielded machine with all that a description can ask for is taken by QEMU, and one whose disk leads elsewhere is not
/// started.
#[test]
fn a_shielded_machine_is_started_and_no_disk_of_others() {
    let parts = guest::parts();
    let mut trial = Trial::new(&parts);
    let text = DESCRIPTION
        .split("[firmware]")
        .next()
        .unwrap()
        .replace("processors", "network = \"user\"\nprocessors");
    trial.description = Description::read(&format!(
        "{text}[firmware]\nvariables = \"variables.fd\"\n[disk]\nfile = \"disk.qcow2\"\nformat = \"qcow2\""
    ))
    .unwrap();
    let folder = trial.folder();
    fs::copy(
        &trial.emulator.ovmf.empty_variables,
        folder.join("variables.fd"),
    )
    .unwrap();
    let make = |arguments: &[&str]| {
        let mut command = parts.program("qemu-img").unwrap().command();
        command
            .args(["create", "-q", "-f", "qcow2"])
            .args(arguments);
        assert!(command.current_dir(&folder).status().unwrap().success());
    };
    let protection = Protection {
        vm: trial.description.id,
        policy: Policy::Shielded,
    };
    let accelerator = Accelerator::Tcg {
        reason: "tests run everywhere".to_owned(),
    };
    let disk = folder.join("disk.qcow2");
    make(&["-F", "raw", "-b", "disk.img", "disk.qcow2"]);
    let line = CommandLine::new(&Machine {
        description: &trial.description,
        protection: &protection,
        folder: &folder,
        runtime: &trial.runtime,
        emulator: &trial.emulator,
        accelerator: &accelerator,
        serial: Serial::None,
        direct_io: takes_direct_io(&disk),
        begin: Begin::Running,
    })
    .unwrap();
    let settings = trial.settings(Lifetime::Owner);
    let refused = Process::start(&line, &settings).unwrap_err();
    assert!(matches!(refused, ProcessError::Disk { .. }), "{refused}");
    fs::remove_file(&disk).unwrap();
    std::os::unix::fs::symlink("disk.img", &disk).unwrap();
    let refused = Process::start(&line, &settings).unwrap_err();
    assert!(refused.to_string().contains("symbolic link"), "{refused}");
    fs::remove_file(&disk).unwrap();

    make(&["disk.qcow2", "1M"]);
    let refused = Process::start(&line, &settings).unwrap_err();
    assert!(matches!(refused, ProcessError::NoTpm { .. }), "{refused}");
    let _tpm = trial.tpm();
    let mut process = Process::start(&line, &settings).unwrap();
    assert_eq!(
        process.monitor().unwrap().query_status().unwrap(),
        RunState::Running
    );
    // No way in: neither a serial port nor another monitor.
    let names = fs::read_dir(trial.runtime.path()).unwrap();
    let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["machine.lock", "qmp.sock", "swtpm.sock"]);
    process.end(PATIENCE).unwrap();
}

/// What only root can do.
const OTHER_USER: &str = "QEMU as another user";
/// Names the folder in which a process is to start a machine and be killed.
const STARTER: &str = "OPENHGS_TEST_STARTER";

/// A machine is started by a process that is killed, as an agent may be, and found again by another. Its QEMU is a user
/// who may open neither the disk nor any other file of the VM.
#[test]
fn a_machine_outlives_its_agent_and_is_adopted_by_the_next() {
    let parts = guest::parts();
    if let Some(folder) = std::env::var_os(STARTER) {
        return start_and_die(&parts, Path::new(&folder));
    }
    let trial = Trial::new(&parts);
    let _tpm = trial.tpm();
    let settings = trial.settings(Lifetime::Owner);
    assert!(Process::adopt(&settings).unwrap().is_none());
    let name = "a_machine_outlives_its_agent_and_is_adopted_by_the_next";
    let output = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(STARTER, &trial.root)
        .output()
        .unwrap();
    let signal = std::os::unix::process::ExitStatusExt::signal(&output.status);
    assert_eq!(signal, Some(6), "{output:?}");

    let brief = Settings {
        patience: Duration::from_millis(500),
        ..trial.settings(Lifetime::Owner)
    };
    let mut process = Process::adopt(&brief).unwrap().expect("it runs");
    if is_privileged(OTHER_USER) {
        let status = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
        assert!(
            status.contains("Uid:\t65534\t65534\t65534\t65534"),
            "{status}"
        );
        assert!(status.contains("\nGroups:\t \n"), "{status}");
        assert!(status.contains("CapPrm:\t0000000000000000"), "{status}");
    }
    let status = patiently(&mut process, Monitor::query_status);
    assert_eq!(status, RunState::Prelaunch);
    // While it is frozen it does not answer in time. Then it is asked over a new connection, as it serves one after the other.
    let id = Pid::from_raw(process.id() as i32).unwrap();
    kill_process(id, Signal::STOP).unwrap();
    let frozen = process.monitor().unwrap().query_status();
    assert!(matches!(frozen, Err(QmpError::Timeout(_))), "{frozen:?}");
    kill_process(id, Signal::CONT).unwrap();
    let event = patiently(&mut process, |monitor| {
        monitor.stop()?;
        monitor.cont()?;
        loop {
            match monitor.next_event(PATIENCE)? {
                Some(event) if event.name == "STOP" => {}
                other => return Ok(other),
            }
        }
    });
    assert_eq!(event.unwrap().name, "RESUME");
    let status = patiently(&mut process, Monitor::query_status);
    assert_eq!(status, RunState::Running);
    patiently(&mut process, Monitor::quit);
    assert!(process.wait(PATIENCE).unwrap());
    process.kill().unwrap();
    assert!(Process::adopt(&settings).unwrap().is_none());
}

/// What QEMU answers, which a busy machine may have to be asked for more than once.
fn patiently<T>(process: &mut Process, ask: impl Fn(&mut Monitor) -> Result<T, QmpError>) -> T {
    let begun = Instant::now();
    loop {
        let answer = match process.monitor() {
            Ok(monitor) => ask(monitor).map_err(ProcessError::from),
            Err(error) => Err(error),
        };
        match answer {
            Ok(answer) => return answer,
            Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
        }
    }
}

fn start_and_die(parts: &Parts, root: &Path) {
    let mut trial = Trial::at(parts, root);
    trial.emulator = readable(parts, &root.join("parts"));
    // What the VM is made of stays its owner's: others reach the emulator only.
    fs::set_permissions(root, fs::Permissions::from_mode(0o711)).unwrap();
    let line = trial.line(Begin::Paused);
    let mut settings = trial.settings(Lifetime::Own);
    settings.user = is_privileged(OTHER_USER).then_some(User {
        uid: 65534,
        gid: 65534,
    });
    let _process = Process::start(&line, &settings).unwrap();
    std::process::abort();
}

/// QEMU where every user may run it: the cache is its owner's alone.
fn readable(parts: &Parts, to: &Path) -> Emulator {
    let (mut emulator, from) = (parts.emulator().unwrap(), parts.root());
    if !emulator.program.path.starts_with(from) {
        return emulator;
    }
    let mut folders = parts.library_folders();
    folders.retain(|folder| !folder.starts_with(from.join("usr")));
    folders.push(from.join("usr"));
    let moved = |path: &Path| match path.strip_prefix(from) {
        Ok(rest) => to.join(rest),
        Err(_) => path.to_owned(),
    };
    for folder in folders {
        let target = moved(&folder);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        let status = Command::new(tool("cp", "coreutils"))
            .args(["--recursive", "--preserve=mode,links"])
            .args([folder, target])
            .status();
        assert!(status.unwrap().success());
    }
    emulator.program.path = moved(&emulator.program.path);
    for (_, value) in &mut emulator.program.environment {
        let paths: Vec<_> = std::env::split_paths(value)
            .map(|path| moved(&path))
            .collect();
        *value = std::env::join_paths(paths).unwrap();
    }
    emulator.data = emulator.data.iter().map(|path| moved(path)).collect();
    emulator
}

/// A machine goes to another QEMU under TLS with certificates of one CA, and stays where the other end has none of it.
#[test]
fn a_machine_moves_under_tls_and_stays_where_the_certificate_is_anothers() {
    let parts = guest::parts();
    let (here, there) = (Trial::new(&parts), Trial::new(&parts));
    // One disk, as on storage that both hosts share.
    let disk = there.folder().join("disk.img");
    fs::remove_file(&disk).unwrap();
    fs::hard_link(here.folder().join("disk.img"), &disk).unwrap();
    let _tpm = here.tpm();
    let line = here.line(Begin::Running);
    let mut source = Process::start(&line, &here.settings(Lifetime::Owner)).unwrap();
    let incoming = there.line(Begin::Incoming(line.machine_type));
    let ours = certificates(&here.root);
    let strangers = certificates(&there.root);

    // The disk's lock keeps a second machine from it that is no destination.
    let settings = there.settings(Lifetime::Owner);
    let tpm = there.tpm();
    let refused = Process::start(&there.line(Begin::Paused), &settings).unwrap_err();
    assert!(refused.to_string().contains("lock"), "{refused}");
    drop(tpm);
    let tpm = there.tpm();
    let mut destination = Process::start(&incoming, &settings).unwrap();
    let end = migrate(&mut source, &strangers, &mut destination, &ours);
    assert_eq!(end.status, MigrationStatus::Failed, "{end:?}");
    assert_eq!(
        source.monitor().unwrap().query_status().unwrap(),
        RunState::Running
    );
    destination.kill().unwrap();
    drop(tpm);

    let monitor = source.monitor().unwrap();
    let outcome = monitor.add_tls_credentials("tls", &ours, Endpoint::Client);
    match outcome.unwrap_err() {
        QmpError::Refused { command, class, .. } => {
            assert_eq!((command, class.as_str()), ("object-add", "GenericError"));
        }
        other => panic!("{other}"),
    }
    monitor.remove_tls_credentials("tls").unwrap();
    let _tpm = there.tpm();
    let mut destination = Process::start(&incoming, &settings).unwrap();
    let end = migrate(&mut source, &ours, &mut destination, &ours);
    assert_eq!(end.status, MigrationStatus::Completed, "{end:?}");
    assert!(end.downtime.is_some() && end.transferred > 0, "{end:?}");
    // Both get there a moment after the migration is complete.
    reaches(&mut source, &RunState::Migrated);
    // It has all of the machine, and waits until it is told that the other one will not go on.
    reaches(&mut destination, &RunState::Paused);
    destination.monitor().unwrap().cont().unwrap();
    reaches(&mut destination, &RunState::Running);
}

fn migrate(
    source: &mut Process,
    credentials: &Path,
    destination: &mut Process,
    their_credentials: &Path,
) -> Migration {
    let monitor = destination.monitor().unwrap();
    assert_eq!(monitor.query_status().unwrap(), RunState::Incoming);
    let server = Endpoint::Server;
    monitor
        .add_tls_credentials("tls", their_credentials, server)
        .unwrap();
    let mut parameters = MigrationParameters {
        tls_credentials: Some("tls"),
        ..MigrationParameters::default()
    };
    monitor.set_migration_parameters(&parameters).unwrap();
    monitor.prepare_migration().unwrap();
    let anywhere = MigrationAddress::Tcp("127.0.0.1:0".parse().unwrap());
    monitor.migrate_incoming(&anywhere).unwrap();
    let address = monitor.query_migrate().unwrap().listening.unwrap();
    assert_ne!(address.port(), 0);

    let monitor = source.monitor().unwrap();
    let client = Endpoint::Client;
    monitor
        .add_tls_credentials("tls", credentials, client)
        .unwrap();
    parameters.tls_hostname = Some("destination.test");
    parameters.max_bandwidth = Some(1 << 31);
    // A kernel that starts changes much memory; here it may stand still for that.
    parameters.downtime_limit = Some(Duration::from_secs(20));
    monitor.set_migration_parameters(&parameters).unwrap();
    monitor.prepare_migration().unwrap();
    monitor.migrate(&MigrationAddress::Tcp(address)).unwrap();
    loop {
        // Each stage is an event, so nothing is asked before its time.
        monitor.next_event(PATIENCE).unwrap().expect("a stage");
        let migration = monitor.query_migrate().unwrap();
        match migration.status {
            MigrationStatus::Completed | MigrationStatus::Failed => return migration,
            _ => {}
        }
    }
}

/// Asks until the machine is in a state.
fn reaches(process: &mut Process, state: &RunState) {
    let begun = Instant::now();
    loop {
        let now = process.monitor().unwrap().query_status().unwrap();
        if now == *state {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{now:?}, not {state:?}");
    }
}

/// A folder with a CA, and certificates for both ends that it has issued.
fn certificates(folder: &Path) -> PathBuf {
    let folder = folder.join("tls");
    fs::create_dir(&folder).unwrap();
    let openssl = |arguments: &str| {
        let output = Command::new(tool("openssl", "openssl"))
            .args([
                "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
            ])
            .args(arguments.split_whitespace())
            .current_dir(&folder)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    openssl(
        "-subj /CN=authority -keyout ca-key.pem -out ca-cert.pem -addext keyUsage=critical,keyCertSign",
    );
    for (end, usage) in [("server", "serverAuth"), ("client", "clientAuth")] {
        openssl(&format!(
            "-subj /CN={end} -CA ca-cert.pem -CAkey ca-key.pem -keyout {end}-key.pem -out {end}-cert.pem \
             -addext basicConstraints=critical,CA:FALSE -addext keyUsage=critical,digitalSignature,keyEncipherment \
             -addext extendedKeyUsage={usage} -addext subjectAltName=DNS:destination.test"
        ));
    }
    folder
}
