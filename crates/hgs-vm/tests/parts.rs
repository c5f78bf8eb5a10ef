//! The packages of the distribution, fetched for real: once for all tests of a machine.

use std::path::Path;

use hgs_vm::parts::{Parts, Progress};

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
