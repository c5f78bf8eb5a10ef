//! Certificates with their private keys, from the files in which others keep them.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use hgs_crypto::SecretBytes;
use hgs_custody::bundle::{self, Bundle, BundleError};
use hgs_custody::pem::PemError;
use hgs_custody::pfx::PfxError;
use hgs_custody::pkcs11_uri::{self, Pkcs11UriError};
use hgs_custody::{Pkcs11Uris, SoftwareKey};
use hgs_pki::Certificate;
use hgs_terminal::{AtFault, Failure, PassphraseSource, Terminal, passphrase, read_input};

use crate::clock::now;
use crate::failures::{IntoFailure, OrFail as _};

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
pub(crate) enum SuppliedKey {
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
enum KeyLocation {
    File(PathBuf),
    Token(Box<Pkcs11Uris>),
}

impl FromStr for KeyLocation {
    type Err = Pkcs11UriError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match pkcs11_uri::is_uri(text) {
            true => Ok(Self::Token(Box::new(text.parse()?))),
            false => Ok(Self::File(text.into())),
        }
    }
}

/// Options that name the certificates and keys of a guardian.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Instead of new keys")]
pub(crate) struct PairOptions {
    /// File with the signing certificate and its private key: PEM, PFX, DER or PKCS#7
    #[arg(long, value_name = "FILE")]
    signing_certificate: Option<PathBuf>,
    /// File with the signing key, if it stands alone, or its `pkcs11:` URI
    #[arg(long, value_name = "FILE|URI")]
    signing_key: Option<KeyLocation>,
    /// Where the passphrase of the signing key comes from: file:PATH, credential:NAME or env:NAME
    #[arg(long, value_name = "SOURCE")]
    signing_passphrase_from: Option<PassphraseSource>,
    /// File with the encryption certificate and its private key: PEM, PFX, DER or PKCS#7
    #[arg(long, value_name = "FILE")]
    encryption_certificate: Option<PathBuf>,
    /// File with the encryption key, if it stands alone, or its `pkcs11:` URI
    #[arg(long, value_name = "FILE|URI")]
    encryption_key: Option<KeyLocation>,
    /// Where the passphrase of the encryption key comes from
    #[arg(long, value_name = "SOURCE")]
    encryption_passphrase_from: Option<PassphraseSource>,
    /// Take certificates that have expired
    #[arg(long)]
    allow_expired: bool,
}

/// Options that name the files of an owner's certificates and keys.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Instead of new keys")]
pub(crate) struct PairFileOptions {
    /// File with the signing certificate and its private key: PEM, PFX, DER or PKCS#7
    #[arg(long, value_name = "FILE")]
    signing_certificate: Option<PathBuf>,
    /// File with the signing key, if it stands alone
    #[arg(long, value_name = "FILE")]
    signing_key: Option<PathBuf>,
    /// Where the passphrase of the signing key comes from: file:PATH, credential:NAME or env:NAME
    #[arg(long, value_name = "SOURCE")]
    signing_passphrase_from: Option<PassphraseSource>,
    /// File with the encryption certificate and its private key: PEM, PFX, DER or PKCS#7
    #[arg(long, value_name = "FILE")]
    encryption_certificate: Option<PathBuf>,
    /// File with the encryption key, if it stands alone
    #[arg(long, value_name = "FILE")]
    encryption_key: Option<PathBuf>,
    /// Where the passphrase of the encryption key comes from
    #[arg(long, value_name = "SOURCE")]
    encryption_passphrase_from: Option<PassphraseSource>,
    /// Take certificates that have expired
    #[arg(long)]
    allow_expired: bool,
}

impl PairFileOptions {
    /// Reads both, if files were named.
    pub(crate) fn read(self, terminal: &Terminal) -> Result<Option<Pair>, Failure> {
        let in_token = [&self.signing_key, &self.encryption_key]
            .into_iter()
            .flatten()
            .any(|key| key.to_str().is_some_and(pkcs11_uri::is_uri));
        if in_token {
            return Err(Failure::usage(
                "an owner's keys are files; keys in tokens are for `hgs init` and `hgs certificate`",
            ));
        }
        let pair = PairOptions {
            signing_certificate: self.signing_certificate,
            signing_key: self.signing_key.map(KeyLocation::File),
            signing_passphrase_from: self.signing_passphrase_from,
            encryption_certificate: self.encryption_certificate,
            encryption_key: self.encryption_key.map(KeyLocation::File),
            encryption_passphrase_from: self.encryption_passphrase_from,
            allow_expired: self.allow_expired,
        };
        Ok(match pair.read_any(terminal)? {
            Some((SuppliedKey::Files(signing), SuppliedKey::Files(encryption))) => Some(Pair {
                signing,
                encryption,
            }),
            _ => None,
        })
    }
}

impl PairOptions {
    /// Reads both, signing and encryption, from files and tokens, if any were named.
    pub(crate) fn read_any(
        self,
        terminal: &Terminal,
    ) -> Result<Option<(SuppliedKey, SuppliedKey)>, Failure> {
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
            terminal,
        )?;
        let encryption = one(
            self.encryption_certificate,
            self.encryption_key,
            self.encryption_passphrase_from,
            allow_expired,
            terminal,
        )?;
        Ok(signing.zip(encryption))
    }
}

