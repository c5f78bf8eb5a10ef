//! What the Trusted Computing Group specifies, as far as attestation needs it: TPM 2.0 structures and sessions, event
//! logs, and how that which is booted is measured.
//!
//! It does NOT talk to a TPM, open files, tell the time or draw randomness of its own: octets and randomness are
//! arguments.

pub mod event_log;
pub mod fuzzing;
mod guid;
pub mod ima;
pub mod image;
mod little_endian;
pub mod tpm;
mod variable_data;
