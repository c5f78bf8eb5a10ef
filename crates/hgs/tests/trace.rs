//! `hgs trace` against a guardian as its administrator has it: sound, and broken in one way after the other.

mod common;

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::served::{Served, configure};
use common::{Home, Outcome};
use hgs_testkit::softhsm::{PIN, SoftHsm};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::net::TcpSocket;

struct Site {
    home: Home,
    served: Option<Served>,
}

impl Site {
    /// A guardian that was made, and does not run.
    fn initialised() -> Self {
        let home = Home::new();
        configure(&home);
        home.hgs("init --config hgs.toml --name guardian.example --bits 2048")
            .done();
        Self { home, served: None }
    }

    /// One that runs.
    fn running() -> Self {
        let mut site = Self::initialised();
        site.start();
        site
    }

    fn start(&mut self) {
        self.served = Some(Served::start(&self.home));
    }

    #[track_caller]
    fn trace(&self, words: &str) -> Outcome {
        self.home.hgs(&format!("trace --config hgs.toml{words}"))
    }

    /// The report of a guardian that is broken: what is the cause, and what was skipped because of it.
    #[track_caller]
    fn broken(&self) -> (Vec<String>, Vec<String>) {
        let report = self.trace(" --json").ended(2).json();
        (root_causes(&report), skipped(&report))
    }

    fn mode(&self, name: &str, mode: u32) {
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(self.home.file(name), mode).unwrap();
    }

    fn configuration(&self) -> String {
        String::from_utf8(self.home.read("hgs.toml")).unwrap()
    }

    fn append_configuration(&self, more: &str) {
        self.home
            .write("hgs.toml", format!("{}{more}", self.configuration()));
    }
}

fn texts(values: &Value, key: &str) -> Vec<String> {
    let values = values.as_array().unwrap().iter();
    values
        .map(|value| value[key].as_str().unwrap().to_owned())
        .collect()
}

fn root_causes(report: &Value) -> Vec<String> {
    texts(&report["root_causes"], "id")
}

fn skipped(report: &Value) -> Vec<String> {
    let findings = report["findings"].as_array().unwrap().iter();
    let skipped = findings.filter(|finding| finding["outcome"] == "skipped");
    texts(&skipped.cloned().collect(), "id")
}

/// Makes a TLS certificate for `names`, and names it in the configuration.
fn with_tls(site: &Site, names: &str) {
    with_tls_of(site, names, "-addext basicConstraints=critical,CA:FALSE");
}

/// The same with further options of openssl.
fn with_tls_of(site: &Site, names: &str, options: &str) {
    let home = &site.home;
    home.openssl(&format!(
        "req {options} -x509 -newkey rsa:2048 -nodes -keyout tls.key -out tls.pem -days 90 \
         -subj /CN=guardian -addext subjectAltName={names}"
    ));
    site.mode("tls.key", 0o600);
    let folder = home.path().display();
    site.append_configuration(&format!(
        "[listen.https]\nenabled = true\naddress = \"127.0.0.1:0\"\n\
         certificate = \"{folder}/tls.pem\"\nkey = \"{folder}/tls.key\"\n"
    ));
}

#[test]
fn a_sound_guardian_passes_with_a_line_for_each_group() {
    let site = Site::running();
    let report = site.trace(" --json").done().json();
    assert_eq!(root_causes(&report), [""; 0]);
    let findings = report["findings"].as_array().unwrap();
    let outcome = |id: &str| {
        let found = findings.iter().find(|finding| finding["id"] == id);
        found.map(|finding| finding["outcome"].as_str().unwrap().to_owned())
    };
    for id in [
        "HGS-S003", "HGS-D004", "HGS-D006", "HGS-M002", "HGS-K003", "HGS-K004", "HGS-A002",
        "HGS-N006", "HGS-P003", "HGS-P004", "HGS-P005", "HGS-P006",
    ] {
        assert_eq!(outcome(id).as_deref(), Some("pass"), "{id}");
    }
    assert!(!findings.iter().any(|found| found["group"] == "cluster"));
    let shown = site.trace("").done();
    assert!(!shown.out.contains("HGS-K003"), "{}", shown.out);
    site.trace(" --detailed")
        .done()
        .saying("HGS-K003 pass: the private key decrypts (encryption ");
}

