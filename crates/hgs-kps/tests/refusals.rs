//! Requests that are refused: what is wrong with them is said once, by name, before a private key is used.

mod common;

use common::{Member, Service, guardian, protector};
use hgs_kps::wire::{MAX_OCTETS, RollTransportKeyRequest};
use hgs_kps::{Code, HostStanding, Reason, Refusal, ServiceVersion};
use hgs_pki::health::{
    self, HealthCertificateError, HealthKind, HealthValidity, TrustedSigner, TrustedSigners,
};
use hgs_pki::{Certificate, Seconds};
use hgs_protector::VerifiedProtector;
use hgs_testkit::fixtures::{
    AttestationSigner, Forge, Host, Keys, encrypted_data, key_octets, now,
};

fn service() -> Service {
    Service::new(&[Member::fabric("fabric").head()])
}

fn ingress() -> VerifiedProtector {
    protector(guardian("owner"), &[guardian("fabric")])
}

fn request() -> RollTransportKeyRequest {
    RollTransportKeyRequest {
        ingress_protector: ingress().octets().to_vec(),
        health_certificate: Host::numbered(0).healthy().der().to_vec(),
        algorithms: Default::default(),
    }
}

#[track_caller]
fn refused(service: &Service, body: &[u8]) -> Refusal {
    let refusal = service.release(body, ServiceVersion::V2).unwrap_err();
    assert_eq!(
        (service.keys.decryptions(), service.keys.signatures()),
        (0, 0),
        "a private key was used"
    );
    refusal
}

#[test]
fn bodies_that_are_no_requests() {
    let service = service();
    let good = String::from_utf8(request().to_xml()).unwrap();
    assert!(service.release(good.as_bytes(), ServiceVersion::V2).is_ok());
    let service = self::service();
    let start = good.find("<HealthCertificate>").unwrap();
    let end = good.find("<TransferKey").unwrap();
    let health = good[start..end].to_owned();
    for body in [
        String::new(),
        "{}".to_owned(),
        good[..good.len() - 1].to_owned(),
        good.clone() + "<a/>",
        "<!DOCTYPE a>".to_owned() + &good,
        good.replace("<HealthCertificate>", "<!-- --><HealthCertificate>"),
        good.replace("<HealthCertificate>", "<?a?><HealthCertificate>"),
        good.replace("2014/07/service", "2014/07"),
        good.replace("RollTransportKeyRequest", "RollTransportKeyResponse"),
        good.replace(
            "<RollTransportKeyRequest ",
            "<RollTransportKeyRequest Version=\"1\" ",
        ),
        good.replace("<IngressProtector>", "<IngressProtector Id=\"1\">"),
        good.replace("<IngressProtector>", "text<IngressProtector>"),
        good.replace("<IngressProtector>", "<IngressProtector><a/>"),
        good.replace("<IngressProtector>", "<IngressProtector>*"),
        good.replace("<IngressProtector>", "<IngressProtector>A"),
        good.replace(&health, ""),
        good.replace(&health, "<HealthCertificate></HealthCertificate>"),
        good.replace(&health, "<HealthCertificate> \n </HealthCertificate>"),
        good.replace(&health, &health.repeat(2)),
        good.replace(
            "</RollTransportKeyRequest>",
            "<a/></RollTransportKeyRequest>",
        ),
    ] {
        let refusal = refused(&service, body.as_bytes());
        assert_eq!(refusal.code(), Code::InvalidRequest, "{refusal}");
        assert!(refusal.facts().host.is_none());
    }
}

