//! Wires that are cut between members, each of which clients still reach: in networks of the test's own, as root.

mod common;

use std::time::{Duration, Instant};

use common::{BUDGET, Fabric, LONG, Node};
use hgs_store::order::{Order as _, OrderError};
use hgs_testkit::etcd::Etcd;
use hgs_testkit::is_privileged;

/// On a thread of its own, which goes into another network.
fn in_networks(body: impl FnOnce(Fabric) + Send + 'static) {
    if is_privileged("wires between members of etcd that are cut") {
        let thread = std::thread::spawn(|| body(Fabric::of(Etcd::in_networks(3))));
        thread.join().unwrap();
    }
}

/// Proposes until it is ordered: how long that took.
fn commit(node: &mut Node, octets: &[u8], writes: &[&str]) -> Duration {
    let begun = Instant::now();
    loop {
        match node.propose(octets, writes, writes) {
            Ok(proposed) => {
                if node.take(&proposed) {
                    return begun.elapsed();
                }
            }
            Err(OrderError::Unknown { .. } | OrderError::NoQuorum { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        assert!(begun.elapsed() < LONG);
    }
}

#[test]
fn a_leader_that_is_cut_off_is_neither_believed_nor_waited_for() {
    in_networks(|fabric| {
        let leader = fabric.etcd.leader();
        let [next, last] = [(leader + 1) % 3, (leader + 2) % 3];
        // One asks the leader first, the other one another member.
        let (mut a, mut b) = (fabric.node("a", leader), fabric.node("b", next));
        commit(&mut a, b"a before", &["a"]);
        commit(&mut b, b"b before", &["b"]);
        fabric.etcd.cut(leader, next);
        fabric.etcd.cut(leader, last);
        let took = [
            commit(&mut b, b"b in it", &["b"]),
            commit(&mut a, b"a in it", &["a"]),
        ];
        println!("with the leader cut off, commits took {took:?}");
        // What it still holds is old, and nobody is told that it is the newest.
        commit(&mut b, b"b again", &["b"]);
        let deadline = Instant::now() + LONG;
        let newest = loop {
            match a.order.since(&a.seen) {
                Ok(entries) => break entries,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
        };
        a.take_in(&newest);
        assert_eq!(a.log, b.log);
        assert_eq!(a.log.last().unwrap().octets, b"b again");
        fabric.etcd.mend(leader, next);
        fabric.etcd.mend(leader, last);
        commit(&mut a, b"a after", &["a"]);
        commit(&mut b, b"b after", &["b"]);
        a.catch_up();
        assert_eq!(a.log, b.log);
        assert_eq!(a.log.len(), 7);
    });
}

#[test]
fn a_member_that_has_lost_the_leader_alone_is_left_for_another_one() {
    in_networks(|fabric| {
        let leader = fabric.etcd.leader();
        let follower = (leader + 1) % 3;
        let (mut a, mut b) = (fabric.node("a", follower), fabric.node("b", leader));
        commit(&mut a, b"a before", &["a"]);
        fabric.etcd.cut(leader, follower);
        let took = commit(&mut a, b"a in it", &["a"]);
        assert!(took < 2 * BUDGET, "{took:?}");
        // From then on, at once.
        for round in 0..5u8 {
            let took = commit(&mut a, &[round], &["a"]);
            assert!(took < BUDGET / 2, "{took:?}");
            commit(&mut b, &[round], &["b"]);
        }
        fabric.etcd.mend(leader, follower);
        commit(&mut a, b"a after", &["a"]);
        b.catch_up();
        assert_eq!(a.log, b.log);
    });
}

#[test]
fn members_that_are_all_cut_off_from_each_other_order_nothing_and_go_on_together() {
    in_networks(|fabric| {
        let pairs = [(0, 1), (1, 2), (2, 0)];
        let (mut a, mut b) = (fabric.node("a", 0), fabric.node("b", 1));
        commit(&mut a, b"a before", &["a"]);
        for (one, other) in pairs {
            fabric.etcd.cut(one, other);
        }
        let begun = Instant::now();
        let error = a.propose(b"a in it", &["a"], &["a"]).unwrap_err();
        assert!(begun.elapsed() < BUDGET * 3 / 2, "{:?}", begun.elapsed());
        assert!(
            matches!(
                error,
                OrderError::Unknown { .. } | OrderError::NoQuorum { .. }
            ),
            "{error}"
        );
        let deadline = Instant::now() + LONG;
        loop {
            let asked = Instant::now();
            let error = b.order.since(&b.seen).unwrap_err();
            assert!(matches!(error, OrderError::NoQuorum { .. }), "{error}");
            if asked.elapsed() < BUDGET / 20 {
                break;
            }
            assert!(Instant::now() < deadline);
        }
        for (one, other) in pairs {
            fabric.etcd.mend(one, other);
        }
        commit(&mut a, b"a in it", &["a"]);
        commit(&mut b, b"b after", &["b"]);
        a.catch_up();
        assert_eq!(a.log, b.log);
        assert_eq!(a.log.len(), 3);
    });
}