#[test]
fn a_selection_brings_what_it_depends_on_and_an_unknown_check_is_wrong_usage() {
    let site = Site::running();
    let report = site
        .trace(" --json --check hgs-k002,HGS-S003")
        .done()
        .json();
    let mut ids = texts(&report["findings"], "id");
    ids.dedup();
    let expected = [
        "HGS-S001", "HGS-S002", "HGS-S004", "HGS-D001", "HGS-D002", "HGS-D003", "HGS-D005",
        "HGS-D007", "HGS-D004", "HGS-D006", "HGS-K001", "HGS-K002", "HGS-S003",
    ];
    assert_eq!(ids, expected);
    site.trace(" --check HGS-X001").ended(64).saying("HGS-X001");
}

#[test]
fn from_elsewhere_what_everybody_sees_is_judged() {
    let site = Site::running();
    let url = site.served.as_ref().unwrap().url();
    let away = Home::new();
    let report = away
        .hgs(&format!("trace --target {url} --json"))
        .done()
        .json();
    let ids = texts(&report["findings"], "id");
    assert_eq!(
        ids,
        [
            "HGS-N005", "HGS-N006", "HGS-N009", "HGS-P001", "HGS-P002", "HGS-P003", "HGS-P006"
        ]
    );
    away.hgs("trace --target hgs.example").ended(64);
}

#[test]
fn nothing_is_asked_over_the_network_where_that_is_wanted() {
    let site = Site::running();
    let report = site.trace(" --target local --json").done().json();
    let ids = texts(&report["findings"], "id");
    assert!(ids.contains(&"HGS-K003".to_owned()) && !ids.contains(&"HGS-N006".to_owned()));
}

#[test]
fn an_unknown_key_in_the_configuration() {
    let site = Site::initialised();
    site.append_configuration("[sever]\n");
    let (causes, skipped) = site.broken();
    assert_eq!(causes, ["HGS-S001"]);
    assert!(skipped.contains(&"HGS-S003".to_owned()), "{skipped:?}");
    site.trace("").ended(2).saying("`sever`");
}

#[test]
fn a_service_that_does_not_run() {
    let site = Site::initialised();
    let (causes, skipped) = site.broken();
    assert_eq!(causes, ["HGS-S003"]);
    for id in ["HGS-M002", "HGS-N006", "HGS-P004"] {
        assert!(skipped.contains(&id.to_owned()), "{id}: {skipped:?}");
    }
    assert!(
        !skipped.iter().any(|id| id.starts_with("HGS-Q")),
        "it is no node of a cluster: {skipped:?}"
    );
    assert!(
        !skipped.contains(&"HGS-K003".to_owned()),
        "its keys are looked at"
    );
}

#[test]
fn a_master_key_that_others_can_read() {
    let site = Site::initialised();
    site.mode("guardian/master.key", 0o644);
    let (causes, skipped) = site.broken();
    // It does not run because it would not start.
    assert_eq!(causes, ["HGS-D002"]);
    for id in ["HGS-S003", "HGS-D003", "HGS-D004", "HGS-K003"] {
        assert!(skipped.contains(&id.to_owned()), "{id}: {skipped:?}");
    }
    site.trace("").ended(2).saying("run `chmod go= ");
}

#[test]
fn a_tls_certificate_for_another_name() {
    let mut site = Site::initialised();
    with_tls(&site, "DNS:other.example");
    site.start();
    let ca = format!(" --ca {}/tls.pem --json", site.home.path().display());
    let report = site.trace(&ca).ended(2).json();
    assert_eq!(root_causes(&report), ["HGS-N003"]);
    let skipped = skipped(&report);
    for id in ["HGS-N007", "HGS-P001", "HGS-P006"] {
        assert!(skipped.contains(&id.to_owned()), "{id}: {skipped:?}");
    }
    let evidence = &report["findings"].as_array().unwrap();
    let finding = evidence.iter().find(|finding| finding["outcome"] == "fail");
    let seen = finding.unwrap()["evidence"].as_str().unwrap();
    assert!(seen.contains("127.0.0.1"), "{seen}");
}

#[test]
fn the_certificate_of_init_is_trusted_without_being_named() {
    let home = Home::new();
    configure(&home);
    let mut site = Site { home, served: None };
    site.append_configuration("[listen.https]\naddress = \"127.0.0.1:0\"\n");
    let init = "init --config hgs.toml --name guardian.example --bits 2048";
    site.home
        .hgs(&format!("{init} --tls --tls-name 127.0.0.1"))
        .done();
    site.start();
    let report = site.trace(" --json").done().json();
    let tls = report["findings"].as_array().unwrap().iter();
    let mut tls = tls.filter(|finding| finding["id"] == "HGS-N007");
    assert_eq!(tls.next().unwrap()["outcome"], "pass");
}

