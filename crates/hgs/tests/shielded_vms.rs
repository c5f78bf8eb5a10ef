//! A shielded VM from its owner's hands to its end on a guarded host, through the programs.

mod common;

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use common::ordinary::folder_of_programs;
use common::served::{Served, configure};
use common::{Home, Outcome};
use hgs_vm::parts::Parts;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// How long a guest may take to say something, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(300);

/// A fabric with one guardian, one host, and an owner, who share a home here.
struct Fabric {
    home: Home,
    cache: PathBuf,
    served: Served,
}

/// An agent; it is killed when dropped.
struct Agent(Child);

impl Fabric {
    fn new() -> Self {
        Self::with("")
    }

    /// With more in the configuration of the guardian.
    fn with(configuration: &str) -> Self {
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
    fn admin(&self, words: &str) -> Outcome {
        let mut command = self.home.command();
        command.env("HGS_CONFIG", "hgs.toml").args(words.split(' '));
        Outcome::of(&mut command)
    }

    #[track_caller]
    fn owner(&self, words: &str) -> Outcome {
        let mut command = self.home.command();
        command
            .env("HGS_PASSPHRASE_FROM", "file:passphrase")
            .env("XDG_CACHE_HOME", &self.cache)
            .args(words.split(' '));
        Outcome::of(&mut command)
    }

    /// Has the owner make a VM whose guest counts on its serial port, and returns the line that only its opened disk has.
    fn prepare(&self, name: &str) -> String {
        let made = self.owner(&format!(
            "vm-image prepare {name} --owner ann --guardian fabric --demo --direct-kernel \
             --policy encryption-supported --recovery-key-file {name}.recovery --json"
        ));
        let made = made.done().json();
        made["demo_line"].as_str().unwrap().to_owned()
    }

    fn host_command(&self, words: &str) -> Command {
        let mut command = Command::new(folder_of_programs().join("guarded-host"));
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.home.path())
            .env("XDG_CACHE_HOME", &self.cache)
            .env("HGS_HOST_CONFIG", self.home.file("guarded-host.toml"))
            .env("HGS_HOST_STATE", self.home.file("host"))
            .env("HGS_HOST_RUNTIME", self.home.file("run-host"))
            .current_dir(self.home.path())
            .args(words.split(' '));
        command
    }

    #[track_caller]
    fn host(&self, words: &str) -> Outcome {
        Outcome::of(&mut assert_cmd::Command::from_std(self.host_command(words)))
    }

    /// Starts the agent, and returns when it answers.
    fn agent(&self) -> Agent {
        let mut agent = self
            .host_command("agent")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
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
        Agent(agent)
    }

    fn vm(&self, name: &str) -> Value {
        self.host(&format!("vm show {name} --json")).done().json()
    }

    /// The folder of the current generation.
    fn generation(&self, name: &str) -> PathBuf {
        let folder = self.home.file("host/vms").join(name);
        let pointer = std::fs::read_to_string(folder.join("current")).unwrap();
        folder.join(pointer.trim())
    }

