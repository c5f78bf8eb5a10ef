//! `hgs vm-image`: a VM is made whole or not at all, and its disk is sealed anew with the recovery key alone.

mod common;

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use hgs_tcg::event_log::Guid;
use hgs_vm::image::gpt::{self, Partition, PartitionTable};
use hgs_vm::parts::Parts;

use common::{Home, Outcome};

/// The cache of packages that all tests of this machine share.
fn cache() -> OsString {
    std::env::var_os("XDG_CACHE_HOME").unwrap_or_else(|| {
        PathBuf::from(std::env::var_os("HOME").unwrap())
            .join(".cache")
            .into()
    })
}

/// The program with the passphrase, and the cache.
#[track_caller]
fn unlocked(home: &Home, words: &str) -> Outcome {
    let mut command = home.command();
    command
        .env("HGS_PASSPHRASE_FROM", "file:passphrase")
        .env("XDG_CACHE_HOME", cache());
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

/// What is told of long work comes from the middle of it: there the program is killed.
#[test]
fn a_vm_is_cloned_by_its_owner_alone_whole_or_not_at_all() {
    let home = Home::new();
    for name in ["ann", "fabric", "bob"] {
        home.unlocked(&format!("guardian new {name} --bits 2048"))
            .done();
    }
    const PREPARE: &str = "vm-image prepare web1 --owner ann --guardian fabric --demo --recovery-key-file web1.recovery --json";
    let original = unlocked(&home, PREPARE).done().json();
    let before = contents(&home, "web1");
    const CLONE: &str = "vm-image clone web1 web2 --owner ann --guardian fabric --json";
    const STRICT: &str = "vm-image clone web1 web3 --owner ann --guardian fabric --strict --recovery-key-from file:web1.recovery --recovery-key-file web3.recovery --json";

    // Bob and the fabric can open a protector that names them; the clone is the owner's to make all the same.
    for other in ["bob", "fabric"] {
        let refused = unlocked(
            &home,
            &CLONE.replace("--owner ann", &format!("--owner {other}")),
        );
        refused.ended(2).saying("not the owner");
    }
    unlocked(
        &home,
        "vm-image clone web1 web2 --owner ann --guardian fabric --recovery-key-file k",
    )
    .ended(64)
    .saying("--strict");
    assert!(!home.file("web2").exists() && !home.file(".web2.new").exists());

    // Killed at each step that it tells of.
    let mut killed = 0;
    for step in [
        "making the clone's virtual TPM",
        "copying",
        "encrypting the disk anew",
        "sealing the disk's key",
    ] {
        let told = STRICT.strip_suffix(" --json").unwrap();
        killed += usize::from(killed_at(&home, told, step));
        assert!(!home.file("web3").exists(), "{step}");
        assert!(contents(&home, "web1") == before, "{step}");
    }
    assert_eq!(killed, 4);

    let cloned = unlocked(&home, CLONE).done();
    let strict = unlocked(&home, STRICT).done();
    assert!(contents(&home, "web1") == before);
    assert!(!home.file(".web3.new").exists());
    let (cloned, strict) = (cloned.json(), strict.json());
    for made in [&cloned, &strict] {
        assert_eq!(made["policy"], original["policy"]);
        assert_ne!(made["id"], original["id"]);
        assert_ne!(made["protector"], original["protector"]);
    }
    assert_eq!(names(&home, "web2"), names(&home, "web1"));
    assert_eq!(names(&home, "web3"), names(&home, "web1"));
    let key = String::from_utf8(home.read("web3.recovery")).unwrap();
    assert_eq!((key.len(), home.mode("web3.recovery")), (71, 0o600));
    assert!(key.as_bytes() != home.read("web1.recovery"));
    for file in [
        "web2/gen-1/protection.sealed",
        "web3/gen-1/protection.sealed",
    ] {
        let protector = file.replace("protection.sealed", "protector.xml");
        home.unlocked(&format!(
            "protector open {protector} --guardian fabric --in {file} --out {file}.opened"
        ))
        .done();
        let opened = String::from_utf8(home.read(&format!("{file}.opened"))).unwrap();
        let id = if file.starts_with("web2") {
            &cloned["id"]
        } else {
            &strict["id"]
        };
        assert!(opened.contains(id.as_str().unwrap()), "{opened}");
    }
    unlocked(&home, CLONE).ended(2).saying("exists already");
}

/// Every file of a folder, with its octets.
fn contents(home: &Home, folder: &str) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for name in names(home, folder) {
        let path = format!("{folder}/{name}");
        match home.file(&path).is_dir() {
            true => all.extend(contents(home, &path)),
            false => all.push((path.clone(), home.read(&path))),
        }
    }
    all
}

