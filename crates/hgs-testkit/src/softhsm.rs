//! Tokens in software (SoftHSM 2), each set in a folder of its own, and a module that fails on command.
//!
//! SoftHSM finds its tokens by the environment variable `SOFTHSM2_CONF`, and a process has one environment and one
//! state of the module. So a test that uses tokens itself runs [`isolated`]; one that starts a program uses
//! [`SoftHsm::environ`].

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::fixtures::Guardian;
use crate::tool;

mod proxy;

pub use proxy::Proxy;

/// The label of the first token.
pub const TOKEN: &str = "hgs";
/// The PIN of every token.
pub const PIN: &str = "correct horse";

const CONFIGURATION: &str = "SOFTHSM2_CONF";

/// A folder with tokens. The first is [`TOKEN`].
#[derive(Debug)]
pub struct SoftHsm {
    folder: PathBuf,
    /// Removes the folder at the end; not there in a child, whose parent does it.
    _owner: Option<TempDir>,
}

impl SoftHsm {
    /// A fresh folder with one token.
    ///
    /// # Panics
    ///
    /// If SoftHSM is not installed.
    #[expect(
        clippy::new_without_default,
        reason = "it creates a folder and runs a program"
    )]
    pub fn new() -> Self {
        let owner = tempfile::tempdir().unwrap();
        let folder = owner.path().to_owned();
        fs::create_dir(folder.join("tokens")).unwrap();
        let configuration = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
            folder.join("tokens").display()
        );
        fs::write(folder.join("softhsm2.conf"), configuration).unwrap();
        let hsm = Self {
            folder,
            _owner: Some(owner),
        };
        hsm.add_token(TOKEN);
        fs::write(hsm.pin_file(), PIN).unwrap();
        fs::set_permissions(hsm.pin_file(), fs::Permissions::from_mode(0o600)).unwrap();
        hsm
    }

    /// The module of the Debian package.
    ///
    /// # Panics
    ///
    /// If it is not installed.
    #[track_caller]
    pub fn module() -> PathBuf {
        let module = PathBuf::from("/usr/lib/softhsm/libsofthsm2.so");
        assert!(
            module.is_file(),
            "this test needs {}: install the Debian package softhsm2",
            module.display()
        );
        module
    }

    /// Makes another token, with the same PIN.
    pub fn add_token(&self, label: &str) {
        let label = ["--label", label];
        let pins = ["--so-pin", PIN, "--pin", PIN];
        let arguments = [&["--init-token", "--free"], &label[..], &pins].concat();
        self.run("softhsm2-util", "softhsm2", &arguments);
    }

    /// The folder in which all of this is; for a test's own files too.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A file with the PIN, readable by its owner only.
    pub fn pin_file(&self) -> PathBuf {
        self.folder.join("pin")
    }

    /// The environment variable by which a program finds these tokens.
    pub fn environ(&self) -> (&'static str, PathBuf) {
        (CONFIGURATION, self.folder.join("softhsm2.conf"))
    }

    /// The URI of a key in [`TOKEN`], with the PIN in [`Self::pin_file`].
    pub fn uri(&self, object: &str) -> String {
        self.uri_in(TOKEN, object)
    }

    /// The URI of a key in a token.
    pub fn uri_in(&self, token: &str, object: &str) -> String {
        let pin = self.pin_file();
        format!(
            "pkcs11:token={token};object={object}?pin-source=file:{}",
            pin.display()
        )
    }

    /// Takes all tokens away, as far as a process that uses them already is concerned too.
    pub fn hide(&self) {
        fs::rename(self.folder.join("tokens"), self.folder.join("hidden")).unwrap();
    }

    /// Brings them back.
    pub fn show(&self) {
        fs::rename(self.folder.join("hidden"), self.folder.join("tokens")).unwrap();
    }

    /// Runs pkcs11-tool, logged in to [`TOKEN`].
    pub fn pkcs11_tool(&self, arguments: &[&str]) -> Output {
        self.pkcs11_tool_in(TOKEN, arguments)
    }

    /// Runs pkcs11-tool, logged in to a token.
    pub fn pkcs11_tool_in(&self, token: &str, arguments: &[&str]) -> Output {
        let module = Self::module();
        let module = module.to_str().unwrap();
        let login = ["--login", "--pin", PIN, "--token-label", token];
        let arguments = [&["--module", module], &login[..], arguments].concat();
        self.run("pkcs11-tool", "opensc", &arguments)
    }

    /// Generates an RSA key of 2048 bits with pkcs11-tool, for `usage` (such as `--usage-sign`).
    pub fn generate(&self, label: &str, usage: &str) {
        let kind = ["--keypairgen", "--key-type", "rsa:2048"];
        self.pkcs11_tool(&[&kind[..], &["--label", label, usage]].concat());
    }

    /// Writes a private key, the DER of PKCS#8, into a token, for any use.
    pub fn import(&self, token: &str, der: &Path, label: &str) {
        let object = ["--write-object", der.to_str().unwrap(), "--type", "privkey"];
        let uses = ["--label", label, "--usage-sign", "--usage-decrypt"];
        self.pkcs11_tool_in(token, &[&object[..], &uses].concat());
    }

    /// Writes the keys of a guardian into [`TOKEN`], as `signing` and `encryption`.
    pub fn import_guardian(&self, guardian: &Guardian) {
        for (label, key) in [
            ("signing", &guardian.signing_key),
            ("encryption", &guardian.encryption_key),
        ] {
            let file = self.folder.join(label);
            fs::write(&file, key.pkcs8_der().expose()).unwrap();
            self.import(TOKEN, &file, label);
        }
    }

    /// Deletes a private key from a token.
    pub fn delete(&self, token: &str, label: &str) {
        let object = ["--delete-object", "--type", "privkey", "--label", label];
        self.pkcs11_tool_in(token, &object);
    }

    fn run(&self, program: &str, package: &str, arguments: &[&str]) -> Output {
        let (name, value) = self.environ();
        let output = Command::new(tool(program, package))
            .args(arguments)
            .env(name, value)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{program} {arguments:?}: {output:?}"
        );
        output
    }
}

