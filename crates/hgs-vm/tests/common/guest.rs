//! A guest that is as small as can be: the distribution's kernel, and busybox.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hgs_vm::parts::Parts;

/// What a guest needs for its power button and its disk, in the order in which they are loaded.
const MODULES: [&str; 7] = [
    "button",
    "virtio_ring",
    "virtio",
    "virtio_pci_modern_dev",
    "virtio_pci_legacy_dev",
    "virtio_pci",
    "virtio_blk",
];

/// The parts of this machine, fetched if need be.
pub(crate) fn parts() -> Parts {
    let cache = Parts::cache_folder(|name| std::env::var_os(name)).unwrap();
    Parts::fetch(&cache, &mut |_| {}).expect("packages for VMs can be fetched")
}

/// Puts `vmlinuz` and `initrd` into a folder: a file system in memory that runs `script`.
pub(crate) fn put(parts: &Parts, folder: &Path, script: &str) {
    let kernel = parts.kernel().unwrap();
    fs::copy(&kernel.image, folder.join("vmlinuz")).unwrap();
    let mut archive = Archive::default();
    for name in ["bin", "dev", "proc", "sys", "lib"] {
        archive.add(name, 0o040_755, b"");
    }
    // The kernel opens it for the first process, before anything is mounted.
    archive.device("dev/console", 5, 1);
    let busybox = parts.program("busybox").unwrap().path;
    archive.add("bin/busybox", 0o100_755, &fs::read(busybox).unwrap());
    for module in MODULES {
        if let Some(path) = find(&kernel.modules, &format!("{module}.ko")) {
            archive.add(
                &format!("lib/{module}.ko"),
                0o100_644,
                &fs::read(path).unwrap(),
            );
        }
    }
    let script =
        format!("#!/bin/busybox sh\n/bin/busybox --install -s /bin\nexport PATH=/bin\n{script}\n");
    archive.add("init", 0o100_755, script.as_bytes());
    fs::write(folder.join("initrd"), archive.finish()).unwrap();
}

fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if let Some(found) = find(&path, name) {
                return Some(found);
            }
        } else if path.ends_with(name) {
            return Some(path);
        }
    }
    None
}

/// An archive in the form "newc", which the kernel unpacks.
#[derive(Default)]
struct Archive {
    octets: Vec<u8>,
    inode: u32,
}

impl Archive {
    fn add(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entry(name, mode, (0, 0), content);
    }

    fn device(&mut self, name: &str, major: u32, minor: u32) {
        self.entry(name, 0o020_600, (major, minor), b"");
    }

    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        self.inode += 1;
        let fields = [
            self.inode,
            mode,
            0,
            0,
            1,
            0,
            u32::try_from(content.len()).unwrap(),
            0,
            0,
            device.0,
            device.1,
            u32::try_from(name.len()).unwrap() + 1,
            0,
        ];
        self.octets.extend(b"070701");
        for field in fields {
            self.octets.extend(format!("{field:08x}").bytes());
        }
        self.octets.extend(name.bytes());
        self.octets.push(0);
        self.pad();
        self.octets.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.octets.resize(self.octets.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, b"");
        self.octets
    }
}

/// Waits until a guest has written a line with this text to its serial port, to the line's end.
pub(crate) fn wait_for(log: &Path, text: &str) -> String {
    let begun = Instant::now();
    loop {
        let written = fs::read(log).unwrap_or_default();
        let written = String::from_utf8_lossy(&written).into_owned();
        let line = written.find(text).map(|place| &written[place..]);
        if line.is_some_and(|line| line.contains('\n')) {
            return written;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(120),
            "no {text:?} in {written}"
        );
        std::thread::park_timeout(Duration::from_millis(20));
    }
}
