//! One pass over each PCR: alternatives, agreement among PCRs, kinds of components; and the traps of patch days.

use std::time::Instant;

use hgs_attest::policy::{
    Baseline, BaselineError, Cause, ComponentKind, Encoding, Evaluation, EventDigest,
    ExpectedEvent, FinalValue, HostMeasurements, Parameters, PolicySetError, Preimage, State,
    Times, approve, proposed_parameters,
};
use hgs_crypto::hash::sha256;
use hgs_pki::{Seconds, Time};
use hgs_tcg::event_log::{Action, EventType};
use proptest::prelude::*;

use crate::common::{Boot, Event, NOW, baseline_of, compiled, differences, judged, try_compile};
use crate::compiling::{alternative, component, digest, lanes, small, source};

const ON: &str = "secure-boot-on";

fn reference() -> (Boot, Baseline) {
    let boot = Boot::recorded(ON);
    let baseline = baseline_of(&boot.proved());
    (boot, baseline)
}

/// A boot of one PCR's words after another.
fn boot_of(words: &[(u8, &str)]) -> Boot {
    let events = words.iter().flat_map(|(pcr, words)| {
        words
            .split_whitespace()
            .map(|word| Event::new(*pcr, digest(word).0))
    });
    Boot {
        events: events.collect(),
        ima: Vec::new(),
    }
}

fn causes_of(evaluation: &Evaluation) -> Vec<Cause> {
    let differences = evaluation.differences().iter();
    differences.map(|one| one.cause.clone()).collect()
}

#[test]
fn an_event_that_no_component_owns_is_refused_with_its_number() {
    let (mut boot, baseline) = reference();
    // Another application between GRUB (30) and the kernel (42).
    boot.events
        .insert(30, Event::of(4, b"a tool of somebody's"));
    let evaluation = judged(&boot, &baseline);
    assert!(!evaluation.is_healthy());
    let [difference] = evaluation.differences() else {
        panic!("{:#?}", differences(&evaluation));
    };
    assert_eq!((difference.pcr, difference.event), (4, Some(31)));
    assert!(
        matches!(&difference.cause, Cause::NotOwned { before: Some(before) } if before.component == "kernel")
    );
    assert_eq!(
        difference.found[0].digest,
        EventDigest(sha256(b"a tool of somebody's"))
    );
    assert!(
        evaluation.to_string().contains("Hgs_SecureBootSettings"),
        "{evaluation}"
    );
    assert!(
        evaluation.to_string().contains("PCR 4, event 31"),
        "{evaluation}"
    );
    assert_eq!(evaluation.nearest_baseline(), Some("reference"));
}

#[test]
fn every_event_that_is_changed_removed_doubled_or_moved_is_noticed() {
    let (boot, baseline) = reference();
    let set = compiled(&[("reference", &baseline)]);
    for number in 0..boot.events.len() {
        let pcr = boot.events[number].pcr;
        let check = |changed: &Boot, what: &str| {
            let evaluation = set.evaluate(&changed.proved(), NOW);
            let told: Vec<_> = evaluation.differences().iter().map(|one| one.pcr).collect();
            assert!(!evaluation.is_healthy(), "{what} {number}");
            assert!(
                told.contains(&pcr),
                "{what} {number}: {:#?}",
                differences(&evaluation)
            );
        };
        let mut changed = boot.clone();
        changed.events[number].digest[5] ^= 1;
        check(&changed, "changed");
        let mut removed = boot.clone();
        removed.events.remove(number);
        check(&removed, "removed");
        let mut doubled = boot.clone();
        doubled.events.insert(number, boot.events[number].clone());
        check(&doubled, "doubled");
        let next = boot.events[number + 1..]
            .iter()
            .position(|event| event.pcr == pcr);
        if let Some(next) = next.map(|next| number + 1 + next)
            && boot.events[next].digest != boot.events[number].digest
        {
            let mut moved = boot.clone();
            moved.events.swap(number, next);
            check(&moved, "moved");
        }
    }
}

#[test]
fn a_changed_event_is_told_with_what_was_expected() {
    let (mut boot, baseline) = reference();
    let before = EventDigest(boot.event(8).digest);
    boot.event(8).digest = sha256(b"another dbx");
    let evaluation = judged(&boot, &baseline);
    let [difference] = evaluation.differences() else {
        panic!("{:#?}", differences(&evaluation));
    };
    assert_eq!((difference.pcr, difference.event), (7, Some(8)));
    assert_eq!(
        difference.slot.as_ref().unwrap().to_string(),
        "secure-boot (variables)"
    );
    assert_eq!(difference.expected.len(), 1);
    assert_eq!(difference.expected[0].digest, before);
    assert_eq!(difference.expected[0].what.as_deref(), Some("variable dbx"));
    assert_eq!(difference.cause, Cause::NotApproved);
    // All five variables are what the slot has now.
    assert_eq!(difference.found.len(), 5);
}

