//! What a host with a TPM says that it will boot next: what its TPM confirms, and what is refused.

mod common;

use std::sync::Arc;

use common::tpm::{Host, Server, boot, parts, policies, with_blobs, with_context};
use hgs_attest::client::AttestationFailure;
use hgs_attest::client::rtpm::{AttestedByTpm, RtpmExchange, RtpmFault, Step};
use hgs_attest::policy::{
    Alternative, Baseline, Component, ComponentKind, DocumentError, Documents, EventDigest,
    ExpectedEvent, HostMeasurements, LaneSlots, MAX_NEXT_BOOT_OCTETS, NEXT_BOOT_PERIOD,
    NextBootClaim, NextBootError, Parameters, PolicySelection, PolicySet, RecordedEvidence, Slot,
    SlotEvents, Source, SourceKind, State, Times, next_boot_confirmation,
};
use hgs_attest::rtpm::{Blob, Context};
use hgs_attest::wire::SessionId;
use hgs_attest::{Grant, Verdict};
use hgs_crypto::hash::{sha256, sha256_of};
use hgs_pki::health::HealthKind;
use hgs_pki::{Seconds, Time};
use hgs_tcg::event_log::{Bank, PcrValues};
use hgs_tcg::tpm::Command;
use hgs_testkit::fixtures::now;

fn alternative(name: &str, slot: &str, event: &[u8]) -> Alternative {
    Alternative {
        name: name.to_owned(),
        source: Source {
            kind: SourceKind::Log,
            of: "a test".to_owned(),
        },
        // What the host says of it does not count.
        state: State::promoted(),
        events: vec![SlotEvents {
            slot: slot.to_owned(),
            events: vec![ExpectedEvent::Digest {
                digest: EventDigest(sha256(event)),
                what: None,
            }],
        }],
    }
}

fn about(component: &str, slot: &str, event: &[u8]) -> Vec<u8> {
    let mut claim = HostMeasurements::default();
    claim.add(component, alternative("next", slot, event));
    claim.to_json().into_bytes()
}

fn claim() -> Vec<u8> {
    about("initrd", "file", b"the next initrd")
}

/// A host that claims, and a server that knows it, finds it healthy, and takes claims.
fn site() -> (Host, Server) {
    let mut host = Host::booted();
    host.next_boot = Some(claim());
    let mut server = Server::with([&host]);
    server.hosts.policies = policies(&[boot()]);
    server.hosts.accepts_next_boot_claims = true;
    (host, server)
}

fn granted(ended: (Result<AttestedByTpm, AttestationFailure>, Verdict)) -> (AttestedByTpm, Grant) {
    let (attested, verdict) = ended;
    let Verdict::Healthy(grant) = verdict else {
        panic!("{:?}", attested.unwrap_err());
    };
    (attested.unwrap(), grant)
}

#[track_caller]
fn expect(server: &Server, body: &[u8], code: &str) {
    let refusal = server.refusal(body);
    assert_eq!(refusal.code().name(), code, "{}", refusal.reason());
}

/// The request with another claim.
fn replaced(body: &[u8], claim: &[u8]) -> Vec<u8> {
    let (_, context) = parts(body);
    let mut context = Context::read(&context).unwrap();
    context
        .blobs
        .retain(|blob| !matches!(blob, Blob::NextBoot(_)));
    context.blobs.push(Blob::NextBoot(claim));
    with_context(body, &context.octets())
}

/// Creates that the TPM of the host has executed.
fn created(host: &Host) -> usize {
    let creates = host.executed.iter();
    creates
        .filter(|one| matches!(one, Command::Create { .. }))
        .count()
}

#[test]
fn a_claim_that_the_tpm_confirms_comes_with_the_verdict() {
    for kind in HealthKind::ALL {
        let (mut host, mut server) = site();
        let (attested, grant) = granted(host.attest(&mut server, kind));
        let expected = NextBootClaim::read(&claim()).unwrap();
        assert_eq!(grant.next_boot(), Some(&expected));
        assert_eq!(*expected.digest(), sha256(&claim()));
        // Also where a key is there that could be used again: only a new one confirms.
        let public = attested.created.unwrap().public;
        host.presented = Some(public.clone());
        let (again, grant) = granted(host.attest(&mut server, kind));
        assert_ne!(again.created.unwrap().public, public);
        assert!(grant.next_boot().is_some());
        // Nor is anything said where nothing is claimed.
        host.next_boot = None;
        let (_, grant) = granted(host.attest(&mut server, kind));
        assert_eq!(grant.next_boot(), None);
    }
}

