//! attacks.md A16: one certificate taken for another. Each confusion is made, and refused by its own check.

mod common;

use common::{issue, key, now, sign};
use const_oid::ObjectIdentifier;
use const_oid::db::rfc5280::{
    ID_CE_BASIC_CONSTRAINTS, ID_CE_EXT_KEY_USAGE, ID_CE_NAME_CONSTRAINTS,
};
use hgs_crypto::rsa::{PrivateKey, PublicKey, PublicKeyError, Weakness};
use hgs_pki::health::{
    AttestationMode, HealthCertificate, HealthCertificateError as Error, HealthKind,
    HealthStatement, HealthValidity, HostId, StatementError, TrustedSigner, TrustedSigners,
    VerifiedHealthCertificate, template,
};
use hgs_pki::issue::{Issuer, Template, prepare};
use hgs_pki::profile::{HEALTH_ENCRYPTION, HEALTH_SIGNING, HEALTH_STATEMENT};
use hgs_pki::{
    Certificate, CertificateCache, CertificateError, Extension, KeyUsage, Seconds, SignatureCache,
    Time, Validity, profile,
};

const SKEW: Seconds = Seconds::new(60);

#[test]
fn kinds_and_modes_are_read_by_their_names() {
    for kind in HealthKind::ALL {
        assert_eq!(kind.name().parse(), Ok(kind));
    }
    assert!("both".parse::<HealthKind>().is_err());
    for mode in AttestationMode::ALL {
        assert_eq!(mode.name().parse(), Ok(mode));
    }
    assert!("hyper-v".parse::<AttestationMode>().is_err());
}

fn statement() -> HealthStatement {
    HealthStatement {
        mode: AttestationMode::HostKey,
        host_id: HostId::from_bytes([7; 16]),
        issued_at: now(),
        policy_digest: [9; 32],
    }
}

fn good() -> Template {
    let validity = HealthValidity::default();
    template(HealthKind::Encryption, &statement(), validity).unwrap()
}

fn signer_with(key: &PrivateKey) -> Certificate {
    let validity = Validity {
        not_before: now().checked_sub(Seconds::from_days(30)).unwrap(),
        not_after: now().checked_add(Seconds::from_days(335)).unwrap(),
    };
    let template = profile::attestation_signer(validity);
    issue(template, key, Issuer::SelfSigned, key)
}

fn signer() -> Certificate {
    signer_with(&key("signer"))
}

fn trusted() -> TrustedSigners {
    TrustedSigners::new(vec![TrustedSigner::own(signer())])
}

/// Signed by the signer's key, whatever the template says, and not read again as issuing would.
fn forge(template: Template) -> Vec<u8> {
    forge_over(key("host").public(), template)
}

fn forge_over(public: &PublicKey, template: Template) -> Vec<u8> {
    let signer = signer();
    let issuer = Issuer::Certificate(&signer);
    let prepared = prepare(template, public, issuer, [0x5a; 16]).unwrap();
    let signature = sign(&key("signer"), prepared.to_be_signed());
    let algorithm = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b\x05\x00";
    let mut bits = vec![0];
    bits.extend(signature);
    let parts = [prepared.to_be_signed(), algorithm, &tlv(0x03, &bits)].concat();
    tlv(0x30, &parts)
}

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut octets = match u8::try_from(length) {
        Ok(short) if short < 0x80 => vec![tag, short],
        _ => {
            let [.., high, low] = length.to_be_bytes();
            vec![tag, 0x82, high, low]
        }
    };
    octets.extend(content);
    octets
}

fn verify_at(der: &[u8], now: Time) -> Result<VerifiedHealthCertificate, Error> {
    let certificate = HealthCertificate::from_der(der)?;
    certificate.verify(&trusted(), HealthKind::Encryption, now, SKEW)
}

fn verify(der: &[u8]) -> Result<VerifiedHealthCertificate, Error> {
    verify_at(der, now())
}

