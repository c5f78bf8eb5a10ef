//! A machine without a state becomes a node of a cluster.

use std::sync::Arc;

use hgs_cluster::existing::EtcdFiles;
use hgs_cluster::folder::{ClusterFolder, Facts};
use hgs_cluster::invitation::Invitation;
use hgs_cluster::node::Node;
use hgs_cluster::{join, process};
use hgs_store::{OpenError, Store, master_key_file};
use serde::Serialize;
use tokio::sync::mpsc;

use super::super::GuardianError;
use super::super::keys::Snapshot;
use super::super::open_store::OpenStore;
use super::error::ClusterError;
use crate::config::Config;

/// What has become of it.
#[derive(Debug)]
pub struct Joined {
    /// What this node knows of its cluster.
    pub facts: Facts,
    /// The octets of the state that came.
    pub octets: u64,
}

/// Joins the cluster that has invited: its certificates, its master key and its state come to where `config` says, and etcd
/// gets one more member, which `hgs serve` starts; or this machine uses the etcd of the other nodes, by these files.
/// `progress` is told how many octets of the state have come.
///
/// # Errors
/// Where there is a state that is not of an attempt before, and where no node does what is asked. It can be tried again as
/// long as the invitation holds.
pub async fn join(
    config: &Config,
    node: Node,
    invitation: &Invitation,
    etcd_files: Option<EtcdFiles>,
    progress: &mut (dyn FnMut(u64, u64) + Send),
) -> Result<Joined, ClusterError> {
    let directory = config.state_folder();
    let folder = ClusterFolder::of_state(&directory);
    if Store::is_in(&directory) && !folder.path().exists() {
        return Err(OpenError::AlreadyInitialised { directory }.into());
    }
    hgs_files::private_folder(&directory)?;
    let joining = join::ask(folder.clone(), node, invitation, etcd_files).await?;
    if joining.has_own_etcd() {
        process::check_installed()?;
    }
    master_key_file::put(&config.master_key_file(), &joining.master_key)?;
    let mut octets = 0;
    // One that came at an attempt before is as good: what is missing in it comes from etcd.
    if !Store::is_in(&directory) {
        let target = folder.file("copy");
        let staged = joining
            .fetch_state(&target, &mut |come, all| {
                octets = come;
                progress(come, all);
            })
            .await?;
        Store::adopt(&directory, staged.staged())?;
    }
    let facts = joining.become_member().await?;
    Ok(Joined { facts, octets })
}

/// A private key that this machine can't use.
#[derive(Debug, Serialize)]
pub struct UnusableKey {
    /// The thumbprint of its certificate.
    pub certificate: String,
    /// Signing, encryption or communications.
    pub kind: String,
    /// Where it should be.
    pub place: String,
    /// Why it can't be used.
    pub reason: String,
}

/// Has the private keys of all enabled certificates work on a machine that has joined and does not serve yet: those that
/// don't. It blocks.
///
/// # Errors
/// When the state can't be looked at.
pub fn unusable_keys(config: &Config) -> Result<Vec<UnusableKey>, GuardianError> {
    // No task waits for the end of this one.
    let (open, _) = mpsc::channel(1);
    let master_key = OpenStore::master_key(config)?;
    let store = Arc::new(OpenStore::look(config, &master_key, open)?);
    let (snapshot, _tokens) = Snapshot::of_stopped(&store, config)?;
    let unusable = snapshot.try_keys().unusable.into_iter();
    let told = unusable.filter_map(|(thumbprint, reason)| {
        let record = snapshot.state.certificate(&thumbprint)?;
        Some(UnusableKey {
            certificate: thumbprint.to_string(),
            kind: record.kind.to_string(),
            place: config.pkcs11.place(&thumbprint, &record.key).to_string(),
            reason,
        })
    });
    Ok(told.collect())
}
