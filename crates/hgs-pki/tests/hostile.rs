//! Certificates and bundles that somebody tampered with: each is refused by name, and whatever
//! octets come, nothing panics.

mod common;

use common::openssl::Openssl;
use common::{issue, key, now, ten_years};
use hgs_crypto::rsa::{PublicKeyError, Weakness};
use hgs_pki::endorsement::{EndorsementAuthority, EndorsementAuthorityError};
use hgs_pki::health::{AttestationMode, HealthStatement, HostId};
use hgs_pki::issue::Issuer;
use hgs_pki::{
    Certificate, CertificateError, Extension, MAX_CERTIFICATE_OCTETS, ObjectIdentifier,
    TlsCertificate, Validity, fuzzing, pkcs7, profile,
};

/// `octets` with the one place where `old` stands replaced by `new`.
#[track_caller]
fn patched(octets: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let found = octets.windows(old.len()).position(|window| window == old);
    let place = found.expect("the octets to be replaced are there");
    [&octets[..place], new, &octets[place + old.len()..]].concat()
}

/// Corrects the lengths of certificate and signed part, which are in two octets each, after
/// `patched` changed the length of the latter.
fn with_lengths_changed(mut der: Vec<u8>, change: i16) -> Vec<u8> {
    for place in [2, 6] {
        let length = i16::from_be_bytes([der[place], der[place + 1]]) + change;
        der[place..place + 2].copy_from_slice(&length.to_be_bytes());
    }
    der
}

/// A version 3 certificate with two extensions of ours.
fn plain() -> Certificate {
    let key = key("own");
    let further = |last: &str| Extension {
        oid: ObjectIdentifier::new(&format!("1.3.6.1.4.1.32473.{last}")).unwrap(),
        critical: false,
        der: vec![5, 0],
    };
    let mut template = profile::guardian_signing("tenant", ten_years());
    template.extensions = vec![further("9"), further("10")];
    issue(template, &key, Issuer::SelfSigned, &key)
}

const VERSION_3: &[u8] = &[0xa0, 3, 2, 1, 2];

#[test]
fn versions_are_refused_by_number() {
    let certificate = plain();
    for (encoded, version) in [(1, 2), (3, 4), (127, 128)] {
        let other = patched(certificate.der(), VERSION_3, &[0xa0, 3, 2, 1, encoded]);
        let refused = CertificateError::UnsupportedVersion(version);
        assert_eq!(Certificate::from_der(&other), Err(refused));
    }
    let first = with_lengths_changed(patched(certificate.der(), VERSION_3, &[]), -5);
    let refused = Certificate::from_der(&first);
    assert_eq!(refused, Err(CertificateError::ExtensionsInVersion1));
}

#[test]
fn a_default_value_that_is_written_is_not_der() {
    let certificate = Certificate::from_pem(include_str!("data/version-1.pem")).unwrap();
    let (headers, rest) = certificate.der().split_at(8);
    let written = [headers, &[0xa0, 3, 2, 1, 0], rest].concat();
    let refused = Certificate::from_der(&with_lengths_changed(written, 5));
    assert_eq!(refused, Err(CertificateError::NotCanonical));
}

#[test]
fn an_extension_that_occurs_twice_is_refused() {
    let nine = b"\x06\x09\x2b\x06\x01\x04\x01\x81\xfd\x59\x09";
    let ten = b"\x06\x09\x2b\x06\x01\x04\x01\x81\xfd\x59\x0a";
    let twice = patched(plain().der(), ten, nine);
    let oid = ObjectIdentifier::new("1.3.6.1.4.1.32473.9").unwrap();
    let refused = Certificate::from_der(&twice);
    assert_eq!(refused, Err(CertificateError::DuplicateExtension(oid)));
}

#[test]
fn two_different_signature_algorithms_are_refused() {
    let sha_256 = b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b";
    let sha_384 = b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c";
    let inner = patched(plain().der(), sha_256, sha_384);
    let refused = CertificateError::SignatureAlgorithmMismatch;
    assert_eq!(Certificate::from_der(&inner), Err(refused));
    assert_eq!(EndorsementAuthority::from_der(&inner), Err(refused.into()));
}

