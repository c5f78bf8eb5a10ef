//! Two neighbouring versions of the program side by side: this one, and the next one as a test plays it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::channel;

use hgs_crypto::random::System;
use hgs_fault::become_next_version;

use super::*;
use crate::fixture::*;
use crate::order::memory::MemoryOrder;
use crate::planner::BatchPlanner;

/// Set in the process that plays the next version.
const PLAYS: &str = "OPENHGS_TEST_PLAYS_NEXT_VERSION";

/// Does `work` in a process of its own that plays the next version: other tests must not.
fn in_next_version(test: &str, work: impl FnOnce()) {
    if std::env::var_os(PLAYS).is_some() {
        become_next_version();
        return work();
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("store::upgrade_tests::{test}")])
        .env(PLAYS, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("1 passed"), "{said}");
}

/// The program before the next one.
fn old() -> Program<'static> {
    let next = Program::this();
    let (_, migrations) = next.migrations.split_last().unwrap();
    Program {
        migrations: migrations.to_vec().into(),
        levels: Levels::default(),
    }
}

fn new() -> Program<'static> {
    Program::this()
}

fn second() -> Level {
    Level::FIRST.next()
}

struct Cluster {
    order: MemoryOrder,
    fixture: Fixture,
    folder: tempfile::TempDir,
}

impl Cluster {
    /// Three nodes of the old program.
    fn of_old() -> (Self, [Option<Store>; 3]) {
        let cluster = Self {
            order: MemoryOrder::new(),
            fixture: Fixture::new(),
            folder: tempfile::tempdir().unwrap(),
        };
        let (directory, master_key) = (cluster.state(0), master_key());
        // It makes its state as the old program does.
        let folder = StateFolder::take(&directory).unwrap();
        let opening = opening(&directory, &master_key);
        let mut found = OpenedState::look(folder, opening, Durability::Full, &old()).unwrap();
        found.writer.mark.reset(None).unwrap();
        let settings = Transaction::SetSettings(Settings::new("hgs".parse().unwrap()));
        let more = cluster.fixture.first_transactions();
        let transactions = [settings].into_iter().chain(more).collect();
        found.initialise(transactions, act(0)).unwrap();
        drop(found);
        let first = cluster.open(0, &old()).unwrap();
        let [second, third] = [1, 2].map(|node| {
            let copy = cluster.copy_of(&first);
            Store::adopt_with(&cluster.state(node), &copy, &old()).unwrap();
            cluster.open(node, &old()).unwrap()
        });
        (cluster, [Some(first), Some(second), Some(third)])
    }

    fn state(&self, node: usize) -> PathBuf {
        self.folder.path().join(format!("node-{node}"))
    }

    fn copy_of(&self, store: &Store) -> PathBuf {
        let copy = self.folder.path().join("copy");
        store.copy_to(&copy).unwrap();
        copy
    }

    fn open(&self, node: usize, program: &Program<'_>) -> Result<Store, OpenError> {
        let (directory, master_key) = (self.state(node), master_key());
        let name = format!("node-{node}");
        let opening = Opening {
            node: &name,
            order: Some(Ordered {
                order: Box::new(self.order.of(&name)),
                random: Box::new(System::new()),
            }),
            ..opening(&directory, &master_key)
        };
        Store::open_with(opening, Durability::Full, program)
    }

    /// A release through each node, and all have the same state then.
    fn agree(&self, nodes: &[Option<Store>], protector: &mut u64) -> Level {
        for store in nodes.iter().flatten() {
            let release = self.fixture.release(2, *protector, *protector + 1);
            record(store, release).unwrap();
            *protector += 1;
        }
        let wholes = nodes.iter().flatten().map(|store| {
            store.check().unwrap();
            let (state, integrity) = store.shared.newest();
            (
                integrity.root(&store.keys),
                integrity.audit.sequence,
                state.level(),
            )
        });
        let wholes: Vec<_> = wholes.collect();
        assert!(wholes.iter().all(|whole| *whole == wholes[0]), "{wholes:?}");
        wholes[0].2
    }
}

