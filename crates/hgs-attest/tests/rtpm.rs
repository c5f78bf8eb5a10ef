//! TPM mode from the first request to the health certificate, with TPMs in software.

mod common;

use std::collections::BTreeSet;

use common::tpm::{Host, Server, boot, parts, policies, with_context};
use hgs_attest::client::AttestationFailure;
use hgs_attest::client::rtpm::Step;
use hgs_attest::policy::PolicyName;
use hgs_attest::rtpm::{Blob, Context, IdentityPcrs, policy_digest};
use hgs_attest::wire::{AttestationProvidedContentType, ProvidedContent};
use hgs_attest::{
    AttestationState, AttestationStatus, AttestationSubstatus, Code, IdentityTransition, Verdict,
};
use hgs_crypto::hash::sha256;
use hgs_crypto::rsa::{OaepHash, PrivateKey};
use hgs_pki::health::{AttestationMode, HealthKind};
use hgs_tcg::tpm::{
    Command, Handle, PcrSelection, Primary, Public, created_key, created_primary, flush_context,
    public_read,
};
use hgs_testkit::measured_boot::{BootEvent, extend};
use hgs_testkit::swtpm::SoftwareTpm;

/// A server to which the host is healthy.
fn healthy(host: &Host) -> Server {
    let mut server = Server::with([host]);
    server.hosts.policies = policies(&[boot()]);
    server
}

fn granted(verdict: Verdict) -> hgs_attest::Grant {
    match verdict {
        Verdict::Healthy(grant) => grant,
        Verdict::Refused(refusal) => panic!("{}", refusal.reason()),
        Verdict::Continue(_) => panic!("there is more to do"),
    }
}

#[test]
fn a_host_gets_a_certificate_over_a_key_that_its_tpm_has_made() {
    for kind in HealthKind::ALL {
        let mut host = Host::booted();
        let mut server = healthy(&host);
        let (attested, verdict) = host.attest(&mut server, kind);
        let grant = granted(verdict);
        let attested = attested.unwrap();
        let created = attested.created.unwrap();
        let endorsement_key = host.endorsement_key.digest();
        assert_eq!(grant.kind(), kind);
        assert_eq!(*grant.identity_digest(), sha256(created.public.octets()));
        assert_eq!(*grant.identity_key(), created.public.rsa_key().unwrap());
        assert!(grant.returned_nonce());
        assert_eq!(grant.statement().mode, AttestationMode::Tpm);
        assert_eq!(
            grant.statement().policy_digest,
            policy_digest(&endorsement_key)
        );
        let facts = grant.facts();
        assert!(facts.proved);
        assert_eq!(facts.endorsement_key, Some(endorsement_key));
        assert_eq!(facts.identity_key, Some(*grant.identity_digest()));
        let measured = facts.measured.as_ref().unwrap();
        assert_eq!(measured.evidence.log, boot().log());
        for (pcr, value) in boot().pcrs().iter().enumerate().take(17) {
            let proved = measured.evidence.values.value(pcr).unwrap();
            assert_eq!(proved.as_bytes(), value);
        }
        // The key is bound to the stable PCRs, and its host knows which.
        assert_eq!(created.pcrs, IdentityPcrs::default());
        assert_eq!(
            created.public.auth_policy(),
            created.pcrs.policy(&measured.evidence.values).unwrap()
        );
        let attributes = match kind {
            HealthKind::Encryption => 0x0002_04b2,
            HealthKind::Signing => 0x0004_04b2,
        };
        assert_eq!(created.public.attributes(), attributes);
        assert_eq!(host.handles(), 0, "all is flushed");
    }
}

