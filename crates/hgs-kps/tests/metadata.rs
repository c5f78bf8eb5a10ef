//! GetMetaData: which certificates go in, and how often it is made.

mod common;

use std::sync::Arc;

use common::{Member, guardian, ring};
use hgs_kps::{Code, HeldCertificate, KeyRing, MetadataService, Reason};
use hgs_pki::{CertificateCache, SignatureCache};
use hgs_protector::metadata::Metadata;
use hgs_testkit::fixtures::Keys;

fn service(ring: Arc<KeyRing>) -> Arc<MetadataService> {
    Arc::new(MetadataService::new(
        ring,
        guardian("stranger").signing.clone(),
    ))
}

fn read(octets: &[u8]) -> Metadata {
    Metadata::read(octets, &CertificateCache::new(16), &SignatureCache::new(16)).unwrap()
}

#[test]
fn the_primary_pair_and_the_other_signing_certificates_of_the_fabric() {
    let service = service(ring(&[
        Member::fabric("owner"),
        Member::fabric("fabric").head(),
        Member::fabric("fabric-next"),
        Member::fabric("tenant-next").disabled(),
        Member::tenant("tenant").head(),
    ]));
    let keys = Keys::of(&[guardian("fabric"), guardian("stranger")]);
    let document = service.document(&mut &keys).unwrap();
    let metadata = read(&document);
    assert_eq!(metadata.unverified(), &guardian("fabric").certificates);
    assert_eq!(metadata.signer(), &guardian("stranger").signing);
    let others = ["owner", "fabric-next"].map(|name| guardian(name).signing.clone());
    assert_eq!(metadata.other_signing_certificates(), others);

    // Made once, then only handed out.
    assert_eq!(keys.signatures(), 3);
    let again = service.document(&mut &keys).unwrap();
    assert!(Arc::ptr_eq(&document, &again));
    assert_eq!(keys.signatures(), 3);
}

#[test]
fn without_a_primary_certificate_there_is_no_metadata() {
    let [signing, encryption] = Member::fabric("fabric").head().certificates();
    let tenant = Member::tenant("tenant").head().certificates().to_vec();
    let cases: [(Vec<HeldCertificate>, Reason); 4] = [
        (vec![], Reason::NoPrimaryEncryptionCertificate),
        (tenant, Reason::NoPrimaryEncryptionCertificate),
        (vec![signing], Reason::NoPrimaryEncryptionCertificate),
        (vec![encryption], Reason::NoPrimarySigningCertificate),
    ];
    for (certificates, reason) in cases {
        let service = service(Arc::new(KeyRing::new(certificates).unwrap()));
        let refusal = service.document(&mut &Keys::default()).unwrap_err();
        assert_eq!(refusal.reason(), &reason);
        assert_eq!(refusal.code(), Code::Metadata);
    }
}
