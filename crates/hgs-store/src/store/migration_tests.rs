//! States that earlier versions left behind.

use rusqlite::Connection;

use super::*;
use crate::Standing;
use crate::fixture::*;
use crate::model::{Credential, Platform};
use hgs_attest::CredentialId;
use hgs_pki::health::{AttestationMode, HealthKind, HostId};

/// A state of version 1 as `sqlite3 state.db .dump` wrote it: settings, a certificate, a signer,
/// two hosts of which one is revoked, an identity key and two releases.
const VERSION_1: &str = include_str!("../../tests/data/version-1.sql");

/// The same of version 2, with protectors of every standing, a signer of another cluster, a host
/// that was removed and one that was revoked, superseded identity keys and refusals.
const VERSION_2: &str = include_str!("../../tests/data/version-2.sql");

/// The same of version 7, with a denied host, an identity key that was superseded, and a host that returns nonces.
const VERSION_7: &str = include_str!("../../tests/data/version-7.sql");

/// What the next version might add.
const NEXT: &str = "ALTER TABLE store ADD COLUMN note TEXT; CREATE TABLE next (id INTEGER) STRICT;";

fn stored(directory: &Path, dump: &str) -> Connection {
    let place = StateFolder::take(directory).unwrap();
    let connection = Connection::open(place.database()).unwrap();
    connection.execute_batch(dump).unwrap();
    connection
}

fn open_with(directory: &Path, migrations: &[&str]) -> Result<Store, OpenError> {
    let master_key = master_key();
    Store::open_with(
        opening(directory, &master_key),
        Durability::Full,
        &Program {
            migrations: migrations.into(),
            ..Program::this()
        },
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
    assert_eq!(identity.kind, HealthKind::Encryption);
    let certificate = state.certificates().next().unwrap();
    assert!(certificate.is_primary());
    let public_key = Digest::from_bytes(*certificate.certificate.public_key().digest());
    assert!(store.private_key(&public_key).unwrap().is_some());
    assert!(state.attestation_signers().next().unwrap().is_own());
    let release = store.audit_record(8).unwrap().unwrap().entry;
    assert_eq!(release.standing, Some(Standing::Head));
    assert_eq!(release.egress_protector, Some(digest(12)));
    assert_eq!(store.seen(&digest(10)).unwrap().unwrap().first, time(6));
    // Whose signing certificate it was, is not on record.
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
    stored(&directory, VERSION_1);
    assert_is_the_stored_one(&open(&directory).unwrap());
}

#[test]
fn an_older_state_is_migrated_once_and_stays_whole() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("state");
    stored(&directory, VERSION_1);
    let migrations = [&*Program::this().migrations, &[NEXT]].concat();
    for _ in 0..2 {
        let store = open_with(&directory, &migrations).unwrap();
        assert_is_the_stored_one(&store);
        assert_eq!(store.check(), Ok(()));
    }
    let connection = Connection::open(directory.join("state.db")).unwrap();
    let version = connection.query_row("SELECT schema_version FROM store", (), |row| row.get(0));
    assert_eq!(version, Ok(10));
    // The program from before the migration leaves it alone.
    let error = open(&directory).err();
    assert!(
        matches!(
            error,
            Some(OpenError::NewerSchema {
                found: 10,
                known: 9
            })
        ),
        "{error:?}"
    );
}

#[test]
fn a_migration_that_fails_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("state");
    stored(&directory, VERSION_1);
    let broken = [
        &*Program::this().migrations,
        &[NEXT, "CREATE TABLE next (id INTEGER)"],
    ]
    .concat();
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
    stored(&directory, VERSION_1);
    let connection = Connection::open(directory.join("state.db")).unwrap();
    let sql = "UPDATE store SET schema_version = 0";
    connection.execute(sql, ()).unwrap();
    assert!(open(&directory).is_err());
}

