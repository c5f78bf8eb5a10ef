//! The order before real members of etcd: what every order must do, and what only this one can get wrong.

mod common;

use std::time::{Duration, Instant};

use common::{BUDGET, Fabric, LONG, Node, client_of, named};
use hgs_cluster::order::{Admitted, Doorbell, Keyspace, NodesError, admit, found, list, remove};
use hgs_cluster::upkeep::{Report, Upkeep, publish};
use hgs_crypto::base64;
use hgs_etcd::{Operation, Repeat, Txn};
use hgs_store::order::{Entries, Order as _, OrderError, Proposed};
use hgs_testkit::etcd::Etcd;
use rustix::process::Signal;

/// What etcd's own tool sees under a prefix.
fn stored(etcd: &Etcd, prefix: &str) -> Vec<(String, Vec<u8>)> {
    let found = etcd.etcdctl(0, &["get", "--prefix", prefix]);
    let records = found["kvs"].as_array().cloned().unwrap_or_default();
    let octets =
        |value: &serde_json::Value| base64::decode(value.as_str().unwrap_or_default()).unwrap();
    records
        .iter()
        .map(|record| {
            let key = String::from_utf8(octets(&record["key"])).unwrap();
            (key, octets(&record["value"]))
        })
        .collect()
}

fn number(octets: u64) -> Vec<u8> {
    octets.to_be_bytes().to_vec()
}

#[test]
fn two_nodes_that_write_different_keys_never_conflict_and_take_in_the_same() {
    let fabric = Fabric::new(1);
    let (mut a, mut b) = (fabric.node("a", 0), fabric.node("b", 0));
    for round in 0..10u8 {
        assert_eq!(a.commit(&[round, 1], &["x"]), 1);
        // It has not seen what `a` wrote last, and takes it in with its own.
        assert_eq!(b.commit(&[round, 2], &["y"]), 1);
    }
    a.catch_up();
    assert_eq!(a.log, b.log);
    assert_eq!(a.log.len(), 20);
    let octets: Vec<_> = a.log.iter().map(|entry| entry.octets.clone()).collect();
    assert_eq!(octets[..4], [[0, 1], [0, 2], [1, 1], [1, 2]]);
    assert_eq!((a.order.share(), b.order.share()), ((0, 2), (1, 2)));

    // As the layout says.
    let mark = |node: &Node| [number(node.last().number), node.last().chain.to_vec()].concat();
    let nodes = stored(&fabric.etcd, "openhgs/n/");
    let expected = [("openhgs/n/a", mark(&a)), ("openhgs/n/b", mark(&b))];
    assert_eq!(nodes, expected.map(|(key, value)| (key.to_owned(), value)));
    let entries = stored(&fabric.etcd, "openhgs/b/a/");
    assert_eq!(
        entries[9],
        ("openhgs/b/a/000000000000000a".to_owned(), vec![0, 9, 1])
    );
    let written = stored(&fabric.etcd, "openhgs/v/");
    assert!(written.iter().all(|(_, value)| value.is_empty()));
    assert_eq!(written.len(), 2);
    assert_eq!(
        stored(&fabric.etcd, "openhgs/o"),
        [("openhgs/o".to_owned(), number(0))]
    );
}

