//! A change of the database by another program is detected, and the record is named.

use std::fs;
use std::path::PathBuf;

use rusqlite::Connection;
use rusqlite::types::Value;
use tempfile::TempDir;

use super::*;
use crate::Transaction;
use crate::fixture::*;
use crate::high_water_mark::default_path;
use hgs_pki::SerialNumber;
use hgs_pki::health::HostId;
use hgs_pki::health::{HealthCertificateError, HealthKind};

/// A closed state with something of every kind in it, and how it was somewhat earlier.
struct Victim {
    folder: TempDir,
    earlier: PathBuf,
    now: PathBuf,
}

impl Victim {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let now = folder.path().join("now");
        let fixture = Fixture::new();
        let store = fixture.create(&now);
        let attest = |second, key| {
            let attested = attestation(key, HealthKind::Encryption);
            let attested = Transaction::RecordAttestation(attested);
            store.transact(vec![attested], act(second)).unwrap();
        };
        attest(1, 1);
        attest(1, 2);
        record(&store, fixture.release(2, 10, 11)).unwrap();
        drop(store);
        let victim = Self {
            earlier: folder.path().join("earlier"),
            now,
            folder,
        };
        victim.copy(&victim.now, &victim.earlier);
        let store = open(&victim.now).unwrap();
        let revoke = Transaction::RevokeHost {
            id: HOST,
            reason: "stolen".to_owned(),
        };
        record(&store, fixture.release(3, 11, 12)).unwrap();
        record(&store, fixture.release(4, 11, 13)).unwrap();
        let remove = Transaction::RemoveHost { id: OTHER_HOST };
        let batch = [tpm_transactions(&fixture), vec![revoke, remove]].concat();
        store.transact(batch, act(5)).unwrap();
        victim
    }

    fn copy(&self, from: &Path, to: &Path) {
        assert!(!from.join("state.db-wal").exists(), "not closed");
        let _ = fs::remove_dir_all(to);
        drop(StateFolder::take(to).unwrap());
        fs::copy(from.join("state.db"), to.join("state.db")).unwrap();
        // The mark too: what is found here is found without it.
        let mark = default_path(to);
        fs::create_dir_all(mark.parent().unwrap()).unwrap();
        fs::copy(default_path(from), mark).unwrap();
    }

    /// Does `harm` to a copy, opens it and returns why it was refused.
    fn harmed(&self, harm: impl FnOnce(&Connection)) -> OpenError {
        let copy = self.folder.path().join("copy");
        self.copy(&self.now, &copy);
        let connection = Connection::open(copy.join("state.db")).unwrap();
        harm(&connection);
        connection.close().unwrap();
        open(&copy).err().expect("the harm is found")
    }

    fn tampered(&self, harm: impl FnOnce(&Connection)) -> (String, String, Finding) {
        match self.harmed(harm) {
            OpenError::Tampered(found) => (found.table, found.name, found.finding),
            other => panic!("{other}"),
        }
    }

    fn tampered_by(&self, sql: &str) -> (String, String, Finding) {
        self.tampered(|connection| {
            let changed = connection.execute(sql, ()).unwrap();
            assert!(changed > 0, "{sql}");
        })
    }

    /// Puts rows of the earlier database into a copy of the newer one.
    fn put_back(&self, table: &str, condition: &str) -> (String, String, Finding) {
        self.tampered(|connection| {
            let earlier = self.earlier.join("state.db");
            let sql = format!(
                "ATTACH '{}' AS earlier;
                 INSERT OR REPLACE INTO main.{table} SELECT * FROM earlier.{table} WHERE {condition};
                 DETACH earlier;",
                earlier.display()
            );
            connection.execute_batch(&sql).unwrap();
        })
    }

    fn rows(&self, sql: &str) -> Vec<Vec<Value>> {
        let connection = Connection::open(self.now.join("state.db")).unwrap();
        let mut statement = connection.prepare(sql).unwrap();
        let columns = statement.column_count();
        let rows = statement
            .query_map((), |row| (0..columns).map(|i| row.get(i)).collect())
            .unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    }
}

