//! What every engine must do. A new engine gets a line in [`every_engine`].

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use hgs_crypto::random::System;
use hgs_custody::seal::Tag;
use tempfile::TempDir;

use super::*;
use crate::audit::{self, AuditEntry, terms};
use crate::audit_term::day;
use crate::change::Change;
use crate::fixture::{Fixture, HOST, act, attestation, digest, master_key, time};
use crate::level::Levels;
use crate::lineage::Step;
use crate::model::Settings;
use crate::node::{Opener, Stage};
use crate::order::memory::MemoryOrder;
use crate::planner::{Basis, BatchPlanner};
use crate::protectors::Heads;
use crate::record::{Keys, RecordKind};
use crate::state_folder::StateFolder;
use crate::writer::Shared;
use crate::{Action, Outcome, State, Transaction};

/// An empty engine, and what it told.
struct Site {
    engine: Box<dyn Engine>,
    keys: Keys,
    shared: Arc<Shared>,
    news: Arc<Mutex<Vec<Tag>>>,
    _folder: TempDir,
}

fn database(folder: &TempDir, keys: &Arc<Keys>) -> Sqlite {
    let place = StateFolder::take(&folder.path().join("state")).unwrap();
    let program = Program::this();
    Sqlite::open(place, Durability::Full, &program, &master_key(), keys).unwrap()
}

fn sqlite() -> Site {
    let folder = tempfile::tempdir().unwrap();
    let engine = database(&folder, &Arc::new(Keys::derive(&master_key())));
    Site::over(Box::new(engine), folder)
}

fn replicated() -> Site {
    let folder = tempfile::tempdir().unwrap();
    let keys = Arc::new(Keys::derive(&master_key()));
    let copy = database(&folder, &keys);
    let (order, random) = (Box::new(MemoryOrder::new()), Box::new(System::new()));
    let engine = Replicated::open(
        copy,
        order,
        keys,
        random,
        Integrity::EMPTY,
        Levels::default(),
    )
    .unwrap();
    Site::over(Box::new(engine), folder)
}

fn memory() -> Site {
    let engine = Memory::new(&Arc::new(Keys::derive(&master_key())));
    Site::over(Box::new(engine), tempfile::tempdir().unwrap())
}

impl Site {
    fn over(mut engine: Box<dyn Engine>, folder: TempDir) -> Self {
        let shared = Arc::new(Shared::new(State::default(), Integrity::EMPTY));
        let news = Arc::new(Mutex::new(Vec::new()));
        let listeners = (Arc::clone(&shared), Arc::clone(&news));
        engine.listen(Arc::new(move |batch| {
            listeners.0.committed(batch);
            listeners.1.lock().unwrap().push(batch.row.root);
        }));
        Self {
            engine,
            keys: Keys::derive(&master_key()),
            shared,
            news,
            _folder: folder,
        }
    }

    /// Plans a batch, which `change` may spoil, and commits it.
    fn commit(
        &mut self,
        plan: impl Fn(&mut BatchPlanner<'_>),
        change: impl Fn(&mut Batch),
    ) -> Result<u64, CommitError> {
        let (state, integrity) = self.shared.newest();
        let keys = &self.keys;
        self.engine.commit(&mut |view| {
            let mut planner = planner(view, keys, &state, integrity);
            plan(&mut planner);
            let mut batch = planner.finish()?;
            change(&mut batch);
            Ok(batch)
        })
    }

    /// Settings, an identity key, and a line of two protectors: 10 is an ancestor, 11 the head.
    fn begin(&mut self) -> u64 {
        let begun = self.commit(
            |planner| {
                planner.state.set_generation(1);
                planner.write(settings("hgs")).unwrap();
                planner.write(identity(1)).unwrap();
                step(planner, 1, 10, 11);
                step(planner, 2, 11, 12);
                planner.note(entry(1), Vec::new()).unwrap();
                planner.note(entry(2), Vec::new()).unwrap();
            },
            |_| (),
        );
        begun.unwrap()
    }

    fn shown(&self) -> String {
        shown(&*self.engine.readers().newest().unwrap())
    }
}

fn planner<'p>(
    view: &'p dyn View,
    keys: &'p Keys,
    state: &State,
    integrity: Integrity,
) -> BatchPlanner<'p> {
    static NOTHING: BTreeSet<Key> = BTreeSet::new();
    let basis = Basis {
        view,
        keys,
        node: "node-1",
        random: Box::leak(Box::new(System::new())),
        spoilt: &NOTHING,
        share: (0, 1),
    };
    BatchPlanner::new(basis, state.clone(), integrity)
}

