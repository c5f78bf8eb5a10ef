//! The client before real members: what etcd's own tool says is the judge.

use std::time::Duration;

use bytes::Bytes;
use hgs_crypto::base64;
use hgs_etcd::{
    Change, Client, Code, Compare, Keys, Operation, Range, Repeat, Revision, Settings, Txn,
    WatchError,
};
use hgs_testkit::etcd::Etcd;
use rustix::process::Signal;
use tokio::net::TcpListener;
use tokio::time::Instant;

/// How long a member may take to answer.
const PATIENCE: Duration = Duration::from_millis(1500);

/// A client that asks the members in this order.
fn client(etcd: &Etcd, order: &[usize]) -> Client {
    Client::new(Settings {
        members: order.iter().map(|member| etcd.address(*member)).collect(),
        tls: None,
        patience: PATIENCE,
        budget: 2 * PATIENCE,
    })
}

fn key(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn put(name: &str, value: &str) -> Operation {
    Operation::Put(key(name), key(value))
}

fn write(operations: &[Operation]) -> Txn {
    Txn {
        then: operations.to_vec(),
        ..Txn::default()
    }
}

async fn commit(client: &Client, operations: &[Operation]) -> Revision {
    let committed = client
        .commit(&write(operations), Repeat::Safe)
        .await
        .unwrap();
    assert!(committed.succeeded);
    committed.revision
}

fn text(json: &serde_json::Value) -> String {
    let octets = base64::decode(json.as_str().unwrap()).unwrap();
    String::from_utf8(octets).unwrap()
}

#[tokio::test]
async fn a_transaction_does_what_etcdctl_sees() {
    let cluster = Etcd::new(1);
    let client = client(&cluster, &[0]);
    let first = commit(&client, &[put("r/a", "1"), put("r/b", "2"), put("s", "3")]).await;
    let seen = cluster.etcdctl(0, &["get", "--prefix", "r/"]);
    let pairs: Vec<_> = seen["kvs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|kv| {
            (
                text(&kv["key"]),
                text(&kv["value"]),
                kv["mod_revision"].as_i64().unwrap(),
            )
        })
        .collect();
    let expected = |name: &str, value: &str| (name.to_owned(), value.to_owned(), first.0);
    assert_eq!(pairs, [expected("r/a", "1"), expected("r/b", "2")]);

    // And the other way round.
    cluster.etcdctl(0, &["put", "r/c", "4"]);
    let found = client
        .range(&Range::of(Keys::Prefix(key("r/"))))
        .await
        .unwrap();
    let names: Vec<_> = found.records.iter().map(|record| &record.key[..]).collect();
    assert_eq!(names, [b"r/a", b"r/b", b"r/c"]);
    assert_eq!(
        (&found.records[2].value[..], found.records[2].revision),
        (&b"4"[..], Revision(first.0 + 1))
    );
    assert_eq!((found.more, found.revision), (false, Revision(first.0 + 1)));

    // What does not hold is answered by the other list, and nothing is written.
    let txn = Txn {
        compare: vec![
            Compare::Absent(key("new")),
            Compare::Value(key("s"), key("3")),
            Compare::Revision(key("r/c"), first),
        ],
        then: vec![put("new", "5")],
        otherwise: vec![Operation::Get(key("r/c"))],
    };
    let refused = client.commit(&txn, Repeat::Safe).await.unwrap();
    assert!(!refused.succeeded);
    assert_eq!(&refused.found[0].records[0].value[..], b"4");
    let mut txn = txn;
    txn.compare[2] = Compare::Revision(key("r/c"), Revision(first.0 + 1));
    assert!(client.commit(&txn, Repeat::Safe).await.unwrap().succeeded);
    // The same once more: the key is there now.
    assert!(!client.commit(&txn, Repeat::Safe).await.unwrap().succeeded);

    // As it was, in parts, and what is gone.
    let mut old = Range::of(Keys::Between(key("r/a"), key("s")));
    old.at = Some(first);
    old.limit = 1;
    let found = client.range(&old).await.unwrap();
    assert_eq!((found.records.len(), found.more), (1, true));
    client.compact(Revision(first.0 + 1)).await.unwrap();
    let gone = client.range(&old).await.unwrap_err();
    assert_eq!(gone.refusal().unwrap().code, Code::OutOfRange);
    assert!(!gone.may_be_done(), "{gone}");
    commit(&client, &[Operation::Delete(Keys::Prefix(key("r/")))]).await;
    let found = client
        .range(&Range::of(Keys::Prefix(Bytes::new())))
        .await
        .unwrap();
    let names: Vec<_> = found.records.iter().map(|record| &record.key[..]).collect();
    assert_eq!(names, [&b"new"[..], b"s"]);
}

