//! What hosts with TPMs are judged by, and what is kept of how they were judged.

use std::sync::mpsc::channel;

use hgs_attest::policy::{
    self, Baseline, EventDigest, HostComponent, HostMeasurements, PolicyName, Preimage,
    RecordedEvidence, UnexplainedEvent, UsedAlternative,
};
use hgs_pki::health::HealthKind;
use hgs_tcg::event_log::{Bank, PcrValues};
use rusqlite::Connection;

use super::*;
use crate::fixture::*;
use crate::model::{DocumentKind, ShortName};
use crate::{
    Attempted, Attestation, EvidenceToKeep, ExpectedMeasurements, LastAttempt, MAX_HOST_GROUPS,
    Outcome, PolicyError, PolicySelector,
};

fn name(text: &str) -> ShortName {
    text.parse().unwrap()
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, Failure<Refusal>>) -> Refusal {
    match result {
        Err(Failure::Refused(refusal)) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

/// A state with the transactions of [`tpm_transactions`].
fn site() -> (tempfile::TempDir, PathBuf, Fixture, Store) {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("state");
    let fixture = Fixture::new();
    let store = fixture.create(&directory);
    store.transact(tpm_transactions(&fixture), act(1)).unwrap();
    (folder, directory, fixture, store)
}

fn transact(store: &Store, transaction: Transaction) -> Result<(), Failure<Refusal>> {
    store.transact(vec![transaction], act(2)).map(drop)
}

fn set(group: Option<&str>, policy: PolicySelector, enabled: Option<bool>) -> Transaction {
    Transaction::SetPolicy {
        group: group.map(name),
        policy,
        enabled,
    }
}

#[test]
fn a_group_has_its_own_set_and_follows_the_default_group_in_the_rest() {
    let (_folder, directory, _, store) = site();
    let documents = |store: &Store, group: Option<&str>| -> Vec<String> {
        let group = group.map(name);
        let effective = store.state().effective_policies(group.as_ref()).unwrap();
        effective
            .documents
            .iter()
            .map(ShortName::to_string)
            .collect()
    };
    assert_eq!(documents(&store, None), ["first-boot"]);
    assert_eq!(documents(&store, Some("racks")), ["first-boot"]);
    let add = Transaction::AddPolicyDocument {
        name: name("Second-Boot"),
        kind: DocumentKind::Baseline,
        text: baseline("second").into(),
        group: Some(name("racks")),
    };
    transact(&store, add.clone()).unwrap();
    // Another group is not opened to what this one boots.
    assert_eq!(documents(&store, None), ["first-boot"]);
    assert_eq!(
        documents(&store, Some("racks")),
        ["first-boot", "second-boot"]
    );
    let known = Refusal::DocumentKnown {
        kind: "baseline",
        name: name("second-boot"),
    };
    assert_eq!(refused(transact(&store, add)), known);
    let first = PolicySelector::Document(name("first-boot"));
    transact(&store, set(Some("racks"), first.clone(), Some(false))).unwrap();
    assert_eq!(documents(&store, Some("racks")), ["second-boot"]);
    let digest = |group: Option<&str>| {
        let group = group.map(name);
        *store.state().policy_set(group.as_ref()).unwrap().digest()
    };
    let (default, racks) = (digest(None), digest(Some("racks")));
    assert_ne!(default, racks);
    let no_dumps = PolicySelector::Policy(PolicyName::NoDumps);
    transact(&store, set(None, no_dumps.clone(), Some(true))).unwrap();
    assert_ne!(digest(None), default);
    assert_ne!(digest(Some("racks")), racks);
    transact(&store, set(Some("racks"), no_dumps.clone(), Some(false))).unwrap();
    transact(&store, set(None, no_dumps, None)).unwrap();
    assert_eq!(digest(None), default);
    transact(&store, set(Some("racks"), first, None)).unwrap();
    assert_eq!(
        documents(&store, Some("racks")),
        ["first-boot", "second-boot"]
    );
    drop(store);
    let store = open(&directory).unwrap();
    assert_eq!(
        documents(&store, Some("racks")),
        ["first-boot", "second-boot"]
    );
    let actions = store.audit(&AuditFilter::default(), 99).unwrap();
    for action in [
        Action::AddPolicyDocument,
        Action::EnablePolicy,
        Action::DisablePolicy,
        Action::ResetPolicy,
        Action::NewHostGroup,
        Action::SetHostMeasurements,
    ] {
        let mut found = actions.iter().map(|record| record.entry.action);
        assert!(found.any(|found| found == action), "{action}");
    }
}

/// A set that nothing could match is refused when it is saved, and nothing changes.
#[test]
fn a_set_without_anything_to_match_is_not_saved() {
    let (_folder, _, _, store) = site();
    let no_baseline = |refusal| {
        let Refusal::Policies { group, error } = refusal else {
            panic!("{refusal}");
        };
        assert!(error.is_incomplete(), "{error}");
        group.to_string()
    };
    let generation = store.state().generation();
    let first = PolicySelector::Document(name("first-boot"));
    let disable = |group| set(group, first.clone(), Some(false));
    assert_eq!(
        no_baseline(refused(transact(&store, disable(None)))),
        "default"
    );
    assert_eq!(
        no_baseline(refused(transact(&store, disable(Some("racks"))))),
        "racks"
    );
    let remove = Transaction::RemovePolicyDocument(name("first-boot"));
    no_baseline(refused(transact(&store, remove)));
    // Nothing can be compared with what is not there.
    let ci_policy = PolicySelector::Policy(PolicyName::CiPolicy);
    no_baseline(refused(transact(&store, set(None, ci_policy, Some(true)))));
    // Locked policies stay on; what nothing measures can't be enabled.
    for (policy, enabled) in [
        (PolicyName::SecureBootSettings, false),
        (PolicyName::BitLockerEnabled, true),
    ] {
        let policy = PolicySelector::Policy(policy);
        let refusal = refused(transact(&store, set(None, policy, Some(enabled))));
        assert!(matches!(refusal, Refusal::PolicySetting(_)), "{refusal}");
    }
    // What is no document of its kind, or could match nothing.
    let change = |text: &str| Transaction::ChangePolicyDocument {
        name: name("first-boot"),
        expected: None,
        text: text.into(),
        note: None,
    };
    let vacuous = baseline("first").replace("\"pcr\": 7", "\"pcr\": 5");
    for text in ["", "{}", &vacuous] {
        let refusal = refused(transact(&store, change(text)));
        assert!(matches!(refusal, Refusal::Policies { .. }), "{refusal}");
    }
    // What another administrator has changed meanwhile.
    let stale = Transaction::ChangePolicyDocument {
        name: name("first-boot"),
        expected: Some(Digest::from_bytes([1; 32])),
        text: baseline("first").into(),
        note: None,
    };
    let refusal = refused(transact(&store, stale));
    assert_eq!(refusal, Refusal::DocumentChanged(name("first-boot")));
    let add = |name: &str, kind, text: &str| Transaction::AddPolicyDocument {
        name: name.parse().unwrap(),
        kind,
        text: text.into(),
        group: None,
    };
    let baseline = baseline("first");
    let refusal = refused(transact(
        &store,
        add("ci", DocumentKind::CiPolicy, &baseline),
    ));
    assert!(
        matches!(&refusal, Refusal::Policies { error, .. } if matches!(**error, PolicyError::Document { .. })),
        "{refusal}"
    );
    let refusal = refused(transact(
        &store,
        add("hgs_nodumps", DocumentKind::Baseline, &baseline),
    ));
    assert!(matches!(
        refusal,
        Refusal::DocumentKnown { kind: "policy", .. }
    ));
    assert_eq!(store.state().generation(), generation);
}

#[test]
fn what_only_one_host_measures_fits_the_set_of_its_group() {
    let (_folder, _, _, store) = site();
    let measurements = |text: &str| Transaction::SetHostMeasurements {
        id: TPM_HOST,
        expected: ExpectedMeasurements::Any,
        text: Some(text.into()),
        note: None,
    };
    let refusal = refused(transact(&store, measurements("{}")));
    assert!(matches!(refusal, Refusal::Policies { .. }), "{refusal}");
    let elsewhere = store.state().host(&TPM_HOST).unwrap().clone();
    let set_of_group = store.state().policy_set(elsewhere.group.as_ref()).unwrap();
    let own = store.state().policy_set_of(&elsewhere).unwrap();
    assert_ne!(own.digest(), set_of_group.digest());
    let nothing = Transaction::SetHostMeasurements {
        id: TPM_HOST,
        expected: ExpectedMeasurements::Any,
        text: None,
        note: None,
    };
    transact(&store, nothing).unwrap();
    let own = store.state().policy_set_of(&elsewhere).unwrap();
    assert_eq!(own.digest(), set_of_group.digest());
    transact(&store, measurements(&measurements_of_host())).unwrap();
    transact(&store, Transaction::RemoveHost { id: TPM_HOST }).unwrap();
    assert_eq!(store.state().all_host_measurements().count(), 0);
}

/// Two administrators, or one and the host that booted what was staged, do not undo each other's work.
#[test]
fn what_only_one_host_measures_is_changed_only_from_what_it_is() {
    let (_folder, _, _, store) = site();
    let set = |expected, text: Option<&str>| Transaction::SetHostMeasurements {
        id: TPM_HOST,
        expected,
        text: text.map(Arc::from),
        note: None,
    };
    let other = measurements_of_host().replace("4c4c4544", "00000000");
    let digest = |text: &str| {
        ExpectedMeasurements::Digest(Digest::from_bytes(hgs_crypto::hash::sha256(
            text.as_bytes(),
        )))
    };
    let of_first = digest(&measurements_of_host());
    let stale = Refusal::MeasurementsChanged("node-t".parse().unwrap());
    for expected in [ExpectedMeasurements::None, digest(&other)] {
        assert_eq!(
            refused(transact(&store, set(expected, Some(&other)))),
            stale
        );
        assert_eq!(refused(transact(&store, set(expected, None))), stale);
    }
    transact(&store, set(of_first, Some(&other))).unwrap();
    assert_eq!(refused(transact(&store, set(of_first, None))), stale);
    let state = store.state();
    assert_eq!(*state.host_measurements(&TPM_HOST).unwrap().text, *other);
    transact(&store, set(digest(&other), None)).unwrap();
    assert_eq!(refused(transact(&store, set(digest(&other), None))), stale);
    transact(&store, set(ExpectedMeasurements::None, Some(&other))).unwrap();
}

#[test]
fn groups_are_there_as_long_as_hosts_are_in_them() {
    let (_folder, _, _, store) = site();
    let group = |group: Option<&str>| Transaction::SetHostGroup {
        id: TPM_HOST,
        group: group.map(name),
    };
    let remove = || Transaction::RemoveHostGroup(name("racks"));
    let in_use = Refusal::HostGroupInUse {
        group: name("racks"),
        hosts: 1,
    };
    assert_eq!(refused(transact(&store, remove())), in_use);
    assert_eq!(
        refused(transact(&store, group(Some("nowhere")))),
        Refusal::NoSuchHostGroup(name("nowhere"))
    );
    transact(&store, group(None)).unwrap();
    assert_eq!(store.state().host(&TPM_HOST).unwrap().group, None);
    transact(&store, remove()).unwrap();
    assert_eq!(
        refused(transact(&store, remove())),
        Refusal::NoSuchHostGroup(name("racks"))
    );
    let default = name("default");
    assert_eq!(
        refused(transact(&store, Transaction::RemoveHostGroup(default))),
        Refusal::DefaultGroup
    );
    assert_eq!(
        refused(transact(&store, Transaction::NewHostGroup(default))),
        Refusal::HostGroupKnown(default)
    );
    let many: Vec<_> = (0..MAX_HOST_GROUPS)
        .map(|number| Transaction::NewHostGroup(name(&format!("group-{number}"))))
        .collect();
    assert_eq!(
        refused(store.transact(many, act(3))),
        Refusal::TooManyHostGroups
    );
}

fn evidence(octet: u8) -> RecordedEvidence {
    let mut values = PcrValues::new(Bank::Sha256);
    values.insert(0, &[octet; 32]).unwrap();
    values.insert(23, &[7; 32]).unwrap();
    RecordedEvidence {
        values,
        log: vec![octet; 5000],
        ima: vec![octet; 300],
        preimages: vec![Preimage {
            pcr: 9,
            event: 42,
            octets: b"quiet".to_vec(),
        }],
        // Evidence without any is kept as it always was.
        unexplained: match octet {
            1 => Vec::new(),
            _ => vec![UnexplainedEvent {
                pcr: 15,
                event: 43,
                digest: EventDigest([octet; 32]),
            }],
        },
    }
}

/// An attempt that a host made at this second.
fn attempted(second: i64, reason: Option<&str>, evidence: &RecordedEvidence) -> Attempted {
    let evidence = EvidenceToKeep::of(evidence).unwrap();
    Attempted {
        host: TPM_HOST,
        attempt: LastAttempt {
            time: time(second),
            outcome: match reason {
                Some(_) => Outcome::Refused,
                None => Outcome::Done,
            },
            reason: reason.map(str::to_owned),
            failed: Vec::new(),
            policies: Some(digest(5)),
            difference: None,
            evidence: Some(evidence.digest()),
        },
        evidence: Some(evidence),
    }
}

fn keep(store: &Store, attempted: Attempted) {
    let (sender, receiver) = channel();
    let reply = move |result: Result<(), Failure<Infallible>>| sender.send(result).unwrap();
    store.keep_attempt(attempted, reply).unwrap();
    receiver.recv().unwrap().unwrap();
}

fn attest(store: &Store, second: i64, evidence: &RecordedEvidence) {
    let attested = Attestation {
        host: TPM_HOST,
        returned_nonce: true,
        expires: Some(time(second + 28_800)),
        attempted: Some(Box::new(attempted(second, None, evidence))),
        ..attestation(1, HealthKind::Encryption)
    };
    let transaction = Transaction::RecordAttestation(attested);
    store.transact(vec![transaction], act(second)).unwrap();
}

#[test]
fn the_newest_evidence_of_a_host_is_kept_and_no_other() {
    let (_folder, directory, _, store) = site();
    assert_eq!(store.evidence(&TPM_HOST), Ok(None));
    attest(&store, 10, &evidence(1));
    let kept = |store: &Store| store.evidence(&TPM_HOST).unwrap().unwrap().evidence;
    assert_eq!(kept(&store), evidence(1));
    let host = store.state().host(&TPM_HOST).unwrap().clone();
    assert_eq!(host.last_attested, Some(time(10)));
    assert_eq!(host.certificate_expires, Some(time(10 + 28_800)));
    let log = |store: &Store| store.audit(&AuditFilter::default(), 99).unwrap().len();
    let records = log(&store);

    keep(
        &store,
        attempted(20, Some("PolicyEvaluation: 1"), &evidence(2)),
    );
    assert_eq!(kept(&store), evidence(2));
    // What goes as it went a moment before is not written again; a minute later it is.
    keep(
        &store,
        attempted(79, Some("PolicyEvaluation: 1"), &evidence(3)),
    );
    assert_eq!(kept(&store), evidence(2));
    keep(
        &store,
        attempted(80, Some("PolicyEvaluation: 1"), &evidence(3)),
    );
    assert_eq!(kept(&store), evidence(3));
    keep(
        &store,
        attempted(81, Some("PolicyEvaluation: 2"), &evidence(4)),
    );
    assert_eq!(kept(&store), evidence(4));
    assert_eq!(log(&store), records, "the audit log does not grow with it");
    let host = store.state().host(&TPM_HOST).unwrap().clone();
    // The certificate that it has is still there.
    assert_eq!(host.last_attested, Some(time(10)));
    assert_eq!(host.last_attempt.unwrap().outcome, Outcome::Refused);
    drop(store);

    let rows = |directory: &Path| -> (u32, u32) {
        let connection = Connection::open(directory.join("state.db")).unwrap();
        let sql = "SELECT count(*), max(length(evidence)) FROM host_evidence";
        let counted = connection.query_row(sql, (), |row| Ok((row.get(0)?, row.get(1)?)));
        counted.unwrap_or_default()
    };
    let (count, length) = rows(&directory);
    assert_eq!(count, 1);
    assert!(length < 500, "it is compressed: {length}");
    let store = open(&directory).unwrap();
    assert_eq!(kept(&store), evidence(4));
    attest(&store, 100, &evidence(4));
    assert_eq!(kept(&store), evidence(4));
    transact(&store, Transaction::RemoveHost { id: TPM_HOST }).unwrap();
    assert_eq!(store.evidence(&TPM_HOST), Ok(None));
    // A host that is gone leaves nothing.
    keep(&store, attempted(200, Some("x"), &evidence(5)));
    drop(store);
    assert_eq!(rows(&directory).0, 0);
}

#[test]
fn evidence_that_another_program_changed_is_found() {
    let (_folder, directory, _, store) = site();
    attest(&store, 10, &evidence(1));
    drop(store);
    for (sql, finding) in [
        (
            "UPDATE host_evidence SET evidence = substr(evidence, 1, 40)",
            Finding::Changed,
        ),
        (
            "UPDATE host_evidence SET evidence = zeroblob(0)",
            Finding::Changed,
        ),
        ("DELETE FROM host_evidence", Finding::Missing),
    ] {
        let connection = Connection::open(directory.join("state.db")).unwrap();
        assert_eq!(connection.execute(sql, ()).unwrap(), 1);
        drop(connection);
        let store = open(&directory).unwrap();
        let expected = Tampered::new("host-evidence", TPM_HOST, finding);
        assert_eq!(store.evidence(&TPM_HOST), Err(expected.into()), "{sql}");
        // It mends itself with the next attestation.
        attest(&store, 2000, &evidence(9));
        let kept = store.evidence(&TPM_HOST).unwrap().unwrap();
        assert_eq!(kept.evidence, evidence(9));
        attest(&store, 4000, &evidence(1));
    }
}

/// What was predicted does not expire any more once a healthy host has booted it, in the fleet's document and in the host's own.
#[test]
fn what_a_host_boots_first_is_promoted() {
    let (_folder, _, _, store) = site();
    let mut staged = Baseline::from_json(baseline("first").as_bytes()).unwrap();
    let next = Baseline::from_json(baseline("next").as_bytes()).unwrap();
    let mut next = next.components[0].alternatives[0].clone();
    next.state = policy::State::Staged {
        expires: time(1000),
    };
    let mut own = HostMeasurements::from_json(measurements_of_host().as_bytes()).unwrap();
    let third = Baseline::from_json(baseline("own").as_bytes()).unwrap();
    let mut third = third.components[0].alternatives[0].clone();
    third.state = next.state.clone();
    own.components = vec![HostComponent {
        name: "boot".to_owned(),
        alternatives: vec![third],
    }];
    staged.components[0].alternatives.push(next);
    let change = Transaction::ChangePolicyDocument {
        name: name("first-boot"),
        expected: None,
        text: staged.to_json().into(),
        note: Some(serde_json::json!({"predicted": "next"})),
    };
    let measurements = Transaction::SetHostMeasurements {
        id: TPM_HOST,
        expected: ExpectedMeasurements::Any,
        text: Some(own.to_json().into()),
        note: None,
    };
    store.transact(vec![change, measurements], act(2)).unwrap();
    let used = |alternative: &str, of_host| UsedAlternative {
        document: "first-boot".to_owned(),
        component: "boot".to_owned(),
        alternative: alternative.to_owned(),
        staged: true,
        of_host,
    };
    let promote = |used| Transaction::PromoteAlternatives { id: TPM_HOST, used };
    transact(
        &store,
        promote(vec![
            used("next", false),
            used("gone", false),
            used("own", true),
        ]),
    )
    .unwrap();
    let state = store.state();
    let text = &state.policy_document(&name("first-boot")).unwrap().text;
    let baseline = Baseline::from_json(text.as_bytes()).unwrap();
    let promoted = policy::State::Promoted {
        at: Some(time(2)),
        by: Some("node-t".to_owned()),
    };
    assert_eq!(baseline.components[0].alternatives[1].state, promoted);
    let text = &state.host_measurements(&TPM_HOST).unwrap().text;
    let own = HostMeasurements::from_json(text.as_bytes()).unwrap();
    assert_eq!(own.components[0].alternatives[0].state, promoted);
    let records = store.audit(&AuditFilter::default(), 1).unwrap();
    assert_eq!(records[0].entry.action, Action::PromoteAlternatives);
    let after = records[0].entry.after.clone().unwrap();
    assert_eq!(after["promoted"].as_array().unwrap().len(), 2);
    // The next time there is nothing left to do.
    transact(&store, promote(vec![used("next", false)])).unwrap();
    let records = store.audit(&AuditFilter::default(), 1).unwrap();
    assert!(records[0].changes.is_empty());
}

/// A baseline that leaves the initrd to each host, in PCR 9.
fn baseline_with_initrd() -> Baseline {
    let mut baseline = Baseline::from_json(baseline("first").as_bytes()).unwrap();
    baseline.lanes.push(policy::LaneSlots {
        pcr: 9,
        slots: vec![policy::Slot {
            component: "initrd".to_owned(),
            name: "file".to_owned(),
            times: policy::Times::Optional,
            command_line: false,
        }],
    });
    baseline.components.push(policy::Component {
        name: "initrd".to_owned(),
        kind: policy::ComponentKind::Host,
        alternatives: Vec::new(),
    });
    baseline
}

fn claim_of(component: &str, slot: &str, octet: u8) -> Transaction {
    let mut claim = HostMeasurements::default();
    claim.add(
        component,
        policy::Alternative {
            name: "next".to_owned(),
            source: policy::Source {
                kind: policy::SourceKind::Log,
                of: "the host".to_owned(),
            },
            state: policy::State::promoted(),
            events: vec![policy::SlotEvents {
                slot: slot.to_owned(),
                events: vec![policy::ExpectedEvent::Digest {
                    digest: EventDigest([octet; 32]),
                    what: Some("/boot/initrd".to_owned()),
                }],
            }],
        },
    );
    Transaction::AcceptNextBoot {
        id: TPM_HOST,
        claim: Box::new(policy::NextBootClaim::read(claim.to_json().as_bytes()).unwrap()),
    }
}

#[test]
fn what_a_host_will_boot_next_is_staged_where_the_setting_says_so_with_the_difference_on_record() {
    let (_folder, _, _, store) = site();
    transact(
        &store,
        Transaction::AddPolicyDocument {
            name: name("with-initrd"),
            kind: DocumentKind::Baseline,
            text: baseline_with_initrd().to_json().into(),
            group: None,
        },
    )
    .unwrap();
    let before = store.state().host_measurements(&TPM_HOST).cloned();
    let refusal = refused(transact(&store, claim_of("initrd", "file", 7)));
    assert_eq!(refusal, Refusal::NextBootClaimsRefused);
    let after = store.state().host_measurements(&TPM_HOST).cloned();
    assert_eq!(before, after);
    transact(&store, Transaction::SetNextBootClaims { accept: true }).unwrap();

    // It may not say what is the same on all hosts.
    let refusal = refused(transact(&store, claim_of("boot", "image", 7)));
    assert!(matches!(refusal, Refusal::NextBoot { .. }), "{refusal}");
    transact(&store, claim_of("initrd", "file", 7)).unwrap();
    let state = store.state();
    let text = &state.host_measurements(&TPM_HOST).unwrap().text;
    let own = HostMeasurements::from_json(text.as_bytes()).unwrap();
    assert!(own.alternatives_of("initrd")[0].state.is_staged());
    let records = store.audit(&AuditFilter::default(), 1).unwrap();
    let entry = &records[0].entry;
    assert_eq!(entry.action, Action::AcceptNextBoot);
    assert_eq!(entry.host, Some(TPM_HOST.to_string()));
    let added = &entry.after.as_ref().unwrap()["note"]["added"][0];
    assert_eq!(added["component"], "initrd");
    let event = &added["events"][0]["event"];
    assert_eq!(event["digest"], "07".repeat(32));
    assert_eq!(added["further_events"], 0);

    // Once is enough, and nothing of it is recorded with an attestation that is refused.
    transact(&store, claim_of("initrd", "file", 7)).unwrap();
    let records = store.audit(&AuditFilter::default(), 1).unwrap();
    assert!(records[0].changes.is_empty());
    let revoke = Transaction::RevokeHost {
        id: TPM_HOST,
        reason: "stolen".to_owned(),
    };
    transact(&store, revoke).unwrap();
    let before = store.state().host_measurements(&TPM_HOST).cloned();
    transact(&store, claim_of("initrd", "file", 8)).unwrap_err();
    let after = store.state().host_measurements(&TPM_HOST).cloned();
    assert_eq!(before, after);
}
