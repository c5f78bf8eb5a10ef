//! The attestation protocol MS-HGSA, both roles: messages, host keys, health certificates.

pub mod client;
mod facts;
#[doc(hidden)]
pub mod fuzzing;
pub mod host_key;
pub mod issue;
mod mode;
mod refusal;
mod service_info;
pub mod signer;
pub mod signing_certificates;
mod status;
pub mod wire;

pub use facts::{Facts, KnownHost};
pub use mode::Endpoint;
pub use refusal::{Code, Reason, Refusal};
pub use service_info::{FUNCTIONAL_LEVEL, service_info};
pub use status::{AttestationState, AttestationStatus, AttestationSubstatus};
