//! What was not predicted: refusals in groups, and one approval for all hosts that have the same difference.

use hgs_attest::policy::{
    Approval, ApprovalError, Baseline, Cause, ComponentKind, Evaluation, HostMeasurements, State,
    approve, proposed_parameters,
};
use hgs_crypto::hash::sha256;
use hgs_tcg::event_log::Action;

use crate::common::{Boot, Event, NOW, baseline_of, compiled, differences, judged, try_compile};
use crate::compiling::digest;

const ON: &str = "secure-boot-on";

/// A host of a fleet: its own file system, initrd, partition table and boot entries.
struct Host {
    boot: Boot,
    record: HostMeasurements,
}

fn boot_of(number: usize) -> Boot {
    let mut boot = Boot::recorded(ON);
    let root = format!("{number:08}-root");
    *boot.event(40) = Event::command(&format!("linux /vmlinuz root=UUID={root} quiet"));
    *boot.event(44) = Event::command_line(&format!("/vmlinuz root=UUID={root} quiet"));
    for event in [10, 11, 23, 46] {
        boot.event(event).digest = sha256(format!("event {event} of host {number}").as_bytes());
    }
    boot
}

fn fleet(count: usize) -> (Baseline, Vec<Host>) {
    let split = |number| {
        let boot = boot_of(number);
        let evidence = boot.proved();
        let parameters = proposed_parameters(&evidence);
        let whole = Baseline::of_evidence(&evidence, "a host", &parameters).unwrap();
        let (baseline, record) = whole.without_host_alternatives(&parameters);
        (baseline, Host { boot, record })
    };
    let (baselines, hosts): (Vec<_>, Vec<_>) = (0..count).map(split).unzip();
    // What the fleet shares is the same, whichever host it is made from.
    assert!(
        baselines
            .windows(2)
            .all(|pair| pair[0].components == pair[1].components)
    );
    (baselines.into_iter().next().unwrap(), hosts)
}

fn judge(baseline: &Baseline, host: &Host) -> Evaluation {
    let set = compiled(&[("fleet", baseline)])
        .for_host(&host.record)
        .unwrap();
    set.evaluate(&host.boot.proved(), NOW)
}

fn approved(baseline: &Baseline, host: &Host, evaluation: &Evaluation) -> Approval {
    approve(
        ("fleet", baseline),
        &host.record,
        evaluation,
        "approved today",
        "an administrator",
        NOW,
    )
    .unwrap()
}

#[test]
fn a_change_of_the_whole_fleet_is_one_group_and_is_approved_once() {
    let (mut baseline, mut hosts) = fleet(8);
    for host in &hosts {
        let evaluation = judge(&baseline, host);
        assert!(evaluation.is_healthy(), "{evaluation}");
        assert_eq!(evaluation.group(), None);
    }
    // A new loader and new arguments for the kernel, which were not predicted.
    for (number, host) in hosts.iter_mut().enumerate() {
        host.boot.event(30).digest = digest("loader-2").0;
        let root = format!("{number:08}-root");
        *host.boot.event(40) =
            Event::command(&format!("linux /vmlinuz root=UUID={root} quiet audit=1"));
        *host.boot.event(44) =
            Event::command_line(&format!("/vmlinuz root=UUID={root} quiet audit=1"));
    }
    let groups: Vec<_> = hosts
        .iter()
        .map(|host| *judge(&baseline, host).group().unwrap())
        .collect();
    assert!(
        groups.windows(2).all(|pair| pair[0] == pair[1]),
        "the root file system is no difference"
    );
    let approval = approved(&baseline, &hosts[0], &judge(&baseline, &hosts[0]));
    assert_eq!(approval.components, ["loader", "kernel"].map(str::to_owned));
    assert_eq!(approval.host, None);
    baseline = approval.baseline.unwrap();
    for host in &hosts {
        let evaluation = judge(&baseline, host);
        assert!(evaluation.is_healthy(), "{evaluation}");
    }
}

#[test]
fn one_host_with_a_change_of_its_own_is_another_group() {
    let (baseline, mut hosts) = fleet(3);
    for host in &mut hosts {
        host.boot.event(30).digest = digest("loader-2").0;
    }
    hosts[1].boot.event(42).digest = digest("a kernel of its own").0;
    let groups: Vec<_> = hosts
        .iter()
        .map(|host| *judge(&baseline, host).group().unwrap())
        .collect();
    assert_eq!(groups[0], groups[2]);
    assert_ne!(groups[0], groups[1]);
}

#[test]
fn what_is_the_host_s_own_is_one_group_and_goes_into_each_record() {
    let (baseline, mut hosts) = fleet(4);
    // Each host made a new initrd.
    for (number, host) in hosts.iter_mut().enumerate() {
        host.boot.event(46).digest = digest(&format!("initrd 2 of {number}")).0;
    }
    let evaluations: Vec<_> = hosts.iter().map(|host| judge(&baseline, host)).collect();
    let [difference] = evaluations[0].differences() else {
        panic!("{:#?}", differences(&evaluations[0]))
    };
    assert_eq!((difference.pcr, difference.event), (9, Some(46)));
    let groups: Vec<_> = evaluations
        .iter()
        .map(|one| *one.group().unwrap())
        .collect();
    assert!(groups.windows(2).all(|pair| pair[0] == pair[1]));
    for (host, evaluation) in hosts.iter_mut().zip(&evaluations) {
        let approval = approved(&baseline, host, evaluation);
        assert_eq!(approval.baseline, None);
        host.record = approval.host.unwrap();
        assert!(judge(&baseline, host).is_healthy());
    }
    // One host's initrd is not accepted from another.
    hosts[0].boot.event(46).digest = digest("initrd 2 of 1").0;
    assert!(!judge(&baseline, &hosts[0]).is_healthy());
}

