//! The service that the model is about: its first state, and rolls as they are decided from a state.

use std::sync::{Arc, OnceLock};

use hgs_crypto::hash::sha256;
use hgs_kps::wire::{Algorithms, RollTransportKeyRequest, RollTransportKeyResponse};
use hgs_kps::{
    Caches, CertificateKind, HeldCertificate, KeyProtection, KeyRing, Lineage, Recorded,
    ReleaseFacts, SKEW, SeenProtector, SeenProtectors, ServiceVersion, StateUnavailable, Trust,
};
use hgs_pki::health::TrustedSigners;
use hgs_pki::health::{AttestationMode, HealthKind, HealthStatement, HealthValidity, template};
use hgs_pki::{Certificate, SerialNumber, Thumbprint, Time};
use hgs_protector::{
    HeldPair, Protector, ProtectorDigest, TransportKey, VerifiedProtector, create, open,
};
use hgs_testkit::fixtures::{
    AttestationSigner as Signer, Guardian, Host as FixtureHost, Keys as PrivateKeys, Repeatable,
    key_octets, now,
};

use crate::engine::View;
use crate::lineage;
use crate::model::{AttestationSigner, CertificateRecord, Digest, Platform, Settings, policy_of};
use crate::record::Keys;
use crate::{NewHost, Recipient, ReleaseRecord, State, Transaction};

/// The tenant whose VM it is, by the names of his guardians: the one that the VM begins with, and the next.
pub(super) const TENANT: [&str; 2] = ["tenant", "tenant-next"];

/// The lineage of the tenant whose VM it is.
pub(super) fn contoso() -> Lineage {
    Lineage::Tenant("contoso".parse().unwrap())
}

fn fabrikam() -> Lineage {
    Lineage::Tenant("fabrikam".parse().unwrap())
}

/// The time of the model's step with this number.
pub(super) fn time(number: u8) -> Time {
    now()
        .checked_add(hgs_pki::Seconds::new(u64::from(number)))
        .unwrap()
}

pub(super) fn host_id(host: u8) -> hgs_pki::health::HostId {
    FixtureHost::numbered(host).id
}

fn credential(host: u8) -> hgs_attest::Credential {
    hgs_attest::Credential::HostKey(FixtureHost::numbered(host).key.public().clone())
}

/// A pair of certificates whose keys are in a token, so that nothing random is in the state.
pub(super) fn pair(name: &str, lineage: &Lineage, head: bool, added: Time) -> Vec<Transaction> {
    let guardian = Guardian::named(name);
    let record = |kind, certificate: &Certificate| CertificateRecord {
        kind,
        certificate: certificate.clone(),
        key: format!("pkcs11:object={name}-{kind}").parse().unwrap(),
        sha1_only: false,
        lineage: lineage.clone(),
        enabled: true,
        head,
        compromised: None,
        retired: None,
        label: None,
        added,
    };
    [
        record(CertificateKind::Signing, &guardian.signing),
        record(CertificateKind::Encryption, &guardian.encryption),
    ]
    .map(|record| Transaction::AddCertificate { record, key: None })
    .into()
}

/// Two hosts, two tenants and the fabric.
pub(super) fn first_transactions(refuse_superseded: bool) -> Vec<Transaction> {
    let settings = Settings {
        refuse_superseded_protectors: refuse_superseded,
        ..Settings::new("hgs".parse().unwrap())
    };
    let signer = AttestationSigner {
        certificate: Signer::ours().certificate,
        key: Some("pkcs11:object=signer".parse().unwrap()),
        retired: false,
        deny_before: None,
        maximum_validity_seconds: None,
        label: None,
        deny_list: Arc::default(),
        added: now(),
    };
    let mut transactions = vec![
        Transaction::SetSettings(settings),
        Transaction::AddAttestationSigner { signer, key: None },
    ];
    transactions.extend(pair("fabric", &Lineage::Fabric, true, now()));
    transactions.extend(pair(TENANT[0], &contoso(), true, now()));
    transactions.extend(pair("stranger", &fabrikam(), true, now()));
    transactions.extend([0, 1].map(|host| {
        Transaction::AddHost(NewHost {
            id: host_id(host),
            name: format!("host-{host}").parse().unwrap(),
            credential: credential(host),
            platform: Platform::default(),
            group: None,
        })
    }));
    transactions
}

