//! The identity of a VM's TPM, judged by tpm2-tools, openssl and the tools of swtpm.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use common::{Tools, key, protector, settings, successor, swtpm};
use hgs_crypto::SecretBytes;
use hgs_crypto::rsa::{OaepHash, PrivateKey, SignatureScheme};
use hgs_pki::endorsement::{EndorsementAuthority, EndorsementCertificate, EndorsementRoots};
use hgs_pki::issue::{Issuer, Template, prepare};
use hgs_pki::{Certificate, KeyError, KeyWork, Seconds, Thumbprint, Time, Validity, pem, profile};
use hgs_testkit::tool;
use hgs_vm::generation::StateFolder;
use hgs_vm::identity::{Authority, Identity, IdentityError, Subject, make, replace};
use hgs_vm::rekey::{copy_state, rekey};
use hgs_vm::swtpm::{Contents, StateKey, Swtpm};
use tempfile::TempDir;

static KEY: LazyLock<PrivateKey> = LazyLock::new(|| PrivateKey::generate(2048).unwrap());

/// The owner's authority, whose key does its work elsewhere.
struct Owner {
    certificate: Certificate,
    signatures: usize,
}

fn validity() -> Validity {
    Validity {
        not_before: Time::from_unix(1_700_000_000),
        not_after: Time::from_unix(2_000_000_000),
    }
}

impl Owner {
    fn new(template: Template) -> Self {
        let prepared = prepare(template, KEY.public(), Issuer::SelfSigned, [5; 16]).unwrap();
        let signature = KEY.sign(SignatureScheme::Pkcs1Sha256, prepared.to_be_signed());
        Self {
            certificate: prepared.assemble(&signature.unwrap()).unwrap(),
            signatures: 0,
        }
    }

    fn authority() -> Self {
        Self::new(profile::endorsement_authority("Ann", validity()))
    }

    fn make(&mut self, folder: &Path, name: &str) -> Result<Identity, IdentityError> {
        let certificate = self.certificate.clone();
        let mut authority = Authority {
            certificate: &certificate,
            keys: self,
        };
        make(swtpm(), folder, &key(1), subject(name), &mut authority)
    }

    fn replace(
        &mut self,
        folder: &Path,
        key: &StateKey,
        name: &str,
    ) -> Result<Identity, IdentityError> {
        let certificate = self.certificate.clone();
        let mut authority = Authority {
            certificate: &certificate,
            keys: self,
        };
        replace(swtpm(), folder, key, subject(name), &mut authority)
    }
}

fn subject(name: &str) -> Subject<'_> {
    Subject {
        name,
        validity: validity(),
    }
}

impl KeyWork for Owner {
    fn decrypt(&mut self, _: &Thumbprint, _: OaepHash, _: &[u8]) -> Result<SecretBytes, KeyError> {
        Err(KeyError::Unsupported)
    }

    fn sign(
        &mut self,
        certificate: &Thumbprint,
        scheme: SignatureScheme,
        message: &[u8],
    ) -> Result<Vec<u8>, KeyError> {
        assert_eq!(*certificate, self.certificate.thumbprint());
        self.signatures += 1;
        KEY.sign(scheme, message).map_err(|_| KeyError::Unsupported)
    }
}

fn folder(root: &TempDir, name: &str) -> std::path::PathBuf {
    let folder = root.path().join(name);
    hgs_files::private_folder(&folder).unwrap();
    folder
}

