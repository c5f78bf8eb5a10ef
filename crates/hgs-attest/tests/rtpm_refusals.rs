//! What is refused in TPM mode: each with its own code, and nothing is kept of it.

mod common;

use std::collections::BTreeSet;

use common::tpm::{Host, SESSION, Server, boot, parts, with_blobs, with_context};
use hgs_attest::client::rtpm::{RtpmExchange, Step};
use hgs_attest::policy::{EventDigest, Preimage, UnexplainedEvent};
use hgs_attest::rtpm::{
    Blob, Context, ContextError, ContextKey, IdentityPcrs, MAX_CONTEXT, MAX_PREIMAGES,
    MAX_SEALED_STATE, TpmMode,
};
use hgs_attest::wire::{
    AttestationProvidedContentType, Reply, Request, SessionId, TpmReplyContinue,
    TpmRequestContinue, TpmRequestInitial,
};
use hgs_attest::{Mode as _, Refusal, Verdict};
use hgs_crypto::SecretBytes;
use hgs_crypto::hash::{hmac_sha256, kdfa_sha256, sha256, sha256_of};
use hgs_crypto::random::Random as _;
use hgs_pki::Time;
use hgs_pki::health::HealthKind;
use hgs_tcg::tpm::{Command, MAX_MESSAGE, Primary, created_primary, flush_context};
use hgs_tcg::{event_log, ima};
use hgs_testkit::fixtures::Repeatable;
use hgs_testkit::measured_boot::extend;
use hgs_testkit::swtpm::SoftwareTpm;

#[track_caller]
fn expect(refusal: &Refusal, code: &str) {
    assert_eq!(refusal.code().name(), code, "{}", refusal.reason());
}

/// The exchange of a healthy host until it is judged. The last body is judged.
fn exchange() -> (Host, Server, Vec<Vec<u8>>) {
    let mut host = Host::booted();
    let server = Server::with([&host]);
    let bodies = host.bodies(&server, HealthKind::Encryption);
    assert_eq!(bodies.len(), 5, "two keys, three sessions, two readings");
    (host, server, bodies)
}

/// Whether the server goes on or judges what is healthy but for the policies, which are empty here.
fn is_taken(server: &Server, body: &[u8]) -> bool {
    match server.verdict(body) {
        Verdict::Refused(refusal) => refusal.code().name() == "policy-failed",
        Verdict::Healthy(_) | Verdict::Continue(_) => true,
    }
}

#[test]
fn an_altered_context_is_refused_wherever_it_is_altered() {
    let (_, server, bodies) = exchange();
    let body = &bodies[1];
    assert!(is_taken(&server, body));
    let (_, context) = parts(body);
    let sealed = Context::read(&context).unwrap().sealed_state.len();
    for place in 16..16 + sealed {
        let mut altered = context.clone();
        altered[place] ^= 1;
        let refusal = server.refusal(&with_context(body, &altered));
        let expected = match place - 16 {
            0..16 => "rtpm-context-foreign",
            // The length of the ciphertext.
            32..36 => "rtpm-context-malformed",
            _ => "rtpm-context-altered",
        };
        if (32..36).contains(&(place - 16)) {
            let code = refusal.code().name();
            assert!(
                [
                    "rtpm-context-malformed",
                    "rtpm-context-altered",
                    "too-large"
                ]
                .contains(&code),
                "{code}"
            );
        } else {
            expect(&refusal, expected);
        }
        assert!(!refusal.facts().proved);
    }
}

#[test]
fn a_truncated_context_is_refused() {
    let (_, server, bodies) = exchange();
    let (_, context) = parts(&bodies[1]);
    for length in (1..context.len()).step_by(7) {
        let mut truncated = context[..length].to_vec();
        expect(
            &server.refusal(&with_context(&bodies[1], &truncated)),
            "rtpm-context-malformed",
        );
        if length >= 16 {
            // With a size that fits.
            truncated[..4].copy_from_slice(&(length as u32).to_le_bytes());
            expect(
                &server.refusal(&with_context(&bodies[1], &truncated)),
                "rtpm-context-malformed",
            );
        }
    }
    let mut longer = context.clone();
    longer.push(0);
    let size = longer.len() as u32;
    longer[..4].copy_from_slice(&size.to_le_bytes());
    expect(
        &server.refusal(&with_context(&bodies[1], &longer)),
        "rtpm-context-malformed",
    );
}

#[test]
fn a_context_of_another_session_is_refused() {
    let (_, server, bodies) = exchange();
    for body in &bodies[1..] {
        let (mut request, _) = parts(body);
        request.session_id = SessionId([6; 16]);
        expect(
            &server.refusal(&request.to_json()),
            "rtpm-context-other-session",
        );
    }
}

