//! What a host refuses that its server sends: it does not trust the server with its TPM.

mod common;

use common::tpm::{Host, Server, boot, certify, context_with, parts, policies};
use hgs_attest::Verdict;
use hgs_attest::client::rtpm::{RtpmExchange, RtpmFault, Step};
use hgs_attest::client::{AttestationFailure, NotAsked};
use hgs_attest::fuzzing;
use hgs_attest::rtpm::{Blob, Context, ContextKey, DeviceInfo, IdentityPcrs, TpmMode};
use hgs_attest::wire::{Reply, TpmReplyContinue};
use hgs_crypto::SecretBytes;
use hgs_pki::health::HealthKind;
use hgs_tcg::tpm::{Command, Handle, KeyPurpose, KeyTemplate, PcrSelection};
use hgs_testkit::Mutations;

const SEALED: [u8; 52] = {
    let mut sealed = [7; 52];
    // The length of the ciphertext.
    sealed[32] = 16;
    sealed[33] = 0;
    sealed[34] = 0;
    sealed[35] = 0;
    sealed
};

fn reply(context: &[u8]) -> Vec<u8> {
    let reply = TpmReplyContinue {
        rtpm_active_context: context.to_vec(),
    };
    Reply::TpmContinue(reply).to_json()
}

#[track_caller]
fn refused(exchange: &mut RtpmExchange, context: &[u8]) -> RtpmFault {
    let fault = match exchange.receive(200, &reply(context)) {
        Err(AttestationFailure::Rtpm(fault)) => fault,
        other => panic!("{other:?}"),
    };
    assert_eq!(exchange.next_command(), None, "nothing is executed");
    fault
}

/// A host in the middle of an exchange, before it reads PCRs, and the context that asks for that.
fn before_reading() -> (Host, RtpmExchange, Vec<u8>) {
    let mut host = Host::booted();
    let mut server = Server::with([&host]);
    server.hosts.policies = policies(&[boot()]);
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
    let Reply::TpmContinue(reply) = continuation.reply else {
        panic!("a context");
    };
    (host, exchange, reply.rtpm_active_context)
}

/// [MS-HGSA] 2.2.2.27.3 has five commands. Any other would let a server do with the TPM what it likes.
#[test]
fn foreign_commands_are_refused_by_name_and_end_the_exchange() {
    let foreign: [(u32, &str); 14] = [
        (0x165, "FlushContext"),
        (0x182, "PCR_Extend"),
        (0x13d, "PCR_Reset"),
        (0x126, "Clear"),
        (0x167, "LoadExternal"),
        (0x157, "Load"),
        (0x159, "RSA_Decrypt"),
        (0x15d, "Sign"),
        (0x15e, "Unseal"),
        (0x14e, "NV_Read"),
        (0x137, "NV_Write"),
        (0x158, "Quote"),
        (0x147, "ActivateCredential"),
        (0x17b, "GetRandom"),
    ];
    let host = Host::booted();
    for (code, name) in foreign {
        let command = [&[0x80, 1, 0, 0, 0, 10][..], &code.to_be_bytes()].concat();
        let mut exchange = host.start(HealthKind::Encryption);
        let fault = refused(&mut exchange, &context_with(&SEALED, &command));
        let shown = fault.to_string();
        assert!(matches!(fault, RtpmFault::Foreign(_)), "{name}: {shown}");
        assert!(shown.contains(&format!("{code:#010x}")), "{name}: {shown}");
        assert!(!fault.is_retryable());
    }
}

#[test]
fn commands_in_another_shape_are_refused() {
    let (host, mut exchange, context) = before_reading();
    let context = Context::read(&context).unwrap();
    let Blob::Command(read) = context.blobs[0] else {
        panic!("a command");
    };
    for place in 0..read.len() {
        // Session, nonce and HMAC of the command, and the selection, may be any.
        if (14..28).contains(&place) || (20..90).contains(&place) || place > read.len() - 4 {
            continue;
        }
        let mut altered = read.to_vec();
        altered[place] ^= 0x40;
        let fault = refused(&mut exchange, &context_with(&SEALED, &altered));
        assert!(matches!(fault, RtpmFault::Foreign(_)), "{place}: {fault}");
    }
    drop(host);
}

