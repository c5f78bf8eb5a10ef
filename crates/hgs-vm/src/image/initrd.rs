//! The first file system of a guest: it opens the disk with the vTPM, or with the recovery key, and starts the system on it.

mod cpio;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use self::cpio::Archive;
use super::ImageError;
use super::modules::{Module, with_dependencies};
use super::program::{finish, installed, run};
use crate::program::Program;

const INIT: &[u8] = include_bytes!("initrd/init.sh");

/// Modules that open the disk: the virtual hardware of QEMU, and the encryption that `cryptsetup` uses.
const MODULES: [&str; 8] = [
    "virtio_pci",
    "virtio_blk",
    "dm-crypt",
    "aesni-intel",
    "xts",
    "sha256-ssse3",
    "algif_skcipher",
    "ext4",
];

/// Commands of busybox that the script uses.
const COMMANDS: [&str; 16] = [
    "sh",
    "mount",
    "insmod",
    "findfs",
    "sleep",
    "sed",
    "grep",
    "dd",
    "printf",
    "switch_root",
    "poweroff",
    "cat",
    "mkdir",
    "head",
    "od",
    "test",
];

/// Octets of the largest program or library that goes into it.
const LIMIT: usize = 64 << 20;

/// Where libraries are looked for that programs load by name while they run.
const LIBRARY_FOLDERS: [&str; 2] = ["/usr/lib/x86_64-linux-gnu", "/lib/x86_64-linux-gnu"];
/// Where programs look for libraries in the guest.
const GUEST_LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// Libraries that `cryptsetup` loads by name while it runs: reading a token of `systemd-cryptenroll`, and speaking to a TPM.
const LOADED_BY_NAME: [(&str, &str); 5] = [
    ("cryptsetup/libcryptsetup-token-systemd-tpm2.so", "systemd"),
    ("libtss2-esys.so.0", "libtss2-esys-3.0.2-0"),
    ("libtss2-mu.so.0", "libtss2-mu0"),
    ("libtss2-rc.so.0", "libtss2-rc0"),
    ("libtss2-tcti-device.so.0", "libtss2-tcti-device0"),
];

/// What a first file system is made from.
#[derive(Debug)]
pub struct InitrdParts<'a> {
    /// The folder of the kernel's modules: `lib/modules/RELEASE`.
    pub modules: &'a Path,
    /// A statically linked busybox.
    pub busybox: &'a Path,
    /// `cryptsetup`.
    pub cryptsetup: &'a Program,
    /// Folders of libraries, beside those of the system.
    pub libraries: &'a [PathBuf],
    /// Modules beside those that open the disk.
    pub further_modules: &'a [&'a str],
}

/// Makes the first file system: an archive of cpio, compressed by gzip. The same parts make the same octets.
///
/// # Errors
/// When a part is missing.
pub fn make(parts: &InitrdParts<'_>) -> Result<Vec<u8>, ImageError> {
    let wanted: Vec<_> = MODULES
        .iter()
        .chain(parts.further_modules)
        .copied()
        .collect();
    let modules = with_dependencies(parts.modules, &wanted)?;
    let mut archive = Archive::new();
    for folder in [
        "dev",
        "proc",
        "sys",
        "run",
        "root",
        "modules",
        "usr",
        "usr/bin",
        "usr/lib",
        "usr/lib64",
        GUEST_LIBRARIES,
    ] {
        archive.folder(folder);
    }
    archive.folder(&format!("{GUEST_LIBRARIES}/cryptsetup"));
    for (link, target) in [
        ("bin", "usr/bin"),
        ("sbin", "usr/bin"),
        ("lib", "usr/lib"),
        ("lib64", "usr/lib64"),
        ("usr/sbin", "bin"),
    ] {
        archive.link(link, target);
    }
    // Standard input and output of the script, before /dev is mounted.
    archive.character_device("dev/console", 5, 1);
    archive.file(
        "usr/bin/busybox",
        0o755,
        &hgs_files::read(parts.busybox, LIMIT)?,
    );
    for command in COMMANDS {
        archive.link(&format!("usr/bin/{command}"), "busybox");
    }
    archive.file(
        "usr/bin/cryptsetup",
        0o755,
        &hgs_files::read(&parts.cryptsetup.path, LIMIT)?,
    );
    for (place, path) in libraries(parts)? {
        let octets = std::fs::read(&path).map_err(ImageError::at(&path))?;
        archive.file(&place, 0o755, &octets);
    }
    let order: String = modules
        .iter()
        .map(|module| format!("{}\n", module.name))
        .collect();
    archive.file("modules/order", 0o644, order.as_bytes());
    for Module { name, octets } in &modules {
        archive.file(&format!("modules/{name}.ko"), 0o644, octets);
    }
    archive.file("init", 0o755, INIT);
    compress(&archive.finish())
}

