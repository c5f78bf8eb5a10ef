//! What leaves etcd, and what that means for nodes that were away, before real members.

mod common;

use std::time::Duration;

use common::{Fabric, Node, client_of, named};
use hgs_cluster::node::NodeName;
use hgs_cluster::order::{Keyspace, remove};
use hgs_cluster::upkeep::{AuditHead, Report, Round, Upkeep, publish, reports};
use hgs_crypto::hash::sha256;
use hgs_crypto::hex;
use hgs_etcd::MemberStatus;
use hgs_store::order::{Order as _, OrderError};
use hgs_testkit::etcd::Etcd;
use rustix::process::Signal;
use tokio::time::Instant;

const QUOTA: u64 = 2 << 30;
const MINUTE: Duration = Duration::from_mins(1);

impl Fabric {
    fn report(&self, node: &Node) {
        let entries = node.seen.nodes.iter();
        let octets: Vec<u8> = node
            .log
            .iter()
            .flat_map(|entry| entry.octets.clone())
            .collect();
        let report = Report {
            revision: node.seen.revision,
            entries: entries
                .map(|(node, last)| (named(node), last.number))
                .collect(),
            audit: AuditHead {
                count: node.log.len() as u64,
                root: hex::encode(&sha256(&octets)),
            },
            version: "1".to_owned(),
            ..Report::default()
        };
        let (client, keys) = (self.client(0), Keyspace::default());
        let name = named(node.order.node());
        let published = publish(&client, &keys, &name, &report);
        self.runtime.block_on(published).unwrap();
    }

    fn upkeep(&self, node: &str, quota: u64) -> Upkeep {
        Upkeep::new(self.client(0), Keyspace::default(), named(node), quota)
    }

    fn round(&self, upkeep: &mut Upkeep, now: Instant) -> Round {
        self.runtime.block_on(upkeep.round(now)).unwrap()
    }

    fn status(&self, place: usize) -> MemberStatus {
        let client = self.client(0);
        self.runtime.block_on(client.status(place)).unwrap()
    }

    /// What a member of etcd has and does not use.
    fn wasted(&self, place: usize) -> u64 {
        let (size, used) = self.status(place).octets;
        size - used
    }

    /// That a round has no member give back what it does not use while one is silent.
    fn leaves_others_alone(&self, silent: usize, quota: u64, now: Instant) {
        self.etcd.signal(silent, Signal::STOP);
        // Without much patience: nothing comes of waiting for this one.
        let client = client_of(self.etcd.addresses(0));
        let mut upkeep = Upkeep::new(client, Keyspace::default(), named("a"), quota);
        let round = loop {
            match self.runtime.block_on(upkeep.round(now)) {
                Ok(round) => break round,
                Err(error) => assert!(now.elapsed() < common::LONG, "{error}"),
            }
        };
        self.etcd.signal(silent, Signal::CONT);
        assert!(round.is_mine);
        assert!(round.tidied.defragmented.is_empty() && !round.tidied.handed_on);
    }

    fn count(&self, prefix: &str) -> usize {
        let arguments = ["get", "--prefix", "--keys-only", prefix];
        let found = self.etcd.etcdctl(0, &arguments);
        found["kvs"].as_array().map_or(0, Vec::len)
    }
}