#[test]
fn handles_that_the_exchange_has_not_made_are_refused() {
    let (mut host, mut exchange, context) = before_reading();
    let context = Context::read(&context).unwrap();
    let Blob::Command(read) = context.blobs[0] else {
        panic!("a command");
    };
    let Command::PcrRead {
        selection,
        authorization,
    } = Command::parse(read).unwrap()
    else {
        panic!("a reading");
    };
    let mine: Vec<Handle> = exchange.handles().collect();
    let session = Handle::new(0x0200_0077);
    assert!(!mine.contains(&session));
    let mut foreign = authorization;
    foreign.session = session;
    let key = Handle::new(0x8100_0001);
    let template = KeyTemplate {
        purpose: KeyPurpose::Encryption,
        policy: [0; 32],
    };
    let salt = Box::new([1; 256]);
    for command in [
        Command::PcrRead {
            selection,
            authorization: foreign,
        },
        Command::ReadPublic(key),
        Command::StartAuthSession {
            key,
            nonce_caller: [0; 32],
            encrypted_salt: salt.clone(),
        },
        Command::Create {
            parent: key,
            template,
            outside_info: None,
            authorization,
        },
        // The endorsement key as parent of a key.
        Command::Create {
            parent: mine[3],
            template,
            outside_info: None,
            authorization,
        },
    ] {
        let octets = command.octets();
        let fault = refused(&mut exchange, &context_with(&SEALED, &octets));
        assert!(
            matches!(fault, RtpmFault::ForeignHandle { .. }),
            "{}: {fault}",
            command.name()
        );
    }
    // A session whose salt another key decrypts.
    let command = Command::StartAuthSession {
        key: mine[4],
        nonce_caller: [0; 32],
        encrypted_salt: salt,
    };
    let fault = refused(&mut exchange, &context_with(&SEALED, &command.octets()));
    assert!(matches!(fault, RtpmFault::ForeignHandle { .. }), "{fault}");
    host.flush(&exchange);
    assert_eq!(host.handles(), 0);
}

#[test]
fn a_server_gets_no_more_than_an_attestation_needs() {
    let (mut host, mut exchange, context) = before_reading();
    let context = Context::read(&context).unwrap();
    let sealed_state = &SEALED[..];
    // A fourth session, a second endorsement key, a fourth reading at once.
    let endorsement_key = exchange.handles().nth(3).unwrap();
    let fourth = Command::StartAuthSession {
        key: endorsement_key,
        nonce_caller: [0; 32],
        encrypted_salt: Box::new([1; 256]),
    };
    let again = Command::CreatePrimary(hgs_tcg::tpm::Primary::EndorsementKey);
    for command in [fourth, again] {
        let fault = refused(
            &mut exchange,
            &context_with(sealed_state, &command.octets()),
        );
        assert!(matches!(fault, RtpmFault::TooMuch(_)), "{fault}");
    }
    let mut four = context.clone();
    four.blobs.push(four.blobs[0].clone());
    let fault = refused(&mut exchange, &four.octets());
    assert!(matches!(fault, RtpmFault::TooMuch(_)), "{fault}");
    // Something that is no command.
    for blob in [
        Blob::Response(&[]),
        Blob::EventLog(&[]),
        Blob::DeviceInfo(DeviceInfo::EMULATOR),
    ] {
        let other = Context {
            sealed_state,
            blobs: vec![blob],
        };
        let fault = refused(&mut exchange, &other.octets());
        assert_eq!(fault, RtpmFault::NoCommand);
    }
    let fault = refused(&mut exchange, b"no context");
    assert!(matches!(fault, RtpmFault::Context(_)));
    // A server that never ends.
    let mut rounds = 0;
    let endless = loop {
        match exchange.receive(200, &reply(&context.octets())) {
            Ok(Step::Execute) => rounds += 1,
            Err(AttestationFailure::Rtpm(fault)) => break fault,
            other => panic!("{other:?}"),
        }
        assert!(rounds < 100);
        let _ = exchange.answer(&host.measurements);
    };
    assert_eq!(endless, RtpmFault::TooMuch("more rounds"));
    host.flush(&exchange);
}