/// The octets that the TPM is given: section 11 of the profile, and nothing of ours.
#[test]
fn what_the_tpm_confirms_is_the_digest_of_the_profile() {
    let (mut host, mut server) = site();
    let expected = sha256_of(&[b"OpenHGS next boot 1", &claim()]);
    assert_eq!(next_boot_confirmation(&claim()), expected);
    let (_, _) = granted(host.attest(&mut server, HealthKind::Signing));
    let create = host.executed.last().unwrap().octets();
    let end = [&[0, 32][..], &expected, &[0; 4]].concat();
    assert_eq!(create[create.len() - end.len()..], end);
}

#[test]
fn a_claim_is_refused_where_the_setting_is_off_before_the_tpm_makes_a_key() {
    let (mut host, mut server) = site();
    server.hosts.accepts_next_boot_claims = false;
    let bodies = host.bodies(&server, HealthKind::Signing);
    expect(&server, bodies.last().unwrap(), "next-boot-claims-refused");
    assert_eq!(created(&host), 0);
    // Or where it was turned off in between.
    server.hosts.accepts_next_boot_claims = true;
    let bodies = host.bodies(&server, HealthKind::Signing);
    assert_eq!(created(&host), 1);
    assert!(matches!(
        server.verdict(bodies.last().unwrap()),
        Verdict::Healthy(_)
    ));
    server.hosts.accepts_next_boot_claims = false;
    expect(&server, bodies.last().unwrap(), "next-boot-claims-refused");
}

#[test]
fn an_altered_claim_is_refused() {
    let (mut host, server) = site();
    let bodies = host.bodies(&server, HealthKind::Signing);
    let last = bodies.last().unwrap();
    let other = about("initrd", "file", b"another initrd");
    expect(&server, &replaced(last, &other), "next-boot-claim-altered");
    let without = with_blobs(last, |blobs| {
        blobs.retain(|blob| !matches!(blob, Blob::NextBoot(_)));
    });
    expect(&server, &without, "next-boot-claim-altered");
    // One that is added to the exchange of a host that claims nothing.
    host.next_boot = None;
    let bodies = host.bodies(&server, HealthKind::Signing);
    let added = replaced(bodies.last().unwrap(), &claim());
    expect(&server, &added, "next-boot-claim-altered");
}

/// Somebody on the way puts a claim that was recorded earlier, or one of their own, in the place of the host's, or takes it
/// out: the host does not have its TPM confirm it. `honest` is what the host claims itself.
fn intercepted(honest: Option<Vec<u8>>, put: Option<Vec<u8>>) -> RtpmFault {
    let (mut host, server) = site();
    host.next_boot = honest;
    let mut exchange: RtpmExchange = host.start(HealthKind::Signing);
    let mut body = exchange.body();
    let fault = loop {
        let Verdict::Continue(continuation) = server.verdict(&body) else {
            panic!("the server goes on");
        };
        match exchange.receive(200, &continuation.reply.to_json()) {
            Ok(Step::Execute) => {}
            Err(AttestationFailure::Rtpm(fault)) => break fault,
            other => panic!("{other:?}"),
        }
        host.execute(&mut exchange).unwrap();
        body = exchange.answer(&host.measurements);
        if parts(&body).1.is_empty() {
            continue;
        }
        body = match &put {
            Some(put) => replaced(&body, put),
            None => with_blobs(&body, |blobs| {
                blobs.retain(|blob| !matches!(blob, Blob::NextBoot(_)));
            }),
        };
    };
    host.flush(&exchange);
    assert_eq!(created(&host), 0);
    fault
}

#[test]
fn a_replayed_claim_is_not_confirmed_in_another_session() {
    let earlier = about("initrd", "file", b"an initrd of last year");
    assert_eq!(
        intercepted(Some(claim()), Some(earlier.clone())),
        RtpmFault::ForeignOutsideInfo
    );
    assert_eq!(
        intercepted(None, Some(earlier)),
        RtpmFault::ForeignOutsideInfo
    );
    assert_eq!(intercepted(Some(claim()), None), RtpmFault::ClaimIgnored);
    // The octets of another session are of no use either.
    let (mut host, server) = site();
    let bodies = host.bodies(&server, HealthKind::Signing);
    let (mut request, _) = parts(bodies.last().unwrap());
    request.session_id = SessionId([6; 16]);
    expect(&server, &request.to_json(), "rtpm-context-other-session");
    // The response of one exchange to the same claim in another exchange of the same session.
    let again = host.bodies(&server, HealthKind::Signing);
    let (_, first) = parts(bodies.last().unwrap());
    let (_, second) = parts(again.last().unwrap());
    let mixed = Context {
        sealed_state: Context::read(&second).unwrap().sealed_state,
        blobs: Context::read(&first).unwrap().blobs,
    };
    let body = with_context(again.last().unwrap(), &mixed.octets());
    expect(&server, &body, "tpm-response-not-authentic");
}

