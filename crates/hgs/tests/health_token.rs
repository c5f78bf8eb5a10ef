//! `guarded-host token` before a guardian that runs: a host with a key, and one with a TPM, whose tokens PyJWT verifies by the program
//! of docs/health-token.md.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use common::machine::Machine;
use common::served::{Served, configure};
use common::{Home, Outcome};
use hgs_testkit::measured_boot::MeasuredBoot;
use hgs_testkit::swtpm::SoftwareTpm;
use serde_json::{Value, json};

const LOG: &[u8] = include_bytes!("../../hgs-attest/tests/boots/secure-boot-on-eventlog.bin");

const TOKENS: &str =
    "[health_token]\nissuer = \"https://hgs.example\"\naudiences = [\"kubernetes\"]\n";

struct Site {
    home: Home,
    served: Served,
}

impl Site {
    /// A guardian that issues tokens for `kubernetes`, and a folder for a host, `ours`.
    fn new(of_host: &str) -> Self {
        let home = Home::new();
        configure(&home);
        home.hgs("init --config hgs.toml --name guardian.example --bits 2048")
            .done();
        let mut configuration = String::from_utf8(home.read("hgs.toml")).unwrap();
        configuration += TOKENS;
        home.write("hgs.toml", configuration);
        fs::create_dir(home.file("ours")).unwrap();
        home.write("ours/guarded-host.toml", of_host);
        let served = Served::start(&home);
        let site = Self { home, served };
        site.host(&format!("configure {}", site.served.url()))
            .done();
        site
    }

    #[track_caller]
    fn ask(&self, words: &str) -> Outcome {
        self.home.hgs(&format!("{words} --config hgs.toml"))
    }

    #[track_caller]
    fn host(&self, words: &str) -> Outcome {
        host(&self.home, words)
    }

    /// What the program of the page says of a token, and whether it accepts it.
    fn python(&self, token: &str) -> (bool, String) {
        python(&self.served, token)
    }

    fn host_id(&self) -> String {
        let hosts = self.ask("host list --json").done().json();
        hosts[0]["id"].as_str().unwrap().to_owned()
    }
}

/// Runs the program of a host whose folder is `ours`.
#[track_caller]
fn host(home: &Home, words: &str) -> Outcome {
    let folder = home.file("ours");
    Outcome::of(common::guarded_host(&folder, words).env("HGS_LOG", "info"))
}

