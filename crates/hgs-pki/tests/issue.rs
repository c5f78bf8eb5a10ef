//! Issuing: what leaves is what was wanted, and what can't be right is not begun.

mod common;

use common::openssl::Openssl;
use common::{issue, key, now, sign, ten_years};
use hgs_crypto::hash;
use hgs_crypto::rsa::PublicKey;
use hgs_pki::endorsement::{EndorsementCertificate, TpmModel};
use hgs_pki::issue::{
    EndorsementSubject, IssueError, Issuer, Template, prepare, prepare_endorsement,
};
use hgs_pki::{
    Certificate, Extension, KeyUsage, NotIssued, ObjectIdentifier, Seconds, Time, TlsCertificate,
    Validity, profile,
};
use proptest::prelude::*;

fn refusal(template: Template) -> IssueError {
    prepare(template, key("own").public(), Issuer::SelfSigned, [7; 16]).unwrap_err()
}

#[test]
fn self_signed_and_issued_certificates_verify_under_their_issuers() {
    let signer_key = key("signer");
    let template = profile::attestation_signer(ten_years());
    let signer = issue(template, &signer_key, Issuer::SelfSigned, &signer_key);
    assert_eq!(signer.subject(), "CN=OpenHGS Attestation Signer");
    assert!(signer.is_certificate_authority());
    assert!(signer.validity().contains(now()));
    signer.verify_issued_by(&signer).unwrap();

    let host_key = key("host");
    let template = profile::host_key("node-1", ten_years());
    let host = issue(
        template,
        &host_key,
        Issuer::Certificate(&signer),
        &signer_key,
    );
    assert_eq!(host.issuer(), signer.subject());
    assert_eq!(host.key_usage(), Some(KeyUsage::DIGITAL_SIGNATURE));
    assert_eq!(host.public_key(), host_key.public());
    host.verify_issued_by(&signer).unwrap();
    let refused = signer.verify_issued_by(&host).unwrap_err();
    assert!(matches!(refused, NotIssued::Name { .. }), "{refused}");
    assert_eq!(Certificate::from_der(host.der()), Ok(host));
}

#[test]
fn a_signature_by_another_key_or_over_something_else_issues_nothing() {
    let prepared = || {
        let template = profile::guardian_signing("fabric", ten_years());
        prepare(template, key("own").public(), Issuer::SelfSigned, [7; 16]).unwrap()
    };
    let foreign = sign(&key("host"), prepared().to_be_signed());
    assert_eq!(prepared().assemble(&foreign), Err(IssueError::Signature));
    let elsewhere = sign(&key("own"), b"something else");
    assert_eq!(prepared().assemble(&elsewhere), Err(IssueError::Signature));
    assert_eq!(prepared().assemble(b""), Err(IssueError::Signature));
    let good = sign(&key("own"), prepared().to_be_signed());
    assert!(prepared().assemble(&good).is_ok());
}

#[test]
fn the_endorsement_of_a_tpm_is_issued_by_an_authority_with_its_own_signature_only() {
    let authority_key = key("signer");
    let template = profile::endorsement_authority("vm", ten_years());
    let authority = issue(template, &authority_key, Issuer::SelfSigned, &authority_key);
    assert!(authority.is_certificate_authority());
    let model = TpmModel {
        manufacturer: Some("id:494E5443".to_owned()),
        model: Some("Model 7".to_owned()),
        version: Some("id:00020008".to_owned()),
    };
    let rsa = EndorsementSubject::Rsa(key("host").public().clone());
    let openssl = Openssl::new();
    openssl.run("ecparam -name secp384r1 -genkey -noout -out p384.key");
    openssl.run("ec -in p384.key -pubout -outform DER -out p384.der");
    let spki = openssl.read("p384.der");
    let [.., 4] = spki[..spki.len() - 96] else {
        panic!("no uncompressed point");
    };
    let (x, y) = spki[spki.len() - 96..].split_at(48);
    let (x, y) = (x.try_into().unwrap(), y.try_into().unwrap());
    for subject in [rsa, EndorsementSubject::P384 { x, y }] {
        let prepared = || {
            let subject = subject.clone();
            prepare_endorsement("vm", &model, ten_years(), subject, &authority, [7; 16]).unwrap()
        };
        let foreign = sign(&key("host"), prepared().to_be_signed());
        assert_eq!(prepared().assemble(&foreign), Err(IssueError::Signature));
        let elsewhere = sign(&authority_key, b"something else");
        assert_eq!(prepared().assemble(&elsewhere), Err(IssueError::Signature));
        let good = sign(&authority_key, prepared().to_be_signed());
        let der = prepared().assemble(&good).unwrap();
        let read = TlsCertificate::from_der(&der).unwrap();
        assert_eq!(read.validity, ten_years());
        assert!(!read.is_certificate_authority);
        openssl.write("endorsement.der", &der);
        let printed = openssl.run("x509 -in endorsement.der -noout -ext extendedKeyUsage -pubkey");
        // tcg-kp-EKCertificate.
        assert!(printed.contains("2.23.133.8.1"), "{printed}");
        if let EndorsementSubject::P384 { .. } = &subject {
            let public = openssl.run("ec -in p384.key -pubout");
            assert!(printed.contains(&public), "{printed}");
        }
        if let EndorsementSubject::Rsa(key) = &subject {
            let read = EndorsementCertificate::from_octets(&der).unwrap();
            assert_eq!((read.public_key(), read.tpm()), (key, &model));
        }
    }
    let leaf = profile::host_key("node", ten_years());
    let leaf = issue(leaf, &authority_key, Issuer::SelfSigned, &authority_key);
    let subject = EndorsementSubject::P384 { x, y };
    let refused = prepare_endorsement("vm", &model, ten_years(), subject, &leaf, [7; 16]);
    let name = leaf.subject().to_owned();
    assert_eq!(refused.unwrap_err(), IssueError::IssuerNotAuthority(name));
}