#[test]
fn a_recorded_key_is_used_again_and_the_tpm_makes_none() {
    let mut host = Host::booted();
    let mut server = healthy(&host);
    let (attested, _) = host.attest(&mut server, HealthKind::Encryption);
    let created = attested.unwrap().created.unwrap();
    host.presented = Some(created.public.clone());
    host.executed.clear();
    server.pass(3600);
    let (attested, verdict) = host.attest(&mut server, HealthKind::Encryption);
    let attested = attested.unwrap();
    assert_eq!(attested.created, None);
    let grant = granted(verdict);
    assert_eq!(*grant.transition(), IdentityTransition::Unchanged);
    assert_eq!(*grant.identity_key(), created.public.rsa_key().unwrap());
    let made = host.executed.iter();
    assert!(
        !made
            .into_iter()
            .any(|one| matches!(one, Command::Create { .. }))
    );
    // Not for the other kind, for which the TPM makes another.
    let (attested, _) = host.attest(&mut server, HealthKind::Signing);
    assert!(attested.unwrap().created.is_some());
    // Not after 30 days.
    server.pass(31 * 24 * 3600);
    let (attested, verdict) = host.attest(&mut server, HealthKind::Encryption);
    let renewed = attested.unwrap().created.unwrap();
    assert_ne!(renewed.public, created.public);
    let _ = granted(verdict);
    // And not when it was superseded.
    let (attested, _) = host.attest(&mut server, HealthKind::Encryption);
    assert!(attested.unwrap().created.is_some());
}

/// A patch day: the key stops working with the PCRs, and is made anew without an error.
#[test]
fn a_key_whose_pcrs_have_changed_is_made_anew() {
    let mut host = Host::booted();
    let mut server = healthy(&host);
    let (attested, _) = host.attest(&mut server, HealthKind::Encryption);
    let created = attested.unwrap().created.unwrap();
    let mut patched = boot();
    let kernel = BootEvent::new(4, 0x8000_0003, b"another kernel");
    patched.events.push(kernel);
    server.hosts.policies = policies(&[boot(), patched.clone()]);
    // The same TPM, which was extended once more.
    let last = patched.events.last().unwrap();
    extend(&mut host.tpm, last.pcr, &last.digest);
    host.measurements.event_log = patched.log();
    host.presented = Some(created.public.clone());
    let (attested, verdict) = host.attest(&mut server, HealthKind::Encryption);
    let renewed = attested.unwrap().created.unwrap();
    assert_ne!(renewed.public.auth_policy(), created.public.auth_policy());
    let _ = granted(verdict);
}

#[test]
fn a_host_that_is_not_healthy_makes_no_key() {
    let mut host = Host::booted();
    let mut server = healthy(&host);
    let mut other = boot();
    other
        .events
        .push(BootEvent::new(4, 0x8000_0003, b"another kernel"));
    server.hosts.policies = policies(&[other]);
    let (attested, verdict) = host.attest(&mut server, HealthKind::Encryption);
    let failure = attested.unwrap_err();
    assert_eq!(failure.code(), Some(Code::PolicyFailed));
    let AttestationFailure::Refused(refused) = &failure else {
        panic!("{failure:?}");
    };
    assert!(!refused.retryable);
    let of_baseline = refused
        .policies
        .iter()
        .find(|log| log.reason == PolicyName::SecureBootSettings.guid().octets());
    assert!(!of_baseline.unwrap().result);
    let held = refused.policies.iter().filter(|log| log.result);
    assert!(held.count() > 0, "Secure Boot is on");
    let detail = refused.detail.as_ref().unwrap().message.clone();
    assert!(
        detail.contains("boot-0") && detail.contains("PCR 4"),
        "{detail}"
    );
    let state = AttestationState::unknown().after(&Err(failure));
    assert_eq!(state.last, AttestationStatus::InsecureHostConfiguration);
    let expected = BTreeSet::from([AttestationSubstatus::SecureBootSettings]);
    assert_eq!(state.substatus, expected);
    let Verdict::Refused(refusal) = verdict else {
        panic!("refused");
    };
    assert!(refusal.facts().proved);
    assert!(refusal.facts().measured.is_some());
    let made = host.executed.iter();
    assert!(
        !made
            .into_iter()
            .any(|one| matches!(one, Command::Create { .. }))
    );
    assert_eq!(host.handles(), 0, "all is flushed");
}

