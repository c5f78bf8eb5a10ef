//! Opening without being led elsewhere, and reading within a limit.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};

use hgs_crypto::SecretBytes;
use rustix::fs::OFlags;

use crate::{FileError, FileProblem};

/// Reads a file of at most `limit` octets.
pub fn read(path: &Path, limit: usize) -> Result<Vec<u8>, FileError> {
    let mut octets = Vec::new();
    read_from(open(path)?, limit, &mut octets).map_err(|problem| FileError::at(path, problem))?;
    Ok(octets)
}

/// The text of a file that a person writes.
pub fn text(octets: Vec<u8>) -> Result<String, FileProblem> {
    // A byte order mark, or the NUL in the first letter of ASCII.
    if let [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] | [0, _, ..] | [_, 0, ..] = octets[..] {
        return Err(FileProblem::Utf16);
    }
    String::from_utf8(octets).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let ends = error.as_bytes().iter().take(valid);
        FileProblem::NotUtf8 {
            line: ends.filter(|octet| **octet == b'\n').count() + 1,
        }
    })
}

/// The mode of the file at `path`, if users other than its owner may open it. Pipes and devices have no such mode.
#[must_use]
pub fn open_to_others(path: &Path) -> Option<u32> {
    let meta = fs::metadata(path).ok().filter(Metadata::is_file)?;
    let mode = meta.mode() & 0o7777;
    (mode & OTHERS != 0).then_some(mode)
}

/// Permissions of the group and of all other users.
const OTHERS: u32 = 0o077;

/// Reads a secret of at most `limit` octets from a file that no other user may open.
pub fn read_secret(path: &Path, limit: usize) -> Result<SecretBytes, FileError> {
    read_checked(path, open(path)?, limit, check_private)
}

/// As [`read_secret`], for a file that the operator names, which may be laid out as Kubernetes and systemd lay out secrets:
/// behind links, and readable (mode 0440) by a group of this process or of root. Every part of the way must belong to root or to
/// this user, and no other user may write to it or lead it elsewhere.
pub fn read_named_secret(path: &Path, limit: usize) -> Result<SecretBytes, FileError> {
    let file = match open(path) {
        Err(error) if matches!(error.problem, FileProblem::SymbolicLink) => {
            open(&guarded_target(path)?)?
        }
        opened => opened?,
    };
    read_checked(path, file, limit, |meta| match check_private(meta) {
        Err(FileProblem::Permissions { mode: 0o440 })
            if is_trusted_group(meta.uid(), meta.gid()) && guarded_target(path).is_ok() =>
        {
            Ok(())
        }
        checked => checked,
    })
}

fn read_checked(
    path: &Path,
    file: File,
    limit: usize,
    check: impl FnOnce(&Metadata) -> Result<(), FileProblem>,
) -> Result<SecretBytes, FileError> {
    let at = |problem| FileError::at(path, problem);
    let meta = file.metadata().map_err(|error| at(error.into()))?;
    check(&meta).map_err(at)?;
    // Room for all of it, so that no reallocation leaves a part of the secret behind.
    let length = usize::try_from(meta.len()).unwrap_or(limit).min(limit);
    let mut octets = Vec::with_capacity(length + 1);
    let outcome = read_from(file, limit, &mut octets);
    let secret = SecretBytes::new(octets);
    outcome.map_err(at)?;
    Ok(secret)
}

