//! The folder of a new VM, made beside its place and moved there when it is whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use hgs_crypto::Random;
use hgs_crypto::random::{self, System};
use hgs_files::Readers;
use hgs_tcg::event_log::Guid;

use super::gpt::{self, ALIGNMENT, Partition, PartitionTable};
use super::initrd::{self, InitrdParts};
use super::measured::MeasuredBoot;
use super::plain::{KeptLayout, PlainDisk, PlainDiskError, extract_kernel};
use super::unified::{self, Signer, UnifiedParts};
use super::variables::{self, SecureBootKeys};
use super::vtpm::in_measured_state;
use super::work_folder::WorkFolder;
use super::{ImageError, RecoveryKey, Tools, demo, esp, luks};
use crate::description::{
    Description, DirectKernel, Disk, DiskFormat, FileName, Firmware, KernelCommandLine, MacAddress,
    Memory, Network, Processors, VmId, VmName,
};
use crate::generation::StateFolder;
use crate::parts::Kernel;
use crate::protection;
use crate::swtpm::StateKey;

const DISK: &str = "disk.img";
const VARIABLES: &str = "firmware-vars.fd";
const KERNEL: &str = "kernel";
const INITRD: &str = "initrd.img";
/// The root file system while it is made: first in clear, then encrypted.
const ROOT: &str = "root.part";
/// The folder of kernel and modules that were copied out of a root file system.
const EXTRACTED: &str = "kernel.part";

/// Octets of a copy between two reports.
const CHUNK: usize = 4 << 20;
/// Octets of the largest kernel.
const KERNEL_LIMIT: usize = 256 << 20;

/// What a VM is made from.
#[expect(missing_debug_implementations, reason = "work with keys shows nothing")]
pub struct Preparation<'a, 'k> {
    /// Its folder, which must not exist.
    pub target: &'a Path,
    /// What it consists of.
    pub hardware: Hardware,
    /// What starts in it.
    pub boot: Boot<'k>,
    /// Its kernel; without, that of its root file system.
    pub kernel: Option<GuestKernel<'a>>,
    /// What the kernel is told, beside what opens the disk.
    pub command_line: &'a str,
    /// Its root file system.
    pub root: Root<'a>,
    /// The key of its vTPM's state, of the protector's transport key.
    pub state_key: &'a StateKey,
    /// The protector.
    pub protector: &'a [u8],
    /// What its owner decided about its protection, sealed under the same transport key.
    pub protection: &'a [u8],
    /// Makes its vTPM in a folder, under a key.
    pub make_vtpm: &'a mut dyn FnMut(&Path, &StateKey) -> Result<(), ImageError>,
}

/// What a VM consists of, beside firmware and disk.
#[derive(Debug, Clone)]
pub struct Hardware {
    /// What it is called.
    pub name: VmName,
    /// What it is.
    pub id: VmId,
    /// Its main memory.
    pub memory: Memory,
    /// How many processors it has.
    pub processors: Processors,
    /// What it is connected to.
    pub network: Network,
    /// The address of its network card, if it has to be this one.
    pub mac_address: Option<MacAddress>,
}

impl Hardware {
    /// That of the demonstration guest.
    #[must_use]
    pub fn of_demonstration(name: VmName, id: VmId) -> Self {
        Self {
            name,
            id,
            memory: Memory::from_mib(768).expect("768 MiB are memory"),
            processors: Processors::ONE,
            network: Network::None,
            mac_address: None,
        }
    }
}

/// What starts in a VM.
#[expect(missing_debug_implementations, reason = "work with keys shows nothing")]
pub enum Boot<'a> {
    /// UEFI firmware with Secure Boot, and a signed unified kernel image.
    SecureBoot(SecureBoot<'a>),
    /// A kernel beside the disk, which QEMU loads: for tests. The host can exchange it.
    DirectKernel,
}

/// The keys of Secure Boot, and the one that signs.
#[expect(missing_debug_implementations, reason = "work with keys shows nothing")]
pub struct SecureBoot<'a> {
    /// The keys that the firmware gets.
    pub keys: SecureBootKeys<'a>,
    /// Who signs the unified kernel image: the key whose certificate is in db.
    pub signer: Signer<'a>,
}

/// The kernel of a guest.
#[derive(Debug, Clone, Copy)]
pub struct GuestKernel<'a> {
    /// The file.
    pub image: &'a Path,
    /// The folder of its modules.
    pub modules: &'a Path,
}

impl<'a> From<&'a Kernel> for GuestKernel<'a> {
    fn from(kernel: &'a Kernel) -> Self {
        Self {
            image: &kernel.image,
            modules: &kernel.modules,
        }
    }
}

/// The root file system of a guest.
#[derive(Debug, Clone, Copy)]
pub enum Root<'a> {
    /// That of the [demonstration guest](super::demo), with this line in it.
    Demo(&'a str),
    /// That of a plain disk image.
    Disk(PlainDisk<'a>),
}

/// What is done, for people who wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// The root file system is made.
    Root,
    /// A disk image is read: octets done and of all.
    Reading(u64, u64),
    /// The root file system is encrypted: octets done and of all.
    Encrypting(u64, u64),
    /// The vTPM is made.
    Vtpm,
    /// The key of the disk is sealed to it.
    Enrolling,
    /// The guest's first file system and its kernel image are made.
    Kernel,
    /// The disk is put together: octets done and of all.
    Disk(u64, u64),
}

