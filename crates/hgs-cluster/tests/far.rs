//! A node that is far from etcd, beside others that are near and busy.

mod common;
#[path = "faults/wires.rs"]
#[allow(dead_code, reason = "wires between members are the faults'")]
mod wires;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{Fabric, LONG, client_of};
use hgs_store::order::OrderError;
use hgs_testkit::etcd::Etcd;
use wires::Wire;

/// Each way.
const FAR: Duration = Duration::from_millis(90);
const COMMITS: usize = 10;
/// The others may have gone on so far once while a proposal was on its way, and be caught up with.
const ATTEMPTS: usize = 3 * COMMITS;

#[test]
fn a_node_that_is_far_away_keeps_up_with_others_that_are_busy() {
    let fabric = Fabric::of(Etcd::new(1));
    let wire = Wire::new(&fabric.runtime, fabric.etcd.address(0));
    let mut busy = [fabric.node("a", 0), fabric.node("b", 0)];
    fabric.node("c", 0);
    let mut far = fabric.node_by("c", client_of(vec![wire.address()]), 1024);
    let is_done = AtomicBool::new(false);
    let (mut attempts, mut committed) = (0, 0);
    thread::scope(|scope| {
        for node in &mut busy {
            let is_done = &is_done;
            scope.spawn(move || {
                let entry = vec![7; 2000];
                while !is_done.load(Ordering::SeqCst) {
                    node.commit(&entry, &[]);
                }
            });
        }
        wire.slow(FAR);
        let deadline = Instant::now() + LONG;
        while committed < COMMITS && attempts < ATTEMPTS && Instant::now() < deadline {
            attempts += 1;
            match far.propose(b"from afar", &["x"], &["x"]) {
                Ok(proposed) => committed += usize::from(far.take(&proposed)),
                Err(OrderError::Unknown { .. } | OrderError::NoQuorum { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        is_done.store(true, Ordering::SeqCst);
    });
    let [a, b] = &mut busy;
    println!(
        "{attempts} attempts beside {} commits",
        a.last().number + b.last().number
    );
    assert_eq!(committed, COMMITS, "in {attempts} attempts");
    for node in [&mut *a, b, &mut far] {
        node.catch_up();
    }
    assert_eq!(a.log.len(), far.log.len());
    assert!(a.log == b.log && a.log == far.log);
}