#[test]
fn what_depends_on_a_key_that_was_written_since_is_refused_and_told_why() {
    let fabric = Fabric::new(1);
    let (mut a, mut b, mut c) = (
        fabric.node("a", 0),
        fabric.node("b", 0),
        fabric.node("c", 0),
    );
    a.commit(b"1", &["x"]);
    b.catch_up();
    c.catch_up();
    a.commit(b"2", &["x"]);
    let Ok(Proposed::Conflict(entries)) = b.propose(b"from b", &["x", "y"], &["y"]) else {
        panic!("a conflict was not seen")
    };
    assert_eq!(entries.entries.len(), 1);
    assert_eq!(entries.entries[0].octets, b"2");
    // Nothing of it was written: the next one has the same number, and another node sees no trace.
    b.take_in(&entries);
    assert!(stored(&fabric.etcd, "openhgs/b/b/").is_empty());
    assert_eq!(b.commit(b"again", &["y"]), 1);
    // To have been told once is not enough: a key that was not written is no conflict.
    assert!(
        matches!(c.propose(b"from c", &["z"], &["z"]), Ok(Proposed::Committed(entries)) if entries.entries.len() == 3)
    );

    // What depends on everything is refused for any entry, and refuses everything that did not see it.
    a.catch_up();
    b.catch_up();
    b.commit(b"between", &["q"]);
    let proposed = a.propose_everything(b"all").unwrap();
    assert!(!a.take(&proposed));
    let proposed = a.propose_everything(b"all").unwrap();
    assert!(a.take(&proposed));
    let proposed = b.propose(b"late", &["w"], &["w"]).unwrap();
    assert!(!b.take(&proposed));
    assert_eq!(b.commit(b"late", &["w"]), 1);
    a.catch_up();
    assert_eq!(a.log, b.log);
    // A node that is new since then counts, too.
    let proposed = a.propose_everything(b"of three").unwrap();
    assert!(a.take(&proposed));
    fabric.node("d", 0);
    let proposed = a.propose_everything(b"of four").unwrap();
    assert!(!a.take(&proposed));
    let proposed = a.propose_everything(b"of four").unwrap();
    assert!(a.take(&proposed));
}

#[test]
fn a_lost_or_frozen_leader_costs_an_answer_and_never_a_second_effect() {
    let mut fabric = Fabric::new(3);
    let (mut a, mut b) = (fabric.node("a", 0), fabric.node("b", 1));
    let (mut attempts, mut committed) = (0, 0);
    let mut commit = |node: &mut Node, name: &str| {
        let octets = name.as_bytes();
        let begun = Instant::now();
        loop {
            attempts += 1;
            let asked = Instant::now();
            match node.propose(octets, &[name], &[name]) {
                Ok(proposed) => {
                    if node.take(&proposed) {
                        committed += 1;
                        break;
                    }
                }
                Err(OrderError::Unknown { .. } | OrderError::NoQuorum { .. }) => {
                    assert!(asked.elapsed() < 2 * BUDGET, "{:?}", asked.elapsed());
                }
                Err(other) => panic!("{other}"),
            }
            assert!(begun.elapsed() < LONG, "{name} was not ordered");
        }
    };
    for round in 0..2 {
        commit(&mut a, &format!("a before {round}"));
        commit(&mut b, &format!("b before {round}"));
        let leader = fabric.etcd.leader();
        if round == 0 {
            fabric.etcd.signal(leader, Signal::STOP);
        } else {
            fabric.etcd.kill(leader);
        }
        for turn in 0..3 {
            commit(&mut a, &format!("a in {round}, {turn}"));
            commit(&mut b, &format!("b in {round}, {turn}"));
        }
        if round == 0 {
            fabric.etcd.signal(leader, Signal::CONT);
        } else {
            fabric.etcd.start(leader);
        }
        fabric.etcd.ready();
        commit(&mut a, &format!("a after {round}"));
        commit(&mut b, &format!("b after {round}"));
    }
    a.catch_up();
    b.catch_up();
    assert_eq!(a.log, b.log);
    assert_eq!((a.log.len(), committed), (20, 20), "{attempts} attempts");
    let mut fresh = fabric.node("c", 2);
    fresh.catch_up();
    assert_eq!(fresh.log, a.log);
}

