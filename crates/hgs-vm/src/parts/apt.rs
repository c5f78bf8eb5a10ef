//! apt and dpkg as they are asked: with lists and a cache of our own, and never to install.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::PartsError;

/// The file of [`SETTINGS_TEXT`].
const SETTINGS: &str = "apt.conf";
/// What is read after the system's own settings: nothing without a valid signature, nothing that is not needed, and no hooks,
/// which are for the system's own packages.
const SETTINGS_TEXT: &str = r#"
APT::Get::AllowUnauthenticated "false";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
Acquire::AllowDowngradeToInsecureRepositories "false";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::Retries "2";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
APT::Install-Recommends "false";
APT::Update::Error-Mode "any";
Debug::NoLocking "true";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
"#;

/// A package that is fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Octets that are downloaded for it.
    pub octets: u64,
}

/// The names of the packages that are installed, without their architectures.
pub(super) fn installed() -> Result<BTreeSet<String>, PartsError> {
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat=${db:Status-Status} ${Package}\\n"]);
    let output = run(&mut query, "dpkg-query --show")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let names = text
        .lines()
        .filter_map(|line| line.strip_prefix("installed "));
    Ok(names.map(str::to_owned).collect())
}

/// apt with a state of its own, in which nothing is installed.
#[derive(Debug)]
pub(super) struct Apt {
    folder: PathBuf,
}

impl Apt {
    /// Prepares its folders.
    pub(super) fn new(folder: &Path) -> Result<Self, PartsError> {
        for part in ["lists/partial", "cache/archives/partial", "debs"] {
            let part = folder.join(part);
            fs::create_dir_all(&part).map_err(|error| PartsError::at(&part, error))?;
        }
        for (name, text) in [("status", ""), (SETTINGS, SETTINGS_TEXT)] {
            let path = folder.join(name);
            fs::write(&path, text).map_err(|error| PartsError::at(&path, error))?;
        }
        Ok(Self {
            folder: folder.to_owned(),
        })
    }

    /// Where it downloads to.
    pub(super) fn downloads(&self) -> PathBuf {
        self.folder.join("debs")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("--config-file").arg(self.folder.join(SETTINGS));
        let mut set = |name: &str, value: &Path| {
            let mut option = OsString::from(name);
            option.push("=");
            option.push(value);
            command.arg("-o").arg(option);
        };
        set("Dir::State", &self.folder);
        set("Dir::Cache", &self.folder.join("cache"));
        // Nothing is installed: so nothing conflicts with what is, and all that is needed is named.
        set("Dir::State::status", &self.folder.join("status"));
        if rustix::process::geteuid().is_root() {
            // Its user for downloads may not enter the cache of root.
            command.args(["-o", "APT::Sandbox::User=root"]);
        }
        command
    }

    /// Reads the lists of the archives anew. Those of other sources may fail: whether that matters shows later.
    pub(super) fn update(&self) -> Result<(), PartsError> {
        run(self.command("apt-get").arg("update"), "apt-get update").map(drop)
    }

    /// The packages that these need, themselves among them, on a system where nothing is installed.
    pub(super) fn closure(&self, packages: &[&str]) -> Result<Vec<Package>, PartsError> {
        let mut command = self.command("apt-get");
        command.args(["install", "--print-uris", "-qq", "--yes"]);
        let output = run(command.args(packages), "apt-get install --print-uris")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(text.lines().filter_map(printed).collect())
    }

    /// Packages without what they need.
    pub(super) fn alone(&self, packages: &[String]) -> Result<Vec<Package>, PartsError> {
        let mut command = self.command("apt-get");
        command.args(["download", "--print-uris", "-qq"]);
        let output = run(command.args(packages), "apt-get download --print-uris")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(text.lines().filter_map(printed).collect())
    }

    /// Of what a package depends on, the names that begin with one of `prefixes`.
    pub(super) fn depends(
        &self,
        package: &str,
        prefixes: &[&str],
    ) -> Result<Vec<String>, PartsError> {
        let mut command = self.command("apt-cache");
        let output = run(command.args(["depends", package]), "apt-cache depends")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let names = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Depends: "));
        let wanted = names.filter(|name| prefixes.iter().any(|prefix| name.starts_with(prefix)));
        Ok(wanted.map(str::to_owned).collect())
    }

    /// Downloads packages, which are checked against the signed lists.
    pub(super) fn download(&self, packages: &[Package]) -> Result<(), PartsError> {
        let mut command = self.command("apt-get");
        command
            .args(["download", "-qq"])
            .current_dir(self.downloads());
        let exact = packages
            .iter()
            .map(|package| format!("{}={}", package.name, package.version));
        run(command.args(exact), "apt-get download").map(drop)
    }
}

/// Unpacks the files of a package; its scripts are not run.
pub(super) fn unpack(package: &Path, root: &Path) -> Result<(), PartsError> {
    let mut command = Command::new("dpkg-deb");
    command.arg("--extract").arg(package).arg(root);
    run(&mut command, "dpkg-deb --extract").map(drop)
}

/// A line of `--print-uris`: `'URI' NAME_VERSION_ARCHITECTURE.deb OCTETS DIGEST`, with the colon of the version escaped.
fn printed(line: &str) -> Option<Package> {
    let mut fields = line.split(' ').skip(1);
    let (file, octets) = (fields.next()?, fields.next()?);
    let mut parts = file.strip_suffix(".deb")?.split('_');
    let (name, version) = (parts.next()?, parts.next()?);
    Some(Package {
        name: name.to_owned(),
        version: version.replace("%3a", ":"),
        octets: octets.parse().ok()?,
    })
}

fn run(command: &mut Command, name: &str) -> Result<Output, PartsError> {
    let failed = |message: String| PartsError::Command {
        command: name.to_owned(),
        message,
    };
    let output = command
        .env("LC_ALL", "C")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said: Vec<_> = said
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    // The last lines are the ones that tell.
    let last = &said[said.len().saturating_sub(4)..];
    Err(failed(last.join("; ").chars().take(1000).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_apt_prints_is_read() {
        let line = "'http://deb.debian.org/debian/pool/main/q/qemu/qemu-system-x86_7.2%2bdfsg-7%2bdeb12u18%2bb3_amd64.deb' qemu-system-x86_1%3a7.2+dfsg-7+deb12u18+b3_amd64.deb 9281168 MD5Sum:8e7e741807b1e1939df8f58323affdcb";
        let package = printed(line).unwrap();
        assert_eq!(package.name, "qemu-system-x86");
        assert_eq!(package.version, "1:7.2+dfsg-7+deb12u18+b3");
        assert_eq!(package.octets, 9_281_168);
        assert_eq!(printed("Reading package lists..."), None);
        assert_eq!(printed(""), None);
    }
}
