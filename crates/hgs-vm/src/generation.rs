//! The state of a VM in generations.
//!
//! ```text
//!  VM/                   0700
//!  ├── lock              held by the one process that works with the VM
//!  ├── current           the pointer: `gen-3` and a line feed
//!  └── gen-3/            0700
//!      ├── tpm2-00.permall   the TPM's state, under the key that the protector's release gives
//!      ├── protector.xml
//!      └── protection.sealed what the VM's owner decided, under the same release
//! ```
//!
//! The key of the state changes with every release, so state and protector only ever change together: in a new folder, to
//! which the pointer is switched by a rename. At every instant the pointer names one pair, and that pair opens. Other
//! folders are what a crash left: an old pair that was not removed yet, or a new one that was not finished. They are
//! removed when the current one has been opened, and not before.
//!
//! The pointer is a file and not a symbolic link, because a file can be synchronised by its name alone, survives
//! programs that copy folders by following links, and is replaced by the same code as every other file of a host.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use hgs_files::{FileError, FileProblem, Lock, Readers};

use crate::protection::SEALED_FILE;
use crate::swtpm::PERMANENT_STATE;
use crate::swtpm::control::MAX_STATE;

/// The protector of a generation.
pub const PROTECTOR: &str = "protector.xml";
/// The key of the swtpm that another host's state came to, sealed under the same transport key as the protection. Only a VM that
/// has come while it ran has it, until it is started anew.
pub const MIGRATION_KEY: &str = "migration-key.sealed";
/// The pointer to the current generation.
pub const POINTER: &str = "current";

const LOCK: &str = "lock";
const PREFIX: &str = "gen-";
/// Octets of the longest pointer: `gen-`, a number, a line feed.
const MAX_POINTER: usize = 32;
/// Octets of the longest protector that is read.
pub const MAX_PROTECTOR: usize = 1024 * 1024;
/// Octets of the longest sealed protection that is read.
pub const MAX_PROTECTION: usize = crate::protection::LIMIT + 1024;

/// What is wrong with the folder of a VM.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// Another process works with the VM.
    #[error("another process works with the VM in {}: it holds {LOCK}", .0.display())]
    InUse(PathBuf),
    /// There is no such folder, or nothing of a VM in it.
    #[error("{} is not the folder of a VM: it has neither {POINTER} nor a folder {PREFIX}NUMBER", .0.display())]
    NotAVm(PathBuf),
    /// A VM is there already.
    #[error("{} has a VM's state already", .0.display())]
    Exists(PathBuf),
    /// The making of the VM was not finished: there is a generation, and the pointer was never written.
    #[error(
        "{} has {generation} and no {POINTER}: the making of the VM was not finished, or the file was removed; if this \
         VM has run, write `{generation}` into {POINTER}",
        folder.display()
    )]
    NoPointer {
        /// The folder of the VM.
        folder: PathBuf,
        /// The only generation.
        generation: GenerationName,
    },
    /// Several generations and no pointer: which one is current can't be told from them.
    #[error(
        "{} has {} and no {POINTER}, so which one is current can't be told; the newest protector that a guardian accepts is: \
         write its folder's name into {POINTER}",
        folder.display(), listed(generations)
    )]
    Ambiguous {
        /// The folder of the VM.
        folder: PathBuf,
        /// All generations.
        generations: Vec<GenerationName>,
    },
    /// The pointer names no generation.
    #[error("{} names no generation: it holds {PREFIX}NUMBER and a line feed, and nothing else", .0.display())]
    MalformedPointer(PathBuf),
    /// The pointer names a generation that is not there.
    #[error("{POINTER} names {generation}, which is not in {}{}", folder.display(), instead(found))]
    PointerToNothing {
        /// The folder of the VM.
        folder: PathBuf,
        /// What the pointer names.
        generation: GenerationName,
        /// Which generations are there.
        found: Vec<GenerationName>,
    },
    /// No generation is older than the current one.
    #[error("{} has no generation before the current one", .0.display())]
    NoPrevious(PathBuf),
    /// A generation without one of its parts.
    #[error("the current generation {} has no {part}", generation.display())]
    Incomplete {
        /// Its folder.
        generation: PathBuf,
        /// The file.
        part: &'static str,
    },
    /// A file or folder is not as it should be, such as open to other users.
    #[error(transparent)]
    File(#[from] FileError),
}

/// The name of a generation's folder: `gen-` and its number, without leading zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GenerationName(u64);

impl GenerationName {
    fn parse(name: &str) -> Option<Self> {
        let digits = name.strip_prefix(PREFIX)?;
        let number = digits.parse().ok()?;
        // One spelling for each number.
        (digits == format!("{number}")).then_some(Self(number))
    }
}

