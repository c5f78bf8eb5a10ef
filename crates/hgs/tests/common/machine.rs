//! A machine that is a node of a cluster, or is about to be.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::served::Served;
use super::{Home, Outcome};

/// How long a cluster may take to become what it should. Each look runs a program.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// A machine: a home of its own, and the address of its cluster listener.
pub(crate) struct Machine {
    pub(crate) home: Home,
    pub(crate) name: &'static str,
    pub(crate) address: String,
}

/// A port that is free, as are the three below.
pub(crate) fn free_port() -> u16 {
    hgs_testkit::free_ports(4) + 3
}

impl Machine {
    pub(crate) fn new(name: &'static str) -> Self {
        let home = Home::new();
        let folder = home.path().display();
        let configuration = format!(
            "[server]\nname = \"guardian\"\nstate = \"{folder}/guardian\"\n\
             [listen.http]\naddress = \"127.0.0.1:0\"\n\
             [listen.metrics]\naddress = \"127.0.0.1:0\"\n\
             [listen.admin]\nsocket = \"{folder}/run/admin.sock\"\n"
        );
        home.write("hgs.toml", configuration);
        Self {
            home,
            name,
            address: format!("127.0.0.1:{}", free_port()),
        }
    }

    #[track_caller]
    pub(crate) fn hgs(&self, words: &str) -> Outcome {
        self.home.hgs(&format!("{words} --config hgs.toml"))
    }

    /// Makes it the first node of a cluster.
    #[track_caller]
    pub(crate) fn init(&self, options: &str) -> Outcome {
        let Self { name, address, .. } = self;
        self.hgs(&format!(
            "init --bits 2048 --cluster {address} --node {name}{options}"
        ))
    }

    pub(crate) fn found(&self) -> Served {
        self.init("").done();
        Served::start_with(&self.home, "hgs.toml")
    }

    #[track_caller]
    pub(crate) fn invitation(&self) -> String {
        let invited = self.hgs("cluster invite --json").done().json();
        invited["invitation"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    pub(crate) fn join(&self, invitation: &str) -> Outcome {
        self.join_with(invitation, "")
    }

    #[track_caller]
    pub(crate) fn join_with(&self, invitation: &str, options: &str) -> Outcome {
        let Self { name, address, .. } = self;
        self.hgs(&format!(
            "cluster join {invitation} --address {address} --node {name}{options}"
        ))
    }

    /// Joins by an invitation of `other`, serves, and waits for its vote.
    pub(crate) fn join_by(&self, other: &Self) -> Served {
        self.join(&other.invitation()).done();
        let served = Served::start_with(&self.home, "hgs.toml");
        self.until("it has its vote", |cluster| {
            let nodes = cluster["nodes"].as_array().unwrap();
            nodes
                .iter()
                .all(|node| node["votes"] == true && node["reachable"] == true)
        });
        served
    }

    /// Asks how the cluster stands until it is so.
    #[track_caller]
    pub(crate) fn until(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        self.asked("cluster status --json", what, is_so)
    }

    /// Diagnoses it until the cluster is found so: under load, nodes lose their leader for a moment.
    #[track_caller]
    pub(crate) fn traced(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        self.asked("trace --json", what, is_so)
    }

    #[track_caller]
    fn asked(&self, words: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let outcome = self.hgs(words);
            if !outcome.out.is_empty() && is_so(&outcome.json()) {
                return outcome.json();
            }
            assert!(Instant::now() < deadline, "{what}: {outcome:?}");
        }
    }

    /// That this node records, and knows what other nodes have recorded.
    #[track_caller]
    pub(crate) fn knows_host(&self, name: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.hgs("host list").done().out.contains(name) {
            assert!(
                Instant::now() < deadline,
                "{} does not know {name}",
                self.name
            );
        }
    }

    #[track_caller]
    pub(crate) fn add_host(&self, name: &str) {
        self.home.make_host_key(name);
        self.hgs(&format!("host add {name} --host-key {name}.pem"))
            .done();
    }
}
