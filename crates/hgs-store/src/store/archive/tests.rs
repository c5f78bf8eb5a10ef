//! Archives of the audit log: nothing is lost wherever this is interrupted, and what is changed is found.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::audit::{Archive, ArchiveError};
use crate::fixture::*;
use crate::high_water_mark::default_path;
use crate::master_key_file;
use crate::{AuditFilter, LaterRecords, OpenError, Opening};

const DAY: i64 = 86_400;

/// A state with a log of two days: records 1 to 5 of its making, 600 of the first day, 10 of the third.
struct Site {
    folder: TempDir,
    fixture: Fixture,
}

impl Site {
    fn new() -> (Self, Store) {
        let site = Self {
            folder: tempfile::tempdir().unwrap(),
            fixture: Fixture::new(),
        };
        let store = site.fixture.create(&site.state());
        note(&store, 0, 600);
        note(&store, 2, 10);
        (site, store)
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn archives(&self) -> PathBuf {
        self.folder.path().join("archives")
    }

    /// The files of archives, in their order.
    fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.archives()).unwrap();
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }

    fn archive(&self, store: &Store) -> Option<Archived> {
        let before = time(2 * DAY);
        store
            .archive_audit(&self.archives(), before, act(2 * DAY))
            .unwrap()
    }

    fn execute(&self, sql: &str) {
        let connection = Connection::open(self.state().join("state.db")).unwrap();
        assert!(connection.execute(sql, ()).unwrap() > 0, "{sql}");
    }

    fn refused(&self) -> String {
        match open(&self.state()) {
            Err(OpenError::Tampered(found)) => format!("{} {}", found.table, found.name),
            other => panic!("{:?}", other.err()),
        }
    }
}

fn note(store: &Store, day: i64, count: usize) {
    for number in 0..count {
        let entry = AuditEntry {
            host_name: Some(format!("host-{number}")),
            ..AuditEntry::new(time(day * DAY), "test", Action::Trace, Outcome::Done)
        };
        store.note_waiting(entry).unwrap();
    }
}

fn read_archive(path: &Path) -> Archive {
    Archive::read(&fs::read(path).unwrap()).unwrap()
}

/// All records, those in archives and those in the database, in their order and each once.
fn assert_complete(site: &Site, store: &Store) {
    let mut numbers: Vec<u64> = Vec::new();
    let archived = store.audit_extent().unwrap().archived;
    for file in site.files() {
        let archive = read_archive(&file);
        numbers.extend(archive.records().iter().map(|record| record.sequence));
    }
    assert_eq!(numbers.last().copied().unwrap_or(0), archived);
    let mut live = store.audit(&AuditFilter::default(), 100_000).unwrap();
    live.reverse();
    let live = live.iter().map(|record| record.sequence);
    numbers.extend(live.filter(|number| *number > archived));
    let last = store.audit_extent().unwrap().last;
    assert_eq!(numbers, (1..=last).collect::<Vec<_>>());
}

#[test]
fn old_records_leave_the_database_and_are_in_the_archive_as_they_were() {
    let (site, store) = Site::new();
    let mut before = store.audit(&AuditFilter::default(), 1000).unwrap();
    before.reverse();
    let archived = site.archive(&store).unwrap();
    assert_eq!((archived.first, archived.last), (1, 605));
    let archive = read_archive(&archived.file);
    assert_eq!(archive.digest(), archived.digest);
    assert_eq!(archive.records(), &before[..605]);
    // What is left is found as before, the first of it too, and nothing that has left.
    let live = store.audit(&AuditFilter::default(), 1000).unwrap();
    assert_eq!(live.last().unwrap().sequence, 606);
    assert_eq!(live[0].entry.action, Action::ArchiveAudit);
    assert_eq!(live[0].entry.count, Some(605));
    let host = AuditFilter {
        host: Some("host-3".to_owned()),
        ..AuditFilter::default()
    };
    assert_eq!(store.audit(&host, 9).unwrap().len(), 1);
    assert_eq!(store.audit_record(605).unwrap(), None);
    assert_eq!(store.audit_record(606).unwrap().unwrap().sequence, 606);
    assert_eq!(site.archive(&store), None, "nothing is left of those days");
    assert_complete(&site, &store);
    drop(store);
    let store = open(&site.state()).unwrap();
    record(&store, site.fixture.release(3 * DAY, 10, 11)).unwrap();
    let extent = store.audit_extent().unwrap();
    assert_eq!((extent.first, extent.archived), (606, 605));
    assert_eq!(extent.digest, Some(archived.digest));
    assert_complete(&site, &store);
}

