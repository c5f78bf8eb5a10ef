//! The host key: who this host is to a service in host-key mode ([MS-HGSA] 3.1.5.3).

use std::fmt::Display;
use std::path::{Path, PathBuf};

use hgs_crypto::random;
use hgs_crypto::random::System;
use hgs_crypto::rsa::{PrivateKeyError, PublicKey, SignatureScheme};
use hgs_custody::{Bundle, BundleError, PrivateKey as _, SoftwareKey, bundle, pem};
use hgs_files::{FileError, Readers};
use hgs_pki::issue::{self, Issuer};
use hgs_pki::{Certificate, Seconds, Time, Validity, profile};

/// How long an exported certificate is valid. Only its key counts.
const CERTIFICATE_VALIDITY: Seconds = Seconds::from_days(3_652);

/// The private half, as long as it is used.
#[derive(Debug)]
pub struct HostKey(SoftwareKey);

/// Bits of a host key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HostKeySize {
    /// 2048 bits.
    Rsa2048,
    /// 3072 bits.
    #[default]
    Rsa3072,
}

/// Why there is no host key. The operator is at fault, or the system.
#[derive(Debug, thiserror::Error)]
pub enum HostKeyError {
    /// There is none.
    #[error("this host has no host key")]
    Missing,
    /// There is one, and it is not overwritten.
    #[error("{}: this host has a host key already", .0.display())]
    AlreadyExists(PathBuf),
    /// The file can't be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file holds no private key.
    #[error("{}: {problem}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: BundleError,
    },
    /// It could not be generated.
    #[error(transparent)]
    Generation(#[from] PrivateKeyError),
    /// It could not sign, or be written.
    #[error("the host key can't be used: {0}")]
    Unusable(String),
}

/// The public half of a host key in a form that `hgs host add --host-key` reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublicForm {
    /// `PUBLIC KEY` in PEM: the SubjectPublicKeyInfo.
    SubjectPublicKeyInfo,
    /// `CERTIFICATE` in PEM: self-signed, for tools that know keys in certificates only.
    Certificate,
}

impl HostKey {
    /// Generates a key and writes it to `path`, where nothing may be yet.
    pub(crate) fn create(path: &Path, size: HostKeySize) -> Result<Self, HostKeyError> {
        // Said before the time is spent; `create` below is what holds it.
        if hgs_files::exists(path)? {
            return Err(HostKeyError::AlreadyExists(path.to_owned()));
        }
        let key = SoftwareKey::generate(match size {
            HostKeySize::Rsa2048 => 2048,
            HostKeySize::Rsa3072 => 3072,
        })?;
        let text = pem::write_private_key(&key, None, &mut System::new()).map_err(unusable)?;
        hgs_files::create(path, text.as_bytes(), Readers::Owner)?;
        Ok(Self(key))
    }

    pub(crate) fn load(path: &Path) -> Result<Self, HostKeyError> {
        let text = hgs_files::optional(hgs_files::read_secret(path, bundle::MAX_FILE_LENGTH))?
            .ok_or(HostKeyError::Missing)?;
        let key = Bundle::read(text.expose(), None).and_then(|bundle| bundle.private_key(None));
        key.map(Self).map_err(|problem| HostKeyError::Pem {
            path: path.to_owned(),
            problem,
        })
    }

    pub(crate) fn remove(path: &Path) -> Result<(), HostKeyError> {
        hgs_files::optional(hgs_files::remove(path))?.ok_or(HostKeyError::Missing)
    }

    /// The public half, by which the service knows the host.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        self.0.public()
    }

    /// The public half in PEM. A certificate is issued at `now` in the name of `host`, for ten years.
    ///
    /// # Errors
    /// When the certificate can't be made.
    pub fn export(&self, form: PublicForm, host: &str, now: Time) -> Result<String, HostKeyError> {
        match form {
            PublicForm::SubjectPublicKeyInfo => {
                Ok(hgs_pki::pem::encode("PUBLIC KEY", self.public().spki_der()))
            }
            PublicForm::Certificate => Ok(self.certificate(host, now)?.to_pem()),
        }
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, HostKeyError> {
        let signature = self.0.sign(SignatureScheme::Pkcs1Sha256, message);
        signature.map_err(unusable)
    }

    fn certificate(&self, host: &str, now: Time) -> Result<Certificate, HostKeyError> {
        let validity = Validity {
            not_before: now,
            not_after: now.checked_add(CERTIFICATE_VALIDITY).unwrap_or(Time::MAX),
        };
        let serial = random::array(&mut System::new()).map_err(unusable)?;
        let template = profile::host_key(host, validity);
        let prepared = issue::prepare(template, self.public(), Issuer::SelfSigned, serial)
            .map_err(unusable)?;
        let signature = self.sign(prepared.to_be_signed())?;
        prepared.assemble(&signature).map_err(unusable)
    }
}

fn unusable(error: impl Display) -> HostKeyError {
    HostKeyError::Unusable(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, symlink};
    use std::process::Command;

    use hgs_testkit::tool;

    use super::*;
    use hgs_files::FileProblem;

    fn now() -> Time {
        Time::from_unix(1_795_000_000)
    }

    #[test]
    fn a_host_key_is_its_owners_alone_and_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("host-key.pem");
        assert!(matches!(HostKey::load(&path), Err(HostKeyError::Missing)));
        let key = HostKey::create(&path, HostKeySize::Rsa2048).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        let error = HostKey::create(&path, HostKeySize::Rsa2048).unwrap_err();
        assert!(matches!(error, HostKeyError::AlreadyExists(_)));
        assert_eq!(HostKey::load(&path).unwrap().public(), key.public());
        HostKey::remove(&path).unwrap();
        assert!(matches!(HostKey::remove(&path), Err(HostKeyError::Missing)));
    }

    #[test]
    fn k20_a_host_key_behind_a_link_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("key"), folder.path().join("link"));
        HostKey::create(&path, HostKeySize::Rsa2048).unwrap();
        symlink(&path, &link).unwrap();
        let error = HostKey::load(&link).unwrap_err();
        assert!(matches!(
            error,
            HostKeyError::File(FileError {
                problem: FileProblem::SymbolicLink,
                ..
            })
        ));
        let error = HostKey::create(&link, HostKeySize::Rsa2048).unwrap_err();
        assert!(matches!(error, HostKeyError::AlreadyExists(_)));
    }

    #[test]
    fn openssl_reads_the_same_key_from_both_exports() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("host-key.pem");
        let key = HostKey::create(&path, HostKeySize::default()).unwrap();
        assert_eq!(key.public().modulus_bits(), 3072);
        let openssl = |form, arguments: &[&str]| {
            let file = folder.path().join("export.pem");
            fs::write(&file, key.export(form, "host-1", now()).unwrap()).unwrap();
            let output = Command::new(tool("openssl", "openssl"))
                .args(arguments)
                .arg("-in")
                .arg(&file)
                .output()
                .unwrap();
            assert!(output.status.success());
            output.stdout
        };
        let plain = openssl(
            PublicForm::SubjectPublicKeyInfo,
            &["pkey", "-pubin", "-outform", "DER"],
        );
        assert_eq!(plain, key.public().spki_der());
        let certified = openssl(PublicForm::Certificate, &["x509", "-noout", "-pubkey"]);
        let exported = key.export(PublicForm::SubjectPublicKeyInfo, "", now());
        assert_eq!(certified, exported.unwrap().as_bytes());
    }
}
