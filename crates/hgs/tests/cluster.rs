//! A guardian of several nodes, made, used, wounded and mended by the commands of its administrators.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::followed::Followed;
use common::machine::{Machine, PATIENCE, free_port};
use common::served::Served;
use common::{Home, Outcome};
use hgs_testkit::softhsm::{self, SoftHsm};
use serde_json::{Value, json};

#[path = "cluster/upgrade.rs"]
mod upgrade;

/// What a report says of the cluster: check, target, outcome.
fn judged_of_cluster(report: &Value) -> Vec<(&str, &str, &str)> {
    let findings = report["findings"].as_array().unwrap().iter();
    findings
        .filter(|found| found["group"] == "cluster")
        .map(|found| {
            let of = |key: &str| found[key].as_str().unwrap();
            (of("id"), of("target"), of("outcome"))
        })
        .collect()
}

/// The hosts of which the events after a record tell, and the numbers of those events.
fn hosts_told(machine: &Machine, since: u64) -> Vec<(u64, String)> {
    let words = format!("events --json --kind host --since {since}");
    let told = machine.hgs(&words).done().out;
    let events = told
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let hosts = events.filter_map(|event| {
        assert_ne!(event["kind"], "gap", "{event}");
        let name = event["host_name"].as_str()?.to_owned();
        Some((event["sequence"].as_u64()?, name))
    });
    hosts.collect()
}