fn settings(name: &str) -> Change {
    Change::Put(Record::Settings(Settings::new(name.parse().unwrap())))
}

fn identity(number: u64) -> Change {
    Change::Put(Record::HostIdentity(crate::HostIdentity {
        host: HOST,
        kind: hgs_pki::health::HealthKind::Signing,
        public_key: digest(number),
        first_seen: time(0),
        superseded: None,
        returned: None,
    }))
}

fn entry(second: i64) -> AuditEntry {
    AuditEntry::new(time(second), act(0).actor, Action::Trace, Outcome::Done)
}

fn step(planner: &mut BatchPlanner<'_>, second: i64, ingress: u64, egress: u64) {
    let owner = hgs_pki::Thumbprint::from_bytes([7; 32]);
    let step = Step {
        time: time(second),
        ingress: digest(ingress),
        egress: digest(egress),
        owner,
        opener: Opener {
            encryption: owner,
            signing: None,
        },
        host: "a",
    };
    planner.tree.step(&step).unwrap();
}

/// All that is kept.
fn shown(view: &dyn View) -> String {
    let (mut records, mut nodes, mut audit) = (Vec::new(), Vec::new(), Vec::new());
    let all = || -> Result<(), StoreError> {
        view.each_record(|row| -> Result<(), StoreError> {
            records.push(row);
            Ok(())
        })?;
        view.each_node(|node| -> Result<(), StoreError> {
            nodes.push(node);
            Ok(())
        })?;
        view.each_audit_row(|row| -> Result<(), StoreError> {
            audit.push(row);
            Ok(())
        })
    };
    let mut all = all;
    all().unwrap();
    format!("{:?} {records:?} {nodes:?} {audit:?}", view.row().unwrap())
}

