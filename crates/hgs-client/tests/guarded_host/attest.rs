//! Attesting: what is accepted, kept, renewed, and who is asked.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use hgs_attest::Code;
use hgs_attest::client::{AttestationFailure, NotAsked};
use hgs_attest::wire::AttestationOperationMode;
use hgs_client::configuration::Endpoints;
use hgs_client::service::{Cause, Side, Sides};
use hgs_client::status::Status;
use hgs_client::{Attestation, Error, Fault, GuardedHost};
use hgs_clock::Clock as _;
use hgs_files::FileProblem;
use hgs_kps::ServiceVersion;
use hgs_pki::Seconds;
use hgs_pki::health::{HealthCertificateError, HealthKind};
use tokio::net::TcpListener;

use crate::guardian::{Manner, TestClock, TestGuardian, TestHost, pair};

const INFO: &str = "/Attestation/getinfo";
const ATTEST: &str = "/Attestation/v2.0/hostkeyattest";
const SIGNERS: &str = "/Attestation/v2.0/signingCertificates";

/// A host that is registered at a primary and at a fallback.
async fn with_fallback() -> (TestClock, TestGuardian, TestGuardian, TestHost) {
    let clock = TestClock::new();
    let primary = TestGuardian::start(&clock, 12).await;
    let fallback = TestGuardian::start(&clock, 13).await;
    let host = TestHost::new(&clock, primary.endpoints(), Some(fallback.endpoints()));
    primary.register(&host);
    fallback.register(&host);
    (clock, primary, fallback, host)
}

async fn attest(host: &TestHost) -> Result<Attestation, Error> {
    host.host.attest(HealthKind::Encryption, Sides::Both).await
}

fn status(host: &TestHost) -> Status {
    host.host.status().unwrap()
}

fn status_name(host: &TestHost) -> &'static str {
    status(host).attestation_status.name
}

fn cause(error: &Error) -> &Cause {
    match error {
        Error::Services(error) => &error.last().cause,
        other => panic!("not an answer: {other}"),
    }
}

fn code(error: &Error) -> Option<Code> {
    match cause(error) {
        Cause::Attestation(AttestationFailure::Refused(refused)) => refused.code(),
        _ => None,
    }
}

#[tokio::test]
async fn a_registered_host_is_guarded_until_its_certificate_expires() {
    let (clock, guardian, host) = pair().await;
    assert_eq!(status_name(&host), "Unknown");
    let attestation = attest(&host).await.unwrap();
    assert_eq!(attestation.side, Side::Primary);
    assert_eq!(guardian.requests(), [INFO, ATTEST, SIGNERS]);

    let host = host.restarted();
    let held = status(&host);
    assert!(held.is_host_guarded);
    assert_eq!(held.mode, "HostGuardianService");
    assert_eq!(held.attestation_status.number, Some(100));
    assert_eq!(held.attestation_operation_mode.as_deref(), Some("HostKey"));
    assert_eq!(held.health_certificates.len(), 1);

    clock.advance(Seconds::from_hours(9));
    let expired = status(&host);
    assert!(!expired.is_host_guarded);
    assert_eq!(expired.attestation_status.number, Some(200));
}

#[tokio::test]
async fn encryption_and_signing_are_over_different_keys() {
    let (_, _guardian, host) = pair().await;
    let encryption = attest(&host).await.unwrap().certificate;
    let signing = host
        .host
        .attest(HealthKind::Signing, Sides::Both)
        .await
        .unwrap();
    assert_ne!(encryption.public_key(), signing.certificate.public_key());
    assert_eq!(status(&host).health_certificates.len(), 2);
}

#[tokio::test]
async fn an_identity_key_is_kept_for_weeks_and_renewed_before_the_guardian_refuses_it() {
    let (clock, _guardian, host) = pair().await;
    let first = attest(&host).await.unwrap().certificate;
    clock.advance(Seconds::from_days(19));
    let same = attest(&host).await.unwrap().certificate;
    assert_eq!(first.public_key(), same.public_key());
    assert_ne!(first, same);
    clock.advance(Seconds::from_days(2));
    let renewed = attest(&host).await.unwrap().certificate;
    assert_ne!(first.public_key(), renewed.public_key());
}

