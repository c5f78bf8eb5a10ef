//! The images of Debian with which two measured boots were made, against the digests in the logs of these boots. The
//! packages are not part of the project: `debian-packages.sh` beside this file fetches them.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use hgs_crypto::hash::sha256;
use hgs_crypto::hex;
use hgs_tcg::image::{
    ImageError, ORIGINAL_SBAT_LEVEL, OwnMokVariables, PeImage, PredictedEvent, SbatEntry, Shim,
    SystemdStub, grub,
};
use hgs_testkit::{left_out, tool};

/// A file of a package, by the version that was booted.
struct Known {
    path: &'static str,
    version: &'static str,
    sha256: &'static str,
}

const SHIM: Known = Known {
    path: "usr/lib/shim/shimx64.efi.signed",
    version: "shim-signed 1.51~1+deb12u1+16.1-2~deb12u1",
    sha256: "0fc347af103ec1dfac6e3f184c0a5241a2ce756a0932b359c404d39c45423806",
};
const UNSIGNED_SHIM: Known = Known {
    path: "usr/lib/shim/shimx64.efi",
    version: "shim-unsigned 16.1-2~deb12u1",
    sha256: "d2812715520bf3b73fb37a9563b897ba6a5f6fa846b60cc35a4c190d54965d9c",
};
const GRUB: Known = Known {
    path: "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed",
    version: "grub-efi-amd64-signed 1+2.06+13+deb12u2",
    sha256: "78313ff24688c8b2e1d4f4e1eff13236b2bd29b0f76ba749fd7fff4d305a1d94",
};
const KERNEL: Known = Known {
    path: "boot/vmlinuz-6.1.0-56-cloud-amd64",
    version: "linux-image-6.1.0-56-cloud-amd64 6.1.192-2",
    sha256: KERNEL_FILE,
};
const STUB: Known = Known {
    path: "usr/lib/systemd/boot/efi/linuxx64.efi.stub",
    version: "systemd-boot-efi 252.39-1~deb12u2",
    sha256: "c62ae56ffaf49d1a61de4434f4f531dd1d4ed3b5aee46c934c56e3f809b22cc4",
};

const SHIM_IMAGE: &str = "80a66d53a945d2286fcadd780fae1c225aa732079cd67b5225dc78aaab4e2ff8";
const GRUB_IMAGE: &str = "a68f6d71ebddaa19751ff8d729f67d11b0df8e4c49400c3e7e90de16119e1265";
const KERNEL_IMAGE: &str = "5f21ff2c0d5d899842b28a8b19901ba72cf7a7ab93c02a77fadc6ff72be85b31";
const KERNEL_FILE: &str = "51349501a3d1ff83836437d2b365fd2d57f2feb8642d315e5181dec23d4c3275";
const COMMAND_LINE: &str = "88e585aafeae01bebae1ab31d0509a682058f5eab4b37d34c854a75995594e36";

impl Known {
    /// Its octets, unpacked or installed. `None` if it is not there, or in another version.
    fn octets(&self) -> Option<Vec<u8>> {
        let root = std::env::var_os("OPENHGS_BOOT_FILES")
            .map_or_else(|| PathBuf::from("/"), PathBuf::from);
        let file = root.join(self.path);
        let octets = fs::read(&file)
            .ok()
            .filter(|octets| hex::encode(&sha256(octets)) == self.sha256);
        if octets.is_none() {
            left_out(&format!(
                "predictions of {} (there is no such {})",
                self.version,
                file.display()
            ));
        }
        octets
    }
}

fn digests(events: &[PredictedEvent]) -> Vec<(u8, String)> {
    events
        .iter()
        .map(|event| (event.pcr, hex::encode(&event.digest)))
        .collect()
}

fn logged(events: &[(u8, &str)]) -> Vec<(u8, String)> {
    events
        .iter()
        .map(|(pcr, digest)| (*pcr, (*digest).to_owned()))
        .collect()
}

