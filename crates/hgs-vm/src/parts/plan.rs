//! Which packages are fetched, and how a folder of the cache is filled.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use hgs_files::{FileError, FileProblem, Lock, Readers};
use serde::{Deserialize, Serialize};

use super::apt::{self, Apt, Package};
use super::{Parts, PartsError};

/// Where packages are unpacked in a folder of the cache.
pub(super) const ROOT: &str = "root";
const MANIFEST: &str = "packages.json";
/// Octets of the largest manifest.
const MANIFEST_LIMIT: usize = 1024 * 1024;
/// Unpacked, packages take about four times the room.
const GROWTH: u64 = 5;
/// How many packages are downloaded between two reports.
const BATCH: usize = 8;

/// What happens while the cache is filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress<'a> {
    /// Another process fills it.
    Waiting,
    /// The archives' lists are read.
    Lists,
    /// It is found out what is needed.
    Resolving,
    /// Packages are downloaded.
    Downloading {
        /// Octets that have come.
        done: u64,
        /// Octets of all.
        all: u64,
    },
    /// A package is unpacked.
    Unpacking(&'a str),
}

/// What is fetched together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Collection {
    /// All that runs VMs.
    Vms,
    /// libvirt, for tests.
    Libvirt,
}

/// Which distribution this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum System {
    Debian12,
    Debian,
    Ubuntu,
}

impl System {
    /// This one.
    pub(super) fn this() -> Result<Self, PartsError> {
        let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
        Self::of_release(&text)
    }

    fn of_release(text: &str) -> Result<Self, PartsError> {
        let value = |key: &str| {
            let lines = text.lines().filter_map(|line| line.split_once('='));
            let mut values = lines.filter(|(name, _)| *name == key);
            values
                .next()
                .map_or("", |(_, value)| value.trim_matches('"'))
        };
        if !cfg!(target_arch = "x86_64") {
            let other = "this host has other processors than x86-64".to_owned();
            return Err(PartsError::NotDebian(other));
        }
        match (value("ID"), value("VERSION_ID")) {
            ("debian", "12") => Ok(Self::Debian12),
            ("debian", _) => Ok(Self::Debian),
            ("ubuntu", _) => Ok(Self::Ubuntu),
            ("", _) => Err(PartsError::NotDebian(
                "/etc/os-release names no system".to_owned(),
            )),
            (other, _) => Err(PartsError::NotDebian(format!("this is `{other}`"))),
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Debian12 => "debian-12",
            Self::Debian => "debian",
            Self::Ubuntu => "ubuntu",
        }
    }

    /// Packages that are fetched with all that they need.
    pub(super) const fn closure(self, collection: Collection) -> &'static [&'static str] {
        if let Collection::Libvirt = collection {
            return &[
                "libvirt-daemon",
                "libvirt-daemon-driver-qemu",
                "libvirt-clients",
            ];
        }
        &[
            "qemu-system-x86",
            "qemu-utils",
            "ovmf",
            "busybox-static",
            "cryptsetup-bin",
            // Brings the libraries by which systemd opens a disk with a TPM.
            "tpm2-tools",
            // What systemd's own programs share, with what that needs.
            "libsystemd-shared",
            "swtpm",
            "swtpm-tools",
        ]
    }

    /// Packages of which files are used and no more: what they need is for a system that they run.
    pub(super) const fn alone(self, collection: Collection) -> &'static [&'static str] {
        if let Collection::Libvirt = collection {
            return &[];
        }
        match self {
            // Until Debian 12, the plug-in by which cryptsetup opens a disk with a TPM is in systemd.
            Self::Debian12 | Self::Ubuntu => &["systemd", "systemd-boot-efi"],
            Self::Debian => &["systemd", "systemd-cryptsetup", "systemd-boot-efi"],
        }
    }

    /// The package that depends on the newest kernel for guests.
    const fn kernel(self, collection: Collection) -> Option<&'static str> {
        match (collection, self) {
            (Collection::Libvirt, _) => None,
            (Collection::Vms, Self::Debian12 | Self::Debian) => Some("linux-image-cloud-amd64"),
            (Collection::Vms, Self::Ubuntu) => Some("linux-image-virtual"),
        }
    }
}

/// What a folder of the cache was filled with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    /// The distribution.
    pub(super) system: String,
    /// The packages that were asked for.
    asked: Vec<String>,
    /// All that they need, except for what is alone.
    needed: BTreeSet<String>,
    /// Those that are here.
    here: BTreeSet<String>,
}

impl Manifest {
    /// Reads the manifest of a folder; none if it is not complete or of another make.
    pub(super) fn read(folder: &Path) -> Result<Option<Self>, PartsError> {
        let octets = hgs_files::optional(hgs_files::read(&folder.join(MANIFEST), MANIFEST_LIMIT))?;
        Ok(octets.and_then(|octets| serde_json::from_slice(&octets).ok()))
    }