#[test]
fn a9_types_data_and_the_order_among_pcrs_decide_nothing() {
    let (mut boot, baseline) = reference();
    let set = compiled(&[("reference", &baseline)]);
    for event in &mut boot.events {
        event.event_type = EventType::NONHOST_INFO.0;
        event.data = b"anything at all".to_vec();
    }
    boot.events.sort_by_key(|event| event.pcr);
    // What follows from data that are the preimage does not follow any more; so the baseline alone is asked.
    let evaluation = set.evaluate(&boot.proved(), NOW);
    assert_eq!(evaluation.differences(), []);
    assert_eq!(evaluation.baseline(), Some("reference"));
    // An event that extends nothing is no event, whatever it says.
    let mut relabelled = Boot::recorded(ON);
    relabelled.event(30).event_type = EventType::NO_ACTION.0;
    let recorded = crate::common::recorded(ON);
    let mut claimed = relabelled.evidence();
    claimed.values = recorded.values;
    assert!(claimed.prove().is_err());
}

#[test]
fn parts_of_one_component_must_be_of_one_alternative() {
    let (boot, mut baseline) = reference();
    let mut other = baseline.component("kernel").unwrap().alternatives[0].clone();
    other.name = "another kernel".to_owned();
    for events in &mut other.events {
        let what = match events.slot.as_str() {
            "image" => "other image",
            "file" => "other file",
            _ => continue,
        };
        events
            .events
            .fill(ExpectedEvent::digest(digest(what), what));
    }
    let components = &mut baseline.components;
    let kernel = components
        .iter_mut()
        .find(|component| component.name == "kernel")
        .unwrap();
    kernel.alternatives.push(other);
    let set = compiled(&[("reference", &baseline)]);
    assert!(set.evaluate(&boot.proved(), NOW).is_healthy());
    let mut whole = boot.clone();
    whole.event(41).digest = digest("other file").0;
    for number in [42, 43] {
        whole.event(number).digest = digest("other image").0;
    }
    let evaluation = set.evaluate(&whole.proved(), NOW);
    assert!(evaluation.is_healthy(), "{:#?}", differences(&evaluation));
    // One version in PCR 9, the other in PCR 4.
    let mut mixed = boot.clone();
    mixed.event(41).digest = digest("other file").0;
    let evaluation = set.evaluate(&mixed.proved(), NOW);
    let [difference] = evaluation.differences() else {
        panic!("{:#?}", differences(&evaluation));
    };
    let Cause::NoAgreement { choices } = &difference.cause else {
        panic!("{difference}")
    };
    let of = |pcr: u8| {
        choices
            .iter()
            .find(|(found, slot, _)| *found == pcr && slot != "load-command")
    };
    assert_eq!(of(9).unwrap().2, ["another kernel"]);
    assert_eq!(of(4).unwrap().2, ["as booted by reference"]);
    // And one version the first time that shim verified it, the other the second.
    let mut twice = boot;
    twice.event(42).digest = digest("other image").0;
    assert!(!set.evaluate(&twice.proved(), NOW).is_healthy());
}

#[test]
fn a_part_that_only_another_alternative_may_lack_is_missed() {
    let mut baseline = small();
    baseline.lanes.push(lanes(&[(5, "program/text")]).remove(0));
    baseline.components[0].alternatives = vec![
        alternative("one", &[("image", "one"), ("text", "said")]),
        alternative("two", &[("image", "two")]),
    ];
    let set = compiled(&[("reference", &baseline)]);
    let causes = |image: &str, text: &str| {
        let boot = boot_of(&[(4, image), (7, "on keys"), (5, text)]);
        causes_of(&set.evaluate(&boot.proved(), NOW))
    };
    assert_eq!(causes("one", "said"), []);
    assert_eq!(causes("two", ""), []);
    for (image, text) in [("one", ""), ("two", "said")] {
        let found = causes(image, text);
        assert!(
            matches!(&found[..], [Cause::NoAgreement { .. }]),
            "{found:?}"
        );
    }
}

#[test]
fn optional_repeated_and_any_slots() {
    let mut baseline = small();
    baseline
        .lanes
        .push(lanes(&[(5, "start/text gpt/table attempt/text* done/text?")]).remove(0));
    baseline.components.extend([
        component(
            "start",
            ComponentKind::Constant,
            &[alternative("start", &[("text", "start")])],
        ),
        component("gpt", ComponentKind::Any, &[]),
        component(
            "attempt",
            ComponentKind::Shared,
            &[
                alternative("disk", &[("text", "disk")]),
                alternative("net", &[("text", "net try")]),
            ],
        ),
        component(
            "done",
            ComponentKind::Constant,
            &[alternative("done", &[("text", "done")])],
        ),
    ]);
    let set = compiled(&[("reference", &baseline)]);
    let judge = |words: &str| {
        let boot = boot_of(&[(4, "one"), (7, "on keys"), (5, words)]);
        let evaluation = set.evaluate(&boot.proved(), NOW);
        // The reading of the baseline, not of the other policies.
        evaluation.baseline().map(|_| evaluation.any_events())
    };
    assert_eq!(judge("start"), Some(0));
    assert_eq!(judge("start x y z"), Some(3));
    assert_eq!(judge("start x disk"), Some(1));
    assert_eq!(judge("start x disk net try disk done"), Some(1));
    assert_eq!(judge("start done"), Some(0));
    assert_eq!(judge("start done done"), None);
    assert_eq!(judge("start disk x"), None);
    assert_eq!(judge("start net"), None);
    assert_eq!(judge("x start"), None);
    assert_eq!(judge(""), None);
    let many = |count: usize| format!("start {}", "x ".repeat(count));
    assert_eq!(judge(&many(256)), Some(256));
    assert_eq!(judge(&many(257)), None);
    let attempts = |count: usize| format!("start x {}", "disk ".repeat(count));
    assert_eq!(judge(&attempts(256)), Some(1));
    assert_eq!(judge(&attempts(257)), None);
}

