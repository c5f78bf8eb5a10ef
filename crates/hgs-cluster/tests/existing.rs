//! An etcd that runs already: what is looked at before it is used, and what is left alone in it.

mod common;

use common::{CLUSTER, Fabric, named};
use hgs_cluster::existing::{EtcdPlace, ExistingEtcd, ExistingEtcdError, add, check_free};
use hgs_cluster::membership::MembershipError;
use hgs_cluster::node::Node;
use hgs_cluster::order::{Keyspace, announced, remove};
use hgs_cluster::upkeep::{AuditHead, Report, Tidied, Upkeep, publish};
use hgs_etcd::{Range, Revision};
use hgs_testkit::etcd::Etcd;
use tokio::time::Instant;

impl Fabric {
    fn look(&self, prefix: &str) -> Result<Option<[u8; 16]>, ExistingEtcdError> {
        let place = EtcdPlace {
            urls: vec![format!("http://{}", self.etcd.address(0)).parse().unwrap()],
            prefix: prefix.parse().unwrap(),
        };
        let existing = ExistingEtcd::new(place, None).unwrap();
        self.runtime.block_on(existing.look())
    }
}

fn node(name: &str, address: &str) -> Node {
    Node {
        name: named(name),
        address: address.parse().unwrap(),
    }
}

#[test]
fn nodes_are_added_by_name_and_address_and_only_keys_of_the_cluster_are_touched() {
    let fabric = Fabric::of(Etcd::with(1, &["--max-txn-ops", "128"]));
    assert_eq!(fabric.look("openhgs").unwrap(), Some(CLUSTER));
    assert_eq!(fabric.look("openhgs/site-2").unwrap(), None);

    let (client, keys) = (fabric.client(0), Keyspace::default());
    let (one, two) = (node("n1", "192.0.2.1"), node("n2", "192.0.2.2"));
    let adding = |node: &Node| fabric.runtime.block_on(add(&client, &keys, node));
    assert_eq!(*adding(&one).unwrap(), *std::slice::from_ref(&one));
    assert_eq!(adding(&two).unwrap(), [one.clone(), two.clone()]);
    assert_eq!(
        adding(&two).unwrap(),
        [one.clone(), two.clone()],
        "again, before it has begun"
    );
    let moved = adding(&node("n2", "192.0.2.3")).unwrap_err();
    assert!(matches!(moved, MembershipError::NameTaken(_)), "{moved}");
    let same_place = adding(&node("n3", "192.0.2.1")).unwrap_err();
    assert!(
        matches!(same_place, MembershipError::AddressTaken(_)),
        "{same_place}"
    );
    let mut writer = fabric.node("n2", 0);
    writer.commit(b"entry", &["x"]);
    let free = fabric.runtime.block_on(check_free(&client, &keys, &two));
    assert!(
        matches!(free, Err(MembershipError::NameTaken(_))),
        "it has begun"
    );
    let removed = fabric.runtime.block_on(remove(&client, &keys, &one.name));
    removed.unwrap();
    let left = fabric.runtime.block_on(announced(&client, &keys)).unwrap();
    assert_eq!(left, [two]);

    // Entries leave it; its history is for those who run it.
    fabric.etcd.etcdctl(0, &["put", "of-others", "1"]);
    let report = Report {
        revision: writer.seen.revision,
        entries: [(named("n2"), 1)].into(),
        audit: AuditHead::default(),
        ..Report::default()
    };
    for name in ["a", "n2"].map(named) {
        let published = publish(&client, &keys, &name, &report);
        fabric.runtime.block_on(published).unwrap();
    }
    let mut upkeep = Upkeep::in_existing(client.clone(), keys, named("a"));
    let round = fabric
        .runtime
        .block_on(upkeep.round(Instant::now()))
        .unwrap();
    assert_eq!(
        (round.offloaded.entries, round.tidied),
        (1, Tidied::default())
    );
    let mut old = Range::of(hgs_etcd::Keys::Prefix("of-others".into()));
    assert_eq!(
        fabric
            .runtime
            .block_on(client.range(&old))
            .unwrap()
            .records
            .len(),
        1
    );
    old.at = Some(Revision(2));
    fabric.runtime.block_on(client.range(&old)).unwrap();
}

#[test]
fn an_etcd_without_room_is_named() {
    let fabric = Fabric::of(Etcd::with(1, &["--quota-backend-bytes=2000000"]));
    let large = "x".repeat(100_000);
    let mut last = String::new();
    let full = (0..60).find_map(|number| {
        let put = std::process::Command::new(hgs_testkit::tool("etcdctl", "etcd-client"))
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &fabric.etcd.address(0), "put"])
            .args([&format!("of-others-{number}"), &large])
            .output()
            .unwrap();
        last = String::from_utf8_lossy(&put.stderr).into_owned();
        (!put.status.success()).then(|| fabric.look("openhgs/site-2"))
    });
    let error = full.expect("its quota ends").unwrap_err();
    assert!(matches!(error, ExistingEtcdError::Full), "{error}: {last}");
}
