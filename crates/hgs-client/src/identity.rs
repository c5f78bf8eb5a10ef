//! The identity keys: what health certificates are issued over, and what a release is encrypted to.
//!
//! One file per kind holds the key, sealed, and the health certificates over it, so that both are
//! replaced by one rename: there is never a certificate without its key. A new key is written only
//! with its first certificate; until then the old one, whose certificate may still be valid, stays.

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

use crate::url::Url;

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
}

/// Health certificates by the URL of the attestation service that issued them.
type Certificates = BTreeMap<String, Certificate>;

/// Why an identity key can't be had or kept. The fault is with the system, or its operator.
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
        })
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
        let sealer = master_key.sealer(PURPOSE);
        let name = self.kind.to_string();
        let generation = self.created.unix().unsigned_abs();
        let key = self
            .key
            .seal(&sealer, &name, generation, &mut System::new())?;
        let certificates = self.certificates.iter();
        let record = Record {
            created: self.created.to_string(),
            key: base64::encode(&key),
            certificates: certificates
                .map(|(url, certificate)| (url.clone(), base64::encode(certificate.der())))
                .collect(),
        };
        let json = serde_json::to_vec_pretty(&record).expect("strings are written to memory");
        Ok(hgs_files::replace(path, &json, Readers::Owner)?)
    }

    pub(crate) fn key(&self) -> &Arc<SoftwareKey> {
        &self.key
    }

    /// Whether it is time for a new key: well before the server refuses this one for its age, and
    /// when the clock was set back to before it was made.
    pub(crate) fn is_due(&self, now: Time) -> bool {
        now.since(self.created)
            .is_none_or(|age| age > two_thirds(MAX_IDENTITY_KEY_AGE))
    }

    /// The certificate that the service at `attestation` issued, if it is still valid.
    pub(crate) fn certificate(&self, attestation: &Url, now: Time) -> Option<&Certificate> {
        let certificate = self.certificates.get(&attestation.to_string());
        certificate.filter(|certificate| is_valid(certificate, now))
    }

    /// Keeps a certificate over this key, and lets go of those that have expired.
    pub(crate) fn keep(&mut self, attestation: &Url, certificate: Certificate, now: Time) {
        self.certificates
            .retain(|_, certificate| is_valid(certificate, now));
        self.certificates
            .insert(attestation.to_string(), certificate);
    }

    /// Lets go of the certificate of a service that would not issue it today.
    pub(crate) fn forget(&mut self, attestation: &Url) -> bool {
        self.certificates.remove(&attestation.to_string()).is_some()
    }
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
}

impl Record {
    fn load(path: &Path) -> Result<Option<Self>, IdentityError> {
        let octets = hgs_files::optional(hgs_files::read_secret(path, MAX_LENGTH))?;
        Ok(octets.and_then(|octets| serde_json::from_slice(octets.expose()).ok()))
    }

    fn open(&self, kind: HealthKind, master_key: &MasterKey) -> Option<Identity> {
        let created: Time = self.created.parse().ok()?;
        let sealed = base64::decode(&self.key).ok()?;
        let sealer = master_key.sealer(PURPOSE);
        let generation = created.unix().unsigned_abs();
        let key = SoftwareKey::unseal(&sealer, &kind.to_string(), generation, &sealed).ok()?;
        let mut certificates = self.read_certificates()?;
        certificates.retain(|_, certificate| certificate.public_key() == key.public());
        Some(Identity {
            kind,
            key: Arc::new(key),
            created,
            certificates,
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

fn two_thirds(seconds: Seconds) -> Seconds {
    Seconds::new(seconds.get() / 3 * 2)
}
