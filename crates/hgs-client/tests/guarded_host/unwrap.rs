//! Unwrapping: what is released, what is believed of it, and what happens to the files.

use std::fs;
use std::path::PathBuf;

use hgs_client::service::{Cause, Side, Sides};
use hgs_client::{
    Error, Fault, KeyProtectionFailure, RequestId, SealedPair, Unwrapped, sealed_file,
};
use hgs_crypto::random::System;
use hgs_crypto::rsa::OaepHash;
use hgs_crypto::{SecretBytes, aes};
use hgs_kps::signed_response::{
    ACCEPT_SIGNATURE, CONTENT_DIGEST, ResponseSignatureError, ResponseSigner, SignatureRequest,
};
use hgs_kps::wire::{RollTransportKeyRequest, RollTransportKeyResponse};
use hgs_kps::{ClientError, Code, ServiceVersion};
use hgs_pki::health::{HealthKind, HealthValidity};
use hgs_pki::{Certificate, Seconds};
use hgs_protector::transport_key_blob::{BlobVersion, TransportKeyBlob};
use hgs_protector::{TransportKey, VerifiedProtector};
use hgs_testkit::fixtures::{Forge, Guardian, Keys, key_octets};
use hyper::HeaderMap;

use crate::guardian::{
    Answer, Attacker, Manner, TestClock, TestGuardian, TestHost, nodes, verified,
};

const INFO: &str = "/Attestation/getinfo";
const ATTEST: &str = "/Attestation/v2.0/hostkeyattest";
const SIGNERS: &str = "/Attestation/v2.0/signingCertificates";
const ROLL: &str = "/KeyProtection/service/v2.0/rolltransportkey";
const STATE: &[u8] = b"the state of a vTPM";

/// A virtual machine: a protector for the owner and `guardian`, and a file that is sealed under it.
pub(crate) struct Vm(tempfile::TempDir);

impl Vm {
    pub(crate) fn of(guardian: &str) -> Self {
        let vm = Self(tempfile::tempdir().unwrap());
        let (owner, guardian) = (Guardian::named("owner"), Guardian::named(guardian));
        let octets = Forge::new(owner, &[guardian], key_octets(1)).seal(owner);
        let key = TransportKey::from_secret(SecretBytes::from(&key_octets(1)[..])).unwrap();
        let digest = verified(octets.as_bytes()).digest();
        let file = sealed_file::seal(&key, &digest, &STATE.into(), &mut System::new()).unwrap();
        fs::write(vm.protector(), octets).unwrap();
        fs::write(vm.file(), file).unwrap();
        vm
    }

    pub(crate) fn protector(&self) -> PathBuf {
        self.0.path().join("vm.protector")
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("vm.state")
    }

    /// Unwraps, opens, re-seals and replaces, as a start does.
    pub(crate) async fn start(&self, host: &TestHost) -> Result<Unwrapped, Error> {
        let pair = SealedPair::open(&self.protector(), &self.file())?;
        let unwrapped = host
            .host
            .unwrap(pair.protector(), ServiceVersion::V2)
            .await?;
        let state = unwrapped.open(pair.file())?;
        assert_eq!(state.expose(), STATE);
        let sealed = unwrapped.reseal(&state)?;
        pair.replace(unwrapped.egress(), &sealed)?;
        Ok(unwrapped)
    }

    fn octets(&self) -> [Vec<u8>; 2] {
        [self.protector(), self.file()].map(|path| fs::read(path).unwrap())
    }
}

async fn registered() -> (TestClock, TestGuardian, TestHost) {
    let clock = TestClock::new();
    let guardian = TestGuardian::start(&clock, 12).await;
    let host = TestHost::new(&clock, guardian.endpoints(), None);
    guardian.register(&host);
    (clock, guardian, host)
}

async fn with_fallback() -> (TestGuardian, TestGuardian, TestHost) {
    let clock = TestClock::new();
    let primary = TestGuardian::start(&clock, 12).await;
    let fallback = TestGuardian::start(&clock, 13).await;
    let host = TestHost::new(&clock, primary.endpoints(), Some(fallback.endpoints()));
    primary.register(&host);
    fallback.register(&host);
    (primary, fallback, host)
}

