//! The packages of the distribution, fetched for real: once for all tests of a machine.

use std::path::{Path, PathBuf};
use std::process::Command;

use hgs_testkit::{is_privileged, tool};
use hgs_vm::parts::{Parts, Plan, Progress};

#[test]
fn packages_are_fetched_once_and_run_without_being_installed() {
    let cache = Parts::cache_folder(|name| std::env::var_os(name)).unwrap();
    let parts = Parts::fetch(&cache, &mut |progress| eprintln!("{progress:?}")).unwrap();
    let emulator = parts.emulator().unwrap();
    assert!(emulator.version >= hgs_vm::qemu::Version::OLDEST);
    let kernel = parts.kernel().unwrap();
    assert!(kernel.modules.join("kernel").is_dir(), "{kernel:?}");
    // In the cache, or installed.
    for program in ["busybox", "cryptsetup", "swtpm"] {
        parts.program(program).unwrap();
    }
    let stub = parts
        .file("usr/lib/systemd/boot/efi/linuxx64.efi.stub")
        .unwrap();
    assert!(stub.is_file());

    // The second time neither apt nor the network is asked.
    let mut steps = 0;
    let again = Parts::fetch(&cache, &mut |_: Progress<'_>| steps += 1).unwrap();
    assert_eq!((again.root(), steps), (parts.root(), 0));
    let empty = tempfile::tempdir().unwrap();
    assert!(Parts::open(&empty.path().join("none")).unwrap().is_none());
    assert_ne!(parts.root(), Path::new("/"));
}

/// Names the cache of a process without a network.
const WITHOUT_NETWORK: &str = "OPENHGS_TEST_WITHOUT_NETWORK";

#[test]
fn a_missing_network_is_named() {
    if let Some(cache) = std::env::var_os(WITHOUT_NETWORK) {
        let error = Plan::make(&PathBuf::from(cache), &mut |_| {}).unwrap_err();
        println!("refused: {error}");
        return;
    }
    if !is_privileged("fetching packages without a network") {
        return;
    }
    let cache = tempfile::tempdir().unwrap();
    let output = Command::new(tool("unshare", "util-linux"))
        .arg("--net")
        .arg(std::env::current_exe().unwrap())
        .args(["a_missing_network_is_named", "--exact", "--nocapture"])
        .env(WITHOUT_NETWORK, cache.path().join("parts"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    let error = said.lines().find(|line| line.contains("refused: "));
    let error = error.expect(&said);
    assert!(error.contains("packages can't be found"), "{error}");
    assert!(error.contains("Failed to fetch"), "{error}");
}
