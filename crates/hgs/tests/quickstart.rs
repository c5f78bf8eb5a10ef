//! `hgs quickstart` as a stranger runs it, and its documents before other people's tools.

mod common;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use common::{Home, Outcome};
use hgs_testkit::softhsm::{self, SoftHsm};
use hgs_testkit::tool;
use serde_json::Value;

/// Every step that must be seen, in order.
const STEPS: [&str; 14] = [
    "guardian-initialise",
    "guardian-start",
    "hosts-register",
    "guardian-import",
    "owner-new",
    "protector-new",
    "host-attest",
    "power-on",
    "power-on-again",
    "migrate",
    "unregistered-host-refused",
    "host-revoke",
    "revoked-host-gets-no-keys",
    "revoked-host-refused",
];

#[test]
fn every_step_does_what_it_says_and_the_documents_hold_before_others() {
    let home = Home::new();
    let outcome = home.hgs("quickstart --json --keep kept");
    assert_eq!(outcome.status, 0, "{outcome:?}");

    let steps: Vec<Value> = outcome
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let names: Vec<&str> = steps
        .iter()
        .map(|step| step["step"].as_str().unwrap())
        .collect();
    assert_eq!(names[..STEPS.len()], STEPS);
    for step in &steps {
        assert_eq!(step["ok"], true, "{step}");
        assert!(
            step["millis"].as_f64().is_some_and(|millis| millis >= 0.0),
            "{step}"
        );
    }

    let kept = home.file("kept");
    assert_eq!(
        fs::metadata(&kept).unwrap().permissions().mode() & 0o777,
        0o700
    );
    no_secret_is_kept(&kept);
    openssl_accepts_the_health_certificate(&kept);
    xmlsec1_accepts_the_metadata(&kept);
    the_second_implementation_accepts(&kept);
}

/// Every step of the run with a TPM, in order.
const TPM_STEPS: [&str; 20] = [
    "guardian-initialise",
    "guardian-start",
    "tpm-new",
    "boot",
    "attestation-mode-tpm",
    "ek-root-add",
    "identity-add",
    "unapproved-boot-refused",
    "baseline-add",
    "guardian-import",
    "owner-new",
    "protector-new",
    "host-attest",
    "power-on",
    "power-on-again",
    "boot-altered",
    "altered-boot-refused",
    "boot-again",
    "host-revoke",
    "revoked-host-gets-no-keys",
];

#[test]
fn a_host_with_a_tpm_attests_and_the_refusal_of_another_boot_names_the_event() {
    let home = Home::new();
    let outcome = home.hgs("quickstart --attestation tpm --json --keep kept");
    assert_eq!(outcome.status, 0, "{outcome:?}");
    let steps: Vec<Value> = outcome
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for step in &steps {
        assert_eq!(step["ok"], true, "{step}");
    }
    let names: Vec<&str> = steps
        .iter()
        .map(|step| step["step"].as_str().unwrap())
        .collect();
    assert_eq!(names[..TPM_STEPS.len()], TPM_STEPS);
    let refused = steps
        .iter()
        .find(|step| step["step"] == "altered-boot-refused")
        .unwrap();
    let detail = refused["detail"].as_str().unwrap();
    for named in ["Hgs_SecureBootSettings", "`reference`", "PCR 4", "event 30"] {
        assert!(detail.contains(named), "{detail}");
    }
    let kept = home.file("kept");
    no_secret_is_kept(&kept);
    openssl_accepts_the_health_certificate(&kept);
    xmlsec1_accepts_the_metadata(&kept);
}

#[test]
fn without_swtpm_the_package_is_named_and_nothing_begins() {
    let home = Home::new();
    let mut command = home.command();
    command.env("PATH", home.file("no-programs"));
    let outcome = Outcome::of(command.args(["quickstart", "--attestation", "tpm", "--json"]));
    assert_eq!(outcome.status, 1, "{outcome:?}");
    let answer: Value = serde_json::from_str(&outcome.out).unwrap();
    let error = &answer["error"];
    assert_eq!(
        error["message"],
        "these programs are not installed: swtpm, swtpm_setup, swtpm_localca, certtool"
    );
    assert_eq!(error["at_fault"], "operator");
    let remedy = error["remedy"].as_str().unwrap();
    let packages = "apt install gnutls-bin swtpm swtpm-tools";
    assert!(remedy.contains(packages), "{remedy}");
}

/// The same on keys in a token: made there the first time, found there the second.
#[test]
fn the_guardians_keys_may_be_in_a_token() {
    let hsm = SoftHsm::new();
    let module = SoftHsm::module();
    let home = Home::new();
    let quickstart = |pin: &str| {
        let (name, value) = hsm.environ();
        let mut command = home.command();
        command.env(name, value).env("HGS_PKCS11_PIN", pin);
        command.args(["quickstart", "--json", "--token", softhsm::TOKEN]);
        Outcome::of(command.arg("--pkcs11-module").arg(&module))
    };
    for _ in 0..2 {
        let outcome = quickstart(softhsm::PIN).done();
        let steps = outcome.out.lines().map(|line| {
            let step: Value = serde_json::from_str(line).unwrap();
            assert_eq!(step["ok"], true, "{step}");
            step["step"].as_str().unwrap().to_owned()
        });
        assert!(steps.take(STEPS.len()).eq(STEPS));
    }
    let listed = hsm.pkcs11_tool(&["--list-objects", "--type", "privkey"]);
    let listed = String::from_utf8(listed.stdout).unwrap();
    for (label, usage) in [("signing", "sign"), ("encryption", "decrypt")] {
        // Label, identifier, usage: one line each.
        let key = format!("label:      openhgs-quickstart-{label}\n  ID:         ");
        let found: Vec<_> = listed.split(&key).skip(1).collect();
        assert_eq!(found.len(), 1, "{listed}");
        assert_eq!(
            found[0].lines().nth(1),
            Some(&*format!("  Usage:      {usage}"))
        );
    }

    quickstart("wrong").ended(1).saying("CKR_PIN_INCORRECT");
    quickstart(softhsm::PIN).done();
}

