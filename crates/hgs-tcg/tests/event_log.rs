//! Event logs: reading both forms, budgets, and replay.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::{
    Written, assert_agrees, crypto_agile, crypto_agile_event, extended, header, read, sha1_form,
    variable, with_value,
};
use hgs_tcg::event_log::{
    Bank, Divergence, EventLog, EventLogError, EventType, Form, Guid, Limits, PcrMismatch,
    PcrValues, ReplayError,
};
use hgs_tcg::fuzzing;
use hgs_testkit::{Mutations, tool};
use proptest::prelude::*;

const HERE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/event-logs");
const BANKS: [Bank; 2] = [Bank::Sha1, Bank::Sha256];

fn logs_in(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut logs: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "bin"))
        .map(|path| {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            (name, fs::read(path).unwrap())
        })
        .collect();
    logs.sort();
    assert!(!logs.is_empty());
    logs
}

fn assert_all_agree(folder: &Path) {
    for (name, octets) in logs_in(folder) {
        let Ok(yaml) = fs::read_to_string(folder.join(format!("{name}.yaml"))) else {
            continue;
        };
        println!("{name}");
        assert_agrees(&octets, &yaml);
    }
}

/// A boot with a bit of everything.
fn boot() -> Vec<Written> {
    let secure_boot = variable(*Guid::GLOBAL_VARIABLE.octets(), "SecureBoot", &[1]);
    vec![
        Written::startup_locality(3),
        Written::new(0, EventType::S_CRTM_VERSION, b"1.0"),
        Written::new(7, EventType::EFI_VARIABLE_DRIVER_CONFIG, &secure_boot),
        Written::separator(7),
        Written::separator(0),
        Written::separator(4),
        Written::new(4, EventType::EFI_BOOT_SERVICES_APPLICATION, &[0; 32]).of(b"shim"),
        Written::new(4, EventType::EFI_BOOT_SERVICES_APPLICATION, &[0; 32]).of(b"grub"),
        Written::new(8, EventType::IPL, b"grub_cmd: boot\0").of(b"boot"),
        Written::new(4, EventType::EFI_BOOT_SERVICES_APPLICATION, &[0; 32]).of(b"linux"),
        Written::new(5, EventType(0x9000_1234), b"unknown"),
    ]
}

#[test]
fn agrees_with_tpm2_eventlog_on_logs_of_tpm2_tools() {
    assert_all_agree(Path::new(HERE));
    if let Some(shared) = hgs_testkit::shared() {
        assert_all_agree(&shared.join("vectors/eventlogs/tpm2-tools"));
        for boot in [
            "uefi-shim-grub-secureboot-on",
            "uefi-shim-grub-secureboot-off",
        ] {
            assert_all_agree(&shared.join("vectors/boots").join(boot));
        }
    }
}

#[test]
fn logs_of_go_eventlog_are_read_or_refused_with_a_reason() {
    let read_or_refused = |octets: &[u8]| match EventLog::read(octets.to_vec(), &Limits::LOG) {
        Ok(log) => format!("{} events", log.unverified().events().len()),
        Err(refusal) => refusal.to_string(),
    };
    let short = fs::read(format!("{HERE}/short-no-action.bin")).unwrap();
    assert_eq!(read_or_refused(&short), "1 events");
    assert_eq!(read(&short).unverified().startup_locality(), Some(3));
    let Some(shared) = hgs_testkit::shared() else {
        return;
    };
    for (name, octets) in logs_in(&shared.join("vectors/eventlogs/go-eventlog")) {
        let said = read_or_refused(&octets);
        println!("{name}: {said}");
        fuzzing::fuzz_event_log(&octets);
        assert!(said.ends_with(" events"), "{name}: {said}");
    }
}

#[test]
fn tpm2_eventlog_reads_what_the_tests_write_as_we_do() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("log");
    // Not all versions of the tool start PCR 0 at the locality that the first event tells.
    let octets = crypto_agile(&BANKS, &boot()[1..]);
    fs::write(&file, &octets).unwrap();
    let output = Command::new(tool("tpm2_eventlog", "tpm2-tools"))
        .arg(&file)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_agrees(&octets, &String::from_utf8(output.stdout).unwrap());
}

