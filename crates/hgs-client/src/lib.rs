//! The host side: configuration, attestation, unwrapping and re-sealing.
//!
//! ```text
//!                 configuration          state folder (0700)
//!                       |        host key · identity keys · certificates · last result
//!                       v                         |
//!   GuardedHost --- attest ----> attestation service       primary first, then fallback
//!               --- unwrap ----> key protection service         |
//!                      |                                        |
//!                  Unwrapped (keys; egress protector, checked) <+
//!                      | open, reseal
//!                  SealedPair (protector, sealed file), replaced as one
//! ```
//!
//! [`GuardedHost`] is what the program `guarded-host` and `hgs quickstart` work with. There is no
//! global state: any number of hosts live in one process, each with its own [`Folders`].
//!
//! What this crate does not do: it knows no policy and judges no host's health, it does not hold the
//! keys of a virtual machine longer than its caller does, and it starts no machine.
//! Files are small and are read and written where they are needed; only the generation of keys and
//! the wait for another process are moved to threads that may block.
//!
//! ```no_run
//! use hgs_client::service::Sides;
//! use hgs_client::{Folders, GuardedHost};
//! use hgs_pki::health::HealthKind;
//!
//! # async fn attest() -> Result<(), hgs_client::Error> {
//! let host = GuardedHost::open(Folders::inside("/srv/host-1".as_ref()))?;
//! let attestation = host.attest(HealthKind::Encryption, Sides::Both).await?;
//! println!("guarded by {}", attestation.attestation);
//! # Ok(())
//! # }
//! ```

mod attestation;
mod certify;
pub mod configuration;
mod error;
mod folders;
mod health_token;
mod host;
mod host_counter;
pub mod host_key;
pub mod http;
mod identity;
mod kept_keys;
mod key_protection;
pub mod probe;
mod published;
mod rehearsal;
mod remedy;
mod request_id;
pub mod sealed_file;
mod sealed_pair;
pub mod service;
mod state;
pub mod status;
pub mod tpm;
mod tpm_attestation;
mod tpm_identity;
mod unwrap;
pub mod url;

pub use error::{Error, Fault, ServicesError};
pub use folders::Folders;
pub use health_token::{HealthToken, HealthTokenFailure};
pub use host::{Attestation, Environment, GuardedHost};
pub use host_counter::{HostCounter, STOP_COUNTER_INDEX};
pub use identity::IdentityError;
pub use kept_keys::{COUNTER_INDEX, KeptKey, KeptKeyError, KeptKeySummary};
pub use key_protection::failure::KeyProtectionFailure;
pub use rehearsal::{Rehearsal, RehearsedRequest, RehearsedService};
pub use request_id::{RequestId, RequestIdError};
pub use sealed_pair::{MAX_PROTECTOR, SealedPair, SealedPairError};
pub use state::MasterKeyError;
pub use unwrap::Unwrapped;
