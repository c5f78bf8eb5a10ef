//! The program from outside: words in, words and statuses out, against the guardian that the library's tests use.

#[path = "../../../hgs-client/tests/guarded_host/guardian.rs"]
#[expect(dead_code, reason = "the library's tests use the rest of it")]
mod guardian;
mod libvirt;
mod service_manager;
mod tpm;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use assert_cmd::cargo::cargo_bin_cmd;
use guardian::{TestClock, TestGuardian, verified};
use hgs_client::sealed_file;
use hgs_clock::{Clock as _, SystemClock};
use hgs_crypto::random::System;
use hgs_crypto::rsa::PublicKey;
use hgs_crypto::{SecretBytes, base64, hex};
use hgs_protector::TransportKey;
use hgs_testkit::fixtures::{Forge, Guardian};
use serde_json::{Value, json};
use tokio::net::TcpListener;

const STATE: &[u8] = b"the state of a vTPM";
const KEY: [u8; 32] = [
    0x99, 0xbb, 0x88, 0x40, 0x17, 0x42, 0x84, 0x8e, 0x03, 0x2f, 0xd6, 0xf5, 0x17, 0x09, 0x41, 0x5f,
    0xb6, 0xbe, 0x16, 0x9a, 0x72, 0xd2, 0xe5, 0xd7, 0xfc, 0x44, 0x28, 0x92, 0x55, 0x16, 0x0d, 0x3c,
];

/// A host in a folder of its own, and files for it to work with.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, words: &str) -> Command {
        let mut command = Command::new(cargo_bin_cmd!("guarded-host").get_program());
        command
            .current_dir(self.0.path())
            .env("HGS_HOST_CONFIG", self.path("guarded-host.toml"))
            .env("HGS_HOST_STATE", self.path("state-folder"))
            .env("HGS_LOG", "trace")
            .args(words.split_whitespace());
        command
    }

    fn run(&self, words: &str) -> Output {
        self.command(words).output().unwrap()
    }

    /// Runs a command that does what it says.
    fn done(&self, words: &str) -> String {
        let output = self.run(words);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{words}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, words: &str) -> Value {
        serde_json::from_str(&self.done(&format!("{words} --json"))).unwrap()
    }

    /// Runs a command that does not; what it says of that to programs.
    fn error(&self, words: &str, status: i32) -> Value {
        let output = self.run(&format!("{words} --json"));
        assert_eq!(output.status.code(), Some(status), "{words}");
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(document["error"]["status"], status);
        document["error"].clone()
    }

    fn configure(&self, guardian: &TestGuardian) {
        let endpoints = guardian.endpoints();
        self.done(&format!(
            "configure --attestation-url {} --key-protection-url {}",
            endpoints.attestation, endpoints.key_protection
        ));
    }

    /// A protector for the owner and the guardian, and the state of a vTPM that is sealed under it.
    fn add_vm(&self) {
        let (owner, fabric) = (Guardian::named("owner"), Guardian::named("fabric"));
        let protector = Forge::new(owner, &[fabric], KEY).seal(owner);
        let digest = verified(protector.as_bytes()).digest();
        let key = TransportKey::from_secret(SecretBytes::new(KEY.to_vec())).unwrap();
        let sealed = sealed_file::seal(&key, &digest, &STATE.into(), &mut System::new());
        fs::write(self.path("vm.xml"), protector).unwrap();
        fs::write(self.path("vm.state"), sealed.unwrap()).unwrap();
    }
}

fn public_key(path: &Path) -> PublicKey {
    let pem = fs::read_to_string(path).unwrap();
    let text: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    PublicKey::from_spki_der(&base64::decode(&text).unwrap()).unwrap()
}

async fn guardian() -> TestGuardian {
    let clock = TestClock::at(SystemClock.now());
    TestGuardian::start(&clock, 12).await
}

/// A host that is configured, registered, and has a VM.
async fn registered() -> (TestGuardian, Folder) {
    let (guardian, folder) = (guardian().await, Folder::new());
    folder.configure(&guardian);
    folder.done("host-key new --bits 2048");
    folder.done("host-key export --out host.pem");
    guardian.register_key(public_key(&folder.path("host.pem")));
    folder.add_vm();
    (guardian, folder)
}