#[test]
fn k13_requests_over_a_limit() {
    let good = String::from_utf8(request().to_xml()).unwrap();
    let place = "<HealthCertificate>";
    let attributes: String = (0..40).map(|n| format!(" a{n}=\"\"")).collect();
    for body in [
        good.replace(place, &(" ".repeat(MAX_OCTETS) + place)),
        good.replace(place, &("<a>".repeat(70) + place)),
        good.replace(place, &("<a/>".repeat(20_001) + place)),
        good.replace(place, &format!("<HealthCertificate{attributes}>")),
    ] {
        assert_eq!(
            refused(&service(), body.as_bytes()).code(),
            Code::LimitExceeded
        );
    }
    // A request that fits, around a protector that does not.
    let mut large = request();
    large.ingress_protector.resize(262_145, b' ');
    let refusal = refused(&service(), &large.to_xml());
    assert_eq!(refusal.code(), Code::LimitExceeded);
    assert!(refusal.facts().host.is_some());
}

#[test]
fn algorithms_that_are_not_in_the_suite() {
    let good = String::from_utf8(request().to_xml()).unwrap();
    let kw = "http://www.w3.org/2001/04/xmlenc#kw-aes256";
    for (element, identifier) in [
        ("TransferKey", "http://www.w3.org/2001/04/xmlenc#rsa-1_5"),
        ("TransferKey", kw),
        ("TransferKey", ""),
        ("WrappingKey", "http://www.w3.org/2001/04/xmlenc#aes256-cbc"),
        ("WrappingKey", "http://www.w3.org/2009/xmlenc11#rsa-oaep"),
        ("TransportKeys", kw),
        ("TransportKeys", "none"),
    ] {
        let open = format!("<{element}EncryptionAlgorithm>");
        let start = good.find(&open).unwrap() + open.len();
        let end = good[start..].find('<').unwrap() + start;
        let body = format!("{}{identifier}{}", &good[..start], &good[end..]);
        let refusal = refused(&service(), body.as_bytes());
        assert_eq!(refusal.code(), Code::UnsupportedAlgorithm);
        assert!(refusal.to_string().contains(identifier), "{refusal}");
        // White space around a known one does not count.
        let spaced = format!(
            "{}\n {} \t{}",
            &good[..start],
            &good[start..end],
            &good[end..]
        );
        assert!(
            service()
                .release(spaced.as_bytes(), ServiceVersion::V2)
                .is_ok()
        );
    }
}

/// A request with this health certificate.
fn with(health_certificate: &[u8]) -> Vec<u8> {
    let request = RollTransportKeyRequest {
        health_certificate: health_certificate.to_vec(),
        ..request()
    };
    request.to_xml()
}

#[track_caller]
fn unhealthy(service: &Service, certificate: &[u8]) -> HealthCertificateError {
    let refusal = refused(service, &with(certificate));
    assert_eq!(refusal.code(), Code::HealthCertificate);
    assert!(
        refusal.facts().host.is_none(),
        "an unverified host is not known"
    );
    match refusal.reason() {
        Reason::HealthCertificate(error) => error.clone(),
        other => panic!("{other}"),
    }
}

/// attacks.md A16: one kind of certificate in place of another.
#[test]
fn a16_certificates_of_another_kind() {
    let ours = AttestationSigner::ours();
    let host = Host::numbered(0);
    let signing = ours.health_certificate(&host, HealthKind::Signing, now());
    let expected = HealthKind::Encryption;
    assert_eq!(
        unhealthy(&service(), signing.der()),
        HealthCertificateError::Purpose { expected }
    );
    let guardian = &guardian("fabric").encryption;
    assert_eq!(
        unhealthy(&service(), guardian.der()),
        HealthCertificateError::UntrustedIssuer
    );
    assert_eq!(
        unhealthy(&service(), ours.certificate.der()),
        HealthCertificateError::IsSigner
    );
    let statement = host.statement(now());
    let mut authority = health::template(
        HealthKind::Encryption,
        &statement,
        HealthValidity::default(),
    )
    .unwrap();
    authority.certificate_authority = true;
    assert_eq!(
        unhealthy(&service(), ours.issue(authority, &host.key).der()),
        HealthCertificateError::CertificateAuthority
    );
    assert!(matches!(
        unhealthy(&service(), b"not a certificate"),
        HealthCertificateError::Certificate(_)
    ));
}