fn refused(template: Template) -> Error {
    verify(&forge(template)).unwrap_err()
}

fn after(seconds: u64) -> Time {
    now().checked_add(Seconds::new(seconds)).unwrap()
}

fn issued_at(time: Time) -> Template {
    let statement = HealthStatement {
        issued_at: time,
        ..statement()
    };
    template(
        HealthKind::Encryption,
        &statement,
        HealthValidity::default(),
    )
    .unwrap()
}

#[test]
fn a_health_certificate_as_issued_passes_every_check() {
    let signer = signer();
    let issuer = Issuer::Certificate(&signer);
    let certificate = issue(good(), &key("host"), issuer, &key("signer"));
    assert_eq!(forge(good()), certificate.der());
    let verified = verify(certificate.der()).unwrap();
    assert_eq!(verified.certificate(), &certificate);
    assert_eq!(verified.statement(), &statement());
    assert_eq!(verified.kind(), HealthKind::Encryption);
    assert_eq!(verified.signer(), signer.thumbprint());
    assert!(verified.is_from_own_signer());
}

#[test]
fn a_cached_verification_says_the_same_and_verifies_once() {
    let der = forge(good());
    let cache = SignatureCache::new(8);
    for _ in 0..3 {
        let certificate = HealthCertificate::from_der(&der).unwrap();
        let cached =
            certificate.verify_cached(&trusted(), HealthKind::Encryption, now(), SKEW, &cache);
        assert_eq!(cached, verify(&der));
    }
    assert_eq!(cache.misses(), 1);
}

#[test]
fn a16_health_certificate_confusion_signing_instead_of_encryption() {
    let expected = HealthKind::Encryption;
    let validity = HealthValidity::default();
    let signing = template(HealthKind::Signing, &statement(), validity).unwrap();
    let der = forge(signing.clone());
    assert_eq!(verify(&der), Err(Error::Purpose { expected }));

    let certificate = HealthCertificate::from_der(&der).unwrap();
    let verified = certificate.verify(&trusted(), HealthKind::Signing, now(), SKEW);
    assert_eq!(verified.unwrap().kind(), HealthKind::Signing);

    let encryption = HealthCertificate::from_der(&forge(good())).unwrap();
    let expected = HealthKind::Signing;
    assert_eq!(
        encryption.verify(&trusted(), expected, now(), SKEW),
        Err(Error::Purpose { expected })
    );
}

#[test]
fn a16_health_certificate_confusion_key_usage_of_the_other_kind() {
    let expected = HealthKind::Encryption;
    let template = Template {
        key_usage: KeyUsage::DIGITAL_SIGNATURE,
        ..good()
    };
    assert_eq!(refused(template), Error::KeyUsage { expected });
}

#[test]
fn a16_health_certificate_confusion_certificate_authority_instead_of_leaf() {
    let template = Template {
        certificate_authority: true,
        ..good()
    };
    assert_eq!(refused(template), Error::CertificateAuthority);
}

#[test]
fn a16_health_certificate_confusion_signer_of_another_cluster() {
    let other = signer_with(&key("other signer"));
    assert_eq!(other.subject(), signer().subject());
    let certificate = issue(
        good(),
        &key("host"),
        Issuer::Certificate(&other),
        &key("other signer"),
    );
    assert_eq!(verify(certificate.der()), Err(Error::UntrustedIssuer));
}

#[test]
fn a16_health_certificate_confusion_issued_by_itself() {
    let template = good();
    let host = key("host");
    let certificate = issue(template, &host, Issuer::SelfSigned, &host);
    assert_eq!(verify(certificate.der()), Err(Error::UntrustedIssuer));
}

#[test]
fn a16_health_certificate_confusion_signer_itself() {
    assert_eq!(verify(signer().der()), Err(Error::IsSigner));
}