/// Runs the program, and kills it when it tells of `step`. Whether it was killed before it had ended.
fn killed_at(home: &Home, words: &str, step: &str) -> bool {
    let mut child = Command::new(assert_cmd::cargo::cargo_bin!("hgs"))
        .args(words.split(' '))
        .env_clear()
        .envs(hgs_testkit::date_variables())
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", home.path())
        .env("HGS_PASSPHRASE_FROM", "file:passphrase")
        .env("XDG_CACHE_HOME", cache())
        .current_dir(home.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let told = lines.any(|line| line.unwrap().starts_with(step));
    assert!(told, "it tells of {step:?}");
    child.kill().unwrap();
    !child.wait().unwrap().success()
}

/// What a VM is known by from outside goes over, its disk is read, and one that is in use is not.
#[test]
fn a_vm_that_runs_unshielded_today_is_taken_over_with_its_identifiers() {
    const ID: &str = "6f2d1c3e-8d0a-4a53-9f1c-0b7f6a1e2d3c";
    let home = Home::new();
    home.unlocked("guardian new ann --bits 2048").done();
    home.unlocked("guardian new fabric --bits 2048").done();
    let disk = plain_disk(&home);
    home.write(
        "web1.xml",
        format!(
            "<domain type='kvm'><name>web1</name><uuid>{ID}</uuid><memory unit='MiB'>768</memory><vcpu>2</vcpu>\
             <devices><disk type='file' device='disk'><source file='{}'/></disk>\
             <interface type='network'><mac address='52:54:00:ab:cd:ef'/></interface></devices></domain>",
            disk.display()
        ),
    );
    let parts = Parts::fetch(
        &Parts::cache_folder(|name| std::env::var_os(name)).unwrap(),
        &mut |_| (),
    );
    let kernel = parts.unwrap().kernel().unwrap();
    let prepare = format!(
        "vm-image prepare web1 --owner ann --guardian fabric --existing web1.xml --kernel {} --modules {} --recovery-key-file web1.recovery --json",
        kernel.image.display(),
        kernel.modules.display()
    );
    let before = fs::read(&disk).unwrap();

    // As a QEMU has it that runs.
    let mut user = Command::new(hgs_testkit::tool("qemu-io", "qemu-utils"))
        .args(["-f", "raw"])
        .arg(&disk)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut prompt = [0; 8];
    user.stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut prompt)
        .unwrap();
    assert_eq!(&prompt, b"qemu-io>");
    let refused = unlocked(&home, &prepare);
    assert!(
        refused.status != 0 && refused.out.contains("lock"),
        "{refused:?}"
    );
    user.kill().unwrap();
    user.wait().unwrap();
    assert!(!home.file("web1").exists());
    for (old, new, said) in [
        ("<domain type", "<domain id='1' type", "shut it down"),
        ("type='file'", "type='block'", "--disk"),
    ] {
        let xml = String::from_utf8(home.read("web1.xml")).unwrap();
        home.write("other.xml", xml.replacen(old, new, 1));
        unlocked(&home, &prepare.replace("web1.xml", "other.xml"))
            .ended(2)
            .saying(said);
    }

    let made = unlocked(&home, &prepare).done().json();
    assert_eq!(made["id"], ID);
    let description = String::from_utf8(home.read("web1/vm.toml")).unwrap();
    for line in [
        format!("id = \"{ID}\""),
        "memory = \"768MiB\"".to_owned(),
        "processors = 2".to_owned(),
        "network = \"user\"".to_owned(),
        "mac_address = \"52:54:00:ab:cd:ef\"".to_owned(),
    ] {
        assert!(description.contains(&line), "{line}: {description}");
    }
    assert!(fs::read(&disk).unwrap() == before, "it is only read");
}

/// A disk with a partition table and a root file system of ext4.
fn plain_disk(home: &Home) -> PathBuf {
    const START: u64 = 1 << 20;
    const ROOT: u64 = 16 << 20;
    let (root, disk) = (home.file("root"), home.file("disk.raw"));
    fs::File::create(&root).unwrap().set_len(ROOT).unwrap();
    let made = Command::new(hgs_testkit::tool("mke2fs", "e2fsprogs"))
        .args(["-q", "-t", "ext4"])
        .arg(&root)
        .status();
    assert!(made.unwrap().success());
    let file = fs::File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&disk)
        .unwrap();
    file.set_len(START + ROOT + gpt::TAIL).unwrap();
    let table = PartitionTable {
        disk: Guid::new(9, 9, 9, [9; 8]),
        partitions: vec![Partition {
            number: 1,
            partition_type: gpt::LINUX_FILE_SYSTEM,
            id: Guid::new(1, 7, 7, [7; 8]),
            start: START,
            length: ROOT,
            name: String::new(),
        }],
    };
    table.write(&file).unwrap();
    file.write_all_at(&fs::read(&root).unwrap(), START).unwrap();
    disk
}