#[test]
fn nothing_is_archived_unless_it_is_asked_for_and_the_newest_record_stays() {
    let (site, store) = Site::new();
    drop(store);
    let store = open(&site.state()).unwrap();
    let extent = store.audit_extent().unwrap();
    assert_eq!((extent.first, extent.last, extent.archived), (1, 615, 0));
    let before = time(400 * DAY);
    let archived = store
        .archive_audit(&site.archives(), before, act(0))
        .unwrap();
    assert_eq!(archived.unwrap().last, 614);
    drop(store);
    assert!(open(&site.state()).is_ok());
}

#[test]
fn each_archive_vouches_for_the_one_before_it() {
    let (site, store) = Site::new();
    let first = site.archive(&store).unwrap();
    note(&store, 3, 5);
    let second = store
        .archive_audit(&site.archives(), time(4 * DAY), act(4 * DAY))
        .unwrap()
        .unwrap();
    assert_eq!(second.first, first.last + 1);
    let (one, other) = (read_archive(&first.file), read_archive(&second.file));
    assert_eq!(other.previous(), Some(first.digest));
    assert_eq!(one.precedes(&other), Ok(()));
    let gap = ArchiveError::Gap {
        first: 1,
        before: other.last(),
    };
    assert_eq!(other.precedes(&one), Err(gap));

    let text = fs::read_to_string(&first.file).unwrap();
    let changed = Archive::read(text.replace("host-7\"", "host-8\"").as_bytes()).unwrap();
    let error = changed.precedes(&other).unwrap_err();
    assert_eq!(error, ArchiveError::Changed { last: first.last });
    let without: String = text
        .lines()
        .filter(|line| !line.contains("host-7\""))
        .collect::<Vec<_>>()
        .join("\n");
    let read = |text: &str| Archive::read(text.as_bytes()).unwrap_err();
    assert!(matches!(read(&without), ArchiveError::Record { .. }));
    assert_eq!(read(&format!("{text}{{}}\n")), ArchiveError::TooLong);
    assert_eq!(read("{}\n"), ArchiveError::Header);
    assert_eq!(
        read(&text.replacen(":1,", ":2,", 1)),
        ArchiveError::Format { found: 2 }
    );
    assert_eq!(
        read(&text.replacen("\"last\"", "\"end\"", 1)),
        ArchiveError::Header
    );
}

/// A process that is killed does nothing more; what comes next is a process that opens the state.
#[test]
fn a_kill_at_any_step_loses_no_record_and_the_next_archive_goes_on() {
    for killed_after in 0..4 {
        let (site, store) = Site::new();
        hgs_files::private_folder(&site.archives()).unwrap();
        let written = store
            .write_archive(&site.archives(), time(2 * DAY))
            .unwrap()
            .unwrap();
        let archived = Archived {
            first: written.first,
            last: written.last,
            file: site.archives().join(file_name(written.first, written.last)),
            digest: written.digest,
        };
        hgs_files::create(&archived.file, &written.octets, Readers::Owner).unwrap();
        if killed_after > 0 {
            store.record_archive(&archived, act(2 * DAY)).unwrap();
        }
        for _ in 1..killed_after {
            store.carry_out(false, take_out).unwrap();
        }
        drop(store);

        let store = open(&site.state()).unwrap();
        let extent = store.audit_extent().unwrap();
        let left = [0, 0, 256, 512][killed_after];
        assert_eq!(extent.first, left + 1, "killed after step {killed_after}");
        if killed_after > 0 {
            assert_complete(&site, &store);
        }
        note(&store, 3, 1);
        let next = store
            .archive_audit(&site.archives(), time(4 * DAY), act(4 * DAY))
            .unwrap()
            .unwrap();
        assert_eq!(next.first, if killed_after == 0 { 1 } else { 606 });
        assert_complete(&site, &store);
    }
}