#[tokio::test]
async fn a_restored_backup_gets_a_new_identity_key() {
    let (_, _guardian, host) = pair().await;
    attest(&host).await.unwrap();
    let file = host.state().join("identity-encryption.json");
    let old = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    let second = attest(&host).await.unwrap().certificate;
    fs::write(&file, old).unwrap();
    let third = attest(&host).await.unwrap().certificate;
    assert_ne!(second.public_key(), third.public_key());
}

#[tokio::test]
async fn an_identity_key_that_does_not_open_is_replaced() {
    let (_, _guardian, host) = pair().await;
    attest(&host).await.unwrap();
    fs::remove_file(host.state().join("master.key")).unwrap();
    attest(&host).await.unwrap();
}

#[tokio::test]
async fn an_unregistered_host_is_told_how_to_register() {
    let clock = TestClock::new();
    let guardian = TestGuardian::start(&clock, 12).await;
    let host = TestHost::new(&clock, guardian.endpoints(), None);
    let error = attest(&host).await.unwrap_err();
    assert_eq!(code(&error), Some(Code::HostNotRegistered));
    assert_eq!(error.fault(), Fault::Host);
    assert!(error.is_refusal());
    assert!(error.remedy().unwrap().contains("hgs host add"));
    let status = status(&host);
    assert_eq!(status.attestation_status.number, Some(301));
    assert!(
        status
            .last_attempt
            .unwrap()
            .remedy
            .unwrap()
            .contains("hgs host add")
    );
}

#[tokio::test]
async fn k4_a_revoked_host_loses_the_certificates_it_holds() {
    let (_, guardian, host) = pair().await;
    attest(&host).await.unwrap();
    let signing = host.host.attest(HealthKind::Signing, Sides::Both);
    signing.await.unwrap();
    guardian.revoke(&host);
    let error = attest(&host).await.unwrap_err();
    assert_eq!(code(&error), Some(Code::HostRevoked));
    let status = status(&host);
    assert!(!status.is_host_guarded);
    assert!(status.health_certificates.is_empty());
    assert_eq!(status.attestation_status.name, "UnauthorizedHost");
}

#[tokio::test]
async fn a16_a_certificate_over_another_key_is_not_kept() {
    let (_, guardian, host) = pair().await;
    guardian.world().manner = Manner::CertifiesOtherKey;
    let error = attest(&host).await.unwrap_err();
    assert!(matches!(
        cause(&error),
        Cause::Attestation(AttestationFailure::NotAsked(NotAsked::OtherKey))
    ));
    assert_eq!(error.fault(), Fault::Guardian);
    assert!(!status(&host).is_host_guarded);
    let file = fs::read(host.state().join("identity-encryption.json")).unwrap();
    let file: serde_json::Value = serde_json::from_slice(&file).unwrap();
    assert_eq!(file["certificates"], serde_json::json!({}));
}

#[tokio::test]
async fn a16_a_certificate_by_a_signer_that_is_not_listed_is_not_kept() {
    let (_, guardian, host) = pair().await;
    guardian.world().manner = Manner::HidesItsSigner;
    let error = attest(&host).await.unwrap_err();
    assert!(matches!(
        cause(&error),
        Cause::HealthCertificate(HealthCertificateError::UntrustedIssuer)
    ));
    assert!(!status(&host).is_host_guarded);
}

#[tokio::test]
async fn another_mode_is_named() {
    let (_, guardian, host) = pair().await;
    guardian.world().manner = Manner::Mode(AttestationOperationMode::ActiveDirectory);
    let error = attest(&host).await.unwrap_err();
    assert!(matches!(
        cause(&error),
        Cause::Attestation(AttestationFailure::OtherMode { .. })
    ));
    assert!(error.to_string().contains("ActiveDirectory"), "{error}");
    let mode = status(&host).attestation_operation_mode;
    assert_eq!(mode.as_deref(), Some("ActiveDirectory"));
}

