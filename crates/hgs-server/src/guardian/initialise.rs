//! What `hgs init` does: a folder, a master key, certificates, and the first commit of the state.

use std::fs::DirBuilder;
use std::net::Ipv4Addr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use hgs_crypto::random::System;
use hgs_custody::seal::MasterKey;
use hgs_custody::{CertifyError, SoftwareKey};
use hgs_custody_pkcs11::Tokens;
use hgs_kps::{CertificateKind, Label, Lineage, NameError};
use hgs_pki::issue::{IssueError, Template};
use hgs_pki::{Certificate, Time, Validity, profile};
use hgs_store::{
    Act, AttestationSigner, CertificateRecord, OpenError, Opening, Store, Transaction,
    master_key_file,
};

use super::certify::KeySize;
use super::initialise_error::{InitialiseError, MAX_NAME};
use super::key_source::{CertificateSource, Certified, LocatedSource, Pair, PlacedKey, joined};
use super::rotation::new_signer;
use super::settings::settings_of;
use super::token_keys::NewKeys;
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
    let sources = Pair {
        signing: options.signing,
        encryption: options.encryption,
    };
    let located = Pair::located(sources, &tokens, options.new_keys)?;
    let master_key = master_key(config)?;
    let new_keys = NewKeys::new(options.key_size, &tokens);
    let opening = Opening {
        directory: &state_folder,
        master_key: &master_key,
        node: &config.server.name,
        high_water_mark: config.high_water_mark_file(),
        random: Box::new(System::new()),
        order: None,
    };
    let act = Act::new(now, options.actor);
    let made = FirstCertificates::make(config, &name, located, &new_keys, now);
    let outcome = made.and_then(|made| {
        let initialised = made.summary(config, name);
        let created = Store::create(opening, settings, made.into_transactions(now), act);
        created.map_err(|error| match error {
            OpenError::AlreadyInitialised { .. } => {
                let state_folder = config.state_folder();
                InitialiseError::AlreadyInitialised { state_folder }
            }
            other => InitialiseError::Store(other),
        })?;
        Ok(initialised)
    });
    outcome.map_err(|error| new_keys.blame(error))
}

fn checked_name(name: &str) -> Result<Label, InitialiseError> {
    if name.chars().count() > MAX_NAME {
        return Err(NameError::Label.into());
    }
    Ok(Label::given(name)?)
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
struct FirstCertificates {
    pair: Pair<Certified>,
    communications: Certified,
    attestation_signer: (AttestationSigner, Option<Arc<SoftwareKey>>),
}

impl FirstCertificates {
    fn make(
        config: &Config,
        name: &str,
        located: Pair<LocatedSource>,
        new_keys: &NewKeys<'_>,
        now: Time,
    ) -> Result<Self, InitialiseError> {
        let validity = guardian_validity(now);
        let communications = communications(config, validity).map_err(CertifyError::from)?;
        let size = new_keys.size;
        thread::scope(|scope| {
            let communications = scope.spawn(move || Certified::generated(communications, size));
            let attestation_signer = scope.spawn(move || new_signer(size, now));
            let pair = located.certified(guardian_templates(name, validity), new_keys);
            Ok(Self {
                communications: joined(communications)?,
                attestation_signer: joined(attestation_signer)?,
                pair: pair?,
            })
        })
    }

    fn summary(&self, config: &Config, name: String) -> Initialised {
        Initialised {
            name,
            state_folder: config.state_folder(),
            master_key_file: config.master_key_file(),
            signing: self.pair.signing.certificate.clone(),
            encryption: self.pair.encryption.certificate.clone(),
            communications: self.communications.certificate.clone(),
            signing_key: self.pair.signing.placed(),
            encryption_key: self.pair.encryption.placed(),
        }
    }

    fn into_transactions(self, now: Time) -> Vec<Transaction> {
        let (signer, key) = self.attestation_signer;
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
            add(CertificateKind::Signing, self.pair.signing),
            add(CertificateKind::Encryption, self.pair.encryption),
            add(CertificateKind::Communications, self.communications),
            Transaction::AddAttestationSigner { signer, key },
        ]
    }
}

/// What the signing and the encryption certificate of a guardian say.
pub(super) fn guardian_templates(name: &str, validity: Validity) -> Pair<Template> {
    Pair {
        signing: profile::guardian_signing(name, validity),
        encryption: profile::guardian_encryption(name, validity),
    }
}

/// How long a guardian's certificates are valid that are made at `now`.
pub(crate) fn guardian_validity(now: Time) -> Validity {
    let not_after = now.checked_add(profile::GUARDIAN_VALIDITY);
    Validity {
        not_before: now,
        not_after: not_after.unwrap_or(Time::MAX),
    }
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