#[test]
fn a16_health_certificate_confusion_health_certificate_over_the_signers_key() {
    let signer = signer();
    let issuer = Issuer::Certificate(&signer);
    let certificate = issue(good(), &key("signer"), issuer, &key("signer"));
    assert_eq!(verify(certificate.der()), Err(Error::IsSigner));
}

#[test]
fn a16_health_certificate_confusion_issued_by_a_health_certificate() {
    let signer = signer();
    let health = Certificate::from_der(&forge(Template {
        certificate_authority: true,
        key_usage: KeyUsage::KEY_CERT_SIGN,
        ..good()
    }))
    .unwrap();
    let below = issue(
        good(),
        &key("other host"),
        Issuer::Certificate(&health),
        &key("host"),
    );
    assert_eq!(health.issuer(), signer.subject());
    assert_eq!(verify(below.der()), Err(Error::UntrustedIssuer));
}

#[test]
fn a16_health_certificate_confusion_expired() {
    let der = forge(good());
    let not_after = after(8 * 3600);
    assert!(verify_at(&der, not_after).is_ok());
    // The skew is not granted at the end.
    let now = after(8 * 3600 + 1);
    assert_eq!(verify_at(&der, now), Err(Error::Expired { not_after, now }));
}

/// Check 2 comes before all that the certificate itself says.
#[test]
fn a16_health_certificate_confusion_of_a_signer_that_has_ended() {
    let der = forge(good());
    let not_after = signer().validity().not_after;
    let now = not_after.checked_add(Seconds::new(1)).unwrap();
    assert_eq!(
        verify_at(&der, now),
        Err(Error::SignerExpired { not_after, now })
    );
    let in_its_last_second = verify_at(&der, not_after);
    assert!(matches!(in_its_last_second, Err(Error::Expired { .. })));
}

#[test]
fn a16_health_certificate_confusion_not_yet_valid() {
    assert!(verify(&forge(issued_at(after(60)))).is_ok());
    let begins = |not_before| Template {
        validity: Validity {
            not_before,
            ..good().validity
        },
        ..good()
    };
    assert!(verify(&forge(begins(after(60)))).is_ok());
    let not_before = after(61);
    let now = now();
    let late = refused(begins(not_before));
    assert_eq!(late, Error::NotYetValid { not_before, now });
}

#[test]
fn a16_health_certificate_confusion_issued_in_the_future() {
    let now = now();
    let issued_at_time = after(61);
    assert_eq!(
        refused(issued_at(issued_at_time)),
        Error::IssuedInTheFuture {
            issued_at: issued_at_time,
            now
        }
    );
}

/// A statement that was changed after the signature, at every octet of the extension.
#[test]
fn a16_health_certificate_confusion_tampered_extension() {
    let der = forge(good());
    let statement = statement().to_der().unwrap();
    let start = der
        .windows(statement.len())
        .position(|window| window == statement)
        .unwrap();
    for offset in start..start + statement.len() {
        let mut tampered = der.clone();
        tampered[offset] ^= 1;
        assert_eq!(verify(&tampered), Err(Error::UntrustedIssuer), "{offset}");
    }
}

#[test]
fn a16_health_certificate_confusion_empty_extended_key_usage() {
    let mut template = good();
    template.extended_key_usage.clear();
    template.extensions.push(Extension {
        oid: ID_CE_EXT_KEY_USAGE,
        critical: false,
        der: vec![0x30, 0],
    });
    let expected = CertificateError::EmptyExtendedKeyUsage;
    assert_eq!(refused(template), Error::Certificate(expected));
}

#[test]
fn a16_health_certificate_confusion_no_extended_key_usage() {
    let mut template = good();
    template.extended_key_usage.clear();
    let expected = HealthKind::Encryption;
    assert_eq!(refused(template), Error::Purpose { expected });
}

