//! The program `age` as judge: it opens what we write, and we open what it writes.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use hgs_crypto::SecretBytes;
use hgs_crypto::random::System;
use hgs_custody::age::{self, AgeError, OpenedBy, Recipient, SealedTo};

fn run(name: &str, arguments: &[&str], folder: &Path, input: &[u8]) -> (bool, Vec<u8>) {
    // A pipe would fill up: the program writes before it has read all.
    fs::write(folder.join("input"), input).unwrap();
    let output = Command::new(hgs_testkit::tool(name, "age"))
        .args(arguments)
        .current_dir(folder)
        .stdin(File::open(folder.join("input")).unwrap())
        .output()
        .unwrap();
    (output.status.success(), output.stdout)
}

struct Keys {
    folder: tempfile::TempDir,
    recipient: Recipient,
}

impl Keys {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        assert!(run("age-keygen", &["-o", "key"], folder.path(), b"").0);
        let (made, recipient) = run("age-keygen", &["-y", "key"], folder.path(), b"");
        assert!(made);
        let recipient = String::from_utf8(recipient)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        Self { folder, recipient }
    }

    fn opener(&self) -> OpenedBy {
        let file = SecretBytes::new(fs::read(self.folder.path().join("key")).unwrap());
        let identities = age::identities(&file).unwrap();
        assert_eq!(*identities[0].recipient(), self.recipient);
        OpenedBy::Identities(identities)
    }
}

fn encrypt(content: &[u8], readers: &SealedTo) -> Vec<u8> {
    let mut file = age::encrypt(Vec::new(), readers, &mut System::new()).unwrap();
    file.write_all(content).unwrap();
    file.finish().unwrap()
}

fn decrypt(file: &[u8], key: &OpenedBy) -> Result<Vec<u8>, AgeError> {
    let mut content = Vec::new();
    age::open(file)?.unlock(key)?.read_to_end(&mut content)?;
    Ok(content)
}

fn content(length: usize) -> Vec<u8> {
    (0..length).map(|place| (place * 7 % 253) as u8).collect()
}

#[test]
fn age_opens_ours_and_we_open_its() {
    let (ours, others) = (Keys::new(), Keys::new());
    for length in [0, 1, 65_536, 200_000] {
        let content = content(length);
        let readers = SealedTo::Recipients(vec![others.recipient, ours.recipient]);
        let file = encrypt(&content, &readers);
        let (opened, text) = run("age", &["-d", "-i", "key"], ours.folder.path(), &file);
        assert!(opened && text == content, "{length}");
        assert_eq!(decrypt(&file, &others.opener()).unwrap(), content);

        let recipient = ours.recipient.to_string();
        let (made, file) = run("age", &["-r", &recipient], ours.folder.path(), &content);
        assert!(made);
        assert_eq!(decrypt(&file, &ours.opener()).unwrap(), content);
        assert!(matches!(
            decrypt(&file, &others.opener()),
            Err(AgeError::NoMatch)
        ));
        let (made, armoured) = run(
            "age",
            &["-a", "-r", &recipient],
            ours.folder.path(),
            &content,
        );
        let armoured = String::from_utf8(armoured).unwrap();
        assert!(made);
        for mangled in [
            armoured.clone(),
            format!("\u{feff}{}", armoured.replace('\n', "\r\n")),
            format!("\n  {}\n\n", armoured.trim_end()),
        ] {
            assert_eq!(
                decrypt(mangled.as_bytes(), &ours.opener()).unwrap(),
                content
            );
        }
        let passphrase = OpenedBy::Passphrase(SecretBytes::from(&b"x"[..]));
        assert!(matches!(
            decrypt(&file, &passphrase),
            Err(AgeError::NeedsIdentity)
        ));
    }
}

#[test]
fn age_refuses_what_we_refuse() {
    let keys = Keys::new();
    let file = encrypt(b"content", &SealedTo::Recipients(vec![keys.recipient]));
    for place in [0, 30, 100, 200, file.len() - 1] {
        let mut changed = file.clone();
        changed[place] ^= 1;
        assert!(decrypt(&changed, &keys.opener()).is_err(), "{place}");
        assert!(
            !run("age", &["-d", "-i", "key"], keys.folder.path(), &changed).0,
            "{place}"
        );
    }
}

/// `age` asks for a passphrase at a terminal only: `script` gives it one.
#[test]
fn a_passphrase_is_the_same_to_both() {
    let folder = tempfile::tempdir().unwrap();
    let passphrase = SecretBytes::from(&b"correct horse"[..]);
    let file = encrypt(b"content", &SealedTo::Passphrase(passphrase.clone()));
    fs::write(folder.path().join("ours.age"), &file).unwrap();
    fs::write(folder.path().join("text"), b"theirs").unwrap();
    at_a_terminal(
        "age -d -o opened ours.age",
        &["correct horse"],
        folder.path(),
    );
    assert_eq!(fs::read(folder.path().join("opened")).unwrap(), b"content");
    at_a_terminal(
        "age -p -o theirs.age text",
        &["correct horse", "correct horse"],
        folder.path(),
    );
    let theirs = fs::read(folder.path().join("theirs.age")).unwrap();
    assert!(age::open(&theirs[..]).unwrap().needs_passphrase());
    assert_eq!(
        decrypt(&theirs, &OpenedBy::Passphrase(passphrase)).unwrap(),
        b"theirs"
    );
    let wrong = OpenedBy::Passphrase(SecretBytes::from(&b"wrong"[..]));
    assert!(matches!(
        decrypt(&theirs, &wrong),
        Err(AgeError::WrongPassphrase)
    ));
}

fn at_a_terminal(command: &str, answers: &[&str], folder: &Path) {
    hgs_testkit::tool("age", "age");
    let mut child = Command::new(hgs_testkit::tool("script", "bsdutils"))
        .args(["-q", "-e", "-c", command, "/dev/null"])
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut terminal = child.stdin.take().unwrap();
    let mut prompts = child.stdout.take().unwrap();
    for answer in answers {
        // What is typed before the program asks would be thrown away.
        let mut octet = [0];
        while octet != *b":" {
            prompts.read_exact(&mut octet).unwrap();
        }
        writeln!(terminal, "{answer}").unwrap();
    }
    let mut rest = Vec::new();
    let _ = prompts.read_to_end(&mut rest);
    let status = child.wait().unwrap();
    assert!(
        status.success(),
        "{command}: {}",
        String::from_utf8_lossy(&rest)
    );
}

#[test]
fn mutations_of_a_file_are_refused_and_never_panic() {
    let identity = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj";
    let readers = SealedTo::Recipients(vec![identity.parse().unwrap()]);
    let file = encrypt(b"content", &readers);
    let corpus = [file];
    let tokens: [&[u8]; 4] = [b"-> X25519 ", b"-> scrypt ", b"--- ", b"\n"];
    for mutated in hgs_testkit::Mutations::of(&corpus, &tokens).take(3000) {
        age::fuzzing::fuzz_age_file(&mutated);
    }
}
