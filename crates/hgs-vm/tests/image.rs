//! A VM that is made from nothing, started for real, and opened by its own vTPM and no other.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hgs_crypto::SecretBytes;
use hgs_crypto::random::System;
use hgs_pki::Certificate;
use hgs_tcg::event_log::Guid;
use hgs_testkit::fixtures::{Keys, private_key, self_signed, ten_years};
use hgs_vm::description::{Description, Memory, Network, VmId};
use hgs_vm::generation::StateFolder;
use hgs_vm::image::unified::Signer;
use hgs_vm::image::variables::{SecureBootKeys, SecureBootRole};
use hgs_vm::image::{
    Boot, GuestKernel, Hardware, ImageError, Preparation, Prepared, Root, SecureBoot, Tools, demo,
    prepare,
};
use hgs_vm::parts::{Kernel, Parts};
use hgs_vm::protection::{Policy, Protection};
use hgs_vm::qemu::accelerator::Accelerator;
use hgs_vm::qemu::command::{Begin, CommandLine, Machine, RuntimeFolder, Serial};
use hgs_vm::qemu::process::{self, Lifetime, Process};
use hgs_vm::swtpm::{Channels, Contents, Settings, StateKey, Swtpm};
use tempfile::TempDir;

/// How long a boot may take on a machine that is busy: on an idle one it takes ten seconds, by emulation.
const PATIENCE: Duration = Duration::from_secs(240);

struct Maker {
    root: TempDir,
    parts: Parts,
    tools: Tools,
    kernel: Kernel,
}