#[test]
fn real_boots_replay_to_the_pcrs_that_the_tpm_had_and_to_no_others() {
    let Some(shared) = hgs_testkit::shared() else {
        return;
    };
    let boots = [
        "uefi-shim-grub-secureboot-on",
        "uefi-shim-grub-secureboot-off",
    ]
    .map(|boot| {
        let folder = shared.join("vectors/boots").join(boot);
        let octets = fs::read(folder.join("pcrs-sha256.bin")).unwrap();
        let all = PcrValues::concatenated(Bank::Sha256, &octets).unwrap();
        let mut values = PcrValues::new(Bank::Sha256);
        // PCR 10 is IMA's.
        for (pcr, value) in all.iter().filter(|(pcr, _)| *pcr != 10) {
            values.insert(pcr, value.as_bytes()).unwrap();
        }
        (
            read(&fs::read(folder.join("eventlog.bin")).unwrap()),
            values,
            all,
        )
    });
    for (here, (log, values, all)) in boots.iter().enumerate() {
        let replayed = log.clone().replay(values).unwrap();
        let events: usize = replayed.lanes().map(|lane| lane.events().len()).sum();
        assert_eq!(
            events + 1,
            log.unverified().events().len(),
            "all but the header"
        );
        assert!(replayed.lane(10).is_none(), "no value, no lane");
        let ReplayError::Mismatch(mismatches) = log.clone().replay(all).unwrap_err() else {
            panic!("PCR 10 is not in the log");
        };
        assert_eq!(mismatches.len(), 1);
        assert_eq!(
            (mismatches[0].pcr, mismatches[0].divergence),
            (10, Divergence::NoEvents)
        );
        let ReplayError::Mismatch(mismatches) = log.clone().replay(&boots[1 - here].1).unwrap_err()
        else {
            panic!("another boot");
        };
        let pcrs: Vec<_> = mismatches.iter().map(|mismatch| mismatch.pcr).collect();
        assert_eq!(pcrs, [0, 4, 7, 8, 9]);
    }
}

#[test]
fn both_forms_are_read_and_replayed() {
    let log = read(&sha1_form(&boot()));
    assert_eq!(log.unverified().form(), Form::Sha1);
    assert_eq!(log.unverified().events().len(), boot().len());
    log.clone().replay(&extended(Bank::Sha1, &boot())).unwrap();
    let bank = Bank::Sha256;
    let refusal = log.replay(&extended(bank, &boot())).unwrap_err();
    assert_eq!(refusal, ReplayError::BankAbsent { bank });

    let log = read(&crypto_agile(&Bank::ALL, &boot()));
    assert_eq!(log.unverified().form(), Form::CryptoAgile);
    assert_eq!(log.unverified().events().len(), boot().len() + 1);
    for bank in Bank::ALL {
        log.clone().replay(&extended(bank, &boot())).unwrap();
    }
}

#[test]
fn digests_of_unknown_algorithms_are_skipped_by_their_declared_size() {
    let sha256 = (Bank::Sha256.algorithm(), 32);
    let write = |size: u16, octets: usize| {
        let mut log = header(&[(0x1234, size), sha256]);
        let known = crypto_agile_event(&[Bank::Sha256], &Written::separator(4));
        let mut event = known[..8].to_vec();
        event.extend(2_u32.to_le_bytes());
        event.extend(0x1234_u16.to_le_bytes());
        event.extend(vec![0xaa; octets]);
        event.extend(&known[12..]);
        log.extend(event);
        EventLog::read(log, &Limits::LOG)
    };
    let log = write(17, 17).unwrap();
    log.replay(&extended(Bank::Sha256, &[Written::separator(4)]))
        .unwrap();
    write(17, 18).unwrap_err();
    let identifier = 0x1234;
    for found in [0, 65] {
        let refusal = write(found, 17).unwrap_err();
        assert_eq!(refusal, EventLogError::DigestSize { identifier, found });
    }
}