#[tokio::test]
async fn a_host_without_a_tpm_is_told_so_by_a_guardian_in_tpm_mode() {
    let (_, guardian, host) = pair().await;
    guardian.world().manner = Manner::Mode(AttestationOperationMode::Tpm);
    let error = attest(&host).await.unwrap_err();
    assert!(
        error.to_string().starts_with("there is no TPM at "),
        "{error}"
    );
    assert_eq!(error.fault(), Fault::Host);
    let status = status(&host);
    assert_eq!(status.attestation_operation_mode.as_deref(), Some("Tpm"));
    assert_eq!(status.attestation_status.name, "TpmError");
    let attempt = status.last_attempt.unwrap();
    assert!(attempt.message.unwrap().starts_with("there is no TPM at "));
    assert!(attempt.remedy.unwrap().contains("firmware"));
}

#[tokio::test]
async fn the_fallback_is_asked_when_the_primary_is_away_and_no_longer_when_it_is_back() {
    let (clock, primary, fallback, host) = with_fallback().await;
    primary.world().manner = Manner::Page(503);
    let attestation = attest(&host).await.unwrap();
    assert_eq!(attestation.side, Side::Fallback);
    assert_eq!(primary.requests(), [INFO]);
    assert!(status(&host).is_fallback_in_use);

    primary.world().manner = Manner::Proper;
    clock.advance(Seconds::from_minutes(1));
    assert_eq!(attest(&host).await.unwrap().side, Side::Primary);
    assert!(!status(&host).is_fallback_in_use);
    fallback.requests();

    // A refused connection is the plainest failure of all.
    let host = host.restarted();
    primary.stop().await;
    assert_eq!(attest(&host).await.unwrap().side, Side::Fallback);
}

#[tokio::test]
async fn a_refusal_by_the_primary_is_an_answer() {
    let (_, primary, fallback, host) = with_fallback().await;
    primary.revoke(&host);
    let error = attest(&host).await.unwrap_err();
    assert_eq!(code(&error), Some(Code::HostRevoked));
    assert!(fallback.requests().is_empty());
}

#[tokio::test]
async fn both_answers_are_told_when_neither_service_helps() {
    let (_, primary, fallback, host) = with_fallback().await;
    primary.world().manner = Manner::Page(500);
    fallback.world().manner = Manner::Page(404);
    let error = attest(&host).await.unwrap_err();
    let Error::Services(services) = &error else {
        panic!("{error}");
    };
    assert_eq!(services.earlier().len(), 1);
    assert_eq!(services.last().side, Side::Fallback);
    assert!(!error.is_refusal());
    assert_eq!(status_name(&host), "TransientError");
}

#[tokio::test]
async fn one_service_alone_can_be_asked() {
    let (_, primary, fallback, host) = with_fallback().await;
    let only = |side| host.host.attest(HealthKind::Encryption, Sides::Only(side));
    assert_eq!(only(Side::Fallback).await.unwrap().side, Side::Fallback);
    assert!(primary.requests().is_empty());
    fallback.requests();
    primary.world().manner = Manner::Page(503);
    only(Side::Primary).await.unwrap_err();
    assert!(fallback.requests().is_empty());

    let clock = TestClock::new();
    let alone = TestHost::new(&clock, fallback.endpoints(), None);
    let sides = Sides::Only(Side::Fallback);
    let error = alone
        .host
        .attest(HealthKind::Encryption, sides)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::NoFallback));
}

#[tokio::test]
async fn a_host_whose_clock_is_ahead_is_told_about_clocks() {
    let (clock, guardian, host) = pair().await;
    let ahead = TestClock::new();
    ahead.advance(Seconds::from_hours(20));
    let host = host.with_clock(&ahead);
    let error = attest(&host).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Host);
    assert!(error.remedy().unwrap().contains("clock"));
    let said = error.to_string();
    for time in [clock.now(), ahead.now()] {
        assert!(said.contains(&time.to_string()), "{said}");
    }
    drop(guardian);
}

