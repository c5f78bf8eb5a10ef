//! A guest for demonstrations and tests: a root file system of one program, which says on its serial port what only the
//! opened disk can say, then counts, with a random number of its TPM each second, until it is told to power off.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use super::ImageError;
use super::program::{installed, run};
use crate::program::Program;

/// What the guest's lines begin with.
pub const PREFIX: &str = "OPENHGS-DEMO ";
/// Modules that the power button needs.
pub const MODULES: [&str; 2] = ["button", "evdev"];
/// What the kernel is told beside the disk's identifier. By emulation on a busy host, its timer seems not to work, and it
/// would stop for that.
pub const COMMAND_LINE: &str = "console=ttyS0 quiet no_timer_check";

/// The programs that this guest is made with and that are not fetched with the parts of VMs, and the packages of Debian that have
/// them.
const PROGRAMS: [(&str, &str); 3] = [
    ("mke2fs", "e2fsprogs"),
    ("ldd", "libc-bin"),
    ("gzip", "gzip"),
];

/// Those of the programs that this guest is made with that are not installed, and the packages of Debian that have them.
#[must_use]
pub fn missing() -> Vec<(&'static str, &'static str)> {
    let missing = PROGRAMS.into_iter();
    missing
        .filter(|(program, _)| Program::find(program).is_none())
        .collect()
}

/// Octets of the file system.
const SIZE: u64 = 16 << 20;
const INIT: &[u8] = include_bytes!("demo/init.sh");
const COMMANDS: [&str; 10] = [
    "sh", "mount", "cat", "dd", "poweroff", "printf", "tail", "od", "tr", "sleep",
];

/// Writes the root file system into an empty file. It has `line`, which the guest says after [`PREFIX`].
///
/// # Errors
/// When `mke2fs` is missing or fails.
pub fn write_root_file_system(file: &Path, busybox: &Path, line: &str) -> Result<(), ImageError> {
    let tree = tempfile::tempdir().map_err(ImageError::at(file))?;
    fill(tree.path(), busybox, line).map_err(ImageError::at(tree.path()))?;
    let contents = fs::File::options()
        .write(true)
        .open(file)
        .map_err(ImageError::at(file))?;
    contents.set_len(SIZE).map_err(ImageError::at(file))?;
    let tree = tree.path().display().to_string();
    let arguments = [
        "-q",
        "-t",
        "ext4",
        "-O",
        "^has_journal",
        "-m",
        "0",
        "-E",
        "root_owner=0:0",
        "-d",
        &tree,
    ];
    let arguments = arguments
        .map(AsRef::as_ref)
        .into_iter()
        .chain([file.as_os_str()]);
    run(&installed("mke2fs", "e2fsprogs")?, arguments).map(drop)
}

fn fill(tree: &Path, busybox: &Path, line: &str) -> std::io::Result<()> {
    for folder in ["bin", "sbin", "etc", "dev", "proc", "sys", "run"] {
        fs::create_dir(tree.join(folder))?;
    }
    fs::copy(busybox, tree.join("bin/busybox"))?;
    for command in COMMANDS {
        symlink("busybox", tree.join("bin").join(command))?;
    }
    fs::write(tree.join("etc/line"), format!("{line}\n"))?;
    let init = tree.join("sbin/init");
    fs::write(&init, INIT)?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755))
}
