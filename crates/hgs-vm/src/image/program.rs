//! Programs that make images, and how they get secrets.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use hgs_crypto::SecretBytes;
use rustix::fs::{MemfdFlags, Mode, fchmod, memfd_create};

use super::ImageError;
use crate::program::Program;

/// Where a program finds its standard input by a path.
pub(super) const STANDARD_INPUT: &str = "/proc/self/fd/0";

/// A program of this machine.
pub(super) fn installed(name: &'static str, package: &'static str) -> Result<Program, ImageError> {
    Program::find(name).ok_or(ImageError::NotInstalled {
        program: name,
        package,
    })
}

/// Runs a program to its end.
pub(super) fn run<A: AsRef<OsStr>>(
    program: &Program,
    arguments: impl IntoIterator<Item = A>,
) -> Result<Output, ImageError> {
    finish(
        program,
        program.command().args(arguments).stdin(Stdio::null()),
    )
}

/// Runs a program to its end, with a secret as its standard input.
pub(super) fn run_with_secret<A: AsRef<OsStr>>(
    program: &Program,
    arguments: impl IntoIterator<Item = A>,
    secret: &SecretBytes,
) -> Result<Output, ImageError> {
    let input = in_memory(secret).map_err(ImageError::at(&program.path))?;
    finish(program, program.command().args(arguments).stdin(input))
}

/// Runs a command of a program to its end. Its messages are in English, whatever the user's language is.
pub(super) fn finish(program: &Program, command: &mut Command) -> Result<Output, ImageError> {
    let output = command.env("LC_ALL", "C").output();
    let output = output.map_err(ImageError::at(&program.path))?;
    match output.status.success() {
        true => Ok(output),
        false => Err(failed(program, &output)),
    }
}

pub(super) fn failed(program: &Program, output: &Output) -> ImageError {
    let said = String::from_utf8_lossy(&output.stderr);
    let message = match said.trim() {
        "" => output.status.to_string(),
        said => said.replace('\n', "; "),
    };
    ImageError::Failed {
        program: name(&program.path),
        message,
    }
}

fn name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// A secret in a file in memory: unlike a pipe it can be read twice and from any place, which `systemd-cryptenroll` does.
pub(super) fn in_memory(secret: &SecretBytes) -> io::Result<File> {
    let file = memfd_create("secret", MemfdFlags::CLOEXEC)?;
    // systemd-cryptenroll warns about files of keys that others may read.
    fchmod(&file, Mode::RUSR | Mode::WUSR)?;
    let mut file = File::from(file);
    file.write_all(secret.expose())?;
    file.rewind()?;
    Ok(file)
}