/// What the program of the page says of a token with the keys that a node publishes, and whether it accepts it.
fn python(node: &Served, token: &str) -> (bool, String) {
    let program = hgs_testkit::block_of_page("health-token.md", "python");
    let keys = format!("{}/.well-known/jwks.json", node.url());
    let mut child = Command::new("/usr/bin/python3")
        .args(["-c", &program, &keys, "https://hgs.example", "kubernetes"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(token.as_bytes()).unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said).unwrap();
    assert!(
        !said.contains("ModuleNotFoundError"),
        "{said}\ninstall the Debian package python3-jwt"
    );
    (output.status.success(), said)
}

/// The `kid` of a token.
fn key_of(token: &str) -> String {
    let header = token.split('.').next().unwrap();
    part(header)["kid"].as_str().unwrap().to_owned()
}

/// The keys that a node publishes, by their `kid`.
fn published(node: &Served) -> (Value, BTreeSet<String>) {
    let keys: Value = serde_json::from_slice(&node.get("/.well-known/jwks.json")).unwrap();
    let of_each = keys["keys"].as_array().unwrap().iter();
    let kids = of_each.map(|key| key["kid"].as_str().unwrap().to_owned());
    (keys.clone(), kids.collect())
}

/// A token of one node is verified by the keys that another publishes, before a rotation and after it.
#[test]
fn nodes_of_a_cluster_issue_tokens_under_the_same_keys() {
    let [first, second] = ["n1", "n2"].map(Machine::new);
    for machine in [&first, &second] {
        let configuration = String::from_utf8(machine.home.read("hgs.toml")).unwrap() + TOKENS;
        machine.home.write("hgs.toml", configuration);
    }
    let served_first = first.found();
    let served_second = second.join_by(&first);
    fs::create_dir(first.home.file("ours")).unwrap();
    first
        .home
        .write("ours/guarded-host.toml", "mode = \"local\"\n");
    let asked = |words: &str| host(&first.home, words).done();
    asked("host-key new --bits 2048");
    asked("host-key export --out host1.pem");
    first.hgs("host add host1 --host-key ours/host1.pem").done();
    second.knows_host("host1");
    let token_of = |node: &Served| {
        asked(&format!("configure {} --yes", node.url()));
        asked("token --audience kubernetes").out
    };
    // The program refuses it only after it has verified it: nothing was measured.
    let verifies = |node: &Served, token: &str| {
        let (_, said) = python(node, token);
        said.contains("was not measured: none")
    };

    let (keys, kids) = published(&served_first);
    assert_eq!(published(&served_second).0, keys);
    let before = token_of(&served_first);
    assert!(verifies(&served_second, &before));
    assert!(kids.contains(&key_of(&before)));

    // Another signer takes over at once, on both nodes; what the old one signed is verified until it ends.
    let signers = second.hgs("signer list --json").done().json();
    let signers = signers.as_array().unwrap().iter();
    let mut active = signers.filter(|signer| signer["stage"] == "active");
    let active = active.next().unwrap()["thumbprint"].as_str().unwrap();
    second.hgs(&format!("signer retire {active} --yes")).done();
    second.add_host("after-rotation");
    first.knows_host("after-rotation");
    let (keys, rotated) = published(&served_second);
    assert_eq!(published(&served_first).0, keys);
    assert!(rotated.is_superset(&kids) && rotated != kids, "{rotated:?}");
    // The first node would answer with the token of a moment ago.
    let after = token_of(&served_second);
    assert!(!kids.contains(&key_of(&after)));
    for node in [&served_first, &served_second] {
        assert!(verifies(node, &after) && verifies(node, &before));
    }
}

/// The claims of a token, which nobody has verified.
fn claims(token: &str) -> Value {
    part(token.split('.').nth(1).unwrap())
}

fn part(text: &str) -> Value {
    let standard = text.replace('-', "+").replace('_', "/");
    let padding = "=".repeat((4 - standard.len() % 4) % 4);
    serde_json::from_slice(&hgs_crypto::base64::decode(&(standard + &padding)).unwrap()).unwrap()
}

#[test]
fn a_host_asks_for_tokens_and_is_told_why_it_gets_none() {
    let site = Site::new("mode = \"local\"\n");
    site.host("host-key new --bits 2048").done();
    site.host("host-key export --out host1.pem").done();
    site.host("token --audience kubernetes")
        .ended(2)
        .saying("host-not-registered")
        .saying("at fault: the host");
    site.ask("host add host1 --host-key ours/host1.pem").done();
    let token = site.host("token --audience kubernetes").done().out;
    let (accepted, said) = site.python(&token);
    assert!(
        !accepted && said.contains("was not measured: none"),
        "{said}"
    );
    assert_eq!(claims(&token)["sub"], site.host_id());

    let in_file = "token --audience kubernetes --out token.jwt";
    let told = site.host(in_file).done().saying("https://hgs.example");
    assert!(!told.out.contains("eyJ"), "{}", told.out);
    assert_eq!(site.home.mode("ours/token.jwt"), 0o600);
    let kept = String::from_utf8(site.home.read("ours/token.jwt")).unwrap();
    assert_eq!(kept, token, "of the same minute");
    site.host(&format!("{in_file} --yes")).done();
    let report = site
        .host("token --audience kubernetes --json")
        .done()
        .json();
    assert_eq!(report["token"], json!(token.trim()));
    assert_eq!(report["audience"], "kubernetes");

    site.host("token --audience vault")
        .ended(2)
        .saying("audience-not-allowed")
        .saying("at fault: the guardian")
        .saying("[health_token]");
    site.host("token --audience two\u{a0}words")
        .ended(64)
        .saying("printable");
    let records = site.ask("audit list --action attest --json").done().json();
    assert!(
        records[0]["reason"]
            .as_str()
            .unwrap()
            .contains("audience-not-allowed")
    );
    let attested = site.host("attest --kind encryption --json").done();
    let issued_by = id_of(&attested.json()[0]);
    assert!(
        attested
            .err
            .contains(&format!("request_id=\"{issued_by}\""))
    );
    site.ask("host revoke host1 --reason stolen --yes").done();
    site.host("token --audience kubernetes")
        .ended(2)
        .saying("host-revoked")
        .saying("at fault: the host");
    // What it held is gone, so now it is the attestation that is refused.
    let refused = site
        .host("token --audience kubernetes --json")
        .ended(2)
        .saying("host-revoked")
        .json();
    let refused_by = id_of(&refused["error"]);
    let status = site.host("status --json").done().json();
    assert_eq!(id_of(&status["last_attempt"]), refused_by);
    site.host("attest")
        .ended(2)
        .saying(": quote it to the guardian's administrator");

    // The guardian's administrator finds the requests by their ids, on record and in the log.
    for (id, outcome) in [(&issued_by, "done"), (&refused_by, "refused")] {
        let found = site.ask(&format!("audit list --request {id} --json"));
        let found = found.done().json();
        assert_eq!(found.as_array().unwrap().len(), 1, "{id}: {found}");
        assert_eq!(found[0]["outcome"], outcome);
        assert_eq!(found[0]["host_name"], "host1");
    }
    let (_, log) = site.served.stop();
    let decided = |id: &str, outcome: &str| {
        let mut lines = log.lines().filter(|line| line.contains("decided"));
        lines.any(|line| line.contains(&format!("id={id} ")) && line.contains(outcome))
    };
    assert!(
        decided(&issued_by, "outcome=\"healthy\""),
        "{issued_by}: {log}"
    );
    assert!(
        decided(&refused_by, "outcome=\"host-revoked\""),
        "{refused_by}: {log}"
    );
}

fn id_of(answer: &Value) -> String {
    answer["request_id"].as_str().unwrap().to_owned()
}

/// The event of the log in which the initrd is measured.
const INITRD: usize = 46;

#[test]
fn a_host_with_a_tpm_gets_an_affirming_token_as_long_as_it_is_healthy() {
    let mut tpm = SoftwareTpm::new();
    let of_host = format!(
        "mode = \"local\"\n[tpm]\ndevice = \"{}\"\nevent_log = \"LOG\"\nima_log = \"IMA\"\n",
        tpm.device(),
    );
    let site = Site::new("mode = \"local\"\n");
    let folder = site.home.file("ours");
    let at = |name: &str| folder.join(name).display().to_string();
    let of_host = of_host
        .replace("LOG", &at("log"))
        .replace("IMA", &at("ima"));
    site.home.write("ours/guarded-host.toml", of_host);
    site.host(&format!("configure {}", site.served.url()))
        .done();
    site.ask("server set --attestation-mode tpm --yes").done();
    tpm.boot(LOG);
    fs::write(folder.join("log"), LOG).unwrap();
    site.host("identity export --out host1.json").done();
    site.host("baseline export --out baseline.json --host-measurements own.json")
        .done();
    site.ask("host add host1 --identity ours/host1.json --without-ek-certificate --yes")
        .done();
    site.ask("baseline add reference ours/baseline.json").done();
    site.ask("host set host1 --measurements ours/own.json")
        .done();

    let ask = "token --audience kubernetes";
    let token = site.host(ask).done().out;
    assert_eq!(site.python(&token), (true, format!("{}\n", site.host_id())));
    let of_token = claims(&token);
    let submodule = &of_token["submods"]["host"];
    assert_eq!(submodule["ear.status"], "affirming");
    let vector = &submodule["ear.trustworthiness-vector"];
    assert_eq!(vector["instance-identity"], 2);
    assert_eq!(vector["configuration"], 2);
    assert_eq!(vector["executables"], 3);
    assert_eq!(vector["hardware"], 0);
    let evidence = &submodule["ear.veraison.annotated-evidence"];
    assert_eq!(evidence["mode"], "tpm");
    assert_eq!(evidence["documents"], json!(["reference"]));
    let policies = evidence["policies"].to_string();
    assert!(policies.contains("Hgs_SecureBootSettings"), "{policies}");

    // What it is judged by changes: it attests again by itself, and the token says so.
    site.ask("policy disable Hgs_NoDumps --yes").done();
    let again = site.host(ask).done().out;
    let again = claims(&again);
    let policy_of = |claims: &Value| claims["submods"]["host"]["ear.appraisal-policy-id"].clone();
    assert_ne!(policy_of(&again), policy_of(&of_token));
    let serial_of = |claims: &Value| {
        claims["submods"]["host"]["ear.veraison.annotated-evidence"]["health-certificate"].clone()
    };
    assert_ne!(serial_of(&again), serial_of(&of_token));

    // It boots something that nobody has approved: its key works no more, and it gets no other.
    let mut boot = MeasuredBoot::of_log(LOG);
    boot.events[INITRD - 1].digest = hgs_crypto::hash::sha256(b"another initrd");
    boot.replay(&mut tpm);
    tpm.release();
    fs::write(folder.join("log"), boot.log()).unwrap();
    site.host(ask)
        .ended(2)
        .saying("Hgs_SecureBootSettings")
        .saying("at fault: the host");
}