/// Where a link leads, if every part of the way belongs to root or to this user, and others can't write to it.
fn guarded_target(path: &Path) -> Result<PathBuf, FileError> {
    let refused = || FileError::at(path, FileProblem::SymbolicLink);
    let mut links = 0;
    let mut place = std::path::absolute(path).map_err(|error| FileError::at(path, error))?;
    'way: loop {
        let parts: Vec<Component<'_>> = place.components().collect();
        let mut reached = PathBuf::new();
        for (number, part) in parts.iter().enumerate() {
            match part {
                Component::ParentDir => {
                    reached.pop();
                    continue;
                }
                part => reached.push(part),
            }
            let meta =
                fs::symlink_metadata(&reached).map_err(|error| FileError::at(path, error))?;
            if !is_guarded(&meta) {
                return Err(refused());
            }
            if meta.is_symlink() {
                links += 1;
                if links > MAX_LINKS {
                    return Err(refused());
                }
                let target = fs::read_link(&reached).map_err(|error| FileError::at(path, error))?;
                reached.pop();
                reached.push(target);
                reached.extend(parts.iter().skip(number + 1));
                place = reached;
                continue 'way;
            }
        }
        return Ok(reached);
    }
}

/// Links on one way, as many as the kernel follows.
const MAX_LINKS: usize = 40;

/// Whether only root and this user can change what is there. In a folder with the sticky bit, such as /tmp, others
/// can add names and not take away those that are there.
fn is_guarded(meta: &Metadata) -> bool {
    let ours = meta.uid() == 0 || meta.uid() == rustix::process::geteuid().as_raw();
    let writable = meta.mode() & 0o022 != 0;
    let sticky = meta.is_dir() && meta.mode() & 0o1000 != 0;
    ours && (meta.is_symlink() || !writable || sticky)
}

/// Whether the group that may read a file is of this process, or root's. systemd lets a service read its credentials by an
/// access list: such a file belongs to root and its group, and the bits of the group are those of the list.
fn is_trusted_group(owner: u32, group: u32) -> bool {
    (owner, group) == (0, 0) || is_group_of_process(group)
}

fn is_group_of_process(group: u32) -> bool {
    let mut groups = rustix::process::getgroups()
        .unwrap_or_default()
        .into_iter()
        .map(|group| group.as_raw());
    group == rustix::process::getegid().as_raw() || groups.any(|own| own == group)
}

/// Makes sure that `path` is a file that no other user may open, creating an empty one with mode 0600.
pub fn private_file(path: &Path) -> Result<(), FileError> {
    open_private_file(path).map(drop)
}

/// As [`private_file`]; the file is open for reading and writing.
pub fn open_private_file(path: &Path) -> Result<File, FileError> {
    let at = |problem| FileError::at(path, problem);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).mode(0o600);
    let file = open_with(&mut options, path)?;
    let meta = file.metadata().map_err(|error| at(error.into()))?;
    check_private(&meta).map_err(at)?;
    Ok(file)
}

/// Opens a file for reading.
pub(crate) fn open(path: &Path) -> Result<File, FileError> {
    open_with(OpenOptions::new().read(true), path)
}

fn open_with(options: &mut OpenOptions, path: &Path) -> Result<File, FileError> {
    let file = options
        // Without NONBLOCK, opening a pipe would wait for its writer.
        .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
        .open(path)
        .map_err(|error| FileError::at(path, error))?;
    let meta = file
        .metadata()
        .map_err(|error| FileError::at(path, error))?;
    if meta.is_file() {
        Ok(file)
    } else {
        Err(FileError::at(path, FileProblem::NotA { expected: "file" }))
    }
}

/// Refuses what belongs to another user, or what another user may open. What belongs to root is as safe as the
/// system is.
pub(crate) fn check_private(meta: &Metadata) -> Result<(), FileProblem> {
    let (owner, mode) = (meta.uid(), meta.mode() & 0o7777);
    if owner != rustix::process::geteuid().as_raw() && owner != 0 {
        Err(FileProblem::Owner { owner })
    } else if mode & OTHERS != 0 {
        Err(FileProblem::Permissions { mode })
    } else {
        Ok(())
    }
}