fn failure(error: &Error) -> &KeyProtectionFailure {
    match error {
        Error::Services(error) => match &error.last().cause {
            Cause::KeyProtection(failure) => failure,
            other => panic!("not an answer about keys: {other}"),
        },
        other => panic!("not an answer: {other}"),
    }
}

fn id(request_id: Option<&RequestId>) -> Option<&str> {
    request_id.map(RequestId::as_str)
}

fn code(error: &Error) -> Option<Code> {
    match failure(error) {
        KeyProtectionFailure::Refused { code, .. } => *code,
        other => panic!("not a refusal: {other}"),
    }
}

#[tokio::test]
async fn each_start_rolls_and_one_certificate_serves_for_all() {
    let (_, guardian, host) = registered().await;
    let vm = Vm::of("fabric");
    let before = vm.octets();
    let first = vm.start(&host).await.unwrap();
    assert_eq!(guardian.requests(), [INFO, ATTEST, SIGNERS, ROLL]);
    assert_eq!(id(first.request_id()), Some("request-4"));
    let attempt = host.host.status().unwrap().last_attempt.unwrap();
    assert_eq!(id(attempt.request_id.as_ref()), Some("request-2"));
    assert_ne!(vm.octets(), before);
    let second = vm.start(&host).await.unwrap();
    assert_eq!(second.ingress().digest(), first.egress().digest());
    assert_eq!(guardian.requests(), [ROLL]);
    assert_eq!(id(second.request_id()), Some("request-5"));
}

/// A certificate is the guardian's, whichever node issued it, and wherever its URL stands in the list.
#[tokio::test]
async fn a_start_goes_on_at_another_node_with_the_certificate_of_the_one_that_is_lost() {
    let clock = TestClock::new();
    let guardian = TestGuardian::start(&clock, 12).await;
    let node = guardian.node_for(3).await;
    let both = nodes(&[&node.endpoints, &guardian.endpoints()]);
    let mut host = TestHost::new(&clock, both, None);
    guardian.register(&host);
    while !node.is_gone() {
        host = host.restarted();
        let kind = HealthKind::Encryption;
        host.host.attest(kind, Sides::Both).await.unwrap();
    }
    guardian.requests();
    let vm = Vm::of("fabric");
    vm.start(&host).await.unwrap();
    let other_order = nodes(&[&guardian.endpoints(), &node.endpoints]);
    vm.start(&host.configured(other_order)).await.unwrap();
    assert_eq!(guardian.requests(), [ROLL, ROLL]);
}

#[tokio::test]
async fn a_second_host_receives_the_vm() {
    let (clock, guardian, host) = registered().await;
    let other = TestHost::new(&clock, guardian.endpoints(), None);
    guardian.register(&other);
    let vm = Vm::of("fabric");
    vm.start(&host).await.unwrap();
    vm.start(&other).await.unwrap();
}

#[tokio::test]
async fn both_versions_are_spoken() {
    let (_, guardian, host) = registered().await;
    let vm = Vm::of("fabric");
    let [protector, file] = vm.octets();
    let unwrapped = host
        .host
        .unwrap(&protector, ServiceVersion::V1)
        .await
        .unwrap();
    assert_eq!(unwrapped.open(&file).unwrap().expose(), STATE);
    let asked = guardian.requests();
    assert_eq!(
        asked.last().unwrap(),
        "/KeyProtection/service/v1.0/rolltransportkey"
    );
}

#[tokio::test]
async fn what_is_sealed_under_the_ingress_key_opens_with_the_protector_that_stays() {
    let (_, _guardian, host) = registered().await;
    let [protector, _] = Vm::of("fabric").octets();
    let first = host
        .host
        .unwrap(&protector, ServiceVersion::V2)
        .await
        .unwrap();
    let sealed = first.seal(&STATE.into()).unwrap();
    let second = host
        .host
        .unwrap(&protector, ServiceVersion::V2)
        .await
        .unwrap();
    assert_eq!(second.open(&sealed).unwrap().expose(), STATE);
}

