//! Host-key mode at the server: who gets a health certificate, who does not, and in which order that is decided.

mod common;

use common::{
    HOST_ID, Registry, after, attempt, content, host_key, identity_key, nonces, request,
    request_for_signing, sign, stranger_key,
};
use hgs_attest::host_key::evaluate;
use hgs_attest::wire::{AdRequest, AttestationRequest, Request, ResultContent, SessionId};
use hgs_attest::{
    Code, HostIdentities, HostRegistry as _, IdentityRecord, IdentityRefusal, IdentityTransition,
    KnownHost, MAX_IDENTITY_KEY_AGE, MAX_IDENTITY_KEYS, Reason, Verdict,
};
use hgs_crypto::hash::{sha256, sha256_of};
use hgs_crypto::rsa::{PublicKeyError, SignatureScheme};
use hgs_pki::Seconds;
use hgs_pki::health::{AttestationMode, HealthKind};
use hgs_testkit::fixtures::now;

#[test]
fn a_registered_host_is_granted_a_certificate_over_its_identity_key() {
    let registry = Registry::with_host();
    let identity = identity_key(0);
    let verdict = registry.evaluate(&request(&host_key(), &identity), now());
    assert_eq!(verdict.outcome(), "healthy");
    let facts = verdict.facts().clone();
    let Verdict::Healthy(grant) = verdict else {
        panic!("{verdict:?}");
    };
    assert_eq!(grant.kind(), HealthKind::Encryption);
    let statement = grant.statement();
    assert_eq!(statement.mode, AttestationMode::HostKey);
    assert_eq!(statement.host_id, HOST_ID);
    assert_eq!(statement.issued_at, now());
    let host_key_digest = sha256(host_key().public().spki_der());
    let policy = sha256_of(&[b"OpenHGS HostKey 1", &host_key_digest]);
    assert_eq!(statement.policy_digest, policy);
    assert_eq!(
        *grant.transition(),
        IdentityTransition::Recorded {
            record: IdentityRecord {
                key: *identity.public().digest(),
                kind: HealthKind::Encryption,
                first_seen: now(),
                superseded: None,
                returned: None,
            },
            supersedes: None,
            forgets: None,
        }
    );
    assert_eq!(&facts, grant.facts());
    assert!(facts.proved);
    assert_eq!(facts.session, Some(SessionId([5; 16])));
    assert_eq!(facts.kind, Some(HealthKind::Encryption));
    assert_eq!(facts.host_key, Some(host_key_digest));
    assert_eq!(facts.identity_key, Some(*identity.public().digest()));
    let name = "node-1".to_owned();
    let host_id = HOST_ID;
    assert_eq!(facts.host, Some(KnownHost { host_id, name }));
}

/// attacks.md A13: nothing to compare with is no reason to accept.
#[test]
fn a13_a_registry_without_hosts_accepts_nobody() {
    let registry = Registry::default();
    let request = request(&host_key(), &identity_key(0));
    registry.expect_refusal(&request, now(), Code::HostNotRegistered);
}

/// A registry that knows hosts and says nothing else lets no host change what it is judged by.
#[test]
fn a_registry_accepts_no_claims_of_a_next_boot_unless_it_says_so() {
    assert!(!Registry::with_host().accepts_next_boot_claims());
}

/// attacks.md A5: one key has one representation. The registered key in another encoding is not the registered key.
#[test]
fn a5_another_encoding_of_the_registered_key_is_not_that_key() {
    let registry = Registry::with_host();
    let host = host_key();
    let spki = host.public().spki_der();
    let identity_key = identity_key(0);
    let identity = identity_key.public().spki_der();
    // The algorithm's NULL left out, a length in too many octets, the key alone, and octets after it.
    let null = spki.windows(2).position(|window| window == [5, 0]).unwrap();
    let mut without_null = spki.to_vec();
    without_null.drain(null..null + 2);
    let longer = [&[0x30, 0x83, 0x00], &spki[2..]].concat();
    let bare = spki[24..].to_vec();
    let trailing = [spki, &[0]].concat();
    for other in [without_null, longer, bare, trailing] {
        let mut request = request(&host, &identity_key);
        request.provided_content[2].octets = sign(&host, &[&other, identity].concat());
        request.provided_content[1].octets = other;
        registry.expect_refusal(&request, now(), Code::HostNotRegistered);
    }
}