/// What a refusal says: whether the comparison holds.
async fn holds(client: &Client, compare: Compare) -> bool {
    let txn = Txn {
        compare: vec![compare],
        ..Txn::default()
    };
    client.commit(&txn, Repeat::Safe).await.unwrap().succeeded
}

#[tokio::test]
async fn what_was_written_before_and_what_stands_above_is_compared() {
    let cluster = Etcd::new(1);
    let client = client(&cluster, &[0]);
    let first = commit(&client, &[put("n/a", "5x")]).await;
    let second = commit(&client, &[put("n/b", "7")]).await;
    let after = Revision(second.0 + 1);
    let all = || Keys::Prefix(key("n/"));
    let one = |name: &str| Keys::One(key(name));
    assert!(holds(&client, Compare::Before(one("n/a"), second)).await);
    assert!(!holds(&client, Compare::Before(one("n/a"), first)).await);
    // Of several keys, all; what is absent was written never.
    assert!(holds(&client, Compare::Before(all(), after)).await);
    assert!(!holds(&client, Compare::Before(all(), second)).await);
    assert!(holds(&client, Compare::Before(one("n/c"), Revision(1))).await);
    assert!(holds(&client, Compare::Before(Keys::Prefix(key("q/")), first)).await);
    // Values in the order of their octets; what is absent has none.
    for (value, below, above) in [("5x", false, false), ("6", true, false), ("5", false, true)] {
        let compare = Compare::Below(key("n/a"), key(value));
        assert_eq!(holds(&client, compare).await, below, "{value}");
        let compare = Compare::Above(key("n/a"), key(value));
        assert_eq!(holds(&client, compare).await, above, "{value}");
    }
    assert!(!holds(&client, Compare::Below(key("n/c"), key("5"))).await);
    assert!(!holds(&client, Compare::Above(key("n/c"), key(""))).await);

    // In a transaction that writes, reads see what it has written, in parts where they are limited.
    let mut limited = Range::of(all());
    limited.limit = 2;
    let txn = Txn {
        then: vec![put("n/c", "9"), Operation::Range(limited)],
        ..Txn::default()
    };
    let committed = client.commit(&txn, Repeat::Safe).await.unwrap();
    assert_eq!(committed.revision, after);
    assert!(committed.found[1].more);
    let names: Vec<_> = committed.found[1]
        .records
        .iter()
        .map(|record| &record.key[..])
        .collect();
    assert_eq!(names, [b"n/a", b"n/b"]);
    // And only what is old, without its values.
    let mut old = Range::of(all());
    old.until = Some(first);
    old.names_only = true;
    let found = client.range(&old).await.unwrap();
    let pairs: Vec<_> = found
        .records
        .iter()
        .map(|record| (&record.key[..], record.value.len()))
        .collect();
    assert_eq!(pairs, [(&b"n/a"[..], 0)]);
}

