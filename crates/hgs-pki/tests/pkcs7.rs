//! Bundles of certificates, written for `openssl` and read from it.

mod common;

use common::openssl::Openssl;
use common::{issue, key, ten_years};
use hgs_pki::issue::Issuer;
use hgs_pki::pkcs7::{self, Pkcs7Error};
use hgs_pki::{Certificate, CertificateError, profile};

fn certificates() -> Vec<Certificate> {
    let key = key("own");
    ["one", "two", "three"]
        .map(|name| {
            let template = profile::guardian_signing(name, ten_years());
            issue(template, &key, Issuer::SelfSigned, &key)
        })
        .to_vec()
}

fn sorted(mut certificates: Vec<Certificate>) -> Vec<Certificate> {
    certificates.sort_by(|a, b| a.der().cmp(b.der()));
    certificates
}

#[test]
fn openssl_prints_what_we_bundled() {
    let openssl = Openssl::new();
    let wanted = certificates();
    openssl.write("bundle.p7b", pkcs7::certificates_only(&wanted));
    let printed = openssl.run("pkcs7 -inform DER -in bundle.p7b -print_certs");
    let read = Certificate::list_from_pem(&printed).unwrap();
    assert_eq!(sorted(read), sorted(wanted));
    // Written again by openssl it has the same octets: so it was DER.
    openssl.run("pkcs7 -inform DER -in bundle.p7b -outform DER -out again.p7b");
    assert_eq!(openssl.read("again.p7b"), openssl.read("bundle.p7b"));
}

#[test]
fn a_bundle_is_a_set() {
    let certificates = certificates();
    let bundle = pkcs7::certificates_only(&certificates);
    let reversed: Vec<_> = certificates.iter().rev().cloned().collect();
    assert_eq!(pkcs7::certificates_only(&reversed), bundle);
    let repeated = [certificates.clone(), reversed].concat();
    assert_eq!(pkcs7::certificates_only(&repeated), bundle);
    assert_eq!(pkcs7::parse(&bundle), Ok(sorted(certificates)));
    assert_eq!(pkcs7::parse(&pkcs7::certificates_only(&[])), Ok(Vec::new()));
}

#[test]
fn bundles_by_openssl_are_read_in_their_order() {
    let openssl = Openssl::new();
    let (first, second) = (openssl.root("first"), openssl.root("second"));
    openssl
        .run("crl2pkcs7 -nocrl -certfile first.pem -certfile second.pem -outform DER -out plain");
    let plain = openssl.read("plain");
    assert_eq!(
        pkcs7::parse(&plain),
        Ok(vec![first.clone(), second.clone()])
    );

    openssl.write("index.txt", "");
    openssl.write(
        "ca.cnf",
        "[ca]\ndefault_ca=c\n[c]\ndatabase=index.txt\ndefault_md=sha256\ndefault_crl_days=9\n",
    );
    openssl.run("ca -config ca.cnf -gencrl -cert first.pem -keyfile first.key -out list.pem");
    openssl.run("crl2pkcs7 -in list.pem -certfile second.pem -outform DER -out listed");
    assert_eq!(pkcs7::parse(&openssl.read("listed")), Ok(vec![second]));

    openssl.write("none.pem", "");
    openssl.run("crl2pkcs7 -nocrl -certfile none.pem -outform DER -out empty");
    assert_eq!(pkcs7::parse(&openssl.read("empty")), Ok(Vec::new()));
}

#[test]
fn whatever_is_not_only_certificates_is_refused_by_name() {
    let openssl = Openssl::new();
    openssl.root("first");
    openssl.write("message", "hello");
    let refusal = |arguments: &str| {
        openssl.run(&format!("{arguments} -outform DER -out refused"));
        pkcs7::parse(&openssl.read("refused")).unwrap_err()
    };
    for detached in ["", "-nodetach"] {
        let refused = refusal(&format!(
            "cms -sign {detached} -in message -signer first.pem -inkey first.key"
        ));
        assert_eq!(refused, Pkcs7Error::NotCertificatesOnly);
    }
    let refused = refusal("cms -data_create -in message");
    assert_eq!(
        refused.to_string(),
        "PKCS#7 content is 1.2.840.113549.1.7.1, not signed data"
    );

    let der = openssl.self_signed("other", "-newkey ec -pkeyopt ec_paramgen_curve:P-256");
    openssl.run("x509 -inform DER -in other.der -out other.pem");
    let refused = refusal("crl2pkcs7 -nocrl -certfile first.pem -certfile other.pem");
    let error = Certificate::from_der(&der).unwrap_err();
    assert_eq!(refused, Pkcs7Error::Certificate { number: 2, error });
    assert!(matches!(error, CertificateError::UnsupportedKey(_)));
}

/// Signed data without certificates, each part of which can be replaced.
fn signed_data(digest_algorithms: &[u8], content: &[u8], signer_infos: &[u8]) -> Vec<u8> {
    let wrap = |tag: u8, parts: &[&[u8]]| {
        let content = parts.concat();
        [
            &[tag, u8::try_from(content.len()).unwrap()],
            content.as_slice(),
        ]
        .concat()
    };
    let data = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01";
    let signed_data = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02";
    let version = [2, 1, 1].as_slice();
    let signed = [
        version,
        &wrap(0x31, &[digest_algorithms]),
        &wrap(0x30, &[data, content]),
        &wrap(0xa0, &[]),
        &wrap(0x31, &[signer_infos]),
    ]
    .concat();
    wrap(
        0x30,
        &[signed_data, &wrap(0xa0, &[&wrap(0x30, &[&signed])])],
    )
}

#[test]
fn each_trace_of_a_signature_is_enough_to_refuse() {
    let bundle = signed_data(&[], &[], &[]);
    assert_eq!(bundle, pkcs7::certificates_only(&[]));
    for traced in [
        signed_data(&[5, 0], &[], &[]),
        signed_data(&[], &[0xa0, 2, 4, 0], &[]),
        signed_data(&[], &[], &[5, 0]),
    ] {
        assert_eq!(pkcs7::parse(&traced), Err(Pkcs7Error::NotCertificatesOnly));
    }
}

#[test]
fn budgets_have_their_own_errors() {
    let certificates = certificates();
    let mut bundle = pkcs7::certificates_only(&certificates);
    bundle.push(0);
    assert_eq!(pkcs7::parse(&bundle), Err(Pkcs7Error::TrailingOctets));
    let large = vec![0x30; pkcs7::MAX_OCTETS + 1];
    assert_eq!(pkcs7::parse(&large), Err(Pkcs7Error::TooLarge(large.len())));

    let openssl = Openssl::new();
    openssl.write("one.pem", certificates[0].to_pem());
    let many = "-certfile one.pem ".repeat(pkcs7::MAX_CERTIFICATES);
    openssl.run(&format!("crl2pkcs7 -nocrl {many} -outform DER -out full"));
    let full = pkcs7::parse(&openssl.read("full")).unwrap();
    assert_eq!(full.len(), pkcs7::MAX_CERTIFICATES);
    openssl.run(&format!(
        "crl2pkcs7 -nocrl {many} -certfile one.pem -outform DER -out over"
    ));
    let refused = pkcs7::parse(&openssl.read("over"));
    assert_eq!(refused, Err(Pkcs7Error::TooManyCertificates));
}
