//! The nonces of a service are returned, so that a request that was captured is worth nothing (protocol profile, section 7).

use hgs_attest::Code;
use hgs_client::service::{Cause, Sides};
use hgs_client::{Error, Fault};
use hgs_pki::Seconds;
use hgs_pki::health::HealthKind;

use crate::guardian::{Nonces, TestGuardian, TestHost, pair};

async fn attest(host: &TestHost) -> Result<(), Error> {
    let attestation = host.host.attest(HealthKind::Encryption, Sides::Both);
    attestation.await.map(drop)
}

fn sent(guardian: &TestGuardian) -> Vec<(Option<String>, Vec<u8>)> {
    std::mem::take(&mut guardian.world().attestations)
}

/// What the guardian answers to a request that somebody captured and sends again.
fn replayed(guardian: &TestGuardian, (proof, body): &(Option<String>, Vec<u8>)) -> Option<Code> {
    let (status, reply) = guardian.world().attest(proof.as_deref(), body);
    let reply: serde_json::Value = serde_json::from_slice(&reply).unwrap();
    (status != 200).then(|| Code::from_name(reply["OpenHgs"]["Code"].as_str().unwrap()).unwrap())
}

#[tokio::test]
async fn a_captured_request_is_worth_nothing_once_the_host_has_returned_a_nonce() {
    let (clock, guardian, host) = pair().await;
    guardian.world().nonces = Nonces::None;
    attest(&host).await.unwrap();
    let old = sent(&guardian).remove(0);
    assert_eq!(old.0, None);
    assert_eq!(replayed(&guardian, &old), None, "nothing protects it yet");

    guardian.world().nonces = Nonces::Fresh;
    attest(&host).await.unwrap();
    let new = sent(&guardian).remove(0);
    assert!(new.0.is_some());
    assert_eq!(replayed(&guardian, &old), Some(Code::NonceRequired));
    let stripped = (None, new.1.clone());
    assert_eq!(replayed(&guardian, &stripped), Some(Code::NonceRequired));
    clock.advance(Seconds::from_minutes(6));
    assert_eq!(replayed(&guardian, &new), Some(Code::NonceExpired));
    let moved = (new.0, old.1);
    assert_eq!(replayed(&guardian, &moved), Some(Code::NonceExpired));
    attest(&host).await.unwrap();
}

#[tokio::test]
async fn a_guardian_that_requires_nonces_gets_them() {
    let (_, guardian, host) = pair().await;
    guardian.world().requires_nonce = true;
    attest(&host).await.unwrap();
    assert_eq!(sent(&guardian).len(), 1, "getinfo gave the nonce");
}

/// Whatever is between host and guardian: the nonce of the refusal is returned at once, with the same identity key.
#[tokio::test]
async fn a_request_is_repeated_once_with_the_nonce_of_the_refusal() {
    for nonces in [
        Nonces::LateInGetinfo(Seconds::from_minutes(6)),
        Nonces::InRefusals,
    ] {
        let (_, guardian, host) = pair().await;
        guardian.world().requires_nonce = true;
        guardian.world().nonces = nonces;
        attest(&host).await.unwrap();
        let sent = sent(&guardian);
        let [(first, body), (second, repeated)] = &sent[..] else {
            panic!("{} requests", sent.len());
        };
        assert_ne!(first, second);
        assert_eq!(body, repeated);
        assert_eq!(guardian.world().identity_keys(HealthKind::Encryption), 1);
    }
}

/// A proxy that takes the headers away is no reason to ask without end.
#[tokio::test]
async fn a_request_is_repeated_only_with_another_nonce() {
    let (_, guardian, host) = pair().await;
    guardian.world().requires_nonce = true;
    guardian.world().nonces = Nonces::None;
    let error = attest(&host).await.unwrap_err();
    assert!(error.to_string().contains("nonce-required"), "{error}");
    assert_eq!(sent(&guardian).len(), 1);
}

#[tokio::test]
async fn a_nonce_that_is_none_is_named() {
    let (_, guardian, host) = pair().await;
    guardian.world().nonces = Nonces::Garbled;
    let error = attest(&host).await.unwrap_err();
    let Error::Services(services) = &error else {
        panic!("{error}");
    };
    assert!(matches!(services.last().cause, Cause::Nonce(_)));
    assert_eq!(error.fault(), Fault::Guardian);
    let said = error.to_string();
    assert!(said.contains("openhgs-attestation-nonce"), "{said}");
}
