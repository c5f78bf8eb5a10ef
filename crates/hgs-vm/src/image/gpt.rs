//! Partition tables: GPT (UEFI 2.10, chapter 5), with sectors of 512 octets.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use hgs_tcg::event_log::Guid;

use super::ImageError;

/// Octets of a sector.
pub const SECTOR: u64 = 512;
/// Partitions begin at multiples of this.
pub const ALIGNMENT: u64 = 1 << 20;
/// Octets behind the last partition: the table's copy.
pub const TAIL: u64 = ALIGNMENT;

const SIGNATURE: &[u8; 8] = b"EFI PART";
const REVISION: u32 = 0x0001_0000;
const HEADER_LENGTH: usize = 92;
const ENTRY_LENGTH: usize = 128;
const ENTRIES: usize = 128;
const ENTRY_SECTORS: u64 = (ENTRIES * ENTRY_LENGTH) as u64 / SECTOR;
/// Entries that are read of another's table, at most.
const MOST_ENTRIES: usize = 1024;

/// The type of an EFI system partition.
pub const EFI_SYSTEM: Guid = Guid::new(
    0xc12a_7328,
    0xf81f,
    0x11d2,
    [0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b],
);
/// The type of a root file system for x86-64 (Discoverable Partitions Specification).
pub const ROOT_X86_64: Guid = Guid::new(
    0x4f68_bce3,
    0xe8cd,
    0x4db1,
    [0x96, 0xe7, 0xfb, 0xca, 0xf9, 0x84, 0xb7, 0x09],
);
/// The type of any file system of Linux.
pub const LINUX_FILE_SYSTEM: Guid = Guid::new(
    0x0fc6_3daf,
    0x8483,
    0x4772,
    [0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4],
);
const UNUSED: Guid = Guid::from_octets([0; 16]);

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Its number, from 1 on.
    pub number: usize,
    /// What it is for.
    pub partition_type: Guid,
    /// What it is.
    pub id: Guid,
    /// The octet of the disk at which it begins.
    pub start: u64,
    /// How many octets it has.
    pub length: u64,
    /// Its name.
    pub name: String,
}

/// The partition table of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionTable {
    /// What the disk is.
    pub disk: Guid,
    /// Its partitions in the order of their numbers.
    pub partitions: Vec<Partition>,
}

/// Why a disk's partition table is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PartitionError {
    /// A partition table of another kind.
    #[error("the disk has a partition table of MS-DOS; only GPT is known")]
    MsDos,
    /// There is none.
    #[error("the disk has no partition table")]
    None,
    /// The table contradicts itself.
    #[error("the disk's partition table is damaged: {0}")]
    Damaged(&'static str),
}

