//! Certificates that `openssl` made, read by us.

mod common;

use common::openssl::Openssl;
use hgs_crypto::rsa::PublicKeyError;
use hgs_pki::{
    Certificate, CertificateError, KeyUsage, MAX_CERTIFICATE_OCTETS, NotIssued, ObjectIdentifier,
    PemError, Version,
};

fn oid(text: &str) -> ObjectIdentifier {
    ObjectIdentifier::new(text).unwrap()
}

#[test]
fn what_openssl_prints_is_what_we_read() {
    let openssl = Openssl::new();
    let der = openssl.self_signed(
        "all",
        "-subj /C=SE/O=Fabric~A,~Inc./OU=a/CN=node~1 -set_serial 0x00f301 \
         -addext keyUsage=critical,digitalSignature,keyEncipherment \
         -addext extendedKeyUsage=serverAuth,1.3.6.1.4.1.32473.7.1.1 \
         -addext basicConstraints=critical,CA:false \
         -addext 1.3.6.1.4.1.32473.9=critical,DER:0500",
    );
    let certificate = Certificate::from_der(&der).unwrap();
    let print = |what: &str| {
        let printed = openssl.run(&format!(
            "x509 -inform DER -in all.der -noout -nameopt RFC2253 -dateopt iso_8601 {what}"
        ));
        let (_, value) = printed.trim_end().split_once('=').unwrap();
        value.to_owned()
    };
    assert_eq!(certificate.subject(), print("-subject"));
    assert_eq!(certificate.issuer(), print("-issuer"));
    assert_eq!(certificate.serial_number(), [0x00, 0xf3, 0x01]);
    assert_eq!(print("-serial"), "F301");
    let shown = |time: hgs_pki::Time| time.to_string().replace('T', " ");
    assert_eq!(
        shown(certificate.validity().not_before),
        print("-startdate")
    );
    assert_eq!(shown(certificate.validity().not_after), print("-enddate"));
    let sha1 = print("-sha1 -fingerprint").replace(':', "");
    assert_eq!(certificate.sha1_thumbprint(), sha1);
    assert_eq!(
        print("-sha256 -fingerprint").parse(),
        Ok(certificate.thumbprint())
    );

    let usage = KeyUsage::DIGITAL_SIGNATURE | KeyUsage::KEY_ENCIPHERMENT;
    assert_eq!(certificate.key_usage(), Some(usage));
    let purposes = [oid("1.3.6.1.5.5.7.3.1"), oid("1.3.6.1.4.1.32473.7.1.1")];
    assert_eq!(certificate.extended_key_usage(), Some(purposes.as_slice()));
    assert!(!certificate.is_certificate_authority());
    let own = oid("1.3.6.1.4.1.32473.9");
    assert_eq!(certificate.extension(&own), Some((true, [5, 0].as_slice())));
    let unknown: Vec<_> = certificate.unrecognised_critical_extensions().collect();
    assert_eq!(unknown, [&own]);
    assert_eq!(certificate.version(), Version::V3);
    certificate.verify_issued_by(&certificate).unwrap();
}

#[test]
fn version_1_is_accepted() {
    let certificate = Certificate::from_pem(include_str!("data/version-1.pem")).unwrap();
    assert_eq!(certificate.version(), Version::V1);
    assert_eq!(certificate.subject(), "CN=version 1");
    assert!(certificate.extensions().is_empty());
    assert!(!certificate.is_certificate_authority());
    certificate.verify_issued_by(&certificate).unwrap();
}

#[test]
fn keys_other_than_rsa_are_refused_by_name() {
    let openssl = Openssl::new();
    for (algorithm, identifier, name) in [
        (
            "ec -pkeyopt ec_paramgen_curve:P-256",
            "1.2.840.10045.2.1",
            "id-ecPublicKey",
        ),
        ("ed25519", "1.3.101.112", "id-Ed25519"),
        (
            "rsa-pss -pkeyopt rsa_keygen_bits:2048",
            "1.2.840.113549.1.1.10",
            "id-RSASSA-PSS",
        ),
    ] {
        let der = openssl.self_signed("other", &format!("-newkey {algorithm}"));
        let refused = Certificate::from_der(&der).unwrap_err();
        assert_eq!(refused, CertificateError::UnsupportedKey(oid(identifier)));
        assert!(refused.to_string().contains(name), "{refused}");
    }
}

#[test]
fn short_keys_are_refused_with_their_size() {
    let openssl = Openssl::new();
    for bits in [1024, 2040] {
        let der = openssl.self_signed("short", &format!("-newkey rsa:{bits}"));
        let refused = CertificateError::Key(PublicKeyError::ModulusBits(bits));
        assert_eq!(Certificate::from_der(&der), Err(refused));
    }
}

#[test]
fn small_exponents_are_refused() {
    let openssl = Openssl::new();
    let options = "-newkey rsa -pkeyopt rsa_keygen_bits:2048 -pkeyopt rsa_keygen_pubexp:3";
    let der = openssl.self_signed("three", options);
    let refused = CertificateError::Key(PublicKeyError::Exponent);
    assert_eq!(Certificate::from_der(&der), Err(refused));
}

/// attacks.md A11: an empty list of extended key usages made a certificate authority panic.
#[test]
fn a11_empty_extended_key_usage_is_refused() {
    let openssl = Openssl::new();
    let der = openssl.self_signed("empty", "-addext 2.5.29.37=DER:3000");
    let refused = Certificate::from_der(&der);
    assert_eq!(refused, Err(CertificateError::EmptyExtendedKeyUsage));
}

