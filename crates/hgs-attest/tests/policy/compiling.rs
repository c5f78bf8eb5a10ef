//! What is empty, ambiguous or inconsistent is refused when it is saved.

use hgs_attest::policy::{
    Alternative, Baseline, BaselineError, CiPolicy, Component, ComponentKind, Documents, DumpKey,
    Encoding, EventDigest, ExpectedEvent, FinalValue, HostMeasurements, LaneSlots, PathFiles,
    PolicyName, PolicySelection, PolicySet, PolicySetError, PolicySettingError, Slot, SlotEvents,
    Source, SourceKind, State, Times,
};
use hgs_crypto::hash::sha256;

use crate::common::{NOW, baseline_of, recorded, try_compile};
use crate::documents::final_value;

pub(crate) fn source() -> Source {
    Source {
        kind: SourceKind::Administrator,
        of: "a test".to_owned(),
    }
}

pub(crate) fn digest(text: &str) -> EventDigest {
    EventDigest(sha256(text.as_bytes()))
}

/// An alternative; each event is the digest of a word.
pub(crate) fn alternative(name: &str, slots: &[(&str, &str)]) -> Alternative {
    let events = |(slot, words): &(&str, &str)| SlotEvents {
        slot: (*slot).to_owned(),
        events: words
            .split_whitespace()
            .map(|word| ExpectedEvent::digest(digest(word), word))
            .collect(),
    };
    Alternative {
        name: name.to_owned(),
        source: source(),
        state: State::promoted(),
        events: slots.iter().map(events).collect(),
    }
}

pub(crate) fn component(
    name: &str,
    kind: ComponentKind,
    alternatives: &[Alternative],
) -> Component {
    Component {
        name: name.to_owned(),
        kind,
        alternatives: alternatives.to_vec(),
    }
}

/// Lanes, each slot as `component/slot`, with `?` if it is optional and `*` if it is repeated.
pub(crate) fn lanes(lanes: &[(u8, &str)]) -> Vec<LaneSlots> {
    let slot = |text: &str| {
        let (text, times) = match text.strip_suffix(['?', '*']) {
            Some(rest) if text.ends_with('?') => (rest, Times::Optional),
            Some(rest) => (rest, Times::Repeated),
            None => (text, Times::Once),
        };
        let (component, name) = text.split_once('/').unwrap();
        Slot {
            component: component.to_owned(),
            name: name.to_owned(),
            times,
            command_line: false,
        }
    };
    let lane = |(pcr, slots): &(u8, &str)| LaneSlots {
        pcr: *pcr,
        slots: slots.split_whitespace().map(slot).collect(),
    };
    lanes.iter().map(lane).collect()
}

/// A baseline that compiles: a program in PCR 4, the state of Secure Boot in PCR 7.
pub(crate) fn small() -> Baseline {
    Baseline {
        lanes: lanes(&[(4, "program/image"), (7, "state/variables")]),
        components: vec![
            component(
                "program",
                ComponentKind::Shared,
                &[
                    alternative("one", &[("image", "one")]),
                    alternative("two", &[("image", "two")]),
                ],
            ),
            component(
                "state",
                ComponentKind::Shared,
                &[alternative("on", &[("variables", "on keys")])],
            ),
        ],
        final_values: Vec::new(),
    }
}