#[test]
fn a_context_of_another_host_is_refused() {
    let (mut host, mut other) = (Host::booted(), Host::booted());
    let server = Server::with([&host, &other]);
    let bodies = host.bodies(&server, HealthKind::Encryption);
    let others = other.bodies(&server, HealthKind::Encryption);
    for (body, other) in bodies.iter().zip(&others).skip(1) {
        let (_, context) = parts(body);
        let refusal = server.refusal(&with_context(other, &context));
        expect(&refusal, "rtpm-context-other-host");
        assert!(!refusal.facts().proved);
        // Of another session too: that it is another host's is told.
        let (mut request, _) = parts(&with_context(other, &context));
        request.session_id = SessionId([6; 16]);
        expect(
            &server.refusal(&request.to_json()),
            "rtpm-context-other-host",
        );
    }
}

#[test]
fn a_context_of_another_guardian_is_refused() {
    let (_, mut server, bodies) = exchange();
    let other = ContextKey::new(SecretBytes::new((8..40).collect()));
    server.mode = TpmMode::new(other, IdentityPcrs::default());
    expect(&server.refusal(&bodies[1]), "rtpm-context-foreign");
}

#[test]
fn a_context_expires_two_minutes_after_it_was_made() {
    let (_, mut server, bodies) = exchange();
    server.pass(120);
    for body in &bodies[1..] {
        assert!(is_taken(&server, body));
    }
    server.pass(1);
    for body in &bodies[1..] {
        let refusal = server.refusal(body);
        expect(&refusal, "rtpm-context-expired");
        assert!(!refusal.facts().proved);
    }
    // And on another day, with another key of the day.
    server.pass(5 * 24 * 3600);
    expect(&server.refusal(&bodies[1]), "rtpm-context-foreign");
}

#[test]
fn a_context_is_taken_on_the_other_side_of_midnight() {
    let mut host = Host::booted();
    let mut server = Server::with([&host]);
    let midnight = server.now.unix() / 86_400 * 86_400;
    server.now = Time::from_unix(midnight - 30);
    let bodies = host.bodies(&server, HealthKind::Encryption);
    server.now = Time::from_unix(midnight + 30);
    assert!(is_taken(&server, &bodies[1]));
    let bodies = host.bodies(&server, HealthKind::Encryption);
    // The clock of another node may be a minute behind.
    server.now = Time::from_unix(midnight - 30);
    assert!(is_taken(&server, &bodies[1]));
}

#[test]
fn a_context_of_the_future_is_refused() {
    let (_, mut server, bodies) = exchange();
    let made = server.now;
    for (seconds, taken) in [(60, true), (61, false)] {
        server.now = made.checked_sub(hgs_pki::Seconds::new(seconds)).unwrap();
        assert_eq!(is_taken(&server, &bodies[1]), taken);
    }
    expect(&server.refusal(&bodies[1]), "rtpm-context-expired");
}

/// The answer of one round with the context of another.
#[test]
fn reordered_contexts_are_refused() {
    let (_, server, bodies) = exchange();
    let contexts: Vec<Vec<u8>> = bodies.iter().map(|body| parts(body).1).collect();
    for (state, body) in bodies.iter().enumerate().skip(1) {
        for (answer, _) in bodies.iter().enumerate().skip(1) {
            if state == answer {
                continue;
            }
            let (of_state, of_answer) = (
                Context::read(&contexts[state]).unwrap(),
                Context::read(&contexts[answer]).unwrap(),
            );
            let mixed = Context {
                sealed_state: of_state.sealed_state,
                blobs: of_answer.blobs,
            };
            let refusal = server.refusal(&with_context(body, &mixed.octets()));
            let code = refusal.code().name();
            let expected = match (state, answer) {
                // Two responses where three are awaited, and three where two are.
                (1, _) | (_, 1) => "tpm-response-missing",
                // No session, or the start of one.
                (2, _) => "tpm-response-malformed",
                (_, 2) => "tpm-response-not-authentic",
                // The second reading in the place of the first.
                (3, _) => "tpm-response-not-authentic",
                _ => "tpm-response-replayed",
            };
            assert_eq!(code, expected, "{state} {answer}: {}", refusal.reason());
        }
    }
}

#[test]
fn a_context_for_the_other_kind_is_refused() {
    let (_, server, bodies) = exchange();
    for body in &bodies[1..] {
        let (mut request, _) = parts(body);
        request.requested_content = vec![2.into()];
        expect(
            &server.refusal(&request.to_json()),
            "rtpm-context-other-kind",
        );
    }
}

/// [MS-HGSA] 2.2.1.3: OpenHGS issues no certificates of intermediate authorities.
#[test]
fn type_three_is_refused_by_name() {
    let (_, server, bodies) = exchange();
    let (mut request, _) = parts(&bodies[0]);
    request.requested_content = vec![3.into()];
    expect(
        &server.refusal(&request.to_json()),
        "ca-intermediate-not-offered",
    );
    request.requested_content = vec![1.into(), 2.into()];
    expect(&server.refusal(&request.to_json()), "requested-content");
}

#[test]
fn a_replay_repeats_the_verdict_and_no_more() {
    let (_, server, bodies) = exchange();
    let last = bodies.last().unwrap();
    for _ in 0..3 {
        let refusal = server.refusal(last);
        expect(&refusal, "policy-failed");
        assert!(refusal.facts().proved);
    }
}

