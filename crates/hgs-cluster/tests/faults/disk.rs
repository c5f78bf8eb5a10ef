//! Small disks, which can be full, and octets that a disk has lost.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::process::Command;

use hgs_testkit::tool;

/// What fills a disk.
const FILLER: &str = "filler";

/// Puts a folder that nobody uses now on a disk of its own, in the mount namespace of this test.
pub(crate) fn put_on_disk(folder: &Path, megabytes: u32) {
    let disk = folder.with_extension("disk");
    fs::create_dir(&disk).unwrap();
    let size = format!("size={megabytes}m,mode=700");
    let run = |program: &str, package: &str, arguments: &[&Path]| {
        let status = Command::new(tool(program, package))
            .args(arguments)
            .status();
        assert!(status.unwrap().success(), "{program} {arguments:?}");
    };
    let words = ["-t", "tmpfs", "-o", &size, "tmpfs"].map(Path::new);
    run("mount", "mount", &[&words[..], &[&disk]].concat());
    run(
        "cp",
        "coreutils",
        &["-a".as_ref(), &folder.join("."), &disk],
    );
    run("mount", "mount", &["--bind".as_ref(), &disk, folder]);
}

/// Leaves no room on the disk of a folder.
pub(crate) fn fill(folder: &Path) {
    let mut file = File::create(folder.join(FILLER)).unwrap();
    for octets in [1 << 20, 4096, 1] {
        let octets = vec![0xf1; octets];
        let error = loop {
            if let Err(error) = file.write_all(&octets) {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
    }
}

pub(crate) fn make_room(folder: &Path) {
    fs::remove_file(folder.join(FILLER)).unwrap();
}

/// Flips an octet in the middle of what was written last to a log of etcd.
pub(crate) fn damage_log(folder: &Path) {
    let logs = fs::read_dir(folder.join("member/wal")).unwrap();
    let logs = logs.map(|entry| entry.unwrap().path());
    let newest = logs
        .filter(|path| path.extension().is_some_and(|extension| extension == "wal"))
        .max()
        .unwrap();
    let mut octets = fs::read(&newest).unwrap();
    // The rest of the file is kept free.
    let end = octets.iter().rposition(|octet| *octet != 0).unwrap();
    octets[end / 2] ^= 1;
    fs::write(newest, octets).unwrap();
}