fn found(table: &str, name: impl ToString, finding: Finding) -> (String, String, Finding) {
    (table.to_owned(), name.to_string(), finding)
}

#[test]
fn an_untouched_copy_opens() {
    let victim = Victim::new();
    let copy = victim.folder.path().join("copy");
    victim.copy(&victim.now, &copy);
    assert!(open(&copy).is_ok());
}

#[test]
fn every_record_is_missed_and_every_change_of_it_is_seen() {
    let victim = Victim::new();
    let rows = victim.rows("SELECT kind, name FROM record");
    let mut kinds = Vec::new();
    for row in rows {
        let [Value::Text(kind), Value::Text(name)] = &row[..] else {
            panic!("{row:?}");
        };
        let place = format!("WHERE kind = '{kind}' AND name = '{name}'");
        for change in [
            "value = replace(value, ':', ': ')",
            "value = ''",
            "generation = generation - 1",
            "tag = zeroblob(32)",
            "tag = substr(tag, 1, 31)",
            "tag = x''",
        ] {
            let sql = format!("UPDATE record SET {change} {place}");
            let seen = victim.tampered_by(&sql);
            assert_eq!(seen, found(kind, name, Finding::Changed), "{change}");
        }
        let sql = format!("UPDATE record SET name = name || 'x' {place}");
        let renamed = found(kind, format!("{name}x"), Finding::Changed);
        assert_eq!(victim.tampered_by(&sql), renamed);
        let sql = format!("DELETE FROM record {place}");
        let missing = found(kind, name, Finding::Missing);
        assert_eq!(victim.tampered_by(&sql), missing);
        kinds.push(kind.clone());
    }
    kinds.sort();
    kinds.dedup();
    let all = [
        "attestation-signer",
        "certificate",
        "endorsement-root",
        "host",
        "host-attestation",
        "host-group",
        "host-identity",
        "host-measurements",
        "policy-document",
        "private-key",
        "removed-host",
        "settings",
    ];
    assert_eq!(kinds, all);
}

#[test]
fn a_revoked_host_can_not_be_put_back() {
    let victim = Victim::new();
    let condition = format!("kind = 'host' AND name = '{HOST}'");
    let seen = victim.put_back("record", &condition);
    assert_eq!(seen, found("host", HOST, Finding::Stale));
}

#[test]
fn a_removed_host_can_not_be_put_back() {
    let victim = Victim::new();
    let condition = format!("kind = 'host' AND name = '{OTHER_HOST}'");
    let seen = victim.put_back("record", &condition);
    assert_eq!(seen, found("host", OTHER_HOST, Finding::Unexpected));
}

#[test]
fn a_host_can_not_be_registered_with_sql() {
    let victim = Victim::new();
    let sql = format!(
        "INSERT INTO record (kind, name, generation, value, tag) \
         SELECT kind, '{OTHER_HOST}', generation, replace(value, '{HOST}', '{OTHER_HOST}'), tag \
         FROM record WHERE kind = 'host' AND name = '{HOST}'"
    );
    let seen = victim.tampered_by(&sql);
    assert_eq!(seen, found("host", OTHER_HOST, Finding::Changed));
}

#[test]
fn two_records_can_not_swap_names() {
    let victim = Victim::new();
    let names = victim.rows("SELECT name FROM record WHERE kind = 'host-identity'");
    let [Value::Text(one), Value::Text(other)] = &names.concat()[..] else {
        panic!("{names:?}");
    };
    let swap = format!(
        "UPDATE record SET name = 'x' WHERE name = '{one}';
         UPDATE record SET name = '{one}' WHERE name = '{other}';
         UPDATE record SET name = '{other}' WHERE name = 'x';"
    );
    let seen = victim.tampered(|connection| connection.execute_batch(&swap).unwrap());
    assert_eq!(seen, found("host-identity", one, Finding::Changed));
    // A certificate and a signer have the same form of name.
    let sql = "UPDATE record SET kind = CASE kind WHEN 'certificate' THEN 'attestation-signer' \
               ELSE 'certificate' END WHERE kind IN ('certificate', 'attestation-signer')";
    let (_, _, finding) = victim.tampered_by(sql);
    assert_eq!(finding, Finding::Changed);
}

