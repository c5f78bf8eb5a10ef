//! Bodies for fuzzing: they take any octets, and panic only if this crate is wrong.

use crate::event_log::{Bank, EventLog, Limits, PCR_COUNT, PcrValues};
use crate::ima::{self, ImaLog};

/// Reads an event log, replays it, and asks for its facts.
///
/// # Panics
///
/// If a log does not replay to the values that it gives, or replays to others.
pub fn fuzz_event_log(data: &[u8]) {
    let Ok(log) = EventLog::read(data.to_vec(), &Limits::LOG) else {
        return;
    };
    for bank in Bank::ALL {
        let Ok(values) = log.unverified().replayed_values(bank) else {
            continue;
        };
        let replayed = log
            .clone()
            .replay(&values)
            .expect("its own values prove it");
        let events: usize = replayed.lanes().map(|lane| lane.facts().len()).sum();
        assert!(events <= log.unverified().events().len());
        // Any answer is right; none may panic.
        let _ = (
            replayed.secure_boot(),
            replayed.command_line_measurements("quiet"),
            replayed.windows_facts(),
        );
        let mut others = PcrValues::new(bank);
        for pcr in 0..PCR_COUNT {
            let inserted = others.insert(pcr, bank.filled(0x55).as_bytes());
            inserted.expect("a value of the bank's size");
        }
        let refusal = log.clone().replay(&others).expect_err("no log gives this");
        assert!(!refusal.to_string().is_empty());
    }
}

/// Reads an IMA log and replays it.
///
/// # Panics
///
/// If a log does not replay to the value that it gives, or replays to another.
pub fn fuzz_ima_log(data: &[u8]) {
    let Ok(log) = ImaLog::read(data.to_vec(), &ima::Limits::LOG) else {
        return;
    };
    let value = log.unverified().replayed_value(Bank::Sha256);
    if let Ok(replayed) = log.clone().replay(value) {
        assert!(
            replayed.entries().len() + replayed.later_entries() == log.unverified().entries().len()
        );
        let _ = replayed.check_boot_aggregate(&PcrValues::new(Bank::Sha256));
    }
    let refusal = log.replay(Bank::Sha256.filled(0x55));
    assert!(refusal.is_err());
}
