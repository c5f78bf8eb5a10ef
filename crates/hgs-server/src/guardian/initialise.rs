//! What `hgs init` does: a folder, a master key, certificates, and the first commit of the state.

use std::fs::DirBuilder;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use hgs_crypto::SecretBytes;
use hgs_crypto::random::System;
use hgs_crypto::rsa::OaepHash;
use hgs_custody::PrivateKey as _;
use hgs_custody::seal::MasterKey;
use hgs_custody::{KeyReference, Pkcs11Uri, Pkcs11Uris, SoftwareKey, pem, pfx};
use hgs_custody_pkcs11::{TokenError, TokenKey, Tokens, Usage};
use hgs_pki::issue::{IssueError, Template};
use hgs_pki::{Certificate, PemError as CertificatePemError, Time, Validity, profile};
use hgs_store::{
    Act, CertificateKind, CertificateRecord, Lineage, MasterKeyError, NameError, OpenError,
    Opening, Store, Transaction, master_key_file,
};

use super::Guardian;
use super::proof::{KeyProofError, prove};
use super::rotation::{CertifyError, new_signer, self_signed, signed_by};
use super::settings::settings_of;
use crate::Config;

/// How a new guardian begins.
#[derive(Debug)]
pub struct InitOptions {
    /// What it is called; `server.name` of the configuration when absent. At most 34 characters.
    pub name: Option<String>,
    /// Its signing certificate.
    pub signing: CertificateSource,
    /// Its encryption certificate.
    pub encryption: CertificateSource,
    /// The size of the keys that are generated.
    pub key_size: KeySize,
    /// Who does this, for the audit log.
    pub actor: String,
}

impl Default for InitOptions {
    fn default() -> Self {
        Self {
            name: None,
            signing: CertificateSource::Generate,
            encryption: CertificateSource::Generate,
            key_size: KeySize::default(),
            actor: format!("uid {}", rustix::process::geteuid().as_raw()),
        }
    }
}

/// Where a certificate and its key come from.
#[derive(Debug)]
pub enum CertificateSource {
    /// They are made here; the certificate signs itself.
    Generate,
    /// They were made elsewhere.
    Given(GivenCertificate),
    /// The key is in a token, or is generated in it when there is none of that name. A certificate that is not given signs
    /// itself.
    InToken {
        /// Where the key is, and where the same key is once more.
        key: Box<Pkcs11Uris>,
        /// The certificate over it.
        certificate: Option<Certificate>,
    },
}

/// A certificate and its software key, as somebody brings them.
#[derive(Debug)]
pub struct GivenCertificate {
    certificate: Certificate,
    key: SoftwareKey,
}

