//! Documents are read strictly, within budgets, and as they were written.

use hgs_attest::policy::{
    Baseline, CiPolicy, ComponentKind, DocumentError, DumpKey, Encoding, ExpectedEvent, FinalValue,
    HostComponent, HostMeasurements, MAX_ALTERNATIVES, MAX_BASELINE_OCTETS, MAX_TEXT_OCTETS, State,
};
use proptest::prelude::*;

use crate::common::{Boot, Event, NOW, baseline_of, recorded};
use crate::compiling::{digest, small, source};

#[test]
fn a_document_is_read_as_it_was_written() {
    let baseline = baseline_of(&recorded("secure-boot-on").prove().unwrap());
    assert_eq!(
        Baseline::from_json(baseline.to_json().as_bytes()),
        Ok(baseline)
    );
    assert_eq!(
        Baseline::from_json(small().to_json().as_bytes()),
        Ok(small())
    );
}

#[test]
fn what_is_no_document_of_the_kind_is_refused_by_name() {
    let text = small().to_json();
    let read = |text: &str| {
        Baseline::from_json(text.as_bytes())
            .map(|_| ())
            .unwrap_err()
    };
    assert!(matches!(read(""), DocumentError::Malformed(_)));
    assert!(matches!(read("{}"), DocumentError::Kind { .. }));
    let kind = read(&text.replace("openhgs-baseline", "openhgs-ci-policy"));
    assert_eq!(
        kind.to_string(),
        "the document is not one of kind `openhgs-baseline`: `kind` is `openhgs-ci-policy`"
    );
    assert_eq!(
        read(&text.replace("\"version\": 1", "\"version\": 2")),
        DocumentError::Version(2)
    );
    let malformed =
        |text: &str| assert!(matches!(read(text), DocumentError::Malformed(_)), "{text}");
    malformed(&text.replacen("\"lanes\"", "\"lines\"", 1));
    malformed(&text.replacen("\"pcr\"", "\"pcr\": 4, \"pcr\"", 1));
    malformed(&text.replacen("\"shared\"", "\"common\"", 1));
    malformed(&format!("{text}{{}}"));
    let upper = text.replacen("\"digest\": \"", "\"digest\": \"A", 1);
    malformed(&upper);
    let both = text.replacen("\"digest\"", "\"text\": \"x\", \"digest\"", 1);
    malformed(&both);
    assert!(matches!(
        read(&text.replace(
            "\"one\",\n          \"source\"",
            "\"two\",\n          \"source\""
        )),
        DocumentError::Inconsistent(_)
    ));
    let steering = read(&text.replace("\"program\"", "\"pro\\u202egram\""));
    assert!(!steering.to_string().contains('\u{202e}'), "{steering}");
    assert!(matches!(steering, DocumentError::Inconsistent(_)));
    let long = vec![b' '; MAX_BASELINE_OCTETS + 1];
    assert!(matches!(
        Baseline::from_json(&long),
        Err(DocumentError::TooLarge { .. })
    ));
}

#[test]
fn a_document_with_more_of_something_than_it_may_have_is_refused() {
    let mut many = small();
    let component = many.components[0].clone();
    many.components
        .extend((0..128).map(|number| hgs_attest::policy::Component {
            name: format!("component {number}"),
            ..component.clone()
        }));
    let read = Baseline::from_json(many.to_json().as_bytes());
    assert_eq!(
        read,
        Err(DocumentError::TooMany {
            what: "components",
            limit: 128
        })
    );
    let mut long = small();
    let events = &mut long.components[0].alternatives[0].events[0].events;
    *events = vec![events[0].clone(); 513];
    let read = Baseline::from_json(long.to_json().as_bytes());
    assert!(matches!(
        read,
        Err(DocumentError::TooMany { limit: 512, .. })
    ));
}

pub(crate) fn final_value(pcr: u8) -> FinalValue {
    FinalValue {
        name: "value".to_owned(),
        pcr,
        value: digest("value"),
        source: source(),
        state: State::promoted(),
    }
}