/// Runs each of the contracts with each of the engines.
macro_rules! every_engine {
    ($($contract:ident),* $(,)?) => {
        mod in_sqlite {
            $(#[test] fn $contract() { super::$contract(super::sqlite()); })*
        }
        mod replicated {
            $(#[test] fn $contract() { super::$contract(super::replicated()); })*
        }
        mod in_memory {
            $(#[test] fn $contract() { super::$contract(super::memory()); })*
        }
    };
}

every_engine![
    what_is_committed_is_shown,
    numbers_of_audit_records_come_from_the_engine,
    nothing_is_done_where_anything_is_not_as_expected,
    every_commit_is_told_once_and_in_order,
    parts_are_one_commit_or_none,
    a_snapshot_stays_at_its_moment,
    audit_records_are_found_by_what_they_say_and_when,
    protectors_are_found_by_age_and_parent,
    a_checkpoint_changes_nothing,
    a_release_and_an_attestation_of_one_host_at_once_do_not_conflict,
    two_releases_of_one_protector_at_once_do_conflict,
    an_attestation_conflicts_with_a_revocation,
];

fn what_is_committed_is_shown(mut site: Site) {
    site.begin();
    let view = site.engine.readers().newest().unwrap();
    let (state, integrity) = site.shared.newest();
    let row = view.row().unwrap().unwrap();
    assert_eq!(row.generation, 1);
    assert_eq!(row.audit_sequence, 2);
    assert_eq!(row.root, integrity.root(&site.keys));
    let records = view.records_after(("", ""), 9).unwrap();
    let kinds: Vec<_> = records.iter().map(|row| row.kind.as_str()).collect();
    assert_eq!(kinds, ["host-identity", "settings"]);
    let second = view
        .records_after(("host-identity", &records[0].name), 9)
        .unwrap();
    assert_eq!(second, records[1..]);
    assert_eq!(view.records_after(("", ""), 1).unwrap(), records[..1]);
    for row in &records {
        let kind = RecordKind::from_name(&row.kind).unwrap();
        let genuine = site
            .keys
            .verify(kind, &row.name, row.generation, &row.value, &row.tag);
        assert!(genuine.is_ok());
    }
    let version = state.version(&RecordKey::Settings).unwrap();
    assert_eq!(records[1].tag, version);
    let stage = |number| {
        let stored = view.node(&digest(number)).unwrap()?;
        Some(stored.verified(&site.keys).unwrap().0.stage)
    };
    let stages = [10, 11, 12, 13].map(stage);
    let [ancestor, head, issued] = [Stage::Ancestor, Stage::Head, Stage::Issued].map(Some);
    assert_eq!(stages, [ancestor, head, issued, None]);
    assert_eq!(view.count_nodes().unwrap(), 3);
    let (all, last) = view.nodes_after(FIRST_PLACE, 9).unwrap();
    assert_eq!(all.len(), 3);
    assert_eq!(view.nodes_after(last, 9).unwrap().0, []);
    view.check_structure().unwrap();
    // What is removed is gone, from the sums as well.
    let removed = site.commit(
        |planner| {
            let key = RecordKey::HostIdentity(HOST, digest(1));
            planner.write(Change::Remove(key)).unwrap();
        },
        |_| (),
    );
    removed.unwrap();
    assert_eq!(view.records_after(("", ""), 9).unwrap().len(), 1);
    assert_eq!(site.shared.newest().1.records.count(), 1);
}

fn numbers_of_audit_records_come_from_the_engine(mut site: Site) {
    assert_eq!(site.begin(), 1);
    let noted =
        |site: &mut Site| site.commit(|planner| drop(planner.note(entry(3), Vec::new())), |_| ());
    assert_eq!(noted(&mut site), Ok(3));
    assert_eq!(site.commit(|_| (), |_| ()), Ok(4));
    assert_eq!(noted(&mut site), Ok(4));
    let view = site.engine.readers().newest().unwrap();
    let head = audit::verify(&*view, &site.keys.audit, |row| -> Result<(), StoreError> {
        assert!(!row.text.contains("sequence"), "{}", row.text);
        Ok(())
    });
    assert_eq!(head.unwrap().sequence, 4);
    assert_eq!(view.audit_row(4).unwrap().unwrap().sequence, 4);
    assert_eq!(view.audit_row(5).unwrap(), None);
    assert_eq!(view.audit_row(0).unwrap(), None);
}

fn nothing_is_done_where_anything_is_not_as_expected(mut site: Site) {
    site.begin();
    let before = site.shown();
    let settings_key = Key::Record(RecordKey::Settings);
    let absent = Key::Record(RecordKey::HostIdentity(HOST, digest(2)));
    let present = Key::Record(RecordKey::HostIdentity(HOST, digest(1)));
    let wrong: &[(Key, Version)] = &[
        // Those that the batch writes, and those that it only depends on.
        (settings_key, None),
        (settings_key, Some([1; 32])),
        (present, None),
        (present, Some([1; 32])),
        (absent, Some([1; 32])),
        (Key::Protector(digest(11)), None),
        (Key::Protector(digest(11)), Some([1; 32])),
        (Key::Protector(digest(10)), None),
        (Key::Protector(digest(10)), Some([1; 32])),
        (Key::Protector(digest(99)), Some([1; 32])),
    ];
    let work = |planner: &mut BatchPlanner<'_>| {
        planner.write(settings("other")).unwrap();
        planner.write(identity(3)).unwrap();
        step(planner, 3, 11, 13);
        planner.note(entry(3), Vec::new()).unwrap();
    };
    for (key, version) in wrong {
        let refused = site.commit(work, |batch| {
            batch.expected.insert(*key, *version);
        });
        assert_eq!(refused, Err(CommitError::Conflict(*key)), "{version:?}");
        assert_eq!(site.shown(), before, "{key:?}");
    }
    let refused = site.commit(work, |batch| batch.row.expected_root = [1; 32]);
    assert_eq!(refused, Err(CommitError::Conflict(Key::Row)));
    assert_eq!(site.shown(), before);
    let failed = site.engine.commit(&mut |_| Err(StoreError::Busy));
    assert_eq!(failed, Err(CommitError::Store(StoreError::Busy)));
    assert_eq!(site.shown(), before);
    assert_eq!(site.news.lock().unwrap().len(), 1);
    assert_eq!(site.commit(work, |_| ()), Ok(3));
    assert_ne!(site.shown(), before);
}

fn every_commit_is_told_once_and_in_order(mut site: Site) {
    site.begin();
    for second in 3..6 {
        let plan = |planner: &mut BatchPlanner<'_>| {
            planner.note(entry(second), Vec::new()).unwrap();
        };
        site.commit(plan, |_| ()).unwrap();
    }
    let told = site.news.lock().unwrap().clone();
    assert_eq!(told.len(), 4);
    let (state, integrity) = site.shared.newest();
    assert_eq!(told[3], integrity.root(&site.keys));
    assert_eq!(state.settings().name.as_str(), "hgs");
    assert_eq!(state.host_identities(&HOST).count(), 1);
}

fn parts_are_one_commit_or_none(mut site: Site) {
    site.begin();
    let before = site.shown();
    for end in ["undo", "conflict", "commit"] {
        let (state, mut integrity) = site.shared.newest();
        let (keys, mut part) = (&site.keys, 0);
        let outcome = site.engine.commit_parts(&mut |view| {
            part += 1;
            let mut planner = planner(view, keys, &state, integrity);
            if part == 1 {
                planner.tree.get(&digest(20)).unwrap();
                step(&mut planner, 3, 20, 21);
            } else if part == 2 {
                // The second part sees the first.
                assert!(view.node(&digest(21)).unwrap().is_some());
                step(&mut planner, 4, 21, 22);
            } else {
                return match end {
                    "commit" => Part::Commit,
                    _ => Part::Undo,
                };
            }
            let mut batch = planner.finish().unwrap();
            if part == 2 && end == "conflict" {
                batch.expected.insert(Key::Protector(digest(21)), None);
            }
            integrity = integrity.after(&batch);
            Part::Write(Box::new(batch))
        });
        let conflict = Err(CommitError::Conflict(Key::Protector(digest(21))));
        assert_eq!(outcome, if end == "conflict" { conflict } else { Ok(()) });
        assert_eq!(site.shown() == before, end != "commit", "{end}");
    }
    let view = site.engine.readers().newest().unwrap();
    assert_eq!(view.count_nodes().unwrap(), 6);
}

fn a_snapshot_stays_at_its_moment(mut site: Site) {
    site.begin();
    let readers = site.engine.readers();
    let (snapshot, newest) = (readers.snapshot().unwrap(), readers.newest().unwrap());
    let before = shown(&*snapshot);
    site.commit(|planner| step(planner, 3, 12, 13), |_| ())
        .unwrap();
    assert_eq!(shown(&*snapshot), before);
    assert_ne!(shown(&*newest), before);
    assert_eq!(shown(&*newest), shown(&*readers.snapshot().unwrap()));
}

fn audit_records_are_found_by_what_they_say_and_when(mut site: Site) {
    const DAY: i64 = 86_400;
    // The clock went back for a while.
    for day in [0, 1, 5, 2, 6] {
        let refused = AuditEntry {
            outcome: Outcome::Refused,
            host: Some(format!("host-{day}")),
            ..entry(day * DAY)
        };
        let plan = |planner: &mut BatchPlanner<'_>| {
            planner.note(entry(day * DAY), Vec::new()).unwrap();
            planner.note(refused.clone(), Vec::new()).unwrap();
        };
        site.commit(plan, |_| ()).unwrap();
    }
    let view = site.engine.readers().newest().unwrap();
    let numbers = |entry: Option<&AuditEntry>, place: usize, within, limit| -> Vec<u64> {
        let term = entry.map(|entry| terms(entry)[place]);
        let rows = view.audit_newest(term, within, limit).unwrap();
        rows.iter().map(|row| row.sequence).collect()
    };
    assert_eq!(numbers(None, 0, 0..99, 3), [10, 9, 8]);
    assert_eq!(numbers(None, 0, 2..5, 9), [4, 3, 2]);
    let done = entry(0);
    let refused = AuditEntry {
        outcome: Outcome::Refused,
        ..entry(0)
    };
    // The term that both share, and the one that only one has.
    let shared = terms(&done)
        .iter()
        .position(|term| terms(&refused).contains(term));
    let own = 1 - shared.unwrap();
    assert_eq!(numbers(Some(&done), shared.unwrap(), 0..99, 9).len(), 9);
    assert_eq!(numbers(Some(&done), own, 0..99, 9), [9, 7, 5, 3, 1]);
    assert_eq!(numbers(Some(&done), own, 3..8, 9), [7, 5, 3]);
    assert_eq!(numbers(Some(&done), own, 0..99, 2), [9, 7]);
    let zero = day(time(0));
    let within = |first: Option<i64>, last: Option<i64>| {
        let day = |day| zero + day;
        view.audit_within_days(first.map(day), last.map(day))
            .unwrap()
    };
    assert_eq!(within(None, None), 1..11);
    assert_eq!(within(Some(2), Some(2)), 7..9);
    // All that lie in it, and some that do not.
    assert_eq!(within(Some(2), Some(5)), 5..9);
    assert_eq!(within(Some(5), None), 5..11);
    assert!(within(Some(7), None).is_empty());
    assert!(within(Some(3), Some(4)).is_empty());
}