#[test]
fn certificates_of_other_signers_and_times() {
    let foreign = AttestationSigner::foreign();
    let host = Host::numbered(0);
    let kind = HealthKind::Encryption;
    let certificate = foreign.health_certificate(&host, kind, now());
    assert_eq!(
        unhealthy(&service(), certificate.der()),
        HealthCertificateError::UntrustedIssuer
    );

    let at = |service: Service, seconds: i64| Service {
        now: hgs_pki::Time::from_unix(now().unix() + seconds),
        ..service
    };
    let good = host.healthy();
    let eight_hours = 8 * 3_600;
    for (seconds, accepted) in [
        (-61, false),
        (-60, true),
        (eight_hours, true),
        (eight_hours + 1, false),
    ] {
        let service = at(service(), seconds);
        if accepted {
            assert!(
                service
                    .release(&with(good.der()), ServiceVersion::V1)
                    .is_ok()
            );
        } else {
            let _ = unhealthy(&service, good.der());
        }
    }
}

#[test]
fn certificates_that_were_tampered_with() {
    let good = Host::numbered(0).healthy().der().to_vec();
    for place in (0..good.len()).step_by(61) {
        let mut tampered = good.clone();
        tampered[place] ^= 1;
        let _ = unhealthy(&service(), &tampered);
    }
}

#[test]
fn certificates_from_before_the_deny_date() {
    let ours = AttestationSigner::ours().certificate;
    let later = now().checked_add(Seconds::new(1));
    let service = Service {
        signers: TrustedSigners::new(vec![TrustedSigner::own(ours).denying_before(later)]),
        ..service()
    };
    let error = unhealthy(&service, Host::numbered(0).healthy().der());
    assert!(matches!(error, HealthCertificateError::DeniedBefore { .. }));
}

#[test]
fn revoked_and_removed_hosts() {
    let host = Host::numbered(0);
    for (standing, reason) in [
        (HostStanding::Revoked, Reason::HostRevoked),
        (HostStanding::Unknown, Reason::HostNotRegistered),
    ] {
        let mut service = service();
        service.hosts.insert(host.id, standing);
        let refusal = refused(&service, &request().to_xml());
        assert_eq!(refusal.code(), Code::HostRevoked);
        assert_eq!(refusal.reason(), &reason);
        let known = refusal.facts().host.as_ref().unwrap();
        assert_eq!(known.statement().host_id, host.id);
    }
}

/// The registry knows our own hosts only: those of another cluster are that cluster's to revoke.
#[test]
fn hosts_of_another_cluster_are_not_in_our_registry() {
    let foreign = AttestationSigner::foreign();
    let certificate: Certificate =
        foreign.health_certificate(&Host::numbered(1), HealthKind::Encryption, now());
    let trusted = TrustedSigner::of_another_cluster(foreign.certificate, Seconds::from_hours(8));
    let mut service = Service {
        signers: TrustedSigners::new(vec![trusted]),
        ..service()
    };
    service.hosts.clear();
    let release = service
        .release(&with(certificate.der()), ServiceVersion::V2)
        .unwrap();
    assert!(!release.facts().host.is_from_own_signer());

    // Unless its host key is barred here: the policy digest names it in every cluster.
    let policy = release.facts().host.statement().policy_digest;
    service.barred.insert(policy);
    service.keys = Keys::of(&[guardian("fabric")]);
    let refusal = refused(&service, &with(certificate.der()));
    assert_eq!(refusal.reason(), &Reason::HostRevoked);
    // And so does a certificate by our own signer.
    let ours = Service {
        barred: service.barred.clone(),
        ..self::service()
    };
    let refusal = refused(&ours, &request().to_xml());
    assert_eq!(refusal.reason(), &Reason::HostRevoked);
}

