//! What a host knows about shielded VMs: what they consist of, the command line of QEMU that follows, the state of their
//! TPMs, how it is kept, and how its key changes.
//!
//! ```text
//!  StateFolder::open ──▶ current Generation: the TPM's state and the protector that releases its key, together
//!      │
//!      ├── Swtpm::start(.. Contents::Kept ..) ──▶ a process that a machine uses
//!      └── rekey: swtpm under the old key ── state under a throw-away key ──▶ swtpm under the new key
//!                 both in a new Generation, read back ──▶ the pointer ──▶ the old Generation is removed
//! ```
//!
//! Keys reach swtpm through pipes that only its process inherits: never as an argument, in the environment or in a file.
//!
//! What this crate does *not* do: it speaks to no guardian. Where keys come from and where the protector goes is the
//! business of its callers.

pub mod description;
pub mod generation;
mod identifier;
pub mod identity;
pub mod image;
pub mod libvirt;
pub mod memory;
mod messages;
pub mod parts;
pub mod program;
pub mod protection;
pub mod qemu;
pub mod rekey;
pub mod stop_record;
pub mod swtpm;
pub mod synchroniser;
