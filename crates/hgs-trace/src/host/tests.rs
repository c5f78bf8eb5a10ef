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
        tpm: None,
        last_attempt: Some(Attempt {
            url: ATTESTATION.to_owned(),
            message: None,
            remedy: None,
        }),
        warnings: Vec::new(),
    }
}

fn log(path: &str) -> Log {
    Log {
        path: path.to_owned(),
        events: Ok(Some(100)),
        replay: Some(Ok(())),
    }
}

/// A host that attests by its TPM, and has no host key.
fn sound_by_tpm() -> Facts {
    let mut facts = sound();
    facts.services[0].attestation_mode = Some(Ok("Tpm".to_owned()));
    facts.host_key_file.kind = PathKind::Absent;
    facts.host_key = None;
    facts.tpm = Some(Tpm {
        device: "/dev/tpmrm0".to_owned(),
        is_locked: Ok(false),
        endorsement_key: Some(Ok("digest".to_owned())),
        endorsement_certificate: Some(Ok(Some("thumbprint".to_owned()))),
        pcrs: Some(Ok(())),
        event_log: log("/log"),
        ima_log: log("/ima"),
    });
    facts
}

fn problem<T>() -> Observed<T> {
    Err(Problem::new("it is broken"))
}

#[track_caller]
fn assert_root(change: impl FnOnce(&mut Facts), id: &str, skipped: &[&str]) {
    assert_root_of(sound(), change, id, skipped);
}

/// The same with a host that attests by its TPM.
#[track_caller]
fn assert_root_by_tpm(change: impl FnOnce(&mut Tpm), id: &str, skipped: &[&str]) {
    let change = |facts: &mut Facts| {
        change(facts.tpm.as_mut().unwrap());
        if skipped.contains(&"HGS-H013") {
            facts.last_attempt.as_mut().unwrap().message = Some("refused".to_owned());
            facts.services[0].health_certificate = None;
        }
    };
    assert_root_of(sound_by_tpm(), change, id, skipped);
}

#[track_caller]
fn assert_root_of(mut facts: Facts, change: impl FnOnce(&mut Facts), id: &str, skipped: &[&str]) {
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
    for facts in [sound(), sound_by_tpm()] {
        let report = facts.diagnose(&Selection::All);
        let other = report
            .findings
            .iter()
            .find(|finding| finding.outcome != Outcome::Pass);
        assert_eq!(other, None);
    }
}

#[test]
fn a_tpm_that_does_not_answer() {
    let change = |tpm: &mut Tpm| {
        tpm.is_locked = problem();
        tpm.endorsement_key = None;
        tpm.endorsement_certificate = None;
        tpm.pcrs = None;
        tpm.event_log.replay = None;
        tpm.ima_log.replay = None;
    };
    let skipped = ["HGS-H018", "HGS-H019", "HGS-H020", "HGS-H022", "HGS-H013"];
    assert_root_by_tpm(change, "HGS-H017", &skipped);
}

#[test]
fn a_tpm_without_a_bank_of_sha_256() {
    let change = |tpm: &mut Tpm| {
        tpm.pcrs = Some(problem());
        tpm.event_log.replay = None;
        tpm.ima_log.replay = None;
    };
    assert_root_by_tpm(change, "HGS-H018", &["HGS-H022", "HGS-H013"]);
}

#[test]
fn another_tpm_than_before() {
    let change = |tpm: &mut Tpm| tpm.endorsement_key = Some(problem());
    assert_root_by_tpm(change, "HGS-H019", &["HGS-H020", "HGS-H013"]);
}

#[test]
fn an_ek_certificate_that_is_not_acceptable() {
    let change = |tpm: &mut Tpm| tpm.endorsement_certificate = Some(problem());
    assert_root_by_tpm(change, "HGS-H020", &[]);
}

#[test]
fn a_boot_without_a_log() {
    let change = |tpm: &mut Tpm| {
        tpm.event_log.events = Ok(None);
        tpm.event_log.replay = None;
    };
    assert_root_by_tpm(change, "HGS-H021", &["HGS-H022", "HGS-H013"]);
    let unreadable = |tpm: &mut Tpm| {
        tpm.event_log.events = problem();
        tpm.event_log.replay = None;
    };
    assert_root_by_tpm(unreadable, "HGS-H021", &["HGS-H022"]);
}

#[test]
fn a_log_that_does_not_give_the_pcrs() {
    let change = |tpm: &mut Tpm| tpm.event_log.replay = Some(problem());
    assert_root_by_tpm(change, "HGS-H022", &["HGS-H013"]);
    let change = |tpm: &mut Tpm| tpm.ima_log.replay = Some(problem());
    assert_root_by_tpm(change, "HGS-H023", &["HGS-H013"]);
}

#[test]
fn what_a_tpm_need_not_have_keeps_nothing_from_working() {
    let mut facts = sound_by_tpm();
    let tpm = facts.tpm.as_mut().unwrap();
    tpm.is_locked = Ok(true);
    tpm.endorsement_certificate = Some(Ok(None));
    tpm.ima_log.events = Ok(None);
    tpm.ima_log.replay = None;
    let report = facts.diagnose(&Selection::All);
    assert!(report.works());
    let warnings: Vec<_> = report
        .findings
        .iter()
        .filter(|finding| finding.outcome == Outcome::Warning)
        .map(|finding| &*finding.id)
        .collect();
    assert_eq!(warnings, ["HGS-H017", "HGS-H020"]);
}

#[test]
fn a_host_key_is_needed_where_one_guardian_attests_by_host_keys() {
    let change = |facts: &mut Facts| {
        let mut fallback = facts.services[0].clone();
        fallback.attestation_mode = Some(Ok("HostKey".to_owned()));
        facts.services.push(fallback);
        facts.last_attempt.as_mut().unwrap().message = Some("no host key".to_owned());
    };
    assert_root_of(
        sound_by_tpm(),
        change,
        "HGS-H004",
        &["HGS-H005", "HGS-H013"],
    );
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
        facts.services[0].attestation_mode = Some(Ok("ActiveDirectory".to_owned()));
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

/// The second of two nodes of the primary.
fn second_node() -> Service {
    Service {
        attestation: reach("http://two.example/Attestation"),
        key_protection: reach("http://two.example/KeyProtection"),
        ..sound().services.remove(0)
    }
}

fn close(reach: &mut Reachability) {
    reach.connected = Some(problem());
    reach.answered = None;
    reach.clocks = None;
}

#[test]
fn a_node_that_is_away_is_a_warning_while_another_one_answers() {
    let mut facts = sound();
    facts.services.push(second_node());
    let first = &mut facts.services[0];
    close(&mut first.attestation);
    close(&mut first.key_protection);
    (first.attestation_mode, first.metadata) = (None, None);
    let report = facts.diagnose(&Selection::All);
    assert!(report.works());
    let warned = |id: &str| {
        let mut findings = report.findings.iter();
        findings.any(|finding| finding.id == id && finding.outcome == Outcome::Warning)
    };
    assert!(warned("HGS-H007") && warned("HGS-H010") && warned("HGS-H012"));

    // The other service is at the node that is away alone.
    facts.services[1].key_protection = facts.services[0].key_protection.clone();
    facts.services[1].metadata = None;
    assert!(!facts.diagnose(&Selection::All).works());
    // Nor does a fallback take the place of a node.
    let mut facts = sound();
    facts.services.push(second_node());
    facts.services[1].side = "fallback".to_owned();
    close(&mut facts.services[1].attestation);
    assert!(!facts.diagnose(&Selection::All).works());
}