#[test]
fn the_audit_log_can_not_be_rewritten() {
    let victim = Victim::new();
    let last = victim.rows("SELECT max(sequence) FROM audit");
    let Value::Integer(last) = last[0][0] else {
        panic!("{last:?}");
    };
    for sequence in 1..=last {
        let place = format!("WHERE sequence = {sequence}");
        let missing = found("audit", sequence, Finding::Missing);
        let seen = victim.tampered_by(&format!("DELETE FROM audit {place}"));
        assert_eq!(seen, missing);
        let changed = found("audit", sequence, Finding::Changed);
        for change in [
            "record = replace(record, 'uid', 'gid') || ' '",
            "tag = zeroblob(32)",
        ] {
            let seen = victim.tampered_by(&format!("UPDATE audit SET {change} {place}"));
            assert_eq!(seen, changed);
        }
    }
    let swap = "UPDATE audit SET sequence = -sequence WHERE sequence IN (2, 3); \
                UPDATE audit SET sequence = 5 + sequence WHERE sequence < 0;";
    let seen = victim.tampered(|connection| connection.execute_batch(swap).unwrap());
    assert_eq!(seen, found("audit", 2, Finding::Changed));
    let append = format!(
        "INSERT INTO audit SELECT {}, record, tag FROM audit WHERE sequence = {last}",
        last + 1
    );
    let seen = victim.tampered_by(&append);
    assert_eq!(seen, found("audit", last + 1, Finding::Changed));
    // The end cut off, and the count with it.
    let cut = format!(
        "DELETE FROM audit WHERE sequence = {last}; UPDATE store SET audit_sequence = {};",
        last - 1
    );
    let seen = victim.tampered(|connection| connection.execute_batch(&cut).unwrap());
    // What that record removed seems to be missing now.
    assert_eq!(seen, found("host", OTHER_HOST, Finding::Missing));
}

#[test]
fn the_lineage_tree_can_not_be_rewritten() {
    let victim = Victim::new();
    for number in 10..=13 {
        let name = digest(number);
        let place = format!("WHERE digest = x'{name}'");
        let missing = found("lineage", name, Finding::Missing);
        let seen = victim.tampered_by(&format!("DELETE FROM lineage {place}"));
        assert_eq!(seen, missing);
        let changed = found("lineage", name, Finding::Changed);
        for change in [
            "stage = (stage + 1) % 3",
            "stage = 7",
            "parent = zeroblob(32)",
            "parent = CASE WHEN parent IS NULL THEN x'' ELSE NULL END",
            "owner = zeroblob(32)",
            "opened_by = x'00'",
            "host = 'b'",
            "first_seen = 0",
            "last_seen = 0",
            "tag = zeroblob(32)",
        ] {
            let seen = victim.tampered_by(&format!("UPDATE lineage SET {change} {place}"));
            assert_eq!(seen, changed, "{change}");
        }
    }
    // As it was before it came back: nobody would know that 10 is an ancestor.
    for number in [10, 11] {
        let name = digest(number);
        let seen = victim.put_back("lineage", &format!("digest = x'{name}'"));
        assert_eq!(seen, found("lineage", name, Finding::Stale));
    }
    let forge = format!(
        "INSERT INTO lineage SELECT x'{0}', parent, stage, owner, opened_by, opened_by_signing, \
         host, first_seen, last_seen, tag FROM lineage LIMIT 1",
        digest(99)
    );
    let seen = victim.tampered_by(&forge);
    assert_eq!(seen, found("lineage", digest(99), Finding::Changed));
}

