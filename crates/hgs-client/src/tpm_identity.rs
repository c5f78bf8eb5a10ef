//! Identity keys of TPM mode: keys that never leave the TPM, and the health certificates over them.
//!
//! One file per kind holds the key as the TPM has encrypted it, the PCRs that it is bound to, the storage root key that it is
//! under, and the certificates. Nothing in it is secret; but the storage root key is what the host salts its sessions to, so
//! the file is its owner's alone.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use hgs_attest::MAX_IDENTITY_KEY_AGE;
use hgs_attest::rtpm::IdentityPcrs;
use hgs_crypto::base64;
use hgs_custody::PrivateKey as _;
use hgs_custody_tpm::{AttestedKey, TpmKey};
use hgs_files::{FileError, Readers};
use hgs_pki::health::HealthKind;
use hgs_pki::{Certificate, Time};
use hgs_tcg::event_log::PcrValues;
use hgs_tcg::tpm::{PcrSelection, PrivateAndPublic, Public, StorageRootKey};
use serde::{Deserialize, Serialize};

use crate::identity::{Certificates, forget, is_valid, of_service, two_thirds};
use crate::tpm::HostTpm;
use crate::url::ServiceUrls;

/// Octets of the longest file: two keys and a few certificates in Base64.
const MAX_LENGTH: usize = 256 * 1024;

/// An identity key in the TPM and the health certificates over it.
#[derive(Debug, Clone)]
pub(crate) struct TpmIdentity {
    pub(crate) kind: HealthKind,
    pub(crate) key: Arc<TpmKey>,
    created: Time,
    certificates: Certificates,
}

impl TpmIdentity {
    /// A key that was attested now.
    pub(crate) fn new(kind: HealthKind, key: Arc<TpmKey>, created: Time) -> Self {
        Self {
            kind,
            key,
            created,
            certificates: Certificates::new(),
        }
    }

    /// Reads the key of `kind`. What can't be read is passed over: the next health certificate is over a new key.
    pub(crate) fn load(
        path: &Path,
        kind: HealthKind,
        tpm: &HostTpm,
    ) -> Result<Option<Self>, FileError> {
        let record = Record::load(path)?;
        let identity = record.and_then(|record| record.open(kind, tpm));
        if identity.is_none() && hgs_files::exists(path)? {
            tracing::warn!(path = %path.display(), "identity key can't be read; a new one is made");
        }
        Ok(identity)
    }

    pub(crate) fn store(&self, path: &Path) -> Result<(), FileError> {
        let json = serde_json::to_vec_pretty(&Record::of(self));
        let json = json.expect("strings are written to memory");
        hgs_files::replace(path, &json, Readers::Owner)
    }

    /// The public area, by which the guardian finds the record of the key.
    pub(crate) fn public(&self) -> &Public {
        &self.key.attested().blob.public
    }

    /// Whether the PCRs have the values that the key is bound to.
    pub(crate) fn works_with(&self, values: &PcrValues) -> bool {
        let pcrs = IdentityPcrs::new(self.key.attested().pcrs);
        let policy = pcrs.ok().and_then(|pcrs| pcrs.policy(values));
        policy.is_some_and(|policy| self.public().auth_policy() == policy)
    }

    /// Whether a new key is needed soon, because a service refuses keys that it has known for long.
    pub(crate) fn is_due(&self, now: Time) -> bool {
        let age = now.since(self.created);
        age.is_some_and(|age| age > two_thirds(MAX_IDENTITY_KEY_AGE))
    }

    /// The certificate that the service at `attestation` issued, if it is still valid.
    pub(crate) fn certificate(&self, attestation: &ServiceUrls, now: Time) -> Option<&Certificate> {
        of_service(&self.certificates, attestation).filter(|certificate| is_valid(certificate, now))
    }

    /// Keeps a certificate, and deletes those that have expired.
    pub(crate) fn keep(&mut self, attestation: &ServiceUrls, certificate: Certificate, now: Time) {
        self.forget(attestation);
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

/// The certificates that are kept in the file, without the key.
pub(crate) fn certificates(path: &Path) -> Result<Certificates, FileError> {
    let record = Record::load(path)?;
    Ok(record
        .and_then(|record| record.read_certificates())
        .unwrap_or_default())
}

/// The file. Octets are in Base64.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    created: String,
    /// The octets of TPM2B_PRIVATE after its size, which the TPM has encrypted.
    private: String,
    /// TPMT_PUBLIC.
    public: String,
    pcrs: Vec<u8>,
    /// TPMT_PUBLIC.
    storage_root_key: String,
    certificates: BTreeMap<String, String>,
}

impl Record {
    fn of(identity: &TpmIdentity) -> Self {
        let AttestedKey {
            blob,
            pcrs,
            storage_root_key,
        } = identity.key.attested();
        let certificates = identity.certificates.iter();
        Self {
            created: identity.created.to_string(),
            private: base64::encode(&blob.private),
            public: base64::encode(blob.public.octets()),
            pcrs: pcrs.pcrs().collect(),
            storage_root_key: base64::encode(storage_root_key.public().octets()),
            certificates: certificates
                .map(|(url, certificate)| (url.clone(), base64::encode(certificate.der())))
                .collect(),
        }
    }

    fn load(path: &Path) -> Result<Option<Self>, FileError> {
        let octets = hgs_files::optional(hgs_files::read_secret(path, MAX_LENGTH))?;
        Ok(octets.and_then(|octets| serde_json::from_slice(octets.expose()).ok()))
    }

    fn open(&self, kind: HealthKind, tpm: &HostTpm) -> Option<TpmIdentity> {
        let octets = |text: &str| base64::decode(text).ok();
        let key = AttestedKey {
            blob: PrivateAndPublic {
                private: octets(&self.private)?,
                public: Public::parse(&octets(&self.public)?).ok()?,
            },
            pcrs: PcrSelection::new(self.pcrs.iter().copied()).ok()?,
            storage_root_key: StorageRootKey::parse(&octets(&self.storage_root_key)?).ok()?,
        };
        let key = tpm.key(key).ok()?;
        let mut certificates = self.read_certificates()?;
        certificates.retain(|_, certificate| certificate.public_key() == key.public());
        Some(TpmIdentity {
            kind,
            key: Arc::new(key),
            created: self.created.parse().ok()?,
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
