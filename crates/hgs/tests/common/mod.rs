//! Running the program as its users do.

use std::path::Path;

use assert_cmd::Command;
use serde_json::Value;

/// The program, away from the files of whoever runs the tests.
pub(crate) fn hgs(home: &Path) -> Command {
    let mut command = Command::cargo_bin("hgs").expect("the program is built with its tests");
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home)
        .current_dir(home);
    command
}

/// What came of running the program.
pub(crate) struct Outcome {
    /// The exit status.
    pub(crate) status: i32,
    /// Standard output.
    pub(crate) out: String,
    /// Standard error.
    pub(crate) err: String,
}

impl Outcome {
    /// The one JSON document on standard output.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out)
            .unwrap_or_else(|error| panic!("{error}: {}{}", self.out, self.err))
    }
}

/// Runs the program with `arguments` in `home`.
#[track_caller]
pub(crate) fn run<A: AsRef<std::ffi::OsStr>>(
    home: &Path,
    arguments: impl IntoIterator<Item = A>,
) -> Outcome {
    let output = hgs(home)
        .args(arguments)
        .output()
        .expect("the program runs");
    Outcome {
        status: output.status.code().expect("no signal ends the program"),
        out: String::from_utf8(output.stdout).expect("people and programs get UTF-8"),
        err: String::from_utf8(output.stderr).expect("people get UTF-8"),
    }
}