#[test]
fn what_all_hold_leaves_etcd_and_who_was_away_is_served_or_told() {
    let fabric = Fabric::patient(Etcd::new(1));
    let (mut a, mut b, mut c) = (
        fabric.node("a", 0),
        fabric.node("b", 0),
        fabric.node("c", 0),
    );
    let mut late = fabric.node("late", 0);
    late.catch_up();
    for round in 0..100u8 {
        a.commit(&[round], &["gate", &format!("a{round}")]);
        b.commit(&[round], &[&format!("b{round}")]);
    }
    c.commit(&vec![7; 3 << 20], &["c"]);
    for node in [&mut a, &mut b, &mut c] {
        node.catch_up();
    }
    let away = late.again(&fabric, 0);
    let mut old = late.again(&fabric, 0);
    // `late` has it all, but reports where it was: nothing leaves as long as it is waited for.
    fabric.report(&late);
    late.catch_up();
    for node in [&a, &b, &c] {
        fabric.report(node);
    }
    let begun = Instant::now();
    let (mut of_a, mut of_b) = (fabric.upkeep("a", QUOTA), fabric.upkeep("b", QUOTA));
    let round = fabric.round(&mut of_a, begun);
    assert!(round.is_mine && round.divergence.is_none());
    assert_eq!(round.offloaded.entries, 0);
    assert!(!fabric.round(&mut of_b, begun).is_mine);
    assert_eq!(fabric.count("openhgs/b/"), 201);

    // It has been away for more than ten minutes; the others have reported since.
    let later = begun + 11 * MINUTE;
    for node in [&a, &b, &c] {
        fabric.report(node);
    }
    let round = fabric.round(&mut of_a, later);
    assert_eq!(round.offloaded.floor, a.seen.revision);
    assert_eq!(round.offloaded.entries, 201);
    assert!(round.offloaded.dependencies >= 200);
    assert_eq!(round.tidied.compacted, None);
    for prefix in ["openhgs/b/", "openhgs/p/", "openhgs/v/"] {
        assert_eq!(fabric.count(prefix), 0, "{prefix}");
    }
    // Again, and by another node at once: nothing is left to do, and nothing is harmed.
    assert_eq!(fabric.round(&mut of_a, later).offloaded.entries, 0);
    // Who was away less goes on as if nothing had been.
    assert_eq!(late.commit(b"back", &["x"]), 1);
    a.catch_up();
    assert_eq!(a.log, late.log);
    // Who was away longer can neither go on nor write, also where what it depends on is forgotten.
    let mut away = away;
    let error = away.order.since(&away.seen).unwrap_err();
    assert!(matches!(error, OrderError::TooFarBehind { .. }), "{error}");
    for writes in [["a5"], ["new"]] {
        let error = old.propose(b"stale", &writes, &writes).unwrap_err();
        assert!(matches!(error, OrderError::TooFarBehind { .. }), "{error}");
    }
    // With a copy of another node's state it goes on.
    away.seen.clone_from(&b.seen);
    away.log.clone_from(&b.log);
    away.catch_up();
    assert_eq!(away.log, a.log);

    // What was deleted leaves the history ten minutes later.
    fabric.report(&a);
    let round = fabric.round(&mut of_a, later + 11 * MINUTE);
    assert!(round.tidied.compacted.is_some());
    a.catch_up();
    assert_eq!(a.commit(b"after", &["gate"]), 1);
}

#[test]
fn two_that_offload_at_once_do_no_harm() {
    let fabric = Fabric::patient(Etcd::new(1));
    let (mut a, mut b) = (fabric.node("a", 0), fabric.node("b", 0));
    for turn in 0..3u8 {
        for round in 0..40u8 {
            a.commit(&[turn, round], &["gate", &round.to_string()]);
        }
        b.catch_up();
        fabric.report(&a);
        fabric.report(&b);
        let now = Instant::now();
        std::thread::scope(|scope| {
            // Both take themselves for the first one, while entries go on.
            for _ in 0..2 {
                scope.spawn(|| fabric.round(&mut fabric.upkeep("a", QUOTA), now));
            }
            for round in 0..40u8 {
                b.commit(&[turn, round, 1], &["gate", &round.to_string()]);
            }
        });
        a.catch_up();
        assert_eq!(a.log, b.log);
        // What came after the floor is there.
        let kept = fabric.count("openhgs/b/");
        assert_eq!(kept, 40, "in turn {turn}");
    }
    assert_eq!(a.log.len(), 240);
}

