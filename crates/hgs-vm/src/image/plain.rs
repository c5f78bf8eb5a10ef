//! The root file system, kernel and modules of a plain disk image, without mounting it.

use std::cmp::Ordering;
use std::fs::{self, File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use hgs_tcg::event_log::Guid;
use serde::Deserialize;

use super::gpt::{EFI_SYSTEM, LINUX_FILE_SYSTEM, Partition, PartitionTable, ROOT_X86_64};
use super::program::{failed, installed, run};
use super::{ImageError, luks};
use crate::description::{Description, DiskFormat};

/// A plain disk image.
#[derive(Debug, Clone, Copy)]
pub struct PlainDisk<'a> {
    /// The file, raw or in QEMU's own format. It is only read.
    pub image: &'a Path,
    /// The number of the partition with the root file system, if it can't be told from the partitions' types.
    pub root_partition: Option<usize>,
}

/// Why a disk image is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlainDiskError {
    /// Another format.
    #[error(
        "the disk image is in the format of another hypervisor: convert it with `qemu-img convert -O qcow2` first"
    )]
    OtherFormat,
    /// It has snapshots.
    #[error(
        "the disk image has snapshots, which would be lost: copy the state that is wanted with `qemu-img convert` first"
    )]
    Snapshots,
    /// It leads to other files.
    #[error(
        "the disk image needs another file, {0}: put them together with `qemu-img convert` first"
    )]
    OtherFile(String),
    /// It is encrypted.
    #[error(
        "the disk image is encrypted already ({0}): decrypt it first, so that the key is a new one"
    )]
    Encrypted(&'static str),
    /// The root file system is not known.
    #[error("the partition of the root file system can't be told: {0}; name its number")]
    Ambiguous(String),
    /// There is no such partition.
    #[error("the disk has no partition {0}")]
    NoPartition(usize),
    /// Another file system.
    #[error("partition {0} has no file system of ext4, the only kind that is known")]
    OtherFileSystem(usize),
    /// Partitions that the VM would miss.
    #[error(
        "the disk has more partitions of its system than one: {0}; move what is on them into the root file system first"
    )]
    MorePartitions(String),
    /// There is no kernel in it.
    #[error(
        "the root file system has no kernel with modules (/boot/vmlinuz-RELEASE, /lib/modules/RELEASE): give them as files"
    )]
    NoKernel,
}

/// What `/etc/fstab` and others know a disk and its partitions by, which the new disk has again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KeptLayout {
    pub(super) disk: Guid,
    pub(super) root: Guid,
    /// The EFI system partition, and the number of its volume.
    pub(super) esp: Option<(Guid, Option<u32>)>,
}

/// The type of a partition for boot loaders that BIOS starts.
const BIOS_BOOT: Guid = Guid::new(
    0x2168_6148,
    0x6449,
    0x6e6f,
    [0x74, 0x4e, 0x65, 0x65, 0x64, 0x45, 0x46, 0x49],
);
const CHUNK: usize = 4 << 20;
/// Octets that tell a file's format.
const BEGINNING: usize = 4096;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct ImageInfo {
    virtual_size: u64,
    backing_filename: Option<String>,
    #[serde(default)]
    snapshots: Vec<serde_json::Value>,
    #[serde(default)]
    encrypted: bool,
    format_specific: Option<FormatSpecific>,
}

#[derive(Deserialize)]
struct FormatSpecific {
    data: serde_json::Value,
}

