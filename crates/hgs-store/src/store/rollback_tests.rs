//! A state that is not the newest one is refused, whichever way it went back, until it is accepted.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::{TempDir, tempdir};

use crate::fixture::{Fixture, OTHER_HOST, act, master_key, open, opening, record};
use crate::high_water_mark::default_path;
use crate::state_folder::DATABASE;
use crate::{Action, AuditFilter, OpenError, RolledBack, Store, Transaction};

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
        drop(site.fixture.create(&site.state()));
        site
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn mark(&self) -> PathBuf {
        default_path(&self.state())
    }

    fn open(&self) -> Result<Store, OpenError> {
        open(&self.state())
    }

    /// Copies what is in the folder of the state, or one file of it.
    fn copy(&self, name: &str, only: Option<&str>) -> PathBuf {
        let copy = self.folder.path().join(name);
        copy_folder(&self.state(), &copy, only);
        copy
    }

    /// Puts a copy in the place of the state.
    fn put_back(&self, copy: &Path) {
        fs::remove_dir_all(self.state()).unwrap();
        copy_folder(copy, &self.state(), None);
    }
}

fn copy_folder(from: &Path, to: &Path, only: Option<&str>) {
    fs::create_dir(to).unwrap();
    fs::set_permissions(to, fs::Permissions::from_mode(0o700)).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if only.is_none_or(|only| entry.file_name() == only) {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

fn revoke(store: &Store) {
    let revoked = Transaction::RevokeHost {
        id: OTHER_HOST,
        reason: "stolen".to_owned(),
    };
    store.transact(vec![revoked], act(5)).unwrap();
}

fn refusal(opened: Result<Store, OpenError>) -> RolledBack {
    match opened {
        Err(OpenError::RolledBack(refusal)) => refusal,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was opened"),
    }
}

#[test]
fn an_older_copy_of_the_folder_is_refused_until_it_is_accepted_and_that_is_recorded() {
    let site = Site::new();
    let copy = site.copy("copy", None);
    let store = site.open().unwrap();
    revoke(&store);
    let newest = store.state().generation();
    drop(store);
    site.put_back(&copy);
    let refused = refusal(site.open());
    assert!(matches!(refused, RolledBack::Older { .. }), "{refused}");
    assert_eq!(refused.mark().unwrap().generation, newest);
    // Nothing that was refused was changed.
    assert_eq!(refusal(site.open()), refused);

    let key = master_key();
    let accepted = Store::accept(opening(&site.state(), &key), act(9)).unwrap();
    assert_eq!(accepted.as_ref().unwrap().rolled_back, refused);
    let store = site.open().unwrap();
    assert!(store.state().host(&OTHER_HOST).unwrap().revoked.is_none());
    let records = store.audit(&AuditFilter::default(), 1).unwrap();
    assert_eq!(records[0].entry.action, Action::AcceptState);
    assert_eq!(records[0].sequence, accepted.unwrap().sequence);
    assert_eq!(
        records[0].entry.before.as_ref().unwrap()["generation"],
        newest
    );
    drop(store);
    let again = Store::accept(opening(&site.state(), &key), act(9)).unwrap();
    assert_eq!(again, None);
}

#[test]
fn a_database_without_its_log_is_refused() {
    let site = Site::new();
    let store = site.open().unwrap();
    revoke(&store);
    // Copied while the service runs, just after an administrator's change: it is all there.
    let database = site.copy("after a change", Some(DATABASE));
    record(&store, site.fixture.release(1, 100, 101)).unwrap();
    let without_log = site.copy("after a release", Some(DATABASE));
    drop(store);

    site.put_back(&without_log);
    let refused = refusal(site.open());
    assert!(matches!(refused, RolledBack::Older { .. }), "{refused}");
    let (mark, state) = (refused.mark().unwrap(), refused.state().unwrap());
    assert_eq!(mark.sequence, state.sequence + 1, "the release is missed");
    assert_eq!(mark.generation, state.generation, "the revocation is not");
    site.put_back(&database);
    let key = master_key();
    Store::accept(opening(&site.state(), &key), act(9)).unwrap();
    let store = site.open().unwrap();
    assert!(store.state().host(&OTHER_HOST).unwrap().revoked.is_some());
}

#[test]
fn a_service_at_rest_has_everything_in_its_database() {
    let site = Site::new();
    let store = site.open().unwrap();
    record(&store, site.fixture.release(1, 100, 101)).unwrap();
    let newest = store.audit(&AuditFilter::default(), 1).unwrap()[0].sequence;
    let copied = || {
        let copy = tempdir().unwrap();
        let state = copy.path().join("state");
        copy_folder(&site.state(), &state, Some(DATABASE));
        match open(&state) {
            // The copy has no mark, and the refusal says how far it is.
            Err(OpenError::RolledBack(RolledBack::NoMark { state, .. })) => state.sequence,
            // It was copied while the database was written.
            Err(OpenError::Damaged { .. } | OpenError::Tampered(_)) => 0,
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("a copy without its mark was opened"),
        }
    };
    // Bounded by the test's own time limit.
    while copied() < newest {
        std::thread::yield_now();
    }
}

#[test]
fn a_state_without_its_mark_is_refused_and_so_is_a_mark_without_its_state() {
    let site = Site::new();
    fs::remove_file(site.mark()).unwrap();
    let refused = refusal(site.open());
    assert!(matches!(refused, RolledBack::NoMark { .. }), "{refused}");
    fs::write(site.mark(), "generation 1 audit 1 tag 00 seal 00\n").unwrap();
    fs::set_permissions(site.mark(), fs::Permissions::from_mode(0o600)).unwrap();
    let refused = refusal(site.open());
    assert!(matches!(refused, RolledBack::NoMark { .. }), "{refused}");
    let key = master_key();
    Store::accept(opening(&site.state(), &key), act(9))
        .unwrap()
        .unwrap();
    drop(site.open().unwrap());

    // Only the database is gone, or all that was in it.
    fs::write(site.state().join(DATABASE), []).unwrap();
    assert!(matches!(refusal(site.open()), RolledBack::Gone { .. }));
    fs::remove_dir_all(site.state()).unwrap();
    assert!(matches!(refusal(site.open()), RolledBack::Gone { .. }));
    // A new guardian may be made there.
    drop(site.fixture.create(&site.state()));
    drop(site.open().unwrap());
}

#[test]
fn a_copy_that_went_its_own_way_is_refused_however_far_it_came() {
    let site = Site::new();
    let copy = site.copy("copy", None);
    let store = site.open().unwrap();
    revoke(&store);
    drop(store);
    // The copy is used elsewhere, and comes further.
    let key = master_key();
    drop(Store::accept(opening(&copy, &key), act(6)).unwrap());
    let store = open(&copy).unwrap();
    for number in 0..5 {
        let release = site.fixture.release(7, 100 + number, 200 + number);
        record(&store, release).unwrap();
    }
    let settings = crate::Settings::new("elsewhere".parse().unwrap());
    let changed = vec![Transaction::SetSettings(settings)];
    store.transact(changed, act(8)).unwrap();
    drop(store);
    site.put_back(&copy);
    let refused = refusal(site.open());
    assert!(
        matches!(refused, RolledBack::OtherHistory { .. }),
        "{refused}"
    );
}

/// A state that an older program wrote has no mark yet; a crash before the mark is written leaves it so.
#[test]
fn a_state_of_a_program_that_knew_no_marks_gets_its_first_one() {
    let site = Site::new();
    let database = rusqlite::Connection::open(site.state().join(DATABASE)).unwrap();
    database.pragma_update(None, "user_version", 0).unwrap();
    drop(database);
    fs::remove_dir_all(site.mark().parent().unwrap()).unwrap();
    drop(site.open().unwrap());
    fs::remove_file(site.mark()).unwrap();
    assert!(matches!(refusal(site.open()), RolledBack::NoMark { .. }));
}

#[test]
fn a_copy_from_before_a_rotation_of_the_master_key_is_refused_with_the_old_key_too() {
    let site = Site::new();
    let copy = site.copy("copy", None);
    let old = master_key();
    let octets = hgs_crypto::SecretBytes::from(&hgs_testkit::fixtures::key_octets(9)[..]);
    let new = hgs_custody::seal::MasterKey::from_octets(octets).unwrap();
    Store::rotate_master_key(opening(&site.state(), &old), &new, &act(9)).unwrap();
    let rotated = site.copy("rotated", None);
    drop(Store::open(opening(&site.state(), &new)).unwrap());
    site.put_back(&copy);
    assert!(matches!(refusal(site.open()), RolledBack::NoMark { .. }));
    site.put_back(&rotated);
    drop(Store::open(opening(&site.state(), &new)).unwrap());
}

/// What is not an older copy has another cause, and another remedy.
#[test]
fn damage_and_other_databases_and_keys_are_told_apart() {
    let site = Site::new();
    let database = site.state().join(DATABASE);
    let integrity = fs::read(&database).unwrap();
    let refused = |octets: &[u8]| {
        fs::write(&database, octets).unwrap();
        site.open().err().expect("it is refused")
    };
    let error = refused(&integrity[..integrity.len() / 2]);
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    let error = refused(&[b'x'; 8192]);
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    let remedy = error.remedy().unwrap();
    assert!(
        remedy.contains("disk") && remedy.contains("state import"),
        "{remedy}"
    );
    fs::remove_file(&database).unwrap();
    let other = rusqlite::Connection::open(&database).unwrap();
    other
        .execute_batch("CREATE TABLE mine (id INTEGER)")
        .unwrap();
    drop(other);
    fs::set_permissions(&database, fs::Permissions::from_mode(0o600)).unwrap();
    let error = site.open().err().expect("it is refused");
    assert!(matches!(error, OpenError::Tampered(_)), "{error}");
    fs::write(&database, &integrity).unwrap();
    let octets = hgs_crypto::SecretBytes::from(&hgs_testkit::fixtures::key_octets(9)[..]);
    let key = hgs_custody::seal::MasterKey::from_octets(octets).unwrap();
    let error = Store::open(opening(&site.state(), &key)).err().unwrap();
    assert!(matches!(error, OpenError::WrongMasterKey), "{error}");
    let remedy = error.remedy().unwrap();
    assert!(!remedy.contains("backup"), "{remedy}");
    drop(site.open().unwrap());
}