/// A replayed or delayed answer makes no certificate valid for longer.
#[test]
fn validity_counts_from_the_start_of_the_session() {
    let mut host = Host::booted();
    let mut server = healthy(&host);
    let begun = server.now;
    let mut exchange = host.start(HealthKind::Encryption);
    let mut body = exchange.body();
    let grant = loop {
        match server.verdict(&body) {
            Verdict::Continue(continuation) => {
                let reply = continuation.reply.to_json();
                assert!(matches!(exchange.receive(200, &reply), Ok(Step::Execute)));
                host.execute(&mut exchange).unwrap();
                body = exchange.answer(&host.measurements);
                server.pass(100);
            }
            other => break granted(other),
        }
    };
    host.flush(&exchange);
    assert_eq!(grant.statement().issued_at, begun);
    // A replay repeats the verdict, also when it is recorded, and no more.
    server.record(&grant);
    let again = granted(server.verdict(&body));
    assert_eq!(*again.transition(), IdentityTransition::Unchanged);
    assert_eq!(again.statement(), grant.statement());
    assert_eq!(again.identity_key(), grant.identity_key());
    // A newer key ends that.
    let (attested, _) = host.attest(&mut server, HealthKind::Encryption);
    attested.unwrap();
    let refusal = server.refusal(&body);
    assert_eq!(refusal.code(), Code::IdentityKeySuperseded);
}

/// What was decided when an exchange began is decided again at its end.
#[test]
fn registration_and_policies_are_checked_again_at_the_verdict() {
    let mut host = Host::booted();
    let mut server = healthy(&host);
    let bodies = host.bodies(&server, HealthKind::Encryption);
    let last = bodies.last().unwrap();
    assert!(matches!(server.verdict(last), Verdict::Healthy(_)));
    let healthy = server.hosts.clone();
    server.hosts.policies = policies(&[{
        let mut other = boot();
        other
            .events
            .push(BootEvent::new(4, 0x8000_0003, b"another kernel"));
        other
    }]);
    assert_eq!(server.refusal(last).code(), Code::PolicyFailed);
    server.hosts = healthy.clone();
    server.hosts.hosts[0].revoked = true;
    assert_eq!(server.refusal(last).code(), Code::HostRevoked);
    server.hosts.hosts.clear();
    assert_eq!(server.refusal(last).code(), Code::HostNotRegistered);
    server.hosts = healthy;
    assert!(matches!(server.verdict(last), Verdict::Healthy(_)));
}

/// TPM2_LoadExternal accepts a foreign key with any attributes, and TPM2_ReadPublic returns it: neither proves anything.
#[test]
fn a_foreign_key_that_was_loaded_into_the_tpm_is_never_certified() {
    let mut host = Host::booted();
    let mut server = healthy(&host);
    let (attested, _) = host.attest(&mut server, HealthKind::Encryption);
    let template = attested.unwrap().created.unwrap().public;
    // The same public area, with a key whose private half is known.
    let foreign = PrivateKey::generate(2048).unwrap();
    let octets = template.octets();
    let forged = [&octets[..octets.len() - 256], foreign.public().modulus()].concat();
    let forged = Public::parse(&forged).unwrap();
    let loaded = load_external(&mut host.tpm, &forged);
    let read = host.tpm.send(&Command::ReadPublic(loaded).octets());
    assert_eq!(public_read(&read).unwrap(), forged, "the TPM returns it");
    host.tpm.send(&flush_context(loaded));
    // Presented as a key of an earlier exchange, it is made anew.
    host.presented = Some(forged.clone());
    let (attested, verdict) = host.attest(&mut server, HealthKind::Encryption);
    assert_ne!(attested.unwrap().created.unwrap().public, forged);
    assert_ne!(granted(verdict).identity_key(), foreign.public());
    // In the place of the response to TPM2_Create, it is refused.
    host.presented = None;
    let bodies = host.bodies(&server, HealthKind::Encryption);
    let last = bodies.last().unwrap();
    let (_, context) = parts(last);
    let mut context = Context::read(&context).unwrap();
    context.blobs[0] = Blob::Response(&read);
    let refusal = server.refusal(&with_context(last, &context.octets()));
    assert_eq!(refusal.code(), Code::TpmResponseNotAuthentic);
    // The key in an authentic response can't be exchanged either.
    let (_, octets) = parts(last);
    let context = Context::read(&octets).unwrap();
    let Blob::Response(created) = context.blobs[0] else {
        panic!("a response");
    };
    let place = created.windows(256).position(|window| {
        created_key(created)
            .unwrap()
            .public
            .octets()
            .ends_with(window)
    });
    let mut altered = created.to_vec();
    altered[place.unwrap()..][..256].copy_from_slice(foreign.public().modulus());
    let mut changed = context.clone();
    changed.blobs[0] = Blob::Response(&altered);
    let refusal = server.refusal(&with_context(last, &changed.octets()));
    assert_eq!(refusal.code(), Code::TpmResponseNotAuthentic);
}

