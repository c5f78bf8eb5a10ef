//! Processes that a test leaves behind.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::process::{Pid, Signal, getpid, kill_process};

/// Kills the processes whose command line names something in a folder of a test. VMs outlive the agents that started them, also
/// when a test fails.
pub fn end_processes_of(folder: &Path) {
    let folder = folder.as_os_str().as_bytes();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let number = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        let Some(process) = number.and_then(Pid::from_raw) else {
            continue;
        };
        let Ok(command_line) = fs::read(entry.path().join("cmdline")) else {
            continue;
        };
        let names_it = command_line
            .windows(folder.len())
            .any(|window| window == folder);
        if names_it && process != getpid() {
            let _ = kill_process(process, Signal::KILL);
        }
    }
}