fn protectors_are_found_by_age_and_parent(mut site: Site) {
    site.begin();
    let plan = |planner: &mut BatchPlanner<'_>| {
        step(planner, 3, 12, 13);
        step(planner, 4, 12, 14);
        step(planner, 5, 30, 31);
    };
    site.commit(plan, |_| ()).unwrap();
    let view = site.engine.readers().newest().unwrap();
    let digests = |nodes: Vec<StoredNode>| -> Vec<Digest> {
        nodes.into_iter().map(|stored| stored.node.digest).collect()
    };
    let before = |second, limit| digests(view.ancestors_before(time(second), limit).unwrap());
    assert_eq!(before(9, 9), [digest(10), digest(11)]);
    assert_eq!(before(9, 1), [digest(10)]);
    assert_eq!(before(3, 9), [digest(10)]);
    let mut issued = digests(view.issued_from(&digest(12)).unwrap());
    issued.sort();
    let mut expected = [digest(13), digest(14)];
    expected.sort();
    assert_eq!(issued, expected);
    assert_eq!(view.issued_from(&digest(11)).unwrap(), []);
    let heads = |until: Option<i64>, after: Option<u64>, limit| {
        let wanted = Heads {
            until: until.map(time),
            after: after.map(digest),
            host: None,
        };
        digests(view.heads(&wanted, limit).unwrap())
    };
    assert_eq!(heads(None, None, 9), [digest(30), digest(12)]);
    assert_eq!(heads(None, None, 1), [digest(30)]);
    assert_eq!(heads(Some(4), None, 9), [digest(12)]);
    assert_eq!(heads(Some(5), Some(30), 9), [digest(12)]);
    assert_eq!(heads(Some(3), None, 9), []);
    let host = "00".repeat(16).parse().ok();
    let of_nobody = Heads {
        host,
        ..Heads::default()
    };
    assert!(host.is_some() && view.heads(&of_nobody, 9).unwrap().is_empty());
    let usage = view.usage().unwrap();
    assert_eq!(usage.len(), 1);
    assert_eq!(
        (usage[0].protectors, usage[0].first, usage[0].last),
        (2, time(4), time(5))
    );
}

