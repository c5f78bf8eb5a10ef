//! The test vectors of the age format by C2SP, but for those of hybrid recipients.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::path::Path;

use hgs_crypto::hash::sha256;
use hgs_crypto::{SecretBytes, hex};
use hgs_custody::age::{self, AgeError, OpenedBy};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/age-vectors");

/// One vector: its header, and the encrypted file.
struct Vector {
    fields: Vec<(String, String)>,
    file: Vec<u8>,
}

impl Vector {
    fn read(path: &Path) -> Self {
        let octets = fs::read(path).unwrap();
        let end = octets.windows(2).position(|pair| pair == b"\n\n").unwrap();
        let header = str::from_utf8(&octets[..end]).unwrap();
        let fields: Vec<_> = header
            .lines()
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let mut file = octets[end + 2..].to_vec();
        if fields.iter().any(|(name, _)| name == "compressed") {
            file = miniz_oxide::inflate::decompress_to_vec_zlib(&file).unwrap();
        }
        Self { fields, file }
    }

    fn field(&self, wanted: &str) -> Option<&str> {
        let mut fields = self.fields.iter();
        let found = fields.find(|(name, _)| name == wanted);
        found.map(|(_, value)| value.as_str())
    }

    fn opener(&self) -> OpenedBy {
        if let Some(passphrase) = self.field("passphrase") {
            return OpenedBy::Passphrase(SecretBytes::from(passphrase.as_bytes()));
        }
        let identities: Vec<&str> = self
            .fields
            .iter()
            .filter(|(name, _)| name == "identity")
            .map(|(_, value)| value.as_str())
            .collect();
        let identities = SecretBytes::from(identities.join("\n").as_bytes());
        OpenedBy::Identities(age::identities(&identities).unwrap())
    }

    /// What is given out, and how it ends.
    fn outcome(&self) -> (Vec<u8>, &'static str) {
        let mut content = Vec::new();
        let armoured = self.field("armored").is_some();
        let mut opened =
            match age::open(&self.file[..]).and_then(|file| file.unlock(&self.opener())) {
                Ok(opened) => opened,
                Err(AgeError::NoMatch | AgeError::WrongPassphrase) => return (content, "no match"),
                // A passphrase was given, and no recipient takes one.
                Err(AgeError::NeedsIdentity) => return (content, "no match"),
                Err(AgeError::HeaderChanged) => return (content, "HMAC failure"),
                Err(AgeError::File(error)) if armoured && error.to_string().contains("armour") => {
                    return (content, "armor failure");
                }
                // Among them a nonce that is cut off.
                Err(_) => return (content, "header failure"),
            };
        match opened.read_to_end(&mut content) {
            Ok(_) => (content, "success"),
            Err(error) if armoured && error.to_string().contains("armour") => {
                (content, "armor failure")
            }
            Err(_) => (content, "payload failure"),
        }
    }
}

#[test]
fn the_vectors_of_c2sp_come_out_as_expected() {
    let mut outcomes = BTreeSet::new();
    let mut failed = Vec::new();
    let mut count = 0;
    for entry in fs::read_dir(FOLDER).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some() {
            continue;
        }
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let vector = Vector::read(&path);
        let expected = vector.field("expect").unwrap().to_owned();
        let (content, outcome) = vector.outcome();
        let digest = hex::encode(&sha256(&content));
        let as_expected = match expected.as_str() {
            // Nothing may be given out of an armoured file that fails, or a part that is authentic.
            "armor failure" => outcome != "success",
            "payload failure" => {
                outcome == expected && vector.field("payload").is_none_or(|one| one == digest)
            }
            "success" => outcome == expected && vector.field("payload") == Some(digest.as_str()),
            _ => outcome == expected,
        };
        if !as_expected {
            failed.push(format!("{name}: {outcome} instead of {expected}"));
        }
        outcomes.insert(expected);
        count += 1;
    }
    assert!(failed.is_empty(), "{failed:#?}");
    assert_eq!((count, outcomes.len()), (124, 6));
}