#[test]
fn a_removed_node_is_not_waited_for_and_leaves_nothing_but_its_name() {
    let fabric = Fabric::patient(Etcd::new(1));
    let (mut a, mut b, mut c) = (
        fabric.node("a", 0),
        fabric.node("b", 0),
        fabric.node("c", 0),
    );
    c.commit(b"of c", &["c"]);
    fabric.report(&c);
    for round in 0..10u8 {
        a.commit(&[round], &["a"]);
    }
    b.catch_up();
    a.catch_up();
    fabric.report(&a);
    fabric.report(&b);
    let now = Instant::now();
    let mut of_a = fabric.upkeep("a", QUOTA);
    // It is waited for: only what it has reported leaves.
    assert_eq!(fabric.round(&mut of_a, now).offloaded.entries, 1);
    let (client, keys) = (fabric.client(0), Keyspace::default());
    fabric
        .runtime
        .block_on(remove(&client, &keys, &named("c")))
        .unwrap();
    // Its process goes on reporting.
    fabric.report(&c);
    assert_eq!(fabric.round(&mut of_a, now).offloaded.entries, 10);
    assert_eq!(fabric.count("openhgs/b/"), 0);
    let known: Vec<NodeName> = fabric
        .runtime
        .block_on(reports(&client, &keys))
        .unwrap()
        .into_iter()
        .map(|reported| reported.node)
        .collect();
    assert_eq!(known, [named("a"), named("b")]);
    assert_eq!(fabric.count("openhgs/n/"), 3);
    assert_eq!(b.commit(b"on", &["a"]), 1);
    a.catch_up();
    assert_eq!(a.log, b.log);
}

#[test]
fn logs_that_are_not_the_same_are_told_and_reports_that_are_none_are_left_out() {
    let fabric = Fabric::patient(Etcd::new(1));
    let (mut a, mut b) = (fabric.node("a", 0), fabric.node("b", 0));
    a.commit(b"1", &["x"]);
    b.catch_up();
    b.log[0].octets = b"2".to_vec();
    fabric.report(&a);
    fabric.report(&b);
    fabric.etcd.etcdctl(0, &["put", "openhgs/d/c", "{"]);
    fabric.etcd.etcdctl(
        0,
        &[
            "put",
            "openhgs/d/d",
            "{\"revision\":99999,\"entries\":{\"a\":99}}",
        ],
    );
    let round = fabric.round(&mut fabric.upkeep("a", QUOTA), Instant::now());
    let divergence = round.divergence.unwrap();
    assert_eq!(divergence.nodes, [named("a"), named("b")]);
    // What is no member's counts for nothing.
    assert_eq!(round.offloaded.floor, a.seen.revision);
    assert_eq!(fabric.count("openhgs/d/d"), 0);
}

#[test]
fn a_full_etcd_takes_writes_again_when_entries_have_left_it() {
    const SMALL: u64 = 32 << 20;
    let fabric = Fabric::patient(Etcd::with(1, &[&format!("--quota-backend-bytes={SMALL}")]));
    let mut a = fabric.node("a", 0);
    let mut octets = vec![0; 900_000];
    let error = loop {
        octets[0] += 1;
        fabric.report(&a);
        match a.propose(&octets, &["x"], &["x"]) {
            Ok(proposed) => assert!(a.take(&proposed)),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, OrderError::NoRoom { .. }), "{error}");
    assert!(a.log.len() > 10);
    let round = fabric.round(&mut fabric.upkeep("a", SMALL), Instant::now());
    assert!(round.tidied.has_room_again, "{round:?}");
    assert_eq!(round.tidied.defragmented, [0]);
    assert_eq!(a.commit(&octets, &["x"]), 1);
    fabric.report(&a);
    // The floor follows in the next round.
    let round = fabric.round(&mut fabric.upkeep("a", SMALL), Instant::now());
    assert_eq!(round.offloaded.floor, a.seen.revision);
}

