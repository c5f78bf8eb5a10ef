//! What a node keeps about its cluster: the folder `cluster` in the folder of the state.
//!
//! ```text
//!  cluster.json          which cluster, which node, and the other nodes as they were known last
//!  clients-ca.pem        the authority of clients and servers, and its key, sealed under the master key
//!  clients-ca.key.sealed
//!  peers-ca.pem          the authority of the members of etcd, and its key
//!  peers-ca.key.sealed
//!  node.key              this node's private key; etcd reads it, so it is not sealed
//!  node.pem, peer.pem    what the two authorities say about it
//!  etcd/                 the folder of etcd
//!  etcd.started          says that there is something in it that must not be lost
//!  put-back              how this node has found that etcd was put back to an older state; gone once it serves again
//! ```

use std::path::{Path, PathBuf};

use hgs_crypto::hex;
use hgs_files::{FileError, FileProblem, Readers};
use serde::{Deserialize, Serialize};

use crate::existing::ExistingEtcd;
use crate::node::Node;
use crate::order::Keyspace;

/// Octets of the longest file of facts: a thousand nodes.
const MAX_FACTS: usize = 256 * 1024;
/// Octets of the longest note of a finding.
const MAX_NOTE: usize = 4096;
/// The nodes that a cluster can have. etcd is made for seven and takes more.
pub const MAX_NODES: usize = 15;

/// The folder of a node's cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterFolder(PathBuf);

/// What a node knows of its cluster without asking.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// The version of this form.
    pub format: Format,
    /// Names the cluster: 16 random octets in hexadecimal digits.
    pub cluster: String,
    /// This node.
    pub node: Node,
    /// Whether this node has founded the cluster. Others were added to it.
    pub founder: bool,
    /// All nodes, this one among them, as they were known last.
    pub nodes: Vec<Node>,
    /// An etcd that runs already, where nodes use one; without it each node starts a member of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etcd: Option<ExistingEtcd>,
}

/// The one version of this form that there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Format;

impl TryFrom<u32> for Format {
    type Error = String;

    fn try_from(version: u32) -> Result<Self, String> {
        match version {
            1 => Ok(Self),
            other => Err(format!("version {other}; this program knows 1")),
        }
    }
}

impl From<Format> for u32 {
    fn from(_: Format) -> Self {
        1
    }
}