/// Whatever comes instead of the egress protector, the VM stays as it was and starts the next time.
#[tokio::test]
async fn a_forged_or_swapped_egress_protector_does_not_cost_the_vm() {
    fn garbled(_: &VerifiedProtector) -> Vec<u8> {
        b"<Protector/>".to_vec()
    }
    fn unchanged(ingress: &VerifiedProtector) -> Vec<u8> {
        ingress.octets().to_vec()
    }
    fn of_another_key(_: &VerifiedProtector) -> Vec<u8> {
        let (owner, fabric) = (Guardian::named("owner"), Guardian::named("fabric"));
        let mut forge = Forge::new(owner, &[fabric], key_octets(9));
        "2".clone_into(&mut forge.guardian);
        forge.seal(fabric).into()
    }
    fn of_another_owner(_: &VerifiedProtector) -> Vec<u8> {
        let (stranger, fabric) = (Guardian::named("stranger"), Guardian::named("fabric"));
        Forge::new(stranger, &[fabric], key_octets(9))
            .seal(stranger)
            .into()
    }
    fn for_the_owner_alone(_: &VerifiedProtector) -> Vec<u8> {
        let owner = Guardian::named("owner");
        Forge::new(owner, &[], key_octets(9)).seal(owner).into()
    }
    fn signed_by_a_stranger(_: &VerifiedProtector) -> Vec<u8> {
        let (owner, fabric) = (Guardian::named("owner"), Guardian::named("fabric"));
        let forge = Forge::new(owner, &[fabric], key_octets(9));
        forge.seal(Guardian::named("stranger")).into()
    }
    type Swap = fn(&VerifiedProtector) -> Vec<u8>;
    type Expected = fn(&ClientError) -> bool;
    let forgeries: [(Swap, Expected); 6] = [
        (garbled, |error| matches!(error, ClientError::Egress(_))),
        (unchanged, |error| {
            matches!(error, ClientError::SameProtector)
        }),
        (of_another_key, |error| {
            matches!(error, ClientError::EgressKey)
        }),
        (of_another_owner, |error| {
            matches!(error, ClientError::Owner)
        }),
        (for_the_owner_alone, |error| {
            matches!(error, ClientError::GuardianMissing { .. })
        }),
        (signed_by_a_stranger, |error| {
            matches!(error, ClientError::Egress(_))
        }),
    ];
    let (_, guardian, host) = registered().await;
    let vm = Vm::of("fabric");
    let before = vm.octets();
    for (swap, expected) in forgeries {
        guardian.world().manner = Manner::Swaps(swap);
        let error = vm.start(&host).await.unwrap_err();
        let KeyProtectionFailure::NotUsed(found) = failure(&error) else {
            panic!("{error}");
        };
        assert!(expected(found), "{found}");
        assert_eq!(error.fault(), Fault::Guardian);
        assert!(error.is_refusal());
        assert_eq!(vm.octets(), before);
    }
    guardian.world().manner = Manner::Proper;
    vm.start(&host).await.unwrap();
}

/// What an attacker sends who has the ingress key: a whole response, with `egress` and its key.
fn forged(request: &[u8], egress: Vec<u8>, egress_key: u8) -> Vec<u8> {
    let request = RollTransportKeyRequest::from_xml(request).unwrap();
    let certificate = Certificate::from_der(&request.health_certificate).unwrap();
    let key = |octet| TransportKey::from_secret(SecretBytes::from(&key_octets(octet)[..])).unwrap();
    let blob = TransportKeyBlob {
        ingress_key: key(1),
        egress_key: key(egress_key),
        version: BlobVersion::V2 { caching: None },
    };
    let mut random = System::new();
    let [transfer_key, wrapping_key] =
        [3, 4].map(|octet| SecretBytes::from(&key_octets(octet)[..]));
    let mut seal = |key: &SecretBytes, plain: &SecretBytes| {
        aes::gcm_seal(key, b"", plain.expose(), &mut random).unwrap()
    };
    let response = RollTransportKeyResponse {
        egress_protector: egress,
        encrypted_transfer_key: certificate
            .public_key()
            .encrypt_oaep(OaepHash::Sha256, &transfer_key)
            .unwrap(),
        encrypted_wrapping_key: seal(&transfer_key, &wrapping_key),
        encrypted_transport_keys: seal(&wrapping_key, &blob.to_secret()),
    };
    response.to_xml()
}

