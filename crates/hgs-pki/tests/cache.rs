//! The caches do what they are for, and never more.

mod common;

use common::{issue, key, sign, ten_years};
use hgs_crypto::CryptoError;
use hgs_crypto::rsa::SignatureScheme::{self, Pkcs1Sha256, PssSha256};
use hgs_pki::issue::Issuer;
use hgs_pki::{
    Certificate, CertificateCache, CertificateError, MAX_CERTIFICATE_OCTETS, SignatureCache,
    profile,
};

fn certificate(name: &str) -> Certificate {
    let key = key("own");
    let template = profile::guardian_signing(name, ten_years());
    issue(template, &key, Issuer::SelfSigned, &key)
}

#[test]
fn no_certificate_is_parsed_twice() {
    let cache = CertificateCache::new(2);
    let (first, second) = (certificate("first"), certificate("second"));
    for _ in 0..10 {
        for certificate in [&first, &second] {
            assert_eq!(cache.parse(certificate.der()).as_ref(), Ok(certificate));
        }
    }
    assert_eq!(cache.misses(), 2);
}

#[test]
fn a_full_cache_forgets_and_still_answers() {
    let cache = CertificateCache::new(2);
    let certificates = ["1", "2", "3"].map(certificate);
    for certificate in certificates.iter().chain(&certificates) {
        assert_eq!(cache.parse(certificate.der()).as_ref(), Ok(certificate));
    }
    assert!((4..=6).contains(&cache.misses()), "{}", cache.misses());
}

#[test]
fn refusals_are_not_remembered_and_oversize_is_not_even_hashed() {
    let cache = CertificateCache::new(2);
    for misses in 1..=2 {
        assert!(cache.parse(b"no certificate").is_err());
        assert_eq!(cache.misses(), misses);
    }
    let large = vec![0x30; MAX_CERTIFICATE_OCTETS + 1];
    let refused = cache.parse(&large);
    assert_eq!(refused, Err(CertificateError::TooLarge(large.len())));
    assert_eq!(cache.misses(), 2);
}

#[test]
fn threads_share_a_cache() {
    let cache = CertificateCache::new(4);
    let certificates = ["1", "2", "3", "4"].map(certificate);
    for certificate in &certificates {
        cache.parse(certificate.der()).unwrap();
    }
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for certificate in certificates.iter().cycle().take(100) {
                    assert_eq!(cache.parse(certificate.der()).as_ref(), Ok(certificate));
                }
            });
        }
    });
    assert_eq!(cache.misses(), 4);
}

#[test]
fn a_good_signature_is_verified_once() {
    let cache = SignatureCache::new(8);
    let key = key("own");
    let signature = sign(&key, b"message");
    for _ in 0..10 {
        assert_eq!(
            cache.verify(key.public(), Pkcs1Sha256, b"message", &signature),
            Ok(())
        );
    }
    assert_eq!(cache.misses(), 1);
}

/// A cache that left anything out of what it remembers would say yes to one of these.
#[test]
fn whatever_differs_from_a_known_signature_is_verified_and_refused() {
    let cache = SignatureCache::new(8);
    let (own, other) = (key("own"), key("other"));
    let signature = sign(&own, b"message");
    cache
        .verify(own.public(), Pkcs1Sha256, b"message", &signature)
        .unwrap();
    let mut flipped = signature.clone();
    flipped[100] ^= 1;
    let longer = [signature.as_slice(), &[0]].concat();
    let wrong: [(_, SignatureScheme, &[u8], &[u8]); 6] = [
        (other.public(), Pkcs1Sha256, b"message", &signature),
        (own.public(), PssSha256, b"message", &signature),
        (own.public(), Pkcs1Sha256, b"massage", &signature),
        (own.public(), Pkcs1Sha256, b"message", &flipped),
        (own.public(), Pkcs1Sha256, b"message", &longer),
        (own.public(), Pkcs1Sha256, b"message", b""),
    ];
    for (key, scheme, message, signature) in wrong {
        // Twice, since a refusal must not be remembered as a success either.
        for _ in 0..2 {
            assert_eq!(
                cache.verify(key, scheme, message, signature),
                Err(CryptoError)
            );
        }
    }
    assert_eq!(cache.misses(), 13);
}

#[test]
fn issuers_are_verified_once_through_a_cache() {
    let cache = SignatureCache::new(8);
    let signer_key = key("own");
    let template = profile::attestation_signer(ten_years());
    let signer = issue(template, &signer_key, Issuer::SelfSigned, &signer_key);
    let template = profile::host_key("node", ten_years());
    let host = issue(
        template,
        &key("other"),
        Issuer::Certificate(&signer),
        &signer_key,
    );
    for _ in 0..3 {
        host.verify_issued_by_cached(&signer, &cache).unwrap();
    }
    assert_eq!(cache.misses(), 1);
    assert!(signer.verify_issued_by_cached(&host, &cache).is_err());
    let template = profile::attestation_signer(ten_years());
    let namesake_key = key("namesake");
    let namesake = issue(template, &namesake_key, Issuer::SelfSigned, &namesake_key);
    assert!(host.verify_issued_by_cached(&namesake, &cache).is_err());
}

/// A certificate's digest is known, so it is not made again; what is cached is the same.
#[test]
fn a_signature_over_a_certificate_is_one_over_its_octets() {
    let cache = SignatureCache::new(4);
    let certificate = certificate("signed");
    let signature = sign(&key("own"), certificate.der());
    let key = certificate.public_key();
    let over_certificate =
        |signature: &[u8]| cache.verify_over_certificate(key, Pkcs1Sha256, &certificate, signature);
    assert_eq!(over_certificate(&signature), Ok(()));
    assert_eq!(over_certificate(&signature), Ok(()));
    let plain = cache.verify(key, Pkcs1Sha256, certificate.der(), &signature);
    assert_eq!(plain, Ok(()));
    assert_eq!(cache.misses(), 1);
    let mut wrong = signature;
    wrong[0] ^= 1;
    assert_eq!(over_certificate(&wrong), Err(CryptoError));
}
