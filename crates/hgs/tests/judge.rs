//! The second implementation in `conformance/` and this program judge each other's documents.

mod common;

use std::path::Path;
use std::process::{Command, Output};

use common::Home;
use serde::Deserialize;
use serde_json::Value;

const WORKSPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// A document of the judge, and what has to come of it.
#[derive(Debug, Deserialize)]
struct Specimen {
    name: String,
    kind: String,
    file: String,
    outcome: String,
    reason: Option<String>,
    stage: Option<String>,
    #[serde(rename = "kpsCodes", default)]
    codes: Vec<String>,
}

impl Specimen {
    /// Whether it is to be accepted by whoever holds no key.
    fn is_accepted(&self) -> bool {
        self.outcome == "valid" || self.stage.as_deref() == Some("open")
    }
}

/// Runs the judge in `home`.
fn ask_judge(home: &Home, words: &str) -> Output {
    hgs_testkit::tool("python3", "python3");
    let output = Command::new("/usr/bin/python3")
        .args(["-m", "openhgs_judge"])
        .args(words.split(' '))
        .current_dir(home.path())
        .env("PYTHONPATH", Path::new(WORKSPACE).join("conformance"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        !errors.contains("No module named"),
        "this test needs the Debian packages python3-lxml and python3-cryptography: {errors}"
    );
    output
}

/// What the judge prints about what it accepts.
#[track_caller]
fn judge(home: &Home, words: &str) -> String {
    let output = ask_judge(home, words);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words}: {errors}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A home with two guardians of the judge and everything it can think of to put into protectors and metadata.
fn specimens() -> (Home, Vec<Specimen>) {
    let home = Home::new();
    judge(&home, "make-guardian owner owner");
    judge(&home, "make-guardian fabric fabric");
    judge(&home, "attacks specimens --owner owner --guardian fabric");
    let specimens: Vec<Specimen> =
        serde_json::from_slice(&home.read("specimens/index.json")).unwrap();
    (home, specimens)
}

/// What our message has to say, one of these, for the judge's word for a defect.
fn words_for(reason: &str) -> &'static [&'static str] {
    match reason {
        "limit-octets" => &["octets, and th"],
        "limit-depth" => &["nest deeper than 64"],
        "limit-attributes" => &["more than 32 attributes"],
        "limit-namespaces" => &["more than 24 namespace declarations"],
        "limit-nodes" => &["more than 20000 nodes"],
        "limit-canonical" => &["canonical form"],
        "limit-wrappings" => &["64 are accepted"],
        "limit-certificate" => &["16384 are accepted"],
        "limit-certificates" => &["64 are accepted"],
        "byte-order-mark" => &["byte order mark"],
        // What is written in another encoding looks like whatever it happens to.
        "encoding" => &["UTF-8", "byte order mark", "malformed XML", "goes on after"],
        "carriage-return" => &["carriage return"],
        "xml-declaration" => &["declares"],
        "document-type" => &["document type declaration"],
        "comment" => &["comment"],
        "processing-instruction" => &["processing instruction"],
        "not-well-formed" => &[
            "malformed XML",
            "duplicate attribute",
            "prefix",
            "processing instruction",
            "goes on after",
            "truncated",
            "no root element",
            "undeclared",
        ],
        "canonical-form" => &["relative namespace name"],
        "root" => &["expected {http://schemas.microsoft.com/kps/2014/07}"],
        // A second signature in metadata changes the document that the first one covers.
        "element" => &["expected ", "lacks element", "not the one that was signed"],
        "attribute" => &["attribute", "the signature refers to"],
        "text" => &["has text between"],
        "number" => &["not a number", "has version"],
        "base64" => &["Base64"],
        "algorithm" => &["unknown algorithm"],
        "parameters" => &[
            "Parameters",
            "DigestMethod",
            "MGF",
            "CipherValue",
            "SignatureValue",
            "KeyDerivationMethod",
        ],
        "mac-length" => &["instead of 32"],
        "certificate" => &["certificate", "Certificate"],
        "key-kind" => &["only RSA is accepted"],
        "key-size" => &["2048 to 8192 are accepted"],
        "key-exponent" => &["exponent", "not an RSA SubjectPublicKeyInfo"],
        "key-small-factor" => &["small factor"],
        "key-fermat" => &["too close together"],
        "key-roca" => &["ROCA"],
        "duplicate-id" => &["have the Id"],
        "owner" => &["the owner's"],
        "parent" => &["which is not there"],
        "cycle" => &["does not reach the owner"],
        "signing-certificate-signature" => &["signing certificate"],
        "encryption-certificate-signature" => &["encryption certificate", "self-signature"],
        "guardian-signature" => &["guardian signature does not verify"],
        "guardian-wrapping" => &["which is not there"],
        "document-digest" | "document-signature" => &["signature of the metadata"],
        other => panic!("a word of the judge's that this test does not know: {other}"),
    }
}

fn assert_fits(specimen: &Specimen, message: &str) {
    let reason = specimen.reason.as_deref().unwrap_or_default();
    let fits = words_for(reason)
        .iter()
        .any(|words| message.contains(words));
    assert!(fits, "{}: {reason}, but we say: {message}", specimen.name);
}