impl std::fmt::Display for GenerationName {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{PREFIX}{}", self.0)
    }
}

fn listed(generations: &[GenerationName]) -> String {
    let names: Vec<_> = generations.iter().map(ToString::to_string).collect();
    names.join(", ")
}

fn instead(found: &[GenerationName]) -> String {
    match found {
        [] => String::new(),
        found => format!(
            ", where {} is; restore the folder that it names from a backup, or write another name into it",
            listed(found)
        ),
    }
}

/// A TPM's state and the protector that releases its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    name: GenerationName,
    path: PathBuf,
}

impl Generation {
    /// The VM's protection, as it is sealed beside the protector.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn protection(&self) -> Result<Vec<u8>, FileError> {
        hgs_files::read(&self.path.join(SEALED_FILE), MAX_PROTECTION)
    }

    /// The sealed migration key of the swtpm that works with it, where that is not derived from the transport key.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn migration_key(&self) -> Result<Option<Vec<u8>>, FileError> {
        hgs_files::optional(hgs_files::read(
            &self.path.join(MIGRATION_KEY),
            MAX_PROTECTION,
        ))
    }

    /// Forgets the migration key of an swtpm that has ended: the next one has the key that is derived from the transport key.
    ///
    /// # Errors
    /// When it can't be removed.
    pub fn forget_migration_key(&self) -> Result<(), FileError> {
        hgs_files::optional(hgs_files::remove(&self.path.join(MIGRATION_KEY))).map(drop)
    }

    /// Its number, which rises with every change of the key.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.name.0
    }

    /// Its folder, which swtpm is given.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The protector.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn protector(&self) -> Result<Vec<u8>, FileError> {
        hgs_files::read(&self.path.join(PROTECTOR), MAX_PROTECTOR)
    }
}

/// The folder of a VM, which this process alone works with until this is dropped.
#[derive(Debug)]
pub struct StateFolder {
    folder: PathBuf,
    current: Option<GenerationName>,
    _lock: Lock,
}

/// A generation in the making. Dropped, it is removed.
#[derive(Debug)]
#[must_use = "it is removed when it is dropped"]
pub struct StagedGeneration {
    generation: Generation,
    kept: bool,
}

impl StagedGeneration {
    /// Its folder, for the TPM's state.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.generation.path()
    }
}

impl Drop for StagedGeneration {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = fs::remove_dir_all(self.path())
        {
            // It is no generation that a pointer names; the next removal of old ones takes it.
            tracing::warn!(folder = %self.path().display(), %error, "an unfinished generation stays");
        }
    }
}

impl StateFolder {
    /// Makes the folder of a new VM, or takes one that is there without a VM's state.
    ///
    /// # Errors
    /// When it is open to other users, in use, or has a state.
    pub fn create(folder: &Path) -> Result<Self, StateError> {
        hgs_files::private_folder(folder)?;
        let lock = lock(folder)?;
        if hgs_files::exists(&folder.join(POINTER))? || !generations(folder)?.is_empty() {
            return Err(StateError::Exists(folder.to_owned()));
        }
        Ok(Self {
            folder: folder.to_owned(),
            current: None,
            _lock: lock,
        })
    }

    /// Opens the folder of a VM. Nothing in it is changed.
    ///
    /// # Errors
    /// When it is no VM's folder, is open to other users or in use, or when the pointer does not lead to a pair of state
    /// and protector.
    pub fn open(folder: &Path) -> Result<Self, StateError> {
        let not_a_vm = || StateError::NotAVm(folder.to_owned());
        if !hgs_files::exists(folder)? {
            return Err(not_a_vm());
        }
        hgs_files::private_folder(folder)?;
        let has_pointer = hgs_files::exists(&folder.join(POINTER))?;
        if !has_pointer && generations(folder)?.is_empty() {
            return Err(not_a_vm());
        }
        let lock = lock(folder)?;
        let current = pointed(folder)?;
        check_pair(&folder.join(current.to_string()))?;
        Ok(Self {
            folder: folder.to_owned(),
            current: Some(current),
            _lock: lock,
        })
    }

    /// Opens the folder of a VM with the generation before the current one in its place. The pointer is changed when the next one
    /// is [switched](Self::switch) to.
    ///
    /// # Errors
    /// As of [`Self::open`], and when there is none before the current one.
    pub fn open_previous(folder: &Path) -> Result<Self, StateError> {
        let state = Self::open(folder)?;
        let previous = state.previous()?;
        let previous = previous.ok_or_else(|| StateError::NoPrevious(folder.to_owned()))?;
        hgs_files::private_folder(&previous.path)?;
        check_pair(&previous.path)?;
        Ok(Self {
            current: Some(previous.name),
            ..state
        })
    }

