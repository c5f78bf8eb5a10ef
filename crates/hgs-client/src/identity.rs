//! The identity keys: what health certificates are issued over, and what a release is encrypted to.
//!
//! One file per kind holds the key, sealed, and the health certificates over it, so that both are
//! replaced by one rename: there is never a certificate without its key.
//!
//! Every key is in the file before a service sees it. A service records each key that it is shown, and accepts so many
//! only; so an attempt that fails after that, for whatever reason, is repeated with the same key. While the old key still
//! has certificates that may be needed, the new one waits beside it as the *next* key.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use hgs_attest::MAX_IDENTITY_KEY_AGE;
use hgs_crypto::CryptoError;
use hgs_crypto::base64;
use hgs_crypto::random::System;
use hgs_crypto::rsa::PrivateKeyError;
use hgs_custody::seal::MasterKey;
use hgs_custody::{PrivateKey as _, SoftwareKey};
use hgs_files::{FileError, Readers};
use hgs_pki::health::HealthKind;
use hgs_pki::{Certificate, Seconds, Time};
use serde::{Deserialize, Serialize};

use crate::url::ServiceUrls;

/// Octets of the longest identity file: a key of 8192 bits and a few certificates in Base64.
const MAX_LENGTH: usize = 256 * 1024;
/// Bits of an identity key. It lives for weeks, and one is used at every start of a VM.
const KEY_BITS: usize = 2048;

/// An identity key and the health certificates over it.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    kind: HealthKind,
    key: Arc<SoftwareKey>,
    created: Time,
    certificates: Certificates,
    next: Option<NextKey>,
}

/// The key that takes the place of another with its first health certificate.
#[derive(Debug, Clone)]
struct NextKey {
    key: Arc<SoftwareKey>,
    created: Time,
}

/// Health certificates by the URL of the attestation service that issued them.
pub(crate) type Certificates = BTreeMap<String, Certificate>;

/// Why an identity key can't be made, read or written. The fault is with the system, or its operator.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file can't be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The key could not be generated.
    #[error(transparent)]
    Generation(#[from] PrivateKeyError),
    /// The key could not be sealed.
    #[error("the identity key can't be sealed")]
    Seal(#[from] CryptoError),
}

impl Identity {
    /// Generates a key; takes a tenth of a second or more.
    pub(crate) fn generate(kind: HealthKind, now: Time) -> Result<Self, IdentityError> {
        Ok(Self {
            kind,
            key: Arc::new(SoftwareKey::generate(KEY_BITS)?),
            created: now,
            certificates: Certificates::new(),
            next: None,
        })
    }

    /// The same with a next key: that of `new`, and no other.
    pub(crate) fn followed_by(self, new: Self) -> Self {
        Self {
            next: Some(NextKey {
                key: new.key,
                created: new.created,
            }),
            ..self
        }
    }

    /// Reads the key of `kind`. What can't be read is passed over with a warning: an identity key is
    /// replaced by asking for the next health certificate.
    pub(crate) fn load(
        path: &Path,
        kind: HealthKind,
        master_key: &MasterKey,
    ) -> Result<Option<Self>, IdentityError> {
        let record = Record::load(path)?;
        let identity = record.and_then(|record| record.open(kind, master_key));
        if identity.is_none() && hgs_files::exists(path)? {
            tracing::warn!(path = %path.display(), "identity key does not open; a new one is made");
        }
        Ok(identity)
    }

    pub(crate) fn store(&self, path: &Path, master_key: &MasterKey) -> Result<(), IdentityError> {
        let certificates = self.certificates.iter();
        let next = self.next.as_ref();
        let record = Record {
            created: self.created.to_string(),
            key: sealed(&self.key, self.kind, self.created, master_key)?,
            certificates: certificates
                .map(|(url, certificate)| (url.clone(), base64::encode(certificate.der())))
                .collect(),
            next: next
                .map(|next| -> Result<_, CryptoError> {
                    Ok(NextRecord {
                        created: next.created.to_string(),
                        key: sealed(&next.key, self.kind, next.created, master_key)?,
                    })
                })
                .transpose()?,
        };
        let json = serde_json::to_vec_pretty(&record).expect("strings are written to memory");
        Ok(hgs_files::replace(path, &json, Readers::Owner)?)
    }

    /// The key that the certificates are over.
    pub(crate) fn key(&self) -> &Arc<SoftwareKey> {
        &self.key
    }

    /// What the key is for.
    pub(crate) fn kind(&self) -> HealthKind {
        self.kind
    }

    /// The key to ask with: the next one if there is one, which a service may have recorded already.
    pub(crate) fn newest_key(&self) -> &SoftwareKey {
        match &self.next {
            Some(next) => &next.key,
            None => &self.key,
        }
    }

    /// Whether a new key is needed soon, because a service refuses keys that it has known for long.
    ///
    /// A key that was made in the future is not old. Clocks go wrong both ways, and each change of mind would use up a
    /// key; the service, which judges the age by its own clock, refuses the key when its time has come.
    pub(crate) fn is_due(&self, now: Time) -> bool {
        let age = now.since(self.created);
        age.is_some_and(|age| age > two_thirds(MAX_IDENTITY_KEY_AGE))
    }

    /// Whether a key waits for its first certificate.
    pub(crate) fn has_next_key(&self) -> bool {
        self.next.is_some()
    }

    /// The certificate that the service at `attestation` issued, if it is still valid.
    pub(crate) fn certificate(&self, attestation: &ServiceUrls, now: Time) -> Option<&Certificate> {
        of_service(&self.certificates, attestation).filter(|certificate| is_valid(certificate, now))
    }

    /// Keeps a certificate over this key or over the next one, which is the key from then on. Deletes the certificates
    /// that have expired, and those over the old key.
    pub(crate) fn keep(&mut self, attestation: &ServiceUrls, certificate: Certificate, now: Time) {
        self.forget(attestation);
        if let Some(next) = self.next.take() {
            if certificate.public_key() == next.key.public() {
                self.key = next.key;
                self.created = next.created;
                self.certificates.clear();
            } else {
                self.next = Some(next);
            }
        }
        self.certificates
            .retain(|_, certificate| is_valid(certificate, now));
        self.certificates
            .insert(attestation.first().to_string(), certificate);
    }

    /// Deletes the certificate of a service that would not issue it today.
    pub(crate) fn forget(&mut self, attestation: &ServiceUrls) -> bool {
        forget(&mut self.certificates, attestation)
    }
}

/// The certificate of a service, whichever of its URLs came first when it was kept.
pub(crate) fn of_service<'c>(
    certificates: &'c Certificates,
    attestation: &ServiceUrls,
) -> Option<&'c Certificate> {
    let mut urls = attestation.iter();
    urls.find_map(|url| certificates.get(&url.to_string()))
}

