//! A fabric with shielded VMs: a guardian, a host with an agent, and an owner.
#![allow(dead_code, reason = "each test file uses what it needs")]

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use hgs_vm::parts::Parts;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::common::ordinary::folder_of_programs;
use super::common::served::{Served, configure};
use super::common::{Home, Outcome};

/// How long a guest may take to say something, on a machine that is busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

/// A fabric with one guardian, one host, and an owner, who share a home here.
pub(crate) struct Fabric {
    pub(crate) home: Home,
    cache: PathBuf,
    runtime: PathBuf,
    pub(crate) served: Served,
}

/// An agent; it is killed when dropped.
pub(crate) struct Agent(Child);

impl Fabric {
    pub(crate) fn new() -> Self {
        Self::with("")
    }

    /// With more in the configuration of the guardian.
    pub(crate) fn with(configuration: &str) -> Self {
        Self::at(configuration, "run-host")
    }

    /// With the runtime folder of the host in another place than its home.
    pub(crate) fn at(configuration: &str, runtime: &str) -> Self {
        let cache = Parts::cache_folder(|name| std::env::var_os(name)).unwrap();
        Parts::fetch(&cache, &mut |_| ()).unwrap();
        let home = Home::new();
        configure(&home);
        let all = format!(
            "{}{configuration}",
            String::from_utf8(home.read("hgs.toml")).unwrap()
        );
        home.write("hgs.toml", all);
        home.write_private("passphrase", "a passphrase of ann's\n");
        home.hgs("init --config hgs.toml --name guardian.example")
            .done();
        let served = Served::start(&home);
        let fabric = Self {
            runtime: home.file(runtime),
            home,
            // `parts` is two folders below the one that XDG_CACHE_HOME names.
            cache: cache.ancestors().nth(2).unwrap().to_owned(),
            served,
        };
        let url = fabric.served.url();
        let metadata = fabric
            .served
            .get("/KeyProtection/service/metadata/2014-07/metadata.xml");
        fabric.home.write("fabric.xml", metadata);
        fabric.host(&format!("configure --attestation-url {url}/Attestation --key-protection-url {url}/KeyProtection")).done();
        fabric.host("host-key new --bits 2048").done();
        fabric.host("host-key export --out host1.pem").done();
        fabric.admin("host add host1 --host-key host1.pem").done();
        fabric.owner("guardian new ann --bits 2048").done();
        fabric
            .owner("guardian import fabric fabric.xml --dangerously-trust-unverified")
            .done();
        fabric
    }

    #[track_caller]
    pub(crate) fn admin(&self, words: &str) -> Outcome {
        let mut command = self.home.command();
        command.env("HGS_CONFIG", "hgs.toml").args(words.split(' '));
        Outcome::of(&mut command)
    }

    #[track_caller]
    pub(crate) fn owner(&self, words: &str) -> Outcome {
        let mut command = self.home.command();
        command
            .env("HGS_PASSPHRASE_FROM", "file:passphrase")
            .env("XDG_CACHE_HOME", &self.cache)
            .args(words.split(' '));
        Outcome::of(&mut command)
    }

    /// Has the owner make a VM whose guest counts on its serial port, and returns the line that only its opened disk has.
    pub(crate) fn prepare(&self, name: &str) -> String {
        self.prepare_with(name, "--direct-kernel --policy encryption-supported")
    }

    /// The same with other options.
    pub(crate) fn prepare_with(&self, name: &str, options: &str) -> String {
        let made = self.owner(&format!(
            "vm-image prepare {name} --owner ann --guardian fabric --demo {options} \
             --recovery-key-file {name}.recovery --json"
        ));
        let made = made.done().json();
        made["demo_line"].as_str().unwrap().to_owned()
    }

    pub(crate) fn host_command(&self, words: &str) -> Command {
        let mut command = Command::new(folder_of_programs().join("guarded-host"));
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.home.path())
            .env("XDG_CACHE_HOME", &self.cache)
            .env("HGS_HOST_CONFIG", self.home.file("guarded-host.toml"))
            .env("HGS_HOST_STATE", self.home.file("host"))
            .env("HGS_HOST_RUNTIME", &self.runtime)
            .current_dir(self.home.path())
            .args(words.split(' '));
        command
    }

    #[track_caller]
    pub(crate) fn host(&self, words: &str) -> Outcome {
        Outcome::of(&mut assert_cmd::Command::from_std(self.host_command(words)))
    }

    /// Starts the agent, and returns when it answers.
    pub(crate) fn agent(&self) -> Agent {
        Agent::start(self.host_command("agent"))
    }

    pub(crate) fn vm(&self, name: &str) -> Value {
        self.host(&format!("vm show {name} --json")).done().json()
    }

    /// The folder of the current generation.
    pub(crate) fn generation(&self, name: &str) -> PathBuf {
        let folder = self.home.file("host/vms").join(name);
        let pointer = std::fs::read_to_string(folder.join("current")).unwrap();
        folder.join(pointer.trim())
    }

    /// Waits until the guest has said `text`, and returns all that it said.
    pub(crate) fn until_said(&self, name: &str, text: &str) -> String {
        let mut console = self
            .host_command(&format!("vm console {name}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut output = console.stdout.take().unwrap();
        let (said, heard) = mpsc::channel();
        thread::spawn(move || {
            let mut octets = [0; 4096];
            while let Ok(read @ 1..) = output.read(&mut octets) {
                let _ = said.send(octets[..read].to_vec());
            }
        });
        let mut all = Vec::new();
        while !String::from_utf8_lossy(&all).contains(text) {
            match heard.recv_timeout(PATIENCE) {
                Ok(more) => all.extend(more),
                Err(_) => panic!(
                    "the guest did not say {text:?}: {}",
                    String::from_utf8_lossy(&all)
                ),
            }
        }
        drop(console.stdin.take());
        let _ = console.kill();
        let _ = console.wait();
        String::from_utf8_lossy(&all).into_owned()
    }
}

impl Agent {
    /// Starts it, and returns when it answers.
    pub(crate) fn start(mut command: Command) -> Self {
        let mut agent = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(agent.stderr.take().unwrap());
        let (told, listens) = mpsc::channel();
        thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                let _ = told.send(line);
            }
        });
        while !listens
            .recv_timeout(PATIENCE)
            .unwrap()
            .contains("agent listens")
        {}
        Self(agent)
    }

    pub(crate) fn end(mut self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