/// The health certificate of a host, as our signer issues it.
fn health_certificate(host: u8) -> &'static Certificate {
    static ISSUED: [OnceLock<Certificate>; 2] = [const { OnceLock::new() }; 2];
    ISSUED[usize::from(host)].get_or_init(|| {
        let statement = HealthStatement {
            mode: AttestationMode::HostKey,
            host_id: host_id(host),
            issued_at: now(),
            policy_digest: *policy_of(&credential(host).id()).as_bytes(),
        };
        let template = template(
            HealthKind::Encryption,
            &statement,
            HealthValidity::default(),
        );
        Signer::ours().issue(template.unwrap(), &FixtureHost::numbered(host).key)
    })
}

/// The protector that the tenant has made of his VM's key.
pub(super) fn first_protector() -> Arc<VerifiedProtector> {
    static MADE: OnceLock<Arc<VerifiedProtector>> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        let owner = Guardian::named("owner");
        let guardians = [Guardian::named(TENANT[0]).certificates.clone()];
        let key = hgs_crypto::SecretBytes::from(&key_octets(7)[..]);
        let key = TransportKey::from_secret(key).unwrap();
        let keys = PrivateKeys::of(&[owner]);
        Arc::new(create(&owner.certificates, &guardians, &key, &mut &keys).unwrap())
    });
    Arc::clone(made)
}

pub(super) fn digest(protector: &VerifiedProtector) -> Digest {
    Digest::from_bytes(*protector.digest().as_bytes())
}

/// A roll that was decided, and what is wrong with it.
#[derive(Debug)]
pub(super) struct Roll {
    pub(super) record: ReleaseRecord,
    pub(super) egress: Arc<VerifiedProtector>,
    /// The certificates that it knew to be compromised.
    pub(super) compromised: Vec<Thumbprint>,
    pub(super) wrong: Option<&'static str>,
}

struct Seen(Option<SeenProtector>);

impl SeenProtectors for Seen {
    fn seen(&self, _: &ProtectorDigest) -> Result<Option<SeenProtector>, StateUnavailable> {
        Ok(self.0)
    }
}

fn held_certificates(state: &State) -> Vec<HeldCertificate> {
    let mut records: Vec<_> = state.certificates().collect();
    records.sort_by_key(|record| (record.added, record.thumbprint()));
    records.into_iter().map(CertificateRecord::held).collect()
}

pub(super) fn compromised(state: &State) -> Vec<Thumbprint> {
    let compromised = |record: &&CertificateRecord| record.compromised.is_some();
    let records = state.certificates().filter(compromised);
    records.map(CertificateRecord::thumbprint).collect()
}

/// Whether a host that asks for the keys of `ingress` at step `number` gets them by this state, and what it gets. The egress
/// protector is drawn from `number`, and from nothing else that is not in the request.
pub(super) fn roll(
    state: &State,
    view: &dyn View,
    keys: &Keys,
    host: u8,
    ingress: &VerifiedProtector,
    number: u8,
) -> Result<Roll, String> {
    let seen = match compromised(state).is_empty() {
        true => None,
        false => lineage::seen(view, keys, &digest(ingress)).map_err(|error| error.to_string())?,
    };
    let seen = seen.map(|seen| SeenProtector {
        first_seen: seen.first,
        superseded: false,
    });
    let ring = KeyRing::new(held_certificates(state)).map_err(|error| error.to_string())?;
    let signers = state.attestation_signers();
    let signers = TrustedSigners::new(signers.map(AttestationSigner::trusted).collect());
    let now = time(number);
    let trust = Trust {
        signers: &signers,
        now,
        skew: SKEW,
        hosts: state,
        protectors: &Seen(seen),
        refuse_superseded: false,
        rekey_window: state.settings().is_rekey_window_open(now),
        caching: None,
    };
    static CACHES: OnceLock<Caches> = OnceLock::new();
    let key_protection = KeyProtection {
        ring: &ring,
        trust: &trust,
        caches: CACHES.get_or_init(|| Caches::new(256)),
    };
    let request = RollTransportKeyRequest {
        ingress_protector: ingress.octets().to_vec(),
        health_certificate: health_certificate(host).der().to_vec(),
        algorithms: Algorithms::default(),
    };
    let guardians = ["fabric", TENANT[0], TENANT[1], "stranger"].map(Guardian::named);
    let private_keys = PrivateKeys::of(&guardians);
    let seed = sha256(&[ingress.digest().as_bytes(), &[host, number][..]].concat());
    let seed = seed.first_chunk().copied().unwrap_or_default();
    let mut random = Repeatable::seeded(u64::from_be_bytes(seed));
    let release = key_protection
        .roll(
            ServiceVersion::V2,
            &request.to_xml(),
            &mut &private_keys,
            &mut random,
        )
        .map_err(|refusal| refusal.to_string())?;
    let record = record_of(release.facts(), state, now);
    let recorded = Recorded::after_commit(release.facts().egress);
    let answer = release.into_response(&recorded);
    let answer = answer.map_err(|refusal| refusal.to_string())?;
    let egress = read_egress(&answer, key_protection.caches)?;
    Ok(Roll {
        record,
        wrong: wrong(state, ingress, &egress),
        compromised: compromised(state),
        egress: Arc::new(egress),
    })
}

