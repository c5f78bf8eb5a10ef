//! A running VM goes to another host, and to no host that has no right to it.

#[path = "../../hgs-client/tests/guarded_host/guardian.rs"]
#[allow(dead_code, reason = "it serves the tests of other crates, too")]
mod guardian;
#[path = "../../hgs-vm/tests/common/guest.rs"]
#[allow(dead_code, reason = "it serves the tests of other crates, too")]
mod guest;

use std::fs;
use std::io::BufRead as _;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use guardian::{TestClock, TestGuardian, TestHost};
use hgs_agent::{
    Agent, AgentFolders, Client, ClientError, MachineState, MachineStatus, Migrated, Request,
    Settings,
};
use hgs_client::{Environment, sealed_file};
use hgs_crypto::SecretBytes;
use hgs_crypto::random::System;
use hgs_protector::{TransportKey, create};
use hgs_testkit::fixtures::{Guardian, Keys};
use hgs_vm::generation::StateFolder;
use hgs_vm::parts::Parts;
use hgs_vm::program::Program;
use hgs_vm::protection::{Policy, Protection, SEALED_FILE};
use hgs_vm::swtpm::{self, Channels, Contents, StateKey, Swtpm};
use serde::de::DeserializeOwned;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(300);

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

/// Says what is on its disk, extends PCR 16 once, and counts: on its disk, and aloud with that PCR. All the while it changes
/// its memory.
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
( while :; do dd if=/dev/urandom of=/tmp/load bs=1M count=16 2>/dev/null; done ) &
n=0
while :; do
  n=$((n+1))
  printf 'COUNT-%08d' $n | dd of=/dev/vda bs=512 conv=sync,notrunc,fsync 2>/dev/null
  echo "COUNT $n pcr16=$(head -c 8 /sys/class/tpm/tpm0/pcr-sha256/16)"
  usleep 200000
done
"#;

/// A VM as its owner delivers it, with an empty disk.
fn deliver(parts: &Parts, format: &str) -> TempDir {
    let delivered = tempfile::tempdir().unwrap();
    let folder = delivered.path();
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).unwrap();
    guest::put(parts, folder, SCRIPT);
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
    let key = TransportKey::random(&mut System::new()).unwrap();
    let keys = Keys::of(&[owner]);
    let fabric = std::slice::from_ref(&fabric.certificates);
    let protector = create(&owner.certificates, fabric, &key, &mut &keys).unwrap();
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
    let protection = Protection {
        vm: "6f2d1c3e-8d0a-4a53-9f1c-0b7f6a1e2d3c".parse().unwrap(),
        policy: Policy::EncryptionSupported,
    };
    let document = SecretBytes::new(protection.to_json());
    let random = &mut System::new();
    let sealed = sealed_file::seal(&key, &protector.digest(), &document, random).unwrap();
    fs::write(staged.path().join(SEALED_FILE), sealed).unwrap();
    let complete = vm.complete(staged, protector.octets()).unwrap();
    vm.switch(complete).unwrap();
    drop(vm);
    delivered
}

/// A host with an agent.
struct Guarded {
    host: TestHost,
    agent: Option<Agent>,
    address: SocketAddr,
}

/// Everybody on one machine.
struct Fabric {
    parts: Parts,
    clock: TestClock,
    guardian: TestGuardian,
}

impl Fabric {
    async fn new() -> Self {
        let parts = tokio::task::spawn_blocking(guest::parts).await.unwrap();
        let clock = TestClock::new();
        let guardian = TestGuardian::start(&clock, 12).await;
        Self {
            parts,
            clock,
            guardian,
        }
    }

    async fn host(&self, registered: bool) -> Guarded {
        let host = TestHost::new(&self.clock, self.guardian.endpoints(), None);
        if registered {
            self.guardian.register(&host);
        }
        let mut guarded = Guarded {
            host,
            agent: None,
            address: "127.0.0.1:0".parse().unwrap(),
        };
        guarded.start_agent(self).await;
        guarded
    }
}

impl Guarded {
    fn folders(&self) -> AgentFolders {
        let host = self.host.folders();
        let runtime = host.state.with_file_name("run");
        AgentFolders { host, runtime }
    }

    async fn start_agent(&mut self, fabric: &Fabric) {
        let settings = Settings {
            environment: Environment {
                clock: Arc::new(fabric.clock.clone()),
                ..Environment::default()
            },
            emulator: Some(fabric.parts.emulator().unwrap()),
            listen: Some(self.address),
            ..Settings::default()
        };
        let agent = Agent::start(self.folders(), settings).await.unwrap();
        self.address = agent.migration_address().unwrap();
        self.agent = Some(agent);
    }

    async fn stop_agent(&mut self) {
        self.agent.take().unwrap().stop().await;
    }

    fn client(&self) -> Client {
        Client::new(&self.folders().socket())
    }

