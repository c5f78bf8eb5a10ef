//! Attestation signers as time goes by.

mod guardian;

use std::time::Duration;

use guardian::{Host, SIGNING_CERTIFICATES, Site, ask};
use hgs_admin::Administration as _;
use hgs_admin::types::{Signer, SignerStage};
use hgs_attest::signer::{LEAD, RENEWED_BEFORE_END, SIGNER_VALIDITY};
use hgs_attest::signing_certificates;
use hgs_clock::Clock as _;
use hgs_kps::ServiceVersion::V2;
use hgs_pki::{Certificate, Seconds};

async fn published(site: &Site) -> Vec<Certificate> {
    signing_certificates::read(&site.get(SIGNING_CERTIFICATES).await.body).unwrap()
}

async fn signers(site: &Site) -> Vec<Signer> {
    site.admin(|client| client.signers(&hgs_admin::types::DigestPageQuery::default()))
        .await
        .unwrap()
}

/// Moves the clock, and waits until the guardian has done what that brings. It fails by the runner's timeout.
async fn later(site: &Site, by: Seconds, signers_then: usize) {
    site.clock.advance(by);
    while published(site).await.len() != signers_then || signers(site).await.len() != signers_then {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn minus(one: Seconds, other: Seconds) -> Seconds {
    Seconds::new(one.get() - other.get())
}

#[tokio::test]
async fn a_signer_is_renewed_published_before_it_signs_and_forgotten_when_nothing_of_it_lives() {
    let mut site = Site::start().await;
    let host = Host::numbered(0);
    site.register(&host, "node-1").await;
    let first = published(&site).await.remove(0);

    // A new one is made before the old one ends, and waits for those who keep the list for a day.
    later(&site, minus(SIGNER_VALIDITY, RENEWED_BEFORE_END), 2).await;
    let both = published(&site).await;
    // A SET of DER has an order of its own.
    let mut others = both.iter().filter(|signer| **signer != first);
    let second = others.next().expect("a new signer").clone();
    assert_eq!(others.next(), None, "and the first one");
    let stages: Vec<_> = signers(&site)
        .await
        .into_iter()
        .map(|signer| signer.stage)
        .collect();
    assert_eq!(stages, [SignerStage::Active, SignerStage::Pending]);
    let by_first = host.healthy(&site).await;
    assert!(by_first.verify_issued_by(&first).is_ok());

    // A restart in between changes nothing.
    site.restart().await;
    assert_eq!(published(&site).await, both);

    // It takes over; what the old one signed is good until it ends.
    later(&site, LEAD, 2).await;
    site.clock.advance(Seconds::from_days(20));
    let (ingress, _) = site.protector().await;
    // The host's certificate has ended meanwhile; under the new signer it gets another.
    let refused = ask(&site, &ingress, &by_first, V2).await;
    assert_eq!(refused.key_protection_code(), "HealthCertificateException");
    let by_second = host.healthy(&site).await;
    assert!(by_second.verify_issued_by(&second).is_ok());
    host.power_on(&site, &ingress, &by_second, V2).await;

    later(&site, Seconds::from_hours(1), 1).await;
    assert_eq!(published(&site).await, [second]);
    let forgotten = site.recorded("remove-attestation-signer").await;
    assert_eq!(forgotten.len(), 1);
    assert_eq!(forgotten[0].actor, "openhgs");
    assert!(
        forgotten[0]
            .changes
            .iter()
            .any(|change| change.starts_with("-private-key/"))
    );
    assert_eq!(site.recorded("add-attestation-signer").await.len(), 2);
}

/// A health certificate outlives the change of signers that comes right after it.
#[tokio::test]
async fn a_certificate_of_the_old_signer_is_good_after_the_new_one_has_taken_over() {
    let site = Site::start_with("attestation.health_certificate_validity = \"24h\"").await;
    let host = Host::numbered(0);
    site.register(&host, "node-1").await;
    later(&site, minus(SIGNER_VALIDITY, RENEWED_BEFORE_END), 2).await;
    site.clock.advance(minus(LEAD, Seconds::new(60)));
    let by_first = host.healthy(&site).await;
    site.clock.advance(Seconds::from_hours(12));
    let (ingress, _) = site.protector().await;
    let active: Vec<_> = signers(&site)
        .await
        .into_iter()
        .map(|signer| signer.stage)
        .collect();
    assert_eq!(active, [SignerStage::Retired, SignerStage::Active]);
    host.power_on(&site, &ingress, &by_first, V2).await;
}

#[tokio::test]
async fn a_guardian_that_was_off_for_long_makes_a_signer_before_it_serves() {
    let mut site = Site::start().await;
    let host = Host::numbered(0);
    site.register(&host, "node-1").await;
    let first = published(&site).await.remove(0);
    site.stop().await;
    site.clock.advance(Seconds::from_days(1000));
    site.restart().await;
    let now = published(&site).await;
    assert_eq!(now.len(), 1);
    assert_ne!(now[0], first);
    let certificate = host.healthy(&site).await;
    assert!(certificate.verify_issued_by(&now[0]).is_ok());
    let expires = now[0].validity().not_after.unix() as f64;
    let name = now[0].thumbprint();
    assert_eq!(
        site.metric(&format!(
            "hgs_certificate_expiration_timestamp_seconds{{use=\"attestation-signer\",certificate=\"{name}\",lineage=\"\",current=\"true\"}}"
        )),
        expires
    );
    assert!(site.clock.now() < now[0].validity().not_after);
}
