//! VMs that are made and started for real.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hgs_crypto::SecretBytes;
use hgs_crypto::random::System;
use hgs_vm::description::{Description, Memory, Network, VmId};
use hgs_vm::generation::StateFolder;
use hgs_vm::image::{
    Boot, GuestKernel, Hardware, ImageError, Preparation, Prepared, Root, Tools, demo, prepare,
};
use hgs_vm::parts::{Kernel, Parts};
use hgs_vm::protection::{Policy, Protection};
use hgs_vm::qemu::accelerator::Accelerator;
use hgs_vm::qemu::command::{Begin, CommandLine, Machine, RuntimeFolder, Serial};
use hgs_vm::qemu::process::{self, Lifetime, Process};
use hgs_vm::swtpm::{Channels, Contents, Settings, StateKey, Swtpm};
use tempfile::TempDir;

/// How long a boot may take on a machine that is busy: on an idle one it takes ten seconds, by emulation.
const PATIENCE: Duration = Duration::from_secs(300);

/// Makes VMs in a folder of its own, and starts them.
pub(crate) struct Maker {
    root: TempDir,
    parts: Parts,
    pub(crate) tools: Tools,
    pub(crate) kernel: Kernel,
}

impl Maker {
    pub(crate) fn new() -> Self {
        let cache = Parts::cache_folder(|name| std::env::var_os(name)).unwrap();
        let parts = Parts::fetch(&cache, &mut |_| ()).unwrap();
        Self {
            root: tempfile::tempdir_in("/tmp").unwrap(),
            tools: Tools::of(&parts).unwrap(),
            kernel: parts.kernel().unwrap(),
            parts,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// A VM of the name, under `key(1)`.
    pub(crate) fn make(
        &self,
        name: &str,
        root: Root<'_>,
        boot: Boot<'_>,
    ) -> Result<Prepared, ImageError> {
        self.make_with(name, root, boot, &mut |folder, key| {
            self.make_vtpm(folder, key)
        })
    }

    /// As [`Self::make`], with another TPM.
    pub(crate) fn make_with(
        &self,
        name: &str,
        root: Root<'_>,
        boot: Boot<'_>,
        make_vtpm: &mut dyn FnMut(&Path, &StateKey) -> Result<(), ImageError>,
    ) -> Result<Prepared, ImageError> {
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
                mac_address: None,
            },
            boot,
            kernel: matches!(root, Root::Demo(_)).then_some(GuestKernel {
                image: &self.kernel.image,
                modules: &self.kernel.modules,
            }),
            command_line: demo::COMMAND_LINE,
            root,
            state_key: &key(1),
            protector: b"<protector/>",
            protection: &protection.to_json(),
            make_vtpm,
        };
        prepare(preparation, &self.tools, &mut |_| ())
    }

    pub(crate) fn make_vtpm(&self, folder: &Path, key: &StateKey) -> Result<(), ImageError> {
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
    pub(crate) fn boot(&self, name: &str, until: &str, power_off: bool) -> String {
        self.boot_under(&key(1), name, until, power_off)
    }

    /// As [`Self::boot`], of a VM whose state is under another key.
    pub(crate) fn boot_under(
        &self,
        key: &StateKey,
        name: &str,
        until: &str,
        power_off: bool,
    ) -> String {
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
            key,
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
            qemu.monitor().unwrap().system_powerdown().unwrap();
            assert!(qemu.wait(PATIENCE).unwrap(), "{}", serial());
        }
        serial()
    }
}

pub(crate) fn key(number: u8) -> StateKey {
    StateKey::of_transport_key(&SecretBytes::new(vec![number; 32])).unwrap()
}
