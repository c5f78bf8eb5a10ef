//! What a guardian sees of the tokens that its keys are in: each breakage has its own cause.

mod guardian;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use guardian::{Site, options};
use hgs_admin::Administration as _;
use hgs_clock::Clock as _;
use hgs_pki::Certificate;
use hgs_server::{CertificateSource, InitOptions, examine_stopped};
use hgs_testkit::fixtures::{Guardian as Fixture, now};
use hgs_testkit::softhsm::{PIN, SoftHsm, TOKEN, isolated};
use hgs_trace::guardian::{Facts, LocalFacts, Service};
use hgs_trace::{Outcome, Report, Selection};
use tokio::runtime::Runtime;

const SIGNING: &str = "guardian-signing";
const ENCRYPTION: &str = "guardian-encryption";

/// A guardian over the fixtures' keys, which were moved into a token.
async fn site(hsm: &SoftHsm) -> Site {
    let fabric = Fixture::named("fabric");
    import(hsm, fabric.signing_key.pkcs8_der().expose(), SIGNING);
    import(hsm, fabric.encryption_key.pkcs8_der().expose(), ENCRYPTION);
    let module = SoftHsm::module();
    let site = Site::empty(&format!(
        "[[pkcs11.module]]\npath = \"{}\"\nsessions = 2\n",
        module.display()
    ));
    let given = |object: &str, certificate: &Certificate| CertificateSource::InToken {
        key: Box::new(hsm.uri(object).parse().unwrap()),
        certificate: Some(certificate.clone()),
    };
    let options = InitOptions {
        signing: given(SIGNING, &fabric.signing),
        encryption: given(ENCRYPTION, &fabric.encryption),
        ..options()
    };
    let config = site.config.clone();
    let made = tokio::task::spawn_blocking(move || {
        hgs_server::initialise(&config, options, now()).map(drop)
    });
    made.await.unwrap().unwrap();
    site
}

fn import(hsm: &SoftHsm, der: &[u8], label: &str) {
    let file = hsm.folder().join("key.der");
    fs::write(&file, der).unwrap();
    hsm.import(TOKEN, &file, label);
}

fn report(local: LocalFacts) -> Report {
    let facts = Facts {
        time: local.time,
        version: "1".to_owned(),
        configuration: Some(Ok(vec![])),
        service: Some(Service::Answers),
        local: Some(local),
        synthetic_roll: None,
        public: vec![],
    };
    facts.diagnose(&Selection::All)
}

/// The checks that fail by themselves; the process of this test may be dumped.
fn causes(report: &Report) -> Vec<&str> {
    let mut causes: Vec<_> = report.root_causes.iter().map(|cause| &*cause.id).collect();
    causes.retain(|id| *id != "HGS-M002");
    causes.dedup();
    causes
}

/// That `id` is the only cause, and that the key of the encryption certificate was not blamed for it.
#[track_caller]
fn assert_cause(site: &Site, id: &str) {
    let report = report(examine_stopped(&site.config, site.clock.now()));
    assert_eq!(causes(&report), [id], "{report:#?}");
    let mut findings = report.findings.iter();
    let skipped = findings.any(|finding| {
        let because = finding.because.as_ref();
        finding.id == "HGS-K003"
            && finding.outcome == Outcome::Skipped
            && because.is_some_and(|cause| cause.id == id)
    });
    assert!(skipped, "{report:#?}");
}

#[track_caller]
fn assert_sound(site: &Site) {
    let report = report(examine_stopped(&site.config, site.clock.now()));
    assert_eq!(causes(&report), [""; 0], "{report:#?}");
}

fn pin_file(hsm: &SoftHsm, pin: &str, mode: u32) {
    fs::write(hsm.pin_file(), pin).unwrap();
    fs::set_permissions(hsm.pin_file(), fs::Permissions::from_mode(mode)).unwrap();
}