#[test]
fn a_state_of_version_2_keeps_its_hosts_its_tree_and_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("state");
    stored(&directory, VERSION_2);
    for _ in 0..2 {
        let store = open(&directory).unwrap();
        let state = store.state();
        let host = state.host(&HOST).unwrap();
        assert_eq!(host.last_attested, Some(time(4)));
        assert_eq!(host.revoked.as_ref().unwrap().reason, "stolen");
        assert!(state.host(&OTHER_HOST).is_none());
        let superseded = |key| {
            let identity = state.host_identity(&HOST, &digest(key)).unwrap();
            identity.superseded
        };
        assert_eq!([1, 2, 3].map(superseded), [Some(time(2)), None, None]);
        assert_eq!(state.attestation_signers().count(), 2);
        let seen = store.seen(&digest(14)).unwrap().unwrap();
        assert_eq!((seen.first, seen.last), (time(8), time(8)));
        // Numbers are the same, whether they stand in the text or not.
        let log = store.audit(&AuditFilter::default(), 99).unwrap();
        let numbers: Vec<_> = log.iter().map(|record| record.sequence).collect();
        assert_eq!(numbers, (1..=20).rev().collect::<Vec<_>>());
        let filters = [
            (
                AuditFilter {
                    protector: Some(digest(11)),
                    ..AuditFilter::default()
                },
                vec![12, 10],
            ),
            (
                AuditFilter {
                    outcome: Some(Outcome::Refused),
                    ..AuditFilter::default()
                },
                vec![19, 8],
            ),
            (
                AuditFilter {
                    host: Some("NODE-B".to_owned()),
                    ..AuditFilter::default()
                },
                vec![17, 5],
            ),
        ];
        for (filter, expected) in filters {
            let found: Vec<_> = store
                .audit(&filter, 99)
                .unwrap()
                .iter()
                .map(|record| record.sequence)
                .collect();
            assert_eq!(found, expected, "{filter:?}");
        }
    }
    // The tree goes on where it was.
    let store = open(&directory).unwrap();
    let state = store.state();
    let ours = state.attestation_signers().find(|one| !one.is_own());
    let guardian = state.certificates().next().unwrap().thumbprint();
    let standing = |second, ingress, egress| {
        let signer = ours.unwrap().thumbprint();
        let release = release(signer, guardian, second, ingress, egress);
        let release = ReleaseRecord {
            recipient: crate::Recipient::Foreign("theirs".to_owned()),
            ..release
        };
        record(&store, release).unwrap().standing()
    };
    assert_eq!(standing(20, 14, 100), Standing::Sibling);
    assert_eq!(standing(21, 10, 101), Standing::Ancestor);
    assert_eq!(standing(22, 13, 102), Standing::Head);
    assert_eq!(standing(23, 11, 103), Standing::Ancestor);
    assert_eq!(standing(24, 21, 104), Standing::Head);
    assert_eq!(standing(25, 99, 105), Standing::New);
    drop(store);
    assert!(open(&directory).is_ok());
}

/// A migration writes new tags, so what was changed before must not get one.
#[test]
fn a_state_that_was_changed_is_not_migrated() {
    let folder = tempfile::tempdir().unwrap();
    for (place, harm) in [
        "UPDATE lineage SET first_seen = 0 WHERE id = 20",
        "UPDATE lineage SET id = id + 100 WHERE id = 20",
        "UPDATE lineage SET parent = 23 WHERE id = 21",
        "DELETE FROM lineage WHERE id = 25",
        "UPDATE record SET value = replace(value, 'stolen', 'found') WHERE kind = 'host'",
        "DELETE FROM record WHERE kind = 'host'",
        "UPDATE audit SET record = replace(record, 'uid 0', 'uid 1') WHERE sequence = 3",
        "DELETE FROM audit WHERE sequence = 20",
        "UPDATE store SET generation = generation + 1",
        "UPDATE store SET audit_sequence = 19",
        "UPDATE store SET root = zeroblob(32)",
    ]
    .iter()
    .enumerate()
    {
        let directory = folder.path().join(format!("state-{place}"));
        let connection = stored(&directory, VERSION_2);
        assert!(connection.execute(harm, ()).unwrap() > 0, "{harm}");
        let error = open(&directory).err();
        assert!(
            matches!(error, Some(OpenError::Tampered(_))),
            "{harm}: {error:?}"
        );
        // And it is still as it was found.
        let sql = "SELECT schema_version FROM store";
        assert_eq!(
            connection.query_row(sql, (), |row| row.get(0)),
            Ok(2),
            "{harm}"
        );
    }
}

