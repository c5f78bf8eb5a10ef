//! A small service for tests: two hosts, one signer, one encryption certificate.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;

use hgs_attest::policy::{
    self, Alternative, Baseline, Component, ComponentKind, EventDigest, ExpectedEvent,
    HostMeasurements, LaneSlots, Slot, SlotEvents, Source, SourceKind, Times,
};
use hgs_crypto::SecretBytes;
use hgs_crypto::hash::sha256;
use hgs_crypto::random::System;
use hgs_crypto::rsa::{PublicKey, SignatureScheme};
use hgs_custody::seal::MasterKey;
use hgs_custody::{KeyReference, PrivateKey as _, SoftwareKey};
use hgs_pki::endorsement::EndorsementAuthority;
use hgs_pki::issue::{Issuer, Template, prepare};
use hgs_pki::{Certificate, Thumbprint, Time, Validity, profile};
use hgs_tcg::tpm::{EndorsementKey, Public};

use crate::model::{
    AttestationSigner, CertificateRecord, Digest, DocumentKind, EndorsementRoot, Platform, Settings,
};
use crate::{
    Act, Attestation, ExpectedMeasurements, Failure, NewHost, OpenError, Opening, Recipient,
    RecordedRelease, ReleaseRecord, ReleaseRefusal, Store, StoreError, Transaction,
};
use hgs_kps::CertificateKind;
use hgs_kps::Lineage;
use hgs_pki::SerialNumber;
use hgs_pki::health::HealthKind;
use hgs_pki::health::HostId;

pub(crate) const HOST: HostId = HostId::from_bytes([0xa1; 16]);
pub(crate) const TPM_HOST: HostId = HostId::from_bytes([0xe5; 16]);
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
    Act::new(time(second), "uid 0")
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
        order: None,
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
        let add_host = |id, name: &str, key: &SoftwareKey| add_host(id, name, key.public());
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

/// The registration of a host by its host key.
pub(crate) fn add_host(id: HostId, name: &str, host_key: &PublicKey) -> Transaction {
    Transaction::AddHost(NewHost {
        id,
        name: name.parse().unwrap(),
        credential: hgs_attest::Credential::HostKey(host_key.clone()),
        platform: Platform::default(),
        group: None,
    })
}

/// The endorsement key of a TPM: TCG's template around a key.
pub(crate) fn endorsement_key(key: &PublicKey) -> EndorsementKey {
    let mut octets = Public::ek_template().octets().to_vec();
    // `unique`, a TPM2B, is at the end and zero in the template.
    octets.truncate(octets.len() - 256);
    octets.extend_from_slice(key.modulus());
    EndorsementKey::parse(&octets).unwrap()
}

/// What a state has that knows a host by its TPM: one of each kind of record.
pub(crate) fn tpm_transactions(fixture: &Fixture) -> Vec<Transaction> {
    let certificate = EndorsementAuthority::from_der(fixture.signer.der()).unwrap();
    let root = EndorsementRoot {
        certificate,
        is_root: true,
        added: time(0),
    };
    let key = endorsement_key(fixture.other.public());
    let Transaction::AddHost(host) = add_tpm_host(TPM_HOST, "node-t", &key) else {
        unreachable!("it is a registration")
    };
    let platform = Platform {
        endorsement_certificate: Some(fixture.signer.der().to_vec()),
        system_uuid: Some("4c4c4544-0042-3510-8052-b4c04f564432".to_owned()),
        system_serial_number: Some("B5R5VD2".to_owned()),
    };
    let group = "racks".parse().unwrap();
    vec![
        Transaction::AddEndorsementRoot(root),
        Transaction::NewHostGroup(group),
        Transaction::AddHost(NewHost {
            platform,
            group: Some(group),
            ..host
        }),
        Transaction::AddPolicyDocument {
            name: "first-boot".parse().unwrap(),
            kind: DocumentKind::Baseline,
            text: baseline("first").into(),
            group: None,
        },
        Transaction::SetHostMeasurements {
            id: TPM_HOST,
            expected: ExpectedMeasurements::Any,
            text: Some(measurements_of_host().into()),
            note: None,
        },
    ]
}

/// A baseline of which one alternative is named `alternative`.
pub(crate) fn baseline(alternative: &str) -> String {
    let events = |slot: &str| SlotEvents {
        slot: slot.to_owned(),
        events: vec![ExpectedEvent::Digest {
            digest: EventDigest(sha256(format!("{slot} {alternative}").as_bytes())),
            what: None,
        }],
    };
    let lane = |pcr, slot: &str| LaneSlots {
        pcr,
        slots: vec![Slot {
            component: "boot".to_owned(),
            name: slot.to_owned(),
            times: Times::Once,
            command_line: false,
        }],
    };
    let baseline = Baseline {
        lanes: vec![lane(4, "image"), lane(7, "secure-boot")],
        components: vec![Component {
            name: "boot".to_owned(),
            kind: ComponentKind::Host,
            alternatives: vec![Alternative {
                name: alternative.to_owned(),
                source: Source {
                    kind: SourceKind::Log,
                    of: "test".to_owned(),
                },
                state: policy::State::promoted(),
                events: vec![events("image"), events("secure-boot")],
            }],
        }],
        final_values: Vec::new(),
    };
    baseline.to_json()
}

/// What one host has beside others.
pub(crate) fn measurements_of_host() -> String {
    let mut measurements = HostMeasurements::default();
    let value = "4c4c4544".to_owned();
    measurements.parameters.insert("root".to_owned(), value);
    measurements.to_json()
}

/// The registration of a host by its TPM.
pub(crate) fn add_tpm_host(id: HostId, name: &str, key: &EndorsementKey) -> Transaction {
    Transaction::AddHost(NewHost {
        id,
        name: name.parse().unwrap(),
        credential: hgs_attest::Credential::EndorsementKey(key.clone().into()),
        platform: Platform::default(),
        group: None,
    })
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
        offline_use: None,
        offline_unwraps: None,
        request: None,
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
        expires: None,
        attempted: None,
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
