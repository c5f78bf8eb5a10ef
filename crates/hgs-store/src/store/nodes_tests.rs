//! Several nodes: each is a store with a copy of its own, and one order for all.

use std::path::PathBuf;
use std::sync::mpsc::channel;

use hgs_crypto::random::System;
use hgs_kps::Reason;
use hgs_pki::health::HealthKind;

use super::*;
use crate::Standing;
use crate::fixture::*;
use crate::order::OrderError;
use crate::order::memory::{Fault, MemoryOrder};
use crate::planner::BatchPlanner;

const REVOKED: ReleaseRefusal = ReleaseRefusal::Refused(Reason::HostRevoked);

struct Cluster {
    order: MemoryOrder,
    fixture: Fixture,
    folder: tempfile::TempDir,
}

impl Cluster {
    /// Of a guardian that was one node before, and has released something.
    fn new() -> (Self, Store) {
        let cluster = Self {
            order: MemoryOrder::new(),
            fixture: Fixture::new(),
            folder: tempfile::tempdir().unwrap(),
        };
        let alone = cluster.fixture.create(&cluster.state("node-1"));
        record(&alone, cluster.fixture.release(0, 1, 2)).unwrap();
        drop(alone);
        let first = cluster.open("node-1").unwrap();
        (cluster, first)
    }

    fn state(&self, node: &str) -> PathBuf {
        self.folder.path().join(node)
    }

    fn open(&self, node: &str) -> Result<Store, OpenError> {
        let (directory, master_key) = (self.state(node), master_key());
        Store::open(Opening {
            node,
            order: Some(Ordered {
                order: Box::new(self.order.of(node)),
                random: Box::new(System::new()),
            }),
            ..opening(&directory, &master_key)
        })
    }

    /// Another node, with a copy of the state of `from`.
    fn join(&self, node: &str, from: &Store) -> Store {
        let copy = self.folder.path().join(format!("copy for {node}"));
        from.copy_to(&copy).unwrap();
        Store::adopt(&self.state(node), &copy).unwrap();
        self.open(node).unwrap()
    }

    /// All stores have taken in everything, and are the same when they are opened and verified again.
    fn end(self, stores: Vec<(&str, Store)>) {
        let mut found = Vec::new();
        for (node, store) in stores {
            store.check().unwrap();
            drop(store);
            let store = self.open(node).unwrap();
            let (_, integrity) = store.shared.newest();
            found.push((integrity.root(&store.keys), integrity.audit.sequence));
        }
        let (first, others) = found.split_first().unwrap();
        assert!(others.iter().all(|other| other == first), "{found:?}");
    }
}

fn revoke(store: &Store) {
    let reason = "stolen".to_owned();
    let revoke = Transaction::RevokeHost { id: HOST, reason };
    store.transact(vec![revoke], act(2)).unwrap();
}

#[test]
fn what_one_node_commits_decides_on_every_other() {
    let (cluster, one) = Cluster::new();
    let other = cluster.join("node-2", &one);
    assert!(other.seen(&digest(2)).unwrap().is_some());
    record(&one, cluster.fixture.release(1, 10, 11)).unwrap();
    let recorded = record(&other, cluster.fixture.release(1, 11, 12)).unwrap();
    assert_eq!(recorded.standing, Standing::Head);
    revoke(&other);
    let refused = record(&one, cluster.fixture.release(3, 12, 13));
    assert_eq!(refused, Err(Failure::Refused(REVOKED)));
    let log = one.audit(&AuditFilter::default(), 99).unwrap();
    let numbers: Vec<_> = log.iter().map(|record| record.sequence).collect();
    assert_eq!(
        numbers,
        (1..=numbers.len() as u64).rev().collect::<Vec<_>>()
    );
    let nodes: Vec<_> = log.iter().map(|record| record.node.as_str()).collect();
    assert_eq!(nodes[..4], ["node-1", "node-2", "node-2", "node-1"]);
    other.check().unwrap();
    assert_eq!(other.audit(&AuditFilter::default(), 99).unwrap(), log);
    assert!(
        one.progress()
            .unwrap()
            .is_some_and(|progress| progress.audit_sequence == log.len() as u64)
    );
    assert_eq!(other.progress().unwrap(), one.progress().unwrap());
    cluster.end(vec![("node-1", one), ("node-2", other)]);
}

