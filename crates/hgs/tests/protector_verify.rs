//! `hgs protector verify`: its statuses, what it says, and what it does with files that are no protectors.

mod common;

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{Home, run};
use hgs_testkit::fixtures::{Forge, Guardian, key_octets};
use serde_json::json;

fn forge() -> Forge {
    let [owner, fabric] = ["owner", "fabric"].map(Guardian::named);
    Forge::new(owner, &[fabric], key_octets(7))
}

fn sealed(forge: &Forge) -> String {
    forge.seal(Guardian::named("owner"))
}

fn in_home(document: impl AsRef<[u8]>) -> Home {
    let home = Home::new();
    home.write("vm.xml", document);
    home
}

#[test]
fn a_valid_protector_is_status_0() {
    let home = in_home(sealed(&forge()));
    let text = run(&home, ["protector", "verify", "vm.xml"]);
    assert_eq!(text.status, 0, "{}", text.err);
    assert!(text.out.starts_with("valid\n"), "{}", text.out);
    assert!(text.out.contains("The MAC was not checked"), "{}", text.out);
    let document = run(&home, ["protector", "verify", "vm.xml", "--json"]);
    assert_eq!(document.status, 0);
    let digest = hgs_crypto::hash::sha256(forge().signed().as_bytes());
    let owner = json!({"wrapping": 1, "subject": "CN=OpenHGS Guardian Signing (owner)"});
    assert_eq!(document.json()["valid"], true);
    assert_eq!(document.json()["mac_checked"], false);
    assert_eq!(document.json()["owner"], owner);
    assert_eq!(document.json()["guardian_signature"], owner);
    assert_eq!(document.json()["wrappings"], 2);
    // Encryption is random, so the digest above is of another document; but its form is the same.
    let found = document.json()["digest"].as_str().unwrap().len();
    assert_eq!(found, 2 * digest.len());
}

#[test]
fn an_invalid_protector_is_status_2_with_the_reason() {
    let mut twice = forge();
    twice.wrappings[1].id = "1".to_owned();
    let mut orphan = forge();
    orphan.wrappings[1].parent = "9".to_owned();
    let stranger = forge().seal(Guardian::named("stranger"));
    let cases = [
        (
            sealed(&twice),
            "two wrappings have the Id 1",
            "InvalidWrappingException",
        ),
        (
            sealed(&orphan),
            "names the parent 9, which is not there",
            "InvalidWrappingException",
        ),
        (
            stranger,
            "guardian signature does not verify",
            "InvalidProtectorException",
        ),
        (
            "<Protector".to_owned(),
            "truncated",
            "InvalidProtectorException",
        ),
        (
            String::new(),
            "no root element",
            "InvalidProtectorException",
        ),
    ];
    for (document, message, code) in cases {
        let home = in_home(&document);
        let text = run(&home, ["protector", "verify", "vm.xml"]);
        assert_eq!(text.status, 2, "{message}");
        assert!(text.out.starts_with("invalid: "), "{}", text.out);
        assert!(text.out.contains(message), "{}", text.out);
        let found = run(&home, ["--json", "protector", "verify", "vm.xml"]);
        assert_eq!(found.status, 2);
        assert_eq!(found.json()["valid"], false);
        assert_eq!(found.json()["reason"]["code"], code, "{message}");
        assert_eq!(found.json()["reason"]["at_fault"], "protector");
        let said = found.json()["reason"]["message"].to_string();
        assert!(said.contains(message), "{said}");
    }
}

#[test]
fn what_can_not_be_read_is_status_1() {
    let home = Home::new();
    for path in ["no-such-file", ".", "/proc/self/mem"] {
        let text = run(&home, ["protector", "verify", path]);
        assert_eq!(text.status, 1, "{path}: {}", text.err);
        assert!(text.err.starts_with("error: "), "{}", text.err);
        let found = run(&home, ["protector", "verify", path, "--json"]);
        assert_eq!(found.status, 1);
        assert_eq!(found.json()["error"]["at_fault"], "operator");
    }
}

#[test]
fn a_huge_file_is_not_read_whole() {
    let home = Home::new();
    // A tebibyte that takes no room: reading it would take minutes, and memory that there isn't.
    File::create(home.file("huge"))
        .unwrap()
        .set_len(1 << 40)
        .unwrap();
    for path in ["huge", "/dev/zero"] {
        let found = run(&home, ["protector", "verify", path, "--json"]);
        assert_eq!(found.status, 2, "{path}");
        assert_eq!(found.json()["reason"]["code"], "LimitExceededException");
    }
}

#[test]
fn standard_input_and_links_are_read() {
    let home = in_home(sealed(&forge()));
    std::os::unix::fs::symlink("vm.xml", home.file("link")).unwrap();
    assert_eq!(run(&home, ["protector", "verify", "link"]).status, 0);
    let piped = home
        .command()
        .args(["protector", "verify", "-"])
        .write_stdin(sealed(&forge()))
        .output()
        .unwrap();
    assert_eq!(piped.status.code(), Some(0));
}

#[test]
fn other_peoples_text_does_not_control_the_terminal() {
    let document = "<\u{202e}Protector xmlns=\"\u{1b}[2J\u{9b}2J\"/>".replace('\u{1b}', "&#27;");
    for document in [document, "<a xmlns=\"\u{9b}2J\u{202e}\"/>".to_owned()] {
        let home = in_home(document);
        let text = run(&home, ["protector", "verify", "vm.xml"]);
        assert_eq!(text.status, 2);
        let controls = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
        assert!(!text.out.contains(controls), "{:?}", text.out);
    }
}

#[test]
fn wrong_usage_is_status_64() {
    let home = Home::new();
    for arguments in [
        vec![],
        vec!["protector"],
        vec!["protector", "verify"],
        vec!["protector", "verify", "a", "b"],
        vec!["nonsense"],
    ] {
        let found = run(&home, &arguments);
        assert_eq!(found.status, 64, "{arguments:?}");
        assert!(found.out.is_empty());
        assert!(found.err.contains("Usage: "), "{}", found.err);
        let arguments = [arguments, vec!["--json"]].concat();
        let found = run(&home, &arguments);
        assert_eq!(
            (found.status, &found.json()["error"]["status"]),
            (64, &json!(64))
        );
    }
    assert_eq!(run(&home, ["--help"]).status, 0);
    assert_eq!(run(&home, ["protector", "verify", "--help"]).status, 0);
    assert_eq!(run(&home, ["--version"]).status, 0);
}

#[test]
fn nobody_who_listens_changes_the_finding_but_a_full_disk_fails() {
    let home = in_home("<a/>");
    let spawn = |stdout: Stdio| {
        Command::new(assert_cmd::cargo::cargo_bin!("hgs"))
            .args(["protector", "verify"])
            .arg(home.file("vm.xml"))
            .stdout(stdout)
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    let mut unheard = spawn(Stdio::piped());
    drop(unheard.stdout.take());
    assert_eq!(unheard.wait().unwrap().code(), Some(2));
    let full = File::options()
        .write(true)
        .open(Path::new("/dev/full"))
        .unwrap();
    assert_eq!(spawn(full.into()).wait().unwrap().code(), Some(1));
}
