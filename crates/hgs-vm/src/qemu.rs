//! The machine: QEMU, from its command line to its end.
//!
//! ```text
//!  Description, Protection, Emulator, Accelerator ──▶ CommandLine ── Process::start ──▶ Process
//!                                                                                        │  Monitor: QMP
//!  a restarted agent: ProcessId in a file ── Process::adopt ──────────────────────────────┘
//! ```

pub mod accelerator;
pub mod command;
mod emulator;
pub mod process;
mod qcow2;
pub mod qmp;

pub use emulator::{Emulator, EmulatorError, MachineType, OvmfFiles, Version};
