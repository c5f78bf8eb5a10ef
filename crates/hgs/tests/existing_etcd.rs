//! A guardian of several nodes over an etcd that somebody else runs: with TLS, and with users that certificates name.

mod common;

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use common::Home;
use common::machine::{Machine, PATIENCE};
use common::served::Served;
use hgs_testkit::{free_ports, tool};
use serde_json::json;

/// One member of etcd with its certificates, which are all at its home. It is killed when dropped.
struct ForeignEtcd {
    home: Home,
    port: u16,
    process: Option<Child>,
}

impl Drop for ForeignEtcd {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl ForeignEtcd {
    /// With an authority `ca`, and users `root` and `guardian`, the latter for keys below `openhgs/`.
    fn start() -> Self {
        let home = Home::new();
        for authority in ["ca", "other"] {
            home.openssl(&format!(
                "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 9 -subj /CN={authority} \
                 -keyout {authority}.key -out {authority}.pem"
            ));
        }
        let port = free_ports(2);
        let mut etcd = Self {
            home,
            port,
            process: None,
        };
        etcd.certify("server", "etcd", "ca");
        for user in ["root", "guardian", "nobody"] {
            etcd.certify(user, user, "ca");
        }
        etcd.certify("foreign", "guardian", "other");
        let peer = format!("http://127.0.0.1:{}", port + 1);
        let log = File::create(etcd.home.file("log")).unwrap();
        let process = Command::new(tool("etcd", "etcd-server"))
            .current_dir(etcd.home.path())
            .args([
                "--data-dir",
                "data",
                "--client-cert-auth",
                "--trusted-ca-file",
                "ca.pem",
            ])
            .args(["--cert-file", "server.pem", "--key-file", "server.key"])
            .args([
                "--listen-client-urls",
                &etcd.url(),
                "--advertise-client-urls",
                &etcd.url(),
            ])
            .args([
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
            ])
            .args(["--initial-cluster", &format!("default={peer}")])
            .args(["--logger", "zap", "--log-outputs", "stderr"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        etcd.process = Some(process.unwrap());
        let deadline = Instant::now() + PATIENCE;
        while !etcd.etcdctl("endpoint health") {
            assert!(Instant::now() < deadline, "etcd does not start");
        }
        for words in [
            "user add root --no-password",
            "user grant-role root root",
            "role add guardian",
            "role grant-permission guardian readwrite --prefix openhgs/",
            "user add guardian --no-password",
            "user grant-role guardian guardian",
            "auth enable",
        ] {
            assert!(etcd.etcdctl(words), "etcdctl {words}");
        }
        etcd
    }

    /// A certificate that names a user.
    fn certify(&self, file: &str, user: &str, authority: &str) {
        self.home.openssl(&format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 9 -subj /CN={user} \
             -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE \
             -CA {authority}.pem -CAkey {authority}.key -keyout {file}.key -out {file}.pem"
        ));
    }

    fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    fn etcdctl(&self, words: &str) -> bool {
        let output = Command::new(tool("etcdctl", "etcd-client"))
            .env("ETCDCTL_API", "3")
            .current_dir(self.home.path())
            .args(["--endpoints", &self.url(), "--cacert", "ca.pem"])
            .args([
                "--cert",
                "root.pem",
                "--key",
                "root.key",
                "--command-timeout",
                "2s",
            ])
            .args(words.split(' '))
            .output();
        output.unwrap().status.success()
    }

    /// The options by which a user is known.
    fn files(&self, user: &str, authority: &str) -> String {
        let at = |name: String| self.home.file(&name).display().to_string();
        format!(
            " --etcd-ca {} --etcd-certificate {} --etcd-key {}",
            at(format!("{authority}.pem")),
            at(format!("{user}.pem")),
            at(format!("{user}.key"))
        )
    }

    /// Gives a user's files to another one, as if they were renewed.
    fn replace(&self, user: &str, by: &str) {
        for ending in ["key", "pem"] {
            let octets = self.home.read(&format!("{by}.{ending}"));
            self.home.write_private(&format!("{user}.{ending}"), octets);
        }
    }
}

#[test]
fn nodes_share_an_etcd_that_runs_already_and_each_uses_its_own_certificate() {
    let etcd = ForeignEtcd::start();
    let [first, second, third] = ["n1", "n2", "n3"].map(Machine::new);
    let at = format!(" --etcd {}", etcd.url());
    // What can't be used is refused before anything is made.
    for (options, status, said) in [
        (" --etcd http://192.0.2.1:2379".to_owned(), 64, "loopback"),
        (at.clone(), 2, "has been given no certificate"),
        (
            format!("{at}{}", etcd.files("guardian", "other")),
            1,
            "is not an etcd that",
        ),
        (
            format!("{at}{}", etcd.files("foreign", "ca")),
            1,
            "does not accept the certificate",
        ),
        (
            format!("{at}{}", etcd.files("nobody", "ca")),
            1,
            "does not let this machine",
        ),
        (
            format!("{at} --etcd-prefix other{}", etcd.files("guardian", "ca")),
            1,
            "below `other/`",
        ),
    ] {
        first.init(&options).ended(status).saying(said);
        assert!(!first.home.file("guardian/state.db").exists(), "{options}");
    }
    for user in ["n1", "n2", "n3"] {
        etcd.replace(user, "guardian");
    }
    first
        .init(&format!("{at}{}", etcd.files("n1", "ca")))
        .done();
    // The keys of the cluster's authorities are sealed under the master key already.
    first
        .hgs("state rotate-master-key --yes")
        .saying("is one of a cluster's");
    let served_first = Served::start_with(&first.home, "hgs.toml");
    let alone = first.until("the first serves", |cluster| cluster["survives"] == 0);
    assert_eq!(alone["existing_etcd"]["members"][0]["leads"], true);
    assert_eq!(alone["existing_etcd"]["prefix"], "openhgs");
    assert!(
        !first.home.file("guardian/cluster/etcd").exists(),
        "it has none of its own"
    );
    third
        .init(&format!("{at}{}", etcd.files("n1", "ca")))
        .ended(1)
        .saying("another cluster has its keys below `openhgs/`");

    // The invitation leads to etcd; what each machine shows there is its own.
    let invitation = first.invitation();
    second
        .join(&invitation)
        .ended(1)
        .saying("has been given no certificate");
    let joined = |machine: &Machine, invitation: &str| {
        let files = etcd.files(machine.name, "ca");
        machine.join_with(invitation, &files).done();
        Served::start_with(&machine.home, "hgs.toml")
    };
    let served_second = joined(&second, &invitation);
    let _served_third = joined(&third, &second.invitation());
    for machine in [&first, &second, &third] {
        machine.add_host(&format!("host-of-{}", machine.name));
    }
    for machine in [&first, &second, &third] {
        for host in ["host-of-n1", "host-of-n2", "host-of-n3"] {
            machine.knows_host(host);
        }
    }
    let all = third.until("all serve", |cluster| cluster["survives"] == 2);
    assert_eq!(all["leader"], json!(null));
    third
        .hgs("cluster status")
        .done()
        .saying("below `openhgs/`");

    // The loss of a node is none to the others.
    drop(served_first);
    second.add_host("host-after-loss");
    third.knows_host("host-after-loss");
    second.hgs("cluster remove n1 --yes").done();
    third.until("two nodes are left", |cluster| {
        cluster["nodes"].as_array().unwrap().len() == 2
    });

    // Files that change are read again: first to one that may nothing, then back.
    etcd.replace("n2", "nobody");
    let deadline = Instant::now() + PATIENCE;
    while !served_second.readiness().contains("permission denied") {
        assert!(Instant::now() < deadline, "{}", served_second.readiness());
    }
    etcd.replace("n2", "guardian");
    while !served_second.readiness().contains("200 OK") {
        assert!(Instant::now() < deadline, "{}", served_second.readiness());
    }
    second.add_host("host-after-renewal");
    assert_eq!(served_second.stop().0, Some(0));
}
