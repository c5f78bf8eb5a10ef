//! A key protection service in memory, and hosts that ask it.
#![allow(dead_code, reason = "each test program uses its own part")]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hgs_crypto::SecretBytes;
use hgs_crypto::hash::Sha256Digest;
use hgs_kps::offline_report::OfflineReport;
use hgs_kps::{
    Authenticity, Caches, CertificateKind, HeldCertificate, HostStanding, HostStandings,
    KeyProtection, KeyRing, Lineage, PendingRoll, Recorded, Refusal, Release, Released, SKEW,
    SeenProtector, SeenProtectors, ServiceVersion, StateUnavailable, Trust,
};
use hgs_pki::health::{HostId, TrustedSigner, TrustedSigners};
use hgs_pki::{Certificate, KeyWork, Time};
use hgs_protector::suite::KeyEncryption;
use hgs_protector::transport_key_blob::CachingPolicy;
use hgs_protector::{ProtectorDigest, TransportKey, VerifiedProtector, create};
use hgs_testkit::fixtures::{AttestationSigner, Guardian, Host, Keys, Repeatable, key_octets, now};

pub(crate) fn random() -> Repeatable {
    Repeatable::seeded(2)
}

pub(crate) fn guardian(name: &str) -> &'static Guardian {
    Guardian::named(name)
}

pub(crate) fn transport_key() -> TransportKey {
    TransportKey::from_secret(SecretBytes::from(&key_octets(7)[..])).unwrap()
}

/// A protector of the owner for `guardians`.
pub(crate) fn protector(owner: &Guardian, guardians: &[&Guardian]) -> VerifiedProtector {
    let certificates: Vec<_> = guardians
        .iter()
        .map(|guardian| guardian.certificates.clone())
        .collect();
    let keys = Keys::of(&[owner]);
    create(
        &owner.certificates,
        &certificates,
        &transport_key(),
        &mut &keys,
    )
    .unwrap()
}

pub(crate) fn tenant() -> Lineage {
    Lineage::Tenant("contoso".parse().unwrap())
}

/// A guardian in a key ring.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) guardian: &'static Guardian,
    pub(crate) lineage: Lineage,
    pub(crate) enabled: bool,
    pub(crate) head: bool,
    pub(crate) compromised: Option<Time>,
}

impl Member {
    pub(crate) fn of(name: &str, lineage: Lineage) -> Self {
        Self {
            guardian: guardian(name),
            lineage,
            enabled: true,
            head: false,
            compromised: None,
        }
    }

    pub(crate) fn fabric(name: &str) -> Self {
        Self::of(name, Lineage::Fabric)
    }

    pub(crate) fn tenant(name: &str) -> Self {
        Self::of(name, tenant())
    }

    pub(crate) fn head(self) -> Self {
        Self { head: true, ..self }
    }

    pub(crate) fn disabled(self) -> Self {
        Self {
            enabled: false,
            ..self
        }
    }

    pub(crate) fn compromised(self, since: Time) -> Self {
        Self {
            compromised: Some(since),
            ..self
        }
    }

    pub(crate) fn certificates(&self) -> [HeldCertificate; 2] {
        let of_kind = |certificate: &Certificate, kind| HeldCertificate {
            certificate: certificate.clone(),
            kind,
            key_encryption: KeyEncryption::RsaOaep,
            lineage: self.lineage.clone(),
            enabled: self.enabled,
            head: self.head,
            compromised: self.compromised,
        };
        [
            of_kind(&self.guardian.signing, CertificateKind::Signing),
            of_kind(&self.guardian.encryption, CertificateKind::Encryption),
        ]
    }
}

pub(crate) fn ring(members: &[Member]) -> Arc<KeyRing> {
    let certificates = members.iter().flat_map(Member::certificates).collect();
    Arc::new(KeyRing::new(certificates).unwrap())
}

/// A service with its registry, its records and its caches.
pub(crate) struct Service {
    pub(crate) ring: Arc<KeyRing>,
    pub(crate) keys: Keys,
    pub(crate) signers: TrustedSigners,
    pub(crate) hosts: BTreeMap<HostId, HostStanding>,
    /// Policy digests of hosts that are barred.
    pub(crate) barred: BTreeSet<Sha256Digest>,
    pub(crate) seen: RefCell<BTreeMap<ProtectorDigest, SeenProtector>>,
    pub(crate) caches: Caches,
    pub(crate) refuse_superseded: bool,
    pub(crate) rekey_window: bool,
    pub(crate) caching: Option<CachingPolicy>,
    pub(crate) now: Time,
    pub(crate) random: RefCell<Repeatable>,
}

