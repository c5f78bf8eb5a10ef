//! Bodies for fuzzing: they take any octets, and panic only if this crate is wrong.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Report, ReportText, Selection, guardian, host};

/// Reads what was collected of a guardian, and diagnoses it.
///
/// # Panics
///
/// If what was read is not read again when it is written.
pub fn fuzz_guardian_facts(data: &[u8]) {
    if let Some(facts) = read::<guardian::Facts>(data) {
        show(&facts.diagnose(&Selection::All));
    }
}

/// Reads what was collected of a host, and diagnoses it.
///
/// # Panics
///
/// If what was read is not read again when it is written.
pub fn fuzz_host_facts(data: &[u8]) {
    if let Some(facts) = read::<host::Facts>(data) {
        show(&facts.diagnose(&Selection::All));
    }
}

fn read<F: Serialize + DeserializeOwned + PartialEq>(data: &[u8]) -> Option<F> {
    let facts: F = serde_json::from_slice(data).ok()?;
    let written = serde_json::to_vec(&facts).expect("facts have names for keys");
    let again: F = serde_json::from_slice(&written).expect("what was written is facts");
    assert!(again == facts, "facts survive being written");
    Some(facts)
}

fn show(report: &Report) {
    for detailed in [false, true] {
        let shown = ReportText { report, detailed };
        assert!(!shown.to_string().is_empty(), "a report says something");
    }
}