#[test]
fn a_claim_by_another_host_is_refused() {
    let (mut host, mut server) = site();
    let mut other = Host::booted();
    other.next_boot = Some(claim());
    server.hosts.hosts = Server::with([&host, &other]).hosts.hosts;
    let bodies = host.bodies(&server, HealthKind::Signing);
    let others = other.bodies(&server, HealthKind::Signing);
    let (_, context) = parts(others.last().unwrap());
    // Its context, and the response of its TPM.
    let body = with_context(bodies.last().unwrap(), &context);
    expect(&server, &body, "rtpm-context-other-host");
    let (_, own) = parts(bodies.last().unwrap());
    let mixed = Context {
        sealed_state: Context::read(&own).unwrap().sealed_state,
        blobs: Context::read(&context).unwrap().blobs,
    };
    let body = with_context(bodies.last().unwrap(), &mixed.octets());
    expect(&server, &body, "tpm-response-not-authentic");
}

#[test]
fn a_claim_of_an_unhealthy_host_is_not_looked_at() {
    let (mut host, mut server) = site();
    host.next_boot = Some(b"no document".to_vec());
    server.hosts.policies = Arc::default();
    let bodies = host.bodies(&server, HealthKind::Signing);
    expect(&server, bodies.last().unwrap(), "policy-failed");
    assert_eq!(created(&host), 0);
    // Nor of one that is not healthy any more when the TPM has confirmed it.
    let (mut host, mut server) = site();
    let bodies = host.bodies(&server, HealthKind::Signing);
    server.hosts.policies = Arc::default();
    expect(&server, bodies.last().unwrap(), "policy-failed");
}

#[test]
fn a_claim_of_a_revoked_host_is_refused() {
    let (mut host, mut server) = site();
    let bodies = host.bodies(&server, HealthKind::Signing);
    server.hosts.hosts[0].revoked = true;
    expect(&server, bodies.last().unwrap(), "host-revoked");
}

#[test]
fn an_oversize_claim_is_refused_by_its_length() {
    let (mut host, mut server) = site();
    server.hosts.accepts_next_boot_claims = false;
    let bodies = host.bodies(&server, HealthKind::Signing);
    server.hosts.accepts_next_boot_claims = true;
    let mut long = claim();
    long.resize(128 * 1024, b' ');
    let fits = replaced(bodies.last().unwrap(), &long);
    assert!(matches!(server.verdict(&fits), Verdict::Continue(_)));
    long.push(b' ');
    let longer = replaced(bodies.last().unwrap(), &long);
    expect(&server, &longer, "too-large");
    let doubled = with_blobs(&bodies[1], |blobs| {
        blobs.extend([Blob::NextBoot(&[]), Blob::NextBoot(&[])]);
    });
    expect(&server, &doubled, "rtpm-context-malformed");
}

#[test]
fn a_claim_that_says_nothing_new_changes_nothing_and_is_confirmed_all_the_same() {
    let (mut host, mut server) = site();
    let (_, grant) = granted(host.attest(&mut server, HealthKind::Signing));
    let accepted = server
        .hosts
        .policies
        .accept_next_boot(grant.next_boot().unwrap(), "node-0", server.now)
        .unwrap()
        .unwrap();
    let set = server.hosts.policies.for_host(&accepted.measurements);
    server.hosts.policies = Arc::new(set.unwrap());
    let (_, grant) = granted(host.attest(&mut server, HealthKind::Signing));
    assert_eq!(grant.next_boot(), None);
    // A replay of the last request says no more.
    let bodies = host.bodies(&server, HealthKind::Signing);
    for _ in 0..3 {
        let Verdict::Healthy(grant) = server.verdict(bodies.last().unwrap()) else {
            panic!("a replay repeats the verdict");
        };
        assert_eq!(grant.next_boot(), None);
    }
}