#[test]
fn a_retired_alternative_of_a_slot_that_may_be_empty_is_named() {
    let with = |slots: &str| {
        let mut baseline = small();
        baseline.lanes.push(lanes(&[(5, slots)]).remove(0));
        let mut alternatives =
            ["disk", "net try"].map(|words| alternative(words, &[("text", words)]));
        alternatives[1].state = State::Retired { at: NOW };
        let attempt = component("attempt", ComponentKind::Shared, &alternatives);
        baseline.components.push(attempt);
        baseline
    };
    let judge = |baseline: &Baseline, words: &str| {
        let boot = boot_of(&[(4, "one"), (7, "on keys"), (5, words)]);
        compiled(&[("reference", baseline)]).evaluate(&boot.proved(), NOW)
    };
    let causes = |baseline: &Baseline, words: &str| causes_of(&judge(baseline, words));
    let retired = Cause::Retired {
        alternative: "net try".to_owned(),
    };
    let not_owned = Cause::NotOwned { before: None };
    for (slots, words, expected) in [
        ("attempt/text*", "disk disk", vec![]),
        ("attempt/text*", "net try", vec![retired.clone()]),
        ("attempt/text*", "disk net try", vec![retired.clone()]),
        ("attempt/text?", "net try", vec![retired.clone()]),
        ("attempt/text?", "disk net try", vec![not_owned.clone()]),
        ("attempt/text?", "net", vec![not_owned]),
    ] {
        assert_eq!(causes(&with(slots), words), expected, "{slots}: {words}");
    }
    // Approved again, it is promoted, and no component is made for it.
    let baseline = with("attempt/text?");
    let evaluation = judge(&baseline, "net try");
    let host = HostMeasurements::default();
    let of = ("reference", &baseline);
    let approval = approve(of, &host, &evaluation, "again", "x", NOW).unwrap();
    assert_eq!(approval.components, ["attempt"]);
    assert_eq!(causes(&approval.baseline.unwrap(), "net try"), []);
    // What stands in another slot now was not withdrawn there.
    let mut moved = with("attempt/text? program/text?");
    for program in &mut moved.components[0].alternatives {
        let text = alternative("text", &[("text", "net try")]);
        program.events.extend(text.events);
    }
    assert_eq!(causes(&moved, "net try"), []);
}

#[test]
fn an_alternative_of_a_repeated_slot_that_expired_is_refused() {
    let mut baseline = small();
    baseline
        .lanes
        .push(lanes(&[(5, "attempt/text*")]).remove(0));
    let mut alternatives = ["disk", "net"].map(|name| alternative(name, &[("text", name)]));
    alternatives[1].state = State::Staged { expires: NOW };
    let attempt = component("attempt", ComponentKind::Shared, &alternatives);
    baseline.components.push(attempt);
    let set = compiled(&[("reference", &baseline)]);
    let boot = boot_of(&[(4, "one"), (7, "on keys"), (5, "disk net")]).proved();
    let before = NOW.checked_sub(Seconds::new(1)).unwrap();
    let evaluation = set.evaluate(&boot, before);
    let used: Vec<_> = evaluation
        .used()
        .iter()
        .map(|used| &used.alternative)
        .collect();
    assert_eq!(used, ["disk", "net", "one", "on"]);
    let evaluation = set.evaluate(&boot, NOW);
    let [difference] = evaluation.differences() else {
        panic!("{evaluation}");
    };
    let cause = Cause::Expired {
        alternative: "net".to_owned(),
        at: NOW,
    };
    assert_eq!((difference.event, &difference.cause), (Some(5), &cause));
}

#[test]
fn a_pcr_that_the_baseline_does_not_know_must_be_empty() {
    let (mut boot, baseline) = reference();
    boot.events.push(Event::of(12, b"credentials"));
    let evaluation = judged(&boot, &baseline);
    let [difference] = evaluation.differences() else {
        panic!("{evaluation}")
    };
    assert_eq!((difference.pcr, difference.event), (12, Some(50)));
    assert_eq!(difference.cause, Cause::NotOwned { before: None });
}