/// Records of before hosts had TPMs are read as they are, and hosts with TPMs stand beside them.
#[test]
fn a_state_of_version_7_takes_hosts_with_tpms() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("state");
    stored(&directory, VERSION_7);
    let third = HostId::from_bytes([0xc3; 16]);
    let fixture = Fixture::new();
    for round in 0..2 {
        let store = open(&directory).unwrap();
        let state = store.state();
        assert_eq!(state.settings().attestation_mode, AttestationMode::HostKey);
        let host = state.host(&HOST).unwrap();
        assert_eq!(host.revoked.as_ref().unwrap().reason, "stolen");
        assert_eq!(host.last_attested, Some(time(2)));
        assert!(host.returns_nonces);
        assert!(host.group.is_none());
        assert_eq!(host.platform, Platform::default());
        let third = state.host(&third).unwrap();
        let found = state.host_by_credential(&third.credential.id()).unwrap();
        assert_eq!(found.name.as_str(), "node-c");
        let removed = state.removed_hosts().next().unwrap();
        assert!(matches!(removed.credential, CredentialId::HostKey(_)));
        assert_eq!(removed.name.as_str(), "node-b");
        assert!(state.removed_host(&removed.credential).is_some());
        assert!(state.denied_host(&digest(77)).is_some());
        let identities = state.host_identities(&HOST);
        let superseded = identities.filter(|one| one.superseded.is_some());
        assert_eq!(superseded.count(), 1);
        let numbers = store.audit(&AuditFilter::default(), 99).unwrap();
        assert!(numbers.len() >= 14);
        if round == 0 {
            store.transact(tpm_transactions(&fixture), act(20)).unwrap();
        }
        let tpm_host = store.state().host(&TPM_HOST).cloned().unwrap();
        assert!(matches!(tpm_host.credential, Credential::EndorsementKey(_)));
        assert!(tpm_host.platform.endorsement_certificate.is_some());
        assert_eq!(store.state().endorsement_roots().count(), 1);
    }
}

/// A database of an earlier version can shrink from its first start on.
#[test]
fn an_older_database_gives_room_back_from_now_on() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("state");
    let vacuum = |connection: &Connection| -> u32 {
        let mode = connection.query_row("PRAGMA auto_vacuum", (), |row| row.get(0));
        mode.unwrap()
    };
    assert_eq!(vacuum(&stored(&directory, VERSION_2)), 0);
    drop(open(&directory).unwrap());
    let connection = Connection::open(directory.join("state.db")).unwrap();
    assert_eq!(vacuum(&connection), 2);
    drop(connection);
    assert!(open(&directory).is_ok());
}

/// What attesting changes stands in a record of its own, whatever the state was made by.
#[test]
fn attestations_are_taken_out_of_the_records_of_hosts() {
    let folder = tempfile::tempdir().unwrap();
    for (place, dump) in [VERSION_1, VERSION_2].iter().enumerate() {
        let directory = folder.path().join(format!("state-{place}"));
        stored(&directory, dump);
        drop(open(&directory).unwrap());
        let connection = Connection::open(directory.join("state.db")).unwrap();
        let values = |kind: &str| -> Vec<String> {
            let sql = "SELECT value FROM record WHERE kind = ?1 ORDER BY name";
            let mut statement = connection.prepare(sql).unwrap();
            let rows = statement.query_map([kind], |row| row.get(0)).unwrap();
            rows.collect::<Result<_, _>>().unwrap()
        };
        let hosts = values("host");
        assert!(!hosts.is_empty());
        assert!(
            !hosts
                .iter()
                .any(|host| host.contains("attest") || host.contains("nonce"))
        );
        let attested = values("host-attestation");
        assert_eq!(attested.len(), 1);
        assert!(attested[0].contains(&HOST.to_string()), "{attested:?}");
    }
}