impl PlainDisk<'_> {
    /// Copies the root file system into a new file beside others in `folder`. An image
    /// that a running machine has open is refused by `qemu-img`, which asks for its lock.
    pub(super) fn extract(
        &self,
        folder: &Path,
        root: &Path,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<KeptLayout, ImageError> {
        let format = self.format()?;
        let whole = folder.join("disk.part");
        self.convert(format, &whole, progress)?;
        let disk = File::open(&whole).map_err(ImageError::at(&whole))?;
        let table = PartitionTable::read(&disk, self.image)?;
        let partition = choose(&table, self.root_partition)?.clone();
        check_contents(&disk, &partition).map_err(|error| match error {
            ContentsError::Io(error) => ImageError::at(self.image)(error),
            ContentsError::Refused(error) => error.into(),
        })?;
        copy_part(&disk, &partition, root, progress).map_err(ImageError::at(root))?;
        let esp = table
            .partitions
            .iter()
            .find(|one| one.partition_type == EFI_SYSTEM);
        let kept = KeptLayout {
            disk: table.disk,
            root: partition.id,
            esp: esp.map(|esp| (esp.id, volume_serial(&disk, esp))),
        };
        fs::remove_file(&whole).map_err(ImageError::at(&whole))?;
        Ok(kept)
    }

    /// The format is told by the first octets and never guessed by QEMU: what a raw disk begins with is its owner's choice.
    fn format(&self) -> Result<&'static str, ImageError> {
        let mut beginning = Vec::new();
        let file = File::open(self.image).map_err(ImageError::at(self.image))?;
        let read = file.take(BEGINNING as u64).read_to_end(&mut beginning);
        read.map_err(ImageError::at(self.image))?;
        let others: [&[u8]; 4] = [b"KDMV", b"vhdxfile", b"conectix", b"<<< "];
        match beginning {
            _ if others.iter().any(|magic| beginning.starts_with(magic)) => {
                Err(PlainDiskError::OtherFormat.into())
            }
            _ if beginning.starts_with(b"LUKS\xba\xbe") => {
                Err(PlainDiskError::Encrypted("LUKS").into())
            }
            _ if beginning.starts_with(b"QFI\xfb") => Ok("qcow2"),
            _ => Ok("raw"),
        }
    }

    fn convert(
        &self,
        format: &str,
        whole: &Path,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), ImageError> {
        let qemu_img = installed("qemu-img", "qemu-utils")?;
        let arguments = ["info", "--output=json", "-f", format].map(AsRef::as_ref);
        let output = run(
            &qemu_img,
            arguments.into_iter().chain([self.image.as_os_str()]),
        )?;
        let info: ImageInfo =
            serde_json::from_slice(&output.stdout).map_err(|error| ImageError::Failed {
                program: "qemu-img".to_owned(),
                message: error.to_string(),
            })?;
        info.check()?;
        let size = info.virtual_size;
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        options
            .open(whole)
            .and_then(|file| file.set_len(size))
            .map_err(ImageError::at(whole))?;
        let mut command = qemu_img.command();
        command
            .args([
                "convert",
                "-p",
                "-n",
                "--target-is-zero",
                "-f",
                format,
                "-O",
                "raw",
            ])
            .arg(self.image)
            .arg(whole)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(ImageError::at(&qemu_img.path))?;
        let mut said = Vec::new();
        if let Some(mut output) = child.stdout.take() {
            let mut part = [0; 256];
            while let Ok(read @ 1..) = output.read(&mut part) {
                said.extend_from_slice(&part[..read]);
                if let Some(percent) = percent(&said) {
                    progress(size / 100 * percent, size);
                }
                let kept = said.len().saturating_sub(64);
                said.drain(..kept);
            }
        }
        let output = child
            .wait_with_output()
            .map_err(ImageError::at(&qemu_img.path))?;
        match output.status.success() {
            true => Ok(()),
            false => Err(failed(&qemu_img, &output)),
        }
    }
}

impl ImageInfo {
    fn check(&self) -> Result<(), PlainDiskError> {
        let data = self
            .format_specific
            .as_ref()
            .and_then(|specific| specific.data.get("data-file"));
        let other = self.backing_filename.as_deref();
        let other = other.or_else(|| data.and_then(serde_json::Value::as_str));
        if let Some(other) = other {
            return Err(PlainDiskError::OtherFile(other.to_owned()));
        }
        match (self.snapshots.is_empty(), self.encrypted) {
            (false, _) => Err(PlainDiskError::Snapshots),
            (true, true) => Err(PlainDiskError::Encrypted("by QEMU")),
            (true, false) => Ok(()),
        }
    }
}

