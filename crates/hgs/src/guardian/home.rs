//! The folder of a person's guardians.
//!
//! ```text
//! HOME/guardians/NAME/guardian.xml     the public half, as metadata
//!                     trust.json       how it was verified
//!                     signing.pem      private halves, if this is one's own: PKCS#8 under a passphrase
//!                     encryption.pem
//!                     vm-keys/         keys for images of VMs, under the same passphrase
//! HOME/roots/*                         roots (.pem, .crt, .cer, .der, .p7b, .p7c) to which guardians' certificates may lead
//! ```
//!
//! Folders have mode 0700, files 0600. A guardian's folder appears whole or not at all.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hgs_crypto::SecretBytes;
use hgs_custody::{Bundle, HeldKeys, bundle};
use hgs_files::{FileError, FileProblem, optional};
use hgs_pki::{Certificate, CertificateCache, SignatureCache, Thumbprint, Time};
use hgs_protector::GuardianCertificates;
use hgs_protector::metadata::{Expired, Metadata, Trust};
use hgs_terminal::{AtFault, Failure};
use hgs_xml::Limits;
use serde::{Deserialize, Serialize};

use super::name::GuardianName;
use crate::certified::read_bundle;
use crate::failures::OrFail as _;

const DOCUMENT: &str = "guardian.xml";
const TRUST: &str = "trust.json";
const SIGNING_KEY: &str = "signing.pem";
const ENCRYPTION_KEY: &str = "encryption.pem";

/// How the names of files of roots end.
const ROOT_EXTENSIONS: [&str; 6] = ["pem", "crt", "cer", "der", "p7b", "p7c"];

/// Octets of the longest `trust.json`.
const LONGEST_TRUST: usize = 4096;

/// Where a person's guardians are.
#[derive(Debug)]
pub(crate) struct Home(PathBuf);

/// A guardian that is kept here.
#[derive(Debug)]
pub(crate) struct LocalGuardian {
    pub(crate) name: GuardianName,
    pub(crate) document: Vec<u8>,
    pub(crate) trust: TrustRecord,
    pub(crate) has_private_halves: bool,
    metadata: Metadata,
}

/// How a guardian was verified when it was imported, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TrustRecord {
    pub(crate) trusted_by: TrustedBy,
    /// Of the signing certificate, in hexadecimal digits.
    pub(crate) thumbprint: String,
    /// RFC 3339.
    pub(crate) since: String,
}

/// How a guardian was verified when it was imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum TrustedBy {
    /// It was made here.
    Ourselves,
    /// Its thumbprint was given.
    Thumbprint,
    /// Its certificates lead to a configured root.
    Root,
    /// On no one's word: it may be anyone.
    Nobody,
}

/// The private halves of a guardian, encrypted, as they are written.
#[derive(Debug)]
pub(crate) struct EncryptedKeys {
    pub(crate) signing: SecretBytes,
    pub(crate) encryption: SecretBytes,
}

impl Home {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self(folder)
    }

    /// Keeps a guardian under a name that is free.
    pub(crate) fn add(
        &self,
        name: &GuardianName,
        document: &[u8],
        trust: &TrustRecord,
        keys: Option<&EncryptedKeys>,
    ) -> Result<(), Failure> {
        hgs_files::private_folder(&self.0)?;
        hgs_files::private_folder(&self.guardians())?;
        let trust = serde_json::to_vec_pretty(trust).map_err(|error| Failure::of(&error))?;
        let mut files = vec![(DOCUMENT, document), (TRUST, trust.as_slice())];
        if let Some(keys) = keys {
            files.push((SIGNING_KEY, keys.signing.expose()));
            files.push((ENCRYPTION_KEY, keys.encryption.expose()));
        }
        match hgs_files::create_folder(&self.folder(name), &files) {
            Err(error) if matches!(error.problem, FileProblem::AlreadyExists) => Err(taken(name)),
            outcome => Ok(outcome?),
        }
    }

    /// Refuses a name that is taken, before work is done for it.
    pub(crate) fn expect_free(&self, name: &GuardianName) -> Result<(), Failure> {
        match hgs_files::exists(&self.folder(name))? {
            true => Err(taken(name)),
            false => Ok(()),
        }
    }

    /// The guardian with this name.
    pub(crate) fn guardian(&self, name: &GuardianName) -> Result<LocalGuardian, Failure> {
        let folder = self.folder(name);
        if !hgs_files::exists(&folder)? {
            return Err(
                Failure::failed(format!("there is no guardian `{name}` here"))
                    .at_fault(AtFault::Operator)
                    .remedy("see those that are here with `hgs guardian list`"),
            );
        }
        LocalGuardian::load(name.clone(), &folder)
            .map_err(|failure| failure.while_doing(folder.display()))
    }

    /// All guardians, by name.
    pub(crate) fn list(&self) -> Result<Vec<LocalGuardian>, Failure> {
        let mut names: Vec<GuardianName> = entries(&self.guardians())?
            .iter()
            .filter_map(|path| path.file_name()?.to_str()?.parse().ok())
            .collect();
        names.sort();
        names.iter().map(|name| self.guardian(name)).collect()
    }

    /// Removes a guardian and its private keys, which can't be undone.
    pub(crate) fn remove(&self, name: &GuardianName) -> Result<(), Failure> {
        Ok(hgs_files::remove_folder(&self.folder(name))?)
    }

    /// The private keys of a guardian of one's own.
    pub(crate) fn keys(
        &self,
        guardian: &LocalGuardian,
        passphrase: &SecretBytes,
    ) -> Result<HeldKeys, Failure> {
        let folder = self.folder(&guardian.name);
        let mut keys = HeldKeys::default();
        for (file, certificate) in [
            (SIGNING_KEY, guardian.certificates().signing_certificate()),
            (
                ENCRYPTION_KEY,
                guardian.certificates().encryption_certificate(),
            ),
        ] {
            let path = folder.join(file);
            let text = hgs_files::read_secret(&path, bundle::MAX_FILE_LENGTH)?;
            let key = Bundle::read(text.expose(), Some(passphrase))
                .and_then(|bundle| bundle.private_key(Some(passphrase)))
                .or_fail()
                .map_err(|failure| failure.while_doing(path.display()))?;
            keys.hold(certificate, Arc::new(key));
        }
        Ok(keys)
    }

    /// The roots in the folder `roots`.
    pub(crate) fn roots(&self) -> Result<Vec<Certificate>, Failure> {
        let mut roots = Vec::new();
        for path in entries(&self.0.join("roots"))? {
            let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
            if ROOT_EXTENSIONS.contains(&extension) {
                roots.extend(certificates_in(&path)?);
            }
        }
        Ok(roots)
    }

    /// The folder of the keys with which the guardian `name` makes images of VMs.
    pub(crate) fn vm_keys(&self, name: &GuardianName) -> PathBuf {
        self.folder(name).join("vm-keys")
    }

    fn guardians(&self) -> PathBuf {
        self.0.join("guardians")
    }

    fn folder(&self, name: &GuardianName) -> PathBuf {
        self.guardians().join(name.as_str())
    }
}

