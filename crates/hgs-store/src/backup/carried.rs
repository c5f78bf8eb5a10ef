//! The records of a document, before anything is done with them.

use std::collections::{BTreeMap, BTreeSet};

use hgs_attest::CredentialId;
use hgs_custody::{KeyReference, PrivateKey as _, SoftwareKey};
use hgs_pki::{Certificate, Thumbprint};

use super::Item;
use super::document::KeyText;
use crate::model::{
    AttestationSigner, CertificateRecord, DEFAULT_GROUP, DeniedHost, Digest, EndorsementRoot, Host,
    HostGroup, HostIdentity, HostMeasurementsRecord, MAX_DOCUMENT_OCTETS, PolicyDocument,
    RemovedHost, Revocation, Settings, SettingsError, ShortName, digest_of,
};
use crate::refusal::{MAX_DENIED, MAX_REASON_LENGTH};
use hgs_kps::CertificateKind;
use hgs_kps::Lineage;
use hgs_pki::health::HostId;

/// Records of a document, each by its name.
#[derive(Debug, Default)]
pub(crate) struct Carried {
    pub(crate) settings: Option<Settings>,
    pub(crate) certificates: BTreeMap<Thumbprint, CertificateRecord>,
    pub(crate) keys: BTreeMap<Digest, SoftwareKey>,
    pub(crate) hosts: BTreeMap<HostId, Host>,
    pub(crate) identities: BTreeMap<(HostId, Digest), HostIdentity>,
    pub(crate) signers: BTreeMap<Thumbprint, AttestationSigner>,
    pub(crate) removed: BTreeMap<CredentialId, RemovedHost>,
    pub(crate) denied: BTreeMap<Digest, DeniedHost>,
    pub(crate) endorsement_roots: BTreeMap<Thumbprint, EndorsementRoot>,
    pub(crate) groups: BTreeMap<ShortName, HostGroup>,
    pub(crate) documents: BTreeMap<ShortName, PolicyDocument>,
    pub(crate) measurements: BTreeMap<HostId, HostMeasurementsRecord>,
}

/// The records can't be those of one guardian.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Inconsistent {
    /// There are no settings.
    #[error("there are no settings")]
    NoSettings,
    /// A setting is out of range.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A record is there twice.
    #[error("{0} is there twice")]
    Twice(String),
    /// A private key can't be read, or is not the one that it is said to be.
    #[error("the private key {0} is not what it is said to be")]
    Key(Digest),
    /// A record's private key should be there and is not.
    #[error("the private key of {0} is missing")]
    KeyMissing(Thumbprint),
    /// A lineage has two heads of a kind, or one that can't be a head.
    #[error("certificate {0} can't be a head beside the others")]
    Head(Thumbprint),
    /// A certificate stands in a lineage that can't be its own.
    #[error("certificate {0} can't belong to its lineage")]
    Lineage(Thumbprint),
    /// A compromised certificate has no successor.
    #[error("certificate {0} is compromised, and its lineage has no heads that could take over")]
    NoSuccessor(Thumbprint),
    /// The key of a compromised certificate has another that is not.
    #[error("the key of certificate {0} is compromised")]
    KeyCompromised(Thumbprint),
    /// The metadata has no room for the signing certificates of both.
    #[error(
        "the metadata has no room for the signing certificates of both; disable or remove those that are needed no longer"
    )]
    MetadataFull,
    /// A host has no acceptable host key or endorsement key, or shares its name or key.
    #[error("host {0} can't be registered beside the others")]
    Host(HostId),
    /// A text is too long.
    #[error("a text of {0} is too long")]
    TooLong(String),
    /// A group has a document enabled that is not there.
    #[error("host group {group} names the document {document}, which is not there")]
    Document {
        /// Which group.
        group: String,
        /// Which document.
        document: String,
    },
    /// A host is in a group that is not there.
    #[error("host {0} is in a group that is not there")]
    Group(HostId),
    /// Measurements belong to no host.
    #[error("measurements belong to host {0}, which is not there")]
    Unmeasured(HostId),
    /// An identity key belongs to no host.
    #[error("an identity key belongs to host {0}, which is not there")]
    Orphan(HostId),
}