#[test]
fn protectors_that_do_not_hold() {
    let good = Forge::new(guardian("owner"), &[guardian("fabric")], key_octets(7));
    let sealed = good.seal(guardian("owner"));
    let with = |protector: &str| {
        let request = RollTransportKeyRequest {
            ingress_protector: protector.as_bytes().to_vec(),
            ..request()
        };
        request.to_xml()
    };
    let mut circular = good.clone();
    circular.wrappings[1].parent = "2".to_owned();
    for (protector, code) in [
        ("not a protector".to_owned(), Code::InvalidProtector),
        (good.seal(guardian("stranger")), Code::InvalidProtector),
        (sealed.replace("#hkdf", "#other"), Code::InvalidProtector),
        (
            sealed.replacen("<Id>2", "<Id>two", 1),
            Code::InvalidWrapping,
        ),
        (circular.seal(guardian("owner")), Code::InvalidWrapping),
    ] {
        let refusal = refused(&service(), &with(&protector));
        assert_eq!(refusal.code(), code, "{refusal}");
        assert!(
            refusal.facts().host.is_some(),
            "the host was verified before"
        );
        assert!(refusal.facts().ingress.is_none());
    }
}

/// The host comes first: strangers learn nothing about protectors.
#[test]
fn an_unhealthy_host_learns_nothing_about_its_protector() {
    let request = RollTransportKeyRequest {
        ingress_protector: b"not a protector".to_vec(),
        health_certificate: guardian("fabric").encryption.der().to_vec(),
        ..request()
    };
    assert_eq!(
        refused(&service(), &request.to_xml()).code(),
        Code::HealthCertificate
    );
}

#[test]
fn disabled_pairs_open_nothing() {
    let service = Service::new(&[Member::fabric("fabric").disabled()]);
    let refusal = refused(&service, &request().to_xml());
    assert_eq!(refusal.code(), Code::WrappingNotFound);
}

#[test]
fn a_transport_key_that_is_not_random_is_not_rolled() {
    let forge = Forge::new(guardian("owner"), &[guardian("fabric")], [7; 32]);
    let request = RollTransportKeyRequest {
        ingress_protector: forge.seal(guardian("owner")).into_bytes(),
        ..request()
    };
    let service = service();
    let refusal = service
        .release(&request.to_xml(), ServiceVersion::V2)
        .unwrap_err();
    assert_eq!(refusal.code(), Code::InvalidProtector);
    let message = refusal.to_string();
    assert!(message.contains("not random"), "{message}");
}

#[test]
fn what_nothing_opens_is_one_error_for_every_cause() {
    let mut forge = Forge::new(guardian("owner"), &[guardian("fabric")], key_octets(7));
    let mut messages = Vec::new();
    for data in [
        encrypted_data(guardian("owner").encryption.public_key(), &key_octets(7)),
        encrypted_data(guardian("fabric").encryption.public_key(), &key_octets(8)),
        encrypted_data(guardian("fabric").encryption.public_key(), b"short"),
    ] {
        forge.wrappings[1].encrypted_data = data;
        let request = RollTransportKeyRequest {
            ingress_protector: forge.seal(guardian("owner")).into_bytes(),
            ..request()
        };
        let service = service();
        let refusal = service
            .release(&request.to_xml(), ServiceVersion::V2)
            .unwrap_err();
        assert_eq!(refusal.code(), Code::InvalidProtector);
        assert_eq!(service.keys.decryptions(), 1);
        messages.push(refusal.to_response());
    }
    assert_eq!(messages[0], messages[1]);
    assert_eq!(messages[1], messages[2]);
}

#[test]
fn superseded_protectors_are_reported_or_refused() {
    let ingress = ingress();
    for refuse_superseded in [false, true] {
        let service = Service {
            refuse_superseded,
            ..service()
        };
        let superseded = hgs_kps::SeenProtector {
            first_seen: now(),
            superseded: true,
        };
        service
            .seen
            .borrow_mut()
            .insert(ingress.digest(), superseded);
        let request = RollTransportKeyRequest {
            ingress_protector: ingress.octets().to_vec(),
            ..request()
        };
        let release = service.release(&request.to_xml(), ServiceVersion::V2);
        if refuse_superseded {
            assert_eq!(release.unwrap_err().code(), Code::ProtectorSuperseded);
        } else {
            assert!(release.unwrap().facts().superseded);
        }
    }
}
