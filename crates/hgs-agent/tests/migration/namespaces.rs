//! Two hosts with networks of their own, and a wire between them that is pulled: nothing says that the other end is gone.
//! QEMU runs as a user without rights there.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use hgs_agent::{MachineState, Migrated, Request};
use hgs_testkit::{is_privileged, tool};
use hgs_vm::qemu::process::User;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::runtime::{Builder, Runtime};

use crate::world::{Fabric, LOAD, PATIENCE, deliver, emulator_for_all, import, message};

/// A network, and what is done in it.
struct Site {
    /// The network lasts as long as this process does.
    keeper: Child,
    runtime: Runtime,
}

impl Site {
    fn new() -> Self {
        let mut keeper = Command::new(tool("unshare", "util-linux"))
            .args(["--net", "sh", "-c", "echo ready; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = keeper.stdout.as_mut().unwrap();
        said.read_exact(&mut [0; 6]).unwrap();
        let network = File::open(format!("/proc/{}/ns/net", keeper.id())).unwrap();
        // Programs that are started by these threads are in the network, too.
        let enter = move || {
            let kind = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(network.as_fd(), kind).unwrap();
        };
        let mut builder = Builder::new_multi_thread();
        let builder = builder.enable_all().worker_threads(2);
        let site = Self {
            keeper,
            runtime: builder.on_thread_start(enter).build().unwrap(),
        };
        ip(site.keeper.id(), "link set lo up");
        site
    }

    fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        let done = self.runtime.spawn(work);
        self.runtime.block_on(done).unwrap()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

/// Runs `ip` in the network that a process keeps.
fn ip(keeper: u32, arguments: &str) {
    let status = Command::new(tool("nsenter", "util-linux"))
        .arg(format!("--net=/proc/{keeper}/ns/net"))
        .arg(tool("ip", "iproute2"))
        .args(arguments.split_whitespace())
        .status();
    assert!(status.unwrap().success(), "ip {arguments}");
}

/// What only root can do.
const NETWORKS: &str = "a migration between networks";

#[test]
fn a_wire_that_is_pulled_under_load_leaves_it_where_it_was() {
    if !is_privileged(NETWORKS) {
        return;
    }
    let (near, far) = (Site::new(), Site::new());
    let wire = format!(
        "link add wire type veth peer name wire netns {}",
        far.keeper.id()
    );
    ip(near.keeper.id(), &wire);
    for (site, address) in [(&near, "10.77.0.1/24"), (&far, "10.77.0.2/24")] {
        ip(site.keeper.id(), &format!("addr add {address} dev wire"));
        ip(site.keeper.id(), "link set wire up");
    }
    let fabric = Arc::new(near.run(Fabric::new()));
    let shared = tempfile::tempdir().unwrap();
    let emulator = emulator_for_all(&fabric.parts, shared.path());
    let nobody = Some(User {
        uid: 65534,
        gid: 65534,
    });
    let there = {
        let (fabric, emulator) = (Arc::clone(&fabric), emulator.clone());
        far.run(async move {
            let endpoints = fabric.guardian.listen_here_too().await;
            let address = "10.77.0.2:0".parse().unwrap();
            fabric.host_at(endpoints, address, nobody, emulator).await
        })
    };
    let delivered = deliver(&fabric.parts, "raw", LOAD);
    let request = Request::Migrate {
        name: "web1".to_owned(),
        to: there.address.to_string(),
    };
    let (folder, again, keeper) = (
        delivered.path().to_owned(),
        request.clone(),
        near.keeper.id(),
    );
    let here = near.run(async move {
        let endpoints = fabric.guardian.endpoints();
        let address = "10.77.0.1:0".parse().unwrap();
        let here = fabric.host_at(endpoints, address, nobody, emulator).await;
        import(&here, &folder).await;
        here.start_vm().await;
        let before = here.count().await.0;
        let pulling = move |what: &str| {
            if what.starts_with("moving the memory") {
                ip(keeper, "link set wire down");
            }
        };
        let moved = here.ask_and_hear::<Migrated>(request, pulling).await;
        let said = message(moved);
        let status = here.status().await;
        assert_eq!(status.state, MachineState::Running, "{said}");
        assert!(here.count().await.0 > before, "{said}");
        here
    });
    // The other end hears nothing any more, and gives up.
    let there = far.run(async move {
        let begun = Instant::now();
        while !there.left().is_empty() || !there.names().await.is_empty() {
            assert!(begun.elapsed() < PATIENCE, "{:?}", there.left());
            tokio::task::yield_now().await;
        }
        there
    });
    ip(keeper, "link set wire up");
    let before = near.run(async move {
        let before = here.count().await.0;
        here.ask::<Migrated>(again).await.unwrap();
        assert!(here.left().is_empty(), "{:?}", here.left());
        before
    });
    far.run(async move {
        assert!(there.count().await.0 > before);
        there.end_vm().await;
    });
}