/// Both readers of certificates: the one for RSA, and the one for any key.
#[track_caller]
fn refused_by_both(der: &[u8]) {
    assert!(Certificate::from_der(der).is_err());
    let read = EndorsementAuthority::from_der(der);
    assert!(
        matches!(read, Err(EndorsementAuthorityError::Certificate(_))),
        "{read:?}"
    );
}

#[test]
fn serial_numbers_and_names_are_read_as_what_they_are() {
    let certificate = plain();
    // An INTEGER does not begin with a zero that says nothing.
    let serial = [&[2, 16][..], certificate.serial_number()].concat();
    let mut padded = serial.clone();
    padded[2] = 0;
    padded[3] &= 0x7f;
    refused_by_both(&patched(certificate.der(), &serial, &padded));
    // The type of an attribute is an OBJECT IDENTIFIER.
    refused_by_both(&patched(
        certificate.der(),
        b"\x06\x03\x55\x04\x03",
        b"\x04\x03\x55\x04\x03",
    ));
}

#[test]
fn a_key_of_another_algorithm_is_refused_by_its_name() {
    let rsa = b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01";
    let pss = b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a";
    let other = patched(plain().der(), rsa, pss);
    let oid = ObjectIdentifier::new("1.2.840.113549.1.1.10").unwrap();
    let refused = Certificate::from_der(&other);
    assert_eq!(refused, Err(CertificateError::UnsupportedKey(oid)));
}

#[test]
fn what_is_longer_than_a_certificate_may_be_is_refused_whoever_reads_it() {
    let long = vec![0x30; MAX_CERTIFICATE_OCTETS + 2];
    let refused = CertificateError::TooLarge(long.len());
    assert_eq!(Certificate::from_der(&long), Err(refused));
    assert_eq!(TlsCertificate::from_der(&long), Err(refused));
    assert_eq!(Validity::of_any_certificate(&long), Err(refused));
    assert_eq!(EndorsementAuthority::from_der(&long), Err(refused.into()));
    let certificate = plain();
    assert_eq!(
        TlsCertificate::from_der(certificate.der()).map(|read| read.validity),
        Ok(certificate.validity())
    );
    assert_eq!(
        Validity::of_any_certificate(certificate.der()),
        Ok(certificate.validity())
    );
}

/// attacks.md A17: keys from Infineon's library, and others whose modulus can be factored.
#[test]
fn a17_weak_keys_are_refused_by_name() {
    let openssl = Openssl::new();
    openssl.root("root");
    openssl.run("req -config empty.cnf -new -key root.key -subj /CN=leaf -out request");
    for (base, power, weakness) in [
        // In the subgroup that 65537 generates modulo every small prime, as RSALib's moduli are.
        (65537, 128, Weakness::Roca),
        (3, 1300, Weakness::SmallFactor(3)),
    ] {
        openssl.write("weak.pem", public_key_pem(&big_endian_power(base, power)));
        openssl.run(
            "x509 -req -in request -force_pubkey weak.pem -CA root.pem -CAkey root.key \
             -CAcreateserial -outform DER -out weak.der",
        );
        let refused = Certificate::from_der(&openssl.read("weak.der"));
        let error = CertificateError::Key(PublicKeyError::Weak(weakness));
        assert_eq!(refused, Err(error));
    }
}

fn big_endian_power(base: u32, power: u32) -> Vec<u8> {
    let mut number = vec![1u8];
    for _ in 0..power {
        let mut carry = 0;
        for digit in number.iter_mut().rev() {
            let product = u32::from(*digit) * base + carry;
            *digit = product.to_le_bytes()[0];
            carry = product >> 8;
        }
        let high = carry.to_be_bytes();
        number.splice(0..0, high.into_iter().skip_while(|digit| *digit == 0));
    }
    number
}