#[test]
fn every_protector_of_the_judge_is_found_as_the_profile_says() {
    let (home, specimens) = specimens();
    let mut counts = [0, 0];
    for specimen in specimens
        .iter()
        .filter(|specimen| specimen.kind == "protector")
    {
        let name = &specimen.name;
        let found = home.hgs(&format!(
            "protector verify specimens/{} --json",
            specimen.file
        ));
        let accepted = specimen.is_accepted();
        counts[usize::from(accepted)] += 1;
        assert_eq!(
            found.status,
            if accepted { 0 } else { 2 },
            "{name}: {}",
            found.out
        );
        let finding = found.json();
        assert_eq!(finding["valid"], accepted, "{name}");
        if accepted {
            continue;
        }
        let reason = &finding["reason"];
        assert_eq!(reason["at_fault"], "protector", "{name}");
        assert_fits(specimen, reason["message"].as_str().unwrap());
        // An empty body is not a protector that is wrong, but no request at all; to us it is a file like others.
        if specimen.name != "empty" {
            let code = reason["code"].as_str().unwrap().to_owned();
            assert!(
                specimen.codes.contains(&code),
                "{name}: {code}, not {:?}",
                specimen.codes
            );
        }
    }
    let [refused, accepted] = counts;
    assert!(
        refused > 300 && accepted > 80,
        "{refused} refused, {accepted} accepted"
    );
}

#[test]
fn every_metadata_of_the_judge_is_found_as_the_profile_says() {
    let (home, specimens) = specimens();
    let mut count = 0;
    for specimen in specimens
        .iter()
        .filter(|specimen| specimen.kind == "metadata")
    {
        let name = &specimen.name;
        let import = format!("guardian import {name} specimens/{}", specimen.file);
        let found = home.hgs(&format!("{import} --dangerously-trust-unverified --json"));
        let status = if specimen.is_accepted() { 0 } else { 2 };
        assert_eq!(found.status, status, "{name}: {}", found.out);
        if !specimen.is_accepted() {
            assert_fits(specimen, found.json()["error"]["message"].as_str().unwrap());
        }
        count += 1;
    }
    assert!(count > 50, "{count} documents");
}

#[test]
fn the_same_written_in_every_way_has_one_digest_for_both() {
    let home = Home::new();
    judge(&home, "make-guardian owner owner");
    judge(&home, "make-guardian fabric fabric");
    for options in [
        "",
        " --pss",
        " --mgf1p",
        " --pretty",
        " --prefix",
        " --declaration",
        " --offline 5",
        " --base64 lines",
        " --base64 cdata",
        " --base64 references",
        " --pss --mgf1p --pretty --prefix --declaration --base64 lines",
    ] {
        judge(
            &home,
            &format!("make-protector --owner owner --guardian fabric --out vm.xml{options}"),
        );
        let valid = home.hgs("protector verify vm.xml --json").done().json();
        let found = judge(&home, "verify-protector vm.xml");
        let digest = valid["digest"].as_str().unwrap();
        assert!(
            found.contains(digest),
            "{options}: {digest}, but the judge: {found}"
        );
        assert_eq!(valid["wrappings"], 2, "{options}");
    }
}

#[test]
fn each_imports_the_others_guardian_and_opens_the_others_protector() {
    let home = Home::new();
    let thumbprint = judge(&home, "make-guardian fabric fabric");
    let import = "guardian import fabric fabric/metadata.xml --thumbprint";
    home.hgs(&format!("{import} {thumbprint}")).done();
    home.unlocked("guardian new ann --bits 2048").done();
    home.unlocked("protector new --owner ann --guardian fabric --out ours.xml")
        .done();
    assert_eq!(
        judge(&home, "open-protector ours.xml --guardian fabric"),
        "opened"
    );

    home.hgs("guardian export ann --out ann.xml").done();
    let shown: Value = home.hgs("guardian show ann --json").json();
    let ours = shown["signing"]["thumbprint"].as_str().unwrap();
    let checked = judge(
        &home,
        &format!("check-metadata ann.xml --thumbprint {ours}"),
    );
    assert!(checked.starts_with("whole exported guardian"), "{checked}");
    judge(
        &home,
        "make-protector --owner fabric --guardian ann.xml --out theirs.xml --pretty",
    );
    home.write("vm.state", "precious");
    // Ann is no owner of this one: she opens it, and can't seal under it.
    home.unlocked("protector seal theirs.xml --owner ann --in vm.state")
        .ended(2)
        .saying("not the owner");
    home.unlocked("protector open theirs.xml --guardian ann --in vm.state")
        .ended(2)
        .saying("not a sealed file");
    home.unlocked("protector revoke theirs.xml --owner ann --wrapping 2")
        .ended(2);

    // What our owner takes away the judge does not open any more.
    home.unlocked("protector revoke ours.xml --owner ann --guardian fabric --out revoked.xml")
        .done();
    judge(&home, "verify-protector revoked.xml");
    assert_eq!(
        ask_judge(&home, "open-protector revoked.xml --guardian fabric")
            .status
            .code(),
        Some(2)
    );
}
