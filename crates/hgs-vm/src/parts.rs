//! The programs and files that VMs need: those that are installed, and for the rest packages of the distribution, fetched
//! into a cache folder and unpacked there. Nothing is installed: no service starts, no boot loader changes.
//!
//! ```text
//!  Parts::fetch ── a folder in the cache has all that is not installed ──────────────▶ Parts
//!      │                                                                                ▲
//!      └── Plan::make: apt's lists, what depends on what ── the caller may show it ── Plan::carry_out
//! ```
//!
//! apt checks the signatures of the distribution, and each package against its lists. Tried on Debian 12; the names for
//! Ubuntu and Debian 13 are read from their archives and were not tried.

mod apt;
mod plan;

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hgs_files::FileError;

pub use self::apt::Package;
use self::plan::{Collection, Manifest};
pub use self::plan::{Plan, Progress};
use crate::program::{FOLDERS, Program};
use crate::qemu::{Emulator, EmulatorError, OvmfFiles};

/// Programs and files for VMs.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The root of what was unpacked.
    root: PathBuf,
}

/// A kernel for guests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// What boots.
    pub image: PathBuf,
    /// Its release, as in `6.1.0-56-cloud-amd64`.
    pub release: String,
    /// The folder of its modules.
    pub modules: PathBuf,
}

