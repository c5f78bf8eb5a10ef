//! The archive that the kernel unpacks as its first file system ("newc", Documentation/driver-api/early-userspace).

/// An archive that is being written. Times are zero and owners root, so that the same files make the same octets.
pub(super) struct Archive {
    octets: Vec<u8>,
    entries: u32,
}

const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

impl Archive {
    pub(super) fn new() -> Self {
        Self {
            octets: Vec::new(),
            entries: 0,
        }
    }

    pub(super) fn folder(&mut self, path: &str) {
        self.entry(path, FOLDER | 0o755, (0, 0), &[]);
    }

    pub(super) fn file(&mut self, path: &str, mode: u32, contents: &[u8]) {
        self.entry(path, FILE | mode, (0, 0), contents);
    }

    pub(super) fn link(&mut self, path: &str, target: &str) {
        self.entry(path, LINK | 0o777, (0, 0), target.as_bytes());
    }

    pub(super) fn character_device(&mut self, path: &str, major: u32, minor: u32) {
        self.entry(path, CHARACTER_DEVICE | 0o600, (major, minor), &[]);
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.octets
    }

    fn entry(&mut self, path: &str, mode: u32, (major, minor): (u32, u32), contents: &[u8]) {
        self.entries += 1;
        let size = u32::try_from(contents.len())
            .expect("parts of a first file system are limited to 64 MiB");
        let name = u32::try_from(path.len() + 1).expect("paths of a first file system are short");
        let links = if mode & 0o170_000 == FOLDER { 2 } else { 1 };
        let fields = [
            self.entries,
            mode,
            0,
            0,
            links,
            0,
            size,
            0,
            0,
            major,
            minor,
            name,
            0,
        ];
        self.octets.extend_from_slice(b"070701");
        for field in fields {
            self.octets
                .extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.octets.extend_from_slice(path.as_bytes());
        self.octets.push(0);
        self.pad();
        self.octets.extend_from_slice(contents);
        self.pad();
    }

    fn pad(&mut self) {
        self.octets.resize(self.octets.len().next_multiple_of(4), 0);
    }
}
