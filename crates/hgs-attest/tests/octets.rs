//! Whatever octets come: the bodies of the fuzz targets over a corpus and its mutations.

mod common;

use common::{host_key, identity_key, request, signer};
use hgs_attest::freshness::FreshnessProof;
use hgs_attest::health_token::{
    Challenge, IssuedToken, Issuer, TokenNonceKey, TokenRefusal, TokenRequest,
};
use hgs_attest::wire::{
    AdRequest, AttestationOperationMode, ErrorDetail, ErrorReply, EvaluationLog,
    PolicyEvaluationErrorReply, Reply, Request, ResultContent, SessionId, TpmReplyContinue,
    TpmRequestContinue, TpmRequestInitial,
};
use hgs_attest::{Reason, Refusal, fuzzing, service_info, signing_certificates};
use hgs_crypto::SecretBytes;
use hgs_crypto::random::System;
use hgs_pki::Time;
use hgs_testkit::Mutations;

const TOKENS: [&[u8]; 14] = [
    b"{",
    b"[[[[[[[[[[[[[[[[[",
    b"\"",
    b"\\u0041",
    b"\\ud800",
    b"\"__type\":\"ADRequest:#Microsoft.Windows.RemoteAttestation.Core\",",
    b"\"SessionId\":\"AAAAAAAAAAAAAAAAAAAAAA==\",",
    b"\"m_Item1\":1,",
    b"1e999",
    b"-0",
    b"18446744073709551616",
    b"null",
    b"\xff",
    b"\xef\xbb\xbf",
];

fn session() -> SessionId {
    SessionId([3; 16])
}

fn requests() -> Vec<Vec<u8>> {
    let tpm = TpmRequestInitial {
        session_id: session(),
        requested_content: vec![1.into()],
        rtpm_public_endorsement_key: vec![1; 40],
    };
    let further = TpmRequestContinue {
        session_id: session(),
        requested_content: vec![2.into()],
        rtpm_public_endorsement_key: vec![1; 40],
        rtpm_new_context: vec![2; 100],
    };
    let ad = AdRequest {
        session_id: session(),
        requested_content: vec![ResultContent {
            result_type: 1.into(),
            octets: vec![4; 30],
        }],
    };
    [
        Request::Attestation(request(&host_key(), &identity_key(0))),
        Request::TpmInitial(tpm),
        Request::TpmContinue(further),
        Request::Ad(ad),
    ]
    .iter()
    .map(Request::to_json)
    .collect()
}

fn replies() -> Vec<Vec<u8>> {
    let expected = AttestationOperationMode::HostKey;
    let replies = [
        service_info(expected),
        Refusal::from(Reason::OperationMode { expected }).reply(),
        Refusal::from(Reason::HostNotRegistered).reply(),
        Reply::TpmContinue(TpmReplyContinue {
            rtpm_active_context: vec![1; 64],
        }),
        Reply::PolicyEvaluationError(PolicyEvaluationErrorReply {
            retryable: false,
            reasons: vec![EvaluationLog {
                result: false,
                reason: vec![0x6a; 16],
            }],
            open_hgs: None,
        }),
        Reply::Error(ErrorReply {
            retryable: true,
            open_hgs: Some(ErrorDetail {
                code: "internal".to_owned(),
                message: "é\u{1f600}".to_owned(),
            }),
        }),
    ];
    replies.iter().map(Reply::to_json).collect()
}

#[test]
fn no_mutation_of_a_request_makes_it_panic() {
    let corpus = requests();
    corpus
        .iter()
        .for_each(|octets| fuzzing::fuzz_request(octets));
    for octets in Mutations::of(&corpus, &TOKENS).take(20_000) {
        fuzzing::fuzz_request(&octets);
    }
}

#[test]
fn no_mutation_of_a_reply_makes_it_panic() {
    let corpus = replies();
    corpus.iter().for_each(|octets| fuzzing::fuzz_reply(octets));
    for octets in Mutations::of(&corpus, &TOKENS).take(20_000) {
        fuzzing::fuzz_reply(&octets);
    }
}

#[test]
fn no_mutation_of_a_list_of_certificates_makes_it_panic() {
    let corpus = [signing_certificates::write(&[signer()])];
    fuzzing::fuzz_signing_certificates(&corpus[0]);
    for octets in Mutations::of(&corpus, &[b"0,", b"255", b"-1", b" "]).take(3_000) {
        fuzzing::fuzz_signing_certificates(&octets);
    }
}

#[test]
fn no_octets_upset_the_headers_of_freshness() {
    let nonce = common::nonces().nonce(hgs_testkit::fixtures::now());
    let corpus = [
        nonce.to_header().into_bytes(),
        FreshnessProof::new(nonce, vec![7; 256])
            .to_header()
            .into_bytes(),
    ];
    corpus
        .iter()
        .for_each(|octets| fuzzing::fuzz_freshness(octets));
    let tokens: [&[u8]; 4] = [b".", b"=", b"====", b"AQ=="];
    for octets in Mutations::of(&corpus, &tokens).take(4000) {
        fuzzing::fuzz_freshness(&octets);
    }
}

/// The clock of the body stands at 1970, so that the nonce holds and the certificate is looked at.
#[test]
fn no_octets_upset_health_tokens() {
    let secret = SecretBytes::new((0..32).collect());
    let nonce = TokenNonceKey::new(&secret)
        .nonce(&mut System::new(), Time::from_unix(0))
        .unwrap();
    let issuer: Issuer = "https://hgs.example".parse().unwrap();
    let audience = "kubernetes".parse().unwrap();
    let prepared = TokenRequest::prepare(&issuer, audience, nonce.clone(), &signer());
    let signature = common::sign(&common::signer_key(), prepared.to_be_signed());
    let corpus = [
        prepared.assemble(signature).unwrap().to_json(),
        Challenge {
            issuer,
            nonce: nonce.clone(),
        }
        .to_json(),
        TokenRefusal::NonceUsed.reply(Some(&nonce)),
        IssuedToken {
            token: "eyJ.eyJ.AAAA".to_owned(),
            expires: hgs_testkit::fixtures::now(),
        }
        .to_json(),
    ];
    corpus
        .iter()
        .for_each(|octets| fuzzing::fuzz_health_token(octets));
    for octets in Mutations::of(&corpus, &TOKENS).take(3000) {
        fuzzing::fuzz_health_token(&octets);
    }
}
