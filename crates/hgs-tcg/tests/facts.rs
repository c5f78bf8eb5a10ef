//! What follows from the events of a proved log.

mod common;

use std::fs;

use common::{Written, crypto_agile, extended, read, variable};
use hgs_tcg::event_log::{
    Action, Bank, CommandLineMeasurement, EventType, Fact, Guid, Meaning, PcrValues, Place,
    Preimage, ReplayedLog, Section, SecureBoot, SecureBootError,
};

const BANKS: [Bank; 1] = [Bank::Sha256];

fn replayed(events: &[Written]) -> ReplayedLog {
    let values = extended(Bank::Sha256, events);
    read(&crypto_agile(&BANKS, events)).replay(&values).unwrap()
}

fn wide(text: &str) -> Vec<u8> {
    let units = text.encode_utf16().chain([0]);
    units.flat_map(u16::to_le_bytes).collect()
}

fn secure_boot(value: &[u8]) -> Written {
    let data = variable(*Guid::GLOBAL_VARIABLE.octets(), "SecureBoot", value);
    Written::new(7, EventType::EFI_VARIABLE_DRIVER_CONFIG, &data)
}

/// One line for a fact: event, PCR, what, and the rule for its preimage.
fn line(fact: &Fact<'_>) -> String {
    let what = match fact.meaning() {
        Meaning::SecureBootVariable(variable) => format!("variable {}", variable.name()),
        Meaning::Authority(variable) => format!("authority {}", variable.name()),
        Meaning::BootVariable(variable) => format!("boot {}", variable.name()),
        Meaning::Action(action) => action.text().to_owned(),
        Meaning::LoaderText(text) => format!("text {}", text.escape_ascii()),
        Meaning::PartitionTable(_) => "GPT".to_owned(),
        other => format!("{other:?}"),
    };
    let place = match fact.place() {
        Place::BeforeSeparator => "before",
        Place::Separator => "at",
        Place::AfterSeparator => "after",
        Place::NoSeparator => "-",
    };
    let preimage = fact.preimage();
    format!(
        "{} {} {place} {preimage:?} {what}",
        fact.number(),
        fact.pcr()
    )
}

/// The events of reference measurements, decomposed by hand: what each digest was found to be taken over.
const SECURE_BOOT_ON: &str = "\
1 0 before EventData Firmware
2 0 before NotInLog Firmware
3 0 before NotInLog Firmware
4 7 before EventData variable SecureBoot
5 7 before EventData variable PK
6 7 before EventData variable KEK
7 7 before EventData variable db
8 7 before EventData variable dbx
9 7 at Constant Separator
10 1 before DataOfVariable boot BootOrder
11 1 before DataOfVariable boot Boot0001
12 1 before DataOfVariable boot Boot0000
13 1 before DataOfVariable boot Boot0002
14 4 before Constant Calling EFI Application from Boot Option
15 0 at Constant Separator
16 1 at Constant Separator
17 2 at Constant Separator
18 3 at Constant Separator
19 4 at Constant Separator
20 5 at Constant Separator
21 6 at Constant Separator
22 7 after EventData authority db
23 5 after EventData GPT
24 4 after NotInLog Image
25 14 - NotInLog MokList
26 14 - NotInLog MokList
27 7 after EventData authority SbatLevel
28 14 - Constant MokListTrusted
29 7 after EventData authority MokListRT
30 4 after NotInLog Image
31 8 - TextAfterPrefix text [ -z (hd0,gpt1)/EFI/debian -o ! -e (hd0,gpt1)/EFI/debian ]
32 8 - TextAfterPrefix text [ -e (hd0,gpt1)/EFI/debian/x86_64-efi/grub.cfg ]
33 8 - TextAfterPrefix text [ -e (hd0,gpt1)/EFI/debian/grub.cfg ]
34 8 - TextAfterPrefix text source (hd0,gpt1)/EFI/debian/grub.cfg
35 9 - NotInLog File
36 8 - TextAfterPrefix text set timeout=0
37 8 - TextAfterPrefix text serial --unit=0 --speed=115200
38 8 - TextAfterPrefix text terminal_output serial
39 8 - TextAfterPrefix text terminal_input serial
40 8 - TextAfterPrefix text linux /vmlinuz console=ttyS0 quiet gmode=log
41 9 - NotInLog File
42 4 after NotInLog Image
43 4 after NotInLog Image
44 8 - TextAfterPrefix text /vmlinuz console=ttyS0 quiet gmode=log
45 8 - TextAfterPrefix text initrd /initrd.gz
46 9 - NotInLog File
47 8 - TextAfterPrefix text boot
48 5 after Constant Exit Boot Services Invocation
49 5 after Constant Exit Boot Services Returned with Success";

