//! What the boot loader of Windows measures. The numbers are those of `wbcl.h`.

mod common;

use common::{Written, crypto_agile, extended, read};
use hgs_tcg::event_log::{
    Bank, EventType, ReplayedLog, WindowsFactsError, WindowsParameter as Parameter,
};

const EVENT_TAG: EventType = EventType(6);

fn parameter(number: u32, value: &[u8]) -> Vec<u8> {
    let length = u32::try_from(value.len()).unwrap();
    [&number.to_le_bytes()[..], &length.to_le_bytes(), value].concat()
}

fn tagged(pcr: u32, data: &[u8]) -> Written {
    Written::new(pcr, EVENT_TAG, data)
}

fn separator(pcr: u32) -> Written {
    Written::new(pcr, EventType::SEPARATOR, b"WBCL")
}

fn replayed(events: &[Written]) -> ReplayedLog {
    let values = extended(Bank::Sha256, events);
    let log = read(&crypto_agile(&[Bank::Sha256], events));
    log.replay(&values).unwrap()
}

/// A trust boundary with parameters beside and within containers.
fn boundary() -> Vec<u8> {
    let modules = parameter(0x4001_0003, &parameter(0x0007_0004, &[9; 32]));
    let inside = [
        parameter(0x0005_0001, &[0]),
        parameter(0x0005_0002, &[1]),
        modules,
        parameter(0x0005_0012, &1_u64.to_le_bytes()),
    ];
    parameter(0x4001_0001, &inside.concat())
}

#[test]
fn parameters_are_found_at_every_level_up_to_the_separator() {
    let later = tagged(12, &parameter(0x0005_0022, &[1]));
    let log = replayed(&[
        tagged(12, &boundary()),
        separator(12),
        later,
        tagged(13, &parameter(0x0004_0001, &[1])),
        separator(13),
    ]);
    let facts = log.windows_facts().unwrap();
    let found: Vec<_> = facts
        .iter()
        .map(|fact| (fact.pcr, fact.event, fact.parameter.number(), fact.is_set()))
        .collect();
    assert_eq!(
        found,
        [
            (12, 1, 0x0005_0001, Some(false)),
            (12, 1, 0x0005_0002, Some(true)),
            (12, 1, 0x0007_0004, None),
            (12, 1, 0x0005_0012, Some(true)),
            (13, 4, 0x0004_0001, Some(true)),
        ]
    );
    assert_eq!(facts[0].parameter, Parameter::KERNEL_DEBUG);
    assert_eq!(facts[4].parameter, Parameter::BOOT_DEBUGGING);
}

/// attacks.md A10: without the separator Windows could extend the PCR with what it likes; what can't be read may be the
/// debugger.
#[test]
fn a10_what_does_not_follow_from_the_pcrs_is_no_fact() {
    let refusal = |events: &[Written]| replayed(events).windows_facts().unwrap_err();
    let no_separator = [tagged(12, &boundary()), separator(13)];
    assert_eq!(
        refusal(&no_separator),
        WindowsFactsError::NoSeparator { pcr: 12 }
    );
    let hidden = [
        tagged(12, b"").of(&parameter(0x0005_0001, &[1])),
        separator(12),
        separator(13),
    ];
    let not_in_log = WindowsFactsError::NotInLog { pcr: 12, event: 1 };
    assert_eq!(refusal(&hidden), not_in_log);
    let mut deep = parameter(0x0005_0001, &[1]);
    for _ in 0..8 {
        deep = parameter(0x4001_0001, &deep);
    }
    let cut_short = &boundary()[..20];
    let too_long = parameter(0x0005_0001, &[1])[..8].to_vec();
    for data in [&deep[..], cut_short, &too_long, b"text"] {
        let events = [tagged(12, data), separator(12), separator(13)];
        let malformed = WindowsFactsError::Malformed { pcr: 12, event: 1 };
        assert_eq!(refusal(&events), malformed);
    }
}