fn load_external(tpm: &mut SoftwareTpm, public: &Public) -> Handle {
    let octets = public.octets();
    let body = [
        // No sensitive area, the public one, in no hierarchy.
        &[0, 0][..],
        &(octets.len() as u16).to_be_bytes(),
        octets,
        &[0x40, 0, 0, 7],
    ]
    .concat();
    let response = tpm.send(&message(0x8001, 0x167, &body));
    assert_eq!(
        response[6..10],
        [0; 4],
        "TPM2_LoadExternal: {response:02x?}"
    );
    Handle::new(u32::from_be_bytes(response[10..14].try_into().unwrap()))
}

fn message(tag: u16, code: u32, body: &[u8]) -> Vec<u8> {
    let size = (10 + body.len()) as u32;
    [
        &tag.to_be_bytes()[..],
        &size.to_be_bytes(),
        &code.to_be_bytes(),
        body,
    ]
    .concat()
}

/// The name of a key is recorded for one endorsement key.
#[test]
fn a_key_that_another_host_has_made_is_not_used_again() {
    let (mut host, mut other) = (Host::booted(), Host::booted());
    let mut server = Server::with([&host, &other]);
    server.hosts.policies = policies(&[boot()]);
    let (attested, _) = other.attest(&mut server, HealthKind::Encryption);
    let others = attested.unwrap().created.unwrap().public;
    host.presented = Some(others.clone());
    let (attested, verdict) = host.attest(&mut server, HealthKind::Encryption);
    let created = attested.unwrap().created.unwrap();
    assert_ne!(created.public, others);
    assert_eq!(
        granted(verdict).identity_key(),
        &created.public.rsa_key().unwrap()
    );
    // Octets that are no public area change nothing.
    let mut exchange = host.start(HealthKind::Encryption);
    let _ = exchange.answer(&host.measurements);
    let bodies = host.bodies(&server, HealthKind::Encryption);
    let (mut request, _) = parts(&bodies[4]);
    request
        .provided_content
        .retain(|content| content.content_type.number() != 1);
    request.provided_content.push(ProvidedContent {
        content_type: AttestationProvidedContentType::VirtualSecureModeIdentityKey,
        octets: vec![7; 20],
    });
    assert!(matches!(
        server.verdict(&request.to_json()),
        Verdict::Continue(_)
    ));
}