#[test]
fn without_a_quorum_the_first_answer_takes_two_seconds_and_the_others_none() {
    let mut fabric = Fabric::new(3);
    let mut a = fabric.node("a", 0);
    a.commit(b"1", &["x"]);
    // One dies, another one freezes: nothing tells that it is gone.
    fabric.etcd.signal(1, Signal::STOP);
    fabric.etcd.kill(2);
    let begun = Instant::now();
    let error = a.propose(b"2", &["x"], &["x"]).unwrap_err();
    assert!(
        matches!(
            error,
            OrderError::Unknown { .. } | OrderError::NoQuorum { .. }
        ),
        "{error}"
    );
    // The machine is busy: a little more is granted than the budget.
    assert!(begun.elapsed() < BUDGET * 3 / 2, "{:?}", begun.elapsed());
    // As soon as the member that is left knows that it is alone.
    let deadline = Instant::now() + LONG;
    loop {
        let asked = Instant::now();
        let error = a.order.since(&a.seen).unwrap_err();
        assert!(matches!(error, OrderError::NoQuorum { .. }), "{error}");
        if error.to_string().contains("no leader") && asked.elapsed() < BUDGET / 10 {
            break;
        }
        assert!(Instant::now() < deadline, "{error}");
    }
    for _ in 0..5 {
        let asked = Instant::now();
        let error = a.propose(b"2", &["x"], &["x"]).unwrap_err();
        assert!(
            matches!(
                error,
                OrderError::Unknown { .. } | OrderError::NoQuorum { .. }
            ),
            "{error}"
        );
        assert!(asked.elapsed() < BUDGET / 4, "{:?}", asked.elapsed());
    }
    fabric.etcd.signal(1, Signal::CONT);
    let deadline = Instant::now() + LONG;
    loop {
        match a.propose(b"2", &["x"], &["x"]) {
            Ok(proposed) => {
                if a.take(&proposed) {
                    break;
                }
            }
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    }
    a.catch_up();
    assert_eq!(a.log.len(), 2);
}

#[test]
fn an_answer_that_is_lost_is_found_and_a_proposal_that_comes_late_takes_no_effect() {
    let fabric = Fabric::new(1);
    let mut a = fabric.node("a", 0);
    a.commit(b"1", &["x"]);
    // The answer is lost: to propose the same again finds that it was ordered.
    let wire = fabric.wire(0);
    let again = |a: &Node| Node {
        seen: a.seen.clone(),
        log: a.log.clone(),
        ..fabric.node_by("a", client_of(vec![wire.address()]), 1024)
    };
    let mut lossy = again(&a);
    lossy.catch_up();
    wire.lose_answers();
    let error = lossy.propose(b"2", &["x"], &["x"]).unwrap_err();
    assert!(matches!(error, OrderError::Unknown { .. }), "{error}");
    wire.pass();
    let deadline = Instant::now() + LONG;
    let proposed = loop {
        match lossy.propose(b"2", &["x"], &["x"]) {
            Ok(proposed) => break proposed,
            // What is not known stays so, also while no member can be asked.
            Err(error) => {
                assert!(matches!(error, OrderError::Unknown { .. }), "{error}");
                assert!(Instant::now() < deadline);
            }
        }
    };
    assert!(matches!(&proposed, Proposed::Committed(entries) if entries.entries.len() == 1));
    lossy.take(&proposed);
    // Lost once more, and never proposed again: it comes as any other entry.
    wire.lose_answers();
    lossy.propose(b"3", &["x"], &["x"]).unwrap_err();
    wire.pass();
    let entries = loop {
        match lossy.order.since(&lossy.seen) {
            Ok(entries) if !entries.entries.is_empty() => break entries,
            // It is on its way still, or nobody could be asked.
            other => assert!(Instant::now() < deadline, "{other:?}"),
        }
    };
    assert_eq!(entries.entries[0].octets, b"3");
    // The same, before another proposal asks.
    let proposed = lossy.propose(b"other", &["x"], &["x"]).unwrap();
    assert!(matches!(&proposed, Proposed::Conflict(entries) if entries.entries.len() == 1));
    lossy.take(&proposed);
    assert_eq!(lossy.commit(b"4", &["x"]), 1);

    // Held up on the wire, while the node, started again, goes on: it comes to nothing.
    wire.hold_requests();
    lossy.propose(b"late", &["q"], &["q"]).unwrap_err();
    a.seen.clone_from(&lossy.seen);
    a.log.clone_from(&lossy.log);
    let mut restarted = a.again(&fabric, 0);
    assert_eq!(restarted.commit(b"5", &["z"]), 1);
    let held = wire.held();
    assert!(held > 0, "nothing was held up");
    wire.pass();
    wire.delivered();
    restarted.catch_up();
    let octets: Vec<_> = restarted
        .log
        .iter()
        .map(|entry| &entry.octets[..])
        .collect();
    assert_eq!(octets, [b"1", b"2", b"3", b"4", b"5"]);
    assert_eq!(restarted.commit(b"6", &["q"]), 1);
    assert!(stored(&fabric.etcd, "openhgs/b/a/").len() == 6);
}

#[test]
fn a_second_process_of_a_node_is_found_by_the_first_one() {
    let fabric = Fabric::new(1);
    let mut a = fabric.node("a", 0);
    a.commit(b"1", &["x"]);
    let mut clone = a.again(&fabric, 0);
    clone.commit(b"of the clone", &["y"]);
    let error = a.propose(b"2", &["z"], &["z"]).unwrap_err();
    assert_eq!(
        error,
        OrderError::Fenced {
            node: "a".to_owned()
        }
    );
    let error = a.order.since(&a.seen).unwrap_err();
    assert_eq!(
        error,
        OrderError::Fenced {
            node: "a".to_owned()
        }
    );
    assert_eq!(clone.commit(b"2", &["x"]), 1);
    // Two that write at the same number: one of them.
    let (mut one, mut two) = (clone.again(&fabric, 0), clone.again(&fabric, 0));
    one.catch_up();
    two.catch_up();
    one.commit(b"one", &[]);
    let error = two.propose(b"two", &[], &[]).unwrap_err();
    assert_eq!(
        error,
        OrderError::Fenced {
            node: "a".to_owned()
        }
    );
    // Started again, it takes in what was written in its name, as after a crash.
    let mut third = two.again(&fabric, 0);
    third.catch_up();
    assert_eq!(third.log, one.log);
}

#[test]
fn an_etcd_that_was_put_back_is_found_before_anything_is_written() {
    let mut fabric = Fabric::new(3);
    let (mut a, mut b, mut c) = (
        fabric.node("a", 0),
        fabric.node("b", 1),
        fabric.node("c", 2),
    );
    a.commit(b"1", &["x"]);
    b.commit(b"1", &["y"]);
    c.commit(b"1", &["z"]);
    let folder = tempfile::tempdir().unwrap();
    let snapshot = folder.path().join("snapshot");
    fabric
        .etcd
        .etcdctl(0, &["snapshot", "save", snapshot.to_str().unwrap()]);
    b.commit(b"2", &["y"]);
    a.catch_up();
    c.catch_up();
    fabric.etcd.put_back(&snapshot);
    let before = stored(&fabric.etcd, "openhgs/");
    // Neither the node that wrote since, nor one that has only seen it: also where it writes without asking first.
    for node in [&mut a, &mut b] {
        let error = node.propose(b"3", &["q"], &["q"]).unwrap_err();
        assert!(matches!(error, OrderError::PutBack { .. }), "{error}");
        let error = node.propose_everything(b"3").unwrap_err();
        assert!(matches!(error, OrderError::PutBack { .. }), "{error}");
    }
    let error = c.order.since(&c.seen).unwrap_err();
    assert!(matches!(error, OrderError::PutBack { .. }), "{error}");
    // Nothing but that.
    let halted = |mut stored: Vec<(String, Vec<u8>)>| {
        let floor = stored.iter_mut().find(|(key, _)| key == "openhgs/o");
        floor.unwrap().1 = [&[255; 8], &b"a"[..]].concat();
        stored
    };
    assert_eq!(stored(&fabric.etcd, "openhgs/"), halted(before));
    // Also when the revisions have run on beyond those that were seen.
    for _ in 0..20 {
        fabric.etcd.etcdctl(0, &["put", "other", "x"]);
    }
    for node in [&mut a, &mut b, &mut c] {
        let error = node.propose(b"3", &["q"], &["q"]).unwrap_err();
        assert!(matches!(error, OrderError::PutBack { .. }), "{error}");
    }
    // One that is empty.
    fabric.etcd.etcdctl(0, &["del", "--prefix", "openhgs/"]);
    let error = a.order.since(&a.seen).unwrap_err();
    assert!(matches!(error, OrderError::PutBack { .. }), "{error}");
    let error = a.propose(b"3", &["q"], &["q"]).unwrap_err();
    assert!(matches!(error, OrderError::PutBack { .. }), "{error}");
    assert_eq!(stored(&fabric.etcd, "openhgs/"), []);
    // That of another cluster, where nobody has asked for a halt.
    let (client, keys) = (fabric.client(0), Keyspace::default());
    let founded = fabric
        .runtime
        .block_on(found(&client, &keys, &[1; 16], &named("a")));
    founded.unwrap();
    let before = stored(&fabric.etcd, "openhgs/");
    let error = a.order.since(&a.seen).unwrap_err();
    assert!(matches!(error, OrderError::PutBack { .. }), "{error}");
    assert_eq!(stored(&fabric.etcd, "openhgs/"), before);
}

#[test]
fn once_a_node_has_found_that_etcd_was_put_back_no_node_writes_whatever_it_has_seen() {
    let mut fabric = Fabric::new(1);
    let (mut ahead, mut behind, mut waiting) = (
        fabric.node("a", 0),
        fabric.node("b", 0),
        fabric.node("c", 0),
    );
    ahead.commit(b"1", &["x"]);
    behind.catch_up();
    waiting.catch_up();
    let folder = tempfile::tempdir().unwrap();
    let snapshot = folder.path().join("snapshot");
    fabric
        .etcd
        .etcdctl(0, &["snapshot", "save", snapshot.to_str().unwrap()]);
    // A revocation, say, that only one node knows besides etcd.
    ahead.commit(b"2", &["x"]);
    fabric.etcd.put_back(&snapshot);
    // One that was behind can't notice it.
    assert_eq!(behind.commit(b"early", &["x"]), 1);
    let error = ahead.order.since(&ahead.seen).unwrap_err();
    assert!(matches!(error, OrderError::PutBack { .. }), "{error}");

    let entries = stored(&fabric.etcd, "openhgs/b/");
    let is_halted = |error: OrderError| match error {
        OrderError::PutBack { reason } => reason.starts_with("node a has seen commits"),
        _ => false,
    };
    for node in [&mut behind, &mut waiting] {
        for _ in 0..2 {
            assert!(is_halted(
                node.propose(b"late", &["q"], &["q"]).unwrap_err()
            ));
        }
        assert!(is_halted(node.propose_everything(b"late").unwrap_err()));
        assert!(is_halted(node.order.since(&node.seen).unwrap_err()));
    }
    // Nor one that starts again, or is new.
    let mut again = waiting.again(&fabric, 0);
    assert!(is_halted(
        again.propose(b"late", &["q"], &["q"]).unwrap_err()
    ));
    let mut fresh = fabric.node("d", 0);
    assert!(is_halted(fresh.order.since(&fresh.seen).unwrap_err()));
    assert_eq!(stored(&fabric.etcd, "openhgs/b/"), entries);
    // Nothing leaves etcd any more.
    let (client, keys) = (fabric.client(0), Keyspace::default());
    let mut upkeep = Upkeep::new(client.clone(), keys.clone(), named("b"), 1 << 30);
    let report = Report {
        revision: behind.seen.revision,
        ..Report::default()
    };
    let round = fabric.runtime.block_on(async {
        publish(&client, &keys, &named("b"), &report).await.unwrap();
        upkeep.round(tokio::time::Instant::now()).await
    });
    assert!(is_halted(round.unwrap_err()));
}

#[test]
fn a_node_whose_next_entries_are_gone_is_told_whose() {
    let fabric = Fabric::new(1);
    let (mut a, mut b) = (fabric.node("a", 0), fabric.node("b", 0));
    for round in 0..4 {
        a.commit(&[round], &["x"]);
    }
    fabric
        .etcd
        .etcdctl(0, &["del", "openhgs/b/a/", "openhgs/b/a/0000000000000003"]);
    let error = b.order.since(&b.seen).unwrap_err();
    let gone = OrderError::TooFarBehind {
        node: "a".to_owned(),
        number: 0,
    };
    assert_eq!(error, gone);
    // Also by a proposal that conflicts with nothing else: the floor tells that it may have.
    let floor = Operation::Put("openhgs/o".into(), number(b.seen.revision + 1).into());
    let txn = Txn {
        then: vec![floor],
        ..Txn::default()
    };
    let client = fabric.client(0);
    let put = client.commit(&txn, Repeat::Safe);
    assert!(fabric.runtime.block_on(put).unwrap().succeeded);
    let error = b.propose(b"1", &["y"], &["y"]).unwrap_err();
    assert_eq!(error, gone);
    assert!(stored(&fabric.etcd, "openhgs/b/b/").is_empty());
}

#[test]
fn what_no_node_has_written_is_said_to_be_so() {
    let fabric = Fabric::new(1);
    let mut a = fabric.node("a", 0);
    a.commit(b"1", &["x"]);
    let mut b = fabric.node("b", 0);
    let entry = "openhgs/b/a/0000000000000001";
    for (key, value) in [
        (entry, "\u{7}"),
        (entry, "\u{1}short"),
        ("openhgs/n/-z", "x"),
        ("openhgs/n/z", "x"),
    ] {
        fabric.etcd.etcdctl(0, &["put", key, value]);
        let error = b.order.since(&b.seen).unwrap_err();
        assert!(
            matches!(error, OrderError::Unusable { .. }),
            "{key}: {error}"
        );
    }
}

#[test]
fn an_entry_that_is_longer_than_a_request_comes_in_parts() {
    let fabric = Fabric::new(1);
    let (mut a, mut b) = (fabric.node("a", 0), fabric.node("b", 0));
    let long = |seed: u8| {
        (0..5_000_000u32)
            .map(|place| (place / 7) as u8 ^ seed)
            .collect::<Vec<u8>>()
    };
    b.commit(b"before", &["y"]);
    // One that is refused leaves parts with the same number.
    let proposed = a.propose(&long(1), &["y"], &["x"]).unwrap();
    assert!(!a.take(&proposed));
    a.commit(&long(2), &["x"]);
    a.commit(b"behind", &["x"]);
    b.catch_up();
    assert_eq!(a.log, b.log);
    assert_eq!(b.log[1].octets, long(2));
    let parts = stored(&fabric.etcd, "openhgs/p/a/");
    assert_eq!(parts.len(), 10);
    assert!(parts.iter().all(|(_, value)| value.len() <= 1 << 20));
    // A part that is missing is no entry.
    let (lost, _) = parts
        .iter()
        .find(|(_, value)| long(2).starts_with(value))
        .unwrap();
    fabric.etcd.etcdctl(0, &["del", lost]);
    let mut c = fabric.node("c", 0);
    let error = c.order.since(&c.seen).unwrap_err();
    assert!(matches!(error, OrderError::Unusable { .. }), "{error}");
}

#[test]
fn a_node_that_was_away_is_served_in_pieces_without_gaps() {
    let fabric = Fabric::new(1);
    let (mut a, mut b) = (fabric.node("a", 0), fabric.node("b", 0));
    let mut away = fabric.node("c", 0);
    // 150 small entries of one node, and large ones of the other between them.
    for round in 0..150u8 {
        a.commit(&[round], &["x"]);
        if round % 6 == 0 {
            b.commit(&vec![round; 900_000], &["y"]);
        }
    }
    a.catch_up();
    // Too far behind to propose: it takes in what there is first.
    let Ok(Proposed::Conflict(first)) = away.propose(b"early", &["z"], &["z"]) else {
        panic!("a node that is far behind was not held up")
    };
    away.take_in(&first);
    let mut pieces = 1;
    loop {
        let Entries { more, .. } = {
            let entries = away.order.since(&away.seen).unwrap();
            let octets: usize = entries.entries.iter().map(|entry| entry.octets.len()).sum();
            assert!(octets < 32 << 20, "{octets}");
            away.take_in(&entries);
            entries
        };
        pieces += 1;
        if !more {
            break;
        }
    }
    assert!(pieces > 2, "{pieces}");
    assert_eq!(away.log, a.log);
    assert_eq!(away.commit(b"now", &["z"]), 1);
}

#[test]
fn as_many_dependencies_as_an_order_takes_are_taken_by_etcd() {
    for (max_operations, flag) in [(1024, "--max-txn-ops=1024"), (128, "--max-txn-ops=128")] {
        let fabric = Fabric::of(Etcd::with(1, &[flag]));
        let mut others: Vec<_> = (0..8)
            .map(|place| fabric.node(&format!("o{place}"), 0))
            .collect();
        for other in &mut others {
            other.commit(b"1", &["other"]);
        }
        let mut a = fabric.node_by("a", fabric.client(0), max_operations);
        a.catch_up();
        let most = a.order.max_dependencies();
        assert!(most >= max_operations / 2, "{most}");
        let names: Vec<_> = (0..=most).map(|place| place.to_string()).collect();
        let names: Vec<_> = names.iter().map(|name| &**name).collect();
        assert_eq!(a.commit(b"most", &names[..most]), 1);
        // The same key twice is one.
        assert_eq!(a.commit(b"twice", &["x", "x"]), 1);
        let error = a.propose(b"more", &names, &names).unwrap_err();
        assert!(matches!(error, OrderError::Unusable { .. }), "{error}");
        a.catch_up();
        assert_eq!(a.log.len(), 10);
    }
}

#[test]
fn a_bell_rings_when_another_node_commits_and_is_no_reason_to_wait() {
    let mut fabric = Fabric::new(3);
    let (mut a, mut b) = (fabric.node("a", 0), fabric.node("b", 1));
    a.commit(b"1", &["x"]);
    b.catch_up();
    let mut bell = Doorbell::new(fabric.client(1), Keyspace::default(), named("b"));
    for round in 0..3u8 {
        let handle = fabric.runtime.handle().clone();
        let seen = b.seen.revision;
        let rung = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                handle
                    .block_on(async { tokio::time::timeout(LONG, bell.rings(|| seen)).await })
                    .is_ok()
            });
            a.commit(&[round], &["x"]);
            waiting.join().unwrap()
        });
        assert!(rung);
        b.catch_up();
        assert_eq!(b.log, a.log);
    }
    // The member that tells it freezes: it rings for nothing then, and goes on with another one.
    fabric.etcd.signal(1, Signal::STOP);
    let seen = b.seen.revision;
    let handle = fabric.runtime.handle().clone();
    let deadline = Instant::now() + LONG;
    loop {
        handle
            .block_on(async { tokio::time::timeout(LONG, bell.rings(|| seen)).await })
            .unwrap();
        let before = a.log.len();
        if a.propose(b"last", &["x"], &["x"])
            .is_ok_and(|proposed| a.take(&proposed))
        {
            assert!(a.log.len() > before);
            break;
        }
        assert!(Instant::now() < deadline);
    }
    handle
        .block_on(async { tokio::time::timeout(LONG, bell.rings(|| seen)).await })
        .unwrap();
    b.catch_up();
    assert_eq!(b.log, a.log);
    fabric.etcd.signal(1, Signal::CONT);
    fabric.etcd.ready();
}

