//! Health certificates as issued, judged by openssl.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::{
    Registry, host_key, identity_key, request, request_for_signing, service_keys, signer,
};
use hgs_attest::RecordedGrant;
use hgs_attest::issue::{self, DrawnSerialNumber, IssueError, IssuedHealthCertificate};
use hgs_attest::wire::{AttestationRequest, HealthCertificateReply, Reply};
use hgs_crypto::{CryptoError, Random, hex};
use hgs_pki::health::{
    HealthCertificate, HealthKind, HealthValidity, TrustedSigner, TrustedSigners,
};
use hgs_pki::{Certificate, Seconds, issue as certificates};
use hgs_testkit::fixtures::{Keys, Repeatable, now};

fn granted(request: &AttestationRequest) -> RecordedGrant {
    Registry::with_host().grant(request, now()).recorded()
}

fn issued(request: &AttestationRequest) -> IssuedHealthCertificate {
    let serial = DrawnSerialNumber::draw(&mut Repeatable::seeded(1)).unwrap();
    let validity = HealthValidity::default();
    let keys = service_keys();
    issue::issue(granted(request), &signer(), validity, serial, &mut &keys).unwrap()
}

fn openssl(folder: &Path, arguments: &[&str]) -> String {
    let program = hgs_testkit::tool("openssl", "openssl");
    let output = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .env("LC_ALL", "C")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "openssl {arguments:?}: {text}{errors}"
    );
    text
}

fn folder_with(issued: &IssuedHealthCertificate) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("signer.pem"), signer().to_pem()).unwrap();
    let health = issued.certificate();
    fs::write(folder.path().join("health.pem"), health.to_pem()).unwrap();
    fs::write(folder.path().join("health.der"), health.der()).unwrap();
    folder
}

#[test]
fn openssl_verifies_a_health_certificate_under_its_signer_while_it_is_valid() {
    let folder = folder_with(&issued(&request(&host_key(), &identity_key(0))));
    let verify = |seconds: i64| {
        let program = hgs_testkit::tool("openssl", "openssl");
        let when = (now().unix() + seconds).to_string();
        let strictly = ["verify", "-x509_strict", "-check_ss_sig", "-attime", &when];
        let output = Command::new(program)
            .args(strictly)
            .args(["-CAfile", "signer.pem", "health.pem"])
            .current_dir(&folder)
            .output();
        output.unwrap().status.success()
    };
    let eight_hours = 8 * 3600;
    for (seconds, valid) in [
        (-301, false),
        (-299, true),
        (0, true),
        (eight_hours - 1, true),
        (eight_hours + 1, false),
    ] {
        assert_eq!(verify(seconds), valid, "{seconds} seconds after the issue");
    }
}

#[test]
fn openssl_reads_in_a_health_certificate_what_the_profile_says() {
    for (request, purpose, usage) in [
        (
            request(&host_key(), &identity_key(0)),
            "1.3.6.1.4.1.32473.7.1.1",
            "Key Encipherment",
        ),
        (
            request_for_signing(&host_key(), &identity_key(0)),
            "1.3.6.1.4.1.32473.7.1.2",
            "Digital Signature",
        ),
    ] {
        let issued = issued(&request);
        let folder = folder_with(&issued);
        let text = openssl(
            folder.path(),
            &["x509", "-in", "health.pem", "-noout", "-text"],
        );
        let lines: Vec<_> = text.lines().map(str::trim).collect();
        let below = |title: &str| {
            let place = lines.iter().position(|line| *line == title);
            lines[place.unwrap_or_else(|| panic!("no {title}: {text}")) + 1]
        };
        for line in [
            "Version: 3 (0x2)",
            "Signature Algorithm: sha256WithRSAEncryption",
            "Issuer: CN = OpenHGS Attestation Signer",
            "Not Before: Nov 21 18:55:00 2026 GMT",
            "Not After : Nov 22 03:00:00 2026 GMT",
            "Subject: CN = OpenHGS Health Certificate",
            "Public-Key: (2048 bit)",
        ] {
            let spaced = |line: &str| line.replace(" = ", "=");
            let found = lines.iter().any(|found| spaced(found) == spaced(line));
            assert!(found, "no {line}: {text}");
        }
        assert_eq!(below("X509v3 Basic Constraints: critical"), "CA:FALSE");
        assert_eq!(below("X509v3 Key Usage: critical"), usage);
        assert_eq!(below("X509v3 Extended Key Usage:"), purpose);
        assert!(lines.contains(&"1.3.6.1.4.1.32473.7.2.1:"), "{text}");
        let key = openssl(
            folder.path(),
            &["x509", "-in", "health.pem", "-noout", "-pubkey"],
        );
        let base64: String = key.lines().filter(|line| !line.starts_with('-')).collect();
        let identity = identity_key(0);
        let spki = identity.public().spki_der();
        assert_eq!(base64, hgs_crypto::base64::encode(spki));
    }
}