    /// The generation before the current one, if it is kept. A guardian has opened its protector, because the current one came of
    /// that.
    ///
    /// # Errors
    /// When the folder can't be read.
    pub fn previous(&self) -> Result<Option<Generation>, StateError> {
        let there = generations(&self.folder)?;
        let before = there.into_iter().filter(|name| Some(*name) < self.current);
        Ok(before.max().map(|name| self.generation(name)))
    }

    /// Whether a folder has a pointer, so that it opens.
    #[must_use]
    pub fn is_whole(folder: &Path) -> bool {
        hgs_files::exists(&folder.join(POINTER)).unwrap_or(false)
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// The current generation; a new VM has none.
    #[must_use]
    pub fn current(&self) -> Option<Generation> {
        self.current.map(|name| self.generation(name))
    }

    fn generation(&self, name: GenerationName) -> Generation {
        Generation {
            name,
            path: self.folder.join(name.to_string()),
        }
    }

    /// Begins a generation, with a number above all that are there, so that nothing of an unfinished one is taken for it.
    ///
    /// # Errors
    /// When its folder can't be made.
    pub fn stage(&self) -> Result<StagedGeneration, StateError> {
        let there = generations(&self.folder)?;
        let last = there.iter().chain(&self.current).max();
        let generation = self.generation(GenerationName(last.map_or(1, |last| last.0 + 1)));
        DirBuilder::new()
            .mode(0o700)
            .create(&generation.path)
            .map_err(|error| FileError::at(&generation.path, error))?;
        Ok(StagedGeneration {
            generation,
            kept: false,
        })
    }

    /// Writes the protector beside the state of `staged` and makes both last. The pointer does not name them yet.
    ///
    /// # Errors
    /// When there is no state, or the disk refuses.
    pub fn complete(
        &self,
        staged: StagedGeneration,
        protector: &[u8],
    ) -> Result<CompleteGeneration, StateError> {
        let path = staged.path().to_owned();
        hgs_files::create(&path.join(PROTECTOR), protector, Readers::Owner)?;
        check_pair(&path)?;
        synchronise(&path.join(PERMANENT_STATE))?;
        synchronise(&path)?;
        // The entry of the new folder itself: it must last before the pointer to it does.
        synchronise(&self.folder)?;
        Ok(CompleteGeneration(staged))
    }

    /// Makes a complete generation the current one. After an error, either may be: both open, and the next start finds
    /// out.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn switch(&mut self, complete: CompleteGeneration) -> Result<Generation, StateError> {
        let CompleteGeneration(mut staged) = complete;
        // From here on it may be what the pointer names.
        staged.kept = true;
        let name = staged.generation.name;
        let pointer = self.folder.join(POINTER);
        hgs_files::replace(&pointer, format!("{name}\n").as_bytes(), Readers::Owner)?;
        self.current = Some(name);
        Ok(staged.generation.clone())
    }

    /// Makes what is staged the current generation: [`Self::complete`] and [`Self::switch`].
    ///
    /// # Errors
    /// As of both.
    pub fn settle(
        &mut self,
        staged: StagedGeneration,
        protector: &[u8],
    ) -> Result<Generation, StateError> {
        let complete = self.complete(staged, protector)?;
        self.switch(complete)
    }

    /// Removes every generation but the current one, and what crashes left. Callers have opened the current one before.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn remove_others(&mut self) -> Result<(), StateError> {
        self.remove_others_but(None)
    }

    /// As [`Self::remove_others`], but keeps the generation that the current one came of.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn remove_others_but(&mut self, kept: Option<&Generation>) -> Result<(), StateError> {
        let Some(current) = self.current else {
            return Ok(());
        };
        for name in generations(&self.folder)? {
            if name != current && kept.is_none_or(|kept| name != kept.name) {
                hgs_files::remove_folder(&self.folder.join(name.to_string()))?;
            }
        }
        for leftover in leftovers(&self.folder)? {
            let removed = match fs::symlink_metadata(&leftover) {
                Ok(meta) if meta.is_dir() => fs::remove_dir_all(&leftover),
                _ => fs::remove_file(&leftover),
            };
            removed.map_err(|error| FileError::at(&leftover, error))?;
        }
        Ok(())
    }
}