/// A host is known by its endorsement key alone (attacks.md A2, A5).
#[test]
fn a5_a_host_that_is_not_registered_is_refused_before_anything_else_of_it_is_read() {
    let host = Host::booted();
    let server = Server::with([]);
    let mut exchange = host.start(HealthKind::Encryption);
    let refusal = server.refusal(&exchange.body());
    expect(&refusal, "host-not-registered");
    assert_eq!(refusal.facts().host, None);
    // Whatever the context is: it is not even decoded.
    let body = String::from_utf8(exchange.body()).unwrap();
    let body = body.replace("}]}", r#"},{"m_Item1":2,"m_Item2":"no Base64!"}]}"#);
    expect(&server.refusal(body.as_bytes()), "host-not-registered");
    let known = Server::with([&host]);
    expect(&known.refusal(body.as_bytes()), "malformed-request");
    let _ = exchange.answer(&host.measurements);
}

#[test]
fn what_is_no_request_of_tpm_mode_is_refused() {
    let (_, server, bodies) = exchange();
    let (request, _) = parts(&bodies[0]);
    let mut without = request.clone();
    without.provided_content.clear();
    expect(&server.refusal(&without.to_json()), "missing-content");
    let mut doubled = request.clone();
    doubled
        .provided_content
        .push(request.provided_content[0].clone());
    expect(&server.refusal(&doubled.to_json()), "missing-content");
    let mut many = request.clone();
    many.provided_content = vec![request.provided_content[0].clone(); 16];
    expect(&server.refusal(&many.to_json()), "missing-content");
    many.provided_content
        .push(request.provided_content[0].clone());
    expect(&server.refusal(&many.to_json()), "too-large");
    expect(&server.refusal(b"[]"), "malformed-request");
    let ad = r#"{"__type":"ADRequest:#Microsoft.Windows.RemoteAttestation.Core","SessionId":"","RequestedContent":[]}"#;
    expect(&server.refusal(ad.as_bytes()), "malformed-request");
}

/// v1.0 has requests of its own, with the same rules.
#[test]
fn requests_of_version_one_are_answered_and_refused_alike() {
    let mut host = Host::booted();
    let server = Server::with([&host]);
    let endorsement_key = host.endorsement_key.public().octets().to_vec();
    let initial = Request::TpmInitial(TpmRequestInitial {
        session_id: SESSION,
        requested_content: vec![1.into()],
        rtpm_public_endorsement_key: endorsement_key.clone(),
    });
    let mut exchange = host.start(HealthKind::Encryption);
    let mut body = initial.to_json();
    let mut rounds = 0;
    let refusal = loop {
        let verdict = server.verdict(&body);
        let Verdict::Continue(continuation) = verdict else {
            break server.refusal(&body);
        };
        rounds += 1;
        let Ok(Step::Execute) = exchange.receive(200, &continuation.reply.to_json()) else {
            panic!("commands");
        };
        host.execute(&mut exchange).unwrap();
        let (_, context) = parts(&exchange.answer(&host.measurements));
        let continued = |session_id| {
            let request = TpmRequestContinue {
                session_id,
                requested_content: vec![1.into()],
                rtpm_public_endorsement_key: endorsement_key.clone(),
                rtpm_new_context: context.clone(),
            };
            Request::TpmContinue(request).to_json()
        };
        expect(
            &server.refusal(&continued(SessionId([9; 16]))),
            "rtpm-context-other-session",
        );
        body = continued(SESSION);
    };
    assert_eq!(rounds, 4);
    expect(&refusal, "policy-failed");
    host.flush(&exchange);
}

#[test]
fn responses_that_are_missing_doubled_or_none_are_refused() {
    const LOCKOUT: [u8; 10] = [0x80, 1, 0, 0, 0, 10, 0, 0, 9, 0x21];
    let (_, server, bodies) = exchange();
    for body in &bodies[1..] {
        let less = with_blobs(body, |blobs| {
            blobs.remove(0);
        });
        expect(&server.refusal(&less), "tpm-response-missing");
        let more = with_blobs(body, |blobs| blobs.push(blobs[0].clone()));
        expect(&server.refusal(&more), "tpm-response-missing");
        let command = with_blobs(body, |blobs| blobs.push(Blob::Command(&[0; 10])));
        expect(&server.refusal(&command), "rtpm-context-malformed");
        let no_response = with_blobs(body, |blobs| blobs[0] = Blob::Response(&[0; 10]));
        expect(&server.refusal(&no_response), "tpm-response-malformed");
        let refused = with_blobs(body, |blobs| blobs[0] = Blob::Response(&LOCKOUT));
        let refusal = server.refusal(&refused);
        expect(&refusal, "tpm-refused");
        let reason = refusal.reason().to_string();
        assert!(reason.contains("TPM_RC_LOCKOUT"), "{reason}");
    }
    // Of the sessions one must start, and another may fail for want of a slot only.
    const OUT_OF_SLOTS: [u8; 10] = [0x80, 1, 0, 0, 0, 10, 0, 0, 9, 3];
    let sessions = |codes: [&'static [u8; 10]; 3]| {
        let responses = codes.iter().map(|code| Blob::Response(*code));
        with_blobs(&bodies[2], |blobs| *blobs = responses.collect())
    };
    expect(
        &server.refusal(&sessions([&OUT_OF_SLOTS; 3])),
        "tpm-refused",
    );
    let locked = with_blobs(&bodies[2], |blobs| blobs[1] = Blob::Response(&LOCKOUT));
    expect(&server.refusal(&locked), "tpm-refused");
    // With two logs, or a blob of no type, there is no context.
    let last = bodies.last().unwrap();
    let doubled = with_blobs(last, |blobs| blobs.push(Blob::EventLog(&[])));
    expect(&server.refusal(&doubled), "rtpm-context-malformed");
    let many = with_blobs(last, |blobs| {
        let preimage = Preimage {
            pcr: 8,
            event: 1,
            octets: Vec::new(),
        };
        blobs.extend((0..200).map(|_| Blob::Preimage(preimage.clone())));
    });
    expect(&server.refusal(&many), "too-large");
    // Only user space measures what nothing explains: all that firmware and boot loaders measure is in the log.
    for pcr in (0..=10).chain(16..=23) {
        let unexplained = UnexplainedEvent {
            pcr,
            event: 1000,
            digest: EventDigest([0x5a; 32]),
        };
        let claimed = with_blobs(last, |blobs| {
            blobs.push(Blob::UnexplainedEvent(unexplained))
        });
        expect(&server.refusal(&claimed), "rtpm-context-malformed");
    }
}

#[test]
fn all_preimages_of_a_context_share_one_limit() {
    let read = |octets: [usize; 3]| {
        let preimages = octets.map(|length| {
            Blob::Preimage(Preimage {
                pcr: 8,
                event: 1,
                octets: vec![0; length],
            })
        });
        let context = Context {
            sealed_state: &[0; 36],
            blobs: preimages.to_vec(),
        };
        Context::read(&context.octets()).map(|read| assert_eq!(read, context))
    };
    const HALF: usize = MAX_PREIMAGES / 2;
    assert_eq!(read([HALF, HALF, 0]), Ok(()));
    let refused = ContextError::TooLarge {
        part: "the preimages of the context",
        found: MAX_PREIMAGES + 1,
        limit: MAX_PREIMAGES,
    };
    assert_eq!(read([HALF, HALF, 1]), Err(refused));
}

#[test]
fn a_context_and_each_of_its_parts_has_its_limit() {
    let too_large = |part, limit: usize| {
        let found = limit + 1;
        Err(ContextError::TooLarge { part, found, limit })
    };
    let larger = vec![0; MAX_CONTEXT + 1];
    assert_eq!(
        Context::read(&larger).map(drop),
        too_large("the context", MAX_CONTEXT)
    );
    let read = |context: &Context<'_>| Context::read(&context.octets()).map(drop);
    let (event_log, ima_log) = (event_log::Limits::LOG.octets, ima::Limits::LOG.octets);
    let octets = vec![0; event_log.max(ima_log) + 1];
    for (part, limit, blob) in [
        ("the event log", event_log, Blob::EventLog as fn(_) -> _),
        ("the IMA log", ima_log, Blob::ImaLog),
        ("a TPM command", MAX_MESSAGE, Blob::Command),
        ("a TPM response", MAX_MESSAGE, Blob::Response),
    ] {
        let of_part = |length: usize| {
            read(&Context {
                sealed_state: &[0; 36],
                blobs: vec![blob(&octets[..length])],
            })
        };
        assert_eq!(of_part(limit), Ok(()));
        assert_eq!(of_part(limit + 1), too_large(part, limit));
    }
    let of_state = |octets: usize| {
        let mut sealed_state = vec![0; octets];
        let ciphertext = (octets - 36) as u32;
        sealed_state[32..36].copy_from_slice(&ciphertext.to_le_bytes());
        read(&Context {
            sealed_state: &sealed_state,
            blobs: Vec::new(),
        })
    };
    assert_eq!(of_state(MAX_SEALED_STATE), Ok(()));
    assert_eq!(
        of_state(MAX_SEALED_STATE + 1),
        too_large("the sealed state of the context", MAX_SEALED_STATE)
    );
    let context = Context {
        sealed_state: &[0; 36],
        blobs: Vec::new(),
    };
    let found = context.octets().len();
    let declared = found as u32 + 1;
    for (place, expected) in [
        (0, ContextError::Size { declared, found }),
        (4, ContextError::Version(2)),
    ] {
        let mut other = context.octets();
        other[place] += 1;
        assert_eq!(Context::read(&other).unwrap_err(), expected);
    }
}

/// attacks.md A4.
#[test]
fn a4_a_response_that_was_altered_is_refused() {
    let (_, server, bodies) = exchange();
    let (_, context) = parts(&bodies[3]);
    let context: Context<'_> = Context::read(&context).unwrap();
    let Blob::Response(response) = context.blobs[0] else {
        panic!("a response");
    };
    for place in 10..response.len() {
        let mut altered = response.to_vec();
        altered[place] ^= 1;
        let mut changed = context.clone();
        changed.blobs[0] = Blob::Response(&altered);
        let refusal = server.refusal(&with_context(&bodies[3], &changed.octets()));
        let code = refusal.code().name();
        assert!(
            ["tpm-response-not-authentic", "tpm-response-malformed"].contains(&code),
            "{place}: {code}"
        );
        assert!(!refusal.facts().proved, "{place}");
    }
}

/// What a session without HMAC returns is a claim.
#[test]
fn a_stripped_session_is_refused() {
    let (_, server, bodies) = exchange();
    let body = with_blobs(&bodies[3], |blobs| {
        // TPM2_PCR_Read answered outside of a session: counter, no selection, no values.
        blobs[0] = Blob::Response(&[
            0x80, 1, 0, 0, 0, 22, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0,
        ]);
    });
    expect(&server.refusal(&body), "tpm-response-not-authentic");
}

/// A host can pass the commands on to another machine's TPM, which has another endorsement key (attacks.md A15).
#[test]
fn a15_responses_of_another_tpm_are_refused() {
    let mut host = Host::booted();
    let mut other = Host::booted();
    let server = Server::with([&host]);
    // It says that it is the registered host, and asks its own TPM.
    let mut exchange = RtpmExchange::start(
        SESSION,
        HealthKind::Encryption,
        host.endorsement_key.clone(),
        None,
    );
    let Verdict::Continue(first) = server.verdict(&exchange.body()) else {
        panic!("it is registered");
    };
    let Ok(Step::Execute) = exchange.receive(200, &first.reply.to_json()) else {
        panic!("commands");
    };
    let context = reply_context(&first.reply);
    let context = Context::read(&context).unwrap();
    let primaries: Vec<Vec<u8>> = context
        .blobs
        .iter()
        .map(|blob| match blob {
            Blob::Command(command) => other.tpm.send(command),
            _ => panic!("a command"),
        })
        .collect();
    let answer = |sealed_state: &[u8], responses: &[Vec<u8>]| {
        let context = Context {
            sealed_state,
            blobs: responses.iter().map(|one| Blob::Response(one)).collect(),
        };
        let (mut request, _) = parts(&exchange.body());
        request
            .provided_content
            .push(hgs_attest::wire::ProvidedContent {
                content_type: AttestationProvidedContentType::RtpmContext,
                octets: context.octets(),
            });
        request.to_json()
    };
    // Its own endorsement key.
    expect(
        &server.refusal(&answer(context.sealed_state, &primaries)),
        "tpm-other-endorsement-key",
    );
    // The public area of the registered one, with handles of its own.
    let real = host
        .tpm
        .send(&Command::CreatePrimary(Primary::EndorsementKey).octets());
    host.tpm
        .send(&flush_context(created_primary(&real).unwrap().handle));
    let claimed = [real, primaries[1].clone()];
    let Verdict::Continue(second) = server.verdict(&answer(context.sealed_state, &claimed)) else {
        panic!("public areas are public");
    };
    let context = reply_context(&second.reply);
    let context = Context::read(&context).unwrap();
    let started: Vec<Vec<u8>> = context
        .blobs
        .iter()
        .map(|blob| match blob {
            Blob::Command(command) => other.tpm.send(command),
            _ => panic!("a command"),
        })
        .collect();
    expect(
        &server.refusal(&answer(context.sealed_state, &started)),
        "tpm-other-endorsement-key",
    );
    // A session of its own, without the salt.
    let unsalted: Vec<Vec<u8>> = context
        .blobs
        .iter()
        .map(|blob| {
            let Blob::Command(command) = blob else {
                panic!("a command");
            };
            let null = [0x40, 0, 0, 7];
            let unsalted = [
                &[0x80, 1, 0, 0, 0, 59, 0, 0, 1, 0x76],
                &null[..],
                &null,
                &command[18..18 + 34],
                &[0, 0, 0, 0, 0x10, 0, 0x0b],
            ];
            other.tpm.send(&unsalted.concat())
        })
        .collect();
    let Verdict::Continue(third) = server.verdict(&answer(context.sealed_state, &unsalted)) else {
        panic!("a handle and a nonce");
    };
    let context = reply_context(&third.reply);
    let context = Context::read(&context).unwrap();
    let read: Vec<Vec<u8>> = context
        .blobs
        .iter()
        .map(|blob| match blob {
            Blob::Command(command) => other.tpm.send(command),
            _ => panic!("a command"),
        })
        .collect();
    let refusal = server.refusal(&answer(context.sealed_state, &read));
    expect(&refusal, "tpm-response-not-authentic");
    assert!(!refusal.facts().proved);
}

fn reply_context(reply: &Reply) -> Vec<u8> {
    match reply {
        Reply::TpmContinue(TpmReplyContinue {
            rtpm_active_context,
        }) => rtpm_active_context.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn pcrs_that_are_extended_again_and_again_are_refused() {
    let mut host = Host::booted();
    let server = Server::with([&host]);
    let mut exchange = host.start(HealthKind::Encryption);
    let mut body = exchange.body();
    let mut readings = 0;
    let refusal = loop {
        let Verdict::Continue(continuation) = server.verdict(&body) else {
            break server.refusal(&body);
        };
        let Ok(Step::Execute) = exchange.receive(200, &continuation.reply.to_json()) else {
            panic!("commands");
        };
        readings += usize::from(exchange.wants_measurements());
        extend(&mut host.tpm, 11, &[3; 32]);
        host.execute(&mut exchange).unwrap();
        body = exchange.answer(&host.measurements);
    };
    assert_eq!(readings, 6);
    expect(&refusal, "pcrs-unstable");
    assert!(refusal.facts().proved);
    host.flush(&exchange);
    // PCRs that change by themselves are not awaited.
    let mut host = Host::booted();
    let server = Server::with([&host]);
    let mut exchange = host.start(HealthKind::Encryption);
    let mut body = exchange.body();
    while let Verdict::Continue(continuation) = server.verdict(&body) {
        let Ok(Step::Execute) = exchange.receive(200, &continuation.reply.to_json()) else {
            panic!("commands");
        };
        for pcr in [10, 16, 23] {
            extend(&mut host.tpm, pcr, &[3; 32]);
        }
        host.execute(&mut exchange).unwrap();
        body = exchange.answer(&host.measurements);
    }
    assert_ne!(server.refusal(&body).code().name(), "pcrs-unstable");
    host.flush(&exchange);
}

/// Logs prove nothing by themselves (attacks.md A8, A9).
#[test]
fn a8_logs_that_are_not_those_of_the_pcrs_are_refused_with_their_own_reasons() {
    let (_, server, bodies) = exchange();
    let last = bodies.last().unwrap();
    let with_log = |log: Option<&[u8]>| {
        let (_, context) = parts(last);
        let mut context = Context::read(&context).unwrap();
        context
            .blobs
            .retain(|blob| !matches!(blob, Blob::EventLog(_)));
        context.blobs.extend(log.map(Blob::EventLog));
        server.refusal(&with_context(last, &context.octets()))
    };
    let log = boot().log();
    let refusal = with_log(None);
    expect(&refusal, "no-event-log");
    assert!(refusal.facts().proved && refusal.facts().measured.is_some());
    expect(
        &with_log(Some(&log[..log.len() - 1])),
        "event-log-malformed",
    );
    let mut other = boot();
    other.events[7].digest = sha256(b"another");
    expect(&with_log(Some(&other.log())), "event-log-mismatch");
    let mut less = boot();
    less.events.pop();
    expect(&with_log(Some(&less.log())), "event-log-mismatch");
    expect(&with_log(Some(&log)), "policy-failed");
}

#[test]
fn an_ima_log_that_is_not_that_of_pcr_10_is_refused() {
    let mut host = Host::booted();
    let server = Server::with([&host]);
    extend(&mut host.tpm, 10, &[1; 32]);
    let bodies = host.bodies(&server, HealthKind::Encryption);
    let last = bodies.last().unwrap();
    let with_ima = |log: &[u8]| {
        let (_, context) = parts(last);
        let mut context = Context::read(&context).unwrap();
        context.blobs.push(Blob::ImaLog(log));
        server.refusal(&with_context(last, &context.octets()))
    };
    expect(&with_ima(&[1, 2, 3]), "ima-log-malformed");
    // One entry: PCR 10, a template digest, the template ima-ng, with a digest and a path.
    let data = [
        &[0x28, 0, 0, 0][..],
        b"sha256:\0",
        &[7; 32],
        &[9, 0, 0, 0],
        b"/bin/own\0",
    ]
    .concat();
    let entry = [
        &[10, 0, 0, 0][..],
        &hgs_crypto::hash::sha1_of(&[&data]),
        &[6, 0, 0, 0],
        b"ima-ng",
        &(data.len() as u32).to_le_bytes(),
        &data,
    ]
    .concat();
    expect(&with_ima(&entry), "ima-log-mismatch");
}

/// A revoked host is told so when its TPM has answered, and not before.
#[test]
fn a_revoked_host_is_refused_when_it_has_proved_itself() {
    let (_, mut server, bodies) = exchange();
    server.hosts.hosts[0].revoked = true;
    for body in &bodies[..3] {
        assert!(is_taken(&server, body));
    }
    for body in &bodies[3..] {
        let refusal = server.refusal(body);
        expect(&refusal, "host-revoked");
        assert!(refusal.facts().proved);
    }
}

/// A TPM has slots for three sessions, and another program may have one of them.
#[test]
fn one_session_is_enough() {
    for taken in 0..3 {
        let mut host = Host::booted();
        let server = Server::with([&host]);
        for _ in 0..taken {
            start_session(&mut host.tpm);
        }
        let bodies = host.bodies(&server, HealthKind::Encryption);
        // Two keys, the sessions, and twice the rounds that 24 PCRs take.
        assert_eq!(bodies.len(), 3 + 2 * [1, 2, 3][taken], "{taken}");
        expect(&server.refusal(bodies.last().unwrap()), "policy-failed");
    }
}

fn start_session(tpm: &mut SoftwareTpm) {
    let null = [0x40, 0, 0, 7];
    let command = [
        &[0x80, 1, 0, 0, 0, 59, 0, 0, 1, 0x76],
        &null[..],
        &null,
        &[0, 32],
        &[9; 32],
        &[0, 0, 0, 0, 0x10, 0, 0x0b],
    ]
    .concat();
    assert_eq!(tpm.send(&command)[6..10], [0; 4]);
}

/// A TPM whose bank of SHA-256 is off answers authentically, and with nothing. The test knows what the server draws, and so the
/// keys of its sessions: it answers in place of such a TPM.
#[test]
fn a_tpm_without_a_bank_of_sha256_is_refused() {
    let mut host = Host::booted();
    let server = Server::with([&host]);
    let mut exchange = host.start(HealthKind::Encryption);
    let mut body = exchange.body();
    let mut keys = Vec::new();
    let mut context = Vec::new();
    for round in 0..3 {
        let drawn = |random: &mut Repeatable| {
            let (mut salt, mut nonce) = ([0; 32], [0; 32]);
            random.fill(&mut salt).unwrap();
            random.fill(&mut nonce).unwrap();
            (salt, nonce)
        };
        if round == 1 {
            let random = &mut Repeatable::seeded(round);
            keys = (0..3).map(|_| drawn(random)).collect();
        }
        let nonces = common::nonces();
        let attempt = common::attempt(&body, &nonces, server.now);
        let random = &mut Repeatable::seeded(round);
        let Verdict::Continue(continuation) = server.mode.evaluate(&attempt, &server.hosts, random)
        else {
            panic!("it goes on");
        };
        context = reply_context(&continuation.reply);
        let reply = continuation.reply.to_json();
        assert!(matches!(exchange.receive(200, &reply), Ok(Step::Execute)));
        if round == 1 {
            // The nonces of the TPM complete the keys.
            for key in &mut keys {
                let command = exchange.next_command().unwrap().octets();
                assert_eq!(command[20..52], key.1, "the nonce that was drawn");
                let response = host.tpm.send(&command);
                let nonce_tpm: [u8; 32] = response[16..48].try_into().unwrap();
                let salt = SecretBytes::new(key.0.to_vec());
                let derived = kdfa_sha256(&salt, "ATH", [&nonce_tpm, &key.1], 32).unwrap();
                *key = (derived.expose().try_into().unwrap(), nonce_tpm);
                exchange.executed(response).unwrap();
            }
        } else if round == 0 {
            host.execute(&mut exchange).unwrap();
        }
        if round < 2 {
            body = exchange.answer(&host.measurements);
        }
    }
    host.flush(&exchange);
    let context = Context::read(&context).unwrap();
    let responses: Vec<Vec<u8>> = context
        .blobs
        .iter()
        .zip(&keys)
        .map(|(blob, (key, _))| {
            let Blob::Command(command) = blob else {
                panic!("a command");
            };
            let Command::PcrRead { authorization, .. } = Command::parse(command).unwrap() else {
                panic!("a reading");
            };
            // A counter, no selection, no values.
            authentic(key, &authorization.nonce_caller, &[0; 12], 0x81)
        })
        .collect();
    let answer = |responses: &[Vec<u8>]| {
        let answer = Context {
            sealed_state: context.sealed_state,
            blobs: responses.iter().map(|one| Blob::Response(one)).collect(),
        };
        with_context(&body, &answer.octets())
    };
    let refusal = server.refusal(&answer(&responses));
    expect(&refusal, "tpm-pcr-bank");
    // Nor is it taken without the audit attribute.
    let Blob::Command(command) = context.blobs[0] else {
        panic!("a command");
    };
    let Command::PcrRead { authorization, .. } = Command::parse(command).unwrap() else {
        panic!("a reading");
    };
    let mut unaudited = responses.clone();
    unaudited[0] = authentic(&keys[0].0, &authorization.nonce_caller, &[0; 12], 0x01);
    expect(
        &server.refusal(&answer(&unaudited)),
        "tpm-response-not-authentic",
    );
}

/// A response to TPM2_PCR_Read under a key that the test knows.
fn authentic(
    key: &[u8; 32],
    nonce_caller: &[u8; 32],
    parameters: &[u8],
    attributes: u8,
) -> Vec<u8> {
    let nonce_tpm = [5; 32];
    let digest = sha256_of(&[&[0; 4], &0x17e_u32.to_be_bytes(), parameters]);
    let signed: [&[u8]; 4] = [&digest, &nonce_tpm, nonce_caller, &[attributes]];
    let hmac = hmac_sha256(&SecretBytes::from(&key[..]), &signed);
    let body = [
        &(parameters.len() as u32).to_be_bytes()[..],
        parameters,
        &[0, 32],
        &nonce_tpm,
        &[attributes, 0, 32],
        &hmac,
    ]
    .concat();
    let size = (10 + body.len() as u32).to_be_bytes();
    [&[0x80, 2][..], &size, &[0; 4], &body].concat()
}

/// attacks.md A1: what is drawn for an exchange is drawn for each, and for each command.
#[test]
fn a1_no_two_exchanges_have_a_nonce_a_salt_or_a_seal_in_common() {
    let mut host = Host::booted();
    let server = Server::with([&host]);
    let mut drawn = BTreeSet::new();
    let mut count = 0;
    for _ in 0..3 {
        let mut exchange = host.start(HealthKind::Encryption);
        let mut body = exchange.body();
        while let Verdict::Continue(continuation) = server.verdict(&body) {
            let context = reply_context(&continuation.reply);
            let context = Context::read(&context).unwrap();
            // The GCM nonce, and what follows the length.
            drawn.insert(context.sealed_state[16..28].to_vec());
            count += 1;
            let reply = continuation.reply.to_json();
            assert!(matches!(exchange.receive(200, &reply), Ok(Step::Execute)));
            for blob in &context.blobs {
                let Blob::Command(command) = blob else {
                    panic!("a command");
                };
                match Command::parse(command).unwrap() {
                    Command::StartAuthSession {
                        nonce_caller,
                        encrypted_salt,
                        ..
                    } => {
                        drawn.insert(nonce_caller.to_vec());
                        drawn.insert(encrypted_salt.to_vec());
                        count += 2;
                    }
                    Command::PcrRead { authorization, .. } => {
                        drawn.insert(authorization.nonce_caller.to_vec());
                        count += 1;
                    }
                    _ => {}
                }
            }
            host.execute(&mut exchange).unwrap();
            body = exchange.answer(&host.measurements);
        }
        host.flush(&exchange);
    }
    assert_eq!(count, 3 * (4 + 6 + 6));
    assert_eq!(drawn.len(), count);
}

/// attacks.md A8: all PCRs are read in the session, and the host has no say in it.
#[test]
fn a8_a_host_can_not_choose_which_pcrs_are_read() {
    let mut host = Host::booted();
    let server = Server::with([&host]);
    let mut exchange = host.start(HealthKind::Encryption);
    let mut body = exchange.body();
    for _ in 0..2 {
        let Verdict::Continue(continuation) = server.verdict(&body) else {
            panic!("it goes on");
        };
        let reply = continuation.reply.to_json();
        assert!(matches!(exchange.receive(200, &reply), Ok(Step::Execute)));
        host.execute(&mut exchange).unwrap();
        body = exchange.answer(&host.measurements);
    }
    let Verdict::Continue(continuation) = server.verdict(&body) else {
        panic!("it goes on");
    };
    let context = reply_context(&continuation.reply);
    let context = Context::read(&context).unwrap();
    let mut read = Vec::new();
    let responses: Vec<Vec<u8>> = context
        .blobs
        .iter()
        .map(|blob| {
            let Blob::Command(command) = blob else {
                panic!("a command");
            };
            let Command::PcrRead { selection, .. } = Command::parse(command).unwrap() else {
                panic!("a reading");
            };
            read.extend(selection.pcrs());
            // The host asks for PCR 16 alone, which it can reset.
            let mut other = command.to_vec();
            let end = other.len();
            other[end - 3..].copy_from_slice(&[0, 0, 1]);
            host.tpm.send(&other)
        })
        .collect();
    assert_eq!(read, (0..24).collect::<Vec<u8>>());
    let answer = Context {
        sealed_state: context.sealed_state,
        blobs: responses.iter().map(|one| Blob::Response(one)).collect(),
    };
    let refusal = server.refusal(&with_context(&body, &answer.octets()));
    expect(&refusal, "tpm-response-not-authentic");
    host.flush(&exchange);
}

/// attacks.md A13: a set that has nothing to match refuses.
#[test]
fn a13_a_host_without_policies_is_refused() {
    let (_, server, bodies) = exchange();
    expect(&server.refusal(bodies.last().unwrap()), "policy-failed");
}

/// attacks.md A14: what was refused is refused again, and nothing but a new decision changes that.
#[test]
fn a14_a_refusal_is_repeated_for_every_replay_and_every_new_attempt() {
    let (mut host, server, bodies) = exchange();
    for _ in 0..2 {
        expect(&server.refusal(bodies.last().unwrap()), "policy-failed");
        let again = host.bodies(&server, HealthKind::Encryption);
        expect(&server.refusal(again.last().unwrap()), "policy-failed");
    }
}