/// Runs the body of a test in a process of its own that sees fresh tokens. The PIN is in the variable `HGS_TEST_PIN` and in the
/// credential `pin` too.
///
/// `body` must be a closure in the test function itself: the type's name says which test the child is to run.
///
/// # Panics
///
/// If the child fails.
#[track_caller]
pub fn isolated<F: FnOnce(&SoftHsm)>(body: F) {
    if let Some(configuration) = env::var_os(CHILD).and_then(|_| env::var_os(CONFIGURATION)) {
        let folder = Path::new(&configuration).parent().unwrap().to_owned();
        body(&SoftHsm {
            folder,
            _owner: None,
        });
        return;
    }
    let hsm = SoftHsm::new();
    let (name, value) = hsm.environ();
    let output = Command::new(env::current_exe().unwrap())
        .args([test_of::<F>(), "--exact", "--nocapture"])
        .env(name, value)
        .env("HGS_TEST_PIN", PIN)
        .env("CREDENTIALS_DIRECTORY", hsm.folder())
        .env(CHILD, "")
        .output()
        .unwrap();
    let said = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    let (out, err) = (said(&output.stdout), said(&output.stderr));
    assert!(
        output.status.success() && out.contains("1 passed"),
        "{}{out}{err}",
        output.status
    );
}

const CHILD: &str = "OPENHGS_TEST_ISOLATED";

/// `CRATE::MODULE::TEST::{{closure}}` without the crate and the closure.
fn test_of<F>() -> &'static str {
    let name = std::any::type_name::<F>();
    let (_, name) = name.split_once("::").unwrap();
    name.trim_end_matches("::{{closure}}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_sees_the_tokens() {
        isolated(|hsm| {
            assert_eq!(env::var_os(CONFIGURATION), Some(hsm.environ().1.into()));
            let listed = hsm.pkcs11_tool(&["--list-objects"]);
            assert!(listed.status.success());
        });
    }

    #[test]
    #[should_panic(expected = "exit status: 3")]
    fn a_child_that_fails_fails_the_test() {
        isolated(|_| std::process::exit(3));
    }
}