/// Callers reach `[listen.api]` by a name of its own. That its certificate has another one hides nothing of what hosts see.
#[test]
fn a_certificate_of_the_api_for_another_name() {
    let mut site = Site::initialised();
    with_tls(&site, "IP:127.0.0.1,DNS:api.example");
    let client = format!(
        "[[client]]\nname = \"x\"\nthumbprint = \"{}\"\nroles = [\"reviewer\"]\n",
        "00".repeat(32)
    );
    site.home.write("clients.toml", client);
    let clients = site.home.file("clients.toml");
    let api = |url: &str| {
        format!(
            "[listen.api]\nenabled = true\naddress = \"127.0.0.1:0\"\nclients = \"{}\"\n{url}",
            clients.display()
        )
    };
    let configuration = String::from_utf8(site.home.read("hgs.toml")).unwrap();
    let traced = |site: &Site| {
        let ca = format!(" --ca {}/tls.pem --json", site.home.path().display());
        site.trace(&ca)
    };
    for (url, causes) in [
        ("", [].as_slice()),
        ("public_url = \"https://api.example:9443\"\n", &[]),
        (
            "public_url = \"https://console.example:9443\"\n",
            &["HGS-N010"],
        ),
    ] {
        site.home
            .write("hgs.toml", configuration.clone() + &api(url));
        site.served = None;
        site.start();
        let outcome = traced(&site);
        assert_eq!(root_causes(&outcome.json()), causes, "{url}");
        let report = outcome.json();
        let findings = report["findings"].as_array().unwrap().iter();
        let of_hosts = findings.filter(|finding| finding["id"] == "HGS-N007");
        let outcomes: Vec<_> = of_hosts.map(|finding| &finding["outcome"]).collect();
        assert_eq!(outcomes, ["pass"], "{url}");
    }
}

#[test]
fn a_tls_certificate_of_the_right_name_that_nobody_here_trusts() {
    let mut site = Site::initialised();
    with_tls(&site, "IP:127.0.0.1");
    site.start();
    let ca = format!(" --ca {}/tls.pem", site.home.path().display());
    site.trace(&ca).done();
    let (causes, skipped) = site.broken();
    assert_eq!(causes, ["HGS-N007"]);
    assert!(
        skipped.contains(&"HGS-P006".to_owned()),
        "over HTTPS: {skipped:?}"
    );
}

#[test]
fn a_tls_key_that_is_not_the_certificates() {
    let mut site = Site::initialised();
    with_tls(&site, "IP:127.0.0.1");
    site.start();
    site.home.openssl("genpkey -algorithm RSA -out tls.key");
    let ca = format!(" --ca {}/tls.pem --json", site.home.path().display());
    let report = site.trace(&ca).ended(2).json();
    // The service goes on with the pair that it read before.
    assert_eq!(root_causes(&report), ["HGS-N001"]);
    assert!(skipped(&report).contains(&"HGS-N003".to_owned()));
}

/// What `openssl req -x509` makes when it is told nothing else.
#[test]
fn a_tls_certificate_that_is_one_of_an_authority_too() {
    let mut site = Site::initialised();
    with_tls_of(&site, "IP:127.0.0.1", "-sha256");
    let checked = site.home.hgs("server check --config hgs.toml").ended(2);
    checked.saying("certification authority");
    site.start();
    let ca = format!(" --ca {}/tls.pem", site.home.path().display());
    let report = site.trace(&format!("{ca} --json")).ended(2).json();
    assert_eq!(root_causes(&report), ["HGS-N008"]);
    assert!(skipped(&report).contains(&"HGS-N007".to_owned()));
    site.trace(&ca).ended(2).saying("CA:FALSE");
}

#[test]
fn a_tls_certificate_that_is_not_trusted_has_the_remedy_of_this_program() {
    let mut site = Site::initialised();
    with_tls(&site, "IP:127.0.0.1");
    site.start();
    site.trace("").ended(2).saying("`hgs trace --ca FILE`");
}