#[test]
fn openssl_reads_the_health_statement_as_the_asn1_of_the_profile() {
    let issued = issued(&request(&host_key(), &identity_key(0)));
    let folder = folder_with(&issued);
    let (_, extension) = issued
        .certificate()
        .extension(&hgs_pki::profile::HEALTH_STATEMENT)
        .unwrap();
    fs::write(folder.path().join("statement.der"), extension).unwrap();
    let arguments = ["asn1parse", "-inform", "DER", "-in", "statement.der"];
    let text = openssl(folder.path(), &arguments);
    let fields: Vec<_> = text
        .lines()
        .map(|line| {
            let (_, field) = line
                .split_once("prim: ")
                .or_else(|| line.split_once("cons: "))
                .unwrap();
            field.split_whitespace().collect::<Vec<_>>().join(" ")
        })
        .collect();
    let policy = hgs_attest::host_key::policy_digest(host_key().public().digest());
    assert_eq!(
        fields,
        [
            "SEQUENCE".to_owned(),
            "INTEGER :01".to_owned(),
            "ENUMERATED :03".to_owned(),
            format!("OCTET STRING [HEX DUMP]:{}", "11".repeat(16)),
            "GENERALIZEDTIME :20261121190000Z".to_owned(),
            format!(
                "OCTET STRING [HEX DUMP]:{}",
                hex::encode(&policy).to_uppercase()
            ),
        ]
    );
}

#[test]
fn what_is_issued_passes_the_checks_of_a_key_service() {
    let issued = issued(&request(&host_key(), &identity_key(0)));
    let Reply::HealthCertificate(HealthCertificateReply { content }) = issued.reply() else {
        panic!("another reply");
    };
    assert_eq!(content.len(), 1);
    assert_eq!(content[0].result_type.number(), 1);
    let certificate = HealthCertificate::from_der(&content[0].octets).unwrap();
    let trusted = TrustedSigners::new(vec![TrustedSigner::own(signer())]);
    let skew = Seconds::new(60);
    let verified = certificate
        .verify(&trusted, HealthKind::Encryption, now(), skew)
        .unwrap();
    assert_eq!(verified.statement(), issued.grant().statement());
    let key = verified.certificate().public_key();
    assert_eq!(key, identity_key(0).public());
}

#[test]
fn serial_numbers_have_sixteen_octets_and_are_positive() {
    let mut random = Repeatable::seeded(7);
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let grant = granted(&request(&host_key(), &identity_key(0)));
        let validity = HealthValidity::default();
        let drawn = DrawnSerialNumber::draw(&mut random).unwrap();
        let recorded = drawn.number();
        let keys = service_keys();
        let certificate = issue::issue(grant, &signer(), validity, drawn, &mut &keys).unwrap();
        let serial = certificate.certificate().serial_number().to_vec();
        assert_eq!(
            hgs_pki::SerialNumber::from_bytes(&serial),
            Ok(recorded),
            "what was recorded is what was issued"
        );
        assert_eq!(serial[0] & 0xc0, 0x40);
        assert!(seen.insert(serial));
    }
}

#[test]
fn nothing_is_issued_without_randomness_or_a_good_signature() {
    struct Broken;
    impl Random for Broken {
        fn fill(&mut self, _: &mut [u8]) -> Result<(), CryptoError> {
            Err(CryptoError)
        }
    }
    let request = request(&host_key(), &identity_key(0));
    let validity = HealthValidity::default();
    let refused = DrawnSerialNumber::draw(&mut Broken);
    assert_eq!(refused.unwrap_err(), IssueError::Randomness);

    let serial = DrawnSerialNumber::draw(&mut Repeatable::seeded(1)).unwrap();
    let mut wrong = Keys::default();
    wrong.hold(&signer(), &host_key());
    let refused = issue::issue(granted(&request), &signer(), validity, serial, &mut &wrong);
    let expected = IssueError::Certificate(certificates::IssueError::Signature);
    assert_eq!(refused, Err(expected));
}

#[test]
fn a_certificate_that_is_no_signer_issues_nothing() {
    let issued = issued(&request(&host_key(), &identity_key(0)));
    let leaf: &Certificate = issued.certificate();
    let grant = granted(&request(&host_key(), &identity_key(1)));
    let serial = DrawnSerialNumber::draw(&mut Repeatable::seeded(1)).unwrap();
    let keys = &mut &Keys::default();
    let refused = issue::issue(grant, leaf, HealthValidity::default(), serial, keys);
    assert!(matches!(
        refused,
        Err(IssueError::Certificate(
            certificates::IssueError::IssuerNotAuthority(_)
        ))
    ));
}
