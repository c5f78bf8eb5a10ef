//! The main job over real sockets: a host attests, its VM's keys are released and rolled, and refused where they
//! must be.

mod guardian;

use std::sync::Arc;
use std::time::Duration;

use guardian::{ATTEST, Host, METADATA, SIGNING_CERTIFICATES, Site, ask, pending, roll_path};
use hgs_admin::Administration as _;
use hgs_admin::ErrorCode;
use hgs_admin::types::{AddHost, AuditQuery, HostDetail, Outcome, SetServer, Standing};
use hgs_attest::freshness::{NONCE_HEADER, Nonce, PROOF_HEADER};
use hgs_attest::wire::AttestationResultType;
use hgs_attest::{client, signing_certificates};
use hgs_clock::Clock as _;
use hgs_kps::ServiceVersion::{V1, V2};
use hgs_pki::health::{HealthCertificate, HealthKind, TrustedSigner, TrustedSigners};
use hgs_pki::{Seconds, Thumbprint};
use hgs_testkit::fixtures::Guardian as Fixture;

#[tokio::test]
async fn a_host_attests_for_both_uses_of_its_keys() {
    let site = Site::start().await;
    let host = Host::numbered(0);
    let registered = site.register(&host, "node-1").await;
    let info = site.get("/Attestation/getinfo").await;
    let info = client::read_service_info(info.status, &info.body).unwrap();
    assert_eq!(info.operation_mode.number(), 3);

    let published = site.get(SIGNING_CERTIFICATES).await;
    let signers = signing_certificates::read(&published.body).unwrap();
    let trusted = TrustedSigners::new(signers.into_iter().map(TrustedSigner::own).collect());
    for kind in [HealthKind::Encryption, HealthKind::Signing] {
        let attested = host.attest(&site, kind).await;
        let certificate = HealthCertificate::from_der(attested.certificate().der()).unwrap();
        let now = site.clock.now();
        let verified = certificate
            .verify(&trusted, kind, now, Seconds::new(60))
            .unwrap();
        assert_eq!(verified.statement().host_id.to_string(), registered.id);
        assert_eq!(verified.statement().issued_at, now);
    }
    assert_eq!(
        site.metric("hgs_attestations_total{outcome=\"healthy\"}"),
        2.0
    );
    let host = site
        .admin(|client| client.host(&"NODE-1".parse().unwrap()))
        .await
        .unwrap();
    assert_eq!(host.identity_keys.len(), 2);
    assert_eq!(host.host.last_attested, Some(site.clock.now().to_string()));
}

#[tokio::test]
async fn keys_are_released_in_both_versions_and_each_release_changes_them() {
    let site = Site::start().await;
    let host = Host::numbered(0);
    let registered = site.register(&host, "node-1").await;
    let certificate = host.healthy(&site).await;
    let (ingress, key) = site.protector().await;
    let first = host.power_on(&site, &ingress, &certificate, V1).await;
    assert_eq!(first.ingress_key, key);
    let second = host.power_on(&site, &first.egress, &certificate, V2).await;
    assert_eq!(second.ingress_key, first.egress_key);
    assert_ne!(second.egress_key, first.egress_key);
    assert_eq!(second.caching, None, "nobody has allowed it");

    let releases = site.recorded("release").await;
    assert_eq!(releases.len(), 2);
    let newest = &releases[0];
    let fabric = Fixture::named("fabric");
    let text = |thumbprint: Thumbprint| Some(thumbprint.to_string());
    assert_eq!(newest.outcome, Outcome::Done);
    assert_eq!(newest.actor, format!("host {}", registered.id));
    assert_eq!(newest.host.as_deref(), Some(&*registered.id));
    assert_eq!(newest.host_name.as_deref(), Some("node-1"));
    let serial = hgs_crypto::hex::encode(certificate.serial_number());
    assert_eq!(newest.serial, Some(serial.clone()));
    assert_eq!(newest.protector, Some(first.egress.digest().to_string()));
    assert_eq!(
        newest.egress_protector,
        Some(second.egress.digest().to_string())
    );
    assert_eq!(newest.standing, Some(Standing::Head));
    assert_eq!(
        newest.owner,
        text(Fixture::named("owner").signing.thumbprint())
    );
    assert_eq!(newest.guardian, text(fabric.encryption.thumbprint()));
    assert_eq!(newest.lineage.as_deref(), Some("fabric"));
    assert_eq!(releases[1].standing, Some(Standing::New));
    assert_eq!(site.metric("hgs_releases_total{outcome=\"released\"}"), 2.0);
    assert_eq!(site.metric("hgs_release_duration_seconds_count"), 2.0);

    let attested = &site.recorded("attest").await[0];
    assert_eq!(
        attested.serial,
        Some(serial),
        "the record names the certificate that was issued"
    );
}

