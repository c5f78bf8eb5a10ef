//! What happens to the machines of a guardian of three nodes: a clock is wrong, most nodes fall silent, one is away for long, and
//! one loses what it has on its disk.

mod common;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use common::machine::{Machine, PATIENCE};
use common::served::Served;
use hgs_cluster::credentials;
use hgs_cluster::folder::ClusterFolder;
use hgs_cluster::upkeep::{Upkeep, reports};
use hgs_etcd::{Client, Settings};
use hgs_testkit::tool;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Without a quorum a node says so within this time, and from then on at once.
const FIRST_ANSWER: Duration = Duration::from_secs(2);
/// What a busy machine may add, where nothing is waited for.
const AT_ONCE: Duration = Duration::from_millis(300);
const HOURS: i64 = 3600;

/// Sets the clock of a machine, by a file that `faketime` reads each time.
struct Clock<'m>(&'m Machine);

impl Clock<'_> {
    const FILE: &'static str = "clock";

    fn set(&self, offset: &str) {
        self.0.home.write(Self::FILE, offset);
    }

    fn serve(&self) -> Served {
        tool("faketime", "faketime");
        self.set("+0");
        let file = self.0.home.file(Self::FILE);
        let variables = [
            ("LD_PRELOAD", "/usr/$LIB/faketime/libfaketime.so.1"),
            ("FAKETIME_TIMESTAMP_FILE", file.to_str().unwrap()),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("NO_FAKE_STAT", "1"),
        ];
        Served::launch(&self.0.home, "hgs.toml", &variables)
    }
}

/// The etcd of a node.
fn etcd_of(node: &Served) -> Pid {
    let tasks = fs::read_dir(format!("/proc/{}/task", node.process())).unwrap();
    let mut children = tasks.flatten().flat_map(|task| {
        let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        let children = children.split_whitespace();
        children
            .map(|child| child.parse().unwrap())
            .collect::<Vec<i32>>()
    });
    let is_etcd = |child: &i32| {
        let name = fs::read_to_string(format!("/proc/{child}/comm"));
        name.is_ok_and(|name| name.trim() == "etcd")
    };
    Pid::from_raw(children.find(is_etcd).unwrap()).unwrap()
}

fn difference(cluster: &Value, node: &str) -> i64 {
    let nodes = cluster["nodes"].as_array().unwrap();
    let node = nodes.iter().find(|one| one["name"] == node).unwrap();
    node["clock_difference_seconds"].as_i64().unwrap_or(0)
}

#[test]
fn wrong_clocks_silent_nodes_long_absence_and_damaged_disks() {
    let [first, second, third, fourth] = ["n1", "n2", "n3", "n4"].map(Machine::new);
    let served_first = first.found();
    let served_second = second.join_by(&first);
    third.join(&first.invitation()).done();
    let clock = Clock(&third);
    let served_third = clock.serve();
    first.until("three nodes stand", |cluster| cluster["survives"] == 1);
    first.add_host("host-1");
    first.add_host("host-2");

    a_wrong_clock_is_told_and_changes_no_order(&first, &third, &clock, &served_first);
    silent_nodes_are_told_within_two_seconds(&served_first, &[&served_second, &served_third]);
    first.until("three nodes are back", |cluster| cluster["survives"] == 1);

    drop(served_third);
    second.add_host("while-away");
    entries_leave(&first);
    let archives = archives_are_each_nodes_own(&first, &second);
    let served_third = Served::start_with(&third.home, "hgs.toml");
    third.knows_host("while-away");
    assert!(
        third.home.file("guardian/state.db.replaced").exists(),
        "no copy was fetched"
    );
    its_log_begins_where_that_of_the_copy_does(&third, &archives);

    drop(served_third);
    a_damaged_disk_is_named(&first, &third);
    first.hgs("cluster remove n3 --yes").done();
    let served_fourth = fourth.join_by(&second);
    fourth.knows_host("while-away");
    assert!(served_fourth.readiness().contains("200 OK"));
}

