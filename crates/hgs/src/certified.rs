//! Certificates with their private keys, from the files in which others keep them.

use std::path::{Path, PathBuf};

use hgs_custody::pem::{self, PemError};
use hgs_custody::{PrivateKey as _, SoftwareKey, pfx};
use hgs_pki::Certificate;
use hgs_terminal::{AtFault, Failure, PassphraseSource, passphrase, read_given};

use crate::clock::now;
use crate::failures::OrFail as _;

/// A private key and the certificate over it.
#[derive(Debug)]
pub(crate) struct CertifiedKey {
    pub(crate) certificate: Certificate,
    pub(crate) key: SoftwareKey,
}

/// The two of a guardian.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) signing: CertifiedKey,
    pub(crate) encryption: CertifiedKey,
}

/// Options that name the certificates and keys of a guardian.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Instead of new keys")]
pub(crate) struct GivenPair {
    /// PFX or PEM file with the signing certificate and its private key
    #[arg(long, value_name = "FILE", requires = "encryption_certificate")]
    signing_certificate: Option<PathBuf>,
    /// PEM file with the signing key, if it stands alone
    #[arg(long, value_name = "FILE", requires = "signing_certificate")]
    signing_key: Option<PathBuf>,
    /// Where the passphrase of the signing key comes from: file:PATH, credential:NAME or env:NAME
    #[arg(long, value_name = "SOURCE", requires = "signing_certificate")]
    signing_passphrase_from: Option<PassphraseSource>,
    /// PFX or PEM file with the encryption certificate and its private key
    #[arg(long, value_name = "FILE", requires = "signing_certificate")]
    encryption_certificate: Option<PathBuf>,
    /// PEM file with the encryption key, if it stands alone
    #[arg(long, value_name = "FILE", requires = "encryption_certificate")]
    encryption_key: Option<PathBuf>,
    /// Where the passphrase of the encryption key comes from
    #[arg(long, value_name = "SOURCE", requires = "encryption_certificate")]
    encryption_passphrase_from: Option<PassphraseSource>,
    /// Take certificates that have expired
    #[arg(long, requires = "signing_certificate")]
    allow_expired: bool,
}

impl GivenPair {
    /// Reads both, if files were named.
    pub(crate) fn read(self) -> Result<Option<Pair>, Failure> {
        let (Some(signing), Some(encryption)) =
            (self.signing_certificate, self.encryption_certificate)
        else {
            return Ok(None);
        };
        let signing = CertifiedFile {
            certificate: signing,
            key: self.signing_key,
            passphrase: self.signing_passphrase_from,
        };
        let encryption = CertifiedFile {
            certificate: encryption,
            key: self.encryption_key,
            passphrase: self.encryption_passphrase_from,
        };
        let pair = Pair {
            signing: signing.read()?,
            encryption: encryption.read()?,
        };
        if !self.allow_expired {
            refuse_expired(&pair.signing.certificate)?;
            refuse_expired(&pair.encryption.certificate)?;
        }
        Ok(Some(pair))
    }
}

fn refuse_expired(certificate: &Certificate) -> Result<(), Failure> {
    let not_after = certificate.validity().not_after;
    if now() <= not_after {
        return Ok(());
    }
    let subject = certificate.subject();
    Err(
        Failure::refused(format!("the certificate {subject} expired at {not_after}"))
            .at_fault(AtFault::Operator)
            .remedy("say `--allow-expired` if that is known and meant"),
    )
}

/// Where one certificate and its key are.
#[derive(Debug)]
struct CertifiedFile {
    /// A PFX file, or a PEM file with the certificate and, unless `key` has it, the private key.
    certificate: PathBuf,
    /// A PEM file with the private key.
    key: Option<PathBuf>,
    /// The passphrase of the private key.
    passphrase: Option<PassphraseSource>,
}

impl CertifiedFile {
    fn read(&self) -> Result<CertifiedKey, Failure> {
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