#[test]
fn https_at_the_port_of_http_and_the_other_way() {
    let mut site = Site::initialised();
    with_tls(&site, "IP:127.0.0.1");
    site.start();
    let status = site
        .home
        .hgs("status --config hgs.toml --json")
        .done()
        .json();
    let urls: Vec<_> = status["attestation_urls"].as_array().unwrap().clone();
    let base = |scheme: &str| {
        let urls = urls.iter().map(|url| url.as_str().unwrap());
        let mut bases = urls.map(|url| url.trim_end_matches("/Attestation"));
        bases
            .find(|base| base.starts_with(scheme))
            .unwrap()
            .to_owned()
    };
    let (tls, plain) = (base("https:"), base("http:"));
    let ca = site.home.path().join("tls.pem");
    for (url, id, saying) in [
        (
            plain.replace("http:", "https:"),
            "HGS-N007",
            "does not speak TLS",
        ),
        (tls.replace("https:", "http:"), "HGS-N009", "speaks TLS"),
    ] {
        let words = format!("trace --target {url} --ca {} --json", ca.display());
        let report = site.home.hgs(&words).ended(2).json();
        assert_eq!(root_causes(&report), [id], "{report:#}");
        assert!(report.to_string().contains(saying), "{report:#}");
    }
}

/// The name that hosts use is another than the machine's, and trace is told it.
#[test]
fn the_public_url_is_shown_and_tried() {
    let mut site = Site::initialised();
    let text = site.configuration();
    let set = "[listen.http]\npublic_url = \"http://hgs.invalid/\"\n";
    site.home
        .write("hgs.toml", text.replace("[listen.http]\n", set));
    site.start();
    let status = site
        .home
        .hgs("status --config hgs.toml --json")
        .done()
        .json();
    assert_eq!(
        status["attestation_urls"][0],
        "http://hgs.invalid/Attestation"
    );
    let report = site.trace(" --json").ended(2).json();
    assert_eq!(root_causes(&report), ["HGS-N005"]);
    assert_eq!(report["root_causes"][0]["target"], "http://hgs.invalid");
    // The keys work all the same.
    assert!(!skipped(&report).contains(&"HGS-P004".to_owned()));
}

#[test]
fn a_port_that_another_program_has() {
    let site = Site::initialised();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap();
    let text = site
        .configuration()
        .replace("127.0.0.1:0", &address.to_string());
    site.home.write("hgs.toml", text);
    let (causes, skipped) = site.broken();
    assert_eq!(causes, ["HGS-S005"]);
    assert!(skipped.contains(&"HGS-S003".to_owned()), "{skipped:?}");
    let port = address.port();
    site.trace("")
        .ended(2)
        .saying(format!("ss -ltnp 'sport = :{port}'"));
}

/// The service runs, but its socket is another than the one that is asked.
#[test]
fn a_service_with_another_socket() {
    let site = Site::running();
    let folder = site.home.path().display().to_string();
    let text = site
        .configuration()
        .replace("run/admin.sock", "run/other.sock");
    site.home.write("other.toml", text);
    let trace = site.home.hgs("trace --config other.toml --json").ended(2);
    assert_eq!(root_causes(&trace.json()), ["HGS-S003"]);
    let shown = site.home.hgs("trace --config other.toml").ended(2);
    shown.saying("another process holds the state");
    let told = format!("trace --config other.toml --socket {folder}/run/admin.sock");
    site.home.hgs(&told).done();
}

#[test]
fn a_configuration_that_is_no_file() {
    let site = Site::initialised();
    fs::create_dir(site.home.file("folder.toml")).unwrap();
    let words = "trace --config folder.toml";
    let report = site.home.hgs(&format!("{words} --json")).ended(2).json();
    assert_eq!(root_causes(&report), ["HGS-S001"]);
    site.home.hgs(words).ended(2).saying("is not a file");
    fs::write(site.home.file("windows.toml"), b"\xFF\xFE[\0l\0").unwrap();
    let other = site.home.hgs("trace --config windows.toml").ended(2);
    other.saying("windows.toml: is UTF-16").saying("iconv -f");
    let absent = site.home.hgs("trace --config absent.toml").ended(2);
    absent.saying("name the configuration of the service with `--config FILE`");
}

