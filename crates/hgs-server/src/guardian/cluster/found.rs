//! A guardian of one node becomes the first node of a cluster.

use hgs_cluster::credentials::{Authorities, node_key};
use hgs_cluster::existing::{ExistingEtcd, ExistingEtcdError};
use hgs_cluster::folder::{ClusterFolder, Facts, Format};
use hgs_cluster::node::{Node, NodeName};
use hgs_cluster::process;
use hgs_crypto::hex;
use hgs_crypto::random::{self, System};
use hgs_custody::PrivateKey as _;
use hgs_pki::Time;
use hgs_store::{OpenError, Store, master_key_file};
use tokio::runtime;

use super::error::ClusterError;
use crate::config::Config;

/// Whether a new cluster can have its commits ordered here: by an etcd that runs already, or by one that `hgs serve` starts.
///
/// # Errors
/// Why not.
pub fn check_etcd(existing: Option<&ExistingEtcd>) -> Result<(), ClusterError> {
    let Some(existing) = existing else {
        return Ok(process::check_installed()?);
    };
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ClusterError::Runtime)?;
    match runtime.block_on(existing.look())? {
        None => Ok(()),
        Some(_) => Err(ExistingEtcdError::Taken(existing.place.prefix.clone()).into()),
    }
}

/// Makes the guardian that `config` configures the first node of a cluster: two authorities, its certificates, and the facts
/// by which `hgs serve` knows it. The state itself stays as it is. It takes seconds.
///
/// # Errors
/// Where there is no state, or a cluster already, or no etcd. A cluster that is half made is made anew by the next attempt.
pub fn found(
    config: &Config,
    node: Node,
    etcd: Option<ExistingEtcd>,
    now: Time,
) -> Result<Facts, ClusterError> {
    check_etcd(etcd.as_ref())?;
    let directory = config.state_folder();
    if !Store::is_in(&directory) {
        return Err(OpenError::NotInitialised { directory }.into());
    }
    let folder = ClusterFolder::of_state(&directory);
    if let Some(facts) = folder.facts()? {
        return Err(ClusterError::IsNode(facts.node.name));
    }
    let master_key = master_key_file::read_settled(&config.master_key_file(), &directory)?;
    folder.make()?;
    let cluster = hex::encode(&random::array::<16>(&mut System::new())?);
    let authorities = Authorities::new(&cluster, now)?;
    authorities.keep(&folder, &master_key)?;
    let key = node_key(&folder)?;
    authorities
        .issue(&node, key.public(), now)?
        .keep(&folder, authorities.clients.certificate())?;
    let facts = Facts {
        format: Format,
        cluster,
        nodes: vec![node.clone()],
        node,
        founder: true,
        etcd,
    };
    folder.keep_facts(&facts)?;
    Ok(facts)
}

/// What a node is called unless it is told: as its machine.
#[must_use]
pub fn default_node_name() -> Option<NodeName> {
    let machine = rustix::system::uname();
    let name = machine.nodename().to_string_lossy().to_ascii_lowercase();
    name.parse().ok()
}
