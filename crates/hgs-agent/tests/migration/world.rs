//! Hosts with agents, a guardian, and a VM whose guest counts.

use std::fs;
use std::io::BufRead as _;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hgs_agent::{
    Agent, AgentFolders, Client, ClientError, MachineStatus, Migrated, Request, Settings,
};
use hgs_client::Environment;
use hgs_client::configuration::Endpoints;
use hgs_client::sealed_file::{self, SealedAnew};
use hgs_crypto::SecretBytes;
use hgs_crypto::random::System;
use hgs_testkit::fixtures::{Guardian, Keys};
use hgs_testkit::tool;
use hgs_vm::generation::StateFolder;
use hgs_vm::parts::Parts;
use hgs_vm::program::Program;
use hgs_vm::protection::{Policy, Protection, SEALED_FILE};
use hgs_vm::qemu::Emulator;
use hgs_vm::qemu::process::User;
use hgs_vm::swtpm::{self, Channels, Contents, StateKey, Swtpm};
use serde::de::DeserializeOwned;
use tempfile::TempDir;

use crate::guardian::{TestClock, TestGuardian, TestHost};
use crate::guest;

pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

const DESCRIPTION: &str = r#"
name = "web1"
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
format = "FORMAT"
"#;

/// Says what is on its disk, extends PCR 16 once, and counts: on its disk, and aloud with that PCR.
const SCRIPT: &str = r#"
mount -t devtmpfs dev /dev; mount -t proc proc /proc; mount -t sysfs sys /sys; mkdir /tmp; mount -t tmpfs tmp /tmp
for module in button virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk; do
  if [ -f /lib/$module.ko ]; then insmod /lib/$module.ko; fi
done
echo "GUEST-DISK $(dd if=/dev/vda bs=16 count=1 2>/dev/null | tr -d '\0')"
exec 3<>/dev/tpm0
printf '\x80\x02\x00\x00\x00\x41\x00\x00\x01\x82\x00\x00\x00\x10\x00\x00\x00\x09\x40\x00\x00\x09\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x0bEXTENDED-ONCE-BY-THE-FIRST-START' >&3
dd bs=4096 count=1 <&3 >/dev/null 2>&1
exec 3>&-
LOAD
n=0
while :; do
  n=$((n+1))
  printf 'COUNT-%08d' $n | dd of=/dev/vda bs=512 conv=sync,notrunc,fsync 2>/dev/null
  echo "COUNT $n pcr16=$(head -c 8 /sys/class/tpm/tpm0/pcr-sha256/16)"
  usleep 200000
done
"#;

/// Changes memory as fast as it can, and some of it all the time.
pub(crate) const LOAD: &str =
    "( while :; do dd if=/dev/urandom of=/tmp/load bs=1M count=16 2>/dev/null; done ) &";

/// A VM as its owner delivers it, with an empty disk.
pub(crate) fn deliver(parts: &Parts, format: &str, load: &str) -> TempDir {
    let delivered = tempfile::tempdir().unwrap();
    let folder = delivered.path();
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).unwrap();
    guest::put(parts, folder, &SCRIPT.replace("LOAD", load));
    fs::write(
        folder.join("vm.toml"),
        DESCRIPTION.replace("FORMAT", format),
    )
    .unwrap();
    let mut made = parts.program("qemu-img").unwrap().command();
    let made = made
        .args(["create", "-q", "-f", format, "disk.img", "32M"])
        .current_dir(folder);
    assert!(made.status().unwrap().success());

    let (owner, fabric) = (Guardian::named("owner"), Guardian::named("fabric"));
    let protection = Protection {
        vm: "6f2d1c3e-8d0a-4a53-9f1c-0b7f6a1e2d3c".parse().unwrap(),
        policy: Policy::EncryptionSupported,
    };
    let document = SecretBytes::new(protection.to_json());
    let (certificates, keys) = (&owner.certificates, &mut &Keys::of(&[owner]));
    let fabric = std::slice::from_ref(&fabric.certificates);
    let sealed = sealed_file::seal_anew(&document, certificates, fabric, keys, &mut System::new());
    let SealedAnew {
        key,
        protector,
        file,
    } = sealed.unwrap();
    let state = StateKey::of_transport_key(key.secret()).unwrap();
    let mut vm = StateFolder::create(folder).unwrap();
    let staged = vm.stage().unwrap();
    let mut tpm = Swtpm::start(&swtpm::Settings {
        program: &Program::installed("swtpm"),
        folder: staged.path(),
        contents: Contents::New,
        key: &state,
        migration_key: None,
        channels: Channels::Private,
    })
    .unwrap();
    tpm.initialise().unwrap();
    tpm.shut_down().unwrap();
    fs::write(staged.path().join(SEALED_FILE), file).unwrap();
    vm.settle(staged, protector.octets()).unwrap();
    drop(vm);
    delivered
}