/// Deletes the certificate of a service, and says whether there was one.
pub(crate) fn forget(certificates: &mut Certificates, attestation: &ServiceUrls) -> bool {
    let count = certificates.len();
    for url in attestation.iter() {
        certificates.remove(&url.to_string());
    }
    certificates.len() < count
}

/// Whether a certificate is valid at `now`.
pub(crate) fn is_valid(certificate: &Certificate, now: Time) -> bool {
    let validity = certificate.validity();
    (validity.not_before..=validity.not_after).contains(&now)
}

/// From when on a new certificate is asked for: two thirds into the validity of the old one, so that
/// a third is left for a service that is away.
pub(crate) fn renewal_of(certificate: &Certificate) -> Time {
    let validity = certificate.validity();
    let whole = validity.not_after.since(validity.not_before);
    let part = two_thirds(whole.unwrap_or(Seconds::new(0)));
    validity.not_before.checked_add(part).unwrap_or(Time::MAX)
}

/// The certificates of `kind` that are kept in the file, without the key.
pub(crate) fn certificates(path: &Path) -> Result<BTreeMap<String, Certificate>, IdentityError> {
    let record = Record::load(path)?;
    Ok(record
        .map(|record| record.read_certificates().unwrap_or_default())
        .unwrap_or_default())
}

/// The purpose for which the master key seals.
const PURPOSE: &str = "identity key";

/// The file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    created: String,
    key: String,
    certificates: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next: Option<NextRecord>,
}

/// The next key in the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NextRecord {
    created: String,
    key: String,
}

impl Record {
    fn load(path: &Path) -> Result<Option<Self>, IdentityError> {
        let octets = hgs_files::optional(hgs_files::read_secret(path, MAX_LENGTH))?;
        Ok(octets.and_then(|octets| serde_json::from_slice(octets.expose()).ok()))
    }

    fn open(&self, kind: HealthKind, master_key: &MasterKey) -> Option<Identity> {
        let (key, created) = unsealed(&self.key, &self.created, kind, master_key)?;
        let mut certificates = self.read_certificates()?;
        certificates.retain(|_, certificate| certificate.public_key() == key.public());
        let next = (self.next.as_ref())
            .and_then(|next| unsealed(&next.key, &next.created, kind, master_key));
        Some(Identity {
            kind,
            key: Arc::new(key),
            created,
            certificates,
            next: next.map(|(key, created)| NextKey {
                key: Arc::new(key),
                created,
            }),
        })
    }

    fn read_certificates(&self) -> Option<Certificates> {
        let read = |(url, text): (&String, &String)| {
            let der = base64::decode(text).ok()?;
            Some((url.clone(), Certificate::from_der(&der).ok()?))
        };
        self.certificates.iter().map(read).collect()
    }
}

/// A key as it stands in the file.
fn sealed(
    key: &SoftwareKey,
    kind: HealthKind,
    created: Time,
    master_key: &MasterKey,
) -> Result<String, CryptoError> {
    let sealer = master_key.sealer(PURPOSE);
    let generation = created.unix().unsigned_abs();
    let sealed = key.seal(&sealer, &kind.to_string(), generation, &mut System::new())?;
    Ok(base64::encode(&sealed))
}

fn unsealed(
    key: &str,
    created: &str,
    kind: HealthKind,
    master_key: &MasterKey,
) -> Option<(SoftwareKey, Time)> {
    let created: Time = created.parse().ok()?;
    let sealed = base64::decode(key).ok()?;
    let sealer = master_key.sealer(PURPOSE);
    let generation = created.unix().unsigned_abs();
    let key = SoftwareKey::unseal(&sealer, &kind.to_string(), generation, &sealed).ok()?;
    Some((key, created))
}

pub(crate) fn two_thirds(seconds: Seconds) -> Seconds {
    Seconds::new(seconds.get() / 3 * 2)
}
