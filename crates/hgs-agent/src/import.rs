//! Taking over the folder of a VM that its owner delivered.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use hgs_client::Fault;
use hgs_files::{FileError, Readers};
use hgs_vm::description::{self, Description, VmName};
use hgs_vm::generation;
use rustix::fs::OFlags;

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

fn copy_parts(
    from: &Path,
    to: &Path,
    description: &Description,
    progress: &Progress,
) -> Result<(), AgentFailure> {
    let text = description.to_toml();
    hgs_files::create(&to.join(description::FILE), text.as_bytes(), Readers::Owner)?;
    for file in description.files() {
        progress.step(&format!("copying {}", file.as_str()));
        copy_file(&file.within(from)?, &to.join(file.as_str()))?;
    }
    progress.step("copying the TPM's state and the protector");
    Ok(generation::copy(from, to)?)
}

/// Copies a file that is no link, for this user alone.
fn copy_file(from: &Path, to: &Path) -> Result<(), FileError> {
    let mut source = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NOFOLLOW.bits() as i32)
        .open(from)
        .map_err(|error| FileError::at(from, error))?;
    let mut target = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)
        .map_err(|error| FileError::at(to, error))?;
    let copied = io::copy(&mut source, &mut target).and_then(|_| target.sync_all());
    copied.map_err(|error| FileError::at(to, error))
}