#[test]
fn each_list_of_a_baseline_has_its_limit_and_each_name_its_form() {
    let read = |change: &dyn Fn(&mut Baseline)| {
        let mut baseline = small();
        baseline.final_values.push(final_value(5));
        change(&mut baseline);
        Baseline::from_json(baseline.to_json().as_bytes())
    };
    assert!(read(&|_| {}).is_ok());
    let too_many = |what, limit| Err(DocumentError::TooMany { what, limit });
    assert_eq!(
        read(&|baseline| baseline.lanes = vec![baseline.lanes[0].clone(); 25]),
        too_many("PCRs", 24)
    );
    assert_eq!(
        read(&|baseline| {
            let slots = &mut baseline.lanes[0].slots;
            *slots = vec![slots[0].clone(); 129];
        }),
        too_many("slots of a PCR", 128)
    );
    assert_eq!(
        read(&|baseline| baseline.final_values = vec![final_value(5); 1025]),
        too_many("final values", 1024)
    );
    assert_eq!(
        read(&|baseline| {
            let alternatives = &mut baseline.components[0].alternatives;
            alternatives[0].events.clear();
            *alternatives = vec![alternatives[0].clone(); MAX_ALTERNATIVES + 1];
        }),
        too_many("alternatives of a component", MAX_ALTERNATIVES)
    );
    for change in [
        (|baseline| baseline.lanes[0].slots[0].component.clear()) as fn(&mut Baseline),
        |baseline| baseline.lanes[0].slots[0].name.push(' '),
        |baseline| baseline.components[0].name.push('\n'),
        |baseline| baseline.components[0].alternatives[0].name.clear(),
        |baseline| baseline.components[0].alternatives[0].source.of.clear(),
        |baseline| {
            baseline.components[0].alternatives[0].events[0]
                .slot
                .clear()
        },
        |baseline| {
            let events = &mut baseline.components[0].alternatives[0].events;
            events.push(events[0].clone());
        },
        |baseline| baseline.final_values[0].name.clear(),
        |baseline| baseline.final_values[0].source.of.clear(),
        |baseline| baseline.components[0].name = "x".repeat(201),
    ] {
        let refused = read(&change);
        assert!(
            matches!(refused, Err(DocumentError::Inconsistent(_))),
            "{refused:?}"
        );
    }
}

#[test]
fn what_a_host_has_of_its_own_is_held_to_the_same_limits_and_forms() {
    let read = |change: &dyn Fn(&mut HostMeasurements)| {
        let mut measurements = HostMeasurements {
            components: vec![HostComponent {
                name: "program".to_owned(),
                alternatives: small().components[0].alternatives.clone(),
            }],
            ..HostMeasurements::default()
        };
        let root = ("root".to_owned(), "/dev/sda1".to_owned());
        measurements.parameters.extend([root]);
        change(&mut measurements);
        HostMeasurements::from_json(measurements.to_json().as_bytes())
    };
    assert!(read(&|_| {}).is_ok());
    let too_many = |what, limit| Err(DocumentError::TooMany { what, limit });
    let many = |count: usize| (0..count).map(|number| (format!("p-{number}"), "x".to_owned()));
    assert!(read(&|own| own.parameters = many(64).collect()).is_ok());
    assert_eq!(
        read(&|own| own.parameters = many(65).collect()),
        too_many("parameters", 64)
    );
    assert_eq!(
        read(&|own| own.components = vec![own.components[0].clone(); 129]),
        too_many("components", 128)
    );
    let parameter = |own: &mut HostMeasurements, name: &str, value: &str| {
        own.parameters = [(name.to_owned(), value.to_owned())].into();
    };
    let longest = "x".repeat(256);
    assert!(read(&|own| parameter(own, "root", &longest)).is_ok());
    for (name, value) in [
        ("Root", "x"),
        ("", "x"),
        ("root", ""),
        ("root", "two words"),
        ("root", "{x}"),
        ("root", "\"x\""),
        ("root", &format!("{longest}x")),
    ] {
        let refused = read(&|own| parameter(own, name, value));
        assert!(
            matches!(refused, Err(DocumentError::Inconsistent(_))),
            "{name} {value}: {refused:?}"
        );
    }
    for change in [
        (|own| own.components[0].name.clear()) as fn(&mut HostMeasurements),
        |own| own.components[0].alternatives[0].name.clear(),
        |own| own.components.push(own.components[0].clone()),
    ] {
        let refused = read(&change);
        assert!(
            matches!(refused, Err(DocumentError::Inconsistent(_))),
            "{refused:?}"
        );
    }
}

#[test]
fn what_a_host_claims_is_checked_and_so_is_what_becomes_of_its_record() {
    let of = |names: &[String]| HostMeasurements {
        components: names
            .iter()
            .map(|name| HostComponent {
                name: name.clone(),
                alternatives: small().components[0].alternatives.clone(),
            })
            .collect(),
        ..HostMeasurements::default()
    };
    let accept = |known: &HostMeasurements, claim: &HostMeasurements| {
        known.accept_claim(claim, "host-07", NOW).map(drop)
    };
    let program = of(&["program".to_owned()]);
    let numbers: Vec<_> = (0..128).map(|number| format!("c-{number}")).collect();
    assert_eq!(accept(&of(&numbers[1..]), &program), Ok(()));
    let (what, limit) = ("components", 128);
    assert_eq!(
        accept(&of(&numbers), &program),
        Err(DocumentError::TooMany { what, limit })
    );
    // Together they would be one component.
    let twice = of(&["program".to_owned(), "program".to_owned()]);
    let refused = accept(&HostMeasurements::default(), &twice);
    assert!(
        matches!(refused, Err(DocumentError::Inconsistent(_))),
        "{refused:?}"
    );
}

