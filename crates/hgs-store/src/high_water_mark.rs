//! The high-water mark: how far the state had come, kept outside the database.
//!
//! Nothing inside a database can show that *all* of it was put back as it was earlier. So the
//! newest generation, the number of the newest audit record and that record's tag also stand in a
//! file in another folder, authenticated under the master key. A state that has not come as far,
//! or that has another audit record at that number, is refused until an administrator accepts it.
//!
//! ```text
//!   commit on the disk --> mark written --> answer
//! ```
//!
//! The mark is written after the commit, so it is never ahead of what is durable, and a crash can't
//! look like a rollback. It is written before the answer, so it never lags behind what was
//! acknowledged: changes of administrators are synchronised there and then. For releases and
//! attestations the mark is written without waiting for its disk, and synchronised once a second and
//! when the store is idle. So a process that is killed leaves an exact mark; a power failure leaves
//! one that may be a second old.
//!
//! The file has four slots of 4096 octets, one line of text in each. Two take turns for marks that
//! are synchronised, so one of them is always whole. The third is for marks that are not. The fourth
//! is for the mark under a new master key, which is written before the state is under that key.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hgs_crypto::hex;
use hgs_custody::seal::{Authenticator, MasterKey, TAG_LENGTH, Tag};
use hgs_files::{FileError, Lock};

pub use crate::rolled_back::{Position, RolledBack};

use crate::audit_head::Head;
use crate::record::Integrity;
use crate::{OpenError, StoreError};

const SLOT: usize = 4096;
const SYNCHRONISED: [usize; 2] = [0, 1];
const UNSYNCHRONISED: usize = 2;
const NEXT_MASTER_KEY: usize = 3;
const SLOTS: usize = 4;

/// How old a mark on the disk may become while releases are recorded.
const MAX_AGE: Duration = Duration::from_secs(1);

/// Where the mark of the state in `directory` is kept unless another file is named: in a folder
/// beside it, so that a copy of the state folder does not take the mark along.
#[must_use]
pub fn default_path(directory: &Path) -> PathBuf {
    let mut folder = match directory.file_name() {
        Some(name) => name.to_owned(),
        None => return directory.join("../openhgs-mark/high-water-mark"),
    };
    folder.push("-mark");
    directory.with_file_name(folder).join("high-water-mark")
}

/// What is written: a generation, and where the audit log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) generation: u64,
    pub(crate) audit: Head,
}

impl Mark {
    /// At or before every state.
    const FIRST: Self = Self {
        generation: 0,
        audit: Head::EMPTY,
    };

    pub(crate) fn position(&self) -> Position {
        Position {
            generation: self.generation,
            sequence: self.audit.sequence,
        }
    }

    fn line(&self, authenticator: &Authenticator) -> String {
        let numbers = self.numbers();
        let seal = authenticator.tag([&numbers[0][..], &numbers[1], &self.audit.tag]);
        let Position {
            generation,
            sequence,
        } = self.position();
        let tag = hex::encode(&self.audit.tag);
        let seal = hex::encode(&seal);
        format!("generation {generation} audit {sequence} tag {tag} seal {seal}\n")
    }

    fn numbers(&self) -> [[u8; 8]; 2] {
        [
            self.generation.to_be_bytes(),
            self.audit.sequence.to_be_bytes(),
        ]
    }

    fn read(slot: &[u8], authenticator: &Authenticator) -> Option<Self> {
        let line = slot.split(|octet| *octet == b'\n').next()?;
        let words: Vec<&str> = std::str::from_utf8(line).ok()?.split(' ').collect();
        let [
            "generation",
            generation,
            "audit",
            sequence,
            "tag",
            tag,
            "seal",
            seal,
        ] = words[..]
        else {
            return None;
        };
        let mark = Self {
            generation: generation.parse().ok()?,
            audit: Head {
                sequence: sequence.parse().ok()?,
                tag: tag_of(tag)?,
            },
        };
        let numbers = mark.numbers();
        let parts = [&numbers[0][..], &numbers[1], &mark.audit.tag];
        authenticator.verify(parts, &tag_of(seal)?).ok()?;
        Some(mark)
    }
}

impl Integrity {
    /// How far the state has come.
    pub(crate) fn mark(&self) -> Mark {
        Mark {
            generation: self.generation,
            audit: self.audit,
        }
    }
}

fn tag_of(text: &str) -> Option<Tag> {
    <[u8; TAG_LENGTH]>::try_from(hex::decode(text)?).ok()
}

fn authenticator(master_key: &MasterKey) -> Authenticator {
    master_key.authenticator("high-water mark")
}

/// The file of the mark, held by this process.
pub(crate) struct HighWaterMark {
    path: PathBuf,
    file: File,
    authenticator: Authenticator,
    /// The furthest one that is in the file.
    newest: Option<Mark>,
    next_slot: usize,
    synchronised: bool,
    synchronised_at: Instant,
    /// Whether the file holds something that this master key has not made.
    has_foreign: bool,
    /// The mark that could not be written.
    unwritten: Option<Mark>,
    _lock: Lock,
}