/// A group with a name that the old program refuses to read.
fn use_feature(store: &Store) -> Result<Committed, Failure<Refusal>> {
    let group = "rack+1".parse().unwrap();
    store.transact(vec![Transaction::NewHostGroup(group)], act(3))
}

fn raise(store: &Store) -> Result<Committed, Failure<Refusal>> {
    store.transact(vec![Transaction::RaiseLevel(second())], act(4))
}

/// The row that holds the whole together, and the schema. Files differ: the log is brought home when they are closed.
fn content(directory: &Path) -> String {
    let connection = rusqlite::Connection::open(directory.join(DATABASE)).unwrap();
    let sql = "SELECT group_concat(sql) || (SELECT schema_version || hex(root) FROM store) FROM sqlite_schema";
    connection.query_row(sql, (), |row| row.get(0)).unwrap()
}

#[test]
fn nodes_are_upgraded_one_after_the_other_and_the_level_waits_for_the_last() {
    in_next_version(
        "nodes_are_upgraded_one_after_the_other_and_the_level_waits_for_the_last",
        || {
            let (cluster, mut nodes) = Cluster::of_old();
            let mut protector = 100;
            assert_eq!(cluster.agree(&nodes, &mut protector), Level::FIRST);
            for node in 0..nodes.len() {
                nodes[node] = None;
                cluster.agree(&nodes, &mut protector);
                nodes[node] = Some(cluster.open(node, &new()).unwrap());
                assert_eq!(cluster.agree(&nodes, &mut protector), Level::FIRST);
                let refused = use_feature(nodes[node].as_ref().unwrap());
                let (needed, level) = (second(), Level::FIRST);
                let expected = Refusal::LevelNeeded { needed, level };
                assert_eq!(refused, Err(Failure::Refused(expected)));
            }
            raise(nodes[1].as_ref().unwrap()).unwrap();
            let [first, _, third] = &nodes;
            use_feature(first.as_ref().unwrap()).unwrap();
            assert_eq!(cluster.agree(&nodes, &mut protector), second());
            let third_state = third.as_ref().unwrap().state();
            assert!(third_state.host_group(&"rack+1".parse().unwrap()).is_some());
            // It is raised once, and that is on record.
            let level = second();
            let refused = raise(third.as_ref().unwrap());
            let expected = Refusal::LevelNotRaised { level, to: level };
            assert_eq!(refused, Err(Failure::Refused(expected)));
            let filter = AuditFilter {
                action: Some(Action::RaiseLevel),
                outcome: Some(Outcome::Done),
                ..AuditFilter::default()
            };
            let raised = third.as_ref().unwrap().audit(&filter, 9).unwrap();
            assert_eq!(raised.len(), 1);
            let after = serde_json::json!({"level": 2, "version": "0.2.0"});
            assert_eq!(raised[0].entry.after, Some(after));
            // All of it is verified when it is opened again.
            nodes[2] = None;
            nodes[2] = Some(cluster.open(2, &new()).unwrap());
            cluster.agree(&nodes, &mut protector);
        },
    );
}

