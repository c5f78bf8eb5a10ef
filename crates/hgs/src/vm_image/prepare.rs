//! `hgs vm-image prepare`.

use std::fmt;
use std::path::{Path, PathBuf};

use hgs_client::sealed_file;
use hgs_crypto::random::System;
use hgs_crypto::{SecretBytes, hex};
use hgs_files::Readers;
use hgs_pki::{Seconds, Time, Validity};
use hgs_protector::{TransportKey, create};
use hgs_terminal::{AtFault, Exit, Failure, Terminal};
use hgs_vm::description::{Memory, Network, Processors, VmId, VmName};
use hgs_vm::identity::{self, Authority, Subject};
use hgs_vm::image::unified::Signer;
use hgs_vm::image::{
    Boot, GuestKernel, Hardware, ImageError, PlainDisk, Preparation, Root, SecureBoot, Step, Tools,
    demo, prepare,
};
use hgs_vm::protection::{Policy, Protection};
use hgs_vm::swtpm::StateKey;
use serde::Serialize;

use super::keys::VmKeys;
use super::{image_failure, parts, tools};
use crate::clock::now;
use crate::failures::OrFail as _;
use crate::guardian::{GuardianName, Home};
use crate::protector::{PassphraseOption, ProtectOptions};

/// How long the EK certificates of a vTPM are valid. A TPM's are for as long as it lives, and so are these.
const VTPM_VALIDITY: Seconds = Seconds::from_days(50 * 365);
const BACK: Seconds = Seconds::from_minutes(5);

/// Make the folder of a shielded VM: encrypted disk, virtual TPM, key protector, Secure Boot with keys of one's own
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  hgs vm-image prepare web1 --owner ann --guardian fabric --disk debian.qcow2 --recovery-key-file web1.recovery
  hgs vm-image prepare demo --owner ann --guardian fabric --demo --policy encryption-supported")]
pub(crate) struct Arguments {
    /// The folder to make; its name is the VM's
    folder: PathBuf,
    /// The guardian of one's own that owns the VM
    #[arg(long, value_name = "NAME")]
    owner: GuardianName,
    /// A guardian that may release the VM's keys to its hosts; may be given several times
    #[arg(long, value_name = "NAME", required = true)]
    guardian: Vec<GuardianName>,
    #[command(flatten)]
    protect: ProtectOptions,
    #[command(flatten)]
    unlock: PassphraseOption,
    #[command(flatten)]
    source: Source,
    /// How far the administrators of the fabric are kept out
    #[arg(long, value_enum, default_value_t = PolicyArgument::Shielded)]
    policy: PolicyArgument,
    /// Write the recovery key into this new file (mode 0600) instead of showing it
    #[arg(long, value_name = "FILE")]
    recovery_key_file: Option<PathBuf>,
    /// Main memory, as in 2GiB
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = memory)]
    memory: Memory,
    /// How many processors it has
    #[arg(long, value_name = "COUNT", default_value = "1", value_parser = processors)]
    processors: Processors,
    /// Connect it to what the host reaches
    #[arg(long)]
    network: bool,
    /// For tests: a kernel beside the disk, which the host can exchange, in place of Secure Boot
    #[arg(long, requires = "demo")]
    direct_kernel: bool,
}

/// Where the root file system comes from.
#[derive(Debug, clap::Args)]
struct Source {
    /// A plain disk image, raw or qcow2, with GPT and a root file system of ext4; it is only read
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "demo",
        conflicts_with = "demo"
    )]
    disk: Option<PathBuf>,
    /// Make the demonstration guest, which counts on its serial port
    #[arg(long)]
    demo: bool,
    /// The number of the root file system's partition, if the types of the partitions don't tell
    #[arg(long, value_name = "NUMBER", requires = "disk")]
    root_partition: Option<usize>,
    /// The kernel, instead of the newest in the root file system
    #[arg(long, value_name = "FILE", requires = "modules")]
    kernel: Option<PathBuf>,
    /// The folder of that kernel's modules
    #[arg(long, value_name = "FOLDER", requires = "kernel")]
    modules: Option<PathBuf>,
    /// What the kernel is told
    #[arg(long, value_name = "TEXT", default_value = demo::COMMAND_LINE)]
    command_line: String,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum PolicyArgument {
    /// They are not trusted: no console, no dumps, nothing but the network
    Shielded,
    /// They are trusted: they have a console; state, disk and migration are encrypted
    EncryptionSupported,
}