/// The folder of the cluster is not as it must be.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// A file or folder.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file of facts says something that can't be.
    #[error("{} is not a node's facts about its cluster: {reason}", path.display())]
    Facts {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl ClusterFolder {
    /// That in the folder of the state.
    #[must_use]
    pub fn of_state(state: &Path) -> Self {
        Self(state.join("cluster"))
    }

    /// Makes it, for its owner alone.
    ///
    /// # Errors
    /// When there is something else, or it can't be made.
    pub fn make(&self) -> Result<(), FileError> {
        hgs_files::private_folder(&self.0)
    }

    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A file in it.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The folder of etcd.
    #[must_use]
    pub fn etcd(&self) -> PathBuf {
        self.0.join("etcd")
    }

    /// Whether this node belongs to a cluster.
    ///
    /// # Errors
    /// When the operating system does not tell.
    pub fn is_of_node(&self) -> Result<bool, FileError> {
        hgs_files::exists(&self.file("cluster.json"))
    }

    /// The facts, if this node belongs to a cluster.
    ///
    /// # Errors
    /// When they are there and can't be read.
    pub fn facts(&self) -> Result<Option<Facts>, FolderError> {
        let path = self.file("cluster.json");
        let Some(octets) = hgs_files::optional(hgs_files::read(&path, MAX_FACTS))? else {
            return Ok(None);
        };
        let facts = Facts::read(&octets);
        facts
            .map(Some)
            .map_err(|reason| FolderError::Facts { path, reason })
    }

    /// Keeps facts in the place of those that were there.
    ///
    /// # Errors
    /// When the disk does not take them.
    pub fn keep_facts(&self, facts: &Facts) -> Result<(), FileError> {
        let text = serde_json::to_vec_pretty(facts).map_err(|error| {
            FileError::at(&self.file("cluster.json"), std::io::Error::other(error))
        })?;
        hgs_files::replace(&self.file("cluster.json"), &text, Readers::Owner)
    }

    /// Moves it out of the way, into the place of one that was set aside before. Where it is now, if it was there.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn set_aside(&self) -> Result<Option<PathBuf>, FileError> {
        if !hgs_files::exists(&self.0)? {
            return Ok(None);
        }
        let place = self.0.with_extension("dissolved");
        if hgs_files::exists(&place)? {
            hgs_files::remove_folder(&place)?;
        }
        std::fs::rename(&self.0, &place).map_err(|error| FileError::at(&self.0, error))?;
        hgs_files::synchronise_folder_of(&self.0)?;
        Ok(Some(place))
    }

    /// Whether etcd has begun here what must not be lost.
    ///
    /// # Errors
    /// When the operating system does not tell.
    pub fn etcd_has_started(&self) -> Result<bool, FileError> {
        hgs_files::exists(&self.file("etcd.started"))
    }

    /// Says that from now on an empty folder of etcd is a loss.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn note_etcd_started(&self) -> Result<(), FileError> {
        match hgs_files::create(&self.file("etcd.started"), b"", Readers::Owner) {
            Err(error) if matches!(error.problem, FileProblem::AlreadyExists) => Ok(()),
            outcome => outcome,
        }
    }

    /// Notes how this node has found that etcd was put back, for those who ask while it does not serve.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn note_put_back(&self, how: &str) -> Result<(), FileError> {
        hgs_files::replace(&self.file("put-back"), how.as_bytes(), Readers::Owner)
    }

    /// What was noted last, unless the node has served since.
    ///
    /// # Errors
    /// When it is there and can't be read.
    pub fn put_back(&self) -> Result<Option<String>, FileError> {
        let path = self.file("put-back");
        let note = hgs_files::optional(hgs_files::read(&path, MAX_NOTE))?;
        let text = note.map(hgs_files::text).transpose();
        text.map_err(|problem| FileError::at(&path, problem))
    }

    /// Forgets what was noted, as the state is open again.
    ///
    /// # Errors
    /// When the disk does not let it go.
    pub fn forget_put_back(&self) -> Result<(), FileError> {
        hgs_files::optional(hgs_files::remove(&self.file("put-back"))).map(drop)
    }
}

impl Facts {
    fn read(octets: &[u8]) -> Result<Self, String> {
        let facts: Self = serde_json::from_slice(octets).map_err(|error| error.to_string())?;
        facts.check()?;
        Ok(facts)
    }

    /// What must hold, whoever has written them.
    fn check(&self) -> Result<(), String> {
        check_cluster_id(&self.cluster)?;
        check_nodes(&self.nodes)?;
        if let Some(etcd) = &self.etcd {
            etcd.fits().map_err(|error| error.to_string())?;
        }
        match self.nodes.iter().filter(|node| **node == self.node).count() {
            1 => Ok(()),
            _ => Err(format!(
                "this node, {}, is not among the nodes",
                self.node.name
            )),
        }
    }

    /// Where the keys of the cluster are in etcd.
    #[must_use]
    pub fn keyspace(&self) -> Keyspace {
        let existing = self.etcd.as_ref();
        existing.map_or_else(Keyspace::default, |etcd| etcd.place.prefix.clone())
    }

    /// Where etcd answers clients: on this node first, where each node has a member.
    #[must_use]
    pub fn etcd_endpoints(&self) -> Vec<String> {
        if let Some(etcd) = &self.etcd {
            return etcd.endpoints();
        }
        let others = self.nodes.iter().filter(|node| node.name != self.node.name);
        std::iter::once(&self.node)
            .chain(others)
            .map(|node| node.address.etcd_clients())
            .collect()
    }

    /// The number that names the cluster.
    #[must_use]
    pub fn id(&self) -> [u8; 16] {
        let octets = hex::decode(&self.cluster).unwrap_or_default();
        octets.try_into().unwrap_or_default()
    }

    /// All nodes but this one.
    pub fn others(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.name != self.node.name)
    }
}

/// What an identifier of a cluster looks like.
pub(crate) fn check_cluster_id(id: &str) -> Result<(), String> {
    match id.len() == 32
        && id
            .bytes()
            .all(|octet| matches!(octet, b'0'..=b'9' | b'a'..=b'f'))
    {
        true => Ok(()),
        false => Err("the cluster is not named by 32 hexadecimal digits".to_owned()),
    }
}

