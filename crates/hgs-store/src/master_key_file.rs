//! The file that holds the master key: 32 octets, mode 0600, no symbolic link.
//!
//! An attacker who reads it can open every sealed key of the state; if it is lost, all of them are. It
//! belongs on other media than the state's backup.

use std::path::Path;

use hgs_crypto::{Random, SecretBytes};
use hgs_custody::seal::{MASTER_KEY_LENGTH, MasterKey, MasterKeyProblem};
use hgs_files::{FileProblem, Readers, Staged};

use crate::state_folder::StateFolder;
use crate::{MasterKeyError, OpenError, engine};

/// Draws a master key and writes it to `path`, which must not exist. It is on the disk when this
/// returns.
///
/// # Errors
/// When the file exists, can't be written, or randomness fails.
pub fn create(path: &Path, random: &mut dyn Random) -> Result<MasterKey, MasterKeyError> {
    let key = MasterKey::generate(random)?;
    hgs_files::create(path, key.octets().expose(), Readers::Owner)?;
    Ok(key)
}

/// Writes the master key of another node to `path`, for this one. Writing it again changes nothing; another key that is
/// there stays.
///
/// # Errors
/// When there is another key, or the file can't be written.
pub fn put(path: &Path, key: &MasterKey) -> Result<(), MasterKeyError> {
    match hgs_files::create(path, key.octets().expose(), Readers::Owner) {
        Err(error) if matches!(error.problem, FileProblem::AlreadyExists) => {
            match read(path)?.identifier() == key.identifier() {
                true => Ok(()),
                false => Err(error.into()),
            }
        }
        outcome => Ok(outcome?),
    }
}

/// Reads the master key in `path`.
///
/// # Errors
/// When the file is missing, is a link, may be read by others, belongs to another user, or does
/// not have 32 random octets.
pub fn read(path: &Path) -> Result<MasterKey, MasterKeyError> {
    read_with(path, MasterKey::from_octets)
}

fn read_with(
    path: &Path,
    key_of: impl FnOnce(SecretBytes) -> Result<MasterKey, MasterKeyProblem>,
) -> Result<MasterKey, MasterKeyError> {
    let octets = hgs_files::read_named_secret(path, MASTER_KEY_LENGTH)?;
    key_of(octets).map_err(|problem| MasterKeyError::Length {
        path: path.to_owned(),
        problem,
    })
}

/// Reads the master key of the state in `directory` from `path`, after settling what a rotation left there if it was
/// interrupted: of the two keys that are at hand then, the state is under one, and the other is removed.
///
/// # Errors
/// As for [`read`]; where something is to be settled, also when the state can't be looked at, for instance because a
/// process holds it.
pub fn read_settled(path: &Path, directory: &Path) -> Result<MasterKey, OpenError> {
    settle_leftover(path, directory)?;
    Ok(read(path)?)
}

/// As [`read_settled`], for a rotation: also reads a key that is refused elsewhere because it is not random.
///
/// # Errors
/// As for [`read_settled`], save for keys that are not random.
pub fn read_settled_to_be_replaced(path: &Path, directory: &Path) -> Result<MasterKey, OpenError> {
    settle_leftover(path, directory)?;
    Ok(read_with(path, MasterKey::to_be_replaced)?)
}

fn settle_leftover(path: &Path, directory: &Path) -> Result<(), OpenError> {
    let Some(staged) = Staged::left_for(path)? else {
        return Ok(());
    };
    // A rotation holds the state until it is settled.
    let folder = StateFolder::take_existing(directory)?;
    settle(staged, path, &folder)
}

/// A new master key that waits beside the old one. Dropping it leaves it there, as a crash would.
#[derive(Debug)]
pub struct NewMasterKey {
    key: MasterKey,
    staged: Staged,
}

impl NewMasterKey {
    /// Draws a key and writes it beside `path`; it is on the disk when this returns.
    ///
    /// # Errors
    /// When it can't be written, or randomness fails.
    pub fn stage(path: &Path, random: &mut dyn Random) -> Result<Self, MasterKeyError> {
        let key = MasterKey::generate(random)?;
        let staged = Staged::write(path, key.octets().expose(), Readers::AsBefore)?;
        staged.synchronise_folder()?;
        Ok(Self { key, staged })
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &MasterKey {
        &self.key
    }

    /// Gives up, when the state is certainly not under it.
    ///
    /// # Errors
    /// When the file can't be removed; it stays beside the old one, and is found there.
    pub fn discard(self) -> Result<(), MasterKeyError> {
        Ok(self.staged.discard()?)
    }

    /// Takes the place of the old one, when the state is under it.
    ///
    /// # Errors
    /// When the file can't be replaced; it stays beside the old one, and is found there.
    pub fn take_place(self) -> Result<(), MasterKeyError> {
        Ok(self.staged.replace()?)
    }
}

fn settle(staged: Staged, path: &Path, folder: &StateFolder) -> Result<(), OpenError> {
    let identifier = engine::stored_master_key(folder)?;
    let is_of_the_state = |path: &Path| {
        let key = read_with(path, MasterKey::to_be_replaced);
        key.is_ok_and(|key| key.identifier()[..] == identifier)
    };
    if is_of_the_state(staged.staged()) {
        staged.replace()?;
    } else if is_of_the_state(path) {
        staged.discard()?;
    }
    // Neither: then it is another state, or another key, and nothing is thrown away.
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use hgs_crypto::random::System;

    use super::*;

    #[test]
    fn what_is_created_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        let key = create(&path, &mut System::new()).unwrap();
        assert_eq!(read(&path).unwrap().octets(), key.octets());
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        // A second key would make everything sealed under the first unreadable.
        assert!(create(&path, &mut System::new()).is_err());
        assert_eq!(read(&path).unwrap().octets(), key.octets());
    }

    #[test]
    fn unsafe_files_are_refused_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        create(&path, &mut System::new()).unwrap();
        // A link is followed only where no other user can have made it (the layout of Kubernetes' secrets).
        let open = folder.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        let link = open.join("link");
        symlink(&path, &link).unwrap();
        let error = read(&link).unwrap_err();
        assert!(error.to_string().contains("symbolic link"), "{error}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let MasterKeyError::File(error) = read(&path).unwrap_err() else {
            panic!("the file is at fault");
        };
        assert!(error.to_string().contains("has mode 0644"), "{error}");
        assert!(error.remedy().unwrap().starts_with("run `chmod go= "));
    }

    #[test]
    fn other_lengths_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        for length in [0, 31, 33, 4096] {
            fs::write(&path, vec![7; length]).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            let error = read(&path).unwrap_err();
            let shown = error.to_string();
            assert!(shown.starts_with(&path.display().to_string()), "{shown}");
        }
    }
}