#[test]
fn what_is_no_claim_or_about_the_fleet_is_refused_before_the_tpm_makes_a_key() {
    let mut with_parameters = HostMeasurements::default();
    with_parameters.add("initrd", alternative("next", "file", b"x"));
    let parameters = &mut with_parameters.parameters;
    parameters.insert("root".to_owned(), "elsewhere".to_owned());
    let (mut host, mut server) = site();
    server.hosts.accepts_next_boot_claims = false;
    let bodies = host.bodies(&server, HealthKind::Signing);
    // The request in which the host is judged; no key is asked for yet.
    let judged = bodies.last().unwrap().clone();
    assert_eq!(created(&host), 0);
    server.hosts.accepts_next_boot_claims = true;
    let taken = server.verdict(&replaced(&judged, &claim()));
    assert!(matches!(taken, Verdict::Continue(_)));
    for claim in [
        b"{}".to_vec(),
        Vec::new(),
        HostMeasurements::default().to_json().into_bytes(),
        with_parameters.to_json().into_bytes(),
        about("firmware", "pcr0", b"my own firmware"),
        about("secure-boot", "variables", b"Secure Boot off"),
        about("loader", "image", b"my own loader"),
        about("kernel", "image", b"my own kernel"),
        about("nothing", "file", b"x"),
        about("initrd", "image", b"x"),
    ] {
        let body = replaced(&judged, &claim);
        expect(&server, &body, "next-boot-claim-invalid");
    }
}

/// The reference boot, with these changes to its baseline.
fn set(change: impl FnOnce(&mut Baseline)) -> PolicySet {
    let boot = boot();
    let mut values = PcrValues::new(Bank::Sha256);
    for (pcr, value) in boot.pcrs().iter().enumerate().take(17) {
        values.insert(pcr, value).unwrap();
    }
    let evidence = RecordedEvidence {
        values,
        log: boot.log(),
        ima: Vec::new(),
        preimages: Vec::new(),
        unexplained: Vec::new(),
    };
    let evidence = evidence.prove().unwrap();
    let mut baseline = Baseline::of_evidence(&evidence, "a test", &Parameters::default()).unwrap();
    change(&mut baseline);
    let documents = Documents {
        baselines: [("reference".to_owned(), baseline)].into(),
        ..Documents::default()
    };
    PolicySet::compile(&PolicySelection::default(), &documents).unwrap()
}

fn refused(set: &PolicySet, claim: &[u8], now: Time) -> NextBootError {
    let claim = NextBootClaim::read(claim).unwrap();
    set.accept_next_boot(&claim, "host-07", now).unwrap_err()
}

/// An administrator who leaves a boot image to the hosts has approved each of them; a host can't do so by itself.
#[test]
fn a_host_says_nothing_of_images_whatever_the_kind_of_the_component() {
    for pcr in [0, 2, 4, 7, 11, 14] {
        let set = set(|baseline| {
            let slot = Slot {
                component: "own".to_owned(),
                name: "image".to_owned(),
                times: Times::Optional,
                command_line: false,
            };
            match baseline.lanes.iter_mut().find(|lane| lane.pcr == pcr) {
                Some(lane) => lane.slots.push(slot),
                None => baseline.lanes.push(LaneSlots {
                    pcr,
                    slots: vec![slot],
                }),
            }
            baseline.components.push(Component {
                name: "own".to_owned(),
                kind: ComponentKind::Host,
                alternatives: Vec::new(),
            });
        });
        let expected = NextBootError::Pcr {
            component: "own".to_owned(),
            pcr,
        };
        assert_eq!(refused(&set, &about("own", "image", b"x"), now()), expected);
    }
}

#[test]
fn a_claim_is_small_and_about_what_is_left_to_the_host() {
    let long = vec![b' '; MAX_NEXT_BOOT_OCTETS + 1];
    let expected = DocumentError::TooLarge {
        found: long.len(),
        limit: MAX_NEXT_BOOT_OCTETS,
    };
    let refusal = NextBootClaim::read(&long).unwrap_err();
    assert_eq!(refusal, expected.into());

    let mut of_all_hosts = Vec::new();
    let set = set(|baseline| {
        for lane in &baseline.lanes {
            let slots = lane.slots.iter();
            of_all_hosts.extend(slots.map(|slot| (slot.component.clone(), slot.name.clone())));
        }
        of_all_hosts.retain(|(name, _)| {
            let component = baseline.component(name);
            component.is_some_and(|component| component.kind != ComponentKind::Host)
        });
    });
    assert!(of_all_hosts.len() > 3, "{of_all_hosts:?}");
    for (component, slot) in of_all_hosts {
        let refusal = refused(&set, &about(&component, &slot, b"x"), now());
        assert_eq!(refusal, NextBootError::NotOfHost { component });
    }
}

