//! A shielded VM from its owner's hands to its end on a guarded host, through the programs.

mod common;
#[path = "common/fabric.rs"]
mod fabric;

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use common::{Home, Outcome};
use fabric::{Fabric, PATIENCE};
use hgs_vm::parts::Parts;
use rustix::process::Signal;
use serde_json::Value;

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

/// A host that is its VM's owner, for trying out: the keys that made it are nowhere afterwards.
#[test]
fn a_demonstration_is_made_on_its_host() {
    let fabric = Fabric::new();
    let agent = fabric.agent();
    fabric
        .host(&format!(
            "vm new trial --demo --thumbprint {}",
            "0".repeat(64)
        ))
        .ended(2);
    fabric.host("vm new trial").ended(64);
    assert_eq!(
        fabric
            .host("vm list --json")
            .done()
            .json()
            .as_array()
            .unwrap()
            .len(),
        0
    );
    let made = fabric.host("vm new trial --demo --json").done().json();
    let line = made["line"].as_str().unwrap().to_owned();
    fabric
        .host("vm new trial --demo")
        .ended(2)
        .saying("has a VM named trial");
    let left = std::fs::read_dir(fabric.home.file("host/new-vms")).unwrap();
    assert_eq!(left.count(), 0);
    fabric.host("vm start trial").done();
    let said = fabric.until_said("trial", "heartbeat 0");
    assert!(said.contains(&line), "{said}");
    fabric.host("vm stop trial --force").done();
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
