//! IMA logs: reading, replay, and the digest over the PCRs of the boot.

mod common;

use std::fs;

use common::{ima_entry, ima_fields, sha256_field};
use hgs_crypto::hash::sha256;
use hgs_tcg::event_log::{Bank, Digest, PcrValues};
use hgs_tcg::fuzzing;
use hgs_tcg::ima::{
    BootAggregateError, DigestKind, ImaLog, ImaLogError, ImaReplayError, Limits, Template,
    boot_aggregate,
};
use hgs_testkit::Mutations;

fn read(octets: &[u8]) -> ImaLog {
    ImaLog::read(octets.to_vec(), &Limits::LOG).unwrap()
}

fn ima_sig(path: &str, digest: [u8; 32], signature: &[u8]) -> Vec<u8> {
    let path = format!("{path}\0");
    ima_fields(&[&sha256_field(digest), path.as_bytes(), signature])
}

/// The value of PCR 10, by the definition of TPM2_PCR_Extend over SHA-256 of the template data.
fn extended(data: &[&[u8]]) -> Digest {
    let value = data.iter().fold([0; 32], |value, data| {
        sha256(&[value, sha256(data)].concat())
    });
    Digest::new(Bank::Sha256, &value).unwrap()
}

fn values(octets: &[u8]) -> PcrValues {
    PcrValues::concatenated(Bank::Sha256, octets).unwrap()
}

#[test]
fn real_boots_replay_to_their_pcr_10_and_their_boot_aggregate_only() {
    let Some(shared) = hgs_testkit::shared() else {
        return;
    };
    let boot = |name: &str| {
        let folder = shared.join("vectors/boots").join(name);
        let log = read(&fs::read(folder.join("ima.bin")).unwrap());
        let text = fs::read_to_string(folder.join("ima.txt")).unwrap();
        (
            log,
            values(&fs::read(folder.join("pcrs-sha256.bin")).unwrap()),
            text,
        )
    };
    let boots = [
        "uefi-shim-grub-secureboot-on",
        "uefi-shim-grub-secureboot-off",
    ]
    .map(boot);
    for (here, (log, values, text)) in boots.iter().enumerate() {
        let value = values.value(10).unwrap();
        let replayed = log.clone().replay(value).unwrap();
        assert_eq!(replayed.later_entries(), 0);
        replayed.check_boot_aggregate(values).unwrap();
        // The kernel's own text form says the same.
        let lines: Vec<String> = replayed
            .entries()
            .map(|entry| {
                let digest = entry.file_digest();
                format!(
                    "10 {} {} {}:{} {} ",
                    hgs_crypto::hex::encode(&entry.template_digest()),
                    entry.template().name(),
                    digest.algorithm.escape_ascii(),
                    hgs_crypto::hex::encode(digest.octets),
                    entry.path().escape_ascii(),
                )
            })
            .collect();
        assert_eq!(lines, text.lines().collect::<Vec<_>>());
        let (_, others, _) = &boots[1 - here];
        let refusal = replayed.check_boot_aggregate(others);
        assert!(matches!(
            refusal,
            Err(BootAggregateError::Mismatch { entry: 0, .. })
        ));
        let refusal = log.clone().replay(others.value(10).unwrap());
        assert!(matches!(refusal, Err(ImaReplayError::Mismatch { .. })));
    }
}

#[test]
fn a_beginning_of_the_log_is_proved_and_no_more() {
    let data: Vec<Vec<u8>> = (0..5)
        .map(|file| ima_sig(&format!("/bin/{file}"), [file; 32], b""))
        .collect();
    let octets: Vec<u8> = data
        .iter()
        .flat_map(|data| ima_entry("ima-sig", data, None))
        .collect();
    let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
    for proved in 0..=5 {
        let replayed = read(&octets).replay(extended(&data[..proved])).unwrap();
        assert_eq!(replayed.entries().len(), proved);
        assert_eq!(replayed.later_entries(), 5 - proved);
        let paths: Vec<_> = replayed
            .entries()
            .map(|entry| entry.path().to_vec())
            .collect();
        let expected: Vec<_> = (0..proved)
            .map(|file| format!("/bin/{file}").into_bytes())
            .collect();
        assert_eq!(paths, expected);
    }
    // Without one of them, or in another order, nothing is proved.
    let refusal = read(&octets).replay(extended(&data[1..]));
    assert!(matches!(
        refusal,
        Err(ImaReplayError::Mismatch { entries: 5, .. })
    ));
    let refusal = read(&octets).replay(extended(&[data[1], data[0]]));
    assert!(matches!(refusal, Err(ImaReplayError::Mismatch { .. })));
}

