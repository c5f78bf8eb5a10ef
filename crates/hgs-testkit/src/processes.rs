//! Processes that a test leaves behind.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::process::{Pid, Signal, getpid, kill_process};

/// Kills the processes that have something in a folder of a test, by their command lines or open. VMs outlive the agents that
/// started them, also when a test fails, and QEMU is given its files open.
pub fn end_processes_of(folder: &Path) {
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let number = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        let Some(process) = number.and_then(Pid::from_raw) else {
            continue;
        };
        if process != getpid() && has(&entry.path(), folder) {
            let _ = kill_process(process, Signal::KILL);
        }
    }
}

/// Whether the process of a folder below /proc has something in `folder`.
fn has(process: &Path, folder: &Path) -> bool {
    let open = fs::read_dir(process.join("fd")).into_iter().flatten();
    let mut open = open
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok());
    if open.any(|file| file.starts_with(folder)) {
        return true;
    }
    let name = folder.as_os_str().as_bytes();
    let command_line = fs::read(process.join("cmdline")).unwrap_or_default();
    command_line.windows(name.len()).any(|part| part == name)
}