/// How long a bell keeps silent is a lower bound, so a slow machine can't fail this.
#[test]
fn a_bell_rings_once_for_many_commits() {
    const COMMITS: u8 = 30;
    let fabric = Fabric::new(1);
    let (mut a, mut b) = (fabric.node("a", 0), fabric.node("b", 0));
    let mut bell = Doorbell::new(fabric.client(0), Keyspace::default(), named("b"));
    let handle = fabric.runtime.handle().clone();
    let begun = Instant::now();
    let rings = std::thread::scope(|scope| {
        scope.spawn(|| (0..COMMITS).for_each(|number| assert_eq!(a.commit(&[number], &["x"]), 1)));
        let mut rings = 0;
        while b.log.len() < usize::from(COMMITS) {
            let seen = b.seen.revision;
            let ringing = async { tokio::time::timeout(LONG, bell.rings(|| seen)).await };
            handle.block_on(ringing).unwrap();
            rings += 1;
            b.catch_up();
        }
        rings
    });
    assert_eq!(b.log, a.log);
    let silent = Duration::from_millis(100) * (rings - 1);
    assert!(begun.elapsed() >= silent, "{rings} rings");
}

#[test]
fn nodes_are_admitted_and_removed_and_each_step_can_be_repeated() {
    let fabric = Fabric::new(1);
    let (client, keys) = (fabric.client(0), Keyspace::default());
    let run = |name: &str| fabric.runtime.block_on(admit(&client, &keys, &named(name)));
    assert_eq!(run("b"), Ok(Admitted::New));
    assert_eq!(run("b"), Ok(Admitted::Already));
    let again = fabric
        .runtime
        .block_on(found(&client, &keys, &common::CLUSTER, &named("a")));
    assert_eq!(again, Ok(()));
    let other = fabric
        .runtime
        .block_on(found(&client, &keys, &[1; 16], &named("a")));
    assert_eq!(other, Err(NodesError::Taken));

    let (mut a, mut b) = (fabric.node("a", 0), fabric.node("b", 0));
    b.commit(b"1", &["y"]);
    let away = |name: &str| {
        fabric
            .runtime
            .block_on(remove(&client, &keys, &named(name)))
    };
    assert_eq!(away("b"), Ok(()));
    assert_eq!(away("b"), Ok(()));
    assert_eq!(away("c"), Err(NodesError::Unknown("c".to_owned())));
    // It can write nothing any more, and learns why; what it wrote is there.
    let gone = OrderError::Removed {
        node: "b".to_owned(),
    };
    assert_eq!(b.propose(b"2", &["q"], &["q"]).unwrap_err(), gone);
    assert_eq!(b.order.since(&b.seen).unwrap_err(), gone);
    a.catch_up();
    assert_eq!(a.log.len(), 1);
    assert_eq!(a.order.share(), (0, 1));
    assert_eq!(a.commit(b"1", &["x"]), 1);
    assert_eq!(
        fabric.runtime.block_on(list(&client, &keys)),
        Ok(vec![named("a")])
    );
    // Back, with all that was written under its name, it goes on behind that.
    assert_eq!(run("b"), Ok(Admitted::Back));
    let mut back = fabric.node_by("b", client_of(fabric.etcd.addresses(0)), 1024);
    back.catch_up();
    assert_eq!(back.commit(b"3", &["y"]), 1);
    a.catch_up();
    assert_eq!(a.log, back.log);
    assert_eq!(a.log[2].number, 2);
}