#[tokio::test]
async fn a_silent_member_costs_one_request_its_patience_and_is_asked_again_when_it_is_back() {
    let mut cluster = Etcd::new(3);
    let leader = cluster.leader();
    let follower = (leader + 1) % 3;
    let client = client(&cluster, &[follower, leader, 3 - leader - follower]);
    commit(&client, &[put("a", "1")]).await;
    cluster.signal(follower, Signal::STOP);
    let begun = Instant::now();
    commit(&client, &[put("a", "2")]).await;
    assert!(begun.elapsed() >= PATIENCE);
    let begun = Instant::now();
    for _ in 0..5 {
        commit(&client, &[put("a", "3")]).await;
    }
    assert!(begun.elapsed() < 4 * PATIENCE, "{:?}", begun.elapsed());
    // Without the others, too, the answer comes at once, and says why.
    cluster.kill(leader);
    cluster.kill(3 - leader - follower);
    let error = client
        .commit(&write(&[put("a", "4")]), Repeat::Safe)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("silent"), "{error}");
    cluster.start(leader);
    cluster.signal(follower, Signal::CONT);
    let begun = Instant::now();
    while let Err(error) = client.commit(&write(&[put("a", "5")]), Repeat::Safe).await {
        assert!(begun.elapsed() < Duration::from_secs(60), "{error}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn what_etcd_refuses_is_refused_in_its_words() {
    let cluster = Etcd::with(1, &["--quota-backend-bytes=33554432"]);
    let client = client(&cluster, &[0]);
    let twice = write(&[put("a", "1"), put("a", "2")]);
    let refused = client.commit(&twice, Repeat::Safe).await.unwrap_err();
    let status = refused.refusal().unwrap();
    assert_eq!(status.code, Code::InvalidArgument);
    assert!(status.message.contains("duplicate key"), "{status}");
    let long = Operation::Put(key("a"), vec![0; 3 << 20].into());
    let refused = client
        .commit(&write(&[long]), Repeat::Safe)
        .await
        .unwrap_err();
    assert!(!refused.may_be_done(), "{refused}");
    // The quota of this cluster is 32 MiB.
    let mut full = None;
    for number in 0..64 {
        let value = Operation::Put(key(&number.to_string()), vec![number; 1 << 20].into());
        if let Err(error) = client.commit(&write(&[value]), Repeat::Safe).await {
            full = Some(error);
            break;
        }
    }
    assert_eq!(
        full.unwrap().refusal().unwrap().code,
        Code::ResourceExhausted
    );
    let alarms = client.alarms().await.unwrap();
    assert_eq!(alarms.len(), 1);
    // Room is made: deletes pass, then the alarm goes off.
    let all = Operation::Delete(Keys::Prefix(Bytes::new()));
    let revision = commit(&client, &[all]).await;
    client.compact(revision).await.unwrap();
    client.defragment(0).await.unwrap();
    client.disarm(alarms[0]).await.unwrap();
    assert_eq!(client.alarms().await.unwrap(), []);
    commit(&client, &[put("a", "1")]).await;
    let status = client.status(0).await.unwrap();
    assert!(status.octets.0 < 8 << 20, "{status:?}");
}

#[tokio::test]
async fn a_watch_tells_each_change_once_and_in_order() {
    let cluster = Etcd::new(1);
    let client = client(&cluster, &[0]);
    let first = commit(&client, &[put("r/a", "1")]).await;
    let keys = Keys::Prefix(key("r/"));
    let mut watch = client.watch(keys.clone(), first).await.unwrap();
    commit(&client, &[put("other", "x")]).await;
    cluster.etcdctl(0, &["put", "r/b", "2"]);
    let last = commit(
        &client,
        &[Operation::Delete(Keys::One(key("r/a"))), put("r/c", "3")],
    )
    .await;
    let mut told = Vec::new();
    let mut revision = Revision(0);
    while revision < last {
        let news = watch.next().await.unwrap();
        assert!(news.revision >= revision);
        revision = news.revision;
        told.extend(news.changes.into_iter().map(|change| match change {
            Change::Put(record) => (
                String::from_utf8(record.key.to_vec()).unwrap(),
                Some(record.value),
            ),
            Change::Delete(name, at) => {
                assert_eq!(at, last);
                (String::from_utf8(name.to_vec()).unwrap(), None)
            }
        }));
    }
    told[2..].sort();
    let written = |name: &str, value: &str| (name.to_owned(), Some(key(value)));
    assert_eq!(
        told,
        [
            written("r/a", "1"),
            written("r/b", "2"),
            ("r/a".to_owned(), None),
            written("r/c", "3")
        ]
    );
    // Nothing happens, and the revision is told all the same.
    assert_eq!(watch.next().await.unwrap().changes, []);
    let elsewhere = commit(&client, &[put("other", "y")]).await;
    while watch.next().await.unwrap().revision < elsewhere {}

    client.compact(elsewhere).await.unwrap();
    let mut late = client.watch(keys.clone(), first).await.unwrap();
    assert!(matches!(late.next().await, Err(WatchError::Compacted(at)) if at == elsewhere));
    // A frozen member is silent, and that is noticed.
    let mut watch = client.watch(keys, Revision(elsewhere.0 + 1)).await.unwrap();
    watch.next().await.unwrap();
    cluster.signal(0, Signal::STOP);
    let silent = watch.next().await.unwrap_err();
    assert!(
        matches!(silent, WatchError::Silent | WatchError::Member(_)),
        "{silent}"
    );
    cluster.signal(0, Signal::CONT);
}

#[tokio::test]
async fn a_cluster_grows_by_learners_and_outlives_its_leader() {
    let mut cluster = Etcd::new(1);
    commit(&client(&cluster, &[0]), &[put("a", "1")]).await;
    let all = |cluster: &Etcd| client(cluster, &[0, 1, 2]);
    for _ in 0..2 {
        let place = cluster.prepare_one_more();
        let client = client(&cluster, &(0..place).collect::<Vec<_>>());
        let url = cluster.peer_url(place);
        // Members that have just come are not counted on for some seconds.
        let begun = Instant::now();
        let id = loop {
            match client.add_learner(&url).await {
                Ok((id, _)) => break id,
                Err(error) => assert!(begun.elapsed() < Duration::from_secs(60), "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        cluster.join();
        while let Err(error) = client.promote(id).await {
            assert!(begun.elapsed() < Duration::from_secs(60), "{error}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    cluster.ready();
    let three = all(&cluster);
    let members = three.members().await.unwrap();
    let listed = cluster.etcdctl(0, &["member", "list"]);
    assert_eq!(members.len(), listed["members"].as_array().unwrap().len());
    assert!(members.iter().all(|member| !member.learner));

    let leader = cluster.leader();
    let other = (leader + 1) % 3;
    let target = three.status(other).await.unwrap().id;
    three.move_leader(leader, target).await.unwrap();
    cluster.ready();
    assert_eq!(cluster.leader(), other);

    // The leader is killed: the others decide, and what was written is there.
    commit(&three, &[put("b", "2")]).await;
    cluster.kill(other);
    let begun = Instant::now();
    while let Err(error) = three.commit(&write(&[put("c", "3")]), Repeat::Safe).await {
        assert!(begun.elapsed() < Duration::from_secs(60), "{error}");
    }
    let found = three
        .range(&Range::of(Keys::Prefix(Bytes::new())))
        .await
        .unwrap();
    assert_eq!(found.records.len(), 3);

    // One of three alone has no leader, and says so at once and for sure.
    let next = (0..3).find(|place| *place != other).unwrap();
    let last = 3 - other - next;
    cluster.kill(next);
    let begun = Instant::now();
    loop {
        let asked = Instant::now();
        match client(&cluster, &[last, next])
            .commit(&write(&[put("d", "4")]), Repeat::Safe)
            .await
        {
            Err(error) if error.lacks_leader() => {
                assert!(!error.may_be_done(), "{error}");
                assert!(asked.elapsed() < PATIENCE);
                break;
            }
            outcome => assert!(begun.elapsed() < Duration::from_secs(60), "{outcome:?}"),
        }
    }
    let status = client(&cluster, &[last]).status(0).await.unwrap();
    assert_eq!(status.leader, None);
    // What it holds it still tells, to those who ask for what may be old.
    let mut stale = Range::of(Keys::One(key("b")));
    stale.stale = true;
    assert_eq!(three.range(&stale).await.unwrap().records.len(), 1);
}

#[tokio::test]
async fn an_outcome_that_is_not_known_is_said_and_repeated_only_where_that_is_safe() {
    let cluster = Etcd::new(1);
    // Takes connections, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let absent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = absent.local_addr().unwrap().to_string();
    drop(absent);
    let settings = |members: [String; 2]| Settings {
        members: members.into(),
        tls: None,
        patience: Duration::from_millis(300),
        budget: PATIENCE,
    };
    let silent = silent.local_addr().unwrap().to_string();
    let client = Client::new(settings([silent.clone(), cluster.address(0)]));
    let error = client
        .commit(&write(&[put("a", "1")]), Repeat::Never)
        .await
        .unwrap_err();
    assert!(error.may_be_done() && !error.lacks_leader(), "{error}");
    assert_eq!(error.members.len(), 1);
    assert!(error.to_string().contains(&silent), "{error}");
    let client = Client::new(settings([silent.clone(), cluster.address(0)]));
    commit(&client, &[put("a", "1")]).await;
    // It is asked last from now on.
    client
        .commit(&write(&[put("a", "2")]), Repeat::Never)
        .await
        .unwrap();
    // A member that can't be reached was asked nothing.
    let client = Client::new(settings([gone.clone(), cluster.address(0)]));
    client
        .commit(&write(&[put("a", "3")]), Repeat::Never)
        .await
        .unwrap();
    let client = Client::new(settings([gone.clone(), gone]));
    let error = client
        .commit(&write(&[put("a", "4")]), Repeat::Safe)
        .await
        .unwrap_err();
    assert!(!error.may_be_done() && !error.lacks_leader(), "{error}");
}

#[tokio::test]
async fn a_snapshot_is_one_that_etcdctl_restores() {
    let cluster = Etcd::new(1);
    let client = client(&cluster, &[0]);
    for number in 0..200u8 {
        commit(
            &client,
            &[Operation::Put(
                key(&format!("k{number}")),
                vec![number; 4096].into(),
            )],
        )
        .await;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("snapshot.db");
    let mut octets = Vec::new();
    client
        .snapshot(0, &mut |piece| {
            octets.extend_from_slice(piece);
            Ok(())
        })
        .await
        .unwrap();
    std::fs::write(&file, &octets).unwrap();
    let name = file.to_str().unwrap();
    let status = cluster.etcdctl(0, &["snapshot", "status", name]);
    assert_eq!(status["revision"], 201);
    let restored = folder.path().join("restored");
    cluster.etcdctl(
        0,
        &[
            "snapshot",
            "restore",
            name,
            "--data-dir",
            restored.to_str().unwrap(),
        ],
    );
    assert!(restored.join("member/snap/db").is_file());
}
