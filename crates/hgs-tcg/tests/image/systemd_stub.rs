//! Unified kernel images, with systemd-measure as the judge.

use std::fs;
use std::process::Command;

use hgs_crypto::hash::{sha256, sha256_of};
use hgs_crypto::hex;
use hgs_tcg::image::{ImageError, PeImage, SystemdStub};

use hgs_testkit::made_image::unified;

/// The names that version 252 knows, and those of version 257, both as their source lists them.
const OLD: &[&str] = &[
    ".linux", ".osrel", ".cmdline", ".initrd", ".splash", ".dtb", ".pcrsig", ".pcrpkey",
];
const NEW: &[&str] = &[
    ".linux", ".osrel", ".cmdline", ".initrd", ".ucode", ".splash", ".dtb", ".uname", ".sbat",
    ".pcrsig", ".pcrpkey", ".profile", ".dtbauto", ".hwids", ".efifw",
];

/// In another order than the stub's.
const SECTIONS: &[(&str, &[u8])] = &[
    (".sbat", b"sbat,1,x\n"),
    (".pcrsig", b"{}"),
    (".pcrpkey", b"key"),
    (".uname", b"6.1.0"),
    (".ucode", b"microcode"),
    (".initrd", b"initrd"),
    (".dtb", b"device tree"),
    (".splash", b"picture"),
    (".cmdline", b"root=LABEL=x"),
    (".osrel", b"ID=debian\n"),
    (".linux", b"kernel"),
];

/// PCR 11 after these events alone.
fn replay(image: &[u8]) -> [u8; 32] {
    let image = PeImage::parse(image).unwrap();
    let events = SystemdStub::of_image(&image).unwrap().events();
    assert!(events.iter().all(|event| event.pcr == 11));
    events
        .iter()
        .fold([0; 32], |pcr, event| sha256_of(&[&pcr, &event.digest]))
}

#[test]
fn the_stubs_own_order_and_names() {
    for (known, measured) in [
        (OLD, ".linux .osrel .cmdline .initrd .splash .dtb .pcrpkey"),
        (
            NEW,
            ".linux .osrel .cmdline .initrd .ucode .splash .dtb .uname .sbat .pcrpkey",
        ),
    ] {
        let octets = unified(known, SECTIONS).octets();
        let image = PeImage::parse(&octets).unwrap();
        let stub = SystemdStub::of_image(&image).unwrap();
        assert_eq!(stub.section_names().collect::<Vec<_>>().join(" "), measured);
        let events = stub.events();
        assert_eq!(events[0].digest, sha256(b".linux\0"));
        assert_eq!(events[1].digest, sha256(b"kernel"));
        assert_eq!(events[4].digest, sha256(b".cmdline\0"));
        assert_eq!(events[5].digest, sha256(b"root=LABEL=x"));
        assert_eq!(events.len(), 2 * measured.split(' ').count());
    }
}

#[test]
fn systemd_measure_comes_to_the_same_pcr_11() {
    let judge = [
        "/usr/lib/systemd/systemd-measure",
        "/lib/systemd/systemd-measure",
    ]
    .into_iter()
    .find(|path| fs::exists(path).unwrap_or_default())
    .expect("this test needs the program systemd-measure: install the Debian package systemd");
    // Those that every version has an option for.
    let names = [
        ".linux", ".osrel", ".cmdline", ".initrd", ".splash", ".dtb", ".pcrpkey",
    ];
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(judge);
    command.args(["calculate", "--bank=sha256", "--phase="]);
    for (name, contents) in SECTIONS.iter().filter(|(name, _)| names.contains(name)) {
        let file = folder.path().join(&name[1..]);
        fs::write(&file, contents).unwrap();
        command.arg(format!("--{}={}", &name[1..], file.display()));
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let ours = hex::encode(&replay(&unified(OLD, SECTIONS).octets()));
    assert!(said.contains(&ours), "{ours} is not in {said}");
}

#[test]
fn what_is_not_measured_or_not_there() {
    let refused = |octets: &[u8]| {
        let image = PeImage::parse(octets).unwrap();
        SystemdStub::of_image(&image).expect_err("it is refused")
    };
    // A section without octets is not there; the signature changes nothing.
    let with = unified(
        NEW,
        &[(".linux", b"kernel"), (".osrel", b""), (".pcrsig", b"{}")],
    )
    .octets();
    let without = unified(NEW, &[(".linux", b"kernel")]).octets();
    assert_eq!(replay(&with), replay(&without));

    assert_eq!(
        refused(&unified(NEW, &[(".osrel", b"ID=x")]).octets()),
        ImageError::NoSection(".linux")
    );
    // A kernel, but no stub that would measure it.
    assert_eq!(
        refused(&unified(&[], SECTIONS).octets()),
        ImageError::NoSection(".linux")
    );
    for name in [".profile", ".dtbauto", ".hwids", ".efifw"] {
        let image = unified(NEW, SECTIONS).with(name, b"x").octets();
        assert_eq!(refused(&image), ImageError::Unpredictable(name));
    }
    let twice = unified(NEW, SECTIONS).with(".cmdline", b"other").octets();
    assert_eq!(
        refused(&twice),
        ImageError::DuplicateSection(".cmdline".to_owned())
    );
}
