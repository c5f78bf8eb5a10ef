//! `hgs protector`: made, shared, revoked, and files sealed under it, by the owner alone.

mod common;

use common::Home;
use serde_json::{Value, json};

/// A home with the guardians `ann` and `fabric`, and Ann's protector `vm.xml` for both.
fn home() -> Home {
    let home = Home::new();
    home.unlocked("guardian new ann --bits 2048").done();
    home.unlocked("guardian new fabric --bits 2048").done();
    home.unlocked("protector new --owner ann --guardian fabric --out vm.xml")
        .done();
    home
}

fn shown(home: &Home, file: &str) -> Value {
    home.hgs(&format!("protector show {file} --json"))
        .done()
        .json()
}

fn who(home: &Home, file: &str) -> Vec<Value> {
    let shown = shown(home, file);
    let wrappings = shown["wrappings"].as_array().unwrap();
    let who = |wrapping: &Value| json!([wrapping["id"], wrapping["parent"], wrapping["known_as"]]);
    wrappings.iter().map(who).collect()
}

#[test]
fn a_protector_shows_who_can_open_it() {
    let home = home();
    let view = shown(&home, "vm.xml");
    assert_eq!(
        who(&home, "vm.xml"),
        [json!([1, 1, ["ann"]]), json!([2, 1, ["fabric"]])]
    );
    assert_eq!(
        (&view["owner"], &view["guardian_signature"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(view["unsigned_max_offline_unwraps"], 0);
    assert_eq!(
        view["wrappings"][1]["algorithm"],
        "http://www.w3.org/2009/xmlenc11#rsa-oaep"
    );
    let fabric = home.hgs("guardian show fabric --json").json();
    assert_eq!(view["wrappings"][1]["signing"], fabric["signing"]);
    assert_eq!(view["wrappings"][1]["encryption"], fabric["encryption"]);
    home.hgs("protector show vm.xml")
        .done()
        .saying(
            "Wrapping 2, known here as `fabric`, whose private keys are here: let in by wrapping 1",
        )
        .saying("MaxOfflineUnwraps:  0 (not signed, not relied on)");
    // Who knows none of them still sees certificates.
    let stranger = Home::new();
    stranger.write("vm.xml", home.read("vm.xml"));
    assert_eq!(
        who(&stranger, "vm.xml"),
        [json!([1, 1, []]), json!([2, 1, []])]
    );
}

#[test]
fn max_offline_unwraps_is_shown_as_what_it_is() {
    let home = home();
    let document = String::from_utf8(home.read("vm.xml")).unwrap();
    home.write(
        "vm.xml",
        document.replacen("<Protector ", "<Protector MaxOfflineUnwraps=\"7\" ", 1),
    );
    home.hgs("protector show vm.xml")
        .done()
        .saying("7 (not signed, not relied on)");
}

#[test]
fn a_document_goes_where_it_is_told_and_replaces_nothing_unasked() {
    let home = home();
    let before = home.read("vm.xml");
    let again = "protector new --owner ann --out vm.xml";
    home.unlocked(again).ended(2).saying("--yes");
    assert_eq!(home.read("vm.xml"), before);
    home.unlocked(&format!("{again} --yes")).done();
    assert_ne!(home.read("vm.xml"), before);
    assert_eq!(home.mode("vm.xml"), 0o644);
    let printed = home.unlocked("protector new --owner ann").done();
    assert!(printed.out.starts_with("<Protector "), "{}", printed.out);
    home.unlocked("protector new --owner ann --json")
        .ended(64)
        .saying("--out FILE");
    let summary = home
        .unlocked("protector new --owner ann --json --out b.xml")
        .done()
        .json();
    assert_eq!(summary["digest"], shown(&home, "b.xml")["digest"]);
}

#[test]
fn the_owner_grants_and_revokes() {
    let home = home();
    home.unlocked("guardian new dr --bits 2048").done();
    home.unlocked("protector grant vm.xml --owner ann --guardian dr --out granted.xml")
        .done();
    let all = [
        json!([1, 1, ["ann"]]),
        json!([2, 1, ["fabric"]]),
        json!([3, 1, ["dr"]]),
    ];
    assert_eq!(who(&home, "granted.xml"), all);
    home.unlocked("protector revoke granted.xml --owner ann --guardian fabric --out revoked.xml")
        .done()
        .saying("Taken out: wrapping 2.")
        .saying("Copies of the protector that were made before still open");
    assert_eq!(who(&home, "revoked.xml"), [all[0].clone(), all[2].clone()]);
    let by_number = home
        .unlocked("protector revoke granted.xml --owner ann --wrapping 3 --json --out other.xml")
        .done()
        .json();
    assert_eq!(by_number["removed"], json!([3]));
    assert_eq!(who(&home, "other.xml"), all[..2]);

    let refused = |words: &str, why: &str| {
        home.unlocked(&format!("protector {words} --out x.xml"))
            .ended(2)
            .saying(why);
        assert!(!home.file("x.xml").exists());
    };
    refused(
        "grant vm.xml --owner fabric --guardian dr",
        "`fabric` is not the owner",
    );
    refused(
        "grant vm.xml --owner ann --guardian fabric",
        "wrapping 2 is for this guardian already",
    );
    refused(
        "revoke vm.xml --owner fabric --guardian fabric",
        "`fabric` is not the owner",
    );
    refused(
        "revoke vm.xml --owner ann --guardian ann",
        "owner's wrapping can't be revoked",
    );
    refused("revoke vm.xml --owner ann --guardian dr", "has no wrapping");
    refused("revoke vm.xml --owner ann --wrapping 9", "no wrapping 9");
    home.unlocked("protector revoke vm.xml --owner ann")
        .ended(64);
    home.unlocked("protector revoke vm.xml --owner ann --guardian dr --wrapping 2")
        .ended(64);
}

#[test]
fn only_valid_protectors_are_worked_with() {
    let home = home();
    let document = String::from_utf8(home.read("vm.xml")).unwrap();
    home.write("bad.xml", document.replacen("<Id>2</Id>", "<Id>3</Id>", 1));
    for words in [
        "show bad.xml",
        "grant bad.xml --owner ann --guardian fabric",
        "revoke bad.xml --owner ann --wrapping 3",
        "seal bad.xml --owner ann --in passphrase",
        "open bad.xml --guardian ann --in passphrase",
    ] {
        home.unlocked(&format!("protector {words}"))
            .ended(2)
            .saying("guardian signature does not verify");
    }
    home.unlocked("protector show no-such-file").ended(1);
}

/// The chain holds and the MAC does not: which is found by who opens it, and by nobody else.
#[test]
fn a_forged_mac_is_found_when_the_owner_opens() {
    let home = home();
    let document = String::from_utf8(home.read("vm.xml")).unwrap();
    let (before, after) = document
        .split_once("hmac-sha256\"><SignatureValue>")
        .unwrap();
    let changed = if after.starts_with('A') { "B" } else { "A" };
    home.write(
        "bad.xml",
        format!(
            "{before}hmac-sha256\"><SignatureValue>{changed}{}",
            &after[1..]
        ),
    );
    home.hgs("protector verify bad.xml").done();
    home.unlocked("protector revoke bad.xml --owner ann --wrapping 2")
        .ended(2)
        .saying("transport key of the protector can't be recovered");
}

#[test]
fn files_are_sealed_by_the_owner_and_opened_by_whoever_can() {
    let home = home();
    home.write("vm.state", [7; 5000]);
    home.unlocked("protector seal vm.xml --owner ann --in vm.state --out vm.sealed")
        .done();
    assert_eq!(home.mode("vm.sealed"), 0o600);
    assert!(home.read("vm.sealed").starts_with(b"OpenHGS\x1a"));
    for guardian in ["ann", "fabric"] {
        let out = format!("{guardian}.state");
        home.unlocked(&format!(
            "protector open vm.xml --guardian {guardian} --in vm.sealed --out {out}"
        ))
        .done();
        assert_eq!(home.read(&out), [7; 5000]);
        assert_eq!(home.mode(&out), 0o600);
    }
    // The transport key survives grant and revoke, so the file does too.
    home.unlocked("protector revoke vm.xml --owner ann --guardian fabric --out vm2.xml")
        .done();
    home.unlocked("protector open vm2.xml --guardian ann --in vm.sealed --out again")
        .done();
    home.unlocked("protector open vm2.xml --guardian fabric --in vm.sealed --out no")
        .ended(2);
    home.unlocked("protector new --owner ann --out other.xml")
        .done();
    home.unlocked("protector open other.xml --guardian ann --in vm.sealed --out no")
        .ended(2)
        .saying("does not open");
    home.unlocked("protector seal vm.xml --owner fabric --in vm.state")
        .ended(2)
        .saying("not the owner");
    home.unlocked("protector open vm.xml --guardian ann --in vm.state")
        .ended(2)
        .saying("not a sealed file");
    assert!(!home.file("no").exists());
}

#[test]
fn without_private_keys_nothing_is_owned() {
    let home = home();
    home.hgs("guardian export fabric --out fabric.xml").done();
    home.hgs("guardian import public fabric.xml --dangerously-trust-unverified")
        .done();
    home.unlocked("protector new --owner public --out x.xml")
        .ended(1)
        .saying("private keys of guardian `public` are not here");
    home.unlocked("protector new --owner ann --guardian public --out x.xml")
        .done()
        .saying("on nobody's word");
    home.unlocked("protector new --owner ann --guardian ann --out y.xml")
        .ended(2)
        .saying("for this guardian already");
}
