//! The administrator's commands, against a server that runs.

mod common;

use common::Home;
use common::served::{Served, configure};
use serde_json::{Value, json};

struct Site {
    home: Home,
    served: Served,
}

impl Site {
    fn new() -> Self {
        let home = Home::new();
        configure(&home);
        home.hgs("init --config hgs.toml --name guardian.example --bits 2048")
            .done();
        let served = Served::start(&home);
        for host in ["host1", "host2"] {
            home.make_host_key(host);
        }
        Self { home, served }
    }

    #[track_caller]
    fn ask(&self, words: &str) -> common::Outcome {
        self.home.hgs(&format!("{words} --config hgs.toml"))
    }

    #[track_caller]
    fn json(&self, words: &str) -> Value {
        self.ask(&format!("{words} --json")).done().json()
    }
}

#[test]
fn status_and_settings_show_the_guardian_as_it_is() {
    let site = Site::new();
    let status = site.json("status");
    assert_eq!(status["name"], "guardian.example");
    assert_eq!(status["attestation_mode"], "host-key");
    assert_eq!(
        (&status["registered_hosts"], &status["revoked_hosts"]),
        (&json!(0), &json!(0))
    );
    let primary = status["primary_signing"]["thumbprint"].as_str().unwrap();
    site.ask("status")
        .done()
        .saying("AttestationOperationMode")
        .saying(primary)
        .saying("until 20")
        .saying("0 registered, 0 revoked");

    let settings = site.json("server show");
    assert_eq!(
        (&settings["name"], &settings["node"]),
        (&json!("guardian.example"), &json!("node-1"))
    );
    site.ask("server show")
        .done()
        .saying("/guardian/master.key")
        .saying("listens for http at 127.0.0.1:");

    let certificates = site.json("certificate list");
    let kinds: Vec<_> = certificates
        .as_array()
        .unwrap()
        .iter()
        .map(|found| found["kind"].as_str().unwrap())
        .collect();
    for kind in ["signing", "encryption", "communications"] {
        assert!(kinds.contains(&kind), "{kinds:?}");
    }
    site.ask("certificate list")
        .done()
        .saying("primary")
        .saying(primary);
    let shown = site.json(&format!("certificate show {primary}"));
    site.home.write("shown.pem", shown["pem"].as_str().unwrap());
    let subject =
        String::from_utf8(site.home.openssl("x509 -in shown.pem -noout -subject")).unwrap();
    assert!(
        subject.contains("OpenHGS Guardian Signing (guardian.example)"),
        "{subject}"
    );
    site.ask(&format!("certificate show {primary}"))
        .done()
        .saying("-----BEGIN CERTIFICATE-----")
        .saying("SHA-1");
    site.ask(&format!("certificate show {}", "0".repeat(64)))
        .ended(1);
    site.ask("certificate show nonsense").ended(2);

    let signers = site.json("signer list");
    assert_eq!(
        (&signers[0]["own"], &signers[0]["stage"]),
        (&json!(true), &json!("active"))
    );
    site.ask("signer list").done().saying("active");
    assert_eq!(site.served.stop().0, Some(0));
}

#[test]
fn hosts_are_registered_shown_barred_and_forgotten() {
    let site = Site::new();
    site.ask("host add host1 --host-key host1.pem")
        .done()
        .saying("Host host1 is registered.");
    site.ask("host add host1 --host-key host2.pem").ended(2);
    site.ask("host add other --host-key host1.pem").ended(2);
    // A certificate over the key, in DER.
    site.home
        .openssl("req -x509 -key host2.key -subj /CN=host2 -outform DER -out host2.der");
    let added = site.json("host add host2 --host-key host2.der");
    assert_eq!(added["name"], "host2");
    for (file, octets, status) in [
        ("bad.pem", "nonsense".as_bytes(), 2),
        ("bad.der", b"\xff\xfe", 2),
    ] {
        site.home.write(file, octets);
        site.ask(&format!("host add host3 --host-key {file}"))
            .ended(status);
    }
    site.ask("host add host3 --host-key absent.pem").ended(1);

    let list = site.json("host list");
    let names: Vec<_> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|host| host["name"].clone())
        .collect();
    assert_eq!(names, ["host1", "host2"]);
    site.ask("host list").done().saying("host2  registered");
    let shown = site.json("host show host1");
    assert_eq!(
        shown["host_key"].as_str().unwrap().as_bytes(),
        site.home.read("host1.pem")
    );
    site.ask("host show host1")
        .done()
        .saying("-----BEGIN PUBLIC KEY-----");

    site.ask("host revoke host1 --reason stolen")
        .ended(2)
        .saying("--yes");
    assert_eq!(site.json("host show host1")["revoked"], Value::Null);
    let revoked = site
        .home
        .command()
        .args([
            "host",
            "revoke",
            "host1",
            "--reason",
            "stolen from the van",
            "--yes",
            "--config",
            "hgs.toml",
        ])
        .output()
        .unwrap();
    assert!(revoked.status.success());
    assert_eq!(
        site.json("host show host1")["revoked"]["reason"],
        "stolen from the van"
    );
    site.ask("host list").done().saying("host1  revoked");
    site.ask("host revoke host1 --reason again --yes").ended(2);
    site.ask("host remove host2").ended(2);
    site.ask("host remove host2 --yes")
        .done()
        .saying("Host host2 is removed.");
    site.ask("host show host2").ended(1);
    site.ask("host remove host2 --yes").ended(1);
}