fn a_checkpoint_changes_nothing(mut site: Site) {
    site.begin();
    let before = site.shown();
    assert!(site.engine.checkpoint().unwrap());
    assert_eq!(site.shown(), before);
    let view = site.engine.readers().newest().unwrap();
    assert!(!view.has_mark().unwrap());
    site.engine.set_has_mark().unwrap();
    assert!(view.has_mark().unwrap());
    site.commit(|planner| step(planner, 3, 12, 13), |_| ())
        .unwrap();
    assert_ne!(site.shown(), before);
}

/// A state with hosts, from which two batches are decided.
struct Pair {
    site: Site,
    fixture: Fixture,
}

impl Pair {
    fn new(mut site: Site) -> Self {
        let fixture = Fixture::new();
        let first = fixture.first_transactions();
        let begun = site.commit(
            |planner| {
                planner.state.set_generation(1);
                planner.write(settings("hgs")).unwrap();
                planner.transact(&first, &act(0)).unwrap().unwrap();
            },
            |_| (),
        );
        begun.unwrap();
        Self { site, fixture }
    }

    /// A batch that is decided from the newest state.
    fn decided(&self, plan: impl FnOnce(&mut BatchPlanner<'_>)) -> Batch {
        let (state, integrity) = self.site.shared.newest();
        let view = self.site.engine.readers().newest().unwrap();
        let mut planner = planner(&*view, &self.site.keys, &state, integrity);
        plan(&mut planner);
        planner.finish().unwrap()
    }

    fn released(&self, egress: u64) -> Batch {
        let release = self.fixture.release(1, 40, egress);
        self.decided(|planner| {
            planner.release(&release).unwrap().unwrap();
        })
    }

    fn transacted(&self, transaction: Transaction) -> Batch {
        self.decided(|planner| {
            planner.transact(&[transaction], &act(2)).unwrap().unwrap();
        })
    }

    fn attested(&self) -> Batch {
        let attested = attestation(1, hgs_pki::health::HealthKind::Encryption);
        self.transacted(Transaction::RecordAttestation(attested))
    }

    fn commit(&mut self, batch: &Batch) -> Result<u64, CommitError> {
        self.site.engine.commit(&mut |_| Ok(batch.clone()))
    }

    /// What is kept, verified as when it is opened, and what the news have told.
    fn verify(&self) -> State {
        let view = self.site.engine.readers().snapshot().unwrap();
        let (state, integrity) = crate::opening::verify(&*view, &self.site.keys).unwrap();
        assert!(self.site.shared.newest().1 == integrity);
        state
    }
}

fn a_release_and_an_attestation_of_one_host_at_once_do_not_conflict(site: Site) {
    let mut pair = Pair::new(site);
    let (release, attested) = (pair.released(41), pair.attested());
    let first = pair.commit(&release).unwrap();
    assert_eq!(pair.commit(&attested), Ok(first + 1));
    let state = pair.verify();
    assert_eq!(state.host(&HOST).unwrap().last_attested, Some(time(2)));
    // And the other way round.
    let (release, attested) = (pair.released(42), pair.attested());
    assert_eq!(pair.commit(&attested), Ok(first + 2));
    assert_eq!(pair.commit(&release), Ok(first + 3));
    assert_eq!(pair.verify().generation(), state.generation() + 1);
}

fn two_releases_of_one_protector_at_once_do_conflict(site: Site) {
    let mut pair = Pair::new(site);
    let (one, other) = (pair.released(41), pair.released(42));
    pair.commit(&one).unwrap();
    let conflict = Err(CommitError::Conflict(Key::Protector(digest(40))));
    assert_eq!(pair.commit(&other), conflict);
    pair.verify();
}

fn an_attestation_conflicts_with_a_revocation(site: Site) {
    let mut pair = Pair::new(site);
    let (release, attested) = (pair.released(41), pair.attested());
    let revoked = pair.transacted(Transaction::RevokeHost {
        id: HOST,
        reason: "stolen".to_owned(),
    });
    for batch in [&release, &attested] {
        assert!(
            batch
                .expected
                .contains_key(&Key::Record(RecordKey::Host(HOST)))
        );
    }
    pair.commit(&revoked).unwrap();
    for batch in [release, attested] {
        let refused = pair.commit(&batch);
        assert!(
            matches!(refused, Err(CommitError::Conflict(_))),
            "{refused:?}"
        );
    }
    assert_eq!(pair.verify().host(&HOST).unwrap().last_attested, None);
}
