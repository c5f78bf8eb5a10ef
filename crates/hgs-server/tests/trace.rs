//! What a guardian sees of itself, and the roll of a host that does not exist: it goes through the real listener, and
//! opens nothing that anybody has.

mod guardian;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use guardian::{Answer, Host, ManualClock, Site, pending, roll_path};
use hgs_kps::ServiceVersion::V2;
use hgs_kps::wire::{self, RollTransportKeyRequest};
use hgs_kps::{Caches, PendingRoll};
use hgs_pki::{Certificate, CertificateCache, Seconds, SignatureCache};
use hgs_protector::Protector;
use hgs_server::admin::types::{Trial, TrialAnswer, TrialVerdict};
use hgs_server::admin::{Administration as _, ErrorCode};
use hgs_server::{Clock as _, examine_stopped};
use hgs_trace::Selection;
use hgs_trace::guardian::{Facts, Inside, Service};

async fn inside(site: &Site) -> Inside {
    site.admin(|client| client.trace()).await.unwrap()
}

/// The ids of the checks that fail by themselves.
fn root_causes(inside: Inside) -> Vec<String> {
    let facts = Facts {
        time: inside.time,
        version: "1".to_owned(),
        configuration: Some(Ok(vec![])),
        service: Some(Service::Answers),
        inside: Some(inside),
        outside: vec![],
    };
    let report = facts.diagnose(&Selection::All);
    let roots = report.root_causes.into_iter();
    // The process of this test may be dumped.
    roots
        .map(|root| root.id)
        .filter(|id| id != "HGS-M002")
        .collect()
}

async fn trial(site: &Site) -> Trial {
    site.admin(|client| client.begin_trial()).await.unwrap()
}

async fn roll(site: &Site, body: &[u8]) -> Answer {
    site.post(&roll_path(V2), body).await
}

async fn judged(site: &Site, id: &str, answer: &Answer) -> TrialVerdict {
    let (id, body) = (id.to_owned(), answer.text());
    let answer = TrialAnswer { body };
    let verdict = site.admin(move |client| client.judge_trial(&id, &answer));
    verdict.await.unwrap()
}

fn code(answer: &Answer) -> (u16, String) {
    let error = wire::Error::from_xml(&answer.body);
    (answer.status, error.unwrap().code)
}

fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[tokio::test]
async fn a_sound_guardian_sees_nothing_wrong_with_itself() {
    let site = Site::start().await;
    let seen = inside(&site).await;
    assert_eq!(root_causes(seen.clone()), [""; 0]);
    let state = seen.state.unwrap().unwrap();
    let at_work = state.certificates.iter().filter(|one| one.work.is_some());
    assert_eq!(at_work.count(), 3, "each key was asked to work");
    assert_eq!(state.health_certificate, Some(Ok(())));
}

#[tokio::test]
async fn a_guardian_that_does_not_run_is_looked_at_and_left_as_it_is() {
    let mut site = Site::start().await;
    let running = inside(&site).await;
    let config = site.config.clone();
    let now = site.clock.now();
    let held = examine_stopped(&config, now);
    assert_eq!(held.state, None, "another holds the state");
    site.stop().await;
    let stopped = examine_stopped(&config, now);
    assert_eq!(stopped.process, None);
    let generation = |inside: &Inside| inside.state.clone().unwrap().unwrap().generation;
    assert_eq!(generation(&stopped), generation(&running));
    assert_eq!(root_causes(stopped), [""; 0]);
}

#[tokio::test]
async fn what_is_wrong_with_the_files_is_named() {
    let mut site = Site::start().await;
    site.stop().await;
    let (config, now) = (site.config.clone(), site.clock.now());
    let mode = |mode| fs::Permissions::from_mode(mode);
    let master_key = config.master_key_file();
    fs::set_permissions(&master_key, mode(0o640)).unwrap();
    assert_eq!(root_causes(examine_stopped(&config, now)), ["HGS-D002"]);
    fs::set_permissions(&master_key, mode(0o600)).unwrap();
    let octets = fs::read(&master_key).unwrap();
    fs::write(&master_key, &octets[1..]).unwrap();
    assert_eq!(root_causes(examine_stopped(&config, now)), ["HGS-D003"]);
    fs::write(&master_key, [7; 32]).unwrap();
    assert_eq!(root_causes(examine_stopped(&config, now)), ["HGS-D004"]);
    fs::write(&master_key, &octets).unwrap();
    fs::set_permissions(config.state_folder(), mode(0o750)).unwrap();
    assert_eq!(root_causes(examine_stopped(&config, now)), ["HGS-D001"]);
    fs::remove_dir_all(config.state_folder()).unwrap();
    assert_eq!(root_causes(examine_stopped(&config, now)), ["HGS-D001"]);
}

#[tokio::test]
async fn a_clock_that_went_back_is_the_cause_of_all_that_follows() {
    let mut site = Site::start().await;
    site.stop().await;
    let before = site
        .clock
        .now()
        .checked_sub(Seconds::from_days(30))
        .unwrap();
    assert_eq!(
        root_causes(examine_stopped(&site.config, before)),
        ["HGS-M001"]
    );
}

#[tokio::test]
async fn signers_that_have_all_expired_are_the_cause() {
    let mut site = Site::start().await;
    site.stop().await;
    let after = site
        .clock
        .now()
        .checked_add(Seconds::from_days(400))
        .unwrap();
    assert_eq!(
        root_causes(examine_stopped(&site.config, after)),
        ["HGS-A001"]
    );
}

