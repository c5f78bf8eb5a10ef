//! EFI system partitions: a FAT file system with the program that the firmware starts.

use std::io::{self, Read, Seek, SeekFrom, Write};

use fatfs::{FatType, FileSystem, FormatVolumeOptions, FsOptions};

/// Where UEFI firmware looks for what it starts from a disk (UEFI 2.10, 3.5.1.1).
pub const FALLBACK: &str = "EFI/BOOT/BOOTX64.EFI";
/// Octets of the smallest partition: FAT32 needs 65,525 clusters.
const SMALLEST: u64 = 64 << 20;

/// Octets of a partition for a program of this length. There is room for a second one, so that an update can be written
/// beside what it replaces.
#[must_use]
pub fn length_for(program: usize) -> u64 {
    (2 * program as u64 + (8 << 20))
        .max(SMALLEST)
        .next_multiple_of(super::gpt::ALIGNMENT)
}

/// A part of a file, which begins and ends where the partition does.
#[derive(Debug)]
struct Window<'f, F> {
    file: &'f mut F,
    start: u64,
    length: u64,
    place: u64,
}

impl<F: Seek> Window<'_, F> {
    fn here(&mut self, wanted: usize) -> io::Result<usize> {
        self.file.seek(SeekFrom::Start(self.start + self.place))?;
        let left = self.length.saturating_sub(self.place);
        Ok(wanted.min(usize::try_from(left).unwrap_or(usize::MAX)))
    }
}

impl<F: Read + Seek> Read for Window<'_, F> {
    fn read(&mut self, octets: &mut [u8]) -> io::Result<usize> {
        let wanted = self.here(octets.len())?;
        let read = self.file.read(&mut octets[..wanted])?;
        self.place += read as u64;
        Ok(read)
    }
}

impl<F: Write + Seek> Write for Window<'_, F> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let wanted = self.here(octets.len())?;
        let written = self.file.write(&octets[..wanted])?;
        self.place += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl<F> Seek for Window<'_, F> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let place = match to {
            SeekFrom::Start(place) => Some(place),
            SeekFrom::End(back) => self.length.checked_add_signed(back),
            SeekFrom::Current(on) => self.place.checked_add_signed(on),
        };
        let place = place.filter(|place| *place <= self.length);
        self.place = place.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.place)
    }
}

/// Makes the file system in `length` octets of a disk from `start` on, with the program that the firmware starts. `serial`
/// is the number by which `/etc/fstab` knows the volume.
///
/// # Errors
/// When the disk can't be written, or the program does not fit.
pub fn write(
    disk: &mut (impl Read + Write + Seek),
    (start, length): (u64, u64),
    serial: u32,
    program: &[u8],
) -> io::Result<()> {
    let mut window = Window {
        file: disk,
        start,
        length,
        place: 0,
    };
    let options = FormatVolumeOptions::new()
        .fat_type(FatType::Fat32)
        .volume_id(serial)
        .volume_label(*b"ESP        ");
    fatfs::format_volume(&mut window, options)?;
    let volume = FileSystem::new(window, FsOptions::new())?;
    let mut folder = volume.root_dir();
    let (folders, name) = FALLBACK.rsplit_once('/').unwrap_or(("", FALLBACK));
    for name in folders.split('/') {
        folder = folder.create_dir(name)?;
    }
    let mut file = folder.create_file(name)?;
    file.write_all(program)?;
    file.flush()?;
    drop((file, folder));
    volume.unmount()
}
