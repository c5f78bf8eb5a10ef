//! Several nodes of one guardian.
//!
//! Each node holds the whole state on its own disk. etcd orders their commits and keeps each until the nodes have it; it is
//! neither asked for anything else nor believed.
//!
//! ```text
//!  hgs-store ── Order ──▶ order ── hgs-etcd ──▶ etcd
//! ```

pub mod order;
