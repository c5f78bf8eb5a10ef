//! Where a VM's TPM stopped, kept outside the folder of the VM: who puts back an older copy of the folder does not put this
//! back with it.
//!
//! ```text
//! vm-stops/NAME.json    on a host without a TPM: where the VM stopped
//! vm-stops/ledger       on a host with one: where each VM stopped, with the value of a counter in the TPM
//! vm-stops/lock         held while that changes
//! ```
//!
//! Every change writes the ledger with the next value and then increments the counter. So a ledger that was put back, with the
//! whole disk or without, has an older value than the TPM. A crash between the two steps leaves a ledger that is one ahead, which
//! only the agent can have written.

use std::collections::BTreeMap;
use std::path::PathBuf;

use hgs_client::{Fault, GuardedHost, HostCounter};
use hgs_crypto::hex;
use hgs_files::{FileError, Lock, Readers};
use hgs_vm::generation::{Generation, StateFolder};
use hgs_vm::stop_record::{Comparison, StopRecord};
use serde::{Deserialize, Serialize};

use super::Machine;
use crate::wire::AgentFailure;

/// Octets of the largest record, and of the ledger of thousands of VMs.
const LIMIT: usize = 1024;
const LEDGER_LIMIT: usize = 4 * 1024 * 1024;

/// The record as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    generation: u64,
    /// SHA-256 of the state, in hexadecimal.
    state: String,
}

/// The records of all VMs of a host with a TPM.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ledger {
    /// The value of the counter.
    counter: u64,
    /// `null` where the record of a VM had been put back with an older ledger: nobody knows where that VM stopped.
    records: BTreeMap<String, Option<Kept>>,
}

/// Where the record of a VM is.
#[derive(Debug, Clone)]
pub(crate) struct RecordPlace {
    folder: PathBuf,
    name: String,
    /// Of a host with a TPM.
    counter: Option<HostCounter>,
}

impl Machine {
    /// Where its record is.
    pub(crate) fn stop_record(&self) -> RecordPlace {
        RecordPlace::of(
            &self.surroundings.host,
            self.surroundings.folders.host.state.join("vm-stops"),
            self.name.as_str(),
        )
    }
}

/// Notes where the current generation stopped.
pub(crate) fn note(state: &StateFolder, place: &RecordPlace) -> Result<(), AgentFailure> {
    let Some(current) = state.current() else {
        return Ok(());
    };
    let record = Kept::of(&StopRecord::of(&current, None)?);
    match &place.counter {
        None => Ok(write(place, &format!("{}.json", place.name), &record)?),
        Some(counter) => {
            place.change_ledger(counter, Some(record))?;
            hgs_files::optional(hgs_files::remove(&place.own_file()))?;
            Ok(())
        }
    }
}

/// Forgets where a VM stopped that runs again.
pub(crate) fn forget(place: &RecordPlace) -> Result<(), AgentFailure> {
    hgs_files::optional(hgs_files::remove(&place.own_file()))?;
    match &place.counter {
        None => Ok(()),
        Some(counter) => place.change_ledger(counter, None),
    }
}

/// Refuses a state that is not the one that the VM stopped with, unless that is what is wanted. After a crash of the host
/// there is no record, and nothing to refuse.
pub(crate) fn check(
    state: &StateFolder,
    place: &RecordPlace,
    accept: bool,
) -> Result<(), AgentFailure> {
    let Some(current) = state.current() else {
        return Ok(());
    };
    let Some(other) = place.difference(&current)? else {
        return Ok(());
    };
    if accept {
        tracing::warn!(%other, "started all the same, as its administrator asked");
        return Ok(());
    }
    Err(AgentFailure::refused(other)
        .at_fault(Fault::Operator)
        .remedy(
            "if the VM was restored from a backup on purpose, start it with `--accept-other-state`",
        ))
}

impl RecordPlace {
    pub(crate) fn of(host: &GuardedHost, folder: PathBuf, name: &str) -> Self {
        let counter = host.stop_counter().unwrap_or_else(|error| {
            tracing::warn!(%error, "stop records are not bound to the TPM");
            None
        });
        Self {
            folder,
            name: name.to_owned(),
            counter,
        }
    }

    fn own_file(&self) -> PathBuf {
        self.folder.join(format!("{}.json", self.name))
    }

    fn ledger_file(&self) -> PathBuf {
        // Files of VMs end in `.json`.
        self.folder.join("ledger")
    }

    fn lock(&self) -> Result<Lock, FileError> {
        hgs_files::private_folder(&self.folder)?;
        Lock::wait_or_create(&self.folder.join("lock"))
    }