#[test]
fn refusals_for_another_reason_are_another_group() {
    let group = |name: &str, change: &dyn Fn(&mut Baseline), words: &[(u8, &str)]| {
        let mut baseline = small();
        change(&mut baseline);
        let set = compiled(&[(name, &baseline)]);
        *set.evaluate(&boot_of(words).proved(), NOW).group().unwrap()
    };
    let renamed = |component: &'static str, slot: &'static str| {
        move |baseline: &mut Baseline| {
            baseline.lanes[0].slots[0].component = component.to_owned();
            baseline.lanes[0].slots[0].name = slot.to_owned();
            baseline.components[0].name = component.to_owned();
            for alternative in &mut baseline.components[0].alternatives {
                alternative.events[0].slot = slot.to_owned();
            }
        }
    };
    let two = |name: &'static str, state: &State| {
        let state = state.clone();
        move |baseline: &mut Baseline| {
            let alternative = &mut baseline.components[0].alternatives[1];
            alternative.name = name.to_owned();
            alternative.state = state.clone();
        }
    };
    let retired = State::Retired { at: NOW };
    let expired = State::Staged { expires: NOW };
    let as_it_is = |_: &mut Baseline| ();
    let other = [(4, "three"), (7, "on keys")];
    let former = [(4, "two"), (7, "on keys")];
    let groups = [
        group("reference", &as_it_is, &other),
        group("another", &as_it_is, &other),
        group("reference", &as_it_is, &[(4, "four"), (7, "on keys")]),
        group("reference", &as_it_is, &[(4, "one"), (7, "off keys")]),
        group("reference", &as_it_is, &[(4, "three"), (7, "off keys")]),
        group("reference", &as_it_is, &[(7, "on keys")]),
        group("reference", &renamed("program", "file"), &other),
        group("reference", &renamed("tool", "image"), &other),
        group("reference", &renamed("programi", "mage"), &other),
        group("reference", &two("two", &retired), &former),
        group("reference", &two("2", &retired), &former),
        group("reference", &two("two", &expired), &former),
    ];
    for (place, found) in groups.iter().enumerate() {
        assert!(!groups[..place].contains(found), "{place}");
    }
    // What else would have been accepted makes no difference.
    assert_eq!(
        groups[0],
        group("reference", &two("2", &State::promoted()), &other)
    );
}

#[test]
fn final_values_stand_for_a_whole_pcr() {
    let (boot, mut baseline) = reference();
    let mut other = boot.clone();
    other.event(2).digest = digest("other firmware").0;
    let value = other.evidence().values.value(0).unwrap();
    assert!(!judged(&other, &baseline).is_healthy());
    baseline.final_values.push(FinalValue {
        name: "firmware 2".to_owned(),
        source: source(),
        state: State::Staged { expires: NOW },
        pcr: 0,
        value: EventDigest::of(&value).unwrap(),
    });
    assert!(!judged(&other, &baseline).is_healthy(), "it has expired");
    let later = NOW.checked_add(Seconds::from_days(1)).unwrap();
    baseline.final_values[0].state = State::Staged { expires: later };
    let evaluation = judged(&other, &baseline);
    assert!(evaluation.is_healthy(), "{:#?}", differences(&evaluation));
    let used: Vec<_> = evaluation
        .used()
        .iter()
        .filter(|used| used.staged)
        .collect();
    assert_eq!(used.len(), 1);
    assert_eq!(used[0].alternative, "firmware 2");
    // Another value of the PCR is none of those.
    let mut unknown = boot.clone();
    unknown.event(2).digest = digest("unknown firmware").0;
    assert!(!judged(&unknown, &baseline).is_healthy());
    // It says nothing of the other PCRs.
    other.event(30).digest = digest("other loader").0;
    assert!(!judged(&other, &baseline).is_healthy());
}