#[test]
fn a16_health_certificate_confusion_several_extended_key_usages() {
    let expected = HealthKind::Encryption;
    for purposes in [
        vec![HEALTH_ENCRYPTION, HEALTH_SIGNING],
        vec![HEALTH_SIGNING, HEALTH_ENCRYPTION],
        vec![HEALTH_ENCRYPTION, HEALTH_ENCRYPTION],
    ] {
        let template = Template {
            extended_key_usage: purposes,
            ..good()
        };
        assert_eq!(refused(template), Error::Purpose { expected });
    }
}

#[test]
fn a16_health_certificate_confusion_missing_statement() {
    let template = Template {
        extensions: Vec::new(),
        ..good()
    };
    assert_eq!(refused(template), Error::NoStatement);
}

#[test]
fn a16_health_certificate_confusion_malformed_statement() {
    let with = |der: Vec<u8>| {
        let mut template = good();
        template.extensions[0].der = der;
        match refused(template) {
            Error::Statement(error) => error,
            other => panic!("{other}"),
        }
    };
    let good = statement().to_der().unwrap();
    let replaced = |from: &[u8], to: &[u8]| {
        let at = good.windows(from.len()).position(|w| w == from).unwrap();
        let mut content = good[2..].to_vec();
        content.splice(at - 2..at - 2 + from.len(), to.iter().copied());
        tlv(0x30, &content)
    };
    assert_eq!(replaced(b"2026", b"2026"), good);

    let host_id = tlv(4, &[7; 16]);
    let digest = tlv(4, &[9; 32]);
    assert_eq!(
        with(replaced(&[2, 1, 1], &[2, 1, 2])),
        StatementError::Version(2)
    );
    assert_eq!(
        with(replaced(&host_id, &tlv(4, &[7; 17]))),
        StatementError::HostId(17)
    );
    assert_eq!(
        with(replaced(&digest, &tlv(4, &[9; 31]))),
        StatementError::PolicyDigest(31)
    );
    for malformed in [
        Vec::new(),
        [&good[..], &[0]].concat(),
        good[..good.len() - 1].to_vec(),
        replaced(&[10, 1, 3], &[10, 1, 4]),
        replaced(&[10, 1, 3], &[2, 1, 3]),
        replaced(b"1121190000Z", b"1321190000Z"),
        replaced(b"\x18\x0f20261121190000Z", b"\x18\x0f20261121190000z"),
        replaced(b"\x18\x0f20261121190000Z", b"\x18\x1120261121190000.0Z"),
        replaced(b"\x18\x0f20261121190000Z", b"\x17\x0d261121190000Z"),
        replaced(&digest, &[&digest[..], &[5, 0]].concat()),
    ] {
        let error = with(malformed.clone());
        assert!(
            matches!(error, StatementError::Malformed(_)),
            "{malformed:02x?}: {error}"
        );
    }
}

#[test]
fn a16_health_certificate_confusion_unknown_critical_extension() {
    let unknown = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.32473.9");
    for oid in [unknown, ID_CE_NAME_CONSTRAINTS] {
        let mut template = good();
        template.extensions.push(Extension {
            oid,
            critical: true,
            der: vec![0x30, 0],
        });
        assert_eq!(refused(template), Error::CriticalExtension(oid));
    }
    let mut template = good();
    template.extensions[0].critical = true;
    let expected = Error::CriticalExtension(HEALTH_STATEMENT);
    assert_eq!(refused(template), expected);

    let mut template = good();
    template.extensions.push(Extension {
        oid: unknown,
        critical: false,
        der: vec![0x30, 0],
    });
    assert!(verify(&forge(template)).is_ok());
}

