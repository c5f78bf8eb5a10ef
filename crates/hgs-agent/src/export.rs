//! Handing a VM out: the folder that another host imports.

use std::fs;
use std::path::{Path, PathBuf};

use hgs_client::Fault;
use hgs_files::FileError;
use hgs_vm::description::Description;

use crate::failure::blocking;
use crate::import::copy_parts;
use crate::machine::Machine;
use crate::progress::Progress;
use crate::wire::AgentFailure;

impl Machine {
    /// Copies the VM, which must not run, into a new folder that appears whole or not at all. With `remove`, the VM is deleted
    /// from this host afterwards.
    pub(crate) async fn export(
        &self,
        folder: PathBuf,
        remove: bool,
        progress: &Progress,
    ) -> Result<(), AgentFailure> {
        let place = self.not_running().await?;
        let (from, to, steps) = (self.folder(), folder.clone(), progress.clone());
        blocking(move || copy_out(&from, &to, &steps)).await?;
        self.event(&format!("exported to {}", folder.display()));
        if remove {
            progress.step("deleting the VM of this host");
            self.delete().await?;
        }
        drop(place);
        Ok(())
    }
}

fn copy_out(from: &Path, to: &Path, progress: &Progress) -> Result<(), AgentFailure> {
    let refused = |why: &str| {
        AgentFailure::refused(format_args!("{} {why}", to.display())).at_fault(Fault::Operator)
    };
    let (true, Some(name)) = (to.is_absolute(), to.file_name()) else {
        return Err(refused("is not the absolute path of a folder to make"));
    };
    if hgs_files::exists(to)? {
        return Err(refused("exists already").remedy("name a folder that does not exist yet"));
    }
    let description = Description::load(from)?;
    let unfinished = to.with_file_name(format!(".{}.export", name.to_string_lossy()));
    if hgs_files::exists(&unfinished)? {
        return Err(AgentFailure::refused(format_args!(
            "{} is there, from an export that was not finished or that still runs",
            unfinished.display()
        ))
        .at_fault(Fault::Operator)
        .remedy("remove it if no export is running"));
    }
    hgs_files::private_folder(&unfinished)?;
    copy_parts(from, &unfinished, &description, progress)
        .and_then(|()| fs::rename(&unfinished, to).map_err(|error| FileError::at(to, error).into()))
        .inspect_err(|_| drop(fs::remove_dir_all(&unfinished)))?;
    Ok(hgs_files::synchronise_folder_of(to)?)
}