#[test]
fn authorities_are_authorities_over_leaves_only() {
    for template in [
        profile::attestation_signer(ten_years()),
        profile::one_time_authority(ten_years()),
        profile::migration_authority(ten_years()),
        profile::cluster_authority("Nodes", "hgs.example", ten_years()),
        profile::endorsement_authority("vm", ten_years()),
    ] {
        let own = key("own");
        let authority = issue(template, &own, Issuer::SelfSigned, &own);
        assert!(authority.is_certificate_authority());
        let (critical, constraints) = authority.extension(&profile::BASIC_CONSTRAINTS).unwrap();
        assert!(critical);
        // An authority, and no authority below it.
        assert_eq!(constraints, [0x30, 6, 1, 1, 0xff, 2, 1, 0]);
        assert!(authority.allows(KeyUsage::KEY_CERT_SIGN));
    }
}

#[test]
fn only_authorities_issue() {
    let key = key("own");
    let template = profile::guardian_signing("fabric", ten_years());
    let leaf = issue(template, &key, Issuer::SelfSigned, &key);
    let template = profile::host_key("node", ten_years());
    let refused = prepare(template, key.public(), Issuer::Certificate(&leaf), [7; 16]).unwrap_err();
    assert_eq!(
        refused,
        IssueError::IssuerNotAuthority(leaf.subject().to_owned())
    );
}

#[test]
fn impossible_templates_are_refused_by_name() {
    let good = profile::guardian_signing("fabric", ten_years());
    for (name, characters) in [(String::new(), 0), ("ä".repeat(65), 65)] {
        let template = Template {
            common_name: name,
            ..good.clone()
        };
        assert_eq!(refusal(template), IssueError::CommonName(characters));
    }
    let longest = Template {
        common_name: "ä".repeat(64),
        ..good.clone()
    };
    assert!(prepare(longest, key("own").public(), Issuer::SelfSigned, [7; 16]).is_ok());

    let second = Seconds::new(1);
    let before = now().checked_sub(second).unwrap();
    let backwards = Validity {
        not_before: now(),
        not_after: before,
    };
    let ancient = Validity {
        not_before: Time::from_unix(-1),
        not_after: now(),
    };
    for validity in [backwards, ancient] {
        let template = Template {
            validity,
            ..good.clone()
        };
        assert_eq!(refusal(template), IssueError::Validity(validity));
    }
    let one_second = Validity {
        not_before: now(),
        not_after: now(),
    };
    let template = Template {
        validity: one_second,
        ..good.clone()
    };
    assert!(prepare(template, key("own").public(), Issuer::SelfSigned, [7; 16]).is_ok());

    let oid = ObjectIdentifier::new("1.3.6.1.4.1.32473.9").unwrap();
    for (repeated, extensions) in [
        (oid, vec![oid, oid]),
        (profile::KEY_USAGE, vec![profile::KEY_USAGE]),
    ] {
        let extension = |oid| Extension {
            oid,
            critical: false,
            der: vec![5, 0],
        };
        let extensions = extensions.into_iter().map(extension).collect();
        let template = Template {
            extensions,
            ..good.clone()
        };
        assert_eq!(refusal(template), IssueError::DuplicateExtension(repeated));
    }
}