/// A key that is bound to nothing would work whatever the host boots.
#[test]
fn a_key_that_is_not_bound_to_the_pcrs_of_this_host_is_not_made() {
    let mut host = Host::booted();
    let mut server = Server::with([&host]);
    server.hosts.policies = policies(&[boot()]);
    let mut exchange = host.start(HealthKind::Encryption);
    let mut body = exchange.body();
    let (mut create, context) = loop {
        let Verdict::Continue(continuation) = server.verdict(&body) else {
            panic!("it goes on");
        };
        let reply = continuation.reply.to_json();
        assert!(matches!(exchange.receive(200, &reply), Ok(Step::Execute)));
        if let Some(command @ Command::Create { .. }) = exchange.next_command() {
            let Reply::TpmContinue(reply) = continuation.reply else {
                panic!("a context");
            };
            break (command.clone(), reply.rtpm_active_context);
        }
        host.execute(&mut exchange).unwrap();
        body = exchange.answer(&host.measurements);
    };
    let _ = exchange.answer(&host.measurements);
    let sealed_state = Context::read(&context).unwrap().sealed_state;
    for (purpose, policy, expected) in [
        (KeyPurpose::Encryption, [0; 32], RtpmFault::ForeignPolicy),
        (KeyPurpose::Encryption, [9; 32], RtpmFault::ForeignPolicy),
        (KeyPurpose::Signing, [9; 32], RtpmFault::OtherPurpose),
    ] {
        let Command::Create { template, .. } = &mut create else {
            unreachable!()
        };
        *template = KeyTemplate { purpose, policy };
        let context = context_with(sealed_state, &create.octets());
        assert_eq!(refused(&mut exchange, &context), expected);
    }
    host.flush(&exchange);
    assert_eq!(host.handles(), 0);
}

/// One attestation needs one key, however the server asks for another.
#[test]
fn a_second_key_is_not_made() {
    let mut host = Host::booted();
    let mut server = Server::with([&host]);
    server.hosts.policies = policies(&[boot()]);
    let mut exchange = host.start(HealthKind::Encryption);
    let mut body = exchange.body();
    let context = loop {
        let Verdict::Continue(continuation) = server.verdict(&body) else {
            panic!("it goes on");
        };
        let message = continuation.reply.to_json();
        assert!(matches!(exchange.receive(200, &message), Ok(Step::Execute)));
        if matches!(exchange.next_command(), Some(Command::Create { .. })) {
            let Reply::TpmContinue(reply) = continuation.reply else {
                panic!("a context");
            };
            break reply.rtpm_active_context;
        }
        host.execute(&mut exchange).unwrap();
        body = exchange.answer(&host.measurements);
    };
    let _ = exchange.answer(&host.measurements);
    let mut two = Context::read(&context).unwrap();
    two.blobs.push(two.blobs[0].clone());
    let refusal = RtpmFault::TooMuch("more keys");
    assert_eq!(refused(&mut exchange, &two.octets()), refusal);

    let again = exchange.receive(200, &reply(&context));
    assert!(matches!(again, Ok(Step::Execute)));
    host.execute(&mut exchange).unwrap();
    let _ = exchange.answer(&host.measurements);
    assert_eq!(refused(&mut exchange, &context), refusal);
    host.flush(&exchange);
}

/// Which PCRs it is, the host finds out by the values that it read.
#[test]
fn a_host_finds_the_pcrs_of_any_set_that_a_server_may_have() {
    for optional in [&[][..], &[8, 9], &[11], &[14, 12], &[8, 9, 11, 12, 13, 14]] {
        let pcrs = PcrSelection::new((0..8).chain(optional.iter().copied())).unwrap();
        let pcrs = IdentityPcrs::new(pcrs).unwrap();
        let mut host = Host::booted();
        let mut server = Server::with([&host]);
        server.hosts.policies = policies(&[boot()]);
        let key = ContextKey::new(SecretBytes::new((7..39).collect()));
        server.mode = TpmMode::new(key, pcrs);
        let (attested, _) = host.attest(&mut server, HealthKind::Encryption);
        let created = attested.unwrap().created.unwrap();
        // PCRs with equal values can stand for each other.
        let values = |pcrs: IdentityPcrs| {
            let boot = boot().pcrs();
            let of = pcrs.selection().pcrs();
            of.map(|pcr| boot[usize::from(pcr)]).collect::<Vec<_>>()
        };
        assert_eq!(values(created.pcrs), values(pcrs), "{optional:?}");
    }
}

#[test]
fn a_tpm_with_another_endorsement_key_ends_the_exchange_on_the_host() {
    let (mut host, other) = (Host::booted(), Host::booted());
    let mut server = Server::with([&host, &other]);
    server.hosts.policies = policies(&[boot()]);
    host.endorsement_key = other.endorsement_key.clone();
    let (attested, _) = host.attest(&mut server, HealthKind::Encryption);
    let fault = attested.unwrap_err();
    assert_eq!(
        fault,
        AttestationFailure::Rtpm(RtpmFault::OtherEndorsementKey)
    );
    assert_eq!(host.handles(), 0);
}

