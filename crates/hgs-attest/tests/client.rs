//! Both roles against each other, without a network, and the host against servers that misbehave.

mod common;

use common::{
    Registry, after, attempt, host_key, identity_key, nonces, service_keys, sign, signer,
    signer_key, stranger_key,
};
use hgs_attest::Verdict;
use hgs_attest::client::{
    self, Attempts, AttestationFailure, Attested, HostKeySignatureError, NotAsked, RefusedKind,
    SignedRequest,
};
use hgs_attest::host_key::evaluate;
use hgs_attest::wire::{
    AttestationOperationMode, HealthCertificateReply, MessageError, OperationModeErrorReply, Reply,
    ResultContent, SessionId,
};
use hgs_attest::{
    AttestationState, AttestationStatus, Code, Endpoint, Reason, Refusal, issue, service_info,
};
use hgs_crypto::rsa::PrivateKey;
use hgs_pki::health::{self, HealthKind, HealthStatement, HealthValidity};
use hgs_pki::issue::{Issuer, Template};
use hgs_pki::{Certificate, Seconds, Time};
use hgs_testkit::fixtures::{Repeatable, certificate, now};

fn signed(kind: HealthKind, host: &PrivateKey, identity: &PrivateKey) -> SignedRequest {
    let session = SessionId([9; 16]);
    let prepared = client::prepare(session, kind, host.public(), identity.public());
    let signature = sign(host, prepared.to_be_signed());
    prepared.assemble(signature).unwrap()
}

fn asking() -> SignedRequest {
    signed(HealthKind::Encryption, &host_key(), &identity_key(0))
}

/// The whole server: HTTP status and body.
fn serve(registry: &mut Registry, body: &[u8], when: Time) -> (u16, Vec<u8>) {
    match evaluate(&attempt(body, &nonces(), when), registry) {
        Verdict::Continue(continuation) => panic!("{continuation:?}"),
        Verdict::Refused(refusal) => (refusal.status(), refusal.reply().to_json()),
        Verdict::Healthy(grant) => {
            registry.record(&grant);
            let serial = issue::DrawnSerialNumber::draw(&mut Repeatable::seeded(3)).unwrap();
            let validity = HealthValidity::default();
            let grant = grant.recorded();
            let keys = service_keys();
            let issued = issue::issue(grant, &signer(), validity, serial, &mut &keys).unwrap();
            (200, issued.reply().to_json())
        }
    }
}

fn attest(
    registry: &mut Registry,
    request: &SignedRequest,
    when: Time,
) -> Result<Attested, AttestationFailure> {
    assert_eq!(request.endpoint(), Endpoint::HostKeyAttest);
    let (status, body) = serve(registry, request.body(), when);
    request.receive(status, &body)
}

#[test]
fn a_registered_host_gets_a_certificate_for_each_of_its_two_keys() {
    let mut registry = Registry::with_host();
    for (kind, identity) in [
        (HealthKind::Encryption, identity_key(0)),
        (HealthKind::Signing, identity_key(1)),
    ] {
        let request = signed(kind, &host_key(), &identity);
        let attested = attest(&mut registry, &request, now()).unwrap();
        assert_eq!(attested.kind(), kind);
        assert_eq!(attested.certificate().public_key(), identity.public());
        assert_eq!(attested.statement().issued_at, now());
        assert_eq!(attested.expires(), after(Seconds::from_hours(8)));
        attested.certificate().verify_issued_by(&signer()).unwrap();
    }
}

#[test]
fn refusals_arrive_with_their_code_and_what_to_do_about_them() {
    let mut registry = Registry::with_host();
    let stranger = signed(HealthKind::Encryption, &stranger_key(), &identity_key(0));
    let failure = attest(&mut registry, &stranger, now()).unwrap_err();
    let AttestationFailure::Refused(refused) = &failure else {
        panic!("{failure}");
    };
    assert_eq!(refused.kind, RefusedKind::Unauthorized);
    assert_eq!(refused.code(), Some(Code::HostNotRegistered));
    assert!(!failure.is_retryable());
    assert!(!failure.needs_new_identity_key());

    attest(&mut registry, &asking(), now()).unwrap();
    let late = after(Seconds::from_days(31));
    let failure = attest(&mut registry, &asking(), late).unwrap_err();
    assert!(failure.needs_new_identity_key(), "{failure}");
    let renewed = signed(HealthKind::Encryption, &host_key(), &identity_key(1));
    attest(&mut registry, &renewed, late).unwrap();
}

