//! A shielded VM that starts while no guardian can be reached, through the programs.

mod common;
#[path = "common/fabric.rs"]
mod fabric;

use std::fs;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use fabric::Fabric;
use hgs_testkit::swtpm::SoftwareTpm;
use rustix::process::Signal;
use serde_json::Value;

const LOG: &[u8] = include_bytes!("../../hgs-attest/tests/boots/secure-boot-on-eventlog.bin");

/// The line between a branch office and its guardian.
struct Line {
    address: SocketAddr,
    is_cut: Arc<AtomicBool>,
}

impl Line {
    fn to(guardian: &str) -> Self {
        let guardian: SocketAddr = guardian.strip_prefix("http://").unwrap().parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let is_cut = Arc::new(AtomicBool::new(false));
        let cut = Arc::clone(&is_cut);
        thread::spawn(move || {
            for host in listener.incoming().map_while(Result::ok) {
                if cut.load(Ordering::SeqCst) {
                    continue;
                }
                let server = TcpStream::connect(guardian).unwrap();
                carry(host.try_clone().unwrap(), server.try_clone().unwrap());
                carry(server, host);
            }
        });
        Self { address, is_cut }
    }

    fn cut(&self, is_cut: bool) {
        self.is_cut.store(is_cut, Ordering::SeqCst);
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream) {
    thread::spawn(move || {
        // What fails on one connection is for its host to see.
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
}

/// A host that is known by its TPM, and reaches its guardian by a line that can be cut.
fn with_tpm(fabric: &Fabric) -> (SoftwareTpm, Line) {
    let mut tpm = SoftwareTpm::new();
    tpm.boot(LOG);
    fabric.home.write("log", LOG);
    let line = Line::to(&fabric.served.url());
    let url = format!("http://{}", line.address);
    fabric
        .host(&format!(
            "configure --attestation-url {url}/Attestation --key-protection-url {url}/KeyProtection"
        ))
        .done();
    let configuration = String::from_utf8(fabric.home.read("guarded-host.toml")).unwrap();
    let section = format!(
        "[tpm]\ndevice = \"{}\"\nevent_log = \"{}\"\nima_log = \"{}\"\n",
        tpm.device(),
        fabric.home.file("log").display(),
        fabric.home.file("no-ima").display(),
    );
    fabric
        .home
        .write("guarded-host.toml", format!("{configuration}\n{section}"));
    fabric
        .admin("server set --attestation-mode tpm --yes")
        .done();
    fabric.host("identity export --out identity.json").done();
    fabric
        .admin("host add branch --identity identity.json --without-ek-certificate --yes")
        .done();
    fabric
        .host("baseline export --out baseline.json --host-measurements own.json")
        .done();
    fabric.admin("baseline add reference baseline.json").done();
    fabric
        .admin("host set branch --measurements own.json")
        .done();
    (tpm, line)
}

fn audit(fabric: &Fabric, action: &str) -> Vec<Value> {
    let listed = fabric.admin(&format!("audit list --action {action} --json"));
    listed.done().json().as_array().unwrap().clone()
}

#[test]
fn a_vm_starts_offline_as_often_as_its_guardian_allows_and_the_guardian_hears_of_it() {
    let fabric = Fabric::new();
    let (_tpm, line) = with_tpm(&fabric);
    let said_by_disk = fabric.prepare("web1");
    let agent = fabric.agent();
    fabric.host("vm import web1").done();

    // By default no VM starts without a guardian.
    fabric.host("vm start web1").done();
    fabric.host("vm stop web1 --force").done();
    assert!(audit(&fabric, "release")[0]["offline_use"].is_null());
    assert!(!fabric.home.file("host/kept-keys").exists());
    line.cut(true);
    fabric.host("vm start web1").ended(1);
    line.cut(false);

    let shown = fabric.admin("server set --key-caching 2,24 --yes").done();
    shown.saying("2 times within 24 hours after a release");
    fabric.host("vm start web1").done();
    assert_eq!(audit(&fabric, "release")[0]["offline_use"]["unwraps"], 2);
    fabric.host("vm stop web1 --force").done();
    let current = fabric.generation("web1");

    line.cut(true);
    let started = fabric.host("vm start web1 --json").done().json();
    let warning = started["warnings"][0].as_str().unwrap();
    assert!(warning.contains("1 uses are left"), "{started}");
    fabric
        .host("vm list")
        .done()
        .saying("running, started without a guardian");
    let said = fabric.until_said("web1", "heartbeat 0");
    assert!(said.contains(&said_by_disk), "{said}");
    assert_eq!(
        fabric.generation("web1"),
        current,
        "the state keeps its key"
    );
    fabric.host("vm stop web1 --force").done();
    fabric.host("vm start web1").done();
    fabric.host("vm stop web1 --force").done();
    fabric
        .host("vm start web1")
        .ended(1)
        .saying("as often as its guardian allows");

    // At the next contact the guardian hears of both uses, once; what is kept is renewed.
    line.cut(false);
    fabric.host("vm start web1").done();
    let reports = audit(&fabric, "offline-unwraps");
    let counts: Vec<_> = reports
        .iter()
        .map(|report| report["count"].as_u64())
        .collect();
    assert_eq!(counts, [Some(2)], "{reports:#?}");
    assert_eq!(reports[0]["host_name"], "branch");
    fabric
        .admin("audit list --action offline-unwraps")
        .done()
        .saying("kept keys were used 2 times");
    assert_ne!(fabric.generation("web1"), current);
    fabric.host("vm stop web1 --force").done();
    line.cut(true);
    fabric.host("vm start web1").done();
    fabric.host("vm stop web1 --force").done();
    line.cut(false);

    // A refusal is not an outage.
    let kept = || {
        fs::read_dir(fabric.home.file("host/kept-keys"))
            .unwrap()
            .count()
    };
    assert_eq!(kept(), 1);
    fabric.admin("host revoke branch --yes").done();
    fabric.host("vm start web1").ended(2).saying("revoked");
    assert_eq!(kept(), 0);
    line.cut(true);
    fabric.host("vm start web1").ended(1);
    agent.end(Signal::TERM);
}