#[test]
fn nodes_join_one_is_lost_and_replaced_and_without_a_quorum_none_is_ready() {
    let [first, second, third, fourth] = ["n1", "n2", "n3", "n4"].map(Machine::new);
    let served_first = first.found();
    let alone = first.until("one node leads", |cluster| cluster["leader"] == "n1");
    assert_eq!(alone["survives"], 0);

    // An invitation is good for one node.
    let invitation = first.invitation();
    second
        .join("hgs-join-1qqqq")
        .ended(2)
        .saying("not an invitation");
    second.join(&invitation).done().saying("n1, n2");
    third
        .join(&invitation)
        .ended(1)
        .saying("this invitation does not hold");
    first
        .join(&invitation)
        .ended(1)
        .saying("node n1 of a cluster already");
    let served_second = Served::start_with(&second.home, "hgs.toml");
    second.until("the second has its vote", |cluster| {
        cluster["survives"] == 0 && cluster["nodes"][1]["votes"] == true
    });
    second
        .hgs("cluster status")
        .done()
        .saying("the loss of one stops all");

    let taken = Machine {
        name: "n2",
        home: Home::new(),
        address: format!("127.0.0.1:{}", free_port()),
    };
    taken.home.write("hgs.toml", third.home.read("hgs.toml"));
    taken
        .join(&second.invitation())
        .ended(1)
        .saying("there is a node n2 already");

    let served_third = third.join_by(&second);
    for (machine, served) in [
        (&first, &served_first),
        (&second, &served_second),
        (&third, &served_third),
    ] {
        machine.add_host(&format!("host-of-{}", machine.name));
        assert!(
            served.readiness().contains("200 OK"),
            "{}",
            served.readiness()
        );
    }
    for machine in [&first, &second, &third] {
        for other in ["host-of-n1", "host-of-n2", "host-of-n3"] {
            machine.knows_host(other);
        }
    }
    // Who has read the events of one node goes on at another.
    let told = hosts_told(&first, 0);
    let names: Vec<_> = told.iter().map(|(_, name)| name.as_str()).collect();
    assert_eq!(names, ["host-of-n1", "host-of-n2", "host-of-n3"]);
    assert_eq!(hosts_told(&third, told[0].0), told[1..]);
    let reported = third.until("all have reported", |cluster| {
        let nodes = cluster["nodes"].as_array().unwrap();
        nodes.iter().all(|node| {
            node["lag"] == 0
                && node["usable_keys"]
                    .as_array()
                    .is_some_and(|keys| keys.len() >= 3)
        })
    });
    assert_eq!(reported["survives"], 1);
    third.traced("all is well", |report| {
        let of_cluster = judged_of_cluster(report);
        let ids: BTreeSet<_> = of_cluster.iter().map(|(id, ..)| id).collect();
        ids.len() == 13 && of_cluster.iter().all(|(.., outcome)| *outcome == "pass")
    });

    // It is lost with its disk.
    drop(served_first);
    second.until("the first is missed, and another leads", |cluster| {
        cluster["nodes"][0]["reachable"] == false
            && cluster["quorum"] == true
            && ["n2", "n3"].map(Some).contains(&cluster["leader"].as_str())
            && cluster["survives"] == 0
    });
    second.add_host("host-after-loss");
    third.knows_host("host-after-loss");
    second
        .hgs("cluster remove n2 --yes")
        .ended(2)
        .saying("no node removes itself");
    second
        .hgs("cluster remove n7 --yes")
        .ended(1)
        .saying("there is no node n7");
    second.hgs("cluster remove n1 --yes").done();
    let served_fourth = fourth.join_by(&third);
    let mended = fourth.until("three nodes stand", |cluster| cluster["survives"] == 1);
    let names: Vec<_> = mended["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| &node["name"])
        .collect();
    assert_eq!(names, ["n2", "n3", "n4"]);
    fourth.knows_host("host-of-n1");
    fourth.add_host("host-of-n4");
    let actions = fourth.hgs("audit list --json").done().out;
    for action in ["invite-node", "admit-node", "remove-node"] {
        assert!(actions.contains(action), "{action}: {actions}");
    }

    // The removed one comes back from the dead and changes nothing.
    let mut command = first.home.command();
    command
        .args(["serve", "--config", "hgs.toml"])
        .timeout(Duration::from_secs(20));
    let ended = command.output().unwrap();
    assert!(!ended.status.success());

    // A majority is gone.
    drop(served_second);
    drop(served_third);
    fourth.until("there is no quorum", |cluster| cluster["quorum"] == false);
    fourth
        .hgs("cluster status")
        .ended(1)
        .saying("Nothing is released");
    fourth.traced("that is the one cause", |report| {
        report["root_causes"] == json!([{"id": "HGS-Q003", "target": "cluster"}])
    });
    // The one that is stopped is told of what it has itself.
    second
        .hgs("trace --check HGS-Q002 --detailed")
        .done()
        .saying("HGS-Q001 pass: this node has what it needs of its cluster (n2)")
        .saying("HGS-Q002 pass");
    let readiness = served_fourth.readiness();
    assert!(
        readiness.contains(" 503 ") && readiness.contains("quorum"),
        "{readiness}"
    );
    let served_second = Served::start_with(&second.home, "hgs.toml");
    fourth.until("the quorum is back", |cluster| cluster["quorum"] == true);
    second.knows_host("host-of-n4");
    assert_eq!(served_second.stop().0, Some(0));
}

/// A node whose own token lacks a key, or has it under another name, is not ready and says which; once it has it, it is.
#[test]
fn a_node_whose_token_lacks_a_key_is_not_ready_and_says_which() {
    let [first, second] = ["n1", "n2"].map(Machine::new);
    let tokens = [(); 2].map(|()| SoftHsm::new());
    for (machine, hsm) in [&first, &second].into_iter().zip(&tokens) {
        let configuration = String::from_utf8(machine.home.read("hgs.toml")).unwrap()
            + &format!(
                "[pkcs11]\npin_source = \"file:{}\"\n[[pkcs11.module]]\npath = \"{}\"\n",
                hsm.pin_file().display(),
                SoftHsm::module().display()
            );
        machine.home.write("hgs.toml", configuration);
    }
    for key in ["signing", "encryption"] {
        first.home.openssl(&format!(
            "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out {key}.key"
        ));
        first.home.openssl(&format!(
            "pkcs8 -topk8 -nocrypt -in {key}.key -outform DER -out {key}.der"
        ));
        tokens[0].import(softhsm::TOKEN, &first.home.file(&format!("{key}.der")), key);
    }
    tokens[1].import(softhsm::TOKEN, &first.home.file("encryption.der"), "of-n2");
    let variables = tokens.each_ref().map(|hsm| {
        let (name, path) = hsm.environ();
        (name, path.display().to_string())
    });
    let serve = |machine: &Machine, place: usize| {
        let (name, path) = &variables[place];
        Served::launch(&machine.home, "hgs.toml", &[(name, path)])
    };

    let mut init = first.home.command();
    init.env(variables[0].0, &variables[0].1).args([
        "init",
        "--config",
        "hgs.toml",
        "--cluster",
        &first.address,
        "--node",
        "n1",
    ]);
    for key in ["signing", "encryption"] {
        let uri = format!("pkcs11:token={};object={key}", softhsm::TOKEN);
        init.args([&format!("--{key}-key"), &uri]);
    }
    let made = Outcome::of(init.arg("--json")).done().json();
    let served_first = serve(&first, 0);
    assert!(
        served_first.readiness().contains("200 OK"),
        "{}",
        served_first.readiness()
    );
    // Nobody has told it where its keys are.
    let of_second = |words: &str| {
        let mut command = second.home.command();
        command.env(variables[1].0, &variables[1].1);
        let words = format!("{words} --config hgs.toml");
        Outcome::of(command.args(words.split(' ')))
    };
    let [thumbprint, encryption] =
        ["signing", "encryption"].map(|kind| made[kind]["thumbprint"].as_str().unwrap().to_owned());
    let joined = of_second(&format!(
        "cluster join {} --address {} --node n2 --json",
        first.invitation(),
        second.address
    ));
    let unusable = joined.ended(3).json()["unusable_keys"].clone();
    let unusable: Vec<_> = unusable.as_array().unwrap().iter().collect();
    let lacking: Vec<_> = unusable.iter().map(|key| &key["certificate"]).collect();
    assert!(
        lacking.len() == 2
            && lacking.contains(&&json!(thumbprint))
            && lacking.contains(&&json!(encryption)),
        "{unusable:?}"
    );
    // It has one, under another name.
    let named = String::from_utf8(second.home.read("hgs.toml")).unwrap()
        + &format!(
            "[[pkcs11.key]]\ncertificate = \"{encryption}\"\nuri = \"pkcs11:token={};object=of-n2\"\n",
            softhsm::TOKEN
        );
    second.home.write("hgs.toml", named);
    // Also while it is stopped.
    let traced = of_second("trace").ended(2).out;
    let lacks =
        |thumbprint: &str| traced.contains(&format!("certificate's key (signing {thumbprint})"));
    assert!(
        lacks(&thumbprint) && traced.matches("HGS-T008").count() == 1,
        "{traced}"
    );
    let served_second = serve(&second, 1);
    let readiness = served_second.readiness();
    assert!(
        readiness.contains(" 503 ") && readiness.contains(&thumbprint),
        "{readiness}"
    );
    let nodes = |kind: &str| -> Option<Value> {
        let listed = first.hgs("certificate list --json").done().json();
        let listed = listed.as_array().unwrap().clone();
        let of_kind = listed
            .into_iter()
            .find(|certificate| certificate["kind"] == kind)?;
        Some(of_kind["nodes"].clone())
    };
    first.until("both have reported", |cluster| {
        let nodes = cluster["nodes"].as_array().unwrap();
        nodes.len() == 2 && nodes.iter().all(|node| node["usable_keys"].is_array())
    });
    assert_eq!(nodes("signing"), Some(json!(["n1"])));
    assert_eq!(nodes("encryption"), Some(json!(["n1", "n2"])));
    first.hgs("status").done().saying("node n2 can't use");
    first.traced("the node that lacks a key is named", |report| {
        judged_of_cluster(report).contains(&("HGS-Q010", "n2", "warning"))
    });

    // Who follows events is told both.
    let mut followed = Followed::start(&second.home, &["--kind", "readiness"]);
    let told = followed.until("readiness");
    let not_ready = told.last().unwrap();
    assert_eq!(not_ready["ready"], false);
    assert_eq!(not_ready["node"], "n2");
    let reason = not_ready["reason"].as_str().unwrap();
    assert!(reason.contains(&thumbprint), "{reason}");
    tokens[1].import(softhsm::TOKEN, &first.home.file("signing.der"), "signing");
    let told = followed.until("readiness");
    assert_eq!(told.last().unwrap()["ready"], true, "{told:?}");
    let readiness = served_second.readiness();
    assert!(readiness.contains("200 OK"), "{readiness}");
}

/// A server that waits for the others of its cluster; it is killed when dropped.
struct Waiting(Child);

impl Waiting {
    fn start(machine: &Machine) -> Self {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("hgs"));
        command
            .args(["serve", "--config", "hgs.toml"])
            .env_clear()
            .envs(hgs_testkit::date_variables())
            .current_dir(machine.home.path())
            .stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Most nodes are lost for good: the one that is left becomes a guardian of one node, does what only such a one can, and
/// founds another cluster. The old one takes neither it nor its state back.
#[test]
fn the_node_that_is_left_becomes_a_guardian_of_one_node_and_founds_another_cluster() {
    let [first, second, third] = ["n1", "n2", "n3"].map(Machine::new);
    let served_first = first.found();
    let served_second = second.join_by(&first);
    first.add_host("host-a");
    // All nodes have one master key, so none of them changes it alone; nothing is done, and they go on.
    let key = first.home.read("guardian/master.key");
    let elsewhere = " --new-master-key new.key";
    for words in ["", elsewhere] {
        first
            .hgs(&format!("state rotate-master-key --yes{words}"))
            .ended(1)
            .saying("is one of a cluster's")
            .saying("Another master key");
    }
    assert_eq!(first.home.read("guardian/master.key"), key);
    assert!(!first.home.file("new.key").exists());
    second.knows_host("host-a");
    second
        .hgs("cluster dissolve --yes")
        .ended(1)
        .saying("in use by another process");
    assert_eq!(served_second.stop().0, Some(0));
    second
        .hgs("cluster dissolve --yes")
        .ended(2)
        .saying("nodes of the cluster run: n1");
    drop(served_first);
    let refused = second.hgs("state rotate-master-key --yes").ended(1);
    assert!(refused.err.contains("hgs cluster dissolve"), "{refused:?}");
    second
        .hgs("state export --passphrase-from file:no-file --out no.age")
        .ended(1);

    let looked = second
        .hgs("cluster dissolve --dry-run --json")
        .done()
        .json();
    assert_eq!(looked["other_nodes"], json!(["n1"]));
    assert_eq!(looked["dissolved"], false);
    second
        .hgs("cluster dissolve")
        .ended(2)
        .saying("ends with audit record");
    let dissolved = second.hgs("cluster dissolve --yes --json").done().json();
    let newest = looked["newest_audit_record"].as_u64().unwrap();
    assert_eq!(dissolved["audit_record"], newest + 1);
    let set_aside = second.home.file("guardian/cluster.dissolved");
    assert_eq!(dissolved["set_aside"], set_aside.display().to_string());
    second
        .hgs("cluster dissolve --yes")
        .ended(2)
        .saying("of no cluster");

    // Its folder is put back, and with it the old cluster has a quorum again.
    let folder = second.home.file("guardian/cluster");
    fs::rename(&set_aside, &folder).unwrap();
    let first_again = Waiting::start(&first);
    let mut serve = second.home.command();
    serve
        .args(["serve", "--config", "hgs.toml"])
        .timeout(Duration::from_secs(60));
    let refused = Outcome::of(&mut serve).ended(1);
    assert!(
        refused.err.contains("none of this cluster's"),
        "{refused:?}"
    );
    drop(first_again);
    let again = second.hgs("cluster dissolve --yes --json").done().json();
    assert_eq!(again["audit_record"], Value::Null);

    second.home.write("passphrase", "a passphrase");
    second.hgs("state rotate-master-key --yes").done();
    second
        .hgs("state export --passphrase-from file:passphrase --out backup.age")
        .done();
    let Machine { name, address, .. } = &second;
    second
        .hgs(&format!("cluster create --address {address} --node {name}"))
        .done();
    let served_second = Served::start_with(&second.home, "hgs.toml");
    let served_third = third.join_by(&second);
    third.knows_host("host-a");
    third.add_host("host-b");
    second.knows_host("host-b");
    let actions = third.hgs("audit list --json").done().out;
    for action in ["dissolve-cluster", "rotate-master-key"] {
        assert!(actions.contains(action), "{actions}");
    }
    // A machine of the old cluster joins like any other, with an empty state folder; its high-water mark stays beside it.
    fs::rename(first.home.file("guardian"), first.home.file("guardian.old")).unwrap();
    let served_first = first.join_by(&third);
    first.knows_host("host-b");
    let new_key = |machine: &Machine| machine.home.read("guardian/master.key");
    assert_ne!(new_key(&first), key);
    assert_eq!(new_key(&first), new_key(&second));
    drop((served_first, served_second, served_third));
}