#[test]
fn staged_alternatives_expire_and_retired_ones_are_named() {
    let (boot, mut baseline) = reference();
    let mut patched = boot.clone();
    patched.event(30).digest = digest("new-loader").0;
    let expires = NOW.checked_add(Seconds::from_days(30)).unwrap();
    let mut new = alternative("GRUB 2", &[("image", "new-loader")]);
    new.state = State::Staged { expires };
    let loader = baseline
        .components
        .iter_mut()
        .find(|component| component.name == "loader")
        .unwrap();
    loader.alternatives.push(new);
    let evaluate = |baseline: &Baseline, boot: &Boot, now: Time| {
        compiled(&[("reference", baseline)]).evaluate(&boot.proved(), now)
    };
    let accepted = evaluate(&baseline, &patched, NOW);
    assert!(accepted.is_healthy(), "{accepted}");
    let staged: Vec<_> = accepted.used().iter().filter(|used| used.staged).collect();
    assert_eq!(staged.len(), 1);
    assert_eq!(
        (staged[0].component.as_str(), staged[0].alternative.as_str()),
        ("loader", "GRUB 2")
    );
    let late = evaluate(&baseline, &patched, expires);
    let [difference] = late.differences() else {
        panic!("{late}")
    };
    assert_eq!(
        difference.cause,
        Cause::Expired {
            alternative: "GRUB 2".to_owned(),
            at: expires
        }
    );

    assert!(baseline.promote("loader", "GRUB 2", "host-01", NOW));
    assert!(
        !baseline.promote("loader", "GRUB 2", "host-02", NOW),
        "only the first counts"
    );
    assert!(evaluate(&baseline, &patched, expires).is_healthy());
    let former = "as booted by reference";
    assert_eq!(accepted.to_promote().count(), 1);
    // A host that is refused for something else still has the new loader.
    let mut other = patched.clone();
    other.event(41).digest = digest("other kernel").0;
    let refused = evaluate(&baseline, &other, NOW);
    assert!(!refused.is_healthy());
    assert!(
        refused
            .used()
            .iter()
            .any(|used| used.alternative == "GRUB 2")
    );
    assert_eq!(refused.to_promote().count(), 0);
    let unused = baseline.unused("reference", accepted.used());
    assert_eq!(unused, [("loader".to_owned(), former.to_owned())]);
    assert!(baseline.retire("loader", former, NOW));
    assert!(!baseline.retire("loader", former, NOW));
    let back = evaluate(&baseline, &boot, NOW);
    let [difference] = back.differences() else {
        panic!("{back}")
    };
    assert_eq!(
        difference.cause,
        Cause::Retired {
            alternative: former.to_owned()
        }
    );
    assert_eq!(difference.event, Some(30));
    assert_eq!(baseline.remove_expired(expires), 0);
}

#[test]
fn a_host_s_own_measurements_and_parameters() {
    // Two hosts that differ in the root file system, the initrd and the partition table.
    let host_boot = |root: &str, own: &str| {
        let mut boot = Boot::recorded(ON);
        *boot.event(40) = Event::command(&format!("linux /vmlinuz root=UUID={root} quiet"));
        *boot.event(44) = Event::command_line(&format!("/vmlinuz root=UUID={root} quiet"));
        boot.event(46).digest = digest(&format!("initrd of {own}")).0;
        boot.event(23).digest = digest(&format!("GPT of {own}")).0;
        boot
    };
    let (first, second) = (
        host_boot("0d5a3f4e-aaaa", "first"),
        host_boot("77c2b9d0-bbbb", "second"),
    );
    let evidence = first.proved();
    let parameters = proposed_parameters(&evidence);
    assert_eq!(
        parameters,
        [("root".to_owned(), "0d5a3f4e-aaaa".to_owned())].into()
    );
    let whole = Baseline::of_evidence(&evidence, "first", &parameters).unwrap();
    let (baseline, of_first) = whole.without_host_alternatives(&parameters);
    let texts = baseline.component("kernel").unwrap().alternatives[0].events_in("command-line");
    assert_eq!(texts[0].what(), Some("/vmlinuz root=UUID={root} quiet"));
    let set = compiled(&[("fleet", &baseline)]);
    assert!(
        set.for_host(&of_first)
            .unwrap()
            .evaluate(&evidence, NOW)
            .is_healthy()
    );
    // Without its record the host has no value, and no initrd.
    let unknown = set.evaluate(&evidence, NOW);
    assert!(!unknown.is_healthy());
    let told = differences(&unknown);
    let says = |text: &str| told.iter().any(|one| one.contains(text));
    assert!(
        says("the host has no value for the parameter `root`"),
        "{told:#?}"
    );
    assert!(says("initrd (file): found"), "{told:#?}");
    assert!(says("nothing is approved for this host"), "{told:#?}");
    // The second host's boot is not that of the first.
    let refused = set
        .for_host(&of_first)
        .unwrap()
        .evaluate(&second.proved(), NOW);
    assert!(!refused.is_healthy());
    let evidence = second.proved();
    let parameters = proposed_parameters(&evidence);
    let whole = Baseline::of_evidence(&evidence, "second", &parameters).unwrap();
    let (_, of_second) = whole.without_host_alternatives(&parameters);
    assert!(
        set.for_host(&of_second)
            .unwrap()
            .evaluate(&evidence, NOW)
            .is_healthy()
    );
    // The record survives its text.
    let again = HostMeasurements::from_json(of_second.to_json().as_bytes()).unwrap();
    assert_eq!(again, of_second);
}

#[test]
fn trap_13_a_parameter_takes_one_value_and_no_further_arguments() {
    for value in ["x init=/bin/sh", "x\ty", "x\"y", "x{y}", "", "x\\y", "ü"] {
        let mut host = HostMeasurements::default();
        host.parameters.insert("root".to_owned(), value.to_owned());
        assert!(
            HostMeasurements::from_json(host.to_json().as_bytes()).is_err(),
            "{value}"
        );
        let set = compiled(&[("reference", &small())]);
        assert!(set.for_host(&host).is_err(), "{value}");
    }
}

