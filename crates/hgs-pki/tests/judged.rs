//! What we issue, judged by `openssl`.

mod common;

use common::openssl::Openssl;
use common::{issue, key, now, ten_years};
use hgs_pki::issue::{Issuer, Template};
use hgs_pki::{Certificate, Extension, KeyUsage, profile};

/// The text of a certificate without what differs from run to run.
fn text_of(openssl: &Openssl, certificate: &Certificate) -> String {
    openssl.write("judged.pem", certificate.to_pem());
    let options = "no_header,no_signame,no_sigdump,no_pubkey";
    openssl.run(&format!(
        "x509 -in judged.pem -noout -text -certopt {options} -nameopt RFC2253"
    ))
}

fn self_signed(template: Template) -> Certificate {
    let key = key("own");
    issue(template, &key, Issuer::SelfSigned, &key)
}

#[track_caller]
fn assert_says(text: &str, lines: &[&str]) {
    let squeezed: Vec<&str> = text.lines().map(str::trim).collect();
    for line in lines {
        assert!(squeezed.contains(line), "{line:?} is not in {text}");
    }
}

#[test]
fn guardian_certificates_say_what_the_contract_says() {
    let openssl = Openssl::new();
    let signing = self_signed(profile::guardian_signing("Contoso, \"1\"", ten_years()));
    let text = text_of(&openssl, &signing);
    assert_says(
        &text,
        &[
            "Version: 3 (0x2)",
            "5a:5a:5a:5a:5a:5a:5a:5a:5a:5a:5a:5a:5a:5a:5a:5a",
            r#"Subject: CN=OpenHGS Guardian Signing (Contoso\, \"1\")"#,
            r#"Issuer: CN=OpenHGS Guardian Signing (Contoso\, \"1\")"#,
            "Not Before: Nov 21 19:00:00 2026 GMT",
            "Not After : Nov 20 19:00:00 2036 GMT",
            "X509v3 Basic Constraints: critical",
            "CA:FALSE",
            "X509v3 Key Usage: critical",
            "Digital Signature",
            "X509v3 Subject Key Identifier:",
        ],
    );
    assert!(!text.contains("Extended Key Usage"), "{text}");

    let encryption = self_signed(profile::guardian_encryption("fabric", ten_years()));
    assert_says(
        &text_of(&openssl, &encryption),
        &[
            "Subject: CN=OpenHGS Guardian Encryption (fabric)",
            "X509v3 Key Usage: critical",
            "Key Encipherment, Data Encipherment",
        ],
    );
}

#[test]
fn signer_and_health_certificate_pass_strict_verification() {
    let openssl = Openssl::new();
    let signer_key = key("signer");
    let template = profile::attestation_signer(ten_years());
    let signer = issue(template, &signer_key, Issuer::SelfSigned, &signer_key);
    assert_says(
        &text_of(&openssl, &signer),
        &[
            "Subject: CN=OpenHGS Attestation Signer",
            "CA:TRUE, pathlen:0",
            "Digital Signature, Certificate Sign",
        ],
    );
    let statement = Extension {
        oid: profile::HEALTH_STATEMENT,
        critical: false,
        der: vec![0x30, 0x03, 0x02, 0x01, 0x01],
    };
    let template = Template {
        common_name: "OpenHGS Health Certificate".to_owned(),
        validity: ten_years(),
        key_usage: KeyUsage::KEY_ENCIPHERMENT,
        extended_key_usage: vec![profile::HEALTH_ENCRYPTION],
        certificate_authority: false,
        extensions: vec![statement],
    };
    let issuer = Issuer::Certificate(&signer);
    let health = issue(template, &key("host"), issuer, &signer_key);
    let text = text_of(&openssl, &health);
    assert_says(
        &text,
        &[
            "X509v3 Extended Key Usage:",
            "1.3.6.1.4.1.32473.7.1.1",
            "1.3.6.1.4.1.32473.7.2.1:",
            "X509v3 Authority Key Identifier:",
            "Key Encipherment",
        ],
    );
    let identifier = |text: &str, name: &str| {
        let (_, after) = text.split_once(name).unwrap();
        after.lines().nth(1).unwrap().trim().to_owned()
    };
    let signer_text = text_of(&openssl, &signer);
    assert_eq!(
        identifier(&text, "Authority Key Identifier:"),
        identifier(&signer_text, "Subject Key Identifier:")
    );

    openssl.write("signer.pem", signer.to_pem());
    openssl.write("health.pem", health.to_pem());
    let time = now().unix() + 60;
    let verify = format!("verify -x509_strict -attime {time} -CAfile signer.pem");
    openssl.run(&format!("{verify} signer.pem"));
    openssl.run(&format!("{verify} health.pem"));
    let late = ten_years().not_after.unix() + 1;
    let (accepted, _, complaint) = openssl.attempt(&format!(
        "verify -attime {late} -CAfile signer.pem health.pem"
    ));
    assert!(!accepted && complaint.contains("expired"), "{complaint}");
}

#[test]
fn communications_certificates_name_their_hosts() {
    let openssl = Openssl::new();
    let hosts = ["hgs.example.org", "hgs", "192.0.2.7", "2001:db8::7"];
    let certificate = self_signed(profile::communications(&hosts, ten_years()).unwrap());
    let text = text_of(&openssl, &certificate);
    assert_says(
        &text,
        &[
            "Subject: CN=hgs.example.org",
            "DNS:hgs.example.org, DNS:hgs, IP Address:192.0.2.7, IP Address:2001:DB8:0:0:0:0:0:7",
            "TLS Web Server Authentication",
            "Digital Signature, Key Encipherment",
        ],
    );
    for question in [
        "-checkhost hgs",
        "-checkip 192.0.2.7",
        "-checkip 2001:db8::7",
    ] {
        let answer = openssl.run(&format!("x509 -in judged.pem -noout {question}"));
        assert!(answer.contains("does match certificate"), "{answer}");
    }
    assert!(profile::communications(&[], ten_years()).is_err());
    assert!(profile::communications(&["hgs.exämple.org"], ten_years()).is_err());
}

#[test]
fn host_key_certificates_have_the_purposes_that_windows_asks_for() {
    let openssl = Openssl::new();
    let certificate = self_signed(profile::host_key("node-1", ten_years()));
    assert_says(
        &text_of(&openssl, &certificate),
        &[
            "Subject: CN=OpenHGS Host Key (node-1)",
            "Digital Signature",
            "TLS Web Client Authentication",
        ],
    );
}

#[test]
fn times_after_2049_are_written_so_that_others_read_them() {
    let openssl = Openssl::new();
    let validity = hgs_pki::Validity {
        not_before: "2049-12-31T23:59:59Z".parse().unwrap(),
        not_after: "9999-12-31T23:59:59Z".parse().unwrap(),
    };
    let certificate = self_signed(profile::guardian_signing("late", validity));
    assert_eq!(certificate.validity(), validity);
    assert_says(
        &text_of(&openssl, &certificate),
        &[
            "Not Before: Dec 31 23:59:59 2049 GMT",
            "Not After : Dec 31 23:59:59 9999 GMT",
        ],
    );
}
