//! Certificates with their private keys, from the files in which others keep them.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use hgs_custody::pem::{self, PemError};
use hgs_custody::pkcs11_uri::Pkcs11UriError;
use hgs_custody::{Pkcs11Uris, PrivateKey as _, SoftwareKey, pfx};
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

/// Where the certificate or the key of a guardian comes from, if it is not generated.
#[derive(Debug)]
pub(crate) enum Given {
    /// Files with both.
    Files(CertifiedKey),
    /// A key in a token, and the certificate over it if there is one.
    InToken {
        key: Box<Pkcs11Uris>,
        certificate: Option<Certificate>,
    },
}

/// A private key by its file, or by its URI in a token.
#[derive(Debug, Clone)]
enum KeyPlace {
    File(PathBuf),
    Token(Box<Pkcs11Uris>),
}

impl FromStr for KeyPlace {
    type Err = Pkcs11UriError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.starts_with("pkcs11:") {
            true => Ok(Self::Token(Box::new(text.parse()?))),
            false => Ok(Self::File(text.into())),
        }
    }
}

/// Options that name the certificates and keys of a guardian.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Instead of new keys")]
pub(crate) struct GivenPair {
    /// PFX or PEM file with the signing certificate and its private key
    #[arg(long, value_name = "FILE")]
    signing_certificate: Option<PathBuf>,
    /// PEM file with the signing key, if it stands alone, or its `pkcs11:` URI
    #[arg(long, value_name = "FILE|URI")]
    signing_key: Option<KeyPlace>,
    /// Where the passphrase of the signing key comes from: file:PATH, credential:NAME or env:NAME
    #[arg(long, value_name = "SOURCE")]
    signing_passphrase_from: Option<PassphraseSource>,
    /// PFX or PEM file with the encryption certificate and its private key
    #[arg(long, value_name = "FILE")]
    encryption_certificate: Option<PathBuf>,
    /// PEM file with the encryption key, if it stands alone, or its `pkcs11:` URI
    #[arg(long, value_name = "FILE|URI")]
    encryption_key: Option<KeyPlace>,
    /// Where the passphrase of the encryption key comes from
    #[arg(long, value_name = "SOURCE")]
    encryption_passphrase_from: Option<PassphraseSource>,
    /// Take certificates that have expired
    #[arg(long)]
    allow_expired: bool,
}

impl GivenPair {
    /// Reads both, if files were named; keys in tokens are none of an owner's.
    pub(crate) fn read(self) -> Result<Option<Pair>, Failure> {
        match self.read_any()? {
            None => Ok(None),
            Some((Given::Files(signing), Given::Files(encryption))) => Ok(Some(Pair {
                signing,
                encryption,
            })),
            Some(_) => Err(Failure::usage(
                "an owner's keys are files; keys in tokens are for `hgs init` and `hgs certificate`",
            )),
        }
    }

    /// Reads both, signing and encryption, from files and tokens, if any were named.
    pub(crate) fn read_any(self) -> Result<Option<(Given, Given)>, Failure> {
        let names_signing = self.signing_certificate.is_some() || self.signing_key.is_some();
        let names_encryption =
            self.encryption_certificate.is_some() || self.encryption_key.is_some();
        if names_signing != names_encryption {
            return Err(Failure::usage(
                "name both the signing and the encryption certificate or key, or neither",
            ));
        }
        let allow_expired = self.allow_expired;
        let signing = one(
            self.signing_certificate,
            self.signing_key,
            self.signing_passphrase_from,
            allow_expired,
        )?;
        let encryption = one(
            self.encryption_certificate,
            self.encryption_key,
            self.encryption_passphrase_from,
            allow_expired,
        )?;
        Ok(signing.zip(encryption))
    }
}

fn one(
    certificate: Option<PathBuf>,
    key: Option<KeyPlace>,
    passphrase: Option<PassphraseSource>,
    allow_expired: bool,
) -> Result<Option<Given>, Failure> {
    let given = match (certificate, key) {
        (None, None) => return Ok(None),
        (certificate, Some(KeyPlace::Token(key))) => Given::InToken {
            key,
            certificate: certificate.as_deref().map(certificate_file).transpose()?,
        },
        (Some(certificate), key) => {
            let key = key.and_then(|key| match key {
                KeyPlace::File(file) => Some(file),
                KeyPlace::Token(_) => None,
            });
            let file = CertifiedFile {
                certificate,
                key,
                passphrase,
            };
            Given::Files(file.read()?)
        }
        (None, Some(KeyPlace::File(_))) => {
            return Err(Failure::usage("a key in a file needs its certificate too"));
        }
    };
    let certificate = match &given {
        Given::Files(certified) => Some(&certified.certificate),
        Given::InToken { certificate, .. } => certificate.as_ref(),
    };
    if let Some(certificate) = certificate.filter(|_| !allow_expired) {
        refuse_expired(certificate)?;
    }
    Ok(Some(given))
}

/// The first certificate of a PEM file.
fn certificate_file(path: &Path) -> Result<Certificate, Failure> {
    let file = read_given(path, pem::MAX_FILE_LENGTH)?.whole(path, "a file of certificates")?;
    let certificate = Certificate::from_pem(&String::from_utf8_lossy(&file)).or_fail();
    certificate.map_err(|failure| failure.while_doing(path.display()))
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
pub(crate) struct CertifiedFile {
    /// A PFX file, or a PEM file with the certificate and, unless `key` has it, the private key.
    pub(crate) certificate: PathBuf,
    /// A PEM file with the private key.
    pub(crate) key: Option<PathBuf>,
    /// The passphrase of the private key.
    pub(crate) passphrase: Option<PassphraseSource>,
}

impl CertifiedFile {
    /// Reads both. A passphrase that is needed is asked for.
    pub(crate) fn read(&self) -> Result<CertifiedKey, Failure> {
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
