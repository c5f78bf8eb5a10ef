//! `hgs state rotate-master-key`.

use std::fmt;
use std::path::{Path, PathBuf};

use hgs_cluster::folder::ClusterFolder;
use hgs_crypto::random::System;
use hgs_custody::seal::MasterKey;
use hgs_server::{ClusterError, Config};
use hgs_store::master_key_file::{self, NewMasterKey};
use hgs_store::{OpenError, Store};
use hgs_terminal::{Exit, Failure, Terminal};
use serde::Serialize;

use super::{act, opening};
use crate::config_option::ConfigOption;
use crate::failures::{IntoFailure as _, OrFail as _};

/// Seal everything in the state under a new master key
///
/// The server must not run. Whenever this is interrupted, one of the two keys opens the state, and the next start of the
/// server finds out which.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Write the new key to this file instead of replacing the old one, for keys that come as a credential
    #[arg(long, value_name = "FILE")]
    new_master_key: Option<PathBuf>,
}

impl Arguments {
    pub(super) fn run(self, config: &ConfigOption, terminal: &Terminal) -> Result<Exit, Failure> {
        let config = config.load()?;
        let (file, directory) = (config.master_key_file(), config.state_folder());
        // Also before its first start: the keys of the cluster's authorities are sealed under the master key, beside the state.
        let is_of_node = ClusterFolder::of_state(&directory).is_of_node();
        if is_of_node.map_err(ClusterError::from).or_fail()? {
            return Err(OpenError::InCluster.into_failure());
        }
        terminal.confirm(format!(
            "Seal the state in {} under a new master key? Copies of the old one open it no more.",
            directory.display()
        ))?;
        let old = master_key_file::read_settled_to_be_replaced(&file, &directory).or_fail()?;
        match &self.new_master_key {
            Some(elsewhere) => {
                let new = master_key_file::create(elsewhere, &mut System::new()).or_fail()?;
                rotate(&config, &old, &new).or_fail()?;
            }
            None => in_place(&config, &file, &old)?,
        }
        terminal.report(&Rotated {
            state_folder: directory.display().to_string(),
            master_key_file: self.new_master_key.unwrap_or(file).display().to_string(),
        })?;
        Ok(Exit::Done)
    }
}

fn in_place(config: &Config, file: &Path, old: &MasterKey) -> Result<(), Failure> {
    let new = NewMasterKey::stage(file, &mut System::new()).or_fail()?;
    match rotate(config, old, new.key()) {
        Ok(()) => new.take_place().or_fail(),
        Err(error @ OpenError::InUse { .. }) => {
            new.discard().or_fail()?;
            Err(error.into_failure())
        }
        // Which key it is now is settled at the next start.
        Err(error) => Err(error.into_failure()),
    }
}

fn rotate(config: &Config, old: &MasterKey, new: &MasterKey) -> Result<(), OpenError> {
    let directory = config.state_folder();
    Store::rotate_master_key(opening(&directory, old, config), new, &act())
}

#[derive(Serialize)]
struct Rotated {
    state_folder: String,
    master_key_file: String,
}

impl fmt::Display for Rotated {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            state_folder,
            master_key_file,
        } = self;
        writeln!(
            formatter,
            "The state in {state_folder} is under the new master key in {master_key_file}."
        )?;
        writeln!(
            formatter,
            "Copy it to where the copy of the old one is kept. The old one still opens copies of the folder that were made \
             before: destroy it when those are gone."
        )
    }
}