impl HighWaterMark {
    /// Opens the file, which is made when it is missing, with nothing in it.
    pub(crate) fn open(path: &Path, master_key: &MasterKey) -> Result<Self, OpenError> {
        let at = |error: std::io::Error| FileError {
            path: path.to_owned(),
            problem: error.into(),
        };
        if let Some(folder) = path.parent().filter(|folder| *folder != Path::new("")) {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
            made.map_err(|error| OpenError::MarkFolder {
                folder: folder.to_owned(),
                reason: error.to_string(),
            })?;
        }
        let lock = Lock::take_or_create(path)?;
        let file = hgs_files::open_private_file(path)?;
        let mut octets = vec![0; SLOT * SLOTS];
        let mut length = 0;
        loop {
            let rest = octets.get_mut(length..).unwrap_or_default();
            match file.read_at(rest, length as u64).map_err(at)? {
                0 => break,
                count => length += count,
            }
        }
        let mut mark = Self {
            path: path.to_owned(),
            file,
            authenticator: authenticator(master_key),
            newest: None,
            next_slot: 0,
            synchronised: true,
            synchronised_at: Instant::now(),
            has_foreign: false,
            unwritten: None,
            _lock: lock,
        };
        let slots: Vec<_> = octets
            .chunks(SLOT)
            .map(|slot| {
                let found = Mark::read(slot, &mark.authenticator);
                mark.has_foreign |= found.is_none() && slot.iter().any(|octet| *octet != 0);
                found
            })
            .collect();
        let synchronised = SYNCHRONISED.map(|slot| slots.get(slot).copied().flatten());
        // The newest one that is whole on the disk is not the one that is overwritten next.
        mark.next_slot = usize::from(synchronised[0] > synchronised[1]);
        mark.newest = slots.into_iter().flatten().max();
        Ok(mark)
    }

    /// The mark in `path`, without holding it.
    pub(crate) fn peek(path: &Path, master_key: &MasterKey) -> Option<Position> {
        let authenticator = authenticator(master_key);
        let octets = hgs_files::read(path, SLOT * SLOTS).ok()?;
        let marks = octets.chunks(SLOT);
        let newest = marks
            .filter_map(|slot| Mark::read(slot, &authenticator))
            .max()?;
        Some(newest.position()).filter(|position| position.generation > 0)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The furthest mark in the file.
    pub(crate) fn newest(&self) -> Option<Mark> {
        self.newest
    }

    /// Starts over, before any state or before the one that an administrator accepts.
    pub(crate) fn reset(&mut self, mark: Option<Mark>) -> Result<(), StoreError> {
        let mark = mark.unwrap_or(Mark::FIRST);
        let written = self.fill(&mark);
        self.note(mark, written, true)
    }

    /// Takes the mark to where the state is, which is on the disk. Slots that another master key
    /// has written are overwritten.
    pub(crate) fn settle(&mut self, mark: Mark) -> Result<(), StoreError> {
        match self.has_foreign {
            true => self.reset(Some(mark)),
            false if self.newest == Some(mark) => self.synchronise(),
            false => self.advance(mark, true),
        }
    }

    /// Tries again to write what could not be written: until it is, nothing else is recorded.
    pub(crate) fn recover(&mut self) -> Result<(), StoreError> {
        match self.unwritten {
            Some(mark) => self.advance(mark, true),
            None => Ok(()),
        }
    }

    /// Takes the mark to where the state is after a commit that is on the disk.
    pub(crate) fn advance(&mut self, mark: Mark, synchronise: bool) -> Result<(), StoreError> {
        if self.newest == Some(mark) && (self.synchronised || !synchronise) {
            return Ok(());
        }
        let synchronise = synchronise || self.synchronised_at.elapsed() >= MAX_AGE;
        let slot = match synchronise {
            true => SYNCHRONISED[self.next_slot],
            false => UNSYNCHRONISED,
        };
        let mut written = self.write(slot, &mark.line(&self.authenticator));
        if synchronise {
            written = written.and_then(|()| self.file.sync_data());
        }
        self.note(mark, written, synchronise)
    }

    /// Brings the newest mark to the disk.
    pub(crate) fn synchronise(&mut self) -> Result<(), StoreError> {
        match self
            .unwritten
            .or(self.newest)
            .filter(|_| !self.is_synchronised())
        {
            Some(mark) => self.advance(mark, true),
            None => Ok(()),
        }
    }

    pub(crate) fn is_synchronised(&self) -> bool {
        self.synchronised && self.unwritten.is_none()
    }

    /// Writes the mark of a state that is about to be under another master key. It counts for
    /// nothing before that.
    pub(crate) fn stage(&self, master_key: &MasterKey, mark: Mark) -> Result<(), StoreError> {
        let line = mark.line(&authenticator(master_key));
        let written = self
            .write(NEXT_MASTER_KEY, &line)
            .and_then(|()| self.file.sync_data());
        written.map_err(|error| self.failure(&error))
    }

    /// The state is under another master key: nothing that the old one has written is left.
    pub(crate) fn take_key(
        &mut self,
        master_key: &MasterKey,
        mark: Mark,
    ) -> Result<(), StoreError> {
        self.authenticator = authenticator(master_key);
        self.reset(Some(mark))
    }

    fn note(
        &mut self,
        mark: Mark,
        written: std::io::Result<()>,
        synchronised: bool,
    ) -> Result<(), StoreError> {
        if let Err(error) = written {
            self.unwritten = Some(mark);
            return Err(self.failure(&error));
        }
        self.unwritten = None;
        self.newest = Some(mark);
        self.synchronised = synchronised;
        if synchronised {
            self.next_slot = 1 - self.next_slot;
            self.synchronised_at = Instant::now();
        }
        Ok(())
    }

    /// Writes every slot, one synchronised after the other so that one is always whole.
    fn fill(&mut self, mark: &Mark) -> std::io::Result<()> {
        let line = mark.line(&self.authenticator);
        for slot in 0..SLOTS {
            self.write(slot, &line)?;
            self.file.sync_all()?;
        }
        hgs_files::synchronise_folder_of(&self.path).map_err(|error| match error.problem {
            hgs_files::FileProblem::Io(error) => error,
            other => std::io::Error::other(other.to_string()),
        })?;
        self.has_foreign = false;
        Ok(())
    }

    fn write(&self, slot: usize, line: &str) -> std::io::Result<()> {
        let mut octets = [0; SLOT];
        octets[..line.len()].copy_from_slice(line.as_bytes());
        self.file.write_all_at(&octets, (slot * SLOT) as u64)
    }

    fn failure(&self, error: &std::io::Error) -> StoreError {
        let path = self.path.display();
        StoreError::Unavailable {
            reason: format!("the high-water mark {path} can't be written: {error}"),
        }
    }
}

impl PartialOrd for Mark {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Mark {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let order = |mark: &Self| (mark.audit.sequence, mark.generation, mark.audit.tag);
        order(self).cmp(&order(other))
    }
}

#[cfg(test)]
mod tests {
    use hgs_crypto::SecretBytes;
    use hgs_testkit::fixtures::key_octets;