    /// Whether nothing is missing, with what is installed.
    pub(super) fn is_complete(&self, collection: Collection, installed: &BTreeSet<String>) -> bool {
        let there = |name: &String| self.here.contains(name) || installed.contains(name);
        System::this().is_ok_and(|system| self.asked == asked(system, collection))
            && self.needed.iter().all(there)
    }
}

fn asked(system: System, collection: Collection) -> Vec<String> {
    let closure = system.closure(collection).iter();
    let all = closure.chain(system.alone(collection)).copied();
    let all = all.chain(system.kernel(collection));
    all.map(str::to_owned).collect()
}

/// The folders of the cache, from the oldest to the newest.
pub(super) fn folders(cache: &Path) -> Result<Vec<PathBuf>, PartsError> {
    let mut numbers = Vec::new();
    match fs::read_dir(cache) {
        Ok(entries) => {
            for entry in entries {
                let entry = entry.map_err(|error| PartsError::at(cache, error))?;
                let name = entry.file_name().to_string_lossy().into_owned();
                numbers.extend(
                    name.strip_prefix("packages-")
                        .and_then(|rest| rest.parse::<u32>().ok()),
                );
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(PartsError::at(cache, error)),
    }
    numbers.sort_unstable();
    Ok(numbers
        .into_iter()
        .map(|number| numbered(cache, number))
        .collect())
}

fn numbered(cache: &Path, number: u32) -> PathBuf {
    cache.join(format!("packages-{number}"))
}

/// What would be fetched. Nobody else fills the cache while this exists.
#[derive(Debug)]
pub struct Plan {
    cache: PathBuf,
    collection: Collection,
    apt: Option<Apt>,
    manifest: Manifest,
    packages: Vec<Package>,
    /// What another process has made since.
    made: Option<Parts>,
    _lock: Lock,
}

impl Plan {
    /// Finds out what is missing. It reads the archives' lists, which takes some seconds.
    pub fn make(cache: &Path, progress: &mut dyn FnMut(Progress<'_>)) -> Result<Self, PartsError> {
        Self::of(Collection::Vms, cache, progress)
    }

    pub(super) fn of(
        collection: Collection,
        cache: &Path,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Self, PartsError> {
        let system = System::this()?;
        hgs_files::private_folder(cache)?;
        let path = cache.join("lock");
        let lock = match Lock::take_or_create(&path) {
            Err(FileError {
                problem: FileProblem::InUse,
                ..
            }) => {
                progress(Progress::Waiting);
                Lock::wait_or_create(&path)?
            }
            taken => taken?,
        };
        let mut plan = Self {
            cache: cache.to_owned(),
            collection,
            apt: None,
            manifest: Manifest {
                system: system.name().to_owned(),
                asked: asked(system, collection),
                needed: BTreeSet::new(),
                here: BTreeSet::new(),
            },
            packages: Vec::new(),
            made: Parts::open_collection(collection, cache)?,
            _lock: lock,
        };
        if plan.made.is_none() {
            plan.resolve(system, progress)?;
        }
        Ok(plan)
    }

    fn resolve(
        &mut self,
        system: System,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<(), PartsError> {
        let apt = Apt::new(&self.cache.join("apt"))?;
        progress(Progress::Lists);
        let lists = apt.update().err();
        progress(Progress::Resolving);
        let installed = apt::installed()?;
        let resolved = (|| {
            let closure = apt.closure(system.closure(self.collection))?;
            let mut alone: Vec<_> = system
                .alone(self.collection)
                .iter()
                .map(|name| (*name).to_owned())
                .collect();
            alone.retain(|name| !installed.contains(name));
            if let Some(kernel) = system.kernel(self.collection) {
                for image in apt.depends(kernel, &["linux-image-"])? {
                    alone.extend(apt.depends(&image, &["linux-modules-"])?);
                    alone.push(image);
                }
            }
            let alone = match alone.is_empty() {
                true => Vec::new(),
                false => apt.alone(&alone)?,
            };
            Ok((closure, alone))
        })();
        let (closure, alone) = resolved.map_err(|error: PartsError| PartsError::Unresolved {
            message: error.to_string(),
            lists: lists.map(|error| error.to_string()),
        })?;
        self.manifest.needed = closure.iter().map(|package| package.name.clone()).collect();
        let missing = closure
            .into_iter()
            .filter(|package| !installed.contains(&package.name));
        self.packages = missing.chain(alone).collect();
        self.apt = Some(apt);
        Ok(())
    }

    /// The packages that are fetched.
    #[must_use]
    pub fn packages(&self) -> &[Package] {
        &self.packages
    }

    /// Octets that are downloaded.
    #[must_use]
    pub fn octets(&self) -> u64 {
        self.packages.iter().map(|package| package.octets).sum()
    }

    /// Fetches and unpacks them.
    pub fn carry_out(
        mut self,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Parts, PartsError> {
        let Some(apt) = self.apt.take() else {
            let absent = || PartsError::Absent("package to fetch".to_owned());
            return self.made.take().ok_or_else(absent);
        };
        self.check_space()?;
        let (all, mut done) = (self.octets(), 0);
        for batch in self.packages.chunks(BATCH) {
            progress(Progress::Downloading { done, all });
            apt.download(batch)?;
            done += batch.iter().map(|package| package.octets).sum::<u64>();
        }
        progress(Progress::Downloading { done, all });

        let old = folders(&self.cache)?;
        let number = old
            .iter()
            .filter_map(|path| path.to_str()?.rsplit('-').next()?.parse::<u32>().ok());
        let folder = numbered(&self.cache, number.max().map_or(1, |last| last + 1));
        let staged = self.cache.join("new");
        let at = |path: &Path, error| PartsError::at(path, error);
        match fs::remove_dir_all(&staged) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(at(&staged, error));
            }
            _ => {}
        }
        let root = staged.join(ROOT);
        fs::create_dir_all(&root).map_err(|error| at(&root, error))?;
        let downloads = apt.downloads();
        let entries = fs::read_dir(&downloads).map_err(|error| at(&downloads, error))?;
        let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        files.sort();
        for package in &self.packages {
            // apt names the file after the version without its epoch's colon.
            let begins = format!("{}_{}_", package.name, package.version.replace(':', "%3a"));
            let file = files.iter().find(|path| {
                let name = path.file_name().and_then(|name| name.to_str());
                name.is_some_and(|name| name.starts_with(&begins))
            });
            let file = file.ok_or_else(|| PartsError::Absent(format!("package {begins}*.deb")))?;
            progress(Progress::Unpacking(&package.name));
            apt::unpack(file, &root)?;
        }
        self.manifest.here = self
            .packages
            .iter()
            .map(|package| package.name.clone())
            .collect();
        // What was unpacked must run before it is anything.
        Parts { root }.check(self.collection)?;
        let manifest = serde_json::to_vec(&self.manifest).expect("it has no keys but texts");
        hgs_files::create(&staged.join(MANIFEST), &manifest, Readers::Owner)?;
        fs::rename(&staged, &folder).map_err(|error| at(&folder, error))?;
        // A program may still run from the last one, not from those before it. What was downloaded is not needed again.
        for outdated in old.iter().rev().skip(1) {
            let _ = fs::remove_dir_all(outdated);
        }
        let _ = fs::remove_dir_all(self.cache.join("apt"));
        let root = folder.join(ROOT);
        Ok(Parts { root })
    }

    fn check_space(&self) -> Result<(), PartsError> {
        let space = rustix::fs::statvfs(&self.cache)
            .map_err(|error| PartsError::at(&self.cache, error.into()))?;
        let (free, needed) = (space.f_bavail * space.f_frsize, self.octets() * GROWTH);
        if free >= needed {
            return Ok(());
        }
        Err(PartsError::NoSpace {
            folder: self.cache.clone(),
            free: free >> 20,
            needed: needed >> 20,
        })
    }
}

impl Parts {
    /// Whether the programs run and the files are there.
    fn check(&self, collection: Collection) -> Result<(), PartsError> {
        let programs: &[_] = match collection {
            Collection::Vms => {
                self.emulator()?;
                self.kernel()?;
                &[
                    ("cryptsetup", "--version"),
                    ("swtpm", "--version"),
                    ("busybox", "--help"),
                ]
            }
            Collection::Libvirt => &[("libvirtd", "--version"), ("virsh", "--version")],
        };
        for (name, version) in programs {
            let mut command = self.program(name)?.command();
            let output = command.arg(version).output();
            let output = output.map_err(|error| PartsError::at(Path::new(name), error))?;
            if !output.status.success() {
                return Err(PartsError::Command {
                    command: (*name).to_owned(),
                    message: String::from_utf8_lossy(&output.stderr)
                        .chars()
                        .take(500)
                        .collect(),
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systems_are_told_apart_by_their_release() {
        let of = |text: &str| System::of_release(text);
        assert_eq!(
            of("ID=debian\nVERSION_ID=\"12\"\n").unwrap(),
            System::Debian12
        );
        assert_eq!(
            of("ID=debian\nVERSION_ID=\"13\"\n").unwrap(),
            System::Debian
        );
        assert_eq!(
            of("ID=ubuntu\nVERSION_ID=\"24.04\"\nID_LIKE=debian\n").unwrap(),
            System::Ubuntu
        );
        let error = of("NAME=\"Fedora Linux\"\nID=fedora\n").unwrap_err();
        assert!(error.to_string().contains("`fedora`"), "{error}");
        assert!(of("").is_err());
    }

    #[test]
    fn a_cache_is_complete_with_what_is_installed() {
        let system = System::this().unwrap();
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let mut manifest = Manifest {
            system: system.name().to_owned(),
            asked: asked(system, Collection::Vms),
            needed: names(&["libc6", "libfdt1"]),
            here: names(&["libfdt1"]),
        };
        assert!(manifest.is_complete(Collection::Vms, &names(&["libc6"])));
        assert!(!manifest.is_complete(Collection::Vms, &names(&["libfdt1"])));
        manifest.asked.pop();
        assert!(!manifest.is_complete(Collection::Vms, &names(&["libc6"])));
    }
}