impl Carried {
    /// Takes in a line; those that are no records are passed over.
    pub(crate) fn take(&mut self, item: Item) -> Result<(), Inconsistent> {
        let twice = match item {
            Item::Settings(value) => self.settings.replace(value).map(|_| "settings".to_owned()),
            Item::Certificate(value) => {
                let name = value.thumbprint();
                let before = self.certificates.insert(name, value);
                before.map(|_| format!("certificate {name}"))
            }
            Item::PrivateKey(text) => {
                let (name, key) = (text.public_key, read_key(&text)?);
                let before = self.keys.insert(name, key);
                before.map(|_| format!("private key {name}"))
            }
            Item::Host(value) => {
                let name = value.id;
                let before = self.hosts.insert(name, value);
                before.map(|_| format!("host {name}"))
            }
            Item::HostIdentity(value) => {
                let name = (value.host, value.public_key);
                let before = self.identities.insert(name, value);
                before.map(|_| format!("identity key {}", name.1))
            }
            Item::AttestationSigner(value) => {
                let name = value.thumbprint();
                let before = self.signers.insert(name, value);
                before.map(|_| format!("attestation signer {name}"))
            }
            Item::RemovedHost(value) => {
                let name = value.credential;
                let before = self.removed.insert(name, value);
                before.map(|_| format!("removed host {}", digest_of(&name)))
            }
            Item::DeniedHost(value) => {
                let name = value.policy;
                let before = self.denied.insert(name, value);
                before.map(|_| format!("denied host {name}"))
            }
            Item::EndorsementRoot(value) => {
                let name = value.thumbprint();
                let before = self.endorsement_roots.insert(name, value);
                before.map(|_| format!("EK root {name}"))
            }
            Item::HostGroup(value) => {
                let name = value.name;
                let before = self.groups.insert(name, value);
                before.map(|_| format!("host group {name}"))
            }
            Item::PolicyDocument(value) => {
                let name = value.name;
                let before = self.documents.insert(name, value);
                before.map(|_| format!("document {name}"))
            }
            Item::HostMeasurements(value) => {
                let name = value.host;
                let before = self.measurements.insert(name, value);
                before.map(|_| format!("measurements of host {name}"))
            }
            Item::Configuration(_) | Item::Protector(_) | Item::Audit(_) => None,
        };
        twice.map_or(Ok(()), |name| Err(Inconsistent::Twice(name)))
    }

    /// Checks what no single record can say: that they belong together.
    pub(crate) fn check(&self) -> Result<(), Inconsistent> {
        let settings = self.settings.as_ref().ok_or(Inconsistent::NoSettings)?;
        settings.check()?;
        for record in self.certificates.values() {
            self.check_key(&record.certificate, Some(&record.key))?;
        }
        for signer in self.signers.values() {
            self.check_key(&signer.certificate, signer.key.as_ref())?;
            if signer.deny_list.len() > MAX_DENIED {
                let name = format!("attestation signer {}", signer.thumbprint());
                return Err(Inconsistent::TooLong(name));
            }
        }
        check_certificates(&self.certificates.values().collect::<Vec<_>>())?;
        check_hosts(self.hosts.values())?;
        check_removed(self.hosts.values(), &self.removed)?;
        for denied in self.denied.values() {
            check_texts(
                &denied.denied,
                format_args!("denied host {}", denied.policy),
            )?;
        }
        check_policies(&self.groups, &self.documents)?;
        check_groups(self.hosts.values(), &self.groups)?;
        let mut measured = self.measurements.values();
        if let Some(lost) = measured.find(|one| !self.hosts.contains_key(&one.host)) {
            return Err(Inconsistent::Unmeasured(lost.host));
        }
        let removed: BTreeSet<_> = self.removed.values().map(|removed| removed.id).collect();
        let is_known = |host: &HostId| self.hosts.contains_key(host) || removed.contains(host);
        let mut identities = self.identities.keys();
        match identities.find(|(host, _)| !is_known(host)) {
            Some((host, _)) => Err(Inconsistent::Orphan(*host)),
            None => Ok(()),
        }
    }

    fn check_key(
        &self,
        certificate: &Certificate,
        reference: Option<&KeyReference>,
    ) -> Result<(), Inconsistent> {
        let public_key = Digest::from_bytes(*certificate.public_key().digest());
        match reference {
            Some(KeyReference::Sealed) if !self.keys.contains_key(&public_key) => {
                Err(Inconsistent::KeyMissing(certificate.thumbprint()))
            }
            _ => Ok(()),
        }
    }
}

fn read_key(text: &KeyText) -> Result<SoftwareKey, Inconsistent> {
    let key = std::str::from_utf8(text.pkcs8.0.expose())
        .ok()
        .and_then(|text| SoftwareKey::from_backup_text(text).ok());
    let is_the_one = |key: &SoftwareKey| key.public().digest() == text.public_key.as_bytes();
    key.filter(is_the_one)
        .ok_or(Inconsistent::Key(text.public_key))
}