/// `    (12.34/100%)` and a carriage return, over and over.
fn percent(said: &[u8]) -> Option<u64> {
    let text = String::from_utf8_lossy(said);
    let (before, _) = text.rsplit_once("/100%)")?;
    let (_, number) = before.rsplit_once('(')?;
    number.split('.').next()?.trim().parse().ok()
}

/// The partition of the root file system. No other partition of the system may be there; what only starts it is replaced.
fn choose(table: &PartitionTable, number: Option<usize>) -> Result<&Partition, PlainDiskError> {
    let of_type = |wanted| {
        let found = table.partitions.iter();
        found
            .filter(|one| one.partition_type == wanted)
            .collect::<Vec<_>>()
    };
    let starts = |one: &Partition| [EFI_SYSTEM, BIOS_BOOT].contains(&one.partition_type);
    let listed = |partitions: &[&Partition]| {
        let names = partitions
            .iter()
            .map(|one| format!("{} ({})", one.number, one.name));
        names.collect::<Vec<_>>().join(", ")
    };
    let root = match (
        number,
        &of_type(ROOT_X86_64)[..],
        &of_type(LINUX_FILE_SYSTEM)[..],
    ) {
        (Some(number), ..) => {
            let named = table.partitions.iter().find(|one| one.number == number);
            named.ok_or(PlainDiskError::NoPartition(number))?
        }
        (None, [root], _) | (None, [], [root]) => root,
        (None, [], []) => {
            return Err(PlainDiskError::Ambiguous(
                "none is of a type of Linux".to_owned(),
            ));
        }
        (None, [], several) | (None, several, _) => {
            return Err(PlainDiskError::Ambiguous(listed(several)));
        }
    };
    let others = table
        .partitions
        .iter()
        .filter(|one| !starts(one) && one.number != root.number);
    match &others.collect::<Vec<_>>()[..] {
        [] => Ok(root),
        others => Err(PlainDiskError::MorePartitions(listed(others))),
    }
}

/// The number of a FAT32 volume.
fn volume_serial(disk: &File, partition: &Partition) -> Option<u32> {
    let mut sector = [0; 512];
    disk.read_exact_at(&mut sector, partition.start).ok()?;
    let is_fat32 = &sector[82..90] == b"FAT32   ";
    let serial = sector[67..].first_chunk().copied().map(u32::from_le_bytes);
    serial.filter(|_| is_fat32)
}

enum ContentsError {
    Io(std::io::Error),
    Refused(PlainDiskError),
}

fn check_contents(disk: &File, partition: &Partition) -> Result<(), ContentsError> {
    /// The superblock of ext4 begins at 1024, its magic number stands at 56 in it.
    const MAGIC_AT: usize = 1024 + 56;
    let mut beginning = [0; BEGINNING];
    disk.read_exact_at(&mut beginning, partition.start)
        .map_err(ContentsError::Io)?;
    let refused = |error| Err(ContentsError::Refused(error));
    if beginning.starts_with(b"LUKS\xba\xbe") {
        return refused(PlainDiskError::Encrypted("LUKS"));
    }
    match beginning[MAGIC_AT..].starts_with(&[0x53, 0xef]) {
        true => Ok(()),
        false => refused(PlainDiskError::OtherFileSystem(partition.number)),
    }
}