#[test]
fn trap_1_firmware_is_one_alternative_in_each_state_of_secure_boot() {
    // PCR 0 of both boots of the same firmware differ in the volume that was measured after it ran.
    let on = baseline_of(&Boot::recorded(ON).proved());
    let off = baseline_of(&Boot::recorded("secure-boot-off").proved());
    let events = |baseline: &Baseline| {
        baseline.component("firmware").unwrap().alternatives[0]
            .events_in("code")
            .to_vec()
    };
    let same: Vec<_> = events(&on)
        .iter()
        .zip(&events(&off))
        .map(|(on, off)| on == off)
        .collect();
    assert_eq!(same, [true, false, true]);
    // Both can stand in one baseline.
    let mut both = on;
    let mut other = off.component("firmware").unwrap().alternatives[0].clone();
    other.name = "Secure Boot off".to_owned();
    both.components
        .iter_mut()
        .find(|component| component.name == "firmware")
        .unwrap()
        .alternatives
        .push(other);
    assert!(try_compile(&[("reference", &both)]).is_ok());
}

#[test]
fn trap_2_pcrs_without_separators_are_read_by_place() {
    let (mut boot, baseline) = reference();
    // GRUB's commands in another order, and a separator where there is none.
    boot.events.swap(30, 31);
    assert!(!judged(&boot, &baseline).is_healthy());
    for pcr in [8, 9, 14] {
        let (mut boot, baseline) = reference();
        boot.events.push(Event::separator(pcr));
        let evaluation = judged(&boot, &baseline);
        assert!(!evaluation.is_healthy(), "PCR {pcr}");
    }
    // The separator of PCR 7 comes before the authorities.
    let (mut boot, baseline) = reference();
    boot.events.swap(8, 21);
    assert!(!judged(&boot, &baseline).is_healthy());
}

#[test]
fn trap_3_a_boot_entry_that_failed_is_refused_until_it_is_approved() {
    let (mut boot, mut baseline) = reference();
    boot.events.splice(
        20..20,
        [
            Event::of(4, b"an application that failed"),
            Event::of(4, Action::ReturningFromApplication.text().as_bytes()),
            Event::of(4, Action::CallingApplication.text().as_bytes()),
        ],
    );
    assert!(!judged(&boot, &baseline).is_healthy());
    // Owned like anything else, before and after the separator.
    let lane = baseline
        .lanes
        .iter_mut()
        .find(|lane| lane.pcr == 4)
        .unwrap();
    let attempt = lanes(&[(4, "failed/events*")]).remove(0).slots.remove(0);
    lane.slots.insert(2, attempt);
    let mut failed = alternative("failed", &[]);
    failed.events.push(hgs_attest::policy::SlotEvents {
        slot: "events".to_owned(),
        events: boot.events[20..23]
            .iter()
            .map(|event| ExpectedEvent::digest(EventDigest(event.digest), ""))
            .collect(),
    });
    baseline
        .components
        .push(component("failed", ComponentKind::Shared, &[failed]));
    let evaluation = judged(&boot, &baseline);
    assert!(evaluation.is_healthy(), "{evaluation}");
}

#[test]
fn trap_4_error_separators_are_refused_and_exit_boot_services_may_be_absent() {
    for octets in [[0xff; 4], [1, 0, 0, 0]] {
        let (mut boot, mut baseline) = reference();
        let separator = boot.events.iter().position(|event| event.pcr == 5).unwrap();
        boot.events[separator] = Event::of(5, &octets);
        let evaluation = judged(&boot, &baseline);
        let [difference] = evaluation.differences() else {
            panic!("{evaluation}")
        };
        assert_eq!(difference.cause, Cause::ErrorSeparator);
        assert_eq!(difference.event, Some(separator + 1));
        // Nor can it be an alternative, or be among events of which any are accepted.
        for component in &mut baseline.components {
            for alternative in &mut component.alternatives {
                for events in alternative
                    .events
                    .iter_mut()
                    .filter(|events| events.slot == "pcr5")
                {
                    events.events = vec![ExpectedEvent::digest(EventDigest(sha256(&octets)), "")];
                }
            }
        }
        let refused = try_compile(&[("reference", &baseline)]);
        let Err(PolicySetError::Baseline { error, .. }) = refused else {
            panic!("{refused:?}");
        };
        assert!(matches!(*error, BaselineError::ErrorSeparator { .. }));
        let mut any = small();
        any.lanes.push(lanes(&[(5, "any/events")]).remove(0));
        any.components
            .push(component("any", ComponentKind::Any, &[]));
        let mut boot = boot_of(&[(4, "one"), (7, "on keys"), (5, "x y")]);
        assert_eq!(judged(&boot, &any).differences(), []);
        boot.events.push(Event::of(5, &octets));
        assert_eq!(
            judged(&boot, &any).differences()[0].cause,
            Cause::ErrorSeparator
        );
    }
    let (mut boot, mut baseline) = reference();
    boot.events.truncate(47);
    assert!(!judged(&boot, &baseline).is_healthy());
    let mut slots = baseline.lanes.iter_mut().flat_map(|lane| &mut lane.slots);
    slots
        .find(|slot| slot.component == "exit-boot-services")
        .unwrap()
        .times = Times::Optional;
    assert!(judged(&boot, &baseline).is_healthy());
    assert!(judged(&Boot::recorded(ON), &baseline).is_healthy());
}