/// attacks.md A14: a refusal leaves nothing behind, so no number of tries turns it into a pass.
#[test]
fn a14_a_refused_host_stays_refused_until_its_registration_changes() {
    let mut registry = Registry::with_host();
    registry.host().revoked = true;
    let request = request(&host_key(), &identity_key(0));
    for hours in 0..50 {
        let when = after(Seconds::from_hours(hours));
        registry.expect_refusal(&request, when, Code::HostRevoked);
    }
    assert_eq!(registry.host().identities, HostIdentities::default());
}

#[test]
fn contents_stand_in_any_order_and_others_are_ignored() {
    let registry = Registry::with_host();
    let mut request = request(&host_key(), &identity_key(0));
    request.provided_content.reverse();
    for number in [2, 3, 4, 5, 6, 7, 10, u32::MAX] {
        request.provided_content.push(content(number, b"anything"));
    }
    let _ = registry.grant(&request, now());
}

#[test]
fn an_unknown_host_key_is_refused_before_its_signature_is_looked_at() {
    let registry = Registry::with_host();
    let mut request = request(&stranger_key(), &identity_key(0));
    let refusal = registry.refusal(&request, now());
    assert_eq!(refusal.code(), Code::HostNotRegistered);
    assert!(!refusal.facts().proved);
    assert_eq!(refusal.facts().host, None);
    request.provided_content[2].octets = b"no signature".to_vec();
    registry.expect_refusal(&request, now(), Code::HostNotRegistered);
    // Not even a key: it is known by its octets, and these are not known.
    request.provided_content[1].octets = b"no key".to_vec();
    registry.expect_refusal(&request, now(), Code::HostNotRegistered);
}

/// attacks.md A4: a signature that fails must not be swallowed.
#[test]
fn a4_a_signature_covers_both_keys_under_the_registered_one_and_nothing_else() {
    let registry = Registry::with_host();
    let (host, identity) = (host_key(), identity_key(0));
    let good = request(&host, &identity);
    let host_spki = host.public().spki_der();
    let spki = identity.public().spki_der();
    let pss = SignatureScheme::PssSha256;
    for signature in [
        Vec::new(),
        sign(&stranger_key(), &[host_spki, spki].concat()),
        sign(&host, &[spki, host_spki].concat()),
        sign(&host, host_spki),
        sign(&host, spki),
        sign(&host, &sha256_of(&[host_spki, spki])),
        host.sign(pss, &[host_spki, spki].concat()).unwrap(),
    ] {
        let mut request = good.clone();
        request.provided_content[2].octets = signature;
        let refusal = registry.refusal(&request, now());
        assert_eq!(refusal.code(), Code::HostKeySignature);
        assert!(!refusal.facts().proved);
    }
    let mut request = good;
    request.provided_content[0].octets = identity_key(1).public().spki_der().to_vec();
    registry.expect_refusal(&request, now(), Code::HostKeySignature);
}

/// The border between the two keys is fixed by the registered one, so no octets can move from one to the other.
#[test]
fn octets_can_t_move_between_the_two_signed_keys() {
    let registry = Registry::with_host();
    let mut request = request(&host_key(), &identity_key(0));
    let moved = request.provided_content[0].octets.remove(0);
    request.provided_content[1].octets.push(moved);
    registry.expect_refusal(&request, now(), Code::HostNotRegistered);
}

