//! Two real boots against the baselines that are made of them.

use hgs_attest::AttestationSubstatus;
use hgs_attest::policy::{
    Baseline, Cause, Documents, EvidenceError, PolicyName, PolicySelection, PolicySet,
    RecordedEvidence,
};
use hgs_tcg::event_log::{Bank, PcrValues};

use crate::common::{Boot, NOW, baseline_of, compiled, differences, recorded};

const BOOTS: [&str; 2] = ["secure-boot-on", "secure-boot-off"];

#[test]
fn each_boot_matches_its_own_baseline_and_not_the_other() {
    let evidence = BOOTS.map(|name| recorded(name).prove().unwrap());
    let baselines = [baseline_of(&evidence[0]), baseline_of(&evidence[1])];
    for own in 0..2 {
        for (place, baseline) in baselines.iter().enumerate() {
            let evaluation = compiled(&[("reference", baseline)]).evaluate(&evidence[own], NOW);
            assert_eq!(
                evaluation.is_healthy(),
                place == own,
                "{:#?}",
                differences(&evaluation)
            );
            assert_eq!(evaluation.baseline(), (place == own).then_some("reference"));
        }
        // Both at once: the right one is found.
        let both = compiled(&[("off", &baselines[1]), ("on", &baselines[0])]);
        let evaluation = both.evaluate(&evidence[own], NOW);
        assert_eq!(evaluation.baseline(), Some(["on", "off"][own]));
        assert!(evaluation.is_healthy());
    }
}

#[test]
fn a_baseline_has_the_components_of_the_boot() {
    let evidence = recorded("secure-boot-on").prove().unwrap();
    let baseline = baseline_of(&evidence);
    let slots = |pcr: u8| -> Vec<String> {
        let slots = baseline.slots().filter(|(of, _)| *of == pcr);
        slots
            .map(|(_, slot)| format!("{}/{}", slot.component, slot.name))
            .collect()
    };
    assert_eq!(slots(0), ["firmware/code", "separators/pcr0"]);
    assert_eq!(slots(1), ["boot-entries/variables", "separators/pcr1"]);
    assert_eq!(
        slots(4),
        [
            "boot-attempts/texts",
            "separators/pcr4",
            "shim/image",
            "loader/image",
            "kernel/image"
        ]
    );
    assert_eq!(
        slots(5),
        [
            "separators/pcr5",
            "partition-table/table",
            "exit-boot-services/texts"
        ]
    );
    assert_eq!(
        slots(7),
        [
            "secure-boot/variables",
            "separators/pcr7",
            "image-authority/entries",
            "shim/sbat-level",
            "shim/authority"
        ]
    );
    assert_eq!(
        slots(8),
        [
            "loader-script/commands",
            "kernel/load-command",
            "kernel/command-line",
            "kernel/initrd-command",
            "loader-script/commands-2"
        ]
    );
    assert_eq!(
        slots(9),
        ["loader-script/files", "kernel/file", "initrd/file"]
    );
    assert_eq!(slots(14), ["shim/mok-lists"]);
    assert_eq!(slots(10), [] as [&str; 0]);
    let text = baseline.to_json();
    assert_eq!(Baseline::from_json(text.as_bytes()).unwrap(), baseline);
}

#[test]
fn the_policies_that_are_on_by_default() {
    let on = recorded("secure-boot-on").prove().unwrap();
    let off = recorded("secure-boot-off").prove().unwrap();
    let judged = |evidence| {
        let documents = Documents {
            baselines: [("reference".to_owned(), baseline_of(evidence))].into(),
            ..Documents::default()
        };
        let set = PolicySet::compile(&PolicySelection::default(), &documents).unwrap();
        set.evaluate(evidence, NOW)
    };
    assert!(judged(&on).is_healthy());
    let refused = judged(&off);
    assert!(!refused.is_healthy());
    assert_eq!(
        refused.substatus(),
        [AttestationSubstatus::SecureBoot].into()
    );
    let failed: Vec<_> = refused.failed().map(|result| result.policy).collect();
    assert_eq!(failed, [PolicyName::SecureBootEnabled]);
    let log = refused.log();
    assert_eq!(
        log.iter().map(|one| one.result).collect::<Vec<_>>(),
        [false, true, true]
    );
    assert_eq!(log[0].reason, PolicyName::SecureBootEnabled.guid().octets());
}