/// What only its maker knows of a new VM.
#[derive(Debug)]
pub struct Prepared {
    /// What opens the disk without the vTPM. It is nowhere else.
    pub recovery_key: RecoveryKey,
    /// The value of PCR 7 that the disk opens with.
    pub pcr_7: [u8; 32],
}

/// Makes the folder of a VM. It appears whole under its name, or not at all; what is in clear on the way is in files
/// that only their owner can read, and is removed.
///
/// # Errors
/// When something has that name, a part is missing, or a program fails.
pub fn prepare(
    preparation: Preparation<'_, '_>,
    tools: &Tools,
    progress: &mut dyn FnMut(Step),
) -> Result<Prepared, ImageError> {
    let work = WorkFolder::create(preparation.target)?;
    let prepared = fill(preparation, work.path(), tools, progress)?;
    work.finish()?;
    Ok(prepared)
}

fn fill(
    preparation: Preparation<'_, '_>,
    folder: &Path,
    tools: &Tools,
    progress: &mut dyn FnMut(Step),
) -> Result<Prepared, ImageError> {
    let Preparation {
        hardware,
        boot,
        kernel,
        root,
        state_key,
        ..
    } = preparation;
    progress(Step::Root);
    let plain = folder.join(ROOT);
    let (mut layout, mut extracted) = (None, None);
    let further_modules: &[&str] = match root {
        Root::Demo(line) => {
            private(&plain)?;
            demo::write_root_file_system(&plain, &tools.busybox, line)?;
            &demo::MODULES
        }
        Root::Disk(disk) => {
            let kept = disk.extract(folder, &plain, &mut |done, all| {
                progress(Step::Reading(done, all))
            })?;
            layout = Some(kept);
            if kernel.is_none() {
                extracted = Some(extract_kernel(&plain, &folder.join(EXTRACTED))?);
            }
            &[]
        }
    };
    let of_disk = extracted.as_ref().map(|extracted| GuestKernel {
        image: &extracted.image,
        modules: &extracted.modules,
    });
    let kernel = kernel.or(of_disk);
    let kernel = kernel.ok_or(PlainDiskError::NoKernel)?;
    extend(&plain, luks::HEADER_ROOM)?;
    let recovery_key = tools.encrypt(&plain, &mut |done, all| {
        progress(Step::Encrypting(done, all))
    })?;

    progress(Step::Vtpm);
    let mut state = StateFolder::create(folder)?;
    let staged = state.stage()?;
    (preparation.make_vtpm)(staged.path(), state_key)?;
    progress(Step::Enrolling);
    let measured = match &boot {
        Boot::SecureBoot(secure) => MeasuredBoot::secure_boot(&secure.keys)?,
        Boot::DirectKernel => MeasuredBoot::bios(),
    };
    in_measured_state(tools, staged.path(), state_key, &measured, |socket| {
        tools.enrol(&plain, &recovery_key, socket)
    })?;

    progress(Step::Kernel);
    let initrd = initrd::make(&InitrdParts {
        modules: kernel.modules,
        busybox: &tools.busybox,
        cryptsetup: &tools.cryptsetup,
        libraries: &tools.libraries,
        further_modules,
    })?;
    let command_line = command_line(&plain, preparation.command_line)?;
    let image = hgs_files::read(kernel.image, KERNEL_LIMIT)?;
    let (firmware, unified) = match boot {
        Boot::SecureBoot(mut secure) => {
            let template = hgs_files::read(&tools.empty_variables, variables::LIMIT)?;
            let store = variables::with_keys(&template, &secure.keys)?;
            hgs_files::create(&folder.join(VARIABLES), &store, Readers::Owner)?;
            let unified = unified::make(&UnifiedParts {
                stub: &hgs_files::read(&tools.stub, KERNEL_LIMIT)?,
                kernel: &image,
                initrd: &initrd,
                command_line: command_line.as_str(),
                os_release: "ID=openhgs-guest\nNAME=\"Shielded VM\"\n",
            })?;
            let unified = unified::sign(unified, &mut secure.signer)?;
            let variables = file_name(VARIABLES)?;
            (Firmware::SecureBoot { variables }, Some(unified))
        }
        Boot::DirectKernel => {
            hgs_files::create(&folder.join(KERNEL), &image, Readers::Owner)?;
            hgs_files::create(&folder.join(INITRD), &initrd, Readers::Owner)?;
            let direct = DirectKernel {
                kernel: file_name(KERNEL)?,
                initrd: Some(file_name(INITRD)?),
                command_line,
                variables: None,
            };
            (Firmware::DirectKernel(direct), None)
        }
    };
    if extracted.is_some() {
        let extracted = folder.join(EXTRACTED);
        fs::remove_dir_all(&extracted).map_err(ImageError::at(&extracted))?;
    }
    assemble(
        &folder.join(DISK),
        unified.as_deref(),
        &plain,
        layout,
        progress,
    )?;
    fs::remove_file(&plain).map_err(ImageError::at(&plain))?;

    let sealed = staged.path().join(protection::SEALED_FILE);
    hgs_files::create(&sealed, preparation.protection, Readers::Owner)?;
    state.settle(staged, preparation.protector)?;
    let description = Description {
        name: hardware.name,
        id: hardware.id,
        memory: hardware.memory,
        processors: hardware.processors,
        processor_model: None,
        firmware,
        disk: Some(Disk {
            file: file_name(DISK)?,
            format: DiskFormat::Raw,
        }),
        network: hardware.network,
        mac_address: hardware.mac_address,
        unhealthy_host: None,
    };
    let text = description.to_toml();
    hgs_files::create(
        &folder.join(crate::description::FILE),
        text.as_bytes(),
        Readers::Owner,
    )?;
    Ok(Prepared {
        recovery_key,
        pcr_7: measured.pcr_7(),
    })
}

