//! `hgs vm-image prepare`.

use std::fmt;
use std::path::{Path, PathBuf};

use hgs_client::sealed_file::{self, SealedAnew};
use hgs_crypto::random::System;
use hgs_crypto::{SecretBytes, hex};
use hgs_terminal::{AtFault, Exit, Failure, Terminal, read_input};
use hgs_vm::description::{Memory, Network, Processors, VmId, VmName};
use hgs_vm::identity;
use hgs_vm::image::{
    Boot, GuestKernel, Hardware, ImageError, PlainDisk, Preparation, Root, Step, Tools, demo,
    prepare,
};
use hgs_vm::libvirt::{self, Existing};
use hgs_vm::protection::{Policy, Protection};
use hgs_vm::swtpm::StateKey;
use serde::Serialize;

use super::keys::VmKeys;
use super::recovery::{NewRecoveryKeyOption, ToldRecoveryKey};
use super::{Shown, image_failure, parts, tools};
use crate::clock::now;
use crate::failures::OrFail as _;
use crate::guardian::{GuardianName, Home};
use crate::protector::{PassphraseOption, ProtectOptions};

/// Make the folder of a shielded VM: encrypted disk, virtual TPM, key protector, Secure Boot with keys of one's own
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  hgs vm-image prepare web1 --owner ann --guardian fabric --disk debian.qcow2 --recovery-key-file web1.recovery
  hgs vm-image prepare web1 --owner ann --guardian fabric --existing web1.xml --recovery-key-file web1.recovery
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
    #[command(flatten)]
    recovery_key: NewRecoveryKeyOption,
    /// Main memory, as in 2GiB; without, that of `--existing`, or 1GiB
    #[arg(long, value_name = "SIZE", value_parser = memory)]
    memory: Option<Memory>,
    /// How many processors it has; without, as many as `--existing`, or one
    #[arg(long, value_name = "COUNT", value_parser = processors)]
    processors: Option<Processors>,
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
        required_unless_present_any = ["demo", "existing"],
        conflicts_with = "demo"
    )]
    disk: Option<PathBuf>,
    /// A VM that runs unshielded today, as `virsh dumpxml --inactive NAME` writes it: its identifier, memory, processors, the
    /// address of its network card, and, without `--disk`, its disk. It must not run, and is only read
    #[arg(long, value_name = "FILE", conflicts_with = "demo")]
    existing: Option<PathBuf>,
    /// Make the demonstration guest, which counts on its serial port
    #[arg(long)]
    demo: bool,
    /// The number of the root file system's partition, if the types of the partitions don't tell
    #[arg(long, value_name = "NUMBER", conflicts_with = "demo")]
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

impl Source {
    /// The VM that runs unshielded today.
    fn existing(&self) -> Result<Option<Existing>, Failure> {
        let Some(path) = &self.existing else {
            return Ok(None);
        };
        let octets = read_input(path, libvirt::LIMIT)?.complete(path, "the XML of a domain")?;
        let refused = |failure: Failure| {
            failure
                .at_fault(AtFault::Operator)
                .while_doing(path.display())
        };
        let existing = Existing::read(&octets).map_err(|error| refused(Failure::refused(error)))?;
        match (&existing.disk, &self.disk) {
            (None, None) => Err(refused(
                Failure::refused("the domain has no disk").remedy("name one with `--disk`"),
            )),
            _ => Ok(Some(existing)),
        }
    }
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
        refuse_existing(&self.folder, &self.recovery_key)?;
        let existing = self.source.existing()?;
        let guardians = self.protect.all(home, &self.guardian, terminal)?;
        let owner = self.protect.certificates(home, &self.owner, terminal)?;
        let (own, passphrase) = self.unlock.unlock_with_passphrase(home, &self.owner)?;
        let vm_keys = vm_keys(home, &self.owner, &passphrase, terminal)?;