impl Maker {
    fn new() -> Self {
        let cache = Parts::cache_folder(|name| std::env::var_os(name)).unwrap();
        let parts = Parts::fetch(&cache, &mut |_| ()).unwrap();
        Self {
            root: tempfile::tempdir_in("/tmp").unwrap(),
            tools: Tools::of(&parts).unwrap(),
            kernel: parts.kernel().unwrap(),
            parts,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// A VM of the name, with this line on its disk, under `key(1)`.
    fn make(&self, name: &str, line: &str, boot: Boot<'_>) -> Result<Prepared, ImageError> {
        let id = VmId::new(&mut System::new()).unwrap();
        let protection = Protection {
            vm: id,
            policy: Policy::EncryptionSupported,
        };
        let preparation = Preparation {
            target: &self.path(name),
            hardware: Hardware {
                name: name.parse().unwrap(),
                id,
                memory: Memory::from_mib(768).unwrap(),
                processors: 1.try_into().unwrap(),
                network: Network::None,
            },
            boot,
            kernel: GuestKernel {
                image: &self.kernel.image,
                modules: &self.kernel.modules,
                command_line: demo::COMMAND_LINE,
            },
            root: Root::Demo(line),
            state_key: &key(1),
            protector: b"<protector/>",
            protection: &protection.to_json(),
            make_vtpm: &mut |folder, key| self.make_vtpm(folder, key),
        };
        prepare(preparation, &self.tools, &mut |_| ())
    }

    fn make_vtpm(&self, folder: &Path, key: &StateKey) -> Result<(), ImageError> {
        let mut swtpm = Swtpm::start(&Settings {
            program: &self.tools.swtpm,
            folder,
            contents: Contents::New,
            key,
            migration_key: None,
            channels: Channels::Private,
        })?;
        swtpm.initialise()?;
        Ok(swtpm.shut_down()?)
    }

    /// Starts the VM and returns what it wrote to its serial port when `until` was in it.
    fn boot(&self, name: &str, until: &str, power_off: bool) -> String {
        let folder = self.path(name);
        let description = Description::load(&folder).unwrap();
        let state = StateFolder::open(&folder).unwrap();
        let generation = state.current().unwrap();
        let sealed = fs::read(generation.path().join(hgs_vm::protection::SEALED_FILE)).unwrap();
        let protection = Protection::read(&sealed).unwrap();
        let runtime = RuntimeFolder::at(&self.path("run")).unwrap();
        hgs_files::private_folder(runtime.path()).unwrap();
        drop(fs::remove_file(runtime.serial_log()));
        let mut swtpm = Swtpm::start(&Settings {
            program: &self.tools.swtpm,
            folder: generation.path(),
            contents: Contents::Kept,
            key: &key(1),
            migration_key: None,
            channels: Channels::Hypervisor(&runtime.swtpm_socket()),
        })
        .unwrap();
        swtpm.hand_over();
        let emulator = self.parts.emulator().unwrap();
        let line = CommandLine::new(&Machine {
            description: &description,
            protection: &protection,
            folder: &folder,
            runtime: &runtime,
            emulator: &emulator,
            accelerator: &Accelerator::Tcg {
                reason: String::new(),
            },
            serial: Serial::LoggedConsole,
            direct_io: false,
            begin: Begin::Running,
        })
        .unwrap();
        let settings = process::Settings {
            runtime: &runtime,
            user: None,
            lifetime: Lifetime::Owner,
            patience: PATIENCE,
        };
        let mut qemu = Process::start(&line, &settings).unwrap();
        let serial = || {
            let octets = fs::read(runtime.serial_log()).unwrap_or_default();
            String::from_utf8_lossy(&octets).into_owned()
        };
        let begun = Instant::now();
        while !serial().contains(until) {
            let ended = qemu.wait(Duration::from_millis(100)).unwrap();
            assert!(!ended, "QEMU ended: {}\n{}", qemu.messages(), serial());
            assert!(
                begun.elapsed() < PATIENCE,
                "`{until}` is not in:\n{}",
                serial()
            );
        }
        if power_off {
            qemu.monitor().system_powerdown().unwrap();
            assert!(qemu.wait(PATIENCE).unwrap(), "{}", serial());
        }
        serial()
    }
}

fn key(number: u8) -> StateKey {
    StateKey::of_transport_key(&SecretBytes::new(vec![number; 32])).unwrap()
}

#[test]
fn a_demonstration_guest_opens_its_disk_with_its_own_vtpm_and_no_other() {
    const LINE: &str = "only the opened disk says 7f3a";
    let maker = Maker::new();
    maker.make("vm", LINE, Boot::DirectKernel).unwrap();
    let names = |folder: &str| {
        let entries = fs::read_dir(maker.path(folder)).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    // Nothing in clear is left, and nothing beside it.
    assert_eq!(
        names("vm"),
        [
            "current",
            "disk.img",
            "gen-1",
            "initrd.img",
            "kernel",
            "lock",
            "vm.toml"
        ]
    );
    assert_eq!(
        names("vm/gen-1"),
        [
            ".lock",
            "protection.sealed",
            "protector.xml",
            "tpm2-00.permall"
        ]
    );
    assert_eq!(names(""), ["vm"]);
    for file in ["disk.img", "kernel", "initrd.img", "vm.toml"] {
        let octets = fs::read(maker.path("vm").join(file)).unwrap();
        let found = octets
            .windows(LINE.len())
            .any(|octets| octets == LINE.as_bytes());
        assert!(!found, "{file}");
        assert_eq!(
            hgs_files::open_to_others(&maker.path("vm").join(file)),
            None,
            "{file}"
        );
    }

    let said = maker.boot("vm", "heartbeat 1 tpm", true);
    assert!(
        said.contains("openhgs: the disk is opened by the virtual TPM"),
        "{said}"
    );
    assert!(said.contains(&format!("{}{LINE}", demo::PREFIX)), "{said}");
    assert!(said.contains("OPENHGS-DEMO powers off"), "{said}");

    // The same disk with the vTPM of another VM.
    let stolen = maker.path("vm/gen-1/tpm2-00.permall");
    fs::remove_file(&stolen).unwrap();
    maker.make_vtpm(&maker.path("vm/gen-1"), &key(1)).unwrap();
    let said = maker.boot("vm", "the virtual TPM does not open the disk", false);
    assert!(!said.contains(LINE), "{said}");
}

/// The image is signed by the key in db, the firmware starts it with Secure Boot, and PCR 7 is what was predicted: otherwise
/// the disk would not open.
#[test]
fn a_guest_with_secure_boot_opens_its_disk() {
    const LINE: &str = "only the opened disk says 95c1";
    let maker = Maker::new();
    let certificates = SecureBootCertificates::new();
    let mut keys = &certificates.keys;
    let secure = SecureBoot {
        keys: certificates.secure_boot_keys(),
        signer: Signer {
            certificate: &certificates.signature,
            keys: &mut keys,
        },
    };
    maker.make("vm", LINE, Boot::SecureBoot(secure)).unwrap();
    let said = maker.boot("vm", "heartbeat 1 tpm", true);
    assert!(said.contains(&format!("{}{LINE}", demo::PREFIX)), "{said}");
}

struct SecureBootCertificates {
    keys: Keys,
    platform: Certificate,
    key_exchange: Certificate,
    signature: Certificate,
}

impl SecureBootCertificates {
    fn new() -> Self {
        let mut keys = Keys::of(&[]);
        let mut make = |number, role: SecureBootRole| {
            let key = private_key(number);
            let certificate = self_signed(role.template("Ann", ten_years()), &key);
            keys.hold(&certificate, &key);
            certificate
        };
        let platform = make(0, SecureBootRole::PlatformKey);
        let key_exchange = make(1, SecureBootRole::KeyExchangeKey);
        let signature = make(2, SecureBootRole::Signature);
        Self {
            keys,
            platform,
            key_exchange,
            signature,
        }
    }

    fn secure_boot_keys(&self) -> SecureBootKeys<'_> {
        SecureBootKeys {
            owner: Guid::new(0x6f70_656e, 0x4867, 0x5301, [1; 8]),
            platform_key: &self.platform,
            key_exchange_key: &self.key_exchange,
            signature: &self.signature,
        }
    }
}