#[test]
fn an_event_without_a_component_gets_one_of_its_own() {
    let reference = Boot::recorded(ON);
    let baseline = baseline_of(&reference.proved());
    for (place, pcr) in [(2, 0), (30, 4), (49, 4), (10, 7), (49, 12)] {
        let mut boot = reference.clone();
        boot.events.insert(place, Event::of(pcr, b"something new"));
        let evaluation = judged(&boot, &baseline);
        assert!(!evaluation.is_healthy());
        let host = HostMeasurements::default();
        let approval = approve(
            ("reference", &baseline),
            &host,
            &evaluation,
            "approved",
            "somebody",
            NOW,
        )
        .unwrap();
        let with = approval.baseline.unwrap();
        assert_eq!(approval.host, None);
        let after = judged(&boot, &with);
        assert!(after.is_healthy(), "PCR {pcr}: {:#?}", differences(&after));
        assert!(
            judged(&reference, &with).is_healthy(),
            "PCR {pcr}: without it, as before"
        );
        let mut twice = boot.clone();
        twice.events.insert(place, Event::of(pcr, b"something new"));
        assert!(
            !judged(&twice, &with).is_healthy(),
            "PCR {pcr}: once, and no more"
        );
    }
}

#[test]
fn what_is_never_an_alternative_is_not_approved() {
    let reference = Boot::recorded(ON);
    let baseline = baseline_of(&reference.proved());
    let host = HostMeasurements::default();
    let refuse = |boot: &Boot| {
        let evaluation = judged(boot, &baseline);
        approve(("reference", &baseline), &host, &evaluation, "x", "y", NOW).unwrap_err()
    };
    assert_eq!(refuse(&reference), ApprovalError::NoDifference);
    let mut failed = reference.clone();
    failed.events[20] = Event::of(6, &[0xff; 4]);
    assert!(matches!(refuse(&failed), ApprovalError::NotApprovable(_)));
    let mut other_text = reference.clone();
    *other_text.event(48) = Event::of(5, Action::ExitBootServicesFailed.text().as_bytes());
    let error = refuse(&other_text);
    assert_eq!(
        error,
        ApprovalError::Constant {
            component: "exit-boot-services".to_owned()
        }
    );
    let mut changed = reference.clone();
    changed.event(30).digest = digest("other").0;
    let evaluation = judged(&changed, &baseline);
    let error = approve(("another", &baseline), &host, &evaluation, "x", "y", NOW);
    assert_eq!(
        error,
        Err(ApprovalError::OtherBaseline("reference".to_owned()))
    );
}

#[test]
fn a_retired_alternative_that_is_approved_again_is_promoted() {
    let reference = Boot::recorded(ON);
    let mut baseline = baseline_of(&reference.proved());
    let mut other = reference.clone();
    other.event(30).digest = digest("other").0;
    let host = HostMeasurements::default();
    let evaluation = judged(&other, &baseline);
    let approval = approve(
        ("reference", &baseline),
        &host,
        &evaluation,
        "new loader",
        "x",
        NOW,
    )
    .unwrap();
    baseline = approval.baseline.unwrap();
    assert!(baseline.retire("loader", "new loader", NOW));
    let evaluation = judged(&other, &baseline);
    assert!(matches!(
        evaluation.differences()[0].cause,
        Cause::Retired { .. }
    ));
    let approval = approve(
        ("reference", &baseline),
        &host,
        &evaluation,
        "again",
        "x",
        NOW,
    )
    .unwrap();
    let baseline = approval.baseline.unwrap();
    let loaders = &baseline.component("loader").unwrap().alternatives;
    assert_eq!(loaders.len(), 2);
    assert!(matches!(loaders[1].state, State::Promoted { .. }));
    assert!(judged(&other, &baseline).is_healthy());
}

#[test]
fn an_approval_is_compiled_like_any_other_document() {
    let reference = Boot::recorded(ON);
    let mut baseline = baseline_of(&reference.proved());
    // Only four of the five variables: the beginning of what is approved.
    let mut boot = reference.clone();
    boot.events.remove(7);
    let evaluation = judged(&boot, &baseline);
    let host = HostMeasurements::default();
    let approval = approve(("reference", &baseline), &host, &evaluation, "x", "y", NOW).unwrap();
    baseline = approval.baseline.unwrap();
    let refused = try_compile(&[("reference", &baseline)]).unwrap_err();
    assert!(
        refused.to_string().contains("is the beginning of"),
        "{refused}"
    );
    assert_eq!(
        baseline.component("secure-boot").unwrap().kind,
        ComponentKind::Shared
    );
}