/// attacks.md K4: whichever node revokes a host, none releases keys to it afterwards, though the release was being decided at
/// that moment, and nobody told this node.
#[test]
fn k4_a_release_does_not_follow_a_revocation_on_another_node() {
    let (cluster, one) = Cluster::new();
    let other = cluster.join("node-2", &one);
    let (release, mut decided) = (cluster.fixture.release(1, 10, 11), 0);
    let (sender, receiver) = channel();
    let decide = move |planner: &mut BatchPlanner<'_>| {
        let outcome = planner.release(&release)?;
        decided += 1;
        if decided == 1 {
            assert!(outcome.is_ok());
            revoke(&other);
        }
        Ok(outcome)
    };
    let reply = move |result: Result<RecordedRelease, _>| sender.send(result).unwrap();
    let decided = job(false, decide, Box::new(reply));
    one.queue.submit(decided).unwrap();
    assert_eq!(receiver.recv().unwrap(), Err(Failure::Refused(REVOKED)));
    assert_eq!(one.seen(&digest(11)).unwrap(), None);
    cluster.end(vec![("node-1", one)]);
}

#[test]
fn one_protector_that_two_nodes_release_has_two_children_and_one_place() {
    let (cluster, one) = Cluster::new();
    let other = cluster.join("node-2", &one);
    let first = record(&one, cluster.fixture.release(1, 10, 11)).unwrap();
    let second = record(&other, cluster.fixture.release(1, 10, 12)).unwrap();
    assert_eq!(
        [first.standing, second.standing],
        [Standing::New, Standing::Head]
    );
    // The egress protector of one node can't be that of another.
    let refused = record(&other, cluster.fixture.release(1, 10, 11));
    assert_eq!(refused, Err(Failure::Refused(ReleaseRefusal::EgressKnown)));
    record(&one, cluster.fixture.release(2, 12, 13)).unwrap();
    let third = record(&other, cluster.fixture.release(3, 11, 14)).unwrap();
    assert_eq!(third.standing, Standing::Sibling);
    cluster.end(vec![("node-1", one), ("node-2", other)]);
}

/// Nothing that a commit depends on has changed: it is not decided a second time.
#[test]
fn what_only_has_to_be_proposed_again_is_not_decided_again() {
    let (cluster, one) = Cluster::new();
    let (order, release) = (cluster.order.clone(), cluster.fixture.release(1, 10, 11));
    let (sender, receiver) = channel();
    let mut decided = 0;
    let decide = move |planner: &mut BatchPlanner<'_>| {
        decided += 1;
        order.disturb();
        assert_eq!(decided, 1);
        planner.release(&release)
    };
    let reply = move |result: Result<RecordedRelease, _>| sender.send(result).unwrap();
    let decided = job(false, decide, Box::new(reply));
    one.queue.submit(decided).unwrap();
    receiver.recv().unwrap().unwrap();
}

#[test]
fn an_answer_that_was_lost_is_taken_in_before_anything_else_is_done() {
    let (cluster, one) = Cluster::new();
    for (fault, is_recorded) in [(Fault::LostAnswer, true), (Fault::LostProposal, false)] {
        cluster.order.fail(fault);
        let (ingress, egress) = if is_recorded { (10, 11) } else { (40, 41) };
        let release = cluster.fixture.release(1, ingress, egress);
        let unknown = record(&one, release).unwrap_err();
        let Failure::Store(StoreError::Cluster(OrderError::Unknown { .. })) = unknown else {
            panic!("{unknown:?}");
        };
        // The copy has not taken it in yet.
        assert_eq!(one.seen(&digest(egress)).unwrap(), None);
        record(&one, cluster.fixture.release(2, egress, egress + 10)).unwrap();
        let seen = one.seen(&digest(ingress)).unwrap();
        assert_eq!(seen.is_some(), is_recorded);
    }
    let filter = AuditFilter {
        action: Some(Action::Release),
        ..AuditFilter::default()
    };
    // The one from before the cluster, the one that was not answered, and two that were.
    assert_eq!(one.audit(&filter, 99).unwrap().len(), 4);
    cluster.end(vec![("node-1", one)]);
}

#[test]
fn without_a_quorum_nothing_is_released_and_the_reason_has_a_name() {
    let (cluster, one) = Cluster::new();
    cluster.order.fail(Fault::NoQuorum);
    let refused = record(&one, cluster.fixture.release(1, 10, 11)).unwrap_err();
    let Failure::Store(error) = refused else {
        panic!("{refused:?}");
    };
    assert!(
        error.to_string().starts_with("the cluster has no quorum"),
        "{error}"
    );
    assert!(error.remedy().unwrap().contains("hgs cluster status"));
    assert_eq!(one.seen(&digest(10)).unwrap(), None);
}

