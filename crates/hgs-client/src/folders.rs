//! Where a host keeps its configuration and its state.

use std::env;
use std::path::{Path, PathBuf};

/// The file of the host key in the state folder.
pub(crate) const HOST_KEY: &str = "host-key.pem";

/// The file of the endorsement key in the state folder.
pub(crate) const ENDORSEMENT_KEY: &str = "endorsement-key";

/// The name under which the host side appears in shared folders.
const PROGRAM: &str = "guarded-host";

/// The configuration file and the state folder of one host. Many hosts live in one process when
/// each has its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folders {
    /// The configuration file, readable by everybody.
    pub configuration: PathBuf,
    /// The state folder, its owner's alone.
    pub state: PathBuf,
}

impl Folders {
    /// Both inside `folder`, for a host that is not the machine's own.
    #[must_use]
    pub fn inside(folder: &Path) -> Self {
        Self {
            configuration: folder.join("guarded-host.toml"),
            state: folder.join("state"),
        }
    }

    /// The file of the host key, whether or not it is there.
    #[must_use]
    pub fn host_key(&self) -> PathBuf {
        self.state.join(HOST_KEY)
    }

    /// The file with the endorsement key that the host attests with, whether or not it is there.
    #[must_use]
    pub fn endorsement_key(&self) -> PathBuf {
        self.state.join(ENDORSEMENT_KEY)
    }

    /// The places of the machine's own host: `/etc/openhgs/guarded-host.toml` and
    /// `/var/lib/guarded-host` for root, the folders of the XDG base directory
    /// specification for everybody else. `None` if there is no home folder.
    #[must_use]
    pub fn of_this_machine() -> Option<Self> {
        let variable = |name: &str| env::var_os(name).map(PathBuf::from);
        if rustix::process::geteuid().is_root() {
            Some(Self::system())
        } else {
            Self::of_user(variable)
        }
    }

    fn system() -> Self {
        Self {
            configuration: PathBuf::from("/etc/openhgs/guarded-host.toml"),
            state: Path::new("/var/lib").join(PROGRAM),
        }
    }

    fn of_user(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<Self> {
        // The specification: a relative path is invalid and ignored.
        let absolute = |name| variable(name).filter(|path| path.is_absolute());
        let below_home = |path| absolute("HOME").map(|home| home.join(path));
        let configuration = absolute("XDG_CONFIG_HOME").or_else(|| below_home(".config"))?;
        let state = absolute("XDG_STATE_HOME").or_else(|| below_home(".local/state"))?;
        Some(Self {
            configuration: configuration.join("openhgs/guarded-host.toml"),
            state: state.join("openhgs").join(PROGRAM),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_have_their_own_folders() {
        let home = |name: &str| (name == "HOME").then(|| PathBuf::from("/home/u"));
        let folders = Folders::of_user(home).unwrap();
        assert_eq!(
            folders.configuration,
            Path::new("/home/u/.config/openhgs/guarded-host.toml")
        );
        assert_eq!(
            folders.state,
            Path::new("/home/u/.local/state/openhgs/guarded-host")
        );
    }

    #[test]
    fn relative_xdg_folders_are_ignored() {
        let variable = |name: &str| match name {
            "HOME" => Some(PathBuf::from("/home/u")),
            "XDG_CONFIG_HOME" => Some(PathBuf::from("relative")),
            "XDG_STATE_HOME" => Some(PathBuf::from("/state")),
            _ => None,
        };
        let folders = Folders::of_user(variable).unwrap();
        assert!(folders.configuration.starts_with("/home/u/.config"));
        assert!(folders.state.starts_with("/state/openhgs"));
        assert_eq!(Folders::of_user(|_| None), None);
    }
}
