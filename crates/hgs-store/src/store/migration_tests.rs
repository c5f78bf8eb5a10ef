//! States that earlier versions left behind.

use rusqlite::Connection;

use super::*;
use crate::fixture::*;
use crate::{IdentityKind, Standing};

/// A state of version 1 as `sqlite3 state.db .dump` wrote it: settings, a certificate, a signer,
/// two hosts of which one is revoked, an identity key and two releases.
const VERSION_1: &str = include_str!("../../tests/data/version-1.sql");

/// What the next version might add.
const NEXT: &str = "ALTER TABLE store ADD COLUMN note TEXT; CREATE TABLE next (id INTEGER) STRICT;";

fn stored(directory: &Path) {
    let place = Place::take(directory).unwrap();
    let connection = Connection::open(place.database()).unwrap();
    connection.execute_batch(VERSION_1).unwrap();
}

fn open_with(directory: &Path, migrations: &[&str]) -> Result<Store, OpenError> {
    let master_key = master_key();
    Store::open_with(
        opening(directory, &master_key),
        Durability::Full,
        migrations,
    )
}

fn assert_is_the_stored_one(store: &Store) {
    let state = store.state();
    assert_eq!(state.generation(), 7);
    assert_eq!(state.settings().name.as_str(), "hgs");
    let host = state.host_by_name(&"node-a".parse().unwrap()).unwrap();
    assert_eq!(host.id, HOST);
    assert_eq!(host.last_attested, Some(time(5)));
    assert_eq!(host.revoked.as_ref().unwrap().reason, "stolen");
    assert!(state.host(&OTHER_HOST).unwrap().revoked.is_none());
    let identity = state.host_identity(&HOST, &digest(1)).unwrap();
    assert_eq!(identity.kind, IdentityKind::Encryption);
    let certificate = state.certificates().next().unwrap();
    assert!(certificate.is_primary());
    let public_key = Digest::from_bytes(*certificate.certificate.public_key().digest());
    assert!(store.private_key(&public_key).unwrap().is_some());
    assert!(state.attestation_signers().next().unwrap().is_own());
    let release = store.audit_record(8).unwrap().unwrap().entry;
    assert_eq!(release.standing, Some(Standing::Head));
    assert_eq!(release.egress_protector, Some(digest(12)));
    assert_eq!(store.seen(&digest(10)).unwrap().unwrap().first, time(6));
    // Whose signing certificate it was, nobody wrote down.
    let used = PairUsage {
        encryption: certificate.thumbprint(),
        signing: None,
        protectors: 1,
        first: time(7),
        last: time(7),
    };
    assert_eq!(store.usage().unwrap(), [used]);
}

#[test]
fn a_state_of_version_1_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("state");
    stored(&directory);
    assert_is_the_stored_one(&open(&directory).unwrap());
}

#[test]
fn an_older_state_is_migrated_once_and_stays_whole() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("state");
    stored(&directory);
    let migrations = [MIGRATIONS, &[NEXT]].concat();
    for _ in 0..2 {
        let store = open_with(&directory, &migrations).unwrap();
        assert_is_the_stored_one(&store);
        assert_eq!(store.check(), Ok(()));
    }
    let connection = Connection::open(directory.join("state.db")).unwrap();
    let version = connection.query_row("SELECT schema_version FROM store", (), |row| row.get(0));
    assert_eq!(version, Ok(4));
    // The program from before the migration leaves it alone.
    let error = open(&directory).err();
    assert!(
        matches!(error, Some(OpenError::NewerSchema { found: 4, known: 3 })),
        "{error:?}"
    );
}

#[test]
fn a_migration_that_fails_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("state");
    stored(&directory);
    let broken = [MIGRATIONS, &[NEXT, "CREATE TABLE next (id INTEGER)"]].concat();
    let error = open_with(&directory, &broken).err();
    assert!(matches!(error, Some(OpenError::Store(_))), "{error:?}");
    assert_is_the_stored_one(&open(&directory).unwrap());
}

/// Whoever says that an old state is older still gets it migrated into a contradiction, not
/// silently emptied.
#[test]
fn a_lowered_version_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("state");
    stored(&directory);
    let connection = Connection::open(directory.join("state.db")).unwrap();
    let sql = "UPDATE store SET schema_version = 0";
    connection.execute(sql, ()).unwrap();
    assert!(open(&directory).is_err());
}
