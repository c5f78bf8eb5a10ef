//! The hook's file: written, removed, looked at.

use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use hgs_agent::{AgentFolders, Client};
use hgs_files::{FileError, Readers};
use hgs_terminal::{AtFault, Exit, Failure, Table, Terminal};
use hgs_vm::program::Program;
use serde::Serialize;

use crate::failure::failure;

/// The folder whose programs libvirt runs, since 6.5, for domains of QEMU.
const FOLDER: &str = "etc/libvirt/hooks/qemu.d";
const NAME: &str = "guarded-host";
/// By this a hook is known that may be replaced and removed.
const MARK: &str = "# Written by `guarded-host libvirt install`.";
/// Octets of the largest hook of ours.
const LIMIT: usize = 16 * 1024;
/// The first version of libvirt that takes a TPM from another program.
const OLDEST: (u32, u32) = (9, 0);
/// The daemons that run domains of QEMU, the one for all drivers and the one for this driver.
const DAEMONS: [&str; 2] = ["libvirtd", "virtqemud"];

/// Which system it is about.
#[derive(Debug, clap::Args)]
pub(super) struct Place {
    /// Work below this folder, as makers of images need it
    #[arg(long, value_name = "FOLDER", default_value = "/")]
    root: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(super) struct Install {
    #[command(flatten)]
    place: Place,
    /// The user that libvirt's QEMU runs as (`user` in /etc/libvirt/qemu.conf) [default: libvirt-qemu or qemu, if there is one]
    #[arg(long, value_name = "NAME", value_parser = user)]
    user: Option<String>,
}

/// The name or the number of a user.
fn user(text: &str) -> Result<String, &'static str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    match !text.is_empty() && text.chars().all(plain) {
        true => Ok(text.to_owned()),
        false => Err("a user's name has letters, digits, `-`, `_` and `.`"),
    }
}

impl Install {
    pub(super) fn run(self, folders: &AgentFolders, terminal: &Terminal) -> Result<Exit, Failure> {
        let version = self.place.libvirt_version();
        if let Some((major, minor)) = version.filter(|version| *version < OLDEST) {
            return Err(Failure::refused(format_args!(
                "this is libvirt {major}.{minor}, and a TPM from another program needs 9.0 or later"
            ))
            .at_fault(AtFault::Operator));
        }
        let user = self.user.unwrap_or_else(default_user);
        let path = self.place.hook();
        if let Some(Hook::Foreign) = Hook::at(&path)? {
            return Err(Failure::refused(format_args!(
                "{} is not this program's, and is not replaced",
                path.display()
            ))
            .at_fault(AtFault::Operator)
            .remedy("move it away"));
        }
        let text = script(folders, &user)?;
        if let Some(folder) = path.parent() {
            let created = fs::create_dir_all(folder);
            created.map_err(|error| failure(FileError::at(folder, error)))?;
        }
        hgs_files::replace(&path, text.as_bytes(), Readers::Everybody).map_err(failure)?;
        let executable = fs::set_permissions(&path, fs::Permissions::from_mode(0o755));
        executable.map_err(|error| failure(FileError::at(&path, error)))?;
        terminal.report(&Installed {
            hook: path,
            user,
            libvirt: version.map(|(major, minor)| format!("{major}.{minor}")),
        })?;
        Ok(Exit::Done)
    }
}

impl Place {
    fn hook(&self) -> PathBuf {
        self.root.join(FOLDER).join(NAME)
    }

    /// Of this system; of another root nothing is run.
    fn libvirt_version(&self) -> Option<(u32, u32)> {
        if self.root != Path::new("/") {
            return None;
        }
        let daemon = DAEMONS.iter().find_map(|name| Program::find(name))?;
        let output = daemon.command().arg("--version").output().ok()?;
        version_in(&String::from_utf8_lossy(&output.stdout))
    }

    pub(super) fn uninstall(self, terminal: &Terminal) -> Result<Exit, Failure> {
        let path = self.hook();
        match Hook::at(&path)? {
            Some(Hook::Foreign) => Err(Failure::refused(format_args!(
                "{} is not this program's, and stays",
                path.display()
            ))
            .at_fault(AtFault::Operator)),
            found => {
                if found.is_some() {
                    hgs_files::remove(&path).map_err(failure)?;
                }
                terminal.report(&Uninstalled {
                    removed: found.map(|_| path),
                })?;
                Ok(Exit::Done)
            }
        }
    }