/// What openssl says of a certificate, after it has verified it.
fn openssl(root: &TempDir, owner: &Owner, name: &str, der: &[u8]) -> String {
    let path = |file: &str| root.path().join(file);
    let authority = pem::encode("CERTIFICATE", owner.certificate.der());
    fs::write(path("authority.pem"), authority).unwrap();
    fs::write(path(name), pem::encode("CERTIFICATE", der)).unwrap();
    let run = |arguments: &[&str]| {
        let output = Command::new(tool("openssl", "openssl"))
            .args(arguments)
            .current_dir(root.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    run(&[
        "verify",
        "-x509_strict",
        "-attime",
        "1800000000",
        "-CAfile",
        "authority.pem",
        name,
    ]);
    run(&["x509", "-in", name, "-noout", "-text", "-pubkey"])
}

fn public_key(tools: &Tools, handle: &str) -> String {
    tools.run(
        "tpm2_readpublic",
        &format!("-c {handle} -f pem -o read.pem"),
    );
    fs::read_to_string(tools.folder().join("read.pem")).unwrap()
}

#[test]
fn a_new_tpm_has_keys_and_certificates_as_its_owner_wants_and_verifiers_do() {
    let root = tempfile::tempdir().unwrap();
    let folder = folder(&root, "state");
    let mut owner = Owner::authority();
    let identity = owner.make(&folder, "vm-7").unwrap();
    assert_eq!(owner.signatures, 2);

    // Our own verifier, which is the one that a guardian asks.
    let authority = EndorsementAuthority::from_der(owner.certificate.der()).unwrap();
    let roots = EndorsementRoots::new([authority], []);
    let when = validity().not_before.checked_add(Seconds::from_days(1));
    let verified = roots.verify(&identity.rsa, identity.rsa.public_key(), &[], when.unwrap());
    verified.unwrap();
    assert_eq!(identity.rsa.subject(), "CN=vm-7");
    assert_eq!(
        identity.rsa.tpm().manufacturer_code().as_deref(),
        Some("IBM")
    );
    assert_eq!(
        identity.rsa.tpm().manufacturer.as_deref(),
        Some("id:49424D00")
    );
    assert_eq!(identity.rsa.tpm().model.as_deref(), Some("swtpm"));

    let tools = Tools::new(&folder, root.path(), &key(1));
    for (place, handle, octets, usage) in [
        (
            "0x1c00002",
            "0x81010001",
            identity.rsa.der(),
            "Key Encipherment",
        ),
        ("0x1c00016", "0x81010016", &identity.ecc, "Key Agreement"),
    ] {
        assert_eq!(tools.run("tpm2_nvread", &format!("{place} -C o")), octets);
        let public = tools.run("tpm2_nvreadpublic", place);
        let public = String::from_utf8(public).unwrap();
        assert!(public.contains("value: 0x62072801"), "{public}");
        let written = tools.try_run("tpm2_nvwrite", &format!("{place} -C p -i authority.pem"));
        assert!(!written.status.success(), "it is locked");
        let said = openssl(&root, &owner, place, octets);
        assert!(said.contains(usage), "{said}");
        assert!(said.contains("2.23.133.8.1"), "{said}");
        assert!(said.contains(&public_key(&tools, handle)), "{said}");
    }
    let banks = String::from_utf8(tools.run("tpm2_getcap", "pcrs")).unwrap();
    assert!(banks.contains("sha256: [ 0, 1, 2"), "{banks}");
    assert!(
        banks.contains("sha1: [ ]") && banks.contains("sha384: [ ]"),
        "{banks}"
    );
    let certificate = tools.run("tpm2_getekcertificate", "-X -o rsa.crt -o ecc.crt");
    drop(certificate);
    assert_eq!(
        fs::read(root.path().join("rsa.crt")).unwrap(),
        identity.rsa.der()
    );
}

/// The tools of swtpm derive both keys from the same seeds by templates of their own.
#[test]
fn endorsement_keys_are_those_of_swtpm_s_tools() {
    let root = tempfile::tempdir().unwrap();
    let state = folder(&root, "state");
    fs::write(root.path().join("key"), key(1).secret().expose()).unwrap();
    let hexadecimal = hgs_crypto::hex::encode(key(1).secret().expose());
    fs::write(root.path().join("hex"), hexadecimal).unwrap();
    let output = Command::new(tool("swtpm_setup", "swtpm-tools"))
        .args([
            "--tpm2",
            "--createek",
            "--create-spk",
            "--ecc",
            "--config",
            "/dev/null",
        ])
        .args(["--cipher", "aes-256-cbc", "--keyfile"])
        .arg(root.path().join("hex"))
        .arg("--tpm-state")
        .arg(&state)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let read = |tools: &Tools| ["0x81010001", "0x81010016"].map(|place| public_key(tools, place));
    let tools = Tools::new(&state, root.path(), &key(1));
    let theirs = read(&tools);
    for place in ["0x81010001", "0x81010016"] {
        tools.run("tpm2_evictcontrol", &format!("-C o -c {place}"));
    }
    drop(tools);
    let key_of_state = key(1);
    let mut swtpm = Swtpm::start(&settings(&state, Contents::Kept, &key_of_state)).unwrap();
    swtpm.initialise().unwrap();
    let mut tpm = swtpm.open().unwrap();
    tpm.start_up().unwrap();
    tpm.make_endorsement_keys().unwrap();
    drop(tpm);
    swtpm.shut_down().unwrap();
    assert_eq!(read(&Tools::new(&state, root.path(), &key(1))), theirs);
}

#[test]
fn a_clone_is_another_tpm_that_still_opens_the_disk() {
    let root = tempfile::tempdir().unwrap();
    let original = folder(&root, "original");
    let mut owner = Owner::authority();
    let before = owner.make(&original, "vm-7").unwrap();
    let seal = [
        ("tpm2_createprimary", "-C o -c srk.ctx -G ecc"),
        ("tpm2_evictcontrol", "-C o -c srk.ctx 0x81000001"),
        ("tpm2_flushcontext", "-t"),
        ("tpm2_createpolicy", "--policy-pcr -l sha256:7 -L policy"),
        (
            "tpm2_create",
            "-C 0x81000001 -L policy -i secret -u sealed.pub -r sealed.priv",
        ),
    ];
    fs::write(root.path().join("secret"), "opens the disk").unwrap();
    let tools = Tools::new(&original, root.path(), &key(1));
    for (program, arguments) in seal {
        tools.run(program, arguments);
    }
    let [rsa, ecc] = ["0x81010001", "0x81010016"].map(|place| public_key(&tools, place));
    drop(tools);

    let copy = folder(&root, "copy");
    // The copy gets a key of its own.
    copy_state(swtpm(), &original, &key(1), &copy, &key(5), &mut |_| ()).unwrap();
    let after = owner.replace(&copy, &key(5), "vm-8").unwrap();
    assert_ne!(after.rsa.public_key(), before.rsa.public_key());
    assert_eq!(after.rsa.subject(), "CN=vm-8");
    let tools = Tools::new(&copy, root.path(), &key(5));
    assert_ne!(public_key(&tools, "0x81010001"), rsa);
    assert_ne!(public_key(&tools, "0x81010016"), ecc);
    assert_eq!(tools.run("tpm2_nvread", "0x1c00002 -C o"), after.rsa.der());
    assert_eq!(tools.run("tpm2_nvread", "0x1c00016 -C o"), after.ecc);
    let said = openssl(&root, &owner, "clone", after.rsa.der());
    assert!(said.contains(&public_key(&tools, "0x81010001")), "{said}");
    tools.run(
        "tpm2_load",
        "-C 0x81000001 -u sealed.pub -r sealed.priv -c sealed.ctx",
    );
    let secret = tools.run("tpm2_unseal", "-c sealed.ctx -p pcr:sha256:7");
    assert_eq!(secret, b"opens the disk");
}

#[test]
fn an_identity_survives_a_new_key() {
    let root = tempfile::tempdir().unwrap();
    let mut state = StateFolder::create(&root.path().join("vm")).unwrap();
    let staged = state.stage().unwrap();
    let identity = Owner::authority().make(staged.path(), "vm-7").unwrap();
    let complete = state.complete(staged, &protector(1)).unwrap();
    state.switch(complete).unwrap();
    let moved = rekey(
        swtpm(),
        &mut state,
        &key(1),
        &successor(&key(2), &protector(2)),
        &mut |_| (),
    );
    let key = key(2);
    let moved = moved.unwrap();
    let mut swtpm = Swtpm::start(&settings(moved.path(), Contents::Kept, &key)).unwrap();
    swtpm.initialise().unwrap();
    let mut tpm = swtpm.open().unwrap();
    tpm.start_up().unwrap();
    let found: Option<EndorsementCertificate> = tpm.endorsement_certificate().unwrap();
    assert_eq!(found.as_ref(), Some(&identity.rsa));
    let endorsement_key = tpm.endorsement_key().unwrap();
    assert_eq!(endorsement_key.key(), identity.rsa.public_key());
}

#[test]
fn who_may_not_issue_makes_no_tpm_that_is_used() {
    let root = tempfile::tempdir().unwrap();
    let folder = folder(&root, "state");
    let mut leaf = Owner::new(profile::guardian_signing("Ann", validity()));
    let refused = leaf.make(&folder, "vm-7").unwrap_err();
    assert!(matches!(refused, IdentityError::Issue(_)), "{refused}");
    assert_eq!(leaf.signatures, 0);
    // A name that no certificate takes is refused as well.
    let other = self::folder(&root, "other");
    let refused = Owner::authority().make(&other, "").unwrap_err();
    assert!(matches!(refused, IdentityError::Issue(_)), "{refused}");
    // The folder has a TPM now, which no second one replaces.
    let refused = Owner::authority().make(&folder, "vm-7").unwrap_err();
    assert!(matches!(refused, IdentityError::Swtpm(_)), "{refused}");
}