/// The first of two nodes is away: what is shown of both, and what still works.
#[tokio::test(flavor = "multi_thread")]
async fn a_guardian_of_two_nodes_is_configured_shown_and_traced_by_both() {
    let (guardian, folder) = registered().await;
    let (away, there) = ("http://127.0.0.1:1", guardian.endpoints());
    let there = there.attestation.to_string();
    let there = there.strip_suffix("/Attestation").unwrap();
    folder.done(&format!("configure {away} {there}"));
    let status = folder.json("status");
    let urls = [away, there].map(|node| format!("{node}/Attestation"));
    assert_eq!(status["attestation_url"], urls[0]);
    assert_eq!(status["attestation_urls"], json!(urls));
    assert!(folder.done("status").contains(&urls.join(", ")));
    folder.done("attest --kind encryption");
    folder.done("protector unwrap vm.xml vm.state --out state");

    let report = folder.json("trace");
    assert_eq!(report["root_causes"], json!([]));
    let findings = report["findings"].as_array().unwrap();
    let outcome = |id: &str, target: &str| {
        let mut findings = findings.iter();
        let finding = findings.find(|one| one["id"] == id && one["target"] == target);
        finding.unwrap()["outcome"].clone()
    };
    assert_eq!(outcome("HGS-H007", away), "warning");
    assert_eq!(outcome("HGS-H007", there), "pass");
    assert_eq!(outcome("HGS-H010", &urls[1]), "pass");

    let twice = folder.error(&format!("configure {there} {there}/"), 64);
    let complaint = format!("`{}` is there twice", urls[1]);
    assert_eq!(twice["message"], complaint);
}

/// What is wrong with a file is said with its name, in words and not in numbers of the system.
#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_no_protectors_are_named() {
    let (_guardian, folder) = registered().await;
    fs::write(folder.path("empty"), "").unwrap();
    fs::write(folder.path("junk"), "hello").unwrap();
    fs::create_dir(folder.path("folder")).unwrap();
    for (name, exit) in [("empty", 2), ("junk", 2), ("folder", 1), ("absent", 1)] {
        let error = folder.error(&format!("protector unwrap {name}"), exit);
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(&format!("{name}: ")), "{message}");
        assert!(!message.contains("os error"), "{message}");
    }
}