#[test]
fn a_folder_with_something_in_it_is_left_alone() {
    let home = Home::new();
    home.write("kept", "a file");
    assert_eq!(home.hgs("quickstart --keep kept").status, 1);
    let outcome = home.hgs("quickstart --keep .");
    assert_eq!(outcome.status, 64, "{outcome:?}");
    assert_eq!(home.read("kept"), b"a file");
}

/// What is kept is public, but for what is sealed.
fn no_secret_is_kept(kept: &Path) {
    for entry in fs::read_dir(kept).unwrap() {
        let octets = fs::read(entry.unwrap().path()).unwrap();
        let text = String::from_utf8_lossy(&octets);
        assert!(!text.contains("PRIVATE KEY"));
    }
    let (before, after) = (kept.join("ingress.sealed"), kept.join("egress.sealed"));
    assert_ne!(fs::read(before).unwrap(), fs::read(after).unwrap());
}

fn openssl_accepts_the_health_certificate(kept: &Path) {
    let openssl = tool("openssl", "openssl");
    let pem = kept.join("health.pem");
    let arguments: [&OsStr; 6] = [
        "x509".as_ref(),
        "-inform".as_ref(),
        "DER".as_ref(),
        "-in".as_ref(),
        "health.der".as_ref(),
        "-out".as_ref(),
    ];
    succeeds(
        Command::new(&openssl)
            .current_dir(kept)
            .args(arguments)
            .arg(&pem),
    );
    succeeds(Command::new(&openssl).current_dir(kept).args([
        "verify",
        "-x509_strict",
        "-CAfile",
        "attestation-signers.pem",
        "health.pem",
    ]));
}

fn xmlsec1_accepts_the_metadata(kept: &Path) {
    // The certificate in the document is the one it is signed with; whether to trust it is not the question here.
    let mut xmlsec1 = Command::new(tool("xmlsec1", "xmlsec1"));
    succeeds(
        xmlsec1
            .current_dir(kept)
            .args(["--verify", "--insecure", "metadata.xml"]),
    );
}

fn the_second_implementation_accepts(kept: &Path) {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let judge = |arguments: &[&str]| {
        let mut python = Command::new("/usr/bin/python3");
        python
            .env("PYTHONPATH", workspace.join("conformance"))
            .current_dir(kept);
        succeeds(python.args(["-m", "openhgs_judge"]).args(arguments));
    };
    judge(&["check-metadata", "metadata.xml"]);
    judge(&["verify-protector", "ingress.xml"]);
    judge(&["verify-protector", "egress.xml"]);
    judge(&[
        "check-health-certificate",
        "health.der",
        "--signer",
        "attestation-signers.pem",
    ]);
}

#[track_caller]
fn succeeds(command: &mut Command) {
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&said)
    );
}

/// Every step of the run on three nodes, in order.
const NODE_STEPS: [&str; 17] = [
    "cluster-initialise",
    "node-start",
    "node-join",
    "node-join",
    "hosts-register",
    "guardian-import",
    "owner-new",
    "protector-new",
    "host-attest",
    "power-on",
    "node-kill",
    "power-on-again",
    "host-attest-elsewhere",
    "host-revoke",
    "revoked-host-gets-no-keys",
    "node-return",
    "nodes-stop",
];

#[test]
fn keys_are_released_on_three_nodes_and_with_one_killed() {
    tool("etcd", "etcd-server");
    let home = Home::new();
    let outcome = home.hgs("quickstart --nodes 3 --json");
    assert_eq!(outcome.status, 0, "{outcome:?}");
    let steps: Vec<Value> = outcome
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for step in &steps {
        assert_eq!(step["ok"], true, "{step}");
    }
    let names: Vec<&str> = steps
        .iter()
        .map(|step| step["step"].as_str().unwrap())
        .collect();
    assert_eq!(names, NODE_STEPS);
}

#[test]
fn without_etcd_several_nodes_name_its_package() {
    let etcd = tool("etcd", "etcd-server");
    let Some(mut hidden) = hgs_testkit::in_mount_namespace("a machine without etcd") else {
        return;
    };
    let home = Home::new();
    // A device is no program.
    let script = "mount --bind /dev/null \"$1\" && exec \"$2\" quickstart --nodes 3";
    let output = hidden
        .args(["sh", "-c", script, "sh"])
        .arg(etcd)
        .arg(assert_cmd::cargo::cargo_bin!("hgs"))
        .env("HOME", home.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("apt install etcd-server"), "{said}");
}