#[test]
fn trap_9_what_systemd_measures_after_the_log() {
    // The firmware's log ends before user space extends PCR 15; the host sends what was measured.
    let (boot, mut baseline) = reference();
    let mut evidence = boot.evidence();
    let identity = b"machine-id:0123456789abcdef0123456789abcdef";
    let value = sha256(&[[0; 32], sha256(identity)].concat());
    evidence.values.insert(15, &value).unwrap();
    assert!(evidence.prove().is_err());
    evidence.preimages.push(Preimage {
        pcr: 15,
        event: 50,
        octets: identity.to_vec(),
    });
    let proved = evidence.prove().unwrap();
    let set = compiled(&[("reference", &baseline)]);
    let refused = set.evaluate(&proved, NOW);
    let [difference] = refused.differences() else {
        panic!("{refused}")
    };
    assert_eq!((difference.pcr, difference.event), (15, Some(50)));
    assert_eq!(
        difference.found[0].text.as_ref().unwrap().0.as_bytes(),
        identity
    );
    baseline = baseline_of(&proved);
    assert!(
        compiled(&[("reference", &baseline)])
            .evaluate(&proved, NOW)
            .is_healthy()
    );
    // Another text does not give the value, and PCRs of the firmware take none.
    evidence.preimages[0].octets[11] ^= 1;
    assert!(evidence.prove().is_err());
    let mut of_firmware = boot.evidence();
    let value = of_firmware.values.value(4).unwrap();
    let extended = sha256(&[value.as_bytes(), &sha256(identity)].concat());
    of_firmware.values.insert(4, &extended).unwrap();
    of_firmware.preimages.push(Preimage {
        pcr: 4,
        event: 50,
        octets: identity.to_vec(),
    });
    assert!(of_firmware.prove().is_err());
    // The preimage of an event of the log is none of user space.
    let mut both = boot.clone();
    both.events.push(Event::new(15, sha256(b"in the log")));
    let mut both = both.evidence();
    let value = both.values.value(15).unwrap();
    let value = sha256(&[value.as_bytes(), &sha256(identity)].concat());
    both.values.insert(15, &value).unwrap();
    for (event, octets) in [(50, &b"in the log"[..]), (51, identity)] {
        let octets = octets.to_vec();
        both.preimages.push(Preimage {
            pcr: 15,
            event,
            octets,
        });
    }
    assert!(both.prove().is_ok());
    // The words for the phases of the boot are known, sent or not.
    let mut phases = boot.evidence();
    let value = ["sysinit", "ready"].iter().fold([0; 32], |value, word| {
        sha256(&[value, sha256(word.as_bytes())].concat())
    });
    phases.values.insert(11, &value).unwrap();
    for (number, word) in ["sysinit", "ready"].iter().enumerate() {
        assert!(set.evaluate(&phases.prove().unwrap(), NOW).is_healthy());
        phases.preimages.push(Preimage {
            pcr: 11,
            event: 50 + number as u32,
            octets: word.as_bytes().to_vec(),
        });
    }
    assert!(set.evaluate(&phases.prove().unwrap(), NOW).is_healthy());
}

#[test]
fn trap_7_grub_cfg_and_its_commands_are_one_choice() {
    let (boot, mut baseline) = reference();
    let script = baseline
        .components
        .iter_mut()
        .find(|component| component.name == "loader-script")
        .unwrap();
    assert_eq!(script.kind, ComponentKind::Host);
    let mut other = script.alternatives[0].clone();
    other.name = "after update-grub".to_owned();
    for events in &mut other.events {
        if events.slot == "files" {
            events.events = vec![ExpectedEvent::digest(digest("grub.cfg 2"), "")];
        }
        if events.slot == "commands" {
            *events.events.last_mut().unwrap() = ExpectedEvent::Text {
                text: "terminal_input console".to_owned(),
                encoding: Encoding::Utf8,
            };
        }
    }
    script.alternatives.push(other);
    let mut updated = boot.clone();
    updated.event(35).digest = digest("grub.cfg 2").0;
    assert!(
        !judged(&updated, &baseline).is_healthy(),
        "the commands are the former ones"
    );
    *updated.event(39) = Event::command("terminal_input console");
    assert!(judged(&updated, &baseline).is_healthy());
}

#[test]
fn texts_are_hashed_as_their_program_hashes_them() {
    let parameters: Parameters = [("root".to_owned(), "abc".to_owned())].into();
    let text = |text: &str, encoding| ExpectedEvent::Text {
        text: text.to_owned(),
        encoding,
    };
    let event = text("a {{b}} root={root}", Encoding::Utf8);
    assert_eq!(
        event.digest_with(&parameters).unwrap(),
        digest("a {b} root=abc")
    );
    assert!(event.digest_with(&Parameters::new()).is_err());
    let wide = text("hi", Encoding::Utf16Nul);
    assert_eq!(
        wide.digest_with(&parameters).unwrap().0,
        sha256(b"h\0i\0\0\0")
    );
    for malformed in ["{", "}", "{}", "{a b}", "{A}", "a{{{b}"] {
        assert!(
            text(malformed, Encoding::Utf8)
                .digest_with(&parameters)
                .is_err(),
            "{malformed}"
        );
    }
}