/// What bash is offered for the last of `words`.
#[track_caller]
fn completions(site: &Site, words: &[&str]) -> Vec<String> {
    let mut shell = site.home.command();
    shell
        .env("COMPLETE", "bash")
        .env("_CLAP_COMPLETE_INDEX", words.len().to_string())
        .env("_CLAP_COMPLETE_COMP_TYPE", "9")
        .env("_CLAP_IFS", "\n")
        .env("HGS_SOCKET", site.home.file("run/admin.sock"))
        .args(["--", "hgs"])
        .args(words);
    let offered = common::Outcome::of(&mut shell).done().out;
    offered.lines().map(str::to_owned).collect()
}

#[test]
fn a_shell_completes_names() {
    let site = Site::new();
    for host in ["host1", "host2"] {
        site.ask(&format!("host add {host} --host-key {host}.pem"))
            .done();
    }
    for verb in ["show", "revoke", "remove"] {
        assert_eq!(
            completions(&site, &["host", verb, "ho"]),
            ["host1", "host2"]
        );
        assert_eq!(completions(&site, &["host", verb, "host2"]), ["host2"]);
        assert!(completions(&site, &["host", verb, "x"]).is_empty());
    }
    let thumbprints = |list: &Value| -> Vec<String> {
        let all = list.as_array().unwrap().iter();
        let thumbprints = all.map(|one| one["thumbprint"].as_str().unwrap().to_owned());
        thumbprints.collect()
    };
    for (noun, verb) in [("certificate", "show"), ("signer", "set")] {
        let all = thumbprints(&site.json(&format!("{noun} list")));
        let begun = &all[0][..6];
        assert!(completions(&site, &[noun, verb, begun]).contains(&all[0]));
    }
    site.ask("host-group new rack7").done();
    let words = ["host", "set", "host1", "--group", "ra"];
    assert_eq!(completions(&site, &words), ["rack7"]);
    assert_eq!(
        completions(&site, &["host-group", "remove", "ra"]),
        ["rack7"]
    );
    let offered = completions(&site, &["policy", "enable", "Hgs_Iommu"]);
    assert_eq!(offered, ["Hgs_IommuEnabled"]);
    let key = json!({"kind": "openhgs-dump-key", "version": 1, "files": [
        {"path": "/etc/kdump.key", "digests": ["5a".repeat(32)]}
    ]});
    site.home.write("dump.json", key.to_string());
    site.ask("dump-key add kdump dump.json").done();
    for words in [["dump-key", "show", "kd"], ["policy", "disable", "kd"]] {
        assert_eq!(completions(&site, &words), ["kdump"]);
    }
    // It is no baseline, and no code-integrity policy.
    for noun in ["baseline", "ci-policy"] {
        assert!(completions(&site, &[noun, "retire", "kd"]).is_empty());
    }
    // Where no server answers, nothing is offered, and nothing is said.
    std::fs::remove_file(site.home.file("run/admin.sock")).unwrap();
    assert!(completions(&site, &["host", "show", "ho"]).is_empty());
}

/// Where standard output is no terminal, no line has more than 100 columns, but for one with a single long word.
#[test]
fn tables_have_at_most_100_columns() {
    let site = Site::new();
    let long = "a-host-in-the-third-rack-of-the-second-room-of-the-first-floor";
    site.ask(&format!("host add {long} --host-key host1.pem"))
        .done();
    let reason = ["--reason", &"word ".repeat(40), "--yes"].map(str::to_owned);
    let mut revoke = site.home.command();
    revoke
        .args(["host", "revoke", long, "--config", "hgs.toml"])
        .args(reason);
    common::Outcome::of(&mut revoke).done();
    for words in ["host list", "certificate list", "signer list", "audit list"] {
        let shown = site.ask(words).done().out;
        assert!(shown.lines().count() > 1, "{words}");
        for line in shown.lines() {
            let is_one_word = !line.trim().contains(' ');
            assert!(line.len() <= 100 || is_one_word, "{words}: {line:?}");
        }
    }
}

