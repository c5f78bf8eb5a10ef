//! What tests take from outside the project: other people's programs, and other people's test data.

use std::env;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The path of a program that judges our output, by its name.
///
/// # Panics
///
/// If it is not installed, with the name of the Debian package that has it: a judge that is away has not agreed.
#[track_caller]
pub fn tool(name: &str, debian_package: &str) -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
        .unwrap_or_else(|| {
            panic!(
                "this test needs the program `{name}`: install the Debian package {debian_package}"
            )
        })
}

/// The folder of test data that is not part of the project: `OPENHGS_SHARED`, or `../shared` beside the workspace.
///
/// `None` if it is absent; then the name of the calling test is printed as left out.
pub fn shared() -> Option<PathBuf> {
    let folder = match env::var_os("OPENHGS_SHARED") {
        Some(folder) => PathBuf::from(folder),
        None => workspace().join("../shared"),
    };
    if folder.is_dir() {
        return Some(folder);
    }
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    // Past the capture of `print!`, which would hide the gap when the test passes.
    let _ = writeln!(
        std::io::stderr(),
        "left out: {test} (no folder {}; OPENHGS_SHARED names another)",
        folder.display()
    );
    None
}

fn workspace() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_program_that_every_machine_has() {
        assert!(tool("sh", "dash").is_absolute());
    }

    #[test]
    #[should_panic(expected = "install the Debian package no-such-package")]
    fn names_the_package_of_a_missing_program() {
        tool("no-such-program", "no-such-package");
    }
}