/// The fields that `guardian` signs, whoever that is.
fn signed_by(guardian: &Guardian, asked: &HeaderMap, request: &[u8], body: &[u8]) -> Answer {
    let value = |name| asked.get(name).unwrap().as_bytes();
    let (accepted, digest) = (value(ACCEPT_SIGNATURE), value(CONTENT_DIGEST));
    let asked = SignatureRequest::read(&[accepted], &[digest], request);
    let (keys, now) = (Keys::of(&[guardian]), hgs_testkit::fixtures::now());
    let random = &mut System::new();
    let signer = ResponseSigner::delegated_by(&guardian.signing, now, &mut &keys, random).unwrap();
    let fields = signer
        .sign(&asked.unwrap().unwrap(), 200, body, now)
        .unwrap();
    let fields = fields
        .values()
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    (200, fields.collect(), body.to_vec())
}

/// An older roll of the attacker's own: the guardian has signed this protector, and the attacker knows its key.
fn older_roll() -> Vec<u8> {
    let (owner, fabric) = (Guardian::named("owner"), Guardian::named("fabric"));
    let mut forge = Forge::new(owner, &[fabric], key_octets(9));
    "2".clone_into(&mut forge.guardian);
    forge.seal(fabric).into()
}

/// A revoked host has the ingress key and stands on the way. Without signed responses it could choose the next key.
#[tokio::test]
async fn o1_an_attacker_on_the_way_with_the_ingress_key_can_not_answer_for_the_guardian() {
    let (_, guardian, host) = registered().await;
    // An answer that the attacker has recorded, with its good signature.
    let other = Vm::of("fabric");
    other.start(&host).await.unwrap();
    let recorded = guardian.world().recorded.clone().unwrap();
    let vm = Vm::of("fabric");
    let before = vm.octets();
    let ingress = before[0].clone();

    type Expected = fn(&ClientError) -> bool;
    let unsigned: Expected = |error| {
        matches!(
            error,
            ClientError::Signature(ResponseSignatureError::Unsigned)
        )
    };
    let other_content: Expected = |error| {
        matches!(
            error,
            ClientError::Signature(ResponseSignatureError::Content)
        )
    };
    let other_signer: Expected = |error| {
        let expected = ResponseSignatureError::DelegationSignature;
        *error == ClientError::Signature(expected)
    };
    let recorded_fields = recorded.1.clone();
    let stranger = Guardian::named("stranger");
    let attacks: Vec<(&str, Attacker, Expected)> = vec![
        (
            "egress = ingress",
            Box::new({
                let ingress = ingress.clone();
                move |_, request| (200, vec![], forged(request, ingress.clone(), 1))
            }),
            unsigned,
        ),
        (
            "egress = ingress, signed by himself",
            Box::new(move |asked, request| {
                let body = forged(request, ingress.clone(), 1);
                signed_by(stranger, asked, request, &body)
            }),
            |error| *error == ClientError::SameProtector,
        ),
        (
            "an older roll",
            Box::new(|_, request| (200, vec![], forged(request, older_roll(), 9))),
            unsigned,
        ),
        (
            "an older roll, with a recorded signature",
            Box::new(move |_, request| {
                let body = forged(request, older_roll(), 9);
                (200, recorded_fields.clone(), body)
            }),
            other_content,
        ),
        (
            "an older roll, signed by himself",
            Box::new(move |asked, request| {
                let body = forged(request, older_roll(), 9);
                signed_by(stranger, asked, request, &body)
            }),
            other_signer,
        ),
        (
            "a recorded answer",
            Box::new(move |_, _| recorded.clone()),
            |_| true,
        ),
    ];
    for (name, attacker, expected) in attacks {
        guardian.world().attacker = Some(attacker);
        let error = vm.start(&host).await.unwrap_err();
        let KeyProtectionFailure::NotUsed(found) = failure(&error) else {
            panic!("{name}: {error}");
        };
        assert!(expected(found), "{name}: {found}");
        assert!(error.is_refusal(), "{name}");
        assert_eq!(vm.octets(), before, "{name}");
    }
    guardian.world().attacker = None;
    vm.start(&host).await.unwrap();
}

