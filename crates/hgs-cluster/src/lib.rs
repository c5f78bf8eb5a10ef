//! Several nodes of one guardian.
//!
//! Each node holds the whole state on its own disk. etcd orders their commits and keeps each until the nodes have it; it is
//! neither asked for anything else nor believed.
//!
//! ```text
//!  hgs-store ── Order ──▶ order ── hgs-etcd ──▶ etcd ◀── upkeep
//!
//!  node         what a node is called, where it is reached
//!  folder       what it keeps about its cluster
//!  credentials  the cluster's two authorities, and what they say about each node
//!  invitation   by which a node joins
//!  join         what a node and a cluster say to each other then
//!  membership   the members of etcd
//!  process      etcd as a child
//!  existing     an etcd that runs already
//!  upkeep       what nodes report, and what leaves etcd
//! ```

mod call;
pub mod credentials;
pub mod existing;
pub mod folder;
pub mod invitation;
pub mod join;
pub mod membership;
pub mod node;
pub mod order;
pub mod process;
pub mod upkeep;

pub use call::CallError;