#[test]
fn an_old_program_leaves_an_upgraded_copy_alone() {
    in_next_version("an_old_program_leaves_an_upgraded_copy_alone", || {
        let (cluster, mut nodes) = Cluster::of_old();
        for node in [0, 1] {
            nodes[node] = None;
            nodes[node] = Some(cluster.open(node, &new()).unwrap());
        }
        let [upgraded, other, left_behind] = nodes.map(Option::unwrap);
        raise(&upgraded).unwrap();
        // One that runs, although it was never to be left behind.
        let before = left_behind.progress().unwrap();
        let error = left_behind.check().unwrap_err();
        assert!(matches!(error, StoreError::Level(_)), "{error:?}");
        assert!(
            error.to_string().contains("hgs 0.2.0 introduced"),
            "{error}"
        );
        assert!(error.remedy().unwrap().contains("install hgs 0.2.0"));
        assert!(record(&left_behind, cluster.fixture.release(1, 10, 11)).is_err());
        assert_eq!(left_behind.progress().unwrap(), before);
        drop(left_behind);
        // One that takes it in when it is started.
        let error = cluster.open(2, &old()).err();
        assert!(matches!(error, Some(OpenError::Level(_))), "{error:?}");
        // One whose copy is at the level already: no step of its schema is made either.
        other.check().unwrap();
        drop(other);
        let unchanged = content(&cluster.state(1));
        let stripped = Program {
            levels: Levels::default(),
            ..new()
        };
        let later = [
            &*new().migrations,
            &["CREATE TABLE later (id INTEGER) STRICT"],
        ]
        .concat();
        let later = Program {
            migrations: later.into(),
            levels: Levels {
                oldest: second().next(),
                newest: second().next(),
            },
        };
        for (program, said) in [
            (old(), "install hgs 0.2.0"),
            (stripped, "install hgs 0.2.0"),
            (later, "earlier version that reads level 2"),
        ] {
            let error = cluster.open(1, &program).err().unwrap();
            assert!(matches!(error, OpenError::Level(_)), "{error:?}");
            assert!(error.remedy().unwrap().contains(said), "{error:?}");
            assert_eq!(content(&cluster.state(1)), unchanged);
        }
        // One that is given it.
        let copy = cluster.copy_of(&upgraded);
        let nowhere = cluster.folder.path().join("nowhere");
        let error = Store::adopt_with(&nowhere, &copy, &old()).err();
        assert!(matches!(error, Some(OpenError::Level(_))), "{error:?}");
        assert_eq!(fs::metadata(nowhere.join(DATABASE)).unwrap().len(), 0);
        let schema = Program {
            levels: Levels::of_this_program(),
            ..old()
        };
        let error = Store::adopt_with(&nowhere, &copy, &schema).err();
        assert!(
            matches!(error, Some(OpenError::NewerSchema { .. })),
            "{error:?}"
        );
    });
}

#[test]
fn what_was_decided_at_one_level_is_not_ordered_at_another() {
    in_next_version(
        "what_was_decided_at_one_level_is_not_ordered_at_another",
        || {
            let (cluster, mut nodes) = Cluster::of_old();
            for node in [0, 1] {
                nodes[node] = None;
                nodes[node] = Some(cluster.open(node, &new()).unwrap());
            }
            let [one, other, _] = nodes.map(Option::unwrap);
            // It depends on nothing else.
            let act = act(5);
            let entry = AuditEntry::new(act.time, act.actor, Action::Trace, Outcome::Done);
            let (sender, receiver) = channel();
            let decided_at = Arc::new(Mutex::new(Vec::new()));
            let levels = Arc::clone(&decided_at);
            let decide = move |planner: &mut BatchPlanner<'_>| {
                let mut levels = levels.lock().unwrap();
                levels.push(planner.state.level());
                if levels.len() == 1 {
                    raise(&other).unwrap();
                }
                planner.note(entry.clone(), Vec::new()).map(Ok)
            };
            let reply =
                move |result: Result<u64, Failure<Infallible>>| sender.send(result).unwrap();
            let job = job(false, decide, Box::new(reply));
            one.queue.submit(job).unwrap();
            receiver.recv().unwrap().unwrap();
            assert_eq!(*decided_at.lock().unwrap(), [Level::FIRST, second()]);
        },
    );
}

#[test]
fn a_guardian_that_is_made_anew_begins_at_the_newest_level() {
    in_next_version(
        "a_guardian_that_is_made_anew_begins_at_the_newest_level",
        || {
            let folder = tempfile::tempdir().unwrap();
            let directory = folder.path().join("state");
            let store = Fixture::new().create(&directory);
            assert_eq!(store.state().level(), second());
            use_feature(&store).unwrap();
            drop(store);
            use_feature(&open(&directory).unwrap()).unwrap_err();
        },
    );
}
