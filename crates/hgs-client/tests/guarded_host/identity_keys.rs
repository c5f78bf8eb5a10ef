//! No attempt that fails, however often, uses up identity keys; and what uses them up is named before a bound is reached.

use hgs_attest::MAX_NEW_IDENTITY_KEYS;
use hgs_client::service::Sides;
use hgs_client::{Error, Fault};
use hgs_clock::Clock as _;
use hgs_pki::health::HealthKind;
use hgs_pki::{Certificate, Seconds};

use crate::guardian::{Manner, TestClock, TestGuardian, TestHost, pair};

async fn attest(host: &TestHost) -> Result<Certificate, Error> {
    let attestation = host.host.attest(HealthKind::Encryption, Sides::Both);
    Ok(attestation.await?.certificate)
}

fn recorded(guardian: &TestGuardian) -> usize {
    guardian.world().identity_keys(HealthKind::Encryption)
}

fn warnings(host: &TestHost) -> Vec<&'static str> {
    let status = host.host.status().unwrap();
    status.warnings.iter().map(|one| one.code).collect()
}

/// A clock that is `by` behind that of the guardian.
fn behind(clock: &TestClock, by: Seconds) -> TestClock {
    TestClock::at(clock.now().checked_sub(by).unwrap())
}

#[tokio::test]
async fn a_wrong_clock_uses_up_one_key_however_often_it_is_tried() {
    let (clock, guardian, host) = pair().await;
    let late = behind(&clock, Seconds::from_minutes(10));
    let mut host = host.with_clock(&late);
    for _ in 0..MAX_NEW_IDENTITY_KEYS + 2 {
        // Each attempt is a process of its own.
        host = host.restarted();
        let error = attest(&host).await.unwrap_err();
        let said = error.to_string();
        for time in [clock.now(), late.now()] {
            assert!(said.contains(&time.to_string()), "{said}");
        }
        assert_eq!(error.fault(), Fault::Host);
    }
    assert_eq!(recorded(&guardian), 1);
    let host = host.with_clock(&clock);
    attest(&host).await.unwrap();
    assert_eq!(recorded(&guardian), 1);
}

/// The guardian records the key and the answer is lost: as bad as it gets, at the time when a new key is due.
#[tokio::test]
async fn a_key_that_is_due_is_replaced_by_one_however_often_that_fails() {
    let (clock, guardian, host) = pair().await;
    let old = attest(&host).await.unwrap();
    clock.advance(Seconds::from_days(21));
    guardian.world().manner = Manner::Mute("/Attestation/v2.0/signingCertificates");
    let mut host = host;
    for _ in 0..5 {
        host = host.restarted();
        attest(&host).await.unwrap_err();
    }
    assert_eq!(recorded(&guardian), 2);
    guardian.world().manner = Manner::Proper;
    let new = attest(&host).await.unwrap();
    assert_ne!(new.public_key(), old.public_key());
    assert_eq!(attest(&host).await.unwrap().public_key(), new.public_key());
    assert_eq!(recorded(&guardian), 2);
}

/// While a new key waits for its certificate, the old certificate serves.
#[tokio::test]
async fn the_old_certificate_is_kept_until_the_new_key_has_one() {
    let (clock, guardian, host) = pair().await;
    let old = attest(&host).await.unwrap();
    guardian.world().manner = Manner::Mute("/Attestation/v2.0/signingCertificates");
    let kind = HealthKind::Encryption;
    let attempt = host.host.attest_with_new_identity_key(kind, Sides::Both);
    attempt.await.unwrap_err();
    let host = host.restarted();
    let held = host.host.status().unwrap().health_certificates;
    let serial_number = hgs_crypto::hex::encode(old.serial_number());
    assert_eq!(held[0].serial_number, serial_number);
    drop(clock);
}

#[tokio::test]
async fn a_clock_that_changes_its_mind_uses_up_no_keys() {
    let (clock, guardian, host) = pair().await;
    attest(&host).await.unwrap();
    let mut host = host;
    let ahead = TestClock::at(clock.now().checked_add(Seconds::from_days(25)).unwrap());
    let back_in_1970 = TestClock::at(hgs_pki::Time::from_unix(0));
    for wrong in [&ahead, &back_in_1970].into_iter().cycle().take(10) {
        host = host.with_clock(wrong);
        attest(&host).await.unwrap_err();
        host = host.with_clock(&clock);
        attest(&host).await.unwrap();
    }
    // One was due by the clock that was ahead.
    assert_eq!(recorded(&guardian), 2);
}

#[tokio::test]
async fn two_machines_with_one_host_key_are_named() {
    let (_, guardian, original) = pair().await;
    let clone = original.cloned();
    attest(&original).await.unwrap();
    attest(&clone).await.unwrap();
    // The original can't know yet that it is not just back from a backup.
    assert!(warnings(&original).is_empty());
    attest(&original).await.unwrap();
    assert_eq!(warnings(&original), ["identity-key-superseded"]);

    let before = recorded(&guardian);
    for _ in 0..3 {
        let error = attest(&clone).await.unwrap_err();
        let said = error.to_string();
        assert!(said.contains("two machines use this host key"), "{said}");
        assert!(said.contains("host-key-shared"), "{said}");
        assert_eq!(error.fault(), Fault::Host);
        assert!(error.is_refusal());
        let remedy = error.remedy().unwrap();
        assert!(remedy.contains("host-key new"), "{remedy}");
    }
    let status = clone.host.status().unwrap();
    let message = status.last_attempt.unwrap().message.unwrap();
    assert!(message.contains("two machines"), "{message}");
    assert_eq!(warnings(&clone), ["identity-key-superseded"]);
    attest(&original).await.unwrap();
    assert_eq!(recorded(&guardian), before, "they take no turns");

    // The original is gone, and the clone is to take its place.
    let attempt = clone
        .host
        .attest_with_new_identity_key(HealthKind::Encryption, Sides::Both);
    attempt.await.unwrap();
    attest(&clone).await.unwrap();
    assert_eq!(recorded(&guardian), before + 1);

    // A host key of its own ends it.
    clone.host.remove_host_key().unwrap();
    assert!(warnings(&clone).is_empty());
}

#[tokio::test]
async fn bounds_are_told_well_before_they_are_reached() {
    let (clock, guardian, host) = pair().await;
    for _ in 0..MAX_NEW_IDENTITY_KEYS / 4 {
        assert!(warnings(&host).is_empty());
        let kind = HealthKind::Encryption;
        let attempt = host.host.attest_with_new_identity_key(kind, Sides::Both);
        attempt.await.unwrap();
    }
    assert_eq!(warnings(&host), ["many-identity-keys"]);
    assert_eq!(recorded(&guardian), MAX_NEW_IDENTITY_KEYS / 4);
    clock.advance(Seconds::from_hours(2));
    assert!(warnings(&host).is_empty());
}

#[tokio::test]
async fn a_clock_that_goes_wrong_is_told_before_attesting_fails() {
    let (clock, _guardian, host) = pair().await;
    attest(&host).await.unwrap();
    assert!(warnings(&host).is_empty());
    let late = behind(&clock, Seconds::new(45));
    let host = host.with_clock(&late);
    attest(&host).await.unwrap();
    let status = host.host.status().unwrap();
    assert_eq!(status.warnings[0].code, "clock-difference");
    let said = &status.warnings[0].message;
    assert!(said.contains("45 s behind"), "{said}");
}