        let mut random = System::new();
        let id = match &existing {
            Some(existing) => existing.id,
            None => VmId::new(&mut random)?,
        };
        let protection = Protection {
            vm: id,
            policy: match self.policy {
                PolicyArgument::Shielded => Policy::Shielded,
                PolicyArgument::EncryptionSupported => Policy::EncryptionSupported,
            },
        };
        let document = SecretBytes::new(protection.to_json());
        let keys = &mut &own.keys;
        let sealed = sealed_file::seal_anew(&document, &owner, &guardians, keys, &mut random);
        let SealedAnew {
            key,
            protector,
            file,
        } = sealed.or_fail()?;
        let state_key = StateKey::of_transport_key(key.secret())?;
        let parts = parts(terminal)?;
        let tools = tools(&parts)?;
        let line = hex::encode(&hgs_crypto::random::array::<16>(&mut random)?);
        let demo_kernel = parts.kernel().map_err(|error| Failure::of(&error))?;
        let kernel = match (&self.source.kernel, &self.source.modules) {
            (Some(image), Some(modules)) => Some(GuestKernel { image, modules }),
            _ if self.source.demo => Some((&demo_kernel).into()),
            _ => None,
        };
        let of_existing = existing
            .as_ref()
            .and_then(|existing| existing.disk.as_ref());
        let root = match self.source.disk.as_ref().or(of_existing) {
            Some(image) => Root::Disk(PlainDisk {
                image,
                root_partition: self.source.root_partition,
            }),
            None => Root::Demo(&line),
        };
        let mac_address = existing
            .as_ref()
            .and_then(|existing| existing.mac_address.clone());
        let mut signing = &vm_keys.keys;
        let boot = match self.direct_kernel {
            true => Boot::DirectKernel,
            false => vm_keys.certificates.boot(&mut signing),
        };
        let vm = name.to_string();
        let mut make_vtpm = vtpm_maker(&tools, &vm_keys, &vm);
        let preparation = Preparation {
            target: &self.folder,
            hardware: Hardware {
                name,
                id,
                memory: match (self.memory, &existing) {
                    (Some(memory), _) => memory,
                    (None, Some(existing)) => existing.memory,
                    (None, None) => memory("1GiB").map_err(Failure::failed)?,
                },
                processors: match (self.processors, &existing) {
                    (Some(processors), _) => processors,
                    (None, Some(existing)) => existing.processors,
                    (None, None) => processors("1").map_err(Failure::failed)?,
                },
                network: match self.network || mac_address.is_some() {
                    true => Network::User,
                    false => Network::None,
                },
                mac_address,
            },
            boot,
            kernel,
            command_line: &self.source.command_line,
            root,
            state_key: &state_key,
            protector: protector.octets(),
            protection: &file,
            make_vtpm: &mut make_vtpm,
        };
        let mut shown = Shown::default();
        let prepared = prepare(preparation, &tools, &mut |step| {
            show(step, &mut shown, terminal)
        });
        let prepared = prepared.map_err(image_failure)?;
        terminal.report(&Done {
            folder: self.folder.display().to_string(),
            id: id.to_string(),
            policy: protection.policy.to_string(),
            protector: protector.digest().to_string(),
            pcr_7: hex::encode(&prepared.pcr_7),
            demo_line: self.source.demo.then_some(line),
            recovery_key: self.recovery_key.tell(&prepared.recovery_key)?,
        })?;
        Ok(Exit::Done)
    }
}

/// The owner's keys for images, which are made at the first image.
pub(super) fn vm_keys(
    home: &Home,
    owner: &GuardianName,
    passphrase: &SecretBytes,
    terminal: &Terminal,
) -> Result<VmKeys, Failure> {
    let (keys, made) = VmKeys::open_or_make(home, owner, passphrase, now())?;
    if made {
        terminal.note(format!(
            "keys for Secure Boot and for EK certificates are made in {}, under the passphrase of `{owner}`: back them up",
            home.vm_keys(owner).display(),
        ));
    }
    Ok(keys)
}

/// Nothing is overwritten.
pub(super) fn refuse_existing(
    folder: &Path,
    recovery: &NewRecoveryKeyOption,
) -> Result<(), Failure> {
    for path in [Some(folder), recovery.recovery_key_file.as_deref()]
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
    Ok(())
}

/// Makes the TPM of the VM `name`, with EK certificates of its owner's authority.
pub(crate) fn vtpm_maker<'a>(
    tools: &'a Tools,
    owner: &'a VmKeys,
    name: &'a str,
) -> impl FnMut(&Path, &StateKey) -> Result<(), ImageError> + 'a {
    move |folder, key| {
        let (certificates, keys) = (&owner.certificates, &mut &owner.keys);
        certificates.endorse(keys, name, now(), |subject, authority| {
            identity::make(&tools.swtpm, folder, key, subject, authority)
        })
    }
}

/// Gives a copied TPM the identity of the VM `name`, with EK certificates of its owner's authority.
pub(super) fn vtpm_replacer<'a>(
    tools: &'a Tools,
    owner: &'a VmKeys,
    name: &'a str,
) -> impl FnMut(&Path, &StateKey) -> Result<(), ImageError> + 'a {
    move |folder, key| {
        let (certificates, keys) = (&owner.certificates, &mut &owner.keys);
        certificates.endorse(keys, name, now(), |subject, authority| {
            identity::replace(&tools.swtpm, folder, key, subject, authority)
        })
    }
}

/// The name of a VM that is made in `folder`.
pub(super) fn vm_name(folder: &Path) -> Result<VmName, Failure> {
    let name = folder
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    name.try_into()
        .map_err(|error: String| Failure::usage(error))
}

fn show(step: Step, shown: &mut Shown, terminal: &Terminal) {
    match step {
        Step::Root => shown.step("making the root file system", terminal),
        Step::Reading(done, all) => shown.share("reading the disk image", done, all, terminal),
        Step::Encrypting(done, all) => {
            shown.share("encrypting the root file system", done, all, terminal);
        }
        Step::Vtpm => shown.step("making the virtual TPM", terminal),
        Step::Enrolling => shown.step("sealing the disk's key to the virtual TPM", terminal),
        Step::Kernel => shown.step("making the kernel image", terminal),
        Step::Disk(done, all) => shown.share("putting the disk together", done, all, terminal),
        _ => {}
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
    #[serde(flatten)]
    recovery_key: ToldRecoveryKey,
}

impl fmt::Display for Done {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "The VM is made in {} (policy {}).",
            self.folder, self.policy
        )?;
        self.recovery_key.fmt(formatter)?;
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
