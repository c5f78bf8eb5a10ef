//! Rows of docs/past-failures.md that concern the server as a whole.

mod guardian;

use std::time::Duration;

use guardian::{
    ATTEST, Host, METADATA, SIGNING_CERTIFICATES, Site, ask, exchange, pending, roll_path,
};
use hgs_kps::ServiceVersion::{V1, V2};
use hgs_pki::Seconds;
use hgs_pki::health::HealthKind;
use hgs_testkit::Mutations;

const ATTEST_ALSO: &str = "/attestation/attestationservice.svc/v2.0/hostkeyattest/";

/// attacks.md A3: an answer to a failed attempt tells nothing that the next one could use.
#[tokio::test]
async fn a3_a_refusal_gives_back_nothing_that_was_expected() {
    let site = Site::start().await;
    let host = Host::numbered(0);
    let registered = site.register(&host, "node-1").await;
    let other = Host::numbered(1).request(HealthKind::Encryption);
    let body = String::from_utf8(other.body().to_vec()).unwrap();
    let spki = |host: &Host| hgs_crypto::base64::encode(host.host_key.public().spki_der());
    let claimed = body.replace(&spki(&Host::numbered(1)), &spki(&host));
    let refused = site.post(ATTEST, claimed.as_bytes()).await;
    assert_eq!(refused.attestation_code(), "host-key-signature");
    for told in [
        &registered.id,
        &registered.name,
        registered.host_key_digest.as_ref().unwrap(),
    ] {
        assert!(
            !refused.text().contains(told.as_str()),
            "{}",
            refused.text()
        );
    }
}

/// attacks.md A6: administration is not reachable from the network.
#[tokio::test]
async fn a6_no_administrative_route_is_on_the_listener_of_the_protocols() {
    let site = Site::start().await;
    let monitoring = site.running().addresses().metrics.unwrap();
    for path in [
        "/v1/status",
        "/v1/hosts",
        "/v1/audit",
        "/v1/certificates",
        "/v1/signers",
        "/v1/server",
    ] {
        for address in [site.http(), monitoring] {
            for method in ["GET", "POST", "DELETE"] {
                let status = exchange(address, method, path, b"{}").await.status;
                assert!(status == 404 || status == 405, "{method} {path}: {status}");
            }
        }
    }
}

/// attacks.md A12: every path by which a host may attest makes the same checks.
#[tokio::test]
async fn a12_no_path_attests_with_fewer_checks() {
    let site = Site::start().await;
    let host = Host::numbered(0);
    site.register(&host, "node-1").await;
    let stranger = Host::numbered(1).request(HealthKind::Encryption);
    for path in [ATTEST, ATTEST_ALSO] {
        assert_eq!(site.post(path, stranger.body()).await.status, 403, "{path}");
    }
    for path in ["attest", "domainattest"] {
        for version in ["v1.0", "v2.0"] {
            let path = format!("/Attestation/{version}/{path}");
            let request = host.request(HealthKind::Encryption);
            assert_eq!(site.post(&path, request.body()).await.status, 400, "{path}");
        }
    }
    assert_eq!(
        site.post("/Attestation/v1.0/hostkeyattest", stranger.body())
            .await
            .status,
        404
    );
}

/// attacks.md A13: a guardian that was told of no host lets nobody in.
#[tokio::test]
async fn a13_an_empty_registry_accepts_nobody() {
    let site = Site::start().await;
    for host in (0..3).map(Host::numbered) {
        for kind in [HealthKind::Encryption, HealthKind::Signing] {
            assert_eq!(
                site.post(ATTEST, host.request(kind).body()).await.status,
                403
            );
        }
    }
}

/// attacks.md A16: a certificate that is good for another host releases nothing to this one: what comes is encrypted to
/// the key that the other has.
#[tokio::test]
async fn a16_another_hosts_certificate_gives_keys_to_that_host_alone() {
    let site = Site::start().await;
    let (host, thief) = (Host::numbered(0), Host::numbered(1));
    site.register(&host, "node-1").await;
    let certificate = host.healthy(&site).await;
    let (ingress, _) = site.protector().await;
    let pending = pending(&ingress, &certificate, V2);
    let answer = site.post(&roll_path(V2), &pending.request()).await;
    assert_eq!(answer.status, 200);
    let mut keys = hgs_testkit::fixtures::Keys::default();
    keys.hold(&certificate, &thief.identity);
    let unsigned = hgs_kps::Authenticity::DangerouslyUnsigned;
    let opened = pending.receive(&answer.body, unsigned, &hgs_kps::Caches::new(8), &mut &keys);
    assert_eq!(opened.unwrap_err(), hgs_kps::ClientError::Decryption);
}

/// attacks.md K1: paths are routes and nothing else, so none leads to a file.
#[tokio::test]
async fn k1_no_path_leads_to_a_file() {
    let site = Site::start().await;
    for path in [
        "/../../../../etc/passwd",
        "/KeyProtection/../state/master.key",
        "/KeyProtection/service/metadata/2014-07/../../../../state/master.key",
        "/KeyProtection/service/metadata/2014-07/metadata.xml/../master.key",
        "/Attestation/%2e%2e/%2e%2e/etc/passwd",
        "/Attestation/..%2f..%2fetc%2fpasswd",
        "/etc/passwd",
    ] {
        let answer = site.get(path).await;
        assert_eq!(answer.status, 404, "{path}");
    }
}

