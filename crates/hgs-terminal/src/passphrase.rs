//! Where passphrases come from: never from the command line, which every user of the machine can read.

use std::env;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use clap::builder::{TypedValueParser, ValueParserFactory};
use clap::error::ErrorKind;
use dialoguer::Password;
use hgs_crypto::SecretBytes;
use hgs_files::{FileError, FileProblem, typed_line};

use crate::{AtFault, Failure};

/// Octets of the longest passphrase.
const LONGEST: usize = 1024;

/// A place where a passphrase is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PassphraseSource {
    /// `file:PATH`: a file that no other user may read; one line feed at its end does not count.
    File(PathBuf),
    /// `credential:NAME`: a credential that systemd passes to the service (`LoadCredential=`).
    Credential(String),
    /// `env:NAME`: an environment variable.
    Variable(String),
}

/// Gets a passphrase from its source, or asks for it at the terminal.
///
/// # Errors
/// When the source does not have one, and when there is neither a source nor a terminal.
pub fn passphrase(source: Option<&PassphraseSource>, what: &str) -> Result<SecretBytes, Failure> {
    match source {
        Some(source) => source.read(),
        None => ask(Password::new().with_prompt(format!("Passphrase of {what}"))),
    }
}

/// As [`passphrase`], for one that is to be set: a person has to type it twice, and is warned of one that is easily
/// guessed. It is a warning only: the user may know what the file is worth, or have a rule of their own.
///
/// # Errors
/// As for [`passphrase`].
pub fn new_passphrase(
    source: Option<&PassphraseSource>,
    what: &str,
) -> Result<SecretBytes, Failure> {
    let passphrase = match source {
        Some(source) => source.read(),
        None => ask(Password::new()
            .with_prompt(format!("New passphrase for {what}"))
            .with_confirmation("The same again", "The two differ.")),
    }?;
    if let Some(weakness) = weakness(passphrase.expose()) {
        eprintln!(
            "warning: the passphrase for {what} {weakness}; an attacker with the file can try billions a day. Four random \
             words, or 16 random characters, are not found"
        );
    }
    Ok(passphrase)
}

/// Characters below which a passphrase is found by trying, whatever it is made of.
const SHORT: usize = 12;

/// What many people choose, and programs that guess try first.
const COMMON: [&str; 24] = [
    "password",
    "passwort",
    "passphrase",
    "kennwort",
    "motdepasse",
    "contrasena",
    "letmein",
    "welcome",
    "willkommen",
    "administrator",
    "admin",
    "qwerty",
    "qwertz",
    "azerty",
    "iloveyou",
    "changeme",
    "secret",
    "monkey",
    "dragon",
    "master",
    "openhgs",
    "shielded",
    "guardian",
    "sunshine",
];

/// Why a passphrase is easily guessed, if it is.
fn weakness(passphrase: &[u8]) -> Option<&'static str> {
    let text = String::from_utf8_lossy(passphrase).to_lowercase();
    let characters: Vec<char> = text.chars().collect();
    if characters.len() < SHORT {
        return Some("has fewer than 12 characters");
    }
    // Of a common word only what is added to it counts, and the usual replacements hide nothing.
    let mut rest = canonical(&text);
    for word in COMMON {
        rest = rest.replace(&canonical(word), "");
    }
    let letters = |c: &char| c.is_alphabetic();
    let mut different = characters.clone();
    different.sort_unstable();
    different.dedup();
    let steps = characters.windows(2).filter(
        |pair| matches!(pair, [one, next] if u32::from(*one).abs_diff(u32::from(*next)) <= 1),
    );
    if different.len() < 6 || steps.count() * 2 > characters.len() {
        Some("repeats or counts on a few characters")
    } else if rest.chars().count() < SHORT / 2 && text.chars().filter(letters).count() > 0 {
        Some("is a common word with little added")
    } else if !characters.iter().any(letters) && characters.len() < 20 {
        Some("has digits and signs only, as dates and numbers have")
    } else {
        None
    }
}

/// `text` without white space, and with letters in place of the signs that stand for them.
fn canonical(text: &str) -> String {
    let letter = |character| match character {
        '0' => 'o',
        '@' => 'a',
        '1' | '!' | 'l' => 'i',
        '3' => 'e',
        '$' | '5' => 's',
        other => other,
    };
    let characters = text.chars().filter(|character| !character.is_whitespace());
    characters.map(letter).collect()
}

fn ask(prompt: Password<'_>) -> Result<SecretBytes, Failure> {
    match prompt.interact() {
        Ok(passphrase) => Ok(SecretBytes::new(passphrase.into_bytes())),
        Err(dialoguer::Error::IO(error)) => Err(
            Failure::failed(format!("a passphrase is needed, and can't be asked for: {error}"))
                .at_fault(AtFault::Operator)
                .remedy(
                    "give its place with an option `…passphrase-from file:PATH`, `env:NAME` or `credential:NAME`",
                ),
        ),
    }
}

