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

pub use emulator::{Emulator, EmulatorError, MachineType, OvmfFiles, Version};