#[test]
fn a16_health_certificate_confusion_no_basic_constraints_or_an_old_version() {
    // The encoder has no way to leave basic constraints out, so their identifier is made another of the same length.
    let der = forge(good());
    let oid = ID_CE_BASIC_CONSTRAINTS.as_bytes();
    let at = der.windows(oid.len()).position(|w| w == oid).unwrap();
    let mut to_be_signed = der[4..].to_vec();
    let length = usize::from(to_be_signed[2]) << 8 | usize::from(to_be_signed[3]);
    to_be_signed.truncate(4 + length);
    to_be_signed[at - 4 + oid.len() - 1] = 99;
    let certificate = resigned(&to_be_signed);
    assert_eq!(verify(&certificate), Err(Error::NoBasicConstraints));

    // Version 1 has no extensions: everything after the subject's key goes, and so does the version itself.
    let host = key("host");
    let spki = host.public().spki_der();
    let spki_at = to_be_signed
        .windows(spki.len())
        .position(|w| w == spki)
        .unwrap();
    let content = &to_be_signed[4 + 5..spki_at + spki.len()];
    let certificate = resigned(&tlv(0x30, content));
    assert_eq!(verify(&certificate), Err(Error::Version));
}

fn resigned(to_be_signed: &[u8]) -> Vec<u8> {
    let algorithm = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b\x05\x00";
    let mut bits = vec![0];
    bits.extend(sign(&key("signer"), to_be_signed));
    tlv(0x30, &[to_be_signed, algorithm, &tlv(3, &bits)].concat())
}

#[test]
fn a16_health_certificate_confusion_validity_too_long() {
    let lasting = |seconds| Template {
        validity: Validity {
            not_after: after(seconds),
            ..good().validity
        },
        ..good()
    };
    assert!(verify(&forge(lasting(86_400))).is_ok());
    let found = Seconds::new(86_401);
    let maximum = Seconds::new(86_400);
    assert_eq!(
        refused(lasting(86_401)),
        Error::ValidityTooLong { found, maximum }
    );
}

#[test]
fn a16_health_certificate_confusion_validity_longer_than_another_cluster_may_grant() {
    let hour = Seconds::from_hours(1);
    let other = TrustedSigner::of_another_cluster(signer(), hour);
    let trusted = TrustedSigners::new(vec![other]);
    let verify = |template| {
        let certificate = HealthCertificate::from_der(&forge(template)).unwrap();
        certificate.verify(&trusted, HealthKind::Encryption, now(), SKEW)
    };
    let found = Seconds::from_hours(8);
    assert_eq!(
        verify(good()),
        Err(Error::ValidityTooLong {
            found,
            maximum: hour
        })
    );
    let validity = HealthValidity::try_from(hour).unwrap();
    let short = template(HealthKind::Encryption, &statement(), validity).unwrap();
    assert!(!verify(short).unwrap().is_from_own_signer());

    let week = TrustedSigner::of_another_cluster(signer(), Seconds::from_days(7));
    let trusted = TrustedSigners::new(vec![week]);
    let long = Template {
        validity: Validity {
            not_after: after(86_401),
            ..good().validity
        },
        ..good()
    };
    let certificate = HealthCertificate::from_der(&forge(long)).unwrap();
    assert!(matches!(
        certificate.verify(&trusted, HealthKind::Encryption, now(), SKEW),
        Err(Error::ValidityTooLong { .. })
    ));
}

#[test]
fn a16_health_certificate_confusion_deny_before() {
    let denying = |time| {
        let signer = TrustedSigner::own(signer()).denying_before(Some(time));
        let certificate = HealthCertificate::from_der(&forge(good())).unwrap();
        let trusted = TrustedSigners::new(vec![signer]);
        certificate.verify(&trusted, HealthKind::Encryption, now(), SKEW)
    };
    assert!(denying(now()).is_ok());
    let issued_at = now();
    let deny_before = after(1);
    assert_eq!(
        denying(deny_before),
        Err(Error::DeniedBefore {
            issued_at,
            deny_before
        })
    );
}