#[test]
fn the_url_of_one_service_is_not_that_of_both() {
    let folder = Folder::new();
    for url in [
        "https://hgs.example/Attestation",
        "http://hgs/keyprotection/",
    ] {
        let error = folder.error(&format!("configure {url}"), 64);
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("without /Attestation"), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn from_a_new_host_to_a_running_machine() {
    let (guardian, folder) = (guardian().await, Folder::new());
    assert_eq!(folder.json("status")["mode"], "Local");
    folder.configure(&guardian);
    let made = folder.json("host-key new --bits 2048");
    let exported = folder.json("host-key export --out host.pem");
    assert_eq!(made["sha256"], exported["sha256"]);

    let refused = folder.error("attest", 2);
    assert_eq!(refused["at_fault"], "host");
    assert!(refused["remedy"].as_str().unwrap().contains("hgs host add"));
    assert_eq!(folder.json("status")["attestation_status"]["number"], 301);

    guardian.register_key(public_key(&folder.path("host.pem")));
    let attested = folder.json("attest");
    assert_eq!(attested.as_array().unwrap().len(), 2);
    let status = folder.json("status");
    assert_eq!(status["is_host_guarded"], true);
    assert_eq!(status["attestation_status"]["name"], "Passed");

    folder.add_vm();
    let first = folder.json("protector unwrap vm.xml vm.state --reseal --out state");
    assert_eq!(fs::read(folder.path("state")).unwrap(), STATE);
    fs::remove_file(folder.path("state")).unwrap();
    let second = folder.json("protector unwrap vm.xml vm.state --reseal --out state");
    assert_eq!(first["egress"], second["ingress"]);
    assert_eq!(fs::read(folder.path("state")).unwrap(), STATE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_sealed_and_opened() {
    let (_guardian, folder) = registered().await;
    fs::write(folder.path("plain"), STATE).unwrap();
    folder.done("protector seal vm.xml plain --out sealed");
    folder.done("protector unwrap vm.xml sealed --out opened");
    assert_eq!(fs::read(folder.path("opened")).unwrap(), STATE);
    let before = fs::read(folder.path("vm.xml")).unwrap();
    folder.done("protector unwrap vm.xml --service-version v1.0");
    assert_eq!(fs::read(folder.path("vm.xml")).unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn k9_no_output_holds_a_key() {
    let (_guardian, folder) = registered().await;
    let output = folder.run("protector unwrap vm.xml vm.state --reseal");
    assert!(output.status.success());
    let mut said = output.stdout;
    said.extend(output.stderr);
    let said = String::from_utf8_lossy(&said).to_lowercase();
    // Everything is logged that ever is, so there is something to search.
    assert!(said.contains("rolltransportkey"), "{said}");
    assert!(!said.contains(&hex::encode(&KEY[..8])));
    assert!(!said.contains(&base64::encode(&KEY).to_lowercase()[..20]));
    assert!(!said.contains("167, 167, 167"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_in_the_environment_is_not_asked() {
    let (_guardian, folder) = registered().await;
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", proxy.local_addr().unwrap());
    let mut command = folder.command("attest --kind encryption");
    for name in [
        "http_proxy",
        "HTTP_PROXY",
        "https_proxy",
        "ALL_PROXY",
        "all_proxy",
    ] {
        command.env(name, &url);
    }
    assert!(command.output().unwrap().status.success());
    let asked = std::future::poll_fn(|context| std::task::Poll::Ready(proxy.poll_accept(context)));
    assert!(asked.await.is_pending());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_says_what_is_in_the_way() {
    let (guardian, folder) = registered().await;
    let ready = folder.json("attest --dry-run");
    assert_eq!(ready["services"][0]["operation_mode"], "HostKey");
    guardian.stop().await;
    let output = folder.run("attest --dry-run --json");
    assert_eq!(output.status.code(), Some(1));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["services"][0]["ready"], false);
    assert!(document["services"][0]["remedy"].is_string());
}

/// The status of a diagnosis, and the checks that fail by themselves.
fn traced(folder: &Folder, words: &str) -> (Option<i32>, Vec<String>) {
    let output = folder.run(&format!("trace --json {words}"));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let causes = report["root_causes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|cause| cause["id"].as_str().unwrap().to_owned());
    (output.status.code(), causes.collect())
}

fn failed(causes: &[&str]) -> (Option<i32>, Vec<String>) {
    let causes = causes.iter().map(|&id| id.to_owned());
    (Some(2), causes.collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_names_the_cause() {
    let (guardian, folder) = registered().await;
    let sound = (Some(0), vec![]);
    assert_eq!(traced(&folder, ""), failed(&["HGS-H013"]));
    folder.done("attest");
    assert_eq!(traced(&folder, ""), sound);
    let shown = folder.done("trace --detailed");
    assert!(shown.contains("HGS-H014 pass"), "{shown}");

    folder.done("trace --collect facts");
    let url = guardian.endpoints().attestation.to_string();
    let base = url.trim_end_matches("/Attestation");
    assert_eq!(traced(&folder, &format!("--target {base}")), sound);
    let nobody = "--target http://127.0.0.1:1 --check HGS-H010";
    // One cause, though both services are at that address.
    assert_eq!(traced(&folder, nobody), failed(&["HGS-H007"]));
    guardian.stop().await;
    assert_eq!(traced(&folder, ""), failed(&["HGS-H007"]));
    assert_eq!(traced(&folder, "--from facts"), sound);
    assert_eq!(traced(&folder, "--target local"), sound);

    folder.done("host-key remove --yes");
    assert_eq!(traced(&folder, "--target local"), failed(&["HGS-H004"]));
    folder.done("configure --local");
    assert_eq!(traced(&folder, "--check HGS-H010"), failed(&["HGS-H002"]));
    fs::write(folder.path("guarded-host.toml"), "mode = \"lokal\"\n").unwrap();
    assert_eq!(traced(&folder, "--check HGS-H010"), failed(&["HGS-H001"]));
    folder.error("trace --check HGS-K003", 64);
}

/// What a host keeps is not in what it shows: no key, whole or in part, in any form.
#[tokio::test(flavor = "multi_thread")]
async fn k9_a_collection_holds_no_key() {
    let (_guardian, folder) = registered().await;
    folder.done("attest");
    folder.done("trace --collect facts");
    let pem = fs::read_to_string(folder.path("state-folder/host-key.pem")).unwrap();
    let text: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let host_key = base64::decode(&text).unwrap();
    let master_key = fs::read(folder.path("state-folder/master.key")).unwrap();
    let mut searched = 0;
    for entry in fs::read_dir(folder.path("facts")).unwrap() {
        let file = fs::read(entry.unwrap().path()).unwrap();
        // The first half of a key in PKCS#8 is its public half.
        let private = &host_key[host_key.len() / 2..];
        assert_eq!(hgs_testkit::part_of(private, &file), None);
        assert_eq!(hgs_testkit::part_of(&master_key, &file), None);
        searched += file.len();
    }
    assert!(searched > 1000, "{searched}");
}

#[tokio::test(flavor = "multi_thread")]
async fn statuses_say_what_kind_of_failure_it_was() {
    let (_guardian, folder) = registered().await;
    assert_eq!(folder.error("configure --local --ca x", 64)["status"], 64);
    folder.error("protector unwrap vm.xml vm.state", 64);
    folder.error("protector unwrap no-such-file", 1);
    folder.error("host-key new", 1);
    fs::write(folder.path("forged.xml"), "<Protector/>").unwrap();
    let invalid = folder.error("protector unwrap forged.xml", 2);
    assert_eq!(invalid["at_fault"], "protector");
    let unconfirmed = folder.error("host-key remove", 2);
    assert!(unconfirmed["remedy"].as_str().unwrap().contains("--yes"));
    folder.done("host-key remove --yes");
    let missing = folder.error("attest", 1);
    assert!(missing["remedy"].as_str().unwrap().contains("host-key new"));
    folder.done("configure --local");
    folder.error("attest", 2);
    fs::write(folder.path("guarded-host.toml"), "mode = \"lokal\"\n").unwrap();
    folder.error("status", 2);
}

#[test]
fn a_reader_that_has_enough_is_no_failure() {
    let folder = Folder::new();
    let mut command = folder.command("man");
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn every_command_has_a_page_and_an_example_or_a_sentence() {
    let folder = Folder::new();
    folder.done("man --folder pages");
    let pages = fs::read_dir(folder.path("pages")).unwrap().count();
    assert!(pages > 10, "{pages}");
    assert!(folder.done("completions bash").contains("guarded-host"));
    assert!(folder.done("protector unwrap --help").contains("--reseal"));
}

/// What a shell command says on a terminal.
fn on_a_terminal(folder: &Folder, command: &str, no_color: &str) -> String {
    let output = Command::new(hgs_testkit::tool("script", "bsdutils"))
        .args(["--quiet", "--return", "--command", command, "/dev/null"])
        .current_dir(folder.0.path())
        .env("HGS_HOST_CONFIG", folder.path("guarded-host.toml"))
        .env("HGS_HOST_STATE", folder.path("state-folder"))
        .env("NO_COLOR", no_color)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// A log that goes into a file, or to somebody who wants no colours, has no escapes.
#[test]
fn a_log_has_escapes_on_a_terminal_only() {
    let folder = Folder::new();
    // A setting that is warned of whenever it is read.
    folder.done(
        "configure --attestation-url http://127.0.0.1:1/A --key-protection-url http://127.0.0.1:1/K \
         --dangerous-accept-unsigned-responses",
    );
    let piped = folder.run("status").stderr;
    let piped = String::from_utf8(piped).unwrap();
    assert!(piped.contains("WARN"), "{piped}");
    assert!(!piped.contains('\x1b'), "{piped:?}");
    let program = cargo_bin_cmd!("guarded-host");
    let command = format!("{} status", program.get_program().display());
    let shown = on_a_terminal(&folder, &command, "");
    assert!(shown.contains("\x1b[33m"), "{shown:?}");
    let plain = on_a_terminal(&folder, &command, "1");
    assert!(plain.contains("WARN"), "{plain}");
    assert!(!plain.contains('\x1b'), "{plain:?}");
}

#[test]
fn a_log_filter_that_is_none_is_named() {
    let folder = Folder::new();
    let output = folder
        .command("status")
        .env("HGS_LOG", "guarded_host=lots")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(64));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("HGS_LOG"), "{said}");
}

/// `guarded-host VERSION (COMMIT DATE)`, or in place of the commit why there is none.
#[test]
fn the_version_names_the_commit() {
    let shown = Folder::new().done("--version");
    let rest = shown.strip_prefix(concat!("guarded-host ", env!("CARGO_PKG_VERSION"), " ("));
    let from = rest.and_then(|rest| rest.strip_suffix(")\n")).unwrap();
    let known = from.split_once(' ').is_some_and(|(commit, date)| {
        commit.len() == 12
            && commit.bytes().all(|octet| octet.is_ascii_hexdigit())
            && format!("{date}T00:00:00Z").parse::<hgs_pki::Time>().is_ok()
    });
    assert!(
        known || ["development build", "unknown commit"].contains(&from),
        "{from}"
    );
}

/// The program without a command.
fn first_page(folder: &Folder) -> String {
    let output = folder.command("").env_remove("HGS_LOG").output().unwrap();
    assert_eq!(output.status.code(), Some(64));
    assert!(output.stdout.is_empty());
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_page_says_how_the_host_stands_and_what_comes_next() {
    let (guardian, folder) = (guardian().await, Folder::new());
    let page = first_page(&folder);
    assert!(page.contains("guarded by no service"), "{page}");
    assert!(page.contains("guarded-host configure https:"), "{page}");
    assert!(!folder.path("state-folder").exists(), "nothing is made");

    folder.configure(&guardian);
    let page = first_page(&folder);
    assert!(page.contains("guarded-host host-key new"), "{page}");

    folder.done("host-key new --bits 2048");
    let page = first_page(&folder);
    assert!(page.contains("never attested"), "{page}");
    assert!(page.contains("hgs host add"), "{page}");

    folder.error("attest", 2);
    let page = first_page(&folder);
    assert!(page.contains("host-not-registered"), "{page}");

    folder.done("host-key export --out host.pem");
    guardian.register_key(public_key(&folder.path("host.pem")));
    folder.done("attest");
    let page = first_page(&folder);
    assert!(page.contains("This host is guarded"), "{page}");
    assert!(
        page.lines().all(|line| line.chars().count() <= 120),
        "{page}"
    );
    folder.error("", 64);
}

/// Every page says where files are, what the environment does, and how the program ends.
#[test]
fn manual_pages_have_files_environment_and_exit_status() {
    let folder = Folder::new();
    folder.done("man --folder pages");
    for entry in fs::read_dir(folder.path("pages")).unwrap() {
        let page = fs::read_to_string(entry.unwrap().path()).unwrap();
        for said in [
            ".SH \"FILES\"",
            ".SH \"ENVIRONMENT\"",
            ".SH \"EXIT STATUS\"",
            "/etc/openhgs/guarded\\-host.toml",
            "host\\-key.pem",
            "HGS_HOST_STATE",
            "NO_COLOR",
        ] {
            assert!(page.contains(said), "{said}: {page}");
        }
    }
}

/// A failure is said once: not logged and then printed.
#[tokio::test(flavor = "multi_thread")]
async fn no_failure_is_said_twice() {
    let (guardian, folder) = (guardian().await, Folder::new());
    folder.configure(&guardian);
    folder.done("host-key new --bits 2048");
    let said = |words: &str| {
        let output = folder
            .command(words)
            .env_remove("HGS_LOG")
            .output()
            .unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    folder.add_vm();
    for words in ["attest", "protector unwrap vm.xml"] {
        let said = said(words);
        let times = said.matches("host-not-registered").count();
        assert_eq!(times, 1, "{said}");
    }
    guardian.stop().await;
    for words in ["attest", "protector unwrap vm.xml"] {
        let said = said(words);
        let times = said.matches("Connection refused").count();
        assert_eq!(times, 1, "{said}");
    }
}