#[test]
fn records_do_not_leave_the_database_before_their_archive_is_there() {
    let (site, store) = Site::new();
    hgs_files::private_folder(&site.archives()).unwrap();
    let written = store
        .write_archive(&site.archives(), time(2 * DAY))
        .unwrap()
        .unwrap();
    let file = site.archives().join(file_name(written.first, written.last));
    let archived = Archived {
        first: written.first,
        last: written.last,
        file: file.clone(),
        digest: written.digest,
    };
    store.record_archive(&archived, act(2 * DAY)).unwrap();
    let archive = || store.archive_audit(&site.archives(), time(2 * DAY), act(2 * DAY));
    assert!(matches!(archive(), Err(ArchivingError::Lost { .. })));
    fs::write(&file, b"something else").unwrap();
    assert!(matches!(archive(), Err(ArchivingError::Lost { .. })));
    assert_eq!(store.audit_extent().unwrap().first, 1);
    fs::write(&file, &written.octets).unwrap();
    assert_eq!(archive().unwrap(), None);
    assert_eq!(store.audit_extent().unwrap().first, 606);
}

#[test]
fn a_changed_boundary_is_found() {
    for (sql, place) in [
        ("UPDATE audit_boundary SET last_left = 606", "audit 606"),
        ("UPDATE audit_boundary SET archived = 606", "audit 605"),
        (
            "UPDATE audit_boundary SET digest = zeroblob(32)",
            "audit 605",
        ),
        ("UPDATE audit_boundary SET tag = zeroblob(32)", "audit 605"),
        ("DELETE FROM audit_boundary", "audit 1"),
        ("DELETE FROM audit WHERE sequence = 606", "audit 606"),
    ] {
        let (site, store) = Site::new();
        site.archive(&store).unwrap();
        drop(store);
        site.execute(sql);
        assert_eq!(site.refused(), place, "{sql}");
    }
}

/// Cutting off the beginning of the log with a boundary that is not sealed, or with one of an earlier time.
#[test]
fn the_beginning_of_the_log_can_not_be_cut_off_otherwise() {
    let (site, store) = Site::new();
    drop(store);
    site.execute("DELETE FROM audit WHERE sequence <= 10");
    site.execute(
        "INSERT INTO audit_boundary VALUES (1, 10, zeroblob(32), 10, zeroblob(32), zeroblob(32))",
    );
    assert_eq!(site.refused(), "audit 10");

    let (site, store) = Site::new();
    site.archive(&store).unwrap();
    drop(store);
    fs::copy(
        site.state().join("state.db"),
        site.folder.path().join("earlier.db"),
    )
    .unwrap();
    let store = open(&site.state()).unwrap();
    note(&store, 3, 5);
    let later = store.archive_audit(&site.archives(), time(4 * DAY), act(4 * DAY));
    assert!(later.unwrap().is_some());
    drop(store);
    let connection = Connection::open(site.state().join("state.db")).unwrap();
    let earlier = site.folder.path().join("earlier.db");
    let sql = format!(
        "ATTACH '{}' AS earlier;
         INSERT OR REPLACE INTO main.audit_boundary SELECT * FROM earlier.audit_boundary;
         DETACH earlier;",
        earlier.display()
    );
    connection.execute_batch(&sql).unwrap();
    drop(connection);
    assert_eq!(site.refused(), "audit 606");
}

#[test]
fn a_rotation_of_the_master_key_keeps_the_boundary() {
    let site = Site {
        folder: tempfile::tempdir().unwrap(),
        fixture: Fixture::new(),
    };
    let random = &mut hgs_crypto::random::System::new();
    let store = site.fixture.create(&site.state());
    note(&store, 0, 20);
    note(&store, 2, 3);
    let archived = site.archive(&store).unwrap();
    drop(store);
    let new_file = site.folder.path().join("new.key");
    let new = master_key_file::create(&new_file, random).unwrap();
    Store::rotate_master_key(opening(&site.state(), &master_key()), &new, &act(3 * DAY)).unwrap();
    let store = Store::open(Opening {
        master_key: &new,
        high_water_mark: default_path(&site.state()),
        ..opening(&site.state(), &new)
    })
    .unwrap();
    assert_eq!(store.audit_extent().unwrap().digest, Some(archived.digest));
    let records = store.audit(&AuditFilter::default(), 100).unwrap();
    assert_eq!(records.last().unwrap().sequence, archived.last + 1);
    assert_complete(&site, &store);
}