    pub(super) fn status(
        self,
        folders: &AgentFolders,
        terminal: &Terminal,
    ) -> Result<Exit, Failure> {
        let path = self.hook();
        let hook = match Hook::at(&path)? {
            None => "not installed: `guarded-host libvirt install`".to_owned(),
            Some(Hook::Foreign) => format!("{} is another program's", path.display()),
            Some(Hook::Ours { user }) => {
                let same = script(folders, &user)?;
                let text = hgs_files::read(&path, LIMIT).map_err(failure)?;
                match text == same.as_bytes() {
                    true => format!("installed, for QEMU of the user {user}"),
                    false => "installed with other folders, or by another version: `guarded-host libvirt install` again".to_owned(),
                }
            }
        };
        let agent = match Client::new(&folders.socket()).status() {
            Ok(_) => "answers".to_owned(),
            Err(error) => error.to_string(),
        };
        let works = hook.starts_with("installed, ") && agent == "answers";
        terminal.report(&Status {
            hook,
            agent,
            libvirt: match self.libvirt_version() {
                Some((major, minor)) => format!("{major}.{minor}"),
                None => "not found".to_owned(),
            },
        })?;
        Ok(if works { Exit::Done } else { Exit::Failed })
    }
}

/// What stands where the hook belongs.
enum Hook {
    Ours {
        /// The user that libvirt's QEMU runs as.
        user: String,
    },
    Foreign,
}

impl Hook {
    fn at(path: &Path) -> Result<Option<Self>, Failure> {
        if !hgs_files::exists(path).map_err(failure)? {
            return Ok(None);
        }
        let Ok(text) = hgs_files::read(path, LIMIT) else {
            return Ok(Some(Self::Foreign));
        };
        let text = String::from_utf8_lossy(&text);
        let user = text
            .split("--user '")
            .nth(1)
            .and_then(|rest| rest.split('\'').next());
        Ok(Some(match user {
            Some(user) if text.contains(MARK) => Self::Ours {
                user: user.to_owned(),
            },
            _ => Self::Foreign,
        }))
    }
}

/// The hook. libvirt gives it an environment without anything, so it names all folders.
fn script(folders: &AgentFolders, user: &str) -> Result<String, Failure> {
    let program = std::env::current_exe().map_err(|error| {
        Failure::of(&error)
            .at_fault(AtFault::Ourselves)
            .while_doing("finding the path of this program")
    })?;
    let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
    let path = |path: &Path| {
        let absolute = std::path::absolute(path).ok();
        let text = absolute.as_deref().and_then(Path::to_str).map(quoted);
        text.ok_or_else(|| {
            Failure::refused(format_args!("{} can't stand in a script", path.display()))
                .at_fault(AtFault::Operator)
        })
    };
    Ok(format!(
        "#!/bin/sh\n{MARK}\n# Has the keys of shielded VMs released before libvirt starts them, or refuses.\n\
         exec {} libvirt --config {} --state {} --runtime {} hook --user '{user}' -- \"$@\"\n",
        path(&program)?,
        path(&folders.host.configuration)?,
        path(&folders.host.state)?,
        path(&folders.runtime)?,
    ))
}

/// The user that distributions give libvirt's QEMU.
fn default_user() -> String {
    let is_there =
        |name: &&str| nix::unistd::User::from_name(name).is_ok_and(|user| user.is_some());
    let known = ["libvirt-qemu", "qemu"].into_iter().find(is_there);
    known.unwrap_or("root").to_owned()
}

/// From `libvirtd (libvirt) 9.0.0`.
fn version_in(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split_whitespace().last()?.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[derive(Serialize)]
struct Installed {
    hook: PathBuf,
    user: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    libvirt: Option<String>,
}

impl fmt::Display for Installed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "The hook is {}, for QEMU of the user {}.\n\
             libvirt looks for hooks when it starts. Restart it if it had none, VMs go on meanwhile:\n  \
             systemctl restart libvirtd        (or virtqemud)",
            self.hook.display(),
            self.user
        )
    }
}

#[derive(Serialize)]
struct Uninstalled {
    removed: Option<PathBuf>,
}

impl fmt::Display for Uninstalled {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.removed {
            Some(hook) => writeln!(formatter, "The hook {} is removed.", hook.display()),
            None => writeln!(formatter, "There was no hook."),
        }
    }
}

#[derive(Serialize)]
struct Status {
    hook: String,
    agent: String,
    libvirt: String,
}

impl fmt::Display for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = [
            ("hook", &self.hook),
            ("agent", &self.agent),
            ("libvirt", &self.libvirt),
        ];
        Table::of_pairs(rows.map(|(name, value)| (name, value.clone()))).fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(version_in("libvirtd (libvirt) 9.0.0\n"), Some((9, 0)));
        assert_eq!(version_in("virtqemud (libvirt) 11.3.0\n"), Some((11, 3)));
        assert!(version_in("libvirtd (libvirt) 8.10.0").unwrap() < OLDEST);
        assert_eq!(version_in("something else"), None);
        assert_eq!(version_in(""), None);
    }
}
