//! A VM's folder with a TPM in it, and tpm2-tools on that TPM.
#![allow(dead_code, reason = "each test program uses some of it")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use hgs_crypto::SecretBytes;
use hgs_testkit::tool;
use hgs_vm::generation::{Generation, StateFolder};
use hgs_vm::program::Program;
use hgs_vm::rekey::Successor;
use hgs_vm::swtpm::{Channels, Contents, Settings, StateKey, Swtpm};
use tempfile::TempDir;

/// A key whose octets are all the same but for the last: it can be told from others in a trace.
pub(crate) fn key(number: u8) -> StateKey {
    let mut octets = vec![b'A' + number; 32];
    octets[31] = b'=';
    StateKey::new(SecretBytes::new(octets)).unwrap()
}

/// A protector as far as this crate knows one: octets.
pub(crate) fn protector(number: u8) -> Vec<u8> {
    format!("<protector releases='{number}'/>").into_bytes()
}

pub(crate) fn swtpm() -> &'static Program {
    static SWTPM: LazyLock<Program> = LazyLock::new(|| Program::installed("swtpm"));
    &SWTPM
}

pub(crate) fn settings<'a>(
    folder: &'a Path,
    contents: Contents,
    key: &'a StateKey,
) -> Settings<'a> {
    Settings {
        program: swtpm(),
        folder,
        contents,
        key,
        migration_key: None,
        channels: Channels::Private,
    }
}

/// A VM whose first generation is a TPM with new seeds under `key(1)`, and `protector(1)`.
pub(crate) struct Vm {
    root: TempDir,
}

impl Vm {
    pub(crate) fn new() -> Self {
        let vm = Self {
            root: tempfile::tempdir().unwrap(),
        };
        let mut state = StateFolder::create(&vm.folder()).unwrap();
        let staged = state.stage().unwrap();
        let key = key(1);
        let mut tpm = Swtpm::start(&settings(staged.path(), Contents::New, &key)).unwrap();
        tpm.initialise().unwrap();
        tpm.shut_down().unwrap();
        let complete = state.complete(staged, &protector(1)).unwrap();
        state.switch(complete).unwrap();
        vm
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.root.path().join("vm")
    }

    /// A folder beside that of the VM.
    pub(crate) fn beside(&self) -> &Path {
        self.root.path()
    }

    pub(crate) fn open(&self) -> StateFolder {
        StateFolder::open(&self.folder()).unwrap()
    }

    pub(crate) fn current(&self) -> Generation {
        self.open().current().unwrap()
    }

    /// Names of all that is in the folder, in order.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    /// Whether the current state opens with a key.
    pub(crate) fn opens(&self, key: &StateKey) -> bool {
        let current = self.current();
        let mut tpm = Swtpm::start(&settings(current.path(), Contents::Kept, key)).unwrap();
        let opened = tpm.initialise().is_ok();
        tpm.shut_down().unwrap();
        opened
    }

    /// Starts the TPM of the current generation for tpm2-tools.
    pub(crate) fn tools(&self, key: &StateKey) -> Tools {
        Tools::new(self.current().path(), self.beside(), key)
    }
}

/// swtpm started by hand, as a second opinion: with its key in a file.
pub(crate) struct Tools {
    swtpm: Child,
    folder: PathBuf,
}

impl Tools {
    pub(crate) fn new(state: &Path, folder: &Path, key: &StateKey) -> Self {
        let (socket, key_file) = (folder.join("tpm"), folder.join("key"));
        fs::write(&key_file, key.secret().expose()).unwrap();
        fs::set_permissions(&key_file, fs::Permissions::from_mode(0o600)).unwrap();
        for old in [socket.clone(), folder.join("tpm.ctrl")] {
            let _ = fs::remove_file(old);
        }
        let swtpm = Command::new(tool("swtpm", "swtpm"))
            .args(["socket", "--tpm2", "--tpmstate"])
            .arg(format!("dir={}", state.display()))
            .arg("--server")
            .arg(format!("type=unixio,path={}", socket.display()))
            .arg("--ctrl")
            .arg(format!("type=unixio,path={}.ctrl", socket.display()))
            .args(["--flags", "not-need-init,startup-clear", "--key"])
            .arg(format!(
                "file={},format=binary,mode=aes-256-cbc,remove=true",
                key_file.display()
            ))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        // The socket is there a moment before somebody listens.
        while UnixStream::connect(&socket).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(30), "swtpm listens");
            std::thread::yield_now();
        }
        Self {
            swtpm,
            folder: folder.to_owned(),
        }
    }

    /// Where its tools work.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn try_run(&self, program: &str, arguments: &str) -> Output {
        Command::new(tool(program, "tpm2-tools"))
            .args(arguments.split_whitespace())
            .current_dir(&self.folder)
            .env(
                "TPM2TOOLS_TCTI",
                format!("swtpm:path={}", self.folder.join("tpm").display()),
            )
            .output()
            .unwrap()
    }

    /// What one of tpm2-tools writes to its output.
    pub(crate) fn run(&self, program: &str, arguments: &str) -> Vec<u8> {
        let output = self.try_run(program, arguments);
        assert!(
            output.status.success(),
            "{program} {arguments}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        output.stdout
    }
}

impl Drop for Tools {
    fn drop(&mut self) {
        let _ = self.swtpm.kill();
        let _ = self.swtpm.wait();
    }
}

/// What a state is moved to.
pub(crate) fn successor<'a>(key: &'a StateKey, protector: &'a [u8]) -> Successor<'a> {
    Successor {
        key,
        protector,
        protection: b"what its owner decided",
    }
}