#[test]
fn headers_and_digests_that_disagree_are_refused() {
    let refused = |octets: &[u8]| EventLog::read(octets.to_vec(), &Limits::LOG).unwrap_err();
    let (sha1, sha256) = ((4, 20), (0xb, 32));
    let identifier = 0xb;
    assert_eq!(
        refused(&header(&[(0xb, 20)])),
        EventLogError::DigestSize {
            identifier,
            found: 20
        }
    );
    assert_eq!(
        refused(&header(&[sha256, sha256])),
        EventLogError::DoubledAlgorithm { identifier }
    );
    assert!(matches!(
        refused(&header(&[])),
        EventLogError::Header { .. }
    ));
    let event = |banks: &[Bank]| crypto_agile_event(banks, &Written::separator(4));
    let undeclared = [header(&[sha1]), event(&[Bank::Sha256])].concat();
    assert_eq!(
        refused(&undeclared),
        EventLogError::UndeclaredAlgorithm {
            event: 1,
            identifier
        }
    );
    let doubled = [header(&[sha256]), event(&[Bank::Sha256, Bank::Sha256])].concat();
    assert_eq!(
        refused(&doubled),
        EventLogError::DoubledDigest {
            event: 1,
            identifier
        }
    );
    // An event without a digest of the bank is read, but the bank can't be replayed.
    let absent = [header(&[sha1, sha256]), event(&[Bank::Sha1])].concat();
    let refusal = read(&absent)
        .replay(&PcrValues::new(Bank::Sha256))
        .unwrap_err();
    let bank = Bank::Sha256;
    assert_eq!(
        refusal,
        ReplayError::DigestAbsent {
            event: 1,
            pcr: 4,
            bank
        }
    );
    let no_pcr = [
        header(&[sha256]),
        crypto_agile_event(&[bank], &Written::separator(24)),
    ]
    .concat();
    assert_eq!(
        refused(&no_pcr),
        EventLogError::NoSuchPcr { event: 1, pcr: 24 }
    );
    let no_action = Written::new(u32::MAX, EventType::NO_ACTION, b"Windows");
    let no_action = [header(&[sha256]), crypto_agile_event(&[bank], &no_action)].concat();
    assert_eq!(read(&no_action).unverified().events().len(), 2);
}

#[test]
fn each_budget_has_its_own_error() {
    let octets = crypto_agile(&BANKS, &boot());
    let refused = |limits: Limits| {
        let refusal = EventLog::read(octets.clone(), &limits).unwrap_err();
        assert!(refusal.is_over_limit());
        refusal
    };
    let (found, all) = (octets.len(), Limits::LOG);
    let limit = found - 1;
    assert_eq!(
        refused(Limits {
            octets: limit,
            ..all
        }),
        EventLogError::TooLarge { found, limit }
    );
    assert_eq!(
        refused(Limits { events: 11, ..all }),
        EventLogError::TooManyEvents { limit: 11 }
    );
    assert_eq!(
        refused(Limits { digests: 1, ..all }),
        EventLogError::TooManyDigests {
            event: 0,
            found: 2,
            limit: 1
        }
    );
    let limit = 52;
    assert_eq!(
        refused(Limits {
            event_octets: limit,
            ..all
        }),
        EventLogError::EventTooLarge {
            event: 3,
            found: 53,
            limit
        }
    );
    let exact = Limits {
        octets: found,
        events: 12,
        digests: 2,
        event_octets: 53,
    };
    EventLog::read(octets.clone(), &exact).unwrap();
    let mut many = header(&[(4, 20)]);
    many.extend(crypto_agile_event(&[Bank::Sha1; 9], &Written::separator(0)));
    assert_eq!(
        EventLog::read(many, &all).unwrap_err(),
        EventLogError::TooManyDigests {
            event: 1,
            found: 9,
            limit: 8
        }
    );
}

#[test]
fn zeros_after_the_last_event_are_padding_and_nothing_else_is() {
    let octets = crypto_agile(&BANKS, &boot());
    for padding in [0, 1, 15, 16, 4096] {
        let padded = [octets.clone(), vec![0; padding]].concat();
        assert_eq!(read(&padded).unverified().padding(), padding);
        assert_eq!(read(&padded).unverified().events().len(), boot().len() + 1);
    }
    let other = [octets, vec![0, 0xff]].concat();
    let refusal = EventLog::read(other, &Limits::LOG).unwrap_err();
    assert!(
        matches!(refusal, EventLogError::Truncated { event: 12, .. }),
        "{refusal}"
    );
    for nothing in [vec![], vec![0; 100]] {
        let refusal = EventLog::read(nothing, &Limits::LOG).unwrap_err();
        assert_eq!(refusal, EventLogError::Empty);
    }
}

#[test]
fn startup_locality_is_one_of_three_and_comes_once_and_first() {
    for locality in [0, 3, 4] {
        let events = [Written::startup_locality(locality), Written::separator(0)];
        let log = read(&crypto_agile(&BANKS, &events));
        let values = extended(Bank::Sha256, &events);
        log.clone().replay(&values).unwrap();
        // Without the event, or with another locality, PCR 0 starts elsewhere.
        for others in [vec![], vec![Written::startup_locality(3 - locality % 4)]] {
            let others = [others, vec![Written::separator(0)]].concat();
            let refusal = read(&crypto_agile(&BANKS, &others)).replay(&values);
            assert_eq!(refusal.is_ok(), locality == 0 && others.len() == 1);
        }
    }
    let refused = |events: &[Written]| {
        let read = EventLog::read(crypto_agile(&BANKS, events), &Limits::LOG);
        let Err(EventLogError::StartupLocality { event, what }) = read else {
            panic!("{read:?}");
        };
        (event, what)
    };
    let three = Written::startup_locality(3);
    assert_eq!(
        refused(&[Written::startup_locality(1)]),
        (1, "is none of 0, 3 and 4")
    );
    assert_eq!(
        refused(&[three.clone(), three.clone()]),
        (2, "comes a second time")
    );
    let late = [Written::separator(0), three];
    assert_eq!(refused(&late), (2, "comes after PCR 0 was extended"));
}

