//! A new key for the state of a VM's TPM.
//!
//! swtpm can't change the key of a state in its place. So the state moves, with the VM off: a process under the old key
//! gives it to another under the new key, over their control channels and under a key that is drawn for this one move. The
//! state is in clear in neither this process nor on the disk. The new generation becomes current only after a third
//! process has opened it.

use std::path::Path;

use hgs_crypto::random::System;
use hgs_crypto::{CryptoError, SecretBytes};
use hgs_files::Readers;

use crate::generation::{Generation, StateError, StateFolder};
use crate::program::Program;
use crate::protection::SEALED_FILE;
use crate::swtpm::{Channels, Contents, Settings, StateKey, Swtpm, SwtpmError};

/// How far a re-key is; each step is done when it is told. Processes are given by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// The folder of the new generation is there.
    Staged,
    /// The source runs, and has both keys.
    SourceStarted(u32),
    /// It has opened the state under the old key.
    SourceOpened(u32),
    /// The state is in this process, under the key of the move.
    StateRead(u32),
    /// The source has ended.
    SourceEnded,
    /// The destination runs, and has both keys.
    DestinationStarted(u32),
    /// It has accepted the state.
    StateSet(u32),
    /// It has written the state under the new key.
    StateWritten(u32),
    /// The destination has ended.
    DestinationEnded,
    /// A third process runs with the new key.
    CheckStarted(u32),
    /// It has opened what was written, and has ended.
    ReadBack,
    /// State and protector are on the disk.
    Synchronised,
    /// The new generation is current.
    Switched,
    /// Those before the old one are removed.
    OldRemoved,
}

/// Why a state has no new key. The old generation is current and opens as before, if not said otherwise.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RekeyError {
    /// There is no state yet.
    #[error("the VM has no TPM state yet")]
    NoState,
    /// The source: the old key is wrong, or the state in use.
    #[error("the TPM state can't be read under its present key: {0}")]
    Source(SwtpmError),
    /// The destination.
    #[error("the TPM state can't be written under its new key: {0}")]
    Destination(SwtpmError),
    /// What was written does not open.
    #[error("the TPM state was written under its new key, and does not open with it: {0}")]
    ReadBack(SwtpmError),
    /// The folder of the VM.
    #[error(transparent)]
    State(#[from] StateError),
    /// The new generation is current; only the old one could not be removed.
    #[error("the TPM state has its new key, but the old generation is still there: {0}")]
    OldStays(StateError),
    /// No randomness for the key of the move.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
}

/// What a state is moved to.
#[derive(Debug, Clone, Copy)]
pub struct Successor<'a> {
    /// The key of the state from now on.
    pub key: &'a StateKey,
    /// The protector that releases it.
    pub protector: &'a [u8],
    /// The VM's protection, sealed under the same transport key.
    pub protection: &'a [u8],
}

/// Moves the state of the current generation from `old` to the key of `new` in a new generation, together with what
/// belongs to that key, by processes of `swtpm`. `told` hears of each step. The generation that was current is kept until the next
/// re-key: nobody has opened the new protector yet.
///
/// # Errors
/// When a process fails or the disk refuses: then the old generation stays the current one, except as
/// [`RekeyError::OldStays`] says, or when the switch itself failed, after which either is current and both open.
pub fn rekey(
    swtpm: &Program,
    state: &mut StateFolder,
    old: &StateKey,
    new: &Successor<'_>,
    told: &mut dyn FnMut(Step),
) -> Result<Generation, RekeyError> {
    let current = state.current().ok_or(RekeyError::NoState)?;
    let staged = state.stage()?;
    told(Step::Staged);
    copy_state(swtpm, current.path(), old, staged.path(), new.key, told)?;
    let protection = staged.path().join(SEALED_FILE);
    hgs_files::create(&protection, new.protection, Readers::Owner).map_err(StateError::from)?;
    let complete = state.complete(staged, new.protector)?;
    told(Step::Synchronised);
    let generation = state.switch(complete)?;
    told(Step::Switched);
    // Nobody has opened the new protector yet. Should it turn out that nobody can, the state as it is now is not lost.
    state
        .remove_others_but(Some(&current))
        .map_err(RekeyError::OldStays)?;
    told(Step::OldRemoved);
    Ok(generation)
}

/// Writes the state in the folder `from`, which `old` opens, into the empty folder `to` under `new`, and reads it back; so a
/// clone begins. Nothing is synchronised yet.
///
/// # Errors
/// When a process fails; what is in `to` then is not to be used.
pub fn copy_state(
    swtpm: &Program,
    from: &Path,
    old: &StateKey,
    to: &Path,
    new: &StateKey,
    told: &mut dyn FnMut(Step),
) -> Result<(), RekeyError> {
    let migration_key = StateKey::random(&mut System::new())?;
    let source = Settings {
        program: swtpm,
        folder: from,
        contents: Contents::Kept,
        key: old,
        migration_key: Some(&migration_key),
        channels: Channels::Private,
    };
    let permanent = read(&source, told).map_err(RekeyError::Source)?;
    told(Step::SourceEnded);
    let destination = Settings {
        folder: to,
        contents: Contents::Incoming,
        key: new,
        ..source
    };
    write(&destination, &permanent, told).map_err(RekeyError::Destination)?;
    told(Step::DestinationEnded);
    let check = Settings {
        contents: Contents::Kept,
        migration_key: None,
        ..destination
    };
    read_back(&check, told).map_err(RekeyError::ReadBack)?;
    told(Step::ReadBack);
    Ok(())
}

fn read(settings: &Settings<'_>, told: &mut dyn FnMut(Step)) -> Result<SecretBytes, SwtpmError> {
    let mut source = Swtpm::start(settings)?;
    told(Step::SourceStarted(source.id()));
    source.initialise()?;
    told(Step::SourceOpened(source.id()));
    let state = source.permanent_state()?;
    told(Step::StateRead(source.id()));
    source.shut_down()?;
    Ok(state)
}

fn write(
    settings: &Settings<'_>,
    state: &SecretBytes,
    told: &mut dyn FnMut(Step),
) -> Result<(), SwtpmError> {
    let mut destination = Swtpm::start(settings)?;
    told(Step::DestinationStarted(destination.id()));
    destination.set_permanent_state(state)?;
    told(Step::StateSet(destination.id()));
    destination.initialise()?;
    told(Step::StateWritten(destination.id()));
    destination.shut_down()
}

fn read_back(settings: &Settings<'_>, told: &mut dyn FnMut(Step)) -> Result<(), SwtpmError> {
    let mut check = Swtpm::start(settings)?;
    told(Step::CheckStarted(check.id()));
    check.initialise()?;
    check.shut_down()
}