#[test]
fn two_nodes_may_attest_hosts_at_once_though_each_makes_a_generation() {
    let (cluster, one) = Cluster::new();
    let other = cluster.join("node-2", &one);
    let attest = |host, key| {
        Transaction::RecordAttestation(crate::Attestation {
            host,
            ..attestation(key, HealthKind::Signing)
        })
    };
    one.transact(vec![attest(HOST, 1)], act(2)).unwrap();
    let done = other.transact(vec![attest(OTHER_HOST, 2)], act(2)).unwrap();
    one.check().unwrap();
    assert_eq!(one.state().generation(), done.generation);
    cluster.end(vec![("node-1", one), ("node-2", other)]);
}

/// A record that comes and goes within one commit is on no copy.
#[test]
fn what_is_put_and_removed_in_one_commit_reaches_every_node() {
    let (cluster, one) = Cluster::new();
    let other = cluster.join("node-2", &one);
    let attest = Transaction::RecordAttestation(crate::Attestation {
        host: OTHER_HOST,
        ..attestation(1, HealthKind::Signing)
    });
    let remove = Transaction::RemoveHost { id: OTHER_HOST };
    one.transact(vec![attest, remove], act(1)).unwrap();
    other.check().unwrap();
    assert!(other.state().host(&OTHER_HOST).is_none());
    cluster.end(vec![("node-1", one), ("node-2", other)]);
}

#[test]
fn each_node_archives_the_log_that_it_holds() {
    const DAY: i64 = 86_400;
    let (cluster, one) = Cluster::new();
    let other = cluster.join("node-2", &one);
    drop(cluster.join("node-3", &one));
    record(&one, cluster.fixture.release(1, 8, 9)).unwrap();
    record(&one, cluster.fixture.release(5 * DAY, 10, 11)).unwrap();
    let archive = |store: &Store, name| {
        let folder = cluster.folder.path().join(name);
        let archived = store.archive_audit(&folder, time(2 * DAY), act(5 * DAY));
        archived.unwrap().unwrap()
    };
    let archived = archive(&one, "archives of 1");
    other.check().unwrap();
    assert_eq!(other.audit_extent().unwrap().first, 1);
    assert_eq!(one.audit_extent().unwrap().first, archived.last + 1);
    assert_eq!(archive(&other, "archives of 2").digest, archived.digest);
    // One that was away gets a log that begins behind the record at its high-water mark.
    let away = cluster.join("node-3", &one);
    assert_eq!(away.audit_extent().unwrap().first, archived.last + 1);
    cluster.end(vec![("node-1", one), ("node-2", other), ("node-3", away)]);
}

/// A power failure takes back what the copy had on its disk, and not what was ordered.
#[test]
fn a_copy_that_lost_its_last_commits_takes_them_in_again() {
    let (cluster, one) = Cluster::new();
    let other = cluster.join("node-2", &one);
    drop(one);
    let database = cluster.state("node-1").join(DATABASE);
    let before = std::fs::read(&database).unwrap();
    let one = cluster.open("node-1").unwrap();
    record(&one, cluster.fixture.release(1, 10, 11)).unwrap();
    record(&other, cluster.fixture.release(2, 11, 12)).unwrap();
    record(&one, cluster.fixture.release(3, 12, 13)).unwrap();
    drop(one);
    for suffix in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(cluster.state("node-1").join(format!("{DATABASE}{suffix}")));
    }
    std::fs::write(&database, before).unwrap();
    let one = cluster.open("node-1").unwrap();
    assert!(one.seen(&digest(13)).unwrap().is_some());
    cluster.end(vec![("node-1", one), ("node-2", other)]);
}

/// A node that was away for too long takes a newer copy, and keeps the one that it had until the next time.
#[test]
fn a_copy_of_another_node_takes_the_place_of_an_older_one() {
    let (cluster, one) = Cluster::new();
    let other = cluster.join("node-2", &one);
    drop(other);
    record(&one, cluster.fixture.release(1, 10, 11)).unwrap();
    let copy = cluster.folder.path().join("copy");
    for _ in 0..2 {
        one.copy_to(&copy).unwrap();
        Store::adopt(&cluster.state("node-2"), &copy).unwrap();
    }
    let other = cluster.open("node-2").unwrap();
    assert!(other.seen(&digest(11)).unwrap().is_some());
    assert!(cluster.state("node-2").join("state.db.replaced").exists());
    // A guardian of its own is not overwritten.
    drop(cluster.fixture.create(&cluster.state("stranger")));
    one.copy_to(&copy).unwrap();
    let refused = Store::adopt(&cluster.state("stranger"), &copy);
    assert!(
        matches!(refused, Err(OpenError::AlreadyInitialised { .. })),
        "{refused:?}"
    );
    drop(open(&cluster.state("stranger")).unwrap());
    cluster.end(vec![("node-1", one), ("node-2", other)]);
}

