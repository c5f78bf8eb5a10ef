//! A clone is a VM of its own: another TPM, which opens its disk; and with `strict`, nothing of its original opens it.

mod common;
#[path = "common/maker.rs"]
mod maker;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::Tools as TpmTools;
use hgs_crypto::random::System;
use hgs_pki::{Certificate, Time, Validity, pem, profile};
use hgs_testkit::fixtures::{Keys, private_key, self_signed};
use hgs_testkit::tool;
use hgs_vm::description::{Description, VmId};
use hgs_vm::generation::StateFolder;
use hgs_vm::identity::{self, Authority, Subject};
use hgs_vm::image::gpt::PartitionTable;
use hgs_vm::image::{
    Boot, Clone, CloneStep, ImageError, RecoveryKey, Root, StrictClone, clone, demo,
};
use hgs_vm::swtpm::StateKey;
use maker::{Maker, key};

const LINE: &str = "only the opened disk says 51d0";

/// The owner's authority for EK certificates.
struct Owner {
    certificate: Certificate,
    keys: Keys,
}

impl Owner {
    fn new() -> Self {
        let key = private_key(0);
        let certificate = self_signed(profile::endorsement_authority("Ann", validity()), &key);
        let mut keys = Keys::of(&[]);
        keys.hold(&certificate, &key);
        Self { certificate, keys }
    }

    fn give(
        &self,
        name: &str,
        work: impl FnOnce(
            Subject<'_>,
            &mut Authority<'_>,
        ) -> Result<identity::Identity, identity::IdentityError>,
    ) -> Result<(), ImageError> {
        let mut keys = &self.keys;
        let mut authority = Authority {
            certificate: &self.certificate,
            keys: &mut keys,
        };
        let validity = validity();
        work(Subject { name, validity }, &mut authority)?;
        Ok(())
    }
}

fn validity() -> Validity {
    Validity {
        not_before: Time::from_unix(1_700_000_000),
        not_after: Time::from_unix(2_000_000_000),
    }
}

/// Makes a clone of `vm` under `key(2)`.
fn clone_of_vm(
    maker: &Maker,
    owner: &Owner,
    name: &str,
    recovery: Option<&RecoveryKey>,
    progress: &mut dyn FnMut(CloneStep),
) -> Result<Option<RecoveryKey>, ImageError> {
    let original = Description::load(&maker.path("vm")).unwrap();
    let protection = fs::read(maker.path("vm/gen-1/protection.sealed")).unwrap();
    let id = VmId::new(&mut System::new()).unwrap();
    // Tests keep it in clear.
    let protection = String::from_utf8(protection).unwrap();
    let protection = protection.replace(&original.id.to_string(), &id.to_string());
    let request = Clone {
        original: &maker.path("vm"),
        original_key: &key(1),
        target: &maker.path(name),
        name: name.parse().unwrap(),
        id,
        state_key: &key(2),
        protector: b"<another/>",
        protection: protection.as_bytes(),
        make_vtpm: &mut |folder, key| {
            owner.give(name, |subject, authority| {
                let swtpm = &maker.tools.swtpm;
                match recovery {
                    None => identity::replace(swtpm, folder, key, subject, authority),
                    Some(_) => identity::make(swtpm, folder, key, subject, authority),
                }
            })
        },
        strict: recovery.map(|recovery_key| StrictClone { recovery_key }),
    };
    clone(request, &maker.tools, progress)
}

