//! One breakage, one root cause.

use hgs_pki::Time;

use super::*;
use crate::{Clocks, Observed, Outcome, PathFacts, PathKind, Problem, Reachability};

const ATTESTATION: &str = "http://hgs.example/Attestation";
const KEY_PROTECTION: &str = "http://hgs.example/KeyProtection";

fn at(seconds: i64) -> Time {
    Time::from_unix(1_800_000_000 + seconds)
}

fn reach(url: &str) -> Reachability {
    Reachability {
        url: url.to_owned(),
        addresses: Ok(vec!["192.0.2.1:80".to_owned()]),
        connected: Some(Ok("192.0.2.1:80".to_owned())),
        tls: None,
        answered: Some(Ok(())),
        clocks: Some(Clocks {
            there: at(0),
            here: at(1),
        }),
    }
}

fn private(path: &str, kind: PathKind) -> PathFacts {
    PathFacts {
        path: path.to_owned(),
        kind,
        mode: Some(0o700),
        owner: Some(0),
        problem: None,
    }
}

fn sound() -> Facts {
    Facts {
        time: at(0),
        version: "1".to_owned(),
        user: 0,
        configuration: Ok(true),
        state_folder: private("/state", PathKind::Folder),
        host_key_file: private("/state/host-key.pem", PathKind::File),
        host_key: Some(Ok("digest".to_owned())),
        services: vec![Service {
            side: "primary".to_owned(),
            attestation: reach(ATTESTATION),
            key_protection: reach(KEY_PROTECTION),
            attestation_mode: Some(Ok("HostKey".to_owned())),
            metadata: Some(Ok("signing".to_owned())),
            signing_certificates: Some(Ok(vec!["signer".to_owned()])),
            health_certificate: Some(HealthCertificate {
                serial_number: "01".to_owned(),
                expires: at(3_600),
                renewed_from: at(2_400),
            }),
        }],
        last_attempt: Some(Attempt {
            url: ATTESTATION.to_owned(),
            message: None,
            remedy: None,
        }),
        warnings: Vec::new(),
    }
}

fn problem<T>() -> Observed<T> {
    Err(Problem::new("it is broken"))
}

#[track_caller]
fn assert_root(change: impl FnOnce(&mut Facts), id: &str, skipped: &[&str]) {
    let mut facts = sound();
    change(&mut facts);
    let report = facts.diagnose(&Selection::All);
    let roots: Vec<_> = report.root_causes.iter().map(|root| &*root.id).collect();
    assert_eq!(roots, [id], "{report:#?}");
    for skipped in skipped {
        let mut findings = report.findings.iter();
        let found = findings.any(|finding| {
            finding.id == *skipped && finding.because.as_ref().is_some_and(|root| root.id == id)
        });
        assert!(found, "{skipped} was not skipped: {report:#?}");
    }
}

#[test]
fn a_sound_host_passes_every_check() {
    let report = sound().diagnose(&Selection::All);
    let other = report
        .findings
        .iter()
        .find(|finding| finding.outcome != Outcome::Pass);
    assert_eq!(other, None);
}

#[test]
fn dependencies_come_first_and_exist() {
    let checks = checks();
    for (place, check) in checks.iter().enumerate() {
        for id in check.after {
            let known = checks[..place].iter().any(|earlier| earlier.id == *id);
            assert!(known, "{} comes after {id}", check.id);
        }
    }
}

#[test]
fn a_configuration_that_is_none() {
    let change = |facts: &mut Facts| {
        facts.configuration = problem();
        facts.services.clear();
        facts.last_attempt = None;
    };
    assert_root(change, "HGS-H001", &["HGS-H002", "HGS-H006", "HGS-H014"]);
}

#[test]
fn local_mode() {
    let change = |facts: &mut Facts| {
        facts.configuration = Ok(false);
        facts.services.clear();
        facts.last_attempt = None;
    };
    assert_root(change, "HGS-H002", &["HGS-H006", "HGS-H010", "HGS-H013"]);
}

#[test]
fn a_state_folder_that_others_may_enter() {
    let change = |facts: &mut Facts| {
        facts.state_folder.mode = Some(0o755);
        facts.host_key = Some(problem());
    };
    assert_root(change, "HGS-H003", &["HGS-H005"]);
}

#[test]
fn no_host_key() {
    let change = |facts: &mut Facts| {
        facts.host_key_file.kind = PathKind::Absent;
        facts.host_key = None;
        facts.last_attempt = None;
        facts.services[0].health_certificate = None;
    };
    assert_root(change, "HGS-H004", &["HGS-H005", "HGS-H013", "HGS-H014"]);
}