/// A VM that moves: the other host has its own certificate, and what the first host holds stays good until the move is
/// done.
#[tokio::test]
async fn a_second_host_takes_over_a_vm() {
    let site = Site::start().await;
    let (one, other) = (Host::numbered(0), Host::numbered(1));
    site.register(&one, "node-1").await;
    site.register(&other, "node-2").await;
    let (of_one, of_other) = (one.healthy(&site).await, other.healthy(&site).await);
    let (ingress, _) = site.protector().await;
    let at_one = one.power_on(&site, &ingress, &of_one, V2).await;
    let at_other = other.power_on(&site, &at_one.egress, &of_other, V2).await;
    assert_eq!(at_other.ingress_key, at_one.egress_key);
    // The move failed; the first host starts the VM again with what it has.
    let again = one.power_on(&site, &at_one.egress, &of_one, V2).await;
    assert_eq!(again.ingress_key, at_one.egress_key);
}

#[tokio::test]
async fn an_unregistered_host_is_refused() {
    let site = Site::start().await;
    let stranger = Host::numbered(2);
    let request = stranger.request(HealthKind::Encryption);
    let refused = site.post(ATTEST, request.body()).await;
    assert_eq!(refused.status, 403);
    assert_eq!(refused.attestation_code(), "host-not-registered");
    let metric = "hgs_attestations_total{outcome=\"host-not-registered\"}";
    assert_eq!(site.metric(metric), 1.0);
    assert!(
        site.recorded("attest").await.is_empty(),
        "a stranger has no record of his own"
    );
}

#[tokio::test]
async fn a_revoked_host_is_refused_at_its_next_request_and_that_is_recorded() {
    let site = Site::start().await;
    let host = Host::numbered(0);
    site.register(&host, "node-1").await;
    let certificate = host.healthy(&site).await;
    let (ingress, _) = site.protector().await;
    let released = host.power_on(&site, &ingress, &certificate, V2).await;

    let revoked = site.revoke("node-1").await;
    assert_eq!(revoked.revoked.unwrap().reason, "stolen");
    let refused = ask(&site, &released.egress, &certificate, V2).await;
    assert_eq!(refused.status, 403);
    assert_eq!(refused.key_protection_code(), "HostRevokedException");
    let refused = site
        .post(ATTEST, host.request(HealthKind::Encryption).body())
        .await;
    assert_eq!(refused.status, 403);
    assert_eq!(refused.attestation_code(), "host-revoked");

    for action in ["release", "attest"] {
        let newest = &site.recorded(action).await[0];
        assert_eq!(
            (newest.outcome, newest.host_name.as_deref()),
            (Outcome::Refused, Some("node-1"))
        );
        assert!(
            newest.reason.as_ref().unwrap().contains("revoked"),
            "{newest:?}"
        );
    }
    // The host is judged first; what it sent was not looked at.
    let of_release = &site.recorded("release").await[0];
    assert_eq!(of_release.protector, None);
    assert!(of_release.serial.is_some());
}