fn public_key_pem(modulus: &[u8]) -> String {
    let wrap = |tag: u8, content: &[u8]| {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[tag, 0x82], length.as_slice(), content].concat()
    };
    let modulus = wrap(2, &[&[0], modulus].concat());
    let modulus = match modulus[5] < 0x80 {
        true => wrap(2, &modulus[5..]),
        false => modulus,
    };
    let numbers = wrap(0x30, &[modulus.as_slice(), &[2, 3, 1, 0, 1]].concat());
    let algorithm = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";
    let string = wrap(3, &[&[0], numbers.as_slice()].concat());
    let key = wrap(0x30, &[algorithm, string.as_slice()].concat());
    let base64 = hgs_crypto::base64::encode(&key);
    format!("-----BEGIN PUBLIC KEY-----\n{base64}\n-----END PUBLIC KEY-----\n")
}

/// Octets that the parsers accept, of every kind.
fn corpus() -> Vec<Vec<u8>> {
    let certificate = plain();
    let first = Certificate::from_pem(include_str!("data/version-1.pem")).unwrap();
    let bundle = pkcs7::certificates_only(&[certificate.clone(), first.clone()]);
    vec![certificate.der().to_vec(), first.der().to_vec(), bundle]
}

#[test]
fn no_part_of_a_certificate_is_a_certificate() {
    for octets in corpus() {
        for length in 0..octets.len() {
            assert!(Certificate::from_der(&octets[..length]).is_err());
            assert!(pkcs7::parse(&octets[..length]).is_err());
        }
    }
}

#[test]
fn mutations_of_every_octet_never_panic() {
    for octets in corpus() {
        for place in 0..octets.len() {
            let mut mutant = octets.clone();
            mutant[place] ^= 1 << (place % 8);
            fuzzing::fuzz_certificate(&mutant);
            fuzzing::fuzz_pkcs7(&mutant);
        }
    }
}

#[test]
fn no_octet_of_a_certificate_can_be_changed_unnoticed() {
    let certificate = plain();
    for place in 0..certificate.der().len() {
        let mut mutant = certificate.der().to_vec();
        mutant[place] ^= 0x01;
        let Ok(mutant) = Certificate::from_der(&mutant) else {
            continue;
        };
        assert_ne!(mutant.thumbprint(), certificate.thumbprint());
        let refused = mutant.verify_issued_by(&certificate);
        assert!(refused.is_err(), "octet {place}");
    }
}

#[test]
fn inserted_and_removed_octets_never_panic() {
    for octets in corpus() {
        for place in 0..octets.len() {
            for insert in [&[][..], &[0x00, 0x00], &[0x30, 0x80], &[0xff, 0xff]] {
                let mutant = [&octets[..place], insert, &octets[place + 1..]].concat();
                fuzzing::fuzz_certificate(&mutant);
                fuzzing::fuzz_pkcs7(&mutant);
            }
        }
    }
}

#[test]
fn mutations_of_a_health_statement_never_panic() {
    let statement = HealthStatement {
        mode: AttestationMode::HostKey,
        host_id: HostId::from_bytes([7; 16]),
        issued_at: now(),
        policy_digest: [9; 32],
    };
    let der = statement.to_der().unwrap();
    for place in 0..der.len() {
        for octet in 0..=u8::MAX {
            let mut mutant = der.clone();
            mutant[place] = octet;
            fuzzing::fuzz_health_statement(&mutant);
        }
        assert!(HealthStatement::from_der(&der[..place]).is_err());
        fuzzing::fuzz_health_statement(&[&der[..place], &der[place + 1..]].concat());
    }
}

#[test]
fn mutations_of_texts_never_panic() {
    let certificate = plain();
    let texts = [
        certificate.to_pem(),
        certificate.thumbprint().to_string(),
        "2026-11-21T19:00:00+01:00".to_owned(),
    ];
    for text in texts {
        for place in 0..text.len() {
            for replacement in [0x00, b'\n', b'-', b'9', b'=', 0xc3] {
                let mut mutant = text.clone().into_bytes();
                mutant[place] = replacement;
                fuzzing::fuzz_text(&mutant);
            }
            fuzzing::fuzz_text(&text.as_bytes()[..place]);
        }
    }
}