/// The same disk, without keys: no authority of an image, and the kernel in PCR 9 only.
const SECURE_BOOT_OFF: &str = "\
22 5 after EventData GPT
23 4 after NotInLog Image
24 14 - NotInLog MokList
25 14 - NotInLog MokList
26 7 after EventData authority SbatLevel
27 14 - Constant MokListTrusted
28 4 after NotInLog Image";

#[test]
fn real_boots_event_by_event() {
    let Some(shared) = hgs_testkit::shared() else {
        return;
    };
    let facts_of = |boot: &str| {
        let folder = shared.join("vectors/boots").join(boot);
        let octets = fs::read(folder.join("pcrs-sha256.bin")).unwrap();
        let all = PcrValues::concatenated(Bank::Sha256, &octets).unwrap();
        let mut values = PcrValues::new(Bank::Sha256);
        for (pcr, value) in all.iter().filter(|(pcr, _)| *pcr != 10) {
            values.insert(pcr, value.as_bytes()).unwrap();
        }
        let log = read(&fs::read(folder.join("eventlog.bin")).unwrap());
        let replayed = log.replay(&values).unwrap();
        let mut facts: Vec<_> = replayed.lanes().flat_map(|lane| lane.facts()).collect();
        facts.sort_by_key(Fact::number);
        let lines: Vec<_> = facts.iter().map(line).collect();
        (lines, replayed.secure_boot())
    };
    let (on, state) = facts_of("uefi-shim-grub-secureboot-on");
    assert_eq!(on, SECURE_BOOT_ON.lines().collect::<Vec<_>>());
    assert_eq!(state, Ok(SecureBoot::Enabled));
    let (off, state) = facts_of("uefi-shim-grub-secureboot-off");
    assert_eq!(state, Ok(SecureBoot::Disabled));
    assert_eq!(off.len(), 45);
    assert_eq!(off[..21], on[..21]);
    assert_eq!(off[21..28], SECURE_BOOT_OFF.lines().collect::<Vec<_>>());
    assert!(
        off[28..].iter().all(|line| !line.contains(" 4 ")),
        "no kernel in PCR 4"
    );
}

#[test]
fn secure_boot_is_measured_once_before_the_separator() {
    let state = |events: &[Written]| replayed(events).secure_boot();
    let separator = Written::separator(7);
    assert_eq!(
        state(&[secure_boot(&[1]), separator.clone()]),
        Ok(SecureBoot::Enabled)
    );
    assert_eq!(
        state(&[secure_boot(&[0]), separator.clone()]),
        Ok(SecureBoot::Disabled)
    );
    assert_eq!(
        state(&[secure_boot(&[]), separator.clone()]),
        Ok(SecureBoot::Disabled)
    );
    assert_eq!(
        state(&[separator.clone(), secure_boot(&[1])]),
        Err(SecureBootError::Absent)
    );
    let twice = [secure_boot(&[0]), secure_boot(&[1]), separator.clone()];
    assert_eq!(state(&twice), Err(SecureBootError::Doubled { event: 2 }));
    assert_eq!(
        state(&[secure_boot(&[2]), separator.clone()]),
        Err(SecureBootError::Value { event: 1 })
    );
    // Data that are not the preimage say nothing, whatever the event is called.
    let zero = variable(*Guid::GLOBAL_VARIABLE.octets(), "SecureBoot", &[0]);
    let lie = [secure_boot(&[1]).of(&zero), separator.clone()];
    assert_eq!(state(&lie), Err(SecureBootError::Absent));
    // A variable of the same name of another vendor is another.
    let other = variable(*Guid::SHIM_LOCK.octets(), "SecureBoot", &[1]);
    let other = Written::new(7, EventType::EFI_VARIABLE_DRIVER_CONFIG, &other);
    assert_eq!(state(&[other, separator]), Err(SecureBootError::Absent));
    // Without the value of PCR 7 nothing is known.
    let log = read(&crypto_agile(&BANKS, &[secure_boot(&[1])]));
    let nothing = log.replay(&PcrValues::new(Bank::Sha256)).unwrap();
    assert_eq!(nothing.secure_boot(), Err(SecureBootError::NotProved));
}

