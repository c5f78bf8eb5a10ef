//! The host side: configuration, attestation, unwrapping and re-sealing.

pub mod clock;
pub mod configuration;
mod files;
mod folders;
pub mod host_key;
pub mod http;
pub mod sealed_file;
mod sealed_pair;
mod state;
pub mod url;

pub use files::{FileError, FileProblem};
pub use folders::Folders;
pub use sealed_pair::{SealedPair, SealedPairError};
pub use state::MasterKeyError;