#[tokio::test]
async fn a_removed_host_is_refused_and_comes_back_as_another() {
    let site = Site::start().await;
    let host = Host::numbered(0);
    let before = site.register(&host, "node-1").await;
    let certificate = host.healthy(&site).await;
    let (ingress, _) = site.protector().await;
    site.admin(|client| client.remove_host(&"node-1".parse().unwrap()))
        .await
        .unwrap();
    let refused = ask(&site, &ingress, &certificate, V2).await;
    assert_eq!(refused.key_protection_code(), "HostRevokedException");
    let refused = site
        .post(ATTEST, host.request(HealthKind::Encryption).body())
        .await;
    assert_eq!(refused.attestation_code(), "host-not-registered");

    // Its key can't be registered again as if nothing had been.
    let again = AddHost {
        name: "node-1".to_owned(),
        host_key: Some(host.public_pem()),
        ..AddHost::default()
    };
    let refused = site
        .admin(move |client| client.add_host(&again))
        .await
        .unwrap_err();
    assert_eq!(refused.code, ErrorCode::Conflict);
    assert!(refused.remedy.unwrap().contains("hgs host readmit"));
    let listed = site
        .admin(|client| client.removed_hosts(&hgs_admin::types::DigestPageQuery::default()))
        .await
        .unwrap();
    assert_eq!(listed[0].name, "node-1");
    site.admin(|client| client.readmit_host(&"NODE-1".parse().unwrap()))
        .await
        .unwrap();
    let after = site.register(&host, "node-1").await;
    assert_ne!(after.id, before.id);
    // The old certificate is that of the host that is gone, and no request from before is good again.
    let refused = ask(&site, &ingress, &certificate, V2).await;
    assert_eq!(refused.key_protection_code(), "HostRevokedException");
    let captured = host.request(HealthKind::Encryption);
    let refused = site.post(ATTEST, captured.body()).await;
    assert_eq!(refused.attestation_code(), "identity-key-superseded");
    let newer = host.request_for(HealthKind::Encryption, &Host::numbered(1).identity);
    assert_eq!(site.post(ATTEST, newer.body()).await.status, 200);
}

/// What one host can make the audit log grow by is bounded: the same attestation is one record a minute, refusals with one
/// code are two an hour.
#[tokio::test]
async fn a_host_that_asks_again_and_again_fills_no_audit_log() {
    let site = Site::start().await;
    let host = Host::numbered(0);
    site.register(&host, "node-1").await;
    let first = host.healthy(&site).await;
    for _ in 0..20 {
        assert_eq!(host.healthy(&site).await.der(), first.der());
        site.clock.advance(Seconds::new(2));
    }
    assert_eq!(site.recorded("attest").await.len(), 1);
    site.clock.advance(Seconds::new(20));
    let second = host.healthy(&site).await;
    assert_ne!(second.der(), first.der());
    assert_eq!(site.recorded("attest").await.len(), 2);

    let (ingress, _) = site.protector().await;
    site.revoke("node-1").await;
    for _ in 0..20 {
        let refused = ask(&site, &ingress, &second, V2).await;
        assert_eq!(refused.key_protection_code(), "HostRevokedException");
        let request = host.request(HealthKind::Encryption);
        let refused = site.post(ATTEST, request.body()).await;
        assert_eq!(refused.attestation_code(), "host-revoked");
    }
    assert_eq!(site.recorded("attest").await.len(), 3);
    let released = site.recorded("release").await;
    assert_eq!(released.len(), 1);
    assert_eq!(released[0].count, None);
}

/// The nonce of `getinfo`, returned under the host key; a captured request is worth nothing from then on, without the header
/// or with another.
#[tokio::test]
async fn a_host_returns_a_nonce_and_has_to_from_then_on() {
    let mut site = Site::start().await;
    let host = Host::numbered(0);
    site.register(&host, "node-1").await;
    let request = host.request(HealthKind::Encryption);
    let nonce = |answer: &guardian::Answer| {
        let header = answer.header(NONCE_HEADER).expect("there is a nonce");
        Nonce::from_header(header).unwrap()
    };
    let proof = |nonce| {
        let prepared = request.prove(nonce);
        let signature = host
            .host_key
            .sign(prepared.scheme(), prepared.to_be_signed());
        prepared.assemble(signature.unwrap()).unwrap().to_header()
    };
    let send = async |site: &Site, proofs: &[&str]| {
        let fields: Vec<_> = proofs.iter().map(|proof| (PROOF_HEADER, *proof)).collect();
        guardian::exchange_with(site.http(), "POST", ATTEST, &fields, request.body()).await
    };
    assert_eq!(send(&site, &[]).await.status, 200, "none is required yet");
    let first = proof(nonce(&site.get("/Attestation/getinfo").await));
    assert_eq!(send(&site, &[&first]).await.status, 200);
    assert!(host_detail(&site).await.returns_nonces);

    let stripped = send(&site, &[]).await;
    assert_eq!(stripped.attestation_code(), "nonce-required");
    let doubled = send(&site, &[&first, &first]).await;
    assert_eq!(doubled.attestation_code(), "nonce-invalid");
    site.clock.advance(Seconds::new(301));
    let late = send(&site, &[&first]).await;
    assert_eq!(late.attestation_code(), "nonce-expired");
    // The refusal brings the next one; the key that it is made under outlives the server.
    let second = proof(nonce(&late));
    site.restart().await;
    assert_eq!(send(&site, &[&second]).await.status, 200);
    assert_eq!(send(&site, &[]).await.attestation_code(), "nonce-required");
}

