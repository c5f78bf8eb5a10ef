//! A host before a guardian of two nodes, of which one is frozen, and then killed.
//!
//! The second node is a copy of the first, made before either served: both have the same keys, signers and hosts.

mod common;

use std::process::Command;
use std::time::{Duration, Instant};

use common::Home;
use common::served::{Served, configure};
use hgs_client::configuration::{Configuration, Endpoints, Services};
use hgs_client::host_key::{HostKeySize, PublicForm};
use hgs_client::service::Sides;
use hgs_client::{Environment, Folders, GuardedHost};
use hgs_pki::health::HealthKind;
use hgs_testkit::tool;
use rustix::process::{Pid, Signal, kill_process};

/// A second until the next node is asked, and time for the attestation itself on a busy machine.
const WITHIN: Duration = Duration::from_secs(4);

fn send(node: &Served, signal: Signal) {
    let process = Pid::from_raw(node.process().try_into().unwrap());
    kill_process(process.unwrap(), signal).unwrap();
}

/// A host in a folder of its own, registered in the state that no server has open.
fn registered(home: &Home, folder: &str) -> (Folders, String) {
    std::fs::create_dir(home.file(folder)).unwrap();
    let folders = Folders::inside(&home.file(folder));
    hgs_files::private_folder(&folders.state).unwrap();
    let host = GuardedHost::open(folders.clone()).unwrap();
    let key = host.create_host_key(HostKeySize::Rsa2048).unwrap();
    let pem = key.export(PublicForm::SubjectPublicKeyInfo, folder, host.now());
    let file = format!("{folder}.pem");
    home.write(&file, pem.unwrap());
    (folders, file)
}

async fn attest(host: &GuardedHost) -> Duration {
    let begin = Instant::now();
    let attested = host.attest(HealthKind::Encryption, Sides::Both).await;
    attested.unwrap();
    begin.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_goes_to_the_other_node_when_one_is_frozen_or_killed() {
    let home = Home::new();
    configure(&home);
    home.hgs("init --config hgs.toml --name guardian.example --bits 2048")
        .done();
    let (folders, key) = registered(&home, "host-1");
    let served = Served::start(&home);
    home.hgs(&format!(
        "host add host-1 --host-key {key} --config hgs.toml"
    ))
    .done();
    assert_eq!(served.stop().0, Some(0));
    for folder in ["guardian", "guardian-mark"] {
        let copied = Command::new(tool("cp", "coreutils"))
            .args(["-a", folder, &folder.replace("guardian", "guardian2")])
            .current_dir(home.path())
            .status();
        assert!(copied.unwrap().success());
    }
    let configuration = String::from_utf8(home.read("hgs.toml")).unwrap();
    home.write(
        "hgs2.toml",
        configuration
            .replace("node-1", "node-2")
            .replace("/guardian\"", "/guardian2\"")
            .replace("/run/", "/run2/"),
    );
    let first = Served::start(&home);
    let second = Served::start_with(&home, "hgs2.toml");

    let services = Services {
        primary: Endpoints::below_each(&[first.url(), second.url()]).unwrap(),
        fallback: None,
        certificate_authorities: None,
        dangerous_accept_unsigned_responses: false,
    };
    Configuration::HostGuardianService(services)
        .store(&folders.configuration)
        .unwrap();
    let host = GuardedHost::open(folders.clone()).unwrap();
    attest(&host).await;

    // Whichever it goes to: in several processes of the host, some begin with the frozen node.
    send(&first, Signal::STOP);
    for _ in 0..4 {
        let host = GuardedHost::open(folders.clone()).unwrap();
        assert!(attest(&host).await < WITHIN);
        let mut patient = Environment::default();
        patient.timing.patience = WITHIN;
        let host = GuardedHost::open_in(folders.clone(), patient).unwrap();
        attest(&host).await;
        let again = attest(&host).await;
        assert!(again < WITHIN, "it was not remembered: {again:?}");
    }
    let host = GuardedHost::open(folders.clone()).unwrap();
    attest(&host).await;
    send(&first, Signal::CONT);
    drop(second);
    assert!(attest(&host).await < WITHIN);
    // Nobody is left, and the host says so of each.
    let urls = [first.url(), host_url(&host, 1)];
    drop(first);
    let error = host.attest(HealthKind::Encryption, Sides::Both).await;
    let error = error.unwrap_err().to_string();
    for url in urls {
        assert!(error.contains(&url), "{error}");
    }
}

fn host_url(host: &GuardedHost, node: usize) -> String {
    host.status().unwrap().attestation_urls[node].clone()
}