#[test]
fn a_revoked_host_is_told_so_only_when_it_proved_itself() {
    let mut registry = Registry::with_host();
    registry.host().revoked = true;
    let mut request = request(&host_key(), &identity_key(0));
    let refusal = registry.refusal(&request, now());
    assert_eq!(refusal.code(), Code::HostRevoked);
    assert!(refusal.facts().proved);
    request.provided_content[2].octets[0] ^= 1;
    registry.expect_refusal(&request, now(), Code::HostKeySignature);
}

#[test]
fn a_bad_identity_key_is_refused_only_to_a_host_that_proved_itself() {
    let registry = Registry::with_host();
    let host = host_key();
    let mut good = request(&host, &identity_key(0));
    let with_identity = |octets: Vec<u8>| {
        let message = [host.public().spki_der(), &octets].concat();
        let mut request = good.clone();
        request.provided_content[2].octets = sign(&host, &message);
        request.provided_content[0].octets = octets;
        registry.refusal(&request, now())
    };
    let spki = identity_key(0).public().spki_der().to_vec();
    for octets in [
        Vec::new(),
        b"no key".to_vec(),
        [&spki[..], &[0]].concat(),
        spki[..spki.len() - 1].to_vec(),
    ] {
        let refusal = with_identity(octets);
        assert_eq!(refusal.code(), Code::IdentityKeyInvalid);
        let malformed = Reason::IdentityKey(PublicKeyError::Malformed);
        assert_eq!(*refusal.reason(), malformed);
    }
    let refusal = with_identity(host.public().spki_der().to_vec());
    assert_eq!(*refusal.reason(), Reason::IdentityKeyIsHostKey);
    assert_eq!(refusal.code(), Code::IdentityKeyInvalid);

    good.provided_content[0].octets = b"no key".to_vec();
    registry.expect_refusal(&good, now(), Code::HostKeySignature);
}

/// attacks.md A17: a key that others can factor, as identity key of a host that proved itself.
#[test]
fn a17_a_weak_identity_key_is_refused() {
    let registry = Registry::with_host();
    let host = host_key();
    let mut spki = identity_key(0).public().spki_der().to_vec();
    // The modulus ends where the exponent begins; three divides the number of nothing but ones.
    let exponent = b"\x02\x03\x01\x00\x01";
    let end = spki
        .windows(5)
        .rposition(|window| window == exponent)
        .unwrap();
    spki[end - 256..end].fill(0xff);
    let mut request = request(&host, &identity_key(0));
    request.provided_content[2].octets = sign(&host, &[host.public().spki_der(), &spki].concat());
    request.provided_content[0].octets = spki;
    let refusal = registry.refusal(&request, now());
    assert!(
        matches!(
            refusal.reason(),
            Reason::IdentityKey(PublicKeyError::Weak(_))
        ),
        "{refusal:?}"
    );
    assert_eq!(refusal.code(), Code::IdentityKeyInvalid);
}

/// attacks.md A18: keys that are no RSA keys, or none at all.
#[test]
fn a18_an_identity_key_of_another_kind_is_refused() {
    let registry = Registry::with_host();
    let host = host_key();
    // RFC 8410: an Ed25519 key; and the RSA key under the identifier of RSASSA-PSS.
    let ed25519 =
        "302a300506032b6570032100d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    let ed25519 = hgs_crypto::hex::decode(ed25519).unwrap();
    let mut pss = identity_key(0).public().spki_der().to_vec();
    let rsa_encryption = b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01";
    let place = pss.windows(9).position(|window| window == rsa_encryption);
    pss[place.unwrap() + 8] = 10;
    for identity in [ed25519, pss] {
        let mut request = request(&host, &identity_key(0));
        let message = [host.public().spki_der(), &identity].concat();
        request.provided_content[2].octets = sign(&host, &message);
        request.provided_content[0].octets = identity;
        registry.expect_refusal(&request, now(), Code::IdentityKeyInvalid);
    }
}