#[test]
fn a_claim_is_staged_expires_and_brings_nothing_back_that_was_retired() {
    let set = set(|_| {});
    let read = NextBootClaim::read(&claim()).unwrap();
    let accepted = set.accept_next_boot(&read, "host-07", now());
    let mut own = accepted.unwrap().unwrap().measurements;
    let expires = now().checked_add(NEXT_BOOT_PERIOD).unwrap();
    let [staged] = own.alternatives_of("initrd") else {
        panic!("one alternative");
    };
    assert_eq!(staged.state, State::Staged { expires });
    assert_eq!(staged.source.kind, SourceKind::Host);
    assert_eq!(staged.source.of, "host-07");
    // Claimed again a day later, it is staged for longer, and not doubled.
    let later = now().checked_add(Seconds::from_days(1)).unwrap();
    let of_host = set.for_host(&own).unwrap();
    let again = of_host.accept_next_boot(&read, "host-07", later).unwrap();
    let again = again.unwrap().measurements;
    let [staged] = again.alternatives_of("initrd") else {
        panic!("one alternative");
    };
    let expires = later.checked_add(NEXT_BOOT_PERIOD).unwrap();
    assert_eq!(staged.state, State::Staged { expires });
    // What an administrator took back stays back.
    assert!(own.retire("initrd", "next", now()));
    let of_host = set.for_host(&own).unwrap();
    let expected = NextBootError::Retired {
        component: "initrd".to_owned(),
        alternative: "next".to_owned(),
    };
    assert_eq!(refused(&of_host, &claim(), later), expected);
}

#[test]
fn a_host_can_stage_only_so_much_at_once() {
    let mut set = set(|_| {});
    let mut own = HostMeasurements::default();
    let about = |number: u32| about("initrd", "file", &number.to_be_bytes());
    for number in 0..16 {
        let claim = NextBootClaim::read(&about(number)).unwrap();
        let accepted = set.accept_next_boot(&claim, "host-07", now()).unwrap();
        own = accepted.unwrap().measurements;
        set = set.for_host(&own).unwrap();
    }
    let component = "initrd".to_owned();
    assert_eq!(
        refused(&set, &about(16), now()),
        NextBootError::TooManyStaged { component }
    );
    // What the host has booted does not count.
    let mut booted = own.clone();
    for staged in own.alternatives_of("initrd") {
        assert!(booted.promote("initrd", &staged.name, "host-07", now()));
    }
    let claim = NextBootClaim::read(&about(16)).unwrap();
    let set_of_booted = set.for_host(&booted).unwrap();
    assert!(
        set_of_booted
            .accept_next_boot(&claim, "host-07", now())
            .is_ok()
    );
    // What has expired makes room.
    let later = now().checked_add(NEXT_BOOT_PERIOD).unwrap();
    let accepted = set.accept_next_boot(&claim, "host-07", later).unwrap();
    let own = accepted.unwrap().measurements;
    assert_eq!(own.alternatives_of("initrd").len(), 1);
}

#[test]
fn a_claim_with_which_the_record_could_not_be_compiled_is_refused() {
    let set = set(|_| {});
    let mut own = HostMeasurements::default();
    own.add("initrd", alternative("own", "file", b"x"));
    let of_host = set.for_host(&own).unwrap();
    // It begins as another and goes on.
    let mut longer = alternative("next", "file", b"x");
    let more = alternative("more", "file", b"y").events.remove(0);
    longer.events[0].events.extend(more.events);
    let mut claim = HostMeasurements::default();
    claim.add("initrd", longer);
    let refusal = refused(&of_host, claim.to_json().as_bytes(), now());
    assert!(matches!(refusal, NextBootError::Policies(_)), "{refusal}");
    // There is no room for one more component.
    let mut own = HostMeasurements::default();
    for number in 0..128 {
        own.add(
            &format!("component {number}"),
            alternative("own", "file", b"x"),
        );
    }
    let full = set.for_host(&own).unwrap();
    let (what, limit) = ("components", 128);
    let expected = DocumentError::TooMany { what, limit };
    let refusal = refused(&full, &about("initrd", "file", b"x"), now());
    assert_eq!(refusal, expected.into());
}