/// The libraries of `cryptsetup` by their place in the guest.
fn libraries(parts: &InitrdParts<'_>) -> Result<BTreeMap<String, PathBuf>, ImageError> {
    let cryptsetup = parts.cryptsetup;
    let system = LIBRARY_FOLDERS.map(PathBuf::from);
    let folders: Vec<_> = system.iter().chain(parts.libraries).collect();
    let mut found = BTreeMap::new();
    let mut roots = vec![cryptsetup.path.clone()];
    for (name, package) in LOADED_BY_NAME {
        let path = folders
            .iter()
            .map(|folder| folder.join(name))
            .find(|path| path.is_file());
        let path = path.ok_or_else(|| ImageError::NoSuchFile {
            name: name.to_owned(),
            package,
        })?;
        found.insert(format!("{GUEST_LIBRARIES}/{name}"), path.clone());
        roots.push(path);
    }
    for path in linked(&roots, parts.libraries)? {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let place = match name.starts_with("ld-linux") {
            true => format!("usr/lib64/{name}"),
            false => format!("{GUEST_LIBRARIES}/{name}"),
        };
        found.insert(place, path);
    }
    Ok(found)
}

/// The libraries that the dynamic linker loads for these files.
fn linked(files: &[PathBuf], folders: &[PathBuf]) -> Result<BTreeSet<PathBuf>, ImageError> {
    let mut ldd = installed("ldd", "libc-bin")?;
    if let Ok(path) = std::env::join_paths(folders)
        && !path.is_empty()
    {
        ldd.environment = vec![("LD_LIBRARY_PATH".into(), path)];
    }
    let output = run(&ldd, files)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut libraries = BTreeSet::new();
    // `NAME => PATH (ADDRESS)`, or `PATH (ADDRESS)` for the dynamic linker itself.
    for line in text.lines().filter(|line| line.starts_with('\t')) {
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        match words[..] {
            [name, "=>", "not", "found"] => {
                return Err(ImageError::NoSuchFile {
                    name: name.to_owned(),
                    package: "of the library",
                });
            }
            [_, "=>", path, _] | [path, _] if path.starts_with('/') => {
                libraries.insert(PathBuf::from(path));
            }
            _ => {}
        }
    }
    Ok(libraries)
}

fn compress(octets: &[u8]) -> Result<Vec<u8>, ImageError> {
    let gzip = installed("gzip", "gzip")?;
    let temporary = || -> std::io::Result<(File, File)> {
        let mut input = tempfile::tempfile()?;
        input.write_all(octets)?;
        input.rewind()?;
        Ok((input, tempfile::tempfile()?))
    };
    let failed = |error| ImageError::at(Path::new("the first file system"))(error);
    let (input, mut output) = temporary().map_err(failed)?;
    let written = output.try_clone().map_err(failed)?;
    let mut command = gzip.command();
    command
        .args(["--no-name", "-6"])
        .stdin(input)
        .stdout(written);
    finish(&gzip, &mut command)?;
    let mut compressed = Vec::new();
    output
        .rewind()
        .and_then(|()| output.read_to_end(&mut compressed))
        .map_err(failed)?;
    Ok(compressed)
}
