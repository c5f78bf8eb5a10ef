//! The mode is a seam: one with two rounds, which exists here only, makes the same verdicts, grants and certificates.

mod common;

use common::{
    HOST_ID, Registry, attempt, host_key, identity_key, nonces, service_keys, sign, signer,
};
use hgs_attest::issue::{self, DrawnSerialNumber};
use hgs_attest::wire::{
    AttestationOperationMode, Reply, Request, SessionId, TpmReplyContinue, TpmRequestContinue,
    TpmRequestInitial,
};
use hgs_attest::{
    Attempt, AttestationFacts, Code, Continuation, Credential, CredentialId, Endpoint, Finding,
    Grant, HostRegistry, Mode, Reason, Refusal, Verdict,
};
use hgs_crypto::hash::sha256;
use hgs_crypto::random::{self, Random};
use hgs_crypto::rsa::{PublicKey, SignatureScheme};
use hgs_pki::health::{AttestationMode, HealthKind, HealthStatement, HealthValidity};
use hgs_testkit::fixtures::{Repeatable, now};

/// First a challenge, then a signature over it. The challenge travels with the host; it would be sealed in a real mode.
#[derive(Debug)]
struct TwoRounds;

impl Mode for TwoRounds {
    fn operation_mode(&self) -> AttestationOperationMode {
        AttestationOperationMode::Tpm
    }

    fn evaluate(
        &self,
        attempt: &Attempt<'_>,
        hosts: &dyn HostRegistry,
        random: &mut dyn Random,
    ) -> Verdict {
        let refused = |reason: Reason| Verdict::Refused(Refusal::from(reason));
        match Request::parse(attempt.body) {
            Ok(Request::TpmInitial(_)) => {
                let challenge: [u8; 32] = random::array(random).unwrap();
                Verdict::Continue(Continuation {
                    reply: Reply::TpmContinue(TpmReplyContinue {
                        rtpm_active_context: challenge.to_vec(),
                    }),
                    facts: AttestationFacts::default(),
                })
            }
            Ok(Request::TpmContinue(request)) => {
                let key = CredentialId::HostKey(sha256(&request.rtpm_public_endorsement_key));
                let Some(host) = hosts.host_with(&key) else {
                    return refused(Reason::HostNotRegistered);
                };
                let Credential::HostKey(host_key) = &host.credential else {
                    return refused(Reason::HostNotRegistered);
                };
                let (challenge, signature) = request.rtpm_new_context.split_at(32);
                let scheme = SignatureScheme::Pkcs1Sha256;
                if host_key.verify(scheme, challenge, signature).is_err() {
                    return refused(Reason::HostKeySignature);
                }
                let identity_key = identity();
                let transition = host.identities.present(
                    HealthKind::Encryption,
                    identity_key.digest(),
                    true,
                    attempt.now,
                );
                let finding = Finding {
                    kind: HealthKind::Encryption,
                    identity_digest: *identity_key.digest(),
                    identity_key,
                    statement: HealthStatement {
                        mode: AttestationMode::Tpm,
                        host_id: host.host_id,
                        issued_at: attempt.now,
                        policy_digest: [7; 32],
                    },
                    transition: transition.unwrap(),
                    next_boot: None,
                    returned_nonce: true,
                };
                Verdict::Healthy(Grant::new(finding, AttestationFacts::default()))
            }
            Ok(other) => refused(Reason::OtherRequest {
                found: other.type_name(),
            }),
            Err(error) => refused(error.into()),
        }
    }
}

fn identity() -> PublicKey {
    identity_key(0).public().clone()
}

#[test]
fn a_mode_with_two_rounds_ends_in_the_same_grant() {
    let mut registry = Registry::with_host();
    let mode: &dyn Mode = &TwoRounds;
    let endpoint = Endpoint::of_mode(mode.operation_mode());
    assert_eq!(endpoint, Some(Endpoint::Attest));
    let mut random = Repeatable::seeded(1);
    let mut evaluate = |registry: &Registry, request: Request| {
        let nonces = nonces();
        let body = request.to_json();
        let attempt = attempt(&body, &nonces, now());
        mode.evaluate(&attempt, registry, &mut random)
    };
    let endorsement_key = host_key().public().spki_der().to_vec();
    let first = Request::TpmInitial(TpmRequestInitial {
        session_id: SessionId([1; 16]),
        requested_content: vec![1.into()],
        rtpm_public_endorsement_key: endorsement_key.clone(),
    });
    let verdict = evaluate(&registry, first);
    assert_eq!(verdict.outcome(), "continue");
    let Verdict::Continue(Continuation {
        reply: Reply::TpmContinue(reply),
        ..
    }) = verdict
    else {
        panic!("{verdict:?}");
    };
    let challenge = reply.rtpm_active_context;
    let answer = |signature: &[u8]| {
        Request::TpmContinue(TpmRequestContinue {
            session_id: SessionId([1; 16]),
            requested_content: vec![1.into()],
            rtpm_public_endorsement_key: endorsement_key.clone(),
            rtpm_new_context: [&challenge, signature].concat(),
        })
    };
    let Verdict::Refused(refusal) = evaluate(&registry, answer(&[0; 256])) else {
        panic!("no signature");
    };
    assert_eq!(refusal.code(), Code::HostKeySignature);
    let Verdict::Healthy(grant) = evaluate(&registry, answer(&sign(&host_key(), &challenge)))
    else {
        panic!("it holds");
    };
    registry.record(&grant);
    assert!(registry.host().returns_nonces);
    let serial = DrawnSerialNumber::draw(&mut Repeatable::seeded(2)).unwrap();
    let issued = issue::issue(
        grant.recorded(),
        &signer(),
        HealthValidity::default(),
        serial,
        &mut &service_keys(),
    )
    .unwrap();
    assert_eq!(issued.grant().host_id(), HOST_ID);
    assert_eq!(issued.grant().statement().mode, AttestationMode::Tpm);
    assert_eq!(*issued.certificate().public_key(), identity());
}