/// A TPM that is full says so, and what the exchange has made is flushed.
#[test]
fn a_tpm_that_refuses_ends_the_exchange_with_its_own_words() {
    let mut host = Host::booted();
    let mut server = Server::with([&host]);
    server.hosts.policies = policies(&[boot()]);
    let mut exchange = host.start(HealthKind::Encryption);
    let (_, first, _) = server.reply(&exchange.body());
    assert!(matches!(exchange.receive(200, &first), Ok(Step::Execute)));
    let command = exchange.next_command().unwrap().octets();
    let response = host.tpm.send(&command);
    exchange.executed(response).unwrap();
    // TPM_RC_OBJECT_MEMORY, after the endorsement key was made.
    let fault = exchange.executed(vec![0x80, 1, 0, 0, 0, 10, 0, 0, 9, 2]);
    let fault = fault.unwrap_err();
    assert!(fault.is_retryable());
    assert_eq!(fault.response_code().unwrap().value(), 0x902);
    let shown = fault.to_string();
    assert!(
        shown.contains("TPM2_CreatePrimary") && shown.contains("no slot for another key"),
        "{shown}"
    );
    assert_eq!(exchange.handles().count(), 1);
    host.flush(&exchange);
    assert_eq!(host.handles(), 0);
}

#[test]
fn no_mutation_of_a_context_makes_a_host_or_a_server_panic() {
    let mut host = Host::booted();
    let mut server = Server::with([&host]);
    server.hosts.policies = policies(&[boot()]);
    let mut corpus: Vec<Vec<u8>> = host
        .bodies(&server, HealthKind::Encryption)
        .iter()
        .map(|body| parts(body).1)
        .filter(|context| !context.is_empty())
        .collect();
    let (_, _, asked) = before_reading();
    corpus.push(asked);
    let Verdict::Continue(first) = server.verdict(&host.start(HealthKind::Encryption).body())
    else {
        panic!("it is registered");
    };
    let Reply::TpmContinue(first) = first.reply else {
        panic!("a context");
    };
    corpus.push(first.rtpm_active_context);
    corpus
        .iter()
        .for_each(|octets| fuzzing::fuzz_rtpm_context(octets));
    let tokens: [&[u8]; 4] = [
        &[0xff; 4],
        &[0; 4],
        &[3, 0, 0, 0],
        &[4, 0, 0, 0, 0, 0, 0, 0],
    ];
    for octets in Mutations::of(&corpus, &tokens).take(5_000) {
        fuzzing::fuzz_rtpm_context(&octets);
    }
}

/// attacks.md A16: a valid certificate that is over another key, or for another use, is not kept.
#[test]
fn a16_a_certificate_over_another_key_is_not_kept_by_a_host_with_a_tpm() {
    let (mut host, mut other) = (Host::booted(), Host::booted());
    let mut server = Server::with([&host, &other]);
    server.hosts.policies = policies(&[boot()]);
    let (_, verdict) = other.attest(&mut server, HealthKind::Encryption);
    let Verdict::Healthy(others) = verdict else {
        panic!("it is healthy");
    };
    let bodies = host.bodies(&server, HealthKind::Encryption);
    let Verdict::Healthy(own) = server.verdict(bodies.last().unwrap()) else {
        panic!("it is healthy");
    };
    let presented = host.attest(&mut server, HealthKind::Encryption).0.unwrap();
    host.presented = Some(presented.created.unwrap().public);
    let receive = |kind, grant: hgs_attest::Grant| {
        let mut exchange = host.start(kind);
        exchange
            .receive(200, &certify(grant).to_json())
            .unwrap_err()
    };
    for grant in [others, own.clone()] {
        assert_eq!(
            receive(HealthKind::Encryption, grant),
            AttestationFailure::NotAsked(NotAsked::OtherKey)
        );
    }
    assert!(matches!(
        receive(HealthKind::Signing, own.clone()),
        AttestationFailure::NotAsked(NotAsked::Result(_))
    ));
    // What it claims of its next boot is confirmed with a new key, and not with one that it had.
    let mut exchange = host
        .start(HealthKind::Encryption)
        .with_next_boot(b"a claim".to_vec());
    let ignored = exchange.receive(200, &certify(own.clone()).to_json());
    let ignored = ignored.unwrap_err();
    assert_eq!(ignored, AttestationFailure::from(RtpmFault::ClaimIgnored));
    // A host that has made no key, and presented none, is certified nothing.
    host.presented = None;
    let mut exchange = host.start(HealthKind::Encryption);
    let failure = exchange.receive(200, &certify(own).to_json()).unwrap_err();
    assert_eq!(failure, AttestationFailure::UnexpectedReply { status: 200 });
}