#[test]
fn a_configuration_that_this_user_may_not_read() {
    if !hgs_testkit::is_privileged("a command of another user") {
        return;
    }
    let site = Site::initialised();
    site.mode("hgs.toml", 0o600);
    let path = fs::Permissions::from_mode(0o755);
    fs::set_permissions(site.home.path(), path).unwrap();
    let setpriv = hgs_testkit::tool("setpriv", "util-linux");
    let mut trace = assert_cmd::Command::new(setpriv);
    trace.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]);
    trace.arg(assert_cmd::cargo::cargo_bin!("hgs"));
    trace
        .args(["trace", "--config"])
        .arg(site.home.file("hgs.toml"));
    let shown = Outcome::of(&mut trace).ended(2);
    assert!(
        shown.out.contains("may not be opened by this user"),
        "{}",
        shown.out
    );
    shown.saying("run this as root, or as the user that the service runs as");
}

/// What this shell may do says nothing of the service.
#[test]
fn the_limits_of_the_caller_are_none_of_the_service() {
    let mut site = Site::initialised();
    site.append_configuration("[limits]\nconnections = 100\n");
    site.start();
    let mut trace = assert_cmd::Command::new("sh");
    trace.args([
        "-c",
        "ulimit -n 128; exec \"$0\" trace --config hgs.toml --json",
    ]);
    trace.arg(assert_cmd::cargo::cargo_bin!("hgs"));
    trace.current_dir(site.home.path());
    let report = Outcome::of(&mut trace).done().json();
    let findings = report["findings"].as_array().unwrap();
    let settings = findings.iter().filter(|one| one["id"] == "HGS-S002");
    let outcomes = texts(&settings.cloned().collect(), "outcome");
    assert_eq!(outcomes, ["pass"]);
}

/// Stopped in the middle of its work: it holds its socket and its ports, and says nothing.
#[test]
fn a_service_that_hangs() {
    let site = Site::running();
    let served = site.served.as_ref().unwrap();
    let process = Pid::from_raw(i32::try_from(served.process()).unwrap()).unwrap();
    kill_process(process, Signal::STOP).unwrap();
    let begun = Instant::now();
    let (causes, skipped) = site.broken();
    assert_eq!(causes, ["HGS-S004"]);
    assert!(skipped.contains(&"HGS-N006".to_owned()), "{skipped:?}");
    let url = served.url();
    let report = site
        .home
        .hgs(&format!("trace --target {url} --json"))
        .ended(2);
    assert!(
        begun.elapsed() < Duration::from_secs(40),
        "{:?}",
        begun.elapsed()
    );
    kill_process(process, Signal::CONT).unwrap();
    assert_eq!(root_causes(&report.json()), ["HGS-N009"]);
    assert!(
        report.out.contains("did not answer within 10 s"),
        "{}",
        report.out
    );
}

/// A listener whose queue is full: the kernel drops what would be one connection more, as a firewall does.
#[test]
fn an_address_that_swallows_everything() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let entered = runtime.enter();
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let wait = Duration::from_millis(200);
    let mut held = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, wait) {
        held.push(stream);
    }
    let begun = Instant::now();
    let away = Home::new();
    let report = away
        .hgs(&format!("trace --target http://{address} --json"))
        .ended(2);
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(root_causes(&report.json()), ["HGS-N006"]);
    assert!(
        report.out.contains("no answer within 5 s"),
        "{}",
        report.out
    );
    drop(entered);
}

#[test]
fn a_listener_that_does_not_answer() {
    let site = Site::running();
    let url = site.served.as_ref().unwrap().url();
    drop(site.served);
    let report = site
        .home
        .hgs(&format!("trace --target {url} --json"))
        .ended(2)
        .json();
    assert_eq!(root_causes(&report), ["HGS-N006"]);
    let skipped = skipped(&report);
    let expected = [
        "HGS-N007", "HGS-N009", "HGS-P001", "HGS-P002", "HGS-P003", "HGS-P006",
    ];
    assert_eq!(skipped, expected);
}

#[test]
fn what_was_collected_is_diagnosed_alike_elsewhere() {
    let site = Site::running();
    site.home
        .hgs("trace --config hgs.toml --collect facts --json")
        .done();
    let here = site.trace(" --from facts --json").done().json();
    let away = Home::new();
    let folder = away.path().join("facts");
    copy(&site.home.file("facts"), &folder);
    let there = away.hgs("trace --from facts --json").done().json();
    assert_eq!(here, there);
    let ids = texts(&there["findings"], "id");
    assert!(ids.contains(&"HGS-P004".to_owned()), "{ids:?}");
    site.trace(" --collect facts").ended(1);
    away.write("facts/local.json", "{}");
    away.hgs("trace --from facts").ended(1).saying("local.json");
}