#[test]
fn every_change_is_in_the_audit_log() {
    let site = Site::new();
    site.ask("host add host1 --host-key host1.pem").done();
    site.ask("host revoke host1 --reason stolen --yes").done();
    let records = site.json("audit list");
    let records = records.as_array().unwrap();
    let sequences: Vec<_> = records
        .iter()
        .map(|record| record["sequence"].as_u64().unwrap())
        .collect();
    assert!(
        sequences.is_sorted_by(|newer, older| newer > older),
        "{sequences:?}"
    );
    let newest = &records[0];
    assert_eq!(
        (&newest["outcome"], &newest["host_name"]),
        (&json!("done"), &json!("host1"))
    );
    site.ask("audit list")
        .done()
        .saying("NUMBER")
        .saying("host1");
    let limited = site.json("audit list --limit 1");
    assert_eq!(limited.as_array().unwrap().len(), 1);
    let before = site.json(&format!("audit list --before {}", sequences[0]));
    assert_eq!(before[0]["sequence"], sequences[1]);
    let about = site.json("audit list --host host1");
    assert_eq!(about.as_array().unwrap().len(), 2);
    assert_eq!(site.json("audit list --outcome refused"), json!([]));
    let shown = site.json(&format!("audit show {}", sequences[0]));
    assert_eq!(&shown, newest);
    site.ask(&format!("audit show {}", sequences[0]))
        .done()
        .saying("actor");
    site.ask("audit show 999999").ended(1);
    site.ask("audit list --outcome maybe").ended(64);
    site.ask("audit list --since yesterday").ended(64);
}

#[test]
fn without_a_server_the_remedy_is_named() {
    let home = Home::new();
    configure(&home);
    home.hgs("status --config hgs.toml")
        .ended(1)
        .saying("hgs serve");
    home.hgs("host list --socket /no/such/socket")
        .ended(1)
        .saying("/no/such/socket");
    let failure = home
        .hgs("status --socket /no/such/socket --json")
        .ended(1)
        .json();
    assert_eq!(failure["error"]["at_fault"], "operator");
    assert!(
        failure["error"]["remedy"]
            .as_str()
            .unwrap()
            .contains("hgs serve")
    );
}

/// Old records leave the database for files that can be read and checked with and without the server.
#[test]
fn old_audit_records_are_archived_found_and_verified() {
    let mut site = Site::new();
    site.ask("audit archive").ended(64).saying("--keep");
    site.ask("audit archive --keep 90d")
        .done()
        .saying("nothing to archive");
    site.ask("audit verify hgs.toml")
        .ended(2)
        .saying("does not begin as an archive");
    site.ask("host add host1 --host-key host1.pem").done();
    site.ask("host add host2 --host-key host2.pem").done();
    let mut digests = Vec::new();
    for _ in 0..2 {
        let made = site.json("audit archive --before 2100-01-01");
        assert_eq!(made.as_array().unwrap().len(), 1, "the newest record stays");
        digests.push((made[0]["file"].clone(), made[0]["digest"].clone()));
    }
    let [one, other] = [0, 1].map(|i| digests[i].0.as_str().unwrap().to_owned());
    let is_here = |records: &Value| {
        let mut records = records.as_array().unwrap().iter();
        records.any(|record| record["host_name"] == "host1" && record["action"] == "add-host")
    };
    assert!(!is_here(&site.json("audit list --host host1")));
    let archived = site.json(&format!("audit list --host host1 --archive {other} {one}"));
    assert!(is_here(&archived) && archived.as_array().unwrap().len() == 1);
    site.ask(&format!("audit verify {other} {one}"))
        .done()
        .saying("2 archives are whole and unchanged: records 1 to");
    site.ask(&format!("audit verify {one}"))
        .ended(2)
        .saying("and not");
    site.ask(&format!("audit verify {other}"))
        .done()
        .saying("archives of records before");

    // The server starts with what is left, and can be away when archives are checked.
    site.served.stop();
    site.served = Served::start(&site.home);
    site.ask(&format!("audit verify {one} {other}")).done();
    assert_eq!(site.json("audit list")[0]["action"], "archive-audit");
    let newest = digests[1].1.as_str().unwrap().to_owned();
    let verify = format!("audit verify {one} {other} --digest {newest} --socket nowhere");
    site.ask(&verify).done();
    let text = String::from_utf8(site.home.read(&one)).unwrap();
    site.home
        .write(&one, text.replace("\"host1\"", "\"host3\""));
    site.ask(&verify).ended(2).saying("was changed");
}