#[tokio::test]
async fn a_guardian_can_require_a_nonce_of_every_host() {
    let site = Site::start_with("attestation.require_nonce = true").await;
    let host = Host::numbered(0);
    site.register(&host, "node-1").await;
    let request = host.request(HealthKind::Encryption);
    let refused = site.post(ATTEST, request.body()).await;
    assert_eq!(refused.attestation_code(), "nonce-required");
    assert!(refused.header(NONCE_HEADER).is_some());
}

async fn host_detail(site: &Site) -> HostDetail {
    site.admin(|client| client.host(&"node-1".parse().unwrap()))
        .await
        .unwrap()
}

/// Two machines with one host key take each other's place in turn, which the second time is told.
#[tokio::test]
async fn two_machines_with_one_host_key_are_named() {
    let site = Site::start().await;
    let host = Host::numbered(0);
    site.register(&host, "node-1").await;
    let keys = [
        Arc::clone(&host.identity),
        Arc::clone(&Host::numbered(1).identity),
        Arc::clone(&Host::numbered(2).identity),
    ];
    let attest = async |key: usize| {
        site.clock.advance(Seconds::from_hours(1));
        let request = host.request_for(HealthKind::Encryption, &keys[key]);
        site.post(ATTEST, request.body()).await
    };
    assert_eq!(attest(0).await.status, 200, "the one machine");
    assert_eq!(attest(1).await.status, 200, "the other");
    let code = attest(0).await;
    assert_eq!(code.attestation_code(), "identity-key-superseded");
    assert_eq!(attest(2).await.status, 200, "the one, with a new key");
    let code = attest(1).await;
    assert_eq!(code.attestation_code(), "host-key-shared");

    let detail = host_detail(&site).await;
    assert_eq!(detail.host_key_shared, Some(site.clock.now().to_string()));
    let status = site.admin(|client| client.status()).await.unwrap();
    let warned = status
        .warnings
        .iter()
        .any(|one| one.code == "host-key-shared");
    assert!(warned, "{:?}", status.warnings);
    assert_eq!(site.recorded("return-identity-key").await.len(), 2);
}

#[tokio::test]
async fn a_health_certificate_ends_with_its_time() {
    let site = Site::start_with("attestation.health_certificate_validity = \"5min\"").await;
    let host = Host::numbered(0);
    site.register(&host, "node-1").await;
    let certificate = host.healthy(&site).await;
    let (ingress, _) = site.protector().await;
    site.clock.advance(Seconds::new(300));
    let released = host.power_on(&site, &ingress, &certificate, V2).await;
    site.clock.advance(Seconds::new(1));
    let refused = ask(&site, &released.egress, &certificate, V2).await;
    assert_eq!(refused.status, 403);
    assert_eq!(refused.key_protection_code(), "HealthCertificateException");
    let renewed = host.healthy(&site).await;
    host.power_on(&site, &released.egress, &renewed, V2).await;
}

#[tokio::test]
async fn a_certificate_for_signing_releases_nothing() {
    let site = Site::start().await;
    let host = Host::numbered(0);
    site.register(&host, "node-1").await;
    let certificate = host.attest(&site, HealthKind::Signing).await;
    let (ingress, _) = site.protector().await;
    let refused = ask(&site, &ingress, certificate.certificate(), V2).await;
    assert_eq!(refused.key_protection_code(), "HealthCertificateException");
}