#[test]
fn each_template_is_read_by_its_name() {
    let ng = ima_fields(&[&sha256_field([1; 32]), b"/bin/ng\0"]);
    let buffer = ima_fields(&[&sha256_field([3; 32]), b"kexec-cmdline\0", b"quiet"]);
    let mut octets = ima_entry("ima-ng", &ng, None);
    octets.extend(ima_entry(
        "ima-sig",
        &ima_sig("/bin/sig", [2; 32], b"\x03\x02"),
        None,
    ));
    octets.extend(ima_entry("ima-buf", &buffer, None));
    let log = read(&octets);
    let entries: Vec<_> = log.unverified().entries().collect();
    let templates: Vec<_> = entries.iter().map(|entry| entry.template()).collect();
    assert_eq!(
        templates,
        [Template::ImaNg, Template::ImaSig, Template::ImaBuf]
    );
    assert_eq!(entries[0].path(), b"/bin/ng");
    assert_eq!(entries[0].signature(), b"");
    assert_eq!(entries[1].signature(), b"\x03\x02");
    assert_eq!(entries[1].buffer(), b"");
    assert_eq!(entries[1].file_digest().algorithm, b"sha256");
    assert_eq!(entries[1].file_digest().octets, [2; 32]);
    assert_eq!(entries[2].buffer(), b"quiet");
    assert_eq!(entries[2].signature(), b"");
}

/// The templates of Linux 6.1 and of appended signatures: a digest of fs-verity is not one of a file's contents.
#[test]
fn newer_templates_say_what_a_digest_is_over() {
    let digest = |kind: &str| [format!("{kind}:sha256:\0").as_bytes(), &[4; 32]].concat();
    let entry = |template, fields: &[&[u8]]| ima_entry(template, &ima_fields(fields), None);
    let octets = [
        entry("ima-ngv2", &[&digest("ima"), b"/bin/ng\0"]),
        entry(
            "ima-sigv2",
            &[&digest("verity"), b"/bin/sig\0", b"\x03\x02"],
        ),
        entry(
            "ima-modsig",
            &[
                &sha256_field([5; 32]),
                b"/boot/k\0",
                b"\x03",
                &sha256_field([6; 32]),
                b"PKCS#7",
            ],
        ),
    ]
    .concat();
    let log = read(&octets);
    let value = log.unverified().replayed_value(Bank::Sha256);
    let replayed = log.replay(value).unwrap();
    let read: Vec<_> = replayed
        .entries()
        .map(|entry| {
            let digest = entry.file_digest();
            assert_eq!(digest.algorithm, b"sha256");
            (
                digest.kind,
                digest.octets[0],
                entry.path(),
                entry.signature(),
            )
        })
        .collect();
    let expected: [(_, _, &[u8], &[u8]); 3] = [
        (DigestKind::File, 4, b"/bin/ng", b""),
        (DigestKind::Verity, 4, b"/bin/sig", b"\x03\x02"),
        (DigestKind::File, 5, b"/boot/k", b"\x03"),
    ];
    assert_eq!(read, expected);
    for unknown in [digest("other"), digest("ima:md5"), sha256_field([1; 32])] {
        let octets = entry("ima-ngv2", &[&unknown, b"/bin/ng\0"]);
        let refusal = ImaLog::read(octets, &Limits::LOG).unwrap_err();
        assert!(matches!(refusal, ImaLogError::Data { .. }), "{refusal}");
    }
}