/// attacks.md A18: negative serial numbers broke registrars. They are kept as they are written, so
/// that none is confused with the positive number of the same octets.
#[test]
fn a18_negative_and_zero_serial_numbers_are_kept_apart() {
    let openssl = Openssl::new();
    for (number, octets) in [
        ("-1", [0xff].as_slice()),
        ("255", &[0x00, 0xff]),
        ("-128", &[0x80]),
        ("128", &[0x00, 0x80]),
        ("0", &[0x00]),
    ] {
        let der = openssl.self_signed("serial", &format!("-set_serial {number}"));
        let certificate = Certificate::from_der(&der).unwrap();
        assert_eq!(certificate.serial_number(), octets, "{number}");
    }
}

#[test]
fn extensions_that_lie_about_themselves_are_refused_by_name() {
    let openssl = Openssl::new();
    for (identifier, content) in [
        ("2.5.29.15", "03020700"),
        ("2.5.29.15", "0500"),
        ("2.5.29.19", "30030101"),
        ("2.5.29.19", "300001"),
        ("2.5.29.37", "30020500"),
    ] {
        let der = openssl.self_signed("lie", &format!("-addext {identifier}=DER:{content}"));
        let refused = CertificateError::MalformedExtension(oid(identifier));
        assert_eq!(
            Certificate::from_der(&der),
            Err(refused),
            "{identifier} {content}"
        );
    }
}

#[test]
fn both_rsa_schemes_with_sha_256_verify_and_no_other() {
    let openssl = Openssl::new();
    let pss = "-sigopt rsa_padding_mode:pss";
    let length = "-sigopt rsa_pss_saltlen";
    for (options, accepted) in [
        ("-sha256".to_owned(), true),
        (format!("-sha256 {pss} {length}:32"), true),
        (format!("-sha256 {pss} {length}:20"), false),
        (format!("-sha384 {pss} {length}:48"), false),
        ("-sha384".to_owned(), false),
        ("-sha1".to_owned(), false),
    ] {
        let der = openssl.self_signed("scheme", &options);
        let certificate = Certificate::from_der(&der).unwrap();
        match certificate.verify_issued_by(&certificate) {
            Ok(()) => assert!(accepted, "{options}"),
            Err(NotIssued::UnsupportedAlgorithm(_)) => assert!(!accepted, "{options}"),
            Err(other) => panic!("{options}: {other}"),
        }
    }
}

#[test]
fn a_namesake_is_not_the_issuer() {
    let openssl = Openssl::new();
    let root = openssl.root("root");
    let leaf = openssl.issued("leaf", "root", "");
    leaf.verify_issued_by(&root).unwrap();
    let namesake = openssl.root("root");
    assert_eq!(leaf.verify_issued_by(&namesake), Err(NotIssued::Signature));
    let stranger = openssl.root("stranger");
    let refused = leaf.verify_issued_by(&stranger).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "certificate was issued by CN=root, not by CN=stranger"
    );
}

#[test]
fn octets_after_the_certificate_and_too_many_are_refused() {
    let openssl = Openssl::new();
    let mut der = openssl.self_signed("long", "");
    der.push(0);
    assert_eq!(
        Certificate::from_der(&der),
        Err(CertificateError::TrailingOctets)
    );
    let comment = "A".repeat(2 * MAX_CERTIFICATE_OCTETS);
    let der = openssl.self_signed("long", &format!("-addext nsComment={comment}"));
    let refused = Certificate::from_der(&der);
    assert_eq!(refused, Err(CertificateError::TooLarge(der.len())));
}

#[test]
fn files_as_people_keep_them() {
    let openssl = Openssl::new();
    let first = openssl.root("first");
    let second = openssl.root("second");
    let first_text = openssl.run("x509 -in first.pem -text");
    let key = String::from_utf8(openssl.read("second.key")).unwrap();
    let bundle = format!("\n{first_text}{key}\n{}", second.to_pem()).replace('\n', "\r\n");
    let certificates = Certificate::list_from_pem(&bundle).unwrap();
    assert_eq!(certificates, [first.clone(), second]);
    assert_eq!(
        Certificate::from_pem(&bundle),
        Err(PemError::SeveralCertificates(2))
    );
    assert_eq!(Certificate::from_pem(&first_text), Ok(first.clone()));
    assert_eq!(openssl.run("x509 -in first.pem"), first.to_pem());

    assert_eq!(Certificate::from_pem(&key), Err(PemError::NoCertificate));
    let cut = first_text.replace("-----END CERTIFICATE-----", "");
    assert!(matches!(
        Certificate::from_pem(&cut),
        Err(PemError::Unterminated { .. })
    ));
    let headless = first_text.replace("-----BEGIN CERTIFICATE-----", "");
    for stray in [
        headless.clone(),
        first.to_pem() + &headless,
        headless + &first.to_pem(),
    ] {
        assert!(matches!(
            Certificate::list_from_pem(&stray),
            Err(PemError::NotBegun { .. })
        ));
    }
    let torn = first_text.replace("MII", "M-I");
    assert!(matches!(
        Certificate::from_pem(&torn),
        Err(PemError::Character { character: '-', .. })
    ));
    let many = first.to_pem().repeat(65);
    assert_eq!(
        Certificate::list_from_pem(&many),
        Err(PemError::TooManyCertificates)
    );
}