#[track_caller]
fn refused(change: impl FnOnce(&mut Baseline)) -> BaselineError {
    let mut baseline = small();
    change(&mut baseline);
    match try_compile(&[("reference", &baseline)]) {
        Err(PolicySetError::Baseline { name, error }) => {
            assert_eq!(name, "reference");
            *error
        }
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn a_sound_baseline_is_accepted() {
    assert!(try_compile(&[("reference", &small())]).is_ok());
    // Nothing is one of the alternatives.
    let mut baseline = small();
    baseline.lanes.push(lanes(&[(5, "texts/text")]).remove(0));
    let alternatives = [
        alternative("absent", &[]),
        alternative("present", &[("text", "text")]),
    ];
    let mut reversed = alternatives.clone();
    reversed.reverse();
    for alternatives in [alternatives, reversed] {
        let mut baseline = baseline.clone();
        let texts = component("texts", ComponentKind::Shared, &alternatives);
        baseline.components.push(texts);
        assert!(try_compile(&[("reference", &baseline)]).is_ok());
    }
}

#[test]
fn a_set_with_nothing_to_match_is_not_saved() {
    assert_eq!(try_compile(&[]).unwrap_err(), PolicySetError::NoBaseline);
    let mut selection = PolicySelection::default();
    selection.set(PolicyName::CiPolicy, true).unwrap();
    let documents = Documents {
        baselines: [("reference".to_owned(), small())].into(),
        ..Documents::default()
    };
    let refused = PolicySet::compile(&selection, &documents).unwrap_err();
    let expected = PolicySetError::NoDocument {
        policy: PolicyName::CiPolicy,
        document: "code integrity policy",
    };
    assert_eq!(refused, expected);
}

#[test]
fn a_baseline_that_an_empty_boot_matches_is_refused() {
    let empty = |pcr| BaselineError::Vacuous { pcr };
    assert_eq!(
        refused(|baseline| {
            baseline.lanes.clear();
            baseline.components.clear();
        }),
        empty(4)
    );
    assert_eq!(
        refused(|baseline| baseline.lanes[0].slots[0].times = Times::Optional),
        empty(4)
    );
    assert_eq!(
        refused(|baseline| {
            baseline.components[1]
                .alternatives
                .push(alternative("absent", &[]));
        }),
        empty(7)
    );
    // A final value speaks for its own PCR alone.
    let error = refused(|baseline| {
        baseline.lanes.remove(0);
        baseline.components.remove(0);
        baseline.final_values.push(final_value(7));
    });
    assert_eq!(error, empty(4));
    let retired = refused(|baseline| {
        baseline.components[1].alternatives[0].state = State::Retired { at: NOW };
    });
    assert_eq!(
        retired,
        BaselineError::NoAlternative {
            component: "state".to_owned()
        }
    );
}

#[test]
fn one_alternative_that_is_the_beginning_of_another_is_refused() {
    let error = refused(|baseline| {
        let longer = alternative("longer", &[("variables", "on keys more")]);
        baseline.components[1].alternatives.push(longer);
    });
    let expected = BaselineError::Beginning {
        pcr: 7,
        component: "state".to_owned(),
        slot: "variables".to_owned(),
        shorter: "on".to_owned(),
        longer: "longer".to_owned(),
    };
    assert_eq!(error, expected);
    // In either order.
    let error = refused(|baseline| {
        let longer = alternative("longer", &[("variables", "on keys more")]);
        baseline.components[1].alternatives.insert(0, longer);
    });
    assert_eq!(error, expected);
}

#[test]
fn a_slot_that_may_be_empty_and_begins_as_the_next_is_refused() {
    let expected = BaselineError::Ambiguous {
        pcr: 4,
        component: "tool".to_owned(),
        slot: "image".to_owned(),
        next_component: "program".to_owned(),
        next: "image".to_owned(),
    };
    for slots in ["tool/image? program/image", "tool/image* program/image"] {
        let error = refused(|baseline| {
            baseline.lanes[0] = lanes(&[(4, slots)]).remove(0);
            baseline.components.push(component(
                "tool",
                ComponentKind::Shared,
                &[alternative("tool", &[("image", "two")])],
            ));
        });
        assert_eq!(error, expected, "{slots}");
    }
    // Also past another that may be empty, and where an alternative has no event.
    let error = refused(|baseline| {
        baseline.lanes[0] = lanes(&[(4, "tool/image other/image? program/image")]).remove(0);
        let absent = alternative("absent", &[]);
        baseline.components.push(component(
            "tool",
            ComponentKind::Shared,
            &[alternative("tool", &[("image", "two tools")]), absent],
        ));
        baseline.components.push(component(
            "other",
            ComponentKind::Shared,
            &[alternative("other", &[("image", "other")])],
        ));
    });
    assert_eq!(error, expected);
    // What stands behind a slot that is never empty may begin alike.
    let mut baseline = small();
    baseline.lanes[0] = lanes(&[(4, "tool/image? program/image tool/again?")]).remove(0);
    baseline.components.push(component(
        "tool",
        ComponentKind::Shared,
        &[alternative("tool", &[("image", "tool"), ("again", "tool")])],
    ));
    assert!(try_compile(&[("reference", &baseline)]).is_ok());
}

#[test]
fn any_events_are_never_accepted_where_code_is_measured() {
    for pcr in [4, 7, 8, 9, 11, 12, 13, 14] {
        let error = refused(|baseline| {
            baseline.lanes.retain(|lane| lane.pcr != pcr);
            baseline
                .lanes
                .push(lanes(&[(pcr, "what-not/events")]).remove(0));
            baseline
                .components
                .push(component("what-not", ComponentKind::Any, &[]));
            if pcr == 4 || pcr == 7 {
                let orphan = if pcr == 4 { 0 } else { 1 };
                baseline.components.remove(orphan);
            }
        });
        let component = "what-not".to_owned();
        assert_eq!(error, BaselineError::AnyOfCode { component, pcr });
    }
    for pcr in [0, 1, 2, 3, 5, 6, 15] {
        let mut baseline = small();
        baseline
            .lanes
            .push(lanes(&[(pcr, "what-not/events")]).remove(0));
        baseline
            .components
            .push(component("what-not", ComponentKind::Any, &[]));
        assert!(try_compile(&[("reference", &baseline)]).is_ok(), "{pcr}");
    }
    // Two in a row can't be told apart.
    let error = refused(|baseline| {
        baseline
            .lanes
            .push(lanes(&[(1, "first/events second/events")]).remove(0));
        baseline
            .components
            .push(component("first", ComponentKind::Any, &[]));
        baseline
            .components
            .push(component("second", ComponentKind::Any, &[]));
    });
    assert!(
        matches!(error, BaselineError::Ambiguous { pcr: 1, .. }),
        "{error}"
    );
    let error = refused(|baseline| {
        baseline
            .lanes
            .push(lanes(&[(1, "first/events?")]).remove(0));
        baseline
            .components
            .push(component("first", ComponentKind::Any, &[]));
    });
    assert_eq!(
        error,
        BaselineError::Any {
            component: "first".to_owned()
        }
    );
}

#[test]
fn names_that_lead_nowhere_are_refused() {
    let unknown = |error: &BaselineError, name: &str| matches!(error, BaselineError::Unknown { name: found, .. } if found == name);
    let error = refused(|baseline| {
        baseline.lanes[0]
            .slots
            .push(lanes(&[(4, "unknown/image")]).remove(0).slots.remove(0));
    });
    assert!(unknown(&error, "unknown"), "{error}");
    let error = refused(|baseline| {
        baseline.components[0]
            .alternatives
            .push(alternative("three", &[("imgae", "three")]));
    });
    assert!(unknown(&error, "imgae"), "{error}");
    let error = refused(|baseline| {
        baseline
            .components
            .push(component("idle", ComponentKind::Host, &[]));
    });
    assert_eq!(
        error,
        BaselineError::NoSlot {
            component: "idle".to_owned()
        }
    );
    let doubled = |change: fn(&mut Baseline)| {
        assert!(matches!(refused(change), BaselineError::Doubled { .. }));
    };
    doubled(|baseline| baseline.lanes.push(baseline.lanes[0].clone()));
    let error = refused(|baseline| {
        baseline.lanes.push(lanes(&[(4, "tool/image")]).remove(0));
        let tool = alternative("tool", &[("image", "tool")]);
        let tool = component("tool", ComponentKind::Shared, &[tool]);
        baseline.components.push(tool);
    });
    let (what, name) = ("PCR", "4".to_owned());
    assert_eq!(error, BaselineError::Doubled { what, name });
    doubled(|baseline| {
        let slot = baseline.lanes[0].slots[0].clone();
        baseline.lanes[1].slots.push(slot);
    });
    doubled(|baseline| baseline.components.push(baseline.components[0].clone()));
    doubled(|baseline| {
        for pcr in [0, 4] {
            baseline.final_values.push(FinalValue {
                name: "published".to_owned(),
                source: source(),
                state: State::promoted(),
                pcr,
                value: digest("value"),
            });
        }
    });
}

#[test]
fn pcrs_with_logs_of_their_own_or_that_can_be_reset_have_no_rules() {
    for pcr in [10, 16, 23, 24, 255] {
        let error = refused(|baseline| {
            baseline
                .lanes
                .push(lanes(&[(pcr, "program/again")]).remove(0));
        });
        assert_eq!(error, BaselineError::Pcr { pcr });
        let error = refused(|baseline| {
            baseline.final_values.push(FinalValue {
                name: "published".to_owned(),
                source: source(),
                state: State::promoted(),
                pcr,
                value: digest("value"),
            });
        });
        assert_eq!(error, BaselineError::Pcr { pcr });
    }
}

#[test]
fn constants_have_one_alternative_and_only_some_kinds_have_parameters() {
    let error = refused(|baseline| baseline.components[0].kind = ComponentKind::Constant);
    assert_eq!(
        error,
        BaselineError::Constant {
            component: "program".to_owned()
        }
    );
    let with_parameter = |kind| {
        let mut baseline = small();
        baseline.components[0].kind = kind;
        baseline.components[0].alternatives[1].events[0].events = vec![ExpectedEvent::Text {
            text: "root=UUID={root}".to_owned(),
            encoding: Encoding::Utf8,
        }];
        try_compile(&[("reference", &baseline)]).map(|_| ())
    };
    assert!(with_parameter(ComponentKind::Shared).is_err());
    assert_eq!(with_parameter(ComponentKind::Parametrised), Ok(()));
    assert_eq!(with_parameter(ComponentKind::Host), Ok(()));
}

#[test]
fn what_names_parameters_is_checked_before_a_host_has_values() {
    let text = |text: &str| ExpectedEvent::Text {
        text: text.to_owned(),
        encoding: Encoding::Utf8,
    };
    let error = refused(|baseline| {
        let program = &mut baseline.components[0];
        program.kind = ComponentKind::Parametrised;
        program.alternatives[0].events[0].events = vec![text("root={root}")];
        program.alternatives[1].events[0].events = vec![text("root={root}"), text("more")];
    });
    assert!(
        matches!(error, BaselineError::Beginning { pcr: 4, .. }),
        "{error}"
    );
}

#[test]
fn a_host_s_own_alternatives_are_checked_against_the_baseline_s() {
    let mut baseline = small();
    baseline.components[0].kind = ComponentKind::Host;
    let set = try_compile(&[("reference", &baseline)]).unwrap();
    let host = |component: &str, words: &str| {
        let mut host = HostMeasurements::default();
        host.add(component, alternative("own", &[("image", words)]));
        set.for_host(&host).map(|_| ())
    };
    assert_eq!(host("program", "own"), Ok(()));
    let refused = |result: Result<(), PolicySetError>| match result {
        Err(PolicySetError::Baseline { error, .. }) => *error,
        other => panic!("{other:?}"),
    };
    let error = refused(host("program", "one more"));
    assert!(matches!(error, BaselineError::Beginning { .. }), "{error}");
    let error = refused(host("state", "own"));
    assert_eq!(
        error,
        BaselineError::NotOfHost {
            component: "state".to_owned()
        }
    );
    // Of a baseline that is not this one; it fills nothing here.
    assert_eq!(host("something", "own"), Ok(()));
}

#[test]
fn a_host_s_own_alternative_that_begins_as_the_next_slot_is_refused() {
    let mut baseline = small();
    baseline.lanes[0] = lanes(&[(4, "own/image? program/image")]).remove(0);
    baseline
        .components
        .push(component("own", ComponentKind::Host, &[]));
    let set = try_compile(&[("reference", &baseline)]).unwrap();
    let host = |words: &str| {
        let mut host = HostMeasurements::default();
        host.add("own", alternative("own", &[("image", words)]));
        set.for_host(&host).map(|_| ())
    };
    assert_eq!(host("own"), Ok(()));
    let expected = BaselineError::Ambiguous {
        pcr: 4,
        component: "own".to_owned(),
        slot: "image".to_owned(),
        next_component: "program".to_owned(),
        next: "image".to_owned(),
    };
    match host("two tools") {
        Err(PolicySetError::Baseline { error, .. }) => assert_eq!(*error, expected),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_repeated_slot_is_the_only_one_of_its_component_and_never_empty() {
    let error = refused(|baseline| {
        baseline
            .lanes
            .push(lanes(&[(5, "program/again*")]).remove(0));
        let alternatives =
            ["one", "two"].map(|word| alternative(word, &[("image", word), ("again", word)]));
        baseline.components[0].alternatives = alternatives.to_vec();
    });
    assert_eq!(
        error,
        BaselineError::Repeated {
            component: "program".to_owned()
        }
    );
    let error = refused(|baseline| {
        baseline.lanes.push(lanes(&[(5, "texts/texts*")]).remove(0));
        let absent = alternative("absent", &[]);
        let present = alternative("present", &[("texts", "text")]);
        baseline.components.push(component(
            "texts",
            ComponentKind::Shared,
            &[present, absent],
        ));
    });
    assert_eq!(
        error,
        BaselineError::Repeated {
            component: "texts".to_owned()
        }
    );
}

#[test]
fn what_can_t_be_decided_is_not_enabled_and_what_is_locked_is_not_disabled() {
    let mut selection = PolicySelection::default();
    for policy in [PolicyName::BitLockerEnabled, PolicyName::VsmRunning] {
        let error = selection.set(policy, true);
        assert_eq!(error, Err(PolicySettingError::NotDecided(policy)));
    }
    for policy in [PolicyName::SecureBootSettings, PolicyName::VsmIdkPresent] {
        let error = selection.set(policy, false);
        assert_eq!(error, Err(PolicySettingError::Locked(policy)));
    }
    assert_eq!(selection, PolicySelection::default());
}

#[test]
fn the_names_and_guids_of_the_specification() {
    let guids = [
        (
            "Hgs_SecureBootEnabled",
            "6a460ee1-62ea-416f-ae6c-04e29634506d",
        ),
        (
            "Hgs_SecureBootSettings",
            "756dc455-9528-479a-a86a-c646417316c9",
        ),
        (
            "Hgs_UefiDebugDisabled",
            "20188fda-d40b-460d-b078-2e7898a42ae9",
        ),
        ("Hgs_CiPolicy", "81f110ba-53c5-4064-9d64-51029fa24f49"),
        ("Hgs_FullBoot", "75ad09c9-7254-4d00-96f3-3b09d0aaac54"),
        ("Hgs_VsmIdkPresent", "75d595de-12f5-41e9-a61e-469d3205ecca"),
        ("Hgs_VsmRunning", "6c0a6d29-5bcb-4f28-bafb-f71eb60fdae0"),
        ("Hgs_IommuEnabled", "da0776e5-6570-44b3-9a17-7e95b4fc7779"),
        (
            "Hgs_BitLockerEnabled",
            "347da547-d266-4939-bf3d-9ec73a90bdbc",
        ),
        (
            "Hgs_PageFileEncryptionEnabled",
            "12df0ee9-b38e-4086-90f8-703d9e7cb878",
        ),
        (
            "Hgs_HypervisorEnforcedCiPolicy",
            "5408bd30-3250-4ac1-a150-c410af756699",
        ),
        ("Hgs_NoHibernation", "a32022c6-dccd-4bf5-be76-3b5ca1542559"),
        ("Hgs_NoDumps", "2a796e36-e918-454f-b610-60f086e8d334"),
        ("Hgs_DumpEncryption", "6f390a71-753c-43aa-a326-74e30aedcd9d"),
        (
            "Hgs_DumpEncryptionKey",
            "85dac0a4-8ba9-4a7f-a342-211862ce0be8",
        ),
    ];
    let ours = PolicyName::ALL.map(|policy| (policy.name(), policy.guid().to_string()));
    assert_eq!(
        ours.each_ref().map(|(name, guid)| (*name, guid.as_str())),
        guids
    );
    for policy in PolicyName::ALL {
        assert_eq!(PolicyName::from_name(policy.name()), Some(policy));
        let short = policy.name().trim_start_matches("Hgs_").to_lowercase();
        assert_eq!(PolicyName::from_name(&short), Some(policy));
    }
    assert_eq!(PolicyName::from_name("Hgs_"), None);
}

#[test]
fn the_digest_of_a_set_changes_with_each_part_of_it() {
    let set = try_compile(&[("reference", &small())]).unwrap();
    let renamed = try_compile(&[("other", &small())]).unwrap();
    let mut more = small();
    more.components[0]
        .alternatives
        .push(alternative("three", &[("image", "three")]));
    let more = try_compile(&[("reference", &more)]).unwrap();
    let mut host = HostMeasurements::default();
    host.parameters
        .insert("root".to_owned(), "value".to_owned());
    let of_host = set.for_host(&host).unwrap();
    let more_of_host = more.for_host(&host).unwrap();
    let root = host.parameters.get_mut("root").unwrap();
    root.push_str("-of-another");
    let of_other_host = set.for_host(&host).unwrap();
    let mut digests = [
        &set,
        &renamed,
        &more,
        &of_host,
        &more_of_host,
        &of_other_host,
    ]
    .map(|set| *set.digest())
    .to_vec();
    let mut with = |policy: PolicyName, change: &dyn Fn(&mut Documents)| {
        let mut documents = Documents {
            baselines: [("reference".to_owned(), small())].into(),
            ..Documents::default()
        };
        change(&mut documents);
        let mut selection = PolicySelection::default();
        selection.set(policy, true).unwrap();
        let set = PolicySet::compile(&selection, &documents).unwrap();
        digests.push(*set.digest());
    };
    for policy in [PolicyName::SecureBootEnabled, PolicyName::NoDumps] {
        with(policy, &|_| {});
    }
    for name in ["files", "other files"] {
        for file in ["/bin/a", "/bin/b"] {
            let files = [(file.to_owned(), digest("file"))];
            let files = CiPolicy::of_files("today", source(), files);
            with(PolicyName::CiPolicy, &|documents| {
                documents.ci_policies = [(name.to_owned(), files.clone())].into();
            });
            let key = DumpKey {
                files: vec![PathFiles {
                    path: file.to_owned(),
                    digests: vec![digest("file")],
                }],
            };
            with(PolicyName::DumpEncryption, &|documents| {
                documents.dump_keys = [(name.to_owned(), key.clone())].into();
            });
        }
    }
    for (place, digest) in digests.iter().enumerate() {
        assert!(!digests[..place].contains(digest), "{place}");
    }
    assert_eq!(
        set.digest(),
        try_compile(&[("reference", &small())]).unwrap().digest()
    );
    let evidence = recorded("secure-boot-on").prove().unwrap();
    let own = try_compile(&[("reference", &baseline_of(&evidence))]).unwrap();
    assert_eq!(own.evaluate(&evidence, NOW).policies(), own.digest());
}
