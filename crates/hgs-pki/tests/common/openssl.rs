//! `openssl` as maker and judge of certificates, in a folder of its own.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use hgs_pki::{Certificate, CertificateError};
use tempfile::TempDir;

pub(crate) struct Openssl {
    program: PathBuf,
    folder: TempDir,
}

impl Openssl {
    pub(crate) fn new() -> Self {
        let openssl = Self {
            program: hgs_testkit::tool("openssl", "openssl"),
            folder: tempfile::tempdir().unwrap(),
        };
        // The installed configuration would add extensions that no test asked for.
        openssl.write("empty.cnf", "[req]\ndistinguished_name = name\n[name]\n");
        openssl
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.folder.path().join(name), content).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.folder.path().join(name)).unwrap()
    }

    /// Standard output of `openssl` with `arguments`, which are separated by white space; `~` in
    /// one of them stands for a space.
    #[track_caller]
    pub(crate) fn run(&self, arguments: &str) -> String {
        let (done, output, complaint) = self.attempt(arguments);
        assert!(done, "openssl {arguments}: {output}{complaint}");
        output
    }

    /// Whether `openssl` succeeded, and what it said.
    pub(crate) fn attempt(&self, arguments: &str) -> (bool, String, String) {
        let arguments = arguments
            .split_whitespace()
            .map(|word| word.replace('~', " "));
        let output = Command::new(&self.program)
            .args(arguments)
            .current_dir(self.folder.path())
            .output()
            .unwrap();
        let text = |octets| String::from_utf8_lossy(octets).into_owned();
        (
            output.status.success(),
            text(&output.stdout),
            text(&output.stderr),
        )
    }

    /// A self-signed certificate `NAME.der`, its key in `NAME.key`.
    #[track_caller]
    pub(crate) fn self_signed(&self, name: &str, options: &str) -> Vec<u8> {
        let key = match options.contains("-newkey") || options.contains("-key ") {
            true => "",
            false => "-newkey rsa:2048",
        };
        self.run(&format!(
            "req -config empty.cnf -x509 -nodes -batch -days 3650 -subj /CN={name} -keyout {name}.key \
             -outform DER -out {name}.der {key} {options}"
        ));
        self.read(&format!("{name}.der"))
    }

    /// A certificate `NAME.der` that the certificate and key of `issuer` signed.
    #[track_caller]
    pub(crate) fn issued(&self, name: &str, issuer: &str, options: &str) -> Certificate {
        let certificate = self.self_signed(
            name,
            &format!("-CA {issuer}.pem -CAkey {issuer}.key {options}"),
        );
        self.keep(name, Certificate::from_der(&certificate))
    }

    /// A self-signed certificate that can sign others.
    #[track_caller]
    pub(crate) fn root(&self, name: &str) -> Certificate {
        let certificate = self.self_signed(name, AUTHORITY);
        self.keep(name, Certificate::from_der(&certificate))
    }

    #[track_caller]
    fn keep(&self, name: &str, read: Result<Certificate, CertificateError>) -> Certificate {
        let certificate = read.unwrap();
        self.write(&format!("{name}.pem"), certificate.to_pem());
        certificate
    }
}

/// Options that make an authority of a certificate.
pub(crate) const AUTHORITY: &str =
    "-addext basicConstraints=critical,CA:true -addext keyUsage=critical,keyCertSign,cRLSign";

/// Options of a certificate that is nobody's authority. Without any extension, `openssl` writes
/// certificates of version 1 or 3, depending on its own version.
pub(crate) const LEAF: &str = "-addext basicConstraints=critical,CA:false";
