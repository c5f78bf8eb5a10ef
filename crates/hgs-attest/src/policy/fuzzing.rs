//! Bodies of fuzz targets: any octets may come, and what is accepted must survive a second round.

use hgs_pki::Time;
use hgs_tcg::event_log::{Bank, EventLog, Limits};

use super::{
    Baseline, CiPolicy, Documents, DumpKey, HostMeasurements, Parameters, PolicyName,
    PolicySelection, PolicySet, RecordedEvidence, read_pcrlock,
};

/// The readers of all documents of policies.
///
/// # Panics
///
/// If a document is not read again as it was written.
pub fn fuzz_policy_document(data: &[u8]) {
    if let Ok(baseline) = Baseline::from_json(data) {
        let again = Baseline::from_json(baseline.to_json().as_bytes());
        assert_eq!(again.as_ref(), Ok(&baseline));
        let documents = Documents {
            baselines: [("baseline".to_owned(), baseline)].into(),
            ..Documents::default()
        };
        let _ = PolicySet::compile(&PolicySelection::default(), &documents);
    }
    if let Ok(host) = HostMeasurements::from_json(data) {
        assert_eq!(
            HostMeasurements::from_json(host.to_json().as_bytes()),
            Ok(host)
        );
    }
    if let Ok(policy) = CiPolicy::from_json(data) {
        assert_eq!(CiPolicy::from_json(policy.to_json().as_bytes()), Ok(policy));
    }
    if let Ok(key) = DumpKey::from_json(data) {
        assert_eq!(DumpKey::from_json(key.to_json().as_bytes()), Ok(key));
    }
}

/// [`read_pcrlock`].
pub fn fuzz_pcrlock(data: &[u8]) {
    let _ = read_pcrlock(data);
}

/// A boot with any log, judged by its own baseline.
///
/// # Panics
///
/// If a boot does not match the baseline that is made of it.
pub fn fuzz_boot(data: &[u8]) {
    let Ok(log) = EventLog::read(data.to_vec(), &Limits::LOG) else {
        return;
    };
    let Ok(mut values) = log.unverified().replayed_values(Bank::Sha256) else {
        return;
    };
    // What the log does not extend is as it was at the start.
    for pcr in (0..16).filter(|pcr| {
        log.unverified()
            .events()
            .all(|event| event.pcr() != *pcr as u32)
    }) {
        values
            .insert(pcr, &[0; 32])
            .expect("there are 24 PCRs of 32 octets");
    }
    let recorded = RecordedEvidence {
        values,
        log: data.to_vec(),
        ima: Vec::new(),
        preimages: Vec::new(),
        unexplained: Vec::new(),
    };
    let Ok(evidence) = recorded.prove() else {
        return;
    };
    let now = Time::from_unix(0);
    assert!(!PolicySet::default().evaluate(&evidence, now).is_healthy());
    let Ok(baseline) = Baseline::of_evidence(&evidence, "the log", &Parameters::new()) else {
        return;
    };
    let mut selection = PolicySelection::default();
    for policy in [PolicyName::SecureBootEnabled, PolicyName::UefiDebugDisabled] {
        selection.set(policy, false).expect("it is not locked");
    }
    let documents = Documents {
        baselines: [("baseline".to_owned(), baseline)].into(),
        ..Documents::default()
    };
    // Without a measured image, or with an error separator, it is refused.
    if let Ok(set) = PolicySet::compile(&selection, &documents) {
        assert!(set.evaluate(&evidence, now).is_healthy());
    }
}