/// Its own clock is for what it issues; what is revoked is decided by the order of commits.
fn a_wrong_clock_is_told_and_changes_no_order(
    first: &Machine,
    third: &Machine,
    clock: &Clock<'_>,
    served_first: &Served,
) {
    // An invitation does not outlive its quarter of an hour, nor a clock that is set back.
    let invitation = third.invitation();
    clock.set("-3h");
    first.until("the clock that is late is told", |cluster| {
        difference(cluster, "n3") < -2 * HOURS
    });
    let late = Machine::new("n9");
    let refused = late.join(&invitation).ended(1);
    assert!(!refused.err.is_empty());
    clock.set("+5h");
    first.until("the clock that is early is told", |cluster| {
        difference(cluster, "n3") > 4 * HOURS
    });
    first.hgs("status").done().saying("n3");
    // Both ways: what one has revoked is revoked on the other, whatever time it is there.
    first.hgs("host revoke host-1 --reason stolen --yes").done();
    third.hgs("host revoke host-2 --reason stolen --yes").done();
    for (machine, host) in [(first, "host-2"), (third, "host-1")] {
        let deadline = Instant::now() + PATIENCE;
        while !machine
            .hgs(&format!("host show {host}"))
            .done()
            .out
            .contains("stolen")
        {
            assert!(Instant::now() < deadline, "{host}");
        }
    }
    clock.set("+0");
    first.until("the clock that is right again is told", |cluster| {
        difference(cluster, "n3") == 0
    });
    assert!(served_first.readiness().contains("200 OK"));
}

/// The promise of the documentation: 503 with a reason within two seconds of the loss, and at once after that.
fn silent_nodes_are_told_within_two_seconds(left: &Served, lost: &[&Served]) {
    let members: Vec<Pid> = lost.iter().map(|node| etcd_of(node)).collect();
    for member in &members {
        kill_process(*member, Signal::STOP).unwrap();
    }
    let deadline = Instant::now() + PATIENCE;
    let mut is_first = true;
    loop {
        let asked = Instant::now();
        let answer = left.readiness();
        let took = asked.elapsed();
        // Half as much again for a busy machine.
        assert!(took < FIRST_ANSWER * 3 / 2, "{took:?}: {answer}");
        assert!(answer.contains(" 503 "), "{answer}");
        let is_named = answer.contains("quorum") || answer.contains("has not said");
        assert!(is_named, "{answer}");
        println!("without a quorum, an answer took {took:?}");
        if !is_first && took < AT_ONCE {
            break;
        }
        is_first = false;
        assert!(Instant::now() < deadline, "{took:?}: {answer}");
    }
    for member in &members {
        kill_process(*member, Signal::CONT).unwrap();
    }
}

/// Has all entries leave etcd that only the nodes that live have, as they do by themselves after ten minutes.
fn entries_leave(node: &Machine) {
    let folder = ClusterFolder::of_state(&node.home.file("guardian"));
    let facts = folder.facts().unwrap().unwrap();
    let client = Client::new(Settings {
        members: facts.etcd_endpoints(),
        tls: Some(credentials::client_config(&folder, b"h2").unwrap()),
        patience: PATIENCE,
        budget: PATIENCE,
    });
    let keys = facts.keyspace();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let now = tokio::time::Instant::now();
        let mut upkeep = Upkeep::new(
            client.clone(),
            keys.clone(),
            facts.node.name.clone(),
            2 << 30,
        );
        let newest = reports(&client, &keys).await.unwrap();
        let newest = newest.iter().map(|reported| reported.report.revision).max();
        let mut heard_at = now;
        while upkeep.round(heard_at).await.unwrap().offloaded.floor <= newest.unwrap() {
            assert!(now.elapsed() < PATIENCE, "nothing has left etcd");
            heard_at = now + Duration::from_mins(11);
        }
    });
}

/// The records that a node has in its database, oldest first.
fn records(node: &Machine) -> Vec<Value> {
    let listed = node.hgs("audit list --limit 1000 --json").done().json();
    let mut records = listed.as_array().unwrap().clone();
    records.reverse();
    records
}

/// The file of an archive that is made of all records of a node but the newest.
fn archived(node: &Machine) -> String {
    let made = node.hgs("audit archive --before 2100-01-01 --json").done();
    made.json()[0]["file"].as_str().unwrap().to_owned()
}

