//! The file that holds the master key: 32 octets, mode 0600, no symbolic link.
//!
//! Whoever reads it can open every sealed key of the state; who loses it has lost them all. It
//! belongs on other media than the state's backup.

use std::io::{Read as _, Write as _};
use std::path::Path;

use hgs_crypto::{Random, SecretBytes};
use hgs_custody::seal::{MASTER_KEY_LENGTH, MasterKey};

use crate::{PlaceError, place};

/// Draws a master key and writes it to `path`, which must not exist. It is on the disk when this
/// returns.
///
/// # Errors
/// When the file exists, can't be written, or randomness fails.
pub fn create(path: &Path, random: &mut dyn Random) -> Result<MasterKey, PlaceError> {
    let system = |cause: std::io::Error| PlaceError::system(path, cause);
    let key = MasterKey::generate(random).map_err(|error| system(std::io::Error::other(error)))?;
    let mut file = place::create_private(path)?;
    file.write_all(key.octets().expose()).map_err(system)?;
    file.sync_all().map_err(system)?;
    place::sync_parent(path)?;
    Ok(key)
}

/// Reads the master key in `path`.
///
/// # Errors
/// When the file is missing, is a link, may be read by others, belongs to somebody else, or does
/// not have 32 octets.
pub fn read(path: &Path) -> Result<MasterKey, PlaceError> {
    let system = |cause: std::io::Error| PlaceError::system(path, cause);
    let file = place::open_private(path, false)?;
    // One octet more than a key has, to see that there is no more. The room is there from the
    // start, so that growing leaves no copy behind.
    let limit = MASTER_KEY_LENGTH + 1;
    let mut octets = Vec::with_capacity(2 * limit);
    file.take(limit as u64)
        .read_to_end(&mut octets)
        .map_err(system)?;
    MasterKey::from_octets(SecretBytes::new(octets)).map_err(|cause| PlaceError::MasterKey {
        path: path.to_owned(),
        cause,
    })
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
        let link = folder.path().join("link");
        symlink(&path, &link).unwrap();
        let error = read(&link).unwrap_err();
        assert!(matches!(error, PlaceError::Symlink { .. }), "{error}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("has mode 644; run `chmod 600 "), "{error}");
    }

    #[test]
    fn other_lengths_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        for length in [0, 31, 33, 4096] {
            fs::write(&path, vec![7; length]).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            let error = read(&path).unwrap_err();
            assert!(matches!(error, PlaceError::MasterKey { .. }), "{error}");
        }
    }
}
