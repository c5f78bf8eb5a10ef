//! Rolls from end to end: host, service, host.

mod common;

use common::{Member, Service, guardian, pending, protector, receive, transport_key};
use hgs_crypto::SecretBytes;
use hgs_crypto::rsa::{OaepHash, SignatureScheme};
use hgs_kps::wire::Algorithms;
use hgs_kps::{Authenticity, Caches, ClientError, Code, PendingRoll, Recorded, ServiceVersion};
use hgs_pki::{KeyError, KeyWork, Thumbprint};
use hgs_protector::suite::{KeyEncryption, TransportKeysEncryption, WrappingKeyEncryption};
use hgs_protector::transport_key_blob::CachingPolicy;
use hgs_testkit::fixtures::{Host, Keys};

#[test]
fn a_host_gets_the_keys_and_a_protector_that_rolls_again() {
    let service = Service::new(&[Member::fabric("fabric").head()]);
    let ingress = protector(guardian("owner"), &[guardian("fabric")]);
    let first = service.power_on(&ingress).unwrap();
    assert_eq!(first.ingress_key, transport_key());
    let second = service.power_on(&first.egress).unwrap();
    assert_eq!(second.ingress_key, first.egress_key);
    assert_ne!(second.egress_key, first.egress_key);
    // One decryption and one signature for each.
    assert_eq!(
        (service.keys.decryptions(), service.keys.signatures()),
        (2, 2)
    );
}

#[test]
fn nothing_that_is_in_use_is_parsed_or_verified_twice() {
    let service = Service::new(&[Member::fabric("fabric").head()]);
    let ingress = protector(guardian("owner"), &[guardian("fabric")]);
    let first = service.power_on(&ingress).unwrap();
    let (certificates, signatures) = (
        service.caches.certificates.misses(),
        service.caches.signatures.misses(),
    );
    service.power_on(&first.egress).unwrap();
    assert_eq!(service.caches.certificates.misses(), certificates);
    assert_eq!(service.caches.signatures.misses(), signatures);
}

#[test]
fn every_algorithm_and_version_of_the_profile_works() {
    let service = Service {
        caching: Some(CachingPolicy {
            max_offline_unwraps: 5,
            expiry: 1_800_000_000,
        }),
        ..Service::new(&[Member::fabric("fabric").head()])
    };
    let ingress = protector(guardian("owner"), &[guardian("fabric")]);
    let host = Host::numbered(0);
    for version in [ServiceVersion::V1, ServiceVersion::V2] {
        for transfer_key in [KeyEncryption::RsaOaep, KeyEncryption::RsaOaepMgf1p] {
            for wrapping_key in [
                WrappingKeyEncryption::Aes256Gcm,
                WrappingKeyEncryption::KwAes256,
            ] {
                let algorithms = Algorithms {
                    transfer_key,
                    wrapping_key,
                    transport_keys: TransportKeysEncryption::Aes256Gcm,
                };
                let pending =
                    PendingRoll::new(ingress.clone(), host.healthy_by_tpm(), algorithms, version);
                let answer = service.answer(&pending.request(), version).unwrap();
                let released = receive(&pending, &host, &answer);
                let caching = match version {
                    ServiceVersion::V1 => None,
                    ServiceVersion::V2 => service.caching,
                };
                assert_eq!(released.caching, caching);
            }
        }
    }
}

#[test]
fn another_host_can_not_read_the_answer() {
    let service = Service::new(&[Member::fabric("fabric").head()]);
    let ingress = protector(guardian("owner"), &[guardian("fabric")]);
    let [asking, listening] = [0, 1].map(Host::numbered);
    let pending = pending(&ingress, &asking, ServiceVersion::V1);
    let answer = service
        .answer(&pending.request(), ServiceVersion::V1)
        .unwrap();
    let mut keys = Keys::default();
    keys.hold(&asking.healthy(), &listening.key);
    let received = pending.receive(
        &answer,
        Authenticity::DangerouslyUnsigned,
        &Caches::new(8),
        &mut &keys,
    );
    let error = received.unwrap_err();
    assert_eq!(error, ClientError::Decryption);
}

/// One that could go on would ask a token that is away for every wrapping, and call the protector bad in the end.
#[test]
fn a_key_store_that_is_away_ends_the_roll_and_is_what_the_refusal_names() {
    #[derive(Default)]
    struct Away(usize);
    impl Away {
        fn work<T>(&mut self) -> Result<T, KeyError> {
            self.0 += 1;
            let reason = "the token was removed".to_owned();
            Err(KeyError::Unavailable { reason })
        }
    }
    impl KeyWork for Away {
        fn decrypt(
            &mut self,
            _: &Thumbprint,
            _: OaepHash,
            _: &[u8],
        ) -> Result<SecretBytes, KeyError> {
            self.work()
        }

        fn sign(
            &mut self,
            _: &Thumbprint,
            _: SignatureScheme,
            _: &[u8],
        ) -> Result<Vec<u8>, KeyError> {
            self.work()
        }
    }

    let service = Service::new(&[Member::fabric("fabric").head(), Member::fabric("tenant")]);
    let ingress = protector(guardian("owner"), &[guardian("fabric"), guardian("tenant")]);
    let request = pending(&ingress, &Host::numbered(0), ServiceVersion::V2).request();
    let mut keys = Away::default();
    let refusal = service
        .release_with(&request, ServiceVersion::V2, &mut keys)
        .unwrap_err();
    assert_eq!(keys.0, 1);
    assert_eq!(refusal.code(), Code::KeyStoreUnavailable);
    assert!(refusal.to_string().contains("the token was removed"));
    let answer = String::from_utf8(refusal.to_response().body).unwrap();
    assert!(!answer.contains("token was removed"), "{answer}");
}

#[test]
fn the_record_of_another_release_gives_no_answer() {
    let service = Service::new(&[Member::fabric("fabric").head()]);
    let ingress = protector(guardian("owner"), &[guardian("fabric")]);
    let request = pending(&ingress, &Host::numbered(0), ServiceVersion::V2).request();
    let released = || service.release(&request, ServiceVersion::V2).unwrap();
    let (one, other) = (released(), released());
    let recorded = Recorded::after_commit(other.facts().egress);
    let refusal = one.into_response(&recorded).unwrap_err();
    assert_eq!(refusal.code(), Code::Internal);
    assert!(other.into_response(&recorded).is_ok());
}

#[test]
fn a_protector_for_someone_else_is_refused() {
    let service = Service::new(&[Member::fabric("fabric").head()]);
    let ingress = protector(guardian("owner"), &[guardian("stranger")]);
    let refusal = service.power_on(&ingress).unwrap_err();
    assert_eq!(refusal.code(), Code::WrappingNotFound);
    assert_eq!(refusal.facts().ingress, Some(ingress.digest()));
    assert!(refusal.facts().host.is_some());
}
