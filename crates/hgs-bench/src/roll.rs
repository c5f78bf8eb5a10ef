//! A whole roll in this process: from the request's octets to the response's.

use std::sync::Arc;

use hgs_crypto::hash::Sha256Digest;
use hgs_crypto::random::System;
use hgs_kps::wire::Algorithms;
use hgs_kps::{
    Caches, CertificateKind, HeldCertificate, HostStanding, HostStandings, KeyProtection, KeyRing,
    Lineage, PendingRoll, Recorded, SKEW, SeenProtector, SeenProtectors, ServiceVersion,
    StateUnavailable, Trust,
};
use hgs_pki::health::{HostId, TrustedSigner, TrustedSigners};
use hgs_pki::{Certificate, KeyWork};
use hgs_protector::suite::KeyEncryption;
use hgs_protector::{ProtectorDigest, TransportKey, VerifiedProtector, create};
use hgs_testkit::fixtures::{AttestationSigner, Guardian, Host, Keys, now};

use crate::floor::{self, Floor};
use crate::measure::{Effort, Table, compare};

pub(crate) fn in_process(effort: Effort, table: &mut Table) {
    let service = Service::new();
    let (request, keys) = (service.request(), Keys::of(&[service.guardian]));
    let signed = service.reference.octets().len();

    let warm = Caches::new(64);
    let floor = Floor::new(service.guardian, signed, floor::Caches::Warm);
    let figure = compare(
        effort,
        || floor.run(),
        || service.roll(&keys, &request, &warm),
    );
    table.add("roll in process, caches warm", figure);

    // A certificate's key is parsed once in the life of a server, so that cost has a row of its own: here only the
    // signatures are seen for the first time.
    let floor = Floor::new(service.guardian, signed, floor::Caches::Cold);
    let mut caches = Caches::new(64);
    service.roll(&keys, &request, &caches);
    let figure = compare(
        effort,
        || floor.run(),
        || {
            caches.signatures = hgs_pki::SignatureCache::new(128);
            service.roll(&keys, &request, &caches);
        },
    );
    table.add("roll in process, no signature seen before", figure);

    let figure = compare(
        effort,
        || floor.run(),
        || service.roll(&keys, &request, &Caches::new(64)),
    );
    table.add(
        "roll in process, neither key nor signature seen before",
        figure,
    );
}

/// A KPS for the reference protector.
pub(crate) struct Service {
    pub(crate) guardian: &'static Guardian,
    reference: VerifiedProtector,
    ring: Arc<KeyRing>,
    signers: TrustedSigners,
}

impl Service {
    pub(crate) fn new() -> Self {
        let (owner, guardian) = (Guardian::named("owner"), Guardian::named("fabric"));
        let key = TransportKey::random(&mut System::new()).expect("the system has randomness");
        let guardians = [guardian.certificates.clone()];
        let keys = Keys::of(&[owner]);
        let reference = create(&owner.certificates, &guardians, &key, &mut &keys)
            .expect("the owner's keys are at hand");
        let held = |certificate: &Certificate, kind| HeldCertificate {
            certificate: certificate.clone(),
            kind,
            key_encryption: KeyEncryption::RsaOaep,
            lineage: Lineage::Fabric,
            enabled: true,
            head: true,
            compromised: None,
        };
        let pair = vec![
            held(&guardian.signing, CertificateKind::Signing),
            held(&guardian.encryption, CertificateKind::Encryption),
        ];
        Self {
            guardian,
            reference,
            ring: Arc::new(KeyRing::new(pair).expect("one pair")),
            signers: TrustedSigners::new(vec![TrustedSigner::own(
                AttestationSigner::ours().certificate,
            )]),
        }
    }

    pub(crate) fn request(&self) -> Vec<u8> {
        let health = Host::numbered(0).healthy();
        PendingRoll::new(
            self.reference.clone(),
            health,
            Algorithms::default(),
            ServiceVersion::V2,
        )
        .request()
    }

    pub(crate) fn roll(&self, mut keys: impl KeyWork, request: &[u8], caches: &Caches) {
        let trust = Trust {
            signers: &self.signers,
            now: now(),
            skew: SKEW,
            hosts: &Everybody,
            protectors: &Nothing,
            refuse_superseded: false,
            rekey_window: false,
            caching: None,
        };
        let key_protection = KeyProtection {
            ring: &self.ring,
            trust: &trust,
            caches,
        };
        let random = &mut System::new();
        let release = key_protection
            .roll(ServiceVersion::V2, request, &mut keys, random)
            .expect("healthy host, own protector");
        let recorded = Recorded::after_commit(release.facts().egress);
        std::hint::black_box(release.into_response(&recorded).expect("it was recorded"));
    }
}

struct Everybody;

impl HostStandings for Everybody {
    fn standing(&self, _: &HostId) -> HostStanding {
        HostStanding::Registered
    }

    fn is_barred(&self, _: &Sha256Digest) -> bool {
        false
    }
}

struct Nothing;

impl SeenProtectors for Nothing {
    fn seen(&self, _: &ProtectorDigest) -> Result<Option<SeenProtector>, StateUnavailable> {
        Ok(None)
    }
}