/// Copies a partition into a new file and leaves holes where it has only zeros.
fn copy_part(
    disk: &File,
    partition: &Partition,
    root: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> std::io::Result<()> {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(root)?;
    file.set_len(partition.length)?;
    let mut chunk = vec![0; CHUNK];
    let mut done = 0;
    while done < partition.length {
        let length = (partition.length - done).min(CHUNK as u64) as usize;
        let part = &mut chunk[..length];
        disk.read_exact_at(part, partition.start + done)?;
        if part.iter().any(|octet| *octet != 0) {
            file.write_all_at(part, done)?;
        }
        done += length as u64;
        progress(done, partition.length);
    }
    Ok(())
}

/// A kernel that was copied out of a root file system.
#[derive(Debug)]
pub(super) struct ExtractedKernel {
    pub(super) image: PathBuf,
    pub(super) modules: PathBuf,
}

/// Copies the newest kernel and its modules out of a root file system into a new folder.
pub(super) fn extract_kernel(root: &Path, folder: &Path) -> Result<ExtractedKernel, ImageError> {
    fs::DirBuilder::new()
        .create(folder)
        .map_err(ImageError::at(folder))?;
    let debugfs = installed("debugfs", "e2fsprogs")?;
    let ask = |request: &str| -> Result<String, ImageError> {
        let arguments = ["-R".as_ref(), request.as_ref(), root.as_os_str()];
        let output = run(&debugfs, arguments)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    // `/inode/mode/uid/gid/name/size/`, a line for each entry.
    let listed = ask("ls -p /boot")?;
    let names = listed.lines().filter_map(|line| line.split('/').nth(5));
    let releases = names.filter_map(|name| name.strip_prefix("vmlinuz-"));
    let plain = |release: &&str| {
        release
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '+' | '~'))
    };
    let mut releases: Vec<_> = releases.filter(plain).collect();
    releases.sort_by(|a, b| by_version(b, a));
    for release in releases {
        let (image, modules) = (folder.join("vmlinuz"), folder.join(release));
        for place in ["/usr/lib/modules", "/lib/modules"] {
            ask(&format!("rdump {place}/{release} {}", folder.display()))?;
            if modules.join("modules.builtin").is_file() {
                ask(&format!("dump /boot/vmlinuz-{release} {}", image.display()))?;
                if image.is_file() {
                    return Ok(ExtractedKernel { image, modules });
                }
            }
        }
    }
    Err(PlainDiskError::NoKernel.into())
}

/// The order of releases: numbers in them are compared as numbers.
fn by_version(a: &str, b: &str) -> Ordering {
    let parts = |text: &str| -> Vec<(u64, String)> {
        let split = text.split(|c: char| !c.is_ascii_alphanumeric());
        split
            .map(|part| (part.parse().unwrap_or(0), part.to_owned()))
            .collect()
    };
    parts(a).cmp(&parts(b))
}

/// The disk of a VM whose partitions can be read: one that is laid out octet by octet.
pub(super) fn raw_disk(folder: &Path, description: &Description) -> Result<PathBuf, ImageError> {
    let disk = description.disk.as_ref();
    let disk = disk.filter(|disk| disk.format == DiskFormat::Raw);
    let disk = disk.ok_or_else(|| ImageError::Description("the VM has no raw disk".to_owned()))?;
    Ok(disk.file.within(folder)?)
}

