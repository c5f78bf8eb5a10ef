//! TPMs: the way to them, what they are, and work with keys that never leave them.
//!
//! ```text
//!  Device ── Tpm::open ──▶ Tpm ── execute ──▶ response       sends again what the TPM wants again
//!                           │                                flushes at its end what it has loaded
//!                           ├── endorsement_key, storage_root_key, endorsement_certificate, pcr_values
//!                           ├── decrypt, sign                in a salted policy session
//!                           └── seal, unseal, counter        the same, bound to a counter that never goes back
//!  TpmKey: the same as a hgs_custody::PrivateKey, which opens the TPM for each use
//! ```
//!
//! A TPM has few slots: three for keys, three for sessions. So nothing stays loaded: a [`Tpm`] remembers every handle that
//! its TPM gave it, and flushes each when it is dropped. The kernel's resource manager (`/dev/tpmrm0`) does it too, also when
//! the process crashes; for other devices a [`Journal`] keeps the handles, and the next start flushes them.
//!
//! What this crate does *not* do: it decides nothing about a host, and knows no protocol. Structures and sessions are those
//! of `hgs-tcg`.

pub mod control;
mod device;
mod error;
mod journal;
mod key;
mod manufacture;
mod sealing;
pub mod simulator;
mod tpm;
mod transport;

pub use device::{Device, DeviceError};
pub use error::TpmError;
pub use journal::Journal;
pub use key::{AttestedKey, TpmKey};
pub use manufacture::{EndorsementKeyKind, EndorsementKeys};
pub use sealing::Seal;
pub use tpm::{Slow, Tpm};