    use super::*;

    fn key(octet: u8) -> MasterKey {
        MasterKey::from_octets(SecretBytes::from(&key_octets(octet)[..])).unwrap()
    }

    fn mark(sequence: u64) -> Mark {
        Mark {
            generation: sequence / 2,
            audit: Head {
                sequence,
                tag: [u8::try_from(sequence).unwrap(); 32],
            },
        }
    }

    #[test]
    fn it_lies_beside_the_state_folder() {
        let path = |directory: &str| default_path(Path::new(directory));
        let expected = Path::new("/var/lib/openhgs-mark/high-water-mark");
        assert_eq!(path("/var/lib/openhgs"), expected);
        assert_eq!(path("/var/lib/openhgs/"), expected);
        assert_eq!(path("drill"), Path::new("drill-mark/high-water-mark"));
        assert_eq!(path("."), Path::new("./../openhgs-mark/high-water-mark"));
    }

    #[test]
    fn the_furthest_mark_is_read_again_whether_or_not_it_was_synchronised() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mark/high-water-mark");
        for sequence in 1..20 {
            let mut file = HighWaterMark::open(&path, &key(1)).unwrap();
            let before = (sequence > 1).then(|| mark(sequence - 1));
            assert_eq!(file.newest(), before);
            file.advance(mark(sequence), sequence % 3 == 0).unwrap();
        }
    }

    /// A write that a power failure cut short spoils one slot, and the mark before it is left.
    #[test]
    fn a_torn_slot_leaves_the_one_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("high-water-mark");
        for sequence in [1, 2, 3, 4] {
            let mut file = HighWaterMark::open(&path, &key(1)).unwrap();
            file.advance(mark(sequence), true).unwrap();
            // Where the next one will be written.
            let torn = SYNCHRONISED[file.next_slot];
            file.write(torn, "generation 9 audit 9 tag 12").unwrap();
            drop(file);
            let file = HighWaterMark::open(&path, &key(1)).unwrap();
            assert_eq!(file.newest(), Some(mark(sequence)));
        }
    }

    #[test]
    fn a_mark_of_another_master_key_is_none_and_staged_ones_count_under_the_new_key_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("high-water-mark");
        let open = |octet| HighWaterMark::open(&path, &key(octet)).unwrap();
        let mut file = open(1);
        file.settle(mark(4)).unwrap();
        file.stage(&key(2), mark(5)).unwrap();
        drop(file);
        assert_eq!(open(1).newest(), Some(mark(4)));
        let mut file = open(2);
        assert_eq!(file.newest(), Some(mark(5)));
        file.settle(mark(6)).unwrap();
        drop(file);
        assert_eq!(open(1).newest(), None);
        assert_eq!(open(2).newest(), Some(mark(6)));
    }

    #[test]
    fn a_mark_is_held_by_one_state_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("high-water-mark");
        let _held = HighWaterMark::open(&path, &key(1)).unwrap();
        assert!(matches!(
            HighWaterMark::open(&path, &key(1)),
            Err(OpenError::Folder(_))
        ));
    }
}