    /// Waits until the guest has said `text`, and returns all that it said.
    fn until_said(&self, name: &str, text: &str) -> String {
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
    fn end(mut self, signal: Signal) {
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

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp")
        .arg("-a")
        .arg(from)
        .arg(to)
        .status()
        .unwrap();
    assert!(copied.success());
}

#[test]
fn the_quickstart_runs_real_vms_and_refuses_stolen_ones() {
    let home = Home::new();
    let cache = Parts::cache_folder(|name| std::env::var_os(name)).unwrap();
    let mut command = home.command();
    command
        .env("XDG_CACHE_HOME", cache.ancestors().nth(2).unwrap())
        .args(["quickstart", "--vm", "--json"]);
    let told = Outcome::of(&mut command).done();
    let steps: Vec<Value> = (told.out.lines())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(steps.iter().all(|step| step["ok"] == true), "{}", told.out);
    let detail = |name: &str| {
        let mut found = steps.iter().filter(|step| step["step"] == name);
        found.next().unwrap()["detail"].as_str().unwrap().to_owned()
    };
    assert!(detail("disk-opened").contains("OPENHGS-DEMO "));
    assert_eq!(detail("disk-opened"), detail("disk-opened-after-move"));
    assert!(detail("stolen-disk-stays-closed").contains("does not open the disk"));
    assert!(detail("unattested-host-refused").contains("host-not-registered"));
    assert!(detail("unattested-host-gets-no-running-vm").contains("host-not-registered"));
    // It did not start anew on its way.
    let heartbeat = detail("guest-goes-on");
    let beats: u32 = (heartbeat.split(' ').skip_while(|word| *word != "heartbeat"))
        .nth(1)
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("{heartbeat}"));
    assert!(beats > 1, "{heartbeat}");
    assert!(steps.len() >= 20, "{}", told.out);
}

#[test]
fn a_vm_is_made_by_its_owner_runs_on_a_guarded_host_and_nowhere_else() {
    let fabric = Fabric::new();
    let line = fabric.prepare("web1");
    let agent = fabric.agent();
    fabric.host("vm import web1").done();
    assert_eq!(fabric.vm("web1")["state"], "stopped");
    // The state is not the one that is imported once more, and names are taken once.
    fabric.host("vm import web1").ended(2);

    // The owner's line is on the disk, which only the VM's own TPM opens.
    fabric.host("vm start web1").done();
    let said = fabric.until_said("web1", "heartbeat 2");
    assert!(said.contains(&line), "{said}");
    assert_eq!(fabric.vm("web1")["state"], "running");
    assert!(fabric.generation("web1").ends_with("gen-2"));
    fabric.host("vm start web1").ended(2);
    fabric.host("vm remove web1 --yes").ended(2);
    let copied = fabric.home.file("copy");
    copy(&fabric.home.file("host/vms/web1"), &copied);

    // The VM outlives its agent, and the next one takes it over.
    agent.end(Signal::KILL);
    let agent = fabric.agent();
    assert_eq!(fabric.vm("web1")["state"], "running");
    fabric.until_said("web1", "heartbeat");
    fabric.host("vm stop web1").done();
    assert_eq!(fabric.vm("web1")["state"], "stopped");
    // A clean stop renews the key once more.
    assert!(fabric.generation("web1").ends_with("gen-3"));

    // A copy from while it ran is not what it stopped with.
    let vm = fabric.home.file("host/vms/web1");
    let kept = fabric.home.file("kept");
    std::fs::rename(&vm, &kept).unwrap();
    copy(&copied, &vm);
    fabric
        .host("vm start web1")
        .ended(2)
        .saying("generation 3")
        .saying("--accept-other-state");
    std::fs::remove_dir_all(&vm).unwrap();
    std::fs::rename(&kept, &vm).unwrap();

    // Without a guardian's release there is no VM, and one that runs follows its policy: this one pauses.
    let description = vm.join("vm.toml");
    let text = std::fs::read_to_string(&description).unwrap();
    fabric.home.write_private(
        "host/vms/web1/vm.toml",
        format!("unhealthy_host = \"pause\"\n{text}"),
    );
    fabric.host("vm import web1 --name web2").done();
    fabric.host("vm start web1").done();
    fabric.until_said("web1", "heartbeat");
    fabric.admin("host revoke host1 --yes").done();
    fabric.host("vm start web2").ended(2).saying("revoked");
    assert_eq!(fabric.vm("web2")["state"], "stopped");
    assert!(fabric.generation("web2").ends_with("gen-1"));
    let begun = Instant::now();
    while fabric.vm("web1")["state"] != "paused" {
        assert!(begun.elapsed() < PATIENCE, "{}", fabric.vm("web1"));
    }
    let event = fabric.vm("web1")["last_event"].as_str().unwrap().to_owned();
    assert!(event.contains("revoked"), "{event}");
    // The guest hears that it has to end only when its processors go on; the host's health does not keep it from ending.
    fabric.host("vm stop web1").done();
    agent.end(Signal::TERM);
}

/// An exported folder and the VM that it was copied from have one protector.
#[test]
fn of_an_exported_vm_and_its_original_the_one_that_runs_goes_on() {
    let fabric = Fabric::with("[key_protection]\nancestors = \"refuse\"\n");
    fabric.prepare("web1");
    let agent = fabric.agent();
    fabric.host("vm import web1").done();
    fabric.host("vm start web1").done();
    fabric
        .host("vm export web1 out")
        .ended(2)
        .saying("web1 runs");
    assert!(!fabric.home.file("out").exists());
    fabric.host("vm stop web1 --force").done();
    fabric
        .host("vm export web1 out")
        .done()
        .saying("This host has it too");
    fabric.host("vm import out --name moved").done();
    fabric.host("vm start moved").done();
    fabric.host("vm stop moved --force").done();

    // Its end used the next protector of the copy, so the original is an older state now. Only the guardian knows that.
    fabric.host("vm trace web1").done();
    fabric
        .host("vm start web1")
        .ended(2)
        .saying("a later protector");
    fabric
        .host("vm trace web1")
        .ended(1)
        .saying("the last attempt to start it")
        .saying("a later protector");
    // So is a folder that was put back, which the host's own record speaks against as well.
    fabric.host("vm trace moved").done();
    let moved = fabric.home.file("host/vms/moved");
    std::fs::remove_dir_all(&moved).unwrap();
    copy(&fabric.home.file("out"), &moved);
    fabric
        .host("vm trace moved")
        .ended(1)
        .saying("the record of where it stopped")
        .saying("--accept-other-state");
    fabric
        .host("vm start moved")
        .ended(2)
        .saying("--accept-other-state");
    fabric
        .host("vm start moved --accept-other-state")
        .ended(2)
        .saying("a later protector");
    assert_eq!(fabric.vm("moved")["state"], "stopped");
    agent.end(Signal::TERM);
}

/// The owner makes a clone from what the host hands out. It is a VM of its own: whichever of the two runs, the other is no older state.
#[test]
fn a_clone_has_a_lineage_of_its_own() {
    let fabric = Fabric::with("[key_protection]\nancestors = \"refuse\"\n");
    let line = fabric.prepare("web1");
    let agent = fabric.agent();
    fabric.host("vm import web1").done();
    let told = fabric.host("vm clone web1 web2 --to out --json").done();
    let told = told.json();
    let command = told["owner_runs"].as_str().unwrap();
    let command = command
        .replace("OWNER", "ann")
        .replace("GUARDIAN", "fabric");
    fabric.owner(command.strip_prefix("hgs ").unwrap()).done();
    fabric.host("vm import web2").done();
    fabric.host("vm start web2").done();
    let said = fabric.until_said("web2", "heartbeat 0");
    assert!(said.contains(&line), "{said}");
    fabric.host("vm stop web2 --force").done();
    fabric.host("vm start web1").done();
    fabric.host("vm stop web1 --force").done();
    fabric.host("vm start web2").done();
    assert_ne!(fabric.vm("web1")["id"], fabric.vm("web2")["id"]);
    // vm.toml can be edited by whoever has the host; what the owner sealed can't.
    fabric.host("vm stop web2 --force").done();
    let own = "host/vms/web2/vm.toml";
    let text = String::from_utf8(fabric.home.read(own)).unwrap();
    let id = |name: &str| fabric.vm(name)["id"].as_str().unwrap().to_owned();
    fabric
        .home
        .write_private(own, text.replace(&id("web2"), &id("web1")));
    fabric
        .host("vm start web2")
        .ended(2)
        .saying("the protection is that of VM");
    agent.end(Signal::TERM);
}

#[test]
fn a_vm_that_ends_while_its_host_is_refused_keeps_its_key_and_says_so() {
    let fabric = Fabric::new();
    fabric.prepare("web1");
    let agent = fabric.agent();
    fabric.host("vm import web1").done();
    fabric.host("vm start web1").done();
    fabric.admin("host revoke host1 --yes").done();
    // It can be ended; its state keeps its key, and that is said.
    let ended = fabric.host("vm stop web1 --force --json").done().json();
    assert!(
        ended["warnings"][0]
            .as_str()
            .unwrap()
            .contains("keeps its key"),
        "{ended}"
    );
    agent.end(Signal::TERM);
}