/// The template `ima`: no length of the data, a path without NUL, and the digest over a path filled up to 256 octets.
#[test]
fn the_oldest_template_is_hashed_with_a_path_of_256_octets() {
    let path = b"/usr/bin/bash";
    let mut hashed = [7; 20].to_vec();
    hashed.extend(path);
    hashed.resize(20 + 256, 0);
    let mut octets = 10_u32.to_le_bytes().to_vec();
    octets.extend(hgs_crypto::hash::sha1_of(&[&hashed]));
    octets.extend(3_u32.to_le_bytes());
    octets.extend(b"ima");
    octets.extend([7; 20]);
    octets.extend((path.len() as u32).to_le_bytes());
    octets.extend(path);
    let twice = [octets.clone(), octets.clone()].concat();
    let replayed = read(&twice).replay(extended(&[&hashed, &hashed])).unwrap();
    let entry = replayed.entries().nth(1).unwrap();
    assert_eq!(
        (entry.path(), entry.file_digest().octets),
        (path.as_slice(), &[7; 20][..])
    );
    octets[4] ^= 1;
    let refusal = read(&octets).replay(extended(&[&hashed]));
    assert!(matches!(
        refusal,
        Err(ImaReplayError::TemplateDigest { entry: 0, .. })
    ));
}

#[test]
fn a_violation_extends_ones() {
    let data = ima_sig("/var/log/open-twice", [0; 32], b"");
    let octets = ima_entry("ima-sig", &data, Some([0; 20]));
    let value = sha256(&[[0; 32], [0xff; 32]].concat());
    let value = Digest::new(Bank::Sha256, &value).unwrap();
    let replayed = read(&octets).replay(value).unwrap();
    assert!(replayed.entries().next().unwrap().is_violation());
    // As an ordinary entry it is another.
    assert!(read(&octets).replay(extended(&[&data])).is_err());
}

#[test]
fn an_entry_whose_template_digest_is_not_of_its_data_is_named() {
    let data = [
        ima_sig("/bin/a", [1; 32], b""),
        ima_sig("/bin/b", [2; 32], b""),
    ];
    let mut octets = ima_entry("ima-sig", &data[0], None);
    octets.extend(ima_entry("ima-sig", &data[1], Some([9; 20])));
    let refusal = read(&octets).replay(extended(&[&data[0], &data[1]]));
    assert!(
        matches!(
            refusal,
            Err(ImaReplayError::TemplateDigest { entry: 1, .. })
        ),
        "{refusal:?}"
    );
}

#[test]
fn boot_aggregate_is_over_ten_pcrs_and_comes_first() {
    let octets: Vec<u8> = (0..24).flat_map(|pcr| [pcr; 32]).collect();
    let all = values(&octets);
    let expected = sha256(&octets[..320]);
    assert_eq!(boot_aggregate(&all).unwrap().as_bytes(), expected);
    let nine = values(&octets[..9 * 32]);
    assert_eq!(
        boot_aggregate(&nine),
        Err(BootAggregateError::PcrAbsent { pcr: 9 })
    );

    let right = ima_sig("boot_aggregate", expected, b"");
    let other = ima_sig("boot_aggregate", [1; 32], b"");
    let file = ima_sig("/bin/sh", [2; 32], b"");
    let check = |data: &[&[u8]]| {
        let entries = data.iter().map(|data| ima_entry("ima-sig", data, None));
        let log = read(&entries.collect::<Vec<_>>().concat());
        log.replay(extended(data))
            .unwrap()
            .check_boot_aggregate(&all)
    };
    check(&[&right, &file]).unwrap();
    assert_eq!(check(&[]), Err(BootAggregateError::Absent));
    assert_eq!(check(&[&file, &right]), Err(BootAggregateError::Absent));
    // A second one, as after kexec, is checked as well.
    let refusal = check(&[&right, &file, &other]);
    assert!(matches!(
        refusal,
        Err(BootAggregateError::Mismatch { entry: 2, .. })
    ));
}

