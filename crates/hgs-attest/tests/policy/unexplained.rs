//! Events of user space of which only the digest is known.

use hgs_attest::policy::{
    Baseline, ComponentKind, EventDigest, HostMeasurements, Parameters, Preimage, UnexplainedEvent,
    approve,
};
use hgs_crypto::hash::sha256;

use crate::common::{Boot, NOW, baseline_of, compiled};

fn change_kind(baseline: &mut Baseline, kind: ComponentKind) {
    let mut all = baseline.components.iter_mut();
    let component = all.find(|one| one.name == "system-identity").unwrap();
    component.kind = kind;
    if kind == ComponentKind::Any {
        component.alternatives.clear();
    }
}

/// systemd measures the key of a volume by its HMAC: nobody can say what that is the digest of.
#[test]
fn trap_9_what_has_no_text_is_the_hosts_own_or_nothing() {
    let boot = Boot::recorded("secure-boot-on");
    let reference = baseline_of(&boot.proved());
    let identity = b"machine-id:0123456789abcdef0123456789abcdef";
    let digests = [sha256(identity), [0x5a; 32]];
    let mut evidence = boot.evidence();
    let value = digests
        .iter()
        .fold([0; 32], |value, digest| sha256(&[value, *digest].concat()));
    evidence.values.insert(15, &value).unwrap();
    evidence.preimages.push(Preimage {
        pcr: 15,
        event: 50,
        octets: identity.to_vec(),
    });
    assert!(evidence.prove().is_err());
    let unexplained = |pcr, event| UnexplainedEvent {
        pcr,
        event,
        digest: EventDigest([0x5a; 32]),
    };
    // In another order, or of another place, it does not give the value.
    for wrong in [unexplained(15, 49), unexplained(14, 51), unexplained(15, 3)] {
        evidence.unexplained = vec![wrong];
        assert!(evidence.prove().is_err(), "{wrong:?}");
    }
    evidence.unexplained = vec![unexplained(15, 51)];
    let proved = evidence.prove().unwrap();
    let refused = compiled(&[("reference", &reference)]).evaluate(&proved, NOW);
    let [difference] = refused.differences() else {
        panic!("{refused}")
    };
    let found = &difference.found[1];
    assert_eq!((found.number, found.unexplained), (51, true));
    assert_eq!(
        found.what.as_deref(),
        Some("measured by user space, unexplained")
    );
    assert_eq!(found.text, None);

    // Approved as what it is: the host's own. Its baseline alone does not accept it from other hosts.
    let own = HostMeasurements::default();
    let named = ("reference", &reference);
    let approval = approve(named, &own, &refused, "key", "root", NOW).unwrap();
    let (approved, own) = (approval.baseline.unwrap(), approval.host.unwrap());
    let set = compiled(&[("reference", &approved)]);
    assert!(!set.evaluate(&proved, NOW).is_healthy());
    assert!(
        set.for_host(&own)
            .unwrap()
            .evaluate(&proved, NOW)
            .is_healthy()
    );
    // A baseline from this boot has it as the host's own, too.
    let (shared, own) = baseline_of(&proved).without_host_alternatives(&Parameters::new());
    let set = compiled(&[("reference", &shared)]);
    assert!(!set.evaluate(&proved, NOW).is_healthy());
    assert!(
        set.for_host(&own)
            .unwrap()
            .evaluate(&proved, NOW)
            .is_healthy()
    );

    // What hosts share does not match it, though the digest is the same; what takes anything in PCR 15 does.
    let of_kind = |kind| {
        let mut baseline = baseline_of(&proved);
        change_kind(&mut baseline, kind);
        compiled(&[("reference", &baseline)]).evaluate(&proved, NOW)
    };
    for kind in [
        ComponentKind::Constant,
        ComponentKind::Shared,
        ComponentKind::Parametrised,
    ] {
        let refused = of_kind(kind);
        assert!(!refused.is_healthy(), "{kind:?}");
        let mut baseline = baseline_of(&proved);
        change_kind(&mut baseline, kind);
        let error = approve(
            ("reference", &baseline),
            &HostMeasurements::default(),
            &refused,
            "key",
            "root",
            NOW,
        );
        assert!(error.is_err(), "{kind:?}");
    }
    assert!(of_kind(ComponentKind::Host).is_healthy());
    assert!(of_kind(ComponentKind::Any).is_healthy());

    // What has a text may be shared beside what has none.
    let mut baseline = baseline_of(&proved);
    let mut own = baseline.components.iter_mut();
    let own = own.find(|one| one.name == "system-identity").unwrap();
    let mut shared = own.clone();
    shared.name = "machine".to_owned();
    shared.kind = ComponentKind::Shared;
    shared.alternatives[0].events[0].events.truncate(1);
    own.alternatives[0].events[0].events.remove(0);
    baseline.components.push(shared);
    let mut lanes = baseline.lanes.iter_mut();
    let slots = &mut lanes.find(|lane| lane.pcr == 15).unwrap().slots;
    slots.insert(0, slots[0].clone());
    slots[0].component = "machine".to_owned();
    let evaluation = compiled(&[("reference", &baseline)]).evaluate(&proved, NOW);
    assert!(evaluation.is_healthy(), "{evaluation}");

    // Words of the boot phases are known by their text only.
    let mut phases = boot.evidence();
    let ready = sha256(b"ready");
    phases
        .values
        .insert(11, &sha256(&[[0; 32], sha256(b"sysinit")].concat()))
        .unwrap();
    let set = compiled(&[("reference", &reference)]);
    assert!(set.evaluate(&phases.prove().unwrap(), NOW).is_healthy());
    let value = sha256(&[sha256(&[[0; 32], [0x5a; 32]].concat()), ready].concat());
    phases.values.insert(11, &value).unwrap();
    phases.unexplained = vec![unexplained(11, 50)];
    phases.preimages = vec![Preimage {
        pcr: 11,
        event: 51,
        octets: b"ready".to_vec(),
    }];
    let proved = phases.prove().unwrap();
    assert!(!set.evaluate(&proved, NOW).is_healthy());
    let baseline = baseline_of(&proved);
    let component = baseline.component("unexplained").unwrap();
    assert_eq!(component.kind, ComponentKind::Host);
    // A phase of the boot, which the host has got to or not, is no event of a baseline; everything else is one.
    for (text, is_phase) in [("sysinit", true), ("system", false)] {
        let mut said = boot.evidence();
        let value = sha256(&[[0; 32], sha256(text.as_bytes())].concat());
        said.values.insert(11, &value).unwrap();
        said.preimages = vec![Preimage {
            pcr: 11,
            event: 50,
            octets: text.into(),
        }];
        let evaluation = set.evaluate(&said.prove().unwrap(), NOW);
        assert_eq!(evaluation.is_healthy(), is_phase, "{text}: {evaluation}");
    }
    // A PCR of the firmware has all its events in the log.
    let mut of_firmware = boot.evidence();
    let value = of_firmware.values.value(4).unwrap();
    let extended = sha256(&[value.as_bytes(), &[0x5a; 32]].concat());
    of_firmware.values.insert(4, &extended).unwrap();
    of_firmware.unexplained = vec![unexplained(4, 50)];
    assert!(of_firmware.prove().is_err());
}