#[test]
fn each_of_the_three_contents_is_needed_exactly_once() {
    let registry = Registry::with_host();
    let good = request(&host_key(), &identity_key(0));
    for place in 0..3 {
        let mut missing = good.clone();
        missing.provided_content.remove(place);
        registry.expect_refusal(&missing, now(), Code::MissingContent);

        let mut doubled = good.clone();
        let content = doubled.provided_content[place].clone();
        doubled.provided_content.push(content);
        registry.expect_refusal(&doubled, now(), Code::MissingContent);
    }
}

#[test]
fn exactly_one_known_result_can_be_requested() {
    let registry = Registry::with_host();
    let asking = |results: &[u32]| AttestationRequest {
        requested_content: results.iter().copied().map(From::from).collect(),
        ..request(&host_key(), &identity_key(0))
    };
    for results in [&[][..], &[1, 2], &[1, 1], &[3, 3], &[0], &[4], &[u32::MAX]] {
        registry.expect_refusal(&asking(results), now(), Code::RequestedContent);
    }
    registry.expect_refusal(&asking(&[3]), now(), Code::CaIntermediateNotOffered);
    assert_eq!(
        registry.grant(&asking(&[1]), now()).kind(),
        HealthKind::Encryption
    );
    assert_eq!(
        registry.grant(&asking(&[2]), now()).kind(),
        HealthKind::Signing
    );
}

#[test]
fn what_is_no_attestation_request_is_refused() {
    let registry = Registry::with_host();
    let ad = Request::Ad(AdRequest {
        session_id: SessionId([5; 16]),
        requested_content: vec![ResultContent {
            result_type: 1.into(),
            octets: Vec::new(),
        }],
    });
    let good = request(&host_key(), &identity_key(0)).to_json();
    let doubled = [b"{\"RequestedContent\":[1],", &good[1..]].concat();
    let too_large = vec![b' '; 512 * 1024 + 1];
    for (body, code) in [
        (&b""[..], Code::MalformedRequest),
        (b"null", Code::MalformedRequest),
        (&ad.to_json(), Code::MalformedRequest),
        (&good[..good.len() - 1], Code::MalformedRequest),
        (&[&good[..], b"x"].concat(), Code::MalformedRequest),
        (&doubled, Code::MalformedRequest),
        (&too_large, Code::TooLarge),
        (&vec![b'['; 1000], Code::TooLarge),
    ] {
        let Verdict::Refused(refusal) = evaluate(&attempt(body, &nonces(), now()), &registry)
        else {
            panic!("granted: {:?}", String::from_utf8_lossy(body));
        };
        assert_eq!(refusal.code(), code);
    }
}

/// Of two defects the one that is checked first is reported, down the order of the profile.
#[test]
fn the_checks_have_the_order_of_the_profile() {
    let mut registry = Registry::with_host();
    let host = host_key();
    // Everything is wrong, then one thing after the other is put right.
    registry.host().revoked = true;
    let mut request = AttestationRequest {
        requested_content: Vec::new(),
        ..request(&stranger_key(), &identity_key(0))
    };
    let identity = request.provided_content.remove(0);
    registry.expect_refusal(&request, now(), Code::MissingContent);
    request.provided_content.insert(0, identity);
    request.provided_content[0].octets = b"no key".to_vec();
    registry.expect_refusal(&request, now(), Code::RequestedContent);
    request.requested_content = vec![3.into()];
    registry.expect_refusal(&request, now(), Code::CaIntermediateNotOffered);
    request.requested_content = vec![1.into()];
    registry.expect_refusal(&request, now(), Code::HostNotRegistered);
    request.provided_content[1].octets = host.public().spki_der().to_vec();
    registry.expect_refusal(&request, now(), Code::HostKeySignature);
    let message = [host.public().spki_der(), b"no key"].concat();
    request.provided_content[2].octets = sign(&host, &message);
    registry.expect_refusal(&request, now(), Code::HostRevoked);
    registry.host().revoked = false;
    registry.expect_refusal(&request, now(), Code::IdentityKeyInvalid);
}

