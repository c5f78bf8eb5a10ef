//! Files of Debian packages and of folders: what hosts are expected to boot and to run.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use hgs_crypto::hash::{Sha256, Sha256Digest};
use hgs_terminal::{Failure, printable};

/// Files of one source, at most: the largest packages have some ten thousand.
const MOST_FILES: usize = 500_000;
/// Octets of the largest file that is read whole: kernels with an initrd have some hundred million.
const LARGEST_FILE: u64 = 512 * 1024 * 1024;

/// Where files come from.
#[derive(Debug, Clone)]
pub(crate) enum Software {
    /// A Debian package.
    Package(PathBuf),
    /// A folder that stands for the root of a file system.
    Folder(PathBuf),
    /// One file.
    File(PathBuf),
}

/// A regular file of a source.
pub(crate) struct SoftwareFile<'r> {
    /// Its path on the host, absolute.
    pub(crate) path: String,
    size: u64,
    contents: &'r mut dyn Read,
}

impl Software {
    /// What a path leads to: a package, if it is a file that ends in `.deb`.
    pub(crate) fn at(path: &Path) -> Result<Self, Failure> {
        let kind = fs::metadata(path).map_err(|error| failed(path, &error))?;
        let path = path.to_owned();
        Ok(match path.extension() {
            _ if kind.is_dir() => Self::Folder(path),
            Some(extension) if extension == "deb" => Self::Package(path),
            _ => Self::File(path),
        })
    }

    /// What people call it: name and version of a package, or the path.
    pub(crate) fn label(&self) -> Result<String, Failure> {
        let path = match self {
            Self::Folder(path) | Self::File(path) => return Ok(path.display().to_string()),
            Self::Package(path) => path,
        };
        let output = dpkg_deb(&["--show", "--showformat=${Package} ${Version}"], path)
            .output()
            .map_err(|error| no_dpkg_deb(&error))?;
        let label = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        match output.status.success() && !label.is_empty() {
            true => Ok(label),
            false => Err(no_package(path, &output.stderr)),
        }
    }

    /// Gives each regular file to `take`, in no particular order.
    pub(crate) fn each_file(
        &self,
        take: &mut dyn FnMut(SoftwareFile<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        match self {
            Self::Package(path) => each_file_of_package(path, take),
            Self::Folder(path) => each_file_of_folder(path, take),
            Self::File(path) => take_file(path, &absolute(path)?, take),
        }
    }

    /// SHA-256 of each regular file, by its path.
    pub(crate) fn digests(&self) -> Result<BTreeMap<String, Sha256Digest>, Failure> {
        let mut digests = BTreeMap::new();
        self.each_file(&mut |file| {
            let path = file.path.clone();
            digests.insert(path, file.digest()?);
            Ok(())
        })?;
        Ok(digests)
    }
}

impl SoftwareFile<'_> {
    /// Its octets.
    pub(crate) fn octets(self) -> Result<Vec<u8>, Failure> {
        let Self {
            path,
            size,
            contents,
        } = self;
        if size > LARGEST_FILE {
            return Err(Failure::refused(format!(
                "{} has {size} octets, more than {LARGEST_FILE}",
                printable(&path)
            )));
        }
        let mut octets = Vec::new();
        let read = contents.take(LARGEST_FILE).read_to_end(&mut octets);
        read.map_err(|error| failed(Path::new(&path), &error))?;
        Ok(octets)
    }

    fn digest(self) -> Result<Sha256Digest, Failure> {
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = self.contents.read(&mut buffer);
            match read.map_err(|error| failed(Path::new(&self.path), &error))? {
                0 => return Ok(hash.finish()),
                count => hash.update(&buffer[..count]),
            }
        }
    }
}

