//! What `hgs init` does: a folder, a master key, certificates, and the first commit of the state.

use std::fs::DirBuilder;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use hgs_crypto::SecretBytes;
use hgs_crypto::random::{self, System};
use hgs_crypto::rsa::OaepHash;
use hgs_custody::PrivateKey as _;
use hgs_custody::seal::MasterKey;
use hgs_custody::{Bundle, BundleError, KeyReference, Pkcs11Uri, Pkcs11Uris, SoftwareKey};
use hgs_custody_pkcs11::{TokenError, TokenKey, Tokens, Usage};
use hgs_pki::issue::{IssueError, Template};
use hgs_pki::{Certificate, Time, Validity, profile};
use hgs_store::{
    Act, CertificateKind, CertificateRecord, Lineage, MasterKeyError, NameError, OpenError,
    Opening, Store, Transaction, master_key_file,
};

use super::proof::{KeyProofError, prove};
use super::rotation::{CertifyError, new_signer, self_signed, signed_by};
use super::settings::settings_of;
use crate::config::Config;

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
    /// Whether keys that are named in tokens and are not there are made there. Otherwise they are an error.
    pub new_keys: bool,
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
            new_keys: false,
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
    /// The key is in a token. A certificate that is not given signs itself.
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
    /// They can't be read, or one of the two is not in them.
    #[error(transparent)]
    Files(#[from] BundleError),
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

    /// The certificate and the key in a bundle of files.
    ///
    /// # Errors
    /// [`GivenError::Files`].
    pub fn from_bundle(
        bundle: &Bundle,
        passphrase: Option<&SecretBytes>,
    ) -> Result<Self, GivenError> {
        let certified = bundle.certified(passphrase)?;
        Self::new(certified.certificate, certified.key)
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
    /// Where the signing key comes from and is.
    pub signing_key: PlacedKey,
    /// Where the encryption key comes from and is.
    pub encryption_key: PlacedKey,
}

/// Where a private key comes from, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedKey {
    /// Where it comes from.
    pub origin: KeyOrigin,
    /// Where it is.
    pub place: KeyReference,
}

/// Where a private key comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyOrigin {
    /// It was made.
    Made,
    /// It was in the token.
    Found,
    /// It was in a file.
    Given,
}