#[test]
fn a_signature_by_another_key_is_noticed_before_it_is_sent() {
    let session = SessionId([9; 16]);
    let (host, identity) = (host_key(), identity_key(0));
    let kind = HealthKind::Encryption;
    let prepared = client::prepare(session, kind, host.public(), identity.public());
    let signature = sign(&stranger_key(), prepared.to_be_signed());
    let refused = prepared.assemble(signature).unwrap_err();
    assert_eq!(refused, HostKeySignatureError);
}

#[test]
fn a_nonce_is_returned_with_the_signature_of_the_host_key_only() {
    let request = asking();
    let nonce = nonces().nonce(now());
    let prepared = request.prove(nonce.clone());
    let signature = sign(&stranger_key(), prepared.to_be_signed());
    assert_eq!(prepared.assemble(signature), Err(HostKeySignatureError));
    let elsewhere = sign(&host_key(), request.body());
    let refused = request.prove(nonce.clone()).assemble(elsewhere);
    assert_eq!(refused, Err(HostKeySignatureError));
    let prepared = request.prove(nonce);
    let signature = sign(&host_key(), prepared.to_be_signed());
    let proof = prepared.assemble(signature).unwrap();
    let host = host_key();
    let verified = proof.verify(request.body(), host.public(), &nonces(), now());
    assert_eq!(verified, Ok(()));
}

fn receive(reply: &Reply) -> Result<Attested, AttestationFailure> {
    asking().receive(200, &reply.to_json())
}

fn health_reply(content: Vec<(u32, &[u8])>) -> Reply {
    let content = content.into_iter().map(|(number, octets)| ResultContent {
        result_type: number.into(),
        octets: octets.to_vec(),
    });
    Reply::HealthCertificate(HealthCertificateReply {
        content: content.collect(),
    })
}

fn health_template(kind: HealthKind) -> Template {
    let statement = HealthStatement {
        mode: health::AttestationMode::HostKey,
        host_id: common::HOST_ID,
        issued_at: now(),
        policy_digest: [0; 32],
    };
    health::template(kind, &statement, HealthValidity::default()).unwrap()
}

fn health(template: Template, identity: &PrivateKey) -> Certificate {
    certificate(
        template,
        identity,
        Issuer::Certificate(&signer()),
        &signer_key(),
    )
}

/// attacks.md A16, at the host: a certificate that is valid, but not the one that was asked for.
#[test]
fn a16_health_certificate_confusion_at_the_host() {
    let encryption = || health_template(HealthKind::Encryption);
    let good = health(encryption(), &identity_key(0));
    assert_eq!(
        receive(&health_reply(vec![(1, good.der())]))
            .unwrap()
            .certificate(),
        &good
    );
    let refused = |reply| match receive(&reply).unwrap_err() {
        AttestationFailure::NotAsked(reason) => reason,
        other => panic!("{other}"),
    };

    let other = health(encryption(), &identity_key(1));
    assert_eq!(
        refused(health_reply(vec![(1, other.der())])),
        NotAsked::OtherKey
    );
    let signing = health(health_template(HealthKind::Signing), &identity_key(0));
    assert_eq!(
        refused(health_reply(vec![(1, signing.der())])),
        NotAsked::Purpose(HealthKind::Encryption)
    );
    assert_eq!(
        refused(health_reply(vec![(2, good.der())])),
        NotAsked::Result(2.into())
    );
    assert_eq!(refused(health_reply(vec![])), NotAsked::Count(0));
    let both = vec![(1, good.der()), (2, signing.der())];
    assert_eq!(refused(health_reply(both)), NotAsked::Count(2));
    let trailing = [good.der(), &[0]].concat();
    assert!(matches!(
        refused(health_reply(vec![(1, &trailing)])),
        NotAsked::Certificate(_)
    ));
    let mut without = encryption();
    without.extensions.clear();
    let without = health(without, &identity_key(0));
    assert_eq!(
        refused(health_reply(vec![(1, without.der())])),
        NotAsked::NoStatement
    );
    let mut malformed = encryption();
    malformed.extensions[0].der.push(0);
    let malformed = health(malformed, &identity_key(0));
    assert!(matches!(
        refused(health_reply(vec![(1, malformed.der())])),
        NotAsked::Statement(_)
    ));
}