fn of_one_file() -> CiPolicy {
    let files = [("/usr/bin/".to_owned(), digest("program"))];
    CiPolicy::of_files("today", source(), files)
}

#[test]
fn a_policy_of_files_is_held_to_its_limits_and_its_words_and_paths_to_their_form() {
    let refused = |change: &dyn Fn(&mut CiPolicy)| {
        let mut policy = of_one_file();
        change(&mut policy);
        CiPolicy::from_json(policy.to_json().as_bytes()).unwrap_err()
    };
    let too_many = |what, limit| DocumentError::TooMany { what, limit };
    let words = |words: &[&str]| -> Vec<_> { words.iter().map(ToString::to_string).collect() };
    for wrong in ["", "TCB", "tcb secure_boot", "tcb\""] {
        let error = refused(&|policy| policy.ima_policy = words(&["tcb", wrong]));
        assert!(matches!(error, DocumentError::Inconsistent(_)), "{error}");
    }
    assert_eq!(
        refused(&|policy| policy.ima_policy = words(&["tcb"; 17])),
        too_many("words of `ima_policy`", 16)
    );
    assert_eq!(
        refused(&|policy| policy.sets = vec![policy.sets[0].clone(); 1025]),
        too_many("sets", 1024)
    );
    let files = |count| vec![of_one_file().sets[0].files[0].clone(); count];
    assert_eq!(
        refused(&|policy| policy.sets[0].files = files(1025)),
        too_many("paths of a set", 1024)
    );
    for change in [
        (|policy| policy.sets[0].name.clear()) as fn(&mut CiPolicy),
        |policy| policy.sets[0].source.of.clear(),
        |policy| policy.sets[0].files[0].path.push(' '),
        |policy| policy.sets[0].files = vec![policy.sets[0].files[0].clone(); 2],
    ] {
        let error = refused(&change);
        assert!(matches!(error, DocumentError::Inconsistent(_)), "{error}");
    }
    let dump_key = |files| DumpKey::from_json(DumpKey { files }.to_json().as_bytes());
    assert!(dump_key(files(1)).is_ok());
    assert!(dump_key(files(2)).is_err());
    assert!(dump_key(Vec::new()).is_err());
}

#[test]
fn octets_are_a_text_only_if_they_are_it_whole() {
    let utf_16 = |octets: &[u8]| Encoding::Utf16Nul.text(octets);
    assert_eq!(utf_16(b"a\0b\0\0\0"), Some("ab".to_owned()));
    for wrong in [b"a\0b\0\0\0b".as_slice(), b"a\0\0\0b\0\0\0", b"a\0b\0", b""] {
        assert_eq!(utf_16(wrong), None, "{wrong:?}");
    }
    let utf_8 = |octets: &[u8]| Encoding::Utf8Nul.text(octets);
    assert_eq!(utf_8(b"ab\0"), Some("ab".to_owned()));
    for wrong in [b"ab".as_slice(), b"a\0b\0", b"\xff\0", b""] {
        assert_eq!(utf_8(wrong), None, "{wrong:?}");
    }
}

#[test]
fn a_text_that_no_document_holds_is_kept_as_its_digest() {
    for (text, is_text) in [
        ("x".repeat(MAX_TEXT_OCTETS), true),
        ("x".repeat(MAX_TEXT_OCTETS + 1), false),
        ("one\0two".to_owned(), false),
    ] {
        let mut boot = Boot::recorded("secure-boot-on");
        *boot.event(39) = Event::command(&text);
        let baseline = baseline_of(&boot.proved());
        let written = baseline.to_json();
        assert_eq!(Baseline::from_json(written.as_bytes()), Ok(baseline));
        assert_eq!(written.contains(&text), is_text);
    }
}