/// The URL leads to somebody else, who signs and publishes other things: what was seen there stands in the place of what
/// was seen here.
#[test]
fn metadata_and_signers_of_another_guardian() {
    let (site, other) = (Site::running(), Site::running());
    site.trace(" --collect facts --json").done();
    let url = other.served.as_ref().unwrap().url();
    other
        .home
        .hgs(&format!("trace --target {url} --collect facts --json"))
        .done();
    let seen = other.home.read("facts/public.json");
    let mut manifest: Value =
        serde_json::from_slice(&site.home.read("facts/manifest.json")).unwrap();
    manifest["files"]["public.json"] = serde_json::json!({
        "octets": seen.len(),
        "sha256": hgs_crypto::hex::encode(&hgs_crypto::hash::sha256(&seen)),
    });
    site.home.write("facts/public.json", seen);
    site.home.write("facts/manifest.json", manifest.to_string());
    let report = site.trace(" --from facts --json").ended(2).json();
    assert_eq!(root_causes(&report), ["HGS-P002", "HGS-P003"]);
    let shown = site.trace(" --from facts").ended(2);
    shown.saying("it is signed by");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// A guardian whose keys are in a token.
fn with_token(hsm: &SoftHsm) -> Site {
    let home = Home::new();
    configure(&home);
    let site = Site { home, served: None };
    let module = SoftHsm::module();
    site.append_configuration(&format!(
        "[[pkcs11.module]]\npath = \"{}\"\nsessions = 2\n",
        module.display()
    ));
    hsm.generate("signing", "--usage-sign");
    hsm.generate("encryption", "--usage-decrypt");
    let (name, value) = hsm.environ();
    let mut init = site.home.command();
    init.env(name, value).args(["init", "--config", "hgs.toml"]);
    init.args(["--signing-key", &hsm.uri("signing")]);
    init.args(["--encryption-key", &hsm.uri("encryption")]);
    Outcome::of(&mut init).done();
    site
}

const NOBODY: &str = "65534";

/// The service's user can't read the PIN, though root, who asks, could.
#[test]
fn a_pin_that_the_service_can_not_read() {
    if !hgs_testkit::is_privileged("a service that runs as another user") {
        return;
    }
    let hsm = SoftHsm::new();
    let mut site = with_token(&hsm);
    let chown = Command::new("chown")
        .args(["-R", &format!("{NOBODY}:{NOBODY}")])
        .args([site.home.path(), hsm.folder()])
        .status();
    assert!(chown.unwrap().success());
    std::os::unix::fs::chown(hsm.pin_file(), Some(0), Some(0)).unwrap();
    let mut serve = Command::new(hgs_testkit::tool("setpriv", "util-linux"));
    serve.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]);
    serve.arg(assert_cmd::cargo::cargo_bin!("hgs"));
    serve.args(["serve", "--config", "hgs.toml"]);
    let (name, value) = hsm.environ();
    serve.env(name, value);
    site.served = Some(Served::start_by(&site.home, serve));
    let (causes, skipped) = site.broken();
    assert_eq!(causes, ["HGS-T005"]);
    for id in ["HGS-T006", "HGS-T008", "HGS-K003", "HGS-K004", "HGS-P004"] {
        assert!(skipped.contains(&id.to_owned()), "{id}: {skipped:?}");
    }
    site.trace("")
        .ended(2)
        .saying("may not be opened by this user");
}