fn each_file_of_package(
    package: &Path,
    take: &mut dyn FnMut(SoftwareFile<'_>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut command = dpkg_deb(&["--fsys-tarfile"], package);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| no_dpkg_deb(&error))?;
    let output = child.stdout.take().expect("it is a pipe");
    let read = each_file_of_archive(package, output, take);
    if read.is_err() {
        // It would wait for somebody to read on.
        let _ = child.kill();
    }
    let ended = end(child, package);
    read.and(ended)
}

fn each_file_of_archive(
    package: &Path,
    output: ChildStdout,
    take: &mut dyn FnMut(SoftwareFile<'_>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let failed = |error: &std::io::Error| failed(package, error);
    let mut archive = tar::Archive::new(output);
    for (number, entry) in archive
        .entries()
        .map_err(|error| failed(&error))?
        .enumerate()
    {
        check_count(number, package)?;
        let mut entry = entry.map_err(|error| failed(&error))?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let path = entry.path().map_err(|error| failed(&error))?;
        let path = path.to_string_lossy().into_owned();
        take(SoftwareFile {
            path: format!("/{}", path.trim_start_matches("./")),
            size: entry.size(),
            contents: &mut entry,
        })?;
    }
    Ok(())
}

fn end(child: Child, package: &Path) -> Result<(), Failure> {
    let output = child
        .wait_with_output()
        .map_err(|error| failed(package, &error))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(no_package(package, &output.stderr)),
    }
}

fn each_file_of_folder(
    root: &Path,
    take: &mut dyn FnMut(SoftwareFile<'_>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut folders = vec![root.to_owned()];
    let mut count = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(|error| failed(&folder, &error))? {
            let entry = entry.map_err(|error| failed(&folder, &error))?;
            let path = entry.path();
            // Links are not followed: what they lead to is found where it is.
            let kind = entry.file_type().map_err(|error| failed(&path, &error))?;
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() {
                check_count(count, root)?;
                count += 1;
                let below = path.strip_prefix(root).unwrap_or(&path);
                take_file(&path, &format!("/{}", below.display()), take)?;
            }
        }
    }
    Ok(())
}

fn take_file(
    path: &Path,
    on_host: &str,
    take: &mut dyn FnMut(SoftwareFile<'_>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut file = File::open(path).map_err(|error| failed(path, &error))?;
    let size = file.metadata().map_err(|error| failed(path, &error))?.len();
    take(SoftwareFile {
        path: on_host.to_owned(),
        size,
        contents: &mut file,
    })
}

fn absolute(path: &Path) -> Result<String, Failure> {
    let path = std::path::absolute(path).map_err(|error| failed(path, &error))?;
    Ok(path.display().to_string())
}

fn check_count(count: usize, source: &Path) -> Result<(), Failure> {
    match count < MOST_FILES {
        true => Ok(()),
        false => Err(Failure::refused(format!(
            "{} has more than {MOST_FILES} files",
            source.display()
        ))),
    }
}

fn dpkg_deb(arguments: &[&str], package: &Path) -> Command {
    let mut command = Command::new("dpkg-deb");
    command.args(arguments).arg(package).stdin(Stdio::null());
    command
}

fn no_dpkg_deb(error: &std::io::Error) -> Failure {
    Failure::failed(format!("dpkg-deb can't be run: {error}"))
        .remedy("packages are read with the program dpkg-deb, which the Debian package dpkg has")
}

fn no_package(path: &Path, message: &[u8]) -> Failure {
    let message = String::from_utf8_lossy(message);
    Failure::refused(format!(
        "{} is no Debian package: {}",
        path.display(),
        printable(message.trim())
    ))
}

fn failed(path: &Path, error: &std::io::Error) -> Failure {
    Failure::failed(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use hgs_crypto::hash::sha256;

    use super::*;

    /// A folder with the files of a host, and a link.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("usr/bin")).unwrap();
        fs::create_dir_all(root.join("boot")).unwrap();
        fs::write(root.join("usr/bin/agent"), "agent").unwrap();
        fs::write(root.join("boot/vmlinuz"), "kernel").unwrap();
        std::os::unix::fs::symlink("agent", root.join("usr/bin/link")).unwrap();
        folder
    }

    fn expected() -> BTreeMap<String, Sha256Digest> {
        let file = |path: &str, contents: &[u8]| (path.to_owned(), sha256(contents));
        [
            file("/boot/vmlinuz", b"kernel"),
            file("/usr/bin/agent", b"agent"),
        ]
        .into()
    }

    #[test]
    fn a_package_has_the_files_of_the_folder_that_it_was_made_of() {
        let folder = folder();
        let of_folder = Software::at(folder.path()).unwrap();
        assert_eq!(of_folder.digests().unwrap(), expected());

        let control = folder.path().join("DEBIAN");
        fs::create_dir(&control).unwrap();
        let fields = "Package: agent\nVersion: 1.2-3\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\nDescription: agent\n";
        fs::write(control.join("control"), fields).unwrap();
        let made = tempfile::tempdir().unwrap();
        let package = made.path().join("agent.deb");
        let output = Command::new(hgs_testkit::tool("dpkg-deb", "dpkg"))
            .args(["--root-owner-group", "--build"])
            .args([folder.path(), &package])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let package = Software::at(&package).unwrap();
        assert_eq!(package.label().unwrap(), "agent 1.2-3");
        assert_eq!(package.digests().unwrap(), expected());
        let mut kernel = None;
        package
            .each_file(&mut |file| {
                if file.path == "/boot/vmlinuz" {
                    kernel = Some(file.octets()?);
                }
                Ok(())
            })
            .unwrap();
        assert_eq!(kernel.as_deref(), Some(&b"kernel"[..]));
    }

    #[test]
    fn what_is_no_package_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("not.deb");
        fs::write(&file, "text").unwrap();
        let package = Software::at(&file).unwrap();
        for failure in [package.label().unwrap_err(), package.digests().unwrap_err()] {
            assert!(
                failure.message().contains("not.deb"),
                "{}",
                failure.message()
            );
        }
        assert!(Software::at(&folder.path().join("absent")).is_err());
    }
}