/// What the kernel is told, with the identifier of the disk.
fn command_line(encrypted: &Path, of_owner: &str) -> Result<KernelCommandLine, ImageError> {
    let mut header = [0; 4096];
    File::open(encrypted)
        .and_then(|mut file| file.read_exact(&mut header))
        .map_err(ImageError::at(encrypted))?;
    let identifier = luks::identifier(&header).ok_or_else(|| ImageError::Failed {
        program: "cryptsetup".to_owned(),
        message: "it wrote no header of LUKS2".to_owned(),
    })?;
    let text = format!("{of_owner} openhgs.disk={identifier}");
    KernelCommandLine::try_from(text).map_err(ImageError::Description)
}

/// Puts the disk together: partition table, EFI system partition if there is an image for it, and the encrypted part.
fn assemble(
    path: &Path,
    unified: Option<&[u8]>,
    encrypted: &Path,
    kept: Option<KeptLayout>,
    progress: &mut dyn FnMut(Step),
) -> Result<(), ImageError> {
    let mut random = System::new();
    let root_length = fs::metadata(encrypted)
        .map_err(ImageError::at(encrypted))?
        .len();
    let esp_length = unified.map_or(0, |unified| esp::length_for(unified.len()));
    let root_start = ALIGNMENT + esp_length;
    let root_end = root_start + root_length.next_multiple_of(ALIGNMENT);
    let esp = kept.and_then(|kept| kept.esp);
    let mut partitions = Vec::new();
    if unified.is_some() {
        partitions.push(Partition {
            number: 1,
            partition_type: gpt::EFI_SYSTEM,
            id: esp.map_or_else(|| guid(&mut random), |(id, _)| Ok(id))?,
            start: ALIGNMENT,
            length: esp_length,
            name: "ESP".to_owned(),
        });
    }
    partitions.push(Partition {
        number: 2,
        partition_type: gpt::ROOT_X86_64,
        id: kept.map_or_else(|| guid(&mut random), |kept| Ok(kept.root))?,
        start: root_start,
        length: root_end - root_start,
        name: "root".to_owned(),
    });
    let table = PartitionTable {
        disk: kept.map_or_else(|| guid(&mut random), |kept| Ok(kept.disk))?,
        partitions,
    };
    private(path)?;
    let serial = match esp.and_then(|(_, serial)| serial) {
        Some(serial) => serial,
        None => u32::from_le_bytes(random::array(&mut random)?),
    };
    let mut write = || -> io::Result<()> {
        let mut disk = OpenOptions::new().read(true).write(true).open(path)?;
        disk.set_len(root_end + gpt::TAIL)?;
        table.write(&disk)?;
        if let Some(unified) = unified {
            esp::write(&mut disk, (ALIGNMENT, esp_length), serial, unified)?;
        }
        disk.seek(SeekFrom::Start(root_start))?;
        let mut source = File::open(encrypted)?;
        let mut chunk = vec![0; CHUNK];
        let mut done = 0;
        loop {
            progress(Step::Disk(done, root_length));
            let read = source.read(&mut chunk)?;
            if read == 0 {
                break;
            }
            disk.write_all(&chunk[..read])?;
            done += read as u64;
        }
        disk.sync_all()
    };
    write().map_err(ImageError::at(path))
}

fn guid(random: &mut dyn Random) -> Result<Guid, ImageError> {
    let mut octets: [u8; 16] = random::array(random)?;
    // Version 4 (RFC 9562), in the order of an EFI_GUID.
    octets[7] = (octets[7] & 0x0f) | 0x40;
    octets[8] = (octets[8] & 0x3f) | 0x80;
    Ok(Guid::from_octets(octets))
}

fn file_name(name: &str) -> Result<FileName, ImageError> {
    name.parse().map_err(ImageError::Description)
}

/// A new, empty file that only its owner can read.
fn private(path: &Path) -> Result<(), ImageError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options.open(path).map(drop).map_err(ImageError::at(path))
}

fn extend(path: &Path, octets: u64) -> Result<(), ImageError> {
    let extended = OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|file| file.set_len(file.metadata()?.len() + octets));
    extended.map_err(ImageError::at(path))
}
