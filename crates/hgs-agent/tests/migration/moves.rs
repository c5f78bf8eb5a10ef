//! A running VM goes to another host and back, and to no host that has no right to it.

use std::fs;
use std::net::SocketAddr;
use std::time::Instant;

use hgs_agent::MachineState;

use crate::world::{Fabric, Guarded, LOAD, deliver, import, message};

#[tokio::test(flavor = "multi_thread")]
async fn a_running_vm_moves_on_and_back_and_to_nobody_else() {
    let fabric = Fabric::new().await;
    let mut here = fabric.host(true).await;
    let mut there = fabric.host(true).await;
    let delivered = deliver(&fabric.parts, "raw", LOAD);
    import(&here, delivered.path()).await;
    here.start_vm().await;
    let (before, pcr) = here.count().await;
    assert_ne!(pcr, "00000000");

    // Each refusal leaves it running, and nothing elsewhere.
    let stranger = fabric.host(false).await;
    let revoked = fabric.host(true).await;
    // It has a certificate that is valid still.
    let _ = revoked.host.host.signing_certificates().await.unwrap();
    fabric.guardian.revoke(&revoked.host);
    let namesake = fabric.host(true).await;
    import(&namesake, delivered.path()).await;
    let nobody: SocketAddr = "127.0.0.1:9".parse().unwrap();
    for (to, why) in [
        (stranger.address, "not registered"),
        (revoked.address, "revoked"),
        (namesake.address, "has a VM named web1"),
        (nobody, "can't be reached"),
    ] {
        let said = message(here.migrate(to).await);
        assert!(said.contains(why), "{said}");
        let status = here.status().await;
        assert_eq!(status.state, MachineState::Running, "{status:?}");
    }
    assert_eq!(namesake.names().await, ["web1"]);
    for host in [&stranger, &revoked] {
        assert!(host.left().is_empty(), "{:?}", host.left());
    }

    let begun = Instant::now();
    here.migrate(there.address).await.unwrap();
    eprintln!("moved in {:?}", begun.elapsed());
    assert!(here.names().await.is_empty());
    assert!(here.left().is_empty(), "{:?}", here.left());
    let status = there.status().await;
    assert_eq!(status.state, MachineState::Running, "{status:?}");
    assert_eq!(status.policy.as_deref(), Some("encryption-supported"));
    let (moved, same) = there.count().await;
    assert!(moved > before && moved < before + 1000, "{before} {moved}");
    assert_eq!(same, pcr);

    // Its agent ends, and the next one moves it back.
    there.stop_agent().await;
    there.start_agent(&fabric).await;
    assert_eq!(there.status().await.state, MachineState::Running);
    there.migrate(here.address).await.unwrap();
    let (back, same) = here.count().await;
    assert!(back > moved, "{moved} {back}");
    assert_eq!(same, pcr);
    assert!(there.left().is_empty(), "{:?}", there.left());
    let kept = |host: &Guarded| {
        fs::read_dir(host.folders().host.state.join("migrations"))
            .unwrap()
            .count()
    };
    assert_eq!((kept(&here), kept(&there)), (0, 0));

    // What it wrote is on the disk that came with it.
    let ended = here.end_vm().await;
    assert!(ended.warnings.is_empty(), "{ended:?}");
    here.start_vm().await;
    let disk = here.hears("GUEST-DISK").await;
    let count = disk.strip_prefix("GUEST-DISK COUNT-").unwrap();
    assert!(count.parse::<u64>().unwrap() >= back, "{disk} {back}");
    here.end_vm().await;
    here.stop_agent().await;
}