fn memory(text: &str) -> Result<Memory, String> {
    text.to_owned().try_into()
}

fn processors(text: &str) -> Result<Processors, String> {
    let count: u32 = text.parse().map_err(|_| "not a whole number".to_owned())?;
    count.try_into()
}

impl Arguments {
    pub(super) fn run(self, home: &Home, terminal: &Terminal) -> Result<Exit, Failure> {
        let name = vm_name(&self.folder)?;
        if self.direct_kernel && matches!(self.policy, PolicyArgument::Shielded) {
            return Err(Failure::usage("`--direct-kernel` lets the host exchange the kernel, which the policy shielded forbids")
                .remedy("say `--policy encryption-supported` as well"));
        }
        for path in [Some(&self.folder), self.recovery_key_file.as_ref()]
            .into_iter()
            .flatten()
        {
            if hgs_files::exists(path)? {
                return Err(
                    Failure::refused(format!("{} exists already", path.display()))
                        .at_fault(AtFault::Operator),
                );
            }
        }
        let guardians = self.guardian.iter();
        let guardians = guardians.map(|name| self.protect.certificates(home, name, terminal));
        let guardians = guardians.collect::<Result<Vec<_>, _>>()?;
        let owner = self.protect.certificates(home, &self.owner, terminal)?;
        let (own, passphrase) = self.unlock.unlock_with_passphrase(home, &self.owner)?;
        let (vm_keys, made) = VmKeys::open_or_make(home, &self.owner, &passphrase, now())?;
        if made {
            let folder = home.vm_keys(&self.owner);
            terminal.note(format!(
                "keys for Secure Boot and for EK certificates are made in {}, under the passphrase of `{}`: back them up",
                folder.display(),
                self.owner
            ));
        }

        let mut random = System::new();
        let transport_key = TransportKey::random(&mut random)?;
        let protector = create(&owner, &guardians, &transport_key, &mut &own.keys).or_fail()?;
        let id = VmId::new(&mut random)?;
        let protection = Protection {
            vm: id,
            policy: match self.policy {
                PolicyArgument::Shielded => Policy::Shielded,
                PolicyArgument::EncryptionSupported => Policy::EncryptionSupported,
            },
        };
        let document = SecretBytes::new(protection.to_json());
        let sealed = sealed_file::seal(&transport_key, &protector.digest(), &document, &mut random);
        let sealed = sealed.or_fail()?;
        let state_key = StateKey::of_transport_key(transport_key.secret())?;
        let parts = parts(terminal)?;
        let tools = tools(&parts)?;
        let line = hex::encode(&hgs_crypto::random::array::<16>(&mut random)?);
        let demo_kernel = parts.kernel().map_err(|error| Failure::of(&error))?;
        let kernel = match (&self.source.kernel, &self.source.modules) {
            (Some(image), Some(modules)) => Some(GuestKernel { image, modules }),
            _ if self.source.demo => Some(GuestKernel {
                image: &demo_kernel.image,
                modules: &demo_kernel.modules,
            }),
            _ => None,
        };
        let root = match &self.source.disk {
            Some(image) => Root::Disk(PlainDisk {
                image,
                root_partition: self.source.root_partition,
            }),
            None => Root::Demo(&line),
        };
        let mut signing = &vm_keys.keys;
        let boot = match self.direct_kernel {
            true => Boot::DirectKernel,
            false => Boot::SecureBoot(SecureBoot {
                keys: vm_keys.secure_boot(),
                signer: Signer {
                    certificate: &vm_keys.signature,
                    keys: &mut signing,
                },
            }),
        };
        let vm = name.to_string();
        let mut make_vtpm = vtpm_maker(&tools, &vm_keys, &vm);
        let preparation = Preparation {
            target: &self.folder,
            hardware: Hardware {
                name,
                id,
                memory: self.memory,
                processors: self.processors,
                network: if self.network {
                    Network::User
                } else {
                    Network::None
                },
            },
            boot,
            kernel,
            command_line: &self.source.command_line,
            root,
            state_key: &state_key,
            protector: protector.octets(),
            protection: &sealed,
            make_vtpm: &mut make_vtpm,
        };
        let mut shown = None;
        let prepared = prepare(preparation, &tools, &mut |step| {
            show(step, &mut shown, terminal)
        });
        let prepared = prepared.map_err(image_failure)?;
        let recovery_key = prepared.recovery_key.passphrase();
        if let Some(file) = &self.recovery_key_file {
            hgs_files::create(file, recovery_key.expose(), Readers::Owner)?;
        }
        terminal.report(&Done {
            folder: self.folder.display().to_string(),
            id: id.to_string(),
            policy: protection.policy.to_string(),
            protector: protector.digest().to_string(),
            pcr_7: hex::encode(&prepared.pcr_7),
            demo_line: self.source.demo.then_some(line),
            recovery_key: match &self.recovery_key_file {
                Some(_) => None,
                None => Some(String::from_utf8_lossy(recovery_key.expose()).into_owned()),
            },
            recovery_key_file: self
                .recovery_key_file
                .map(|file| file.display().to_string()),
        })?;
        Ok(Exit::Done)
    }
}