/// The first mismatch of a log with values.
fn mismatch(events: &[Written], values: &PcrValues) -> PcrMismatch {
    let refusal = read(&crypto_agile(&BANKS, events))
        .replay(values)
        .unwrap_err();
    let ReplayError::Mismatch(mismatches) = &refusal else {
        panic!("{refusal}");
    };
    let text = refusal.to_string();
    for part in [
        mismatches[0].expected.to_string(),
        mismatches[0].found.to_string(),
    ] {
        assert!(text.contains(&part), "{text}");
    }
    mismatches[0]
}

#[test]
fn a_refusal_names_the_pcr_and_where_log_and_pcr_part() {
    let values = extended(Bank::Sha256, &boot());
    // The last event of PCR 4 was logged, and not measured.
    let before: Vec<_> = [boot()[..9].to_vec(), boot()[10..].to_vec()].concat();
    let found = mismatch(&boot(), &extended(Bank::Sha256, &before));
    assert_eq!(
        (found.pcr, found.divergence),
        (4, Divergence::NotExtended { event: 10 })
    );
    assert_eq!(Some(found.found), values.value(4));
    // One event too many.
    let mut inserted = boot();
    inserted.insert(6, Written::new(4, EventType::EFI_ACTION, b"one more"));
    let found = mismatch(&inserted, &values);
    assert_eq!(
        (found.pcr, found.divergence),
        (4, Divergence::Inserted { event: 7 })
    );
    assert_eq!(Some(found.expected), values.value(4));
    // Two exchanged.
    let mut exchanged = boot();
    exchanged.swap(6, 7);
    let found = mismatch(&exchanged, &values);
    assert_eq!(
        (found.pcr, found.divergence),
        (4, Divergence::Exchanged { event: 7 })
    );
    // Data altered with its digest, and the digest alone.
    let mut altered = boot();
    altered[2].data = variable(*Guid::GLOBAL_VARIABLE.octets(), "SecureBoot", &[0]);
    let found = mismatch(&altered, &values);
    assert_eq!((found.pcr, found.divergence), (7, Divergence::Unknown));
    altered[2] = boot()[2].clone().of(b"another");
    let found = mismatch(&altered, &values);
    assert_eq!(
        (found.pcr, found.divergence),
        (7, Divergence::OtherDigest { event: 3 })
    );
    // A PCR that the log does not have.
    let found = mismatch(&boot(), &with_value(&values, 12, Bank::Sha256.filled(7)));
    assert_eq!((found.pcr, found.divergence), (12, Divergence::NoEvents));
    // What is called EV_NO_ACTION extends nothing.
    let mut silent = boot();
    silent[6].event_type = EventType::NO_ACTION;
    assert_eq!(mismatch(&silent, &values).pcr, 4);
}

#[test]
fn only_the_order_within_a_pcr_is_a_lane() {
    let values = extended(Bank::Sha256, &boot());
    let digests = |events: &[Written]| -> Vec<Vec<_>> {
        let replayed = read(&crypto_agile(&BANKS, events)).replay(&values).unwrap();
        let lane = |lane: hgs_tcg::event_log::Lane<'_>| {
            lane.events()
                .map(|event| event.digest())
                .collect::<Vec<_>>()
        };
        replayed.lanes().map(lane).collect()
    };
    let mut other_interleaving = boot();
    other_interleaving.sort_by_key(|event| event.pcr);
    assert_eq!(digests(&boot()), digests(&other_interleaving));
}