#[tokio::test]
async fn a_synthetic_roll_is_released_and_a_tampered_one_is_not() {
    let site = Site::start().await;
    let trial = trial(&site).await;
    let answer = roll(&site, trial.request.as_bytes()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let verdict = judged(&site, &trial.id, &answer).await;
    assert!(verdict.opens, "{verdict:?}");
    // Each URL of a guardian is tried with the same request.
    let again = roll(&site, trial.request.as_bytes()).await;
    assert!(judged(&site, &trial.id, &again).await.opens);

    let tampered = roll(&site, trial.tampered_request.as_bytes()).await;
    assert_eq!(code(&tampered), refused(400, "InvalidProtectorException"));
    assert!(!judged(&site, &trial.id, &tampered).await.opens);
}

#[tokio::test]
async fn a_trial_is_on_record_as_what_it_is_and_counted_nowhere() {
    let site = Site::start().await;
    let generation = inside(&site).await.state.unwrap().unwrap().generation;
    let trial = trial(&site).await;
    roll(&site, trial.request.as_bytes()).await;
    roll(&site, trial.tampered_request.as_bytes()).await;
    let records = site.recorded("trace").await;
    let outcomes: Vec<_> = records.iter().map(|record| &*record.outcome).collect();
    assert_eq!(outcomes, ["refused", "done", "done"], "newest first");
    for record in &records {
        assert!(record.actor.starts_with("uid "), "{record:?}");
        assert!(record.host.is_some() && record.host_name.is_none());
        assert!(record.changes.is_empty());
    }
    assert!(site.recorded("release").await.is_empty());
    assert_eq!(site.metric("hgs_releases_total{outcome=\"released\"}"), 0.0);
    let after = inside(&site).await.state.unwrap().unwrap().generation;
    assert_eq!(after, generation, "nothing was changed");
}

fn parts(trial: &Trial) -> RollTransportKeyRequest {
    RollTransportKeyRequest::from_xml(trial.request.as_bytes()).unwrap()
}

/// The host of a trial exists for the request that the guardian wrote, and for no other.
#[tokio::test]
async fn the_health_certificate_of_a_trial_opens_no_protector_that_anybody_has() {
    let site = Site::start().await;
    let trial = trial(&site).await;
    let not_registered = refused(403, "HostRevokedException");
    let synthetic = Certificate::from_der(&parts(&trial).health_certificate).unwrap();

    let (real, _) = site.protector().await;
    let request = pending(&real, &synthetic, V2).request();
    assert_eq!(code(&roll(&site, &request).await), not_registered);

    // The same protector in other octets.
    let request = RollTransportKeyRequest {
        algorithms: wire::Algorithms {
            wrapping_key: hgs_protector::suite::WrappingKeyEncryption::KwAes256,
            ..wire::Algorithms::default()
        },
        ..parts(&trial)
    };
    assert_eq!(code(&roll(&site, &request.to_xml()).await), not_registered);

    // What came of it.
    let answer = roll(&site, trial.request.as_bytes()).await;
    let released = wire::RollTransportKeyResponse::from_xml(&answer.body).unwrap();
    let request = RollTransportKeyRequest {
        ingress_protector: released.egress_protector,
        ..parts(&trial)
    };
    assert_eq!(code(&roll(&site, &request.to_xml()).await), not_registered);
}

/// A registered host is not let at the protector of a trial by another way than any other: it may have it, and finds
/// nothing in it.
#[tokio::test]
async fn the_answer_to_a_trial_can_be_opened_by_nobody_else() {
    let site = Site::start().await;
    let host = Host::numbered(0);
    site.register(&host, "node-1").await;
    let certificate = host.healthy(&site).await;
    let trial = trial(&site).await;
    let answer = roll(&site, trial.request.as_bytes()).await;
    let ingress = Protector::read(&parts(&trial).ingress_protector, &CertificateCache::new(8));
    let ingress = ingress.unwrap().verify(&SignatureCache::new(8)).unwrap();
    let pending = PendingRoll::new(ingress, certificate, parts(&trial).algorithms, V2);
    let caches = Caches::new(8);
    let Ok(hgs_kps::Step::NeedsDecrypt(needed)) = pending.receive(&answer.body, &caches) else {
        panic!("the answer has the form of one");
    };
    let key = &host.identity;
    let decrypted = key.decrypt_oaep(needed.hash(), needed.ciphertext());
    assert!(
        decrypted.is_err(),
        "it is for a key that only the guardian has"
    );
}

#[tokio::test]
async fn a_trial_ends() {
    let site = Site::start().await;
    let trial = trial(&site).await;
    let answer = roll(&site, trial.request.as_bytes()).await;
    site.clock.advance(Seconds::new(121));
    let late = roll(&site, trial.request.as_bytes()).await;
    assert_eq!(code(&late), refused(403, "HostRevokedException"));
    let (id, body) = (trial.id.clone(), answer.text());
    let answer = TrialAnswer { body };
    let over = site.admin(move |client| client.judge_trial(&id, &answer));
    assert_eq!(over.await.unwrap_err().code, ErrorCode::NotFound);
    let unknown = TrialAnswer {
        body: String::new(),
    };
    let unknown = site.admin(move |client| client.judge_trial("x", &unknown));
    assert_eq!(unknown.await.unwrap_err().code, ErrorCode::NotFound);
}

#[tokio::test]
async fn a_restart_ends_a_trial_and_only_the_newest_four_are_kept() {
    let mut site = Site::start().await;
    let first = trial(&site).await;
    for _ in 0..4 {
        trial(&site).await;
    }
    let pushed_out = roll(&site, first.request.as_bytes()).await;
    assert_eq!(code(&pushed_out), refused(403, "HostRevokedException"));
    let last = trial(&site).await;
    site.restart_with(ManualClock::starting_now()).await;
    let restarted = roll(&site, last.request.as_bytes()).await;
    assert_eq!(code(&restarted), refused(403, "HostRevokedException"));
}
