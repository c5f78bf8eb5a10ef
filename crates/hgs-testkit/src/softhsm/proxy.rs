//! A module that forwards to SoftHSM, and fails where a file tells it to.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::SoftHsm;
use crate::tool;

/// A module that forwards to SoftHSM, and fails where it is told to.
#[derive(Debug)]
pub struct Proxy {
    module: PathBuf,
    control: PathBuf,
    log: PathBuf,
}

impl Proxy {
    /// Compiles the module into the folder of `hsm`, under a name of its own. It forwards to a copy of SoftHSM, so that
    /// it has a state of its own too.
    ///
    /// # Panics
    ///
    /// If there is no C compiler.
    #[track_caller]
    pub fn of(hsm: &SoftHsm, name: &str) -> Self {
        let file = |kind: &str| hsm.folder().join(format!("{name}.{kind}"));
        let proxy = Self {
            module: file("so"),
            control: file("control"),
            log: file("log"),
        };
        let real = file("real.so");
        fs::copy(SoftHsm::module(), &real).unwrap();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/softhsm/proxy.c");
        let define = |name: &str, path: &Path| format!("-D{name}=\"{}\"", path.display());
        let output = Command::new(tool("cc", "build-essential"))
            .args([
                "-shared", "-fPIC", "-Wall", "-Werror", "-O1", source, "-ldl", "-o",
            ])
            .arg(&proxy.module)
            .arg(define("MODULE", &real))
            .arg(define("CONTROL", &proxy.control))
            .arg(define("LOG", &proxy.log))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        proxy
    }

    /// The shared object.
    pub fn module(&self) -> &Path {
        &self.module
    }

    /// From now on `function` (such as `C_Decrypt`) answers `code` and does nothing.
    pub fn fail(&self, function: &str, code: u32) {
        self.tell(&format!("{function} {code:#x}\n"));
    }

    /// From now on `function` does not come back before [`Self::heal`].
    pub fn hang(&self, function: &str) {
        self.tell(&format!("{function} hang\n"));
    }

    /// Everything works again.
    pub fn heal(&self) {
        fs::remove_file(&self.control).unwrap();
    }

    /// How often `function` was called. The log knows C_Initialize, C_Finalize, C_OpenSession, C_Login
    /// and C_Sign.
    pub fn calls(&self, function: &str) -> usize {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        log.lines().filter(|line| *line == function).count()
    }

    /// Whole at once, because the module reads it at any time.
    fn tell(&self, text: &str) {
        let staged = self.control.with_extension("new");
        fs::write(&staged, text).unwrap();
        fs::rename(staged, &self.control).unwrap();
    }
}
