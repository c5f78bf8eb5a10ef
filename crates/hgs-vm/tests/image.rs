//! A VM that is made from nothing, started for real, and opened by its own vTPM and no other.

#[path = "common/maker.rs"]
mod maker;

use std::fs;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::Path;

use hgs_crypto::random::System;
use hgs_pki::Certificate;
use hgs_tcg::event_log::Guid;
use hgs_testkit::fixtures::{Keys, private_key, self_signed, ten_years};
use hgs_vm::image::gpt::{self, Partition, PartitionTable};
use hgs_vm::image::measured::MeasuredBoot;
use hgs_vm::image::unified::Signer;
use hgs_vm::image::variables::{SecureBootKeys, SecureBootRole};
use hgs_vm::image::{Boot, PlainDisk, RecoveryKey, Root, SecureBoot, demo, re_enrol};
use maker::{Maker, key};

#[test]
fn a_demonstration_guest_opens_its_disk_with_its_own_vtpm_and_no_other() {
    const LINE: &str = "only the opened disk says 7f3a";
    let maker = Maker::new();
    let prepared = maker
        .make("vm", Root::Demo(LINE), Boot::DirectKernel)
        .unwrap();
    let names = |folder: &str| {
        let entries = fs::read_dir(maker.path(folder)).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    // Nothing in clear is left, and nothing beside it.
    assert_eq!(
        names("vm"),
        [
            "current",
            "disk.img",
            "gen-1",
            "initrd.img",
            "kernel",
            "lock",
            "vm.toml"
        ]
    );
    assert_eq!(
        names("vm/gen-1"),
        [
            ".lock",
            "protection.sealed",
            "protector.xml",
            "tpm2-00.permall"
        ]
    );
    assert_eq!(names(""), ["vm"]);
    for file in ["disk.img", "kernel", "initrd.img", "vm.toml"] {
        let octets = fs::read(maker.path("vm").join(file)).unwrap();
        let found = octets
            .windows(LINE.len())
            .any(|octets| octets == LINE.as_bytes());
        assert!(!found, "{file}");
        assert_eq!(
            hgs_files::open_to_others(&maker.path("vm").join(file)),
            None,
            "{file}"
        );
    }

    let said = maker.boot("vm", "heartbeat 1 tpm", true);
    assert!(
        said.contains("openhgs: the disk is opened by the virtual TPM"),
        "{said}"
    );
    assert!(said.contains(&format!("{}{LINE}", demo::PREFIX)), "{said}");
    assert!(said.contains("OPENHGS-DEMO powers off"), "{said}");

    // The same disk with the vTPM of another VM.
    let stolen = maker.path("vm/gen-1/tpm2-00.permall");
    fs::remove_file(&stolen).unwrap();
    maker.make_vtpm(&maker.path("vm/gen-1"), &key(1)).unwrap();
    let said = maker.boot("vm", "the virtual TPM does not open the disk", false);
    assert!(!said.contains(LINE), "{said}");

    // The recovery key, and no other, has the disk opened by that vTPM.
    let other = RecoveryKey::random(&mut System::new()).unwrap();
    let enrol = |recovery_key| {
        let folder = maker.path("vm");
        re_enrol(
            &folder,
            &key(1),
            recovery_key,
            &MeasuredBoot::bios(),
            &maker.tools,
        )
    };
    let before = fs::read(maker.path("vm/disk.img")).unwrap();
    enrol(&other).unwrap_err();
    assert!(
        before == fs::read(maker.path("vm/disk.img")).unwrap(),
        "a refusal changes nothing"
    );
    enrol(&prepared.recovery_key).unwrap();
    assert_eq!(
        names("vm"),
        [
            "current",
            "disk.img",
            "gen-1",
            "initrd.img",
            "kernel",
            "lock",
            "vm.toml"
        ]
    );
    let said = maker.boot("vm", "heartbeat 0 tpm", false);
    assert!(said.contains(&format!("{}{LINE}", demo::PREFIX)), "{said}");
}

/// The image is signed by the key in db, the firmware starts it with Secure Boot, and PCR 7 is what was predicted: otherwise
/// the disk would not open.
#[test]
fn a_guest_with_secure_boot_opens_its_disk() {
    const LINE: &str = "only the opened disk says 95c1";
    let maker = Maker::new();
    let certificates = SecureBootCertificates::new();
    let mut keys = &certificates.keys;
    let secure = SecureBoot {
        keys: certificates.secure_boot_keys(),
        signer: Signer {
            certificate: &certificates.signature,
            keys: &mut keys,
        },
    };
    let image = maker.path("plain.qcow2");
    let table = plain_image(&maker, &image, LINE);
    let disk = PlainDisk {
        image: &image,
        root_partition: None,
    };
    let prepared = maker
        .make("vm", Root::Disk(disk), Boot::SecureBoot(secure))
        .unwrap();
    // The kernel came from the disk, and what the guest knows disk and partitions by is as it was.
    let disk = fs::File::open(maker.path("vm/disk.img")).unwrap();
    let made = PartitionTable::read(&disk, Path::new("disk.img")).unwrap();
    assert_eq!(made.disk, table.disk);
    assert_eq!(made.partitions[0].id, table.partitions[0].id);
    assert_eq!(made.partitions[1].id, table.partitions[1].id);

    let said = maker.boot("vm", LINE, false);
    assert!(
        said.contains("openhgs: the disk is opened by the virtual TPM"),
        "{said}"
    );
    // The firmware has kept its keys; so the state that opens the disk is found from its variables too.
    let variables = fs::read(maker.path("vm/firmware-vars.fd")).unwrap();
    let measured = MeasuredBoot::of_variables(&variables).unwrap();
    assert_eq!(measured.pcr_7(), prepared.pcr_7);
}

/// A disk as an installer leaves it: EFI system partition, and a root file system with kernel and modules.
fn plain_image(maker: &Maker, image: &Path, line: &str) -> PartitionTable {
    let tree = maker.path("tree");
    for folder in [
        "bin",
        "sbin",
        "boot",
        "dev",
        "proc",
        "sys",
        "run",
        "usr/lib/modules",
    ] {
        fs::create_dir_all(tree.join(folder)).unwrap();
    }
    fs::copy(&maker.tools.busybox, tree.join("bin/busybox")).unwrap();
    let init = tree.join("sbin/init");
    fs::write(
        &init,
        format!("#!/bin/busybox sh\necho {line}\nwhile :; do /bin/busybox sleep 1; done\n"),
    )
    .unwrap();
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755)).unwrap();
    let release = &maker.kernel.release;
    fs::copy(
        &maker.kernel.image,
        tree.join(format!("boot/vmlinuz-{release}")),
    )
    .unwrap();
    run(
        "cp",
        "coreutils",
        &[
            "-r",
            text(&maker.kernel.modules),
            text(&tree.join("usr/lib/modules")),
        ],
    );
    const ROOT: u64 = 256 << 20;
    let root = maker.path("root");
    fs::File::create(&root).unwrap().set_len(ROOT).unwrap();
    run(
        "mke2fs",
        "e2fsprogs",
        &["-q", "-t", "ext4", "-d", text(&tree), text(&root)],
    );

    let partition = |number, partition_type, start, length| Partition {
        number,
        partition_type,
        id: Guid::new(number as u32, 7, 7, [7; 8]),
        start,
        length,
        name: String::new(),
    };
    let table = PartitionTable {
        disk: Guid::new(9, 9, 9, [9; 8]),
        partitions: vec![
            partition(1, gpt::EFI_SYSTEM, 1 << 20, 1 << 20),
            partition(2, gpt::LINUX_FILE_SYSTEM, 2 << 20, ROOT),
        ],
    };
    let raw = maker.path("raw");
    let disk = fs::File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&raw)
        .unwrap();
    disk.set_len((2 << 20) + ROOT + gpt::TAIL).unwrap();
    table.write(&disk).unwrap();
    disk.write_all_at(&fs::read(&root).unwrap(), 2 << 20)
        .unwrap();
    run(
        "qemu-img",
        "qemu-utils",
        &[
            "convert",
            "-f",
            "raw",
            "-O",
            "qcow2",
            text(&raw),
            text(image),
        ],
    );
    for file in [&root, &raw] {
        fs::remove_file(file).unwrap();
    }
    table
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn run(program: &str, package: &str, arguments: &[&str]) {
    let path = std::env::var("PATH").unwrap() + ":/usr/sbin:/sbin";
    let output = std::process::Command::new(program)
        .env("PATH", path)
        .args(arguments)
        .output();
    let output = output.unwrap_or_else(|_| panic!("install the Debian package {package}"));
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

struct SecureBootCertificates {
    keys: Keys,
    platform: Certificate,
    key_exchange: Certificate,
    signature: Certificate,
}

impl SecureBootCertificates {
    fn new() -> Self {
        let mut keys = Keys::of(&[]);
        let mut make = |number, role: SecureBootRole| {
            let key = private_key(number);
            let certificate = self_signed(role.template("Ann", ten_years()), &key);
            keys.hold(&certificate, &key);
            certificate
        };
        let platform = make(0, SecureBootRole::PlatformKey);
        let key_exchange = make(1, SecureBootRole::KeyExchangeKey);
        let signature = make(2, SecureBootRole::Signature);
        Self {
            keys,
            platform,
            key_exchange,
            signature,
        }
    }

    fn secure_boot_keys(&self) -> SecureBootKeys<'_> {
        SecureBootKeys {
            owner: Guid::new(0x6f70_656e, 0x4867, 0x5301, [1; 8]),
            platform_key: &self.platform,
            key_exchange_key: &self.key_exchange,
            signature: &self.signature,
        }
    }
}