/// Whether a disk has an encrypted partition, and which.
pub(super) fn encrypted_partition(disk: &File, path: &Path) -> Result<Partition, ImageError> {
    let table = PartitionTable::read(disk, path)?;
    for partition in table.partitions {
        let mut beginning = [0; BEGINNING];
        disk.read_exact_at(&mut beginning, partition.start)
            .map_err(ImageError::at(path))?;
        if luks::identifier(&beginning).is_some() {
            return Ok(partition);
        }
    }
    Err(PlainDiskError::Ambiguous("none is encrypted with LUKS2".to_owned()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(number: usize, partition_type: Guid) -> Partition {
        Partition {
            number,
            partition_type,
            id: Guid::new(number as u32, 0, 0, [0; 8]),
            start: 1 << 20,
            length: 1 << 20,
            name: format!("p{number}"),
        }
    }

    fn chosen(types: &[Guid], number: Option<usize>) -> Result<usize, PlainDiskError> {
        let table = PartitionTable {
            disk: Guid::new(1, 1, 1, [1; 8]),
            partitions: types
                .iter()
                .enumerate()
                .map(|(place, one)| partition(place + 1, *one))
                .collect(),
        };
        choose(&table, number).map(|root| root.number)
    }

    #[test]
    fn the_root_partition_is_told_by_its_type_and_no_other_is_lost() {
        assert_eq!(chosen(&[EFI_SYSTEM, ROOT_X86_64], None), Ok(2));
        assert_eq!(
            chosen(&[BIOS_BOOT, EFI_SYSTEM, LINUX_FILE_SYSTEM], None),
            Ok(3)
        );
        let several = [EFI_SYSTEM, LINUX_FILE_SYSTEM, LINUX_FILE_SYSTEM];
        assert_eq!(
            chosen(&several, None),
            Err(PlainDiskError::Ambiguous("2 (p2), 3 (p3)".to_owned()))
        );
        assert_eq!(
            chosen(&several, Some(2)),
            Err(PlainDiskError::MorePartitions("3 (p3)".to_owned()))
        );
        let other = [ROOT_X86_64, LINUX_FILE_SYSTEM];
        assert_eq!(
            chosen(&other, None),
            Err(PlainDiskError::MorePartitions("2 (p2)".to_owned()))
        );
        assert_eq!(
            chosen(&[EFI_SYSTEM], Some(2)),
            Err(PlainDiskError::NoPartition(2))
        );
        assert!(matches!(
            chosen(&[EFI_SYSTEM], None),
            Err(PlainDiskError::Ambiguous(_))
        ));
    }

    #[test]
    fn releases_are_ordered_as_numbers() {
        let mut releases = [
            "6.1.0-9-amd64",
            "6.1.0-56-amd64",
            "5.10.0-30-amd64",
            "6.1.0-10-amd64",
        ];
        releases.sort_by(|a, b| by_version(b, a));
        assert_eq!(
            releases,
            [
                "6.1.0-56-amd64",
                "6.1.0-10-amd64",
                "6.1.0-9-amd64",
                "5.10.0-30-amd64"
            ]
        );
    }

    #[test]
    fn percents_are_read() {
        assert_eq!(
            percent(b"    (0.00/100%)\r    (51.12/100%)\r    (5"),
            Some(51)
        );
        assert_eq!(percent(b"    (5"), None);
    }

    #[test]
    fn images_that_lead_elsewhere_or_would_lose_something_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let qemu_img = |arguments: &[&str]| {
            let mut command =
                std::process::Command::new(hgs_testkit::tool("qemu-img", "qemu-utils"));
            let output = command
                .args(arguments)
                .current_dir(folder.path())
                .output()
                .unwrap();
            assert!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
        };
        let refused = |image: &str| {
            let disk = PlainDisk {
                image: &path(image),
                root_partition: None,
            };
            let work = tempfile::tempdir().unwrap();
            let error = disk.extract(work.path(), &work.path().join("root"), &mut |_, _| ());
            error.unwrap_err().to_string()
        };
        qemu_img(&["create", "-q", "-f", "qcow2", "base.qcow2", "4M"]);
        assert_eq!(refused("base.qcow2"), "the disk has no partition table");
        qemu_img(&[
            "create",
            "-q",
            "-f",
            "qcow2",
            "-b",
            "base.qcow2",
            "-F",
            "qcow2",
            "overlay.qcow2",
        ]);
        assert!(refused("overlay.qcow2").contains("needs another file, base.qcow2"));
        qemu_img(&["snapshot", "-c", "before", "base.qcow2"]);
        assert!(refused("base.qcow2").contains("has snapshots"));
        qemu_img(&["create", "-q", "-f", "vmdk", "other.vmdk", "4M"]);
        assert!(refused("other.vmdk").contains("another hypervisor"));
        fs::write(path("luks"), b"LUKS\xba\xbe\x00\x02").unwrap();
        assert!(refused("luks").contains("encrypted already"));
    }
}
