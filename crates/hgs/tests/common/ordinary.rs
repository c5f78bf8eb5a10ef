//! The programs as a user other than root runs them.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A user of this machine other than root.
pub(crate) struct OrdinaryUser {
    name: &'static str,
    group: &'static str,
    /// Copies of the programs: the folder of the build may be closed to other users.
    programs: TempDir,
}

impl OrdinaryUser {
    /// `None` unless root runs the test, who alone can act as another user; `what` is then left out.
    pub(crate) fn new(name: &'static str, group: &'static str, what: &str) -> Option<Self> {
        if !hgs_testkit::is_privileged(what) {
            return None;
        }
        let programs = tempfile::tempdir().unwrap();
        fs::set_permissions(programs.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for program in ["hgs", "guarded-host"] {
            let built = folder_of_programs().join(program);
            if built.is_file() {
                fs::copy(built, programs.path().join(program)).unwrap();
            }
        }
        Some(Self {
            name,
            group,
            programs,
        })
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn programs(&self) -> &Path {
        self.programs.path()
    }

    /// Words that begin a command of this user.
    pub(crate) fn prefix(&self) -> Vec<OsString> {
        let setpriv = hgs_testkit::tool("setpriv", "util-linux");
        let words = [
            "--reuid",
            self.name,
            "--regid",
            self.group,
            "--clear-groups",
        ];
        [setpriv.into_os_string()]
            .into_iter()
            .chain(words.map(OsString::from))
            .collect()
    }

    /// Gives the user a folder with everything in it.
    pub(crate) fn own(&self, folder: &Path) {
        let chown = Command::new("chown")
            .args(["-R", &format!("{}:{}", self.name, self.group)])
            .arg(folder)
            .status();
        assert!(chown.unwrap().success());
    }
}

/// The programs of this build.
pub(crate) fn folder_of_programs() -> PathBuf {
    let hgs = assert_cmd::cargo::cargo_bin!("hgs");
    Path::new(hgs).parent().unwrap().to_owned()
}