/// Records that leave the database of one node stay in those of the others, and are the same on each.
fn archives_are_each_nodes_own(first: &Machine, second: &Machine) -> [String; 2] {
    let before = records(second);
    assert_eq!(before[0]["sequence"], 1, "{:?}", before[0]);
    let of_first = archived(first);
    assert!(records(first)[0]["sequence"].as_u64() > Some(1));
    let deadline = Instant::now() + PATIENCE;
    while records(second).last().unwrap()["action"] != "archive-audit" {
        assert!(Instant::now() < deadline, "the others are not told");
    }
    let after = records(second);
    assert_eq!(after[..before.len()], before);
    let of_second = archived(second);
    for (node, file) in [(first, &of_first), (second, &of_second)] {
        let verified = node.hgs(&format!("audit verify {file}")).done();
        verified.saying("records 1 to");
    }
    // What a node has recorded is in the archives of the others.
    let lines = [&of_first, &of_second].map(|file| fs::read_to_string(file).unwrap());
    let [lines_of_first, lines_of_second] = lines.each_ref().map(|text| text.lines().skip(1));
    assert!(lines_of_first.clone().any(|line| line.contains("\"n3\"")));
    assert!(
        lines_of_first
            .zip(lines_of_second)
            .all(|(one, other)| one == other)
    );
    [of_first, of_second]
}

/// A node that has fetched a copy goes on from where it begins; the archives of the node that it came from have what is before.
fn its_log_begins_where_that_of_the_copy_does(node: &Machine, archives: &[String]) {
    let verified = archives.iter().filter(|file| {
        let outcome = node.hgs(&format!("audit verify {file}"));
        outcome.status == 0
    });
    assert_eq!(verified.count(), 1);
    let first = records(node)[0]["sequence"].as_u64().unwrap();
    assert!(first > 1);
    let next = archived(node);
    assert!(next.contains(&format!("audit-{first:012}-")), "{next}");
}

/// A log of etcd in which a bit has changed, and then a state in which octets have.
fn a_damaged_disk_is_named(first: &Machine, damaged: &Machine) {
    let folder = ClusterFolder::of_state(&damaged.home.file("guardian"));
    let logs = fs::read_dir(folder.etcd().join("member/wal")).unwrap();
    let newest = logs
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "wal"))
        .max();
    flip(&newest.unwrap(), middle_of_longest_record);
    let served = Served::start_with(&damaged.home, "hgs.toml");
    damaged.until("it says why its etcd ends", |cluster| {
        let nodes = cluster["nodes"].as_array().unwrap();
        let own = nodes.iter().find(|node| node["name"] == "n3").unwrap();
        own["error"].as_str().is_some_and(|error| {
            error.contains("etcd has ended: ") && error.contains("crc mismatch")
        })
    });
    first.until("the others miss it", |cluster| {
        cluster["survives"] == 0 && cluster["quorum"] == true
    });
    drop(served);

    flip_pages(&damaged.home.file("guardian/state.db"));
    let mut command = damaged.home.command();
    command
        .args(["serve", "--config", "hgs.toml"])
        .timeout(Duration::from_secs(60));
    let ended = command.output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(!ended.status.success(), "{said}");
    println!("{said}");
    assert!(
        said.contains("state.db") || said.contains("database"),
        "{said}"
    );
}

/// A place in a log of etcd that its checksums cover: a length or a padding would be damage of another kind, or of none.
/// Before each record stands a little-endian number: how long it is, and in the upper octet the padding after it.
fn middle_of_longest_record(log: &[u8]) -> usize {
    let mut records = Vec::new();
    let mut start = 0;
    while let Some(field) = log[start..].first_chunk() {
        let field = u64::from_le_bytes(*field);
        let length = usize::try_from(field & 0x00ff_ffff_ffff_ffff).unwrap();
        if length == 0 {
            break;
        }
        records.push((length, start + 8 + length / 2));
        start += 8 + length + usize::try_from(field >> 56 & 7).unwrap();
    }
    records.into_iter().max().unwrap().1
}

fn flip(file: &Path, place: impl FnOnce(&[u8]) -> usize) {
    let mut octets = fs::read(file).unwrap();
    let place = place(&octets);
    octets[place] ^= 1;
    fs::write(file, octets).unwrap();
}

/// Changes some octets of each page but the first.
fn flip_pages(file: &Path) {
    let mut octets = fs::read(file).unwrap();
    for place in (4096 + 100..octets.len()).step_by(512) {
        octets[place] ^= 0x55;
    }
    fs::write(file, octets).unwrap();
}
