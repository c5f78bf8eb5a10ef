//! The key of a disk sealed to its vTPM anew, after what is measured has changed.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use hgs_files::Readers;

use super::measured::MeasuredBoot;
use super::plain::{encrypted_partition, raw_disk};
use super::vtpm::in_measured_state;
use super::{ImageError, RecoveryKey, Tools};
use crate::description::Description;
use crate::generation::StateFolder;
use crate::swtpm::StateKey;

/// Octets at the beginning of the partition in which the header and the key slots are.
const HEADER: usize = super::luks::HEADER_ROOM as usize;
/// Octets that are compared and written at once.
const BLOCK: usize = 4096;
/// What the header was, while it is changed.
const OLD_HEADER: &str = "header.old";

/// Seals a new key of the disk to the vTPM in the state of `boot`; the one before opens the disk no more. The VM must not
/// run. A crash leaves the header as it was before in a file, which the next call puts back first.
///
/// # Errors
/// When the VM's folder can't be used, its disk is not raw, or the recovery key does not open the disk.
pub fn re_enrol(
    folder: &Path,
    state_key: &StateKey,
    recovery_key: &RecoveryKey,
    boot: &MeasuredBoot,
    tools: &Tools,
) -> Result<(), ImageError> {
    let state = StateFolder::open(folder)?;
    let description =
        Description::load(folder).map_err(|error| ImageError::Description(error.to_string()))?;
    let path = raw_disk(folder, &description)?;
    let disk = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .map_err(ImageError::at(&path))?;
    let partition = encrypted_partition(&disk, &path)?;
    let old = folder.join(OLD_HEADER);
    if hgs_files::exists(&old)? {
        let header = hgs_files::read(&old, HEADER)?;
        write_back(&disk, partition.start, &header).map_err(ImageError::at(&path))?;
        hgs_files::remove(&old)?;
    }
    let mut header = vec![0; HEADER];
    disk.read_exact_at(&mut header, partition.start)
        .map_err(ImageError::at(&path))?;

    // A file as long as the partition with nothing but the header in it, for programs that want a whole disk.
    let work = folder.join("header.part");
    hgs_files::optional(hgs_files::remove(&work))?;
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&work)
        .and_then(|file| {
            file.set_len(partition.length)?;
            file.write_all_at(&header, 0)
        });
    made.map_err(ImageError::at(&work))?;
    let enrolled = tools.check(&work, recovery_key).and_then(|_slot| {
        let generation = state.current();
        let generation =
            generation.ok_or_else(|| ImageError::Description("the VM has no vTPM".to_owned()))?;
        in_measured_state(tools, generation.path(), state_key, boot, |socket| {
            tools.enrol(&work, recovery_key, socket)
        })
    });
    let changed = enrolled.and_then(|()| {
        let mut changed = vec![0; HEADER];
        let read = File::open(&work).and_then(|file| file.read_exact_at(&mut changed, 0));
        read.map_err(ImageError::at(&work)).map(|()| changed)
    });
    fs::remove_file(&work).map_err(ImageError::at(&work))?;
    let changed = changed?;
    hgs_files::create(&old, &header, Readers::Owner)?;
    write_back(&disk, partition.start, &changed).map_err(ImageError::at(&path))?;
    hgs_files::remove(&old)?;
    Ok(())
}

fn write_back(disk: &File, start: u64, header: &[u8]) -> std::io::Result<()> {
    let mut there = [0; BLOCK];
    for (place, block) in header.chunks(BLOCK).enumerate() {
        let at = start + (place * BLOCK) as u64;
        let there = &mut there[..block.len()];
        disk.read_exact_at(there, at)?;
        if there != block {
            disk.write_all_at(block, at)?;
        }
    }
    disk.sync_all()
}