#[test]
fn replies_that_are_none_are_told_apart_by_status_and_retried_only_if_that_may_help() {
    let html = b"<html>502 Bad Gateway</html>";
    let failure = asking().receive(502, html).unwrap_err();
    assert!(matches!(
        failure,
        AttestationFailure::Unintelligible {
            status: 502,
            error: MessageError::Json(_)
        }
    ));
    assert!(failure.is_retryable());
    assert!(!asking().receive(404, html).unwrap_err().is_retryable());

    let info = service_info(AttestationOperationMode::HostKey);
    assert_eq!(
        receive(&info),
        Err(AttestationFailure::UnexpectedReply { status: 200 })
    );
    let info = client::read_service_info(200, &info.to_json()).unwrap();
    assert_eq!(info.operation_mode, AttestationOperationMode::HostKey);
    let error = client::read_service_info(200, &health_reply(vec![]).to_json());
    assert_eq!(
        error,
        Err(AttestationFailure::UnexpectedReply { status: 200 })
    );
}

fn other_mode(mode: u32, retryable: bool) -> AttestationFailure {
    let reply = Reply::OperationModeError(OperationModeErrorReply {
        retryable,
        expected_operation_mode: mode.into(),
        open_hgs: None,
    });
    receive(&reply).unwrap_err()
}

#[test]
fn a_host_follows_a_server_to_its_mode_once_and_only_if_it_is_able_to() {
    use Endpoint::{Attest, HostKeyAttest};
    let mut attempts = Attempts::new([Attest, HostKeyAttest], Attest);
    assert_eq!(attempts.redirect(&other_mode(3, false)), None);
    assert_eq!(attempts.redirect(&other_mode(2, true)), None);
    assert_eq!(attempts.redirect(&other_mode(77, true)), None);
    assert_eq!(attempts.redirect(&other_mode(3, true)), Some(HostKeyAttest));
    // No circle: not there again, and not back.
    assert_eq!(attempts.redirect(&other_mode(3, true)), None);
    assert_eq!(attempts.redirect(&other_mode(1, true)), None);
    assert!(!other_mode(3, true).is_retryable());
}

#[test]
fn a_server_in_host_key_mode_sends_a_host_there_whatever_it_asked_for() {
    let mode = AttestationOperationMode::HostKey;
    let mut attempts = Attempts::new(
        [Endpoint::Attest, Endpoint::HostKeyAttest],
        Endpoint::Attest,
    );
    let reason = Endpoint::Attest.check_mode(mode).unwrap_err();
    assert_eq!(reason, Reason::OperationMode { expected: mode });
    let refusal = Refusal::from(reason);
    let failure = asking().receive(refusal.status(), &refusal.reply().to_json());
    let next = attempts.redirect(&failure.unwrap_err());
    assert_eq!(next.map(Endpoint::path), Some("/v2.0/hostkeyattest"));
}

#[test]
fn the_state_follows_the_attempts() {
    let mut registry = Registry::with_host();
    let state = AttestationState::unknown();
    assert_eq!(state.status(now()), AttestationStatus::Unknown);
    let state = state.after(&attest(&mut registry, &asking(), now()));
    assert_eq!(state.status(now()), AttestationStatus::Passed);
    let end = after(Seconds::from_hours(8));
    assert_eq!(state.expires, Some(end));

    registry.host().revoked = true;
    let state = state.after(&attest(&mut registry, &asking(), end));
    assert_eq!(state.status(end), AttestationStatus::UnauthorizedHost);
    assert!(state.has_certificate(end));
    let state = state.unreachable("connection refused".to_owned());
    assert_eq!(state.status(end), AttestationStatus::TransientError);
    assert!(!state.has_certificate(after(Seconds::new(8 * 3600 + 1))));
}
