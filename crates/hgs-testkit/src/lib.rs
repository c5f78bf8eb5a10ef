//! Fakes, fixtures and judges for tests.

pub mod etcd;
pub mod fixtures;
pub mod made_image;
pub mod measured_boot;
mod mutate;
mod outside;
mod ports;
mod processes;
mod secrets;
pub mod softhsm;
pub mod swtpm;

pub use mutate::Mutations;
pub use outside::{
    block_of_page, date_variables, in_mount_namespace, is_privileged, left_out, npm_packages,
    shared, tool, traced_calls,
};
pub use ports::free_ports;
pub use processes::end_processes_of;
pub use secrets::part_of;