/// What is put on record of a release, as the service does it.
fn record_of(facts: &ReleaseFacts, state: &State, now: Time) -> ReleaseRecord {
    ReleaseRecord {
        time: now,
        recipient: Recipient::Registered(facts.host.statement().host_id),
        signer: facts.host.signer(),
        serial: SerialNumber::from_bytes(facts.host.certificate().serial_number()).unwrap(),
        issued: facts.host.statement().issued_at,
        policy: Digest::from_bytes(facts.host.statement().policy_digest),
        ingress: Digest::from_bytes(*facts.ingress.as_bytes()),
        egress: Digest::from_bytes(*facts.egress.as_bytes()),
        owner: facts.owner,
        guardian: facts.opened_with,
        guardian_signing: facts.opened_by,
        decided_from: state.generation(),
        offline_use: None,
        offline_unwraps: None,
        request: None,
    }
}

fn read_egress(answer: &[u8], caches: &Caches) -> Result<VerifiedProtector, String> {
    let answer = RollTransportKeyResponse::from_xml(answer).map_err(|error| error.to_string())?;
    let egress = Protector::read(&answer.egress_protector, &caches.certificates);
    let egress = egress.and_then(|egress| egress.verify(&caches.signatures));
    egress.map_err(|error| error.to_string())
}

fn opened(protector: &VerifiedProtector, guardian: &'static str) -> Option<TransportKey> {
    let guardian = Guardian::named(guardian);
    let held: [HeldPair; 1] = [guardian.held()];
    let keys = PrivateKeys::of(&[guardian]);
    let opened = open(protector, &held, &mut &keys).ok()?;
    Some(opened.into_transport_key())
}

/// What no egress protector of the tenant's VM may be.
fn wrong(
    state: &State,
    ingress: &VerifiedProtector,
    egress: &VerifiedProtector,
) -> Option<&'static str> {
    let his =
        ["owner", TENANT[0], TENANT[1]].map(|name| Guardian::named(name).signing.thumbprint());
    let mut wrappings = egress.wrappings().iter();
    if wrappings.any(|one| !his.contains(&one.signing_certificate().thumbprint())) {
        return Some(super::FOREIGN_WRAPPING);
    }
    let signer = state.certificate(&egress.guardian().signing_certificate().thumbprint());
    if signer.is_some_and(|record| record.compromised.is_some()) {
        return Some(super::COMPROMISED_PAIR_SIGNS);
    }
    let mut kept = false;
    for name in ["owner", TENANT[0], TENANT[1]] {
        let Some(key) = opened(egress, name) else {
            continue;
        };
        let signing = Guardian::named(name).signing.thumbprint();
        let record = state.certificate(&signing);
        if record.is_some_and(|record| record.compromised.is_some()) {
            return Some(super::COMPROMISED_PAIR_OPENS);
        }
        if ingress.check_transport_key(&key).is_ok() {
            return Some(super::KEY_NOT_ROLLED);
        }
        kept |= name != "owner";
    }
    let has_head = TENANT.iter().any(|name| {
        let signing = Guardian::named(name).signing.thumbprint();
        let is_head = state
            .certificate(&signing)
            .is_some_and(|record| record.head);
        is_head && opened(egress, name).is_some()
    });
    if kept && !has_head {
        return Some(super::HEAD_CANNOT_OPEN);
    }
    (!kept).then_some(super::LAST_WRAPPING_LOST)
}