/// userWithAuth would let an empty password use the key, whatever the PCRs are.
#[test]
fn an_identity_key_can_not_be_used_with_a_password() {
    let mut host = Host::booted();
    let mut server = healthy(&host);
    let (attested, _) = host.attest(&mut server, HealthKind::Encryption);
    let created = attested.unwrap().created.unwrap();
    let root = host
        .tpm
        .send(&Command::CreatePrimary(Primary::StorageRootKey).octets());
    let root = created_primary(&root).unwrap().handle;
    let password = [0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0];
    let sized = |octets: &[u8]| [&(octets.len() as u16).to_be_bytes()[..], octets].concat();
    let load = [
        &root.value().to_be_bytes()[..],
        &password,
        &sized(&created.private),
        &sized(created.public.octets()),
    ]
    .concat();
    let loaded = host.tpm.send(&message(0x8002, 0x157, &load));
    assert_eq!(loaded[6..10], [0; 4], "TPM2_Load: {loaded:02x?}");
    let key = &loaded[10..14];
    let secret = hgs_crypto::SecretBytes::new(vec![1; 32]);
    let public = created.public.rsa_key().unwrap();
    let ciphertext = public.encrypt_oaep(OaepHash::Sha256, &secret).unwrap();
    let decrypt = [key, &password[..], &sized(&ciphertext), &[0, 0x10], &[0, 0]].concat();
    let refused = host.tpm.send(&message(0x8002, 0x159, &decrypt));
    // TPM_RC_AUTH_UNAVAILABLE
    assert_eq!(refused[6..10], [0, 0, 1, 0x2f], "{refused:02x?}");
    for handle in [
        root,
        Handle::new(u32::from_be_bytes(key.try_into().unwrap())),
    ] {
        host.tpm.send(&flush_context(handle));
    }
    // A host that asks its TPM for such a key spoils the command's HMAC.
    let mut exchange = host.start(HealthKind::Encryption);
    let mut body = exchange.body();
    let refusal = loop {
        let verdict = server.verdict(&body);
        let Verdict::Continue(continuation) = verdict else {
            break server.refusal(&body);
        };
        let reply = continuation.reply.to_json();
        assert!(matches!(exchange.receive(200, &reply), Ok(Step::Execute)));
        let Some(Command::Create { .. }) = exchange.next_command() else {
            host.execute(&mut exchange).unwrap();
            body = exchange.answer(&host.measurements);
            continue;
        };
        let mut command = exchange.next_command().unwrap().octets();
        let attributes = command
            .windows(4)
            .position(|window| window == 0x0002_04b2_u32.to_be_bytes());
        command[attributes.unwrap() + 3] |= 0x40;
        let response = host.tpm.send(&command);
        assert!(exchange.executed(response.clone()).is_err());
        body = exchange.answer(&host.measurements);
    };
    assert_eq!(refusal.code(), Code::TpmResponseNotAuthentic);
}

/// A host that has had as many keys made as it may within an hour has its TPM make no further one.
#[test]
fn a_bound_of_new_keys_is_met_before_the_tpm_makes_one() {
    let mut host = Host::booted();
    let mut server = healthy(&host);
    let (attested, verdict) = host.attest(&mut server, HealthKind::Encryption);
    attested.unwrap();
    let _ = granted(verdict);
    let of_hosts = &mut server.hosts.hosts[0];
    for number in 0..30 {
        let present =
            of_hosts
                .identities
                .present(HealthKind::Encryption, &[number; 32], true, server.now);
        if let Ok(transition) = present {
            of_hosts.identities = of_hosts.identities.after(&transition);
        }
    }
    host.executed.clear();
    let (attested, _) = host.attest(&mut server, HealthKind::Encryption);
    assert_eq!(
        attested.unwrap_err().code(),
        Some(Code::TooManyNewIdentityKeys)
    );
    let made = host.executed.iter();
    assert!(
        !made
            .into_iter()
            .any(|one| matches!(one, Command::Create { .. }))
    );
}

#[test]
fn identity_keys_are_bound_to_the_firmware_and_never_to_pcrs_that_change() {
    let of = |pcrs: &[u8]| IdentityPcrs::new(PcrSelection::new(pcrs.iter().copied()).unwrap());
    let firmware: Vec<u8> = (0..8).collect();
    assert!(of(&firmware).is_ok());
    for more in [8, 9, 11, 12, 13, 14] {
        assert!(of(&[&firmware[..], &[more]].concat()).is_ok(), "{more}");
    }
    for never in [10, 15, 16, 17, 22, 23] {
        assert!(of(&[&firmware[..], &[never]].concat()).is_err(), "{never}");
    }
    for without in 0..8 {
        let pcrs: Vec<u8> = (0..10).filter(|pcr| *pcr != without).collect();
        assert!(of(&pcrs).is_err(), "{without}");
    }
}
