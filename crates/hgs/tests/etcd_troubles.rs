//! What happens to an etcd that nodes use: it is put back to an older state, or one of its disks changes what it holds.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::machine::{Machine, PATIENCE};
use common::served::Served;
use hgs_testkit::etcd::Etcd;
use hgs_testkit::tool;
use serde_json::Value;

fn at(etcd: &Etcd) -> String {
    let urls = etcd.addresses(0);
    urls.iter()
        .map(|url| format!(" --etcd http://{url}"))
        .collect()
}

fn finding<'t>(traced: &'t Value, id: &str) -> &'t Value {
    let mut findings = traced["findings"].as_array().unwrap().iter();
    findings.find(|one| one["id"] == id).unwrap_or(&Value::Null)
}

/// The node that has a revocation is away while etcd is put back to before it, and another one goes on that was behind.
#[test]
fn an_etcd_that_was_put_back_stops_all_nodes_once_one_finds_it_and_one_of_them_leads_on() {
    let mut etcd = Etcd::new(1);
    let [ahead, behind] = ["n1", "n2"].map(Machine::new);
    ahead.init(&at(&etcd)).done();
    let served_ahead = Served::start_with(&ahead.home, "hgs.toml");
    behind.join(&ahead.invitation()).done();
    let served_behind = Served::start_with(&behind.home, "hgs.toml");
    ahead.add_host("host-1");
    behind.knows_host("host-1");
    drop(served_behind);
    let snapshot = ahead.home.file("snapshot");
    etcd.etcdctl(0, &["snapshot", "save", snapshot.to_str().unwrap()]);
    ahead.hgs("host revoke host-1 --reason stolen --yes").done();
    drop(served_ahead);

    etcd.put_back(&snapshot);
    let served_behind = Served::start_with(&behind.home, "hgs.toml");
    assert!(served_behind.readiness().contains("200 OK"));
    let mut serve = ahead.home.command();
    serve
        .args(["serve", "--config", "hgs.toml"])
        .timeout(Duration::from_secs(60));
    let ended = serve.output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(!ended.status.success(), "{said}");
    assert!(said.contains("was put back to an older state"), "{said}");
    assert!(said.contains("Disasters"), "{said}");

    let answer = served_behind.readiness();
    assert!(answer.contains(" 503 "), "{answer}");
    assert!(
        answer.contains("node n1 has seen commits that are gone"),
        "{answer}"
    );
    behind
        .hgs("host revoke host-1 --reason late --yes")
        .ended(1)
        .saying("was put back to an older state");
    behind
        .hgs("cluster status")
        .ended(1)
        .saying("Nothing is released: the cluster was put back");
    let traced = behind.traced("it is diagnosed", |traced| {
        finding(traced, "HGS-Q003")["outcome"] == "fail"
    });
    assert!(
        finding(&traced, "HGS-Q003")["evidence"]
            .to_string()
            .contains("n1"),
        "{traced}"
    );
    drop(served_behind);

    // The state that goes on is the one that has all.
    ahead.hgs("cluster dissolve --yes").done();
    let _served = Served::start_with(&ahead.home, "hgs.toml");
    ahead.hgs("host show host-1").done().saying("stolen");
    ahead.add_host("host-2");
}

/// The keys of all entries in etcd.
fn entries(etcd: &Etcd) -> Vec<Value> {
    let found = etcd.etcdctl(0, &["get", "--prefix", "openhgs/b/", "--keys-only"]);
    let found = found["kvs"].as_array().unwrap().iter();
    found.map(|entry| entry["key"].clone()).collect()
}

/// Starts all nodes at the same moment; each ends and says why, as do those who ask it afterwards.
fn all_say_that_it_was_put_back(nodes: &[Machine]) {
    let started: Vec<_> = nodes
        .iter()
        .map(|node| {
            let mut command = Command::new(assert_cmd::cargo::cargo_bin!("hgs"));
            command
                .args(["serve", "--config", "hgs.toml"])
                .env_clear()
                .envs(hgs_testkit::date_variables())
                .env("PATH", std::env::var_os("PATH").unwrap_or_default())
                .current_dir(node.home.path())
                .stderr(Stdio::piped());
            command.spawn().unwrap()
        })
        .collect();
    for (node, started) in nodes.iter().zip(started) {
        let ended = started.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(1), "{said}");
        assert!(!said.contains("serving http="), "{said}");
        assert!(said.contains("was put back to an older state"), "{said}");
        assert!(said.contains("Disasters"), "{said}");
        node.hgs("cluster status")
            .ended(1)
            .saying("nothing is released: the cluster was put back to an older state")
            .saying("Disasters");
        let traced = node.hgs("trace --json").json();
        assert_eq!(traced["root_causes"][0]["id"], "HGS-Q013", "{traced}");
    }
}