fn one(
    certificate: Option<PathBuf>,
    key: Option<KeyLocation>,
    passphrase: Option<PassphraseSource>,
    allow_expired: bool,
    terminal: &Terminal,
) -> Result<Option<SuppliedKey>, Failure> {
    let given = match (certificate, key) {
        (None, None) => return Ok(None),
        (certificate, Some(KeyLocation::Token(key))) => SuppliedKey::InToken {
            key,
            certificate: certificate.as_deref().map(certificate_file).transpose()?,
        },
        (Some(certificate), key) => {
            let key = key.and_then(|key| match key {
                KeyLocation::File(file) => Some(file),
                KeyLocation::Token(_) => None,
            });
            let file = CertifiedFile {
                certificate,
                key,
                passphrase,
            };
            SuppliedKey::Files(file.read(terminal)?)
        }
        (None, Some(KeyLocation::File(_))) => {
            return Err(Failure::usage("a key in a file needs its certificate too"));
        }
    };
    let certificate = match &given {
        SuppliedKey::Files(certified) => Some(&certified.certificate),
        SuppliedKey::InToken { certificate, .. } => certificate.as_ref(),
    };
    if let Some(certificate) = certificate.filter(|_| !allow_expired) {
        refuse_expired(certificate)?;
    }
    Ok(Some(given))
}

/// The one certificate of a file; what else is in it must leave no doubt which is meant.
pub(crate) fn certificate_file(path: &Path) -> Result<Certificate, Failure> {
    let (bundle, _) = read_bundle(&[path], None)?;
    let certificate = bundle.certificate().or_fail();
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
    /// The file with the certificate and, unless `key` has it, the private key.
    pub(crate) certificate: PathBuf,
    /// The file with the private key.
    pub(crate) key: Option<PathBuf>,
    /// The passphrase of the private key.
    pub(crate) passphrase: Option<PassphraseSource>,
}

impl CertifiedFile {
    /// Reads both. A passphrase that is needed is asked for. A private key that other users may read is taken, and told:
    /// it has been copied there already, and the mode of a file from elsewhere says little.
    pub(crate) fn read(&self, terminal: &Terminal) -> Result<CertifiedKey, Failure> {
        let files: Vec<&Path> = [Some(&self.certificate), self.key.as_ref()]
            .into_iter()
            .flatten()
            .map(PathBuf::as_path)
            .collect();
        let key_file = self.key.as_ref().unwrap_or(&self.certificate);
        let (bundle, mut given) = read_bundle(&files, self.passphrase.as_ref())?;
        let mut certified = bundle.certified(given.as_ref());
        if given.is_none() && certified.as_ref().is_err_and(BundleError::needs_passphrase) {
            given = Some(passphrase(
                self.passphrase.as_ref(),
                &key_file.display().to_string(),
            )?);
            certified = bundle.certified(given.as_ref());
        }
        // What does not fit together is the fault of either.
        let named: Vec<String> = files
            .iter()
            .map(|file| file.display().to_string())
            .collect();
        let certified = certified
            .or_fail()
            .map_err(|failure| failure.while_doing(named.join(", ")))?;
        if let Some(mode) = hgs_files::open_to_others(key_file) {
            let file = key_file.display();
            terminal.note(format_args!(
                "warning: {file} has a private key and mode {mode:04o}, so that other users may open it\n  \
                 remedy: run `chmod 600 {file}`; if someone may have read it, take another key"
            ));
        }
        Ok(CertifiedKey {
            certificate: certified.certificate,
            key: certified.key,
        })
    }
}

/// All that files hold, and the passphrase if a PFX file among them needed one.
pub(crate) fn read_bundle(
    files: &[&Path],
    source: Option<&PassphraseSource>,
) -> Result<(Bundle, Option<SecretBytes>), Failure> {
    let (mut bundle, mut given) = (Bundle::default(), None);
    for path in files {
        let octets = read_input(path, bundle::MAX_FILE_LENGTH)?;
        let octets = SecretBytes::new(octets.complete(path, "a file of certificates and keys")?);
        let mut added = bundle.add(octets.expose(), given.as_ref());
        if given.is_none() && added.as_ref().is_err_and(BundleError::needs_passphrase) {
            given = Some(passphrase(source, &path.display().to_string())?);
            added = bundle.add(octets.expose(), given.as_ref());
        }
        added
            .or_fail()
            .map_err(|failure| failure.while_doing(path.display()))?;
    }
    Ok((bundle, given))
}

impl IntoFailure for BundleError {
    fn into_failure(self) -> Failure {
        let failure = Failure::refused(&self).at_fault(AtFault::Operator);
        match self {
            Self::NoPrivateKey(_) => failure.remedy("name the file that holds the private key too"),
            Self::OtherKey(_) => {
                failure.remedy("name the key and the certificate that belong together")
            }
            Self::JavaKeystore => failure.remedy(
                "convert it with `keytool -importkeystore -srckeystore FILE -destkeystore NEW.p12 -deststoretype PKCS12`",
            ),
            Self::CutOff { .. } => failure.remedy("copy the file again, in binary mode"),
            Self::Pfx(PfxError::Unsupported(_)) => failure.remedy(
                "convert it with `openssl pkcs12 -legacy -in FILE -out both.pem` and `openssl pkcs12 -export -in both.pem \
                 -out NEW.pfx`",
            ),
            Self::Key(PemError::Kind(kind)) if kind.starts_with("OPENSSH") => {
                failure.remedy("convert it with `ssh-keygen -p -m PKCS8 -f FILE`")
            }
            _ => failure,
        }
    }
}
