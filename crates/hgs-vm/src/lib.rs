//! What a host knows about shielded VMs.

pub mod description;
mod identifier;
pub mod program;
pub mod protection;
pub mod qemu;