#[test]
fn protectors_are_forgotten_by_one_node_each() {
    let (cluster, one) = Cluster::new();
    let other = cluster.join("node-2", &one);
    for line in 1..20 {
        record(&one, cluster.fixture.release(1, 100 * line, 100 * line + 1)).unwrap();
        record(
            &other,
            cluster.fixture.release(2, 100 * line + 1, 100 * line + 2),
        )
        .unwrap();
    }
    let late = i64::try_from(crate::RETENTION.get()).unwrap() + 10;
    for turn in 0..20 {
        record(
            &one,
            cluster.fixture.release(late, 10_000 + turn, 20_000 + turn),
        )
        .unwrap();
        record(
            &other,
            cluster.fixture.release(late, 30_000 + turn, 40_000 + turn),
        )
        .unwrap();
    }
    one.check().unwrap();
    let left = (1..20).filter(|line| one.seen(&digest(100 * line)).unwrap().is_some());
    assert_eq!(left.count(), 0);
    cluster.end(vec![("node-1", one), ("node-2", other)]);
}

#[test]
fn what_a_master_key_has_not_sealed_in_its_place_is_not_carried_out() {
    let spoil: [fn(&mut Vec<order::Entry>); 4] = [
        |log| log[0].octets[20] ^= 1,
        |log| log.swap(0, 1),
        |log| log[0].node = "node-3".to_owned(),
        |log| drop(log.remove(0)),
    ];
    for spoil in spoil {
        let (cluster, one) = Cluster::new();
        let other = cluster.join("node-2", &one);
        record(&one, cluster.fixture.release(1, 10, 11)).unwrap();
        record(&one, cluster.fixture.release(2, 11, 12)).unwrap();
        cluster.order.spoil(spoil);
        let refused = other.check().unwrap_err();
        let StoreError::Cluster(OrderError::Diverged { .. }) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(other.seen(&digest(10)).unwrap(), None);
    }
}

/// What an attacker has written into the copy of one node is found there, and spreads to no other.
#[test]
fn a_copy_that_was_changed_takes_in_nothing_that_touches_the_change() {
    let (cluster, one) = Cluster::new();
    let other = cluster.join("node-2", &one);
    let connection = rusqlite::Connection::open(cluster.state("node-2").join(DATABASE)).unwrap();
    connection
        .execute(
            "UPDATE record SET tag = zeroblob(32) WHERE kind = 'settings'",
            (),
        )
        .unwrap();
    revoke(&one);
    let refused = other.check().unwrap_err();
    assert!(matches!(refused, StoreError::Tampered(_)), "{refused:?}");
    one.check().unwrap();
}

/// A position that another program wrote would have this node skip entries, or carry them out twice.
#[test]
fn a_position_that_was_changed_is_found() {
    let (cluster, one) = Cluster::new();
    drop(one);
    let connection = rusqlite::Connection::open(cluster.state("node-1").join(DATABASE)).unwrap();
    let sql = "UPDATE cluster_position SET position = x'0801'";
    assert_eq!(connection.execute(sql, ()).unwrap(), 1);
    let refused = cluster.open("node-1").err();
    let Some(OpenError::Tampered(tampered)) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(tampered.table, "cluster-position");
}

#[test]
fn a_state_belongs_to_one_cluster_or_to_none() {
    let (cluster, one) = Cluster::new();
    record(&one, cluster.fixture.release(1, 10, 11)).unwrap();
    drop(one);
    let refused = open(&cluster.state("node-1")).err();
    assert!(matches!(refused, Some(OpenError::InCluster)), "{refused:?}");
    drop(cluster.fixture.create(&cluster.state("stranger")));
    let refused = cluster.open("stranger").err();
    assert!(
        matches!(refused, Some(OpenError::NotOfThisCluster)),
        "{refused:?}"
    );
}

#[test]
fn who_holds_the_order_learns_no_name_and_no_key() {
    let (cluster, one) = Cluster::new();
    record(&one, cluster.fixture.release(1, 10, 11)).unwrap();
    revoke(&one);
    let octets = cluster.order.octets();
    assert!(octets.len() > 1000);
    let is_in = |secret: &[u8]| octets.windows(secret.len()).any(|window| window == secret);
    for name in ["node-a", "revoke", "settings", &HOST.to_string()] {
        assert!(!is_in(name.as_bytes()), "{name}");
    }
    for number in [10, 11] {
        assert!(!is_in(digest(number).as_bytes()));
    }
}