#[tokio::test]
async fn a_rehearsal_asks_for_nothing_and_keeps_nothing() {
    let (_, guardian, host) = pair().await;
    let kinds = [HealthKind::Encryption, HealthKind::Signing];
    let rehearse = async || {
        let rehearsal = host.host.rehearse_attestation(&kinds, Sides::Both).await;
        rehearsal.unwrap()
    };
    let rehearsal = rehearse().await;
    assert!(rehearsal.is_ready());
    assert_eq!(rehearsal.requests[0].identity_key, None);
    assert!(rehearsal.services[0].url.ends_with(ATTEST));
    assert_eq!(guardian.requests(), ["/Attestation/getinfo"]);
    assert_eq!(status_name(&host), "Unknown");

    let held = attest(&host).await.unwrap().certificate;
    let rehearsal = rehearse().await;
    let digest = hgs_crypto::hex::encode(held.public_key().digest());
    assert_eq!(rehearsal.requests[0].identity_key, Some(digest));
    assert_eq!(rehearsal.requests[1].identity_key, None);

    guardian.world().manner = Manner::Mode(AttestationOperationMode::ActiveDirectory);
    let rehearsal = rehearse().await;
    assert!(!rehearsal.is_ready());
    assert!(
        rehearsal.services[0]
            .remedy
            .unwrap()
            .contains("host-key mode")
    );
}

#[tokio::test]
async fn what_is_kept_is_the_owners_alone() {
    let (_, _guardian, host) = pair().await;
    attest(&host).await.unwrap();
    assert_eq!(fs::metadata(host.state()).unwrap().mode() & 0o7777, 0o700);
    let mut files = 0;
    for entry in fs::read_dir(host.state()).unwrap() {
        let mode = entry.unwrap().metadata().unwrap().mode() & 0o7777;
        assert_eq!(mode, 0o600);
        files += 1;
    }
    assert!(files >= 4);
    fs::set_permissions(host.state(), fs::Permissions::from_mode(0o750)).unwrap();
    let error = attest(&host).await.unwrap_err();
    let Error::File(error) = error else {
        panic!("{error}");
    };
    assert!(matches!(
        error.problem,
        FileProblem::Permissions { mode: 0o750 }
    ));
}

#[tokio::test]
async fn k20_nothing_is_written_through_a_link() {
    let (_, _guardian, host) = pair().await;
    let victim = tempfile::NamedTempFile::new().unwrap();
    fs::write(victim.path(), "precious").unwrap();
    for name in [
        "status.json",
        "identity-encryption.json",
        "attest.lock",
        "master.key",
    ] {
        let path = host.state().join(name);
        let _ = fs::remove_file(&path);
        symlink(victim.path(), &path).unwrap();
        let error = attest(&host).await.unwrap_err();
        assert!(
            error.to_string().contains("symbolic link"),
            "{name}: {error}"
        );
        fs::remove_file(path).unwrap();
    }
    assert_eq!(fs::read(victim.path()).unwrap(), b"precious");
}

#[tokio::test]
async fn the_octets_of_the_identity_key_are_sealed() {
    let (_, _guardian, host) = pair().await;
    attest(&host).await.unwrap();
    let file = fs::read_to_string(host.state().join("identity-encryption.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&file).unwrap();
    let key = hgs_crypto::base64::decode(json["key"].as_str().unwrap()).unwrap();
    // rsaEncryption, 1.2.840.113549.1.1.1: in every RSA key in clear.
    let oid = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
    assert!(!key.windows(oid.len()).any(|octets| octets == oid));
}

/// Whoever starts many machines does it in tasks.
#[test]
fn hosts_work_in_tasks() {
    fn is_send<T: Send>(_: impl FnOnce(&'static GuardedHost) -> T) {}
    is_send(|host| host.attest(HealthKind::Encryption, Sides::Both));
    is_send(|host| host.unwrap(b"", ServiceVersion::V2));
    is_send(|host| host.rehearse_attestation(&[], Sides::Both));
}

#[tokio::test]
async fn authorities_that_can_not_be_read_are_told_when_they_are_needed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let url = |path| format!("https://{address}/{path}").parse().unwrap();
    let endpoints = Endpoints {
        attestation: url("Attestation"),
        key_protection: url("KeyProtection"),
    };
    let host = TestHost::with_authorities(&TestClock::new(), endpoints, "/no/such/file.pem");
    assert_eq!(status_name(&host), "Unknown");
    let error = attest(&host).await.unwrap_err();
    assert!(error.to_string().contains("/no/such/file.pem"), "{error}");
    assert_eq!(error.fault(), Fault::Operator);
    assert!(error.remedy().unwrap().contains("--ca"));
}