#[test]
fn debian_shim() {
    let Some(octets) = SHIM.octets() else { return };
    let image = PeImage::parse(&octets).unwrap();
    assert_eq!(
        hex::encode(&image.authenticode_sha256().as_it_is),
        SHIM_IMAGE
    );
    assert_eq!(image.certificates().len(), 2);
    let shim = Shim::of_image(&image).unwrap();
    let own = OwnMokVariables::default();
    let mok = [
        (
            14,
            "342c88bb9fde2c45eeaa17321262b089181e7e841ef5a4a5e8ed240920026f97",
        ),
        (
            14,
            "45e89b4a5f8283cd8ae7c66bda8346697120c84880537aadb49a665c7d7eec0f",
        ),
    ];
    let trusted = (
        14,
        "4bf5122f344554c53bde2ebb8cd2b7e3d1600ad631c385a5d7cce23c7785459a",
    );
    for (level, digest) in [
        (
            shim.previous_sbat_level(),
            "ef611239b24f977f968379a9c9547b8da480557b8e0b2a83c66b3cea6034b330",
        ),
        (
            ORIGINAL_SBAT_LEVEL,
            "922e939a5565798a5ef12fe09d8b49bf951a8e7f89a0cca7a51636693d41a34d",
        ),
    ] {
        let events = shim.events(level, &own).unwrap();
        assert_eq!(
            digests(&events),
            logged(&[mok[0], mok[1], (7, digest), trusted])
        );
    }
    let authority = "23b2707ff70880b82fad7c96835b1b287e5d0663885d801a98badefb831fb2dd";
    assert_eq!(digests(&shim.authorities()), logged(&[(7, authority)]));
}

#[test]
fn debian_unsigned_shim() {
    let Some(octets) = UNSIGNED_SHIM.octets() else {
        return;
    };
    let digests = PeImage::parse(&octets).unwrap().authenticode_sha256();
    assert_eq!(
        digests.once_signed.map(|digest| hex::encode(&digest)),
        Some(SHIM_IMAGE.to_owned())
    );
    assert_ne!(hex::encode(&digests.as_it_is), SHIM_IMAGE);
}

#[test]
fn debian_grub() {
    let Some(octets) = GRUB.octets() else { return };
    let image = PeImage::parse(&octets).unwrap();
    let predicted = image.authenticode_sha256();
    assert_eq!(hex::encode(&predicted.as_it_is), GRUB_IMAGE);
    assert_eq!(predicted.once_signed, None);
    let entries = SbatEntry::of_image(&image).unwrap().unwrap();
    assert!(
        entries
            .iter()
            .any(|entry| entry.component == "grub" && entry.generation == 5)
    );
}

#[test]
fn debian_kernel() {
    let Some(octets) = KERNEL.octets() else {
        return;
    };
    let image = PeImage::parse(&octets).unwrap().authenticode_sha256();
    let (path, arguments) = ("/vmlinuz", "console=ttyS0 quiet gmode=log");
    let secure = grub::kernel(path, &octets, Some(image.as_it_is), arguments);
    let verified = (4, KERNEL_IMAGE);
    let (file, line) = ((9, KERNEL_FILE), (8, COMMAND_LINE));
    assert_eq!(digests(&secure), logged(&[file, verified, verified, line]));
    let insecure = grub::kernel(path, &octets, None, arguments);
    assert_eq!(digests(&insecure), logged(&[file, line]));
}

#[test]
fn debian_systemd_stub() {
    let Some(octets) = STUB.octets() else { return };
    let bare = PeImage::parse(&octets).unwrap();
    assert_eq!(
        SystemdStub::of_image(&bare),
        Err(ImageError::NoSection(".linux"))
    );

    let folder = tempfile::tempdir().unwrap();
    let (stub, image) = (folder.path().join("stub"), folder.path().join("image"));
    fs::write(&stub, &octets).unwrap();
    let mut objcopy = Command::new(tool("objcopy", "binutils"));
    for (number, name) in ["uname", "cmdline", "pcrpkey", "linux", "osrel"]
        .iter()
        .enumerate()
    {
        let file = folder.path().join(name);
        fs::write(&file, name).unwrap();
        objcopy
            .arg(format!("--add-section=.{name}={}", file.display()))
            .arg(format!(
                "--change-section-vma=.{name}={:#x}",
                0x2_0000 + 0x1000 * number
            ));
    }
    assert!(objcopy.args([&stub, &image]).status().unwrap().success());
    let octets = fs::read(image).unwrap();
    let image = PeImage::parse(&octets).unwrap();
    let unified = SystemdStub::of_image(&image).unwrap();
    // This version measures neither `.uname` nor its own `.sbat`.
    let names: Vec<_> = unified.section_names().collect();
    assert_eq!(names, [".linux", ".osrel", ".cmdline", ".pcrpkey"]);
}