/// Makes the TPM of the VM `name`, with EK certificates of its owner's authority.
pub(crate) fn vtpm_maker<'a>(
    tools: &'a Tools,
    owner: &'a VmKeys,
    name: &'a str,
) -> impl FnMut(&Path, &StateKey) -> Result<(), ImageError> + 'a {
    move |folder, key| {
        let now = now();
        let validity = Validity {
            not_before: now.checked_sub(BACK).unwrap_or(Time::MIN),
            not_after: now.checked_add(VTPM_VALIDITY).unwrap_or(Time::MAX),
        };
        let mut keys = &owner.keys;
        let mut authority = Authority {
            certificate: &owner.endorsement_authority,
            keys: &mut keys,
        };
        let subject = Subject { name, validity };
        let made = identity::make(&tools.swtpm, folder, key, subject, &mut authority);
        made.map(drop).map_err(ImageError::from)
    }
}

/// The name of a VM that is made in `folder`.
fn vm_name(folder: &Path) -> Result<VmName, Failure> {
    let name = folder
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    name.try_into()
        .map_err(|error: String| Failure::usage(error))
}

/// Shows each step once, and every tenth of long ones.
fn show(step: Step, shown: &mut Option<(&'static str, u64)>, terminal: &Terminal) {
    let tenth = |done: u64, all: u64| done.saturating_mul(10) / all.max(1);
    let (what, tenth) = match step {
        Step::Root => ("making the root file system", 0),
        Step::Reading(done, all) => ("reading the disk image", tenth(done, all)),
        Step::Encrypting(done, all) => ("encrypting the root file system", tenth(done, all)),
        Step::Vtpm => ("making the virtual TPM", 0),
        Step::Enrolling => ("sealing the disk's key to the virtual TPM", 0),
        Step::Kernel => ("making the kernel image", 0),
        Step::Disk(done, all) => ("putting the disk together", tenth(done, all)),
        _ => return,
    };
    if shown.is_none_or(|last| last != (what, tenth)) {
        *shown = Some((what, tenth));
        match tenth {
            0 => terminal.note(what),
            tenth => terminal.note(format!("{what}: {} %", tenth * 10)),
        }
    }
}

#[derive(Serialize)]
struct Done {
    folder: String,
    id: String,
    policy: String,
    protector: String,
    pcr_7: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    demo_line: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recovery_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recovery_key_file: Option<String>,
}

impl fmt::Display for Done {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "The VM is made in {} (policy {}).",
            self.folder, self.policy
        )?;
        match (&self.recovery_key, &self.recovery_key_file) {
            (Some(key), _) => {
                writeln!(
                    formatter,
                    "Its recovery key, which is shown this once and kept nowhere:"
                )?;
                writeln!(formatter, "  {key}")?;
            }
            (None, Some(file)) => writeln!(
                formatter,
                "Its recovery key is in {file}; keep that away from the fabric."
            )?,
            (None, None) => {}
        }
        if let Some(line) = &self.demo_line {
            writeln!(
                formatter,
                "When its disk opens, it says {}{line}",
                demo::PREFIX
            )?;
        }
        writeln!(
            formatter,
            "Give the whole folder to the fabric: `guarded-host vm import`."
        )
    }
}
