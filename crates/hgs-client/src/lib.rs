//! The host side: configuration, attestation, unwrapping and re-sealing.

pub mod configuration;
mod files;
mod folders;
pub mod http;
pub mod url;

pub use files::{FileError, FileProblem};
pub use folders::Folders;