impl Cluster {
    /// The copy of a node that does not run.
    fn stopped(&self, node: &str) -> StoppedCopy {
        let (directory, master_key) = (self.state(node), master_key());
        StoppedCopy::open(opening(&directory, &master_key)).unwrap()
    }
}

/// A guardian of one node founds a cluster, and a node of a cluster is one of one node again: nothing of the state is lost, and
/// the old cluster takes nothing of it any more.
#[test]
fn a_stopped_copy_becomes_the_state_of_one_node_which_founds_a_cluster_again() {
    let (cluster, one) = Cluster::new();
    let other = cluster.join("node-2", &one);
    record(&one, cluster.fixture.release(1, 10, 11)).unwrap();
    revoke(&other);
    one.check().unwrap();
    let log = one.audit(&AuditFilter::default(), 99).unwrap();
    drop(one);

    let stopped = cluster.stopped("node-1");
    let extent = stopped.extent().clone();
    assert_eq!(extent.audit_sequence, log[0].sequence);
    assert_eq!(extent.newest, Some(log[0].entry.time));
    assert!(extent.progress.is_some() && stopped.rolled_back().is_none());
    let held = open(&cluster.state("node-1")).err();
    assert!(matches!(held, Some(OpenError::InUse { .. })), "{held:?}");
    let about = serde_json::json!({"cluster": "old"});
    let sequence = stopped.dissolve(about.clone(), act(9)).unwrap();
    assert_eq!(sequence, Some(log[0].sequence + 1));
    // A second attempt, as after a crash, adds nothing.
    let again = cluster.stopped("node-1");
    assert_eq!(again.extent().progress, None);
    assert_eq!(again.dissolve(about.clone(), act(9)).unwrap(), None);

    // The old cluster, which lives, does not take it back, whatever its name.
    for node in ["node-1", "node-3"] {
        let order = cluster.order.of(node);
        let (directory, master_key) = (cluster.state("node-1"), master_key());
        let refused = Store::open(Opening {
            node,
            order: Some(Ordered {
                order: Box::new(order),
                random: Box::new(System::new()),
            }),
            ..opening(&directory, &master_key)
        });
        let refused = refused.err();
        assert!(
            matches!(refused, Some(OpenError::NotOfThisCluster)),
            "{refused:?}"
        );
    }
    let alone = open(&cluster.state("node-1")).unwrap();
    let after = alone.audit(&AuditFilter::default(), 99).unwrap();
    assert_eq!(after[1..], log);
    assert_eq!(after[0].entry.action, Action::DissolveCluster);
    assert_eq!(after[0].entry.before, Some(about));
    assert!(alone.progress().unwrap().is_none());
    let refused = record(&alone, cluster.fixture.release(3, 11, 12));
    assert_eq!(refused, Err(Failure::Refused(REVOKED)));
    drop((alone, other));

    let anew = Cluster {
        order: MemoryOrder::new(),
        ..cluster
    };
    let first = anew.open("node-1").unwrap();
    let second = anew.join("node-4", &first);
    assert!(second.seen(&digest(11)).unwrap().is_some());
    anew.end(vec![("node-1", first), ("node-4", second)]);
}

/// The mark goes with the state that has left, so that the copy from before is an old one.
#[test]
fn a_copy_from_before_is_older_than_the_mark_and_needs_more_than_a_yes() {
    let (cluster, one) = Cluster::new();
    drop(one);
    let database = cluster.state("node-1").join(DATABASE);
    let before = std::fs::read(&database).unwrap();
    cluster
        .stopped("node-1")
        .dissolve(serde_json::json!({}), act(9))
        .unwrap();
    for companion in ["state.db-wal", "state.db-shm"] {
        let _ = std::fs::remove_file(cluster.state("node-1").join(companion));
    }
    std::fs::write(&database, before).unwrap();
    let older = cluster.stopped("node-1");
    assert!(matches!(
        older.rolled_back(),
        Some(RolledBack::Older { .. })
    ));
    assert!(
        older
            .dissolve(serde_json::json!({}), act(10))
            .unwrap()
            .is_some()
    );
    let alone = open(&cluster.state("node-1")).unwrap();
    let newest = alone.audit(&AuditFilter::default(), 1).unwrap();
    assert!(newest[0].entry.reason.as_ref().unwrap().contains("older"));
}
