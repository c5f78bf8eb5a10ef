//! What systemd hears from `guarded-host agent`: readiness, the watchdog, the stop.

use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::Folder;

/// An agent in local mode, which asks no guardian, as a service manager starts it that hears what it says.
fn agent(folder: &Folder) -> Command {
    let mut command = folder.command("agent --runtime run");
    command
        .env("NOTIFY_SOCKET", folder.path("notify"))
        .env("WATCHDOG_USEC", "30000")
        .stderr(Stdio::null());
    command
}

/// An agent that a test leaves behind, whatever came of it, is ended.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn next(manager: &UnixDatagram) -> String {
    let mut message = [0; 256];
    let length = manager.recv(&mut message).unwrap();
    String::from_utf8_lossy(&message[..length])
        .trim_end()
        .to_owned()
}

#[test]
fn systemd_hears_that_the_agent_listens_works_and_stops() {
    let folder = Folder::new();
    let manager = UnixDatagram::bind(folder.path("notify")).unwrap();
    // A manager that is told nothing fails by this, and does not wait for ever.
    let for_ever = Some(Duration::from_secs(60));
    manager.set_read_timeout(for_ever).unwrap();
    let mut running = Running(agent(&folder).spawn().unwrap());

    assert_eq!(next(&manager), "READY=1");
    folder.done("vm --runtime run list");
    assert_eq!(next(&manager), "WATCHDOG=1");
    assert_eq!(next(&manager), "WATCHDOG=1");

    // A second one has nothing to say to it.
    let second = agent(&folder).output().unwrap();
    assert!(!second.status.success());
    kill_process(Pid::from_child(&running.0), Signal::TERM).unwrap();
    let stop = std::iter::repeat_with(|| next(&manager)).find(|said| said != "WATCHDOG=1");
    assert_eq!(stop.unwrap(), "STOPPING=1");
    assert!(running.0.wait().unwrap().success());
}
