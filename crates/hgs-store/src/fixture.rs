//! A small service for tests: two hosts, one signer, one encryption certificate.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;

use hgs_crypto::SecretBytes;
use hgs_crypto::hash::sha256;
use hgs_crypto::random::System;
use hgs_crypto::rsa::SignatureScheme;
use hgs_custody::seal::MasterKey;
use hgs_custody::{KeyReference, PrivateKey as _, SoftwareKey};
use hgs_pki::issue::{Issuer, Template, prepare};
use hgs_pki::{Certificate, Thumbprint, Time, Validity, profile};

use crate::model::{AttestationSigner, CertificateRecord, Digest, Settings};
use crate::{
    Act, Attestation, Failure, OpenError, Opening, Recipient, RecordedRelease, ReleaseRecord,
    ReleaseRefusal, Store, StoreError, Transaction,
};
use hgs_kps::CertificateKind;
use hgs_kps::Lineage;
use hgs_pki::SerialNumber;
use hgs_pki::health::HealthKind;
use hgs_pki::health::HostId;

pub(crate) const HOST: HostId = HostId::from_bytes([0xa1; 16]);
pub(crate) const OTHER_HOST: HostId = HostId::from_bytes([0xb2; 16]);

/// Certificates and keys of the service; making RSA keys takes a while.
pub(crate) struct Fixture {
    pub(crate) encryption_key: Arc<SoftwareKey>,
    pub(crate) encryption: Certificate,
    pub(crate) signer: Certificate,
    pub(crate) other: Arc<SoftwareKey>,
}

/// The key of the states of former versions that the tests open; it is not random.
pub(crate) fn master_key() -> MasterKey {
    MasterKey::to_be_replaced(SecretBytes::new((0..32).collect())).unwrap()
}

pub(crate) fn time(second: i64) -> Time {
    Time::from_unix(1_800_000_000 + second)
}

pub(crate) fn act(second: i64) -> Act {
    Act {
        time: time(second),
        actor: "uid 0".to_owned(),
    }
}

/// A digest that stands for protector, key or policy number `number`.
pub(crate) fn digest(number: u64) -> Digest {
    Digest::from_bytes(sha256(&number.to_be_bytes()))
}

pub(crate) fn opening<'a>(directory: &'a Path, master_key: &'a MasterKey) -> Opening<'a> {
    Opening {
        directory,
        master_key,
        node: "node-1",
        high_water_mark: crate::high_water_mark::default_path(directory),
        random: Box::new(System::new()),
    }
}

pub(crate) fn open(directory: &Path) -> Result<Store, OpenError> {
    Store::open(opening(directory, &master_key()))
}

pub(crate) fn certificate(key: &SoftwareKey, template: Template) -> Certificate {
    let prepared = prepare(template, key.public(), Issuer::SelfSigned, [7; 16]).unwrap();
    let signature = key.sign(SignatureScheme::Pkcs1Sha256, prepared.to_be_signed());
    prepared.assemble(&signature.unwrap()).unwrap()
}

fn validity() -> Validity {
    Validity {
        not_before: time(0),
        not_after: time(100_000_000),
    }
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let encryption_key = Arc::new(SoftwareKey::generate(2048).unwrap());
        let other = Arc::new(SoftwareKey::generate(2048).unwrap());
        let template = profile::guardian_encryption("test", validity());
        Self {
            encryption: certificate(&encryption_key, template),
            signer: certificate(&encryption_key, profile::attestation_signer(validity())),
            encryption_key,
            other,
        }
    }

    pub(crate) fn encryption_record(&self) -> CertificateRecord {
        CertificateRecord {
            kind: CertificateKind::Encryption,
            certificate: self.encryption.clone(),
            key: KeyReference::Sealed,
            lineage: Lineage::Fabric,
            enabled: true,
            head: true,
            compromised: None,
            retired: None,
            label: Some("first".parse().unwrap()),
            sha1_only: false,
            added: time(0),
        }
    }

    pub(crate) fn signer_record(&self) -> AttestationSigner {
        AttestationSigner {
            certificate: self.signer.clone(),
            key: Some(KeyReference::Sealed),
            retired: false,
            deny_before: None,
            maximum_validity_seconds: None,
            label: None,
            deny_list: Arc::default(),
            added: time(0),
        }
    }

    /// What a new state begins with.
    pub(crate) fn first_transactions(&self) -> Vec<Transaction> {
        let add_host = |id, name: &str, key: &SoftwareKey| Transaction::AddHost {
            id,
            name: name.parse().unwrap(),
            host_key: key.public().clone(),
        };
        vec![
            Transaction::AddCertificate {
                record: self.encryption_record(),
                key: Some(Arc::clone(&self.encryption_key)),
            },
            // The same key twice: it lies there once.
            Transaction::AddAttestationSigner {
                signer: self.signer_record(),
                key: None,
            },
            add_host(HOST, "node-a", &self.encryption_key),
            add_host(OTHER_HOST, "node-b", &self.other),
        ]
    }

    pub(crate) fn create(&self, directory: &Path) -> Store {
        let settings = Settings::new("hgs".parse().unwrap());
        let master_key = master_key();
        let opening = opening(directory, &master_key);
        Store::create(opening, settings, self.first_transactions(), act(0)).unwrap()
    }

    /// The release of protector `ingress`, for which `egress` is given back.
    pub(crate) fn release(&self, second: i64, ingress: u64, egress: u64) -> ReleaseRecord {
        let guardian = self.encryption.thumbprint();
        release(self.signer.thumbprint(), guardian, second, ingress, egress)
    }
}

pub(crate) fn release(
    signer: Thumbprint,
    guardian: Thumbprint,
    second: i64,
    ingress: u64,
    egress: u64,
) -> ReleaseRecord {
    ReleaseRecord {
        time: time(second),
        recipient: Recipient::Registered(HOST),
        signer,
        serial: SerialNumber::from_bytes(&[1, 2, 3]).unwrap(),
        issued: time(second),
        policy: digest(0),
        ingress: digest(ingress),
        egress: digest(egress),
        owner: guardian,
        guardian,
        guardian_signing: guardian,
        // Whatever the newest is.
        decided_from: u64::MAX,
    }
}

pub(crate) fn attestation(identity_key: u64, kind: HealthKind) -> Attestation {
    Attestation {
        host: HOST,
        kind,
        identity_key: digest(identity_key),
        returned_nonce: false,
        serial: SerialNumber::from_bytes(&[9]).unwrap(),
        policy: digest(0),
    }
}

/// Records a release and waits for the disk.
pub(crate) fn record(
    store: &Store,
    release: ReleaseRecord,
) -> Result<RecordedRelease, Failure<ReleaseRefusal>> {
    let (sender, receiver) = channel();
    store
        .release(release, move |result| sender.send(result).unwrap())
        .map_err(Failure::Store)?;
    receiver.recv().map_err(|_| StoreError::Closed)?
}
