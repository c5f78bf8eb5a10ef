//! What breaks on the way leaves the VM running where it was; what breaks when it changes hands leaves one of it, wherever.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use hgs_agent::{MachineState, MachineStatus, Migrated, Request};
use tokio::sync::mpsc;

use crate::proxy::Proxy;
use crate::world::{Fabric, Guarded, PATIENCE, deliver, import, message};

fn migrate(to: &Proxy) -> Request {
    Request::Migrate {
        name: "web1".to_owned(),
        to: to.address.to_string(),
    }
}

/// Processes of a program that have a file open, or work in a folder that their arguments name.
fn processes(program: &str, of: &Path) -> Vec<u32> {
    let of = of.to_str().unwrap();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(id) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let exe = fs::read_link(entry.path().join("exe")).unwrap_or_default();
        if !exe.to_string_lossy().contains(program) {
            continue;
        }
        let arguments = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let names = String::from_utf8_lossy(&arguments).contains(of);
        let mut files = fs::read_dir(entry.path().join("fd")).into_iter().flatten();
        let opens = files.any(|file| {
            let target = file.and_then(|file| fs::read_link(file.path()));
            target.is_ok_and(|target| target.starts_with(of))
        });
        if names || opens {
            found.push(id);
        }
    }
    found
}

fn kill(processes: &[u32]) {
    assert!(!processes.is_empty());
    for process in processes {
        let status = Command::new("kill")
            .args(["-9", &process.to_string()])
            .status();
        assert!(status.unwrap().success());
    }
}

/// Asks until it is so.
async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}");
        tokio::task::yield_now().await;
    }
}

async fn is_running(host: &Guarded) -> Option<()> {
    (host.status().await.state == MachineState::Running).then_some(())
}

/// Nothing of a VM is there, and no process works for one.
async fn has_nothing(host: &Guarded) {
    let root = host.folders().runtime.with_file_name("");
    until("something is left", async || {
        let idle = ["qemu", "swtpm"]
            .iter()
            .all(|program| processes(program, &root).is_empty());
        (host.left().is_empty() && idle && host.names().await.is_empty()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_breaks_one_host_has_the_vm_and_it_goes_on() {
    let fabric = Fabric::new().await;
    let mut here = fabric.host(true).await;
    let mut there = fabric.host(true).await;
    let proxy = Proxy::new(there.address).await;
    let delivered = deliver(&fabric.parts, "qcow2", "");
    import(&here, delivered.path()).await;
    here.start_vm().await;
    let mut count = here.count().await.0;

    // The wire is cut.
    for step in ["sending initrd", "copying the disk", "moving the memory"] {
        let handle = proxy.handle();
        let cut = move |what: &str| {
            if what.starts_with(step) {
                handle.cut();
            }
        };
        let moved = here.ask_and_hear::<Migrated>(migrate(&proxy), cut).await;
        let said = message(moved);
        proxy.mend();
        is_running(&here)
            .await
            .unwrap_or_else(|| panic!("{step}: {said}"));
        has_nothing(&there).await;
        let now = here.count().await.0;
        assert!(now > count, "{step}: {said}");
        count = now;
    }

    // A process of the destination is killed.
    for program in ["swtpm", "qemu"] {
        let root = there.folders().runtime.with_file_name("");
        let killing = move |what: &str| {
            if what == "copying the disk: 100 %" {
                kill(&processes(program, &root));
            }
        };
        let moved = here
            .ask_and_hear::<Migrated>(migrate(&proxy), killing)
            .await;
        let said = message(moved);
        is_running(&here)
            .await
            .unwrap_or_else(|| panic!("{program}: {said}"));
        has_nothing(&there).await;
        let now = here.count().await.0;
        assert!(now > count, "{program}: {said}");
        count = now;
    }

    // Its agent ends, and its processes stay until the next one comes.
    let (told, mut steps) = mpsc::unbounded_channel();
    let hearing = move |what: &str| drop(told.send(what.to_owned()));
    let moving = here.ask_and_hear::<Migrated>(migrate(&proxy), hearing);
    let ending = async {
        while steps.recv().await.unwrap() != "copying the disk: 100 %" {}
        there.stop_agent().await;
    };
    let (moved, ()) = tokio::join!(moving, ending);
    let said = message(moved);
    is_running(&here).await.unwrap_or_else(|| panic!("{said}"));
    there.start_agent(&fabric).await;
    proxy.redirect(there.address);
    has_nothing(&there).await;
    let now = here.count().await.0;
    assert!(now > count, "{said}");

    // The word to run it is lost: it is not known whether it was heard.
    let said = lose_the_last_word(&here, &there, &proxy, Lost::Word).await;
    assert!(said.contains("it is not known"), "{said}");
    let status = here.status().await;
    assert_eq!(status.state, MachineState::Migrating, "{status:?}");
    for request in [
        Request::Start {
            name: "web1".to_owned(),
            accept_other_state: true,
            previous_generation: false,
        },
        Request::Stop {
            name: "web1".to_owned(),
            force: true,
        },
        Request::Remove {
            name: "web1".to_owned(),
        },
        migrate(&proxy),
    ] {
        let said = message(here.ask::<MachineStatus>(request).await);
        assert!(said.contains("is on its way"), "{said}");
    }
    has_nothing(&there).await;
    // Its operator says that the other host is gone.
    let name = "web1".to_owned();
    let reclaimed = here.ask::<MachineStatus>(Request::Reclaim { name }).await;
    assert_eq!(reclaimed.unwrap().state, MachineState::Running);
    let now = here.count().await.0;
    // Or this host learns it.
    proxy.mend();
    let said = lose_the_last_word(&here, &there, &proxy, Lost::Word).await;
    assert!(said.contains("it is not known"), "{said}");
    proxy.mend();
    until("the destination has not discarded it", async || {
        is_running(&here).await
    })
    .await;
    assert!(here.count().await.0 > now);
    let name = "web1".to_owned();
    let said = message(here.ask::<MachineStatus>(Request::Reclaim { name }).await);
    assert!(said.contains("not waiting"), "{said}");

    // The word is heard, and the answer lost. The agent ends meanwhile.
    let said = lose_the_last_word(&here, &there, &proxy, Lost::Answer).await;
    assert!(said.contains("it is not known"), "{said}");
    here.stop_agent().await;
    here.start_agent(&fabric).await;
    let status = here.status().await;
    assert_eq!(status.state, MachineState::Migrating, "{status:?}");
    proxy.mend();
    has_nothing(&here).await;
    is_running(&there).await.unwrap();
    assert!(there.count().await.0 > now);
    there.end_vm().await;
}

/// What does not get to the other side.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lost {
    Word,
    Answer,
}

/// Cuts the wire in the moment in which the VM changes hands, and leaves it so.
async fn lose_the_last_word(here: &Guarded, there: &Guarded, proxy: &Proxy, lost: Lost) -> String {
    let (told, mut steps) = mpsc::unbounded_channel();
    let handle = proxy.handle();
    let hearing = move |what: &str| {
        if what.starts_with("moving the memory") {
            handle.late(true);
        }
        if what == "the destination takes over" {
            let _ = told.send(());
        }
    };
    let moving = here.ask_and_hear::<Migrated>(migrate(proxy), hearing);
    let cutting = async {
        if steps.recv().await.is_none() {
            return;
        }
        if lost == Lost::Answer {
            until("it does not run there", async || is_running(there).await).await;
        }
        proxy.cut();
        proxy.late(false);
    };
    let (moved, ()) = tokio::join!(moving, cutting);
    message(moved)
}
