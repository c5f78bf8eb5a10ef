//! A certificate with its private key, from the files in which others keep them.

use std::path::{Path, PathBuf};

use hgs_custody::pem::{self, PemError};
use hgs_custody::{PrivateKey as _, SoftwareKey, pfx};
use hgs_pki::Certificate;
use hgs_terminal::{AtFault, Failure, PassphraseSource, passphrase, read_given};

use super::generate::CertifiedKey;
use crate::failures::OrFail as _;

/// Where a certificate and its key are.
#[derive(Debug)]
pub(super) struct CertifiedFile {
    /// A PFX file, or a PEM file with the certificate and, unless `key` has it, the private key.
    pub(super) certificate: PathBuf,
    /// A PEM file with the private key.
    pub(super) key: Option<PathBuf>,
    /// The passphrase of the private key.
    pub(super) passphrase: Option<PassphraseSource>,
}

impl CertifiedFile {
    pub(super) fn read(&self) -> Result<CertifiedKey, Failure> {
        let path = &self.certificate;
        let file = read_given(path, pfx::MAX_FILE_LENGTH)?.whole(path, "a file of certificates")?;
        // PEM is text; DER, which PFX is, begins with the tag of a SEQUENCE.
        let certified = match file.first() {
            Some(0x30) => self.read_pfx(&file),
            _ => self.read_pem(&file),
        };
        certified.map_err(|failure| failure.while_doing(path.display()))
    }

    fn read_pfx(&self, file: &[u8]) -> Result<CertifiedKey, Failure> {
        if self.key.is_some() {
            return Err(Failure::usage("a PFX file holds its private key itself"));
        }
        let passphrase = passphrase(self.passphrase.as_ref(), &self.shown())?;
        let read = pfx::read(file, &passphrase).or_fail()?;
        Ok(CertifiedKey {
            certificate: read.certificate,
            key: read.key,
        })
    }

    fn read_pem(&self, file: &[u8]) -> Result<CertifiedKey, Failure> {
        let text = String::from_utf8_lossy(file);
        let certificates = Certificate::list_from_pem(&text).or_fail()?;
        let key = match &self.key {
            Some(path) => self.private_key(path, &key_file(path)?)?,
            None => self.private_key(&self.certificate, file)?,
        };
        // Whatever order the chain stands in, one certificate is over the key.
        let certificate = certificates
            .into_iter()
            .find(|certificate| certificate.public_key() == key.public())
            .ok_or_else(|| {
                Failure::refused("no certificate is over the private key")
                    .at_fault(AtFault::Operator)
            })?;
        Ok(CertifiedKey { certificate, key })
    }

    fn private_key(&self, path: &Path, text: &[u8]) -> Result<SoftwareKey, Failure> {
        let read = match pem::read_private_key(text, None) {
            Err(PemError::PassphraseNeeded) => {
                let passphrase = passphrase(self.passphrase.as_ref(), &self.shown())?;
                pem::read_private_key(text, Some(&passphrase))
            }
            read => read,
        };
        read.or_fail()
            .map_err(|failure| failure.while_doing(path.display()))
    }

    fn shown(&self) -> String {
        let path = self.key.as_ref().unwrap_or(&self.certificate);
        path.display().to_string()
    }
}

fn key_file(path: &Path) -> Result<Vec<u8>, Failure> {
    read_given(path, pem::MAX_FILE_LENGTH)?.whole(path, "a private key file")
}