fn read_from(file: File, limit: usize, octets: &mut Vec<u8>) -> Result<(), FileProblem> {
    file.take(limit as u64 + 1).read_to_end(octets)?;
    if octets.len() > limit {
        Err(FileProblem::TooLarge { limit })
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::{Readers, create};

    #[test]
    fn a_secret_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        for shared in [0o640, 0o604, 0o660] {
            fs::write(&path, b"x").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(shared)).unwrap();
            let error = read_secret(&path, 16).unwrap_err();
            assert!(matches!(error.problem, FileProblem::Permissions { mode } if mode == shared));
            assert!(error.remedy().unwrap().contains("chmod go= "));
        }
    }

    #[test]
    fn a_credential_of_systemd_may_belong_to_root_and_its_group() {
        let nobody_here = 4_000_000_000;
        assert!(is_trusted_group(0, 0));
        assert!(!is_trusted_group(0, nobody_here));
        assert_eq!(is_trusted_group(nobody_here, 0), is_group_of_process(0));
    }

    /// `pin -> ..data/pin`, `..data -> ..1`, and the file readable by the group: the layout of Kubernetes.
    #[test]
    fn a_mounted_secret_is_read_where_nobody_else_can_lead_it_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let mode = |name: &str, mode| {
            fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).unwrap();
        };
        fs::create_dir(at("..1")).unwrap();
        fs::write(at("..1/pin"), b"1234").unwrap();
        mode("..1/pin", 0o440);
        std::os::unix::fs::symlink("..1", at("..data")).unwrap();
        std::os::unix::fs::symlink("..data/pin", at("pin")).unwrap();
        for name in ["pin", "..data/pin", "..1/pin"] {
            assert_eq!(
                read_named_secret(&at(name), 16).unwrap().expose(),
                b"1234",
                "{name}"
            );
            assert!(read_secret(&at(name), 16).is_err(), "{name}");
        }
        // Into a folder of this user's from one that others may write to.
        fs::create_dir(at("open")).unwrap();
        mode("open", 0o777);
        std::os::unix::fs::symlink("../pin", at("open/pin")).unwrap();
        let error = read_named_secret(&at("open/pin"), 16).unwrap_err();
        assert!(
            matches!(error.problem, FileProblem::SymbolicLink),
            "{error}"
        );
        std::os::unix::fs::symlink("loop", at("loop")).unwrap();
        assert!(read_named_secret(&at("loop"), 16).is_err());
        for shared in [0o640, 0o444, 0o460] {
            mode("..1/pin", shared);
            assert!(read_named_secret(&at("pin"), 16).is_err(), "{shared:o}");
        }
        mode("..1/pin", 0o440);
        mode("..1", 0o775);
        assert!(read_named_secret(&at("pin"), 16).is_err());
    }

    #[test]
    fn text_is_utf_8_and_what_else_it_is_is_named() {
        assert_eq!(text("é\n".into()).unwrap(), "é\n");
        assert_eq!(text(Vec::new()).unwrap(), "");
        for utf_16 in [&b"\xFF\xFEa\0"[..], b"\xFE\xFF\0a", b"a\0b\0", b"\0a\0b"] {
            assert!(matches!(text(utf_16.into()), Err(FileProblem::Utf16)));
        }
        let latin_1 = text(b"a\nb\n\xE9\n".into());
        assert!(matches!(latin_1, Err(FileProblem::NotUtf8 { line: 3 })));
    }

    #[test]
    fn the_limit_is_in_octets_and_exact() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        create(&path, b"12345", Readers::Owner).unwrap();
        assert_eq!(read(&path, 5).unwrap(), b"12345");
        let error = read(&path, 4).unwrap_err();
        assert!(matches!(error.problem, FileProblem::TooLarge { limit: 4 }));
        assert!(read_secret(&path, 4).is_err());
    }

    #[test]
    fn folders_and_pipes_are_not_files() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        for path in [folder.path(), &pipe] {
            let error = read(path, 16).unwrap_err();
            assert!(matches!(
                error.problem,
                FileProblem::NotA { expected: "file" }
            ));
        }
    }
}
