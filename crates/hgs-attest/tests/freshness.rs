//! A nonce of the server, returned under the host key's signature: what it shows, and what a captured request is worth.

mod common;

use common::{
    Registry, after, attempt, host_key, identity_key, nonces, request, sign, stranger_key,
};
use hgs_attest::freshness::{FreshnessError, FreshnessProof, Nonce, NonceKey};
use hgs_attest::host_key::evaluate;
use hgs_attest::{
    Attempt, Code, HostIdentities, IdentityRecord, IdentityTransition, MAX_IDENTITY_KEYS, Refusal,
    Verdict,
};
use hgs_crypto::SecretBytes;
use hgs_crypto::hash::{HmacKey, sha256};
use hgs_crypto::rsa::PrivateKey;
use hgs_pki::health::HealthKind;
use hgs_pki::{Seconds, Time};
use hgs_testkit::fixtures::now;

fn proof(nonce: &Nonce, key: &PrivateKey, body: &[u8]) -> String {
    let signature = sign(key, &nonce.signed_octets(body));
    FreshnessProof::new(nonce.clone(), signature).to_header()
}

fn with_proof(registry: &Registry, body: &[u8], proof: &str, when: Time) -> Verdict {
    let nonces = nonces();
    let attempt = Attempt {
        proof: Some(proof),
        ..attempt(body, &nonces, when)
    };
    evaluate(&attempt, registry)
}

