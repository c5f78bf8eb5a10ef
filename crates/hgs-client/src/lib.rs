//! The host side: configuration, attestation, unwrapping and re-sealing.

mod attestation;
mod certify;
pub mod clock;
pub mod configuration;
mod error;
mod files;
mod folders;
mod host;
pub mod host_key;
pub mod http;
mod identity;
mod rehearsal;
mod remedy;
pub mod sealed_file;
mod sealed_pair;
pub mod service;
mod state;
pub mod status;
pub mod url;

pub use error::{Error, Fault, ServicesError};
pub use files::{FileError, FileProblem};
pub use folders::Folders;
pub use host::{Attestation, GuardedHost, Surroundings};
pub use identity::IdentityError;
pub use rehearsal::{Rehearsal, RehearsedRequest, RehearsedService};
pub use sealed_pair::{SealedPair, SealedPairError};
pub use state::MasterKeyError;
