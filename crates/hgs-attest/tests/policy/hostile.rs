//! The fuzz bodies over a corpus and its mutations, and real logs of many machines.

use std::fs;
use std::path::PathBuf;

use hgs_attest::policy::{Baseline, RecordedEvidence, fuzzing};
use hgs_tcg::event_log::{Bank, EventLog, Limits};
use hgs_testkit::Mutations;

use crate::common::{NOW, baseline_of, differences, recorded, try_compile};
use crate::compiling::small;

#[test]
fn documents_and_their_mutations() {
    let baseline = small();
    let (_, host) = baseline_of(&recorded("secure-boot-off").prove().unwrap())
        .without_host_alternatives(&[("root".to_owned(), "value".to_owned())].into());
    let corpus = [
        baseline.to_json(),
        host.to_json(),
        include_str!("../../../../docs/policies.md")
            .split("```json\n")
            .nth(1)
            .unwrap()
            .split("```")
            .next()
            .unwrap()
            .to_owned(),
        r#"{"records":[{"pcr":4,"digests":[{"hashAlg":"sha256","digest":"00"}]}]}"#.to_owned(),
    ];
    let corpus = corpus.map(String::into_bytes);
    let tokens: [&[u8]; 6] = [
        b"\"any\"",
        b"null",
        b"{",
        b"\\u0000",
        b"\"repeated\"",
        b"[]",
    ];
    for octets in corpus
        .iter()
        .cloned()
        .chain(Mutations::of(&corpus, &tokens).take(3_000))
    {
        fuzzing::fuzz_policy_document(&octets);
        fuzzing::fuzz_pcrlock(&octets);
    }
}

#[test]
fn boots_and_their_mutations() {
    let corpus = ["secure-boot-on", "secure-boot-off"].map(|name| recorded(name).log);
    let tokens: [&[u8]; 3] = [&[0; 4], &[4, 0, 0, 0], &[0xff; 4]];
    for octets in corpus
        .iter()
        .cloned()
        .chain(Mutations::of(&corpus, &tokens).take(1_000))
    {
        fuzzing::fuzz_boot(&octets);
    }
}

/// Logs of real machines, and of firmware with oddities.
#[test]
fn logs_of_many_machines_match_their_own_baselines() {
    let Some(shared) = hgs_testkit::shared() else {
        return;
    };
    let folders =
        ["tpm2-tools", "go-eventlog"].map(|name| shared.join("vectors/eventlogs").join(name));
    let files = folders
        .iter()
        .flat_map(|folder| fs::read_dir(folder).unwrap());
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    let mut judged = Vec::new();
    for file in files
        .iter()
        .filter(|file| file.extension().is_some_and(|end| end != "yaml"))
    {
        let octets = fs::read(file).unwrap();
        fuzzing::fuzz_boot(&octets);
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let Ok(log) = EventLog::read(octets.clone(), &Limits::LOG) else {
            continue;
        };
        let Ok(mut values) = log.unverified().replayed_values(Bank::Sha256) else {
            continue;
        };
        for pcr in 0..16 {
            if values.value(pcr).is_none() {
                values.insert(pcr, &[0; 32]).unwrap();
            }
        }
        let recorded = RecordedEvidence {
            values,
            log: octets,
            ima: Vec::new(),
            preimages: Vec::new(),
            unexplained: Vec::new(),
        };
        let evidence = recorded.prove().unwrap();
        let Ok(baseline) = Baseline::of_evidence(&evidence, &name, &Default::default()) else {
            panic!("{name}");
        };
        let Ok(set) = try_compile(&[(&name, &baseline)]) else {
            continue;
        };
        let evaluation = set.evaluate(&evidence, NOW);
        assert_eq!(differences(&evaluation), [] as [String; 0], "{name}");
        judged.push(name);
    }
    assert!(judged.len() >= 8, "{judged:?}");
}
