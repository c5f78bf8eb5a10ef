//! What a guardian sees of itself, and the roll of a host that does not exist: it is decided as those of hosts are, and
//! opens nothing that anybody has.

mod guardian;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use guardian::Site;
use hgs_admin::Administration as _;
use hgs_admin::types::Outcome;
use hgs_clock::Clock as _;
use hgs_pki::Seconds;
use hgs_server::examine_stopped;
use hgs_trace::Selection;
use hgs_trace::guardian::{Facts, LocalFacts, Service, SyntheticRoll};

async fn local(site: &Site) -> LocalFacts {
    site.admin(|client| client.trace()).await.unwrap().0
}

/// The ids of the checks that fail by themselves.
fn root_causes(local: LocalFacts) -> Vec<String> {
    let facts = Facts {
        time: local.time,
        version: "1".to_owned(),
        configuration: Some(Ok(vec![])),
        service: Some(Service::Answers),
        local: Some(local),
        synthetic_roll: None,
        public: vec![],
    };
    let report = facts.diagnose(&Selection::All);
    let roots = report.root_causes.into_iter();
    // The process of this test may be dumped.
    roots
        .map(|root| root.id)
        .filter(|id| id != "HGS-M002")
        .collect()
}

#[tokio::test]
async fn a_sound_guardian_sees_nothing_wrong_with_itself() {
    let site = Site::start().await;
    let seen = local(&site).await;
    assert_eq!(root_causes(seen.clone()), [""; 0]);
    let state = seen.state.unwrap().unwrap();
    let at_work = state.certificates.iter().filter(|one| one.work.is_some());
    assert_eq!(at_work.count(), 3, "each key was asked to work");
    assert_eq!(state.health_certificate, Some(Ok(())));
}

#[tokio::test]
async fn a_guardian_that_does_not_run_is_looked_at_and_left_as_it_is() {
    let mut site = Site::start().await;
    let running = local(&site).await;
    let config = site.config.clone();
    let now = site.clock.now();
    let held = examine_stopped(&config, now);
    assert_eq!(held.state, None, "another holds the state");
    site.stop().await;
    let stopped = examine_stopped(&config, now);
    assert_eq!(stopped.process, None);
    let generation = |local: &LocalFacts| local.state.clone().unwrap().unwrap().generation;
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
    assert_eq!(root_causes(examine_stopped(&config, now)), ["HGS-D003"]);
    let other: Vec<u8> = (0_u8..32)
        .map(|place| place.wrapping_mul(place) ^ 77)
        .collect();
    fs::write(&master_key, other).unwrap();
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

async fn synthetic_roll(site: &Site) -> SyntheticRoll {
    site.admin(|client| client.synthetic_roll())
        .await
        .unwrap()
        .0
}

#[tokio::test]
async fn a_synthetic_roll_is_released_and_a_tampered_one_is_not() {
    let site = Site::start().await;
    let expected = SyntheticRoll {
        released: Ok(()),
        tampered: Ok("InvalidProtectorException".to_owned()),
    };
    assert_eq!(synthetic_roll(&site).await, expected);
    assert_eq!(
        synthetic_roll(&site).await,
        expected,
        "as often as it is asked for"
    );
}

#[tokio::test]
async fn a_synthetic_roll_is_recorded_as_what_it_is_and_counted_nowhere() {
    let site = Site::start().await;
    let generation = local(&site).await.state.unwrap().unwrap().generation;
    synthetic_roll(&site).await.released.unwrap();
    let records = site.recorded("trace").await;
    let outcomes: Vec<_> = records.iter().map(|record| record.outcome).collect();
    assert_eq!(outcomes, [Outcome::Done, Outcome::Refused], "newest first");
    for record in &records {
        assert!(record.actor.starts_with("uid "), "{record:?}");
        assert!(record.host.is_some() && record.host_name.is_none());
        assert!(record.changes.is_empty());
    }
    assert!(site.recorded("release").await.is_empty());
    assert_eq!(site.metric("hgs_releases_total{outcome=\"released\"}"), 0.0);
    let after = local(&site).await.state.unwrap().unwrap().generation;
    assert_eq!(after, generation, "nothing was changed");
}
