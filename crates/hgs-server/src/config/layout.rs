//! Where files live when the configuration does not say: the system's folders, or the user's.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

/// The environment variables that the configuration depends on, as an argument.
#[derive(Debug, Clone, Default)]
pub struct Environment(BTreeMap<String, OsString>);

impl Environment {
    /// The environment of this process. Names that are not Unicode are left out.
    #[must_use]
    pub fn of_process() -> Self {
        Self(
            std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
                .collect(),
        )
    }

    /// The path that a variable holds; an empty variable counts as absent.
    #[must_use]
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.0
            .get(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    }
}

impl<N: Into<String>, V: Into<OsString>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        Self(
            variables
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        )
    }
}

/// The folders and ports used when the configuration names none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Holds `openhgs.toml`.
    pub configuration: PathBuf,
    /// Holds the store and, unless configured elsewhere, the master key.
    pub state: PathBuf,
    /// Holds the socket of the admin API.
    pub runtime: PathBuf,
    /// Port of plain HTTP.
    pub http_port: u16,
    /// Port of HTTPS.
    pub https_port: u16,
}

impl Layout {
    /// `/etc/openhgs`, `/var/lib/openhgs`, `/run/openhgs`, ports 80 and 443.
    #[must_use]
    pub fn system() -> Self {
        Self {
            configuration: "/etc/openhgs".into(),
            state: "/var/lib/openhgs".into(),
            runtime: "/run/openhgs".into(),
            http_port: 80,
            https_port: 443,
        }
    }

    /// Folders under the XDG base directories of one user, ports 8080 and 8443.
    #[must_use]
    pub fn user(environment: &Environment) -> Self {
        let home = environment.path("HOME").unwrap_or_else(|| "/".into());
        let base = |variable, below_home: &str| {
            // The XDG specification has relative paths ignored.
            environment
                .path(variable)
                .filter(|path| path.is_absolute())
                .unwrap_or_else(|| home.join(below_home))
                .join("openhgs")
        };
        let state = base("XDG_STATE_HOME", ".local/state");
        Self {
            configuration: base("XDG_CONFIG_HOME", ".config"),
            runtime: environment
                .path("XDG_RUNTIME_DIR")
                .filter(|path| path.is_absolute())
                .map_or_else(|| state.join("run"), |folder| folder.join("openhgs")),
            state,
            http_port: 8080,
            https_port: 8443,
        }
    }

    /// The system's layout for root, and for a service user for whom `/var/lib/openhgs` was made
    /// writable; the user's otherwise.
    #[must_use]
    pub fn detect(environment: &Environment) -> Self {
        let system = Self::system();
        if rustix::process::geteuid().is_root() || is_writable_folder(&system.state) {
            system
        } else {
            Self::user(environment)
        }
    }

    /// The configuration file when none is named.
    #[must_use]
    pub fn configuration_file(&self) -> PathBuf {
        self.configuration.join("openhgs.toml")
    }

    /// All addresses of this machine, for hosts to reach.
    pub(super) fn anywhere(port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port)
    }
}

fn is_writable_folder(path: &Path) -> bool {
    path.is_dir() && access(path, Access::WRITE_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_gets_folders_under_xdg_and_unprivileged_ports() {
        let environment = Environment::from_iter([
            ("HOME", "/home/ann"),
            ("XDG_RUNTIME_DIR", "/run/user/1000"),
            ("XDG_CONFIG_HOME", "relative/is/ignored"),
        ]);
        let layout = Layout::user(&environment);
        assert_eq!(
            layout.configuration_file(),
            Path::new("/home/ann/.config/openhgs/openhgs.toml")
        );
        assert_eq!(layout.state, Path::new("/home/ann/.local/state/openhgs"));
        assert_eq!(layout.runtime, Path::new("/run/user/1000/openhgs"));
        assert_eq!((layout.http_port, layout.https_port), (8080, 8443));
    }

    #[test]
    fn without_a_runtime_folder_the_socket_lives_under_the_state() {
        let layout = Layout::user(&Environment::from_iter([("HOME", "/home/ann")]));
        assert_eq!(
            layout.runtime,
            Path::new("/home/ann/.local/state/openhgs/run")
        );
    }
}