/// The answer to another request of the same host for the same protector: only the nonce tells.
#[tokio::test]
async fn o1_a_recorded_answer_to_the_same_request_is_refused() {
    let (_, guardian, host) = registered().await;
    let vm = Vm::of("fabric");
    let before = vm.octets();
    let unwrap = || host.host.unwrap(&before[0], ServiceVersion::V2);
    unwrap().await.unwrap();
    let recorded = guardian.world().recorded.clone().unwrap();
    guardian.world().attacker = Some(Box::new(move |_, _| recorded.clone()));
    let error = vm.start(&host).await.unwrap_err();
    let KeyProtectionFailure::NotUsed(found) = failure(&error) else {
        panic!("{error}");
    };
    assert_eq!(
        *found,
        ClientError::Signature(ResponseSignatureError::Nonce)
    );
    assert_eq!(vm.octets(), before);
}

/// The dangerous setting is for services that can't sign; a signature that is there is checked nonetheless.
#[tokio::test]
async fn the_dangerous_setting_takes_what_is_unsigned_and_nothing_that_is_signed_by_another() {
    let clock = TestClock::new();
    let guardian = TestGuardian::start(&clock, 12).await;
    let host = TestHost::accepting_unsigned(&clock, guardian.endpoints());
    guardian.register(&host);
    let vm = Vm::of("fabric");
    let before = vm.octets();
    let stranger = Guardian::named("stranger");
    guardian.world().attacker = Some(Box::new(move |asked, request| {
        signed_by(stranger, asked, request, &forged(request, older_roll(), 9))
    }));
    let error = vm.start(&host).await.unwrap_err();
    assert!(matches!(failure(&error), KeyProtectionFailure::NotUsed(_)));
    assert_eq!(vm.octets(), before);
    guardian.world().attacker = Some(Box::new(|_, request| {
        (200, vec![], forged(request, older_roll(), 9))
    }));
    vm.start(&host).await.unwrap();
}

#[tokio::test]
async fn a_protector_that_does_not_hold_is_shown_to_nobody() {
    let (_, guardian, host) = registered().await;
    let owner = Guardian::named("owner");
    let forge = Forge::new(owner, &[Guardian::named("fabric")], key_octets(1));
    let octets = forge.seal(Guardian::named("stranger"));
    let outcome = host
        .host
        .unwrap(octets.as_bytes(), ServiceVersion::V2)
        .await;
    let error = outcome.unwrap_err();
    assert!(matches!(error, Error::Protector(_)));
    assert!(error.is_refusal());
    assert!(guardian.requests().is_empty());
}

#[tokio::test]
async fn a_revoked_host_is_refused_with_the_certificate_it_holds_and_loses_it() {
    let (_, guardian, host) = registered().await;
    let vm = Vm::of("fabric");
    vm.start(&host).await.unwrap();
    guardian.revoke(&host);
    let error = vm.start(&host).await.unwrap_err();
    assert_eq!(code(&error), Some(Code::HostRevoked));
    assert_eq!(error.fault(), Fault::Host);
    assert_eq!(id(error.request_id()), Some("request-5"));
    let status = host.host.status().unwrap();
    let attempt = status.last_attempt.unwrap();
    assert_eq!(id(attempt.request_id.as_ref()), Some("request-5"));
    assert!(!status.is_host_guarded);
    assert_eq!(status.attestation_status.name, "UnauthorizedHost");
}

#[tokio::test]
async fn a_certificate_that_is_no_longer_believed_is_replaced_at_once() {
    let (clock, guardian, host) = registered().await;
    let vm = Vm::of("fabric");
    vm.start(&host).await.unwrap();
    guardian.requests();
    clock.advance(Seconds::from_minutes(10));
    guardian.world().deny_before = Some(host.host.now());
    vm.start(&host).await.unwrap();
    assert_eq!(guardian.requests(), [ROLL, INFO, ATTEST, SIGNERS, ROLL]);

    // But not again and again.
    guardian.world().deny_before = Some(hgs_pki::Time::MAX);
    let error = vm.start(&host).await.unwrap_err();
    assert_eq!(code(&error), Some(Code::HealthCertificate));
    assert_eq!(guardian.requests(), [ROLL, INFO, ATTEST, SIGNERS, ROLL]);
}

