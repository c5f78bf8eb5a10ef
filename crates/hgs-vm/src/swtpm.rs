//! The TPM of a VM: a process of swtpm, its keys, and its channels.

mod error;
mod key;
mod process;

pub use hgs_custody_tpm::control;

pub use error::SwtpmError;
pub use key::{KeyLengthError, StateKey};
pub use process::{
    Channels, Contents, PERMANENT_STATE, Settings, Swtpm, TEMPORARY_STATE, VOLATILE_STATE,
};