    async fn ask<T: DeserializeOwned + Send + 'static>(
        &self,
        request: Request,
    ) -> Result<T, ClientError> {
        let client = self.client();
        let asked =
            tokio::task::spawn_blocking(move || client.ask(&request, |step| eprintln!("  {step}")));
        asked.await.unwrap()
    }

    async fn migrate(&self, to: SocketAddr) -> Result<Migrated, ClientError> {
        let request = Request::Migrate {
            name: "web1".to_owned(),
            to: to.to_string(),
        };
        self.ask(request).await
    }

    async fn start_vm(&self) -> MachineStatus {
        let request = Request::Start {
            name: "web1".to_owned(),
            accept_other_state: false,
            previous_generation: false,
        };
        self.ask(request).await.unwrap()
    }

    async fn end_vm(&self) -> MachineStatus {
        let request = Request::Stop {
            name: "web1".to_owned(),
            force: true,
        };
        self.ask(request).await.unwrap()
    }

    async fn status(&self) -> MachineStatus {
        let name = "web1".to_owned();
        self.ask(Request::Show { name }).await.unwrap()
    }

    /// Names of the VMs of this host.
    async fn names(&self) -> Vec<String> {
        let machines: Vec<MachineStatus> = self.ask(Request::List {}).await.unwrap();
        machines.into_iter().map(|vm| vm.name).collect()
    }

    /// What is in the folders of VMs, also while they run.
    fn left(&self) -> Vec<PathBuf> {
        let folders = self.folders();
        [folders.host.state.join("vms"), folders.runtime.join("vms")]
            .iter()
            .flat_map(|folder| fs::read_dir(folder).into_iter().flatten())
            .map(|entry| entry.unwrap().path())
            .collect()
    }

    /// Waits for a line of the guest that begins like this; returns it whole.
    async fn hears(&self, beginning: &'static str) -> String {
        let client = self.client();
        let heard = tokio::task::spawn_blocking(move || {
            let port = client.console("web1").unwrap();
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
    async fn count(&self) -> (u64, String) {
        let line = self.hears("COUNT ").await;
        let (count, pcr) = line
            .strip_prefix("COUNT ")
            .and_then(|rest| rest.split_once(" pcr16="))
            .unwrap_or_else(|| panic!("{line}"));
        (count.parse().unwrap(), pcr.to_owned())
    }
}

fn message<T>(outcome: Result<T, ClientError>) -> String {
    match outcome {
        Ok(_) => panic!("it was done"),
        Err(ClientError::Agent(failure)) => failure.message,
        Err(other) => panic!("{other}"),
    }
}

async fn import(host: &Guarded, folder: &Path) {
    let request = Request::Import {
        folder: folder.to_owned(),
        name: None,
    };
    let _: MachineStatus = host.ask(request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_vm_moves_on_and_back_and_to_nobody_else() {
    let fabric = Fabric::new().await;
    let mut here = fabric.host(true).await;
    let mut there = fabric.host(true).await;
    let delivered = deliver(&fabric.parts, "raw");
    import(&here, delivered.path()).await;
    here.start_vm().await;
    let (before, pcr) = here.count().await;
    assert_ne!(pcr, "00000000");

    // Each refusal leaves it running, and nothing elsewhere.
    let stranger = fabric.host(false).await;
    let revoked = fabric.host(true).await;
    // It has a certificate that is valid still.
    let _ = revoked.host.host.signing_certificates().await.unwrap();
    fabric.guardian.revoke(&revoked.host);
    let namesake = fabric.host(true).await;
    import(&namesake, delivered.path()).await;
    let nobody: SocketAddr = "127.0.0.1:9".parse().unwrap();
    for (to, why) in [
        (stranger.address, "not registered"),
        (revoked.address, "revoked"),
        (namesake.address, "has a VM named web1"),
        (nobody, "can't be reached"),
    ] {
        let said = message(here.migrate(to).await);
        assert!(said.contains(why), "{said}");
        let status = here.status().await;
        assert_eq!(status.state, MachineState::Running, "{status:?}");
    }
    assert_eq!(namesake.names().await, ["web1"]);
    for host in [&stranger, &revoked] {
        assert!(host.left().is_empty(), "{:?}", host.left());
    }

    let begun = Instant::now();
    here.migrate(there.address).await.unwrap();
    eprintln!("moved in {:?}", begun.elapsed());
    assert!(here.names().await.is_empty());
    assert!(here.left().is_empty(), "{:?}", here.left());
    let status = there.status().await;
    assert_eq!(status.state, MachineState::Running, "{status:?}");
    assert_eq!(status.policy.as_deref(), Some("encryption-supported"));
    let (moved, same) = there.count().await;
    assert!(moved > before && moved < before + 1000, "{before} {moved}");
    assert_eq!(same, pcr);

    // Its agent ends, and the next one moves it back.
    there.stop_agent().await;
    there.start_agent(&fabric).await;
    assert_eq!(there.status().await.state, MachineState::Running);
    there.migrate(here.address).await.unwrap();
    let (back, same) = here.count().await;
    assert!(back > moved, "{moved} {back}");
    assert_eq!(same, pcr);
    assert!(there.left().is_empty(), "{:?}", there.left());
    let kept = |host: &Guarded| {
        fs::read_dir(host.folders().host.state.join("migrations"))
            .unwrap()
            .count()
    };
    assert_eq!((kept(&here), kept(&there)), (0, 0));

    // What it wrote is on the disk that came with it.
    let ended = here.end_vm().await;
    assert!(ended.warnings.is_empty(), "{ended:?}");
    here.start_vm().await;
    let disk = here.hears("GUEST-DISK").await;
    let count = disk.strip_prefix("GUEST-DISK COUNT-").unwrap();
    assert!(count.parse::<u64>().unwrap() >= back, "{disk} {back}");
    here.end_vm().await;
    here.stop_agent().await;
}