#[tokio::test]
async fn an_identity_key_that_was_superseded_is_not_certified_again() {
    let site = Site::start().await;
    let host = Host::numbered(0);
    site.register(&host, "node-1").await;
    let captured = host.request(HealthKind::Encryption);
    host.healthy(&site).await;
    let newer = host.request_for(HealthKind::Encryption, &Host::numbered(1).identity);
    assert_eq!(site.post(ATTEST, newer.body()).await.status, 200);
    let replayed = site.post(ATTEST, captured.body()).await;
    assert_eq!(replayed.attestation_code(), "identity-key-superseded");
    let of_other_kind = host.request_for(HealthKind::Signing, &Host::numbered(1).identity);
    let refused = site.post(ATTEST, of_other_kind.body()).await;
    assert_eq!(refused.attestation_code(), "identity-key-of-other-kind");
    site.clock.advance(Seconds::from_days(31));
    let refused = site.post(ATTEST, newer.body()).await;
    assert_eq!(refused.attestation_code(), "identity-key-expired");
}

#[tokio::test]
async fn a_restart_forgets_nothing() {
    let mut site = Site::start().await;
    let (host, barred) = (Host::numbered(0), Host::numbered(1));
    site.register(&host, "node-1").await;
    site.register(&barred, "node-2").await;
    let certificate = host.healthy(&site).await;
    let of_barred = barred.healthy(&site).await;
    site.revoke("node-2").await;
    let (ingress, _) = site.protector().await;
    let released = host.power_on(&site, &ingress, &certificate, V2).await;
    let published = site.get(SIGNING_CERTIFICATES).await;
    let records = site.audit(AuditQuery::default()).await;

    site.restart().await;
    assert_eq!(site.get(SIGNING_CERTIFICATES).await.body, published.body);
    assert_eq!(site.audit(AuditQuery::default()).await, records);
    host.power_on(&site, &released.egress, &certificate, V2)
        .await;
    let refused = ask(&site, &ingress, &of_barred, V2).await;
    assert_eq!(refused.key_protection_code(), "HostRevokedException");
    let newer = host.request_for(HealthKind::Encryption, &barred.identity);
    assert_eq!(site.post(ATTEST, newer.body()).await.status, 200);
    site.restart().await;
    let superseded = site
        .post(ATTEST, host.request(HealthKind::Encryption).body())
        .await;
    assert_eq!(superseded.attestation_code(), "identity-key-superseded");
}

#[tokio::test]
async fn what_hosts_may_keep_is_set_recorded_and_not_for_hosts_without_tpms() {
    let mut site = Site::start().await;
    let set = async |site: &Site, setting: &'static str| {
        let change = SetServer {
            key_caching: Some(setting.to_owned()),
            ..SetServer::default()
        };
        site.admin(move |client| client.set_server(&change)).await
    };
    let off = site.admin(|client| client.server()).await.unwrap();
    assert_eq!(off.key_caching, None);
    for wrong in [
        "on",
        "0,1",
        "1,0",
        "1",
        "1,8761",
        "1000001,1",
        "1,1,1",
        "-1,1",
    ] {
        let refused = set(&site, wrong).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::InvalidRequest, "{wrong}");
    }
    let settings = set(&site, "3,72").await.unwrap();
    let caching = settings.key_caching.unwrap();
    assert_eq!((caching.unwraps, caching.hours), (3, 72));
    // It is state: the configuration does not take it back.
    site.restart().await;
    let settings = site.admin(|client| client.server()).await.unwrap();
    assert_eq!(settings.key_caching, Some(caching));
    let recorded = &site.recorded("set-key-caching").await[0];
    let limits = &recorded.after.as_ref().unwrap()["allow_key_material_caching"];
    assert_eq!(limits["hours"], 72);

    let host = Host::numbered(0);
    site.register(&host, "node-1").await;
    let certificate = host.healthy(&site).await;
    let (ingress, _) = site.protector().await;
    let released = host.power_on(&site, &ingress, &certificate, V2).await;
    assert_eq!(released.caching, None, "the host has no TPM");
    assert_eq!(site.recorded("release").await[0].offline_use, None);
    assert_eq!(set(&site, "off").await.unwrap().key_caching, None);
}

#[tokio::test]
async fn an_ancestor_of_a_protector_in_use_is_reported_or_refused_as_configured() {
    for (setting, refused) in [("report", false), ("refuse", true)] {
        let site = Site::start_with(&format!("key_protection.ancestors = \"{setting}\"")).await;
        let host = Host::numbered(0);
        site.register(&host, "node-1").await;
        let certificate = host.healthy(&site).await;
        let (ingress, _) = site.protector().await;
        let first = host.power_on(&site, &ingress, &certificate, V2).await;
        host.power_on(&site, &first.egress, &certificate, V2).await;
        let again = ask(&site, &ingress, &certificate, V2).await;
        let newest = site.recorded("release").await.swap_remove(0);
        assert_eq!(newest.standing, Some(Standing::Ancestor));
        if refused {
            assert_eq!(again.status, 403);
            assert_eq!(again.key_protection_code(), "ProtectorSupersededException");
            assert_eq!(newest.outcome, Outcome::Refused);
            assert_eq!(site.recorded("release").await.len(), 3, "recorded once");
        } else {
            assert_eq!(again.status, 200);
        }
    }
}