    /// How the state differs from where the VM stopped, in words.
    fn difference(&self, current: &Generation) -> Result<Option<String>, AgentFailure> {
        let (recorded, counter) = match &self.counter {
            None => (self.own_record()?, None),
            Some(counter) => {
                let _lock = self.lock()?;
                let value = counter.value()?;
                match (self.ledger()?, value) {
                    // Nothing was bound to the TPM yet.
                    (None, None) => (self.own_record()?, None),
                    (None, Some(_)) => {
                        return Ok(Some(
                            "the TPM of the host has a counter for records of where VMs stopped, and the records are gone"
                                .to_owned(),
                        ));
                    }
                    (Some(ledger), value) => {
                        let is_ahead = value.is_some_and(|value| ledger.counter == value + 1);
                        let recorded = match ledger.records.get(&self.name) {
                            Some(None) => return Ok(Some(PUT_BACK.to_owned())),
                            None => None,
                            Some(Some(kept)) => kept.record(Some(ledger.counter)),
                        };
                        let is_current = is_ahead || value == Some(ledger.counter);
                        if recorded.is_none() && !is_current {
                            return Ok(Some(PUT_BACK.to_owned()));
                        }
                        (
                            recorded,
                            if is_ahead {
                                Some(ledger.counter)
                            } else {
                                value
                            },
                        )
                    }
                }
            }
        };
        Ok(match StopRecord::of(current, counter)?.compare(recorded.as_ref()) {
            Comparison::Same | Comparison::NoRecord => None,
            Comparison::OtherGeneration { recorded } => Some(format!(
                "the VM stopped with generation {recorded} of its state, and generation {} is there now",
                current.number()
            )),
            Comparison::Altered => Some(
                "the state of the VM's TPM is not the one that it stopped with".to_owned(),
            ),
            Comparison::NoCounter => Some(
                "the record of where the VM stopped is bound to a counter that the TPM of the host does not have: it was cleared, or is another"
                    .to_owned(),
            ),
            Comparison::OldRecord { recorded, counter } => Some(format!(
                "{PUT_BACK} (its counter is {recorded}, that of the TPM {counter})"
            )),
        })
    }

    /// The record of a host without a TPM.
    fn own_record(&self) -> Result<Option<StopRecord>, FileError> {
        let kept = hgs_files::optional(hgs_files::read(&self.own_file(), LIMIT))?;
        let kept = kept.and_then(|octets| serde_json::from_slice::<Kept>(&octets).ok());
        Ok(kept.and_then(|kept| kept.record(None)))
    }

    fn ledger(&self) -> Result<Option<Ledger>, FileError> {
        let octets = hgs_files::optional(hgs_files::read(&self.ledger_file(), LEDGER_LIMIT))?;
        Ok(octets.and_then(|octets| serde_json::from_slice(&octets).ok()))
    }

    /// Replaces the record of the VM in the ledger, or removes it. The records of an older ledger become unknown.
    fn change_ledger(
        &self,
        counter: &HostCounter,
        record: Option<Kept>,
    ) -> Result<(), AgentFailure> {
        let _lock = self.lock()?;
        let (ledger, value) = (self.ledger()?, counter.value()?);
        if ledger.is_none() && record.is_none() {
            return Ok(());
        }
        let is_first = value.is_none();
        let value = match value {
            Some(value) => value,
            None => counter.make()?,
        };
        let (mut records, is_ahead) = match ledger {
            // An earlier version, or the host without its TPM, has kept them in files of their own.
            None if is_first => (self.own_records()?, false),
            None => (BTreeMap::new(), false),
            Some(ledger) => {
                let is_ahead = ledger.counter == value + 1;
                let is_current = is_ahead || ledger.counter == value;
                let records = ledger.records.into_iter();
                let records = records.map(|(name, record)| (name, record.filter(|_| is_current)));
                (records.collect(), is_ahead)
            }
        };
        match record {
            Some(record) => records.insert(self.name.clone(), Some(record)),
            // Nothing to remove, nothing to count.
            None if !records.contains_key(&self.name) && !is_ahead => return Ok(()),
            None => records.remove(&self.name),
        };
        // Where an earlier change was not counted, that one is counted first: two ledgers must not have one value.
        let value = if is_ahead {
            counter.increment()?
        } else {
            value
        };
        let ledger = Ledger {
            counter: value + 1,
            records,
        };
        write(self, "ledger", &ledger)?;
        counter.increment()?;
        Ok(())
    }

    /// The records in files of their own.
    fn own_records(&self) -> Result<BTreeMap<String, Option<Kept>>, FileError> {
        let at = |error| FileError::at(&self.folder, error);
        let mut records = BTreeMap::new();
        for entry in std::fs::read_dir(&self.folder).map_err(at)? {
            let file = entry.map_err(at)?.file_name();
            let Some(name) = file.to_str().and_then(|file| file.strip_suffix(".json")) else {
                continue;
            };
            let octets = hgs_files::read(&self.folder.join(&file), LIMIT)?;
            if let Ok(kept) = serde_json::from_slice(&octets) {
                records.insert(name.to_owned(), Some(kept));
            }
        }
        Ok(records)
    }
}

const PUT_BACK: &str = "the record of where the VM stopped is older than the counter in the TPM of the host: it was put back";

fn write(place: &RecordPlace, file: &str, document: &impl Serialize) -> Result<(), FileError> {
    hgs_files::private_folder(&place.folder)?;
    let json = serde_json::to_vec(document).expect("a record is written to memory");
    hgs_files::replace(&place.folder.join(file), &json, Readers::Owner)
}

impl Kept {
    fn of(record: &StopRecord) -> Self {
        Self {
            generation: record.generation,
            state: hex::encode(&record.digest),
        }
    }

    fn record(&self, counter: Option<u64>) -> Option<StopRecord> {
        Some(StopRecord {
            generation: self.generation,
            digest: hex::decode(&self.state)?.try_into().ok()?,
            counter,
        })
    }
}

#[cfg(test)]
mod tests;