/// Files don't give a certificate with its key. The fault is the operator's.
#[derive(Debug, thiserror::Error)]
pub enum GivenError {
    /// No certificate in PEM.
    #[error(transparent)]
    Certificate(#[from] CertificatePemError),
    /// No key in PEM.
    #[error(transparent)]
    Key(#[from] pem::PemError),
    /// No PFX.
    #[error(transparent)]
    Pfx(#[from] pfx::PfxError),
    /// The file of the certificate is not text.
    #[error("the file of the certificate is neither PEM nor PFX")]
    Form,
    /// The key belongs to another certificate.
    #[error("the private key is not that of the certificate {0}")]
    Mismatch(String),
}

impl GivenCertificate {
    /// Puts a certificate and its key together.
    ///
    /// # Errors
    /// [`GivenError::Mismatch`].
    pub fn new(certificate: Certificate, key: SoftwareKey) -> Result<Self, GivenError> {
        if key.public() != certificate.public_key() {
            return Err(GivenError::Mismatch(certificate.subject().to_owned()));
        }
        Ok(Self { certificate, key })
    }

    /// From a PFX file.
    ///
    /// # Errors
    /// See [`GivenError`].
    pub fn from_pfx(file: &[u8], passphrase: &SecretBytes) -> Result<Self, GivenError> {
        let read = pfx::read(file, passphrase)?;
        Self::new(read.certificate, read.key)
    }

    /// From PEM files, which may be one: the first certificate in `certificate`, and the key in `key`.
    ///
    /// # Errors
    /// See [`GivenError`].
    pub fn from_pem(
        certificate: &[u8],
        key: &[u8],
        passphrase: Option<&SecretBytes>,
    ) -> Result<Self, GivenError> {
        let text = std::str::from_utf8(certificate).map_err(|_| GivenError::Form)?;
        let certificates = Certificate::list_from_pem(text)?;
        let key = pem::read_private_key(key, passphrase)?;
        let first = certificates.into_iter().next().ok_or(GivenError::Form)?;
        Self::new(first, key)
    }
}

/// Sizes of the RSA keys that are generated. A guardian's certificates live for ten years, for which 2048 bits are no
/// longer advised (NIST SP 800-57 part 1, table 4); private-key work with 3072 bits takes about three times as long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum KeySize {
    /// 2048 bits.
    Rsa2048,
    /// 3072 bits.
    #[default]
    Rsa3072,
    /// 4096 bits.
    Rsa4096,
}

impl KeySize {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Rsa2048, Self::Rsa3072, Self::Rsa4096];

    /// The number of bits.
    #[must_use]
    pub const fn bits(self) -> usize {
        match self {
            Self::Rsa2048 => 2048,
            Self::Rsa3072 => 3072,
            Self::Rsa4096 => 4096,
        }
    }

    /// The size with this number of bits.
    #[must_use]
    pub fn of_bits(bits: usize) -> Option<Self> {
        Self::ALL.into_iter().find(|size| size.bits() == bits)
    }

    /// The smallest size with at least so many bits, or the largest there is.
    pub(super) fn at_least(bits: usize) -> Self {
        let mut sizes = Self::ALL.into_iter();
        sizes
            .find(|size| size.bits() >= bits)
            .unwrap_or(Self::Rsa4096)
    }
}

/// What a new guardian has begun with.
#[derive(Debug, Clone)]
pub struct Initialised {
    /// What it is called.
    pub name: String,
    /// The folder of its state.
    pub state_folder: PathBuf,
    /// The file of its master key, without which the state is lost.
    pub master_key_file: PathBuf,
    /// The primary signing certificate.
    pub signing: Certificate,
    /// The primary encryption certificate.
    pub encryption: Certificate,
    /// The communications certificate, which signs the metadata.
    pub communications: Certificate,
}

/// No guardian was made. Nothing but the folder and the master key may have been left behind; it can be tried again.
#[derive(Debug, thiserror::Error)]
pub enum InitialiseError {
    /// A guardian lives there already. It is not overwritten.
    #[error("there is a guardian in {} already", state_folder.display())]
    AlreadyInitialised {
        /// The folder of its state.
        state_folder: PathBuf,
    },
    /// The name does not fit into the certificates.
    #[error("a guardian's name has 1 to {MAX_NAME} printable characters")]
    Name(#[from] NameError),
    /// The folder can't be made.
    #[error("can't make the folder {}", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// The file of the master key.
    #[error(transparent)]
    MasterKey(#[from] MasterKeyError),
    /// A certificate could not be made.
    #[error(transparent)]
    Certify(#[from] CertifyError),
    /// A key in a token can't be used.
    #[error("the key {uri} can't be used")]
    Token {
        /// Which key.
        uri: Box<Pkcs11Uri>,
        /// What is wrong.
        #[source]
        error: TokenError,
    },
    /// A key does not do what its certificate is for.
    #[error(transparent)]
    Key(#[from] KeyProofError),
    /// The store could not be made.
    #[error(transparent)]
    Store(OpenError),
}

/// Characters of a guardian's name: a common name has 64, and the words around it take 30.
pub const MAX_NAME: usize = 34;

impl Guardian {
    /// Makes a guardian where `config` says: the folder of the state, the master key (mode 0600), the certificates and
    /// the first attestation signer, all of the state in one commit with its audit record. Takes seconds, since keys are
    /// generated; it blocks.
    ///
    /// # Errors
    /// See [`InitialiseError`]. A guardian that is there already stays as it is.
    pub fn initialise(
        config: &Config,
        options: InitOptions,
        now: Time,
    ) -> Result<Initialised, InitialiseError> {
        let name = options.name.unwrap_or_else(|| config.server.name.clone());
        let settings = settings_of(config, checked_name(&name)?);
        let state_folder = config.state_folder();
        let master_key = master_key(config)?;
        let tokens = Tokens::new(config.pkcs11.settings());
        let beginnings = Beginnings::make(
            config,
            &name,
            options.signing,
            options.encryption,
            options.key_size,
            &tokens,
            now,
        )?;
        let initialised = beginnings.summary(config, name);
        let opening = Opening {
            directory: &state_folder,
            master_key: &master_key,
            node: &config.server.name,
            high_water_mark: config.high_water_mark_file(),
            random: Box::new(System::new()),
        };
        let act = Act {
            time: now,
            actor: options.actor,
        };
        Store::create(opening, settings, beginnings.into_transactions(now), act).map_err(
            |error| match error {
                OpenError::AlreadyInitialised { .. } => {
                    InitialiseError::AlreadyInitialised { state_folder }
                }
                other => InitialiseError::Store(other),
            },
        )?;
        Ok(initialised)
    }
}

fn checked_name(name: &str) -> Result<hgs_store::Label, InitialiseError> {
    if name.chars().count() > MAX_NAME {
        return Err(NameError::Label.into());
    }
    Ok(name.parse()?)
}

/// The master key: a new one, or that which an earlier attempt has left.
fn master_key(config: &Config) -> Result<MasterKey, InitialiseError> {
    let (state_folder, file) = (config.state_folder(), config.master_key_file());
    make_folder(&state_folder)?;
    if file.symlink_metadata().is_ok() {
        return Ok(master_key_file::read(&file)?);
    }
    if Store::is_in(&state_folder) {
        // A second master key could not open it.
        return Err(InitialiseError::AlreadyInitialised { state_folder });
    }
    Ok(master_key_file::create(&file, &mut System::new())?)
}

fn make_folder(folder: &Path) -> Result<(), InitialiseError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| InitialiseError::Folder {
        folder: folder.to_owned(),
        error,
    })
}

/// Certificates and keys of a new guardian.
struct Beginnings {
    signing: Certified,
    encryption: Certified,
    communications: Certified,
    attestation_signer: Transaction,
}

impl Beginnings {
    fn make(
        config: &Config,
        name: &str,
        signing: CertificateSource,
        encryption: CertificateSource,
        size: KeySize,
        tokens: &Tokens,
        now: Time,
    ) -> Result<Self, InitialiseError> {
        let not_after = now.checked_add(profile::GUARDIAN_VALIDITY);
        let validity = Validity {
            not_before: now,
            not_after: not_after.unwrap_or(Time::MAX),
        };
        let communications = communications(config, validity).map_err(CertifyError::from)?;
        // Most of the time goes into finding primes, for which nothing is shared.
        thread::scope(|scope| {
            let signing = scope.spawn(move || {
                let template = profile::guardian_signing(name, validity);
                signing.certified(template, Usage::Sign, size, tokens)
            });
            let encryption = scope.spawn(move || {
                let template = profile::guardian_encryption(name, validity);
                encryption.certified(template, Usage::Decrypt, size, tokens)
            });
            let communications = scope.spawn(move || Certified::generated(communications, size));
            let attestation_signer = scope.spawn(move || new_signer(size, now));
            Ok(Self {
                signing: joined(signing)?,
                encryption: joined(encryption)?,
                communications: joined(communications)?,
                attestation_signer: joined(attestation_signer)?,
            })
        })
    }

    fn summary(&self, config: &Config, name: String) -> Initialised {
        Initialised {
            name,
            state_folder: config.state_folder(),
            master_key_file: config.master_key_file(),
            signing: self.signing.certificate.clone(),
            encryption: self.encryption.certificate.clone(),
            communications: self.communications.certificate.clone(),
        }
    }

    fn into_transactions(self, now: Time) -> Vec<Transaction> {
        let add = |kind, certified: Certified| Transaction::AddCertificate {
            record: CertificateRecord {
                kind,
                certificate: certified.certificate,
                key: certified.place,
                lineage: Lineage::Fabric,
                enabled: true,
                head: true,
                compromised: None,
                retired: None,
                label: None,
                sha1_only: certified.sha1_only,
                added: now,
            },
            key: certified.key.map(Arc::new),
        };
        vec![
            add(CertificateKind::Signing, self.signing),
            add(CertificateKind::Encryption, self.encryption),
            add(CertificateKind::Communications, self.communications),
            self.attestation_signer,
        ]
    }
}

/// A certificate, and where its key is.
struct Certified {
    certificate: Certificate,
    place: KeyReference,
    sha1_only: bool,
    /// The key itself, where it is to be sealed here.
    key: Option<SoftwareKey>,
}

impl Certified {
    fn generated(template: Template, size: KeySize) -> Result<Self, InitialiseError> {
        let (certificate, key) = self_signed(template, size)?;
        Ok(Self::sealed(certificate, key))
    }

    fn sealed(certificate: Certificate, key: SoftwareKey) -> Self {
        Self {
            certificate,
            place: KeyReference::Sealed,
            sha1_only: false,
            key: Some(key),
        }
    }
}

impl CertificateSource {
    fn certified(
        self,
        template: Template,
        usage: Usage,
        size: KeySize,
        tokens: &Tokens,
    ) -> Result<Certified, InitialiseError> {
        let (uris, certificate) = match self {
            Self::Generate => return Certified::generated(template, size),
            Self::Given(GivenCertificate { certificate, key }) => {
                return Ok(Certified::sealed(certificate, key));
            }
            Self::InToken { key, certificate } => (key, certificate),
        };
        let certificate = match certificate {
            Some(certificate) => certificate,
            None => {
                let key = found_or_generated(tokens, &uris.primary, usage, size)?;
                signed_by(template, &key)?
            }
        };
        let hash = proved_in_tokens(tokens, &certificate, usage, &uris)?;
        Ok(Certified {
            certificate,
            place: KeyReference::Pkcs11(uris),
            sha1_only: hash == OaepHash::Sha1,
            key: None,
        })
    }
}

/// Has the key of `certificate` do its work wherever it is. The hash is that which all of them can do OAEP with.
pub(super) fn proved_in_tokens(
    tokens: &Tokens,
    certificate: &Certificate,
    usage: Usage,
    uris: &Pkcs11Uris,
) -> Result<OaepHash, InitialiseError> {
    let mut hash = OaepHash::Sha256;
    for uri in uris.iter() {
        let key = tokens.open(uri).map_err(in_token(uri))?;
        if prove(&key, certificate, usage)? == OaepHash::Sha1 {
            hash = OaepHash::Sha1;
        }
    }
    Ok(hash)
}

pub(super) fn found_or_generated(
    tokens: &Tokens,
    uri: &Pkcs11Uri,
    usage: Usage,
    size: KeySize,
) -> Result<TokenKey, InitialiseError> {
    match tokens.open(uri) {
        Err(TokenError::KeyAbsent { .. }) => tokens.generate(uri, size.bits(), usage),
        found => found,
    }
    .map_err(in_token(uri))
}

fn in_token(uri: &Pkcs11Uri) -> impl FnOnce(TokenError) -> InitialiseError {
    move |error| InitialiseError::Token {
        uri: Box::new(uri.clone()),
        error,
    }
}

fn joined<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// The certificate that signs the metadata, in the name by which hosts know the guardian where that can stand in a
/// certificate.
pub(crate) fn communications(config: &Config, validity: Validity) -> Result<Template, IssueError> {
    let machine = rustix::system::uname();
    let names = [
        config.public_name(),
        machine.nodename().to_string_lossy().into_owned(),
    ];
    let fits = |name: &&String| {
        (1..=64).contains(&name.len())
            && name.is_ascii()
            && !name.starts_with('[')
            && name.parse::<Ipv4Addr>().is_err()
    };
    let name = names.iter().find(fits);
    profile::communications(&[name.map_or("localhost", |name| name)], validity)
}