#[test]
fn a16_health_certificate_confusion_deny_list() {
    let denying = |serial: Vec<u8>| {
        let signer = TrustedSigner::own(signer()).denying(
            [vec![1], serial]
                .map(|octets| hgs_pki::SerialNumber::from_bytes(&octets).unwrap())
                .into_iter()
                .collect::<std::collections::BTreeSet<_>>()
                .into(),
        );
        let certificate = HealthCertificate::from_der(&forge(good())).unwrap();
        let trusted = TrustedSigners::new(vec![signer]);
        certificate.verify(&trusted, HealthKind::Encryption, now(), SKEW)
    };
    assert_eq!(denying(vec![0x5a; 16]), Err(Error::Denied));
    assert_eq!(
        denying([&[0; 3][..], &[0x5a; 16]].concat()),
        Err(Error::Denied)
    );
    assert!(denying(vec![0x5a; 15]).is_ok());
}

#[test]
fn a16_health_certificate_confusion_trailing_octets() {
    let mut der = forge(good());
    der.push(0);
    let expected = CertificateError::TrailingOctets;
    assert_eq!(verify(&der), Err(Error::Certificate(expected)));
}

/// The first check that fails is the one that is reported: defects are added from the last check to the first.
#[test]
fn the_checks_have_the_order_of_the_profile() {
    let mut template = good();
    let denied = TrustedSigner::own(signer()).denying_before(Some(after(1)));
    let check = |template: &Template, signers: Vec<TrustedSigner>| {
        let certificate = HealthCertificate::from_der(&forge(template.clone()))?;
        let trusted = TrustedSigners::new(signers);
        certificate.verify(&trusted, HealthKind::Encryption, now(), SKEW)
    };
    let mut found = Vec::new();
    let mut note = |template: &Template, signers| {
        let error = check(template, signers).unwrap_err();
        let name = format!("{error:?}");
        found.push(name.split([' ', '(']).next().unwrap().to_owned());
    };
    note(&template, vec![denied.clone()]);
    template.validity.not_after = after(86_401);
    note(&template, vec![denied.clone()]);
    template.validity.not_before = after(3_600);
    note(&template, vec![denied.clone()]);
    template.extensions.clear();
    note(&template, vec![denied.clone()]);
    template.extended_key_usage = vec![HEALTH_SIGNING];
    note(&template, vec![denied.clone()]);
    template.certificate_authority = true;
    note(&template, vec![denied]);
    note(&template, vec![]);
    template.extended_key_usage.clear();
    template.extensions.push(Extension {
        oid: ID_CE_EXT_KEY_USAGE,
        critical: false,
        der: vec![0x30, 0],
    });
    note(&template, vec![]);
    let expected = [
        "DeniedBefore",
        "ValidityTooLong",
        "NotYetValid",
        "NoStatement",
        "Purpose",
        "CertificateAuthority",
        "UntrustedIssuer",
        "Certificate",
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_statement_before_1970_can_t_be_issued() {
    let statement = HealthStatement {
        issued_at: Time::from_unix(-1),
        ..statement()
    };
    assert!(
        template(
            HealthKind::Encryption,
            &statement,
            HealthValidity::default()
        )
        .is_err()
    );
}

/// attacks.md A17: with a cache, the key is searched for weaknesses once the signer's signature has verified.
#[test]
fn a17_a_weak_key_that_a_signer_has_vouched_for_is_refused() {
    // The modulus stands at the end of a key, before the exponent: 2^2048 - 1, which 3 divides.
    let mut key = key("host").public().spki_der().to_vec();
    let exponent = key.len() - 5;
    key[exponent - 256..exponent].fill(0xff);
    let der = forge_over(&PublicKey::unexamined_from_spki_der(&key).unwrap(), good());
    let cache = CertificateCache::new(2);
    let weak = CertificateError::Key(PublicKeyError::Weak(Weakness::SmallFactor(3)));
    for _ in 0..2 {
        let read = HealthCertificate::from_der_cached(&der, &cache).unwrap();
        let refused = read.verify(&trusted(), HealthKind::Encryption, now(), SKEW);
        assert_eq!(refused, Err(Error::Certificate(weak)));
    }
    assert_eq!(HealthCertificate::from_der(&der).unwrap_err(), weak);
}