#[test]
fn a_backup_has_the_records_that_are_in_the_database() {
    let (site, store) = Site::new();
    site.archive(&store).unwrap();
    let snapshot = crate::backup::Snapshot::open(&site.state(), &master_key()).unwrap();
    let about = crate::backup::About {
        time: time(0),
        program: "test",
        node: "node-1",
        configuration: None,
    };
    let mut document = Vec::new();
    let header = snapshot.write(about, &mut document).unwrap();
    assert_eq!(
        header.audit_records,
        store.audit_extent().unwrap().last - 605
    );
    let mut read = crate::backup::Document::open(&document[..]).unwrap();
    while read.next().unwrap().is_some() {}
}

/// What left the database leaves the disk too, when the store is idle. It fails by the runner's timeout.
#[test]
fn the_database_shrinks_after_its_records_were_archived() {
    let (site, store) = Site::new();
    let (sender, receiver) = sync_channel(3000);
    for number in 0..3000 {
        let entry = AuditEntry {
            reason: Some(format!("{number} {}", "x".repeat(1000))),
            ..AuditEntry::new(time(DAY), "test", Action::Trace, Outcome::Done)
        };
        let submitted = || {
            let sender = sender.clone();
            store.note(entry.clone(), move |noted| sender.send(noted).unwrap())
        };
        until(|| submitted().is_ok());
    }
    let noted = receiver.iter().take(3000);
    for noted in noted {
        noted.unwrap();
    }
    note(&store, 2, 1);
    let database = site.state().join("state.db");
    let size = || fs::metadata(&database).unwrap().len();
    until(|| size() > 3_500_000);
    site.archive(&store).unwrap();
    until(|| size() < 2_000_000);
    drop(store);
    assert!(open(&site.state()).is_ok());
}

fn until(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

#[test]
fn the_log_is_read_onward_until_its_end_and_from_where_it_begins() {
    let (site, store) = Site::new();
    let after = |sequence, limit| store.records_after(sequence, limit).unwrap();
    let numbers = |later| match later {
        LaterRecords::Records(records) => {
            let numbers = records.iter().map(|record| record.sequence);
            numbers.collect::<Vec<_>>()
        }
        LaterRecords::Archived { first } => panic!("the log begins with {first}"),
    };
    let last = store.newest_record();
    assert_eq!(numbers(after(0, 3)), [1, 2, 3]);
    assert_eq!(numbers(after(3, 2)), [4, 5]);
    assert_eq!(numbers(after(last - 1, 100)), [last]);
    assert!(numbers(after(last, 100)).is_empty());
    assert!(numbers(after(last + 5, 100)).is_empty());

    let archived = site.archive(&store).unwrap();
    let first = archived.last + 1;
    assert_eq!(after(3, 2), LaterRecords::Archived { first });
    assert_eq!(
        after(archived.last - 1, 2),
        LaterRecords::Archived { first }
    );
    assert_eq!(numbers(after(archived.last, 2)), [first, first + 1]);

    site.execute("DELETE FROM audit WHERE sequence = 608");
    assert!(store.records_after(606, 1).is_ok());
    assert!(store.records_after(606, 2).is_err());
    assert!(store.records_after(607, 2).is_err());
}

#[test]
fn who_follows_is_told_of_every_record_and_of_nothing_else() {
    let (_site, store) = Site::new();
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&told);
    store.follow_records(move |sequence| tell.lock().unwrap().push(sequence));
    let last = store.newest_record();
    note(&store, 2, 2);
    store.check().unwrap();
    assert_eq!(*told.lock().unwrap(), [last + 1, last + 2]);
    assert_eq!(store.newest_record(), last + 2);
}