#[tokio::test]
async fn a_certificate_is_renewed_in_time_and_serves_to_its_end_when_it_can_not_be() {
    let (clock, guardian, host) = registered().await;
    guardian.world().validity = HealthValidity::default();
    let vm = Vm::of("fabric");
    vm.start(&host).await.unwrap();
    guardian.requests();

    clock.advance(Seconds::from_hours(5));
    vm.start(&host).await.unwrap();
    assert_eq!(guardian.requests(), [ROLL]);

    clock.advance(Seconds::from_hours(1));
    guardian.world().manner = Manner::Mute(ATTEST);
    vm.start(&host).await.unwrap();
    assert_eq!(guardian.requests(), [INFO, ATTEST, ROLL]);
    assert_eq!(
        host.host.status().unwrap().attestation_status.name,
        "TransientError"
    );
    assert!(host.host.status().unwrap().is_host_guarded);

    guardian.world().manner = Manner::Proper;
    vm.start(&host).await.unwrap();
    assert_eq!(guardian.requests(), [INFO, ATTEST, SIGNERS, ROLL]);

    clock.advance(Seconds::from_hours(9));
    guardian.world().manner = Manner::Mute(ATTEST);
    vm.start(&host).await.unwrap_err();
    assert_eq!(guardian.requests(), [INFO, ATTEST]);
}

#[tokio::test]
async fn the_fallback_attests_and_releases_when_the_primary_fails() {
    let (primary, fallback, host) = with_fallback().await;
    let vm = Vm::of("fabric");
    primary.world().manner = Manner::NoKeys(503);
    let unwrapped = vm.start(&host).await.unwrap();
    assert_eq!(unwrapped.side(), Side::Fallback);
    assert_eq!(fallback.requests(), [INFO, ATTEST, SIGNERS, ROLL]);
    assert!(host.host.status().unwrap().is_fallback_in_use);

    primary.world().manner = Manner::Proper;
    assert_eq!(vm.start(&host).await.unwrap().side(), Side::Primary);
    assert!(!host.host.status().unwrap().is_fallback_in_use);

    let host = host.restarted();
    primary.stop().await;
    assert_eq!(vm.start(&host).await.unwrap().side(), Side::Fallback);
}

#[tokio::test]
async fn a_refusal_of_the_primary_is_not_taken_to_the_fallback() {
    let (primary, fallback, host) = with_fallback().await;
    let vm = Vm::of("tenant");
    let error = vm.start(&host).await.unwrap_err();
    assert_eq!(code(&error), Some(Code::WrappingNotFound));
    assert_eq!(error.fault(), Fault::Protector);
    assert!(error.remedy().unwrap().contains("grant"));

    primary.revoke(&host);
    let vm = Vm::of("fabric");
    let error = vm.start(&host).await.unwrap_err();
    assert_eq!(code(&error), Some(Code::HostRevoked));
    assert!(fallback.requests().is_empty());
}

#[tokio::test]
async fn k9_nothing_shows_the_keys() {
    let (_, _guardian, host) = registered().await;
    let vm = Vm::of("fabric");
    let [protector, _] = vm.octets();
    let unwrapped = host
        .host
        .unwrap(&protector, ServiceVersion::V2)
        .await
        .unwrap();
    let digest = |protector: &VerifiedProtector| protector.digest().to_string();
    let expected = format!(
        "Unwrapped({} to {})",
        digest(unwrapped.ingress()),
        digest(unwrapped.egress())
    );
    assert_eq!(format!("{unwrapped:?}"), expected);
}

#[tokio::test]
async fn many_starts_at_once_ask_for_one_certificate() {
    let (_, guardian, host) = registered().await;
    let [protector, _] = Vm::of("fabric").octets();
    let start = || host.host.unwrap(&protector, ServiceVersion::V2);
    let (one, two, three) = tokio::join!(start(), start(), start());
    for unwrapped in [one, two, three] {
        unwrapped.unwrap();
    }
    let asked = guardian.requests();
    let attestations = asked.iter().filter(|path| *path == ATTEST);
    assert_eq!(attestations.count(), 1);
    host.host
        .attest(HealthKind::Encryption, Default::default())
        .await
        .unwrap();
}