#[test]
fn the_text_of_an_event_is_held_to_its_length_and_names_parameters_as_they_are_called() {
    let read = |text: &str| {
        let mut baseline = small();
        baseline.components[0].kind = ComponentKind::Parametrised;
        baseline.components[0].alternatives[0].events[0].events = vec![ExpectedEvent::Text {
            text: text.to_owned(),
            encoding: Encoding::Utf8,
        }];
        Baseline::from_json(baseline.to_json().as_bytes()).map(|_| ())
    };
    assert_eq!(read("root={root-1_a} {{literal}}"), Ok(()));
    assert_eq!(read(&format!("{{{}}}", "r".repeat(64))), Ok(()));
    let long_name = format!("{{{}}}", "r".repeat(65));
    for wrong in ["{Root}", "{}", "{ro ot}", "{root", "root}", &long_name] {
        let refused = read(wrong);
        assert!(
            matches!(refused, Err(DocumentError::Inconsistent(_))),
            "{wrong}: {refused:?}"
        );
    }
    assert_eq!(read(&"a".repeat(MAX_TEXT_OCTETS)), Ok(()));
    let what = "octets in the text of an event";
    let limit = MAX_TEXT_OCTETS;
    for more in [1, 2] {
        assert_eq!(
            read(&"a".repeat(limit + more)),
            Err(DocumentError::TooMany { what, limit })
        );
    }
}

#[test]
fn two_sets_of_files_have_two_names() {
    let mut policy = of_one_file();
    policy.sets.push(policy.sets[0].clone());
    let read = |policy: &CiPolicy| CiPolicy::from_json(policy.to_json().as_bytes());
    assert!(matches!(
        read(&policy),
        Err(DocumentError::Inconsistent(reason)) if reason.contains("`today`")
    ));
    policy.sets[1].name = "tomorrow".to_owned();
    assert_eq!(read(&policy).as_ref(), Ok(&policy));
}

#[test]
fn a_parameter_that_stands_there_twice_is_refused() {
    let text =
        r#"{"kind":"openhgs-host-measurements","version":1,"parameters":{"root":"a","root":"b"}}"#;
    assert!(matches!(
        HostMeasurements::from_json(text.as_bytes()),
        Err(DocumentError::Malformed(_))
    ));
    let once = text.replace(r#","root":"b""#, "");
    assert!(HostMeasurements::from_json(once.as_bytes()).is_ok());
}

/// The examples of a page, by the kind of document.
fn examples(page: &str, kind: &str) -> Vec<String> {
    let blocks = page.split("```json\n").skip(1);
    let blocks = blocks.map(|block| block.split("```").next().unwrap().to_owned());
    let kind = format!("\"kind\": \"{kind}\"");
    blocks.filter(|block| block.contains(&kind)).collect()
}

#[test]
fn the_examples_of_the_pages_are_documents() {
    let of_baselines = include_str!("../../../../docs/baseline.md");
    let of_policies = include_str!("../../../../docs/policies.md");
    let baselines = examples(of_baselines, "openhgs-baseline");
    assert!(!baselines.is_empty());
    for text in baselines {
        let baseline = Baseline::from_json(text.as_bytes()).unwrap();
        crate::common::try_compile(&[("example", &baseline)]).unwrap();
    }
    let records = examples(of_baselines, "openhgs-host-measurements");
    assert!(!records.is_empty());
    for text in records {
        HostMeasurements::from_json(text.as_bytes()).unwrap();
    }
    let policies = examples(of_policies, "openhgs-ci-policy");
    assert!(!policies.is_empty());
    for text in policies {
        CiPolicy::from_json(text.as_bytes()).unwrap();
    }
    let keys = examples(of_policies, "openhgs-dump-key");
    assert!(!keys.is_empty());
    for text in keys {
        DumpKey::from_json(text.as_bytes()).unwrap();
    }
}

#[test]
fn the_page_of_policies_has_each_policy_with_its_guid() {
    let page = include_str!("../../../../docs/policies.md");
    for policy in hgs_attest::policy::PolicyName::ALL {
        let row = format!("| `{policy}` | {} |", policy.guid());
        assert!(page.contains(&row), "{row}");
        let substatus = format!("| {} |", policy.substatus());
        assert!(
            page.lines()
                .any(|line| line.contains(&row) && line.contains(&substatus)),
            "{row} {substatus}"
        );
    }
}

proptest! {
    /// No octets make a reader panic, and what is read is written as it was.
    #[test]
    fn changed_documents_are_read_or_refused(changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4)) {
        let mut octets = small().to_json().into_bytes();
        for (place, octet) in changes {
            let place = place.index(octets.len());
            octets[place] = octet;
        }
        if let Ok(baseline) = Baseline::from_json(&octets) {
            prop_assert_eq!(Baseline::from_json(baseline.to_json().as_bytes()).unwrap(), baseline);
        }
    }
}
