//! openssl as the judge of what we write, and as the author of what we read.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs `openssl` with `arguments` in `directory`, feeding `input`; the command must succeed.
pub(crate) fn openssl(directory: &Path, arguments: &str, input: &[u8]) -> Vec<u8> {
    let (output, errors) = try_openssl(directory, arguments, input);
    output.unwrap_or_else(|| panic!("openssl {arguments}: {errors}"))
}

/// The same, for commands that may refuse: no output then, and what openssl said.
pub(crate) fn try_openssl(
    directory: &Path,
    arguments: &str,
    input: &[u8],
) -> (Option<Vec<u8>>, String) {
    let mut child = Command::new("openssl")
        .args(arguments.split_whitespace())
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("this test needs openssl (Debian package openssl)");
    // A command that does not read its input may close it first.
    let _ = child.stdin.take().map(|mut stdin| stdin.write_all(input));
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.success().then_some(output.stdout), errors)
}