impl PartitionTable {
    /// Reads the table of a disk. Both sums of it have to be right, and partitions neither overlap nor leave the disk.
    ///
    /// # Errors
    /// When there is none, or it is damaged.
    pub fn read(disk: &File, path: &Path) -> Result<Self, ImageError> {
        let length = disk.metadata().map_err(ImageError::at(path))?.len();
        let mut start = vec![0; 2 * SECTOR as usize];
        match disk.read_exact_at(&mut start, 0) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(PartitionError::None.into());
            }
            read => read.map_err(ImageError::at(path))?,
        }
        let (boot, header) = start.split_at(SECTOR as usize);
        if !header.starts_with(SIGNATURE) {
            let ms_dos = boot.ends_with(&[0x55, 0xaa])
                && boot[446..510].chunks(16).any(|entry| entry[4] != 0);
            return Err(match ms_dos {
                true => PartitionError::MsDos,
                false => PartitionError::None,
            }
            .into());
        }
        let (entries_at, count) = check_header(header)?;
        let mut entries = vec![0; count * ENTRY_LENGTH];
        disk.read_exact_at(&mut entries, entries_at)
            .map_err(ImageError::at(path))?;
        if crc32(&entries) != number(header, 88) {
            return Err(PartitionError::Damaged("the sum of its entries is wrong").into());
        }
        let partitions = entries
            .chunks_exact(ENTRY_LENGTH)
            .enumerate()
            .filter_map(|(place, entry)| partition(place + 1, entry, length).transpose())
            .collect::<Result<Vec<_>, _>>()?;
        let mut places: Vec<_> = partitions
            .iter()
            .map(|one| (one.start, one.length))
            .collect();
        places.sort_unstable();
        if places
            .windows(2)
            .any(|pair| pair[0].0 + pair[0].1 > pair[1].0)
        {
            return Err(PartitionError::Damaged("partitions overlap").into());
        }
        Ok(Self {
            disk: guid(header, 56),
            partitions,
        })
    }

    /// Writes the table into a disk, with its copy at the end.
    ///
    /// # Errors
    /// When the disk can't be written.
    pub fn write(&self, disk: &File) -> io::Result<()> {
        let sectors = disk.metadata()?.len() / SECTOR;
        let entries = self.entries();
        disk.write_all_at(&protective_boot_record(sectors), 0)?;
        let last = sectors - 1;
        let copy = last - ENTRY_SECTORS;
        for (place, other, entries_at) in [(1, last, 2), (last, 1, copy)] {
            disk.write_all_at(&entries, entries_at * SECTOR)?;
            let header = self.header(place, other, entries_at, sectors, crc32(&entries));
            disk.write_all_at(&header, place * SECTOR)?;
        }
        Ok(())
    }

    fn entries(&self) -> Vec<u8> {
        let mut entries = vec![0; ENTRIES * ENTRY_LENGTH];
        for partition in &self.partitions {
            let place = (partition.number - 1) * ENTRY_LENGTH;
            let entry = &mut entries[place..place + ENTRY_LENGTH];
            entry[..16].copy_from_slice(partition.partition_type.octets());
            entry[16..32].copy_from_slice(partition.id.octets());
            let first = partition.start / SECTOR;
            let last = first + partition.length / SECTOR - 1;
            entry[32..40].copy_from_slice(&first.to_le_bytes());
            entry[40..48].copy_from_slice(&last.to_le_bytes());
            let name = partition.name.encode_utf16().flat_map(u16::to_le_bytes);
            for (octet, of_name) in entry[56..].iter_mut().zip(name) {
                *octet = of_name;
            }
        }
        entries
    }

    fn header(&self, place: u64, other: u64, entries_at: u64, sectors: u64, sum: u32) -> Vec<u8> {
        let mut header = SIGNATURE.to_vec();
        header.extend(REVISION.to_le_bytes());
        header.extend((HEADER_LENGTH as u32).to_le_bytes());
        header.extend([0; 8]);
        let first_usable = 2 + ENTRY_SECTORS;
        let last_usable = sectors - 2 - ENTRY_SECTORS;
        for number in [place, other, first_usable, last_usable] {
            header.extend(number.to_le_bytes());
        }
        header.extend(self.disk.octets());
        header.extend(entries_at.to_le_bytes());
        for number in [ENTRIES as u32, ENTRY_LENGTH as u32, sum] {
            header.extend(number.to_le_bytes());
        }
        let sum = crc32(&header);
        header[16..20].copy_from_slice(&sum.to_le_bytes());
        header.resize(SECTOR as usize, 0);
        header
    }
}

/// Where the entries are, and how many.
fn check_header(header: &[u8]) -> Result<(u64, usize), PartitionError> {
    let mut summed = header[..HEADER_LENGTH].to_vec();
    summed[16..20].fill(0);
    if number(header, 12) as usize != HEADER_LENGTH || crc32(&summed) != number(header, 16) {
        return Err(PartitionError::Damaged("the sum of its header is wrong"));
    }
    let count = number(header, 80) as usize;
    if number(header, 84) as usize != ENTRY_LENGTH || !(1..=MOST_ENTRIES).contains(&count) {
        return Err(PartitionError::Damaged(
            "the number or size of its entries is unusual",
        ));
    }
    let entries_at = long(header, 72).checked_mul(SECTOR);
    entries_at
        .map(|entries_at| (entries_at, count))
        .ok_or(PartitionError::Damaged("its entries are not on the disk"))
}

fn partition(
    number: usize,
    entry: &[u8],
    length: u64,
) -> Result<Option<Partition>, PartitionError> {
    let partition_type = guid(entry, 0);
    if partition_type == UNUSED {
        return Ok(None);
    }
    let (first, last) = (long(entry, 32), long(entry, 40));
    let end = last.checked_add(1).and_then(|end| end.checked_mul(SECTOR));
    let end = end.filter(|end| *end <= length && first >= 2 && first <= last);
    let end = end.ok_or(PartitionError::Damaged("a partition is not on the disk"))?;
    let (name, _) = entry[56..].as_chunks();
    let name: Vec<_> = name
        .iter()
        .map(|unit| u16::from_le_bytes(*unit))
        .take_while(|unit| *unit != 0)
        .collect();
    Ok(Some(Partition {
        number,
        partition_type,
        id: guid(entry, 16),
        start: first * SECTOR,
        length: end - first * SECTOR,
        name: String::from_utf16_lossy(&name),
    }))
}

/// One partition over the whole disk, so that programs without GPT see no free space.
fn protective_boot_record(sectors: u64) -> Vec<u8> {
    let mut record = vec![0; SECTOR as usize];
    let covered = u32::try_from(sectors - 1).unwrap_or(u32::MAX);
    record[446..454].copy_from_slice(&[0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff]);
    record[454..458].copy_from_slice(&1u32.to_le_bytes());
    record[458..462].copy_from_slice(&covered.to_le_bytes());
    record[510..].copy_from_slice(&[0x55, 0xaa]);
    record
}