impl KeyOrigin {
    /// In one word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Made => "made",
            Self::Found => "found",
            Self::Given => "given",
        }
    }
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
    /// A key in a token is not there, and none is to be made.
    #[error("the key {uri} is not there, and is not made unasked")]
    NotThere {
        /// Which key.
        uri: Box<Pkcs11Uri>,
        /// What is there.
        #[source]
        error: TokenError,
    },
    /// One key is named for both uses.
    #[error("the signing key and the encryption key are the same, {0}; name two")]
    SameKey(Box<Pkcs11Uri>),
    /// Keys were made in tokens before something failed; they are still there.
    #[error("keys were made and are left in the token: {}", listed(made))]
    AfterMaking {
        /// Which.
        made: Vec<Pkcs11Uri>,
        /// What failed then.
        #[source]
        error: Box<Self>,
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
    if Store::is_in(&state_folder) {
        return Err(InitialiseError::AlreadyInitialised { state_folder });
    }
    let tokens = Tokens::new(config.pkcs11.settings());
    // All that is named is looked for before anything is made.
    let signing = Source::located(options.signing, &tokens, options.new_keys)?;
    let encryption = Source::located(options.encryption, &tokens, options.new_keys)?;
    refuse_same_key(&signing, &encryption)?;
    let master_key = master_key(config)?;
    let made = Mutex::new(Vec::new());
    let making = Making {
        size: options.key_size,
        tokens: &tokens,
        made: &made,
    };
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
    let outcome =
        Beginnings::make(config, &name, signing, encryption, &making, now).and_then(|beginnings| {
            let initialised = beginnings.summary(config, name);
            let created = Store::create(opening, settings, beginnings.into_transactions(now), act);
            created.map_err(|error| match error {
                OpenError::AlreadyInitialised { .. } => {
                    let state_folder = config.state_folder();
                    InitialiseError::AlreadyInitialised { state_folder }
                }
                other => InitialiseError::Store(other),
            })?;
            Ok(initialised)
        });
    let made = made.into_inner().unwrap_or_else(PoisonError::into_inner);
    outcome.map_err(|error| after_making(made, error))
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
        signing: Source,
        encryption: Source,
        making: &Making<'_>,
        now: Time,
    ) -> Result<Self, InitialiseError> {
        let not_after = now.checked_add(profile::GUARDIAN_VALIDITY);
        let validity = Validity {
            not_before: now,
            not_after: not_after.unwrap_or(Time::MAX),
        };
        let communications = communications(config, validity).map_err(CertifyError::from)?;
        let size = making.size;
        // Most of the time goes into finding primes, for which nothing is shared.
        thread::scope(|scope| {
            let signing = scope.spawn(move || {
                let template = profile::guardian_signing(name, validity);
                signing.certified(template, Usage::Sign, making)
            });
            let encryption = scope.spawn(move || {
                let template = profile::guardian_encryption(name, validity);
                encryption.certified(template, Usage::Decrypt, making)
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
            signing_key: self.signing.placed(),
            encryption_key: self.encryption.placed(),
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
    origin: KeyOrigin,
    sha1_only: bool,
    /// The key itself, where it is to be sealed here.
    key: Option<SoftwareKey>,
}

impl Certified {
    fn generated(template: Template, size: KeySize) -> Result<Self, InitialiseError> {
        let (certificate, key) = self_signed(template, size)?;
        Ok(Self::sealed(certificate, key, KeyOrigin::Made))
    }

    fn sealed(certificate: Certificate, key: SoftwareKey, origin: KeyOrigin) -> Self {
        Self {
            certificate,
            place: KeyReference::Sealed,
            origin,
            sha1_only: false,
            key: Some(key),
        }
    }

    fn placed(&self) -> PlacedKey {
        PlacedKey {
            origin: self.origin,
            place: self.place.clone(),
        }
    }
}

/// What keys are made with.
pub(super) struct Making<'m> {
    pub(super) size: KeySize,
    pub(super) tokens: &'m Tokens,
    /// The keys that were made in tokens, which stay there whatever happens.
    pub(super) made: &'m Mutex<Vec<Pkcs11Uri>>,
}

/// A source of a certificate whose key in a token was looked for.
#[expect(
    clippy::large_enum_variant,
    reason = "there are two of them, once in a guardian's life"
)]
enum Source {
    Generate,
    Given(GivenCertificate),
    InToken {
        key: LocatedKey,
        certificate: Option<Certificate>,
    },
}

impl Source {
    fn located(
        source: CertificateSource,
        tokens: &Tokens,
        new_keys: bool,
    ) -> Result<Self, InitialiseError> {
        Ok(match source {
            CertificateSource::Generate => Self::Generate,
            CertificateSource::Given(given) => Self::Given(given),
            CertificateSource::InToken { key, certificate } => Self::InToken {
                // Over a key that is yet to be made there is no certificate.
                key: LocatedKey::find(tokens, *key, new_keys && certificate.is_none())?,
                certificate,
            },
        })
    }

    fn certified(
        self,
        template: Template,
        usage: Usage,
        making: &Making<'_>,
    ) -> Result<Certified, InitialiseError> {
        let (located, certificate) = match self {
            Self::Generate => return Certified::generated(template, making.size),
            Self::Given(GivenCertificate { certificate, key }) => {
                return Ok(Certified::sealed(certificate, key, KeyOrigin::Given));
            }
            Self::InToken { key, certificate } => (key, certificate),
        };
        let (key, uris, origin) = located.found_or_made(usage, making)?;
        let certificate = match certificate {
            Some(certificate) => certificate,
            None => signed_by(template, &key)?,
        };
        let hash = proved_in_tokens(making.tokens, &certificate, usage, &uris)?;
        Ok(Certified {
            certificate,
            place: uris.into(),
            origin,
            sha1_only: hash == OaepHash::Sha1,
            key: None,
        })
    }
}

/// A key that was looked for in its token.
pub(super) struct LocatedKey {
    uris: Pkcs11Uris,
    /// Absent if it is to be made.
    key: Option<TokenKey>,
}

impl LocatedKey {
    /// Looks for a key in its token, and for the same key in the second one. If it is not there, and only if it `may_be_made`,
    /// that is no error.
    pub(super) fn find(
        tokens: &Tokens,
        uris: Pkcs11Uris,
        may_be_made: bool,
    ) -> Result<Self, InitialiseError> {
        let uri = &uris.primary;
        let key = match tokens.open(uri) {
            Ok(key) => Some(key),
            Err(TokenError::KeyAbsent { .. }) if may_be_made => {
                if uri.object.is_none() && uri.id.is_none() {
                    return Err(in_token(uri)(TokenError::KeyNotNamed));
                }
                None
            }
            Err(error @ TokenError::KeyAbsent { .. }) => {
                let uri = Box::new(uri.clone());
                return Err(InitialiseError::NotThere { uri, error });
            }
            Err(error) => return Err(in_token(uri)(error)),
        };
        if let Some(spare) = &uris.spare {
            tokens.open(spare).map_err(in_token(spare))?;
        }
        Ok(Self { uris, key })
    }

    /// The key, made if it was not there; and how it is named from then on: with an identifier of its own.
    pub(super) fn found_or_made(
        self,
        usage: Usage,
        making: &Making<'_>,
    ) -> Result<(TokenKey, Pkcs11Uris, KeyOrigin), InitialiseError> {
        let Self { mut uris, key } = self;
        if let Some(key) = key {
            return Ok((key, uris, KeyOrigin::Found));
        }
        if uris.primary.id.is_none() {
            let id: [u8; 8] =
                random::array(&mut System::new()).map_err(|_| CertifyError::Randomness)?;
            uris.primary.id = Some(id.to_vec());
        }
        let uri = &uris.primary;
        let key = making.tokens.generate(uri, making.size.bits(), usage);
        let key = key.map_err(in_token(uri))?;
        let mut made = making.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.push(uri.clone());
        drop(made);
        Ok((key, uris, KeyOrigin::Made))
    }
}

/// One key for both uses would let a signature be had for a decryption, and the other way.
fn refuse_same_key(signing: &Source, encryption: &Source) -> Result<(), InitialiseError> {
    let (Source::InToken { key: one, .. }, Source::InToken { key: other, .. }) =
        (signing, encryption)
    else {
        return Ok(());
    };
    let name = |located: &LocatedKey| Pkcs11Uri {
        module_path: None,
        pin_source: None,
        ..located.uris.primary.clone()
    };
    let same = match (&one.key, &other.key) {
        (Some(one), Some(other)) => one.public() == other.public(),
        (None, None) => name(one) == name(other),
        _ => false,
    };
    match same {
        true => Err(InitialiseError::SameKey(Box::new(name(one)))),
        false => Ok(()),
    }
}

pub(super) fn after_making(made: Vec<Pkcs11Uri>, error: InitialiseError) -> InitialiseError {
    match made.is_empty() {
        true => error,
        false => InitialiseError::AfterMaking {
            made,
            error: Box::new(error),
        },
    }
}

fn listed(uris: &[Pkcs11Uri]) -> String {
    let uris: Vec<String> = uris.iter().map(Pkcs11Uri::to_string).collect();
    uris.join(", ")
}

/// The commands that remove a key from its token.
#[must_use]
pub fn removal_of(uri: &Pkcs11Uri) -> String {
    let token = uri.token.as_deref().unwrap_or("LABEL");
    let id = uri
        .id
        .as_deref()
        .map(hgs_crypto::hex::encode)
        .unwrap_or_default();
    let module = uri
        .module_path
        .as_deref()
        .unwrap_or_else(|| Path::new("MODULE"));
    ["privkey", "pubkey"]
        .map(|kind| {
            format!(
                "`pkcs11-tool --module {} --token-label '{token}' --login --delete-object --type {kind} --id {id}`",
                module.display()
            )
        })
        .join(" and ")
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
