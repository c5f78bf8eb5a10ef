//! What a child process says, for the error that tells why it failed.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};

/// Octets that are kept: the first lines name what is wrong.
const KEPT: u64 = 16 * 1024;

/// A file in memory that can't grow, as the standard error of a child. A pipe would end the child when this process has
/// ended, or stop it when nobody reads.
#[derive(Debug)]
pub(crate) struct Messages(File);

impl Messages {
    pub(crate) fn new() -> io::Result<Self> {
        let file = memfd_create("messages", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&file, KEPT)?;
        fcntl_add_seals(&file, SealFlags::GROW | SealFlags::SHRINK)?;
        Ok(Self(file.into()))
    }

    /// The end to give to a child.
    pub(crate) fn for_child(&self) -> io::Result<File> {
        self.0.try_clone()
    }

    /// What was said so far in one line, without a prefix that each line has.
    pub(crate) fn text(&self, prefix: &str) -> String {
        let mut octets = vec![0; KEPT as usize];
        let read = self.0.read_at(&mut octets, 0).unwrap_or(0);
        octets.truncate(read);
        let end = octets.iter().position(|octet| *octet == 0);
        octets.truncate(end.unwrap_or(read));
        let text = String::from_utf8_lossy(&octets);
        let lines = text.lines().map(|line| {
            let line = line.strip_prefix(prefix).unwrap_or(line);
            line.chars().filter(|one| !one.is_control()).collect()
        });
        let lines: Vec<String> = lines.filter(|line: &String| !line.is_empty()).collect();
        lines.join("; ")
    }
}