#[test]
fn a_name_that_is_not_in_dns() {
    let change = |facts: &mut Facts| {
        let service = &mut facts.services[0];
        for reach in [&mut service.attestation, &mut service.key_protection] {
            reach.addresses = problem();
            reach.connected = None;
            reach.answered = None;
            reach.clocks = None;
        }
        service.attestation_mode = None;
        service.metadata = None;
    };
    assert_root(change, "HGS-H006", &["HGS-H007", "HGS-H010", "HGS-H012"]);
}

/// Both services are at one listener, so this is one cause.
#[test]
fn a_guardian_that_does_not_run() {
    let change = |facts: &mut Facts| {
        let service = &mut facts.services[0];
        for reach in [&mut service.attestation, &mut service.key_protection] {
            reach.connected = Some(problem());
            reach.answered = None;
            reach.clocks = None;
        }
        service.attestation_mode = None;
        service.metadata = None;
    };
    assert_root(change, "HGS-H007", &["HGS-H015", "HGS-H010", "HGS-H012"]);
}

#[test]
fn a_guardian_that_hangs() {
    let change = |facts: &mut Facts| {
        let service = &mut facts.services[0];
        for reach in [&mut service.attestation, &mut service.key_protection] {
            reach.answered = Some(problem());
            reach.clocks = None;
        }
        service.attestation_mode = None;
        service.metadata = None;
    };
    assert_root(change, "HGS-H015", &["HGS-H010", "HGS-H012"]);
}

#[test]
fn key_protection_at_a_wrong_path() {
    let change = |facts: &mut Facts| facts.services[0].metadata = Some(problem());
    assert_root(change, "HGS-H012", &[]);
}

#[test]
fn another_mode() {
    let change = |facts: &mut Facts| {
        facts.services[0].attestation_mode = Some(Ok("Tpm".to_owned()));
        facts.last_attempt.as_mut().unwrap().message = Some("no".to_owned());
        facts.services[0].health_certificate = None;
    };
    assert_root(change, "HGS-H011", &["HGS-H013", "HGS-H014"]);
}

#[test]
fn a_host_that_is_not_registered() {
    let change = |facts: &mut Facts| {
        facts.last_attempt.as_mut().unwrap().message = Some("unknown".to_owned());
        facts.services[0].health_certificate = None;
    };
    assert_root(change, "HGS-H013", &["HGS-H014"]);
}

#[test]
fn a_clock_that_is_wrong() {
    let change = |facts: &mut Facts| {
        facts.services[0].attestation.clocks = Some(Clocks {
            there: at(0),
            here: at(-301),
        });
        facts.services[0].health_certificate = None;
    };
    assert_root(change, "HGS-H009", &["HGS-H014"]);
}

#[test]
fn a_health_certificate_that_has_ended() {
    let change = |facts: &mut Facts| facts.time = at(3_601);
    assert_root(change, "HGS-H014", &[]);
    let mut facts = sound();
    facts.time = at(2_401);
    let report = facts.diagnose(&Selection::All);
    assert_eq!(
        report.outcome,
        Outcome::Warning,
        "it should have been renewed"
    );
}

#[test]
fn an_identity_key_that_was_superseded_warns() {
    let mut facts = sound();
    let warning = Problem::new("the identity key was superseded");
    facts.warnings = vec![warning.with_remedy(Some("look for a clone"))];
    let report = facts.diagnose(&Selection::All);
    assert_eq!(report.outcome, Outcome::Warning);
    let mut findings = report.findings.iter();
    let warned = findings
        .find(|finding| finding.outcome == Outcome::Warning)
        .unwrap();
    assert_eq!(warned.id, "HGS-H016");
    assert_eq!(warned.remedy.as_deref(), Some("look for a clone"));
}

/// What was collected elsewhere may be anything.
#[test]
fn facts_of_strangers_are_diagnosed_or_refused() {
    let corpus = vec![serde_json::to_vec(&sound()).unwrap()];
    let tokens: [&[u8]; 4] = [
        b"null",
        b"{\"Err\":{\"message\":\"\"}}",
        b"\"0000-01-01T00:00:00Z\"",
        b"\"9999-12-31T23:59:59Z\"",
    ];
    for mutation in hgs_testkit::Mutations::of(&corpus, &tokens).take(5_000) {
        crate::fuzzing::fuzz_host_facts(&mutation);
    }
    crate::fuzzing::fuzz_host_facts(&corpus[0]);
}

#[test]
fn facts_survive_being_written() {
    let facts = sound();
    let text = serde_json::to_string(&facts).unwrap();
    assert_eq!(serde_json::from_str::<Facts>(&text).unwrap(), facts);
}