/// Every file below a folder, with its octets.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => all.extend(contents(&path)),
            false => drop(all.insert(path.clone(), fs::read(&path).unwrap())),
        }
    }
    all
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// What openssl and tpm2-tools say of the endorsement key of a VM's TPM: the public key, and the certificate for it.
fn endorsement(maker: &Maker, owner: &Owner, name: &str, key: &StateKey) -> String {
    let work = maker.path(&format!("{name}.tpm"));
    fs::create_dir(&work).unwrap();
    let state = StateFolder::open(&maker.path(name)).unwrap();
    let tools = TpmTools::new(state.current().unwrap().path(), &work, key);
    tools.run("tpm2_readpublic", "-c 0x81010001 -f pem -o key.pem");
    let certificate = tools.run("tpm2_nvread", "0x1c00002 -C o");
    drop(tools);
    let public = fs::read_to_string(work.join("key.pem")).unwrap();
    let authority = pem::encode("CERTIFICATE", owner.certificate.der());
    fs::write(work.join("authority.pem"), authority).unwrap();
    fs::write(
        work.join("ek.pem"),
        pem::encode("CERTIFICATE", &certificate),
    )
    .unwrap();
    let openssl = |arguments: &[&str]| {
        let output = Command::new(tool("openssl", "openssl"))
            .args(arguments)
            .current_dir(&work)
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    openssl(&[
        "verify",
        "-attime",
        "1800000000",
        "-CAfile",
        "authority.pem",
        "ek.pem",
    ]);
    let said = openssl(&[
        "x509",
        "-in",
        "ek.pem",
        "-noout",
        "-pubkey",
        "-ext",
        "subjectAltName",
        "-subject",
    ]);
    assert!(said.contains(&public), "{said}");
    assert!(said.contains(name), "{said}");
    fs::remove_dir_all(&work).unwrap();
    public
}

/// The encrypted part of a VM's disk, in a file.
fn encrypted_part(maker: &Maker, name: &str) -> PathBuf {
    let path = maker.path(name).join("disk.img");
    let disk = File::open(&path).unwrap();
    let table = PartitionTable::read(&disk, &path).unwrap();
    let partition = table.partitions.last().unwrap();
    let mut octets = vec![0; usize::try_from(partition.length).unwrap()];
    disk.read_exact_at(&mut octets, partition.start).unwrap();
    let part = maker.path(&format!("{name}.part"));
    fs::write(&part, octets).unwrap();
    part
}

/// cryptsetup by hand, with keys in files.
fn cryptsetup(maker: &Maker, arguments: &[&str], part: &Path) -> std::process::Output {
    let mut command = maker.tools.cryptsetup.command();
    command.args(arguments).arg("--disable-locks").arg(part);
    command.output().unwrap()
}

#[test]
fn a_clone_is_another_vm_whose_disk_opens_with_its_own_tpm() {
    let maker = Maker::new();
    let owner = Owner::new();
    let prepared = maker
        .make_with(
            "vm",
            Root::Demo(LINE),
            Boot::DirectKernel,
            &mut |folder, key| {
                owner.give("vm", |subject, authority| {
                    identity::make(&maker.tools.swtpm, folder, key, subject, authority)
                })
            },
        )
        .unwrap();
    let before = contents(&maker.path("vm"));

    let none = clone_of_vm(&maker, &owner, "copied", None, &mut |_| ()).unwrap();
    assert!(none.is_none());
    let (original, copied) = (
        Description::load(&maker.path("vm")).unwrap(),
        Description::load(&maker.path("copied")).unwrap(),
    );
    assert_ne!(copied.id, original.id);
    assert_eq!(copied.name.as_str(), "copied");
    assert_eq!(names(&maker.path("copied")), names(&maker.path("vm")));
    assert_eq!(
        names(&maker.path("copied/gen-1")),
        names(&maker.path("vm/gen-1"))
    );
    let disk = |name: &str| fs::read(maker.path(name).join("disk.img")).unwrap();
    assert!(disk("copied") == disk("vm"));

    // A strict clone shares nothing.
    let mut told = Vec::new();
    let recovery = clone_of_vm(
        &maker,
        &owner,
        "strict",
        Some(&prepared.recovery_key),
        &mut |step| told.push(step),
    );
    let recovery = recovery.unwrap().unwrap();
    assert!(recovery != prepared.recovery_key);
    let encrypted =
        |step: &CloneStep| matches!(step, CloneStep::Encrypting(done, all) if done == all);
    assert!(told.iter().any(encrypted), "{told:?}");
    assert!(disk("strict") != disk("vm"));
    assert!(
        contents(&maker.path("vm")) == before,
        "the original is only read"
    );
    assert_eq!(names(&maker.path("")), ["copied", "strict", "vm"]);

    let keys = [("vm", key(1)), ("copied", key(2)), ("strict", key(2))]
        .map(|(name, key)| endorsement(&maker, &owner, name, &key));
    assert!(keys[0] != keys[1] && keys[0] != keys[2] && keys[1] != keys[2]);
    assert!(contents(&maker.path("vm")).len() >= before.len());

    // Each recovery key opens its own disk; neither does the other's volume key.
    let of = |name: &str| {
        if name == "vm" {
            &prepared.recovery_key
        } else {
            &recovery
        }
    };
    for (name, other) in [("vm", "strict"), ("strict", "vm")] {
        let part = encrypted_part(&maker, name);
        maker.tools.check(&part, of(name)).unwrap();
        maker.tools.check(&part, of(other)).unwrap_err();
        let (passphrase, volume) = (maker.path("passphrase"), maker.path("volume"));
        fs::write(&passphrase, of(name).passphrase().expose()).unwrap();
        let (passphrase, volume) = (passphrase.to_str().unwrap(), volume.to_str().unwrap());
        let dump = [
            "luksDump",
            "--dump-volume-key",
            "--batch-mode",
            "--key-file",
            passphrase,
            "--volume-key-file",
            volume,
        ];
        let dumped = cryptsetup(&maker, &dump, &part);
        assert!(dumped.status.success(), "{dumped:?}");
        let open = ["open", "--test-passphrase", "--volume-key-file", volume];
        let opened = cryptsetup(&maker, &open, &part);
        assert!(opened.status.success(), "{opened:?}");
        let other = encrypted_part(&maker, other);
        let refused = cryptsetup(&maker, &open, &other);
        assert!(!refused.status.success(), "{refused:?}");
        for file in [passphrase, volume] {
            fs::remove_file(file).unwrap();
        }
        // The recovery key is the only passphrase, the TPM's key the only other.
        let header = cryptsetup(&maker, &["luksDump", "--dump-json-metadata"], &part);
        let header: serde_json::Value = serde_json::from_slice(&header.stdout).unwrap();
        assert_eq!(header["keyslots"].as_object().unwrap().len(), 2, "{header}");
        assert_eq!(header["tokens"].as_object().unwrap().len(), 2, "{header}");
    }

    let opened = |said: &str| said.contains(&format!("{}{LINE}", demo::PREFIX));
    for name in ["copied", "strict"] {
        let said = maker.boot_under(&key(2), name, "heartbeat 0 tpm", false);
        assert!(opened(&said), "{said}");
    }
    let said = maker.boot("vm", "heartbeat 0 tpm", false);
    assert!(opened(&said), "{said}");
}

#[test]
fn what_can_t_be_cloned_leaves_nothing() {
    let maker = Maker::new();
    let owner = Owner::new();
    maker
        .make("vm", Root::Demo(LINE), Boot::DirectKernel)
        .unwrap();
    let before = contents(&maker.path("vm"));
    let refused = |what: &str, recovery: Option<&RecoveryKey>| {
        let error = clone_of_vm(&maker, &owner, "copied", recovery, &mut |_| ());
        let error = error.unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
        assert_eq!(names(&maker.path("")), ["vm"]);
    };
    let other = RecoveryKey::random(&mut System::new()).unwrap();
    refused("No key available", Some(&other));
    let lock = hgs_files::Lock::take_or_create(&maker.path("vm/lock")).unwrap();
    refused("another process works with the VM", None);
    refused("another process works with the VM", Some(&other));
    drop(lock);
    assert!(contents(&maker.path("vm")) == before);
    fs::rename(maker.path("vm/kernel"), maker.path("vm/moved")).unwrap();
    refused("kernel", None);
    fs::rename(maker.path("vm/moved"), maker.path("vm/kernel")).unwrap();
    fs::create_dir(maker.path("copied")).unwrap();
    let error = clone_of_vm(&maker, &owner, "copied", None, &mut |_| ()).unwrap_err();
    assert!(error.to_string().contains("exists"), "{error}");
    assert!(names(&maker.path("copied")).is_empty());
}