#[test]
fn what_systemd_extends_pcr_11_with_is_known() {
    let section = [Written::new(11, EventType::IPL, b".linux").of(b".linux\0")];
    let log = read(&crypto_agile(&BANKS, &section));
    let mut values = extended(Bank::Sha256, &section);
    assert!(
        log.clone()
            .replay(&values)
            .unwrap()
            .boot_phases()
            .is_empty()
    );
    let phases = ["enter-initrd", "leave-initrd", "sysinit", "ready"];
    for (last, phase) in phases.iter().enumerate() {
        let digest = Bank::Sha256.hash(&[phase.as_bytes()]);
        values = with_value(
            &values,
            11,
            values.value(11).unwrap().extended_with(&digest),
        );
        let replayed = log.clone().replay(&values).unwrap();
        assert_eq!(replayed.boot_phases(), &phases[..=last]);
        assert_eq!(replayed.lane(11).unwrap().events().len(), 1);
    }
    // Only in this order, and only there.
    let ready = Bank::Sha256.hash(&[b"ready"]);
    let other = with_value(&values, 11, values.value(11).unwrap().extended_with(&ready));
    assert!(log.clone().replay(&other).is_err());
    let other = with_value(&values, 12, Bank::Sha256.filled(0).extended_with(&ready));
    assert!(log.replay(&other).is_err());
}

#[test]
fn a_log_that_is_cut_anywhere_is_refused_or_not_proved() {
    let octets = crypto_agile(&BANKS, &boot());
    let values = extended(Bank::Sha256, &boot());
    for length in 0..octets.len() {
        let read = EventLog::read(octets[..length].to_vec(), &Limits::LOG);
        assert!(
            read.is_err() || read.unwrap().replay(&values).is_err(),
            "{length}"
        );
    }
}

#[test]
fn every_bit_of_a_digest_counts() {
    let octets = crypto_agile(&[Bank::Sha256], &boot());
    let values = extended(Bank::Sha256, &boot());
    for (number, event) in read(&octets).unverified().events().enumerate().skip(2) {
        let digest = event.digest(Bank::Sha256).unwrap();
        let digest = digest.as_bytes();
        let found = octets.windows(32).rposition(|window| window == digest);
        let place = found.unwrap();
        for bit in 0..256 {
            let mut altered = octets.clone();
            altered[place + bit / 8] ^= 1 << (bit % 8);
            assert!(
                read(&altered).replay(&values).is_err(),
                "event {number}, bit {bit}"
            );
        }
    }
}

#[test]
fn mutations_do_not_panic() {
    let mut corpus = vec![
        crypto_agile(&Bank::ALL, &boot()),
        sha1_form(&boot()),
        [crypto_agile(&BANKS, &boot()), vec![0; 64]].concat(),
    ];
    corpus.extend(
        logs_in(Path::new(HERE))
            .into_iter()
            .map(|(_, octets)| octets),
    );
    let tokens: [&[u8]; 6] = [
        b"Spec ID Event03\0",
        b"StartupLocality\0",
        b"\x03\0\0\0",
        b"\x0b\0\x20\0",
        b"\xff\xff\xff\xff",
        &[0; 32],
    ];
    corpus
        .iter()
        .for_each(|octets| fuzzing::fuzz_event_log(octets));
    for octets in Mutations::of(&corpus, &tokens).take(5_000) {
        fuzzing::fuzz_event_log(&octets);
    }
}

fn any_event() -> impl Strategy<Value = Written> {
    let data = proptest::collection::vec(any::<u8>(), 0..40);
    let preimage = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..8));
    (0..17_u32, 4..20_u32, data, preimage).prop_map(|(pcr, event_type, data, preimage)| Written {
        pcr,
        event_type: EventType(event_type),
        data,
        preimage,
    })
}

proptest! {
    #[test]
    fn any_log_replays_to_its_pcrs_and_to_no_other(
        events in proptest::collection::vec(any_event(), 1..40),
        lost in any::<prop::sample::Index>(),
    ) {
        let octets = crypto_agile(&Bank::ALL, &events);
        for bank in Bank::ALL {
            let values = extended(bank, &events);
            let replayed = read(&octets).replay(&values).unwrap();
            for lane in replayed.lanes() {
                let written = events.iter().filter(|event| event.pcr as usize == lane.pcr());
                let written: Vec<_> = written.map(|event| event.data.as_slice()).collect();
                let found: Vec<_> = lane.events().map(|event| event.unverified_data()).collect();
                prop_assert_eq!(found, written);
                prop_assert_eq!(lane.facts().len(), lane.events().len());
            }
            let mut fewer = events.clone();
            fewer.remove(lost.index(events.len()));
            prop_assert!(read(&octets).replay(&extended(bank, &fewer)).is_err());
            prop_assert!(read(&crypto_agile(&Bank::ALL, &fewer)).replay(&values).is_err());
        }
        read(&sha1_form(&events)).replay(&extended(Bank::Sha1, &events)).unwrap();
    }
}