/// Settings follow the configuration, and the audit log says what they were.
#[tokio::test]
async fn a_changed_configuration_is_taken_over_and_recorded() {
    let mut site = Site::start().await;
    let before = site.recorded("set-settings").await.len();
    site.restart().await;
    assert_eq!(
        site.recorded("set-settings").await.len(),
        before,
        "nothing has changed"
    );
    site.config.attestation.health_certificate_validity = Duration::from_hours(1);
    site.restart().await;
    let records = site.recorded("set-settings").await;
    assert_eq!(records.len(), before + 1);
    assert_eq!(records[0].actor, "configuration");
    assert_eq!(
        records[0].before.as_ref().unwrap()["health_certificate_seconds"],
        28_800
    );
    assert_eq!(
        records[0].after.as_ref().unwrap()["health_certificate_seconds"],
        3_600
    );
}

/// The first bytes of each answer are what drivers and judges depend on.
#[tokio::test]
async fn answers_have_their_types_and_lengths() {
    let site = Site::start().await;
    let host = Host::numbered(0);
    site.register(&host, "node-1").await;
    let attested = site
        .post(ATTEST, host.request(HealthKind::Encryption).body())
        .await;
    let json = Some("application/json; charset=utf-8");
    assert_eq!(attested.header("content-type"), json);
    assert!(
        attested
            .text()
            .starts_with("{\"__type\":\"HealthCertificateReply:#")
    );
    assert_eq!(AttestationResultType::from(1).number(), 1);
    let certificate = host.healthy(&site).await;
    let (ingress, _) = site.protector().await;
    let request = pending(&ingress, &certificate, V2).request();
    let released = site.post(&roll_path(V2), &request).await;
    let metadata = site.get(METADATA).await;
    for answer in [&released, &metadata] {
        assert_eq!(
            answer.header("content-type"),
            Some("application/xml; charset=utf-8")
        );
    }
    for answer in [&attested, &released, &metadata] {
        let length = answer.body.len().to_string();
        assert_eq!(answer.header("content-length"), Some(&*length));
    }
}

/// Real drivers read the list with less than a JSON parser: they drop the first and the last character, split at commas
/// and read numbers. So the body has no white space, comes with its length, and is the same in every form of the path.
#[tokio::test]
async fn signing_certificates_are_what_drivers_parse() {
    let site = Site::start().await;
    let first = site.get(SIGNING_CERTIFICATES).await;
    let length = first.body.len().to_string();
    assert_eq!(first.header("content-length"), Some(&*length));
    assert_eq!(first.header("transfer-encoding"), None);
    let text = first.text();
    let inner = text.strip_prefix('[').unwrap().strip_suffix(']').unwrap();
    let octets: Vec<u8> = inner
        .split(',')
        .map(|number| number.parse().unwrap())
        .collect();
    let written: Vec<_> = octets.iter().map(u8::to_string).collect();
    assert_eq!(text, format!("[{}]", written.join(",")), "no octet more");
    for path in [
        "/attestation/v2.0/signingcertificates/",
        "/Attestation/attestationservice.svc/v2.0/signingCertificates",
        "/Attestation/AttestationService.svc/v2.0/signingCertificates/",
    ] {
        assert_eq!(site.get(path).await.body, first.body, "{path}");
    }

    let file = site.folder.path().join("signers.p7b");
    std::fs::write(&file, octets).unwrap();
    let printed = std::process::Command::new(hgs_testkit::tool("openssl", "openssl"))
        .args(["pkcs7", "-inform", "DER", "-noout", "-print_certs", "-in"])
        .arg(&file)
        .output()
        .unwrap();
    let printed = String::from_utf8(printed.stdout).unwrap();
    assert!(printed.contains("OpenHGS Attestation Signer"), "{printed}");
}
