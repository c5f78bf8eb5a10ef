//! Where a VM's TPM stopped, kept outside the folder of the VM: who puts back an older copy of the folder does not put this
//! back with it.

use std::path::{Path, PathBuf};

use hgs_client::Fault;
use hgs_crypto::hex;
use hgs_files::Readers;
use hgs_vm::generation::StateFolder;
use hgs_vm::stop_record::{Comparison, StopRecord};
use serde::{Deserialize, Serialize};

use super::Machine;
use crate::wire::AgentFailure;

/// Octets of the largest record.
const LIMIT: usize = 1024;

/// The record as it is kept.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    generation: u64,
    /// SHA-256 of the state, in hexadecimal.
    state: String,
}

impl Machine {
    /// The file of the record.
    pub(crate) fn stop_record(&self) -> PathBuf {
        let records = self.surroundings.folders.host.state.join("vm-stops");
        records.join(format!("{}.json", self.name))
    }
}

/// Notes where the current generation stopped.
pub(crate) fn note(state: &StateFolder, path: &Path) -> Result<(), AgentFailure> {
    let Some(current) = state.current() else {
        return Ok(());
    };
    let record = StopRecord::of(&current, None)?;
    let kept = Kept {
        generation: record.generation,
        state: hex::encode(&record.digest),
    };
    if let Some(folder) = path.parent() {
        hgs_files::private_folder(folder)?;
    }
    let json = serde_json::to_vec(&kept).expect("a record is written to memory");
    Ok(hgs_files::replace(path, &json, Readers::Owner)?)
}

/// Forgets where a VM stopped that runs again.
pub(crate) fn forget(path: &Path) -> Result<(), AgentFailure> {
    hgs_files::optional(hgs_files::remove(path))?;
    Ok(())
}

/// Refuses a state that is not the one that the VM stopped with, unless that is what is wanted. After a crash of the host
/// there is no record, and nothing to refuse.
pub(crate) fn check(state: &StateFolder, path: &Path, accept: bool) -> Result<(), AgentFailure> {
    let Some(current) = state.current() else {
        return Ok(());
    };
    let kept = hgs_files::optional(hgs_files::read(path, LIMIT))?;
    let kept = kept.and_then(|octets| serde_json::from_slice::<Kept>(&octets).ok());
    let recorded = kept.and_then(|kept| {
        Some(StopRecord {
            generation: kept.generation,
            digest: hex::decode(&kept.state)?.try_into().ok()?,
            counter: None,
        })
    });
    let other = match StopRecord::of(&current, None)?.compare(recorded.as_ref()) {
        // No counter is kept.
        Comparison::Same
        | Comparison::NoRecord
        | Comparison::NoCounter
        | Comparison::OldRecord { .. } => return Ok(()),
        Comparison::OtherGeneration { recorded } => format!(
            "the VM stopped with generation {recorded} of its state, and generation {} is there now",
            current.number()
        ),
        Comparison::Altered => {
            "the state of the VM's TPM is not the one that it stopped with".to_owned()
        }
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