#[test]
fn each_budget_has_its_own_error() {
    let octets = ima_entry("ima-sig", &ima_sig("/bin/sh", [1; 32], b""), None).repeat(3);
    let refused = |limits: Limits| {
        let refusal = ImaLog::read(octets.clone(), &limits).unwrap_err();
        assert!(refusal.is_over_limit());
        refusal
    };
    let limits = Limits {
        octets: 10,
        ..Limits::LOG
    };
    let found = octets.len();
    assert_eq!(refused(limits), ImaLogError::TooLarge { found, limit: 10 });
    let limits = Limits {
        entries: 2,
        ..Limits::LOG
    };
    assert_eq!(refused(limits), ImaLogError::TooManyEntries { limit: 2 });
    let limits = Limits {
        entry_octets: 59,
        ..Limits::LOG
    };
    assert_eq!(
        refused(limits),
        ImaLogError::EntryTooLarge {
            entry: 0,
            found: 60,
            limit: 59
        }
    );
    let exact = Limits {
        octets: found,
        entries: 3,
        entry_octets: 60,
    };
    assert!(ImaLog::read(octets.clone(), &exact).is_ok());
}

#[test]
fn what_is_no_entry_is_refused_by_name() {
    let refused = |octets: &[u8]| ImaLog::read(octets.to_vec(), &Limits::LOG).unwrap_err();
    let data = ima_sig("/bin/sh", [1; 32], b"");
    let mut other_pcr = ima_entry("ima-sig", &data, None);
    other_pcr[0] = 11;
    assert_eq!(
        refused(&other_pcr),
        ImaLogError::Pcr {
            entry: 0,
            found: 11
        }
    );
    let unknown = ima_entry("evm-sig", &data, None);
    let found = "evm-sig".to_owned();
    assert_eq!(refused(&unknown), ImaLogError::Template { entry: 0, found });
    // Numbers of a big-endian host.
    let mut big_endian = ima_entry("ima-sig", &data, None);
    big_endian[..4].copy_from_slice(&10_u32.to_be_bytes());
    assert!(matches!(refused(&big_endian), ImaLogError::Pcr { .. }));

    let digest = sha256_field([1; 32]);
    for (fields, what) in [
        (
            ima_fields(&[&digest, b"/bin/sh\0", b"", b"more"]),
            "something follows the last field",
        ),
        (ima_fields(&[&digest, b"/bin/sh\0"]), "they are cut short"),
        (
            ima_fields(&[&[1; 32], b"/bin/sh\0", b""]),
            "the digest has no algorithm",
        ),
        (
            ima_fields(&[&digest, b"/bin/sh", b""]),
            "the path does not end with its only NUL",
        ),
        (
            ima_fields(&[&digest, b"/bin/sh\0/evil\0", b""]),
            "the path does not end with its only NUL",
        ),
        (
            ima_fields(&[&digest, b"", b""]),
            "the path does not end with its only NUL",
        ),
    ] {
        let refusal = refused(&ima_entry("ima-sig", &fields, None));
        let template = "ima-sig";
        assert_eq!(
            refusal,
            ImaLogError::Data {
                entry: 0,
                template,
                what
            }
        );
    }
}

#[test]
fn a_log_that_is_cut_within_an_entry_is_refused_where_it_ends() {
    let entry = ima_entry("ima-sig", &ima_sig("/bin/sh", [1; 32], b"sig"), None);
    let octets = entry.repeat(2);
    for length in 0..octets.len() {
        let result = ImaLog::read(octets[..length].to_vec(), &Limits::LOG);
        match length % entry.len() {
            0 => assert_eq!(
                result.unwrap().unverified().entries().len(),
                length / entry.len()
            ),
            _ => assert!(
                matches!(result, Err(ImaLogError::Truncated { entry: number, .. }) if number == length / entry.len()),
                "{length}"
            ),
        }
    }
}

#[test]
fn mutations_do_not_panic() {
    let corpus = [
        ima_entry("ima-sig", &ima_sig("boot_aggregate", [1; 32], b""), None).repeat(2),
        ima_entry(
            "ima-ng",
            &ima_fields(&[&sha256_field([1; 32]), b"/bin/ng\0"]),
            Some([0; 20]),
        ),
    ];
    let tokens: [&[u8]; 5] = [
        b"ima",
        b"\x0a\0\0\0",
        b"\x03\0\0\0ima",
        b":\0",
        b"\xff\xff\xff\xff",
    ];
    corpus
        .iter()
        .for_each(|octets| fuzzing::fuzz_ima_log(octets));
    for octets in Mutations::of(&corpus, &tokens).take(20_000) {
        fuzzing::fuzz_ima_log(&octets);
    }
}
