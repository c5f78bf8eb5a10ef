//! Taking over the folder of a VM that its owner delivered.

use std::fs;
use std::path::{Path, PathBuf};

use hgs_client::Fault;
use hgs_files::{FileError, Readers};
use hgs_vm::description::{self, Description, VmName};
use hgs_vm::generation;

use crate::failure::blocking;
use crate::machine::Surroundings;
use crate::progress::Progress;
use crate::wire::AgentFailure;

impl Surroundings {
    /// Copies a VM folder; the copy appears under its name whole or not at all. What is delivered stays as it is.
    pub(crate) async fn import(
        &self,
        folder: PathBuf,
        name: Option<String>,
        progress: &Progress,
    ) -> Result<VmName, AgentFailure> {
        let machines = self.folders.machines();
        let progress = progress.clone();
        blocking(move || copy_vm(&folder, name, &machines, &progress)).await
    }
}

fn copy_vm(
    from: &Path,
    name: Option<String>,
    machines: &Path,
    progress: &Progress,
) -> Result<VmName, AgentFailure> {
    let mut description = Description::load(from)?;
    if let Some(name) = name {
        description.name = (name.parse())
            .map_err(|error: String| AgentFailure::refused(error).at_fault(Fault::Operator))?;
    }
    let name = description.name.clone();
    let target = machines.join(name.as_str());
    if hgs_files::exists(&target)? {
        return Err(
            AgentFailure::refused(format_args!("this host has a VM named {name}"))
                .at_fault(Fault::Operator)
                .remedy("give another name with `--name`, or remove that VM first"),
        );
    }
    // No name of a VM begins so.
    let unfinished = machines.join(format!(".{name}.import"));
    if hgs_files::exists(&unfinished)? {
        hgs_files::remove_folder(&unfinished)?;
    }
    hgs_files::private_folder(&unfinished)?;
    copy_parts(from, &unfinished, &description, progress)
        .inspect_err(|_| drop(fs::remove_dir_all(&unfinished)))?;
    fs::rename(&unfinished, &target).map_err(|error| FileError::at(&target, error))?;
    hgs_files::synchronise_folder_of(&target)?;
    Ok(name)
}

/// Copies what makes up a VM into an empty folder: the files of `description`, which is written there, and the current
/// generation.
pub(crate) fn copy_parts(
    from: &Path,
    to: &Path,
    description: &Description,
    progress: &Progress,
) -> Result<(), AgentFailure> {
    let text = description.to_toml();
    hgs_files::create(&to.join(description::FILE), text.as_bytes(), Readers::Owner)?;
    for file in description.files() {
        let (source, target) = (file.within(from)?, to.join(file.as_str()));
        let mut share = progress.share(&format!("copying {}", file.as_str()));
        hgs_files::copy(&source, &target, &mut share)?;
    }
    progress.step("copying the TPM's state and the protector");
    Ok(generation::copy(from, to)?)
}
