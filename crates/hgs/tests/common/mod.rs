//! Running the program as its users do.
#![allow(dead_code, reason = "each test file uses what it needs")]

pub(crate) mod followed;
pub(crate) mod machine;
pub(crate) mod ordinary;
pub(crate) mod served;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use serde_json::Value;
use tempfile::TempDir;

use self::ordinary::folder_of_programs;

/// Somebody's home folder.
pub(crate) struct Home(TempDir);

/// What came of running the program.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The exit status.
    pub(crate) status: i32,
    /// Standard output.
    pub(crate) out: String,
    /// Standard error.
    pub(crate) err: String,
}

impl Drop for Home {
    fn drop(&mut self) {
        hgs_testkit::end_processes_of(self.path());
    }
}

impl Home {
    /// An empty one, with a passphrase in the file `passphrase`.
    pub(crate) fn new() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        home.write_private("passphrase", "correct horse\n");
        home
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.file(name)).unwrap()
    }

    pub(crate) fn write(&self, name: &str, octets: impl AsRef<[u8]>) {
        fs::write(self.file(name), octets).unwrap();
    }

    pub(crate) fn write_private(&self, name: &str, octets: impl AsRef<[u8]>) {
        self.write(name, octets);
        fs::set_permissions(self.file(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Permission bits of a file.
    pub(crate) fn mode(&self, name: &str) -> u32 {
        let meta = fs::symlink_metadata(self.file(name)).unwrap();
        meta.permissions().mode() & 0o7777
    }

    /// The program at home, away from the files and variables of whoever runs the tests.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("hgs"));
        command
            .env_clear()
            .envs(hgs_testkit::date_variables())
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path())
            .current_dir(self.path());
        command
    }

    /// Runs the program with `words`, split at spaces.
    #[track_caller]
    pub(crate) fn hgs(&self, words: &str) -> Outcome {
        Outcome::of(self.command().args(words.split(' ')))
    }

    /// As [`Self::hgs`], with the passphrase.
    #[track_caller]
    pub(crate) fn unlocked(&self, words: &str) -> Outcome {
        let mut command = self.command();
        command.env("HGS_PASSPHRASE_FROM", "file:passphrase");
        Outcome::of(command.args(words.split(' ')))
    }

    /// Runs `openssl` here; the command must succeed.
    #[track_caller]
    pub(crate) fn openssl(&self, words: &str) -> Vec<u8> {
        let output = std::process::Command::new(hgs_testkit::tool("openssl", "openssl"))
            .args(words.split(' '))
            .current_dir(self.path())
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {words}: {errors}");
        output.stdout
    }

    /// Makes a host key in `NAME.key`, and its public half in `NAME.pem`.
    #[track_caller]
    pub(crate) fn make_host_key(&self, name: &str) {
        self.openssl(&format!(
            "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out {name}.key"
        ));
        self.openssl(&format!("pkey -in {name}.key -pubout -out {name}.pem"));
    }
}

/// The program of a host whose configuration and state are in `folder`, with `words`, split at spaces.
pub(crate) fn guarded_host(folder: &Path, words: &str) -> Command {
    let mut command = Command::new(folder_of_programs().join("guarded-host"));
    command
        .env_clear()
        .envs(hgs_testkit::date_variables())
        .env("HOME", folder)
        .env("HGS_HOST_CONFIG", folder.join("guarded-host.toml"))
        .env("HGS_HOST_STATE", folder.join("state"))
        .current_dir(folder)
        .args(words.split(' '));
    command
}

impl Outcome {
    #[track_caller]
    pub(crate) fn of(command: &mut Command) -> Self {
        let output = command.output().expect("the program runs");
        Self {
            status: output.status.code().expect("no signal ends the program"),
            out: String::from_utf8(output.stdout).expect("people and programs get UTF-8"),
            err: String::from_utf8(output.stderr).expect("people get UTF-8"),
        }
    }

    /// That it is done.
    #[track_caller]
    pub(crate) fn done(self) -> Self {
        self.ended(0)
    }

    /// That it ended with `status`.
    #[track_caller]
    pub(crate) fn ended(self, status: i32) -> Self {
        assert_eq!(self.status, status, "{}{}", self.out, self.err);
        self
    }

    /// That it says `text`, in whatever way.
    #[track_caller]
    pub(crate) fn saying(self, text: impl AsRef<str>) -> Self {
        let said = format!("{}{}", self.out, self.err);
        assert!(said.contains(text.as_ref()), "{said}");
        self
    }

    /// The one JSON document on standard output.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out)
            .unwrap_or_else(|error| panic!("{error}: {}{}", self.out, self.err))
    }
}

/// Runs the program with `arguments` in `home`.
#[track_caller]
pub(crate) fn run<A: AsRef<OsStr>>(home: &Home, arguments: impl IntoIterator<Item = A>) -> Outcome {
    Outcome::of(home.command().args(arguments))
}
