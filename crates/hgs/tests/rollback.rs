//! A state that went back or was spoilt, as an administrator meets it: each with its cause and its remedy.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use common::served::{Served, configure};
use common::{Home, Outcome};
use rustix::process::{Pid, Signal, kill_process};

struct Site {
    home: Home,
}

impl Site {
    fn new() -> Self {
        let home = Home::new();
        configure(&home);
        home.hgs("init --config hgs.toml --name a.example --bits 2048")
            .done();
        Self { home }
    }

    #[track_caller]
    fn ask(&self, words: &str) -> Outcome {
        self.home.hgs(&format!("{words} --config hgs.toml"))
    }

    /// Adds a host and revokes it.
    fn revoke_a_host(&self) {
        self.home.openssl("genrsa -out h.key 2048");
        self.home
            .write("h.pem", self.home.openssl("rsa -in h.key -pubout"));
        self.ask("host add h1 --host-key h.pem").done();
        self.ask("host revoke h1 --reason stolen --yes").done();
    }

    fn copy(&self, files: &[&str], to: &str) {
        let folder = self.home.file(to);
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
        for file in files {
            fs::copy(
                self.home.file(&format!("guardian/{file}")),
                folder.join(file),
            )
            .unwrap();
        }
    }

    /// What is wrong by `hgs trace`, while nothing serves.
    fn root_causes(&self) -> Vec<String> {
        let report = self.ask("trace --json").json();
        let causes = report["root_causes"].as_array().unwrap();
        let name = |cause: &serde_json::Value| cause["id"].as_str().unwrap().to_owned();
        causes.iter().map(name).collect()
    }
}

/// The case that a backup job made: one file of two, from a running service.
#[test]
fn a_copy_of_the_database_alone_is_no_state() {
    let site = Site::new();
    let served = Served::start(&site.home);
    site.revoke_a_host();
    site.copy(&["state.db", "master.key", "lock"], "copy");
    drop(served);
    let configuration = String::from_utf8(site.home.read("hgs.toml")).unwrap();
    site.home
        .write("copy.toml", configuration.replace("/guardian\"", "/copy\""));
    let serve = || site.home.hgs("serve --config copy.toml");
    serve()
        .ended(1)
        .saying("nothing shows that the state in")
        .saying("hgs state accept");
    // Only a person who says so goes on with it.
    site.home.hgs("state accept --config copy.toml").ended(2);
    serve().ended(1);
    site.home
        .hgs("state accept --config copy.toml --yes")
        .done()
        .saying("is accepted: audit record");
    let served = Served::start_with(&site.home, "copy.toml");
    // What was acknowledged to an administrator was in the one file.
    site.home
        .hgs("host list --config copy.toml")
        .done()
        .saying("revoked");
    site.home
        .hgs("audit list --action accept-state --config copy.toml")
        .done()
        .saying("accept-state");
    drop(served);
}

#[test]
fn a_killed_service_without_its_log_is_refused_and_with_it_starts() {
    let site = Site::new();
    site.copy(&["state.db"], "old");
    let served = Served::start(&site.home);
    site.revoke_a_host();
    let process = Pid::from_raw(i32::try_from(served.process()).unwrap()).unwrap();
    kill_process(process, Signal::KILL).unwrap();
    drop(served);
    // A crash is no rollback.
    drop(Served::start(&site.home));
    for name in ["state.db-wal", "state.db-shm"] {
        let _ = fs::remove_file(site.home.file(&format!("guardian/{name}")));
    }
    fs::copy(
        site.home.file("old/state.db"),
        site.home.file("guardian/state.db"),
    )
    .unwrap();
    site.ask("serve")
        .ended(1)
        .saying("is older than it was before")
        .saying("hgs state accept");
    let causes = site.root_causes();
    assert!(causes.contains(&"HGS-D007".to_owned()), "{causes:?}");
    assert!(!causes.contains(&"HGS-D004".to_owned()), "{causes:?}");
    for refused in [
        "state export --passphrase-from file:passphrase --out x.age",
        "state rotate-master-key --yes",
    ] {
        site.home
            .write_private("passphrase", "correct horse battery staple");
        site.ask(refused)
            .ended(1)
            .saying("is older than it was before");
    }
    site.ask("state accept --yes").done();
    drop(Served::start(&site.home));
}

#[test]
fn a_spoilt_state_is_told_from_one_under_another_key() {
    let site = Site::new();
    let key = site.home.read("guardian/master.key");
    let database = site.home.read("guardian/state.db");
    site.home.write_private("guardian/master.key", [7; 32]);
    site.ask("serve").ended(1).saying("its octets repeat");
    let other: Vec<u8> = (0_u8..32)
        .map(|place| place.wrapping_mul(place) ^ 77)
        .collect();
    site.home.write_private("guardian/master.key", other);
    site.ask("serve")
        .ended(1)
        .saying("another master key")
        .saying("server.master_key");
    site.home.write_private("guardian/master.key", &key[1..]);
    site.ask("serve")
        .ended(1)
        .saying("put the master key of this state back");
    site.home.write_private("guardian/master.key", key);
    site.home
        .write_private("guardian/state.db", &database[..database.len() / 2]);
    site.ask("serve")
        .ended(1)
        .saying("the database is damaged")
        .saying("state import --initialise");
    site.home.write_private("guardian/state.db", [b'x'; 4096]);
    site.ask("serve").ended(1).saying("the database is damaged");
    fs::remove_file(site.home.file("guardian/state.db")).unwrap();
    site.ask("serve")
        .ended(1)
        .saying("is gone: its high-water mark");
    site.home.write_private("guardian/state.db", database);
    drop(Served::start(&site.home));
}