/// Whether certificates make a key ring, as single transactions see to it.
pub(super) fn check_certificates(records: &[&CertificateRecord]) -> Result<(), Inconsistent> {
    let mut heads: BTreeSet<(&Lineage, CertificateKind)> = BTreeSet::new();
    for record in records.iter().filter(|record| record.head) {
        if !record.may_be_head() || !heads.insert((&record.lineage, record.kind)) {
            return Err(Inconsistent::Head(record.thumbprint()));
        }
    }
    let mut keys: BTreeMap<&[u8; 32], &CertificateRecord> = BTreeMap::new();
    for record in records {
        let thumbprint = record.thumbprint();
        let tenants = record.lineage != Lineage::Fabric;
        if record.kind == CertificateKind::Communications && tenants {
            return Err(Inconsistent::Lineage(thumbprint));
        }
        let digest = record.certificate.public_key().digest();
        let other = *keys.entry(digest).or_insert(record);
        if other.lineage != record.lineage {
            return Err(Inconsistent::Lineage(thumbprint));
        }
        if other.compromised.is_some() != record.compromised.is_some() {
            return Err(Inconsistent::KeyCompromised(thumbprint));
        }
        let needed: &[CertificateKind] = match record.kind {
            CertificateKind::Communications => &[CertificateKind::Communications],
            _ => &[CertificateKind::Signing, CertificateKind::Encryption],
        };
        let succeeded = needed
            .iter()
            .all(|kind| heads.contains(&(&record.lineage, *kind)));
        if record.compromised.is_some() && !succeeded {
            return Err(Inconsistent::NoSuccessor(thumbprint));
        }
    }
    Ok(())
}

/// Whether hosts can stand beside each other.
pub(super) fn check_hosts<'h>(hosts: impl Iterator<Item = &'h Host>) -> Result<(), Inconsistent> {
    let (mut names, mut keys) = (BTreeSet::new(), BTreeSet::new());
    for host in hosts {
        let acceptable = host.credential.read().is_some();
        let alone = names.insert(host.name.folded()) && keys.insert(host.credential.id());
        if !acceptable || !alone {
            return Err(Inconsistent::Host(host.id));
        }
        if let Some(revoked) = &host.revoked {
            check_texts(revoked, format_args!("host {}", host.id))?;
        }
    }
    Ok(())
}

/// Whether documents are within their limits, and groups name documents that are there.
pub(super) fn check_policies(
    groups: &BTreeMap<ShortName, HostGroup>,
    documents: &BTreeMap<ShortName, PolicyDocument>,
) -> Result<(), Inconsistent> {
    for document in documents.values() {
        if document.text.len() > MAX_DOCUMENT_OCTETS {
            let name = format!("document {}", document.name);
            return Err(Inconsistent::TooLong(name));
        }
    }
    for group in groups.values() {
        let mut named = group.documents.keys();
        if let Some(lost) = named.find(|name| !documents.contains_key(*name)) {
            return Err(Inconsistent::Document {
                group: group.name.to_string(),
                document: lost.to_string(),
            });
        }
    }
    Ok(())
}

/// Whether hosts are in groups that are there.
pub(super) fn check_groups<'h>(
    mut hosts: impl Iterator<Item = &'h Host>,
    groups: &BTreeMap<ShortName, HostGroup>,
) -> Result<(), Inconsistent> {
    let is_there =
        |group: &ShortName| group.as_str() == DEFAULT_GROUP || groups.contains_key(group);
    match hosts.find(|host| host.group.is_some_and(|group| !is_there(&group))) {
        Some(host) => Err(Inconsistent::Group(host.id)),
        None => Ok(()),
    }
}

/// Whether removed hosts are removed, and can be told from each other.
pub(super) fn check_removed<'h>(
    hosts: impl Iterator<Item = &'h Host>,
    removed: &BTreeMap<CredentialId, RemovedHost>,
) -> Result<(), Inconsistent> {
    let mut ids = BTreeSet::new();
    for host in hosts {
        ids.insert(host.id);
        if removed.contains_key(&host.credential.id()) {
            return Err(Inconsistent::Host(host.id));
        }
    }
    for removed in removed.values() {
        if !ids.insert(removed.id) {
            return Err(Inconsistent::Host(removed.id));
        }
        let name = format_args!("removed host {}", removed.id);
        if removed.by.len() > MAX_REASON_LENGTH {
            return Err(Inconsistent::TooLong(name.to_string()));
        }
        if let Some(revoked) = &removed.revoked {
            check_texts(revoked, name)?;
        }
    }
    Ok(())
}

fn check_texts(revoked: &Revocation, of: std::fmt::Arguments<'_>) -> Result<(), Inconsistent> {
    let texts = [&revoked.reason, &revoked.by];
    match texts.iter().any(|text| text.len() > MAX_REASON_LENGTH) {
        true => Err(Inconsistent::TooLong(of.to_string())),
        false => Ok(()),
    }
}
