//! A guardian of one node becomes the first node of a cluster.

use hgs_cluster::credentials::{Authorities, node_key};
use hgs_cluster::folder::{ClusterFolder, Facts, Format};
use hgs_cluster::node::{Node, NodeName};
use hgs_cluster::process;
use hgs_crypto::hex;
use hgs_crypto::random::{self, System};
use hgs_custody::PrivateKey as _;
use hgs_pki::Time;
use hgs_store::{OpenError, Store, master_key_file};

use super::error::ClusterError;
use crate::config::Config;

/// Makes the guardian that `config` configures the first node of a cluster: two authorities, its certificates, and the facts
/// by which `hgs serve` knows it. The state itself stays as it is. It takes seconds.
///
/// # Errors
/// Where there is no state, or a cluster already, or no etcd. A cluster that is half made is made anew by the next attempt.
pub fn found(config: &Config, node: Node, now: Time) -> Result<Facts, ClusterError> {
    process::check_installed()?;
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
