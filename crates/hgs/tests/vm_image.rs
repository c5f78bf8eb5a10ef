//! `hgs vm-image`: a VM is made whole or not at all, and its disk is sealed anew with the recovery key alone.

mod common;

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use common::{Home, Outcome};

/// The program with the passphrase, and the cache of packages that all tests of this machine share.
#[track_caller]
fn unlocked(home: &Home, words: &str) -> Outcome {
    let cache: OsString = std::env::var_os("XDG_CACHE_HOME").unwrap_or_else(|| {
        PathBuf::from(std::env::var_os("HOME").unwrap())
            .join(".cache")
            .into()
    });
    let mut command = home.command();
    command
        .env("HGS_PASSPHRASE_FROM", "file:passphrase")
        .env("XDG_CACHE_HOME", cache);
    Outcome::of(command.args(words.split(' ')))
}

fn names(home: &Home, folder: &str) -> Vec<String> {
    let entries = fs::read_dir(home.file(folder)).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_vm_is_made_and_enrolled_anew_by_its_owner() {
    let home = Home::new();
    home.unlocked("guardian new ann --bits 2048").done();
    home.unlocked("guardian new fabric --bits 2048").done();
    const PREPARE: &str = "vm-image prepare web1 --owner ann --guardian fabric --demo --recovery-key-file web1.recovery --json";
    let made = unlocked(&home, PREPARE).done();
    let json = made.json();
    assert_eq!(json["policy"], "shielded");
    assert_eq!(
        names(&home, "web1"),
        [
            "current",
            "disk.img",
            "firmware-vars.fd",
            "gen-1",
            "lock",
            "vm.toml"
        ]
    );
    // The recovery key is in its file and nowhere else; no key of the owner's is in clear.
    let key = String::from_utf8(home.read("web1.recovery")).unwrap();
    assert_eq!((key.len(), home.mode("web1.recovery")), (71, 0o600));
    assert!(!format!("{}{}", made.out, made.err).contains(&key));
    let keys = ".local/share/openhgs/guardians/ann/vm-keys";
    for file in names(&home, keys) {
        let text = String::from_utf8(home.read(&format!("{keys}/{file}"))).unwrap();
        assert!(
            text.contains("ENCRYPTED PRIVATE KEY") && text.contains("CERTIFICATE"),
            "{file}"
        );
    }
    // Owner and fabric open what the protector protects, and the owner's decision is under the same key.
    let opened = home.unlocked("protector open web1/gen-1/protector.xml --guardian fabric --in web1/gen-1/protection.sealed --out protection");
    opened.done();
    let protection = String::from_utf8(home.read("protection")).unwrap();
    assert!(protection.contains(json["id"].as_str().unwrap()) && protection.contains("shielded"));

    unlocked(&home, PREPARE).ended(2).saying("exists already");

    // Another VM's recovery key is refused, and changes nothing; its own is taken.
    let disk = home.read("web1/disk.img");
    let other = format!(
        "{}{}",
        if key.starts_with('c') { 'b' } else { 'c' },
        &key[1..]
    );
    home.write_private("other.recovery", other);
    const RE_ENROL: &str = "vm-image re-enrol web1 --owner ann --recovery-key-from file:";
    let refused = unlocked(&home, &format!("{RE_ENROL}other.recovery"));
    assert_ne!(refused.status, 0, "{refused:?}");
    assert!(disk == home.read("web1/disk.img"), "the disk is as it was");
    let done = unlocked(&home, &format!("{RE_ENROL}web1.recovery --json")).done();
    assert_eq!(done.json()["pcr_7"], json["pcr_7"]);
    assert!(disk != home.read("web1/disk.img"), "another key is sealed");
    assert_eq!(
        names(&home, "web1"),
        [
            "current",
            "disk.img",
            "firmware-vars.fd",
            "gen-1",
            "lock",
            "vm.toml"
        ]
    );
}