impl PassphraseSource {
    fn read(&self) -> Result<SecretBytes, Failure> {
        let passphrase = match self {
            Self::File(path) => hgs_files::read_named_secret(path, LONGEST)?,
            Self::Credential(name) => credential(name)?,
            Self::Variable(name) => {
                let value = env::var_os(name).ok_or_else(|| {
                    operator(format!("the environment variable {name} is not set"))
                })?;
                SecretBytes::new(value.into_vec())
            }
        };
        typed_line(&passphrase).map_err(|problem| {
            operator(format!("the passphrase {problem}"))
                .remedy("write it anew into its place, as plain text in one line")
        })
    }
}

/// systemd guards the folder, whose files may belong to root and be readable by an access control list.
fn credential(name: &str) -> Result<SecretBytes, Failure> {
    let plain_name = Path::new(name).file_name() == Some(OsStr::new(name));
    let folder = env::var_os("CREDENTIALS_DIRECTORY").filter(|_| plain_name);
    let Some(folder) = folder else {
        return Err(
            operator(format!("there is no credential {}", name.escape_debug()))
                .remedy("add `LoadCredential=` to the unit; only systemd passes credentials"),
        );
    };
    let path = Path::new(&folder).join(name);
    match hgs_files::read(&path, LONGEST) {
        Ok(octets) => Ok(SecretBytes::new(octets)),
        Err(
            error @ FileError {
                problem: FileProblem::NotFound,
                ..
            },
        ) => Err(Failure::from(error).remedy("add `LoadCredential=` to the unit")),
        Err(error) => Err(error.into()),
    }
}

fn operator(message: impl std::fmt::Display) -> Failure {
    Failure::failed(message).at_fault(AtFault::Operator)
}

impl ValueParserFactory for PassphraseSource {
    type Parser = PassphraseSourceParser;

    fn value_parser() -> PassphraseSourceParser {
        PassphraseSourceParser
    }
}

/// Reads a [`PassphraseSource`] from an argument.
#[derive(Debug, Clone, Copy)]
pub struct PassphraseSourceParser;

impl TypedValueParser for PassphraseSourceParser {
    type Value = PassphraseSource;

    fn parse_ref(
        &self,
        command: &clap::Command,
        _: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<PassphraseSource, clap::Error> {
        let parsed = value.to_str().and_then(|text| match text.split_once(':') {
            Some(("file", path)) if !path.is_empty() => Some(PassphraseSource::File(path.into())),
            Some(("credential", name)) if !name.is_empty() => {
                Some(PassphraseSource::Credential(name.to_owned()))
            }
            Some(("env", name)) if !name.is_empty() => {
                Some(PassphraseSource::Variable(name.to_owned()))
            }
            _ => None,
        });
        // The value is not repeated: it may be the passphrase itself.
        parsed.ok_or_else(|| {
            let advice = "a passphrase is kept in `file:PATH`, `credential:NAME` or `env:NAME`; it is never given on \
                          the command line, where others can read it\n";
            clap::Error::raw(ErrorKind::ValueValidation, advice).with_cmd(command)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_gives_its_one_line_if_it_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("passphrase");
        let source = PassphraseSource::File(path.clone());
        fs::write(&path, "correct horse\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let failure = passphrase(Some(&source), "x").unwrap_err().to_string();
        assert!(failure.contains("remedy: run `chmod go= "), "{failure}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let read = passphrase(Some(&source), "x").unwrap();
        assert_eq!(read.expose(), b"correct horse");
        // PowerShell's `>` writes UTF-16, which is not what is typed at a prompt.
        for refused in [&b"\n"[..], b"\xff\xfec\0o\0", "cor\u{200b}rect".as_bytes()] {
            fs::write(&path, refused).unwrap();
            assert!(new_passphrase(Some(&source), "x").is_err());
        }
    }

    #[test]
    fn what_is_easily_guessed_is_told_from_what_is_not() {
        for weak in [
            "short",
            "correct",
            "aaaaaaaaaaaaaaaa",
            "abcdefghijklmnop",
            "123456789012",
            "Password2026",
            "P@ssw0rd12345",
            "2026-11-28 12:00",
            "Administrator1",
            "ababababababab",
        ] {
            assert!(weakness(weak.as_bytes()).is_some(), "{weak}");
        }
        for strong in [
            "correct horse battery staple",
            "correct horse",
            "kV3hBqZ8wTm2xRfL",
            "Zwei Amseln tauen flink",
            "\u{43f}\u{430}\u{440}\u{43e}\u{43b}\u{44c} \u{434}\u{43b}\u{44f} \u{441}\u{435}\u{439}\u{444}\u{430}",
        ] {
            assert_eq!(weakness(strong.as_bytes()), None, "{strong}");
        }
    }

    #[test]
    fn a_credential_is_a_plain_name() {
        for name in ["../secret", "a/b", ".."] {
            assert!(credential(name).is_err());
        }
    }

    #[test]
    fn a_passphrase_on_the_command_line_is_refused_and_not_repeated() {
        #[derive(Debug, clap::Parser)]
        struct Arguments {
            #[arg(long)]
            passphrase_from: PassphraseSource,
        }
        let parse = |value| {
            <Arguments as clap::Parser>::try_parse_from(["x", "--passphrase-from", value])
                .map(|arguments| arguments.passphrase_from)
        };
        let credential = PassphraseSource::Credential("owner".to_owned());
        assert_eq!(parse("credential:owner").unwrap(), credential);
        for value in ["hunter2", "pass:hunter2", "env:", "file"] {
            let error = parse(value).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