/// Why there are no parts.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PartsError {
    /// The system does not come from Debian's family.
    #[error("packages can be fetched on Debian and Ubuntu only, and {0}")]
    NotDebian(String),
    /// A program of the package manager failed.
    #[error("{command} failed: {message}")]
    Command {
        /// The program with its verb.
        command: String,
        /// What it said.
        message: String,
    },
    /// apt can't find packages, most likely because there is no network.
    #[error("packages can't be found: {message}{}", lists.as_ref().map(|said| format!("; and apt could not read its lists: {said}")).unwrap_or_default())]
    Unresolved {
        /// What apt said.
        message: String,
        /// What it said when it read the lists, if that failed.
        lists: Option<String>,
    },
    /// There is too little space.
    #[error("{} has {free} MiB free, and {needed} MiB are needed", folder.display())]
    NoSpace {
        /// The cache folder.
        folder: PathBuf,
        /// MiB that are free.
        free: u64,
        /// MiB that are needed.
        needed: u64,
    },
    /// A part is in no package that was fetched, and not installed.
    #[error("there is no {0}, neither installed nor among the packages that were fetched")]
    Absent(String),
    /// There is no folder to keep packages in.
    #[error("neither XDG_CACHE_HOME nor HOME names a folder for the cache")]
    NoCache,
    /// A file of the cache.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file of the system.
    #[error("{}: {error}", path.display())]
    System {
        /// Which.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// QEMU does not run.
    #[error(transparent)]
    Emulator(#[from] EmulatorError),
}

impl PartsError {
    fn at(path: &Path, error: io::Error) -> Self {
        let path = path.to_owned();
        Self::System { path, error }
    }
}

impl Parts {
    /// Where packages are kept: `openhgs/parts` in the user's cache.
    ///
    /// # Errors
    /// [`PartsError::NoCache`].
    pub fn cache_folder(
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<PathBuf, PartsError> {
        let absolute = |name: &str| {
            variable(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        let cache = absolute("XDG_CACHE_HOME");
        let cache = cache.or_else(|| Some(absolute("HOME")?.join(".cache")));
        Ok(cache.ok_or(PartsError::NoCache)?.join("openhgs/parts"))
    }

    /// The parts in the cache, if with what is installed they are complete.
    pub fn open(cache: &Path) -> Result<Option<Self>, PartsError> {
        Self::open_collection(Collection::Vms, cache)
    }

    fn open_collection(collection: Collection, cache: &Path) -> Result<Option<Self>, PartsError> {
        let installed = apt::installed()?;
        for folder in plan::folders(cache)?.into_iter().rev() {
            let complete = Manifest::read(&folder)?.is_some_and(|manifest| {
                manifest.system
                    == plan::System::this()
                        .map(|system| system.name())
                        .unwrap_or_default()
                    && manifest.is_complete(collection, &installed)
            });
            if complete {
                let root = folder.join(plan::ROOT);
                return Ok(Some(Self { root }));
            }
        }
        Ok(None)
    }

    /// The parts in the cache, which is filled if need be. Several processes may ask at once.
    pub fn fetch(cache: &Path, progress: &mut dyn FnMut(Progress<'_>)) -> Result<Self, PartsError> {
        match Self::open(cache)? {
            Some(parts) => Ok(parts),
            None => Plan::make(cache, progress)?.carry_out(progress),
        }
    }

    /// libvirt, for tests: a collection of its own, in the folder `libvirt` of the cache.
    pub fn fetch_libvirt(
        cache: &Path,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Self, PartsError> {
        let cache = cache.join("libvirt");
        match Self::open_collection(Collection::Libvirt, &cache)? {
            Some(parts) => Ok(parts),
            None => Plan::of(Collection::Libvirt, &cache, progress)?.carry_out(progress),
        }
    }

    /// The parts in the cache of this user, which is filled if need be. `tell` hears what is done, in words.
    ///
    /// # Errors
    /// As of [`Self::fetch`].
    pub fn of_user(tell: &mut dyn FnMut(&str)) -> Result<Self, PartsError> {
        let cache = Self::cache_folder(|name| env::var_os(name))?;
        if let Some(parts) = Self::open(&cache)? {
            return Ok(parts);
        }
        tell("reading the lists of the distribution's packages");
        let plan = Plan::make(&cache, &mut |progress| {
            if let Progress::Waiting = progress {
                tell("waiting for another program that fetches packages");
            }
        })?;
        let names = plan.packages().iter().map(|package| &*package.name);
        let names: Vec<_> = names.collect();
        tell(&format!(
            "fetching {} packages ({} MB) of the distribution into {}; nothing is installed: {}",
            names.len(),
            plan.octets() / 1_000_000,
            cache.display(),
            names.join(" ")
        ));
        let mut last = 0;
        plan.carry_out(&mut |progress| {
            if let Progress::Downloading { done, all } = progress
                && done * 10 / all.max(1) > last
            {
                last = done * 10 / all.max(1);
                tell(&format!("  {} of {} MB", done / 1_000_000, all / 1_000_000));
            }
        })
    }

    /// The packages that are asked for and not installed, without asking apt: what they depend on comes to them. `None` if
    /// this system has no packages of this kind.
    #[must_use]
    pub fn not_installed() -> Option<Vec<&'static str>> {
        let installed = apt::installed().ok()?;
        let system = plan::System::this().ok()?;
        let wanted = system
            .closure(Collection::Vms)
            .iter()
            .chain(system.alone(Collection::Vms));
        Some(
            wanted
                .copied()
                .filter(|name| !installed.contains(*name))
                .collect(),
        )
    }

    /// A file by its path below `/`, such as `usr/share/OVMF/OVMF_CODE_4M.fd`: the installed one, or one of the cache.
    ///
    /// # Errors
    /// [`PartsError::Absent`].
    pub fn file(&self, path: &str) -> Result<PathBuf, PartsError> {
        [Path::new("/"), &self.root]
            .iter()
            .map(|root| root.join(path))
            .find(|path| path.is_file())
            .ok_or_else(|| PartsError::Absent(path.to_owned()))
    }

    /// A program by its name: the installed one, or one of the cache with its libraries.
    ///
    /// # Errors
    /// [`PartsError::Absent`].
    pub fn program(&self, name: &str) -> Result<Program, PartsError> {
        if let Some(installed) = Program::find(name) {
            return Ok(installed);
        }
        let mut fetched = FOLDERS
            .iter()
            .map(|folder| self.root.join(folder).join(name));
        let path = fetched.find(|path| path.is_file());
        let path = path.ok_or_else(|| PartsError::Absent(format!("program `{name}`")))?;
        let libraries = env::join_paths(self.library_folders())
            .map_err(|error| PartsError::at(&self.root, io::Error::other(error)))?;
        Ok(Program {
            path,
            environment: vec![("LD_LIBRARY_PATH".into(), libraries)],
        })
    }

    /// The folders of the libraries that were fetched.
    #[must_use]
    pub fn library_folders(&self) -> Vec<PathBuf> {
        let mut folders = Vec::new();
        for folder in ["usr/lib", "lib"] {
            let folder = self.root.join(folder);
            let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
            let triplets = entries.filter(|entry| {
                let name = entry.file_name();
                name.to_string_lossy().ends_with("-linux-gnu")
            });
            let triplets: Vec<_> = triplets.map(|entry| entry.path()).collect();
            // Where systemd keeps the library that its programs share.
            let of_systemd = triplets
                .iter()
                .chain([&folder])
                .map(|folder| folder.join("systemd"));
            let of_systemd: Vec<_> = of_systemd.filter(|folder| folder.is_dir()).collect();
            folders.extend(triplets);
            folders.extend(of_systemd);
        }
        folders
    }

    /// The root of what was unpacked, in which paths are as on an installed system.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// QEMU with its firmware.
    pub fn emulator(&self) -> Result<Emulator, PartsError> {
        let mut program = self.program("qemu-system-x86_64")?;
        let mut data = Vec::new();
        if program.path.starts_with(&self.root) {
            let folders = self.library_folders().into_iter();
            let modules = folders
                .map(|folder| folder.join("qemu"))
                .find(|folder| folder.is_dir());
            let modules = modules.map(|folder| ("QEMU_MODULE_DIR".into(), folder.into()));
            program.environment.extend(modules);
            // A package of firmware that is installed is not fetched, whether or not QEMU itself is installed.
            let folders = ["usr/share/qemu", "usr/share/seabios"];
            let roots = [&*self.root, Path::new("/")];
            data = roots
                .into_iter()
                .flat_map(|root| folders.map(|folder| root.join(folder)))
                .collect();
        }
        let ovmf = OvmfFiles {
            secure_code: self.file("usr/share/OVMF/OVMF_CODE_4M.secboot.fd")?,
            code: self.file("usr/share/OVMF/OVMF_CODE_4M.fd")?,
            empty_variables: self.file("usr/share/OVMF/OVMF_VARS_4M.fd")?,
        };
        Ok(Emulator::of(program, data, ovmf)?)
    }

    /// The kernel for guests. It always comes from the cache: the one that is installed is the host's.
    pub fn kernel(&self) -> Result<Kernel, PartsError> {
        let boot = self.root.join("boot");
        let entries = fs::read_dir(&boot).map_err(|error| PartsError::at(&boot, error))?;
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(release) = name.strip_prefix("vmlinuz-") else {
                continue;
            };
            let folders = ["usr/lib/modules", "lib/modules"];
            let mut modules = folders
                .iter()
                .map(|folder| self.root.join(folder).join(release));
            if let Some(modules) = modules.find(|folder| folder.is_dir()) {
                return Ok(Kernel {
                    image: entry.path(),
                    release: release.to_owned(),
                    modules,
                });
            }
        }
        Err(PartsError::Absent("kernel for guests".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_the_users() {
        let folder = |variables: &[(&str, &str)]| {
            let find = |name: &str| variables.iter().find(|(known, _)| *known == name);
            Parts::cache_folder(|name| find(name).map(|(_, value)| value.into()))
        };
        let both = [("XDG_CACHE_HOME", "/cache"), ("HOME", "/home/ann")];
        assert_eq!(folder(&both).unwrap(), Path::new("/cache/openhgs/parts"));
        let relative = [("XDG_CACHE_HOME", "cache"), ("HOME", "/home/ann")];
        assert_eq!(
            folder(&relative).unwrap(),
            Path::new("/home/ann/.cache/openhgs/parts")
        );
        assert!(matches!(folder(&[]), Err(PartsError::NoCache)));
    }
}