#[test]
fn the_row_that_holds_the_whole_can_not_be_changed() {
    let victim = Victim::new();
    for change in [
        "generation = generation + 1",
        "generation = 0",
        "audit_sequence = 1",
        "root = zeroblob(32)",
    ] {
        let seen = victim.tampered_by(&format!("UPDATE store SET {change}"));
        assert_eq!(seen, found("store", 1, Finding::Changed), "{change}");
    }
    let seen = victim.tampered_by("DELETE FROM store");
    assert_eq!(seen, found("store", 1, Finding::Missing));
    // An earlier row does not fit what is there now.
    let (_, _, finding) = victim.put_back("store", "id = 1");
    assert_eq!(finding, Finding::Changed);
}

#[test]
fn the_schema_is_the_one_that_migrations_make() {
    let victim = Victim::new();
    let schema = |sql: &str| victim.tampered(|connection| connection.execute_batch(sql).unwrap());
    let trigger = "CREATE TRIGGER forget AFTER INSERT ON audit BEGIN \
                   DELETE FROM audit WHERE sequence = NEW.sequence; END";
    let unexpected = found("schema", "forget", Finding::Unexpected);
    assert_eq!(schema(trigger), unexpected);
    let missing = found("schema", "lineage_issued", Finding::Missing);
    assert_eq!(schema("DROP INDEX lineage_issued"), missing);
    let other = "DROP INDEX lineage_issued; CREATE INDEX lineage_issued ON lineage (stage)";
    let unexpected = found("schema", "lineage_issued", Finding::Unexpected);
    assert_eq!(schema(other), unexpected);
    let newer = victim.harmed(|connection| {
        let sql = "UPDATE store SET schema_version = 10";
        connection.execute(sql, ()).unwrap();
    });
    assert!(
        matches!(
            newer,
            OpenError::NewerSchema {
                found: 10,
                known: 9
            }
        ),
        "{newer}"
    );
}

#[test]
fn a_damaged_file_is_refused() {
    let victim = Victim::new();
    let copy = victim.folder.path().join("copy");
    victim.copy(&victim.now, &copy);
    let path = copy.join("state.db");
    let mut octets = fs::read(&path).unwrap();
    let length = octets.len();
    // The last page but one: somewhere in the tables.
    octets[length - 8192..length - 8000].fill(0xff);
    fs::write(&path, octets).unwrap();
    assert!(open(&copy).is_err());
}

/// The limit of what can be found: all of it at an earlier commit, its high-water mark included.
#[test]
fn only_all_of_it_can_be_put_back() {
    let victim = Victim::new();
    let store = open(&victim.earlier).unwrap();
    assert!(store.state().host(&HOST).unwrap().revoked.is_none());
}

#[test]
fn a_running_store_believes_no_changed_node_or_audit_record() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("state");
    let fixture = Fixture::new();
    let store = fixture.create(&directory);
    record(&store, fixture.release(1, 10, 11)).unwrap();
    let connection = Connection::open(directory.join("state.db")).unwrap();
    let name = digest(11);
    let sql = format!("UPDATE lineage SET first_seen = 0 WHERE digest = x'{name}'");
    connection.execute(&sql, ()).unwrap();
    let changed = Tampered::new("lineage", name, Finding::Changed);
    assert_eq!(store.seen(&name), Err(changed.clone().into()));
    let refused = record(&store, fixture.release(2, 11, 12));
    assert_eq!(refused, Err(Failure::Store(changed.into())));
    // The others are not held up by it.
    assert!(record(&store, fixture.release(3, 20, 21)).is_ok());
    let sql = "UPDATE audit SET record = replace(record, 'uid 0', 'uid 1') WHERE sequence = 3";
    connection.execute(sql, ()).unwrap();
    let changed = StoreError::Tampered(Tampered::new("audit", 3, Finding::Changed));
    assert_eq!(store.audit_record(3), Err(changed.clone()));
    assert_eq!(store.audit(&AuditFilter::default(), 9), Err(changed));
    assert!(store.audit_record(2).is_ok());
    let sql = "DELETE FROM audit WHERE sequence = 2";
    connection.execute(sql, ()).unwrap();
    let missing = StoreError::Tampered(Tampered::new("audit", 2, Finding::Missing));
    assert_eq!(store.audit_record(3), Err(missing));
}