#[test]
fn a_new_identity_key_supersedes_its_predecessor_for_good() {
    let mut registry = Registry::with_host();
    let first = request(&host_key(), &identity_key(0));
    let second = request(&host_key(), &identity_key(1));
    let grant = registry.grant(&first, now());
    registry.record(&grant);
    let repeated = registry.grant(&first, after(Seconds::new(60)));
    assert_eq!(*repeated.transition(), IdentityTransition::Unchanged);

    let later = after(Seconds::from_hours(1));
    let grant = registry.grant(&second, later);
    let IdentityTransition::Recorded { supersedes, .. } = grant.transition() else {
        panic!("{grant:?}");
    };
    assert_eq!(*supersedes, Some(*identity_key(0).public().digest()));
    registry.record(&grant);

    // The captured request of the old key is good no more, today or ever.
    for when in [later, after(Seconds::from_days(5_000))] {
        let refusal = registry.refusal(&first, when);
        let expected = Reason::IdentityRefused(IdentityRefusal::Superseded { at: later });
        assert_eq!(*refusal.reason(), expected);
        assert_eq!(refusal.code(), Code::IdentityKeySuperseded);
    }
    let _ = registry.grant(&second, later);
}

#[test]
fn an_identity_key_is_certified_for_thirty_days_and_no_longer() {
    let mut registry = Registry::with_host();
    let request = request(&host_key(), &identity_key(0));
    let grant = registry.grant(&request, now());
    registry.record(&grant);
    let last = after(MAX_IDENTITY_KEY_AGE);
    let grant = registry.grant(&request, last);
    assert_eq!(*grant.transition(), IdentityTransition::Unchanged);
    registry.record(&grant);
    let next = last.checked_add(Seconds::new(1)).unwrap();
    registry.expect_refusal(&request, next, Code::IdentityKeyExpired);

    let grant = registry.grant(&self::request(&host_key(), &identity_key(1)), next);
    registry.record(&grant);
    registry.expect_refusal(&request, next, Code::IdentityKeySuperseded);
}

#[test]
fn a_key_of_one_kind_is_refused_for_the_other_even_when_superseded() {
    let mut registry = Registry::with_host();
    let encryption = request(&host_key(), &identity_key(0));
    let signing = request_for_signing(&host_key(), &identity_key(0));
    let grant = registry.grant(&encryption, now());
    registry.record(&grant);
    registry.expect_refusal(&signing, now(), Code::IdentityKeyOfOtherKind);

    // The kinds don't supersede each other.
    let other = request_for_signing(&host_key(), &identity_key(1));
    let grant = registry.grant(&other, now());
    registry.record(&grant);
    let _ = registry.grant(&encryption, now());

    let grant = registry.grant(&request(&host_key(), &identity_key(2)), now());
    registry.record(&grant);
    registry.expect_refusal(&signing, now(), Code::IdentityKeyOfOtherKind);
    registry.expect_refusal(&encryption, now(), Code::IdentityKeySuperseded);
}

#[test]
fn a_host_with_as_many_keys_as_it_may_have_can_use_the_last_but_no_new_one() {
    let mut registry = Registry::with_host();
    let last = request(&host_key(), &identity_key(0));
    let superseded = (1..MAX_IDENTITY_KEYS).map(|number| IdentityRecord {
        key: sha256(&number.to_be_bytes()),
        kind: HealthKind::Encryption,
        // They were not made within the last hour.
        first_seen: now().checked_sub(Seconds::from_hours(2)).unwrap(),
        superseded: Some(now()),
        returned: None,
    });
    registry.host().identities = HostIdentities::new(superseded);
    let grant = registry.grant(&last, now());
    registry.record(&grant);
    let another = request(&host_key(), &identity_key(1));
    registry.expect_refusal(&another, now(), Code::TooManyIdentityKeys);
    let _ = registry.grant(&last, now());
    // The bound is of each kind.
    let signing = request_for_signing(&host_key(), &identity_key(1));
    let _ = registry.grant(&signing, now());
}