#[test]
fn members_give_back_what_they_do_not_use_one_a_round_and_the_leader_last() {
    const SMALL: u64 = 32 << 20;
    let fabric = Fabric::patient(Etcd::with(3, &[&format!("--quota-backend-bytes={SMALL}")]));
    let mut a = fabric.node("a", 0);
    for round in 0..26u8 {
        a.commit(&vec![round; 900_000], &["x"]);
    }
    fabric.report(&a);
    let mut of_a = fabric.upkeep("a", SMALL);
    let now = Instant::now();
    let first = fabric.round(&mut of_a, now);
    assert_eq!(first.offloaded.entries, 26);
    // More than a quarter of the quota was used: history is let go of at once.
    assert!(first.tidied.compacted.is_some());
    let deadline = Instant::now() + common::LONG;
    while (0..3).any(|place| fabric.wasted(place) <= SMALL / 2) {
        assert!(Instant::now() < deadline);
        // etcd counts pages as free after a further write.
        fabric.report(&a);
    }
    // While one member does not answer, the others are left alone.
    fabric.leaves_others_alone((fabric.etcd.leader() + 1) % 3, SMALL, now);

    // What is given back is measured and not counted: an answer can be lost. And members can choose another leader by
    // themselves, on a busy machine.
    let first_leader = fabric.etcd.leader();
    let mut was_handed_on = false;
    while (0..3).any(|place| fabric.status(place).octets.0 >= SMALL / 4) {
        assert!(Instant::now() < deadline);
        let leader = fabric.etcd.leader();
        let tidied = fabric.round(&mut of_a, now).tidied;
        assert!(tidied.defragmented.len() <= 1, "{tidied:?}");
        if tidied.defragmented == [leader] {
            assert_ne!(fabric.etcd.leader(), leader, "the leader stood still");
        }
        if tidied.handed_on {
            was_handed_on = true;
            let waste = (0..3).filter(|place| fabric.wasted(*place) > SMALL / 2);
            assert!(waste.count() <= 1, "the leader does not come last");
        }
    }
    assert!(was_handed_on || fabric.etcd.leader() != first_leader);
    assert_eq!(a.commit(b"on", &["x"]), 1);
}

/// After a storm there are millions of keys that a later commit may depend on. Each answer names a part of them.
#[test]
fn dependency_keys_leave_in_parts() {
    // 380,000 of them would be an answer that is too long.
    let many = std::env::var_os("OPENHGS_LONG_TESTS").map_or(3, |_| 400);
    let fabric = Fabric::new(1);
    let mut a = fabric.node("a", 0);
    for round in 0..many {
        let names: Vec<String> = (0..950).map(|key| format!("{round} {key}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        a.commit(b"a", &names);
    }
    fabric.report(&a);
    a.commit(b"behind", &["kept"]);
    let round = fabric.round(&mut fabric.upkeep("a", QUOTA), Instant::now());
    assert_eq!(round.offloaded.dependencies, many * 950);
    assert_eq!(fabric.count("openhgs/v/"), 1);
}

/// A node that is away is waited for, but not until there is no room.
#[test]
fn a_node_that_is_away_is_waited_for_while_there_is_room() {
    const SMALL: u64 = 32 << 20;
    let fabric = Fabric::of(Etcd::with(1, &[&format!("--quota-backend-bytes={SMALL}")]));
    let (mut a, b) = (fabric.node("a", 0), fabric.node("b", 0));
    let mut c = fabric.node("c", 0);
    for node in [&a, &b, &c] {
        fabric.report(node);
    }
    let begun = Instant::now();
    let mut upkeep = fabric.upkeep("a", SMALL);
    fabric.round(&mut upkeep, begun);
    let entry = vec![7; 900_000];
    for (entries, that_left) in [(4, 0), (6, 10)] {
        for _ in 0..entries {
            a.commit(&entry, &["x"]);
        }
        c.catch_up();
        fabric.report(&a);
        fabric.report(&c);
        let round = fabric.round(&mut upkeep, begun + MINUTE);
        assert_eq!(round.offloaded.entries, that_left, "{round:?}");
    }
}