impl HostStandings for BTreeMapHosts<'_> {
    fn standing(&self, host: &HostId) -> HostStanding {
        self.0.get(host).copied().unwrap_or(HostStanding::Unknown)
    }

    fn is_barred(&self, policy: &Sha256Digest) -> bool {
        self.1.contains(policy)
    }
}

struct BTreeMapHosts<'a>(
    &'a BTreeMap<HostId, HostStanding>,
    &'a BTreeSet<Sha256Digest>,
);

struct Seen<'a>(&'a BTreeMap<ProtectorDigest, SeenProtector>);

impl SeenProtectors for Seen<'_> {
    fn seen(&self, protector: &ProtectorDigest) -> Result<Option<SeenProtector>, StateUnavailable> {
        Ok(self.0.get(protector).copied())
    }
}

impl Service {
    pub(crate) fn new(members: &[Member]) -> Self {
        let ours = TrustedSigner::own(AttestationSigner::ours().certificate);
        let guardians: Vec<&Guardian> = members.iter().map(|member| member.guardian).collect();
        Self {
            ring: ring(members),
            keys: Keys::of(&guardians),
            signers: TrustedSigners::new(vec![ours]),
            barred: BTreeSet::new(),
            hosts: BTreeMap::from([
                (Host::numbered(0).id, HostStanding::Registered),
                (Host::numbered(1).id, HostStanding::Registered),
            ]),
            seen: RefCell::default(),
            caches: Caches::new(64),
            refuse_superseded: false,
            rekey_window: false,
            caching: None,
            now: now(),
            random: RefCell::new(random()),
        }
    }

    pub(crate) fn release(&self, body: &[u8], version: ServiceVersion) -> Result<Release, Refusal> {
        self.release_with(body, version, &mut &self.keys)
    }

    pub(crate) fn release_with(
        &self,
        body: &[u8],
        version: ServiceVersion,
        keys: &mut dyn KeyWork,
    ) -> Result<Release, Refusal> {
        self.release_reported(body, version, None, keys)
    }

    pub(crate) fn release_reported(
        &self,
        body: &[u8],
        version: ServiceVersion,
        report: Option<OfflineReport>,
        keys: &mut dyn KeyWork,
    ) -> Result<Release, Refusal> {
        let hosts = BTreeMapHosts(&self.hosts, &self.barred);
        let mut random = self.random.borrow_mut();
        let seen = self.seen.borrow().clone();
        let trust = Trust {
            signers: &self.signers,
            now: self.now,
            skew: SKEW,
            hosts: &hosts,
            protectors: &Seen(&seen),
            refuse_superseded: self.refuse_superseded,
            rekey_window: self.rekey_window,
            caching: self.caching,
        };
        let key_protection = KeyProtection {
            ring: &self.ring,
            trust: &trust,
            caches: &self.caches,
        };
        let identified = key_protection.identify(version, body)?;
        key_protection.release(identified.with_report(report), keys, &mut *random)
    }

    /// Releases, and remembers both protectors.
    pub(crate) fn answer(&self, body: &[u8], version: ServiceVersion) -> Result<Vec<u8>, Refusal> {
        let release = self.release(body, version)?;
        let facts = release.facts();
        for digest in [facts.ingress, facts.egress] {
            self.seen
                .borrow_mut()
                .entry(digest)
                .or_insert(SeenProtector {
                    first_seen: self.now,
                    superseded: false,
                });
        }
        let recorded = Recorded::after_commit(facts.egress);
        release.into_response(&recorded)
    }

    /// A whole roll, with the host's checks.
    pub(crate) fn power_on(&self, ingress: &VerifiedProtector) -> Result<Released, Refusal> {
        let host = Host::numbered(0);
        let pending = pending(ingress, &host, ServiceVersion::V2);
        let answer = self.answer(&pending.request(), ServiceVersion::V2)?;
        Ok(receive(&pending, &host, &answer))
    }
}

pub(crate) fn pending(
    ingress: &VerifiedProtector,
    host: &Host,
    version: ServiceVersion,
) -> PendingRoll {
    PendingRoll::new(
        ingress.clone(),
        host.healthy(),
        hgs_kps::wire::Algorithms::default(),
        version,
    )
}

pub(crate) fn receive(pending: &PendingRoll, host: &Host, answer: &[u8]) -> Released {
    let mut keys = Keys::default();
    keys.hold(&host.healthy(), &host.key);
    keys.hold(&host.healthy_by_tpm(), &host.key);
    let released = pending.receive(
        answer,
        Authenticity::DangerouslyUnsigned,
        &Caches::new(64),
        &mut &keys,
    );
    released.unwrap()
}