/// attacks.md K2: strangers leave a count behind, whatever they send and however often.
#[tokio::test]
async fn k2_strangers_change_no_state_and_fill_no_disk() {
    let site = Site::start().await;
    let before = site.recorded("attest").await.len();
    let generation = site.metric("hgs_state_generation");
    assert!(generation > 0.0);
    let stranger = Host::numbered(1).request(HealthKind::Encryption);
    let (ingress, _) = site.protector().await;
    let certificate = hgs_testkit::fixtures::Guardian::named("stranger")
        .signing
        .clone();
    for _ in 0..50 {
        assert_eq!(site.post(ATTEST, stranger.body()).await.status, 403);
        assert_eq!(site.post(ATTEST, b"{}").await.status, 400);
        assert_eq!(ask(&site, &ingress, &certificate, V2).await.status, 403);
    }
    assert_eq!(site.recorded("attest").await.len(), before);
    assert!(site.recorded("release").await.is_empty());

    site.clock.advance(Seconds::from_minutes(1));
    while site.recorded("release").await.is_empty() || site.recorded("attest").await.len() < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut aggregates = site.recorded("attest").await;
    aggregates.extend(site.recorded("release").await);
    let counted: Vec<_> = aggregates
        .iter()
        .map(|record| {
            (
                record.actor.as_str(),
                record.reason.as_deref().unwrap(),
                record.count,
            )
        })
        .collect();
    assert_eq!(
        counted,
        [
            ("strangers", "malformed-request", Some(50)),
            ("strangers", "host-not-registered", Some(50)),
            ("strangers", "HealthCertificateException", Some(50)),
        ]
    );
    assert_eq!(site.metric("hgs_state_generation"), generation);
}

/// attacks.md K4: nothing that was opened is kept. A host that has just had its keys gets them no more once it is
/// revoked, nor from a copy of an earlier request, nor under a certificate that is still valid.
#[tokio::test]
async fn k4_there_is_no_cache_of_unwrapped_keys() {
    let site = Site::start().await;
    let host = Host::numbered(0);
    site.register(&host, "node-1").await;
    let certificate = host.healthy(&site).await;
    let (ingress, _) = site.protector().await;
    let requests =
        [V1, V2].map(|version| (version, pending(&ingress, &certificate, version).request()));
    for (version, request) in &requests {
        assert_eq!(site.post(&roll_path(*version), request).await.status, 200);
    }
    site.revoke("node-1").await;
    for _ in 0..2 {
        for (version, request) in &requests {
            let refused = site.post(&roll_path(*version), request).await;
            assert_eq!(refused.status, 403);
            assert_eq!(refused.key_protection_code(), "HostRevokedException");
        }
    }
}

/// attacks.md K16: no request ends more than itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k16_no_request_crashes_anything() {
    let site = Site::start().await;
    let host = Host::numbered(0);
    site.register(&host, "node-1").await;
    let certificate = host.healthy(&site).await;
    let (ingress, _) = site.protector().await;
    let roll = pending(&ingress, &certificate, V2).request();
    let attest = host.request(HealthKind::Signing).body().to_vec();
    let tokens: [&[u8]; 6] = [b"<", b"]]>", b"&#0;", b"\"", b"[[[[", b"\xff"];
    for (path, whole) in [(roll_path(V2), roll), (ATTEST.to_owned(), attest)] {
        for body in Mutations::of(&[whole], &tokens).take(150) {
            let answer = site.post(&path, &body).await;
            assert!(answer.status < 500, "{}", answer.text());
        }
    }
    for path in [METADATA, SIGNING_CERTIFICATES, "/Attestation/getinfo"] {
        assert_eq!(site.get(path).await.status, 200);
    }
    assert_eq!(site.metric("hgs_http_panics_total{listener=\"http\"}"), 0.0);
    let fresh = host.healthy(&site).await;
    host.power_on(&site, &ingress, &fresh, V2).await;
}

/// attacks.md X2: what two parsers could read in two ways is read by none.
#[tokio::test]
async fn x2_a_request_with_two_meanings_is_refused() {
    let site = Site::start().await;
    let (host, other) = (Host::numbered(0), Host::numbered(1));
    site.register(&host, "node-1").await;
    let certificate = host.healthy(&site).await;
    let (ingress, _) = site.protector().await;

    let request = String::from_utf8(host.request(HealthKind::Encryption).body().to_vec()).unwrap();
    let others = String::from_utf8(other.request(HealthKind::Encryption).body().to_vec()).unwrap();
    let contents = |text: &str| {
        let (_, rest) = text.split_once("\"ProvidedContent\":").unwrap();
        rest.trim_end_matches('}').to_owned() + "}"
    };
    let twice = request.replacen(
        "\"ProvidedContent\":",
        &format!(
            "\"ProvidedContent\":{},\"ProvidedContent\":",
            contents(&others).trim_end_matches('}').to_owned() + "}]"
        ),
        1,
    );
    let refused = site.post(ATTEST, twice.as_bytes()).await;
    assert_eq!(refused.attestation_code(), "malformed-request");

    let roll = String::from_utf8(pending(&ingress, &certificate, V2).request()).unwrap();
    let (before, rest) = roll.split_once("<HealthCertificate>").unwrap();
    let (value, after) = rest.split_once("</HealthCertificate>").unwrap();
    let element = format!("<HealthCertificate>{value}</HealthCertificate>");
    for body in [
        format!("{before}{element}{element}{after}"),
        format!("{before}<HealthCertificate>{value}<!-- -->{value}</HealthCertificate>{after}"),
        format!(
            "<!DOCTYPE a [<!ENTITY b \"{value}\">]>{before}<HealthCertificate>&b;</HealthCertificate>{after}"
        ),
        format!(
            "{before}<HealthCertificate xmlns=\"urn:other\">{value}</HealthCertificate>{after}"
        ),
    ] {
        let refused = site.post(&roll_path(V2), body.as_bytes()).await;
        assert_eq!(refused.key_protection_code(), "InvalidRequestException");
    }
    assert_eq!(site.post(&roll_path(V2), roll.as_bytes()).await.status, 200);
}
