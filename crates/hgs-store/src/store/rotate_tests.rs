//! Rotation of the master key, and what is left when it is interrupted.

use std::path::{Path, PathBuf};

use hgs_crypto::SecretBytes;
use hgs_crypto::random::System;
use hgs_custody::PrivateKey as _;
use hgs_custody::seal::MasterKey;
use rusqlite::Connection;
use tempfile::{TempDir, tempdir};

use crate::fixture::{Fixture, act, opening, record};
use crate::master_key_file::{self, NewMasterKey};
use crate::model::Digest;
use crate::state_folder::DATABASE;
use crate::{Action, AuditFilter, OpenError, Standing, Store};

struct Site {
    fixture: Fixture,
    folder: TempDir,
}

impl Site {
    fn new() -> Self {
        let site = Self {
            fixture: Fixture::new(),
            folder: tempdir().unwrap(),
        };
        std::fs::create_dir(site.state()).unwrap();
        make_private(&site.state());
        let key = master_key_file::create(&site.key_file(), &mut System::new()).unwrap();
        let settings = crate::Settings::new("hgs".parse().unwrap());
        let store = Store::create(
            opening(&site.state(), &key),
            settings,
            site.fixture.first_transactions(),
            act(0),
        )
        .unwrap();
        record(&store, site.fixture.release(1, 100, 101)).unwrap();
        record(&store, site.fixture.release(2, 101, 102)).unwrap();
        site
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn key_file(&self) -> PathBuf {
        self.state().join("master.key")
    }

    fn staged(&self) -> PathBuf {
        self.state().join(".master.key.new")
    }

    fn key(&self) -> MasterKey {
        master_key_file::read(&self.key_file()).unwrap()
    }

    /// What `hgs serve` does.
    fn open(&self) -> Result<Store, OpenError> {
        let key = master_key_file::read_settled(&self.key_file(), &self.state())?;
        Store::open(opening(&self.state(), &key))
    }

    fn rotate(&self, new: &MasterKey) {
        let old = self.key();
        Store::rotate_master_key(opening(&self.state(), &old), new, &act(9)).unwrap();
    }

    fn is_whole(&self) {
        let store = self.open().unwrap();
        let public = self.fixture.encryption_key.public();
        let key = store
            .private_key(&Digest::from_bytes(*public.digest()))
            .unwrap();
        assert_eq!(key.unwrap().public(), public);
        assert!(!self.staged().exists(), "one key is left");
    }
}

fn make_private(folder: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn everything_is_under_the_new_key_and_nothing_under_the_old_one() {
    let site = Site::new();
    let old = site.key();
    let new = NewMasterKey::stage(&site.key_file(), &mut System::new()).unwrap();
    site.rotate(new.key());
    new.take_place().unwrap();
    let refused = Store::open(opening(&site.state(), &old));
    assert!(matches!(refused, Err(OpenError::WrongMasterKey)));
    site.is_whole();
    let store = site.open().unwrap();
    let newest = store.audit(&AuditFilter::default(), 1).unwrap();
    assert_eq!(newest[0].entry.action, Action::RotateMasterKey);
    let again = record(&store, site.fixture.release(10, 100, 110)).unwrap();
    assert_eq!(again.standing(), Standing::Ancestor);
    drop(store);
    // Once more, from the new one.
    let newer = NewMasterKey::stage(&site.key_file(), &mut System::new()).unwrap();
    site.rotate(newer.key());
    newer.take_place().unwrap();
    site.is_whole();
}

#[test]
fn what_the_old_key_opens_is_not_left_in_the_files() {
    let site = Site::new();
    let sealed: String = Connection::open(site.state().join(DATABASE))
        .unwrap()
        .query_row(
            "SELECT value FROM record WHERE kind = 'private-key'",
            (),
            |row| row.get(0),
        )
        .unwrap();
    let files = || {
        let files = std::fs::read_dir(site.state()).unwrap();
        files
            .flat_map(|file| std::fs::read(file.unwrap().path()).unwrap())
            .collect::<Vec<u8>>()
    };
    let holds = |octets: &[u8]| {
        octets
            .windows(64)
            .any(|part| part == &sealed.as_bytes()[200..264])
    };
    assert!(holds(&files()));
    let new = NewMasterKey::stage(&site.key_file(), &mut System::new()).unwrap();
    site.rotate(new.key());
    new.take_place().unwrap();
    assert!(!holds(&files()));
}

/// A state that was made under a key that could be guessed: it is not served, and a rotation is the way out, whenever it
/// is interrupted.
#[test]
fn a_master_key_that_is_not_random_can_be_replaced_and_nothing_else() {
    let site = Site::new();
    let degenerate = MasterKey::to_be_replaced(SecretBytes::new(vec![7; 32])).unwrap();
    site.rotate(&degenerate);
    std::fs::write(site.key_file(), [7; 32]).unwrap();
    let refused = || {
        let error = site.open().err().expect("it is not served");
        let remedy = error.remedy().unwrap();
        assert!(remedy.contains("rotate-master-key"), "{remedy}");
    };
    let old =
        || master_key_file::read_settled_to_be_replaced(&site.key_file(), &site.state()).unwrap();
    refused();
    // Interrupted before the commit: the staged key is cleared away, the old one stays and is refused.
    drop(NewMasterKey::stage(&site.key_file(), &mut System::new()).unwrap());
    refused();
    assert!(!site.staged().exists());
    assert_eq!(old().octets(), degenerate.octets());
    // Interrupted after the commit: the new key takes its place at the next start.
    let new = NewMasterKey::stage(&site.key_file(), &mut System::new()).unwrap();
    Store::rotate_master_key(opening(&site.state(), &degenerate), new.key(), &act(9)).unwrap();
    drop(new);
    site.is_whole();
}

/// A crash before the commit: the old key is the one.
#[test]
fn before_the_commit_the_old_key_stays() {
    let site = Site::new();
    let old = site.key();
    drop(NewMasterKey::stage(&site.key_file(), &mut System::new()).unwrap());
    assert!(site.staged().exists());
    site.is_whole();
    assert_eq!(site.key().octets(), old.octets());
}

/// A crash while the new key's file was being written.
#[test]
fn half_a_key_is_no_key() {
    let site = Site::new();
    std::fs::write(site.staged(), [1; 7]).unwrap();
    site.is_whole();
}

/// A crash after the commit and before the new key's file took its place.
#[test]
fn after_the_commit_the_new_key_takes_its_place() {
    let site = Site::new();
    let new = NewMasterKey::stage(&site.key_file(), &mut System::new()).unwrap();
    site.rotate(new.key());
    let octets = new.key().octets().clone();
    drop(new);
    site.is_whole();
    assert_eq!(site.key().octets(), &octets);
}

#[test]
fn while_somebody_rotates_nobody_settles() {
    let site = Site::new();
    let store = site.open().unwrap();
    drop(NewMasterKey::stage(&site.key_file(), &mut System::new()).unwrap());
    assert!(matches!(site.open(), Err(OpenError::InUse { .. })));
    assert!(site.staged().exists());
    drop(store);
    site.is_whole();
}

#[test]
fn a_key_of_another_state_is_not_thrown_away() {
    let (site, other) = (Site::new(), Site::new());
    std::fs::copy(other.key_file(), site.key_file()).unwrap();
    drop(NewMasterKey::stage(&site.key_file(), &mut System::new()).unwrap());
    assert!(matches!(site.open(), Err(OpenError::WrongMasterKey)));
    assert!(site.staged().exists());
}