/// Every node has what is lost, and all are started at the same moment.
#[test]
fn nodes_that_all_start_on_an_etcd_that_was_put_back_record_nothing_and_each_says_why() {
    let mut etcd = Etcd::new(1);
    let nodes = ["n1", "n2", "n3"].map(Machine::new);
    let [first, second, third] = &nodes;
    first.init(&at(&etcd)).done();
    let mut served = vec![Served::start_with(&first.home, "hgs.toml")];
    for node in [second, third] {
        node.join(&first.invitation()).done();
        served.push(Served::start_with(&node.home, "hgs.toml"));
    }
    first.add_host("host-1");
    let snapshot = first.home.file("snapshot");
    etcd.etcdctl(0, &["snapshot", "save", snapshot.to_str().unwrap()]);
    first.hgs("host revoke host-1 --reason stolen --yes").done();
    for node in [second, third] {
        let deadline = Instant::now() + PATIENCE;
        while !node.hgs("host show host-1").done().out.contains("stolen") {
            assert!(Instant::now() < deadline, "{}", node.name);
        }
    }
    drop(served);
    etcd.put_back(&snapshot);
    let before = entries(&etcd);

    all_say_that_it_was_put_back(&nodes);
    assert_eq!(entries(&etcd), before);

    // All have the same, so any of them may lead on.
    third.hgs("cluster dissolve --yes").done();
    let _served = Served::start_with(&third.home, "hgs.toml");
    third.hgs("host show host-1").done().saying("stolen");
}

/// The same with an etcd on each node, whose disk was put back. Neither node has a quorum without the etcd of the other one.
#[test]
fn nodes_whose_own_etcds_were_put_back_wait_for_each_other_to_find_it() {
    let nodes = ["n1", "n2"].map(Machine::new);
    let [first, second] = &nodes;
    let both = [first.found(), second.join_by(first)];
    first.add_host("host-1");
    second.knows_host("host-1");
    for served in both {
        assert_eq!(served.stop().0, Some(0));
    }
    let folders = nodes
        .each_ref()
        .map(|node| node.home.file("guardian/cluster"));
    for folder in &folders {
        copy_folder(&folder.join("etcd"), &folder.with_extension("old"));
    }
    let both = thread::scope(|scope| {
        let starting = nodes
            .each_ref()
            .map(|node| scope.spawn(|| Served::start_with(&node.home, "hgs.toml")));
        starting.map(|starting| starting.join().unwrap())
    });
    second
        .hgs("host revoke host-1 --reason stolen --yes")
        .done();
    let deadline = Instant::now() + PATIENCE;
    while !first.hgs("host show host-1").done().out.contains("stolen") {
        assert!(Instant::now() < deadline);
    }
    drop(both);
    for folder in &folders {
        fs::remove_dir_all(folder.join("etcd")).unwrap();
        fs::rename(folder.with_extension("old"), folder.join("etcd")).unwrap();
    }
    all_say_that_it_was_put_back(&nodes);
}

fn copy_folder(from: &Path, to: &Path) {
    let copied = Command::new(tool("cp", "coreutils"))
        .arg("-a")
        .args([from, to])
        .status();
    assert!(copied.unwrap().success());
}

/// Where a text stands in a file.
fn places(file: &Path, text: &str) -> Vec<usize> {
    let octets = fs::read(file).unwrap();
    let windows = octets.windows(text.len()).enumerate();
    windows
        .filter(|(_, window)| *window == text.as_bytes())
        .map(|(place, _)| place)
        .collect()
}

/// A bit has changed on the disk of one member, and etcd's own check finds it.
#[test]
fn a_member_that_holds_something_else_than_the_others_is_named() {
    let mut etcd = Etcd::with(3, &["--experimental-corrupt-check-time=1s"]);
    let node = Machine::new("n1");
    node.init(&at(&etcd)).done();
    let _served = Served::start_with(&node.home, "hgs.toml");
    let value = "a value that is nowhere else in the database of this member";
    let follower = (etcd.leader() + 1) % 3;
    let database = etcd.folder(follower).join("member/snap/db");
    // It is written some moments later, and its page elsewhere with each write that follows. A commit is whole once the next one is seen:
    // of half a one nothing is left at the next start, and the log gives what was put.
    let deadline = Instant::now() + PATIENCE;
    for (key, written) in [("first", value), ("second", "what was put after it")] {
        etcd.etcdctl(0, &["put", key, written]);
        while places(&database, written).is_empty() {
            assert!(Instant::now() < deadline);
        }
    }
    etcd.kill(follower);
    let mut octets = fs::read(&database).unwrap();
    for place in places(&database, value) {
        octets[place] ^= 1;
    }
    fs::write(&database, octets).unwrap();
    etcd.start(follower);

    let traced = node.traced("it is diagnosed", |traced| {
        finding(traced, "HGS-Q006")["outcome"] == "fail"
    });
    let found = finding(&traced, "HGS-Q006")["evidence"].to_string();
    assert!(found.contains("CORRUPT"), "{found}");
    node.until("the status names it", |cluster| {
        cluster["existing_etcd"]["members"]
            .to_string()
            .contains("CORRUPT")
    });
}
