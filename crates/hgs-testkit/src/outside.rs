//! Programs and test data from outside the project.

use std::collections::HashMap;
use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

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

/// Where the packages of npm are that the lock file of a folder in `conformance` pins. They are installed if they are not there.
///
/// # Panics
///
/// If they are not there and can't be installed, with what is missing.
#[track_caller]
pub fn npm_packages(folder: &str) -> PathBuf {
    let program = workspace().join("conformance/npm-install");
    let installed = Command::new(program).arg(folder).output();
    let installed = installed.expect("the program that installs them starts");
    let complaint = String::from_utf8_lossy(&installed.stderr);
    assert!(installed.status.success(), "{complaint}");
    let kept = String::from_utf8_lossy(&installed.stdout);
    PathBuf::from(kept.trim())
}

/// The calls of a trace by `strace -f`, each on one line, where it ended: strace breaks the line of a call during which another thread makes one.
pub fn traced_calls(trace: &str) -> Vec<String> {
    let mut begun = HashMap::new();
    let mut calls = Vec::new();
    for line in trace.lines() {
        let (process, call) = line.split_once(' ').unwrap();
        if let Some(start) = line.strip_suffix(" <unfinished ...>") {
            begun.insert(process, start);
        } else if let Some((_, end)) = call
            .trim_start()
            .strip_prefix("<... ")
            .and_then(|call| call.split_once(" resumed>"))
        {
            calls.push(begun.remove(process).unwrap_or_default().to_owned() + end);
        } else {
            calls.push(line.to_owned());
        }
    }
    // A process that is killed ends in the midst of a call.
    calls.extend(begun.into_values().map(str::to_owned));
    calls
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
    left_out(&format!(
        "{test} (no folder {}; OPENHGS_SHARED names another)",
        folder.display()
    ));
    None
}

/// Says that a part of a test could not run, and why: in the file that `OPENHGS_LEFT_OUT` names, from which `./test`
/// sums up, or on standard error.
///
/// # Panics
///
/// If that file can't be written.
pub fn left_out(what: &str) {
    match env::var_os("OPENHGS_LEFT_OUT") {
        Some(file) => {
            let file = File::options().create(true).append(true).open(file);
            // One write, so that lines of tests that run side by side stay whole.
            let written = file.and_then(|mut file| file.write_all(format!("{what}\n").as_bytes()));
            written.expect("OPENHGS_LEFT_OUT names a file that can be written");
        }
        // Past the capture of `print!`, which would hide the gap when the test passes.
        None => drop(writeln!(std::io::stderr(), "left out: {what}")),
    }
}

/// Whether this process may become another user and mount. If it may not, `what` is left out, with the reason.
#[must_use]
pub fn is_privileged(what: &str) -> bool {
    match refused_privilege() {
        None => true,
        Some(reason) => {
            left_out(&format!("{what}: {reason}"));
            false
        }
    }
}

/// The beginning of a command that runs the rest in a mount namespace of its own, where it may mount; for users other
/// than root, in a user namespace too. `None` where the system allows neither; `what` is reported as left out.
pub fn in_mount_namespace(what: &str) -> Option<Command> {
    let mut arguments = vec!["--mount", "--propagation", "private"];
    if !rustix::process::geteuid().is_root() {
        arguments.extend(["--user", "--map-root-user"]);
    }
    let command = || {
        let mut command = Command::new(tool("unshare", "util-linux"));
        command.args(&arguments);
        command
    };
    let tried = command().arg("true").output();
    let reason = match tried {
        Ok(output) if output.status.success() => return Some(command()),
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    left_out(&format!("{what}: nothing may be mounted here ({reason})"));
    None
}

fn refused_privilege() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("only root can do it".to_owned());
    }
    let unshare = tool("unshare", "util-linux");
    let tried = Command::new(unshare)
        .args(["--mount", "--propagation", "private", "true"])
        .output();
    match tried {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(format!(
            "this root may not mount ({}); in a chroot, its folder must be a mount point: mount --bind DIR DIR",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
        Err(error) => Some(format!("unshare can't be started: {error}")),
    }
}

fn workspace() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// The first block in this language of a page in `docs`, as its readers copy it.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn block_of_page(page: &str, language: &str) -> String {
    let page = workspace().join("docs").join(page);
    let text = fs::read_to_string(page).expect("the page is there");
    let begin = format!("```{language}\n");
    let (_, block) = text.split_once(&begin).expect("the page has such a block");
    let (block, _) = block.split_once("```").expect("the block has an end");
    block.to_owned()
}

/// The environment variables by which `faketime` gives a program its date: a test that clears the environment of a
/// program passes these on.
pub fn date_variables() -> impl Iterator<Item = (OsString, OsString)> {
    env::vars_os().filter(|(name, _)| {
        let name = name.to_string_lossy();
        name == "LD_PRELOAD" || name == "NO_FAKE_STAT" || name.starts_with("FAKETIME")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_program_that_every_machine_has() {
        assert!(tool("sh", "dash").is_absolute());
    }

    #[test]
    fn joins_the_lines_of_a_call() {
        let trace = "7  read(3<pipe:[1]>,  <unfinished ...>\n\
                     8  write(4, \"y\", 1) = 1\n\
                     7  <... read resumed>\"x\", 1) = 1\n\
                     8  +++ exited with 0 +++";
        let calls = [
            "8  write(4, \"y\", 1) = 1",
            "7  read(3<pipe:[1]>, \"x\", 1) = 1",
            "8  +++ exited with 0 +++",
        ];
        assert_eq!(traced_calls(trace), calls);
    }

    #[test]
    #[should_panic(expected = "install the Debian package no-such-package")]
    fn names_the_package_of_a_missing_program() {
        tool("no-such-program", "no-such-package");
    }
}