#[track_caller]
fn refusal(verdict: Verdict) -> Refusal {
    match verdict {
        Verdict::Refused(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}

/// The octets, made here from the words of the profile.
#[test]
fn nonce_and_signed_octets_are_those_of_the_profile() {
    let secret = SecretBytes::new(vec![0x4e; 32]);
    let nonce = NonceKey::new(&secret).nonce(now());
    let time = now().unix().to_be_bytes();
    let tag = HmacKey::new(&secret).tag(&[b"OpenHGS attestation nonce 1\0", &time]);
    let octets = [&[1][..], &time, &tag].concat();
    assert_eq!(octets.len(), 41);
    assert_eq!(nonce.to_header(), hgs_crypto::base64::encode(&octets));
    let signed = nonce.signed_octets(b"body");
    let expected = [
        &b"OpenHGS attestation freshness 1\0"[..],
        &sha256(&octets),
        &sha256(b"body"),
    ]
    .concat();
    assert_eq!(signed, expected);
    assert_eq!(signed.len(), 96);
}

#[test]
fn a_nonce_is_good_for_five_minutes_on_every_node() {
    let nonce = nonces().nonce(now());
    let check = |when| nonces().check(&nonce, when);
    assert_eq!(check(now()), Ok(()));
    assert_eq!(check(after(Seconds::new(300))), Ok(()));
    let late = after(Seconds::new(301));
    let expired = FreshnessError::Expired {
        made: now(),
        now: late,
    };
    assert_eq!(check(late), Err(expired));
    // Another node's clock may be a minute behind.
    let behind = |seconds| now().checked_sub(Seconds::new(seconds)).unwrap();
    assert_eq!(check(behind(60)), Ok(()));
    assert!(matches!(
        check(behind(61)),
        Err(FreshnessError::Expired { .. })
    ));
    let other = NonceKey::new(&SecretBytes::new(vec![1; 32]));
    assert_eq!(other.check(&nonce, now()), Err(FreshnessError::Foreign));
    for octets in [&b"short"[..], &[2; 41], &[1; 41], &[1; 64]] {
        let nonce = Nonce::from_header(&hgs_crypto::base64::encode(octets)).unwrap();
        assert_eq!(nonces().check(&nonce, now()), Err(FreshnessError::Foreign));
    }
}

#[test]
fn a_proof_covers_the_nonce_and_the_body_under_the_host_key() {
    let registry = Registry::with_host();
    let body = request(&host_key(), &identity_key(0)).to_json();
    let other_body = request(&host_key(), &identity_key(1)).to_json();
    let nonce = nonces().nonce(now());
    let older = nonces().nonce(now().checked_sub(Seconds::new(10)).unwrap());
    let good = proof(&nonce, &host_key(), &body);
    let Verdict::Healthy(grant) = with_proof(&registry, &body, &good, now()) else {
        panic!("it is good");
    };
    assert!(grant.returned_nonce());

    let (_, signature) = good.split_once('.').unwrap();
    for (header, error) in [
        (
            proof(&nonce, &stranger_key(), &body),
            FreshnessError::Signature,
        ),
        (
            proof(&nonce, &host_key(), &other_body),
            FreshnessError::Signature,
        ),
        (
            format!("{}.{signature}", older.to_header()),
            FreshnessError::Signature,
        ),
    ] {
        let refusal = refusal(with_proof(&registry, &body, &header, now()));
        assert_eq!(*refusal.reason(), error.into());
        assert_eq!(refusal.code(), Code::NonceInvalid);
        assert!(!refusal.facts().proved);
    }
    let malformed = [
        "",
        ".",
        "a.b",
        &good[1..],
        &good.replace('.', ","),
        &format!("{good}."),
        &format!(" {good}"),
        &format!("{good}\n"),
        &format!("{}.{}", "A".repeat(92), signature),
        &format!("{}.{}", nonce.to_header(), "A".repeat(1372)),
    ];
    for header in malformed {
        let refusal = refusal(with_proof(&registry, &body, header, now()));
        assert_eq!(refusal.code(), Code::NonceInvalid, "{header:?}");
    }
}

/// A captured request is worth nothing once the host has returned a nonce, with its header stripped or without.
#[test]
fn a_host_that_has_returned_a_nonce_has_to_from_then_on() {
    let mut registry = Registry::with_host();
    let captured = request(&host_key(), &identity_key(0));
    let _ = registry.grant(&captured, now());
    let body = captured.to_json();
    let header = proof(&nonces().nonce(now()), &host_key(), &body);
    let Verdict::Healthy(grant) = with_proof(&registry, &body, &header, now()) else {
        panic!("it is good");
    };
    registry.record(&grant);

    registry.expect_refusal(&captured, now(), Code::NonceRequired);
    let late = after(Seconds::from_minutes(6));
    let refusal = refusal(with_proof(&registry, &body, &header, late));
    assert_eq!(refusal.code(), Code::NonceExpired);
    assert!(refusal.code().is_retryable());
    let text = refusal.reason().to_string();
    assert!(text.contains(&now().to_string()) && text.contains(&late.to_string()));
}

#[test]
fn a_guardian_can_require_it_of_every_host() {
    let registry = Registry::with_host();
    let body = request(&host_key(), &identity_key(0)).to_json();
    let nonces = nonces();
    let required = Attempt {
        require_nonce: true,
        ..attempt(&body, &nonces, now())
    };
    let refused = refusal(evaluate(&required, &registry));
    assert_eq!(refused.code(), Code::NonceRequired);
    assert!(!refused.facts().proved);
    let header = proof(&nonces.nonce(now()), &host_key(), &body);
    let proved = Attempt {
        proof: Some(&header),
        ..required
    };
    assert!(matches!(evaluate(&proved, &registry), Verdict::Healthy(_)));
}

/// Nothing that a failing host does again and again uses up what it may have for good.
#[test]
fn a_host_that_returns_nonces_never_runs_out_of_identity_keys() {
    let mut registry = Registry::with_host();
    let superseded = (0..MAX_IDENTITY_KEYS as i64).map(|number| IdentityRecord {
        key: sha256(&number.to_be_bytes()),
        kind: HealthKind::Encryption,
        first_seen: Time::from_unix(number),
        superseded: Some(Time::from_unix(number + 1)),
        returned: None,
    });
    registry.host().identities = HostIdentities::new(superseded);
    let new = request(&host_key(), &identity_key(0));
    registry.expect_refusal(&new, now(), Code::TooManyIdentityKeys);
    let body = new.to_json();
    let header = proof(&nonces().nonce(now()), &host_key(), &body);
    let Verdict::Healthy(grant) = with_proof(&registry, &body, &header, now()) else {
        panic!("the oldest makes room");
    };
    let IdentityTransition::Recorded { forgets, .. } = grant.transition() else {
        panic!("{grant:?}");
    };
    assert_eq!(*forgets, Some(sha256(&0i64.to_be_bytes())));
    registry.record(&grant);
    let count = registry.host().identities.count(HealthKind::Encryption);
    assert_eq!(count, MAX_IDENTITY_KEYS);
}