/// Thousands of alternatives: as long as the events, not as the alternatives.
#[test]
fn many_alternatives_are_read_in_the_time_of_few() {
    let with = |count: usize| {
        let (_, mut baseline) = reference();
        for component in &mut baseline.components {
            if component.kind == ComponentKind::Constant {
                continue;
            }
            let first = component.alternatives[0].clone();
            for number in 1..count {
                let mut other = first.clone();
                other.name = format!("alternative {number}");
                for events in &mut other.events {
                    let word = format!("{} {number}", component.name);
                    events.events[0] = ExpectedEvent::digest(digest(&word), "");
                }
                component.alternatives.push(other);
            }
        }
        compiled(&[("reference", &baseline)])
    };
    let evidence = Boot::recorded(ON).proved();
    let time = |set: &hgs_attest::policy::PolicySet| {
        let evaluate = || {
            let start = Instant::now();
            assert!(set.evaluate(&evidence, NOW).is_healthy());
            start.elapsed()
        };
        (0..40).map(|_| evaluate()).min().unwrap()
    };
    let (few, many) = (with(1), with(2000));
    // A product over alternatives, or a scan, would take a thousand times as long.
    assert!(
        time(&many) < time(&few) * 10,
        "{:?} and {:?}",
        time(&many),
        time(&few)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// A boot of alternatives, in their slots, is accepted; a reading by brute force agrees on any other.
    #[test]
    fn reading_agrees_with_a_search_through_all_combinations(
        words in proptest::collection::vec(0_u8..4, 0..7),
        tables in proptest::collection::vec(proptest::collection::vec(proptest::collection::vec(0_u8..4, 0..3), 1..3), 1..4),
    ) {
        // Component n has a slot in PCR 5; each table row is an alternative.
        let mut baseline = small();
        let names: Vec<_> = (0..tables.len()).map(|number| format!("c{number}")).collect();
        let slots: Vec<_> = names.iter().map(|name| format!("{name}/s")).collect();
        baseline.lanes.push(lanes(&[(5, &slots.join(" "))]).remove(0));
        let text = |words: &[u8]| words.iter().map(|word| format!("w{word}")).collect::<Vec<_>>().join(" ");
        for (name, table) in names.iter().zip(&tables) {
            let rows: Vec<_> = table.iter().enumerate()
                .map(|(number, row)| alternative(&format!("a{number}"), &[("s", &text(row))]))
                .collect();
            baseline.components.push(component(name, ComponentKind::Shared, &rows));
        }
        let Ok(set) = try_compile(&[("reference", &baseline)]) else { return Ok(()) };
        let boot = boot_of(&[(4, "one"), (7, "on keys"), (5, &text(&words))]);
        let found = set.evaluate(&boot.proved(), NOW).baseline().is_some();
        let mut rests = vec![words.as_slice()];
        for table in &tables {
            rests = rests.iter().flat_map(|rest| table.iter().filter_map(|row| rest.strip_prefix(row.as_slice()))).collect();
        }
        let readings = rests.iter().filter(|rest| rest.is_empty()).count();
        prop_assert_eq!(found, readings > 0);
    }

    /// Whatever a host measures, it is judged, and a boot that is not the recorded one is refused.
    #[test]
    fn nothing_that_is_measured_is_passed_over(
        changes in proptest::collection::vec((0_usize..49, 0_u8..24, any::<[u8; 2]>()), 1..6),
    ) {
        let (boot, baseline) = reference();
        let mut changed = boot.clone();
        for (place, pcr, octets) in changes {
            changed.events.insert(place, Event::of(pcr, &octets));
        }
        let ignored = [10, 16, 23];
        let looked_at = |boot: &Boot| -> Vec<_> {
            boot.events.iter().filter(|event| !ignored.contains(&event.pcr)).map(|event| (event.pcr, event.digest)).collect()
        };
        let evaluation = judged(&changed, &baseline);
        prop_assert_eq!(evaluation.baseline().is_some(), looked_at(&changed) == looked_at(&boot));
    }

    /// Taking parameters out of a text and putting them in again gives the text.
    #[test]
    fn parameters_come_out_and_go_in_again(
        text in "[a-z{}= ]{0,40}",
        values in proptest::collection::btree_map("[a-z]{1,4}", "[a-z=]{1,5}", 0..4),
    ) {
        let template = hgs_attest::policy::without_parameters(&text, &values);
        let event = ExpectedEvent::Text { text: template, encoding: Encoding::Utf8 };
        prop_assert_eq!(event.text_with(&values).unwrap().unwrap(), text);
    }
}