/// A list of nodes: few enough, and none twice.
pub(crate) fn check_nodes(nodes: &[Node]) -> Result<(), String> {
    if !(1..=MAX_NODES).contains(&nodes.len()) {
        return Err(format!(
            "there are {} nodes; 1 to {MAX_NODES} can be",
            nodes.len()
        ));
    }
    for (place, node) in nodes.iter().enumerate() {
        if nodes[..place].iter().any(|other| other.name == node.name) {
            return Err(format!("node {} is there twice", node.name));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    fn facts() -> Facts {
        let node = Node {
            name: "n1".parse().unwrap(),
            address: "192.0.2.1".parse().unwrap(),
        };
        let other = Node {
            name: "n2".parse().unwrap(),
            address: "192.0.2.2:4000".parse().unwrap(),
        };
        Facts {
            format: Format,
            cluster: "0123456789abcdef0123456789abcdef".to_owned(),
            nodes: vec![other, node.clone()],
            node,
            founder: true,
            etcd: None,
        }
    }

    #[test]
    fn facts_are_kept_for_their_owner_alone_and_read_again() {
        let state = tempfile::tempdir().unwrap();
        let folder = ClusterFolder::of_state(state.path());
        assert_eq!(folder.facts().unwrap(), None);
        folder.make().unwrap();
        folder.keep_facts(&facts()).unwrap();
        assert_eq!(folder.facts().unwrap(), Some(facts()));
        let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(folder.path()), 0o700);
        assert_eq!(mode(&folder.file("cluster.json")), 0o600);
        assert_eq!(
            facts().etcd_endpoints(),
            ["192.0.2.1:2379", "192.0.2.2:3997"]
        );
    }

    #[test]
    fn an_etcd_that_runs_already_is_asked_where_it_is() {
        let text = r#"{"place":{"urls":["https://e1:4000","https://e2"],"prefix":"openhgs/site-1"},
            "files":{"ca":"/ca","certificate":"/c","key":"/k"}}"#;
        let facts = Facts {
            etcd: Some(serde_json::from_str(text).unwrap()),
            ..facts()
        };
        assert_eq!(facts.etcd_endpoints(), ["e1:4000", "e2:2379"]);
        assert_eq!(facts.keyspace(), Keyspace::below("openhgs/site-1").unwrap());
        let text = serde_json::to_string(&facts).unwrap();
        assert_eq!(Facts::read(text.as_bytes()), Ok(facts));
        let plain = text.replace("https://", "http://127.0.0.1/");
        assert!(Facts::read(plain.as_bytes()).is_err());
    }

    #[test]
    fn facts_that_can_t_be_are_refused_with_the_file() {
        let state = tempfile::tempdir().unwrap();
        let folder = ClusterFolder::of_state(state.path());
        folder.make().unwrap();
        let good = serde_json::to_string(&facts()).unwrap();
        for (from, to, said) in [
            ("\"format\":1", "\"format\":2", "version 2"),
            ("\"founder\"", "\"founded\"", "unknown field"),
            ("0123456789abcdef", "0123456789ABCDEF", "hexadecimal"),
            ("\"name\":\"n2\"", "\"name\":\"n1\"", "twice"),
            ("\"name\":\"n2\"", "\"name\":\"n/2\"", "name of a node"),
            (
                "192.0.2.2:4000",
                "0.0.0.0:4000",
                "not the address of one machine",
            ),
        ] {
            assert!(good.contains(from), "{from}");
            hgs_files::replace(
                &folder.file("cluster.json"),
                good.replace(from, to).as_bytes(),
                Readers::Owner,
            )
            .unwrap();
            let error = folder.facts().unwrap_err().to_string();
            assert!(
                error.contains(said) && error.contains("cluster.json"),
                "{error}"
            );
        }
    }

    #[test]
    fn what_is_set_aside_takes_the_place_of_what_was_set_aside_before() {
        let state = tempfile::tempdir().unwrap();
        let folder = ClusterFolder::of_state(state.path());
        assert_eq!(folder.set_aside().unwrap(), None);
        for founder in [true, false] {
            folder.make().unwrap();
            folder.keep_facts(&Facts { founder, ..facts() }).unwrap();
            let place = folder.set_aside().unwrap().unwrap();
            assert_eq!(place, state.path().join("cluster.dissolved"));
            assert_eq!(folder.facts().unwrap(), None);
            let kept = ClusterFolder(place).facts().unwrap().unwrap();
            assert_eq!(kept.founder, founder);
        }
    }
}