fn number(octets: &[u8], place: usize) -> u32 {
    let octets = octets[place..].first_chunk().copied();
    octets.map(u32::from_le_bytes).unwrap_or_default()
}

fn long(octets: &[u8], place: usize) -> u64 {
    let octets = octets[place..].first_chunk().copied();
    octets.map(u64::from_le_bytes).unwrap_or_default()
}

fn guid(octets: &[u8], place: usize) -> Guid {
    let octets = octets[place..].first_chunk().copied();
    Guid::from_octets(octets.unwrap_or_default())
}

/// CRC-32 as in IEEE 802.3.
fn crc32(octets: &[u8]) -> u32 {
    let sum = octets.iter().fold(u32::MAX, |sum, octet| {
        (0..8).fold(sum ^ u32::from(*octet), |sum, _| {
            (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg())
        })
    });
    !sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made() -> (tempfile::NamedTempFile, PartitionTable) {
        let disk = tempfile::NamedTempFile::new().unwrap();
        disk.as_file().set_len(16 << 20).unwrap();
        let table = PartitionTable {
            disk: Guid::new(1, 2, 3, [4; 8]),
            partitions: vec![
                Partition {
                    number: 1,
                    partition_type: EFI_SYSTEM,
                    id: Guid::new(5, 6, 7, [8; 8]),
                    start: ALIGNMENT,
                    length: 4 << 20,
                    name: "ESP".to_owned(),
                },
                Partition {
                    number: 2,
                    partition_type: LINUX_FILE_SYSTEM,
                    id: Guid::new(9, 10, 11, [12; 8]),
                    start: 5 << 20,
                    length: 10 << 20,
                    name: "root".to_owned(),
                },
            ],
        };
        table.write(disk.as_file()).unwrap();
        (disk, table)
    }

    fn refused(disk: &tempfile::NamedTempFile) -> String {
        PartitionTable::read(disk.as_file(), disk.path())
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn a_table_is_read_as_it_was_written() {
        let (disk, table) = made();
        assert_eq!(
            PartitionTable::read(disk.as_file(), disk.path()).unwrap(),
            table
        );
    }

    #[test]
    fn sfdisk_reads_it_with_its_copy() {
        let (disk, _) = made();
        let sfdisk = super::super::program::installed("sfdisk", "fdisk")
            .unwrap()
            .path;
        let verified = std::process::Command::new(&sfdisk)
            .arg("--verify")
            .arg(disk.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&verified.stdout).into_owned()
            + &String::from_utf8_lossy(&verified.stderr);
        assert!(
            verified.status.success() && said.contains("No errors detected"),
            "{said}"
        );
        let dumped = std::process::Command::new(&sfdisk)
            .arg("--dump")
            .arg(disk.path())
            .output()
            .unwrap();
        let dump = String::from_utf8_lossy(&dumped.stdout).to_lowercase();
        for expected in [
            "label-id: 00000001-0002-0003-0404-040404040404",
            "start=        2048, size=        8192, type=c12a7328-f81f-11d2-ba4b-00a0c93ec93b, uuid=00000005-0006-0007-0808-080808080808, name=\"esp\"",
            "start=       10240, size=       20480, type=0fc63daf-8483-4772-8e79-3d69d8477de4",
        ] {
            assert!(dump.contains(expected), "{dump}");
        }
    }

    #[test]
    fn damage_is_named() {
        let (disk, table) = made();
        for (place, message) in [
            (SECTOR + 40, "the sum of its header"),
            (2 * SECTOR + 32, "the sum of its entries"),
        ] {
            let mut octet = [0];
            disk.as_file().read_exact_at(&mut octet, place).unwrap();
            disk.as_file().write_all_at(&[octet[0] ^ 1], place).unwrap();
            assert!(refused(&disk).contains(message), "{}", refused(&disk));
            disk.as_file().write_all_at(&octet, place).unwrap();
        }
        for (start, length, message) in [
            (4 << 20, 8 << 20, "partitions overlap"),
            (5 << 20, 12 << 20, "a partition is not on the disk"),
        ] {
            let mut other = table.clone();
            (other.partitions[1].start, other.partitions[1].length) = (start, length);
            other.write(disk.as_file()).unwrap();
            assert!(refused(&disk).contains(message), "{}", refused(&disk));
        }
    }

    #[test]
    fn other_disks_are_told_apart() {
        let disk = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(refused(&disk), "the disk has no partition table");
        disk.as_file().set_len(1 << 20).unwrap();
        assert_eq!(refused(&disk), "the disk has no partition table");
        let mut record = protective_boot_record(2048);
        record[450] = 0x83;
        disk.as_file().write_all_at(&record, 0).unwrap();
        assert!(refused(&disk).contains("MS-DOS"));
    }
}