#[test]
fn readiness_notices_another_database_in_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("state");
    let fixture = Fixture::new();
    let store = fixture.create(&directory);
    record(&store, fixture.release(1, 10, 11)).unwrap();
    assert_eq!(store.check(), Ok(()));
    let connection = Connection::open(directory.join("state.db")).unwrap();
    let sql = "UPDATE store SET root = zeroblob(32)";
    connection.execute(sql, ()).unwrap();
    let changed = Tampered::new("store", 1, Finding::Changed);
    assert_eq!(store.check(), Err(changed.into()));
}

#[test]
fn a_foreign_signer_may_not_speak_for_our_hosts() {
    let folder = tempfile::tempdir().unwrap();
    let fixture = Fixture::new();
    let store = fixture.create(&folder.path().join("state"));
    let signer = crate::AttestationSigner {
        certificate: fixture.encryption.clone(),
        key: None,
        deny_before: Some(time(10)),
        deny_list: Arc::new([SerialNumber::from_bytes(&[7]).unwrap()].into()),
        ..fixture.signer_record()
    };
    let signer_thumbprint = signer.thumbprint();
    let add = Transaction::AddAttestationSigner { signer, key: None };
    store.transact(vec![add], act(0)).unwrap();
    let ours = fixture.release(20, 10, 11);
    let foreign = ReleaseRecord {
        signer: signer_thumbprint,
        recipient: crate::Recipient::Foreign("theirs".to_owned()),
        ..ours.clone()
    };
    let refused = |release: ReleaseRecord| match record(&store, release) {
        Err(Failure::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    };
    let posing = ReleaseRecord {
        signer: signer_thumbprint,
        ..ours.clone()
    };
    assert_eq!(
        refused(posing),
        ReleaseRefusal::Refused(HealthCertificateError::UntrustedIssuer.into())
    );
    let posing = ReleaseRecord {
        recipient: foreign.recipient.clone(),
        ..ours
    };
    assert_eq!(
        refused(posing),
        ReleaseRefusal::Refused(HealthCertificateError::UntrustedIssuer.into())
    );
    let early = ReleaseRecord {
        issued: time(9),
        ..foreign.clone()
    };
    assert_eq!(
        refused(early),
        ReleaseRefusal::Refused(
            HealthCertificateError::DeniedBefore {
                issued_at: time(9),
                deny_before: time(10),
            }
            .into()
        )
    );
    let denied = ReleaseRecord {
        serial: SerialNumber::from_bytes(&[7]).unwrap(),
        ..foreign.clone()
    };
    assert_eq!(
        refused(denied),
        ReleaseRefusal::Refused(HealthCertificateError::Denied.into())
    );
    assert!(record(&store, foreign).is_ok());
}

/// No commit builds upon what another program wrote while the service runs, and all other work goes on.
#[test]
fn a_running_store_commits_nothing_that_depends_on_a_changed_record() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("state");
    let fixture = Fixture::new();
    let store = fixture.create(&directory);
    let connection = Connection::open(directory.join("state.db")).unwrap();
    let tampered = |name: HostId| Tampered::new("host", name, Finding::Changed);
    let sql = format!("UPDATE record SET tag = zeroblob(32) WHERE name = '{HOST}'");
    connection.execute(&sql, ()).unwrap();
    let to_other = |second, ingress, egress| ReleaseRecord {
        recipient: crate::Recipient::Registered(OTHER_HOST),
        ..fixture.release(second, ingress, egress)
    };
    // Both in one commit.
    let (sender, receiver) = std::sync::mpsc::channel();
    let announced = store.announce();
    for release in [fixture.release(1, 10, 11), to_other(1, 20, 21)] {
        let sender = sender.clone();
        let reply = move |result| sender.send(result).unwrap();
        store.release(release, reply).unwrap();
    }
    drop(announced);
    let changed = Failure::Store(tampered(HOST).into());
    assert_eq!(receiver.recv().unwrap(), Err(changed.clone()));
    assert!(receiver.recv().unwrap().is_ok());
    let attested = Transaction::RecordAttestation(attestation(1, HealthKind::Encryption));
    let refused = store.transact(vec![attested], act(2));
    assert_eq!(refused, Err(Failure::Store(tampered(HOST).into())));
    assert!(record(&store, to_other(3, 21, 22)).is_ok());
    // Without the row that holds the whole together nothing goes on.
    let sql = "UPDATE store SET root = zeroblob(32)";
    connection.execute(sql, ()).unwrap();
    let changed = Failure::Store(Tampered::new("store", 1, Finding::Changed).into());
    assert_eq!(record(&store, to_other(4, 22, 23)), Err(changed));
}