/// Copies the current generation of a VM's folder into a private folder that has none, where it becomes current under the same
/// number. Nothing in `from` is changed, which may belong to somebody else or be on a medium that can't be written.
///
/// # Errors
/// When `from` is no VM's folder or is in use, or when a part is missing or a link.
pub fn copy(from: &Path, to: &Path) -> Result<(), StateError> {
    let held = from.join(LOCK);
    let _lock = match hgs_files::optional(Lock::take(&held)) {
        Err(error) if matches!(error.problem, FileProblem::InUse) => {
            return Err(StateError::InUse(from.to_owned()));
        }
        outcome => outcome?,
    };
    let current = named(from)?;
    let source = from.join(current.to_string());
    hgs_files::refuse_link(&source)?;
    let target = to.join(current.to_string());
    let read = |part, limit| hgs_files::read(&source.join(part), limit);
    let state = read(PERMANENT_STATE, MAX_STATE)?;
    let protector = read(PROTECTOR, MAX_PROTECTOR)?;
    let protection = read(SEALED_FILE, MAX_PROTECTION)?;
    let files = [
        (PERMANENT_STATE, &*state),
        (PROTECTOR, &*protector),
        (SEALED_FILE, &*protection),
    ];
    hgs_files::create_folder(&target, &files)?;
    let pointer = to.join(POINTER);
    Ok(hgs_files::create(
        &pointer,
        format!("{current}\n").as_bytes(),
        Readers::Owner,
    )?)
}

/// A generation of which everything is on the disk, and that the pointer does not name. Dropped, it is removed.
#[derive(Debug)]
#[must_use = "it is removed when it is dropped"]
pub struct CompleteGeneration(StagedGeneration);

fn lock(folder: &Path) -> Result<Lock, StateError> {
    Lock::take_or_create(&folder.join(LOCK)).map_err(|error| match error.problem {
        FileProblem::InUse => StateError::InUse(folder.to_owned()),
        _ => error.into(),
    })
}

/// The generation that the pointer names, which is a folder of this user's.
fn pointed(folder: &Path) -> Result<GenerationName, StateError> {
    let generation = named(folder)?;
    hgs_files::private_folder(&folder.join(generation.to_string()))?;
    Ok(generation)
}

/// The generation that the pointer names.
fn named(folder: &Path) -> Result<GenerationName, StateError> {
    let path = folder.join(POINTER);
    let Some(pointer) = hgs_files::optional(hgs_files::read(&path, MAX_POINTER))? else {
        let folder = folder.to_owned();
        let generations = generations(&folder)?;
        return Err(match generations[..] {
            [generation] => StateError::NoPointer { folder, generation },
            _ => StateError::Ambiguous {
                folder,
                generations,
            },
        });
    };
    let name = std::str::from_utf8(&pointer).ok();
    let name = name.and_then(|name| GenerationName::parse(name.strip_suffix('\n')?));
    let generation = name.ok_or(StateError::MalformedPointer(path))?;
    let place = folder.join(generation.to_string());
    if !hgs_files::exists(&place)? {
        return Err(StateError::PointerToNothing {
            folder: folder.to_owned(),
            generation,
            found: generations(folder)?,
        });
    }
    Ok(generation)
}

fn check_pair(generation: &Path) -> Result<(), StateError> {
    for part in [PERMANENT_STATE, PROTECTOR] {
        let path = generation.join(part);
        hgs_files::refuse_link(&path)?;
        if !hgs_files::exists(&path)? {
            return Err(StateError::Incomplete {
                generation: generation.to_owned(),
                part,
            });
        }
    }
    Ok(())
}

/// All generations in rising order, finished or not.
fn generations(folder: &Path) -> Result<Vec<GenerationName>, FileError> {
    let names = names(folder)?;
    let mut found: Vec<_> = names
        .iter()
        .filter_map(|name| GenerationName::parse(name))
        .collect();
    found.sort_unstable();
    Ok(found)
}

/// What a crash left of a removal or of a new pointer: a name that is put together from one of ours.
fn leftovers(folder: &Path) -> Result<Vec<PathBuf>, FileError> {
    let staged = |name: &String| {
        let target = name.strip_prefix('.')?.strip_suffix(".new")?;
        let ours = target == POINTER || GenerationName::parse(target).is_some();
        ours.then(|| folder.join(name))
    };
    Ok(names(folder)?.iter().filter_map(staged).collect())
}

fn names(folder: &Path) -> Result<Vec<String>, FileError> {
    let at = |error: io::Error| FileError::at(folder, error);
    let entries = fs::read_dir(folder).map_err(at)?;
    let names = entries.map(|entry| entry.map(|entry| entry.file_name().into_string().ok()));
    let names: io::Result<Vec<Option<String>>> = names.collect();
    Ok(names.map_err(at)?.into_iter().flatten().collect())
}

/// Makes a file or folder that another process wrote last. swtpm synchronises nothing.
fn synchronise(path: &Path) -> Result<(), FileError> {
    let synchronised = fs::File::open(path).and_then(|file| file.sync_all());
    synchronised.map_err(|error| FileError::at(path, error))
}
