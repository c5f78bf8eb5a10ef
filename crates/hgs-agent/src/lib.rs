//! The agent of a guarded host: it keeps the host attested, and starts, watches and stops shielded VMs.
//!
//! ```text
//!  guarded-host vm ── Client ── Unix socket ──▶ Service ──▶ Machine (one for each VM)
//!                                                 │            │  release: hgs-client ──▶ guardian
//!                                               Keeper         │  re-key, swtpm, QEMU: hgs-vm
//!                                      health certificate ─────┘  is the host healthy?
//! ```
//!
//! [`Agent`] is the daemon as a value: any number of them live in one process, each with its own [`AgentFolders`].
//! Released keys are in this process and in swtpm only: never on a disk, in an argument or in the environment. A VM goes
//! on when its agent ends; the next agent of the host takes it over.
//!
//! What this crate does *not* do: it judges no host and opens no protector (the guardian does), and it makes no images.

mod agent;
mod client;
mod export;
mod failure;
mod folders;
mod health;
mod import;
mod libvirt;
mod machine;
mod migration;
mod progress;
mod service;
mod socket;
mod trace;
mod wire;

pub use agent::{Agent, Liveness, Settings};
pub use client::{Client, ClientError};
pub use folders::AgentFolders;
pub use libvirt::concerns_shielded_vm;
pub use migration::listener::DEFAULT_PORT as MIGRATION_PORT;
#[doc(hidden)]
pub use migration::message::fuzz_migration_message;
pub use wire::{
    AgentFailure, AgentStatus, Finding, Health, HeldTpm, MachineState, MachineStatus, Migrated,
    Request,
};