/// A full disk is the cause of everything that can't be recorded; status, readiness and trace tell it.
#[test]
fn a_full_disk() {
    let Some(mut serve) = hgs_testkit::in_mount_namespace("a small file system") else {
        return;
    };
    let home = Home::new();
    configure(&home);
    let with_metrics = String::from_utf8(home.read("hgs.toml")).unwrap().replace(
        "[listen.metrics]\nenabled = false",
        "[listen.metrics]\nenabled = true\naddress = \"127.0.0.1:0\"",
    );
    home.write("hgs.toml", with_metrics);
    fs::create_dir(home.file("guardian")).unwrap();
    let script = "mount -t tmpfs -o size=24m,mode=700 tmpfs guardian && \
                  \"$0\" init --config hgs.toml --bits 2048 >/dev/null && \
                  exec \"$0\" serve --config hgs.toml";
    serve.args(["sh", "-c", script]);
    serve.arg(assert_cmd::cargo::cargo_bin!("hgs"));
    let served = Served::start_by(&home, serve);
    // The small disk has less room than people want to be told of.
    assert!(served.readiness().contains("200 OK"));
    let almost = home.hgs("status --config hgs.toml --json").done().json();
    assert!(
        almost.to_string().contains("disk-almost-full"),
        "{almost:#}"
    );
    // As the server sees it.
    let root = format!("/proc/{}/root", served.process());
    let filler = home.file("guardian/filler");
    let filler = Path::new(&root).join(filler.strip_prefix("/").unwrap());
    let full = fs::write(&filler, vec![0; 32 * 1024 * 1024]).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);

    let ready = served.readiness();
    assert!(ready.contains("503 "), "{ready}");
    assert!(ready.contains("full"), "{ready}");
    let status = home.hgs("status --config hgs.toml --json").done().json();
    let warning = status["warnings"].as_array().unwrap().iter();
    let codes: Vec<_> = warning.filter_map(|one| one["code"].as_str()).collect();
    assert!(
        codes.contains(&"state-not-writable") || codes.contains(&"disk-almost-full"),
        "{status:#}"
    );
    let site = Site {
        home,
        served: Some(served),
    };
    let (causes, skipped) = site.broken();
    assert_eq!(causes, ["HGS-D005"]);
    for id in ["HGS-D006", "HGS-P004"] {
        assert!(skipped.contains(&id.to_owned()), "{id}: {skipped:?}");
    }

    // With room again it goes on by itself.
    fs::remove_file(filler).unwrap();
    let ready = site.served.as_ref().unwrap().readiness();
    assert!(ready.contains("200 OK"), "{ready}");
}

/// Neither is the PIN of a token in what is shown, nor in what is collected.
#[test]
fn k9_a_collection_holds_no_pin() {
    let hsm = SoftHsm::new();
    let site = with_token(&hsm);
    let (name, value) = hsm.environ();
    let mut trace = site.home.command();
    trace.env(name, value);
    trace.args([
        "trace",
        "--config",
        "hgs.toml",
        "--collect",
        "facts",
        "--json",
    ]);
    let shown = Outcome::of(&mut trace).ended(2);
    assert_eq!(root_causes(&shown.json()), ["HGS-S003"], "it does not run");
    assert_eq!(
        hgs_testkit::part_of(PIN.as_bytes(), shown.out.as_bytes()),
        None
    );
    for entry in fs::read_dir(site.home.file("facts")).unwrap() {
        let file = fs::read(entry.unwrap().path()).unwrap();
        assert_eq!(hgs_testkit::part_of(PIN.as_bytes(), &file), None);
    }
}

/// What the guardian keeps is not in what it shows: no key, whole or in part, in any form.
#[test]
fn k9_a_collection_holds_no_key() {
    let home = Home::new();
    configure(&home);
    let mut secrets = Vec::new();
    for kind in ["signing", "encryption"] {
        home.openssl(&format!(
            "req -x509 -newkey rsa:2048 -nodes -keyout {kind}.key -out {kind}.pem -days 90 -subj /CN={kind}"
        ));
        secrets.push(private_half(&home, &format!("{kind}.key")));
    }
    home.hgs(
        "init --config hgs.toml --signing-certificate signing.pem --signing-key signing.key \
         --encryption-certificate encryption.pem --encryption-key encryption.key",
    )
    .done();
    let mut site = Site { home, served: None };
    with_tls(&site, "IP:127.0.0.1");
    site.start();
    secrets.push(private_half(&site.home, "tls.key"));
    secrets.push(site.home.read("guardian/master.key"));
    site.trace(" --ca tls.pem --collect facts").done();
    let mut searched = 0;
    for entry in fs::read_dir(site.home.file("facts")).unwrap() {
        let file = fs::read(entry.unwrap().path()).unwrap();
        for secret in &secrets {
            assert_eq!(hgs_testkit::part_of(secret, &file), None);
        }
        searched += file.len();
    }
    assert!(searched > 4000, "{searched}");
}

/// The second half of a key in PKCS#8; the first is its public half.
fn private_half(home: &Home, file: &str) -> Vec<u8> {
    let der = home.openssl(&format!("pkcs8 -topk8 -nocrypt -in {file} -outform DER"));
    der[der.len() / 2..].to_vec()
}