#[test]
fn no_fact_depends_on_the_types_of_events() {
    let events = [
        secure_boot(&[1]),
        Written::separator(7),
        Written::new(
            4,
            EventType::EFI_ACTION,
            Action::CallingApplication.text().as_bytes(),
        ),
        Written::separator(4),
        Written::new(4, EventType::EFI_BOOT_SERVICES_APPLICATION, b"path").of(b"shim"),
        Written::new(8, EventType::IPL, b"grub_cmd: boot\0").of(b"boot"),
        Written::new(11, EventType::IPL, b"x").of(b".cmdline\0"),
        Written::new(11, EventType::IPL, b"x").of(b"quiet"),
    ];
    let others = events.clone().map(|event| Written {
        event_type: EventType::EFI_VARIABLE_AUTHORITY,
        ..event
    });
    let lines = |events: &[Written]| -> Vec<String> {
        let replayed = replayed(events);
        let facts = replayed.lanes().flat_map(|lane| lane.facts());
        facts.map(|fact| line(&fact)).collect()
    };
    assert_eq!(lines(&events), lines(&others));
}

#[test]
fn an_error_of_firmware_is_no_separator() {
    for value in [[1, 0, 0, 0], [0xff; 4]] {
        let log = replayed(&[Written::new(4, EventType::SEPARATOR, &value)]);
        let facts = log.lane(4).unwrap().facts();
        assert_eq!(facts[0].meaning(), Meaning::ErrorSeparator);
        assert_eq!(facts[0].place(), Place::BeforeSeparator);
    }
    // A second separator stands after the first.
    let log = replayed(&[Written::separator(4), Written::separator(4)]);
    let facts = log.lane(4).unwrap().facts();
    assert_eq!(
        facts.iter().map(Fact::place).collect::<Vec<_>>(),
        [Place::Separator, Place::AfterSeparator]
    );
}

/// GRUB does not hash the prefix of a text: a command that was called a command line has the same digest.
#[test]
fn a_text_of_grub_is_never_the_command_line() {
    let text = "/vmlinuz lockdown=confidentiality";
    for prefix in ["grub_cmd: ", "kernel_cmdline: "] {
        let data = format!("{prefix}{text}\0");
        let log = replayed(&[Written::new(8, EventType::IPL, data.as_bytes()).of(text.as_bytes())]);
        let facts = log.lane(8).unwrap().facts();
        assert_eq!(facts[0].meaning(), Meaning::LoaderText(text.as_bytes()));
        assert_eq!(facts[0].preimage(), Preimage::TextAfterPrefix);
        assert_eq!(log.command_line_measurements(text), []);
    }
    // Another text in the log than in the digest is no text.
    let data = b"kernel_cmdline: quiet\0";
    let log = replayed(&[Written::new(8, EventType::IPL, data).of(b"debug")]);
    assert_eq!(log.lane(8).unwrap().facts()[0].meaning(), Meaning::Unknown);
}

#[test]
fn load_options_and_a_stub_section_prove_a_command_line() {
    let text = "root=/dev/vda1 quiet";
    let events = [
        Written::new(9, EventType::EVENT_TAG, b"LOADED_IMAGE::LoadOptions").of(&wide(text)),
        Written::new(11, EventType::IPL, b"x").of(b".cmdline\0"),
        Written::new(11, EventType::IPL, b"x").of(text.as_bytes()),
        Written::new(12, EventType::IPL, &wide(text)),
    ];
    let log = replayed(&events);
    let proved = log.command_line_measurements(text);
    assert_eq!(
        proved,
        [
            CommandLineMeasurement::LoadOptions { pcr: 9, event: 1 },
            CommandLineMeasurement::LoadOptions { pcr: 12, event: 4 },
            CommandLineMeasurement::Section { event: 3 },
        ]
    );
    assert_eq!(log.command_line_measurements("root=/dev/vda1"), []);
    assert_eq!(
        log.lane(12).unwrap().facts()[0].meaning(),
        Meaning::WideText(&wide(text))
    );
    // The same octets as the contents of another section are not.
    let other = [
        Written::new(11, EventType::IPL, b"x").of(b".osrel\0"),
        Written::new(11, EventType::IPL, b"x").of(text.as_bytes()),
    ];
    assert_eq!(replayed(&other).command_line_measurements(text), []);
}

#[test]
fn a_section_is_a_name_and_then_its_contents() {
    // Contents that are the name of a section remain contents.
    let events = [
        b".osrel\0".as_slice(),
        b".linux\0",
        b".linux\0",
        b"kernel",
        b"other",
    ]
    .map(|preimage| Written::new(11, EventType::IPL, b"x").of(preimage));
    let log = replayed(&events);
    let meanings: Vec<_> = log
        .lane(11)
        .unwrap()
        .facts()
        .iter()
        .map(Fact::meaning)
        .collect();
    assert_eq!(
        meanings,
        [
            Meaning::SectionName(Section::OsRelease),
            Meaning::SectionContents(Section::OsRelease),
            Meaning::SectionName(Section::Linux),
            Meaning::SectionContents(Section::Linux),
            Meaning::Unknown,
        ]
    );
}