impl LocalGuardian {
    fn load(name: GuardianName, folder: &Path) -> Result<Self, Failure> {
        let document = hgs_files::read(&folder.join(DOCUMENT), Limits::DOCUMENT.bytes)?;
        let trust = hgs_files::read(&folder.join(TRUST), LONGEST_TRUST)?;
        let trust = serde_json::from_slice(&trust).map_err(|error| {
            Failure::of(&error)
                .while_doing(TRUST)
                .at_fault(AtFault::Operator)
        })?;
        let private = optional(hgs_files::read_secret(
            &folder.join(SIGNING_KEY),
            bundle::MAX_FILE_LENGTH,
        ))?;
        Ok(Self {
            name,
            metadata: read_metadata(&document)?,
            document,
            trust,
            has_private_halves: private.is_some(),
        })
    }

    /// Its certificates, for showing and for finding its wrappings.
    pub(crate) fn certificates(&self) -> &GuardianCertificates {
        self.metadata.unverified()
    }

    /// Its certificates, for protecting something with, as trusted when it was taken in.
    pub(crate) fn trusted(
        &self,
        expired: Expired,
        now: Time,
    ) -> Result<GuardianCertificates, Failure> {
        let thumbprint: Thumbprint = self.trust.thumbprint.parse().map_err(|error| {
            Failure::failed(format!("{TRUST}: {error}")).at_fault(AtFault::Operator)
        })?;
        let trust = Trust::Thumbprint(thumbprint);
        self.metadata
            .clone()
            .import(&trust, expired, now)
            .or_fail()
            .map_err(|failure| failure.while_doing(format!("guardian `{}`", self.name)))
    }
}

/// Reads a guardian's document, without deciding whether to trust it.
pub(crate) fn read_metadata(document: &[u8]) -> Result<Metadata, Failure> {
    // A pair of certificates, the document's signer, and two signatures.
    let (certificates, signatures) = (CertificateCache::new(8), SignatureCache::new(8));
    Metadata::read(document, &certificates, &signatures).or_fail()
}

/// All certificates in a file.
pub(crate) fn certificates_in(path: &Path) -> Result<Vec<Certificate>, Failure> {
    let (bundle, _) = read_bundle(&[path], None)?;
    let certificates = bundle.certificates().or_fail();
    certificates.map_err(|failure| failure.while_doing(path.display()))
}

/// The entries of a folder; none if it does not exist.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let read = fs::read_dir(folder).and_then(|entries| {
        entries
            .map(|entry| Ok(entry?.path()))
            .collect::<io::Result<Vec<_>>>()
    });
    match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        outcome => outcome.map_err(|error| {
            let path = folder.to_owned();
            let problem = FileProblem::from(error);
            FileError { path, problem }.into()
        }),
    }
}

fn taken(name: &GuardianName) -> Failure {
    Failure::refused(format!("there is a guardian `{name}` here already"))
        .at_fault(AtFault::Operator)
        .remedy(format!(
            "choose another name, or remove that one with `hgs guardian remove {name}`"
        ))
}