#[test]
fn keys_are_identified_as_rfc_7093_has_it() {
    let template = profile::attestation_signer(ten_years());
    let signer = issue(template, &key("signer"), Issuer::SelfSigned, &key("signer"));
    let template = profile::host_key("node-1", ten_years());
    let host = issue(
        template,
        &key("host"),
        Issuer::Certificate(&signer),
        &key("signer"),
    );
    let openssl = Openssl::new();
    let identifier = |key: &PublicKey| {
        openssl.write("key.der", key.spki_der());
        openssl.run(
            "rsa -pubin -inform DER -in key.der -RSAPublicKey_out -outform DER -out pkcs1.der",
        );
        let digest = hash::sha256(&openssl.read("pkcs1.der"));
        let octets = digest[..20].iter().map(|octet| format!("{octet:02X}"));
        octets.collect::<Vec<_>>().join(":")
    };
    openssl.write("host.der", host.der());
    let printed =
        |extension: &str| openssl.run(&format!("x509 -in host.der -noout -ext {extension}"));
    let subject = printed("subjectKeyIdentifier");
    assert!(
        subject.contains(&identifier(host.public_key())),
        "{subject}"
    );
    let authority = printed("authorityKeyIdentifier");
    assert!(
        authority.contains(&identifier(signer.public_key())),
        "{authority}"
    );
}

#[test]
fn serial_numbers_are_positive_and_have_sixteen_octets() {
    for (drawn, first) in [([0x00; 16], 0x40), ([0xff; 16], 0x7f), ([0x80; 16], 0x40)] {
        let key = key("own");
        let template = profile::guardian_signing("fabric", ten_years());
        let prepared = prepare(template, key.public(), Issuer::SelfSigned, drawn).unwrap();
        let signature = sign(&key, prepared.to_be_signed());
        let certificate = prepared.assemble(&signature).unwrap();
        let [head, tail @ ..] = certificate.serial_number() else {
            panic!("no serial number");
        };
        assert_eq!((*head, tail), (first, &drawn[1..]));
    }
}

#[test]
fn names_can_not_act_on_a_terminal() {
    let key = key("own");
    let mut template = profile::guardian_signing("", ten_years());
    template.common_name = "a\u{1b}[2J\u{202e}b\u{85}\n, ü".to_owned();
    let certificate = issue(template, &key, Issuer::SelfSigned, &key);
    let expected = r"CN=a\1b[2J\e2\80\aeb\c2\85\0a\, ü";
    assert_eq!(certificate.subject(), expected);
    assert_eq!(certificate.issuer(), expected);
}

#[test]
fn debug_is_short() {
    let key = key("own");
    let template = profile::guardian_signing("fabric", ten_years());
    let certificate = issue(template, &key, Issuer::SelfSigned, &key);
    let expected = format!(
        "Certificate(CN=OpenHGS Guardian Signing (fabric), {})",
        certificate.thumbprint()
    );
    assert_eq!(format!("{certificate:?}"), expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// `assemble` compares what it reads with the template, so that this holds is all there is.
    #[test]
    fn any_possible_template_is_issued_as_it_is(
        common_name in "\\PC{1,64}",
        begin in 0..Time::MAX.unix(),
        length in 0..Time::MAX.unix(),
        usage in 1..128_u8,
        purposes in prop::collection::vec(1..1_000_000_u32, 0..5),
        certificate_authority in any::<bool>(),
        content in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let usages = [
            KeyUsage::DIGITAL_SIGNATURE,
            KeyUsage::NON_REPUDIATION,
            KeyUsage::KEY_ENCIPHERMENT,
            KeyUsage::DATA_ENCIPHERMENT,
            KeyUsage::KEY_AGREEMENT,
            KeyUsage::KEY_CERT_SIGN,
            KeyUsage::CRL_SIGN,
        ];
        let chosen = usages.into_iter().enumerate().filter(|(bit, _)| usage >> bit & 1 == 1);
        let oid = |last: &u32| ObjectIdentifier::new(&format!("1.3.6.1.4.1.32473.{last}")).unwrap();
        let template = Template {
            common_name,
            validity: Validity {
                not_before: Time::from_unix(begin),
                not_after: Time::from_unix(begin.saturating_add(length)),
            },
            key_usage: chosen.map(|(_, usage)| usage).reduce(|a, b| a | b).unwrap(),
            extended_key_usage: purposes.iter().map(oid).collect(),
            certificate_authority,
            extensions: vec![Extension { oid: oid(&9), critical: true, der: content }],
        };
        let key = key("own");
        let certificate = issue(template.clone(), &key, Issuer::SelfSigned, &key);
        prop_assert_eq!(certificate.validity(), template.validity);
        prop_assert_eq!(certificate.extensions().last(), template.extensions.last());
    }
}