/// QEMU where every user may run it: the cache is its owner's alone.
pub(crate) fn emulator_for_all(parts: &Parts, to: &Path) -> Emulator {
    let (mut emulator, from) = (parts.emulator().unwrap(), parts.root());
    fs::set_permissions(to, fs::Permissions::from_mode(0o711)).unwrap();
    if !emulator.program.path.starts_with(from) {
        return emulator;
    }
    let moved = |path: &Path| match path.strip_prefix(from) {
        Ok(rest) => to.join(rest),
        Err(_) => path.to_owned(),
    };
    let status = Command::new(tool("cp", "coreutils"))
        .args([
            "--recursive",
            "--preserve=mode,links",
            "--no-target-directory",
        ])
        .args([from, to])
        .status();
    assert!(status.unwrap().success());
    fs::set_permissions(to, fs::Permissions::from_mode(0o711)).unwrap();
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

/// A host with an agent.
pub(crate) struct Guarded {
    pub(crate) host: TestHost,
    agent: Option<Agent>,
    pub(crate) address: SocketAddr,
    user: Option<User>,
    emulator: Emulator,
}

/// Everybody on one machine.
pub(crate) struct Fabric {
    pub(crate) parts: Parts,
    clock: TestClock,
    pub(crate) guardian: TestGuardian,
}

impl Fabric {
    pub(crate) async fn new() -> Self {
        let parts = tokio::task::spawn_blocking(guest::parts).await.unwrap();
        let clock = TestClock::new();
        let guardian = TestGuardian::start(&clock, 12).await;
        Self {
            parts,
            clock,
            guardian,
        }
    }

    pub(crate) async fn host(&self, registered: bool) -> Guarded {
        let host = TestHost::new(&self.clock, self.guardian.endpoints(), None);
        if registered {
            self.guardian.register(&host);
        }
        let address = "127.0.0.1:0".parse().unwrap();
        let emulator = self.parts.emulator().unwrap();
        self.guarded(host, address, None, emulator).await
    }

    /// A registered host that reaches the guardian at `endpoints`, and is reached at `address`.
    pub(crate) async fn host_at(
        &self,
        endpoints: Endpoints,
        address: SocketAddr,
        user: Option<User>,
        emulator: Emulator,
    ) -> Guarded {
        let host = TestHost::new(&self.clock, endpoints, None);
        self.guardian.register(&host);
        self.guarded(host, address, user, emulator).await
    }

    async fn guarded(
        &self,
        host: TestHost,
        address: SocketAddr,
        user: Option<User>,
        emulator: Emulator,
    ) -> Guarded {
        let mut guarded = Guarded {
            host,
            agent: None,
            address,
            user,
            emulator,
        };
        guarded.start_agent(self).await;
        guarded
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        hgs_testkit::end_processes_of(&self.host.folders().state);
    }
}

impl Guarded {
    pub(crate) fn folders(&self) -> AgentFolders {
        let host = self.host.folders();
        let runtime = host.state.with_file_name("run");
        AgentFolders { host, runtime }
    }

    pub(crate) async fn start_agent(&mut self, fabric: &Fabric) {
        let settings = Settings {
            environment: Environment {
                clock: Arc::new(fabric.clock.clone()),
                ..Environment::default()
            },
            emulator: Some(self.emulator.clone()),
            user: self.user,
            listen: Some(self.address),
        };
        let agent = Agent::start(self.folders(), settings).await.unwrap();
        self.address = agent.migration_address().unwrap();
        self.agent = Some(agent);
    }

    pub(crate) async fn stop_agent(&mut self) {
        self.agent.take().unwrap().stop().await;
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(&self.folders().socket())
    }

    pub(crate) async fn ask<T: DeserializeOwned + Send + 'static>(
        &self,
        request: Request,
    ) -> Result<T, ClientError> {
        let client = self.client();
        let asked =
            tokio::task::spawn_blocking(move || client.ask(&request, |step| eprintln!("  {step}")));
        asked.await.unwrap()
    }

    /// Asks, and is told each step.
    pub(crate) async fn ask_and_hear<T: DeserializeOwned + Send + 'static>(
        &self,
        request: Request,
        mut heard: impl FnMut(&str) + Send + 'static,
    ) -> Result<T, ClientError> {
        let client = self.client();
        let asked = tokio::task::spawn_blocking(move || {
            client.ask(&request, |step| {
                eprintln!("  {step}");
                heard(step);
            })
        });
        asked.await.unwrap()
    }

    pub(crate) async fn migrate(&self, to: SocketAddr) -> Result<Migrated, ClientError> {
        let request = Request::Migrate {
            name: "web1".to_owned(),
            to: to.to_string(),
        };
        self.ask(request).await
    }

    pub(crate) async fn start_vm(&self) -> MachineStatus {
        let request = Request::Start {
            name: "web1".to_owned(),
            accept_other_state: false,
            previous_generation: false,
        };
        self.ask(request).await.unwrap()
    }

    pub(crate) async fn end_vm(&self) -> MachineStatus {
        let request = Request::Stop {
            name: "web1".to_owned(),
            force: true,
        };
        self.ask(request).await.unwrap()
    }

    pub(crate) async fn status(&self) -> MachineStatus {
        let name = "web1".to_owned();
        self.ask(Request::Show { name }).await.unwrap()
    }

    /// Names of the VMs of this host.
    pub(crate) async fn names(&self) -> Vec<String> {
        let machines: Vec<MachineStatus> = self.ask(Request::List {}).await.unwrap();
        machines.into_iter().map(|vm| vm.name).collect()
    }

    /// What is in the folders of VMs, also while they run.
    pub(crate) fn left(&self) -> Vec<PathBuf> {
        let folders = self.folders();
        [folders.host.state.join("vms"), folders.runtime.join("vms")]
            .iter()
            .flat_map(|folder| fs::read_dir(folder).into_iter().flatten())
            .map(|entry| entry.unwrap().path())
            .collect()
    }

    /// Waits for a line of the guest that begins like this; returns it whole.
    pub(crate) async fn hears(&self, beginning: &'static str) -> String {
        let client = self.client();
        let heard = tokio::task::spawn_blocking(move || {
            let port = client.console("web1");
            let port = port.unwrap_or_else(|error| panic!("{error}: {:?}", client.list()));
            port.get_ref().set_read_timeout(Some(PATIENCE)).unwrap();
            let begun = Instant::now();
            let mut said = String::new();
            for line in port.lines() {
                let line = line.unwrap_or_else(|error| panic!("{error} after {said}"));
                if line.starts_with(beginning) {
                    return line.trim().to_owned();
                }
                said += &line;
                assert!(begun.elapsed() < PATIENCE, "no {beginning:?} in {said}");
            }
            panic!("no {beginning:?} in {said}");
        });
        heard.await.unwrap()
    }

    /// The guest's count, and its PCR 16.
    pub(crate) async fn count(&self) -> (u64, String) {
        let line = self.hears("COUNT ").await;
        let (count, pcr) = line
            .strip_prefix("COUNT ")
            .and_then(|rest| rest.split_once(" pcr16="))
            .unwrap_or_else(|| panic!("{line}"));
        (count.parse().unwrap(), pcr.to_owned())
    }
}

pub(crate) fn message<T>(outcome: Result<T, ClientError>) -> String {
    match outcome {
        Ok(_) => panic!("it was done"),
        Err(ClientError::Agent(failure)) => failure.message,
        Err(other) => panic!("{other}"),
    }
}

pub(crate) async fn import(host: &Guarded, folder: &Path) {
    let request = Request::Import {
        folder: folder.to_owned(),
        name: None,
    };
    let _: MachineStatus = host.ask(request).await.unwrap();
}