/// The indexes of the log have no tags: a record that one leads to is checked all the same.
#[test]
fn an_index_that_was_changed_shows_no_record_that_does_not_match() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("state");
    let fixture = Fixture::new();
    let store = fixture.create(&directory);
    record(&store, fixture.release(1, 10, 11)).unwrap();
    let wanted = AuditFilter {
        protector: Some(digest(10)),
        ..AuditFilter::default()
    };
    let found = |limit| store.audit(&wanted, limit).map(|found| found.len());
    assert_eq!(found(9), Ok(1));
    let connection = Connection::open(directory.join("state.db")).unwrap();
    let sql =
        "INSERT OR IGNORE INTO audit_filter SELECT part, term, sequence - 1 FROM audit_filter";
    connection.execute(sql, ()).unwrap();
    assert_eq!(found(9), Ok(1));
    let sql = "UPDATE audit SET record = replace(record, 'release', 'trace') WHERE sequence = 6";
    connection.execute(sql, ()).unwrap();
    let changed = StoreError::Tampered(Tampered::new("audit", 6, Finding::Changed));
    assert_eq!(found(9), Err(changed));
}

/// The index has no tags of its own. An entry that is missing hides a record from a filter, and from nothing else: what is
/// verified, exported or listed without a filter does not ask the index.
#[test]
fn an_index_that_was_emptied_hides_no_record_from_what_is_verified() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("state");
    let fixture = Fixture::new();
    let store = fixture.create(&directory);
    record(&store, fixture.release(1, 10, 11)).unwrap();
    let all = store.audit(&AuditFilter::default(), 99).unwrap();
    drop(store);
    let connection = Connection::open(directory.join("state.db")).unwrap();
    for table in ["audit_filter", "audit_day"] {
        assert!(
            connection
                .execute(&format!("DELETE FROM {table}"), ())
                .unwrap()
                > 0
        );
    }
    drop(connection);
    // Opening verifies the whole log.
    let store = open(&directory).unwrap();
    assert_eq!(store.audit(&AuditFilter::default(), 99), Ok(all.clone()));
    let of_releases = AuditFilter {
        action: Some(Action::Release),
        ..AuditFilter::default()
    };
    assert_eq!(store.audit(&of_releases, 99), Ok(Vec::new()));
    let last = all.first().map(|record| record.sequence).unwrap();
    assert_eq!(store.audit_record(last), Ok(all.first().cloned()));
    // Where no day is known, nothing is old enough to be archived.
    let (archives, later) = (folder.path().join("archives"), 2 * 86_400);
    let archived = store.archive_audit(&archives, time(later), act(later));
    assert_eq!(archived.unwrap(), None);
}
