//! A second VM from the folder of one: with an identity, a protector and a name of its own.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use hgs_files::Readers;

use super::measured::MeasuredBoot;
use super::plain::{encrypted_partition, raw_disk};
use super::vtpm::in_measured_state;
use super::work_folder::WorkFolder;
use super::{ImageError, RecoveryKey, Tools};
use crate::description::{self, Description, VmId, VmName};
use crate::generation::{self, StateFolder};
use crate::protection;
use crate::rekey;
use crate::swtpm::StateKey;

/// The original's state of the vTPM, while it is read.
const ORIGINAL: &str = "original.part";
/// The encrypted part of the disk, while it is encrypted anew.
const ENCRYPTED: &str = "root.part";

/// What a clone is made from.
#[expect(missing_debug_implementations, reason = "work with keys shows nothing")]
pub struct Clone<'a> {
    /// The folder of the original, which is only read.
    pub original: &'a Path,
    /// The key of its vTPM's state.
    pub original_key: &'a StateKey,
    /// The clone's folder, which must not exist.
    pub target: &'a Path,
    /// What it is called.
    pub name: VmName,
    /// What it is.
    pub id: VmId,
    /// The key of its vTPM's state, of the protector's transport key.
    pub state_key: &'a StateKey,
    /// The protector.
    pub protector: &'a [u8],
    /// What its owner decided about its protection, sealed under the same transport key.
    pub protection: &'a [u8],
    /// Makes the clone's vTPM another one. It is given the folder and key of a copy of the original's, or, for a strict clone,
    /// those of an empty folder.
    pub make_vtpm: &'a mut dyn FnMut(&Path, &StateKey) -> Result<(), ImageError>,
    /// Without, the clone's disk opens with what opens the original's.
    pub strict: Option<StrictClone<'a>>,
}

/// A clone that shares no key with its original.
#[derive(Debug, Clone, Copy)]
pub struct StrictClone<'a> {
    /// What opens the original's disk.
    pub recovery_key: &'a RecoveryKey,
}

/// What is done, for people who wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloneStep {
    /// The vTPM is copied and gets another identity, or a new one is made.
    Vtpm,
    /// The disk and the other files are copied: octets done and of all, of each file.
    Copying(u64, u64),
    /// The disk is encrypted anew: octets done and of all.
    Encrypting(u64, u64),
    /// The key of the disk is sealed to the new vTPM.
    Enrolling,
}

/// Makes the folder of a clone. It appears whole under its name, or not at all; the original stays as it is. For a strict clone,
/// the new recovery key is returned, which is nowhere else.
///
/// # Errors
/// When something has that name, when the original is in use or a part of it is missing, when the recovery key does not open
/// its disk, or when a program fails.
pub fn clone(
    clone: Clone<'_>,
    tools: &Tools,
    progress: &mut dyn FnMut(CloneStep),
) -> Result<Option<RecoveryKey>, ImageError> {
    let work = WorkFolder::create(clone.target)?;
    let recovery_key = fill(clone, work.path(), tools, progress)?;
    work.finish()?;
    Ok(recovery_key)
}

fn fill(
    clone: Clone<'_>,
    folder: &Path,
    tools: &Tools,
    progress: &mut dyn FnMut(CloneStep),
) -> Result<Option<RecoveryKey>, ImageError> {
    let described = Description::load(clone.original);
    let described = described.map_err(|error| ImageError::Description(error.to_string()))?;
    let description = Description {
        name: clone.name,
        id: clone.id,
        // Two cards with one address keep each other from the network.
        mac_address: None,
        ..described
    };
    progress(CloneStep::Vtpm);
    let mut state = StateFolder::create(folder)?;
    let staged = state.stage()?;
    // Also for a strict clone, which takes nothing of it: an original that is in use is found so before its disk is copied.
    let original = folder.join(ORIGINAL);
    hgs_files::private_folder(&original)?;
    generation::copy(clone.original, &original)?;
    if clone.strict.is_none() {
        let copied = StateFolder::open(&original)?;
        let current = copied.current().ok_or(rekey::RekeyError::NoState)?;
        rekey::copy_state(
            &tools.swtpm,
            current.path(),
            clone.original_key,
            staged.path(),
            clone.state_key,
            &mut |_| (),
        )?;
    }
    fs::remove_dir_all(&original).map_err(ImageError::at(&original))?;
    (clone.make_vtpm)(staged.path(), clone.state_key)?;

    for file in description.files() {
        let (source, target) = (file.within(clone.original)?, folder.join(file.as_str()));
        hgs_files::copy(&source, &target, &mut |done, all| {
            progress(CloneStep::Copying(done, all));
        })?;
    }
    let recovery_key = match clone.strict {
        None => None,
        Some(StrictClone { recovery_key }) => {
            let boot = MeasuredBoot::of_vm(folder, &description)?;
            let mut enrol = |file: &Path, key: &RecoveryKey| {
                in_measured_state(tools, staged.path(), clone.state_key, &boot, |socket| {
                    tools.enrol(file, key, socket)
                })
            };
            Some(encrypt_anew(
                folder,
                &description,
                recovery_key,
                tools,
                &mut enrol,
                progress,
            )?)
        }
    };

    let sealed = staged.path().join(protection::SEALED_FILE);
    hgs_files::create(&sealed, clone.protection, Readers::Owner)?;
    state.settle(staged, clone.protector)?;
    let text = description.to_toml();
    hgs_files::create(
        &folder.join(description::FILE),
        text.as_bytes(),
        Readers::Owner,
    )?;
    Ok(recovery_key)
}

/// Gives the disk in `folder` another volume key and another recovery key, and has `enrol` seal a key of it to the new vTPM.
fn encrypt_anew(
    folder: &Path,
    description: &Description,
    recovery_key: &RecoveryKey,
    tools: &Tools,
    enrol: &mut dyn FnMut(&Path, &RecoveryKey) -> Result<(), ImageError>,
    progress: &mut dyn FnMut(CloneStep),
) -> Result<RecoveryKey, ImageError> {
    let path = raw_disk(folder, description)?;
    let disk = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .map_err(ImageError::at(&path))?;
    let partition = encrypted_partition(&disk, &path)?;
    let encrypted = folder.join(ENCRYPTED);
    let part = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&encrypted)
        .map_err(ImageError::at(&encrypted))?;
    copy_range((&disk, partition.start), (&part, 0), partition.length)
        .map_err(ImageError::at(&encrypted))?;
    let new_key = tools.encrypt_anew(&encrypted, recovery_key, &mut |done, all| {
        progress(CloneStep::Encrypting(done, all));
    })?;
    progress(CloneStep::Enrolling);
    enrol(&encrypted, &new_key)?;
    copy_range((&part, 0), (&disk, partition.start), partition.length)
        .and_then(|()| disk.sync_all())
        .map_err(ImageError::at(&path))?;
    fs::remove_file(&encrypted).map_err(ImageError::at(&encrypted))?;
    Ok(new_key)
}

fn copy_range(from: (&File, u64), to: (&File, u64), length: u64) -> io::Result<()> {
    let ((mut source, from), (mut target, to)) = (from, to);
    source.seek(SeekFrom::Start(from))?;
    target.seek(SeekFrom::Start(to))?;
    let copied = io::copy(&mut source.take(length), &mut target)?;
    match copied == length {
        true => Ok(()),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
