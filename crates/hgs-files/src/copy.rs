//! Copies of large files.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::{SeekFrom as Extent, ioctl_ficlone, seek};
use rustix::io::Errno;

use crate::FileError;
use crate::open::open;
use crate::synchronise::synchronise_folder_of;

/// Octets of a copy between two reports.
const CHUNK: u64 = 8 << 20;

/// Copies a file, which is no link, into a new one that this user alone can open, and makes it last. Both share their blocks
/// where the file system can do that; otherwise holes stay holes. `progress` hears of octets done and of all.
///
/// # Errors
/// When the operating system refuses. There is no new file then, unless something had its name before.
pub fn copy(from: &Path, to: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<(), FileError> {
    let mut source = open(from)?;
    let mut target = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)
        .map_err(|error| FileError::at(to, error))?;
    let copied = match ioctl_ficlone(&target, &source) {
        Ok(()) => Ok(()),
        // Another file system, or one that can't.
        Err(_) => copy_extents(&mut source, &mut target, progress),
    };
    let lasting = copied.and_then(|()| target.sync_all());
    match lasting {
        Ok(()) => synchronise_folder_of(to),
        Err(error) => {
            // What the copy failed for says more than what its removal may fail for.
            let _ = std::fs::remove_file(to);
            Err(FileError::at(to, error))
        }
    }
}

fn copy_extents(
    source: &mut File,
    target: &mut File,
    progress: &mut dyn FnMut(u64, u64),
) -> io::Result<()> {
    let length = source.metadata()?.len();
    target.set_len(length)?;
    let mut done = 0;
    while done < length {
        progress(done, length);
        let data = match seek(&*source, Extent::Data(done)) {
            Ok(data) => data,
            // Nothing but a hole is left.
            Err(Errno::NXIO) => break,
            // The file system does not know its holes.
            Err(Errno::INVAL) => done,
            Err(error) => return Err(error.into()),
        };
        let hole = seek(&*source, Extent::Hole(data)).unwrap_or(length);
        let end = hole.min(data + CHUNK);
        source.seek(SeekFrom::Start(data))?;
        target.seek(SeekFrom::Start(data))?;
        let copied = io::copy(&mut (&*source).take(end - data), target)?;
        if copied < end - data {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        done = end;
    }
    progress(length, length);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{FileExt as _, MetadataExt as _, symlink};

    use super::*;
    use crate::FileProblem;

    #[test]
    fn a_copy_has_the_same_octets_and_the_same_holes() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("disk"), folder.path().join("copy"));
        let disk = File::create(&from).unwrap();
        let length = 3 * CHUNK + 4096;
        disk.set_len(length).unwrap();
        for (place, text) in [
            (0, "first"),
            (CHUNK + 65_536, "second"),
            (2 * CHUNK - 3, "across"),
        ] {
            disk.write_all_at(text.as_bytes(), place).unwrap();
        }
        let mut told = Vec::new();
        copy_extents(
            &mut open(&from).unwrap(),
            &mut File::create(&to).unwrap(),
            &mut |done, all| told.push((done, all)),
        )
        .unwrap();
        assert!(fs::read(&from).unwrap() == fs::read(&to).unwrap());
        let blocks = |path| fs::metadata(path).unwrap().blocks();
        assert!(blocks(&to) * 512 < CHUNK, "{} blocks", blocks(&to));
        assert_eq!(told.last(), Some(&(length, length)));
        assert!(told.is_sorted());

        // The same by the way that a file system may shorten; nothing is overwritten, and no link is followed.
        let other = folder.path().join("other");
        copy(&from, &other, &mut |_, _| ()).unwrap();
        assert!(fs::read(&from).unwrap() == fs::read(&other).unwrap());
        assert_eq!(fs::metadata(&other).unwrap().mode() & 0o777, 0o600);
        let error = copy(&from, &other, &mut |_, _| ()).unwrap_err();
        assert!(matches!(error.problem, FileProblem::AlreadyExists));
        let link = folder.path().join("link");
        symlink(&from, &link).unwrap();
        let error = copy(&link, &folder.path().join("new"), &mut |_, _| ()).unwrap_err();
        assert!(matches!(error.problem, FileProblem::SymbolicLink));
        assert!(!folder.path().join("new").exists());
    }
}
