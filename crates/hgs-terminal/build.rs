//! Finds out which commit is built, for `--version`.
//!
//! From the first of these that says: the variable `OPENHGS_COMMIT` ("COMMIT DATE", for packagers), `commit.txt` of a source
//! archive (`git archive` writes the commit into it), and Git. Git is asked for release builds only: with it the programs
//! are built again after each commit.

use std::env;
use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=OPENHGS_COMMIT");
    println!("cargo::rerun-if-changed=commit.txt");
    println!("cargo::rerun-if-changed=build.rs");
    let given = env::var("OPENHGS_COMMIT").ok();
    let archived = std::fs::read_to_string("commit.txt").ok();
    let is_release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let commit = [given, archived]
        .into_iter()
        .flatten()
        .find_map(|text| commit(&text))
        .or_else(|| is_release.then(committed).flatten());
    let commit = match commit {
        Some(commit) => commit,
        None if is_release => "unknown commit".to_owned(),
        None => "development build".to_owned(),
    };
    println!("cargo::rustc-env=OPENHGS_BUILT_FROM={commit}");
}

/// The first 12 digits of the commit, and its date, from "COMMIT DATE".
fn commit(text: &str) -> Option<String> {
    let (commit, date) = text.trim().split_once(' ')?;
    let is_commit = commit.len() >= 12 && commit.bytes().all(|octet| octet.is_ascii_hexdigit());
    let is_date = date.len() == 10
        && date
            .bytes()
            .all(|octet| octet.is_ascii_digit() || octet == b'-');
    (is_commit && is_date).then(|| format!("{} {date}", &commit[..12]))
}

/// The commit that is checked out, if this is the top of its own repository and not a copy inside another one.
fn committed() -> Option<String> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let top = git(&["rev-parse", "--show-toplevel"])?;
    if Path::new(&top).canonicalize().ok()? != workspace.canonicalize().ok()? {
        return None;
    }
    for name in ["HEAD", "logs/HEAD"] {
        let path = git(&["rev-parse", "--path-format=absolute", "--git-path", name])?;
        if Path::new(&path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    commit(&git(&["log", "-1", "--format=%H %cs"])?)
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