#[test]
fn a_set_without_anything_to_match_refuses() {
    let evidence = recorded("secure-boot-on").prove().unwrap();
    let evaluation = PolicySet::default().evaluate(&evidence, NOW);
    assert!(!evaluation.is_healthy());
    assert!(
        evaluation
            .substatus()
            .contains(&AttestationSubstatus::SecureBootSettings)
    );
    assert_eq!(evaluation.differences(), []);
}

#[test]
fn a_boot_that_is_written_again_is_the_same_boot() {
    for name in BOOTS {
        let evidence = recorded(name).prove().unwrap();
        let again = Boot::recorded(name).proved();
        let evaluation = compiled(&[("reference", &baseline_of(&evidence))]).evaluate(&again, NOW);
        assert!(evaluation.is_healthy(), "{:#?}", differences(&evaluation));
    }
}

#[test]
fn evidence_is_replayed_against_what_was_proved() {
    let evidence = recorded("secure-boot-on");
    let without = |change: &dyn Fn(&mut RecordedEvidence)| {
        let mut changed = evidence.clone();
        change(&mut changed);
        changed.prove().map(|_| ())
    };
    assert_eq!(without(&|_| {}), Ok(()));
    assert_eq!(
        without(&|evidence| evidence.log.clear()),
        Err(EvidenceError::NoLog)
    );
    let other = recorded("secure-boot-off");
    let replaced = without(&|evidence| evidence.log = other.log.clone());
    assert!(matches!(replaced, Err(EvidenceError::Replay(_))));
    let replaced = without(&|evidence| evidence.ima = other.ima.clone());
    assert!(matches!(replaced, Err(EvidenceError::ImaReplay(_))));
    let sha1 = without(&|evidence| evidence.values = PcrValues::new(Bank::Sha1));
    assert_eq!(sha1, Err(EvidenceError::Bank(Bank::Sha1)));
    // Without an IMA log there is evidence; a code integrity policy would refuse it.
    assert_eq!(without(&|evidence| evidence.ima.clear()), Ok(()));
}

#[test]
fn a_pcr_without_a_proved_value_is_a_difference() {
    let evidence = recorded("secure-boot-on");
    let baseline = baseline_of(&evidence.prove().unwrap());
    let mut fewer = PcrValues::new(Bank::Sha256);
    // PCR 14 has slots in the baseline; PCR 13 has none, and might hold anything.
    for (pcr, value) in evidence
        .values
        .iter()
        .filter(|(pcr, _)| !matches!(pcr, 13 | 14))
    {
        fewer.insert(pcr, value.as_bytes()).unwrap();
    }
    let fewer = RecordedEvidence {
        values: fewer,
        ..evidence
    };
    let evaluation = compiled(&[("reference", &baseline)]).evaluate(&fewer.prove().unwrap(), NOW);
    assert!(!evaluation.is_healthy());
    let causes: Vec<_> = evaluation
        .differences()
        .iter()
        .map(|one| (one.pcr, &one.cause))
        .collect();
    assert_eq!(causes, [(13, &Cause::NotProved), (14, &Cause::NotProved)]);
}

#[test]
fn trap_11_a_tpm_whose_boot_loader_kept_no_log_has_a_verdict_of_its_own() {
    // Secure Boot off and a plain `linux`: the PCRs are filled, and there is no log.
    let mut evidence = recorded("secure-boot-off");
    evidence.log.clear();
    evidence.ima.clear();
    let set = compiled(&[(
        "reference",
        &baseline_of(&recorded("secure-boot-off").prove().unwrap()),
    )]);
    assert_eq!(
        set.evaluate_recorded(&evidence, NOW),
        Err(EvidenceError::NoLog)
    );
}