/// The folder of the one token.
fn token_folder(hsm: &SoftHsm) -> PathBuf {
    let mut tokens = fs::read_dir(hsm.folder().join("tokens")).unwrap();
    tokens.next().unwrap().unwrap().path()
}

/// Sets CKA_DECRYPT of every key to false, which no tool does to a key that is there: SoftHSM keeps an attribute as its
/// number, the number of its type (1 for a boolean), both in eight octets, and its value.
fn forbid_decryption(hsm: &SoftHsm) {
    let attribute = [0, 0, 0, 0, 0, 0, 1, 5, 0, 0, 0, 0, 0, 0, 0, 1];
    let mut changed = 0;
    for entry in fs::read_dir(token_folder(hsm)).unwrap() {
        let file = entry.unwrap().path();
        let mut octets = fs::read(&file).unwrap();
        let places = octets.windows(16).position(|window| window == attribute);
        let is_object = file.extension().is_some_and(|kind| kind == "object");
        if let Some(place) = places.filter(|_| is_object) {
            octets[place + 16] = 0;
            fs::write(&file, octets).unwrap();
            changed += 1;
        }
    }
    assert_eq!(changed, 2, "both private keys");
}

#[test]
fn what_is_wrong_with_a_token_or_its_pin_is_named() {
    isolated(|hsm| {
        Runtime::new().unwrap().block_on(async {
            let mut site = site(hsm).await;
            assert_sound(&site);
            pin_file(hsm, PIN, 0o644);
            assert_cause(&site, "HGS-T004");
            pin_file(hsm, "", 0o600);
            assert_cause(&site, "HGS-T005");
            pin_file(hsm, "wrong", 0o600);
            assert_cause(&site, "HGS-T006");
            fs::remove_file(hsm.pin_file()).unwrap();
            assert_cause(&site, "HGS-T004");
            pin_file(hsm, PIN, 0o600);
            let (token, away) = (token_folder(hsm), hsm.folder().join("away"));
            fs::rename(&token, &away).unwrap();
            assert_cause(&site, "HGS-T003");
            fs::rename(&away, &token).unwrap();
            assert_sound(&site);
            site.config.pkcs11.modules[0].path = "/no/such/module.so".into();
            assert_cause(&site, "HGS-T002");
            site.config.pkcs11.modules.clear();
            assert_cause(&site, "HGS-T001");
        });
    });
}

#[test]
fn what_is_wrong_with_a_key_in_a_token_is_named() {
    isolated(|hsm| {
        Runtime::new().unwrap().block_on(async {
            let site = site(hsm).await;
            hsm.delete(TOKEN, ENCRYPTION);
            assert_cause(&site, "HGS-T008");
            // Another key in its place.
            let other = Fixture::named("stranger");
            import(hsm, other.encryption_key.pkcs8_der().expose(), ENCRYPTION);
            assert_cause(&site, "HGS-T008");
            hsm.delete(TOKEN, ENCRYPTION);
            // The right one, which may not decrypt.
            let fabric = Fixture::named("fabric");
            import(hsm, fabric.encryption_key.pkcs8_der().expose(), ENCRYPTION);
            assert_sound(&site);
            forbid_decryption(hsm);
            assert_cause(&site, "HGS-T009");
        });
    });
}

#[test]
fn a_token_that_goes_away_under_a_guardian_that_runs() {
    isolated(|hsm| {
        Runtime::new().unwrap().block_on(async {
            let mut site = site(hsm).await;
            site.restart().await;
            let seen = site.admin(|client| client.trace()).await.unwrap().0;
            assert_eq!(causes(&report(seen)), [""; 0]);
            fs::rename(token_folder(hsm), hsm.folder().join("away")).unwrap();
            let seen = site.admin(|client| client.trace()).await.unwrap().0;
            let report = report(seen);
            assert_eq!(causes(&report), ["HGS-T003"], "{report:#?}");
        });
    });
}
