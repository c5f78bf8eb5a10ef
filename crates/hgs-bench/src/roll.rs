//! A whole roll in this process: from the request's octets to the response's.

use std::sync::Arc;

use hgs_crypto::random::System;
use hgs_kps::wire::Algorithms;
use hgs_kps::{
    Caches, CertificateKind, HeldCertificate, HostRegistry, HostStanding, KeyRing, Lineage,
    PendingRoll, Recorded, Refusal, Release, SKEW, SeenProtector, SeenProtectors, ServiceVersion,
    Step, Trust, begin,
};
use hgs_pki::Certificate;
use hgs_pki::health::{HostId, TrustedSigner, TrustedSigners};
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
        let creating = create(
            &owner.certificates,
            vec![guardian.certificates.clone()],
            key,
        );
        let reference = Keys::of(&[owner])
            .drive(creating.expect("two guardians"), &mut System::new())
            .expect("the owner's keys are at hand");
        let held = |certificate: &Certificate, kind| HeldCertificate {
            certificate: certificate.clone(),
            kind,
            lineage: Lineage::Fabric,
            enabled: true,
            head: true,
            compromised: None,
        };
        let pair = vec![
            held(&guardian.signing, CertificateKind::Signing),
            held(
                &guardian.encryption,
                CertificateKind::Encryption(KeyEncryption::RsaOaep),
            ),
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

    fn roll(&self, keys: &Keys, request: &[u8], caches: &Caches) {
        self.roll_with(request, caches, |step, random| {
            keys.drive(step, random).expect("own keys")
        });
    }

    /// A roll whose work with private keys `drive` does.
    pub(crate) fn roll_with(
        &self,
        request: &[u8],
        caches: &Caches,
        drive: impl FnOnce(Step<Release, Refusal>, &mut System) -> Release,
    ) {
        let trust = Trust {
            signers: &self.signers,
            skew: SKEW,
            hosts: &Everybody,
            protectors: &Nothing,
            refuse_superseded: false,
            rekey_window: false,
            caching: None,
        };
        let random = &mut System::new();
        let step = begin(
            request,
            ServiceVersion::V2,
            &self.ring,
            &trust,
            caches,
            now(),
            random,
        );
        let release = drive(step.expect("healthy host, own protector"), random);
        let response = release.into_response(Recorded::after_commit());
        std::hint::black_box(response);
    }
}

struct Everybody;

impl HostRegistry for Everybody {
    fn standing(&self, _: &HostId) -> HostStanding {
        HostStanding::Registered
    }
}

struct Nothing;

impl SeenProtectors for Nothing {
    fn seen(&self, _: &ProtectorDigest) -> Option<SeenProtector> {
        None
    }
}
